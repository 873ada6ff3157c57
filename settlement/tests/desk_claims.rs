//! Claims over a chain in memory: when they leave, in what company, and what becomes of them when the chain changes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use bitcoin::{Amount, Transaction};
use channel::claim::{Claim, ClaimKind};
use channel::event::ChainEvent;
use channel::ids::OwnerId;
use common::pair::{Commitment, End, Htlc, Pair};
use common::rig::{Rig, events, strangers_payment};
use common::settling::{channel, claim_state, claims, forgotten, give, package, settle, spends};
use common::{interpreter_accepts, sat};
use settlement::broadcast::PublishError;
use settlement::desk::{Broadcast, ClaimState};
use settlement::limits;

/// Two HTLCs each way; those of the hub expire soon.
fn htlcs(tip: u32) -> Vec<Htlc> {
    vec![
        Htlc { from: End::Hub, id: 0, sat: 40_000, expiry: tip + 4 },
        Htlc { from: End::Hub, id: 1, sat: 50_000, expiry: tip + 4 },
        Htlc { from: End::Wallet, id: 2, sat: 60_000, expiry: tip + 100 },
        Htlc { from: End::Wallet, id: 3, sat: 70_000, expiry: tip + 100 },
    ]
}

/// A commitment in a block, with what the hub may take of it given as its plan.
fn closed(rig: &mut Rig, of: End) -> (Pair, Commitment, Vec<Claim>) {
    let pair = channel(rig, 1);
    let commitment = pair.commitment(of, 7, &htlcs(rig.tip().height));
    rig.mine(vec![commitment.transaction.clone()]);
    let height = rig.tip().height;
    let claims = match of {
        End::Hub => pair.own_claims(&commitment, height),
        End::Wallet => pair.their_claims(&commitment, height),
    };
    give(rig, pair.plan(None, claims.clone()));
    (pair, commitment, claims)
}

fn of_kind(claims: &[Claim], wanted: impl Fn(ClaimKind) -> bool) -> Vec<&Claim> {
    claims.iter().filter(|claim| wanted(claim.kind)).collect()
}

#[test]
fn claims_leave_when_they_are_ripe_and_in_the_company_they_may_keep() {
    let mut rig = Rig::new();
    (0..3).for_each(|_| rig.receive(30_000));
    let (pair, commitment, all) = closed(&mut rig, End::Hub);
    let told = settle(&mut rig);
    let success = of_kind(&all, |kind| matches!(kind, ClaimKind::HtlcSuccess { .. }));
    let [first] = &claims(&told)[..] else { panic!("{told:?}") };
    assert!(success.iter().all(|claim| spends(first, claim)), "both at once");
    assert_eq!(first.input.len(), 3, "and a coin that pays");
    let prevouts: Vec<_> = success.iter().map(|claim| claim.output.clone()).collect();
    assert_eq!(prevouts.len(), 2);
    let local = of_kind(&all, |kind| kind == ClaimKind::ToLocal)[0];
    assert_eq!(claim_state(&rig, &pair, local), ClaimState::Waits { height: local.earliest_height });

    // The other HTLCs ripen, then the balance.
    let timeouts = of_kind(&all, |kind| matches!(kind, ClaimKind::HtlcTimeout { .. }));
    while rig.tip().height + 2 < timeouts[0].earliest_height.min(local.earliest_height) {
        rig.mine(vec![]);
        assert_eq!(claims(&settle(&mut rig)).len(), 0);
    }
    let mut sent: Vec<Transaction> = Vec::new();
    while rig.tip().height < timeouts[0].earliest_height.max(local.earliest_height) {
        sent.extend(claims(&settle(&mut rig)));
        rig.mine(vec![]);
    }
    assert_eq!(sent.len(), 2, "{sent:?}");
    let takes_local = sent.iter().find(|transaction| spends(transaction, local)).unwrap();
    assert_eq!(takes_local.input.len(), 1, "what nobody contests stays apart");
    assert!(interpreter_accepts(takes_local, std::slice::from_ref(&local.output)));
    let takes_timeouts = sent.iter().find(|transaction| spends(transaction, timeouts[0])).unwrap();
    assert!(spends(takes_timeouts, timeouts[1]));

    // Their second stages follow.
    rig.mine(vec![first.clone()]);
    let height = rig.tip().height;
    let mut plan = all.clone();
    plan.extend(pair.second_stages(&commitment, first, height));
    give(&mut rig, pair.plan(None, plan.clone()));
    assert_eq!(claims(&settle(&mut rig)).len(), 0);
    assert!(
        matches!(claim_state(&rig, &pair, success[0]), ClaimState::Spent { txid, .. } if txid == first.compute_txid())
    );
    let second = of_kind(&plan, |kind| matches!(kind, ClaimKind::SecondStage { .. }));
    while rig.tip().height + 1 < second[0].earliest_height {
        rig.mine(vec![]);
    }
    let sent = claims(&settle(&mut rig));
    let last = sent.iter().find(|transaction| spends(transaction, second[0])).unwrap();
    assert!(second.iter().all(|claim| spends(last, claim)) && second.len() == 2);
    rig.restart();
}

