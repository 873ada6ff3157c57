//! What goes wrong without anybody breaking a rule: lost connections, lost data, blocks that come and go.

use bitcoin::{Amount, OutPoint, Transaction, TxOut};

use super::pair::*;
use crate::channel::{Channel, PhaseView};
use crate::effect::{Effect, OpeningFailure, Report};
use crate::error::FailureCause;
use crate::event::{AbortReason, ChainEvent, Command, Event, FailRequest};
use crate::failure::FailureReason;
use crate::forward::ForwardResult;
use crate::ids::SessionId;
use crate::message::{Message, Reestablish};
use crate::peer_text::PeerText;
use crate::shachain::CommitmentSecret;

fn failed(reason: FailureReason) -> ForwardResult {
    ForwardResult::Failed { reason }
}

// --- Openings ---------------------------------------------------------------------------------------------------

#[test]
fn an_opening_that_loses_its_connection_unlocks_the_coins() {
    // Before the funding is built, and after it was sent but not signed by the accepter.
    for sent in [false, true] {
        let mut pair = Pair::proposed(Who::Wallet);
        let transaction = pair.wallet.funding_transaction();
        if sent {
            let command = Command::FundingBuilt { transaction: transaction.clone(), output_index: 1 };
            pair.wallet.command(command).unwrap();
        }
        pair.disconnect();
        let wallet = &mut pair.wallet;
        let ended = PhaseView::Aborted { cause: OpeningFailure::Disconnected };
        assert_eq!(wallet.channel().phase(), ended);
        let released = Effect::ReleaseCoins { transaction: sent.then(|| transaction.clone()) };
        assert!(wallet.effects.contains(&released));
        assert_eq!(wallet.effects.last(), Some(&Effect::Finished));
        let report = Report::OpeningFailed { cause: OpeningFailure::Disconnected };
        assert_eq!(wallet.reports.last(), Some(&report));
        assert_eq!(pair.hub.channel().phase(), ended);
        // What the on-chain wallet built too late is unlocked as well.
        let wallet = &mut pair.wallet;
        wallet.effects.clear();
        let command = Command::FundingBuilt { transaction: transaction.clone(), output_index: 1 };
        wallet.command(command).unwrap();
        assert_eq!(wallet.effects, [Effect::ReleaseCoins { transaction: Some(transaction) }]);
    }
}

#[test]
fn an_opening_can_be_aborted_until_the_funding_is_signed() {
    let mut pair = Pair::proposed(Who::Hub);
    pair.hub.command(Command::AbortOpening { why: AbortReason::NotEnoughFunds }).unwrap();
    let cause = OpeningFailure::Aborted(AbortReason::NotEnoughFunds);
    let text = PeerText::new(&cause.to_string());
    assert_eq!(pair.hub.channel().phase(), PhaseView::Aborted { cause });
    pair.settle();
    let cause = OpeningFailure::Counterparty { text };
    assert_eq!(cause.to_string(), "the counterparty gave up: not enough confirmed on-chain funds");
    assert_eq!(pair.wallet.channel().phase(), PhaseView::Aborted { cause: cause.clone() });
    assert_eq!(pair.wallet.reports.last(), Some(&Report::OpeningFailed { cause }));
}

#[test]
fn the_funding_is_broadcast_only_when_both_commitments_are_signed_and_again_after_a_restart() {
    let broadcasts = |end: &End| {
        end.effects.iter().filter(|effect| matches!(effect, Effect::BroadcastFunding { .. })).count()
    };
    let mut pair = Pair::proposed(Who::Wallet);
    let transaction = pair.wallet.funding_transaction();
    pair.wallet.command(Command::FundingBuilt { transaction, output_index: 1 }).unwrap();
    pair.deliver(Who::Hub);
    assert_eq!(broadcasts(&pair.wallet), 0);
    pair.deliver(Who::Wallet);
    assert_eq!(broadcasts(&pair.wallet), 1);
    pair.wallet.restart();
    assert_eq!(broadcasts(&pair.wallet), 2);
    assert_eq!(pair.wallet.channel().phase(), PhaseView::AwaitingConfirmation { confirmed_height: None });
}

#[test]
fn channel_ready_is_sent_again_if_it_was_lost() {
    let mut pair = Pair::funded(Who::Hub);
    pair.hub.confirm();
    pair.wallet.confirm();
    pair.disconnect();
    pair.connect();
    pair.settle();
    assert_eq!(pair.hub.channel().phase(), PhaseView::Open);
    assert_eq!(pair.wallet.channel().phase(), PhaseView::Open);
}

#[test]
fn a_funding_that_never_confirms_ends_the_opening_at_both_ends() {
    for who in Who::BOTH {
        let mut pair = Pair::funded(Who::Wallet);
        let end = pair.end(who);
        end.chain(ChainEvent::FundingNeverConfirms { height: HEIGHT + 2_016 }).unwrap();
        assert_eq!(end.channel().phase(), PhaseView::Aborted { cause: OpeningFailure::NeverConfirmed });
        let releases = end.effects.iter().any(|effect| matches!(effect, Effect::ReleaseCoins { .. }));
        assert_eq!(releases, who == Who::Wallet);
    }
}

