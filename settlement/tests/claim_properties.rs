//! Whatever is ours on the chain: groups keep their rules, and every transaction built of them is verified, accepted by
//! Bitcoin's own interpreter, and within its budget.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeSet;

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash;
use bitcoin::{Amount, FeeRate, OutPoint, Txid, Weight};
use channel::claim::{Contest, SpendPath};
use channel::commitment::HtlcDirection::{Offered, Received};
use channel::commitment::HtlcSpec;
use channel::ids::OwnerId;
use common::onchain::{EXPIRY, HEIGHT, channel, claim_job, claim_request, claimed_outputs, htlc, two_htlcs};
use common::{KeyCoins, hub, hub_script, interpreter_accepts};
use proptest::prelude::*;
use settlement::claim::{
    Bid, BuildError, ClaimRequest, ContestClass, FeeTarget, Group, OwnedClaim, build, claim_budget, feerate,
    group,
};
use settlement::fees::{FeeBounds, fee_for};
use settlement::limits;
use settlement::verify::BatchCoin;

/// The rules that a group keeps, whatever the claims.
fn check_group(group: &Group, tip: u32) {
    let claims = || group.claims().iter().map(|owned| &owned.claim);
    let first = &group.claims()[0];
    let class = ContestClass::of(first.claim.contest, tip);
    for owned in group.claims() {
        let claim = &owned.claim;
        assert!(claim.earliest_height <= tip + 1);
        assert_eq!(ContestClass::of(claim.contest, tip), class);
        assert_eq!(claim.fixed_version(), first.claim.fixed_version());
        if claim.fixed_version().is_some() {
            assert_eq!(claim.lock_time(), first.claim.lock_time());
        }
        if class == ContestClass::Now {
            assert_eq!(owned.owner, first.owner);
        }
        match (claim.deadline, group.deadline()) {
            (None, None) => {}
            (Some(deadline), Some(nearest)) => {
                assert!(deadline - nearest < limits::DEADLINE_SPREAD_BLOCKS);
            }
            other => panic!("{other:?}"),
        }
    }
    let most =
        if class == ContestClass::Now { limits::MAX_CONTESTED_CLAIMS } else { limits::MAX_GROUPED_CLAIMS };
    assert!(claims().count() <= most);
    assert!(group.weight(&hub_script()) <= limits::maximum_weight(group.version()));
    assert!(
        claims().all(|claim| claim.lock_time().to_consensus_u32() <= group.lock_time().to_consensus_u32())
    );
}

/// Every claim whose time has come is in one group, and no other is in any.
fn check_groups(groups: &[Group], claims: &[OwnedClaim], tip: u32) {
    groups.iter().for_each(|group| check_group(group, tip));
    let grouped: Vec<OutPoint> = groups.iter().flat_map(Group::outpoints).collect();
    let distinct: BTreeSet<OutPoint> = grouped.iter().copied().collect();
    assert_eq!(grouped.len(), distinct.len(), "an output is in two groups");
    let ripe = claims.iter().filter(|owned| owned.claim.earliest_height <= tip + 1);
    assert_eq!(distinct, ripe.map(|owned| owned.claim.outpoint).collect());
}

/// A claim of any kind with everything about its time changed: nothing signs it.
#[derive(Debug, Clone)]
struct Times {
    template: usize,
    owner: u64,
    earliest: u32,
    deadline: Option<u32>,
    contest: Contest,
    lock_time: u32,
}

fn times() -> impl Strategy<Value = Times> {
    let contest = prop_oneof![
        Just(Contest::Never),
        Just(Contest::Now),
        (80u32..200).prop_map(|height| Contest::From { height })
    ];
    (0usize..64, 0u64..3, 0u32..110, prop::option::of(100u32..160), contest, 0u32..3).prop_map(
        |(template, owner, earliest, deadline, contest, lock_time)| Times {
            template,
            owner,
            earliest,
            deadline,
            contest,
            lock_time,
        },
    )
}

fn synthetic(templates: &[OwnedClaim], number: usize, times: &Times) -> OwnedClaim {
    let mut owned = templates[times.template % templates.len()].clone();
    let claim = &mut owned.claim;
    let mut txid = [0; 32];
    txid[..8].copy_from_slice(&number.to_be_bytes());
    claim.outpoint = OutPoint { txid: Txid::from_byte_array(txid), vout: 0 };
    owned.owner = OwnerId(times.owner);
    claim.earliest_height = times.earliest;
    claim.deadline = times.deadline;
    claim.contest = times.contest;
    let to = LockTime::from_consensus(times.lock_time);
    match &mut claim.path {
        SpendPath::Direct { lock_time, .. } | SpendPath::HtlcTransaction { lock_time, .. } => *lock_time = to,
    }
    owned
}

/// The hub's outputs of one channel's commitment.
#[derive(Debug, Clone)]
struct Plan {
    whose: usize,
    htlcs: Vec<(bool, u32, u32)>,
}

fn plan() -> impl Strategy<Value = Plan> {
    let htlcs = prop::collection::vec((any::<bool>(), 354u32..30_000, 0u32..30), 0..9);
    (0usize..3, htlcs).prop_map(|(whose, htlcs)| Plan { whose, htlcs })
}

