//! The chain misbehaves: reorganisations, and a bitcoind that is down, slow, or restarted.

use std::sync::Arc;

use bitcoin::Amount;
use proto::error::ErrorCode;
use proto::hub::v1 as hub_pb;
use regtest::lab::{Funder, Lab, LabError, Opening, Wallet, audit};
use regtest::wait::{Look, until_seen};

use crate::fake_node::{FakeNode, UNUSABLE};
use crate::support::{
    CAPACITY_SAT, SMALL_MSAT, SOON, assert_refused, assert_settled, balance_msat, options, pair,
};

async fn phase(wallet: &Wallet) -> Result<hub_pb::Channel, LabError> {
    wallet.channels().await?.into_iter().next().ok_or_else(|| LabError::Broken("no channel".to_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reorganised_funding_stops_payments_until_it_is_confirmed_again() {
    let (lab, payer, payee) = pair().await;
    let invoice = payee.invoice(SMALL_MSAT, "before").await.unwrap();
    assert_settled(&payer.pay(&invoice).await.unwrap());
    let before = balance_msat(&payer).await;

    // The blocks that confirmed the fundings are replaced by empty ones.
    let height = lab.chain().height().await.unwrap();
    let confirmations = phase(&payer).await.unwrap().confirmations;
    lab.chain().with(move |inner| Ok(inner.miner.reorganise(confirmations)?)).await.unwrap();
    assert!(lab.chain().height().await.unwrap() > height);
    lab.all_follow().await.unwrap();
    until_seen("the channel's pause", SOON, async || {
        let channel = phase(&payer).await?;
        Ok(if channel.usable { Look::NotYet(format!("{channel:?}")) } else { Look::Seen(()) })
    })
    .await
    .unwrap();
    let invoice = payee.invoice(SMALL_MSAT, "meanwhile").await.unwrap();
    assert_refused(payer.pay(&invoice).await, &[ErrorCode::NoChannel]);
    assert_eq!(balance_msat(&payer).await, before);

    lab.mine_until("the fundings' second confirmation", async || {
        let usable = phase(&payer).await?.usable && phase(&payee).await?.usable;
        Ok(if usable { Look::Seen(()) } else { Look::NotYet("not both are usable".to_owned()) })
    })
    .await
    .unwrap();
    assert_settled(&payer.pay(&invoice).await.unwrap());
    lab.quiet().await.unwrap();
    audit::channels(&lab).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn payments_go_on_while_bitcoind_is_down_and_blocks_are_followed_once_it_is_back() {
    let (lab, payer, payee) = pair().await;
    lab.chain().with(|inner| Ok(inner.node.kill()?)).await.unwrap();
    let invoice = payee.invoice(SMALL_MSAT, "without a chain").await.unwrap();
    assert_settled(&payer.pay(&invoice).await.unwrap());
    until_seen("the hub's notice that bitcoind is gone", SOON, async || {
        let info = lab.hub().info().await?;
        Ok(if info.chain_ok { Look::NotYet("chain_ok".to_owned()) } else { Look::Seen(()) })
    })
    .await
    .unwrap();
    lab.chain().with(|inner| Ok(inner.node.start_again()?)).await.unwrap();
    lab.mine(2).await.unwrap();
    assert!(lab.hub().info().await.unwrap().chain_ok);
    open_one_more(&lab, &payer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bitcoind_that_hangs_delays_openings_and_nothing_else() {
    let (lab, payer, payee) = pair().await;
    lab.chain().with(|inner| Ok(inner.node.freeze()?)).await.unwrap();
    for _ in 0..3 {
        let invoice = payee.invoice(SMALL_MSAT, "while it hangs").await.unwrap();
        assert_settled(&payer.pay(&invoice).await.unwrap());
    }
    // Calls that need no chain are answered.
    lab.hub().info().await.unwrap();
    payer.info().await.unwrap();
    lab.chain().with(|inner| Ok(inner.node.resume()?)).await.unwrap();
    open_one_more(&lab, &payer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_node_in_bitcoinds_place_is_named_and_never_followed_and_the_right_one_is_once_it_is_back() {
    let (lab, payer, payee) = pair().await;
    let height = lab.hub().info().await.unwrap().height;
    for (claims, words) in UNUSABLE {
        lab.chain().with(|inner| Ok(inner.node.kill()?)).await.unwrap();
        let address = lab.chain().call(|rpc| Ok(rpc.address())).await.unwrap();
        let wrong = FakeNode::start(address, claims);
        until_seen("the wrong node's name at hub and wallet", SOON, async || {
            let (hub, wallet) = (lab.hub().info().await?, payer.info().await?);
            let named = words.iter().all(|word| {
                let told = hub.chain_trouble.contains(word) && wallet.trouble.contains(word);
                told && std::fs::read_to_string(lab.hub().daemon().log()).is_ok_and(|log| log.contains(word))
            });
            Ok(match named && !hub.chain_ok && !wallet.chain_ok {
                true => Look::Seen(()),
                false => Look::NotYet(format!("{}; {}", hub.chain_trouble, wallet.trouble)),
            })
        })
        .await
        .unwrap();
        // Nothing that was known of the chain is forgotten over it, and what needs no chain goes on.
        assert_eq!(lab.hub().info().await.unwrap().height, height);
        let invoice = payee.invoice(SMALL_MSAT, "beside a wrong chain").await.unwrap();
        assert_settled(&payer.pay(&invoice).await.unwrap());
        drop(wrong);
        lab.chain().with(|inner| Ok(inner.node.start_again()?)).await.unwrap();
        until_seen("the right node's return", SOON, async || {
            let (hub, wallet) = (lab.hub().info().await?, payer.info().await?);
            Ok(match hub.chain_ok && hub.chain_trouble.is_empty() && wallet.chain_ok {
                true => Look::Seen(()),
                false => Look::NotYet(format!("{}; {}", hub.chain_trouble, wallet.trouble)),
            })
        })
        .await
        .unwrap();
    }
    lab.mine(1).await.unwrap();
    open_one_more(&lab, &payer).await;
    audit::channels(&lab).await.unwrap();
}

async fn open_one_more(lab: &Lab, wallet: &Arc<Wallet>) {
    let opening = Opening { wallet: Arc::clone(wallet), funder: Funder::Hub, capacity_sat: CAPACITY_SAT };
    lab.open(&[opening]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_opening_survives_the_death_of_hub_and_wallet_before_its_first_confirmation() {
    let mut lab = Lab::start(options()).await.unwrap();
    let wallet = lab.add_wallet("opener").await.unwrap();
    lab.fund_wallets(std::slice::from_ref(&wallet), Amount::from_sat(2 * CAPACITY_SAT)).await.unwrap();
    wallet.is_connected(SOON).await.unwrap();
    wallet.open(CAPACITY_SAT).await.unwrap();
    until_seen("both signatures", SOON, async || {
        let channel = phase(&wallet).await?;
        Ok(match channel.phase() {
            hub_pb::ChannelPhase::AwaitingConfirmation => Look::Seen(()),
            other => Look::NotYet(format!("{other:?}")),
        })
    })
    .await
    .unwrap();
    lab.hub().kill().unwrap();
    wallet.kill().unwrap();
    lab.hub().start_again().await.unwrap();
    wallet.start_again().await.unwrap();
    lab.mine_until("the channel's readiness", async || {
        Ok(if phase(&wallet).await?.usable { Look::Seen(()) } else { Look::NotYet("not usable".to_owned()) })
    })
    .await
    .unwrap();
    audit::channels(&lab).await.unwrap();
}
