//! What goes wrong without anybody breaking a rule: lost connections, lost data, blocks that come and go,
//! time that runs out.

use bitcoin::{Amount, OutPoint, Transaction, TxOut};

use super::pair::*;
use crate::channel::{Channel, PhaseView};
use crate::effect::{Effect, OpeningFailure, Report};
use crate::error::FailureCause;
use crate::event::{AbortReason, ChainEvent, Command, Event, FailRequest};
use crate::failure::FailureReason;
use crate::forward::{ForwardKey, ForwardResult, Internal, RouteChoice};
use crate::ids::{OwnerId, SessionId};
use crate::limits::{CLAIM_MARGIN_BLOCKS, OUTGOING_GRACE_BLOCKS, SEALED_PAYLOAD_BYTES};
use crate::message::{Message, Recipient, Reestablish};
use crate::shachain::CommitmentSecret;
use crate::signer::Signer;

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
        assert_eq!(wallet.channel().phase(), PhaseView::Aborted);
        let released = Effect::ReleaseCoins { transaction: sent.then(|| transaction.clone()) };
        assert!(wallet.effects.contains(&released));
        assert_eq!(wallet.effects.last(), Some(&Effect::Finished));
        let report = Report::OpeningFailed { cause: OpeningFailure::Disconnected };
        assert_eq!(wallet.reports.last(), Some(&report));
        assert_eq!(pair.hub.channel().phase(), PhaseView::Aborted);
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
    assert_eq!(pair.hub.channel().phase(), PhaseView::Aborted);
    pair.settle();
    assert_eq!(pair.wallet.channel().phase(), PhaseView::Aborted);
    let cause = OpeningFailure::Counterparty;
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
        assert_eq!(end.channel().phase(), PhaseView::Aborted);
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
        pair.hub.chain(ChainEvent::FundingDeep { height: HEIGHT }).unwrap();
        pair.settle();
        assert!(!pair.hub.reports.contains(&Report::Ready));
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
fn an_accepter_with_nothing_at_stake_forgets_a_channel_that_the_opener_gave_up() {
    let mut pair = Pair::funded(Who::Hub);
    let error = || Event::Message(Message::ChannelError { text: "unknown channel".to_owned() });
    pair.wallet.handle(error()).unwrap();
    assert_eq!(pair.wallet.channel().phase(), PhaseView::Aborted);
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
        let cause = FailureCause::Counterparty;
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
        assert_eq!(pair.hub.channel().view().dust_exposure_msat.to_u64(), 1_000);
        pair.hub.restart();
        pair.connect();
        pair.run();
        pair.resolve(Who::Wallet, 0, late);
        pair.run();
        assert_eq!(pair.hub.channel().view().dust_exposure_msat.to_u64(), 0);
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
    assert!(pair.wallet.effects.contains(&Effect::FailedOnChain));
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
            end.chain(ChainEvent::FundingSpent { height: HEIGHT, transaction }).unwrap();
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
