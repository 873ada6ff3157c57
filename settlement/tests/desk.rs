//! The desk from outside: what it tells channels, what it broadcasts, and that a restart changes none of it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use bitcoin::hashes::Hash;
use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, TxOut, Txid};
use channel::channel::ReadyTicket;
use channel::event::{AbortReason, ChainEvent, Command};
use channel::ids::OwnerId;
use common::rig::{FINAL_DEPTH, Rig, batch_of, events, frozen, moment, strangers_payment};
use common::sat;
use settlement::desk::{Broadcast, DeskReport, DeskRequest};
use settlement::follow::ChainStep;

fn funding_output() -> TxOut {
    let script_pubkey = ScriptBuf::new_p2wsh(&bitcoin::WScriptHash::from_byte_array([5; 32]));
    TxOut { value: sat(50_000), script_pubkey }
}

const OWNER: OwnerId = OwnerId(2_000);

/// Builds, watches and broadcasts a funding; gives its transaction and outpoint.
fn fund(rig: &mut Rig) -> (Transaction, OutPoint) {
    let told = rig.ask(OWNER, DeskRequest::BuildFunding { output: funding_output(), reserve_coin: None });
    let [(OWNER, Command::FundingBuilt { transaction, output_index })] = &told.commands[..] else {
        panic!("{told:?}")
    };
    let outpoint = OutPoint { txid: transaction.compute_txid(), vout: *output_index };
    rig.ask(OWNER, DeskRequest::WatchFunding { outpoint, output: funding_output(), minimum_depth: 2 });
    let told = rig.ask(OWNER, DeskRequest::BroadcastFunding { transaction: transaction.clone() });
    assert!(matches!(&told.broadcasts[..], [Broadcast::Funding(funding)] if funding.txid() == outpoint.txid));
    (transaction.clone(), outpoint)
}

#[test]
fn a_funding_is_built_watched_confirmed_and_deep() {
    let mut rig = Rig::new();
    rig.receive(100_000);
    let (transaction, _) = fund(&mut rig);
    rig.restart();
    // After the restart the channel asks again; the desk verifies again before it broadcasts again.
    let told = rig.ask(OWNER, DeskRequest::BroadcastFunding { transaction: transaction.clone() });
    assert!(matches!(&told.broadcasts[..], [Broadcast::Funding(_)]));
    let told = rig.mine(vec![transaction]);
    let height = rig.tip().height;
    let output = Some(funding_output());
    assert_eq!(events(&told), [&ChainEvent::FundingConfirmed { height, block_index: 0, output }]);
    assert!(matches!(&told.broadcasts[..], [Broadcast::Confirmed(_)]));
    rig.restart();
    let told = rig.mine(vec![]);
    assert_eq!(events(&told), [&ChainEvent::FundingDeep { height }]);
    rig.take_snapshot();
    rig.restart();
}

#[test]
fn a_start_tells_every_channel_again_so_that_one_whose_end_was_not_heard_of_is_forgotten() {
    let mut rig = Rig::new();
    rig.receive(100_000);
    let told_again = |rig: &mut Rig| {
        rig.restart();
        let outcome = rig.desk.repeats();
        rig.perform(outcome)
    };
    // Its opening ended, and nobody said so: the coins would be locked for ever.
    rig.ask(OWNER, DeskRequest::BuildFunding { output: funding_output(), reserve_coin: None });
    let told = told_again(&mut rig);
    assert!(matches!(told.commands[..], [(OWNER, Command::Chain(ChainEvent::FundingUndone))]), "{told:?}");
    assert!(rig.desk.summary().balance.locked > Amount::ZERO);
    rig.ask(OWNER, DeskRequest::Forget);
    assert_eq!(rig.desk.summary().balance.locked, Amount::ZERO);
    // The same of one that is watched.
    let (transaction, _) = fund(&mut rig);
    rig.mine(vec![transaction]);
    let told = told_again(&mut rig);
    assert!(matches!(told.commands[..], [(OWNER, Command::Chain(ChainEvent::FundingConfirmed { .. }))]));
    rig.ask(OWNER, DeskRequest::Forget);
    assert!(told_again(&mut rig).commands.is_empty());
}

