//! The limits and prices `check` applies, and the arithmetic of forwarding. Configured by the host; changes
//! take effect with the next event.

use serde::{Deserialize, Serialize};

use crate::amount::Msat;
use crate::failure::FailureReason;
use crate::message::{ForwardInstruction, UpdateAddHtlc};

/// Policy of this side for its channels. Values of a channel's opening are frozen into it; the rest is read
/// at each check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Forwarding fee: `fee_base_msat + amount * fee_ppm / 1_000_000`, rounded down (BOLT 7). Zero at the
    /// wallet.
    pub fee_base_msat: u64,
    pub fee_ppm: u32,
    /// Least difference between an incoming and its outgoing expiry, in blocks (BOLT 2 `cltv_expiry_delta`).
    pub cltv_expiry_delta: u16,
    /// Furthest an HTLC may expire from now, in blocks.
    pub max_cltv_expiry_delta: u32,
    /// Least number of blocks an HTLC's expiry must lie ahead for us to sign or accept it.
    pub min_cltv_expiry_ahead: u32,
    /// Frozen at opening: the smallest HTLC we accept.
    pub htlc_minimum_msat: Msat,
    /// Frozen at opening: most in flight towards us, as a share of the capacity in percent, 1 to 100.
    pub max_in_flight_percent: u8,
    /// Frozen at opening: at most `limits::MAX_HTLCS_WITH_OUTPUT`.
    pub max_accepted_htlcs: u16,
    /// Frozen at opening: at most `limits::MAX_DUST_HTLCS`.
    pub max_accepted_dust_htlcs: u16,
    /// Most that trimmed HTLCs of one channel may put at risk, both directions together.
    pub max_dust_htlc_exposure_msat: Msat,
    /// Frozen at opening, proposed by the opener: at least `limits::MIN_DUST_LIMIT`.
    pub dust_limit_sat: u64,
    /// Frozen at opening: what we impose on the counterparty, in blocks.
    pub to_self_delay_blocks: u16,
    /// Most we let the counterparty impose on us, in blocks.
    pub max_to_self_delay_blocks: u16,
    /// Frozen at opening: confirmations we ask for, at least 1.
    pub minimum_depth: u32,
    pub min_capacity_sat: u64,
    pub max_capacity_sat: u64,
    /// Wallet: the highest closing fee it agrees to, in satoshi.
    pub max_closing_fee_sat: u64,
}

impl Policy {
    /// What forwarding `amount` costs the payer on top of it; `None` where no such amount exists.
    pub fn forwarding_fee(&self, amount: Msat) -> Option<Msat> {
        let proportional = u128::from(amount.to_u64()) * u128::from(self.fee_ppm) / 1_000_000;
        let fee = u128::from(self.fee_base_msat) + proportional;
        Msat::new(u64::try_from(fee).ok()?)
    }

    /// Whether an incoming HTLC pays for what it asks to pass on, and leaves time enough: BOLT 7's `htlc` fee
    /// rule and BOLT 2's `cltv_expiry_delta`, at this height.
    pub fn check_forward(
        &self,
        incoming: &UpdateAddHtlc,
        instruction: &ForwardInstruction,
        height: u32,
    ) -> Result<(), FailureReason> {
        if instruction.amount_msat.is_zero() {
            return Err(FailureReason::AmountOutOfRange);
        }
        let fee = self.forwarding_fee(instruction.amount_msat).ok_or(FailureReason::AmountOutOfRange)?;
        let asked = instruction.amount_msat.checked_add(fee).ok_or(FailureReason::AmountOutOfRange)?;
        if incoming.amount_msat < asked {
            return Err(FailureReason::FeeTooLow);
        }
        let outgoing = u64::from(instruction.cltv_expiry);
        if u64::from(incoming.cltv_expiry) < outgoing + u64::from(self.cltv_expiry_delta) {
            return Err(FailureReason::ExpiryTooSoon);
        }
        self.check_expiry(instruction.cltv_expiry, height)
    }

    /// Whether an expiry is neither too near to be resolved in time nor further than we lock money.
    pub fn check_expiry(&self, cltv_expiry: u32, height: u32) -> Result<(), FailureReason> {
        let (expiry, height) = (u64::from(cltv_expiry), u64::from(height));
        if expiry < height + u64::from(self.min_cltv_expiry_ahead.max(1)) {
            return Err(FailureReason::ExpiryTooSoon);
        }
        if expiry > height + u64::from(self.max_cltv_expiry_delta) {
            return Err(FailureReason::ExpiryTooFar);
        }
        Ok(())
    }

    /// The last height at which an HTLC with this expiry may still be signed for the next hop.
    pub fn sign_by_height(&self, cltv_expiry: u32) -> u32 {
        cltv_expiry.saturating_sub(self.min_cltv_expiry_ahead.max(1))
    }
}
