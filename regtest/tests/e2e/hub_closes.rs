//! Closes that the hub begins, and what wallets remember of an ended channel and of their hub.

use std::sync::Arc;

use proto::error::ErrorCode;
use proto::hub::v1 as hub_pb;
use regtest::arguments;
use regtest::lab::{Lab, LabError, Wallet, audit, describe};
use regtest::programs::Name;
use regtest::wait::{Look, until_seen};

use crate::support::{CAPACITY_SAT, LARGE_MSAT, SOON, assert_refused, assert_settled, options, pair};

async fn channel(wallet: &Wallet) -> Result<hub_pb::Channel, LabError> {
    wallet.channels().await?.into_iter().next().ok_or_else(|| LabError::Broken("no channel".to_owned()))
}

/// Waits for both closes in the mempool, and mines until they are final in the wallets' eyes.
async fn final_closes(lab: &Lab, wallets: &[&Arc<Wallet>]) -> Result<(), LabError> {
    until_seen("both tickets in batches", SOON, async || {
        let channels = lab.hub().channels().await?;
        let frozen = channels.iter().all(|channel| channel.phase() == hub_pb::ChannelPhase::Frozen);
        let published = !lab.chain().mempool().await?.is_empty();
        Ok(if frozen && published { Look::Seen(()) } else { Look::NotYet(describe(&channels)) })
    })
    .await?;
    lab.mine_until("the finality of both closes", async || {
        for wallet in wallets {
            let channel = channel(wallet).await?;
            if channel.phase() != hub_pb::ChannelPhase::Closed {
                return Ok(Look::NotYet(format!("{}: {channel:?}", wallet.name())));
            }
        }
        Ok(Look::Seen(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_close_by_the_hub_is_answered_by_the_wallets_themselves_whatever_happens_to_them_meanwhile() {
    let (lab, payer, payee) = pair().await;
    let invoice = payee.invoice(LARGE_MSAT, "before the close").await.unwrap();
    assert_settled(&payer.pay(&invoice).await.unwrap());
    lab.quiet().await.unwrap();
    let books = audit::channels(&lab).await.unwrap();
    let before = audit::coins(&lab).await.unwrap();
    let since = lab.chain().height().await.unwrap();

    // One wallet is away when the hub begins, the other dies at whatever step its answer is.
    payee.kill().unwrap();
    let drain = arguments!["--data-dir", lab.hub().daemon().folder(), "close", "--all"];
    lab.program().run(Name::Hubctl, &drain).await.unwrap();
    payer.kill().unwrap();
    payer.start_again().await.unwrap();
    payee.start_again().await.unwrap();
    final_closes(&lab, &[&payer, &payee]).await.unwrap();
    let closes = audit::closes(&lab, &books, &before, since).await.unwrap();

    // What the wallets keep of the channels says what the chain does, after a restart too.
    for _ in 0..2 {
        for (book, close) in books.iter().zip(&closes.channels) {
            let kept = channel(&lab.wallets()[book.wallet]).await.unwrap();
            assert_eq!(kept.channel_id, book.channel_id);
            assert_eq!(audit::txid(&kept.closing_txid), Some(close.txid));
            assert_eq!((kept.closing_height, kept.paid_sat), (close.height, close.paid.to_sat()));
            let is_funder = lab.wallets()[book.wallet].name() == "payer";
            assert_eq!((kept.capacity_sat, kept.funded_locally), (CAPACITY_SAT, is_funder));
        }
        payer.stop().await.unwrap();
        payee.stop().await.unwrap();
        payer.start_again().await.unwrap();
        payee.start_again().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invoice_can_be_made_before_the_hub_is_there_again() {
    let (lab, payer, payee) = pair().await;
    lab.hub().stop().await.unwrap();
    payee.stop().await.unwrap();
    payee.start_again().await.unwrap();
    let info = payee.info().await.unwrap();
    assert!(!info.hub_connected);
    assert!(info.hub_policy.is_some_and(|policy| policy.cltv_expiry_delta > 0), "the prices told last");
    let invoice = payee.invoice(LARGE_MSAT, "while the hub is away").await.unwrap();
    lab.hub().start_again().await.unwrap();
    payer.is_usable(1, SOON).await.unwrap();
    payee.is_usable(1, SOON).await.unwrap();
    assert_settled(&payer.pay(&invoice).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_without_coins_says_so_before_it_begins_an_opening() {
    let options =
        regtest::lab::LabOptions { hub_coins: (1, bitcoin::Amount::from_sat(100_000)), ..options() };
    let mut lab = Lab::start(options).await.unwrap();
    let wallet = lab.add_wallet("hopeful").await.unwrap();
    wallet.is_connected(SOON).await.unwrap();
    assert_refused(wallet.request_inbound(CAPACITY_SAT).await, &[ErrorCode::InsufficientFunds]);
    assert!(wallet.channels().await.unwrap().is_empty());
}