#[test]
fn a_funding_that_pays_something_else_never_makes_a_channel() {
    let changes: [fn(&mut Option<TxOut>); 3] = [
        |output| *output = None,
        |output| output.as_mut().unwrap().value -= Amount::ONE_SAT,
        |output| output.as_mut().unwrap().script_pubkey = payout_script(7),
    ];
    for change in changes {
        let mut pair = Pair::funded(Who::Wallet);
        let mut output = Some(pair.hub.funding_output());
        change(&mut output);
        pair.hub.chain(ChainEvent::FundingConfirmed { height: HEIGHT, block_index: 1, output }).unwrap();
        let cause = FailureCause::WrongFunding;
        assert_eq!(pair.hub.channel().phase(), PhaseView::Failed { cause });
        assert_eq!(pair.hub.channel().publish_job(&pair.hub.signer), None);
        // It is told, and listed, until no block can be undone that holds it; nothing of it is kept for ever.
        assert!(!pair.hub.effects.contains(&Effect::Finished));
        pair.hub.chain(ChainEvent::FundingDeep { height: HEIGHT }).unwrap();
        pair.settle();
        assert!(!pair.hub.reports.contains(&Report::Ready));
        let cause = OpeningFailure::WrongFunding;
        assert_eq!(pair.hub.channel().phase(), PhaseView::Aborted { cause });
        assert!(pair.hub.effects.contains(&Effect::Finished));
    }
}

#[test]
fn a_reorganised_funding_stops_new_htlcs_until_it_is_confirmed_again() {
    let mut pair = Pair::open(Who::Hub);
    pair.offer(Who::Hub, 1, 1_000);
    pair.run();
    let output = Some(pair.hub.channel().context().funding_output());
    pair.hub.chain(ChainEvent::FundingUndone).unwrap();
    pair.offer(Who::Hub, 2, 1_000);
    assert_eq!(pair.hub.results(), [(key(2), failed(FailureReason::ChannelUnavailable))]);
    // What is in flight is still resolved.
    pair.resolve(Who::Wallet, 0, fulfilled(1));
    pair.run();
    assert_eq!(pair.hub.results().last(), Some(&(key(1), fulfilled(1))));
    pair.hub.chain(ChainEvent::FundingConfirmed { height: HEIGHT + 1, block_index: 4, output }).unwrap();
    assert!(!pair.hub.channel().is_usable());
    pair.hub.chain(ChainEvent::FundingDeep { height: HEIGHT + 3 }).unwrap();
    assert!(pair.hub.channel().is_usable());
}

#[test]
fn an_opener_sends_its_funding_again_after_every_restart_until_it_is_final() {
    let broadcast = |end: &End| {
        let mut effects = Vec::new();
        end.channel().resume(&mut effects);
        effects.into_iter().any(|effect| matches!(effect, Effect::BroadcastFunding { .. }))
    };
    let mut pair = Pair::open(Who::Wallet);
    assert!(broadcast(&pair.wallet), "three blocks may be undone, and nobody else may have it");
    assert!(!broadcast(&pair.hub), "an accepter never had it");
    for who in Who::BOTH {
        pair.end(who).chain(ChainEvent::FundingFinal).unwrap();
    }
    assert!(!broadcast(&pair.wallet));
}

#[test]
fn an_accepter_with_nothing_at_stake_forgets_a_channel_that_the_opener_gave_up() {
    let mut pair = Pair::funded(Who::Hub);
    let error = || {
        let text = "unknown channel".to_owned();
        Event::Message(Message::ChannelError { text, cannot_publish: false })
    };
    pair.wallet.handle(error()).unwrap();
    let cause = OpeningFailure::Counterparty { text: PeerText::new("unknown channel") };
    assert_eq!(pair.wallet.channel().phase(), PhaseView::Aborted { cause });
    pair.hub.handle(error()).unwrap();
    assert_eq!(pair.hub.channel().phase(), PhaseView::Failed { cause: FailureCause::Counterparty });
    assert!(pair.hub.channel().publish_job(&pair.hub.signer).is_some());
}

// --- Lost data --------------------------------------------------------------------------------------------------

/// Two payments were made; `behind` has forgotten the second, and both are connected again.
fn one_behind(behind: Who) -> Pair {
    let mut pair = Pair::open(Who::Hub);
    let mut old = None;
    for number in 1..3 {
        pair.offer(Who::Hub, number, 1_000);
        pair.run();
        pair.resolve(Who::Wallet, number - 1, fulfilled(number));
        pair.run();
        old.get_or_insert(pair.end(behind).channel().encode_snapshot());
    }
    pair.disconnect();
    let end = pair.end(behind);
    end.channel = Some(Channel::decode_snapshot(&old.unwrap()).unwrap());
    end.take_snapshot();
    end.command(Command::Disconnected).unwrap();
    pair.connect();
    pair
}

