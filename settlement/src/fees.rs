//! Feerates from bitcoind's estimates, held between a floor and a ceiling.
//!
//! Invariant: what comes out lies within the bounds, whatever bitcoind says.

use bitcoin::{Amount, FeeRate, Weight};
use tokio::time::Instant;

use crate::limits;
use crate::rpc::{RpcClient, RpcError};

/// The lowest and highest feerate to pay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeeBounds {
    floor: FeeRate,
    ceiling: FeeRate,
}

impl FeeBounds {
    /// Bounds, if `floor` is not above `ceiling`.
    pub fn new(floor: FeeRate, ceiling: FeeRate) -> Option<Self> {
        (floor <= ceiling).then_some(Self { floor, ceiling })
    }

    /// The lowest feerate.
    pub fn floor(&self) -> FeeRate {
        self.floor
    }

    /// The highest feerate.
    pub fn ceiling(&self) -> FeeRate {
        self.ceiling
    }

    /// The feerate within the bounds that is nearest to `feerate`.
    pub fn clamp(&self, feerate: FeeRate) -> FeeRate {
        feerate.max(self.floor).min(self.ceiling)
    }
}

impl Default for FeeBounds {
    fn default() -> Self {
        Self { floor: limits::FEERATE_FLOOR, ceiling: limits::FEERATE_CEILING }
    }
}

/// The fee of `weight` at `feerate`, rounded up; the largest amount if it does not fit.
pub fn fee_for(feerate: FeeRate, weight: Weight) -> Amount {
    let product = u128::from(feerate.to_sat_per_kwu()) * u128::from(weight.to_wu());
    u64::try_from(product.div_ceil(1_000)).map_or(Amount::MAX, Amount::from_sat)
}

/// The highest whole feerate at which `weight` costs no more than `fee`.
pub fn feerate_within(fee: Amount, weight: Weight) -> FeeRate {
    let per_kwu = u128::from(fee.to_sat()) * 1_000 / u128::from(weight.to_wu().max(1));
    FeeRate::from_sat_per_kwu(u64::try_from(per_kwu).unwrap_or(u64::MAX))
}

/// An unconfirmed transaction that another replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unconfirmed {
    /// Its fee, with that of its descendants.
    pub fee: Amount,
    /// Its weight.
    pub weight: Weight,
}

/// What a replacement must outbid (BIP 125, rules 3, 4 and 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outbid {
    fee: Amount,
    /// Above every feerate replaced; zero if nothing is.
    feerate: FeeRate,
    incremental: FeeRate,
    any: bool,
}

impl Outbid {
    /// Of these transactions together; `None` if their fees sum up to more than there can be.
    pub(crate) fn of(replaced: &[Unconfirmed], incremental: FeeRate) -> Option<Self> {
        let mut outbid =
            Self { fee: Amount::ZERO, feerate: FeeRate::ZERO, incremental, any: !replaced.is_empty() };
        for old in replaced {
            outbid.fee = outbid.fee.checked_add(old.fee)?;
            let per_kwu = feerate_within(old.fee, old.weight).to_sat_per_kwu();
            outbid.feerate = outbid.feerate.max(FeeRate::from_sat_per_kwu(per_kwu.saturating_add(1)));
        }
        Some(outbid)
    }

    /// The least fee of a transaction of weight `own`, which comes in a package of weight `package`: the same if it comes
    /// alone.
    pub(crate) fn minimum(&self, own: Weight, package: Weight) -> Option<Amount> {
        if !self.any {
            return Some(Amount::ZERO);
        }
        let size = Weight::from_vb(package.to_vbytes_ceil())?;
        let outbid = self.fee.checked_add(fee_for(self.incremental, size))?;
        Some(outbid.max(fee_for(self.feerate, own)))
    }
}

/// Asks bitcoind for feerates.
pub struct FeeEstimator {
    bounds: FeeBounds,
    fallback: FeeRate,
    last: Option<(u16, Instant, FeeRate)>,
    /// When bitcoind last had no answer, if it has given none since.
    silent: Option<Instant>,
}

impl FeeEstimator {
    /// An estimator that answers `fallback`, held within `bounds`, while bitcoind has no estimate.
    pub fn new(bounds: FeeBounds, fallback: FeeRate) -> Self {
        Self { bounds, fallback, last: None, silent: None }
    }

    /// The bounds.
    pub fn bounds(&self) -> FeeBounds {
        self.bounds
    }

