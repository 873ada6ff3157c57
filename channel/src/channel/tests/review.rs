//! What a hostile or unlucky counterparty tries: each of these once wedged a channel or lost something.

use bitcoin::Amount;

use super::pair::*;
use crate::channel::PhaseView;
use crate::closing::ClosingTerms;
use crate::effect::{Effect, Report, TermsFlaw};
use crate::error::{FailureCause, Refusal, Rejection};
use crate::event::{ChainEvent, Command, Event, FailRequest};
use crate::failure::FailureReason;
use crate::forward::ForwardResult;
use crate::limits::{HANDED_OVER_GRACE_BLOCKS, MAX_CLOSING_WAIT_BLOCKS, MAX_HAND_OVERS};
use crate::message::Message;

/// A channel whose hub was restored from a backup older than its last payment.
fn hub_behind() -> Pair {
    let mut pair = Pair::open(Who::Hub);
    let backup = pair.hub.channel().clone();
    pair.offer(Who::Hub, 1, 10_000_000);
    pair.run();
    pair.resolve(Who::Wallet, 0, fulfilled(1));
    pair.run();
    pair.disconnect();
    pair.hub.channel = Some(backup);
    pair.hub.take_snapshot();
    pair.hub.command(Command::Disconnected).unwrap();
    pair
}

#[test]
fn a_side_proven_behind_asks_the_other_to_publish() {
    // Once while the reestablish proves it, once in a session after that.
    for lost in [false, true] {
        let mut pair = hub_behind();
        pair.connect();
        if lost {
            pair.deliver(Who::Hub);
            pair.disconnect();
            assert!(matches!(pair.wallet.channel().phase(), PhaseView::Open));
            pair.connect();
        }
        pair.settle();
        let behind = |cause: &FailureCause| matches!(cause, FailureCause::Behind { .. });
        assert!(matches!(pair.hub.channel().phase(), PhaseView::Failed { cause } if behind(&cause)));
        assert!(pair.hub.channel().publish_job(&pair.hub.signer).is_none());
        let cause = FailureCause::CounterpartyLostData;
        assert_eq!(pair.wallet.channel().phase(), PhaseView::Failed { cause });
        assert!(pair.wallet.channel().publish_job(&pair.wallet.signer).is_some());
    }
}

#[test]
fn a_failed_channel_proven_behind_publishes_nothing_any_more() {
    let mut pair = hub_behind();
    pair.hub.command(Command::Fail { reason: FailRequest::Operator }).unwrap();
    assert!(pair.hub.channel().publish_job(&pair.hub.signer).is_some());
    pair.connect();
    pair.settle();
    let behind = |cause: &FailureCause| matches!(cause, FailureCause::Behind { .. });
    assert!(matches!(pair.hub.channel().phase(), PhaseView::Failed { cause } if behind(&cause)));
    assert!(pair.hub.channel().publish_job(&pair.hub.signer).is_none());
    // What the chain or the wallet says next changes no cause.
    assert!(pair.wallet.channel().publish_job(&pair.wallet.signer).is_some());
}

#[test]
fn an_offer_does_not_wait_past_its_height_for_a_peer_that_never_revokes() {
    let mut pair = Pair::open(Who::Hub);
    pair.offer(Who::Hub, 1, 1_000_000);
    pair.hub.command(Command::SignNow).unwrap();
    // The wallet is connected and silent. The ledger, or another channel, offers more.
    let mut late = offer(2, 1_000_000);
    late.sign_by_height = HEIGHT + 5;
    pair.hub.command(Command::Offer(late)).unwrap();
    pair.offer(Who::Hub, 3, 2_000);
    let deadline = pair.hub.channel().next_deadline();
    assert_eq!(deadline, Some(HEIGHT + 6));
    let early = pair.hub.chain(ChainEvent::Deadline { height: HEIGHT + 5 });
    let refusal = Refusal::NoDeadline { height: HEIGHT + 5 };
    assert_eq!(early, Err(Rejection::Refusal(refusal)));
    pair.hub.chain(ChainEvent::Deadline { height: HEIGHT + 6 }).unwrap();
    let timed_out = ForwardResult::Failed { reason: FailureReason::TimedOut };
    assert_eq!(pair.hub.results(), [(key(2), timed_out)]);
    assert_eq!(pair.hub.channel().phase(), PhaseView::Open);
    assert_eq!(pair.hub.channel().next_deadline(), Some(HEIGHT + 51));
    // The others go on.
    pair.run();
    assert_eq!(pair.wallet.offers().len(), 2);
    let expected = HEIGHT + 100 + crate::limits::OUTGOING_GRACE_BLOCKS;
    assert_eq!(pair.hub.channel().next_deadline(), Some(expected));
}

