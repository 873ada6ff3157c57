//! The rules of BOLT 2 and DESIGN that a counterparty can break, and what makes a channel fail on the chain.

use bitcoin::Txid;
use serde::{Deserialize, Serialize};

use crate::amount::Msat;
use crate::error::ParameterFlaw;

/// A rule that the counterparty broke. Journaled: the channel fails on the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Violation {
    // --- Opening -----------------------------------------------------------------------------------------------
    #[error("the accepted parameters are unacceptable: {0}")]
    Parameters(ParameterFlaw),

    // --- Commitments -------------------------------------------------------------------------------------------
    #[error("commitment {number} was signed already, {expected} is next")]
    ReplayedCommitment { number: u64, expected: u64 },
    #[error("commitment {number} is in the future, {expected} is next")]
    FutureCommitment { number: u64, expected: u64 },
    #[error("the commitment covers no update")]
    EmptyCommitment,
    #[error("the commitment signature does not verify")]
    WrongCommitmentSignature,
    #[error("{found} HTLC signatures came, {expected} HTLCs have outputs")]
    WrongHtlcSignatureCount { found: usize, expected: usize },
    #[error("the signature of HTLC output {position} does not verify")]
    WrongHtlcSignature { position: usize },
    #[error("the sealed blob has {found} bytes, allowed are {maximum}")]
    SealedBlobTooLong { found: usize, maximum: usize },

    // --- Revocations -------------------------------------------------------------------------------------------
    #[error("commitment {number} was revoked, but nothing was to be")]
    UnexpectedRevocation { number: u64 },
    #[error("commitment {number} was revoked already, {expected} is next")]
    ReplayedRevocation { number: u64, expected: u64 },
    #[error("commitment {number} was revoked, but {expected} is next")]
    FutureRevocation { number: u64, expected: u64 },
    #[error("the secret is not that of commitment {number}")]
    WrongRevocationSecret { number: u64 },
    #[error("the secret of commitment {number} does not fit the earlier ones")]
    InconsistentRevocationSecret { number: u64 },
    #[error("the next per-commitment point is not on the curve")]
    InvalidNextPoint,

    // --- Adds --------------------------------------------------------------------------------------------------
    #[error("HTLC id {id} was used already, {expected} is next")]
    DuplicateHtlcId { id: u64, expected: u64 },
    #[error("HTLC id {id} skips {expected}")]
    SkippedHtlcId { id: u64, expected: u64 },
    #[error("an HTLC of zero was offered")]
    ZeroAmount,
    #[error("an HTLC of {amount} was offered, below the minimum of {minimum}")]
    BelowMinimum { amount: Msat, minimum: Msat },
    #[error("an HTLC of {amount} was offered, above the capacity of {capacity}")]
    AboveCapacity { amount: Msat, capacity: Msat },
    #[error("an HTLC of {amount} was offered, only {available} can be spent")]
    Unaffordable { amount: Msat, available: Msat },
    #[error("{total} would be in flight, {maximum} is allowed")]
    AboveMaxInFlight { total: Msat, maximum: Msat },
    #[error("more than {maximum} HTLCs with outputs were offered")]
    TooManyHtlcs { maximum: u16 },
    #[error("more than {maximum} trimmed HTLCs were offered")]
    TooManyDustHtlcs { maximum: u16 },
    #[error("expiry {cltv_expiry} is no block height")]
    ExpiryNotAHeight { cltv_expiry: u32 },
    #[error("the payload has {found} bytes, expected are {expected}")]
    WrongPayloadSize { found: usize, expected: usize },
    #[error("{deducted} were kept of an HTLC for the channel's price, {maximum} at most were agreed")]
    PriceExceeded { deducted: Msat, maximum: Msat },
    #[error("an HTLC was offered after the shutdown")]
    AddAfterShutdown,
    #[error("an HTLC was offered before the channel was ready")]
    AddBeforeReady,

    // --- Removals ----------------------------------------------------------------------------------------------
    #[error("HTLC {id} does not exist")]
    UnknownHtlc { id: u64 },
    #[error("HTLC {id} is not irrevocable yet")]
    HtlcNotIrrevocable { id: u64 },
    #[error("HTLC {id} was removed already")]
    HtlcAlreadyRemoved { id: u64 },
    #[error("the preimage does not open HTLC {id}")]
    WrongPreimage { id: u64 },

    // --- Reestablish -------------------------------------------------------------------------------------------
    #[error("the secret that should prove commitment {number} revoked is wrong")]
    WrongReestablishSecret { number: u64 },
    #[error("next commitment {number} was claimed, at most {expected} can be")]
    ReestablishFromFuture { number: u64, expected: u64 },
    #[error("the counterparty has frozen the channel under terms never proposed")]
    UnknownFrozenTerms,

    // --- Closing -----------------------------------------------------------------------------------------------
    #[error("the shutdown's script is no standard witness program")]
    ShutdownScript,
    #[error("the shutdown was announced with another script")]
    ShutdownScriptChanged,
    #[error("only the hub proposes closing terms")]
    TermsFromWallet,
    #[error("closing terms came before both shutdowns, or with updates in flight")]
    TermsTooEarly,
    #[error("a ticket came that nobody asked for")]
    UnexpectedTicket,
    #[error("the ticket is for terms never proposed")]
    TicketForUnknownTerms,
    #[error("the ticket's signature does not verify")]
    WrongTicketSignature,
}