    /// A feerate likely to confirm within `target_blocks`, never below what the mempool accepts unless that is
    /// above the ceiling. An answer is used again for a while ([`limits::FEE_ESTIMATE_AGE`]).
    pub async fn estimate(&mut self, rpc: &RpcClient, target_blocks: u16) -> Result<FeeRate, RpcError> {
        if let Some((target, at, feerate)) = self.last
            && target == target_blocks
            && at.elapsed() < limits::FEE_ESTIMATE_AGE
        {
            return Ok(feerate);
        }
        let estimate = rpc.estimate_smart_fee(target_blocks).await?;
        let mempool = rpc.get_mempool_info().await?;
        let minimum = crate::rpc::feerate_from_per_kvb(mempool.mempoolminfee);
        let feerate = choose(self.bounds, self.fallback, estimate, minimum);
        self.last = Some((target_blocks, Instant::now(), feerate));
        Ok(feerate)
    }

    /// The same, but never an error and never long: while bitcoind cannot say, its last answer serves, or the fallback, and
    /// it is asked again only after [`limits::FEE_ESTIMATE_PAUSE`], so that a node that hangs holds nobody up twice.
    pub async fn estimate_or_last(&mut self, rpc: &RpcClient, target_blocks: u16) -> FeeRate {
        let paused = self.silent.is_some_and(|at| at.elapsed() < limits::FEE_ESTIMATE_PAUSE);
        if !paused {
            let estimate = self.estimate(rpc, target_blocks);
            if let Ok(Ok(feerate)) = tokio::time::timeout(limits::FEE_ESTIMATE_WAIT, estimate).await {
                self.silent = None;
                return feerate;
            }
            self.silent = Some(Instant::now());
        }
        self.last.map_or(self.bounds.clamp(self.fallback), |(_, _, feerate)| feerate)
    }
}

impl Default for FeeEstimator {
    fn default() -> Self {
        Self::new(FeeBounds::default(), limits::FEERATE_FALLBACK)
    }
}

fn choose(bounds: FeeBounds, fallback: FeeRate, estimate: Option<FeeRate>, minimum: FeeRate) -> FeeRate {
    bounds.clamp(estimate.unwrap_or(fallback).max(minimum))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(sat_per_kwu: u64) -> FeeRate {
        FeeRate::from_sat_per_kwu(sat_per_kwu)
    }

    #[test]
    fn a_feerate_stays_within_its_bounds() {
        let bounds = FeeBounds::new(rate(250), rate(1_000)).unwrap();
        let table = [
            // estimate, mempool minimum, expected
            (Some(500), 25, 500),
            (None, 25, 400),
            (Some(10), 25, 250),
            (Some(500), 700, 700),
            (Some(5_000), 25, 1_000),
            (Some(500), 9_000, 1_000),
        ];
        for (estimate, minimum, expected) in table {
            assert_eq!(
                choose(bounds, rate(400), estimate.map(rate), rate(minimum)),
                rate(expected),
                "{estimate:?} {minimum}"
            );
        }
        assert_eq!(FeeBounds::new(rate(2), rate(1)), None);
    }

    #[test]
    fn a_fee_is_rounded_up_and_never_overflows() {
        assert_eq!(fee_for(rate(253), Weight::from_wu(1)), Amount::from_sat(1));
        assert_eq!(fee_for(rate(1_000), Weight::from_wu(500)), Amount::from_sat(500));
        assert_eq!(fee_for(FeeRate::MAX, Weight::MAX), Amount::MAX);
    }

    #[test]
    fn a_replacement_pays_more_than_all_it_replaces_and_for_its_own_size() {
        let old = |fee, weight| Unconfirmed { fee: Amount::from_sat(fee), weight: Weight::from_wu(weight) };
        let minimum = |replaced: &[Unconfirmed], own, package| {
            let outbid = Outbid::of(replaced, rate(250)).unwrap();
            outbid.minimum(Weight::from_wu(own), Weight::from_wu(package)).unwrap().to_sat()
        };
        assert_eq!(minimum(&[], 400, 400), 0);
        // 101 virtual bytes of its own.
        assert_eq!(minimum(&[old(1_000, 1_000), old(500, 1_000)], 401, 401), 1_500 + 101);
        // A larger one must beat the highest feerate too: 1,001 sat for 1,000 weight units.
        assert_eq!(minimum(&[old(1_000, 1_000)], 4_000, 4_000), 4_004);
        // In a package its parent's size is paid for as well.
        assert_eq!(minimum(&[old(1_000, 1_000)], 400, 2_000), 1_500);
        assert_eq!(Outbid::of(&[old(u64::MAX, 1), old(1, 1)], rate(250)), None);
    }

    #[test]
    fn a_feerate_within_a_fee_never_costs_more() {
        for (fee, weight) in [(1_000, 561), (1, 4_000), (0, 1), (999_999, 400_000)] {
            let (fee, weight) = (Amount::from_sat(fee), Weight::from_wu(weight));
            let highest = feerate_within(fee, weight);
            assert!(fee_for(highest, weight) <= fee, "{fee} {weight}");
            let above = FeeRate::from_sat_per_kwu(highest.to_sat_per_kwu() + 1);
            assert!(fee_for(above, weight) > fee || highest == above, "{fee} {weight}");
        }
    }
}
