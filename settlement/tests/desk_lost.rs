//! What rests on a transaction that a reorganisation took out of the chain, once something else has its place for good.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use bitcoin::hashes::Hash;
use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, TxOut, WScriptHash};
use channel::event::{ChainEvent, Command};
use channel::ids::OwnerId;
use common::pair::{End, Pair};
use common::rig::{FINAL_DEPTH, Rig, batch_of, frozen_as, moment};
use common::settling::{channel, give, package, settle};
use common::{Shape, sat};
use settlement::desk::DeskRequest;
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
        let opening = OwnerId(77);
        let output = TxOut {
            value: sat(500_000),
            script_pubkey: ScriptBuf::new_p2wsh(&WScriptHash::from_byte_array([9; 32])),
        };
        let told = rig.ask(opening, DeskRequest::BuildFunding { output: output.clone(), reserve_coin: None });
        let [(_, Command::FundingBuilt { transaction, output_index })] = &told.commands[..] else {
            panic!("{told:?}")
        };
        assert_eq!(transaction.input[0].previous_output.txid, child.compute_txid());
        let outpoint = OutPoint { txid: transaction.compute_txid(), vout: *output_index };
        rig.ask(opening, DeskRequest::WatchFunding { outpoint, output, minimum_depth: 1 });
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
        let mut told = Vec::new();
        for _ in 1..FINAL_DEPTH {
            assert!(told.is_empty(), "not before the other one is final");
            let commands = rig.mine(vec![]).commands.into_iter();
            told.extend(commands.filter(|(owner, _)| *owner == opening).map(|(_, command)| command));
            settle(&mut rig);
            rig.restart();
        }
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
