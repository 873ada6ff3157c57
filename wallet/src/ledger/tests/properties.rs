use super::*;
use channel::message::Preimage;
use proptest::prelude::*;

/// What may happen to a payer.
#[derive(Clone, Debug)]
enum Step {
    Pay { amount: u32 },
    PayAgain,
    Fail { which: usize, attempt: u32, reason: u32 },
    Settle { which: usize },
    Lie { which: usize },
    Restart,
    Block,
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1u32..100_000).prop_map(|amount| Step::Pay { amount }),
        1 => Just(Step::PayAgain),
        3 => (0usize..8, 1u32..4, 1u32..16).prop_map(|(which, attempt, reason)| Step::Fail { which, attempt, reason }),
        3 => (0usize..8).prop_map(|which| Step::Settle { which }),
        1 => (0usize..8).prop_map(|which| Step::Lie { which }),
        1 => Just(Step::Restart),
        1 => Just(Step::Block),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn replay_at_any_point_gives_the_state_of_the_run_and_no_hash_is_paid_twice(
        steps in proptest::collection::vec(steps(), 1..40)
    ) {
        let (mut payer, mut payee) = (Rig::new(1), Rig::new(2));
        payer.channel(SECOND, 900_000);
        let mut invoices: Vec<(String, Preimage)> = Vec::new();
        let mut paid = std::collections::BTreeMap::new();
        for step in steps {
            match step {
                Step::Pay { amount } => {
                    let (text, hash) = payee.invoice(Some(amount.into()));
                    let salt = payee.ledger.state().invoices[&hash].salt;
                    invoices.push((text.clone(), secrets::invoice_preimage(payee.signer.as_ref(), &salt)));
                    let _ = payer.pay(&text);
                }
                Step::PayAgain => {
                    if let Some((text, preimage)) = invoices.first().cloned() {
                        let answer = payer.pay(&text);
                        if paid.contains_key(&preimage.payment_hash()) {
                            prop_assert!(matches!(answer, Err(LedgerRefusal::AlreadyPaid { .. })), "{:?}", answer);
                        }
                    }
                }
                Step::Fail { which, attempt, reason } => {
                    let Some((number, payment)) = payer.ledger.state().payments.iter().nth(which) else { continue };
                    let key = ForwardKey { incoming: LEDGER, htlc_id: *number, attempt };
                    let from = *payment.tried.last().unwrap();
                    payer.failed(key, from, FailureReason::from_code(reason).unwrap());
                    prop_assert_eq!(payer.acks(), 1);
                }
                Step::Settle { which } => {
                    let Some((number, payment)) = payer.ledger.state().payments.iter().nth(which) else { continue };
                    let hash = payment.payment_hash;
                    let (_, preimage) = *invoices.iter().find(|(_, p)| p.payment_hash() == hash).unwrap();
                    let key = ForwardKey { incoming: LEDGER, htlc_id: *number, attempt: payment.attempt };
                    let from = *payment.tried.last().unwrap();
                    payer.result(key, from, ForwardResult::Fulfilled { preimage });
                    prop_assert_eq!(paid.insert(hash, ()), None, "paid twice");
                }
                Step::Lie { which } => {
                    let key = ForwardKey { incoming: LEDGER, htlc_id: which as u64, attempt: 1 };
                    let preimage = Preimage::from_bytes([9; 32]);
                    payer.result(key, FIRST, ForwardResult::Fulfilled { preimage });
                }
                Step::Restart => payer.restart(),
                Step::Block => payer.height += 1,
            }
            let replayed = payer.replayed();
            prop_assert_eq!(replayed.state(), payer.ledger.state());
            prop_assert_eq!(payer.ledger.state().in_flight.len(), payer.ledger.state().payments.len());
        }
        let snapshot = payer.ledger.snapshot();
        let journal::Content::State { payload, hash } = snapshot.content else { panic!("a state") };
        let restored = super::super::restore::decode_snapshot(&payload, &hash).unwrap();
        prop_assert_eq!(&restored, payer.ledger.state());
    }

    #[test]
    fn broken_records_and_snapshots_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut ledger = Rig::new(1).ledger;
        let mut record = vec![1];
        record.extend_from_slice(&bytes);
        let _ = ledger.fold(1, &record);
        let _ = ledger.fold(2, &bytes);
        let _ = crate::history::AnyEvent::decode(&bytes);
        let _ = crate::history::read_payment(&bytes);
    }
}

