//! Commitments over a chain in memory: what is sent when, what it pays, what it waits for, and that a restart changes
//! none of it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use bitcoin::{Amount, FeeRate, OutPoint, Transaction, Txid};
use channel::event::ChainEvent;
use channel::ids::OwnerId;
use common::pair::{End, Pair, funding_output};
use common::rig::{FINAL_DEPTH, Rig, config, events, moment, strangers_payment};
use common::sat;
use common::settling::{
    at_feerate, channel, child_fee, commitment_state, forgotten, funding, give, package, packages, settle,
    settle_at,
};
use settlement::broadcast::PublishError;
use settlement::desk::{Broadcast, BumpError, CommitmentState, DeskConfig, DeskReport, DeskRequest, Moment};
use settlement::onchain::OnchainBalance;
use settlement::verify::ParentSource;

#[test]
fn a_commitment_leaves_with_a_child_and_stays_quiet_while_it_pays_enough() {
    let mut rig = Rig::new();
    rig.receive(50_000);
    rig.receive(60_000);
    let pair = channel(&mut rig, 1);
    let commitment = pair.commitment(End::Hub, 7, &[]);
    let told = give(&mut rig, pair.plan(Some(pair.publish(&commitment, None)), vec![]));
    assert!(told.broadcasts.is_empty(), "plans wait for company");
    assert!(rig.desk.settle_wanted());
    let told = settle(&mut rig);
    let (parent, child) = package(&told);
    assert_eq!(parent, commitment.transaction);
    assert!(matches!(told.reports[..], [DeskReport::CommitmentSent { replaces: None, .. }]));
    let coin = &child.input[1].previous_output;
    let reserve = rig.desk.summary().reserve;
    assert_eq!((reserve.needed_coins, reserve.confirmed_coins, reserve.short), (1, 2, false));
    assert!(rig.desk.summary().balance.locked > Amount::ZERO, "the child's coin is nobody else's: {coin}");

    assert!(!rig.desk.settle_wanted());
    rig.mine(vec![]);
    assert!(settle(&mut rig).broadcasts.is_empty(), "what is out pays enough");

    // After a restart the plan comes again, and so does a package.
    rig.restart();
    assert!(settle(&mut rig).broadcasts.is_empty(), "nobody asked yet");
    give(&mut rig, pair.plan(Some(pair.publish(&commitment, None)), vec![]));
    let (again, _) = package(&settle(&mut rig));
    assert_eq!(again, parent);

    // In a block; whatever child paid for it.
    let told = rig.mine(vec![parent.clone(), child]);
    assert!(matches!(events(&told)[..], [ChainEvent::FundingSpent { .. }, ChainEvent::FundingFinal]));
    assert!(
        told.broadcasts
            .iter()
            .any(|what| matches!(what, Broadcast::Confirmed(txid) if *txid == parent.compute_txid()))
    );
    assert!(settle(&mut rig).broadcasts.is_empty());
    assert_eq!(rig.desk.summary().balance.locked, Amount::ZERO);
}

#[test]
fn a_commitment_waits_for_its_funding_and_comes_back_after_a_reorganisation() {
    let mut rig = Rig::new();
    rig.receive(50_000);
    let pair = channel(&mut rig, 1);
    let commitment = pair.commitment(End::Hub, 7, &[]);
    rig.unmine();
    let plan = pair.plan(Some(pair.publish(&commitment, None)), vec![]);
    give(&mut rig, plan.clone());
    assert!(settle(&mut rig).broadcasts.is_empty());
    assert_eq!(commitment_state(&rig, &pair), CommitmentState::AwaitsFunding);
    rig.mine(vec![funding(1)]);
    let (parent, child) = package(&settle(&mut rig));
    rig.mine(vec![parent.clone(), child.clone()]);
    settle(&mut rig);
    let told = rig.unmine();
    let undone = |what: &Broadcast| matches!(what, Broadcast::Undone(txid) if *txid == parent.compute_txid());
    assert!(told.broadcasts.iter().any(undone), "the broadcaster sends it again by itself");
    assert!(settle(&mut rig).broadcasts.is_empty(), "the same package is out");
    assert_eq!(rig.desk.summary().spendable, Amount::ZERO, "its change is no coin to open channels with");

    // So it is after a restart; but then nobody holds the old child, and its coin pays for the new one.
    rig.restart();
    give(&mut rig, plan);
    let (again, other) = package(&settle(&mut rig));
    assert_eq!(again, parent);
    let coin = |child: &Transaction| child.input[1].previous_output;
    assert_eq!(coin(&other), coin(&child), "the only coin there is");
    rig.mine(vec![parent, child]);
    (1..FINAL_DEPTH).for_each(|_| {
        rig.mine(vec![]);
        settle(&mut rig);
    });
    assert_eq!(rig.desk.mempool_watches().len(), 2, "its two balances are watched on");
}

