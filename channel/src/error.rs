//! The severities of DESIGN section 4 that `check` can report. The third, a fault of ours, stops the process.

use serde::{Deserialize, Serialize};

use crate::amount::Msat;
use crate::closing::{PlacementFlaw, TicketFlaw};
use crate::failure::FailureReason;
use crate::funding::FundingFlaw;
use crate::ids::SessionId;
use crate::keys::Point;
use crate::seal::OpenError;

pub use crate::violation::{FailureCause, Violation};

/// Why an event was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// Asked for something not allowed: answer, change nothing. Where the event was a peer's message, the
    /// host sends the text as a warning and closes the session; the channel is untouched.
    #[error(transparent)]
    Refusal(#[from] Refusal),
    /// The counterparty broke the protocol: journal `Channel::violated`, the channel fails on the chain.
    #[error(transparent)]
    Violation(#[from] Violation),
}

/// A rule of ours or a limit that the caller can respect next time. One variant a rule; says what was wrong
/// and expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    // --- Opening -----------------------------------------------------------------------------------------------
    #[error(transparent)]
    Parameters(#[from] ParameterFlaw),
    #[error("the policy cannot serve for a channel: {0}")]
    PolicyUnusable(ParameterFlaw),
    #[error("no funding transaction is asked for now")]
    FundingNotAskedFor,
    #[error("the funding transaction does not fund this channel: {0}")]
    WrongFunding(FundingFlaw),
    #[error("input {index} of the funding transaction is not a signed segwit input, so its id could change")]
    MalleableFunding { index: usize },
    #[error("the funding was signed by both sides: the opening can no longer be aborted")]
    FundingReleased,

    // --- HTLCs of ours -----------------------------------------------------------------------------------------
    #[error("the amount is zero")]
    ZeroAmount,
    #[error("amount {amount} is below the minimum of {minimum}")]
    BelowMinimum { amount: Msat, minimum: Msat },
    #[error("amount {amount} is above the channel's capacity of {capacity}")]
    AboveCapacity { amount: Msat, capacity: Msat },
    #[error("amount {amount} is above the {available} this side can spend in the channel")]
    InsufficientBalance { amount: Msat, available: Msat },
    #[error("{total} would be in flight, the counterparty allows {maximum}")]
    AboveMaxInFlight { total: Msat, maximum: Msat },
    #[error("the counterparty allows {maximum} HTLCs with outputs at once")]
    TooManyHtlcs { maximum: u16 },
    #[error("the counterparty allows {maximum} trimmed HTLCs at once")]
    TooManyDustHtlcs { maximum: u16 },
    #[error("trimmed HTLCs would put {exposure} at risk, allowed are {maximum}")]
    DustExposure { exposure: Msat, maximum: Msat },
    #[error("expiry {cltv_expiry} is no block height")]
    ExpiryNotAHeight { cltv_expiry: u32 },
    #[error("expiry {cltv_expiry} is past at height {height}")]
    ExpiryPast { cltv_expiry: u32, height: u32 },
    #[error("expiry {cltv_expiry} is too soon, the earliest is {earliest}")]
    ExpiryTooSoon { cltv_expiry: u32, earliest: u32 },
    #[error("expiry {cltv_expiry} is too far, the latest is {latest}")]
    ExpiryTooFar { cltv_expiry: u32, latest: u32 },
    #[error("the offer had to be signed by height {sign_by_height}, it is {height} now")]
    SignByPassed { sign_by_height: u32, height: u32 },
    #[error("the payload has {found} bytes, expected are {expected}")]
    WrongPayloadSize { found: usize, expected: usize },
    #[error("the preimage does not open the HTLC")]
    WrongPreimage,
    #[error("attempt {attempt} of the same HTLC has no result yet")]
    EarlierAttemptLive { attempt: u32 },

    // --- State -------------------------------------------------------------------------------------------------
    #[error("the counterparty is not connected")]
    NotConnected,
    #[error("session {current:?} is still open")]
    StillConnected { current: SessionId },
    #[error("the channel is not reestablished yet")]
    NotReestablished,
    #[error("the channel is reestablished already")]
    AlreadyReestablished,
    #[error("the channel is not open yet")]
    NotOpenYet,
    #[error("the funding transaction was reorganised away and is not confirmed again yet")]
    FundingUnconfirmed,
    #[error("the channel is shutting down")]
    ShuttingDown,
    #[error("the channel is frozen for its close")]
    Frozen,
    #[error("the channel is closed or closing on the chain")]
    Closed,
    #[error("the channel has failed")]
    Failed,
    #[error("this message has no place in the present state of the channel")]
    UnexpectedMessage,
    #[error("there is nothing to sign")]
    NothingToSign,
    #[error("the counterparty has not revoked its last commitment yet")]
    RoundUnderWay,
    #[error("all commitment numbers are used")]
    CommitmentsExhausted,

    // --- Closing -----------------------------------------------------------------------------------------------
    #[error("only the hub proposes closing terms")]
    NotTheHub,
    #[error("the payout's script is no standard witness program")]
    NonStandardScript,
    #[error("the shutdown was announced with another script")]
    ShutdownScriptFixed,
    #[error("not both sides have shut down")]
    ShutdownIncomplete,
    #[error("HTLCs or updates are still in flight")]
    InFlight,
    #[error("the terms' height of {publish_by_height} is past at height {height}")]
    PublishHeightPast { publish_by_height: u32, height: u32 },
    #[error("{maximum} terms were proposed already")]
    TooManyTerms { maximum: usize },
    #[error("the ticket cannot be: {0}")]
    ImpossibleTicket(TicketFlaw),
    #[error("the closing transaction does not parse")]
    MalformedClosing,
    #[error("the closing transaction does not spend the channel")]
    ClosingSpendsNothing,
    #[error("the closing transaction does not pay as agreed: {0}")]
    ClosingNotAsAgreed(PlacementFlaw),

    // --- Chain -------------------------------------------------------------------------------------------------
    #[error("the transaction does not spend the channel's funding output")]
    NotOurSpend,
    #[error("the channel has no funding on the chain")]
    NoFunding,
    #[error("no deadline of this channel is reached at height {height}")]
    NoDeadline { height: u32 },
}

impl Refusal {
    /// What the payer is told when a rule refused its HTLC in the outgoing channel.
    pub fn failure_reason(&self) -> FailureReason {
        match self {
            Self::InsufficientBalance { .. } => FailureReason::NoLiquidity,
            Self::ZeroAmount | Self::BelowMinimum { .. } | Self::AboveCapacity { .. } => {
                FailureReason::AmountOutOfRange
            }
            Self::AboveMaxInFlight { .. }
            | Self::TooManyHtlcs { .. }
            | Self::TooManyDustHtlcs { .. }
            | Self::DustExposure { .. } => FailureReason::TooManyHtlcs,
            Self::ExpiryPast { .. } | Self::ExpiryTooSoon { .. } => FailureReason::ExpiryTooSoon,
            Self::ExpiryNotAHeight { .. } | Self::ExpiryTooFar { .. } => FailureReason::ExpiryTooFar,
            Self::SignByPassed { .. } => FailureReason::TimedOut,
            Self::WrongPayloadSize { .. } | Self::WrongPreimage => FailureReason::IncorrectPaymentDetails,
            Self::NotConnected | Self::NotReestablished => FailureReason::RecipientOffline,
            Self::Parameters(_)
            | Self::PolicyUnusable(_)
            | Self::FundingNotAskedFor
            | Self::WrongFunding(_)
            | Self::MalleableFunding { .. }
            | Self::FundingReleased
            | Self::EarlierAttemptLive { .. }
            | Self::StillConnected { .. }
            | Self::AlreadyReestablished
            | Self::NotOpenYet
            | Self::FundingUnconfirmed
            | Self::ShuttingDown
            | Self::Frozen
            | Self::Closed
            | Self::Failed
            | Self::UnexpectedMessage
            | Self::NothingToSign
            | Self::RoundUnderWay
            | Self::CommitmentsExhausted
            | Self::NotTheHub
            | Self::NonStandardScript
            | Self::ShutdownScriptFixed
            | Self::ShutdownIncomplete
            | Self::InFlight
            | Self::PublishHeightPast { .. }
            | Self::TooManyTerms { .. }
            | Self::ImpossibleTicket(_)
            | Self::MalformedClosing
            | Self::ClosingSpendsNothing
            | Self::ClosingNotAsAgreed(_)
            | Self::NotOurSpend
            | Self::NoFunding
            | Self::NoDeadline { .. } => FailureReason::ChannelUnavailable,
        }
    }
}

/// Why a channel is not made again from what a peer says of it: nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecoveryFlaw {
    #[error("the sealed essentials do not open: {0}")]
    Sealed(#[from] OpenError),
    #[error("the essentials name another channel than the sealed ones")]
    ChannelId,
    #[error("the essentials come from another node than the sealed ones name")]
    Node,
    #[error("the essentials name another funding output than the sealed ones")]
    Outpoint,
    #[error("the essentials name another capacity than the sealed ones")]
    Capacity,
    #[error("the essentials name another funding key of the counterparty than the sealed ones")]
    CounterpartyKey,
    #[error("the essentials name other keys of ours than the seed gives")]
    OwnKeys,
    #[error(transparent)]
    Parameters(#[from] ParameterFlaw),
}

/// A parameter of an opening that cannot be agreed to (BOLT 2, "The `open_channel` Message"). In
/// `open_channel` a refusal, in `accept_channel` a violation: the opener had said what it wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ParameterFlaw {
    #[error("the commitment format {name:?} is not supported")]
    UnsupportedFormat { name: String },
    #[error("the capacity of {capacity_sat} sat is below the minimum of {minimum_sat} sat")]
    CapacityTooSmall { capacity_sat: u64, minimum_sat: u64 },
    #[error("the capacity of {capacity_sat} sat is above the maximum of {maximum_sat} sat")]
    CapacityTooLarge { capacity_sat: u64, maximum_sat: u64 },
    #[error("the dust limit of {dust_limit_sat} sat is below {minimum_sat} sat")]
    DustLimitTooLow { dust_limit_sat: u64, minimum_sat: u64 },
    #[error("the dust limit of {dust_limit_sat} sat is above {maximum_sat} sat")]
    DustLimitTooHigh { dust_limit_sat: u64, maximum_sat: u64 },
    #[error("a depth of {minimum_depth} blocks is not within {minimum} and {maximum}")]
    DepthOutOfRange { minimum_depth: u32, minimum: u32, maximum: u32 },
    #[error("a delay of {delay_blocks} blocks is not within {minimum} and {maximum}")]
    DelayOutOfRange { delay_blocks: u16, minimum: u16, maximum: u16 },
    #[error("the HTLC minimum of {minimum} is above a hundredth of the capacity")]
    HtlcMinimumTooHigh { minimum: Msat },
    #[error("at most {maximum} may be in flight: less than the HTLC minimum, or more than the capacity")]
    InFlightLimitUnusable { maximum: Msat },
    #[error("{count} HTLCs with outputs are not within 1 and {maximum}")]
    HtlcCountOutOfRange { count: u16, maximum: u16 },
    #[error("{count} trimmed HTLCs are more than {maximum}")]
    DustHtlcCountTooLarge { count: u16, maximum: u16 },
    #[error("{0} is not a point of the curve")]
    InvalidPoint(Point),
    #[error("the counterparty uses our own funding key")]
    SameFundingKey,
    #[error("the script for a reserve coin is no standard payout")]
    NonStandardReserveScript,
    #[error("the channel would cost {price}, {maximum} at most were agreed")]
    PriceTooHigh { price: Msat, maximum: Msat },
}