#[test]
fn a_claim_is_built_again_when_one_of_its_inputs_is_taken() {
    let mut rig = Rig::new();
    (0..2).for_each(|_| rig.receive(30_000));
    let (pair, _, all) = closed(&mut rig, End::Hub);
    let first = claims(&settle(&mut rig)).remove(0);
    let success = of_kind(&all, |kind| matches!(kind, ClaimKind::HtlcSuccess { .. }));
    // The counterparty takes one of the two that the transaction spends.
    let mut theirs = strangers_payment(success[0].output.clone());
    theirs.input[0].previous_output = success[0].outpoint;
    let told = rig.mine(vec![theirs.clone()]);
    assert!(matches!(events(&told)[..], [ChainEvent::OutputSpent { .. }, ..]));
    let told = settle(&mut rig);
    assert_eq!(forgotten(&told), [first.compute_txid()]);
    let [second] = &claims(&told)[..] else { panic!("{told:?}") };
    assert!(!spends(second, success[0]) && spends(second, success[1]));

    // And again when that block is undone: now both are free.
    rig.unmine();
    let told = settle(&mut rig);
    let [third] = &claims(&told)[..] else { panic!("{told:?}") };
    assert!(spends(third, success[0]));
    assert!(!spends(third, success[1]), "the other one is out already");

    // The plan may be withdrawn, too.
    give(&mut rig, pair.plan(None, vec![]));
    let told = settle(&mut rig);
    assert_eq!(forgotten(&told).len(), 2);
    assert_eq!(rig.desk.summary().balance.locked, Amount::ZERO);
}