#[test]
fn a_commitment_leaves_room_for_one_that_a_reorganisation_took_out_of_the_chain() {
    let mut rig = Rig::new();
    rig.receive(50_000);
    let pair = channel(&mut rig, 1);
    let (ours, revoked) = (pair.commitment(End::Hub, 7, &[]), pair.commitment(End::Wallet, 3, &[]));
    let plan = |deadline| pair.plan(Some(pair.publish(&ours, deadline)), vec![]);
    let undone = |rig: &mut Rig, deadline| {
        rig.mine(vec![revoked.transaction.clone()]);
        give(rig, pair.plan(None, vec![]));
        settle(rig);
        rig.unmine();
        give(rig, plan(deadline));
    };
    undone(&mut rig, None);
    for block in 0..settlement::limits::COME_BACK_BLOCKS {
        // Whoever restarts remembers it, and since when it waits.
        if block % 2 == 0 {
            rig.restart();
            give(&mut rig, plan(None));
        }
        assert!(settle(&mut rig).broadcasts.is_empty(), "the cheater's is likely to come back");
        let state = commitment_state(&rig, &pair);
        assert!(matches!(state, CommitmentState::LeavesRoom { txid, .. } if txid == revoked.built.txid()));
        assert_eq!(for_others(&rig, &pair), None);
        rig.mine(vec![]);
    }
    assert_eq!(package(&settle(&mut rig)).0, ours.transaction, "it did not");
    rig.restart();
    give(&mut rig, plan(None));
    assert_eq!(package(&settle(&mut rig)).0, ours.transaction, "the wait is over for good");

    // It does in the end, and is undone once more: with a deadline that is near nobody waits.
    let near = rig.tip().height + 10;
    undone(&mut rig, Some(near));
    assert_eq!(package(&settle(&mut rig)).0, ours.transaction);
    // Nor if a person says so.
    undone(&mut rig, None);
    assert!(settle(&mut rig).broadcasts.is_empty());
    let (parent, word) = (ours.transaction.clone(), FeeRate::from_sat_per_kwu(2_000));
    let (bumped, outcome) = rig.desk.bump(parent, ParentSource::Given, word, &moment());
    rig.perform(outcome);
    bumped.unwrap();
}

#[test]
fn the_coins_that_paid_for_what_never_comes_back_after_a_reorganisation_are_free_again() {
    for (other_commitment, restarted) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut rig = Rig::new();
        rig.receive(50_000);
        let pair = channel(&mut rig, 1);
        let commitment = pair.commitment(End::Hub, 7, &[]);
        let plan = pair.plan(Some(pair.publish(&commitment, None)), vec![]);
        give(&mut rig, plan.clone());
        let (parent, child) = package(&settle(&mut rig));
        rig.mine(vec![parent.clone(), child]);
        let height = rig.tip().height;
        give(&mut rig, pair.plan(None, pair.own_claims(&commitment, height)));
        settle(&mut rig);
        assert!(rig.desk.summary().balance.confirmed < sat(50_000), "its change");
        rig.unmine();
        if restarted {
            rig.restart();
        }
        give(&mut rig, plan);
        settle(&mut rig);
        let instead = if other_commitment {
            pair.commitment(End::Wallet, 7, &[]).transaction
        } else {
            rig.unmine();
            let mut conflict = funding(1);
            conflict.output[0].value -= sat(1_000);
            conflict
        };
        rig.mine(vec![instead]);
        give(&mut rig, pair.plan(None, vec![]));
        (1..FINAL_DEPTH).for_each(|_| {
            rig.mine(vec![]);
            settle(&mut rig);
        });
        rig.ask(pair.owner(), DeskRequest::Forget);
        rig.restart();
        settle(&mut rig);
        let OnchainBalance { confirmed, unconfirmed, immature, locked } = rig.desk.summary().balance;
        let rest = unconfirmed + immature + locked;
        assert_eq!((confirmed, rest), (sat(50_000), Amount::ZERO), "{other_commitment} {restarted}");
    }
}

