use super::*;
use channel::message::Recipient;

/// A payee with an invoice, and the good HTLC that pays it.
fn invoiced() -> (Rig, Offer) {
    let mut payee = Rig::new(2);
    let (invoice, _) = payee.invoice(Some(100_000));
    let mut payer = Rig::new(1);
    payer.pay(&invoice).unwrap();
    let (_, offer) = payer.offers().remove(0);
    (payee, forwarded(&offer, FIRST, 0))
}

fn refused(payee: &mut Rig, offer: Offer) -> FailureReason {
    payee.tell(Internal::Offer(offer));
    match payee.results()[..] {
        [ForwardResult::Failed { reason }] => reason,
        ref other => panic!("a preimage or nothing left: {other:?}"),
    }
}

#[test]
fn the_right_htlc_gets_the_preimage_and_the_same_after_a_restart() {
    let (mut payee, offer) = invoiced();
    payee.tell(Internal::Offer(offer.clone()));
    let ForwardResult::Fulfilled { preimage } = payee.results()[0] else { panic!("not fulfilled") };
    assert_eq!(preimage.payment_hash(), offer.payment_hash);
    payee.restart();
    assert_eq!(payee.results(), [ForwardResult::Fulfilled { preimage }]);
    payee.tell(Internal::Offer(offer.clone()));
    assert_eq!(payee.results(), [ForwardResult::Fulfilled { preimage }]);
    assert!(payee.last.batch.is_empty(), "a repeat is not journaled");
    payee.tell(Internal::Ack { key: offer.key });
    assert!(payee.ledger.state().held.is_empty());
    assert_eq!(payee.ledger.state().last_received, 1);
}

#[test]
fn an_invoice_is_paid_once() {
    let (mut payee, offer) = invoiced();
    payee.tell(Internal::Offer(offer.clone()));
    let again = Offer { key: ForwardKey { htlc_id: 1, ..offer.key }, ..offer };
    assert_eq!(refused(&mut payee, again), FailureReason::AlreadyPaid);
}

#[test]
fn no_preimage_leaves_for_anything_but_the_right_htlc() {
    use FailureReason::*;
    let changes: [(&str, FailureReason, Spoil); 8] = [
        ("less", IncorrectPaymentDetails, |o| o.amount_msat = Msat::from_u32(99_999)),
        ("more", IncorrectPaymentDetails, |o| o.amount_msat = Msat::from_u32(300_000)),
        ("expiry", IncorrectPaymentDetails, |o| o.cltv_expiry += 1),
        ("hash", IncorrectPaymentDetails, |o| o.payment_hash = PaymentHash::from_bytes([1; 32])),
        ("secret", IncorrectPaymentDetails, |o| *o.payload.last_mut().unwrap() ^= 1),
        ("no secret", IncorrectPaymentDetails, |o| o.payload.clear()),
        ("not last", IncorrectPaymentDetails, |o| {
            o.forward = Some(channel::message::ForwardInstruction {
                amount_msat: o.amount_msat,
                cltv_expiry: o.cltv_expiry,
            });
        }),
        ("another node", UnknownRecipient, |o| o.recipient = Recipient::Node(hub())),
    ];
    for (what, reason, change) in changes {
        let (mut payee, mut offer) = invoiced();
        change(&mut offer);
        assert_eq!(refused(&mut payee, offer), reason, "{what}");
        assert!(payee.ledger.state().invoices.values().all(|invoice| invoice.paid.is_none()));
    }
}

#[test]
fn a_secret_of_another_invoice_does_not_open() {
    let mut payee = Rig::new(2);
    let (one, _) = payee.invoice(Some(100));
    let (_, other) = payee.invoice(Some(100));
    let mut payer = Rig::new(1);
    payer.pay(&one).unwrap();
    let (_, offer) = payer.offers().remove(0);
    let mixed = Offer { payment_hash: other, ..forwarded(&offer, FIRST, 0) };
    assert_eq!(refused(&mut payee, mixed), FailureReason::IncorrectPaymentDetails);
}

#[test]
fn too_late_is_refused_by_expiry_and_by_invoice() {
    let (mut payee, offer) = invoiced();
    payee.height = offer.cltv_expiry - 17;
    assert_eq!(refused(&mut payee, offer), FailureReason::ExpiryTooSoon);
    let (mut payee, offer) = invoiced();
    payee.now_ms += 3_600_000;
    assert_eq!(refused(&mut payee, offer), FailureReason::InvoiceExpired);
}