#[test]
fn a_claim_stays_when_its_own_block_is_undone_and_is_replaced_when_something_else_is_wanted() {
    let mut rig = Rig::new();
    let (pair, _, all) = closed(&mut rig, End::Wallet);
    let told = settle(&mut rig);
    let sent = claims(&told);
    let remote = of_kind(&all, |kind| kind == ClaimKind::ToRemote)[0];
    let takes_remote = sent.iter().find(|transaction| spends(transaction, remote)).unwrap().clone();
    rig.mine(vec![takes_remote.clone()]);
    assert_eq!(claims(&settle(&mut rig)).len(), 0);
    let told = rig.unmine();
    let undone =
        |what: &Broadcast| matches!(what, Broadcast::Undone(txid) if *txid == takes_remote.compute_txid());
    assert!(told.broadcasts.iter().any(undone));
    assert_eq!(claims(&settle(&mut rig)).len(), 0, "the same one is out again");

    // A claim of the same output by another path replaces it, and pays more than it.
    let success = of_kind(&all, |kind| matches!(kind, ClaimKind::HtlcSuccess { .. }))[0].clone();
    let old = sent.iter().find(|transaction| spends(transaction, &success)).unwrap();
    let mut other = all.clone();
    for claim in &mut other {
        if claim.outpoint == success.outpoint {
            claim.earliest_height += 50;
        }
    }
    give(&mut rig, pair.plan(None, other));
    let told = settle(&mut rig);
    assert_eq!(forgotten(&told), [old.compute_txid()]);
    let [new] = &claims(&told)[..] else { panic!("{told:?}") };
    assert!(!spends(new, &success), "what is not ripe any more is left out");
    let fee = |transaction: &Transaction| {
        let spent = transaction.input.iter().map(|input| {
            all.iter().find(|claim| claim.outpoint == input.previous_output).unwrap().output.value
        });
        spent.sum::<Amount>() - transaction.output.iter().map(|output| output.value).sum::<Amount>()
    };
    assert!(fee(new) > fee(old), "{} {}", fee(new), fee(old));
}

#[test]
fn a_revoked_commitment_is_taken_whole_and_without_a_coin() {
    let mut rig = Rig::new();
    let pair = channel(&mut rig, 1);
    let cheat = pair.commitment(End::Wallet, 3, &htlcs(rig.tip().height));
    rig.mine(vec![cheat.transaction.clone()]);
    let penalties = pair.penalties(&cheat, rig.tip().height);
    give(&mut rig, pair.plan(None, penalties.clone()));
    rig.restart();
    give(&mut rig, pair.plan(None, penalties.clone()));
    let sent = claims(&settle(&mut rig));
    assert!(penalties.iter().all(|claim| sent.iter().any(|transaction| spends(transaction, claim))));
    rig.mine(sent);
    for claim in &penalties {
        assert!(matches!(claim_state(&rig, &pair, claim), ClaimState::Spent { .. }));
    }
    let taken: Amount = penalties.iter().map(|claim| claim.output.value).sum();
    let fees = taken - rig.desk.summary().balance.confirmed;
    assert!(fees < sat(5_000), "{fees}");
}

#[test]
fn a_transaction_of_the_mempool_is_told_once_to_those_it_concerns() {
    let mut rig = Rig::new();
    let (pair, _, all) = closed(&mut rig, End::Hub);
    let watched = rig.desk.mempool_watches();
    assert!(all.iter().all(|claim| watched.contains(&(pair.owner(), claim.outpoint))));
    let mut theirs = strangers_payment(all[1].output.clone());
    theirs.input[0].previous_output = all[1].outpoint;
    let outcome = rig.desk.seen_in_mempool(vec![(pair.owner(), theirs.clone())]);
    let told = rig.perform(outcome);
    assert_eq!(events(&told), [&ChainEvent::SeenInMempool { transaction: theirs.clone() }]);
    let outcome = rig.desk.seen_in_mempool(vec![(pair.owner(), theirs.clone()), (OwnerId(1), theirs)]);
    assert!(rig.perform(outcome).commands.is_empty(), "once, and no strangers");
}

/// Two channels' HTLCs in one transaction, and what the desk sends once the wallets can contest them, each its own.
fn parted(rig: &mut Rig) -> (Vec<Pair>, Vec<Claim>, Transaction, Vec<Transaction>) {
    let expiry = rig.tip().height + 40;
    let (mut pairs, mut wanted) = (Vec::new(), Vec::new());
    for number in 1..=2 {
        let pair = channel(rig, number);
        let htlc = Htlc { from: End::Wallet, id: u64::from(number), sat: 60_000, expiry };
        let commitment = pair.commitment(End::Hub, 7, &[htlc]);
        rig.mine(vec![commitment.transaction.clone()]);
        let all = pair.own_claims(&commitment, rig.tip().height);
        let success = of_kind(&all, |kind| matches!(kind, ClaimKind::HtlcSuccess { .. }))[0].clone();
        give(rig, pair.plan(None, vec![success.clone()]));
        wanted.push(success);
        pairs.push(pair);
    }
    let [together] = &claims(&settle(rig))[..] else { panic!("one transaction takes both") };
    while rig.tip().height < expiry {
        rig.mine(vec![]);
    }
    let parted = claims(&settle(rig));
    (pairs, wanted, together.clone(), parted)
}

