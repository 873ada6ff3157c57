//! Payments that settle, and those that fail by name and change nothing.

use proto::error::ErrorCode;
use proto::hub::v1::FailureReason;
use proto::wallet::v1 as pb;
use regtest::lab::{audit, request_id};
use regtest::wait::{Look, until_seen};

use crate::support::{
    CAPACITY_SAT, LARGE_MSAT, SMALL_MSAT, SOON, assert_failed, assert_refused, assert_settled, balance_msat,
    hub_earned, lab_of, pair, pair_with,
};

#[tokio::test(flavor = "multi_thread")]
async fn payments_with_and_without_an_htlc_output_settle_to_the_millisatoshi() {
    let (lab, payer, payee) = pair().await;
    let mut paid = 0;
    let mut fees = 0;
    for amount in [LARGE_MSAT, SMALL_MSAT, SMALL_MSAT + 1, 1] {
        let invoice = payee.invoice(amount, "tea").await.unwrap();
        let payment = payer.pay(&invoice).await.unwrap();
        assert_settled(&payment);
        assert_eq!(payment.amount_msat, amount);
        paid += amount;
        fees += payment.fee_msat;
    }
    let spontaneous = payer.send(payee.node_key(), SMALL_MSAT).await.unwrap();
    assert_settled(&spontaneous);
    assert!(spontaneous.spontaneous);
    paid += SMALL_MSAT;
    fees += spontaneous.fee_msat;

    assert_eq!(balance_msat(&payer).await, CAPACITY_SAT * 1_000 - paid - fees);
    assert_eq!(balance_msat(&payee).await, paid);
    hub_earned(&lab, fees).await;
    lab.quiet().await.unwrap();
    audit::channels(&lab).await.unwrap();
    let received = payee.payments().await.unwrap();
    assert_eq!(received.len(), 5);
    assert!(received.iter().all(|one| one.direction() == pb::PaymentDirection::Received));
}

