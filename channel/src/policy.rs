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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::PaymentHash;
    use crate::ids::StreamId;
    use crate::message::Recipient;

    const HEIGHT: u32 = 1_000;

    fn policy() -> Policy {
        Policy {
            fee_base_msat: 1_000,
            fee_ppm: 100,
            cltv_expiry_delta: 40,
            max_cltv_expiry_delta: 500,
            min_cltv_expiry_ahead: 10,
            htlc_minimum_msat: Msat::from_u32(1),
            max_in_flight_percent: 80,
            max_accepted_htlcs: 20,
            max_accepted_dust_htlcs: 50,
            max_dust_htlc_exposure_msat: Msat::from_sat_u32(5_000),
            dust_limit_sat: 354,
            to_self_delay_blocks: 144,
            max_to_self_delay_blocks: 2_016,
            minimum_depth: 3,
            min_capacity_sat: 20_000,
            max_capacity_sat: 100_000_000,
            max_closing_fee_sat: 2_000,
        }
    }

    fn msat(amount: u64) -> Msat {
        Msat::new(amount).unwrap()
    }

    #[test]
    fn the_fee_is_the_base_and_the_proportion_rounded_down() {
        for (amount, fee) in
            [(0, 1_000), (9_999, 1_000), (10_000, 1_001), (19_999, 1_001), (1_000_000, 1_100)]
        {
            assert_eq!(policy().forwarding_fee(msat(amount)), Some(msat(fee)), "of {amount}");
        }
        let free = Policy { fee_base_msat: 0, fee_ppm: 0, ..policy() };
        assert_eq!(free.forwarding_fee(Msat::MAX), Some(Msat::ZERO));
        let greedy = Policy { fee_base_msat: u64::MAX, fee_ppm: u32::MAX, ..policy() };
        assert_eq!(greedy.forwarding_fee(Msat::MAX), None);
    }

    /// An HTLC that pays for what it asks to pass on, to the last msat and block.
    fn exact() -> (UpdateAddHtlc, ForwardInstruction) {
        let incoming = UpdateAddHtlc {
            id: 0,
            amount_msat: msat(1_000_000 + 1_100),
            payment_hash: PaymentHash::from_bytes([1; 32]),
            cltv_expiry: HEIGHT + 100 + 40,
            recipient: Recipient::Stream { id: StreamId([1; 16]), index: 0 },
            forward: None,
            payload: Vec::new(),
        };
        let instruction = ForwardInstruction { amount_msat: msat(1_000_000), cltv_expiry: HEIGHT + 100 };
        (incoming, instruction)
    }

    #[test]
    fn a_forward_that_pays_and_leaves_time_to_the_last_msat_and_block_is_taken() {
        let (incoming, instruction) = exact();
        assert_eq!(policy().check_forward(&incoming, &instruction, HEIGHT), Ok(()));
    }

    #[test]
    fn a_forward_that_lacks_one_msat_or_one_block_is_refused_by_name() {
        type Change = fn(&mut UpdateAddHtlc, &mut ForwardInstruction);
        let cases: [(Change, FailureReason); 7] = [
            (|incoming, _| incoming.amount_msat = msat(1_001_099), FailureReason::FeeTooLow),
            (|_, forward| forward.amount_msat = msat(1_000_001), FailureReason::FeeTooLow),
            (|_, forward| forward.amount_msat = Msat::ZERO, FailureReason::AmountOutOfRange),
            (|_, forward| forward.amount_msat = Msat::MAX, FailureReason::AmountOutOfRange),
            (|incoming, _| incoming.cltv_expiry -= 1, FailureReason::ExpiryTooSoon),
            (|_, forward| forward.cltv_expiry = HEIGHT + 9, FailureReason::ExpiryTooSoon),
            (
                |incoming, forward| {
                    incoming.cltv_expiry = HEIGHT + 600;
                    forward.cltv_expiry = HEIGHT + 501;
                },
                FailureReason::ExpiryTooFar,
            ),
        ];
        for (change, reason) in cases {
            let (mut incoming, mut instruction) = exact();
            change(&mut incoming, &mut instruction);
            assert_eq!(policy().check_forward(&incoming, &instruction, HEIGHT), Err(reason));
        }
    }

    #[test]
    fn an_expiry_is_judged_without_overflow_at_any_height() {
        for (expiry, height, verdict) in [
            (HEIGHT + 10, HEIGHT, Ok(())),
            (HEIGHT + 9, HEIGHT, Err(FailureReason::ExpiryTooSoon)),
            (0, u32::MAX, Err(FailureReason::ExpiryTooSoon)),
            (u32::MAX, 0, Err(FailureReason::ExpiryTooFar)),
            (u32::MAX, u32::MAX, Err(FailureReason::ExpiryTooSoon)),
        ] {
            assert_eq!(policy().check_expiry(expiry, height), verdict);
        }
        assert_eq!(policy().sign_by_height(HEIGHT + 10), HEIGHT);
        assert_eq!(policy().sign_by_height(3), 0);
        // What may be signed now is what is not too soon now.
        let eager = Policy { min_cltv_expiry_ahead: 0, ..policy() };
        assert_eq!(eager.check_expiry(HEIGHT, HEIGHT), Err(FailureReason::ExpiryTooSoon));
        assert_eq!(eager.sign_by_height(HEIGHT + 1), HEIGHT);
    }
}