#[test]
fn claims_that_part_company_pay_with_a_coin_each() {
    let mut rig = Rig::new();
    (0..3).for_each(|_| rig.receive(30_000));
    let (_, wanted, together, parted) = parted(&mut rig);
    assert!(wanted.iter().all(|claim| spends(&together, claim)));
    let [first, second] = &parted[..] else { panic!("{parted:?}") };
    let inputs = |transaction: &Transaction| -> Vec<_> {
        transaction.input.iter().map(|input| input.previous_output).collect()
    };
    assert!(inputs(first).iter().all(|outpoint| !inputs(second).contains(outpoint)), "{parted:?}");
}

#[test]
fn claims_stay_together_while_there_is_no_coin_for_each() {
    let mut rig = Rig::new();
    rig.receive(30_000);
    let (pairs, wanted, together, parted) = parted(&mut rig);
    assert!(parted.is_empty(), "{parted:?}");
    for (pair, claim) in pairs.iter().zip(&wanted) {
        let state = claim_state(&rig, pair, claim);
        assert!(
            matches!(state, ClaimState::Sent { txid, .. } if txid == together.compute_txid()),
            "{state:?}"
        );
    }
}

#[test]
fn the_coin_of_a_child_that_another_one_forestalled_pays_for_the_claims_of_its_commitment() {
    let mut rig = Rig::new();
    rig.receive(30_000);
    let pair = channel(&mut rig, 1);
    let commitment = pair.commitment(End::Hub, 7, &htlcs(rig.tip().height));
    give(&mut rig, pair.plan(Some(pair.publish(&commitment, None)), vec![]));
    let (parent, child) = package(&settle(&mut rig));
    let coin = child.input[1].previous_output;
    // The other side pays for our commitment, so that our only coin stays with a child that never confirms.
    let mut theirs = strangers_payment(parent.output[0].clone());
    theirs.input[0].previous_output = child.input[0].previous_output;
    rig.mine(vec![parent.clone(), theirs.clone()]);
    let all = pair.own_claims(&commitment, rig.tip().height);
    give(&mut rig, pair.plan(None, all.clone()));
    let told = settle(&mut rig);
    let [success] = &claims(&told)[..] else { panic!("{told:?}") };
    assert!(success.input.iter().any(|input| input.previous_output == coin), "it is the only one");

    // After a reorganisation the commitment needs its own child again.
    rig.unmine();
    give(&mut rig, pair.plan(Some(pair.publish(&commitment, None)), vec![]));
    let told = settle(&mut rig);
    assert_eq!(forgotten(&told), [success.compute_txid()]);
    let locked = rig.desk.summary().balance.locked;
    assert_eq!(locked, sat(30_000), "for the commitment's child");

    // So it does when a block held the claim as well.
    rig.mine(vec![parent.clone(), theirs]);
    give(&mut rig, pair.plan(None, all));
    let success = claims(&settle(&mut rig)).remove(0);
    rig.mine(vec![success.clone()]);
    settle(&mut rig);
    (0..2).for_each(|_| drop(rig.unmine()));
    give(&mut rig, pair.plan(Some(pair.publish(&commitment, None)), vec![]));
    let told = settle(&mut rig);
    assert_eq!(forgotten(&told), [success.compute_txid()]);
    assert_eq!(rig.desk.summary().balance.locked, sat(30_000), "the same package is out");
    assert_eq!(child.input[1].previous_output, coin);
    rig.mine(vec![parent, child]);
    assert!(rig.desk.summary().balance.confirmed > Amount::ZERO, "its change");
}

