use super::*;
use channel::ids::StreamId;
use channel::message::Recipient;
use proto::hub::v1::StreamRefusal;
use proto::relay::{Relay, RelayKind};
use std::collections::BTreeSet;

use super::super::state::PayerPhase;
use crate::history::{AnyEvent, LedgerHappening};

const ID: StreamId = StreamId([5; 16]);

fn request(payee: Point, ticks: u64) -> StreamRequest {
    StreamRequest { payee, amount_msat: 10, ticks, ticks_per_second: 0, max_in_flight: 0, id: ID }
}

/// A payer and a payee that have agreed, with the payer's first offers waiting.
fn agreed(ticks: u64) -> (Rig, Rig, Vec<Offer>) {
    let (mut payer, mut payee) = (Rig::new(1), Rig::new(2));
    let request = request(payee.node(), ticks);
    payer.run(|ledger, env| ledger.start_stream(request, None, env)).unwrap();
    let proposal = payer.last.relays.remove(0);
    payee.run(|ledger, env| ledger.relayed(proposal, env));
    let answer = payee.last.relays.remove(0);
    assert_eq!(answer.kind, RelayKind::Accept);
    payer.run(|ledger, env| {
        ledger.relayed(answer, env);
        ledger.drive(env);
    });
    let offers = payer.offers().into_iter().map(|(_, offer)| offer).collect();
    (payer, payee, offers)
}

fn index(offer: &Offer) -> u64 {
    match offer.recipient {
        Recipient::Stream { index, .. } => index,
        Recipient::Node(_) => panic!("not a tick"),
    }
}

/// Passes offers to the payee and its answers back.
fn carry(payer: &mut Rig, payee: &mut Rig, offers: &[Offer], from: u64) {
    for (offer, htlc_id) in offers.iter().zip(from..) {
        payee.tell(Internal::Offer(forwarded(offer, FIRST, htlc_id)));
        let result = payee.results()[0];
        payer.result(offer.key, FIRST, result);
    }
}

#[test]
fn a_stream_settles_every_tick_and_ends_with_a_receipt() {
    let (mut payer, mut payee, mut offers) = agreed(120);
    assert_eq!(offers.len(), 50, "the window");
    let mut carried = 0;
    while !offers.is_empty() {
        carry(&mut payer, &mut payee, &offers, carried);
        carried += offers.len() as u64;
        payer.run(|ledger, env| ledger.drive(env));
        offers = payer.offers().into_iter().map(|(_, offer)| offer).collect();
    }
    assert_eq!(carried, 120);
    payee.run(|ledger, env| ledger.drive(env));
    let receipt = payee.last.relays.remove(0);
    payer.run(|ledger, env| {
        ledger.relayed(receipt, env);
        ledger.drive(env);
    });
    let stream = &payer.ledger.state().payers[&ID];
    assert_eq!((stream.settled, stream.receipt.unwrap().total_msat), (120, Msat::from_u32(1_200)));
    assert!(matches!(&stream.phase, PayerPhase::Ended { text, .. } if text.is_empty()), "{:?}", stream.phase);
    assert!(payee.ledger.state().payees[&ID].ended.is_some());
}

#[test]
fn no_index_is_used_twice_across_restarts_and_failures() {
    let (mut payer, mut payee, mut offers) = agreed(60);
    let mut used = BTreeSet::new();
    let mut settled = 0;
    for round in 0..40u64 {
        for offer in &offers {
            assert!(used.insert(index(offer)), "index {} again", index(offer));
        }
        for (at, offer) in (round..).zip(&offers) {
            if at % 3 == 0 {
                payer.failed(offer.key, FIRST, FailureReason::NoLiquidity);
            } else {
                settled += 1;
                carry(&mut payer, &mut payee, std::slice::from_ref(offer), settled);
            }
        }
        if round % 2 == 0 {
            payer.restart();
            assert!(payer.offers().is_empty(), "nothing was open");
            payee.restart();
        }
        payer.now_ms += 5_000;
        payer.run(|ledger, env| ledger.drive(env));
        offers = payer.offers().into_iter().map(|(_, offer)| offer).collect();
    }
    assert_eq!(payer.ledger.state().payers[&ID].settled, 60);
    assert_eq!(payee.ledger.state().payees[&ID].received, 60);
}

