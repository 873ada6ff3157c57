//! Claims on their way into transactions: grouped, built, verified, and accepted by Bitcoin's own interpreter.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeSet;

use bitcoin::transaction::Version;
use bitcoin::{Amount, FeeRate};
use channel::claim::{ClaimKind, Contest};
use channel::commitment::HtlcDirection::{Offered, Received};
use common::onchain::{
    EXPIRY, HEIGHT, SECOND_HEIGHT, build, channel, claim_job, claim_request, claimed_outputs, htlc, ripe,
    two_htlcs,
};
use common::{KeyCoins, hub, hub_script, interpreter_accepts, sat};
use settlement::claim::{self, BuildError, Built, ClaimRequest, ContestClass, Group, OwnedClaim, group};
use settlement::fees::{Unconfirmed, fee_for, feerate_within};
use settlement::limits;
use settlement::verify::BatchCoin;

/// Coins of both kinds, each enough for any fee of these tests.
fn coins() -> Vec<BatchCoin> {
    let coins = KeyCoins::new();
    vec![coins.p2wpkh(1, 70_000), coins.p2tr(2, 80_000)]
}

/// Builds, verifies and interprets; what was built.
fn take(group: &Group, tip: u32) -> Built {
    let built = build(group, tip, &coins());
    let job = claim_job(&built.job).clone();
    assert!(interpreter_accepts(&job.transaction, &claimed_outputs(&job)));
    let weight = job.transaction.weight();
    assert!(weight <= built.weight && built.weight <= group.weight(&hub_script()), "{weight}");
    let verified = built.job.clone().verify().unwrap().single().unwrap();
    assert_eq!(verified.fees().total, built.fee);
    assert!(built.fee >= fee_for(FeeRate::from_sat_per_kwu(625), weight));
    built
}

fn kinds(group: &Group) -> Vec<ClaimKind> {
    group.claims().iter().map(|owned| owned.claim.kind).collect()
}

#[test]
fn every_kind_of_claim_is_built_verified_and_accepted_by_the_interpreter() {
    let channel = channel(0);
    let sets =
        [channel.own_claims(two_htlcs()), channel.their_claims(two_htlcs()), channel.penalties(two_htlcs())];
    let mut taken = BTreeSet::new();
    for claims in sets {
        let tip = ripe(&claims);
        for group in group(&claims, tip) {
            take(&group, tip);
            taken.extend(kinds(&group));
        }
        assert_eq!(
            group(&claims, tip).iter().flat_map(|group| group.outpoints().collect::<Vec<_>>()).count(),
            claims.len()
        );
    }
    use ClaimKind::*;
    let all = [
        ToLocal,
        ToRemote,
        HtlcSuccess { id: 0 },
        HtlcSuccess { id: 1 },
        HtlcTimeout { id: 0 },
        HtlcTimeout { id: 1 },
        SecondStage { id: 0 },
        SecondStage { id: 1 },
        PenaltyToLocal,
        PenaltyHtlc,
        PenaltySecondStage,
    ];
    assert_eq!(taken, BTreeSet::from(all));
}

#[test]
fn htlc_transactions_share_one_of_version_3_with_coins_and_change() {
    let htlcs = (0..20).map(|id| htlc(Received, id, 30_000)).collect();
    let claims = channel(0).own_claims(htlcs);
    let groups = group(&claims, HEIGHT);
    let [success] = &groups[..] else { panic!("{} groups", groups.len()) };
    let built = take(success, HEIGHT);
    let transaction = &claim_job(&built.job).transaction;
    assert_eq!(transaction.version, Version::non_standard(3));
    // The smallest coin that suffices, and its change.
    assert_eq!((transaction.input.len(), transaction.output.len()), (21, 21));
    assert_eq!(built.coins, [coins()[0].outpoint]);
    assert_eq!(transaction.output[20].value, sat(70_000) - built.fee);
    assert_eq!(transaction.output[20].script_pubkey, hub_script());
    let alone = take(&group(&claims[1..2], HEIGHT)[0], HEIGHT);
    // Coin, change and what every transaction has are there once.
    let once = Amount::from_sat(19 * 120);
    assert!(built.fee + once < alone.fee * 20, "{} instead of 20 times {}", built.fee, alone.fee);
}

