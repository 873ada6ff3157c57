//! Invoices that a wallet must not pay.

use proto::error::ErrorCode;
use proto::wallet::v1 as pb;
use regtest::wait::{Look, until_seen};

use crate::support::{SMALL_MSAT, SOON, assert_refused, balance_msat, pair};

/// Valid ones of the main network, from the specification's examples: with an amount, and expired long ago by any clock.
const MAIN_NETWORK: &str = "lnbc2500u1pvjluezsp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygspp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdq5xysxxatsyp3k7enxv4jsxqzpu9qrsgquk0rl77nj30yxdy8j9vdx85fkpmdla2087ne0xh8nhedh8w27kyke0lp53ut353s06fv3qfegext0eh0ymjpf39tuven09sam30g4vgpfna3rh";

#[tokio::test(flavor = "multi_thread")]
async fn an_invoice_that_is_malformed_foreign_or_expired_is_refused_by_name() {
    let (_lab, payer, payee) = pair().await;
    let good = payee.invoice(SMALL_MSAT, "good").await.unwrap();

    let mut flipped = good.clone();
    let last = flipped.pop().unwrap();
    flipped.push(if last == 'q' { 'p' } else { 'q' });
    for malformed in ["", "lnbcrt", "not an invoice", flipped.as_str(), &good[..good.len() - 10]] {
        assert_refused(payer.pay(malformed).await, &[ErrorCode::InvoiceMalformed, ErrorCode::MissingField]);
    }
    assert_refused(payer.pay(MAIN_NETWORK).await, &[ErrorCode::InvoiceWrongNetwork]);

    let request = pb::CreateInvoiceRequest {
        hold: false,
        amount_msat: Some(SMALL_MSAT),
        description: "short-lived".to_owned(),
        expiry_seconds: 1,
        request_id: String::new(),
    };
    let short = payee.client().unwrap().create_invoice(request).await.unwrap().into_inner().invoice;
    until_seen("the invoice's expiry", SOON, async || {
        let request = pb::DecodeInvoiceRequest { invoice: short.clone() };
        let decoded =
            payer.client()?.decode_invoice(request).await.map_err(payer.refused("DecodeInvoice"))?;
        let expired = decoded.get_ref().expired;
        Ok(if expired { Look::Seen(()) } else { Look::NotYet("it is good".to_owned()) })
    })
    .await
    .unwrap();
    assert_refused(payer.pay(&short).await, &[ErrorCode::InvoiceExpired]);
    assert_eq!(balance_msat(&payee).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decoded_invoice_says_what_was_asked_for() {
    let (_lab, payer, payee) = pair().await;
    let invoice = payee.invoice(SMALL_MSAT, "two teas").await.unwrap();
    for (wallet, ours) in [(&payer, false), (&payee, true)] {
        let request = pb::DecodeInvoiceRequest { invoice: invoice.clone() };
        let decoded = wallet.client().unwrap().decode_invoice(request).await.unwrap().into_inner();
        assert_eq!(decoded.payee, payee.node_key());
        assert_eq!(decoded.network, "regtest");
        assert_eq!(decoded.amount_msat, Some(SMALL_MSAT));
        assert_eq!(decoded.description, "two teas");
        assert_eq!(decoded.ours, ours);
        assert!(decoded.via_our_hub && !decoded.expired);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invoice_without_an_amount_lets_the_payer_choose() {
    let (_lab, payer, payee) = pair().await;
    let request = pb::CreateInvoiceRequest {
        hold: false,
        amount_msat: None,
        description: "as you like".to_owned(),
        expiry_seconds: 0,
        request_id: String::new(),
    };
    let invoice = payee.client().unwrap().create_invoice(request).await.unwrap().into_inner().invoice;
    assert_refused(payer.pay(&invoice).await, &[ErrorCode::BadAmount]);
    let request =
        pb::PayRequest { invoice, amount_msat: Some(12_345), max_fee_msat: None, request_id: String::new() };
    let payment = payer.client().unwrap().pay(request).await.unwrap().into_inner().payment.unwrap();
    assert_eq!(payment.state(), pb::PaymentState::Settled);
    assert_eq!(balance_msat(&payee).await, 12_345);
}