#[test]
fn a_commitment_is_raised_by_estimates_refusals_deadlines_and_a_persons_word() {
    let mut rig = Rig::new();
    rig.receive(200_000);
    let pair = channel(&mut rig, 1);
    let commitment = pair.commitment(End::Hub, 7, &[]);
    let deadline = rig.tip().height + 30;
    give(&mut rig, pair.plan(Some(pair.publish(&commitment, Some(deadline))), vec![]));
    let (parent, first) = package(&settle(&mut rig));
    let mut fee = child_fee(&rig, &pair);

    let told = settle_at(&mut rig, &at_feerate(5_000));
    let (same, second) = package(&told);
    assert_eq!(same, parent);
    assert_ne!(first, second);
    assert_eq!(first.input[0], second.input[0], "one anchor, one child");
    assert!(child_fee(&rig, &pair) >= fee * 9, "the estimate rose tenfold");
    fee = child_fee(&rig, &pair);

    // bitcoind wants more still, and gets a quarter more each time.
    let refused = Err(PublishError::FeeTooLow { reason: "insufficient fee".into() });
    for _ in 0..3 {
        rig.desk.note_published(parent.compute_txid(), &refused);
        assert!(rig.desk.settle_wanted(), "at once");
        assert_eq!(packages(&settle_at(&mut rig, &at_feerate(5_000))).len(), 1);
        assert!(child_fee(&rig, &pair) >= fee + fee / 5);
        fee = child_fee(&rig, &pair);
    }
    for _ in 0..settlement::limits::FEE_RAISES_PER_BLOCK {
        rig.desk.note_published(parent.compute_txid(), &refused);
    }
    settle_at(&mut rig, &at_feerate(5_000));
    rig.desk.note_published(parent.compute_txid(), &refused);
    assert!(!rig.desk.settle_wanted(), "not for ever within a block");
    rig.desk.note_published(parent.compute_txid(), &Ok(settlement::broadcast::Published::InMempool));
    fee = child_fee(&rig, &pair);

    let word = FeeRate::from_sat_per_kwu(30_000);
    let (bumped, outcome) = rig.desk.bump(parent.clone(), ParentSource::Given, word, &at_feerate(5_000));
    let told = rig.perform(outcome);
    assert_eq!(bumped.unwrap().child, package(&told).1.compute_txid());
    assert!(child_fee(&rig, &pair) > fee);
    fee = child_fee(&rig, &pair);
    let (again, _) = rig.desk.bump(parent.clone(), ParentSource::Given, word, &at_feerate(5_000));
    assert!(matches!(again, Err(BumpError::TooLow { .. })), "{again:?}");
    let (too_high, _) =
        rig.desk.bump(parent, ParentSource::Given, FeeRate::from_sat_per_kwu(200_000), &moment());
    assert!(matches!(too_high, Err(BumpError::TooHigh { .. })));

    // As the deadline comes near, the fee nears the budget: half of what is at stake, as far as the coin goes.
    while rig.tip().height + 1 < deadline {
        rig.mine(vec![]);
        settle_at(&mut rig, &at_feerate(5_000));
        assert!(child_fee(&rig, &pair) >= fee);
        fee = child_fee(&rig, &pair);
    }
    assert!(fee > sat(100_000), "{fee}");
}