#[test]
fn a_reorganised_funding_is_undone_and_published_again() {
    let mut rig = Rig::new();
    rig.receive(100_000);
    let (transaction, _) = fund(&mut rig);
    rig.mine(vec![transaction.clone()]);
    let told = rig.unmine();
    assert_eq!(events(&told), [&ChainEvent::FundingUndone]);
    assert!(matches!(&told.broadcasts[..], [Broadcast::Undone(_)]));
    rig.restart();
    let told = rig.mine(vec![transaction]);
    assert!(matches!(events(&told)[..], [ChainEvent::FundingConfirmed { .. }]));
}

#[test]
fn a_funding_confirmed_before_a_restart_is_published_again_when_its_block_is_undone() {
    let mut rig = Rig::new();
    rig.receive(100_000);
    let (transaction, outpoint) = fund(&mut rig);
    rig.mine(vec![transaction.clone()]);
    rig.restart();
    rig.ask(OWNER, DeskRequest::BroadcastFunding { transaction });
    let told = rig.unmine();
    assert!(matches!(&told.broadcasts[..], [Broadcast::Undone(txid)] if *txid == outpoint.txid));
}

#[test]
fn what_was_told_of_a_block_that_left_the_chain_during_a_crash_is_taken_back() {
    let mut rig = Rig::new();
    let funding = strangers_payment(funding_output());
    let outpoint = OutPoint { txid: funding.compute_txid(), vout: 0 };
    rig.ask(OWNER, DeskRequest::WatchFunding { outpoint, output: funding_output(), minimum_depth: 1 });
    let (_, step) = rig.block(vec![funding.clone()]);
    let told = rig.die_telling(&step);
    assert_eq!(events(&told), [&ChainEvent::FundingUndone]);
    // Another block takes its place, and nothing is owed any more.
    rig.mine(vec![]);
    rig.restart();
    rig.mine(vec![funding]);

    let mut spend = strangers_payment(funding_output());
    spend.input[0].previous_output = outpoint;
    let txid = spend.compute_txid();
    let (_, step) = rig.block(vec![spend.clone()]);
    let told = rig.die_telling(&step);
    assert_eq!(events(&told), [&ChainEvent::SpendUndone { txid }]);

    // The other way about: a block that was being taken back is taken back for good, and comes again if it is still there.
    rig.mine(vec![spend]);
    let tip = rig.chain.pop().unwrap();
    let told = rig.die_telling(&ChainStep::Disconnected { height: tip.height, hash: tip.hash });
    assert_eq!(events(&told), [&ChainEvent::SpendUndone { txid }]);
    assert_eq!(rig.desk.memory().tip(), rig.tip());
    rig.restart();
}

#[test]
fn the_coins_of_an_opening_that_a_crash_cut_off_are_free_again() {
    let mut rig = Rig::new();
    rig.receive(100_000);
    rig.ask(OWNER, DeskRequest::BuildFunding { output: funding_output(), reserve_coin: None });
    rig.take_snapshot();
    // The row that locks the coins is durable, the channel's is not: it knows of no transaction to release.
    rig.restart();
    rig.ask(OWNER, DeskRequest::ReleaseCoins { transaction: None });
    assert_eq!(rig.desk.summary().balance.confirmed, sat(100_000));
    rig.restart();
}

#[test]
fn coins_are_released_for_their_own_opening_only() {
    let mut rig = Rig::new();
    rig.receive(100_000);
    let told = rig.ask(OWNER, DeskRequest::BuildFunding { output: funding_output(), reserve_coin: None });
    let [(_, Command::FundingBuilt { transaction, .. })] = &told.commands[..] else { panic!("{told:?}") };
    rig.ask(OWNER, DeskRequest::ReleaseCoins { transaction: None });
    let other = OwnerId(OWNER.0 + 1);
    rig.ask(other, DeskRequest::BuildFunding { output: funding_output(), reserve_coin: None });
    // The first channel hears of its transaction late, and does not want it any more.
    rig.ask(OWNER, DeskRequest::ReleaseCoins { transaction: Some(transaction.clone()) });
    rig.ask(OWNER, DeskRequest::Forget);
    assert_eq!(rig.desk.summary().balance.locked, sat(100_000), "another opening has chosen the coin");
    rig.ask(other, DeskRequest::Forget);
    assert_eq!(rig.desk.summary().balance.confirmed, sat(100_000), "a channel that ended holds nothing");
    rig.restart();
}

