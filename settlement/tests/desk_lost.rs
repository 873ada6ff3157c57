//! What rests on a transaction that a reorganisation took out of the chain, once something else has its place for good.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use bitcoin::hashes::Hash;
use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, TxOut, Txid, WScriptHash};
use channel::event::{ChainEvent, Command};
use channel::ids::OwnerId;
use common::pair::{End, Pair};
use common::rig::{FINAL_DEPTH, Rig, Told, batch_of, frozen_as, moment};
use common::settling::{at_feerate, channel, give, package, settle, settle_at};
use common::{Shape, sat};
use settlement::broadcast::PublishError;
use settlement::desk::{Broadcast, DeskRequest};
use settlement::onchain::OnchainBalance;

/// A commitment and its child, confirmed: the child's change is the only coin of the rig's.
fn closed(rig: &mut Rig) -> (Pair, Transaction) {
    let pair = channel(rig, 1);
    let commitment = pair.commitment(End::Hub, 7, &[]);
    let plan = pair.plan(Some(pair.publish(&commitment, None)), vec![]);
    give(rig, plan);
    let (parent, child) = package(&settle(rig));
    rig.mine(vec![parent, child.clone()]);
    give(rig, pair.plan(None, vec![]));
    (pair, child)
}

fn publishes_again(rig: &mut Rig, pair: &Pair) {
    let commitment = pair.commitment(End::Hub, 7, &[]);
    give(rig, pair.plan(Some(pair.publish(&commitment, None)), vec![]));
}

fn balance(rig: &Rig) -> (Amount, Amount) {
    let OnchainBalance { confirmed, unconfirmed, immature, locked } = rig.desk.summary().balance;
    (confirmed, unconfirmed + immature + locked)
}

/// A commitment and its child confirm, the child's change funds a channel, and another commitment takes the place of the first.
#[test]
fn a_funding_that_rests_on_what_a_reorganisation_replaced_never_confirms_and_its_coins_are_free() {
    for (restarted, built_only) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut rig = Rig::new();
        rig.receive(2_000_000);
        let (pair, child) = closed(&mut rig);
        let (opening, transaction) = open_with(&mut rig, &child);
        let broadcast = DeskRequest::BroadcastFunding { transaction: transaction.clone() };
        if !built_only {
            rig.ask(opening, broadcast.clone());
        }

        rig.unmine();
        if restarted {
            rig.take_snapshot();
            rig.restart();
            publishes_again(&mut rig, &pair);
            // Its channel asks again at each start.
            if !built_only {
                rig.ask(opening, broadcast);
            }
        }
        rig.mine(vec![pair.commitment(End::Wallet, 7, &[]).transaction]);
        give(&mut rig, pair.plan(None, vec![]));
        let told = until_final(&mut rig, opening, |rig| drop(rig.restart()));
        assert!(
            matches!(told[..], [Command::Chain(ChainEvent::FundingNeverConfirms { .. })]),
            "{restarted} {built_only}: {told:?}"
        );
        rig.ask(opening, DeskRequest::ReleaseCoins { transaction: Some(transaction.clone()) });
        rig.ask(opening, DeskRequest::Forget);
        rig.ask(pair.owner(), DeskRequest::Forget);
        rig.restart();
        assert_eq!(balance(&rig), (sat(2_000_000), Amount::ZERO), "{restarted} {built_only}");
    }
}

#[test]
fn a_batch_that_rests_on_what_a_reorganisation_replaced_is_made_anew() {
    for restarted in [false, true] {
        let mut rig = Rig::new();
        rig.receive(50_000);
        let (pair, child) = closed(&mut rig);
        // The wallet's all of it, and too low a fee: the hub must add its coin.
        let shape = Shape { funding_sat: 100_000, balance_msat: 100_000_000, fee_sat: 100 };
        let ticket = frozen_as(&mut rig, 2, shape);
        let hand_in = |rig: &mut Rig| {
            rig.ask(ticket.owner, DeskRequest::TicketReady(Box::new(ticket.clone())));
            let outcome = rig.desk.make_batches(&moment());
            rig.perform(outcome)
        };
        let first = batch_of(&hand_in(&mut rig));
        assert_eq!(first.input[1].previous_output.txid, child.compute_txid());
        rig.unmine();
        if restarted {
            rig.restart();
            publishes_again(&mut rig, &pair);
            hand_in(&mut rig);
        }
        rig.mine(vec![pair.commitment(End::Wallet, 7, &[]).transaction]);
        give(&mut rig, pair.plan(None, vec![]));
        (1..FINAL_DEPTH).for_each(|_| {
            rig.mine(vec![]);
            settle(&mut rig);
        });
        assert_eq!(rig.desk.summary().batches, 0);
        let second = batch_of(&hand_in(&mut rig));
        assert_ne!(second.input[1].previous_output.txid, child.compute_txid(), "another coin: {restarted}");
        rig.mine(vec![second]);
    }
}