#[test]
fn without_a_coin_a_commitment_waits_and_leaves_once_one_is_there() {
    let mut rig = Rig::new();
    let (one, two) = (channel(&mut rig, 1), channel(&mut rig, 2));
    rig.receive(20_000);
    for pair in [&one, &two] {
        let commitment = pair.commitment(End::Hub, 7, &[]);
        give(&mut rig, pair.plan(Some(pair.publish(&commitment, None)), vec![]));
    }
    let told = settle(&mut rig);
    assert_eq!(packages(&told).len(), 1, "one coin, one close");
    let short = |report: &DeskReport| matches!(report, DeskReport::ReserveShort { .. });
    assert_eq!(told.reports.iter().filter(|report| short(report)).count(), 1);
    assert!(matches!(commitment_state(&rig, &two), CommitmentState::NoCoin { .. }));
    rig.mine(vec![]);
    assert!(settle(&mut rig).reports.is_empty(), "told once");
    rig.receive(30_000);
    let told = settle(&mut rig);
    assert_eq!(package(&told).0, two.commitment(End::Hub, 7, &[]).transaction);
    assert!(told.reports.iter().any(|report| matches!(report, DeskReport::ReserveWhole { .. })));

    // A reorganisation takes the second coin away: its child is built of another one, or not at all.
    rig.unmine();
    let told = settle(&mut rig);
    assert_eq!(forgotten(&told), [two.commitment(End::Hub, 7, &[]).built.txid()]);
    assert!(matches!(commitment_state(&rig, &two), CommitmentState::NoCoin { .. }));
}

#[test]
fn the_breaker_holds_many_closes_for_a_person_unless_a_deadline_is_near() {
    let mut rig = Rig::new();
    (0..6).for_each(|_| rig.receive(30_000));
    let pairs: Vec<Pair> = (0..6).map(|number| channel(&mut rig, number)).collect();
    let plan = |pair: &Pair, deadline| {
        let commitment = pair.commitment(End::Hub, 7, &[]);
        pair.plan(Some(pair.publish(&commitment, deadline)), vec![])
    };
    for pair in &pairs[..4] {
        give(&mut rig, plan(pair, None));
    }
    let told = settle(&mut rig);
    assert_eq!(packages(&told).len(), 2, "as many as the test's breaker lets through");
    let held: Vec<OwnerId> = pairs[2..4].iter().map(Pair::owner).collect();
    assert_eq!(rig.desk.summary().held, held);
    assert_eq!(commitment_state(&rig, &pairs[2]), CommitmentState::Held);

    // Time alone releases nothing, nor does a restart.
    (0..10).for_each(|_| {
        rig.mine(vec![]);
    });
    rig.restart();
    for pair in &pairs[..4] {
        give(&mut rig, plan(pair, None));
    }
    assert_eq!(packages(&settle(&mut rig)).len(), 2, "those that were let through before");
    assert_eq!(rig.desk.summary().held, held);

    // A near deadline does, and a person's word for one channel, and for all.
    let near = rig.tip().height + 10;
    give(&mut rig, plan(&pairs[3], Some(near)));
    assert_eq!(package(&settle(&mut rig)).0, pairs[3].commitment(End::Hub, 7, &[]).transaction);
    rig.ask(pairs[4].owner(), DeskRequest::Allow);
    rig.restart();
    give(&mut rig, plan(&pairs[4], None));
    assert_eq!(packages(&settle(&mut rig)).len(), 1);
    give(&mut rig, plan(&pairs[2], None));
    assert_eq!(packages(&settle(&mut rig)).len(), 0);
    let (released, outcome) = rig.desk.release_held();
    rig.perform(outcome);
    assert_eq!(released, [pairs[2].owner()]);
    rig.restart();
    give(&mut rig, plan(&pairs[2], None));
    assert_eq!(packages(&settle(&mut rig)).len(), 1, "a restart asks nobody again");
}