#[test]
fn a_payment_without_an_invoice_is_taken_unless_the_settings_forbid_it() {
    let mut payer = Rig::new(1);
    let mut payee = Rig::new(2);
    let request = SendRequest { payee: payee.node(), amount_msat: 5_000, max_fee_msat: None, salt: [4; 16] };
    payer.run(|ledger, env| ledger.send_to(request, None, env)).unwrap();
    let (_, offer) = payer.offers().remove(0);
    payee.tell(Internal::Offer(forwarded(&offer, FIRST, 0)));
    assert!(matches!(payee.results()[0], ForwardResult::Fulfilled { .. }));
    payer.result(offer.key, FIRST, payee.results()[0]);
    assert!(payer.ledger.state().payments.is_empty());

    let mut strict = Rig::new(2);
    strict.settings.accept_spontaneous = false;
    assert_eq!(refused(&mut strict, forwarded(&offer, FIRST, 0)), FailureReason::IncorrectPaymentDetails);
    let myself = SendRequest { payee: payer.node(), amount_msat: 1, max_fee_msat: None, salt: [4; 16] };
    assert_eq!(payer.run(|ledger, env| ledger.send_to(myself, None, env)), Err(LedgerRefusal::ToSelf));
}

#[test]
fn bad_invoices_are_not_made() {
    let mut payee = Rig::new(2);
    let good = InvoiceRequest {
        amount_msat: Some(1),
        description: String::new(),
        expiry_seconds: 1,
        hold: false,
        salt: [1; 16],
    };
    let mut make =
        |request: InvoiceRequest| payee.run(|ledger, env| ledger.create_invoice(request, None, env));
    assert_eq!(make(InvoiceRequest { amount_msat: Some(0), ..good.clone() }), Err(LedgerRefusal::ZeroAmount));
    assert_eq!(
        make(InvoiceRequest { description: "x".repeat(640), ..good.clone() }),
        Err(LedgerRefusal::DescriptionTooLong { got: 640, limit: 639 })
    );
    assert_eq!(
        make(InvoiceRequest { expiry_seconds: 31_536_001, ..good.clone() }),
        Err(LedgerRefusal::ExpiryOutOfRange { got: 31_536_001, limit: 31_536_000 })
    );
    assert_eq!(
        make(InvoiceRequest { amount_msat: Some(u64::MAX), ..good }),
        Err(LedgerRefusal::AmountTooLarge)
    );
}

#[test]
fn an_invoice_says_what_was_asked_and_names_the_hub() {
    let mut payee = Rig::new(2);
    let (text, hash) = payee.invoice(Some(123_000));
    let read = read_invoice(&text).unwrap();
    assert_eq!(read.payee, payee.node());
    assert_eq!(read.amount_msat, Some(Msat::from_u32(123_000)));
    assert_eq!(read.payment_hash, hash);
    assert_eq!((read.network, read.description.as_str()), (Network::Regtest, "tea"));
    assert_eq!(read.hints, [hub()]);
    assert_eq!(read.expires_ms, START_MS + 3_600_000);
    assert_eq!(read.min_final_expiry_blocks, 18);
}

#[test]
fn the_hubs_prices_outlive_the_process_and_are_recorded_only_when_they_change() {
    let mut payee = Rig::new(2);
    let policy = proto::hub::v1::HubPolicy { fee_base_msat: 7, fee_ppm: 8, ..Default::default() };
    payee.run(|ledger, env| ledger.policy_told(env.hub, &policy, env.now_ms));
    assert!(!payee.last.batch.is_empty());
    payee.run(|ledger, env| ledger.policy_told(env.hub, &policy, env.now_ms));
    assert!(payee.last.batch.is_empty(), "told again, the same");
    payee.restart();
    assert_eq!(payee.ledger.policy(&hub()), Some(policy));
    assert_eq!(payee.ledger.policy(&payee.node()), None, "another hub's");
    payee.prices = payee.ledger.policy(&hub()).as_ref().map(Prices::from);
    let (text, _) = payee.invoice(Some(1_000));
    assert_eq!(read_invoice(&text).unwrap().hints, [hub()]);
}

#[test]
fn what_is_too_old_is_forgotten_by_one_record_and_nothing_is_recorded_before() {
    let mut payee = Rig::new(2);
    payee.invoice(Some(1_000));
    let prune = |payee: &mut Rig, after_ms| {
        payee.now_ms = START_MS + after_ms;
        payee.run(|ledger, env| ledger.prune(env.now_ms));
        payee.last.batch.records.len()
    };
    assert_eq!(prune(&mut payee, 7_199_999), 0);
    assert_eq!(prune(&mut payee, 7_200_000), 1);
    assert!(payee.ledger.state().invoices.is_empty());
    assert_eq!(prune(&mut payee, 7_260_000), 0);
    payee.restart();
}