#[test]
fn direct_claims_share_a_transaction_across_channels_and_pay_themselves() {
    let claims: Vec<OwnedClaim> =
        (0..10).flat_map(|number| channel(number).their_claims(vec![htlc(Offered, 0, 50_000)])).collect();
    // To remote: never contested. HTLCs with preimages: not before their expiry.
    let groups = group(&claims, HEIGHT);
    let classes: Vec<(ContestClass, usize)> =
        groups.iter().map(|group| (group.class(), group.claims().len())).collect();
    let bucket = (EXPIRY + 1) / limits::CONTEST_BUCKET_BLOCKS;
    assert_eq!(classes, [(ContestClass::Never, 10), (ContestClass::From { bucket }, 10)]);
    for group in &groups {
        let built = take(group, HEIGHT);
        let job = claim_job(&built.job);
        assert_eq!((job.transaction.output.len(), job.coins.len()), (1, 0));
    }
    // Once the expiry has come each counterparty can only disturb its own.
    let groups = group(&claims, EXPIRY);
    let contested = groups.iter().filter(|group| group.class() == ContestClass::Now);
    assert_eq!(contested.map(|group| group.claims().len()).collect::<Vec<_>>(), [1; 10]);
}

#[test]
fn a_penalty_takes_everything_in_few_transactions_and_apart_by_contest() {
    let htlcs = (0..100).map(|id| htlc(if id % 2 == 0 { Offered } else { Received }, id, 9_000)).collect();
    let claims = channel(0).penalties(htlcs);
    let groups = group(&claims, SECOND_HEIGHT);
    for group in &groups {
        take(group, SECOND_HEIGHT);
    }
    let sizes = |wanted: fn(&ClaimKind) -> bool| -> Vec<usize> {
        let of = groups.iter().filter(|group| kinds(group).iter().any(wanted));
        of.map(|group| group.claims().len()).collect()
    };
    // Offered by the cheater: its own again only after the expiry. Received by it: it may hold the preimages.
    assert_eq!(sizes(|kind| *kind == ClaimKind::PenaltyHtlc), [50, 32, 18]);
    assert_eq!(sizes(|kind| *kind == ClaimKind::PenaltySecondStage), [100]);
    assert_eq!(sizes(|kind| *kind == ClaimKind::PenaltyToLocal), [1]);
}

#[test]
fn a_claim_before_its_time_is_in_no_group() {
    let claims = channel(0).own_claims(two_htlcs());
    let at = |tip| -> Vec<ClaimKind> {
        let mut kinds: Vec<_> = group(&claims, tip).iter().flat_map(kinds).collect();
        kinds.sort();
        kinds
    };
    let success = ClaimKind::HtlcSuccess { id: 1 };
    assert_eq!(at(HEIGHT), [success]);
    assert_eq!(at(EXPIRY - 1), [success]);
    assert_eq!(at(EXPIRY), [success, ClaimKind::HtlcTimeout { id: 0 }]);
    let delayed = HEIGHT + 2_016;
    assert!(!at(delayed - 2).contains(&ClaimKind::ToLocal));
    assert!(at(delayed - 1).contains(&ClaimKind::ToLocal));
    assert!(at(SECOND_HEIGHT + 2_015).contains(&ClaimKind::SecondStage { id: 0 }));
    let twice = [claims.clone(), claims].concat();
    assert_eq!(group(&twice, HEIGHT)[0].claims().len(), 1, "an output named twice is taken once");
}

#[test]
fn what_costs_more_than_it_may_is_left_out_by_name_and_comes_back_when_fees_fall() {
    let htlcs = vec![htlc(Offered, 0, 50_000), htlc(Offered, 1, 800), htlc(Offered, 2, 60_000)];
    let claims = channel(0).their_claims(htlcs);
    let groups = group(&claims, HEIGHT);
    let group = groups.iter().find(|group| group.class() != ContestClass::Never).unwrap();
    let small = claims.iter().find(|owned| owned.claim.output.value == sat(800)).unwrap().claim.outpoint;
    let script = hub_script();
    let built = |per_kwu| {
        let feerate = FeeRate::from_sat_per_kwu(per_kwu);
        let request = ClaimRequest { feerate, ..claim_request(group, HEIGHT, &script) };
        claim::build(&request, &hub(), &KeyCoins::new())
    };
    let low = built(625).unwrap();
    assert_eq!((low.claimed.len(), low.left_out.len()), (3, 0));
    let high = built(5_000).unwrap();
    assert_eq!((high.claimed.len(), &high.left_out[..]), (2, &[small][..]));
    assert!(!high.claimed.contains(&small));
    high.job.verify().unwrap();
    assert_eq!(built(100_000), Err(BuildError::Uneconomic));
}