#[test]
fn a_restart_repeats_open_ticks_with_the_same_key_and_hash() {
    let (mut payer, _, offers) = agreed(60);
    payer.restart();
    let again: Vec<Offer> = payer.offers().into_iter().map(|(_, offer)| offer).collect();
    assert_eq!(again, offers);
    payer.run(|ledger, env| ledger.drive(env));
    assert!(payer.offers().is_empty(), "the window is full: no new index");
}

#[test]
fn a_tick_that_breaks_the_terms_is_not_opened() {
    let (_, mut payee, offers) = agreed(10);
    let good = forwarded(&offers[0], FIRST, 0);
    let changes: [(FailureReason, Spoil); 5] = [
        (FailureReason::StreamRefused, |o| o.amount_msat = Msat::from_u32(9)),
        (FailureReason::StreamRefused, |o| o.amount_msat = Msat::from_u32(11)),
        (FailureReason::ExpiryTooSoon, |o| o.cltv_expiry = HEIGHT + 17),
        (FailureReason::IncorrectPaymentDetails, |o| o.payment_hash = PaymentHash::from_bytes([1; 32])),
        (FailureReason::StreamRefused, |o| {
            o.recipient = Recipient::Stream { id: StreamId([6; 16]), index: 0 };
        }),
    ];
    for ((reason, change), htlc_id) in changes.into_iter().zip(10..) {
        let mut offer = Offer { key: ForwardKey { htlc_id, ..good.key }, ..good.clone() };
        change(&mut offer);
        payee.tell(Internal::Offer(offer));
        assert_eq!(payee.results(), [ForwardResult::Failed { reason }]);
    }
    payee.tell(Internal::Offer(good.clone()));
    assert!(matches!(payee.results()[0], ForwardResult::Fulfilled { .. }));
    let twice = Offer { key: ForwardKey { htlc_id: 20, ..good.key }, ..good };
    payee.tell(Internal::Offer(twice));
    assert_eq!(payee.results(), [ForwardResult::Failed { reason: FailureReason::StreamRefused }]);
}

#[test]
fn changed_terms_are_refused_by_the_payee() {
    let (mut payer, mut payee) = (Rig::new(1), Rig::new(2));
    let request = request(payee.node(), 5);
    payer.run(|ledger, env| ledger.start_stream(request, None, env)).unwrap();
    let Relay { stream, kind: RelayKind::Open(mut terms) } = payer.last.relays.remove(0) else { panic!() };
    terms.amount_msat = Msat::from_u32(1);
    payee.run(|ledger, env| ledger.relayed(Relay { stream, kind: RelayKind::Open(terms) }, env));
    let RelayKind::Refuse { reason, .. } = payee.last.relays[0].kind.clone() else { panic!() };
    assert_eq!(reason, StreamRefusal::NotAuthentic);
    let refusal = payee.last.relays.remove(0);
    payer.run(|ledger, env| ledger.relayed(refusal, env));
    assert!(matches!(payer.ledger.state().payers[&ID].phase, PayerPhase::Refused { .. }));
}

#[test]
fn a_receipt_of_somebody_else_or_for_too_much_does_not_count() {
    let (mut payer, mut payee, offers) = agreed(10);
    carry(&mut payer, &mut payee, &offers[..2], 0);
    payee.now_ms += 2_000;
    payee.run(|ledger, env| ledger.drive(env));
    let good = payee.last.relays.remove(0);
    let RelayKind::Receipt(receipt) = good.kind.clone() else { panic!() };
    let raised = proto::relay::Receipt { total_msat: Msat::from_u32(100), ..receipt };
    payer.run(|ledger, env| ledger.relayed(Relay { stream: ID, kind: RelayKind::Receipt(raised) }, env));
    assert_eq!(payer.ledger.state().payers[&ID].receipt, None);
    payer.run(|ledger, env| ledger.relayed(good, env));
    assert_eq!(payer.ledger.state().payers[&ID].receipt.unwrap().total_msat, Msat::from_u32(20));
}

