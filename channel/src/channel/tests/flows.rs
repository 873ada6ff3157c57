//! The ways things go when everybody keeps the rules.

use bitcoin::Amount;

use super::pair::*;
use crate::amount::Msat;
use crate::channel::PhaseView;
use crate::closing::{BATCH_LOCK_TIME, BATCH_VERSION, BatchSighashes, ClosingTerms};
use crate::effect::{Effect, Report};
use crate::error::FailureCause;
use crate::event::{ChainEvent, Command, FailRequest};
use crate::failure::FailureReason;
use crate::forward::{ForwardResult, Internal};
use crate::signer::Signer;

const RESERVE_MSAT: u64 = CAPACITY_SAT / 100 * 1_000;

fn balances(pair: &Pair) -> (u64, u64) {
    let hub = pair.hub.channel().view();
    let wallet = pair.wallet.channel().view();
    assert_eq!(hub.holder_msat, wallet.counterparty_msat);
    assert_eq!(hub.counterparty_msat, wallet.holder_msat);
    (hub.holder_msat.to_u64(), wallet.holder_msat.to_u64())
}

#[test]
fn the_opener_owns_the_whole_channel_at_first() {
    for opener in Who::BOTH {
        let pair = Pair::open(opener);
        let all = CAPACITY_SAT * 1_000;
        let expected = if opener == Who::Hub { (all, 0) } else { (0, all) };
        assert_eq!(balances(&pair), expected);
        assert_eq!(pair.hub.channel().phase(), PhaseView::Open);
        let opener = if opener == Who::Hub { &pair.hub } else { &pair.wallet };
        assert_eq!(opener.channel().spendable().to_u64(), all * 80 / 100);
        assert_eq!(opener.channel().receivable(), Msat::ZERO);
    }
}

#[test]
fn a_payment_moves_its_amount_and_is_resolved_exactly_once() {
    for amount in [100_000, 10_000_000] {
        let mut pair = Pair::open(Who::Hub);
        pair.offer(Who::Hub, 1, amount);
        pair.run();
        let offers = pair.wallet.offers();
        assert_eq!(offers.len(), 1);
        assert_eq!(offers[0].payment_hash, hash(1));
        assert_eq!(balances(&pair), (CAPACITY_SAT * 1_000 - amount, 0));
        pair.resolve(Who::Wallet, 0, fulfilled(1));
        pair.run();
        assert_eq!(balances(&pair), (CAPACITY_SAT * 1_000 - amount, amount));
        assert_eq!(pair.hub.results(), [(key(1), fulfilled(1))]);
        pair.hub.command(Command::Ack { key: key(1) }).unwrap();
        let settled = |report: &&Report| matches!(report, Report::ForwardSettled { .. });
        assert_eq!(pair.wallet.reports.iter().filter(settled).count(), 1);
        for end in [&pair.hub, &pair.wallet] {
            assert!(end.channel().state.htlcs.is_empty());
            assert!(end.channel().state.is_quiescent());
            assert!(end.channel().state.forwards.is_empty());
        }
        // A revoked state without HTLC outputs leaves no row.
        assert_eq!(pair.hub.revoked.is_empty(), amount < 354_000);
    }
}

#[test]
fn a_failed_payment_goes_back_and_is_told_only_when_irrevocable() {
    let mut pair = Pair::open(Who::Hub);
    pair.offer(Who::Hub, 1, 10_000_000);
    pair.run();
    pair.resolve(Who::Wallet, 0, REFUSED);
    pair.settle();
    assert_eq!(pair.hub.results(), []);
    pair.run();
    assert_eq!(pair.hub.results(), [(key(1), REFUSED)]);
    assert_eq!(balances(&pair), (CAPACITY_SAT * 1_000, 0));
}