/// The other side's commitment in a block, in which the hub has this much.
fn small_balance(rig: &mut Rig, value: u64) -> (Pair, Claim) {
    let pair = channel(rig, 1);
    let commitment = pair.commitment(End::Wallet, 7, &[]);
    rig.mine(vec![commitment.transaction.clone()]);
    let mut claim = pair.their_claims(&commitment, rig.tip().height).remove(0);
    claim.output.value = sat(value);
    give(rig, pair.plan(None, vec![claim.clone()]));
    (pair, claim)
}

/// Whether the channel was told to give this up in any of as many blocks.
fn is_given_up(rig: &mut Rig, claim: &Claim, blocks: u32) -> bool {
    let expected = ChainEvent::OutputGivenUp { outpoint: claim.outpoint };
    (0..blocks).any(|_| {
        rig.mine(vec![]);
        let told = settle(rig);
        events(&told).contains(&&expected)
    })
}

#[test]
fn a_balance_that_pays_for_no_output_is_taken_with_a_coin_to_spare() {
    for value in [354, 449] {
        let mut rig = Rig::new();
        rig.receive(30_000);
        let (pair, claim) = small_balance(&mut rig, value);
        let sent = claims(&settle(&mut rig)).remove(0);
        assert!(spends(&sent, &claim) && sent.input.len() == 2);
        assert!(sent.output[0].value > sat(30_000), "it brings something");
        assert!(matches!(claim_state(&rig, &pair, &claim), ClaimState::Sent { .. }));
    }
    // The only coin is kept for a channel that may have to be closed.
    let mut rig = Rig::new();
    rig.receive(30_000);
    channel(&mut rig, 2);
    let (_, claim) = small_balance(&mut rig, 449);
    assert!(claims(&settle(&mut rig)).is_empty());
    rig.receive(20_000);
    assert!(spends(&claims(&settle(&mut rig)).remove(0), &claim));
}

#[test]
fn what_nothing_takes_for_a_week_is_given_up_and_nothing_that_is_worth_its_fee() {
    let mut rig = Rig::new();
    let (pair, claim) = small_balance(&mut rig, 449);
    settle(&mut rig);
    assert!(matches!(claim_state(&rig, &pair, &claim), ClaimState::TooDear { .. }));
    let waits = claim.earliest_height + limits::GIVE_UP_BLOCKS - rig.tip().height;
    assert!(!is_given_up(&mut rig, &claim, waits - 1));
    assert!(is_given_up(&mut rig, &claim, 1));
    // A coin turns up in the end.
    rig.receive(30_000);
    assert!(spends(&claims(&settle(&mut rig)).remove(0), &claim));
    assert!(!is_given_up(&mut rig, &claim, 3));

    // One that pays for itself is never given up, however high the fees that nodes ask for.
    let mut rig = Rig::new();
    let (_, claim) = small_balance(&mut rig, 500);
    let sent = claims(&settle(&mut rig)).remove(0);
    assert!(spends(&sent, &claim));
    let refused = Err(PublishError::FeeTooLow { reason: String::new() });
    for _ in 0..limits::GIVE_UP_BLOCKS + 10 {
        rig.desk.note_published(sent.compute_txid(), &refused);
        assert!(!is_given_up(&mut rig, &claim, 1));
    }
}

#[test]
fn a_desk_that_was_away_for_a_week_looks_for_a_day_before_it_gives_up() {
    let mut rig = Rig::new();
    let (_, claim) = small_balance(&mut rig, 449);
    for _ in 0..limits::GIVE_UP_BLOCKS {
        rig.mine(vec![]);
    }
    assert!(!is_given_up(&mut rig, &claim, limits::GIVE_UP_LOOK_BLOCKS));
    assert!(is_given_up(&mut rig, &claim, 1));
}
