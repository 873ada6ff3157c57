//! What all tests here share: a stage of wallets with channels, ways to let blocks pass, and what must hold in the end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bitcoin::{Amount, OutPoint};
use bytes::Bytes;
use proto::hub::v1 as pb;
use regtest::bitcoind::View;
use regtest::lab::endings::{self, Books, Ended};
use regtest::lab::{Funder, Lab, LabError, LabOptions, Opening, Program, Wallet, describe, outpoint};
use regtest::wait::{Look, until_seen};

/// What takes a moment on an idle machine, and must not fail on a busy one.
pub const SOON: Duration = Duration::from_secs(90);

/// The capacity of channels under test.
pub const CAPACITY_SAT: u64 = 1_000_000;

/// The capacity of both channels of the wallet that is payer and payee for all others.
pub const PEER_CAPACITY_SAT: u64 = 5_000_000;

/// What a wallet has paid away before its channel is tested, so that both sides own about a half.
pub const PAID_BEFORE_MSAT: u64 = 450_000_000;

/// With an output of its own in both commitments, and without.
pub const LARGE_MSAT: u64 = 30_000_000;
pub const SMALL_MSAT: u64 = 200_000;

/// Blocks that each side waits for its own money: more than a test of a unilateral close can afford to mine is not needed
/// when nobody cheats.
pub const SHORT_DELAY: u32 = 5;

/// Long enough that a victim can sleep over the expiry of every HTLC and still punish.
pub const LONG_DELAY: u32 = 400;

/// A hub that nobody can reach: nothing listens on this port.
pub const NO_HUB: &str = "hub.address=127.0.0.1:1";

/// Blocks before a held payment's expiry at which its payee gives it up (the wallet's `HOLD_MARGIN_BLOCKS`).
pub const HOLD_MARGIN: u32 = 18;

/// The hub's `cltv_expiry_delta` by default.
pub const EXPIRY_DELTA: u32 = 40;

/// The variable `LAB_FOLDER` names a folder in which every lab leaves its data and logs behind, for a look at a failure.
pub fn options(delay: u32) -> LabOptions {
    let program = Program::at(env!("CARGO_BIN_EXE_regtest"));
    let folder = std::env::var_os("LAB_FOLDER").map(|root| {
        let test = std::thread::current().name().unwrap_or("lab").replace("::", "-");
        std::path::Path::new(&root).join(test)
    });
    LabOptions {
        folder,
        hub: vec![format!("policy.to_self_delay_blocks={delay}")],
        wallet: vec![
            // Tests wait for blocks more often than for anything else.
            "bitcoind.poll_ms=50".to_owned(),
            format!("channels.to_self_delay_blocks={delay}"),
        ],
        hub_coins: (12, Amount::from_sat(10_000_000)),
        ..LabOptions::new(program)
    }
}

/// A lab in which the wallet `peer` pays and is paid by others, and each of the others has one channel that it funded,
/// about half of which it has paid away.
pub struct Stage {
    pub lab: Lab,
    pub peer: Arc<Wallet>,
    pub wallets: Vec<Arc<Wallet>>,
    /// The channel of each of them.
    pub channels: Vec<Bytes>,
}

impl Stage {
    pub async fn set(delay: u32, names: &[&str]) -> Stage {
        Stage::set_with(options(delay), names).await
    }

    pub async fn set_with(options: LabOptions, names: &[&str]) -> Stage {
        let stage = Stage::set_unpaid(options, names).await;
        for wallet in &stage.wallets {
            wallet.send(stage.peer.node_key(), PAID_BEFORE_MSAT).await.expect("a payment settles");
        }
        stage.lab.mine(1).await.unwrap();
        stage.lab.quiet().await.expect("nothing stays in flight");
        stage
    }

    /// The same before anything was paid: the hub owns nothing in the channels of the others.
    pub async fn set_unpaid(options: LabOptions, names: &[&str]) -> Stage {
        let mut lab = Lab::start(options).await.expect("the lab starts");
        let all = ["peer"].iter().chain(names).map(|name| (*name).to_owned());
        let mut wallets = lab.add_wallets(all).await.expect("wallets start");
        lab.fund_wallets(&wallets, Amount::from_sat(2 * PEER_CAPACITY_SAT)).await.expect("wallets get coins");
        // One to open with, one for a close.
        lab.fund_wallets(&wallets, Amount::from_sat(CAPACITY_SAT)).await.expect("wallets get coins");
        let opening = |wallet: &Arc<Wallet>, funder, capacity_sat| Opening {
            wallet: Arc::clone(wallet),
            funder,
            capacity_sat,
        };
        let peer = wallets.remove(0);
        let mut openings = vec![
            opening(&peer, Funder::Wallet, PEER_CAPACITY_SAT),
            opening(&peer, Funder::Hub, PEER_CAPACITY_SAT),
        ];
        openings.extend(wallets.iter().map(|wallet| opening(wallet, Funder::Wallet, CAPACITY_SAT)));
        let channels = lab.open(&openings).await.expect("channels open").split_off(2);
        Stage { lab, peer, wallets, channels }
    }

