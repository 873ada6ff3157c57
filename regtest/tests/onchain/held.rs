//! A hub that keeps its commitments back: too many at once, or after a proof that its data is old; and the operator's word.

use bitcoin::OutPoint;
use bytes::Bytes;
use regtest::lab::LabError;
use regtest::wait::{Look, until_seen};
use serde_json::Value;

use crate::cheat;
use crate::command::{hub_shows, hubctl};
use crate::support::{FEES_A_CHANNEL_SAT, SHORT_DELAY, SMALL_MSAT, SOON, Stage, assert_gained, options};

/// The name of the copies of data to go back to.
const OLD: &str = "old";

/// How many of these fundings are unspent in the chain and in the mempool.
async fn unspent(stage: &Stage, fundings: &[OutPoint]) -> usize {
    let mut count = 0;
    for funding in fundings.iter().copied() {
        let view = regtest::bitcoind::View::ChainAndMempool;
        let found = stage.lab.chain().call(move |rpc| rpc.unspent(funding, view)).await.unwrap();
        count += usize::from(found.is_some());
    }
    count
}

async fn fundings(stage: &Stage, channels: &[Bytes]) -> Vec<OutPoint> {
    let mut fundings = Vec::new();
    for channel in channels {
        fundings.push(stage.funding(channel).await);
    }
    fundings
}

/// Waits until `hubctl info` says so.
async fn info_says(stage: &Stage, what: &str, holds: impl Fn(&Value) -> bool) {
    until_seen(what, SOON, async || {
        let info = hubctl(stage, &["info"]).await;
        Ok::<_, LabError>(if holds(&info) { Look::Seen(()) } else { Look::NotYet(info.to_string()) })
    })
    .await
    .unwrap();
}

async fn restart_hub(stage: &Stage) {
    let hub = stage.lab.hub();
    hub.kill().unwrap();
    hub.start_again().await.unwrap();
    stage.lab.all_follow().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_closes_at_once_a_hub_makes_a_few_and_the_others_once_its_operator_releases_them() {
    let mut options = options(SHORT_DELAY);
    options.hub.extend([
        "settlement.breaker_publications=1".to_owned(),
        "settlement.breaker_window_blocks=100".to_owned(),
    ]);
    let stage = Stage::set_with(options, &["one", "two", "three", "four"]).await;
    let fundings = fundings(&stage, &stage.channels).await;
    cheat::copy_wallets(&stage.wallets).await;
    for wallet in &stage.wallets {
        wallet.send(stage.peer.node_key(), SMALL_MSAT).await.unwrap();
    }
    let books = stage.books().await;
    // Every one of them has lost data, and asks the hub to close.
    for wallet in &stage.wallets {
        wallet.kill().unwrap();
        wallet.daemon().go_back(OLD).unwrap();
        wallet.start_again().await.unwrap();
    }
    info_says(&stage, "three closes held", |info| info["held"] == 3).await;
    until_seen("one commitment in the mempool", SOON, async || {
        let unspent = unspent(&stage, &fundings).await;
        Ok::<_, LabError>(if unspent == 3 { Look::Seen(()) } else { Look::NotYet(unspent.to_string()) })
    })
    .await
    .unwrap();

    // Neither time, blocks nor a crash let them through.
    stage.lab.mine(2).await.unwrap();
    restart_hub(&stage).await;
    stage.lab.mine(3).await.unwrap();
    let mut held = Vec::new();
    for (channel, funding) in stage.channels.iter().zip(&fundings) {
        match self::unspent(&stage, &[*funding]).await {
            0 => (),
            _ => held.push(channel.clone()),
        }
    }
    assert_eq!(held.len(), 3, "the breaker lets one through");
    for own in hub_shows(&stage, &held, "held").await {
        assert_eq!(own["transaction"], "", "what is held is given to nobody");
    }
    info_says(&stage, "three closes held after a restart", |info| info["held"] == 3).await;

    // What was released stays so.
    let released = hubctl(&stage, &["release"]).await;
    stage.lab.hub().kill().unwrap();
    let mut released: Vec<&str> =
        released["released"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
    let mut expected: Vec<String> = held.iter().map(hex::encode).collect();
    released.sort_unstable();
    expected.sort_unstable();
    assert_eq!(released, expected);
    stage.lab.hub().start_again().await.unwrap();
    stage.confirm_spends("all commitments", &fundings).await.unwrap();
    info_says(&stage, "nothing held", |info| info["held"] == 0).await;
    stage.all_closed(&stage.channels).await.unwrap();
    let ended = stage.ended(&books).await;
    for wallet in &stage.wallets {
        assert_gained(&ended, stage.party(wallet), wallet.name(), 0, 0, FEES_A_CHANNEL_SAT);
    }
    assert_gained(&ended, stage.hub_party(), "the hub", 0, 0, 4 * FEES_A_CHANNEL_SAT);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_hub_publishes_what_a_wallet_confirmed_and_the_rest_once_its_operator_vouches_for_it() {
    let stage = Stage::set(SHORT_DELAY, &["prover", "current", "silent"]).await;
    let fundings = fundings(&stage, &stage.channels).await;
    let [prover, current, silent] = stage.wallets.as_slice() else { panic!("three wallets") };
    cheat::copy_hub(&stage).await;
    // Nothing that the other two have is newer than the hub's copy.
    prover.send(stage.peer.node_key(), SMALL_MSAT).await.unwrap();
    let books = stage.books().await;
    silent.kill().unwrap();
    cheat::hub_goes_back(&stage).await;
    info_says(&stage, "the proof that the hub is behind", |info| info["publishing_suspended"] == true).await;
    current.is_usable(1, SOON).await.unwrap();

    // The operator wants both closed; only of one is it certain that the hub knows its latest state.
    for channel in &stage.channels[1..] {
        stage.lab.hub().force_close(channel).await.unwrap();
    }
    stage.spent_in_mempool("the commitment that a wallet confirmed", &fundings[1..2]).await.unwrap();
    let silents = &stage.channels[2..];
    let [own] = &hub_shows(&stage, silents, "suspended").await[..] else { panic!("one channel") };
    assert_eq!(own["transaction"], "", "what is suspended is given to nobody");
    stage.lab.mine(3).await.unwrap();
    restart_hub(&stage).await;
    stage.lab.mine(3).await.unwrap();
    hub_shows(&stage, silents, "suspended").await;
    assert_eq!(unspent(&stage, &fundings[2..]).await, 1, "nobody vouched for it");

    // The operator does, and dies by the same stroke; the word stays.
    let resumed = hubctl(&stage, &["resume-publishing", "--data-is-the-latest"]).await;
    assert_eq!(resumed["was_suspended"], true);
    restart_hub(&stage).await;
    info_says(&stage, "the end of the suspension", |info| info["publishing_suspended"] == false).await;
    stage.confirm_spends("the commitment that the operator vouched for", &fundings[2..]).await.unwrap();
    silent.start_again().await.unwrap();
    stage.all_closed(&stage.channels).await.unwrap();
    stage.at_rest().await.unwrap();
    // Nobody was punished: what the hub was behind in was closed by those who knew better.
    let ended = stage.ended(&books).await;
    for wallet in stage.lab.wallets() {
        assert_gained(&ended, stage.party(wallet), wallet.name(), 0, 0, 2 * FEES_A_CHANNEL_SAT);
    }
    assert_gained(&ended, stage.hub_party(), "the hub", 0, 0, 5 * FEES_A_CHANNEL_SAT);
}
