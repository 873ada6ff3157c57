//! The same stories, closes with HTLCs both ways and a cheat beside them, and a hub's cheat, told while everybody is killed at
//! every stage, and while every stage is reorganised away: the end is the same.

use std::sync::Arc;

use bitcoin::OutPoint;
use bytes::Bytes;
use regtest::wait::{Look, until_seen};

use crate::cheat::{self, Age, Past};
use crate::fees::{SPIKE, WORTH_IT_MSAT};
use crate::flight::{Fate, Flight, Flights, Load};
use crate::story::{Disturbance, Story};
use crate::support::{
    FEES_A_CHANNEL_SAT, LARGE_MSAT, LONG_DELAY, NO_HUB, SHORT_DELAY, SOON, Stage, assert_gained, options,
};

/// The load of the honest channels, and of the cheaters' old states.
const LOAD: Load = Load { offered: (1, 1), received: (1, 1), trimmed: 0 };

const CHEATER: Past = Past { name: "cheater", age: Age::Early, load: LOAD };

pub async fn fundings(stage: &Stage, channels: &[Bytes]) -> Vec<OutPoint> {
    let mut fundings = Vec::new();
    for channel in channels {
        fundings.push(stage.funding(channel).await);
    }
    fundings
}

/// A wallet cheats, another closes alone, and the hub closes the channel of a third; payments are in flight through the last two.
async fn wallets_end(disturbance: Disturbance) {
    // The honest channels have the same delays; they only make everybody wait longer.
    let stage = Stage::set_with(options(LONG_DELAY), &["cheater", "closer", "closed"]).await;
    let old = cheat::launch(&stage, &[CHEATER]).await;
    cheat::copy_wallets(&stage.wallets[..1]).await;
    cheat::pay_on(&stage, &[CHEATER], &old).await;
    let stake = stage.wallets[0].channels().await.unwrap()[0].local_msat.cast_signed();
    let books = stage.books().await;
    let mut flights = Vec::new();
    for wallet in &stage.wallets[1..] {
        flights.push(Flights::launch(&stage, wallet, LOAD).await);
    }
    let fundings = fundings(&stage, &stage.channels).await;
    cheat::wallet_cheats(&stage, 0).await;
    for wallet in &stage.wallets[1..] {
        wallet.kill().unwrap();
        wallet.start_with(&[NO_HUB]).await.unwrap();
    }
    stage.wallets[1].force_close(&stage.channels[1]).await.unwrap();
    stage.lab.hub().force_close(&stage.channels[2]).await.unwrap();
    stage.spent_in_mempool("all commitments", &fundings).await.unwrap();
    for flights in &flights {
        flights.decide().await;
    }

    let mut story = Story::new(stage, disturbance, &["cheater", "closer", "closed"]);
    story
        .pass_until("the end of the story", async |stage| {
            for flights in &flights {
                if let Look::NotYet(seen) = flights.look_decided().await? {
                    return Ok(Look::NotYet(seen));
                }
            }
            stage.look_closed(&stage.channels).await
        })
        .await
        .unwrap();
    // Commitments, penalties, claims at once and after expiry, second stages.
    let stage = story.told(5);
    until_seen("rest", SOON, async || stage.look_at_rest().await).await.unwrap();
    let ended = stage.ended(&books).await;
    let most = 2 * FEES_A_CHANNEL_SAT;
    assert_gained(&ended, stage.party(&stage.wallets[0]), "the cheater", -stake, 0, most);
    let (mut hub, mut peer) = (stake, 0);
    for (wallet, flights) in stage.wallets[1..].iter().zip(&flights) {
        let due = flights.gain(Some(wallet)).await;
        assert_gained(&ended, stage.party(wallet), wallet.name(), due, 0, most);
        hub += flights.gain(None).await;
        peer += flights.gain(Some(&stage.peer)).await;
    }
    assert_gained(&ended, stage.hub_party(), "the hub", hub, 0, 3 * most);
    assert_gained(&ended, stage.party(&stage.peer), "peer", peer, 0, 0);
}

/// The hub cheats in all channels at once.
async fn hub_cheats(disturbance: Disturbance) {
    let stage = Stage::set_with(options(LONG_DELAY), &["victim"]).await;
    let old = cheat::launch(&stage, &[CHEATER]).await;
    cheat::copy_hub(&stage).await;
    cheat::pay_on(&stage, &[CHEATER], &old).await;
    let books = stage.books().await;
    let victim = stage.wallets[0].channels().await.unwrap();
    let channels = cheat::hub_cheats(&stage).await;
    assert!(channels.contains(&victim[0].channel_id));
    let fundings = fundings(&stage, &channels).await;
    stage.spent_in_mempool("the revoked commitments", &fundings).await.unwrap();

    let mut story = Story::new(stage, disturbance, &["victim"]);
    for wallet in story.stage.lab.wallets() {
        story.start(wallet).await.unwrap();
    }
    story.pass_until("the end of the story", async |stage| stage.look_closed(&channels).await).await.unwrap();
    // Commitments and penalties.
    let stage = story.told(2);
    let ended = stage.ended(&books).await;
    let (share, most) = (victim[0].remote_msat.cast_signed(), 2 * FEES_A_CHANNEL_SAT);
    assert_gained(&ended, stage.party(&stage.wallets[0]), "the victim", share, 0, most);
    assert!(ended.gain_before_fees(stage.party(&stage.peer)) >= 0, "{ended:?}");
    assert!(ended.gain_before_fees(stage.hub_party()) <= -share, "{ended:?}");
}

