//! Time that runs out, and the four steps of a forward when something is late, lost or repeated.

use super::pair::*;
use crate::channel::{ForwardEnd, ForwardPlace, PhaseView};
use crate::effect::{Effect, Report};
use crate::error::FailureCause;
use crate::event::{ChainEvent, Command, FailRequest};
use crate::failure::FailureReason;
use crate::forward::{ForwardKey, ForwardResult, Internal, RouteChoice};
use crate::ids::OwnerId;
use crate::limits::{CLAIM_MARGIN_BLOCKS, OUTGOING_GRACE_BLOCKS, SEALED_PAYLOAD_BYTES};
use crate::message::Recipient;
use crate::signer::Signer;

fn failed(reason: FailureReason) -> ForwardResult {
    ForwardResult::Failed { reason }
}

// --- Time -------------------------------------------------------------------------------------------------------

#[test]
fn an_offer_that_waited_too_long_fails_instead_of_being_signed() {
    let mut pair = Pair::open(Who::Hub);
    let mut late = offer(1, 1_000);
    late.sign_by_height = HEIGHT;
    pair.hub.command(Command::Offer(late)).unwrap();
    pair.offer(Who::Hub, 2, 2_000);
    pair.hub.height += 1;
    pair.run();
    assert_eq!(pair.hub.results(), [(key(1), failed(FailureReason::TimedOut))]);
    assert_eq!(pair.wallet.offers().len(), 1);
    // Alone, it does not even make a commitment.
    let before = pair.hub.channel().view().counterparty_commitment_number;
    let mut late = offer(3, 1_000);
    late.sign_by_height = pair.hub.height;
    pair.hub.command(Command::Offer(late)).unwrap();
    pair.hub.height += 1;
    pair.run();
    assert_eq!(pair.hub.results().len(), 2);
    assert_eq!(pair.hub.channel().view().counterparty_commitment_number, before);
}

#[test]
fn an_offer_that_was_not_signed_fails_with_the_connection_and_a_signed_one_lives_on() {
    let mut pair = Pair::open(Who::Hub);
    pair.offer(Who::Hub, 1, 1_000);
    pair.hub.command(Command::SignNow).unwrap();
    pair.offer(Who::Hub, 2, 2_000);
    pair.disconnect();
    assert_eq!(pair.hub.results(), [(key(2), failed(FailureReason::ChannelUnavailable))]);
    pair.connect();
    pair.run();
    let arrived: Vec<_> = pair.wallet.offers().iter().map(|offer| offer.payment_hash).collect();
    assert_eq!(arrived, [hash(1)]);
}

#[test]
fn a_payload_is_sent_again_with_its_add_and_dropped_once_the_add_arrived_for_sure() {
    let mut pair = Pair::open(Who::Hub);
    let mut sealed = offer(1, 1_000);
    sealed.recipient = Recipient::Node(pair.wallet.signer.node_id());
    sealed.payload = vec![7; SEALED_PAYLOAD_BYTES];
    pair.hub.command(Command::Offer(sealed.clone())).unwrap();
    pair.hub.command(Command::SignNow).unwrap();
    pair.disconnect();
    pair.connect();
    pair.run();
    assert_eq!(pair.wallet.offers()[0].payload, sealed.payload);
    assert_eq!(pair.hub.channel().state.htlcs.offered[&0].add.payload, []);
}

#[test]
fn a_signed_add_past_its_expiry_is_not_sent_again() {
    let mut pair = Pair::open(Who::Hub);
    pair.offer(Who::Hub, 1, 354_000);
    pair.hub.command(Command::SignNow).unwrap();
    pair.disconnect();
    pair.connect();
    pair.hub.height = HEIGHT + 100;
    pair.settle();
    let cause = FailureCause::SignedAddExpired { height: HEIGHT + 100 };
    assert_eq!(pair.hub.channel().phase(), PhaseView::Failed { cause });
    assert_eq!(pair.wallet.offers(), []);
    // The wallet was told.
    assert_eq!(pair.wallet.channel().phase(), PhaseView::Failed { cause: FailureCause::Counterparty });
}

