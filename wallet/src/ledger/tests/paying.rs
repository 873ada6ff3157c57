use super::*;
use channel::message::{Preimage, Recipient};
use proto::request_id::RequestId;

fn payee_invoice(amount: Option<u64>) -> String {
    Rig::new(2).invoice(amount).0
}

#[test]
fn a_payment_offers_amount_and_fee_with_room_for_the_hub() {
    let mut payer = Rig::new(1);
    let number = payer.pay(&payee_invoice(Some(100_000))).unwrap();
    let (to, offer) = payer.offers().remove(0);
    assert_eq!((to, number), (FIRST, 1));
    assert_eq!(offer.amount_msat, Msat::from_u32(100_000 + 10 + 100));
    assert_eq!(offer.forward.unwrap().amount_msat, Msat::from_u32(100_000));
    assert_eq!(offer.cltv_expiry - offer.forward.unwrap().cltv_expiry, 40);
    assert_eq!(offer.recipient, Recipient::Node(Rig::new(2).node()));
}

#[test]
fn an_invoice_in_flight_is_not_paid_again() {
    let mut payer = Rig::new(1);
    let invoice = payee_invoice(Some(100));
    payer.pay(&invoice).unwrap();
    assert!(matches!(payer.pay(&invoice), Err(LedgerRefusal::InFlight { number: 1, .. })));
    assert!(payer.last.batch.is_empty(), "a refusal leaves nothing in the journal");
    payer.restart();
    assert!(matches!(payer.pay(&invoice), Err(LedgerRefusal::InFlight { number: 1, .. })));
}

#[test]
fn a_settled_invoice_is_not_paid_again_after_a_restart_either() {
    let mut payee = Rig::new(2);
    let (invoice, _) = payee.invoice(Some(100));
    let mut payer = Rig::new(1);
    payer.pay(&invoice).unwrap();
    let (_, offer) = payer.offers().remove(0);
    payee.tell(Internal::Offer(forwarded(&offer, FIRST, 0)));
    payer.result(offer.key, FIRST, payee.results()[0]);
    assert_eq!(payer.acks(), 1);
    payer.restart();
    assert!(matches!(payer.pay(&invoice), Err(LedgerRefusal::AlreadyPaid { number: 1, .. })));
    assert!(payer.offers().is_empty());
}

#[test]
fn a_failed_payment_may_be_made_again() {
    let mut payer = Rig::new(1);
    let invoice = payee_invoice(Some(100));
    payer.pay(&invoice).unwrap();
    let key = payer.offers()[0].1.key;
    payer.failed(key, FIRST, FailureReason::UnknownRecipient);
    assert_eq!(payer.pay(&invoice), Ok(2));
}

#[test]
fn another_channel_is_tried_only_after_a_durable_failure_and_three_times_at_most() {
    let mut payer = Rig::new(1);
    payer.channel(SECOND, 900_000);
    let third = OwnerId(SECOND.0 + 1);
    let fourth = OwnerId(SECOND.0 + 2);
    payer.channel(third, 800_000);
    payer.channel(fourth, 700_000);
    payer.pay(&payee_invoice(Some(100))).unwrap();
    let mut at = FIRST;
    for (attempt, next) in [(1, SECOND), (2, third)] {
        let key = ForwardKey { incoming: LEDGER, htlc_id: 1, attempt };
        payer.failed(key, at, FailureReason::ChannelUnavailable);
        let (to, offer) = payer.offers().remove(0);
        assert_eq!((to, offer.key.attempt), (next, attempt + 1));
        at = next;
    }
    let key = ForwardKey { incoming: LEDGER, htlc_id: 1, attempt: 3 };
    payer.failed(key, third, FailureReason::ChannelUnavailable);
    assert!(payer.offers().is_empty());
    assert!(payer.ledger.state().payments.is_empty());
}

#[test]
fn a_late_failure_of_an_older_attempt_is_acknowledged_and_ignored() {
    let mut payer = Rig::new(1);
    payer.channel(SECOND, 900_000);
    payer.pay(&payee_invoice(Some(100))).unwrap();
    let key = payer.offers()[0].1.key;
    payer.failed(key, FIRST, FailureReason::NoLiquidity);
    payer.failed(key, FIRST, FailureReason::NoLiquidity);
    assert_eq!(payer.acks(), 1);
    assert!(payer.last.batch.is_empty());
    assert_eq!(payer.ledger.state().payments.len(), 1);
}