#[test]
fn the_pace_is_kept() {
    let (mut payer, payee) = (Rig::new(1), Rig::new(2));
    let request = StreamRequest { ticks_per_second: 10, ..request(payee.node(), 100) };
    payer.run(|ledger, env| ledger.start_stream(request, None, env)).unwrap();
    payer.run(|ledger, env| {
        ledger.relayed(Relay { stream: ID, kind: RelayKind::Accept }, env);
        ledger.drive(env);
    });
    let mut sent = payer.offers().len();
    for _ in 0..20 {
        payer.now_ms += 50;
        payer.run(|ledger, env| ledger.drive(env));
        sent += payer.offers().len();
    }
    assert!((10..=12).contains(&sent), "{sent} ticks in a second");
}

#[test]
fn every_bad_stream_is_refused_by_name() {
    let (mut payer, payee) = (Rig::new(1), Rig::new(2));
    let good = request(payee.node(), 5);
    let myself = payer.node();
    let mut start = |request| payer.run(|ledger, env| ledger.start_stream(request, None, env)).unwrap_err();
    let limit = crate::limits::MAX_TICKS;
    assert_eq!(
        start(StreamRequest { ticks: 0, ..good.clone() }),
        LedgerRefusal::TicksOutOfRange { got: 0, limit }
    );
    assert_eq!(start(StreamRequest { amount_msat: 0, ..good.clone() }), LedgerRefusal::ZeroAmount);
    assert_eq!(start(StreamRequest { payee: myself, ..good.clone() }), LedgerRefusal::ToSelf);
    let limit = crate::limits::MAX_TICKS_IN_FLIGHT;
    assert_eq!(
        start(StreamRequest { max_in_flight: limit + 1, ..good.clone() }),
        LedgerRefusal::WindowOutOfRange { got: limit + 1, limit }
    );
    let dear = StreamRequest { amount_msat: Msat::MAX.to_u64(), ..good };
    assert_eq!(start(dear), LedgerRefusal::StreamTooLarge);
}

/// The streams that the last round's events tell of.
fn told(rig: &Rig) -> Vec<LedgerHappening> {
    let events = rig.last.batch.events.iter().map(|event| AnyEvent::decode(event).unwrap());
    let ledger = events.filter_map(|event| match event {
        AnyEvent::Ledger(event) => Some(event.what),
        AnyEvent::Channel(_) => None,
    });
    ledger.collect()
}

#[test]
fn the_payee_keeps_its_last_receipt_over_the_end_and_a_restart() {
    let (mut payer, mut payee, offers) = agreed(3);
    carry(&mut payer, &mut payee, &offers[..2], 0);
    payee.now_ms += 2_000;
    payee.run(|ledger, env| ledger.drive(env));
    let receipt = payee.ledger.state().payees[&ID].receipt.unwrap();
    assert_eq!((receipt.highest_tick, receipt.total_msat), (1, Msat::from_u32(20)));
    carry(&mut payer, &mut payee, &offers[2..], 2);
    payee.run(|ledger, env| ledger.drive(env));
    payee.restart();
    let stream = &payee.ledger.state().payees[&ID];
    assert!(stream.ended.is_some());
    assert_eq!(stream.receipt.unwrap().total_msat, Msat::from_u32(30));
}

#[test]
fn a_payer_that_missed_the_receipt_gets_the_same_again_and_nothing_is_recorded() {
    let (mut payer, mut payee, offers) = agreed(1);
    carry(&mut payer, &mut payee, &offers, 0);
    payee.run(|ledger, env| ledger.drive(env));
    let first = payee.last.relays.clone();
    payee.restart();
    payer.now_ms += 5_000;
    payer.run(|ledger, env| ledger.drive(env));
    let proposal = payer.last.relays.remove(0);
    assert!(matches!(proposal.kind, RelayKind::Open(_)));
    payee.run(|ledger, env| ledger.relayed(proposal, env));
    assert_eq!(payee.last.relays, first);
    assert!(payee.last.batch.is_empty());
}