#[test]
fn many_payments_both_ways_share_rounds() {
    let mut pair = Pair::open(Who::Hub);
    pair.offer(Who::Hub, 1, 400_000_000);
    pair.run();
    pair.resolve(Who::Wallet, 0, fulfilled(1));
    pair.run();
    for number in 10..30 {
        pair.offer(Who::Hub, number, 1_000 + number);
        pair.offer(Who::Wallet, 100 + number, 2_000_000 + number);
    }
    pair.run();
    let before = pair.hub.channel().view().holder_commitment_number;
    assert!(before < 10, "twenty payments each way took {before} commitments");
    for number in 10..30 {
        pair.resolve(Who::Wallet, number - 9, fulfilled(number));
        pair.resolve(Who::Hub, number - 10, if number % 2 == 0 { fulfilled(100 + number) } else { REFUSED });
    }
    pair.run();
    let to_wallet: u64 = (10..30).map(|number| 1_000 + number).sum();
    let to_hub: u64 = (10..30).step_by(2).map(|number| 2_000_000 + number).sum();
    let (hub, wallet) = balances(&pair);
    assert_eq!(wallet, 400_000_000 + to_wallet - to_hub);
    assert_eq!(hub + wallet, CAPACITY_SAT * 1_000);
    assert_eq!(pair.hub.results().len(), 21);
    assert_eq!(pair.wallet.results().len(), 20);
}

#[test]
fn the_reserve_cannot_be_spent() {
    let mut pair = Pair::open(Who::Hub);
    pair.hub.policy.max_in_flight_percent = 100;
    for number in 0..5 {
        let spendable = pair.hub.channel().spendable().to_u64();
        pair.offer(Who::Hub, number, spendable);
        pair.run();
        pair.resolve(Who::Wallet, number, fulfilled(number));
        pair.run();
    }
    assert_eq!(balances(&pair).0, RESERVE_MSAT);
    assert_eq!(pair.hub.channel().spendable(), Msat::ZERO);
    pair.offer(Who::Hub, 9, 1);
    let failed = ForwardResult::Failed { reason: FailureReason::NoLiquidity };
    assert_eq!(pair.hub.results().last(), Some(&(key(9), failed)));
}

#[test]
fn a_payment_survives_a_disconnect_and_a_restart_between_any_two_messages() {
    // Every number of delivered messages at which the connection may break, with either end restarted, with
    // or without a snapshot.
    for amount in [100_000, 10_000_000] {
        for result in [fulfilled(1), REFUSED] {
            for cut in 0..14 {
                for restart in [None, Some(Who::Hub), Some(Who::Wallet)] {
                    let mut pair = Pair::open(Who::Hub);
                    if cut % 2 == 0 {
                        pair.hub.take_snapshot();
                        pair.wallet.take_snapshot();
                    }
                    pair.offer(Who::Hub, 1, amount);
                    let mut steps = 0;
                    let mut broken = false;
                    let mut resolved = false;
                    loop {
                        if steps == cut && !broken {
                            broken = true;
                            if let Some(who) = restart {
                                pair.end(who).restart();
                            }
                            pair.disconnect();
                            pair.connect();
                        }
                        let moved = pair.deliver(Who::Hub) || pair.deliver(Who::Wallet);
                        steps += usize::from(moved);
                        if moved {
                            continue;
                        }
                        let mut signed = false;
                        for who in Who::BOTH {
                            if pair.end(who).channel().wants_to_sign() {
                                pair.end(who).command(Command::SignNow).unwrap();
                                signed = true;
                            }
                        }
                        if !resolved && !pair.wallet.offers().is_empty() {
                            resolved = true;
                            pair.resolve(Who::Wallet, 0, result);
                            continue;
                        }
                        if !signed {
                            break;
                        }
                    }
                    let results = pair.hub.results();
                    let lost = ForwardResult::Failed { reason: FailureReason::ChannelUnavailable };
                    let expected = if resolved { result } else { lost };
                    let distinct = results.iter().filter(|found| **found == (key(1), expected)).count();
                    assert!(distinct >= 1 && distinct == results.len(), "cut {cut}: {results:?}");
                    assert!(pair.hub.channel().state.is_quiescent());
                    assert!(pair.wallet.channel().state.is_quiescent());
                    let paid = if expected == fulfilled(1) { amount } else { 0 };
                    assert_eq!(balances(&pair), (CAPACITY_SAT * 1_000 - paid, paid));
                }
            }
        }
    }
}

