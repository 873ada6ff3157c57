//! The messages two peers exchange about one channel (BOLT 2, with the differences DESIGN section 6 names).
//!
//! These are plain values: every byte in them is the counterparty's claim until `Channel::check` has accepted
//! it.

use bitcoin::{OutPoint, ScriptBuf, Transaction};
use serde::{Deserialize, Serialize};

use crate::amount::Msat;
use crate::commitment::CommitmentSignatures;
use crate::failure::FailureReason;
use crate::ids::StreamId;
use crate::keys::{Basepoints, CompactSignature, Point};
use crate::shachain::CommitmentSecret;

pub use crate::bytes::{PaymentHash, PaymentPreimage as Preimage};
pub use crate::closing::ClosingTerms;

/// One message about one channel; the frame names the channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    OpenChannel(Box<OpenChannel>),
    AcceptChannel(Box<AcceptChannel>),
    FundingCreated(FundingCreated),
    FundingSigned(FundingSigned),
    ChannelReady,
    UpdateAddHtlc(UpdateAddHtlc),
    /// `update_add_htlc` of which the sender, who opened the channel, kept a part of the price agreed for that: the
    /// HTLC is for `deducted_msat` less than the recipient is paid.
    PricedAddHtlc {
        add: UpdateAddHtlc,
        deducted_msat: Msat,
    },
    UpdateFulfillHtlc {
        id: u64,
        preimage: Preimage,
    },
    UpdateFailHtlc {
        id: u64,
        reason: FailureReason,
    },
    CommitmentSigned(CommitmentSigned),
    RevokeAndAck(RevokeAndAck),
    Reestablish(Box<Reestablish>),
    Shutdown(Shutdown),
    ClosingTerms(ClosingTerms),
    ClosingTicket(Ticket),
    /// The hub hands over the finished batch transaction (consensus encoding), so that the wallet can publish
    /// it too.
    ClosingTransaction {
        transaction: Vec<u8>,
    },
    /// The sender has failed this channel; the text is for people only.
    ChannelError {
        text: String,
        /// It lost data, and publishes nothing: only the receiver can end the channel (BOLT 2, "Message Retransmission":
        /// whoever fell behind waits for the other's commitment).
        cannot_publish: bool,
    },
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
    /// What the channel costs the accepter, who asked for it: kept by the opener of the first HTLCs that it offers.
    pub price_msat: Msat,
    /// The coin that the funding transaction pays to an accepter that asks for one; 0: none.
    pub reserve_sat: u64,
    /// What the coin adds to the price, if the accepter asks for it.
    pub reserve_price_msat: Msat,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceptChannel {
    /// The acceptor may ask for a greater depth than the opener proposed.
    pub minimum_depth: u32,
    pub accepter: SideParameters,
    /// Where the accepter, which has no coin to pay for a close of its own, asks for one; empty: it has. At most
    /// [`MAX_PAYOUT_SCRIPT_LENGTH`](crate::limits::MAX_PAYOUT_SCRIPT_LENGTH) bytes.
    pub reserve_script: ScriptBuf,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FundingCreated {
    pub outpoint: OutPoint,
    /// The opener's signature for the accepter's commitment 0.
    pub signature: CompactSignature,
    /// The funding transaction without its witnesses, where it pays the accepter a coin: its id is the outpoint's.
    pub transaction: Option<Transaction>,
    /// The opener's sealed copy of its essentials, kept by the other side (at most [`MAX_SEALED_BLOB_BYTES`];
    /// empty from a hub, which keeps backups of its own).
    ///
    /// [`MAX_SEALED_BLOB_BYTES`]: crate::limits::MAX_SEALED_BLOB_BYTES
    pub sealed: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FundingSigned {
    /// The accepter's signature for the opener's commitment 0.
    pub signature: CompactSignature,
    /// The accepter's sealed copy of its essentials, as in [`FundingCreated`].
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
    /// Sealed for the recipient node: exactly [`SEALED_PAYLOAD_BYTES`](crate::limits::SEALED_PAYLOAD_BYTES);
    /// empty for a stream, whose ticks need no secret of the payer.
    pub payload: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitmentSigned {
    /// Number of the receiver's commitment this signs (an explicit number catches replays).
    pub number: u64,
    /// Of the commitment, and of its HTLC transactions in output order.
    pub signatures: CommitmentSignatures,
    /// The sender's sealed copy of its essentials as of this commitment, as in [`FundingCreated`].
    pub sealed: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevokeAndAck {
    /// Number of the sender's commitment that is revoked.
    pub number: u64,
    pub secret: CommitmentSecret,
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
    pub last_secret: CommitmentSecret,
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
    /// The sender's public keys and limits, so that the receiver finds the funding script and the sender's
    /// outputs.
    pub sender: SideParameters,
    /// The receiver's own, as it told them at opening.
    pub receiver: SideParameters,
    /// The receiver's own latest sealed blob.
    pub sealed: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shutdown {
    /// Where the sender wants to be paid. Standard segwit scripts only. The hub's may be empty: its share
    /// goes to the batch's own output.
    pub script: ScriptBuf,
}

/// The wallet's signature over its funding input and its own output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// The terms the wallet froze the channel under.
    pub terms: ClosingTerms,
    pub signature: CompactSignature,
}
