//! What the desk finds by itself once a channel is closed on the chain, over restarts and reorganisations.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash;
use bitcoin::{OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, WScriptHash};
use channel::event::{ChainEvent, Command};
use channel::ids::OwnerId;
use common::rig::{FINAL_DEPTH, Rig, Told, events, strangers_payment};
use common::sat;
use settlement::desk::DeskRequest;

const OWNER: OwnerId = OwnerId(2_000);

fn p2wsh(tag: u8) -> ScriptBuf {
    ScriptBuf::new_p2wsh(&WScriptHash::from_byte_array([tag; 32]))
}

fn output(script_pubkey: ScriptBuf) -> TxOut {
    TxOut { value: sat(10_000), script_pubkey }
}

fn input(previous_output: OutPoint) -> TxIn {
    TxIn { previous_output, sequence: Sequence(0x8000_1234), ..TxIn::default() }
}

fn spend(outpoints: &[OutPoint], output: Vec<TxOut>) -> Transaction {
    Transaction {
        version: bitcoin::transaction::Version::non_standard(3),
        lock_time: LockTime::ZERO,
        input: outpoints.iter().map(|outpoint| input(*outpoint)).collect(),
        output,
    }
}

fn at(transaction: &Transaction, vout: u32) -> OutPoint {
    OutPoint { txid: transaction.compute_txid(), vout }
}

/// A confirmed channel of somebody's making.
fn channel(rig: &mut Rig) -> (Transaction, OutPoint) {
    let funding = strangers_payment(output(p2wsh(5)));
    let outpoint = at(&funding, 0);
    let request = DeskRequest::WatchFunding { outpoint, output: output(p2wsh(5)), minimum_depth: 1 };
    rig.ask(OWNER, request);
    rig.mine(vec![funding.clone()]);
    (funding, outpoint)
}

/// A commitment by its form: the anchor first, then two HTLCs and a balance.
fn commitment(funding: OutPoint, number: u32) -> Transaction {
    let outputs = vec![
        output(ScriptBuf::new_p2a()),
        output(p2wsh(6)),
        output(p2wsh(7)),
        output(ScriptBuf::new_p2wpkh(&bitcoin::WPubkeyHash::from_byte_array([8; 20]))),
    ];
    let mut commitment = spend(&[funding], outputs);
    commitment.lock_time = LockTime::from_consensus(0x2000_0000 + number);
    commitment
}

fn spent(told: &Told) -> Vec<OutPoint> {
    let spent = events(told).into_iter().filter_map(|event| match event {
        ChainEvent::OutputSpent { outpoint, .. } => Some(*outpoint),
        _ => None,
    });
    spent.collect()
}

