//! What a claim or a commitment pays: as little as will do while there is time, all that it is worth when there is none.
//!
//! Far from the deadline a bid is bitcoind's estimate. Within [`limits::FEE_PRESSURE_BLOCKS`] of it the bid rises with the
//! cube of the time gone, little at first and steeply at last, and reaches what the deadline is worth while its own block is
//! still to come. A bid never falls, and never exceeds the budget.

use bitcoin::{Amount, FeeRate, Weight};
use channel::channel::PublishJob;
use channel::claim::{Claim, ClaimKind};

use crate::fees::{FeeBounds, fee_for, feerate_within};
use crate::limits;

/// What is bid for, and how much may be spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeeTarget {
    /// The height of the last block that is early enough; none where time costs nothing.
    pub deadline: Option<u32>,
    /// The chain's tip.
    pub tip: u32,
    /// bitcoind's estimate for [`target_blocks`].
    pub estimate: FeeRate,
    /// What the unconfirmed transaction pays that this bid would replace.
    pub last: Option<FeeRate>,
    /// Lowest and highest feerate.
    pub bounds: FeeBounds,
    /// The highest fee.
    pub budget: Amount,
    /// The highest fee that the deadline alone is worth, at most the budget: what is still ours when it is missed is no
    /// reason to hurry.
    pub pressing: Amount,
    /// What the transaction weighs; with its parent, if it is a child.
    pub weight: Weight,
}

/// What to do about a fee.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bid {
    /// Nothing is out: publish at this feerate.
    Publish(FeeRate),
    /// Replace what is out by this feerate.
    Replace(FeeRate),
    /// What is out pays enough, or as much as it may.
    Keep,
    /// Even the lowest feerate costs more than the budget: wait until fees fall or more claims share the cost.
    TooDear {
        /// The fee at the lowest feerate.
        lowest: Amount,
        /// The highest fee.
        budget: Amount,
    },
}

/// Blocks within which bitcoind should estimate a confirmation: half of the time left, so that there is time to raise the
/// fee.
pub fn target_blocks(deadline: Option<u32>, tip: u32) -> u16 {
    let Some(deadline) = deadline else { return limits::PATIENT_TARGET_BLOCKS };
    let half = deadline.saturating_sub(tip) / 2;
    u16::try_from(half).unwrap_or(u16::MAX).clamp(limits::URGENT_TARGET_BLOCKS, limits::PATIENT_TARGET_BLOCKS)
}

/// The feerate to pay now.
pub fn feerate(target: &FeeTarget) -> Bid {
    let affordable = feerate_within(target.budget, target.weight).min(target.bounds.ceiling());
    if affordable < target.bounds.floor() {
        let lowest = fee_for(target.bounds.floor(), target.weight);
        return Bid::TooDear { lowest, budget: target.budget };
    }
    let estimate = target.estimate.max(target.bounds.floor()).min(affordable);
    let wanted = match target.deadline {
        None => estimate,
        Some(deadline) => {
            let pressing = feerate_within(target.pressing, target.weight);
            under_pressure(deadline, target.tip, estimate, pressing.clamp(estimate, affordable))
        }
    };
    match target.last {
        None => Bid::Publish(wanted),
        Some(last) if wanted >= last.max(raised(last)) => Bid::Replace(wanted),
        Some(_) => Bid::Keep,
    }
}

/// The least feerate worth a replacement of what pays `last`: what nodes ask, and a tenth, so that a drifting estimate
/// does not replace everything at each block.
pub fn raised(last: FeeRate) -> FeeRate {
    let last = last.to_sat_per_kwu();
    let more = (last / 10).max(limits::INCREMENTAL_FEERATE.to_sat_per_kwu());
    FeeRate::from_sat_per_kwu(last.saturating_add(more))
}

/// Between `estimate` and `highest`, by the time gone.
fn under_pressure(deadline: u32, tip: u32, estimate: FeeRate, highest: FeeRate) -> FeeRate {
    // Blocks before the deadline's own, beyond the next one.
    let spare = deadline.saturating_sub(tip).saturating_sub(1);
    let gone = u128::from(limits::FEE_PRESSURE_BLOCKS.saturating_sub(spare));
    let whole = u128::from(limits::FEE_PRESSURE_BLOCKS);
    let (low, high) = (estimate.to_sat_per_kwu(), highest.to_sat_per_kwu());
    let span = u128::from(high.saturating_sub(low));
    // At most 64 bits and three times the few bits of a number of blocks.
    let more = span * gone.pow(3) / whole.pow(3);
    FeeRate::from_sat_per_kwu(low.saturating_add(u64::try_from(more).unwrap_or(u64::MAX)).min(high))
}

/// The highest fee for taking these outputs: half of what is ours, all of what would be a cheater's, since every
/// satoshi that a penalty does not take is the cheater's again, and for an HTLC that we offered at least
/// [`limits::RESOLUTION_BUDGET`], however small it is.
pub fn claim_budget<'a>(claims: impl Iterator<Item = &'a Claim>) -> Amount {
    let share = |claim: &Claim| {
        let value = claim.output.value;
        match claim.kind {
            ClaimKind::ToLocal
            | ClaimKind::ToRemote
            | ClaimKind::HtlcSuccess { .. }
            | ClaimKind::SecondStage { .. } => value / limits::BUDGET_DIVISOR,
            ClaimKind::HtlcTimeout { .. } => (value / limits::BUDGET_DIVISOR).max(limits::RESOLUTION_BUDGET),
            ClaimKind::PenaltyToLocal | ClaimKind::PenaltyHtlc | ClaimKind::PenaltySecondStage => value,
        }
    };
    claims.map(share).fold(Amount::ZERO, |sum, share| sum.checked_add(share).unwrap_or(Amount::MAX_MONEY))
}

/// The highest fee of a commitment's package of this weight: half of what is lost if it never confirms, and at least
/// [`limits::OBLIGING_FEERATE`] (or the lowest feerate, if that is higher) if it is published for the counterparty's sake.
pub fn commitment_budget(job: &PublishJob, weight: Weight, bounds: FeeBounds) -> Amount {
    let own = job.value_at_stake / limits::BUDGET_DIVISOR;
    match job.for_counterparty {
        true => own.max(fee_for(bounds.floor().max(limits::OBLIGING_FEERATE), weight)),
        false => own,
    }
}

/// The part of it that the deadline is worth.
pub fn pressing_budget(job: &PublishJob) -> Amount {
    job.value_in_time / limits::BUDGET_DIVISOR
}
