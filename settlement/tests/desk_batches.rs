//! The desk's batches when the chain is unkind: spoiled by another spend, replaced, reorganised, without coins.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use bitcoin::{Amount, OutPoint, Transaction, TxOut};
use channel::channel::ReadyTicket;
use common::rig::{FINAL_DEPTH, Rig, Told, batch_of, frozen, frozen_as, moment, strangers_payment};
use common::{Shape, sat};
use settlement::desk::{Broadcast, DeskRequest};

/// All of it is the wallet's, and the fee agreed is too low: the hub must add a coin.
const WITHOUT_SHARE: Shape = Shape { funding_sat: 100_000, balance_msat: 100_000_000, fee_sat: 100 };

fn hand_in(rig: &mut Rig, ticket: &ReadyTicket) -> Told {
    rig.ask(ticket.owner, DeskRequest::TicketReady(Box::new(ticket.clone())))
}

fn make(rig: &mut Rig) -> Told {
    let outcome = rig.desk.make_batches(&moment());
    rig.perform(outcome)
}

fn bump(rig: &mut Rig) -> Told {
    let outcome = rig.desk.bump_batches(&moment());
    rig.perform(outcome)
}

/// Somebody publishes something else that spends the channel.
fn other_spend(ticket: &ReadyTicket) -> Transaction {
    let script_pubkey = ticket.spec.wallet_script.clone();
    let mut spend = strangers_payment(TxOut { value: sat(90_000), script_pubkey });
    spend.input[0].previous_output = ticket.spec.funding_outpoint;
    spend
}

fn spends(batch: &Transaction) -> Vec<OutPoint> {
    batch.input.iter().map(|input| input.previous_output).collect()
}

#[test]
fn a_spoiled_batch_leaves_no_phantom_change_and_frees_its_coins() {
    let mut rig = Rig::new();
    rig.receive(50_000);
    let ticket = frozen_as(&mut rig, 1, WITHOUT_SHARE);
    hand_in(&mut rig, &ticket);
    assert_eq!(batch_of(&make(&mut rig)).input.len(), 2, "the hub adds its coin");
    rig.mine(vec![other_spend(&ticket)]);
    rig.restart();
    for _ in 1..FINAL_DEPTH {
        rig.mine(vec![]);
    }
    let balance = rig.desk.summary().balance;
    assert_eq!((balance.confirmed, balance.unconfirmed, balance.locked), (sat(50_000), sat(0), sat(0)));
    rig.restart();
}

#[test]
fn only_the_latest_of_replaced_batches_counts() {
    let mut rig = Rig::new();
    let ticket = frozen(&mut rig, 1);
    hand_in(&mut rig, &ticket);
    let mut batch = batch_of(&make(&mut rig));
    for _ in 0..5 {
        let share = batch.output.last().unwrap().value;
        assert_eq!(rig.desk.summary().balance.unconfirmed, share, "all within one second");
        rig.mine(vec![]);
        rig.mine(vec![]);
        batch = batch_of(&bump(&mut rig));
    }
    rig.restart();
    assert_eq!(rig.desk.summary().balance.unconfirmed, batch.output.last().unwrap().value);
}

#[test]
fn a_replaced_batch_that_is_mined_after_all_brings_the_hubs_share_home() {
    let mut rig = Rig::new();
    let ticket = frozen(&mut rig, 1);
    hand_in(&mut rig, &ticket);
    let first = batch_of(&make(&mut rig));
    rig.mine(vec![]);
    rig.mine(vec![]);
    batch_of(&bump(&mut rig));
    rig.mine(vec![first.clone()]);
    assert!(bump(&mut rig).broadcasts.is_empty(), "nothing is left to replace");
    for _ in 1..FINAL_DEPTH {
        rig.mine(vec![]);
    }
    let summary = rig.desk.summary();
    assert_eq!((summary.batches, summary.tickets_waiting), (0, 0));
    assert_eq!(summary.balance.total(), Some(first.output.last().unwrap().value));
}

#[test]
fn the_share_of_a_batch_is_not_spent_before_it_is_in_the_chain() {
    let mut rig = Rig::new();
    let ticket = frozen(&mut rig, 1);
    hand_in(&mut rig, &ticket);
    let batch = batch_of(&make(&mut rig));
    assert_eq!(rig.desk.summary().spendable, Amount::ZERO, "a replacement would pull it away");
    rig.mine(vec![batch.clone()]);
    let share = batch.output.last().unwrap().value;
    assert_eq!(rig.desk.summary().spendable + settlement::limits::RESERVE_PER_CHANNEL, share);
}

