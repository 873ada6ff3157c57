//! Why the ledger did not do what a user asked. One variant a rule; nothing was changed.

use channel::amount::Msat;
use channel::failure::FailureReason;
use channel::message::PaymentHash;
use proto::error::{ErrorCode, ErrorDetail, detail};

/// A refusal, with what was wrong and what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LedgerRefusal {
    #[error("the amount is zero")]
    ZeroAmount,
    #[error("the invoice asks for {invoice}; leave the amount out")]
    AmountFixed { invoice: Msat },
    #[error("the invoice names no amount; give one")]
    AmountMissing,
    #[error("the amount is more than there is bitcoin")]
    AmountTooLarge,
    #[error("the description has {got} bytes; at most {limit} are allowed")]
    DescriptionTooLong { got: usize, limit: usize },
    #[error("the expiry of {got} seconds is not within 1 to {limit}")]
    ExpiryOutOfRange { got: u32, limit: u32 },
    #[error("the invoice cannot be read: {why}")]
    InvoiceMalformed { why: String },
    #[error("the invoice is for {invoice}; this wallet is on {ours}")]
    WrongNetwork { invoice: String, ours: String },
    #[error("the invoice needs what this wallet lacks: {why}")]
    InvoiceUnsupported { why: String },
    #[error("the invoice expired {seconds} seconds ago")]
    InvoiceExpired { seconds: u64 },
    #[error("the invoice is this wallet's own")]
    OwnInvoice,
    #[error("a wallet cannot pay itself")]
    ToSelf,
    #[error("payment {number} for this payment hash is in flight")]
    InFlight { number: u64, payment_hash: PaymentHash },
    #[error("this invoice was paid already, by payment {number}")]
    AlreadyPaid { number: u64, payment_hash: PaymentHash },
    #[error("the fee would be {fee}; at most {limit} are allowed")]
    FeeAboveLimit { fee: Msat, limit: Msat },
    #[error("no channel is usable: {channels} exist")]
    NoUsableChannel { channels: usize },
    #[error("{needed} are needed in one channel; the most that can be sent now is {spendable}")]
    InsufficientBalance { needed: Msat, spendable: Msat },
    #[error("the hub's prices are not known: this wallet was never connected to it")]
    HubUnknown,
    #[error("the hub takes no less than {minimum} in one payment")]
    BelowHubMinimum { minimum: Msat },
    #[error("the payee asks for {asked} blocks at the end; the hub allows {limit} in all")]
    ExpiryTooFar { asked: u64, limit: u32 },
    #[error("{what}: at most {limit} are allowed")]
    Full { what: &'static str, limit: usize },
    #[error("{got} ticks are not within 1 to {limit}")]
    TicksOutOfRange { got: u64, limit: u64 },
    #[error("{got} ticks in flight are not within 1 to {limit}")]
    WindowOutOfRange { got: u32, limit: u32 },
    #[error("the total of the stream is more than there is bitcoin")]
    StreamTooLarge,
    #[error("the request_id was used for another request")]
    RequestIdReused,
    #[error("the key is not a point of the curve")]
    NotAPoint,
    #[error("no invoice of this wallet has this payment hash, or it expired long ago")]
    UnknownInvoice,
    #[error("the invoice is no hold invoice: what pays it is taken at once")]
    NotHeld,
    #[error("no payment waits for this invoice")]
    NothingHeld,
    #[error("the invoice was cancelled: nothing that pays it is taken")]
    InvoiceCancelled,
    #[error("the invoice's payment was taken already")]
    InvoiceSettled,
}

impl LedgerRefusal {
    fn code(&self) -> ErrorCode {
        match self {
            Self::ZeroAmount
            | Self::AmountFixed { .. }
            | Self::AmountMissing
            | Self::AmountTooLarge
            | Self::BelowHubMinimum { .. }
            | Self::StreamTooLarge => ErrorCode::BadAmount,
            Self::DescriptionTooLong { .. }
            | Self::ExpiryOutOfRange { .. }
            | Self::TicksOutOfRange { .. }
            | Self::WindowOutOfRange { .. }
            | Self::ToSelf
            | Self::NotAPoint => ErrorCode::BadField,
            Self::InvoiceMalformed { .. } => ErrorCode::InvoiceMalformed,
            Self::WrongNetwork { .. } => ErrorCode::InvoiceWrongNetwork,
            Self::InvoiceUnsupported { .. } | Self::OwnInvoice | Self::ExpiryTooFar { .. } => {
                ErrorCode::InvoiceUnsupported
            }
            Self::InvoiceExpired { .. } => ErrorCode::InvoiceExpired,
            Self::InFlight { .. } => ErrorCode::PaymentInFlight,
            Self::AlreadyPaid { .. } => ErrorCode::AlreadyPaid,
            Self::FeeAboveLimit { .. } => ErrorCode::FeeAboveLimit,
            Self::NoUsableChannel { .. } => ErrorCode::NoChannel,
            Self::InsufficientBalance { .. } => ErrorCode::InsufficientFunds,
            Self::HubUnknown => ErrorCode::HubOffline,
            Self::Full { .. } => ErrorCode::LimitReached,
            Self::RequestIdReused => ErrorCode::RequestIdReused,
            Self::UnknownInvoice => ErrorCode::NotFound,
            Self::NotHeld | Self::NothingHeld | Self::InvoiceCancelled | Self::InvoiceSettled => {
                ErrorCode::InvoiceWrongState
            }
        }
    }