#[test]
fn a_round_tells_of_a_stream_once_and_a_quiet_one_not_at_all() {
    let (mut payer, mut payee, offers) = agreed(2);
    carry(&mut payer, &mut payee, &offers, 0);
    payee.run(|ledger, env| ledger.drive(env));
    let [LedgerHappening::Received { stream, .. }] = &told(&payee)[..] else { panic!("{:?}", told(&payee)) };
    assert!(stream.ended.is_some() && stream.receipt.is_some(), "receipt and end are one step to the eye");
    let receipt = payee.last.relays.remove(0);
    for _ in 0..3 {
        payee.now_ms += 2_000;
        payee.run(|ledger, env| ledger.drive(env));
        assert_eq!(told(&payee), []);
    }
    payer.run(|ledger, env| {
        ledger.relayed(receipt, env);
        ledger.drive(env);
    });
    assert_eq!(told(&payer).len(), 1, "the receipt, and that all is settled");
}

#[test]
fn a_hub_that_raises_its_price_during_a_stream_gets_no_tick_at_that_price() {
    let (mut payer, mut payee, offers) = agreed(120);
    let agreed_fee = payer.prices.unwrap().fee(Msat::from_u32(10)).unwrap();
    assert!(offers.iter().all(|offer| offer.amount_msat == Msat::from_u32(10).saturating_add(agreed_fee)));
    carry(&mut payer, &mut payee, &offers, 0);
    // The next connection tells another price, within what a lone payment would allow; a restart does not forget the first.
    payer.prices = payer.prices.map(|prices| Prices { fee_base_msat: 4_000, ..prices });
    payer.restart();
    payer.run(|ledger, env| ledger.drive(env));
    assert!(payer.offers().is_empty(), "no tick pays more than what was agreed");
    payer.run(|ledger, env| ledger.drive(env));
    let stream = &payer.ledger.state().payers[&ID];
    let PayerPhase::Ended { text, .. } = &stream.phase else { panic!("{:?}", stream.phase) };
    assert!(text.contains("when the stream began"), "{text}");
    assert_eq!((stream.settled, stream.next_index), (50, 50));
}

#[test]
fn a_hub_that_lowers_its_price_during_a_stream_gets_less() {
    let (mut payer, mut payee, offers) = agreed(120);
    carry(&mut payer, &mut payee, &offers, 0);
    payer.prices = payer.prices.map(|prices| Prices { fee_base_msat: 0, fee_ppm: 0, ..prices });
    payer.run(|ledger, env| ledger.drive(env));
    assert_eq!(payer.offers().len(), 50);
    assert!(payer.offers().iter().all(|(_, offer)| offer.amount_msat == Msat::from_u32(10)));
}

#[test]
fn a_stream_in_which_nothing_ever_comes_takes_up_room_for_minutes_only() {
    let (_, mut payee, _) = agreed(10);
    payee.now_ms += crate::limits::STREAM_FIRST_TICK_MS;
    payee.run(|ledger, env| ledger.drive(env));
    assert_eq!(payee.ledger.state().live_payees(), 1);
    payee.now_ms += 1;
    payee.run(|ledger, env| ledger.drive(env));
    assert_eq!(payee.ledger.state().live_payees(), 0);
}

#[test]
fn an_ended_stream_keeps_its_receipt_and_forgets_its_indices() {
    let (mut payer, mut payee, offers) = agreed(10);
    for at in [1, 3, 5] {
        carry(&mut payer, &mut payee, &offers[at..=at], at as u64);
    }
    let end = Relay { stream: ID, kind: RelayKind::End { text: "enough".into() } };
    payee.run(|ledger, env| ledger.relayed(end, env));
    let stream = &payee.ledger.state().payees[&ID];
    assert_eq!(stream.seen, super::super::runs::IndexSet::default());
    assert_eq!(stream.receipt.map(|receipt| receipt.highest_tick), Some(5));
    payee.tell(Internal::Offer(forwarded(&offers[1], FIRST, 77)));
    let refused = ForwardResult::Failed { reason: FailureReason::StreamRefused };
    assert_eq!(payee.results(), [refused], "what was opened once is not opened again");
    payee.restart();
}
