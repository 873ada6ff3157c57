//! Closes without the other side's help, as an operator and a wallet's owner see and steer them by the command lines.

use std::sync::Arc;

use bitcoin::Amount;
use proto::hub::v1::ChannelPhase;
use regtest::lab::{Funder, Lab, LabOptions, Opening, Wallet, on_chain};
use regtest::programs::Name;
use regtest::wait::{Look, until_seen};
use serde_json::Value;

use crate::cli::{json, run};
use crate::support::{CAPACITY_SAT, LARGE_MSAT, SOON, assert_settled, options};

async fn hubctl(lab: &Lab, words: &[&str]) -> Value {
    json(lab, Name::Hubctl, lab.hub().daemon().folder(), words).await
}

/// Waits until the hub's channel shows this about its end, mining if asked.
async fn shown(lab: &Lab, id: &str, what: &str, mine: bool, is: impl Fn(&Value) -> bool) -> Value {
    let probe = async || {
        let channels = hubctl(lab, &["channels", "--closed"]).await;
        let channels = channels["channels"].as_array().unwrap().clone();
        let channel = channels.into_iter().find(|channel| channel["channel_id"] == id);
        let onchain = channel.map_or(Value::Null, |channel| channel["onchain"].clone());
        Ok(if is(&onchain) { Look::Seen(onchain) } else { Look::NotYet(onchain.to_string()) })
    };
    match mine {
        true => lab.mine_until(what, probe).await.unwrap(),
        false => until_seen(what, SOON, probe).await.unwrap(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forced_close_is_shown_from_its_sending_to_its_end_and_can_be_paid_more_for() {
    let quick = LabOptions { hub: vec!["policy.to_self_delay_blocks=4".to_owned()], ..options() };
    let wallet = [quick.wallet.clone(), vec!["channels.to_self_delay_blocks=4".to_owned()]].concat();
    let mut lab = Lab::start(LabOptions { wallet, ..quick }).await.unwrap();
    let payer = lab.add_wallet("payer").await.unwrap();
    let payee = lab.add_wallet("payee").await.unwrap();
    lab.fund_wallets(std::slice::from_ref(&payer), Amount::from_sat(2 * CAPACITY_SAT)).await.unwrap();
    let opening = |wallet: &Arc<Wallet>, funder| Opening {
        wallet: Arc::clone(wallet),
        funder,
        capacity_sat: CAPACITY_SAT,
    };
    lab.open(&[opening(&payer, Funder::Wallet), opening(&payee, Funder::Hub)]).await.unwrap();
    assert_settled(&payer.pay(&payee.invoice(LARGE_MSAT, "before the end").await.unwrap()).await.unwrap());
    lab.quiet().await.unwrap();
    let key = hex::encode(payee.node_key());
    let id = hubctl(&lab, &["channels", "--node", &key]).await["channels"][0]["channel_id"].clone();
    let id = id.as_str().unwrap();
    payee.stop().await.unwrap();
    let closing = hubctl(&lab, &["close", id, "--force"]).await;
    assert_eq!(closing["closing"][0]["phase"], "failed");

    let sent =
        shown(&lab, id, "the commitment is sent", false, |close| close["own"]["stage"] == "sent").await;
    assert_eq!(sent["awaits"], "commitment");
    let txid = sent["own"]["txid"].as_str().unwrap();
    let bumped = hubctl(&lab, &["bump", txid, "--feerate", "60"]).await;
    assert_eq!(bumped["txid"], txid);
    assert!(bumped["fee_sat"].as_u64() > sent["own"]["fee_sat"].as_u64(), "{bumped} {sent}");
    assert_ne!(bumped["child_txid"], sent["own"]["child_txid"]);
    let again =
        run(&lab, Name::Hubctl, lab.hub().daemon().folder(), &["bump", txid, "--feerate", "60"]).await;
    assert_eq!(again.status.code(), Some(1));
    assert!(again.stderr.contains("it pays 60 sat/vB by now: bid at least 66"), "{}", again.stderr);

    let ours = |close: &Value| close["commitment_txid"] == txid;
    let confirmed = shown(&lab, id, "the commitment is in a block", true, ours).await;
    assert_eq!(confirmed["whose"], "ours");
    let outputs = confirmed["outputs"].as_array().unwrap();
    assert!(
        outputs.iter().any(|output| output["kind"] == "to_local" && output["stage"] == "waits"),
        "{confirmed}"
    );
    let peers = hubctl(&lab, &["peers"]).await;
    let peer =
        peers["peers"].as_array().unwrap().iter().find(|peer| peer["node_key"] == key.as_str()).unwrap();
    assert_eq!(peer["ending_on_chain"], 1);

    // The wallet comes back, finds the hub's commitment and takes what is its own.
    payee.start_again().await.unwrap();
    lab.mine_until("both ends are over", async || {
        let at_hub = lab.hub().channels().await?;
        let at_payee = payee.channels().await?;
        let gone = at_hub.iter().all(|channel| hex::encode(&channel.channel_id) != id);
        let over = gone && at_payee.iter().all(|channel| channel.phase() == ChannelPhase::Closed);
        Ok(if over { Look::Seen(()) } else { Look::NotYet(regtest::lab::describe(&at_payee)) })
    })
    .await
    .unwrap();
    let earned = on_chain(payee.balance().await.unwrap().on_chain).confirmed_sat;
    assert!(earned > LARGE_MSAT / 1_000, "the coin of its first channel, and what it was paid: {earned}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_without_coins_gets_one_with_its_first_channel_only() {
    let mut lab = Lab::start(options()).await.unwrap();
    let wallet = lab.add_wallet("newcomer").await.unwrap();
    assert_eq!(on_chain(wallet.balance().await.unwrap().on_chain).confirmed_sat, 0);
    let opening = || Opening { wallet: Arc::clone(&wallet), funder: Funder::Hub, capacity_sat: CAPACITY_SAT };
    for _ in 0..2 {
        lab.open(&[opening()]).await.unwrap();
        let balance = wallet.balance().await.unwrap();
        let confirmed = Amount::from_sat(on_chain(balance.on_chain).confirmed_sat);
        assert_eq!(confirmed, Amount::from_sat(10_000));
    }
    let short = json(&lab, Name::Hubwallet, wallet.daemon().folder(), &["balance"]).await;
    assert_eq!(short["reserve"]["short"], true, "one coin for two channels: {short}");
}