    fn field(&self) -> &'static str {
        match self {
            Self::ZeroAmount
            | Self::AmountFixed { .. }
            | Self::AmountMissing
            | Self::AmountTooLarge
            | Self::BelowHubMinimum { .. } => "amount_msat",
            Self::DescriptionTooLong { .. } => "description",
            Self::ExpiryOutOfRange { .. } => "expiry_seconds",
            Self::InvoiceMalformed { .. }
            | Self::WrongNetwork { .. }
            | Self::InvoiceUnsupported { .. }
            | Self::ExpiryTooFar { .. }
            | Self::InvoiceExpired { .. }
            | Self::OwnInvoice
            | Self::InFlight { .. }
            | Self::AlreadyPaid { .. } => "invoice",
            Self::ToSelf | Self::NotAPoint => "payee",
            Self::FeeAboveLimit { .. } => "max_fee_msat",
            Self::TicksOutOfRange { .. } | Self::StreamTooLarge => "ticks",
            Self::WindowOutOfRange { .. } => "max_in_flight",
            Self::RequestIdReused => "request_id",
            Self::UnknownInvoice
            | Self::NotHeld
            | Self::NothingHeld
            | Self::InvoiceCancelled
            | Self::InvoiceSettled => "payment_hash",
            Self::NoUsableChannel { .. }
            | Self::InsufficientBalance { .. }
            | Self::HubUnknown
            | Self::Full { .. } => "",
        }
    }

    fn advice(&self) -> &'static str {
        match self {
            Self::NoUsableChannel { channels: 0 } => "open one: `hubwallet open --amount-sat N`",
            Self::NoUsableChannel { .. } => {
                "see `hubwallet channels`; the hub may be offline or the funding unconfirmed"
            }
            Self::InsufficientBalance { .. } => {
                "pay less, or open another channel: `hubwallet open --amount-sat N`"
            }
            Self::HubUnknown => "check hub.address in wallet.toml, and `hubwallet info`",
            Self::FeeAboveLimit { .. } => "allow more with --max-fee-msat",
            Self::InFlight { .. } => "see `hubwallet payments`",
            Self::InvoiceExpired { .. } => "ask the payee for a new invoice",
            Self::RequestIdReused => "make a new request_id for each request",
            Self::NothingHeld | Self::UnknownInvoice => "see `hubwallet held`",
            Self::ZeroAmount
            | Self::AmountFixed { .. }
            | Self::AmountMissing
            | Self::AmountTooLarge
            | Self::DescriptionTooLong { .. }
            | Self::ExpiryOutOfRange { .. }
            | Self::InvoiceMalformed { .. }
            | Self::WrongNetwork { .. }
            | Self::InvoiceUnsupported { .. }
            | Self::OwnInvoice
            | Self::ToSelf
            | Self::AlreadyPaid { .. }
            | Self::BelowHubMinimum { .. }
            | Self::ExpiryTooFar { .. }
            | Self::Full { .. }
            | Self::TicksOutOfRange { .. }
            | Self::WindowOutOfRange { .. }
            | Self::StreamTooLarge
            | Self::NotHeld
            | Self::InvoiceCancelled
            | Self::InvoiceSettled
            | Self::NotAPoint => "",
        }
    }
}

impl From<LedgerRefusal> for ErrorDetail {
    fn from(refusal: LedgerRefusal) -> Self {
        ErrorDetail {
            field: refusal.field().to_owned(),
            advice: refusal.advice().to_owned(),
            ..detail(refusal.code(), refusal.to_string())
        }
    }
}

/// What a failed payment's user may do next.
pub fn advice_for(reason: FailureReason) -> &'static str {
    match reason {
        FailureReason::UnknownRecipient => "the payee has no channel with this hub",
        FailureReason::RecipientOffline => "try again when the payee is online",
        FailureReason::NoLiquidity => {
            "the payee needs inbound liquidity: `hubwallet open --inbound-sat N` on its side"
        }
        FailureReason::FeeTooLow => "the hub's prices changed; try again",
        FailureReason::ExpiryTooSoon | FailureReason::ExpiryTooFar | FailureReason::TimedOut => "try again",
        FailureReason::AmountOutOfRange => "try another amount",
        FailureReason::TooManyHtlcs | FailureReason::Overloaded => "try again in a moment",
        FailureReason::ChannelUnavailable => "see `hubwallet channels`, and try again once one is usable",
        FailureReason::IncorrectPaymentDetails | FailureReason::InvoiceExpired => {
            "ask the payee for a new invoice"
        }
        FailureReason::AlreadyPaid => "the payee was paid for this invoice already",
        FailureReason::StreamRefused => "start a new stream",
    }
}