#[test]
fn a_party_proven_to_be_behind_publishes_only_what_a_peer_confirmed() {
    let mut rig = Rig::new();
    (0..3).for_each(|_| rig.receive(30_000));
    let (behind, proven) = (channel(&mut rig, 1), channel(&mut rig, 2));
    let near = Some(rig.tip().height + 2);
    let plan = |pair: &Pair, proven_current| {
        let commitment = pair.commitment(End::Hub, 7, &[]);
        let mut job = pair.publish(&commitment, near);
        job.proven_current = proven_current;
        pair.plan(Some(job), vec![])
    };
    // One is out already when the proof comes: it is withdrawn.
    give(&mut rig, plan(&behind, false));
    assert_eq!(packages(&settle(&mut rig)).len(), 1);
    let told = rig.ask(OwnerId(9), DeskRequest::Suspend);
    assert!(matches!(told.reports[..], [DeskReport::Suspended { by: OwnerId(9) }]));
    assert_eq!(forgotten(&settle(&mut rig)), [behind.commitment(End::Hub, 7, &[]).built.txid()]);

    rig.restart();
    assert!(rig.desk.summary().suspended);
    give(&mut rig, plan(&behind, false));
    give(&mut rig, plan(&proven, true));
    let told = settle(&mut rig);
    assert_eq!(package(&told).0, proven.commitment(End::Hub, 7, &[]).transaction);
    assert_eq!(
        commitment_state(&rig, &behind),
        CommitmentState::Suspended,
        "a near deadline changes nothing"
    );

    let (was_suspended, outcome) = rig.desk.resume_publishing();
    assert!(was_suspended);
    rig.perform(outcome);
    assert_eq!(packages(&settle(&mut rig)).len(), 1);
    // The same channel's repeat, at every start, is no new proof; another's is.
    rig.restart();
    assert!(rig.ask(OwnerId(9), DeskRequest::Suspend).reports.is_empty());
    assert!(!rig.desk.summary().suspended);
    rig.ask(OwnerId(10), DeskRequest::Suspend);
    assert!(rig.desk.summary().suspended);
    rig.ask(OwnerId(10), DeskRequest::Forget);
    rig.restart();
    assert!(rig.desk.summary().suspended, "only a person ends it");
}

#[test]
fn what_no_peer_confirmed_since_the_start_waits_a_while_for_one_that_may_prove_it_old() {
    let mut rig = Rig::with(DeskConfig { proof_wait: Duration::from_secs(60), ..config() });
    (0..3).for_each(|_| rig.receive(30_000));
    let (unproven, proven) = (channel(&mut rig, 1), channel(&mut rig, 2));
    let plan = |pair: &Pair, proven_current: bool| {
        let commitment = pair.commitment(End::Hub, 7, &[]);
        // Long overdue, as it seems to whoever runs from an old backup.
        let mut job = pair.publish(&commitment, (!proven_current).then_some(1));
        job.proven_current = proven_current;
        pair.plan(Some(job), vec![])
    };
    let after = |seconds| Moment { unix_seconds: moment().unix_seconds + seconds, ..moment() };
    give(&mut rig, plan(&unproven, false));
    give(&mut rig, plan(&proven, true));
    let told = settle_at(&mut rig, &after(0));
    assert_eq!(package(&told).0, proven.commitment(End::Hub, 7, &[]).transaction);
    assert_eq!(commitment_state(&rig, &unproven), CommitmentState::AwaitsProof);
    assert_eq!(rig.desk.looks_again_in(), Some(Duration::from_secs(60)));
    assert!(settle_at(&mut rig, &after(59)).broadcasts.is_empty());
    assert_eq!(rig.desk.looks_again_in(), Some(Duration::from_secs(1)));
    let told = settle_at(&mut rig, &after(60));
    assert_eq!(package(&told).0, unproven.commitment(End::Hub, 7, &[]).transaction, "nobody knew better");
    assert_eq!(rig.desk.looks_again_in(), None);

    // A start begins anew; the proof comes in time.
    rig.restart();
    give(&mut rig, plan(&unproven, false));
    assert!(settle_at(&mut rig, &after(100)).broadcasts.is_empty());
    rig.ask(OwnerId(9), DeskRequest::Suspend);
    assert!(settle_at(&mut rig, &after(1_000)).broadcasts.is_empty());
    assert_eq!(commitment_state(&rig, &unproven), CommitmentState::Suspended);
    // A person's word is worth a peer's.
    rig.restart();
    give(&mut rig, plan(&unproven, false));
    let (_, outcome) = rig.desk.resume_publishing();
    rig.perform(outcome);
    assert_eq!(packages(&settle_at(&mut rig, &after(1_000))).len(), 1);
}

