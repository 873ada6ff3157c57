//! Limits on a new HTLC, in the same words for both directions: where we offer they refuse, where the
//! counterparty offers they are violations (BOLT 2, "Adding an HTLC").

use crate::amount::Msat;
use crate::channel::Channel;
use crate::channel::htlc::Flight;
use crate::error::{Refusal, Violation};
use crate::limits::{MAX_CLTV_EXPIRY, SEALED_PAYLOAD_BYTES};
use crate::message::{Recipient, SideParameters};
use crate::parameters::Side;

/// What limits look at.
#[derive(Clone, Copy, Debug)]
pub(super) struct NewHtlc<'a> {
    pub(super) offerer: Side,
    pub(super) amount: Msat,
    pub(super) cltv_expiry: u32,
    pub(super) recipient: &'a Recipient,
    pub(super) payload: &'a [u8],
}

/// A limit that a new HTLC breaks, whoever offers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LimitFlaw {
    ZeroAmount,
    AboveCapacity { amount: Msat, capacity: Msat },
    BelowMinimum { amount: Msat, minimum: Msat },
    ExpiryNotAHeight { cltv_expiry: u32 },
    WrongPayloadSize { found: usize, expected: usize },
    TooManyHtlcs { maximum: u16 },
    TooManyDustHtlcs { maximum: u16 },
    AboveMaxInFlight { total: Msat, maximum: Msat },
    Unaffordable { amount: Msat, available: Msat },
}

impl From<LimitFlaw> for Refusal {
    fn from(flaw: LimitFlaw) -> Self {
        match flaw {
            LimitFlaw::ZeroAmount => Self::ZeroAmount,
            LimitFlaw::AboveCapacity { amount, capacity } => Self::AboveCapacity { amount, capacity },
            LimitFlaw::BelowMinimum { amount, minimum } => Self::BelowMinimum { amount, minimum },
            LimitFlaw::ExpiryNotAHeight { cltv_expiry } => Self::ExpiryNotAHeight { cltv_expiry },
            LimitFlaw::WrongPayloadSize { found, expected } => Self::WrongPayloadSize { found, expected },
            LimitFlaw::TooManyHtlcs { maximum } => Self::TooManyHtlcs { maximum },
            LimitFlaw::TooManyDustHtlcs { maximum } => Self::TooManyDustHtlcs { maximum },
            LimitFlaw::AboveMaxInFlight { total, maximum } => Self::AboveMaxInFlight { total, maximum },
            LimitFlaw::Unaffordable { amount, available } => Self::InsufficientBalance { amount, available },
        }
    }
}

impl From<LimitFlaw> for Violation {
    fn from(flaw: LimitFlaw) -> Self {
        match flaw {
            LimitFlaw::ZeroAmount => Self::ZeroAmount,
            LimitFlaw::AboveCapacity { amount, capacity } => Self::AboveCapacity { amount, capacity },
            LimitFlaw::BelowMinimum { amount, minimum } => Self::BelowMinimum { amount, minimum },
            LimitFlaw::ExpiryNotAHeight { cltv_expiry } => Self::ExpiryNotAHeight { cltv_expiry },
            LimitFlaw::WrongPayloadSize { found, expected } => Self::WrongPayloadSize { found, expected },
            LimitFlaw::TooManyHtlcs { maximum } => Self::TooManyHtlcs { maximum },
            LimitFlaw::TooManyDustHtlcs { maximum } => Self::TooManyDustHtlcs { maximum },
            LimitFlaw::AboveMaxInFlight { total, maximum } => Self::AboveMaxInFlight { total, maximum },
            LimitFlaw::Unaffordable { amount, available } => Self::Unaffordable { amount, available },
        }
    }
}

impl Channel {
    /// Checks a new HTLC against what its receiver allows and its offerer owns.
    pub(super) fn check_limits(&self, htlc: &NewHtlc<'_>) -> Result<(), LimitFlaw> {
        let amount = htlc.amount;
        let allowed = self.receiver_parameters(htlc.offerer);
        if amount.is_zero() {
            return Err(LimitFlaw::ZeroAmount);
        }
        let capacity = self.state.capacity();
        if amount > capacity {
            return Err(LimitFlaw::AboveCapacity { amount, capacity });
        }
        if amount < allowed.htlc_minimum_msat {
            return Err(LimitFlaw::BelowMinimum { amount, minimum: allowed.htlc_minimum_msat });
        }
        if htlc.cltv_expiry > MAX_CLTV_EXPIRY {
            return Err(LimitFlaw::ExpiryNotAHeight { cltv_expiry: htlc.cltv_expiry });
        }
        let expected = match htlc.recipient {
            Recipient::Node(_) => SEALED_PAYLOAD_BYTES,
            Recipient::Stream { .. } => 0,
        };
        if htlc.payload.len() != expected {
            return Err(LimitFlaw::WrongPayloadSize { found: htlc.payload.len(), expected });
        }
        let flight = self.flight(htlc.offerer);
        if self.state.is_trimmed(amount) {
            if flight.trimmed >= u32::from(allowed.max_accepted_dust_htlcs) {
                return Err(LimitFlaw::TooManyDustHtlcs { maximum: allowed.max_accepted_dust_htlcs });
            }
        } else if flight.with_output >= u32::from(allowed.max_accepted_htlcs) {
            return Err(LimitFlaw::TooManyHtlcs { maximum: allowed.max_accepted_htlcs });
        }
        let total = flight.amount.saturating_add(amount);
        if total > allowed.max_htlc_value_in_flight_msat {
            return Err(LimitFlaw::AboveMaxInFlight {
                total,
                maximum: allowed.max_htlc_value_in_flight_msat,
            });
        }
        let available = self.available(htlc.offerer);
        if amount > available {
            return Err(LimitFlaw::Unaffordable { amount, available });
        }
        Ok(())
    }

    /// What the receiver of an HTLC told the offerer to respect.
    pub(in super::super) fn receiver_parameters(&self, offerer: Side) -> &SideParameters {
        match offerer {
            Side::Holder => self.state.counterparty_parameters(),
            Side::Counterparty => &self.state.terms.holder,
        }
    }

    /// HTLCs in the receiver's next commitment.
    pub(in super::super) fn flight(&self, offerer: Side) -> &Flight {
        match offerer {
            Side::Holder => &self.state.htlcs.index.offered,
            Side::Counterparty => &self.state.htlcs.index.received,
        }
    }

    /// What one side can offer now and still keep its reserve: by the receiver's next commitment, which holds
    /// every update of the offerer's and only those of the receiver's that the offerer knows to be
    /// irrevocable. So it never exceeds what the offerer has in its own.
    pub(in super::super) fn available(&self, offerer: Side) -> Msat {
        let next = match offerer {
            Side::Holder => &self.state.books.counterparty.next,
            Side::Counterparty => &self.state.books.holder.next,
        };
        next.of(offerer).saturating_sub(self.state.reserve())
    }
}