/// The commitment stays in the chain, the block with its child is undone, and nodes have forgotten the child.
#[test]
fn a_child_that_a_reorganisation_took_out_of_the_chain_is_sent_again_until_it_is_back() {
    for restarted in [false, true] {
        let (mut rig, child, told) = with_child_undone(restarted);
        assert_eq!(returned(&told), [&child], "{restarted}");
        rig.mine(vec![]);
        rig.mine(vec![child.clone()]);
        let change = child.output[0].value;
        assert_eq!(balance(&rig), (change, Amount::ZERO));
        let forgotten = (1..FINAL_DEPTH).any(|_| forgets(&rig.mine(vec![]), child.compute_txid()));
        assert!(forgotten, "{restarted}");
    }
}

#[test]
fn the_coins_of_a_child_that_something_else_made_impossible_are_free_in_the_end() {
    let (mut rig, child, _) = with_child_undone(false);
    let txid = child.compute_txid();
    for refused in 1..=FINAL_DEPTH {
        assert_eq!(balance(&rig).0, Amount::ZERO, "{refused}");
        rig.desk.note_published(txid, &Err(PublishError::MissingInputs));
        let told = rig.mine(vec![]);
        settle(&mut rig);
        assert_eq!(forgets(&told, txid), refused == FINAL_DEPTH, "{refused}");
    }
    assert_eq!(balance(&rig), (sat(50_000), Amount::ZERO));
    rig.restart();
    assert_eq!(balance(&rig), (sat(50_000), Amount::ZERO));
}

/// A funding and the one that its change paid for leave the chain, the first has to wait for blocks to be cheaper, and nodes miss it
/// for as long: both are sent until they are back. At each start their channels ask later than the desk looks.
#[test]
fn a_funding_whose_parent_waits_is_sent_however_long_nodes_miss_it() {
    for restarted in [false, true] {
        let mut rig = Rig::new();
        rig.receive(2_000_000);
        let (_, child) = closed(&mut rig);
        let (opening, transaction) = open_with(&mut rig, &child);
        let broadcast = DeskRequest::BroadcastFunding { transaction: transaction.clone() };
        rig.ask(opening, broadcast.clone());
        rig.mine(vec![transaction.clone()]);
        rig.unmine();
        if restarted {
            rig.restart();
            rig.ask(opening, broadcast);
        }
        let txid = transaction.compute_txid();
        for _ in 0..=2 * FINAL_DEPTH {
            rig.desk.note_published(txid, &Err(PublishError::MissingInputs));
            let told = rig.mine(vec![]);
            assert!(!forgets(&told, txid), "{restarted}");
        }
        let told = rig.mine(vec![transaction]);
        assert!(told.commands.iter().any(|(owner, _)| *owner == opening), "{restarted}");
    }
}

fn forgets(told: &Told, txid: Txid) -> bool {
    told.broadcasts.iter().any(|what| matches!(what, Broadcast::Forget(gone) if *gone == txid))
}

/// Blocks until what is in one is final. `told`: what this channel hears in them, and it hears nothing before the last.
fn until_final(rig: &mut Rig, owner: OwnerId, mut after_each: impl FnMut(&mut Rig)) -> Vec<Command> {
    let mut told = Vec::new();
    for _ in 1..FINAL_DEPTH {
        assert!(told.is_empty(), "not before it is final");
        let commands = rig.mine(vec![]).commands.into_iter();
        told.extend(commands.filter(|(to, _)| *to == owner).map(|(_, command)| command));
        settle(rig);
        after_each(rig);
    }
    told
}

fn with_child_undone(restarted: bool) -> (Rig, Transaction, Told) {
    let mut rig = Rig::new();
    rig.receive(50_000);
    let pair = channel(&mut rig, 1);
    publishes_again(&mut rig, &pair);
    let (parent, child) = package(&settle(&mut rig));
    rig.mine(vec![parent]);
    give(&mut rig, pair.plan(None, vec![]));
    rig.mine(vec![child.clone()]);
    let mut told = rig.unmine();
    if restarted {
        told = rig.restart();
    }
    (rig, child, told)
}

fn returned(told: &Told) -> Vec<&Transaction> {
    fn of(what: &Broadcast) -> Option<&Transaction> {
        if let Broadcast::Returned(what) = what { Some(what.transaction()) } else { None }
    }
    told.broadcasts.iter().filter_map(of).collect()
}