#[test]
fn anybodys_commitment_can_be_paid_for_but_not_one_of_ours_that_no_node_has() {
    let mut rig = Rig::new();
    rig.receive(80_000);
    let watched = channel(&mut rig, 1);
    let foreign =
        Pair::new(2, OutPoint { txid: Txid::from_raw_hash(bitcoin::hashes::Hash::hash(&[1])), vout: 0 });
    let parent = foreign.commitment(End::Wallet, 3, &[]).transaction;
    let feerate = FeeRate::from_sat_per_kwu(1_000);
    let (bumped, outcome) = rig.desk.bump(parent.clone(), ParentSource::Given, feerate, &moment());
    let told = rig.perform(outcome);
    let (sent, child) = package(&told);
    assert_eq!((sent, child.compute_txid()), (parent.clone(), bumped.clone().unwrap().child));
    let (again, _) = rig.desk.bump(parent.clone(), ParentSource::Given, feerate, &moment());
    assert!(matches!(again, Err(BumpError::TooLow { .. })));
    let more = FeeRate::from_sat_per_kwu(2_000);
    let (raised, outcome) = rig.desk.bump(parent.clone(), ParentSource::Given, more, &moment());
    rig.perform(outcome);
    assert!(raised.unwrap().fee > bumped.unwrap().fee);
    rig.mine(vec![parent]);
    settle(&mut rig);
    assert_eq!(rig.desk.summary().balance.locked, Amount::ZERO, "done");

    let own = watched.commitment(End::Wallet, 3, &[]).transaction;
    let (refused, _) = rig.desk.bump(own.clone(), ParentSource::Given, feerate, &moment());
    assert!(matches!(refused, Err(BumpError::Flaw(_))), "it could be a revoked one: {refused:?}");
    let (public, outcome) = rig.desk.bump(own, ParentSource::Mempool, feerate, &moment());
    rig.perform(outcome);
    public.unwrap();
    let plain = strangers_payment(funding_output(3));
    let (refused, _) = rig.desk.bump(plain, ParentSource::Mempool, feerate, &moment());
    assert_eq!(refused, Err(BumpError::NoAnchor));
}

#[test]
fn an_opening_leaves_the_reserve_and_says_what_to_do_when_it_cannot() {
    use channel::event::{AbortReason, Command};
    let mut rig = Rig::new();
    rig.receive(1_015_000);
    let owner = OwnerId(4);
    let build = |reserve_coin| DeskRequest::BuildFunding { output: funding_output(1), reserve_coin };
    assert_eq!(rig.desk.summary().spendable, sat(1_005_000));
    let told = rig.ask(owner, build(None));
    assert!(matches!(told.commands[..], [(_, Command::FundingBuilt { .. })]), "{told:?}");
    rig.ask(owner, DeskRequest::Forget);

    // The wallet's reserve coin rides in the same transaction, if there is enough for both.
    let coin = bitcoin::TxOut { value: sat(10_000), script_pubkey: common::wallet_script(1) };
    let told = rig.ask(owner, build(Some(coin.clone())));
    assert!(
        matches!(told.commands[..], [(_, Command::AbortOpening { why: AbortReason::KeepsReserve })]),
        "{told:?}"
    );
    let [DeskReport::FundingRefused { why, .. }] = &told.reports[..] else { panic!("{told:?}") };
    assert!(why.contains("send more coins"), "{why}");
    assert_eq!(rig.desk.summary().balance.locked, Amount::ZERO, "nothing stays locked");
    rig.receive(20_000);
    let told = rig.ask(owner, build(Some(coin.clone())));
    let [(_, Command::FundingBuilt { transaction, output_index })] = &told.commands[..] else {
        panic!("{told:?}")
    };
    assert!(transaction.output.contains(&coin));
    let outpoint = OutPoint { txid: transaction.compute_txid(), vout: *output_index };
    let request = DeskRequest::WatchFunding { outpoint, output: funding_output(1), minimum_depth: 1 };
    rig.ask(owner, request);
    rig.restart();
    let told = rig.ask(owner, DeskRequest::BroadcastFunding { transaction: transaction.clone() });
    assert!(
        matches!(told.broadcasts[..], [Broadcast::Funding(_)]),
        "it is verified with both outputs: {told:?}"
    );
}

/// The commitment that people may hand to whoever pays for it.
fn for_others(rig: &Rig, pair: &Pair) -> Option<Transaction> {
    rig.desk.onchain_status(pair.owner()).unwrap().commitment.unwrap().transaction
}