#[test]
fn a_funding_without_coins_aborts_the_opening_and_locks_nothing() {
    let mut rig = Rig::new();
    rig.receive(10_000);
    let told = rig.ask(OWNER, DeskRequest::BuildFunding { output: funding_output(), reserve_coin: None });
    assert!(matches!(
        told.commands[..],
        [(OWNER, Command::AbortOpening { why: AbortReason::NotEnoughFunds })]
    ));
    assert_eq!(rig.desk.summary().balance.confirmed, sat(10_000));
}

#[test]
fn released_coins_are_free_again_also_after_a_restart() {
    let mut rig = Rig::new();
    rig.receive(100_000);
    let told = rig.ask(OWNER, DeskRequest::BuildFunding { output: funding_output(), reserve_coin: None });
    let [(_, Command::FundingBuilt { transaction, .. })] = &told.commands[..] else { panic!("{told:?}") };
    rig.restart();
    assert_eq!(rig.desk.summary().balance.locked, sat(100_000), "locks outlive the process");
    rig.ask(OWNER, DeskRequest::ReleaseCoins { transaction: Some(transaction.clone()) });
    rig.restart();
    assert_eq!(rig.desk.summary().balance.confirmed, sat(100_000));
}

#[test]
fn a_funding_that_is_not_watched_is_not_broadcast() {
    let mut rig = Rig::new();
    rig.receive(100_000);
    let transaction = strangers_payment(funding_output());
    let told = rig.ask(OWNER, DeskRequest::BroadcastFunding { transaction });
    assert!(told.broadcasts.is_empty());
    assert!(matches!(&told.reports[..], [DeskReport::Trouble { .. }]));
}

#[test]
fn an_unconfirmed_funding_is_given_up_in_time() {
    let mut rig = Rig::new();
    let outpoint = OutPoint { txid: Txid::from_byte_array([1; 32]), vout: 0 };
    rig.ask(OWNER, DeskRequest::WatchFunding { outpoint, output: funding_output(), minimum_depth: 1 });
    for _ in 1..settlement::limits::FUNDING_TIMEOUT_BLOCKS {
        assert!(rig.mine(vec![]).commands.is_empty());
    }
    let told = rig.mine(vec![]);
    assert!(matches!(events(&told)[..], [ChainEvent::FundingNeverConfirms { .. }]));
}

#[test]
fn a_funding_of_our_own_is_never_given_up_while_it_can_still_confirm() {
    let mut rig = Rig::new();
    rig.receive(100_000);
    let (transaction, _) = fund(&mut rig);
    rig.restart();
    for _ in 0..=settlement::limits::FUNDING_TIMEOUT_BLOCKS {
        assert!(events(&rig.mine(vec![])).is_empty(), "a channel that forgot it would lose its coins");
    }
    let told = rig.mine(vec![transaction]);
    assert!(matches!(events(&told)[..], [ChainEvent::FundingConfirmed { .. }]));
}

#[test]
fn a_depth_beyond_the_final_one_is_told_when_the_funding_is_final() {
    let mut rig = Rig::new();
    let transaction = strangers_payment(funding_output());
    let outpoint = OutPoint { txid: transaction.compute_txid(), vout: 0 };
    let request =
        DeskRequest::WatchFunding { outpoint, output: funding_output(), minimum_depth: FINAL_DEPTH + 1 };
    rig.ask(OWNER, request.clone());
    rig.mine(vec![transaction]);
    let height = rig.tip().height;
    rig.mine(vec![]);
    let told = rig.mine(vec![]);
    let deep_and_final = [&ChainEvent::FundingDeep { height }, &ChainEvent::FundingFinal];
    assert_eq!(events(&told), deep_and_final);
    let told = rig.ask(OWNER, request);
    assert!(events(&told).ends_with(&deep_and_final), "and again to who asks again");
}

