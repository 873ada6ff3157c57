//! Data that is lost or old: of a wallet, of a hub.

use std::sync::Arc;

use bitcoin::{Amount, OutPoint, TxOut};
use proto::hub::v1 as pb;
use regtest::arguments;
use regtest::bitcoind::View;
use regtest::lab::{Funder, LabError, Opening, Wallet};
use regtest::programs::Name;
use regtest::wait::{Look, until_seen};
use serde_json::Value;

use crate::cheat;
use crate::fees::SPIKE;
use crate::story::{Disturbance, Story};
use crate::support::{
    CAPACITY_SAT, FEES_A_CHANNEL_SAT, LARGE_MSAT, NO_HUB, PAID_BEFORE_MSAT, PEER_CAPACITY_SAT, SHORT_DELAY,
    SMALL_MSAT, SOON, Stage, assert_gained, options,
};
use crate::wire::Wire;

/// The name of the copies of data to go back to.
const OLD: &str = "old";

/// All of a wallet is gone but its words; a new one is made from them.
async fn restore_from_words(stage: &Stage, wallet: &Wallet) {
    wallet.kill().unwrap();
    let words = std::fs::read_to_string(wallet.seed_file()).unwrap();
    std::fs::remove_dir_all(wallet.daemon().folder()).unwrap();
    let hub_key = hex::encode(stage.lab.hub().info().await.unwrap().node_key);
    let restore = arguments![
        "restore",
        "--data-dir",
        wallet.daemon().folder(),
        "--hub-address",
        stage.lab.hub().address().to_string(),
        "--hub-node-key",
        hub_key,
        "--bitcoind-url",
        stage.lab.chain().url(),
        "--bitcoind-cookie",
        stage.lab.chain().cookie_file(),
        "--words",
        words.trim(),
    ];
    stage.lab.program().run(Name::Hubwallet, &restore).await.unwrap();
}

/// Waits until a wallet has failed its channel for a reason with these words.
async fn fails(wallet: &Wallet, channel: &bytes::Bytes, words: &str) {
    until_seen("the failed channel", SOON, async || {
        let channels = wallet.channels().await?;
        let found = channels.iter().find(|one| one.channel_id == *channel);
        let seen = found.map(|one| (one.phase(), one.failure.clone()));
        Ok(match &seen {
            Some((pb::ChannelPhase::Failed, failure)) if failure.contains(words) => Look::Seen(()),
            _ => Look::NotYet(format!("{seen:?}")),
        })
    })
    .await
    .unwrap();
}