#[test]
fn pruning_forgets_what_is_over_and_nothing_that_still_counts() {
    let (mut payer, mut payee) = (Rig::new(1), Rig::new(2));
    let (one, _) = payee.invoice(Some(100));
    payer.pay(&one).unwrap();
    let (_, offer) = payer.offers().remove(0);
    payee.tell(Internal::Offer(forwarded(&offer, FIRST, 0)));
    payer.result(offer.key, FIRST, payee.results()[0]);
    let prune = |rig: &mut Rig, later: u64| {
        let now_ms = START_MS + later;
        rig.run(|ledger, _| ledger.prune(now_ms));
        rig.restart();
    };
    prune(&mut payer, 1_000);
    assert_eq!(payer.ledger.state().settled.len(), 1);
    prune(&mut payer, 3_600_000);
    assert!(payer.ledger.state().settled.is_empty(), "an expired invoice cannot be paid anyway");
    prune(&mut payee, 3 * 3_600_000);
    assert!(payee.ledger.state().invoices.is_empty());
    assert_eq!(payee.ledger.state().held.len(), 1, "a result is kept until it is acknowledged");
}

/// A ledger whose snapshot the journal refused would end the daemon at the next one, and at every one after. What counts is
/// what others can cause, and what the limits let one's own scripts do.
#[test]
fn a_ledger_with_everything_it_may_hold_fits_a_snapshot() {
    use super::super::state::{Made, PayeeStream, Request, Settled, State, Terms};
    use crate::limits;

    let (far, high) = (u64::MAX, (1u64 << limits::STREAM_INDEX_BITS) - 1);
    let size = |change: &dyn Fn(&mut State)| {
        let mut state = State::default();
        change(&mut state);
        super::super::entry::encode(&state).len()
    };
    let hash = PaymentHash::from_bytes([1; 32]);
    let mut payee = Rig::new(2);
    let (_, made) = payee.invoice(None);
    let mut invoice = payee.ledger.state().invoices[&made].clone();
    (invoice.text, invoice.description) = (String::new(), String::new());
    let mut stream = PayeeStream {
        payer: hub(),
        fresh_key: hub(),
        terms: Terms {
            amount_msat: Msat::MAX,
            ticks: far,
            ticks_per_second: u32::MAX,
            max_in_flight: u32::MAX,
        },
        started_ms: far,
        last_ms: far,
        seen: Default::default(),
        received: far,
        total_msat: Msat::MAX,
        receipt: None,
        ended: None,
    };
    for gap in 0..limits::MAX_INDEX_GAPS as u64 {
        stream.seen.insert(high - 2 * gap, limits::MAX_INDEX_GAPS);
    }
    let id = channel::ids::StreamId([1; 16]);
    let settled = Settled { number: far, expires_ms: far };
    let request = Request { body: [1; 32], made: Made::Invoice(hash) };
    let one_invoice = size(&|state| {
        state.invoices.insert(hash, invoice.clone());
    });
    let one_settled = size(&|state| {
        state.settled.insert(hash, settled);
    });
    let one_request = size(&|state| {
        state.requests.insert([1; 16], request.clone());
    });
    let one_stream = size(&|state| {
        state.payees.insert(id, stream.clone());
    });
    let all = one_invoice * limits::MAX_INVOICES
        + limits::MAX_INVOICE_BYTES
        + one_settled * limits::MAX_SETTLED_REMEMBERED
        + one_request * limits::MAX_REQUESTS
        + one_stream * limits::MAX_LIVE_STREAMS;
    let limit = journal::limits::MAX_SNAPSHOT_BYTES;
    assert!(all < limit, "{all} bytes of {limit}");
}
