//! Forwards whose two hops end apart: timeouts on both, and preimages that only the chain tells.

use std::sync::Arc;

use regtest::wait::{Look, until_seen};

use crate::flight::{Fate, Flight, Flights};
use crate::support::{
    FEES_A_CHANNEL_SAT, LARGE_MSAT, MOST_BLOCKS, NO_HUB, SHORT_DELAY, SOON, Stage, assert_gained,
};

/// What everybody gained is what the payments that were taken brought, but for fees.
async fn assert_settled(stage: &Stage, books: &regtest::lab::endings::Books, flights: &Flights) {
    let ended = stage.ended(books).await;
    for wallet in stage.lab.wallets() {
        let due = flights.gain(Some(wallet)).await;
        assert_gained(&ended, stage.party(wallet), wallet.name(), due, 0, FEES_A_CHANNEL_SAT);
    }
    let most = 3 * FEES_A_CHANNEL_SAT;
    assert_gained(&ended, stage.hub_party(), "the hub", flights.gain(None).await, 0, most);
}

/// Mines until every payer knows how its payment ended and every channel is open or closed.
async fn play_out(stage: &Stage, flights: &Flights) {
    stage
        .pass_until("the end of the payments", MOST_BLOCKS, async || flights.look_decided().await)
        .await
        .unwrap();
    stage.at_rest().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn htlcs_that_nobody_resolves_time_out_on_both_hops_of_their_forward() {
    let stage = Stage::set(SHORT_DELAY, &["online", "offline"]).await;
    let books = stage.books().await;
    let mut flights = Flights::default();
    for payer in &stage.wallets {
        flights.with_output.push(Flight::start(payer, &stage.peer, LARGE_MSAT, Fate::Refused).await);
    }
    let expiry = flights.with_output[0].expiry().await;
    // The payee vanishes, and one payer loses the hub.
    stage.peer.kill().unwrap();
    let offline = &stage.wallets[1];
    offline.kill().unwrap();
    offline.start_with(&[NO_HUB]).await.unwrap();

    stage.pass_to(expiry - 1).await.unwrap();
    let open = stage.lab.hub().channels().await.unwrap();
    assert!(open.iter().all(|one| one.phase() == proto::hub::v1::ChannelPhase::Open), "nothing is late yet");
    play_out(&stage, &flights).await;
    stage.peer.start_again().await.unwrap();
    stage.at_rest().await.unwrap();
    // The payer that could be told kept its channel; the other took its HTLC back on the chain.
    stage.wallets[0].is_usable(1, SOON).await.unwrap();
    let closed = offline.channels().await.unwrap();
    assert_eq!(closed[0].phase(), proto::hub::v1::ChannelPhase::Closed);
    assert_settled(&stage, &books, &flights).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preimage_that_only_the_chain_tells_is_claimed_upstream_from_payers_that_answer_and_that_do_not() {
    let stage = Stage::set(SHORT_DELAY, &["online", "offline", "payee"]).await;
    let books = stage.books().await;
    let [online, offline, payee] = stage.wallets.as_slice() else { panic!("three wallets") };
    let mut flights = Flights::default();
    for payer in [online, offline] {
        flights.with_output.push(Flight::start(payer, payee, LARGE_MSAT, Fate::Taken).await);
    }
    for wallet in [offline, payee] {
        wallet.kill().unwrap();
        wallet.start_with(&[NO_HUB]).await.unwrap();
    }
    flights.decide().await;
    payee.force_close(&stage.channels[2]).await.unwrap();
    play_out(&stage, &flights).await;
    online.is_usable(1, SOON).await.unwrap();
    assert_settled(&stage, &books, &flights).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preimage_is_read_from_a_transaction_that_never_gets_into_a_block() {
    let stage = Stage::set(SHORT_DELAY, &["payer", "payee"]).await;
    let books = stage.books().await;
    let [payer, payee] = stage.wallets.as_slice() else { panic!("two wallets") };
    let flight = Flight::start(payer, payee, LARGE_MSAT, Fate::Taken).await;
    payee.kill().unwrap();
    payee.start_with(&[NO_HUB]).await.unwrap();
    flight.decide().await;
    let funding = stage.funding(&stage.channels[1]).await;
    payee.force_close(&stage.channels[1]).await.unwrap();
    stage.confirm_spends("the payee's commitment", &[funding]).await.unwrap();
    until_seen("the payment's end, without a block that tells the preimage", SOON, async || {
        // Blocks come, but the payee's claim is in none of them.
        stage.lab.chain().with(|inner| Ok(inner.miner.mine_empty(1)?)).await?;
        stage.lab.all_follow().await?;
        flight.look_decided().await
    })
    .await
    .unwrap();
    let flights = Flights { with_output: vec![flight], trimmed: Vec::new() };
    stage.at_rest().await.unwrap();
    assert!(matches!(flights.look_decided().await, Ok(Look::Seen(()))));
    assert!(Arc::ptr_eq(&flights.with_output[0].payee, payee));
    assert_settled(&stage, &books, &flights).await;
}