fn claims_of(number: u32, plan: &Plan) -> Vec<OwnedClaim> {
    let htlcs: Vec<HtlcSpec> = (0u64..)
        .zip(&plan.htlcs)
        .map(|(id, (offered, amount, later))| {
            let mut htlc = htlc(if *offered { Offered } else { Received }, id, *amount);
            htlc.cltv_expiry = EXPIRY + later;
            htlc
        })
        .collect();
    let channel = channel(number);
    match plan.whose {
        0 => channel.own_claims(htlcs),
        1 => channel.their_claims(htlcs),
        _ => channel.penalties(htlcs),
    }
}

/// Builds a group at its bid, and checks whatever comes of it.
fn check_build(group: &Group, tip: u32, estimate: FeeRate, coins: &[BatchCoin]) {
    let script = hub_script();
    let target = FeeTarget {
        deadline: group.deadline(),
        tip,
        estimate,
        last: None,
        bounds: FeeBounds::default(),
        budget: group.budget(),
        pressing: group.budget(),
        weight: group.weight(&script),
    };
    let feerate = match feerate(&target) {
        Bid::Publish(feerate) => feerate,
        Bid::TooDear { lowest, budget } => {
            assert!(lowest > budget);
            return;
        }
        other @ (Bid::Replace(_) | Bid::Keep) => panic!("{other:?} with nothing out"),
    };
    let request = ClaimRequest { coins, feerate, ..claim_request(group, tip, &script) };
    let cost = |owned: &OwnedClaim| {
        let paired = owned.claim.paired_output().map_or(Weight::ZERO, |_| Weight::from_wu(43 * 4));
        fee_for(feerate, owned.claim.input_weight() + paired)
    };
    let share = |owned: &OwnedClaim| claim_budget(std::iter::once(&owned.claim));
    match build(&request, &hub(), &KeyCoins::new()) {
        Ok(built) => {
            let job = claim_job(&built.job).clone();
            let kept: BTreeSet<OutPoint> = built.claimed.iter().copied().collect();
            for owned in group.claims() {
                let economic = cost(owned) <= share(owned);
                assert_eq!(kept.contains(&owned.claim.outpoint), economic);
                assert_eq!(built.left_out.contains(&owned.claim.outpoint), !economic);
            }
            assert!(built.fee <= group.budget() && built.fee <= claim_budget(job.claims.iter()));
            assert!(job.transaction.weight() <= built.weight);
            assert!(interpreter_accepts(&job.transaction, &claimed_outputs(&job)));
            let verified = built.job.verify().unwrap().single().unwrap();
            assert_eq!(verified.fees().total, built.fee);
        }
        Err(BuildError::Uneconomic) => {
            let worth: Vec<&OwnedClaim> =
                group.claims().iter().filter(|owned| cost(owned) <= share(owned)).collect();
            let value: Amount = worth.iter().map(|owned| owned.claim.output.value).sum();
            let overhead = fee_for(feerate, Weight::from_wu(250)) + script.minimal_non_dust();
            let costs: Amount = worth.iter().map(|owned| cost(owned)).sum();
            assert!(worth.is_empty() || !group.needs_coins() && value < costs + overhead);
            assert!(worth.is_empty() || !group.may_need_coins() || coins.is_empty());
        }
        Err(BuildError::NotEnoughCoins { .. }) => assert!(group.may_need_coins()),
        Err(BuildError::OverBudget { needed, allowed }) => assert!(needed > allowed),
        Err(other) => panic!("{other}"),
    }
}

proptest! {
    #[test]
    fn any_claims_are_grouped_by_the_rules(all in prop::collection::vec(times(), 0..250), tip in 60u32..140) {
        let channel = channel(0);
        let templates = [
            channel.own_claims(two_htlcs()),
            channel.their_claims(two_htlcs()),
            channel.penalties(two_htlcs()),
        ]
        .concat();
        let claims: Vec<OwnedClaim> =
            all.iter().enumerate().map(|(number, times)| synthetic(&templates, number, times)).collect();
        check_groups(&group(&claims, tip), &claims, tip);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_is_built_is_verified_and_accepted_within_its_budget(
        plans in prop::collection::vec(plan(), 1..4),
        tip in prop_oneof![HEIGHT..HEIGHT + 200, EXPIRY - 20..EXPIRY + 40, HEIGHT + 2_000..HEIGHT + 2_200],
        estimate in prop_oneof![253u64..2_000, 253u64..60_000],
        coins in prop::collection::vec((any::<bool>(), 400u64..60_000), 0..12),
    ) {
        let claims: Vec<OwnedClaim> =
            (0u32..).zip(&plans).flat_map(|(number, plan)| claims_of(number, plan)).collect();
        let keys = KeyCoins::new();
        let coins: Vec<BatchCoin> = (0u32..)
            .zip(coins)
            .map(|(number, (taproot, value))| {
                if taproot { keys.p2tr(number, value) } else { keys.p2wpkh(number, value) }
            })
            .collect();
        let groups = group(&claims, tip);
        check_groups(&groups, &claims, tip);
        for group in &groups {
            check_build(group, tip, FeeRate::from_sat_per_kwu(estimate), &coins);
        }
    }
}
