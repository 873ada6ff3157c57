//! Bids: never above the budget, never falling, and all that is allowed when the deadline is there.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bitcoin::{Amount, FeeRate, Weight};
use proptest::prelude::*;
use settlement::claim::{Bid, FeeTarget, feerate, raised, target_blocks};
use settlement::fees::{FeeBounds, fee_for, feerate_within};
use settlement::limits;

fn rate(sat_per_kwu: u64) -> FeeRate {
    FeeRate::from_sat_per_kwu(sat_per_kwu)
}

/// 1,000 weight units, a budget for 50,000 sat per 1000 of them, an estimate of 1,000.
fn target(deadline: Option<u32>, tip: u32) -> FeeTarget {
    FeeTarget {
        deadline,
        tip,
        estimate: rate(1_000),
        last: None,
        bounds: FeeBounds::default(),
        budget: Amount::from_sat(50_000),
        pressing: Amount::MAX_MONEY,
        weight: Weight::from_wu(1_000),
    }
}

#[test]
fn a_bid_rises_from_the_estimate_to_the_budget_as_the_deadline_nears() {
    let deadline = 1_000;
    let table = [
        // blocks left, bid
        (500, 1_000),
        (13, 1_000),
        (12, 1_028),
        (11, 1_226),
        (7, 7_125),
        (4, 21_671),
        (2, 38_742),
        // The next block is the last chance.
        (1, 50_000),
        (0, 50_000),
    ];
    for (left, expected) in table {
        let bid = feerate(&target(Some(deadline), deadline - left));
        assert_eq!(bid, Bid::Publish(rate(expected)), "{left} blocks left");
    }
    assert_eq!(feerate(&target(Some(deadline), deadline + 9)), Bid::Publish(rate(50_000)), "too late");
    assert_eq!(feerate(&target(None, deadline)), Bid::Publish(rate(1_000)), "no deadline");
}

#[test]
fn a_bid_replaces_only_what_pays_notably_less() {
    let with_last = |last| feerate(&FeeTarget { last: Some(rate(last)), ..target(None, 0) });
    assert_eq!(with_last(600), Bid::Replace(rate(1_000)));
    assert_eq!(with_last(750), Bid::Replace(rate(1_000)));
    assert_eq!(with_last(751), Bid::Keep, "less than the increment");
    assert_eq!(with_last(5_000), Bid::Keep, "a bid never falls");
    let urgent = |last| feerate(&FeeTarget { last: Some(rate(last)), ..target(Some(10), 9) });
    assert_eq!(urgent(40_000), Bid::Replace(rate(50_000)));
    assert_eq!(urgent(46_000), Bid::Keep, "less than a tenth");
    assert_eq!(urgent(50_000), Bid::Keep, "all that may be spent is bid");
    assert_eq!(raised(rate(1_000)), rate(1_250));
    assert_eq!(raised(rate(10_000)), rate(11_000));
}

#[test]
fn a_deadline_is_worth_no_more_than_what_is_lost_by_missing_it() {
    let bid = |pressing| {
        let pressing = Amount::from_sat(pressing);
        feerate(&FeeTarget { pressing, ..target(Some(10), 12) })
    };
    for (pressing, expected) in [(0, 1_000), (900, 1_000), (7_000, 7_000), (50_000, 50_000), (90_000, 50_000)]
    {
        assert_eq!(bid(pressing), Bid::Publish(rate(expected)), "{pressing} sat are worth it");
    }
}

