//! A whole network on one machine: a regtest chain, a hub, and any number of wallets, each a process of its own.
//!
//! [`Lab::start`] gives a chain and a hub with coins; [`Lab::add_wallets`] adds wallets; [`Lab::open`] opens channels and
//! mines until they can be used; then payments flow by the calls of [`Wallet`]; [`Lab::close_all`] closes by tickets and
//! mines until the closes are final. [`audit`] keeps books of its own, and believes nobody but the chain.
//!
//! Nothing sleeps for a fixed time: everything waits for a condition, with a deadline. Processes die with the lab.

pub mod audit;
mod chain;
mod client;
mod daemon;
pub mod endings;
mod error;
mod hub;
mod keys;
mod pay;
mod program;
mod wallet;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bitcoin::address::NetworkUnchecked;
use bitcoin::hashes::Hash;
use bitcoin::{Address, Amount, Network, OutPoint, Txid};
use bytes::Bytes;
use futures_util::future::try_join_all;
use proto::hub::v1 as pb;
use proto::request_id::RequestId;

pub use chain::{Chain, Inner};
pub use client::{Bearer, Operators, Wallets, connection, operator};
pub use daemon::Daemon;
pub use error::LabError;
pub use hub::Hub;
pub use keys::{scripts_of, spend_otherwise};
pub use pay::{Settled, pay_until_settled, stream_to_its_end};
pub use program::{Output, Program};
pub use wallet::{Wallet, init_arguments};

use crate::bitcoind::{Options, View};
use crate::limits::{CHAIN_WITHIN, OPEN_WITHIN, PATIENT_BLOCKS, SETTLE_WITHIN, START_WITHIN};
use crate::wait::{Look, until_seen};

/// How to start a lab.
#[derive(Debug)]
pub struct LabOptions {
    /// What the processes are run by.
    pub program: Program,
    /// Where everything lies, created if need be; `None` takes a folder that is removed in the end.
    pub folder: Option<PathBuf>,
    /// Settings of the hub, `section.key=value`.
    pub hub: Vec<String>,
    /// Settings of each wallet, `section.key=value`.
    pub wallet: Vec<String>,
    /// Coins that the hub starts with, and how much each is worth. Each hub-funded opening under way takes one.
    pub hub_coins: (u32, Amount),
    /// Coinbases of 50 bitcoins that can be spent from the start.
    pub miner_coins: u32,
}

impl LabOptions {
    /// A lab of ten hub coins of half a bitcoin, in a temporary folder.
    pub fn new(program: Program) -> LabOptions {
        LabOptions {
            program,
            folder: None,
            hub: Vec::new(),
            wallet: Vec::new(),
            hub_coins: (10, Amount::from_sat(50_000_000)),
            miner_coins: 5,
        }
    }
}

/// A chain, a hub and wallets.
#[derive(Debug)]
pub struct Lab {
    // Processes before the folder, so that they are gone when it is removed.
    wallets: Vec<Arc<Wallet>>,
    hub: Arc<Hub>,
    chain: Chain,
    program: Program,
    wallet_settings: Vec<String>,
    folder: Folder,
}

#[derive(Debug)]
enum Folder {
    Temporary(tempfile::TempDir),
    Given(PathBuf),
}

impl Folder {
    fn path(&self) -> &Path {
        match self {
            Folder::Temporary(folder) => folder.path(),
            Folder::Given(path) => path,
        }
    }
}

/// Who puts the coins into a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Funder {
    /// The wallet: it can pay at once.
    Wallet,
    /// The hub: the wallet can be paid at once.
    Hub,
}

/// A channel to be opened.
#[derive(Debug, Clone)]
pub struct Opening {
    /// Whose it is.
    pub wallet: Arc<Wallet>,
    /// Who funds it.
    pub funder: Funder,
    /// Its capacity.
    pub capacity_sat: u64,
}

impl Lab {
    /// Starts a chain and a hub, and gives the hub its coins.
    ///
    /// # Errors
    /// [`LabError`].
    pub async fn start(options: LabOptions) -> Result<Lab, LabError> {
        let folder = match options.folder {
            Some(path) => {
                std::fs::create_dir_all(&path).map_err(LabError::system("create the lab's folder"))?;
                Folder::Given(std::path::absolute(path).map_err(LabError::system("find the lab's folder"))?)
            }
            None => Folder::Temporary(tempfile::tempdir().map_err(LabError::system("create a folder"))?),
        };
        let bitcoind = Options { datadir: Some(folder.path().join("bitcoind")), ..Options::default() };
        let chain = Chain::start(bitcoind, options.miner_coins).await?;
        let hub = Hub::start(&options.program, folder.path(), &chain, options.hub).await?;
        let lab = Lab {
            wallets: Vec::new(),
            hub: Arc::new(hub),
            chain,
            program: options.program,
            wallet_settings: options.wallet,
            folder,
        };
        lab.fund_hub(options.hub_coins.0, options.hub_coins.1).await?;
        Ok(lab)
    }