#[test]
fn a_commitment_its_htlc_transactions_and_what_spends_those_are_found_in_one_block() {
    let mut rig = Rig::new();
    let (_, funding) = channel(&mut rig);
    let commitment = commitment(funding, 1);
    // Both HTLCs in one transaction: the second one's output is at the second position.
    let htlcs = spend(
        &[at(&commitment, 1), at(&commitment, 2)],
        vec![output(p2wsh(9)), output(p2wsh(10)), output(p2wsh(11))],
    );
    let last = spend(&[at(&htlcs, 0), at(&htlcs, 1), at(&htlcs, 2)], vec![output(p2wsh(12))]);
    let further = spend(&[at(&last, 0)], vec![output(p2wsh(13))]);
    let anchor = spend(&[at(&commitment, 0)], vec![output(p2wsh(14))]);
    let block = vec![commitment.clone(), htlcs.clone(), last.clone(), further, anchor];
    let told = rig.mine(block);
    assert!(
        matches!(events(&told)[0], ChainEvent::FundingSpent { transaction, .. } if *transaction == commitment)
    );
    let expected = [at(&commitment, 1), at(&commitment, 2), at(&htlcs, 0), at(&htlcs, 1)];
    assert_eq!(
        spent(&told),
        expected,
        "neither the anchor, nor an output without its input, nor what comes after"
    );

    let height = rig.tip().height;
    rig.restart();
    (1..FINAL_DEPTH - 1).for_each(|_| {
        rig.mine(vec![]);
    });
    rig.restart();
    let told = rig.mine(vec![]);
    let is_final = |outpoint: OutPoint, by: &Transaction| ChainEvent::OutputSpendFinal {
        outpoint,
        height,
        txid: by.compute_txid(),
    };
    let finals = [
        // It is in the same block.
        ChainEvent::FundingFinal,
        ChainEvent::SpendFinal { height, txid: commitment.compute_txid() },
        is_final(expected[0], &htlcs),
        is_final(expected[1], &htlcs),
        is_final(expected[2], &last),
        is_final(expected[3], &last),
    ];
    assert_eq!(events(&told), finals.iter().collect::<Vec<_>>());
    rig.restart();

    // The output that nobody spent yet is still watched.
    let balance = at(&commitment, 3);
    assert_eq!(spent(&rig.mine(vec![spend(&[balance], vec![output(p2wsh(15))])])), [balance]);
    // Whoever asks again hears what is final again.
    let request = DeskRequest::WatchFunding { outpoint: funding, output: output(p2wsh(5)), minimum_depth: 1 };
    let told = rig.ask(OWNER, request);
    finals.iter().for_each(|event| assert!(events(&told).contains(&event), "{event:?}"));
}

#[test]
fn a_reorganisation_takes_each_stage_back_and_another_commitment_may_follow() {
    let mut rig = Rig::new();
    let (_, funding) = channel(&mut rig);
    let first = commitment(funding, 1);
    rig.mine(vec![first.clone()]);
    rig.restart();
    let htlc = spend(&[at(&first, 1)], vec![output(p2wsh(9))]);
    assert_eq!(spent(&rig.mine(vec![htlc.clone()])), [at(&first, 1)]);
    let told = rig.unmine();
    let undone = ChainEvent::OutputSpendUndone { outpoint: at(&first, 1), txid: htlc.compute_txid() };
    assert_eq!(events(&told), [&undone]);
    rig.restart();
    // Another spend of the output instead, in a block of the second chain; the first one's output is nobody's now.
    let other = spend(&[at(&first, 1)], vec![output(p2wsh(10))]);
    let orphan = spend(&[at(&htlc, 0)], vec![]);
    assert_eq!(spent(&rig.mine(vec![other.clone(), orphan])), [at(&first, 1)]);
    rig.restart();
    rig.unmine();
    let told = rig.unmine();
    assert_eq!(events(&told), [&ChainEvent::SpendUndone { txid: first.compute_txid() }]);
    rig.restart();

    let second = commitment(funding, 2);
    rig.mine(vec![second.clone()]);
    rig.restart();
    let late = spend(&[at(&first, 1), at(&second, 1)], vec![output(p2wsh(9)), output(p2wsh(9))]);
    assert_eq!(
        spent(&rig.mine(vec![late.clone()])),
        [at(&second, 1)],
        "the first one's outputs are forgotten"
    );
    assert_eq!(spent(&rig.mine(vec![spend(&[at(&late, 1)], vec![])])), [at(&late, 1)]);
}

#[test]
fn the_outputs_of_an_agreed_close_are_nobodys_business() {
    let mut rig = Rig::new();
    let (_, funding) = channel(&mut rig);
    let close = spend(&[funding], vec![output(p2wsh(6))]);
    let told = rig.mine(vec![close.clone(), spend(&[at(&close, 0)], vec![])]);
    assert!(matches!(events(&told)[..], [ChainEvent::FundingSpent { .. }]));
}