/// Why a channel failed on the chain. Durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum FailureCause {
    #[error("the counterparty broke the protocol: {0}")]
    Violation(Violation),
    #[error("the operator gave the channel up")]
    Operator,
    #[error("the counterparty gave the channel up")]
    Counterparty,
    /// The chain holds nothing, or something else, where the funding should be. Nothing to publish.
    #[error("the funding transaction on the chain is not the one agreed")]
    WrongFunding,
    #[error("{txid} spent the funding without agreement")]
    UnexpectedSpend { txid: Txid },
    /// The counterparty proved that it has seen a newer state than ours: publishing ours could cost everything.
    #[error("this side lost data: the counterparty proved commitment {number} revoked")]
    Behind { number: u64 },
    #[error("an HTLC was not resolved by its deadline at height {height}")]
    HtlcDeadline { height: u32 },
    #[error("an HTLC that the counterparty may have never seen signed expired at height {height}")]
    SignedAddExpired { height: u32 },
    /// Wallet: the hub holds the ticket and did not close, or the batch that it handed over does not confirm.
    #[error("the agreed close was not in the chain at height {height}")]
    CloseOverdue { height: u32 },
    /// Its latest commitment, or the one before that was not revoked yet.
    #[error("the counterparty closed the channel with {txid}")]
    CounterpartyClosed { txid: Txid },
    /// Everything in it is ours.
    #[error("the counterparty cheated: {txid} is its revoked commitment {number}")]
    Cheated { txid: Txid, number: u64 },
    /// Published by a copy of this side's data, not by this channel.
    #[error("{txid}, this side's own commitment, was published by another copy of its data")]
    PublishedElsewhere { txid: Txid },
    /// The counterparty has a newer state than ours: publishing ours could cost everything.
    #[error("this side lost data: {txid} is commitment {number} of the counterparty, newer than any known")]
    NewerCommitment { txid: Txid, number: u64 },
    /// Made again from what the counterparty kept for us: there is no state to publish.
    #[error("this side lost its data and asks the counterparty to close")]
    DataLost,
    /// It publishes nothing itself: what it owns, it gets by our commitment alone.
    #[error("the counterparty lost its data and asked for the close")]
    CounterpartyLostData,
}

impl FailureCause {
    /// Whether our latest commitment may be published: not when we may be behind, nor when there is nothing
    /// to spend.
    pub const fn may_publish(&self) -> bool {
        match self {
            Self::Violation(_)
            | Self::Operator
            | Self::Counterparty
            | Self::HtlcDeadline { .. }
            | Self::SignedAddExpired { .. }
            | Self::CloseOverdue { .. }
            | Self::CounterpartyClosed { .. }
            | Self::Cheated { .. }
            | Self::PublishedElsewhere { .. }
            | Self::CounterpartyLostData => true,
            Self::WrongFunding
            | Self::UnexpectedSpend { .. }
            | Self::Behind { .. }
            | Self::NewerCommitment { .. }
            | Self::DataLost => false,
        }
    }

    /// Whether it proves that this side runs from old data, so that other channels' commitments may be revoked too. (Who makes
    /// a lost channel again knows what it lost, and nothing of it is published.)
    pub const fn proves_old_data(&self) -> bool {
        match self {
            Self::Behind { .. } | Self::NewerCommitment { .. } => true,
            Self::Violation(_)
            | Self::Operator
            | Self::Counterparty
            | Self::WrongFunding
            | Self::UnexpectedSpend { .. }
            | Self::HtlcDeadline { .. }
            | Self::SignedAddExpired { .. }
            | Self::CloseOverdue { .. }
            | Self::CounterpartyClosed { .. }
            | Self::Cheated { .. }
            | Self::PublishedElsewhere { .. }
            | Self::DataLost
            | Self::CounterpartyLostData => false,
        }
    }

    /// Whether this side lost data, so that only the counterparty can close.
    pub const fn is_data_loss(&self) -> bool {
        self.proves_old_data() || matches!(self, Self::DataLost)
    }
}