#[test]
fn a_fee_stops_at_the_budget_and_a_replacement_pays_what_bip_125_asks() {
    let claims = channel(0).their_claims(vec![htlc(Offered, 0, 20_000)]);
    let groups = group(&claims, HEIGHT);
    let group = groups.iter().find(|group| group.class() != ContestClass::Never).unwrap();
    assert_eq!(group.budget(), sat(10_000), "half of it");
    let script = hub_script();
    let built = |per_kwu, budget, replaces: &[Unconfirmed]| {
        let feerate = FeeRate::from_sat_per_kwu(per_kwu);
        let request = ClaimRequest { feerate, budget, replaces, ..claim_request(group, HEIGHT, &script) };
        claim::build(&request, &hub(), &KeyCoins::new())
    };
    let all = Amount::MAX_MONEY;
    let first = built(625, all, &[]).unwrap();
    let again = built(625, all, &[first.as_unconfirmed()]).unwrap();
    assert_eq!(again.fee, first.fee + Amount::from_sat(again.weight.to_vbytes_ceil()));
    again.job.verify().unwrap();
    let dear = built(15_000, all, &[]).unwrap();
    assert_eq!(dear.fee, fee_for(FeeRate::from_sat_per_kwu(15_000), dear.weight));
    let capped = built(15_000, sat(3_000), &[]).unwrap();
    assert_eq!(capped.fee, sat(3_000));
    capped.job.clone().verify().unwrap();
    let needed = sat(3_000) + Amount::from_sat(capped.weight.to_vbytes_ceil());
    assert_eq!(
        built(15_000, sat(3_000), &[capped.as_unconfirmed()]),
        Err(BuildError::OverBudget { needed, allowed: sat(3_000) })
    );
    assert!(matches!(built(625, sat(10), &[]), Err(BuildError::OverBudget { .. })));
}

#[test]
fn a_penalty_may_spend_the_whole_output_on_fees() {
    let claims = channel(0).penalties(vec![htlc(Received, 0, 20_000)]);
    let groups = group(&claims, HEIGHT);
    let group = groups.iter().find(|group| kinds(group) == [ClaimKind::PenaltyHtlc]).unwrap();
    assert_eq!((group.budget(), group.class()), (sat(20_000), ContestClass::Now));
    let script = hub_script();
    // What a bid is at the deadline: all that the budget allows.
    let feerate = feerate_within(group.budget(), group.weight(&script));
    let request = ClaimRequest { feerate, ..claim_request(group, HEIGHT, &script) };
    let built = claim::build(&request, &hub(), &KeyCoins::new()).unwrap();
    assert!(built.fee > sat(19_000), "{}", built.fee);
    built.job.verify().unwrap();
}

#[test]
fn coins_that_do_not_suffice_are_named_as_missing_and_small_ones_are_added_up() {
    let claims = channel(0).own_claims(vec![htlc(Received, 0, 60_000)]);
    let groups = group(&claims, HEIGHT);
    let script = hub_script();
    let keys = KeyCoins::new();
    let built = |coins: &[BatchCoin]| {
        let feerate = FeeRate::from_sat_per_kwu(5_000);
        let request = ClaimRequest { coins, feerate, ..claim_request(&groups[0], HEIGHT, &script) };
        claim::build(&request, &hub(), &keys)
    };
    assert!(matches!(built(&[]), Err(BuildError::NotEnoughCoins { missing }) if missing > sat(4_000)));
    let small: Vec<BatchCoin> = (0..5).map(|number| keys.p2tr(number, 3_500)).collect();
    assert!(matches!(built(&small[..1]), Err(BuildError::NotEnoughCoins { .. })));
    let enough = built(&small).unwrap();
    assert!(enough.coins.len() > 1);
    let job = claim_job(&enough.job).clone();
    assert!(interpreter_accepts(&job.transaction, &claimed_outputs(&job)));
    enough.job.verify().unwrap();
    // What is left over is too small for an output of its own: it goes to the fee.
    let more_coins = u64::try_from(enough.coins.len()).unwrap() - 1;
    let weight = enough.weight.to_wu() - 4 * 43 - more_coins * (4 * 41 + 66);
    let exact = keys.p2tr(9, weight * 5 + 100);
    let without = built(&[exact]).unwrap();
    assert_eq!(claim_job(&without.job).transaction.output.len(), 1);
    without.job.verify().unwrap();
}

