//! What a channel of the hub's costs its wallet: agreed by name, kept of what comes in, the coin included.

use std::sync::Arc;

use bitcoin::Amount;
use proto::error::ErrorCode;
use proto::hub::v1 as hub_pb;
use proto::wallet::v1 as pb;
use regtest::lab::{Funder, Lab, LabOptions, Opening, Wallet, audit, on_chain, stream_to_its_end};
use regtest::wait::{Look, until_seen};

use crate::support::{CAPACITY_SAT, SOON, assert_refused, assert_settled, balance_msat, hub_earned, options};

/// For a channel of [`CAPACITY_SAT`]: the base and a thousandth.
const PRICE_SAT: u64 = 1_500 + 1_000;
const COIN_SAT: u64 = 10_000;
/// The price of the channel with the coin.
const TOTAL_MSAT: u64 = (PRICE_SAT + COIN_SAT) * 1_000;

/// A lab whose hub has its price, a payer with a channel of its own, and a merchant without channel and coins.
async fn lab() -> (Lab, Arc<Wallet>, Arc<Wallet>) {
    let hub = ["inbound.fee_base_sat=1500", "inbound.fee_ppm=1000", "inbound.reserve_sat=10000"];
    let hub = hub.into_iter().chain(["policy.fee_base_msat=0", "policy.fee_ppm=0"]).map(str::to_owned);
    let mut lab = Lab::start(LabOptions { hub: hub.collect(), ..options() }).await.unwrap();
    let payer = lab.add_wallet("payer").await.unwrap();
    let merchant = lab.add_wallet("merchant").await.unwrap();
    lab.fund_wallets(std::slice::from_ref(&payer), Amount::from_sat(2 * CAPACITY_SAT)).await.unwrap();
    let wallet = Arc::clone(&payer);
    lab.open(&[Opening { wallet, funder: Funder::Wallet, capacity_sat: CAPACITY_SAT }]).await.unwrap();
    merchant.is_connected(SOON).await.unwrap();
    (lab, payer, merchant)
}

async fn channel(wallet: &Wallet) -> hub_pb::Channel {
    wallet.channels().await.unwrap().pop().expect("a channel")
}

/// What is still to be paid for the merchant's channel, as both ends say once they agree.
async fn unpaid(lab: &Lab, merchant: &Wallet, expected_msat: u64) {
    until_seen("what is left of the price", SOON, async || {
        let ours = channel(merchant).await;
        let theirs = lab.hub().channels().await?;
        let theirs = theirs.iter().find(|theirs| theirs.channel_id == ours.channel_id);
        let left = (ours.price_unpaid_msat, theirs.map(|theirs| theirs.price_unpaid_msat));
        Ok(match left == (expected_msat, Some(expected_msat)) {
            true => Look::Seen(()),
            false => Look::NotYet(format!("{left:?}")),
        })
    })
    .await
    .unwrap();
}

/// An invoice over so much is paid in full; answers what the merchant's balance grew by.
async fn paid(lab: &Lab, payer: &Wallet, merchant: &Wallet, amount_msat: u64) -> u64 {
    let before = balance_msat(merchant).await;
    let invoice = merchant.invoice(amount_msat, "what the payer owes").await.unwrap();
    let payment = payer.pay(&invoice).await.unwrap();
    assert_settled(&payment);
    assert_eq!(payment.amount_msat, amount_msat);
    lab.quiet().await.unwrap();
    balance_msat(merchant).await - before
}