#[test]
fn tickets_become_one_batch_that_is_handed_out_confirmed_and_final() {
    let mut rig = Rig::new();
    let tickets: Vec<ReadyTicket> = (0..5).map(|number| frozen(&mut rig, number)).collect();
    for ticket in &tickets {
        let told = rig.ask(ticket.owner, DeskRequest::TicketReady(Box::new(ticket.clone())));
        assert!(told.broadcasts.is_empty(), "tickets wait for company");
    }
    assert!(rig.desk.batch_wanted());
    let outcome = rig.desk.make_batches(&moment());
    let told = rig.perform(outcome);
    let batch = batch_of(&told);
    assert_eq!(told.commands.len(), 5, "every wallet gets the transaction");
    assert!(!rig.desk.batch_wanted());

    // A restart forgets what was verified; the tickets bring it back, and the same transaction.
    rig.restart();
    for ticket in &tickets[..4] {
        let told = rig.ask(ticket.owner, DeskRequest::TicketReady(Box::new(ticket.clone())));
        assert!(told.broadcasts.is_empty(), "a batch is verified whole or not at all");
    }
    let told = rig.ask(tickets[4].owner, DeskRequest::TicketReady(Box::new(tickets[4].clone())));
    assert_eq!(batch_of(&told), batch);

    let txid = batch.compute_txid();
    let told = rig.mine(vec![batch]);
    assert_eq!(events(&told).len(), 5);
    let height = rig.tip().height;
    rig.restart();
    rig.mine(vec![]);
    let told = rig.mine(vec![]);
    assert_eq!(events(&told), vec![&ChainEvent::SpendFinal { height, txid }; 5]);
    assert_eq!(rig.desk.summary().batches, 0);
    let hub_share = rig.desk.summary().balance.confirmed;
    assert!(hub_share > sat(5 * 40_000) - sat(5_000), "the hub's share came home: {hub_share}");
}

#[test]
fn a_batch_that_waits_too_long_is_replaced_at_a_higher_fee() {
    let mut rig = Rig::new();
    let ticket = frozen(&mut rig, 1);
    rig.ask(ticket.owner, DeskRequest::TicketReady(Box::new(ticket.clone())));
    let outcome = rig.desk.make_batches(&moment());
    let first = batch_of(&rig.perform(outcome));
    rig.mine(vec![]);
    let outcome = rig.desk.bump_batches(&moment());
    assert!(rig.perform(outcome).broadcasts.is_empty(), "not yet");
    rig.mine(vec![]);
    let outcome = rig.desk.bump_batches(&moment());
    let told = rig.perform(outcome);
    assert!(
        told.broadcasts
            .iter()
            .any(|broadcast| matches!(broadcast, Broadcast::Forget(txid) if *txid == first.compute_txid()))
    );
    let second = batch_of(&told);
    assert_eq!(second.input[0].previous_output, first.input[0].previous_output);
    let paid = |batch: &Transaction| batch.output.iter().map(|output| output.value).sum::<Amount>();
    assert!(paid(&second) < paid(&first), "the hub pays more");
    assert_eq!(second.output[0], first.output[0], "the wallet does not");
    rig.restart();
}

#[test]
fn a_wallet_publishes_the_batch_it_holds_when_the_hub_did_not() {
    let mut rig = Rig::new();
    let ticket = frozen(&mut rig, 1);
    let mut hubs = Rig::new();
    let same = frozen(&mut hubs, 1);
    hubs.ask(same.owner, DeskRequest::TicketReady(Box::new(same)));
    let outcome = hubs.desk.make_batches(&moment());
    let batch = batch_of(&hubs.perform(outcome));

    let request = DeskRequest::ClosingHandedOver {
        transaction: batch.clone(),
        publish_by_height: rig.tip().height + 2,
    };
    assert!(rig.ask(ticket.owner, request.clone()).broadcasts.is_empty());
    assert!(rig.mine(vec![]).broadcasts.is_empty());
    let told = rig.mine(vec![]);
    assert!(matches!(&told.broadcasts[..], [Broadcast::HandedOver(_)]));

    let mut forged = batch;
    forged.output.pop();
    let DeskRequest::ClosingHandedOver { publish_by_height, .. } = request else { unreachable!() };
    let mut other = Rig::new();
    let ticket = frozen(&mut other, 1);
    let request = DeskRequest::ClosingHandedOver { transaction: forged, publish_by_height };
    other.ask(ticket.owner, request);
    other.mine(vec![]);
    let told = other.mine(vec![]);
    assert!(told.broadcasts.is_empty(), "a batch that the hub's signature does not cover is worth nothing");
    assert!(matches!(&told.reports[..], [DeskReport::Trouble { .. }]));
}