#[test]
fn who_is_proven_behind_publishes_nothing() {
    for who in Who::BOTH {
        let mut pair = one_behind(who);
        pair.settle();
        let (behind, other) = pair.ends(who);
        let PhaseView::Failed { cause: FailureCause::Behind { number } } = behind.channel().phase() else {
            panic!("{:?}", behind.channel().phase())
        };
        assert!(number >= behind.channel().view().holder_commitment_number);
        assert_eq!(behind.channel().publish_job(&behind.signer), None);
        // The other side tells, and gives the channel up because it is asked to: that pays the one that lost
        // its data.
        let cause = FailureCause::CounterpartyLostData;
        let told = [Report::CounterpartyBehind, Report::Failed { cause: cause.clone() }];
        assert!(other.reports.ends_with(&told), "{:?}", other.reports);
        assert_eq!(other.channel().phase(), PhaseView::Failed { cause });
        assert!(other.channel().publish_job(&other.signer).is_some());
    }
}

#[test]
fn the_hub_gives_a_wallet_its_essentials_before_it_knows_that_they_are_needed() {
    let mut pair = Pair::open(Who::Wallet);
    pair.offer(Who::Wallet, 1, 1_000);
    pair.run();
    pair.disconnect();
    pair.connect();
    let Some(Message::Reestablish(reestablish)) = pair.hub.outbox.front() else { panic!("no reestablish") };
    let essentials = reestablish.essentials.as_ref().unwrap();
    assert_eq!(Some(essentials.outpoint), pair.wallet.channel().funding_outpoint());
    assert!(essentials.receiver_is_opener);
    assert_eq!(essentials.receiver, pair.wallet.channel().state.terms.holder);
    let opened = crate::seal::open_essentials(&pair.wallet.signer, &essentials.sealed).unwrap();
    assert_eq!(opened.key_id, pair.wallet.channel().key_id());
    assert_eq!(opened.outpoint, essentials.outpoint);
    assert_eq!(opened.counterparty_funding_key, essentials.sender.basepoints.funding);
    assert_eq!(opened.commitment_number, pair.wallet.channel().view().counterparty_commitment_number);
    let Some(Message::Reestablish(reestablish)) = pair.wallet.outbox.front() else { panic!("none") };
    assert_eq!(reestablish.essentials, None);
}

#[test]
fn a_claim_to_know_our_future_without_proof_does_not_silence_us() {
    let mut pair = Pair::open(Who::Hub);
    pair.disconnect();
    pair.connect();
    let claim = Reestablish {
        next_commitment_number: 1,
        next_revocation_number: 8,
        last_secret: CommitmentSecret::from_bytes([1; 32]),
        frozen: None,
        essentials: None,
    };
    pair.hub.host(Event::Message(Message::Reestablish(Box::new(claim)))).unwrap_err();
    assert!(pair.hub.channel().publish_job(&pair.hub.signer).is_some());
}

// --- The chain --------------------------------------------------------------------------------------------------

fn spend(outpoint: OutPoint) -> Transaction {
    let output = TxOut { value: Amount::from_sat(1_000), script_pubkey: payout_script(3) };
    let mut spend = transaction(vec![output]);
    spend.input[0].previous_output = outpoint;
    spend
}

#[test]
fn a_spend_that_nobody_agreed_on_fails_the_channel() {
    for frozen in [false, true] {
        let mut pair = Pair::open(Who::Wallet);
        if frozen {
            pair.wallet.command(Command::Shutdown { script: payout_script(1) }).unwrap();
            pair.run();
            let terms =
                crate::closing::ClosingTerms { fee: Amount::from_sat(1), publish_by_height: HEIGHT + 9 };
            pair.hub.command(Command::ProposeTerms(terms)).unwrap();
            pair.run();
        }
        for who in Who::BOTH {
            let end = pair.end(who);
            let transaction = spend(end.channel().funding_outpoint().unwrap());
            let txid = transaction.compute_txid();
            end.chain(ChainEvent::FundingSpent { height: HEIGHT, transaction, revoked_htlcs: None }).unwrap();
            let cause = FailureCause::UnexpectedSpend { txid };
            assert_eq!(end.channel().phase(), PhaseView::Failed { cause });
            assert_eq!(end.channel().publish_job(&end.signer), None);
        }
    }
}

#[test]
fn a_message_for_a_channel_that_failed_is_answered_once_and_harms_nothing() {
    let mut pair = Pair::open(Who::Hub);
    pair.hub.command(Command::Fail { reason: FailRequest::Operator }).unwrap();
    pair.disconnect();
    // The wallet missed the error and tries to go on.
    pair.hub.command(Command::Connected { session: SessionId(7) }).unwrap();
    pair.wallet.command(Command::Connected { session: SessionId(7) }).unwrap();
    let before = pair.hub.channel().state_hash();
    pair.settle();
    assert_eq!(pair.hub.channel().state_hash(), before);
    assert_eq!(pair.wallet.channel().phase(), PhaseView::Failed { cause: FailureCause::Counterparty });
}
