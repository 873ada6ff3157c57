//! How to cheat: by the real software on old data, where its counterparty cannot be reached.

use std::sync::Arc;

use bytes::Bytes;
use regtest::lab::Wallet;

use crate::flight::{Fate, Flight, Flights, Load};
use crate::support::{NO_HUB, SMALL_MSAT, SOON, Stage};

/// The name of the copies of data to go back to.
const OLD: &str = "old";

/// Which state of its channel a cheater publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Age {
    /// The one before the latest.
    Last,
    /// One of many states before.
    Early,
}

/// A cheater's history up to the moment at which it goes back.
#[derive(Debug, Clone, Copy)]
pub struct Past {
    pub name: &'static str,
    pub age: Age,
    /// What is in flight in the state that is published.
    pub load: Load,
}

/// Every kind of old state.
pub const PASTS: &[Past] = &[
    Past { name: "last-plain", age: Age::Last, load: Load::NONE },
    Past { name: "last-loaded", age: Age::Last, load: Load::ONE },
    Past { name: "early-plain", age: Age::Early, load: Load::NONE },
    Past { name: "early-loaded", age: Age::Early, load: Load { trimmed: 0, ..Load::MANY } },
];

/// What is in flight in the old states of the wallets, by wallet.
pub async fn launch(stage: &Stage, pasts: &[Past]) -> Vec<(Flights, Option<Flight>)> {
    let mut all = Vec::new();
    for (wallet, past) in stage.wallets.iter().zip(pasts) {
        let flights = Flights::launch(stage, wallet, past.load).await;
        // A state before the latest is one in which something is in flight; if it has no output, the state has none.
        let last = match past.age {
            Age::Last => Some(Flight::start(wallet, &stage.peer, SMALL_MSAT, Fate::Taken).await),
            Age::Early => None,
        };
        all.push((flights, last));
    }
    all
}

/// What happens after the copies were made: all that was in flight is decided, and some wallets pay on.
pub async fn pay_on(stage: &Stage, pasts: &[Past], flights: &[(Flights, Option<Flight>)]) {
    for (flights, last) in flights {
        flights.decide().await;
        if let Some(last) = last {
            last.decide().await;
        }
    }
    stage.lab.quiet().await.unwrap();
    for (wallet, past) in stage.wallets.iter().zip(pasts) {
        if past.age == Age::Early {
            for _ in 0..3 {
                wallet.send(stage.peer.node_key(), SMALL_MSAT).await.unwrap();
            }
        }
    }
    stage.lab.quiet().await.unwrap();
}

/// Copies the wallets' data aside, with everything in flight that is.
pub async fn copy_wallets(wallets: &[Arc<Wallet>]) {
    for wallet in wallets {
        wallet.kill().unwrap();
        wallet.daemon().copy(OLD).unwrap();
        wallet.start_again().await.unwrap();
        wallet.is_usable(1, SOON).await.unwrap();
    }
}

/// Copies the hub's data aside.
pub async fn copy_hub(stage: &Stage) {
    stage.lab.hub().kill().unwrap();
    stage.lab.hub().daemon().copy(OLD).unwrap();
    stage.lab.hub().start_again().await.unwrap();
    for wallet in stage.lab.wallets() {
        wallet.is_usable(1, SOON).await.unwrap();
    }
}

/// A wallet goes back to its copy, and publishes what it believes to be its latest commitment.
pub async fn wallet_cheats(stage: &Stage, place: usize) {
    let wallet = &stage.wallets[place];
    wallet.kill().unwrap();
    wallet.daemon().go_back(OLD).unwrap();
    wallet.start_with(&[NO_HUB]).await.unwrap();
    stage.lab.all_follow().await.unwrap();
    wallet.force_close(&stage.channels[place]).await.unwrap();
}

/// The hub goes back to its copy, as after a restore from a backup, and its wallets find it.
pub async fn hub_goes_back(stage: &Stage) {
    let hub = stage.lab.hub();
    hub.kill().unwrap();
    hub.daemon().go_back(OLD).unwrap();
    hub.start_again().await.unwrap();
}

/// The hub goes back to its copy while no wallet runs, and publishes what it believes to be its latest commitments. Gives the
/// channels: where it believes to own nothing it has nothing to publish for.
pub async fn hub_cheats(stage: &Stage) -> Vec<Bytes> {
    for wallet in stage.lab.wallets() {
        wallet.kill().unwrap();
    }
    let hub = stage.lab.hub();
    hub.kill().unwrap();
    hub.daemon().go_back(OLD).unwrap();
    hub.start_elsewhere().await.unwrap();
    stage.lab.all_follow().await.unwrap();
    let mut channels = hub.channels().await.unwrap();
    channels.retain(|channel| channel.local_msat > 0);
    for channel in &channels {
        hub.force_close(&channel.channel_id).await.unwrap();
    }
    channels.into_iter().map(|channel| channel.channel_id).collect()
}