    /// The place of a wallet in [`Ended`].
    pub fn party(&self, wallet: &Wallet) -> usize {
        self.lab.wallets().iter().position(|one| one.name() == wallet.name()).expect("a wallet of this lab")
    }

    /// The place of the hub in [`Ended`].
    pub fn hub_party(&self) -> usize {
        self.lab.wallets().len()
    }

    pub async fn books(&self) -> Books {
        self.lab.quiet().await.unwrap();
        endings::open(&self.lab).await.unwrap()
    }

    /// The funding outpoint of a channel.
    pub async fn funding(&self, channel_id: &Bytes) -> OutPoint {
        let channels = self.lab.hub().channels().await.unwrap();
        let channel = channels.iter().find(|one| one.channel_id == *channel_id).expect("the hub lists it");
        outpoint("hub", channel.funding.as_ref()).unwrap()
    }

    /// Waits until transactions that wait for a block spend all of these.
    pub async fn spent_in_mempool(&self, what: &str, outpoints: &[OutPoint]) -> Result<(), LabError> {
        let chain = self.lab.chain();
        until_seen(what, SOON, async || {
            for outpoint in outpoints.iter().copied() {
                if chain.call(move |rpc| rpc.unspent(outpoint, View::ChainAndMempool)).await?.is_some() {
                    return Ok(Look::NotYet(format!("{outpoint} is unspent")));
                }
            }
            Ok(Look::Seen(()))
        })
        .await
    }

    /// Waits until both sides of these channels have published, and mines until each is spent in a block.
    pub async fn confirm_spends(&self, what: &str, outpoints: &[OutPoint]) -> Result<(), LabError> {
        self.spent_in_mempool(what, outpoints).await?;
        self.pass_until(what, 10, async || {
            for outpoint in outpoints {
                if self.lab.chain().unspent(*outpoint).await?.is_some() {
                    return Ok(Look::NotYet(format!("{outpoint} is unspent")));
                }
            }
            Ok(Look::Seen(()))
        })
        .await
    }

    /// Lets blocks pass until a condition is seen, at most so many: one at a time while anything waits for a block, more at
    /// once while nothing does.
    pub async fn pass_until<T>(
        &self,
        what: &str,
        at_most: u32,
        mut probe: impl AsyncFnMut() -> Result<Look<T>, LabError>,
    ) -> Result<T, LabError> {
        let last = self.lab.chain().height().await?.saturating_add(at_most);
        let mut moment = MOMENT;
        loop {
            let seen = match probe().await? {
                Look::Seen(value) => return Ok(value),
                Look::NotYet(seen) => seen,
            };
            let height = self.lab.chain().height().await?;
            if height >= last {
                let within = Duration::ZERO;
                return Err(LabError::TimedOut {
                    what: format!("{what} after {at_most} blocks"),
                    within,
                    last: seen,
                });
            }
            let step = if self.something_waits(moment).await? { 1 } else { QUIET_STEP };
            let started = Instant::now();
            self.lab.mine(step.min(last - height)).await?;
            // Who takes long to follow takes long to react.
            moment = MOMENT.max(3 * started.elapsed());
        }
    }

    /// Lets blocks pass up to a height, as [`Stage::pass_until`] does.
    pub async fn pass_to(&self, height: u32) -> Result<(), LabError> {
        let now = self.lab.chain().height().await?;
        self.pass_until("the height", height.saturating_sub(now), async || {
            let now = self.lab.chain().height().await?;
            Ok(if now >= height { Look::Seen(()) } else { Look::NotYet(now.to_string()) })
        })
        .await
    }