/// Payments that nobody resolves time out on both hops: their payee is gone, and so is one payer's hub.
async fn timeouts_end(disturbance: Disturbance) {
    let stage = Stage::set(SHORT_DELAY, &["online", "offline"]).await;
    let books = stage.books().await;
    let mut flights = Flights::default();
    for payer in &stage.wallets {
        flights.with_output.push(Flight::start(payer, &stage.peer, LARGE_MSAT, Fate::Refused).await);
    }
    let expiry = flights.with_output[0].expiry().await;
    stage.peer.kill().unwrap();
    let offline = &stage.wallets[1];
    offline.kill().unwrap();
    offline.start_with(&[NO_HUB]).await.unwrap();
    stage.pass_to(expiry - 1).await.unwrap();

    let mut story = Story::new(stage, disturbance, &["offline"]);
    story
        .pass_until("the end of the payments", async |stage| {
            if let Look::NotYet(seen) = flights.look_decided().await? {
                return Ok(Look::NotYet(seen));
            }
            stage.look_at_rest().await
        })
        .await
        .unwrap();
    // The hub's commitments and the payer's, their timeouts, second stages, balances.
    let stage = story.told(5);
    stage.peer.start_again().await.unwrap();
    stage.at_rest().await.unwrap();
    stage.wallets[0].is_usable(1, SOON).await.unwrap();
    let ended = stage.ended(&books).await;
    for wallet in stage.lab.wallets() {
        assert_gained(&ended, stage.party(wallet), wallet.name(), 0, 0, FEES_A_CHANNEL_SAT);
    }
    assert_gained(&ended, stage.hub_party(), "the hub", 0, 0, 3 * FEES_A_CHANNEL_SAT);
    assert_eq!(ended.commitments.len(), 2, "{ended:?}");
}

/// Blocks are full of better paying transactions while a close and its claims must get in before it is too late.
async fn fees_rise(disturbance: Disturbance) {
    let stage = Stage::set(SHORT_DELAY, &["squeezed"]).await;
    let books = stage.books().await;
    let wallet = Arc::clone(&stage.wallets[0]);
    let mut flights = Flights::default();
    // One that the wallet must take in time, one that it must take back in time.
    for (payer, payee, fate) in [(&stage.peer, &wallet, Fate::Taken), (&wallet, &stage.peer, Fate::Refused)] {
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
    stage.lab.mine(expiry - 30 - stage.lab.chain().height().await.unwrap()).await.unwrap();

    let mut story = Story::new(stage, disturbance, &["squeezed"]);
    story
        .pass_until("the payment's end", async |_| {
            Ok(match flights.with_output[0].look_decided().await? {
                Look::Seen(_) => Look::Seen(()),
                Look::NotYet(seen) => Look::NotYet(seen),
            })
        })
        .await
        .unwrap();
    let height = story.stage.lab.chain().height().await.unwrap();
    assert!(height <= expiry, "the preimage was told at {height}, too late for {expiry}");
    story.pass_until("the refused payment's end", async |_| flights.look_decided().await).await.unwrap();
    let stage = story.told(8);
    // What has no deadline waits for fees to fall.
    stage.lab.chain().restart_with(&[]).await.unwrap();
    stage.at_rest().await.unwrap();
    let ended = stage.ended(&books).await;
    let due = flights.gain(Some(&wallet)).await;
    // At most a half of what is at stake is bid.
    let most = WORTH_IT_MSAT / 1_000 * 2;
    assert_gained(&ended, stage.party(&wallet), "the wallet", due, 0, most);
    assert_gained(&ended, stage.hub_party(), "the hub", flights.gain(None).await, 0, FEES_A_CHANNEL_SAT);
}

#[tokio::test(flavor = "multi_thread")]
async fn closes_and_a_cheat_end_the_same_when_everybody_is_killed_at_every_stage() {
    wallets_end(Disturbance::Kill).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn closes_and_a_cheat_end_the_same_when_one_to_five_blocks_are_reorganised_at_every_stage() {
    wallets_end(Disturbance::Reorganise).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hubs_cheat_ends_the_same_when_everybody_is_killed_at_every_stage() {
    hub_cheats(Disturbance::Kill).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hubs_cheat_ends_the_same_when_one_to_five_blocks_are_reorganised_at_every_stage() {
    hub_cheats(Disturbance::Reorganise).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn timeouts_on_both_hops_end_the_same_when_everybody_is_killed_at_every_stage() {
    timeouts_end(Disturbance::Kill).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn timeouts_on_both_hops_end_the_same_when_one_to_five_blocks_are_reorganised_at_every_stage() {
    timeouts_end(Disturbance::Reorganise).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fees_are_raised_until_all_is_in_blocks_in_time_when_everybody_is_killed_at_every_stage() {
    fees_rise(Disturbance::Kill).await;
}
