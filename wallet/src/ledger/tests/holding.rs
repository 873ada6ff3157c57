use super::*;

/// A payee with a hold invoice whose HTLC waits, and that HTLC.
fn held() -> (Rig, Offer) {
    let mut payee = Rig::new(2);
    let (invoice, _) = payee.hold_invoice(100_000);
    let mut payer = Rig::new(1);
    payer.pay(&invoice).unwrap();
    let (_, offer) = payer.offers().remove(0);
    let offer = forwarded(&offer, FIRST, 0);
    payee.tell(Internal::Offer(offer.clone()));
    assert_eq!(payee.results(), [], "nothing is answered before the decision");
    (payee, offer)
}

fn waiting(payee: &Rig) -> usize {
    payee.ledger.waiting().count()
}

#[test]
fn a_held_payment_is_taken_once_its_maker_says_so_and_only_once() {
    let (mut payee, offer) = held();
    assert_eq!(payee.ledger.state().last_received, 0);
    payee.run(|ledger, env| ledger.settle_invoice(offer.payment_hash, env)).unwrap();
    let ForwardResult::Fulfilled { preimage } = payee.results()[0] else { panic!("not fulfilled") };
    assert_eq!(preimage.payment_hash(), offer.payment_hash);
    assert_eq!(payee.ledger.state().last_received, 1);
    assert_eq!(payee.run(|ledger, env| ledger.settle_invoice(offer.payment_hash, env)), Ok(()));
    assert!(payee.last.batch.is_empty(), "a repeat changes nothing");
    let cancelled = payee.run(|ledger, env| ledger.cancel_invoice(offer.payment_hash, env));
    assert_eq!(cancelled, Err(LedgerRefusal::InvoiceSettled));
    payee.restart();
    assert_eq!(payee.results(), [ForwardResult::Fulfilled { preimage }]);
    let again = Offer { key: ForwardKey { htlc_id: 1, ..offer.key }, ..offer };
    payee.tell(Internal::Offer(again));
    assert_eq!(payee.results(), [ForwardResult::Failed { reason: FailureReason::AlreadyPaid }]);
}

#[test]
fn a_cancelled_invoice_takes_nothing_any_more() {
    let (mut payee, offer) = held();
    const WRONG: ForwardResult = ForwardResult::Failed { reason: FailureReason::IncorrectPaymentDetails };
    payee.run(|ledger, env| ledger.cancel_invoice(offer.payment_hash, env)).unwrap();
    assert_eq!(payee.results(), [WRONG]);
    let again = Offer { key: ForwardKey { htlc_id: 1, ..offer.key }, ..offer.clone() };
    payee.tell(Internal::Offer(again));
    assert_eq!(payee.results(), [WRONG]);
    let settled = payee.run(|ledger, env| ledger.settle_invoice(offer.payment_hash, env));
    assert_eq!(settled, Err(LedgerRefusal::InvoiceCancelled));
}

#[test]
fn what_waits_survives_a_restart_even_past_the_invoices_expiry() {
    let (mut payee, offer) = held();
    payee.now_ms += 3_700_000;
    payee.height = offer.cltv_expiry - crate::limits::HOLD_MARGIN_BLOCKS - 1;
    payee.ledger.prune(payee.now_ms);
    payee.restart();
    let early = payee.run(|ledger, env| ledger.settle_invoice(offer.payment_hash, env));
    assert_eq!(early, Err(LedgerRefusal::NothingHeld), "its channel has not offered it again yet");
    payee.tell(Internal::Offer(offer.clone()));
    assert_eq!((payee.results().len(), waiting(&payee)), (0, 1));
    payee.run(|ledger, env| ledger.settle_invoice(offer.payment_hash, env)).unwrap();
    assert!(matches!(payee.results()[..], [ForwardResult::Fulfilled { .. }]));
}

#[test]
fn what_waits_too_long_fails_while_it_could_still_be_claimed_on_the_chain() {
    let (mut payee, offer) = held();
    payee.height = offer.cltv_expiry - crate::limits::HOLD_MARGIN_BLOCKS - 1;
    payee.run(|ledger, env| ledger.review_waiting(env));
    assert_eq!(waiting(&payee), 1);
    payee.height += 1;
    payee.run(|ledger, env| ledger.review_waiting(env));
    assert_eq!(payee.results(), [ForwardResult::Failed { reason: FailureReason::TimedOut }]);
    let late = payee.run(|ledger, env| ledger.settle_invoice(offer.payment_hash, env));
    assert_eq!(late, Err(LedgerRefusal::NothingHeld));
    payee.restart();
    assert_eq!(payee.results(), [ForwardResult::Failed { reason: FailureReason::TimedOut }]);
}

#[test]
fn what_a_channel_offered_that_is_no_more_waits_no_longer_and_another_htlc_may_pay() {
    let (mut payee, offer) = held();
    payee.run(|ledger, env| ledger.channel_ended(OwnerId(offer.key.incoming.0 + 1), env));
    assert_eq!(waiting(&payee), 1, "another channel's end is nothing to it");
    payee.run(|ledger, env| ledger.channel_ended(offer.key.incoming, env));
    assert_eq!((waiting(&payee), payee.results()), (0, vec![]), "nobody is left to be answered");
    let settled = payee.run(|ledger, env| ledger.settle_invoice(offer.payment_hash, env));
    assert_eq!(settled, Err(LedgerRefusal::NothingHeld), "nobody is told that it was paid");
    payee.restart();
    let incoming = OwnerId(offer.key.incoming.0 + 1);
    let again = Offer { key: ForwardKey { incoming, ..offer.key }, ..offer.clone() };
    payee.tell(Internal::Offer(again));
    assert_eq!((waiting(&payee), payee.results()), (1, vec![]));
    payee.run(|ledger, env| ledger.settle_invoice(offer.payment_hash, env)).unwrap();
    assert_eq!(payee.results().len(), 1);
}

#[test]
fn one_htlc_waits_for_an_invoice_and_others_are_declined() {
    let (mut payee, offer) = held();
    let again = Offer { key: ForwardKey { htlc_id: 1, ..offer.key }, ..offer };
    payee.tell(Internal::Offer(again));
    assert_eq!(payee.results(), [ForwardResult::Failed { reason: FailureReason::AlreadyPaid }]);
    assert_eq!(waiting(&payee), 1);
}

#[test]
fn only_hold_invoices_of_this_wallet_can_be_settled_or_cancelled() {
    let mut payee = Rig::new(2);
    let (_, plain) = payee.invoice(Some(1_000));
    let (_, unpaid) = payee.hold_invoice(1_000);
    let unknown = PaymentHash::from_bytes([1; 32]);
    let mut settle = |hash| payee.run(|ledger, env| ledger.settle_invoice(hash, env));
    assert_eq!(settle(plain), Err(LedgerRefusal::NotHeld));
    assert_eq!(settle(unpaid), Err(LedgerRefusal::NothingHeld));
    assert_eq!(settle(unknown), Err(LedgerRefusal::UnknownInvoice));
    let mut cancel = |hash| payee.run(|ledger, env| ledger.cancel_invoice(hash, env));
    assert_eq!(cancel(plain), Err(LedgerRefusal::NotHeld));
    assert_eq!(cancel(unknown), Err(LedgerRefusal::UnknownInvoice));
}