#[test]
fn money_freed_by_a_fulfilment_can_be_spent_in_the_same_round() {
    let mut pair = Pair::open(Who::Hub);
    for (number, from, amount) in [(1, Who::Hub, 490_000_000), (2, Who::Wallet, 20_000_000)] {
        pair.offer(from, number, amount);
        pair.run();
        pair.resolve(from.other(), 0, fulfilled(number));
        pair.run();
    }
    pair.offer(Who::Wallet, 3, 20_000_000);
    pair.run();
    let before = pair.hub.channel().spendable().to_u64();
    pair.resolve(Who::Hub, 1, fulfilled(3));
    assert_eq!(pair.hub.channel().spendable().to_u64(), before + 20_000_000);
    pair.offer(Who::Hub, 4, before + 20_000_000);
    pair.run();
    pair.resolve(Who::Wallet, 1, fulfilled(4));
    pair.run();
    assert_eq!(balances(&pair).0, RESERVE_MSAT);
}

/// Both ends shut down and frozen, the ticket verified by the hub.
fn frozen(balance_of_wallet: u64) -> Pair {
    let mut pair = Pair::open(Who::Hub);
    if balance_of_wallet > 0 {
        pair.offer(Who::Hub, 1, balance_of_wallet);
        pair.run();
        pair.resolve(Who::Wallet, 0, fulfilled(1));
        pair.run();
    }
    pair.wallet.command(Command::Shutdown { script: payout_script(1) }).unwrap();
    pair.run();
    assert!(pair.hub.channel().wants_terms());
    let terms = ClosingTerms { fee: Amount::from_sat(300), publish_by_height: HEIGHT + 50 };
    pair.hub.command(Command::ProposeTerms(terms)).unwrap();
    pair.run();
    assert_eq!(pair.hub.channel().phase(), PhaseView::Frozen { terms });
    assert_eq!(pair.wallet.channel().phase(), PhaseView::Frozen { terms });
    pair
}

/// The batch of this one channel, signed by the hub.
fn batch(pair: &Pair) -> bitcoin::Transaction {
    let ticket = pair.hub.channel().ticket().expect("the hub holds the ticket");
    let mut batch = transaction(ticket.spec.payout().into_iter().collect());
    batch.version = BATCH_VERSION;
    batch.lock_time = BATCH_LOCK_TIME;
    batch.input = vec![ticket.spec.input()];
    batch.output.push(bitcoin::TxOut { value: Amount::from_sat(1_000), script_pubkey: payout_script(8) });
    let sighash = BatchSighashes::new(&batch).sighash(0, &ticket.spec).unwrap();
    let signature = pair.hub.signer.sign_closing_input(&ticket.key_id, &sighash);
    batch.input[0].witness = ticket.spec.witness(&ticket.signature, &signature).unwrap();
    batch
}

#[test]
fn a_close_by_ticket_pays_the_wallet_its_balance_less_the_fee() {
    for (balance_msat, paid_sat) in [(200_000_999, 199_700), (353_999, 0), (354_000, 354), (0, 0)] {
        let mut pair = frozen(balance_msat);
        assert!(pair.hub.effects.contains(&Effect::TicketReady));
        let batch = batch(&pair);
        let funding = pair.hub.channel().ticket().unwrap().spec.spent_output();
        crate::channel::tests::verify_script(&batch, &funding);
        pair.hub.command(Command::ClosingPublished { transaction: batch.clone() }).unwrap();
        pair.settle();
        let handed = Effect::ClosingHandedOver { transaction: batch.clone(), publish_by_height: HEIGHT + 50 };
        assert!(pair.wallet.effects.contains(&handed));
        let txid = batch.compute_txid();
        for who in Who::BOTH {
            let end = pair.end(who);
            let spent = ChainEvent::FundingSpent {
                height: HEIGHT + 5,
                transaction: batch.clone(),
                revoked_htlcs: None,
            };
            end.chain(spent.clone()).unwrap();
            assert_eq!(end.channel().phase(), PhaseView::Closing { txid, height: HEIGHT + 5 });
            end.chain(ChainEvent::SpendUndone { txid }).unwrap();
            assert!(matches!(end.channel().phase(), PhaseView::Frozen { .. }));
            end.chain(spent).unwrap();
            end.chain(ChainEvent::SpendFinal { height: HEIGHT + 11, txid }).unwrap();
            assert!(end.reports.contains(&Report::Closed { txid, height: HEIGHT + 5, paid_sat }));
        }
        let acknowledged = pair.wallet.effects.last();
        assert_eq!(acknowledged, Some(&Effect::Finished));
    }
}

