//! What is ours on the chain, and how it is taken: one [`Claim`] an output.
//!
//! A claim is complete: from it alone (and a [`crate::signer::Signer`]) a spend is built, signed, weighed and verified.
//! The channel says which claims there are and from when on; the settlement engine decides how they share
//! transactions and what they pay (BOLT 5).
//!
//! | module | what |
//! | --- | --- |
//! | `build` | claims from a commitment found in a block: [`Published`], [`Own`], [`Theirs`], [`Revoked`] |
//! | `spend` | the input, its signature's message, its witness and weight |
//! | `check` | whether a finished transaction takes the output, without trust in who built it |
//! | `script` | what a script asks of whoever spends its output |

mod build;
mod check;
mod script;
mod spend;

pub use build::{Found, Own, OwnHtlc, Published, Revoked, Theirs, Unclaimable, preimage_in, to_remote};
pub use check::ClaimError;

use bitcoin::absolute::LockTime;
use bitcoin::transaction::Version;
use bitcoin::{OutPoint, ScriptBuf, Sequence, TxOut};

use crate::bytes::{KeyId, PaymentPreimage};
use crate::channel::PublishJob;
use crate::ids::{ChannelId, OwnerId};
use crate::keys::{CompactSignature, Point};
use crate::shachain::CommitmentSecret;

/// All that one channel wants done on the chain now. A newer plan of a channel replaces the older as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnchainPlan {
    pub owner: OwnerId,
    pub channel_id: ChannelId,
    pub key_id: KeyId,
    /// Our latest commitment, to be published unless the chain holds a spend of the funding.
    pub publish: Option<PublishJob>,
    /// Outputs of ours in blocks whose spend is not final yet.
    pub claims: Vec<Claim>,
}

/// One output on the chain that we may spend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub outpoint: OutPoint,
    pub output: TxOut,
    pub kind: ClaimKind,
    pub key: SpendKey,
    /// The key whose signature the script asks for: that of `key`.
    pub public_key: Point,
    pub path: SpendPath,
    /// The lowest height of a block that may hold the spend (delays and expiries included).
    pub earliest_height: u32,
    /// Whether the counterparty can spend the output too, and from when on.
    pub contest: Contest,
    /// The height by which the spend should be in a block: the last before something is lost. None where time costs
    /// nothing.
    pub deadline: Option<u32>,
}

/// What an output is to us (BOLT 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClaimKind {
    /// Our delayed balance in our own commitment.
    ToLocal,
    /// Our balance in the counterparty's commitment.
    ToRemote,
    /// A received HTLC whose preimage we know.
    HtlcSuccess { id: u64 },
    /// An offered HTLC, back after its expiry.
    HtlcTimeout { id: u64 },
    /// The delayed output of an HTLC transaction of our own commitment.
    SecondStage { id: u64 },
    /// The cheater's balance.
    PenaltyToLocal,
    /// An HTLC output of a revoked commitment.
    PenaltyHtlc,
    /// The output of a cheater's HTLC transaction.
    PenaltySecondStage,
}

/// Which of our secrets signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpendKey {
    /// Our delayed payment key of our own commitment `number`.
    Delayed { number: u64 },
    /// Our payment key with this public half: it never changes.
    Payment { key: Point },
    /// Our HTLC key of our own commitment `number`.
    HolderHtlc { number: u64 },
    /// Our HTLC key of the counterparty's commitment with this point.
    CounterpartyHtlc { per_commitment_point: Point },
    /// The revocation key of the counterparty's commitment with this secret.
    Revocation { secret: CommitmentSecret },
}

/// How the output is spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpendPath {
    /// By any transaction that keeps to lock time and sequence, with one signature of all of it (`SIGHASH_ALL`).
    Direct {
        /// None: the output is P2WPKH.
        witness_script: Option<ScriptBuf>,
        unlock: Unlock,
        sequence: Sequence,
        /// The least lock time the script asks for.
        lock_time: LockTime,
    },
    /// By the HTLC transaction that the counterparty signed with `SIGHASH_SINGLE|ANYONECANPAY`: this input and, at the
    /// same position, this output; version and lock time are fixed too. Others may be added that pay the fee.
    HtlcTransaction {
        witness_script: ScriptBuf,
        output: TxOut,
        sequence: Sequence,
        /// Exactly this lock time.
        lock_time: LockTime,
        /// Exactly this version: 3 in the zero-fee format.
        version: Version,
        countersignature: CompactSignature,
        countersignatory_key: Point,
        /// For a received HTLC.
        preimage: Option<PaymentPreimage>,
    },
}

/// What the witness holds besides signature and script (BOLT 3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unlock {
    /// P2WPKH: the public key follows the signature.
    Key,
    /// `to_remote` with anchors: nothing else.
    Signature,
    /// The delayed branch of `to_local` and second stages: an empty element.
    Delayed,
    /// The revocation branch of `to_local` and second stages: 1.
    RevokedDelayed,
    /// The revocation branch of HTLC outputs: the revocation key.
    RevokedHtlc,
    /// A received HTLC in the counterparty's commitment: its preimage.
    Preimage(PaymentPreimage),
    /// An offered HTLC in the counterparty's commitment after its expiry: an empty element.
    Expired,
}

/// Whether the counterparty may spend the output as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Contest {
    /// Never.
    Never,
    /// In blocks from this height on.
    From { height: u32 },
    /// At any time.
    Now,
}
