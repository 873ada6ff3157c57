//! Why an HTLC failed, as told from hop to hop (the counterpart of BOLT 4's failure messages).

use serde::{Deserialize, Serialize};

/// Goes back to the payer. The discriminants are the wire values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
pub enum FailureReason {
    #[error("the recipient is not known to the hub")]
    UnknownRecipient,
    #[error("the recipient is not connected")]
    RecipientOffline,
    #[error("no channel to the recipient has enough balance for this amount")]
    NoLiquidity,
    #[error("the fee is below the hub's policy")]
    FeeTooLow,
    #[error("the expiry leaves the hub less than its cltv_expiry_delta")]
    ExpiryTooSoon,
    #[error("the expiry is further away than the hub allows")]
    ExpiryTooFar,
    #[error("the amount is outside the limits of the channel to the recipient")]
    AmountOutOfRange,
    #[error("the channel to the recipient has too many HTLCs in flight")]
    TooManyHtlcs,
    #[error("the channel to the recipient is closing or was disconnected")]
    ChannelUnavailable,
    #[error("the recipient does not know this payment, or it differs from its invoice")]
    IncorrectPaymentDetails,
    #[error("the invoice was already paid")]
    AlreadyPaid,
    #[error("the invoice has expired")]
    InvoiceExpired,
    #[error("the stream is not known, has ended, or the tick breaks its terms")]
    StreamRefused,
    #[error("the recipient or hub is overloaded")]
    Overloaded,
    #[error("the payment was not forwarded in time")]
    TimedOut,
}

impl FailureReason {
    /// Every reason, in the order of the wire values, which start at 1.
    pub const ALL: [FailureReason; 15] = [
        Self::UnknownRecipient,
        Self::RecipientOffline,
        Self::NoLiquidity,
        Self::FeeTooLow,
        Self::ExpiryTooSoon,
        Self::ExpiryTooFar,
        Self::AmountOutOfRange,
        Self::TooManyHtlcs,
        Self::ChannelUnavailable,
        Self::IncorrectPaymentDetails,
        Self::AlreadyPaid,
        Self::InvoiceExpired,
        Self::StreamRefused,
        Self::Overloaded,
        Self::TimedOut,
    ];

    /// The value on the wire, 1 and up (0 is "unspecified").
    pub fn code(self) -> u32 {
        Self::ALL.iter().position(|r| *r == self).map_or(0, |at| at as u32 + 1)
    }

    /// The reason with this wire value, if there is one.
    pub fn from_code(code: u32) -> Option<Self> {
        Self::ALL.get(usize::try_from(code.checked_sub(1)?).ok()?).copied()
    }
}