#[test]
fn a_reorganised_funding_that_was_spent_otherwise_never_confirms() {
    let mut rig = Rig::new();
    let (funding, _) = channel(&mut rig);
    rig.restart();
    rig.unmine();
    rig.restart();
    let conflict = spend(&[funding.input[0].previous_output], vec![output(p2wsh(6))]);
    assert!(rig.mine(vec![conflict.clone()]).commands.is_empty(), "the conflict may be undone too");
    rig.restart();
    rig.unmine();
    let told = rig.mine(vec![funding.clone()]);
    assert!(
        matches!(events(&told)[0], ChainEvent::FundingConfirmed { .. }),
        "and then the funding is as good as before"
    );
    rig.unmine();
    rig.mine(vec![conflict]);
    let height = rig.tip().height;
    (1..FINAL_DEPTH - 1).for_each(|_| assert!(rig.mine(vec![]).commands.is_empty()));
    rig.restart();
    let told = rig.mine(vec![]);
    assert_eq!(events(&told), [&ChainEvent::FundingNeverConfirms { height }]);
    rig.restart();
}

#[test]
fn a_conflict_counts_although_a_later_one_with_another_coin_was_undone() {
    let mut rig = Rig::new();
    let coins = [strangers_payment(output(p2wsh(1))), strangers_payment(output(p2wsh(2)))];
    let coins: Vec<OutPoint> = coins.iter().map(|coin| at(coin, 0)).collect();
    let funding = spend(&coins, vec![output(p2wsh(5))]);
    let request =
        DeskRequest::WatchFunding { outpoint: at(&funding, 0), output: output(p2wsh(5)), minimum_depth: 1 };
    rig.ask(OWNER, request);
    rig.mine(vec![funding]);
    rig.unmine();
    rig.mine(vec![spend(&coins[..1], vec![output(p2wsh(6))])]);
    let height = rig.tip().height;
    rig.mine(vec![spend(&coins[1..], vec![output(p2wsh(6))])]);
    rig.unmine();
    rig.restart();
    (1..FINAL_DEPTH - 1).for_each(|_| assert!(rig.mine(vec![]).commands.is_empty()));
    assert_eq!(events(&rig.mine(vec![])), [&ChainEvent::FundingNeverConfirms { height }]);
}

#[test]
fn conflicts_that_reorganisations_swap_end_a_funding_only_while_one_of_them_is_in_the_chain() {
    for (restarts, survivor) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut rig = Rig::new();
        let coins = [strangers_payment(output(p2wsh(1))), strangers_payment(output(p2wsh(2)))];
        let coins: Vec<OutPoint> = coins.iter().map(|coin| at(coin, 0)).collect();
        let funding = spend(&coins, vec![output(p2wsh(5))]);
        let outpoint = at(&funding, 0);
        let request = DeskRequest::WatchFunding { outpoint, output: output(p2wsh(5)), minimum_depth: 1 };
        rig.ask(OWNER, request);
        let conflicts = [0, 1].map(|coin| spend(&coins[coin..=coin], vec![output(p2wsh(6))]));
        let step = |rig: &mut Rig, block: Option<&Transaction>| {
            let told = match block {
                Some(transaction) => rig.mine(vec![transaction.clone()]),
                None => rig.unmine(),
            };
            if restarts {
                rig.restart();
            }
            told
        };
        step(&mut rig, Some(&funding));
        step(&mut rig, None);
        // One, the other; then the other way round, and without the one that came second.
        for order in [[0, 1], [1, 0]] {
            order.iter().for_each(|conflict| drop(step(&mut rig, Some(&conflicts[*conflict]))));
            step(&mut rig, None);
            if order == [0, 1] || survivor {
                step(&mut rig, None);
            }
        }
        let height = rig.tip().height;
        if survivor {
            let told = step(&mut rig, Some(&funding));
            assert!(matches!(events(&told)[..], [ChainEvent::FundingConfirmed { .. }, ..]), "{told:?}");
        }
        let told: Vec<_> = (0..2 * FINAL_DEPTH).flat_map(|_| rig.mine(vec![]).commands).collect();
        let ends = told.iter().filter_map(|(_, command)| match command {
            Command::Chain(ChainEvent::FundingNeverConfirms { height }) => Some(*height),
            _ => None,
        });
        let expected: &[u32] = if survivor { &[] } else { &[height] };
        assert_eq!(ends.collect::<Vec<_>>(), expected, "restarts {restarts}, survivor {survivor}");
    }
}

