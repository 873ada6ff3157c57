//! Blocks that are full of better paying transactions, and wallets and hubs without a coin to pay with.

use std::sync::Arc;

use bitcoin::Amount;
use regtest::lab::{Funder, Lab, Opening};
use regtest::wait::{Look, until_seen};

use crate::flight::{Fate, Flight, Flights};
use crate::support::{
    CAPACITY_SAT, FEES_A_CHANNEL_SAT, MOST_BLOCKS, NO_HUB, SHORT_DELAY, SOON, Stage, assert_gained, options,
};

/// What blocks have no room below: 40 sat/vB, and the mempool takes nothing below 10 sat/vB. More than anybody offers at first.
pub const SPIKE: &[&str] = &["-blockmintxfee=0.0004", "-minrelaytxfee=0.0001"];

/// An HTLC that is worth the fees of a spike.
pub const WORTH_IT_MSAT: u64 = 200_000_000;

#[tokio::test(flavor = "multi_thread")]
async fn when_blocks_are_full_a_close_and_its_claims_are_bumped_until_they_confirm_before_anything_is_lost() {
    let stage = Stage::set(SHORT_DELAY, &["squeezed"]).await;
    let books = stage.books().await;
    let wallet = &stage.wallets[0];
    let mut flights = Flights::default();
    // One that the wallet must take in time, one that it must take back in time.
    for (payer, payee, fate) in [(&stage.peer, wallet, Fate::Taken), (wallet, &stage.peer, Fate::Refused)] {
        flights.with_output.push(Flight::start(payer, payee, WORTH_IT_MSAT, fate).await);
    }
    let expiry = flights.with_output[0].expiry().await;
    let funding = stage.funding(&stage.channels[0]).await;
    stage.lab.chain().restart_with(SPIKE).await.unwrap();
    wallet.kill().unwrap();
    wallet.start_with(&[NO_HUB]).await.unwrap();
    flights.decide().await;
    wallet.force_close(&stage.channels[0]).await.unwrap();
    stage.spent_in_mempool("a commitment at more than the mempool's minimum", &[funding]).await.unwrap();

    // Most of the time passes at once; the last blocks one by one.
    stage.lab.mine(expiry - 30 - stage.lab.chain().height().await.unwrap()).await.unwrap();
    stage
        .pass_until("the payment's end before its expiry", 30, async || {
            flights.with_output[0].look_decided().await
        })
        .await
        .unwrap();
    let height = stage.lab.chain().height().await.unwrap();
    assert!(height <= expiry, "the preimage was told at {height}, too late for {expiry}");
    stage
        .pass_until("the refused payment's end", MOST_BLOCKS, async || {
            flights.with_output[1].look_decided().await
        })
        .await
        .unwrap();
    // What has no deadline waits for fees to fall.
    stage.lab.chain().restart_with(&[]).await.unwrap();
    stage.at_rest().await.unwrap();
    let ended = stage.ended(&books).await;
    let due = flights.gain(Some(wallet)).await;
    // At most a half of what is at stake is bid.
    let most = WORTH_IT_MSAT / 1_000 * 2;
    assert_gained(&ended, stage.party(wallet), "the wallet", due, 0, most);
    assert_gained(&ended, stage.hub_party(), "the hub", flights.gain(None).await, 0, FEES_A_CHANNEL_SAT);
    assert!(ended.fees[stage.party(wallet)].to_sat() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_close_without_a_coin_to_pay_for_it_waits_and_goes_on_once_there_is_one() {
    let mut lab = Lab::start(options(SHORT_DELAY)).await.unwrap();
    let poor = lab.add_wallet("poor").await.unwrap();
    let wallets = vec![Arc::clone(&poor)];
    lab.fund_wallets(&wallets, Amount::from_sat(3 * CAPACITY_SAT)).await.unwrap();
    // The second is opened with what the first left, so that one coin is left for two closes.
    let mut channels = Vec::new();
    for _ in 0..2 {
        let wallet = Arc::clone(&poor);
        let opening = Opening { wallet, funder: Funder::Wallet, capacity_sat: CAPACITY_SAT };
        channels.extend(lab.open(&[opening]).await.unwrap());
    }
    let stage = Stage { lab, peer: Arc::clone(&poor), wallets, channels };
    let books = stage.books().await;
    let mut fundings = Vec::new();
    for channel in &stage.channels {
        fundings.push(stage.funding(channel).await);
    }
    poor.kill().unwrap();
    poor.start_with(&[NO_HUB]).await.unwrap();
    for channel in &stage.channels {
        poor.force_close(channel).await.unwrap();
    }
    until_seen("a commitment and its child", SOON, async || {
        let waiting = stage.lab.chain().mempool().await?;
        Ok(if waiting.len() == 2 { Look::Seen(()) } else { Look::NotYet(format!("{waiting:?}")) })
    })
    .await
    .unwrap();
    for _ in 0..3 {
        stage.lab.chain().with(|inner| Ok(inner.miner.mine_empty(1)?)).await.unwrap();
        stage.lab.all_follow().await.unwrap();
        let waiting = stage.lab.chain().mempool().await.unwrap();
        assert_eq!(waiting.len(), 2, "one commitment and its child: {waiting:?}");
    }

    // Another coin, and the change of the first close.
    stage.lab.fund_wallets(&stage.wallets, Amount::from_sat(100_000)).await.unwrap();
    stage.confirm_spends("both commitments, once there is a coin", &fundings).await.unwrap();
    stage.at_rest().await.unwrap();
    let ended = stage.ended(&books).await;
    assert_gained(&ended, stage.party(&poor), "the wallet", 0, 0, 2 * FEES_A_CHANNEL_SAT);
    assert_gained(&ended, stage.hub_party(), "the hub", 0, 0, 0);
}