fn ticks(payee: &bytes::Bytes, amount_msat: u64, ticks: u64) -> pb::StartStreamRequest {
    let (payee, request_id) = (payee.clone(), String::new());
    pb::StartStreamRequest { payee, amount_msat, ticks, ticks_per_second: 0, max_in_flight: 0, request_id }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_without_coins_pays_for_its_channel_and_its_coin_from_what_it_is_paid() {
    let (lab, payer, merchant) = lab().await;
    let policy = merchant.info().await.unwrap().hub_policy.unwrap();
    assert_eq!((policy.inbound_fee_base_sat, policy.inbound_fee_ppm), (1_500, 1_000));
    assert_eq!(policy.inbound_reserve_sat, COIN_SAT);

    let too_little = merchant.request_inbound_for(CAPACITY_SAT, Some(PRICE_SAT - 1)).await;
    assert_refused(too_little, &[ErrorCode::FeeAboveLimit]);
    assert!(merchant.channels().await.unwrap().is_empty(), "a refusal opens nothing");
    let wallet = Arc::clone(&merchant);
    lab.open(&[Opening { wallet, funder: Funder::Hub, capacity_sat: CAPACITY_SAT }]).await.unwrap();
    assert_eq!(channel(&merchant).await.price_msat, TOTAL_MSAT);
    unpaid(&lab, &merchant, TOTAL_MSAT).await;
    assert_eq!(balance_msat(&merchant).await, 0, "the price is no debt in the balance");
    let coins = on_chain(merchant.balance().await.unwrap().on_chain);
    assert_eq!(coins.confirmed_sat, COIN_SAT);

    // Half of an invoice, and of each tick; what the payer is told and signed for is the whole.
    assert_eq!(paid(&lab, &payer, &merchant, 10_000_000).await, 5_000_000);
    unpaid(&lab, &merchant, TOTAL_MSAT - 5_000_000).await;
    let end = stream_to_its_end(&payer, ticks(merchant.node_key(), 4_000, 500), |_| ()).await.unwrap();
    assert_eq!(end.receipt.expect("the merchant signs for what was paid").total_msat, 2_000_000);
    unpaid(&lab, &merchant, TOTAL_MSAT - 6_000_000).await;
    lab.quiet().await.unwrap();
    audit::channels(&lab).await.unwrap();

    // Nothing is forgotten by anybody.
    for victim in 0..2 {
        match victim {
            0 => merchant.kill().unwrap(),
            _ => lab.hub().kill().unwrap(),
        }
        match victim {
            0 => merchant.start_again().await.unwrap(),
            _ => lab.hub().start_again().await.unwrap(),
        }
        payer.is_usable(1, SOON).await.unwrap();
        merchant.is_usable(1, SOON).await.unwrap();
        unpaid(&lab, &merchant, TOTAL_MSAT - 6_000_000).await;
    }

    // The rest is less than half of this one, and then the channel is paid for.
    assert_eq!(paid(&lab, &payer, &merchant, 20_000_000).await, 20_000_000 - (TOTAL_MSAT - 6_000_000));
    unpaid(&lab, &merchant, 0).await;
    assert_eq!(paid(&lab, &payer, &merchant, 3_000_000).await, 3_000_000);
    hub_earned(&lab, TOTAL_MSAT).await;

    lab.quiet().await.unwrap();
    let books = audit::channels(&lab).await.unwrap();
    let (before, since) = (audit::coins(&lab).await.unwrap(), lab.chain().height().await.unwrap());
    lab.close_all().await.unwrap();
    audit::closes(&lab, &books, &before, since).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_covers_no_coin_opens_a_channel_without_one_and_a_failed_payment_pays_nothing() {
    let (lab, payer, merchant) = lab().await;
    let id = merchant.request_inbound_for(CAPACITY_SAT, Some(PRICE_SAT)).await.unwrap();
    lab.mine_until("the merchant's channel", async || {
        let channels = merchant.channels().await?;
        let usable = channels.iter().any(|channel| channel.channel_id == id && channel.usable);
        Ok(if usable { Look::Seen(()) } else { Look::NotYet(regtest::lab::describe(&channels)) })
    })
    .await
    .unwrap();
    assert_eq!(channel(&merchant).await.price_msat, PRICE_SAT * 1_000);
    assert_eq!(on_chain(merchant.balance().await.unwrap().on_chain).confirmed_sat, 0);

    let held = merchant.hold_invoice(8_000_000).await.unwrap();
    let paying = tokio::spawn({
        let (payer, invoice) = (Arc::clone(&payer), held.invoice.clone());
        async move { payer.pay(&invoice).await }
    });
    until_seen("the payment that waits", SOON, async || {
        let waiting = merchant.held().await?;
        Ok(match waiting.first() {
            Some(payment) if payment.amount_msat == 8_000_000 => Look::Seen(()),
            _ => Look::NotYet(format!("{waiting:?}")),
        })
    })
    .await
    .unwrap();
    merchant.cancel(&held.payment_hash).await.unwrap();
    paying.await.unwrap().expect_err("the merchant refused it");
    lab.quiet().await.unwrap();
    unpaid(&lab, &merchant, PRICE_SAT * 1_000).await;
    assert_eq!(paid(&lab, &payer, &merchant, 8_000_000).await, 8_000_000 - PRICE_SAT * 1_000);
    audit::channels(&lab).await.unwrap();
}