#[test]
fn a_funding_that_rests_on_a_child_that_was_made_anew_never_confirms() {
    for restarted in [false, true] {
        let mut rig = Rig::new();
        rig.receive(2_000_000);
        let (pair, child) = closed(&mut rig);
        let (opening, transaction) = open_with(&mut rig, &child);
        let broadcast = DeskRequest::BroadcastFunding { transaction };
        rig.ask(opening, broadcast.clone());
        rig.unmine();
        publishes_again(&mut rig, &pair);
        if restarted {
            rig.restart();
            publishes_again(&mut rig, &pair);
            rig.ask(opening, broadcast);
        }
        let (parent, other) = package(&settle_at(&mut rig, &at_feerate(5_000)));
        assert_ne!(other, child, "blocks are dearer now");
        rig.mine(vec![parent, other.clone()]);
        give(&mut rig, pair.plan(None, vec![]));
        let told = until_final(&mut rig, opening, |_| ());
        assert!(
            matches!(told[..], [Command::Chain(ChainEvent::FundingNeverConfirms { .. })]),
            "{restarted}: {told:?}"
        );
        assert_eq!(balance(&rig), (other.output[0].value, Amount::ZERO), "{restarted}");
    }
}

/// Both were in blocks. What is listed because it left them is off the list as soon as the other child counts.
#[test]
fn a_funding_that_was_in_a_block_and_rests_on_a_child_that_was_made_anew_never_confirms() {
    for restarted in [false, true] {
        let mut rig = Rig::new();
        rig.receive(2_000_000);
        let (pair, child) = closed(&mut rig);
        let (opening, transaction) = open_with(&mut rig, &child);
        let broadcast = DeskRequest::BroadcastFunding { transaction: transaction.clone() };
        rig.ask(opening, broadcast.clone());
        rig.mine(vec![transaction]);
        rig.unmine();
        rig.unmine();
        publishes_again(&mut rig, &pair);
        if restarted {
            rig.take_snapshot();
            rig.restart();
            publishes_again(&mut rig, &pair);
        }
        let (parent, other) = package(&settle_at(&mut rig, &at_feerate(5_000)));
        assert_ne!(other, child, "blocks are dearer now");
        rig.mine(vec![parent, other.clone()]);
        give(&mut rig, pair.plan(None, vec![]));
        let told = until_final(&mut rig, opening, |_| ());
        assert!(
            matches!(told[..], [Command::Chain(ChainEvent::FundingNeverConfirms { .. })]),
            "{restarted}: {told:?}"
        );
        assert_eq!(balance(&rig), (other.output[0].value, Amount::ZERO), "{restarted}");
    }
}

/// Anybody may spend a commitment's anchor.
#[test]
fn a_funding_that_rests_on_a_child_whose_place_a_strangers_took_never_confirms() {
    for restarted in [false, true] {
        let mut rig = Rig::new();
        rig.receive(2_000_000);
        let before = balance(&rig).0;
        let (pair, child) = closed(&mut rig);
        let (opening, transaction) = open_with(&mut rig, &child);
        let broadcast = DeskRequest::BroadcastFunding { transaction };
        rig.ask(opening, broadcast.clone());
        let commitment = pair.commitment(End::Hub, 7, &[]).transaction;
        rig.unmine();
        rig.mine(vec![commitment.clone()]);
        if restarted {
            rig.take_snapshot();
            rig.restart();
            rig.ask(opening, broadcast);
        }
        let mut strangers = child.clone();
        strangers.input.retain(|input| input.previous_output.txid == commitment.compute_txid());
        strangers.input[0].sequence = bitcoin::Sequence::ZERO;
        strangers.output[0].script_pubkey = ScriptBuf::new_p2wsh(&WScriptHash::from_byte_array([8; 32]));
        assert_eq!(strangers.input.len(), 1, "only the anchor");
        rig.mine(vec![strangers]);
        give(&mut rig, pair.plan(None, vec![]));
        let told = until_final(&mut rig, opening, |_| ());
        assert!(
            matches!(told[..], [Command::Chain(ChainEvent::FundingNeverConfirms { .. })]),
            "{restarted}: {told:?}"
        );
        assert_eq!(balance(&rig), (before, Amount::ZERO), "{restarted}: what paid for the child is free");
    }
}

/// An opening whose funding, not published yet, spends the child's change.
fn open_with(rig: &mut Rig, child: &Transaction) -> (OwnerId, Transaction) {
    let opening = OwnerId(77);
    let script_pubkey = ScriptBuf::new_p2wsh(&WScriptHash::from_byte_array([9; 32]));
    let output = TxOut { value: sat(500_000), script_pubkey };
    let told = rig.ask(opening, DeskRequest::BuildFunding { output: output.clone(), reserve_coin: None });
    let [(_, Command::FundingBuilt { transaction, output_index })] = &told.commands[..] else {
        panic!("{told:?}")
    };
    assert_eq!(transaction.input[0].previous_output.txid, child.compute_txid());
    let outpoint = OutPoint { txid: transaction.compute_txid(), vout: *output_index };
    rig.ask(opening, DeskRequest::WatchFunding { outpoint, output, minimum_depth: 1 });
    (opening, transaction.clone())
}