/// The output, unless a block or a transaction that waits for one spends it.
async fn unspent(stage: &Stage, outpoint: OutPoint) -> Result<Option<TxOut>, LabError> {
    stage.lab.chain().call(move |rpc| rpc.unspent(outpoint, View::ChainAndMempool)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_restored_from_its_words_alone_gets_its_coins_back() {
    let stage = Stage::set(SHORT_DELAY, &["lost"]).await;
    let books = stage.books().await;
    let (wallet, channel) = (&stage.wallets[0], &stage.channels[0]);
    let funding = stage.funding(channel).await;
    let before = wallet.balance().await.unwrap();
    restore_from_words(&stage, wallet).await;
    wallet.start_again().await.unwrap();
    fails(wallet, channel, "lost its data").await;
    // What it knows of the channel outlives it.
    wallet.kill().unwrap();
    wallet.start_again().await.unwrap();
    stage.confirm_spends("the hub's commitment", &[funding]).await.unwrap();
    stage.all_closed(&stage.channels).await.unwrap();
    let ended = stage.ended(&books).await;
    assert_gained(&ended, stage.party(wallet), wallet.name(), 0, 0, FEES_A_CHANNEL_SAT);
    assert_gained(&ended, stage.hub_party(), "the hub", 0, 0, FEES_A_CHANNEL_SAT);
    let now = regtest::lab::on_chain(wallet.balance().await.unwrap().on_chain).confirmed_sat;
    let due = regtest::lab::on_chain(before.on_chain).confirmed_sat + before.channels_msat / 1_000;
    assert!(now + FEES_A_CHANNEL_SAT > due && now <= due, "{now} of {due}");
}

/// Starts a wallet that lost everything, with a wire to the hub that carries one piece more each time, and kills hub and wallet
/// when it is used up; until the hub has published its commitment. Gives how often both died.
async fn killed_at_every_piece(stage: &Stage, wallet: &Wallet, funding: OutPoint) -> usize {
    let hub = stage.lab.hub();
    for pieces in 1.. {
        let wire = Wire::to(hub.address(), pieces).await;
        wallet.start_with(&[&wire.setting()]).await.unwrap();
        let published = until_seen("the hub's commitment, or the end of the wire", SOON, async || {
            Ok(match (unspent(stage, funding).await?, wire.is_used_up()) {
                (None, _) => Look::Seen(true),
                (Some(_), true) => Look::Seen(false),
                (Some(_), false) => Look::NotYet(format!("{funding} is unspent")),
            })
        });
        if published.await.unwrap() {
            return pieces - 1;
        }
        hub.kill().unwrap();
        wallet.kill().unwrap();
        hub.start_again().await.unwrap();
    }
    unreachable!("the wire carries more and more")
}

/// The wallet of the stage loses everything, and nobody touches the hub. `stages` follow each other: the hub's commitment,
/// the balances that it pays.
async fn restored_while_everybody_is_killed_at_every_stage(stage: Stage, stages: u32) {
    let books = stage.books().await;
    let funding = stage.funding(&stage.channels[0]).await;
    let wallet = Arc::clone(&stage.wallets[0]);
    restore_from_words(&stage, &wallet).await;
    let deaths = killed_at_every_piece(&stage, &wallet, funding).await;
    assert!(deaths > 5, "{deaths} deaths");

    let mut story = Story::new(stage, Disturbance::Kill, &[]);
    story.kill_all().await.unwrap();
    story
        .pass_until("the end of the channel", async |stage| match wallet.channels().await?.is_empty() {
            true => Ok(Look::NotYet("the wallet knows of no channel".to_owned())),
            false => stage.look_at_rest().await,
        })
        .await
        .unwrap();
    let stage = story.told(stages);
    let ended = stage.ended(&books).await;
    assert_eq!(ended.commitments.len(), 1, "{ended:?}");
    assert_gained(&ended, stage.party(&wallet), wallet.name(), 0, 0, FEES_A_CHANNEL_SAT);
    assert_gained(&ended, stage.hub_party(), "the hub", 0, 0, FEES_A_CHANNEL_SAT);
    // A restored wallet is as good as a new one.
    let opening = Opening { wallet: Arc::clone(&wallet), funder: Funder::Wallet, capacity_sat: CAPACITY_SAT };
    stage.lab.open(&[opening]).await.unwrap();
    wallet.send(stage.peer.node_key(), LARGE_MSAT).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_restored_from_its_words_gets_its_coins_when_everybody_is_killed_at_every_stage() {
    let stage = Stage::set(SHORT_DELAY, &["lost"]).await;
    restored_while_everybody_is_killed_at_every_stage(stage, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_whose_hub_owns_nothing_in_its_channel_gets_its_coins_when_everybody_is_killed_at_every_stage()
 {
    let stage = Stage::set_unpaid(options(SHORT_DELAY), &["lost"]).await;
    restored_while_everybody_is_killed_at_every_stage(stage, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_whose_hub_owns_nothing_in_its_channel_gets_its_coins_once_blocks_are_cheap_enough() {
    let stage = Stage::set_unpaid(options(SHORT_DELAY), &["lost"]).await;
    let books = stage.books().await;
    let (wallet, channel) = (&stage.wallets[0], &stage.channels[0]);
    let funding = stage.funding(channel).await;
    stage.lab.chain().restart_with(SPIKE).await.unwrap();
    restore_from_words(&stage, wallet).await;
    wallet.start_again().await.unwrap();
    fails(wallet, channel, "lost its data").await;
    for round in 0..4 {
        stage.lab.mine(1).await.unwrap();
        assert!(unspent(&stage, funding).await.unwrap().is_some(), "the hub pays more than it should");
        if round == 1 {
            stage.lab.hub().kill().unwrap();
            stage.lab.hub().start_again().await.unwrap();
        }
    }
    stage.lab.chain().restart_with(&[]).await.unwrap();
    stage.lab.mine(1).await.unwrap();
    stage.confirm_spends("the hub's commitment", &[funding]).await.unwrap();
    stage.all_closed(&stage.channels).await.unwrap();
    let ended = stage.ended(&books).await;
    assert_gained(&ended, stage.party(wallet), wallet.name(), 0, 0, FEES_A_CHANNEL_SAT);
    // What its child and the commitment weigh together, at a moderate feerate.
    assert_gained(&ended, stage.hub_party(), "the hub", 0, 0, 2_500);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_that_loses_its_data_before_its_funding_is_in_a_block_gets_its_coins_all_the_same() {
    let stage = Stage::set_unpaid(options(SHORT_DELAY), &["hasty"]).await;
    stage.lab.fund_wallets(&stage.wallets, Amount::from_sat(2 * CAPACITY_SAT)).await.unwrap();
    let wallet = &stage.wallets[0];
    let opened = wallet.open(CAPACITY_SAT).await.unwrap();
    let fundings = until_seen("the funding in the mempool", SOON, async || {
        let waiting = stage.lab.chain().mempool().await?;
        Ok::<_, LabError>(if waiting.is_empty() {
            Look::NotYet("none".to_owned())
        } else {
            Look::Seen(waiting)
        })
    });
    assert_eq!(fundings.await.unwrap().len(), 1);
    let funding = stage.funding(&opened).await;
    restore_from_words(&stage, wallet).await;
    wallet.start_again().await.unwrap();
    fails(wallet, &opened, "lost its data").await;
    until_seen("the hub's failed channel", SOON, async || {
        let channels = stage.lab.hub().channels().await?;
        let found = channels.iter().find(|one| one.channel_id == opened);
        let seen = found.map(|one| (one.phase(), one.failure.clone()));
        let asked = matches!(&seen, Some((pb::ChannelPhase::Failed, why)) if why.contains("lost its data"));
        Ok::<_, LabError>(if asked { Look::Seen(()) } else { Look::NotYet(format!("{seen:?}")) })
    })
    .await
    .unwrap();
    stage.lab.mine(1).await.unwrap();
    assert!(stage.lab.chain().unspent(funding).await.unwrap().is_some(), "it is in a block now");
    let channels = [opened, stage.channels[0].clone()];
    let fundings = [funding, stage.funding(&stage.channels[0]).await];
    stage.confirm_spends("the hub's commitments", &fundings).await.unwrap();
    stage.all_closed(&channels).await.unwrap();
    let coins = regtest::lab::on_chain(wallet.balance().await.unwrap().on_chain).confirmed_sat;
    let brought = 2 * PEER_CAPACITY_SAT + CAPACITY_SAT + 2 * CAPACITY_SAT;
    assert!(coins + 2 * FEES_A_CHANNEL_SAT > brought && coins <= brought, "{coins} of {brought}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_restored_after_its_hub_closed_the_channel_finds_that_too() {
    let stage = Stage::set(SHORT_DELAY, &["late"]).await;
    let books = stage.books().await;
    let (wallet, channel) = (&stage.wallets[0], &stage.channels[0]);
    let funding = stage.funding(channel).await;
    wallet.kill().unwrap();
    stage.lab.hub().force_close(channel).await.unwrap();
    stage.confirm_spends("the hub's commitment", &[funding]).await.unwrap();
    restore_from_words(&stage, wallet).await;
    wallet.start_again().await.unwrap();
    fails(wallet, channel, "lost its data").await;
    stage.all_closed(&stage.channels).await.unwrap();
    let ended = stage.ended(&books).await;
    assert_gained(&ended, stage.party(wallet), wallet.name(), 0, 0, FEES_A_CHANNEL_SAT);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_from_the_seed_alone_finds_to_remote_without_any_hub() {
    let stage = Stage::set(SHORT_DELAY, &["lost"]).await;
    let (wallet, channel) = (&stage.wallets[0], &stage.channels[0]);
    let funding = stage.funding(channel).await;
    let coins = regtest::lab::on_chain(wallet.balance().await.unwrap().on_chain).confirmed_sat;
    wallet.kill().unwrap();
    stage.lab.hub().force_close(channel).await.unwrap();
    stage.confirm_spends("the hub's commitment", &[funding]).await.unwrap();
    restore_from_words(&stage, wallet).await;
    stage.lab.hub().kill().unwrap();
    wallet.start_with(&[NO_HUB]).await.unwrap();
    stage.lab.all_follow().await.unwrap();
    let scan = arguments!["--json", "--data-dir", wallet.daemon().folder(), "scan"];
    let found: Value =
        serde_json::from_str(&stage.lab.program().run(Name::Hubwallet, &scan).await.unwrap()).unwrap();
    let total = found["total_sat"].as_u64().unwrap();
    let due = CAPACITY_SAT - PAID_BEFORE_MSAT / 1_000;
    // The hub's fees were paid on top of what was sent.
    assert!(total <= due && total + 2_000 > due, "{total} of {due}");
    stage
        .pass_until("the balance among the coins", 20, async || {
            let now = regtest::lab::on_chain(wallet.balance().await?.on_chain).confirmed_sat;
            Ok(if now + FEES_A_CHANNEL_SAT > coins + total && now > coins {
                Look::Seen(())
            } else {
                Look::NotYet(format!("{now} of {}", coins + total))
            })
        })
        .await
        .unwrap();
    let again: Value =
        serde_json::from_str(&stage.lab.program().run(Name::Hubwallet, &scan).await.unwrap()).unwrap();
    assert_eq!(again["total_sat"], 0, "{again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_with_an_old_copy_of_its_data_publishes_nothing_and_is_paid() {
    let stage = Stage::set(SHORT_DELAY, &["behind"]).await;
    let (wallet, channel) = (&stage.wallets[0], &stage.channels[0]);
    let funding = stage.funding(channel).await;
    wallet.kill().unwrap();
    wallet.daemon().copy(OLD).unwrap();
    wallet.start_again().await.unwrap();
    wallet.is_usable(1, SOON).await.unwrap();
    for _ in 0..3 {
        wallet.send(stage.peer.node_key(), SMALL_MSAT).await.unwrap();
    }
    let books = stage.books().await;
    wallet.kill().unwrap();
    wallet.daemon().go_back(OLD).unwrap();
    wallet.start_again().await.unwrap();
    stage.confirm_spends("the hub's commitment", &[funding]).await.unwrap();
    assert!(wallet.balance().await.unwrap().publishing_suspended, "what is old is not published");
    stage.all_closed(&stage.channels).await.unwrap();
    let ended = stage.ended(&books).await;
    // A revoked commitment would have cost it everything.
    assert_gained(&ended, stage.party(wallet), wallet.name(), 0, 0, FEES_A_CHANNEL_SAT);
    assert_gained(&ended, stage.hub_party(), "the hub", 0, 0, FEES_A_CHANNEL_SAT);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_from_an_old_backup_publishes_nothing_not_proven_current() {
    let stage = Stage::set(SHORT_DELAY, &["prover", "silent"]).await;
    let (prover, silent) = (&stage.wallets[0], &stage.wallets[1]);
    let funding = stage.funding(&stage.channels[1]).await;
    cheat::copy_hub(&stage).await;
    for wallet in &stage.wallets {
        wallet.send(stage.peer.node_key(), SMALL_MSAT).await.unwrap();
    }
    let books = stage.books().await;
    silent.kill().unwrap();
    let hub = stage.lab.hub();
    hub.kill().unwrap();
    hub.daemon().go_back(OLD).unwrap();
    hub.start_again().await.unwrap();
    until_seen("the proof", SOON, async || {
        let suspended = hub.info().await?.publishing_suspended;
        Ok::<_, LabError>(if suspended { Look::Seen(()) } else { Look::NotYet("no proof yet".to_owned()) })
    })
    .await
    .unwrap();
    // Not even when asked for: nobody has said that this state is the latest, and it is not.
    hub.force_close(&stage.channels[1]).await.unwrap();
    for _ in 0..5 {
        stage.lab.mine(1).await.unwrap();
        assert!(unspent(&stage, funding).await.unwrap().is_some(), "the hub has published an old state");
    }
    hub.kill().unwrap();
    hub.start_again().await.unwrap();
    stage.lab.all_follow().await.unwrap();
    assert!(hub.info().await.unwrap().publishing_suspended, "a restart ends no suspension");
    // Its wallets know better, and close with what is theirs.
    silent.start_again().await.unwrap();
    stage.all_closed(&stage.channels).await.unwrap();
    stage.at_rest().await.unwrap();
    let ended = stage.ended(&books).await;
    for wallet in [prover, silent] {
        assert_gained(&ended, stage.party(wallet), wallet.name(), 0, 0, FEES_A_CHANNEL_SAT);
    }
    assert_gained(&ended, stage.hub_party(), "the hub", 0, 0, 4 * FEES_A_CHANNEL_SAT);
}