#[test]
fn what_the_budget_cannot_pay_at_the_floor_is_too_dear() {
    let budget = Amount::from_sat(252);
    let poor = FeeTarget { budget, ..target(Some(10), 9) };
    assert_eq!(feerate(&poor), Bid::TooDear { lowest: Amount::from_sat(253), budget });
    let just = FeeTarget { budget: Amount::from_sat(253), ..poor };
    assert_eq!(feerate(&just), Bid::Publish(limits::FEERATE_FLOOR));
    let estimate = rate(1);
    assert_eq!(
        feerate(&FeeTarget { estimate, ..target(None, 0) }),
        Bid::Publish(limits::FEERATE_FLOOR),
        "an estimate below the floor"
    );
    let rich = FeeTarget { budget: Amount::MAX_MONEY, ..target(Some(10), 9) };
    assert_eq!(feerate(&rich), Bid::Publish(limits::FEERATE_CEILING));
}

#[test]
fn the_estimate_is_for_half_of_the_time_left() {
    let table =
        [(None, 144), (Some(1_000), 144), (Some(180), 40), (Some(110), 5), (Some(101), 2), (Some(1), 2)];
    for (deadline, expected) in table {
        assert_eq!(target_blocks(deadline, 100), expected, "{deadline:?}");
    }
}

fn any_target() -> impl Strategy<Value = FeeTarget> {
    (
        prop::option::of(0u32..2_000),
        0u32..2_000,
        0u64..200_000,
        prop::option::of(0u64..200_000),
        (0u64..2_000, 0u64..200_000),
        (0u64..10_000_000, 0u64..10_000_000),
        1u64..400_000,
    )
        .prop_map(|(deadline, tip, estimate, last, (floor, more), (budget, pressing), weight)| {
            FeeTarget {
                deadline,
                tip,
                estimate: rate(estimate),
                last: last.map(rate),
                bounds: FeeBounds::new(rate(floor), rate(floor + more)).unwrap(),
                budget: Amount::from_sat(budget),
                pressing: Amount::from_sat(pressing),
                weight: Weight::from_wu(weight),
            }
        })
}

/// What is paid after the bid; `None` if nothing is.
fn paid(target: &FeeTarget) -> Option<FeeRate> {
    match feerate(target) {
        Bid::Publish(feerate) | Bid::Replace(feerate) => Some(feerate),
        Bid::Keep => target.last,
        Bid::TooDear { .. } => None,
    }
}

proptest! {
    #[test]
    fn a_bid_is_within_bounds_and_budget_and_a_replacement_is_worth_it(target in any_target()) {
        match feerate(&target) {
            Bid::Publish(feerate) => {
                prop_assert_eq!(target.last, None);
                prop_assert_eq!(target.bounds.clamp(feerate), feerate);
                prop_assert!(fee_for(feerate, target.weight) <= target.budget);
            }
            Bid::Replace(feerate) => {
                prop_assert!(feerate >= raised(target.last.unwrap()));
                prop_assert_eq!(target.bounds.clamp(feerate), feerate);
                prop_assert!(fee_for(feerate, target.weight) <= target.budget);
            }
            Bid::Keep => prop_assert!(target.last.is_some()),
            Bid::TooDear { lowest, budget } => prop_assert!(lowest > budget),
        }
    }

    #[test]
    fn bids_rise_block_by_block_as_the_deadline_nears(mut target in any_target(), deadline in 0u32..2_000) {
        target.deadline = Some(deadline);
        target.last = None;
        let mut last = None;
        for tip in deadline.saturating_sub(40)..=deadline + 2 {
            // Without a transaction out, and with the one of the block before.
            let alone = paid(&FeeTarget { tip, last: None, ..target });
            let following = paid(&FeeTarget { tip, last, ..target });
            prop_assert!(following >= last);
            prop_assert!(following <= alone, "no more than a first bid at this height would be");
            last = following;
        }
        if last.is_some() {
            let affordable = feerate_within(target.budget, target.weight).min(target.bounds.ceiling());
            let estimate = target.estimate.max(target.bounds.floor()).min(affordable);
            let all = feerate_within(target.pressing, target.weight).clamp(estimate, affordable);
            let last_chance = paid(&FeeTarget { tip: deadline.saturating_sub(1), ..target });
            prop_assert_eq!(last_chance, Some(all));
        }
    }
}
