//! Somebody else pays: a commitment whose owner has no coin, or bids too little, confirms because a stranger to the channel
//! spends its anchor.

use std::sync::Arc;

use bitcoin::{Amount, OutPoint, Transaction, Txid};
use regtest::lab::{Funder, Lab, LabError, Opening};
use regtest::wait::{Look, until_seen};
use serde_json::Value;

use crate::command::{hubctl, hubctl_refuses, hubwallet, hubwallet_refuses, own, rows};
use crate::support::{
    CAPACITY_SAT, FEES_A_CHANNEL_SAT, NO_HUB, SHORT_DELAY, SOON, Stage, assert_gained, options,
};

/// What blocks have no room below: 40 sat/vB. Nodes relay what pays less.
const DEAR_BLOCKS: &[&str] = &["-blockmintxfee=0.0004"];

fn txid(value: &Value) -> Txid {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{value} is an id"))
}

/// The transaction that waits for a block and spends a commitment's anchor.
async fn child_of(stage: &Stage, parent: Txid) -> Option<Transaction> {
    for waiting in stage.lab.chain().mempool().await.unwrap() {
        let Ok(transaction) = stage.lab.chain().waiting(waiting).await else { continue };
        if transaction.input.iter().any(|input| input.previous_output.txid == parent) {
            return Some(transaction);
        }
    }
    None
}