#[tokio::test(flavor = "multi_thread")]
async fn payments_both_ways_at_once_settle() {
    let (lab, wallets) = lab_of(&["left", "right"]).await;
    let pay = async |from: usize, to: usize, count: u32| {
        for number in 0..count {
            let amount = if number % 2 == 0 { LARGE_MSAT } else { SMALL_MSAT };
            let invoice = wallets[to].invoice(amount, "").await.unwrap();
            assert_settled(&wallets[from].pay(&invoice).await.unwrap());
        }
    };
    tokio::join!(pay(0, 1, 10), pay(1, 0, 10), pay(0, 1, 10), pay(1, 0, 10));
    lab.quiet().await.unwrap();
    audit::channels(&lab).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_that_cannot_arrive_fails_by_name_and_changes_nothing() {
    let (lab, payer, payee) = pair_with(CAPACITY_SAT / 10).await;
    let before = balance_msat(&payer).await;

    let nobody = bytes::Bytes::copy_from_slice(&hex_point());
    assert_failed(payer.send(&nobody, SMALL_MSAT).await, FailureReason::UnknownRecipient);

    // More than the hub's channel to the payee holds, less than the payer's own.
    let too_much = payee.invoice(CAPACITY_SAT * 1_000 / 2, "too much").await.unwrap();
    assert_failed(payer.pay(&too_much).await, FailureReason::NoLiquidity);

    let invoice = payee.invoice(SMALL_MSAT, "while it sleeps").await.unwrap();
    payee.stop().await.unwrap();
    // The hub notices the end of the connection by itself.
    let hub = lab.hub().clone();
    regtest::wait::until_seen("the payee's absence", crate::support::SOON, async || {
        let peers = hub.info().await?.peers;
        Ok(if peers == 1 {
            regtest::wait::Look::Seen(())
        } else {
            regtest::wait::Look::NotYet(peers.to_string())
        })
    })
    .await
    .unwrap();
    assert_failed(payer.pay(&invoice).await, FailureReason::RecipientOffline);
    assert_eq!(balance_msat(&payer).await, before);

    // The same invoice can be paid once the payee is back: a failed payment is over.
    payee.start_again().await.unwrap();
    payee.is_usable(1, crate::support::SOON).await.unwrap();
    assert_settled(&regtest::lab::pay_until_settled(&payer, &invoice).await.unwrap().payment);
}

/// A point of the curve that is nobody's node: twice the generator.
fn hex_point() -> [u8; 33] {
    let mut point = [0; 33];
    let text = "02c6047f9441ed7d6d3045406e95c07cd85c778e4b8cef3ca7abac09b95c709ee5";
    hex::decode_to_slice(text, &mut point).unwrap();
    point
}

#[tokio::test(flavor = "multi_thread")]
async fn amounts_out_of_range_are_refused_before_anything_happens() {
    let (_lab, payer, payee) = pair().await;
    let zero = payee.invoice(0, "nothing").await;
    assert_refused(zero, &[ErrorCode::BadAmount]);
    assert_refused(payer.send(payee.node_key(), 0).await, &[ErrorCode::BadAmount]);
    let above_capacity = payee.invoice(CAPACITY_SAT * 2_000, "all and more").await.unwrap();
    let expected = [ErrorCode::NoChannel, ErrorCode::InsufficientFunds];
    assert_refused(payer.pay(&above_capacity).await, &expected);
    let above_all_coins = payer.send(payee.node_key(), u64::MAX).await;
    assert_refused(
        above_all_coins,
        &[ErrorCode::BadAmount, ErrorCode::BadField, ErrorCode::NoChannel, ErrorCode::InsufficientFunds],
    );
    assert_eq!(balance_msat(&payer).await, CAPACITY_SAT * 1_000);
    assert!(payer.payments().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invoice_is_paid_once_whoever_tries() {
    let (lab, wallets) = lab_of(&["first", "second", "payee"]).await;
    let invoice = wallets[2].invoice(SMALL_MSAT, "one thing").await.unwrap();
    // Two calls at once: one pays, the other is refused or joins nothing.
    let (one, two) = tokio::join!(wallets[0].pay(&invoice), wallets[0].pay(&invoice));
    let (settled, refused) = if one.is_ok() { (one, two) } else { (two, one) };
    assert_settled(&settled.unwrap());
    assert_refused(refused, &[ErrorCode::PaymentInFlight, ErrorCode::AlreadyPaid]);
    assert_refused(wallets[0].pay(&invoice).await, &[ErrorCode::AlreadyPaid]);
    // Another wallet cannot know; the payee tells it.
    assert_failed(wallets[1].pay(&invoice).await, FailureReason::AlreadyPaid);
    lab.quiet().await.unwrap();
    assert_eq!(balance_msat(&wallets[2]).await, CAPACITY_SAT * 1_000 + SMALL_MSAT);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_request_gets_the_first_answer_and_pays_once() {
    let (_lab, payer, payee) = pair().await;
    let request = |invoice: &str, id: String| pb::PayRequest {
        invoice: invoice.to_owned(),
        amount_msat: None,
        max_fee_msat: None,
        request_id: id,
    };
    let (first, second) =
        (payee.invoice(SMALL_MSAT, "a").await.unwrap(), payee.invoice(SMALL_MSAT, "b").await.unwrap());
    let id = request_id().to_string();
    let mut client = payer.client().unwrap();
    let one = client.pay(request(&first, id.clone())).await.unwrap().into_inner().payment.unwrap();
    let two = client.pay(request(&first, id.clone())).await.unwrap().into_inner().payment.unwrap();
    assert_settled(&one);
    assert_eq!((one.number, &one.preimage), (two.number, &two.preimage));
    let other = client.pay(request(&second, id)).await.map_err(payer.refused("Pay"));
    assert_refused(other, &[ErrorCode::RequestIdReused]);
    let malformed = client.pay(request(&second, "no id".to_owned())).await.map_err(payer.refused("Pay"));
    assert_refused(malformed, &[ErrorCode::RequestIdMalformed]);
    assert_eq!(balance_msat(&payee).await, SMALL_MSAT);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_payment_waits_for_its_payee_across_a_restart_of_everybody() {
    let (lab, payer, payee) = pair().await;
    let taken = payee.hold_invoice(LARGE_MSAT).await.unwrap();
    let refused = payee.hold_invoice(SMALL_MSAT).await.unwrap();
    let both_wait = async || {
        until_seen("both payments wait", SOON, async || {
            let held = payee.held().await?.len();
            Ok(if held == 2 { Look::Seen(()) } else { Look::NotYet(format!("{held} wait")) })
        })
        .await
        .unwrap();
    };
    let decide = async {
        both_wait().await;
        assert_eq!(balance_msat(&payee).await, 0, "nothing is received before it is taken");
        lab.hub().kill().unwrap();
        payee.kill().unwrap();
        lab.hub().start_again().await.unwrap();
        payee.start_again().await.unwrap();
        both_wait().await;
        payee.settle(&taken.payment_hash).await.unwrap();
        payee.cancel(&refused.payment_hash).await.unwrap();
    };
    let (paid, failed, ()) = tokio::join!(payer.pay(&taken.invoice), payer.pay(&refused.invoice), decide);
    assert_settled(&paid.unwrap());
    assert_failed(failed, FailureReason::IncorrectPaymentDetails);
    lab.quiet().await.unwrap();
    assert_eq!(balance_msat(&payee).await, LARGE_MSAT);
    assert!(payee.held().await.unwrap().is_empty());
    audit::channels(&lab).await.unwrap();
}