#[test]
fn an_outgoing_htlc_with_an_output_past_its_expiry_and_grace_closes_its_channel() {
    let mut pair = Pair::open(Who::Hub);
    pair.offer(Who::Hub, 1, 354_000);
    pair.run();
    pair.disconnect();
    let due = pair.hub.channel().next_deadline().unwrap();
    assert_eq!(due, HEIGHT + 100 + OUTGOING_GRACE_BLOCKS);
    assert_eq!(pair.wallet.channel().next_deadline(), None);
    pair.hub.chain(ChainEvent::Deadline { height: due }).unwrap();
    let cause = FailureCause::HtlcDeadline { height: due };
    assert_eq!(pair.hub.channel().phase(), PhaseView::Failed { cause });
    assert_eq!(pair.hub.channel().next_deadline(), None);
    // Signed once, so what becomes of it is for the chain to say.
    assert_eq!(pair.hub.results(), []);
}

#[test]
fn an_outgoing_htlc_without_output_is_given_up_past_its_expiry_and_the_channel_lives() {
    for late in [fulfilled(1), REFUSED] {
        let mut pair = Pair::open(Who::Hub);
        pair.offer(Who::Hub, 1, 1_000);
        pair.run();
        pair.disconnect();
        let due = pair.hub.channel().next_deadline().unwrap();
        pair.hub.chain(ChainEvent::Deadline { height: due }).unwrap();
        assert_eq!(pair.hub.channel().phase(), PhaseView::Open);
        assert_eq!(pair.hub.channel().next_deadline(), None);
        let timed_out = failed(FailureReason::TimedOut);
        assert_eq!(pair.hub.results(), [(key(1), timed_out)]);
        pair.hub.command(Command::Ack { key: key(1) }).unwrap();
        // It still counts as exposure, and the merchant may still answer.
        let [given_up] = pair.hub.channel().forwards().given_up[..] else { panic!("one is given up") };
        assert_eq!(given_up.amount_msat.to_u64(), 1_000);
        assert_eq!(pair.hub.channel().view().dust_exposure_msat.to_u64(), 1_000);
        pair.hub.restart();
        pair.connect();
        pair.run();
        pair.resolve(Who::Wallet, 0, late);
        pair.run();
        assert_eq!(pair.hub.channel().view().dust_exposure_msat.to_u64(), 0);
        assert_eq!(pair.hub.channel().forwards().given_up, []);
        assert!(pair.hub.channel().state.is_quiescent());
        assert!(pair.hub.channel().state.forwards.is_empty());
        // A late preimage is told, in case the payer's HTLC is still open.
        let told = pair.hub.results().last() == Some(&(key(1), fulfilled(1)));
        assert_eq!(told, late == fulfilled(1));
        assert_eq!(pair.hub.results().len(), 1 + usize::from(told));
    }
}

#[test]
fn a_newer_attempt_of_what_was_given_up_is_an_offer_of_its_own() {
    let mut pair = Pair::open(Who::Hub);
    pair.offer(Who::Hub, 1, 1_000);
    pair.run();
    let due = pair.hub.channel().next_deadline().unwrap();
    pair.hub.chain(ChainEvent::Deadline { height: due }).unwrap();
    let mut again = offer(1, 1_000);
    again.key.attempt = 2;
    pair.hub.command(Command::Offer(again.clone())).unwrap();
    pair.run();
    pair.resolve(Who::Wallet, 0, REFUSED);
    pair.run();
    assert_eq!(pair.hub.results().len(), 1);
    pair.resolve(Who::Wallet, 1, fulfilled(1));
    pair.run();
    assert_eq!(pair.hub.results()[1..], [(again.key, fulfilled(1))]);
}

#[test]
fn an_expired_add_without_output_is_sent_again_and_failed_by_an_honest_peer() {
    let mut pair = Pair::open(Who::Hub);
    pair.offer(Who::Hub, 1, 1_000);
    pair.hub.command(Command::SignNow).unwrap();
    pair.disconnect();
    for who in Who::BOTH {
        pair.end(who).height = HEIGHT + 150;
    }
    pair.connect();
    pair.run();
    assert_eq!(pair.wallet.offers(), []);
    assert_eq!(pair.hub.results(), [(key(1), failed(FailureReason::ExpiryTooSoon))]);
    assert_eq!(pair.hub.channel().phase(), PhaseView::Open);
}