#[test]
fn an_offered_htlc_is_taken_back_even_where_it_is_worth_less_than_its_fee() {
    let (keys, script) = (KeyCoins::new(), hub_script());
    let channel = channel(0);
    let claims =
        [channel.own_claims(vec![htlc(Offered, 0, 400)]), channel.their_claims(vec![htlc(Received, 0, 400)])];
    for claims in claims {
        let groups = group(&claims, EXPIRY);
        let timeout = groups.iter().find(|group| kinds(group) == [ClaimKind::HtlcTimeout { id: 0 }]).unwrap();
        assert_eq!(timeout.budget(), limits::RESOLUTION_BUDGET);
        let built = |coins: &[BatchCoin]| {
            let request = ClaimRequest { coins, ..claim_request(timeout, EXPIRY, &script) };
            claim::build(&request, &hub(), &keys)
        };
        assert!(built(&[]).is_err());
        let built = built(&[keys.p2tr(1, 9_000)]).unwrap();
        let job = claim_job(&built.job).clone();
        assert!(interpreter_accepts(&job.transaction, &claimed_outputs(&job)));
        assert!(built.fee > sat(400) && built.fee <= limits::RESOLUTION_BUDGET, "{}", built.fee);
        built.job.verify().unwrap();
    }
    // Nobody waits for what was received: it is worth its fee or it is not.
    let claims = channel.their_claims(vec![htlc(Offered, 0, 400)]);
    let groups = group(&claims, HEIGHT);
    let success = groups.iter().find(|group| kinds(group) == [ClaimKind::HtlcSuccess { id: 0 }]).unwrap();
    let coins = [keys.p2tr(1, 9_000)];
    let request = ClaimRequest { coins: &coins, ..claim_request(success, HEIGHT, &script) };
    assert_eq!(claim::build(&request, &hub(), &keys), Err(BuildError::Uneconomic));
}

#[test]
fn claims_of_other_lock_times_or_far_deadlines_do_not_share() {
    let mut later = htlc(Offered, 1, 50_000);
    later.cltv_expiry = EXPIRY + 1;
    let mut far = htlc(Received, 2, 50_000);
    far.cltv_expiry = EXPIRY + limits::DEADLINE_SPREAD_BLOCKS;
    let claims = channel(0).own_claims(vec![
        htlc(Offered, 0, 50_000),
        later,
        htlc(Received, 3, 50_000),
        htlc(Received, 4, 50_000),
        far,
    ]);
    let stages: Vec<OwnedClaim> =
        claims.into_iter().filter(|owned| owned.claim.paired_output().is_some()).collect();
    let mut found: Vec<Vec<ClaimKind>> = group(&stages, EXPIRY + 1).iter().map(kinds).collect();
    found.iter_mut().for_each(|kinds| kinds.sort());
    found.sort();
    let success = |id| ClaimKind::HtlcSuccess { id };
    let timeout = |id| ClaimKind::HtlcTimeout { id };
    assert_eq!(found, [vec![success(2)], vec![success(3), success(4)], vec![timeout(0)], vec![timeout(1)]]);
    // On the other's commitment a lock time is only a least one: timeouts share.
    let mut later = htlc(Received, 1, 50_000);
    later.cltv_expiry = EXPIRY + 1;
    let claims = channel(0).their_claims(vec![htlc(Received, 0, 50_000), later]);
    let groups = group(&claims, EXPIRY + 1);
    let timeouts = groups.iter().find(|group| group.class() == ContestClass::Now).unwrap();
    assert_eq!(timeouts.claims().len(), 2);
    assert_eq!(timeouts.lock_time().to_consensus_u32(), EXPIRY + 1);
    take(timeouts, EXPIRY + 1);
}