    /// The chain.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// The hub.
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// The wallets, in the order in which they came.
    pub fn wallets(&self) -> &[Arc<Wallet>] {
        &self.wallets
    }

    /// What runs the processes.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Where data and logs lie.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Leaves data and logs behind; gives where they are. For a look after something broke.
    pub fn keep(&mut self) -> PathBuf {
        let path = self.folder.path().to_owned();
        let kept = std::mem::replace(&mut self.folder, Folder::Given(path.clone()));
        if let Folder::Temporary(folder) = kept {
            let _kept = folder.keep();
        }
        path
    }

    /// Sends the hub `count` coins of `each` and waits until they are confirmed in its view.
    ///
    /// # Errors
    /// [`LabError`].
    pub async fn fund_hub(&self, count: u32, each: Amount) -> Result<(), LabError> {
        if count == 0 {
            return Ok(());
        }
        let address = self.hub.new_address().await?;
        let before = on_chain(self.hub.balances().await?.on_chain).confirmed_sat;
        self.chain.pay((0..count).map(|_| (address.clone(), each)).collect()).await?;
        self.mine(1).await?;
        let wanted = before.saturating_add(each.to_sat().saturating_mul(u64::from(count)));
        until_seen("the hub's coins", CHAIN_WITHIN, async || {
            self.hub.daemon().expect_running()?;
            let funds = on_chain(self.hub.balances().await?.on_chain);
            Ok(match funds.confirmed_sat >= wanted {
                true => Look::Seen(()),
                false => Look::NotYet(format!("{funds:?}")),
            })
        })
        .await
    }

    /// Starts wallets of these names.
    ///
    /// # Errors
    /// [`LabError`].
    pub async fn add_wallets(
        &mut self,
        names: impl IntoIterator<Item = String>,
    ) -> Result<Vec<Arc<Wallet>>, LabError> {
        let starting = names.into_iter().map(|name| {
            let (program, chain, hub) = (&self.program, &self.chain, &self.hub);
            let (folder, settings) = (self.folder.path(), &self.wallet_settings);
            async move { Wallet::start(program, folder, &name, chain, hub, settings).await.map(Arc::new) }
        });
        let added = try_join_all(starting).await?;
        self.wallets.extend(added.iter().cloned());
        Ok(added)
    }

    /// Starts one wallet.
    ///
    /// # Errors
    /// [`LabError`].
    pub async fn add_wallet(&mut self, name: &str) -> Result<Arc<Wallet>, LabError> {
        let mut added = self.add_wallets([name.to_owned()]).await?;
        Ok(added.remove(0))
    }

    /// Sends each wallet a coin of this worth and waits until it is confirmed in its view.
    ///
    /// # Errors
    /// [`LabError`].
    pub async fn fund_wallets(&self, wallets: &[Arc<Wallet>], each: Amount) -> Result<(), LabError> {
        let addresses = try_join_all(wallets.iter().map(|wallet| wallet.new_address())).await?;
        self.chain.pay(addresses.into_iter().map(|address| (address, each)).collect()).await?;
        self.mine(1).await?;
        let waiting = wallets.iter().map(|wallet| async move {
            until_seen(&format!("the coins of {}", wallet.name()), CHAIN_WITHIN, async || {
                wallet.daemon().expect_running()?;
                let funds = on_chain(wallet.balance().await?.on_chain);
                Ok(match funds.confirmed_sat >= each.to_sat() {
                    true => Look::Seen(()),
                    false => Look::NotYet(format!("{funds:?}")),
                })
            })
            .await
        });
        try_join_all(waiting).await?;
        Ok(())
    }

    /// Mines blocks, and waits until the hub and every running wallet follow the chain to its tip.
    ///
    /// # Errors
    /// [`LabError`].
    pub async fn mine(&self, blocks: u32) -> Result<(), LabError> {
        self.chain.mine(blocks).await?;
        self.all_follow().await
    }