#[test]
fn an_incoming_htlc_whose_preimage_is_known_closes_its_channel_in_time_to_claim() {
    let mut pair = Pair::open(Who::Hub);
    pair.offer(Who::Hub, 1, 10_000_000);
    pair.run();
    pair.disconnect();
    pair.resolve(Who::Wallet, 0, fulfilled(1));
    let due = pair.wallet.channel().next_deadline().unwrap();
    assert_eq!(due, HEIGHT + 100 - CLAIM_MARGIN_BLOCKS);
    pair.wallet.chain(ChainEvent::Deadline { height: due }).unwrap();
    let job = pair.wallet.channel().publish_job(&pair.wallet.signer).unwrap();
    assert_eq!(job.preimages, [(hash(1), preimage(1))]);
    assert_eq!(job.counterparty_signatures.htlcs.len(), 1);
    let funding = pair.wallet.channel().context().funding_output();
    super::verify_script(&job.transaction, &funding);
}

// --- Forwards ---------------------------------------------------------------------------------------------------

#[test]
fn a_failed_attempt_is_followed_by_another_and_the_third_is_the_last() {
    let mut pair = Pair::open(Who::Hub);
    let next = |to: u64| RouteChoice::Offer { to: OwnerId(to), sign_by_height: HEIGHT + 50 };
    pair.wallet.router.choices.borrow_mut().extend([next(11), next(12), next(13), next(14)]);
    pair.offer(Who::Hub, 1, 1_000);
    pair.run();
    for attempt in 1..=3 {
        let offers = pair.wallet.offers();
        assert_eq!(offers.last().unwrap().key.attempt, attempt);
        assert_eq!(offers.len(), attempt as usize);
        let key = ForwardKey { incoming: CHANNEL, htlc_id: 0, attempt };
        // A failure of an older attempt is acknowledged, and nothing else.
        if attempt > 1 {
            let old = ForwardKey { attempt: attempt - 1, ..key };
            let from = OwnerId(9 + u64::from(attempt));
            let result = failed(FailureReason::NoLiquidity);
            pair.wallet.command(Command::Result { key: old, from, result }).unwrap();
            assert_eq!(pair.wallet.offers().len(), attempt as usize);
        }
        let result = failed(FailureReason::RecipientOffline);
        let from = OwnerId(10 + u64::from(attempt));
        pair.wallet.command(Command::Result { key, from, result }).unwrap();
    }
    pair.run();
    assert_eq!(pair.wallet.offers().len(), 3);
    assert_eq!(pair.hub.results(), [(key(1), failed(FailureReason::RecipientOffline))]);
}

#[test]
fn a_preimage_from_an_older_attempt_still_counts() {
    let mut pair = Pair::open(Who::Hub);
    let next = |to: u64| RouteChoice::Offer { to: OwnerId(to), sign_by_height: HEIGHT + 50 };
    pair.wallet.router.choices.borrow_mut().extend([next(11), next(12)]);
    pair.offer(Who::Hub, 1, 1_000);
    pair.run();
    let key = |attempt: u32| ForwardKey { incoming: CHANNEL, htlc_id: 0, attempt };
    let result = failed(FailureReason::RecipientOffline);
    pair.wallet.command(Command::Result { key: key(1), from: OwnerId(11), result }).unwrap();
    let result = fulfilled(1);
    pair.wallet.command(Command::Result { key: key(1), from: OwnerId(11), result }).unwrap();
    pair.run();
    assert_eq!(pair.hub.results(), [(super::pair::key(1), fulfilled(1))]);
    let settled = pair.wallet.reports.iter().find_map(|report| match report {
        Report::ForwardSettled { to, .. } => Some(*to),
        _ => None,
    });
    assert_eq!(settled, Some(OwnerId(11)));
}

#[test]
fn a_repeated_offer_changes_nothing_and_gets_the_same_result_until_it_is_acknowledged() {
    let mut pair = Pair::open(Who::Hub);
    pair.offer(Who::Hub, 1, 1_000);
    let before = pair.hub.channel().state_hash();
    pair.offer(Who::Hub, 1, 1_000);
    assert_eq!(pair.hub.channel().state_hash(), before);
    pair.run();
    pair.resolve(Who::Wallet, 0, REFUSED);
    pair.run();
    pair.offer(Who::Hub, 1, 1_000);
    assert_eq!(pair.hub.results(), [(key(1), REFUSED), (key(1), REFUSED)]);
    // A newer attempt acknowledges the failure; the old one's repeat is then of no interest.
    let mut newer = offer(1, 1_000);
    newer.key.attempt = 2;
    pair.hub.command(Command::Offer(newer)).unwrap();
    pair.offer(Who::Hub, 1, 1_000);
    assert_eq!(pair.hub.results().len(), 2);
    pair.run();
    assert_eq!(pair.wallet.offers().len(), 2);
}