#[test]
fn who_gives_a_channel_up_whose_agreed_close_is_in_a_block_waits_for_it_unless_the_block_is_undone() {
    let mut pair = frozen(200_000_000);
    let batch = batch(&pair);
    let txid = batch.compute_txid();
    let fail = Command::Fail { reason: FailRequest::Operator };
    for who in Who::BOTH {
        let end = pair.end(who);
        let spent =
            ChainEvent::FundingSpent { height: HEIGHT + 5, transaction: batch.clone(), revoked_htlcs: None };
        end.chain(spent.clone()).unwrap();
        end.command(fail.clone()).unwrap();
        assert_eq!(end.channel().phase(), PhaseView::Closing { txid, height: HEIGHT + 5 });
        end.chain(ChainEvent::SpendUndone { txid }).unwrap();
        assert_eq!(end.channel().phase(), PhaseView::Failed { cause: FailureCause::Operator });
        end.chain(spent).unwrap();
        end.command(fail.clone()).unwrap();
        end.chain(ChainEvent::SpendFinal { height: HEIGHT + 11, txid }).unwrap();
        assert_eq!(end.channel().phase(), PhaseView::Closed { txid, height: HEIGHT + 5 });
    }
}

#[test]
fn a_frozen_channel_stays_frozen_through_restarts_and_sends_its_ticket_again() {
    let mut pair = Pair::open(Who::Hub);
    pair.hub.command(Command::Shutdown { script: Default::default() }).unwrap();
    pair.run();
    pair.wallet.command(Command::Shutdown { script: payout_script(1) }).unwrap();
    pair.run();
    let terms = ClosingTerms { fee: Amount::from_sat(300), publish_by_height: HEIGHT + 50 };
    pair.hub.command(Command::ProposeTerms(terms)).unwrap();
    // The wallet freezes; its ticket is lost.
    pair.deliver(Who::Wallet);
    pair.disconnect();
    pair.wallet.restart();
    pair.hub.restart();
    assert_eq!(pair.wallet.channel().phase(), PhaseView::Frozen { terms });
    assert!(pair.hub.channel().ticket().is_none());
    pair.connect();
    pair.run();
    assert!(pair.hub.channel().ticket().is_some());
    // And once more, now that both are frozen: the wallet may have missed its batch.
    pair.disconnect();
    pair.hub.effects.clear();
    pair.connect();
    pair.run();
    assert_eq!(pair.hub.effects, [Effect::TicketReady]);
    assert_eq!(pair.hub.channel().phase(), PhaseView::Frozen { terms });
}

#[test]
fn a_result_is_acknowledged_even_if_the_htlc_is_gone() {
    let mut pair = Pair::open(Who::Hub);
    pair.offer(Who::Hub, 1, 100_000);
    pair.run();
    pair.resolve(Who::Wallet, 0, fulfilled(1));
    pair.run();
    let acks = |pair: &Pair| {
        pair.wallet.internals.iter().filter(|internal| matches!(internal, Internal::Ack { .. })).count()
    };
    assert_eq!(acks(&pair), 1);
    pair.resolve(Who::Wallet, 0, fulfilled(1));
    assert_eq!(acks(&pair), 2);
}
