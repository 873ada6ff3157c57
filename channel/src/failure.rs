//! Why an HTLC failed, as told from hop to hop (the counterpart of BOLT 4's failure messages).

use serde::{Deserialize, Serialize};

/// Goes back to the payer. The discriminants are the wire values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[repr(u32)]
pub enum FailureReason {
    #[error("the recipient is not known to the hub")]
    UnknownRecipient = 1,
    #[error("the recipient is not connected")]
    RecipientOffline = 2,
    #[error("no channel to the recipient has enough balance for this amount")]
    NoLiquidity = 3,
    #[error("the fee is below the hub's policy")]
    FeeTooLow = 4,
    #[error("the expiry leaves the hub less than its cltv_expiry_delta")]
    ExpiryTooSoon = 5,
    #[error("the expiry is further away than the hub allows")]
    ExpiryTooFar = 6,
    #[error("the amount is outside the limits of the channel to the recipient")]
    AmountOutOfRange = 7,
    #[error("the channel to the recipient has too many HTLCs in flight")]
    TooManyHtlcs = 8,
    #[error("the channel to the recipient is closing or was disconnected")]
    ChannelUnavailable = 9,
    #[error("the recipient does not know this payment, or it differs from its invoice")]
    IncorrectPaymentDetails = 10,
    #[error("the invoice was already paid")]
    AlreadyPaid = 11,
    #[error("the invoice has expired")]
    InvoiceExpired = 12,
    #[error("the stream is not known, has ended, or the tick breaks its terms")]
    StreamRefused = 13,
    #[error("the recipient or hub is overloaded")]
    Overloaded = 14,
    #[error("the payment was not forwarded in time")]
    TimedOut = 15,
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
    pub const fn code(self) -> u32 {
        self as u32
    }

    /// The reason with this wire value, if there is one.
    pub fn from_code(code: u32) -> Option<Self> {
        Self::ALL.get(usize::try_from(code.checked_sub(1)?).ok()?).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_wire_value_and_zero_is_none() {
        for (reason, code) in FailureReason::ALL.into_iter().zip(1..) {
            assert_eq!(reason.code(), code);
            assert_eq!(FailureReason::from_code(code), Some(reason));
        }
        assert_eq!(FailureReason::from_code(0), None);
        assert_eq!(FailureReason::from_code(16), None);
        assert_eq!(FailureReason::from_code(u32::MAX), None);
    }
}