#[test]
fn what_was_never_answered_is_asked_again_after_a_restart() {
    let mut pair = Pair::open(Who::Hub);
    pair.offer(Who::Hub, 1, 1_000);
    pair.offer(Who::Hub, 2, 2_000);
    pair.run();
    pair.resolve(Who::Wallet, 0, fulfilled(1));
    pair.run();
    let offers = pair.wallet.offers();
    pair.wallet.internals.clear();
    pair.hub.internals.clear();
    pair.wallet.restart();
    pair.hub.restart();
    assert_eq!(pair.wallet.offers(), offers[1..]);
    assert_eq!(pair.hub.results(), [(key(1), fulfilled(1))]);
    pair.hub.command(Command::Ack { key: key(1) }).unwrap();
    pair.hub.internals.clear();
    pair.hub.restart();
    assert_eq!(pair.hub.results(), []);
}

#[test]
fn a_preimage_seen_before_a_disconnect_is_not_forgotten_with_the_update() {
    let mut pair = Pair::open(Who::Hub);
    pair.offer(Who::Hub, 1, 1_000);
    pair.run();
    pair.resolve(Who::Wallet, 0, fulfilled(1));
    pair.deliver(Who::Hub);
    assert_eq!(pair.hub.results(), [(key(1), fulfilled(1))]);
    pair.disconnect();
    assert!(pair.hub.channel().state.htlcs.offered[&0].removal.is_none());
    pair.connect();
    pair.run();
    assert_eq!(pair.hub.results(), [(key(1), fulfilled(1))]);
    assert_eq!(pair.wallet.channel().view().holder_msat.to_u64(), 1_000);
}

#[test]
fn a_preimage_for_a_channel_that_failed_is_kept_for_the_chain() {
    let mut pair = Pair::open(Who::Hub);
    pair.offer(Who::Hub, 1, 10_000_000);
    pair.run();
    pair.wallet.command(Command::Fail { reason: FailRequest::Operator }).unwrap();
    pair.resolve(Who::Wallet, 0, fulfilled(1));
    let job = pair.wallet.channel().publish_job(&pair.wallet.signer).unwrap();
    assert_eq!(job.preimages, [(hash(1), preimage(1))]);
    let acknowledged = matches!(pair.wallet.internals.last(), Some(Internal::Ack { .. }));
    assert!(acknowledged);
    pair.wallet.internals.clear();
    pair.wallet.restart();
    assert_eq!(pair.wallet.offers(), []);
    assert!(pair.wallet.effects.contains(&Effect::PlanChanged));
}

#[test]
fn offers_never_signed_fail_when_the_channel_does() {
    let mut pair = Pair::open(Who::Hub);
    pair.offer(Who::Hub, 1, 1_000);
    pair.hub.command(Command::SignNow).unwrap();
    pair.offer(Who::Hub, 2, 1_000);
    pair.hub.command(Command::Fail { reason: FailRequest::Counterparty }).unwrap();
    assert_eq!(pair.hub.results(), [(key(2), failed(FailureReason::ChannelUnavailable))]);
}

#[test]
fn an_audit_sees_a_forward_from_both_of_its_sides() {
    let mut pair = Pair::open(Who::Hub);
    let asked = |pair: &Pair| {
        let forwards = pair.hub.channel().forwards().asked_for;
        forwards.iter().map(|asked| (asked.key, asked.place, asked.told)).collect::<Vec<_>>()
    };
    pair.offer(Who::Hub, 1, 1_000);
    let sign_by_height = offer(1, 1_000).sign_by_height;
    assert_eq!(asked(&pair), [(key(1), ForwardPlace::Queued { sign_by_height }, None)]);
    pair.run();
    assert_eq!(asked(&pair), [(key(1), ForwardPlace::Live, None)]);
    let passed = pair.wallet.channel().forwards().passed_on;
    assert_eq!(passed.iter().map(|passed| (passed.attempt, passed.end)).collect::<Vec<_>>(), [(1, None)]);
    pair.resolve(Who::Wallet, 0, REFUSED);
    let passed = pair.wallet.channel().forwards().passed_on;
    assert_eq!(passed[0].end, Some(ForwardEnd::Failed));
    pair.run();
    assert_eq!(asked(&pair), [(key(1), ForwardPlace::Over, Some(ForwardEnd::Failed))]);
    assert_eq!(pair.wallet.channel().forwards().passed_on, []);
    pair.hub.command(Command::Ack { key: key(1) }).unwrap();
    assert_eq!(asked(&pair), []);
}