    /// Waits until the hub and every wallet, those that run, follow the chain to its tip.
    ///
    /// # Errors
    /// [`LabError`].
    pub async fn all_follow(&self) -> Result<(), LabError> {
        let height = self.chain.height().await?;
        if self.hub.daemon().id().is_some() {
            self.hub.reaches(height, CHAIN_WITHIN).await?;
        }
        let running = self.wallets.iter().filter(|wallet| wallet.daemon().id().is_some());
        try_join_all(running.map(|wallet| wallet.reaches(height, CHAIN_WITHIN))).await?;
        Ok(())
    }

    /// Mines one block after another until a condition is seen; each time all have followed, the condition gets a while to
    /// come true before the next block.
    ///
    /// # Errors
    /// The probe's; [`LabError::TimedOut`] after [`PATIENT_BLOCKS`] blocks.
    pub async fn mine_until<T>(
        &self,
        what: &str,
        mut probe: impl AsyncFnMut() -> Result<Look<T>, LabError>,
    ) -> Result<T, LabError> {
        let mut last = String::new();
        for _ in 0..PATIENT_BLOCKS {
            match until_seen(what, Duration::from_millis(250), &mut probe).await {
                Err(LabError::TimedOut { last: seen, .. }) => last = seen,
                outcome => return outcome,
            }
            self.mine(1).await?;
        }
        match until_seen(what, OPEN_WITHIN, &mut probe).await {
            Err(LabError::TimedOut { what, within, .. }) => Err(LabError::TimedOut { what, within, last }),
            outcome => outcome,
        }
    }

    /// Opens channels, all at once, and mines until every one of them can be used; gives their ids in the order asked for.
    ///
    /// # Errors
    /// [`LabError`].
    pub async fn open(&self, openings: &[Opening]) -> Result<Vec<Bytes>, LabError> {
        let asking = openings.iter().map(|opening| async move {
            opening.wallet.is_connected(START_WITHIN).await?;
            match opening.funder {
                Funder::Wallet => opening.wallet.open(opening.capacity_sat).await,
                Funder::Hub => opening.wallet.request_inbound(opening.capacity_sat).await,
            }
        });
        let ids = try_join_all(asking).await?;
        self.funded(openings, &ids).await?;
        self.mine_until("the new channels' readiness", async || {
            self.look(openings, &ids, |channel| channel.usable).await
        })
        .await?;
        Ok(ids)
    }

    /// Waits until both sides have signed the funding of all these, so that blocks can confirm them.
    async fn funded(&self, openings: &[Opening], ids: &[Bytes]) -> Result<(), LabError> {
        until_seen("the signatures of the new channels", OPEN_WITHIN, async || {
            self.look(openings, ids, |channel| channel.phase() != pb::ChannelPhase::Opening).await
        })
        .await
    }

    /// Whether a condition holds for all of these channels, in their wallets' view. A failed one is an error at once.
    async fn look(
        &self,
        openings: &[Opening],
        ids: &[Bytes],
        holds: impl Fn(&pb::Channel) -> bool,
    ) -> Result<Look<()>, LabError> {
        for (opening, id) in openings.iter().zip(ids) {
            let wallet = &opening.wallet;
            wallet.daemon().expect_running()?;
            let channels = wallet.channels().await?;
            let Some(channel) = channels.iter().find(|channel| channel.channel_id == *id) else {
                return Ok(Look::NotYet(format!("{} does not list {}", wallet.name(), hex::encode(id))));
            };
            if matches!(channel.phase(), pb::ChannelPhase::Aborted | pb::ChannelPhase::Failed) {
                let text = format!("{}: a channel that should open: {}", wallet.name(), channel.failure);
                return Err(LabError::Broken(text));
            }
            if !holds(channel) {
                return Ok(Look::NotYet(format!("{}: {}", wallet.name(), describe(&channels))));
            }
        }
        Ok(Look::Seen(()))
    }

    /// Waits until no HTLC is in flight anywhere, seen from the hub and from every wallet.
    ///
    /// # Errors
    /// [`LabError`].
    pub async fn quiet(&self) -> Result<(), LabError> {
        until_seen("the end of all HTLCs", SETTLE_WITHIN, async || {
            let mut channels = self.hub.channels().await?;
            for wallet in &self.wallets {
                channels.extend(wallet.channels().await?);
            }
            let busy =
                channels.iter().filter(|channel| channel.htlcs > 0 || channel.in_flight_msat > 0).count();
            Ok(match busy {
                0 => Look::Seen(()),
                busy => Look::NotYet(format!("{busy} channels have HTLCs in flight")),
            })
        })
        .await
    }