#[test]
fn what_spends_a_funding_that_never_confirms_never_confirms_either() {
    let mut rig = Rig::new();
    let watch = |rig: &mut Rig, number: u64, transaction: &Transaction| {
        let (outpoint, output) = (at(transaction, 0), output(p2wsh(5)));
        let request = DeskRequest::WatchFunding { outpoint, output, minimum_depth: 1 };
        rig.ask(OwnerId(OWNER.0 + number), request);
    };
    let from = |tag| OutPoint { txid: Txid::from_byte_array([tag; 32]), vout: 0 };
    let (first, other) =
        (spend(&[from(1)], vec![output(p2wsh(5))]), spend(&[from(2)], vec![output(p2wsh(5))]));
    // Each spends the change of the one before it; another spends nothing of them.
    let change = |of: &Transaction| spend(&[at(of, 1)], vec![output(p2wsh(5)), output(p2wsh(9))]);
    let second = change(&first);
    let third = change(&second);
    for (number, transaction) in (0..).zip([&first, &third, &second, &other]) {
        watch(&mut rig, number, transaction);
    }
    rig.mine(vec![first.clone(), other.clone(), second.clone()]);
    rig.mine(vec![third]);
    rig.unmine();
    rig.unmine();
    rig.mine(vec![other, spend(&[first.input[0].previous_output], vec![])]);
    rig.restart();
    (2..FINAL_DEPTH).for_each(|_| {
        rig.mine(vec![]);
    });
    let told = rig.mine(vec![]);
    let ended = told
        .commands
        .iter()
        .filter(|(_, command)| matches!(command, Command::Chain(ChainEvent::FundingNeverConfirms { .. })));
    let mut ended: Vec<u64> = ended.map(|(owner, _)| owner.0 - OWNER.0).collect();
    ended.sort_unstable();
    assert_eq!(ended, [0, 1, 2]);
    rig.restart();
    assert!(
        !rig.mine(vec![]).commands.iter().any(|(_, command)| {
            matches!(command, Command::Chain(ChainEvent::FundingNeverConfirms { .. }))
        })
    );
}

#[test]
fn an_opener_hears_of_a_conflict_with_a_funding_that_was_never_in_a_block() {
    let mut rig = Rig::new();
    rig.receive(100_000);
    let told = rig.ask(OWNER, DeskRequest::BuildFunding { output: output(p2wsh(5)), reserve_coin: None });
    let [(_, channel::event::Command::FundingBuilt { transaction, output_index })] = &told.commands[..]
    else {
        panic!("{told:?}")
    };
    let outpoint = at(transaction, *output_index);
    rig.ask(OWNER, DeskRequest::WatchFunding { outpoint, output: output(p2wsh(5)), minimum_depth: 1 });
    rig.ask(OWNER, DeskRequest::BroadcastFunding { transaction: transaction.clone() });
    rig.restart();
    rig.mine(vec![spend(&[transaction.input[0].previous_output], vec![output(p2wsh(6))])]);
    rig.restart();
    (2..FINAL_DEPTH).for_each(|_| assert!(rig.mine(vec![]).commands.is_empty()));
    assert!(matches!(events(&rig.mine(vec![]))[..], [ChainEvent::FundingNeverConfirms { .. }]));
}

#[test]
fn a_funding_that_is_final_watches_its_inputs_no_longer() {
    let mut rig = Rig::new();
    let (funding, outpoint) = channel(&mut rig);
    (0..FINAL_DEPTH).for_each(|_| {
        rig.mine(vec![]);
    });
    rig.restart();
    let impossible = spend(&[funding.input[0].previous_output], vec![]);
    rig.mine(vec![impossible]);
    (0..FINAL_DEPTH).for_each(|_| assert!(rig.mine(vec![]).commands.is_empty()));
    let told = rig.mine(vec![commitment(outpoint, 1)]);
    assert!(matches!(events(&told)[..], [ChainEvent::FundingSpent { .. }]));
}
