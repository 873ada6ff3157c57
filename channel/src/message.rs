//! The messages two peers exchange about one channel (BOLT 2, with the differences DESIGN section 6 names).
//!
//! These are plain values: every byte in them is the counterparty's claim until `Channel::check` has accepted it.

use bitcoin::{OutPoint, ScriptBuf};
use secp256k1::ecdsa::Signature;
use serde::{Deserialize, Serialize};

use crate::amount::Msat;
use crate::failure::FailureReason;
use crate::ids::StreamId;
use crate::keys::{Basepoints, Point};

/// A 32-byte SHA-256 payment hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PaymentHash(pub [u8; 32]);

/// The 32-byte value whose SHA-256 is the payment hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Preimage(pub [u8; 32]);

impl std::fmt::Debug for Preimage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Preimage(..)")
    }
}

impl Preimage {
    /// The payment hash this preimage opens.
    pub fn payment_hash(&self) -> PaymentHash {
        use bitcoin::hashes::{Hash, sha256};
        PaymentHash(sha256::Hash::hash(&self.0).to_byte_array())
    }
}

/// One message about one channel; the frame names the channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    OpenChannel(Box<OpenChannel>),
    AcceptChannel(Box<AcceptChannel>),
    FundingCreated(FundingCreated),
    FundingSigned(FundingSigned),
    ChannelReady,
    UpdateAddHtlc(UpdateAddHtlc),
    UpdateFulfillHtlc { id: u64, preimage: Preimage },
    UpdateFailHtlc { id: u64, reason: FailureReason },
    CommitmentSigned(CommitmentSigned),
    RevokeAndAck(RevokeAndAck),
    Reestablish(Reestablish),
    Shutdown(Shutdown),
    ClosingTerms(ClosingTerms),
    ClosingTicket(Ticket),
    /// The hub hands over the finished batch transaction (consensus encoding), so that the wallet can publish it too.
    ClosingTransaction { transaction: Vec<u8> },
    /// The sender has failed this channel; the text is for people only.
    ChannelError { text: String },
}

/// What each side fixes for the whole life of the channel, for the *other* side to obey.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SideParameters {
    pub basepoints: Basepoints,
    /// The sender's per-commitment points for its commitments 0 and 1.
    pub first_point: Point,
    pub second_point: Point,
    /// Blocks the *receiver* of this message must wait for its own to_local output.
    pub to_self_delay_blocks: u16,
    /// Smallest HTLC the sender accepts.
    pub htlc_minimum_msat: Msat,
    /// Most the receiver may have in flight towards the sender.
    pub max_htlc_value_in_flight_msat: Msat,
    /// Most HTLCs with outputs the receiver may offer at once (BOLT 2 `max_accepted_htlcs`; at most 114).
    pub max_accepted_htlcs: u16,
    /// Most trimmed HTLCs the receiver may offer at once.
    pub max_accepted_dust_htlcs: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenChannel {
    /// Name of the commitment format ("option_zero_fee_commitments", ...).
    pub format: String,
    /// Value of the funding output; all of it belongs to the opener at first.
    pub capacity_sat: u64,
    /// One dust limit for both commitments, 354 sat or more.
    pub dust_limit_sat: u64,
    /// Confirmations before either side may use the channel.
    pub minimum_depth: u32,
    pub opener: SideParameters,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceptChannel {
    /// The acceptor may ask for a greater depth than the opener proposed.
    pub minimum_depth: u32,
    pub accepter: SideParameters,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FundingCreated {
    pub outpoint: OutPoint,
    /// The opener's signature for the accepter's commitment 0.
    pub signature: Signature,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FundingSigned {
    /// The accepter's signature for the opener's commitment 0.
    pub signature: Signature,
    /// The accepter's sealed copy of its essentials, kept by the other side (at most `limits::MAX_SEALED_BLOB_BYTES`).
    pub sealed: Vec<u8>,
}

/// Who an HTLC is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Recipient {
    /// A node, by its key; the sealed payload proves the payer saw the payee's invoice.
    Node(Point),
    /// A tick of an agreed stream; the payee opens it with the stream's key and this index.
    Stream { id: StreamId, index: u64 },
}

/// What the payer asks the hub to pass on (one hop, so no onion). Absent on the last hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardInstruction {
    pub amount_msat: Msat,
    pub cltv_expiry: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateAddHtlc {
    /// Rises by one with each HTLC the sender offers in this channel, from 0.
    pub id: u64,
    pub amount_msat: Msat,
    pub payment_hash: PaymentHash,
    /// Absolute block height.
    pub cltv_expiry: u32,
    pub recipient: Recipient,
    pub forward: Option<ForwardInstruction>,
    /// Sealed for the recipient node; empty for streams (see `seal.rs`; exactly `SEALED_PAYLOAD_BYTES` for nodes).
    pub payload: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitmentSigned {
    /// Number of the receiver's commitment this signs (an explicit number catches replays).
    pub number: u64,
    pub signature: Signature,
    /// In output order.
    pub htlc_signatures: Vec<Signature>,
    /// The sender's sealed copy of its essentials as of this commitment.
    pub sealed: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevokeAndAck {
    /// Number of the sender's commitment that is revoked.
    pub number: u64,
    pub secret: [u8; 32],
    /// The sender's point for its commitment `number + 2`.
    pub next_point: Point,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reestablish {
    /// Number of the next `commitment_signed` the sender expects (its latest commitment plus one).
    pub next_commitment_number: u64,
    /// Number of the next `revoke_and_ack` the sender expects.
    pub next_revocation_number: u64,
    /// The last per-commitment secret the sender received; zeros if none. Proves the receiver's age.
    pub last_secret: [u8; 32],
    /// The sender has frozen the channel under these terms.
    pub frozen: Option<ClosingTerms>,
    /// Essentials the sender knows of the channel, for a receiver that lost its data.
    pub essentials: Option<Essentials>,
}

/// What lets a peer that lost its data find its coins (DESIGN section 5, "Data loss").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Essentials {
    pub outpoint: OutPoint,
    pub capacity_sat: u64,
    pub format: String,
    pub receiver_is_opener: bool,
    /// The receiver's own key id, as the sender was told it (see `SideParameters`' basepoints for the keys themselves).
    pub sender: SideParameters,
    pub receiver: SideParameters,
    /// The receiver's own latest sealed blob.
    pub sealed: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shutdown {
    /// Where the sender wants to be paid. Standard segwit scripts only. The hub's may be empty: its share goes to the batch's own output.
    pub script: ScriptBuf,
}

/// The hub's terms for a cooperative close by ticket (DESIGN 8 and 10.11).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosingTerms {
    /// Taken from the wallet's balance, in satoshi.
    pub fee_sat: u64,
    /// If no close is in the chain at this height, the wallet publishes by itself.
    pub publish_by_height: u32,
}

/// The wallet's signature over its funding input and its own output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    pub signature: Signature,
}