    /// Closes every open channel by ticket, waits until the closes are in the mempool, and mines until they are final.
    ///
    /// # Errors
    /// [`LabError`].
    pub async fn close_all(&self) -> Result<(), LabError> {
        let mut open = Vec::new();
        for wallet in &self.wallets {
            let channels = wallet.channels().await?;
            let ids = channels.into_iter().filter(|channel| channel.phase() == pb::ChannelPhase::Open);
            open.extend(ids.map(|channel| (Arc::clone(wallet), channel.channel_id)));
        }
        try_join_all(open.iter().map(|(wallet, id)| wallet.close(id))).await?;
        self.spent_in_mempool().await?;
        self.mine_until("the finality of all closes", async || {
            for wallet in &self.wallets {
                let channels = wallet.channels().await?;
                if channels.iter().any(|channel| !has_ended(channel)) {
                    return Ok(Look::NotYet(format!("{}: {}", wallet.name(), describe(&channels))));
                }
            }
            let channels = self.hub.channels().await?;
            Ok(match channels.iter().all(has_ended) {
                true => Look::Seen(()),
                false => Look::NotYet(format!("hub: {}", describe(&channels))),
            })
        })
        .await
    }
}

impl Lab {
    /// Waits until the mempool spends the funding of every channel of the hub's that has not ended: the batches are out.
    async fn spent_in_mempool(&self) -> Result<(), LabError> {
        until_seen("the batches of all tickets", SETTLE_WITHIN, async || {
            self.hub.daemon().expect_running()?;
            let channels = self.hub.channels().await?;
            let waiting = channels.iter().filter(|channel| !has_ended(channel));
            for channel in waiting {
                let funding = outpoint("hub", channel.funding.as_ref())?;
                let unspent = self.chain.call(move |rpc| rpc.unspent(funding, View::ChainAndMempool)).await?;
                if unspent.is_some() {
                    return Ok(Look::NotYet(describe(&channels)));
                }
            }
            Ok(Look::Seen(()))
        })
        .await
    }
}

/// Nothing happens to the channel any more.
fn has_ended(channel: &pb::Channel) -> bool {
    matches!(channel.phase(), pb::ChannelPhase::Closed | pb::ChannelPhase::Aborted)
}

/// How many channels are in which phase, for errors.
pub fn describe(channels: &[pb::Channel]) -> String {
    let mut counts = std::collections::BTreeMap::new();
    for channel in channels {
        let state = (channel.phase().as_str_name(), channel.online, channel.usable);
        *counts.entry(state).or_insert(0u32) += 1;
    }
    let rows = counts.iter().map(|((phase, online, usable), count)| {
        let phase = phase.trim_start_matches("CHANNEL_PHASE_").to_lowercase();
        format!("{count} {phase} (online {online}, usable {usable})")
    });
    if counts.is_empty() { "no channels".to_owned() } else { rows.collect::<Vec<_>>().join(", ") }
}

/// A funding outpoint as the chain's library has it.
///
/// # Errors
/// [`LabError::Nonsense`] when there is none, or no 32 bytes of hash.
pub fn outpoint(name: &str, funding: Option<&pb::OutPoint>) -> Result<OutPoint, LabError> {
    let nonsense = |what: &str| LabError::Nonsense { name: name.to_owned(), what: what.to_owned() };
    let funding = funding.ok_or_else(|| nonsense("a channel without a funding outpoint"))?;
    let txid = Txid::from_slice(&funding.txid).map_err(|_| nonsense("a txid that is not 32 bytes"))?;
    Ok(OutPoint { txid, vout: funding.index })
}

/// A fresh request id.
pub fn request_id() -> RequestId {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    RequestId::new(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), rand::random())
}

/// Absent funds are none.
pub fn on_chain(balance: Option<pb::OnChainBalance>) -> pb::OnChainBalance {
    balance.unwrap_or_default()
}

fn regtest_address(name: &str, text: &str) -> Result<Address, LabError> {
    let address = text.parse::<Address<NetworkUnchecked>>().ok();
    address.and_then(|address| address.require_network(Network::Regtest).ok()).ok_or_else(|| {
        LabError::Nonsense { name: name.to_owned(), what: format!("{text:?} is no regtest address") }
    })
}
