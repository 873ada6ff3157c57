//! Somebody is away: bitcoind across a deadline, a wallet for weeks, a peer for good.

use proto::hub::v1 as pb;
use regtest::arguments;
use regtest::programs::Name;
use regtest::wait::{Look, until_seen};

use crate::cheat::{self, Age, Past};
use crate::flight::{Fate, Flight, Flights, Load};
use crate::support::{
    EXPIRY_DELTA, FEES_A_CHANNEL_SAT, LARGE_MSAT, NO_HUB, SHORT_DELAY, SOON, Stage, assert_gained,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_that_passes_while_bitcoind_is_away_is_acted_on_as_soon_as_it_is_back() {
    let stage = Stage::set(SHORT_DELAY, &["payer"]).await;
    let books = stage.books().await;
    let payer = &stage.wallets[0];
    let flight = Flight::start(payer, &stage.peer, LARGE_MSAT, Fate::Refused).await;
    let expiry = flight.expiry().await;
    stage.peer.kill().unwrap();
    // Past the height at which the hub should have closed its channel to the payee, before the payer may take its HTLC back.
    let height = stage.lab.chain().height().await.unwrap();
    stage.lab.chain().mine_out_of_reach(expiry + EXPIRY_DELTA / 2 - height).await.unwrap();
    stage.lab.all_follow().await.unwrap();
    stage.pass_until("the payment's end", EXPIRY_DELTA, async || flight.look_decided().await).await.unwrap();
    stage.peer.start_again().await.unwrap();
    stage.at_rest().await.unwrap();
    payer.is_usable(1, SOON).await.unwrap();
    let ended = stage.ended(&books).await;
    for wallet in stage.lab.wallets() {
        assert_gained(&ended, stage.party(wallet), wallet.name(), 0, 0, FEES_A_CHANNEL_SAT);
    }
    // Late as it is, it bids at most a half of what is at stake, for the commitment and for the claim.
    let most = LARGE_MSAT / 1_000 + FEES_A_CHANNEL_SAT;
    assert_gained(&ended, stage.hub_party(), "the hub", 0, 0, most);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_that_was_away_for_weeks_finds_its_channel_closed_and_takes_what_is_its_own() {
    let stage = Stage::set(SHORT_DELAY, &["sleeper"]).await;
    let books = stage.books().await;
    let sleeper = &stage.wallets[0];
    let load = Load { offered: (1, 1), received: (0, 1), trimmed: 0 };
    let flights = Flights::launch(&stage, sleeper, load).await;
    let mut expiry = 0;
    for flight in &flights.with_output {
        expiry = expiry.max(flight.expiry().await);
    }
    sleeper.kill().unwrap();
    for flight in flights.with_output.iter().filter(|flight| flight.payee.name() == "peer") {
        flight.decide().await;
    }
    // The hub closes in time to claim what the sleeper offered, and takes back what it offered itself.
    stage.pass_to(expiry + 10 * EXPIRY_DELTA).await.unwrap();
    sleeper.start_again().await.unwrap();
    stage.pass_until("the end of the payments", 40, async || flights.look_decided().await).await.unwrap();
    stage.at_rest().await.unwrap();
    let ended = stage.ended(&books).await;
    for wallet in stage.lab.wallets() {
        let due = flights.gain(Some(wallet)).await;
        assert_gained(&ended, stage.party(wallet), wallet.name(), due, 0, FEES_A_CHANNEL_SAT);
    }
    assert_gained(&ended, stage.hub_party(), "the hub", flights.gain(None).await, 0, FEES_A_CHANNEL_SAT);
}

#[tokio::test(flavor = "multi_thread")]
async fn hubwallet_close_force_brings_the_coins_home_when_the_hub_is_gone_for_good() {
    let stage = Stage::set(SHORT_DELAY, &["deserted"]).await;
    let wallet = &stage.wallets[0];
    let before = wallet.balance().await.unwrap();
    let funding = stage.funding(&stage.channels[0]).await;
    stage.lab.hub().kill().unwrap();
    let id = hex::encode(&stage.channels[0]);
    let close = arguments!["--data-dir", wallet.daemon().folder(), "close", id, "--force"];
    stage.lab.program().run(Name::Hubwallet, &close).await.unwrap();
    stage.confirm_spends("the commitment", &[funding]).await.unwrap();
    stage.all_closed(&stage.channels).await.unwrap();
    until_seen("the coins in the wallet's balance", SOON, async || {
        let now = regtest::lab::on_chain(wallet.balance().await?.on_chain).confirmed_sat;
        let due = regtest::lab::on_chain(before.on_chain).confirmed_sat + before.channels_msat / 1_000;
        Ok(if now + FEES_A_CHANNEL_SAT > due {
            Look::Seen(())
        } else {
            Look::NotYet(format!("{now} of {due}"))
        })
    })
    .await
    .unwrap();
    assert_eq!(wallet.channels().await.unwrap()[0].phase(), pb::ChannelPhase::Closed);
    wallet.kill().unwrap();
    wallet.start_with(&[NO_HUB]).await.unwrap();
    assert_eq!(wallet.channels().await.unwrap()[0].phase(), pb::ChannelPhase::Closed, "after a restart too");
}

/// Two states that a backup of the hub may hold: with payments in flight that were settled since, and without.
const BACKUPS: &[Past] = &[
    Past { name: "plain", age: Age::Early, load: Load::NONE },
    Past { name: "loaded", age: Age::Early, load: Load { offered: (1, 0), received: (1, 0), trimmed: 0 } },
];

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_started_from_an_old_backup_publishes_nothing_by_itself_and_is_paid_by_what_its_wallets_publish()
 {
    let names: Vec<_> = BACKUPS.iter().map(|past| past.name).collect();
    let stage = Stage::set(SHORT_DELAY, &names).await;
    let flights = cheat::launch(&stage, BACKUPS).await;
    cheat::copy_hub(&stage).await;
    cheat::pay_on(&stage, BACKUPS, &flights).await;
    let books = stage.books().await;
    let mut latest = Vec::new();
    for wallet in stage.lab.wallets() {
        latest.extend(wallet.channels().await.unwrap());
    }

    cheat::hub_goes_back(&stage).await;
    stage.at_rest().await.unwrap();
    let ended = stage.ended(&books).await;
    // Whoever published, it was the latest state: nobody was punished.
    for wallet in stage.lab.wallets() {
        assert_gained(&ended, stage.party(wallet), wallet.name(), 0, 0, 2 * FEES_A_CHANNEL_SAT);
    }
    assert_gained(&ended, stage.hub_party(), "the hub", 0, 0, latest.len() as u64 * FEES_A_CHANNEL_SAT);
    assert!(!ended.commitments.is_empty(), "channels that the hub is behind in end");
}