/// A wallet with two channels and one coin, and another wallet with coins and no channel.
async fn poor_and_stranger() -> Stage {
    let mut lab = Lab::start(options(SHORT_DELAY)).await.unwrap();
    let poor = lab.add_wallet("poor").await.unwrap();
    let wallets = vec![Arc::clone(&poor)];
    lab.fund_wallets(&wallets, Amount::from_sat(3 * CAPACITY_SAT)).await.unwrap();
    let mut channels = Vec::new();
    for _ in 0..2 {
        let wallet = Arc::clone(&poor);
        let opening = Opening { wallet, funder: Funder::Wallet, capacity_sat: CAPACITY_SAT };
        channels.extend(lab.open(&[opening]).await.unwrap());
    }
    let stranger = lab.add_wallet("stranger").await.unwrap();
    lab.fund_wallets(&[Arc::clone(&stranger)], Amount::from_sat(CAPACITY_SAT)).await.unwrap();
    Stage { lab, peer: stranger, wallets, channels }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commitment_that_no_mempool_ever_held_confirms_because_a_stranger_is_given_it_and_pays() {
    let stage = poor_and_stranger().await;
    let (poor, stranger) = (&stage.wallets[0], &stage.peer);
    let books = stage.books().await;
    let mut fundings = Vec::new();
    for channel in &stage.channels {
        fundings.push(stage.funding(channel).await);
    }
    poor.kill().unwrap();
    poor.start_with(&[NO_HUB]).await.unwrap();
    let open = hubwallet(&stage, poor, &["channels"]).await;
    assert!(rows(&open).iter().all(|row| row["onchain"].is_null()), "an open channel shows no commitment");
    for channel in &stage.channels {
        poor.force_close(channel).await.unwrap();
    }
    // One coin pays for one of them.
    let shown = until_seen("a commitment without a coin", SOON, async || {
        let printed = hubwallet(&stage, poor, &["channels"]).await;
        let own = stage.channels.iter().map(|id| own(&printed, id));
        let mut own: Vec<Value> = own.filter(|own| own["stage"] == "no_coin").collect();
        let is_one = own.len() == 1 && own[0]["transaction"] != "";
        Ok::<_, LabError>(if is_one { Look::Seen(own.remove(0)) } else { Look::NotYet(printed.to_string()) })
    })
    .await
    .unwrap();
    let (id, whole) = (shown["txid"].as_str().unwrap(), shown["transaction"].as_str().unwrap());
    let parent: Transaction = bitcoin::consensus::encode::deserialize_hex(whole).unwrap();
    assert_eq!(parent.compute_txid(), txid(&shown["txid"]));

    // Who knows its id only cannot help, and the hub, whose channel it is, cannot know that it is not revoked.
    let unknown = hubwallet_refuses(&stage, stranger, &["bump", id, "--feerate", "20"]).await;
    assert!(unknown.contains("--transaction"), "{unknown}");
    let own = hubctl_refuses(&stage, &["bump", "--transaction", whole, "--feerate", "20"]).await;
    assert!(own.contains("spends our channel"), "{own}");
    let bumped = hubwallet(&stage, stranger, &["bump", "--transaction", whole, "--feerate", "20"]).await;
    assert_eq!(txid(&bumped["txid"]), parent.compute_txid());
    stage.spent_in_mempool("both commitments", &fundings).await.unwrap();
    let child = child_of(&stage, parent.compute_txid()).await.expect("a child");
    assert_eq!(child.compute_txid(), txid(&bumped["child_txid"]));
    // What is out needs its owner no more, nor who paid.
    stranger.kill().unwrap();
    stage.confirm_spends("both commitments in blocks", &fundings).await.unwrap();
    stranger.start_again().await.unwrap();
    stage.at_rest().await.unwrap();
    let ended = stage.ended(&books).await;
    assert_gained(&ended, stage.party(poor), "the wallet", 0, 0, 2 * FEES_A_CHANNEL_SAT);
    assert_gained(&ended, stage.party(stranger), "the stranger", 0, 0, FEES_A_CHANNEL_SAT);
    let paid = ended.fees[stage.party(stranger)].to_sat();
    assert_eq!(paid, bumped["fee_sat"].as_u64().unwrap(), "it paid what it was told, and got its change");
    assert_gained(&ended, stage.hub_party(), "the hub", 0, 0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn commitments_that_are_stuck_confirm_once_a_stranger_and_the_operator_bump_them_by_their_ids() {
    let stage = Stage::set(SHORT_DELAY, &["helped", "served"]).await;
    let books = stage.books().await;
    let mut fundings: Vec<OutPoint> = Vec::new();
    stage.lab.chain().restart_with(DEAR_BLOCKS).await.unwrap();
    for (wallet, channel) in stage.wallets.iter().zip(&stage.channels) {
        fundings.push(stage.funding(channel).await);
        wallet.kill().unwrap();
        wallet.start_with(&[NO_HUB]).await.unwrap();
        wallet.force_close(channel).await.unwrap();
    }
    stage.spent_in_mempool("both commitments", &fundings).await.unwrap();
    stage.lab.mine(2).await.unwrap();
    let mut parents = Vec::new();
    for ((wallet, channel), funding) in stage.wallets.iter().zip(&stage.channels).zip(&fundings) {
        assert!(stage.lab.chain().unspent(*funding).await.unwrap().is_some(), "it is stuck");
        let printed = hubwallet(&stage, wallet, &["channels"]).await;
        parents.push(own(&printed, channel)["txid"].as_str().unwrap().to_owned());
    }

    let helped = hubwallet(&stage, &stage.peer, &["bump", &parents[0], "--feerate", "60"]).await;
    let served = hubctl(&stage, &["bump", &parents[1], "--feerate", "60"]).await;
    // Their owners do not outbid whoever pays more than they would: not when a block comes without them, nor when all of
    // their processes are new.
    for round in 0..3 {
        stage.lab.chain().with(|inner| Ok(inner.miner.mine_empty(1)?)).await.unwrap();
        stage.lab.all_follow().await.unwrap();
        if round == 1 {
            for wallet in &stage.wallets {
                wallet.kill().unwrap();
                wallet.start_with(&[NO_HUB]).await.unwrap();
            }
        }
        for (wallet, channel) in stage.wallets.iter().zip(&stage.channels) {
            until_seen("an owner that takes notice", SOON, async || {
                let own = own(&hubwallet(&stage, wallet, &["channels"]).await, channel);
                let why = own["why"].as_str().unwrap_or_default();
                let notices = why.starts_with("another transaction pays");
                Ok::<_, LabError>(if notices { Look::Seen(()) } else { Look::NotYet(own.to_string()) })
            })
            .await
            .unwrap();
        }
    }
    for (parent, bumped) in parents.iter().zip([&helped, &served]) {
        let child = child_of(&stage, parent.parse().unwrap()).await.expect("a child");
        assert_eq!(child.compute_txid(), txid(&bumped["child_txid"]), "the helper's child stays");
    }
    stage.lab.mine(1).await.unwrap();
    for funding in &fundings {
        assert!(stage.lab.chain().unspent(*funding).await.unwrap().is_none(), "the next block has it");
    }
    stage.lab.chain().restart_with(&[]).await.unwrap();
    stage.at_rest().await.unwrap();
    let ended = stage.ended(&books).await;
    for wallet in &stage.wallets {
        // One claim, and no commitment.
        assert_gained(&ended, stage.party(wallet), wallet.name(), 0, 0, 2_000);
    }
    let paid = |bumped: &Value| bumped["fee_sat"].as_u64().unwrap();
    assert_gained(&ended, stage.party(&stage.peer), "peer", 0, 0, paid(&helped));
    let claims = FEES_A_CHANNEL_SAT;
    assert_gained(&ended, stage.hub_party(), "the hub", 0, 0, paid(&served) + 2 * claims);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_that_owns_nothing_in_its_channel_publishes_by_a_persons_word_alone() {
    let mut lab = Lab::start(options(SHORT_DELAY)).await.unwrap();
    let wallet = lab.add_wallet("empty").await.unwrap();
    let wallets = vec![Arc::clone(&wallet)];
    lab.fund_wallets(&wallets, Amount::from_sat(100_000)).await.unwrap();
    let opening = Opening { wallet: Arc::clone(&wallet), funder: Funder::Hub, capacity_sat: CAPACITY_SAT };
    let channels = lab.open(&[opening]).await.unwrap();
    let stage = Stage { lab, peer: Arc::clone(&wallet), wallets, channels };
    let books = stage.books().await;
    let funding = stage.funding(&stage.channels[0]).await;
    wallet.kill().unwrap();
    wallet.start_with(&[NO_HUB]).await.unwrap();
    wallet.force_close(&stage.channels[0]).await.unwrap();
    let shown = until_seen("a commitment that is worth no fee", SOON, async || {
        let own = own(&hubwallet(&stage, &wallet, &["channels"]).await, &stage.channels[0]);
        let is_shown = own["stage"] == "too_dear" && own["transaction"] != "";
        Ok::<_, LabError>(if is_shown { Look::Seen(own) } else { Look::NotYet(own.to_string()) })
    })
    .await
    .unwrap();
    stage.lab.mine(2).await.unwrap();
    assert!(stage.lab.chain().unspent(funding).await.unwrap().is_some(), "nothing of its own is at stake");
    let bumped =
        hubwallet(&stage, &wallet, &["bump", shown["txid"].as_str().unwrap(), "--feerate", "5"]).await;
    stage.confirm_spends("the commitment", &[funding]).await.unwrap();
    stage.all_closed(&stage.channels).await.unwrap();
    let ended = stage.ended(&books).await;
    let paid = bumped["fee_sat"].as_u64().unwrap();
    assert_gained(&ended, stage.party(&wallet), "the wallet", 0, 0, paid);
    assert_eq!(ended.fees[stage.party(&wallet)].to_sat(), paid);
    assert_gained(&ended, stage.hub_party(), "the hub", 0, 0, FEES_A_CHANNEL_SAT);
}