#[test]
fn a_commitment_that_nobody_pays_for_is_shown_to_whoever_may_unless_it_must_not_leave() {
    let mut rig = Rig::new();
    let pairs: Vec<Pair> = (0..4).map(|number| channel(&mut rig, number)).collect();
    let plan = |pair: &Pair, number| {
        let commitment = pair.commitment(End::Hub, number, &[]);
        let mut job = pair.publish(&commitment, None);
        job.proven_current = false;
        pair.plan(Some(job), vec![])
    };
    give(&mut rig, plan(&pairs[0], 7));
    assert_eq!(for_others(&rig, &pairs[0]), None, "nobody has looked at it yet");
    settle(&mut rig);
    assert!(matches!(commitment_state(&rig, &pairs[0]), CommitmentState::NoCoin { .. }));
    let shown = for_others(&rig, &pairs[0]).unwrap();
    assert_eq!(shown, pairs[0].commitment(End::Hub, 7, &[]).transaction);

    // What a signature is missing of is shown to nobody, nor sent.
    let mut unsigned = plan(&pairs[1], 7);
    unsigned.publish.as_mut().unwrap().transaction.input[0].witness.clear();
    give(&mut rig, unsigned);
    settle(&mut rig);
    assert!(matches!(commitment_state(&rig, &pairs[1]), CommitmentState::Faulty { .. }));
    assert_eq!(for_others(&rig, &pairs[1]), None);
    // A later plan's commitment takes the place of the one before it.
    give(&mut rig, plan(&pairs[0], 8));
    assert_eq!(for_others(&rig, &pairs[0]), None, "the old one is not the latest");
    settle(&mut rig);
    assert_eq!(for_others(&rig, &pairs[0]), Some(pairs[0].commitment(End::Hub, 8, &[]).transaction));

    // The breaker lets two through; the next one is kept from everybody.
    give(&mut rig, plan(&pairs[2], 7));
    settle(&mut rig);
    assert_eq!(commitment_state(&rig, &pairs[2]), CommitmentState::Held);
    assert_eq!(for_others(&rig, &pairs[2]), None);

    // A suspension counts at once; with the end of it they are shown again.
    rig.ask(OwnerId(9), DeskRequest::Suspend);
    assert_eq!(for_others(&rig, &pairs[0]), None, "before the desk has looked again");
    settle(&mut rig);
    assert_eq!(commitment_state(&rig, &pairs[0]), CommitmentState::Suspended);
    assert_eq!(for_others(&rig, &pairs[0]), None);
    let (_, outcome) = rig.desk.resume_publishing();
    rig.perform(outcome);
    settle(&mut rig);
    let shown = for_others(&rig, &pairs[0]).unwrap();

    // In a block it needs nobody's help.
    rig.mine(vec![shown.clone()]);
    assert_eq!(for_others(&rig, &pairs[0]), None);
    rig.unmine();
    settle(&mut rig);
    assert_eq!(for_others(&rig, &pairs[0]), Some(shown));
    assert!(rig.desk.onchain_status(pairs[3].owner()).is_none(), "an open channel has nothing to show");
}

#[test]
fn a_persons_word_publishes_what_is_worth_no_fee_to_this_party() {
    let mut rig = Rig::new();
    let pair = channel(&mut rig, 1);
    let commitment = pair.commitment(End::Hub, 7, &[]);
    let mut job = pair.publish(&commitment, None);
    job.value_at_stake = Amount::ZERO;
    give(&mut rig, pair.plan(Some(job), vec![]));
    let word = FeeRate::from_sat_per_kwu(2_000);
    let parent = commitment.transaction.clone();
    let (refused, outcome) = rig.desk.bump(parent.clone(), ParentSource::Given, word, &moment());
    rig.perform(outcome);
    assert!(matches!(refused, Err(BumpError::NotSent { .. })), "{refused:?}");

    // A refusal is not remembered: once there is a coin, it still costs more than it is worth.
    rig.receive(50_000);
    settle(&mut rig);
    assert!(matches!(commitment_state(&rig, &pair), CommitmentState::TooDear { .. }));
    assert_eq!(for_others(&rig, &pair), Some(parent.clone()), "somebody else may find it worth it");

    let (bumped, outcome) = rig.desk.bump(parent.clone(), ParentSource::Given, word, &moment());
    let told = rig.perform(outcome);
    let (sent, child) = package(&told);
    assert_eq!((sent, child.compute_txid()), (parent, bumped.unwrap().child));
    rig.mine(vec![]);
    assert!(settle(&mut rig).broadcasts.is_empty(), "it stays out");
}