#[test]
fn a_hub_with_one_coin_can_raise_the_fee_that_it_pays() {
    let mut rig = Rig::new();
    rig.receive(50_000);
    let ticket = frozen_as(&mut rig, 1, WITHOUT_SHARE);
    hand_in(&mut rig, &ticket);
    let first = batch_of(&make(&mut rig));
    rig.mine(vec![]);
    rig.mine(vec![]);
    let second = batch_of(&bump(&mut rig));
    assert_eq!(spends(&first), spends(&second));
    let balance = rig.desk.summary().balance;
    assert_eq!((balance.confirmed, balance.locked), (sat(0), sat(0)), "the coin is spent once");
    rig.restart();
    rig.mine(vec![second.clone()]);
    assert_eq!(rig.desk.summary().balance.confirmed, second.output.last().unwrap().value);
}

#[test]
fn a_channel_that_the_chain_has_spent_spoils_no_batch() {
    let mut rig = Rig::new();
    let (gone, stays) = (frozen(&mut rig, 1), frozen(&mut rig, 2));
    hand_in(&mut rig, &gone);
    hand_in(&mut rig, &stays);
    rig.mine(vec![other_spend(&gone)]);
    let batch = batch_of(&make(&mut rig));
    assert_eq!(spends(&batch), [stays.spec.funding_outpoint]);
}

#[test]
fn a_batch_spoiled_by_one_channel_is_made_again_for_the_others_at_once() {
    let mut rig = Rig::new();
    let (gone, stays) = (frozen(&mut rig, 1), frozen(&mut rig, 2));
    hand_in(&mut rig, &gone);
    hand_in(&mut rig, &stays);
    assert_eq!(batch_of(&make(&mut rig)).input.len(), 2);
    rig.mine(vec![other_spend(&gone)]);
    let batch = batch_of(&bump(&mut rig));
    assert_eq!(spends(&batch), [stays.spec.funding_outpoint]);
    assert!(!rig.desk.batch_wanted());
    // The other spend is undone: the channel's ticket was not forgotten.
    rig.unmine();
    assert_eq!(spends(&batch_of(&make(&mut rig))), [gone.spec.funding_outpoint]);
    rig.restart();
}

#[test]
fn a_batch_that_was_in_the_chain_before_a_restart_is_published_again_when_its_block_is_undone() {
    let mut rig = Rig::new();
    let tickets = [frozen(&mut rig, 1), frozen(&mut rig, 2)];
    tickets.iter().for_each(|ticket| drop(hand_in(&mut rig, ticket)));
    let batch = batch_of(&make(&mut rig));
    rig.mine(vec![batch.clone()]);
    rig.restart();
    for ticket in &tickets {
        assert!(hand_in(&mut rig, ticket).broadcasts.is_empty(), "the chain has it");
    }
    assert_eq!(batch_of(&rig.unmine()), batch);
}

#[test]
fn a_batch_that_lacks_a_ticket_after_a_restart_is_made_again_without_it() {
    let mut rig = Rig::new();
    let (lost, here) = (frozen(&mut rig, 1), frozen(&mut rig, 2));
    hand_in(&mut rig, &lost);
    hand_in(&mut rig, &here);
    batch_of(&make(&mut rig));
    rig.restart();
    // The other channel was set aside, or given up: it asks for nothing any more.
    assert!(hand_in(&mut rig, &here).broadcasts.is_empty());
    rig.mine(vec![]);
    rig.mine(vec![]);
    assert_eq!(spends(&batch_of(&bump(&mut rig))), [here.spec.funding_outpoint]);
}

#[test]
fn tickets_that_wait_for_a_coin_leave_no_rows() {
    let mut rig = Rig::new();
    let ticket = frozen_as(&mut rig, 1, WITHOUT_SHARE);
    hand_in(&mut rig, &ticket);
    make(&mut rig);
    let rows = rig.journal.len();
    for _ in 0..3 {
        assert_eq!(make(&mut rig).reports.len(), 1);
    }
    assert_eq!(rig.journal.len(), rows, "each try would use up an address");
}

#[test]
fn a_handed_over_batch_is_let_go_when_its_channel_ends_otherwise() {
    let mut hubs = Rig::new();
    let same = frozen(&mut hubs, 1);
    hand_in(&mut hubs, &same);
    let batch = batch_of(&make(&mut hubs));
    let mut rig = Rig::new();
    let ticket = frozen(&mut rig, 1);
    let transaction = batch.clone();
    let told = rig.ask(ticket.owner, DeskRequest::ClosingHandedOver { transaction, publish_by_height: 0 });
    assert!(matches!(&told.broadcasts[..], [Broadcast::HandedOver(_)]));
    rig.mine(vec![other_spend(&ticket)]);
    let told = rig.ask(ticket.owner, DeskRequest::Forget);
    let forgotten = |told: &Told| {
        told.broadcasts
            .iter()
            .any(|told| matches!(told, Broadcast::Forget(id) if *id == batch.compute_txid()))
    };
    assert!(forgotten(&told), "it would be sent again with every block for ever");
}
