//! Unilateral closes without a cheat: by the hub, by the wallet, by both at once, with HTLCs of every kind in flight.

use std::sync::Arc;

use bitcoin::OutPoint;
use regtest::lab::endings::Ended;
use regtest::wait::Look;

use crate::flight::{Fate, Flights, Load};
use crate::support::{FEES_A_CHANNEL_SAT, MOST_BLOCKS, NO_HUB, SHORT_DELAY, SOON, Stage, assert_gained};

/// The loads that every way to close is tried with, one wallet each.
const LOADS: &[(&str, Load)] = &[("idle", Load::NONE), ("single", Load::ONE), ("busy", Load::MANY)];

/// A stage whose channels carry [`LOADS`], and the books from before.
struct Scene {
    stage: Stage,
    flights: Vec<Flights>,
    fundings: Vec<OutPoint>,
    books: regtest::lab::endings::Books,
}

impl Scene {
    async fn set() -> Scene {
        let names: Vec<_> = LOADS.iter().map(|(name, _)| *name).collect();
        let stage = Stage::set(SHORT_DELAY, &names).await;
        let books = stage.books().await;
        let (mut flights, mut fundings) = (Vec::new(), Vec::new());
        for ((wallet, (_, load)), channel) in stage.wallets.iter().zip(LOADS).zip(&stage.channels) {
            flights.push(Flights::launch(&stage, wallet, *load).await);
            fundings.push(stage.funding(channel).await);
        }
        Scene { stage, flights, fundings, books }
    }

    /// Lets everything run its course on the chain, and compares what everybody has with what is due.
    async fn play_out(&self) -> Ended {
        let stage = &self.stage;
        stage
            .pass_until("the end of all payments and channels", MOST_BLOCKS, async || {
                for flights in &self.flights {
                    if let Look::NotYet(seen) = flights.look_decided().await? {
                        return Ok(Look::NotYet(seen));
                    }
                }
                stage.look_closed(&stage.channels).await
            })
            .await
            .unwrap();
        // The channels that stay open know of every result.
        stage.peer.is_usable(2, SOON).await.unwrap();
        stage.lab.quiet().await.unwrap();
        let ended = stage.ended(&self.books).await;
        let all = self.flights.len() as u64;
        let risk: u64 = self.flights.iter().map(Flights::risk_msat).sum();
        let (mut hub, mut peer) = (0, 0);
        for (wallet, flights) in stage.wallets.iter().zip(&self.flights) {
            let due = flights.gain(Some(wallet)).await;
            let most = FEES_A_CHANNEL_SAT;
            assert_gained(&ended, stage.party(wallet), wallet.name(), due, flights.risk_msat(), most);
            hub += flights.gain(None).await;
            peer += flights.gain(Some(&stage.peer)).await;
        }
        assert_gained(&ended, stage.party(&stage.peer), "peer", peer, 0, 0);
        assert_gained(&ended, stage.hub_party(), "the hub", hub, risk, all * FEES_A_CHANNEL_SAT);
        // Nothing is left on the table but anchors.
        let left: Vec<_> = ended.left.values().filter(|output| output.value.to_sat() > 240).collect();
        assert!(left.is_empty(), "{left:?}");
        ended
    }

    async fn decide(&self) {
        for flights in &self.flights {
            flights.decide().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_hub_closes_alone_each_end_gets_its_due_with_no_one_and_many_htlcs_in_flight() {
    let scene = Scene::set().await;
    let stage = &scene.stage;
    for wallet in &stage.wallets {
        wallet.kill().unwrap();
    }
    for channel in &stage.channels {
        stage.lab.hub().force_close(channel).await.unwrap();
    }
    stage.confirm_spends("the hub's commitments", &scene.fundings).await.unwrap();
    for wallet in &stage.wallets {
        wallet.start_again().await.unwrap();
    }
    scene.decide().await;
    scene.play_out().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_wallet_closes_alone_each_end_gets_its_due_with_no_one_and_many_htlcs_in_flight() {
    let scene = Scene::set().await;
    let stage = &scene.stage;
    for (wallet, channel) in stage.wallets.iter().zip(&stage.channels) {
        wallet.kill().unwrap();
        // The hub is gone for it, in this life and for good.
        wallet.start_with(&[NO_HUB]).await.unwrap();
        for flight in scene.flights.iter().flat_map(|flights| &flights.with_output) {
            // Preimages that are known before the close, and that the hub is not told.
            if flight.fate == Fate::Taken && Arc::ptr_eq(&flight.payee, wallet) {
                flight.decide().await;
            }
        }
        wallet.force_close(channel).await.unwrap();
    }
    stage.confirm_spends("the wallets' commitments", &scene.fundings).await.unwrap();
    for flight in scene.flights.iter().flat_map(|flights| &flights.with_output) {
        if flight.fate == Fate::Refused || Arc::ptr_eq(&flight.payee, &stage.peer) {
            flight.decide().await;
        }
    }
    scene.play_out().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_both_close_at_once_each_end_gets_its_due_with_no_one_and_many_htlcs_in_flight() {
    let scene = Scene::set().await;
    let stage = &scene.stage;
    for (wallet, channel) in stage.wallets.iter().zip(&stage.channels) {
        let (hub, wallet) = tokio::join!(stage.lab.hub().force_close(channel), wallet.force_close(channel));
        // Who comes second may be told that the channel has failed already.
        assert!(hub.is_ok() || wallet.is_ok(), "{hub:?} {wallet:?}");
    }
    stage.confirm_spends("somebody's commitments", &scene.fundings).await.unwrap();
    scene.decide().await;
    scene.play_out().await;
}