#[test]
fn the_same_request_gives_the_same_transaction() {
    let claims = channel(0).own_claims(two_htlcs());
    let mut reversed = claims.clone();
    reversed.reverse();
    let (one, other) = (group(&claims, EXPIRY), group(&reversed, EXPIRY));
    assert_eq!(one, other);
    let built = |groups: &[Group]| build(&groups[0], EXPIRY, &coins());
    assert_eq!(built(&one), built(&other));
}

#[test]
fn contest_follows_the_tip() {
    let height = 1_000;
    let class = |contest, tip| ContestClass::of(contest, tip);
    assert_eq!(class(Contest::Never, 999_999), ContestClass::Never);
    assert_eq!(class(Contest::Now, 0), ContestClass::Now);
    let bucket = height / limits::CONTEST_BUCKET_BLOCKS;
    assert_eq!(class(Contest::From { height }, 998), ContestClass::From { bucket });
    assert_eq!(class(Contest::From { height }, 999), ContestClass::Now);
}

/// A balance of this size in the other side's commitment.
fn balance_of(number: u32, value: u64) -> OwnedClaim {
    let all = channel(number).their_claims(vec![]);
    let mut owned = all.into_iter().find(|owned| owned.claim.kind == ClaimKind::ToRemote).unwrap();
    owned.claim.output.value = sat(value);
    owned
}

#[test]
fn a_balance_too_small_for_an_output_of_its_own_is_taken_with_a_coin_or_in_company() {
    let (script, keys) = (hub_script(), KeyCoins::new());
    let floor = limits::FEERATE_FLOOR;
    let coins = [keys.p2tr(1, 9_000)];
    let built = |group: &Group, coins: &[BatchCoin]| {
        let request = ClaimRequest { coins, feerate: floor, ..claim_request(group, HEIGHT, &script) };
        claim::build(&request, &hub(), &keys)
    };
    let accepted = |built: &claim::Built| {
        let job = claim_job(&built.job).clone();
        built.job.clone().verify().unwrap();
        assert!(interpreter_accepts(&job.transaction, &claimed_outputs(&job)), "{job:?}");
        job.transaction.output[0].value
    };
    let alone = group(&[balance_of(0, 449)], HEIGHT).remove(0);
    assert!(matches!(built(&alone, &[]), Err(BuildError::OverBudget { .. })), "dust would be left");
    let with_coin = built(&alone, &coins).unwrap();
    assert!(with_coin.fee <= alone.budget() && accepted(&with_coin) > sat(9_000));
    let company = group(&[balance_of(0, 449), balance_of(1, 449)], HEIGHT).remove(0);
    let together = built(&company, &[]).unwrap();
    assert!(together.coins.is_empty() && accepted(&together) >= script.minimal_non_dust());

    // Half of the least balance pays no coin's input: as a last resort all of it may, but for something left.
    let least = group(&[balance_of(0, 354)], HEIGHT).remove(0);
    assert!(built(&least, &coins).is_err());
    let last = built(&least.as_last_resort(floor), &coins).unwrap();
    assert!(last.fee > least.budget() && accepted(&last) > sat(9_000));
    let worthless = group(&[balance_of(0, 60)], HEIGHT).remove(0);
    assert!(built(&worthless.as_last_resort(floor), &coins).is_err(), "less than its own input costs");
}

#[test]
fn what_can_be_taken_by_itself_at_the_lowest_feerate_is_never_small() {
    let script = hub_script();
    for value in [354, 400, 449, 452, 460, 500, 1_000, 100_000] {
        let owned = balance_of(0, value);
        let group = group(std::slice::from_ref(&owned), HEIGHT).remove(0);
        let floor = limits::FEERATE_FLOOR;
        let last = group.as_last_resort(floor);
        let request = ClaimRequest { feerate: floor, ..claim_request(&last, HEIGHT, &script) };
        let alone = claim::build(&request, &hub(), &KeyCoins::new());
        assert_eq!(alone.is_err(), claim::is_small(&owned.claim, &script, floor), "{value}: {alone:?}");
    }
}