    /// Whether a transaction waits for a block; processes get a moment to make one.
    pub async fn something_waits(&self, moment: Duration) -> Result<bool, LabError> {
        let waits = until_seen("a transaction", moment, async || {
            let waiting = self.lab.chain().mempool().await?;
            Ok(if waiting.is_empty() { Look::NotYet(String::new()) } else { Look::Seen(()) })
        })
        .await;
        match waits {
            Ok(()) => Ok(true),
            Err(LabError::TimedOut { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Mines until hub and wallets (those that run) list these channels as closed.
    pub async fn all_closed(&self, channels: &[Bytes]) -> Result<(), LabError> {
        self.pass_until("the end of the channels", MOST_BLOCKS, async || self.look_closed(channels).await)
            .await
    }

    /// Whether hub and wallets (those that run) list these channels as closed.
    pub async fn look_closed(&self, channels: &[Bytes]) -> Result<Look<()>, LabError> {
        for (name, listed) in self.views().await? {
            let ours: Vec<_> = listed.into_iter().filter(|one| channels.contains(&one.channel_id)).collect();
            if ours.iter().any(|one| one.phase() != pb::ChannelPhase::Closed) {
                return Ok(Look::NotYet(format!("{name}: {}", describe(&ours))));
            }
        }
        Ok(Look::Seen(()))
    }

    /// Mines until, in the eyes of all that run, every channel is open or closed and nothing is in flight.
    pub async fn at_rest(&self) -> Result<(), LabError> {
        self.pass_until("rest", MOST_BLOCKS, async || self.look_at_rest().await).await
    }

    /// Whether, in the eyes of all that run, every channel is open or closed and nothing is in flight.
    pub async fn look_at_rest(&self) -> Result<Look<()>, LabError> {
        for (name, listed) in self.views().await? {
            let ends = |one: &pb::Channel| match one.phase() {
                pb::ChannelPhase::Open => one.htlcs == 0,
                pb::ChannelPhase::Closed => true,
                _ => false,
            };
            if !listed.iter().all(ends) {
                return Ok(Look::NotYet(format!("{name}: {}", describe(&listed))));
            }
        }
        Ok(Look::Seen(()))
    }

    /// The channels that the hub and each wallet list, of those that run.
    async fn views(&self) -> Result<Vec<(&str, Vec<pb::Channel>)>, LabError> {
        let mut views = Vec::new();
        if self.lab.hub().daemon().id().is_some() {
            self.lab.hub().daemon().expect_running()?;
            views.push(("hub", self.lab.hub().channels().await?));
        }
        for wallet in self.lab.wallets().iter().filter(|wallet| wallet.daemon().id().is_some()) {
            wallet.daemon().expect_running()?;
            views.push((wallet.name(), wallet.channels().await?));
        }
        Ok(views)
    }

    /// Closes the books once everything is quiet.
    pub async fn ended(&self, books: &Books) -> Ended {
        self.lab.mine(1).await.unwrap();
        endings::close(&self.lab, books).await.unwrap()
    }
}

/// How long processes may take at least to react to a block with a transaction, before several blocks pass at once.
pub const MOMENT: Duration = Duration::from_millis(350);

/// Blocks that pass at once while nothing waits.
const QUIET_STEP: u32 = 6;

/// Longer than the life of any HTLC here, its claims and their finality together.
pub const MOST_BLOCKS: u32 = 700;

/// What a party may lose beside fees: parts of a satoshi of each output, and what is named.
pub const ROUNDING_MSAT: i64 = 50_000;

/// What a party may pay for one channel that ends on the chain, in satoshi: a child and a handful of claims at the
/// fallback feerate.
pub const FEES_A_CHANNEL_SAT: u64 = 20_000;

/// That a party gained what it should, but for fees within bounds and `risk_msat` that trimmed HTLCs may cost.
#[track_caller]
pub fn assert_gained(
    ended: &Ended,
    party: usize,
    name: &str,
    expected_msat: i64,
    risk_msat: u64,
    most_fees_sat: u64,
) {
    let gained = ended.gain_before_fees(party);
    let risk = i64::try_from(risk_msat).unwrap();
    assert!(
        gained >= expected_msat - ROUNDING_MSAT - risk && gained <= expected_msat + ROUNDING_MSAT + risk,
        "{name} gained {gained} msat before fees, {expected_msat} is due (risk {risk}): {ended:?}"
    );
    let fees = ended.fees[party].to_sat();
    assert!(
        fees <= most_fees_sat,
        "{name} paid {fees} sat of fees, at most {most_fees_sat} is fine: {ended:?}"
    );
}