#[test]
fn a_preimage_learned_after_the_channel_failed_is_told_to_who_claims() {
    let mut pair = Pair::open(Who::Hub);
    pair.offer(Who::Hub, 1, 10_000_000);
    pair.run();
    pair.wallet.command(Command::Fail { reason: FailRequest::Operator }).unwrap();
    pair.wallet.effects.clear();
    pair.resolve(Who::Wallet, 0, fulfilled(1));
    assert_eq!(pair.wallet.effects, [Effect::PlanChanged]);
    let job = pair.wallet.channel().publish_job(&pair.wallet.signer).unwrap();
    assert_eq!(job.preimages, [(hash(1), preimage(1))]);
}

#[test]
fn a_funding_that_never_reached_the_network_is_broadcast_again_though_the_channel_failed() {
    let mut pair = Pair::funded(Who::Hub);
    let error = Message::ChannelError { text: String::new(), cannot_publish: false };
    pair.hub.handle(Event::Message(error)).unwrap();
    pair.hub.effects.clear();
    pair.hub.restart();
    let broadcast = |effect: &Effect| matches!(effect, Effect::BroadcastFunding { .. });
    let funding = pair.hub.effects.iter().position(broadcast);
    let commitment = pair.hub.effects.iter().position(|effect| *effect == Effect::PlanChanged);
    assert!(funding.is_some() && funding < commitment, "{:?}", pair.hub.effects);
}

/// Both have shut down and settled; the wallet owns a part.
fn shut_down() -> Pair {
    let mut pair = Pair::open(Who::Wallet);
    pair.wallet.command(Command::Shutdown { script: payout_script(1) }).unwrap();
    pair.run();
    pair
}

fn terms(publish_by_height: u32) -> ClosingTerms {
    ClosingTerms { fee: Amount::from_sat(300), publish_by_height }
}

#[test]
fn a_wallet_does_not_freeze_for_longer_than_it_would_wait_for_its_own_commitment() {
    let latest = HEIGHT + MAX_CLOSING_WAIT_BLOCKS;
    let mut pair = shut_down();
    pair.wallet.handle(Event::Message(Message::ClosingTerms(terms(latest + 1)))).unwrap();
    let why = TermsFlaw::PublishHeightTooFar { latest };
    assert_eq!(pair.wallet.reports.last(), Some(&Report::TermsRefused { terms: terms(latest + 1), why }));
    assert_eq!(pair.wallet.channel().state.closing.frozen, None);
    pair.wallet.handle(Event::Message(Message::ClosingTerms(terms(latest)))).unwrap();
    assert_eq!(pair.wallet.channel().phase(), PhaseView::Frozen { terms: terms(latest) });
}

#[test]
fn a_frozen_wallet_whose_hub_does_not_close_closes_alone() {
    for handed_over in [false, true] {
        let mut pair = shut_down();
        pair.hub.command(Command::ProposeTerms(terms(HEIGHT + 50))).unwrap();
        pair.run();
        let mut due = HEIGHT + 51;
        if handed_over {
            // The desk publishes the batch at the agreed height; it may hold another input that is spent.
            let ticket = pair.hub.channel().ticket().unwrap();
            let mut batch = transaction(ticket.spec.payout().into_iter().collect());
            batch.input = vec![ticket.spec.input()];
            pair.hub.command(Command::ClosingPublished { transaction: batch }).unwrap();
            pair.run();
            due += HANDED_OVER_GRACE_BLOCKS;
        }
        assert_eq!(pair.hub.channel().next_deadline(), None);
        assert_eq!(pair.wallet.channel().next_deadline(), Some(due));
        let refusal = Refusal::NoDeadline { height: due - 1 };
        assert_eq!(pair.wallet.chain(ChainEvent::Deadline { height: due - 1 }), Err(refusal.into()));
        pair.wallet.chain(ChainEvent::Deadline { height: due }).unwrap();
        let cause = FailureCause::CloseOverdue { height: due };
        assert_eq!(pair.wallet.channel().phase(), PhaseView::Failed { cause });
        assert!(pair.wallet.channel().publish_job(&pair.wallet.signer).is_some());
        // The hub, which hears of it, still holds what it takes to close.
        pair.settle();
        assert!(matches!(pair.hub.channel().phase(), PhaseView::Frozen { .. }));
    }
}

#[test]
fn a_hub_cannot_fill_the_journal_of_a_frozen_wallet_with_batches() {
    let mut pair = shut_down();
    pair.hub.command(Command::ProposeTerms(terms(HEIGHT + 50))).unwrap();
    pair.run();
    let spec = pair.hub.channel().ticket().unwrap().spec;
    let mut taken = 0;
    for fee in 0..2 * u64::from(MAX_HAND_OVERS) {
        let change = bitcoin::TxOut { value: Amount::from_sat(fee), script_pubkey: payout_script(8) };
        let mut batch = transaction(spec.payout().into_iter().chain([change]).collect());
        batch.input = vec![spec.input()];
        let transaction = bitcoin::consensus::serialize(&batch);
        let before = pair.wallet.channel().state_hash();
        pair.wallet.handle(Event::Message(Message::ClosingTransaction { transaction })).unwrap();
        taken += u32::from(pair.wallet.channel().state_hash() != before);
    }
    assert_eq!(taken, MAX_HAND_OVERS);
}