#[test]
fn a_wrong_preimage_settles_nothing() {
    let mut payer = Rig::new(1);
    payer.pay(&payee_invoice(Some(100))).unwrap();
    let key = payer.offers()[0].1.key;
    let preimage = Preimage::from_bytes([3; 32]);
    payer.result(key, FIRST, ForwardResult::Fulfilled { preimage });
    assert_eq!(payer.ledger.state().payments.len(), 1);
}

#[test]
fn every_bad_payment_is_refused_by_name() {
    let mut payer = Rig::new(1);
    let (own, _) = payer.invoice(Some(100));
    assert_eq!(payer.pay(&own), Err(LedgerRefusal::OwnInvoice));
    assert!(matches!(payer.pay("lnbcrt1nonsense"), Err(LedgerRefusal::InvoiceMalformed { .. })));
    assert_eq!(payer.pay(&payee_invoice(None)), Err(LedgerRefusal::AmountMissing));
    assert!(matches!(
        payer.pay(&payee_invoice(Some(2_000_000))),
        Err(LedgerRefusal::InsufficientBalance { .. })
    ));
    let fixed = PayRequest {
        invoice: payee_invoice(Some(100)),
        amount_msat: Some(100),
        max_fee_msat: None,
        salt: [1; 16],
    };
    let with = |change: &dyn Fn(&mut PayRequest)| {
        let mut request = fixed.clone();
        change(&mut request);
        request
    };
    let invoice = Msat::from_u32(100);
    let mut refuse =
        |request: PayRequest| payer.run(|ledger, env| ledger.pay(request, None, env)).unwrap_err();
    assert_eq!(refuse(fixed.clone()), LedgerRefusal::AmountFixed { invoice });
    let zero = with(&|r| (r.invoice, r.amount_msat) = (payee_invoice(None), Some(0)));
    assert_eq!(refuse(zero), LedgerRefusal::ZeroAmount);
    let huge = with(&|r| (r.invoice, r.amount_msat) = (payee_invoice(None), Some(u64::MAX)));
    assert_eq!(refuse(huge), LedgerRefusal::AmountTooLarge);
    let cheap = with(&|r| (r.amount_msat, r.max_fee_msat) = (None, Some(9)));
    let (fee, limit) = (Msat::from_u32(10), Msat::from_u32(9));
    assert_eq!(refuse(cheap), LedgerRefusal::FeeAboveLimit { fee, limit });

    let invoice = payee_invoice(Some(100));
    payer.now_ms += 3_600_000;
    assert_eq!(payer.pay(&invoice), Err(LedgerRefusal::InvoiceExpired { seconds: 0 }));
    payer.now_ms -= 3_600_000;
    payer.settings.network = Network::Bitcoin;
    assert!(matches!(payer.pay(&invoice), Err(LedgerRefusal::WrongNetwork { .. })));
    payer.settings.network = Network::Regtest;
    payer.prices = None;
    assert_eq!(payer.pay(&invoice), Err(LedgerRefusal::HubUnknown));
    let mut payer = Rig::new(1);
    payer.channel(FIRST, 0);
    assert_eq!(payer.pay(&invoice), Err(LedgerRefusal::NoUsableChannel { channels: 1 }));
    assert!(payer.records.is_empty(), "refusals leave nothing in the journal");
}

#[test]
fn a_request_repeated_gets_the_first_answer_and_another_body_is_refused() {
    let mut payer = Rig::new(1);
    let (one, other) = (payee_invoice(Some(100)), payee_invoice(Some(200)));
    let asked = Asked { id: RequestId::new(START_MS, [1; 10]), body: [1; 32] };
    assert_eq!(payer.pay_asked(&one, Some(&asked)), Ok(1));
    assert_eq!(payer.pay_asked(&one, Some(&asked)), Ok(1));
    payer.restart();
    assert_eq!(payer.pay_asked(&one, Some(&asked)), Ok(1));
    let misused = Asked { body: [2; 32], ..asked };
    assert_eq!(payer.pay_asked(&other, Some(&misused)), Err(LedgerRefusal::RequestIdReused));
    assert_eq!(payer.ledger.state().payments.len(), 1);
}

#[test]
fn a_restart_offers_what_is_in_flight_again_with_the_same_bytes() {
    let mut payer = Rig::new(1);
    payer.pay(&payee_invoice(Some(100))).unwrap();
    let before = payer.offers();
    payer.restart();
    assert_eq!(payer.offers(), before);
}
