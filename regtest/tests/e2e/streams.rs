//! Streams of micropayments, seen from both ends.

use proto::error::ErrorCode;
use proto::wallet::v1 as pb;
use regtest::lab::{audit, stream_to_its_end};

use crate::support::{CAPACITY_SAT, assert_refused, balance_msat, pair};

fn terms(payee: &bytes::Bytes, amount_msat: u64, ticks: u64) -> pb::StartStreamRequest {
    pb::StartStreamRequest {
        payee: payee.clone(),
        amount_msat,
        ticks,
        ticks_per_second: 0,
        max_in_flight: 0,
        request_id: String::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_settles_every_tick_and_both_sides_see_it_live() {
    let (lab, payer, payee) = pair().await;
    let request = pb::SubscribeStreamsRequest { stream_id: Default::default() };
    let mut seen_by_payee = payee.client().unwrap().subscribe_streams(request).await.unwrap().into_inner();
    let end = stream_to_its_end(&payer, terms(payee.node_key(), 1_000, 3_000), |_| ()).await.unwrap();
    assert_eq!((end.state(), end.settled, end.settled_msat), (pb::StreamState::Ended, 3_000, 3_000_000));
    let receipt = end.receipt.expect("the payee signs for what it got");
    assert_eq!(receipt.total_msat, 3_000_000);
    let mut last = 0;
    while last < 3_000 {
        let step = seen_by_payee.message().await.unwrap().expect("the stream of progress goes on");
        assert_eq!(step.direction(), pb::PaymentDirection::Received);
        assert!(step.settled >= last);
        last = step.settled;
    }
    lab.quiet().await.unwrap();
    assert_eq!(balance_msat(&payee).await, 3_000_000);
    audit::channels(&lab).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_streams_and_payments_share_a_channel() {
    let (lab, payer, payee) = pair().await;
    let stream = || stream_to_its_end(&payer, terms(payee.node_key(), 2_000, 500), |_| ());
    let paying = async {
        for _ in 0..5 {
            let invoice = payee.invoice(10_000_000, "between ticks").await.unwrap();
            assert_eq!(payer.pay(&invoice).await.unwrap().state(), pb::PaymentState::Settled);
        }
    };
    let (one, two, ()) = tokio::join!(stream(), stream(), paying);
    assert_eq!((one.unwrap().settled, two.unwrap().settled), (500, 500));
    lab.quiet().await.unwrap();
    assert_eq!(balance_msat(&payee).await, 2 * 500 * 2_000 + 5 * 10_000_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_with_impossible_terms_is_refused() {
    let (_lab, payer, payee) = pair().await;
    let bad = [ErrorCode::BadAmount, ErrorCode::BadField, ErrorCode::MissingField];
    assert_refused(payer.stream(terms(payee.node_key(), 0, 10)).await.map(drop), &bad);
    assert_refused(payer.stream(terms(payee.node_key(), 1_000, 0)).await.map(drop), &bad);
    assert_refused(payer.stream(terms(&bytes::Bytes::from_static(&[1; 33]), 1_000, 1)).await.map(drop), &bad);
    assert_eq!(balance_msat(&payer).await, CAPACITY_SAT * 1_000);
}
