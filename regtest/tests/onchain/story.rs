//! A story told while everybody is killed at every stage, or while every stage is reorganised away. A stage begins whenever a
//! transaction that was not seen before waits for a block.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bitcoin::Txid;
use futures_util::future::try_join_all;
use regtest::lab::{LabError, Wallet};
use regtest::wait::{Look, until_seen};

use crate::support::{MOMENT, MOST_BLOCKS, NO_HUB, SOON, Stage};

/// What happens at each stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disturbance {
    /// Hub and wallets die by SIGKILL and start again, before and after the block.
    Kill,
    /// The block is taken back, with up to four before it: each depth from 1 to 5 in turn.
    Reorganise,
}

pub struct Story {
    pub stage: Stage,
    disturbance: Disturbance,
    /// The wallets that find no hub.
    cut_off: &'static [&'static str],
    /// Transactions that were disturbed already, so that the story goes on.
    seen: BTreeSet<Txid>,
    next_depth: u32,
    disturbed: u32,
    /// How long processes get to react to a block.
    moment: Duration,
}

impl Story {
    /// `cut_off` are the wallets that run without a hub; they are started so again.
    pub fn new(stage: Stage, disturbance: Disturbance, cut_off: &'static [&'static str]) -> Story {
        Story {
            stage,
            disturbance,
            cut_off,
            seen: BTreeSet::new(),
            next_depth: 1,
            disturbed: 0,
            moment: MOMENT,
        }
    }

    /// The stage, once as much has happened on it.
    pub fn told(self, stages: u32) -> Stage {
        assert!(self.disturbed >= stages, "{} stages were disturbed", self.disturbed);
        self.stage
    }

    /// Everybody who runs dies at once, and starts again.
    pub async fn kill_all(&self) -> Result<(), LabError> {
        let lab = &self.stage.lab;
        let running: Vec<_> = lab.wallets().iter().filter(|wallet| wallet.daemon().id().is_some()).collect();
        lab.hub().kill()?;
        for wallet in &running {
            wallet.kill()?;
        }
        let wallets = try_join_all(running.into_iter().map(|wallet| self.start(wallet)));
        tokio::try_join!(lab.hub().start_again(), wallets)?;
        lab.all_follow().await
    }

    /// Starts a wallet, with its hub or without.
    pub async fn start(&self, wallet: &Wallet) -> Result<(), LabError> {
        match self.cut_off.contains(&wallet.name()) {
            true => wallet.start_with(&[NO_HUB]).await,
            false => wallet.start_again().await,
        }
    }

    /// Something new waits: disturbs, mines, disturbs again.
    async fn stage_passes(&mut self, fresh: Vec<Txid>) -> Result<(), LabError> {
        self.disturbed += 1;
        match self.disturbance {
            Disturbance::Kill => {
                self.kill_all().await?;
                self.stage.lab.mine(1).await?;
                self.kill_all().await?;
            }
            Disturbance::Reorganise => {
                self.stage.lab.mine(1).await?;
                let depth = self.next_depth;
                self.next_depth = depth % 5 + 1;
                self.stage.lab.chain().reorganise(depth).await?;
                self.stage.lab.all_follow().await?;
            }
        }
        self.seen.extend(fresh);
        Ok(())
    }

    /// Lets blocks pass until a condition is seen, disturbing each stage once.
    pub async fn pass_until(
        &mut self,
        what: &str,
        mut probe: impl AsyncFnMut(&Stage) -> Result<Look<()>, LabError>,
    ) -> Result<(), LabError> {
        let last = self.stage.lab.chain().height().await? + MOST_BLOCKS;
        loop {
            let seen = match probe(&self.stage).await? {
                Look::Seen(()) => return Ok(()),
                Look::NotYet(seen) => seen,
            };
            if self.stage.lab.chain().height().await? > last {
                let what = format!("{what} after {MOST_BLOCKS} blocks");
                return Err(LabError::TimedOut { what, within: SOON, last: seen });
            }
            let fresh = self.fresh().await?;
            if !fresh.is_empty() {
                self.stage_passes(fresh).await?;
                continue;
            }
            let waits = !self.stage.lab.chain().mempool().await?.is_empty();
            let started = Instant::now();
            self.stage.lab.mine(if waits { 1 } else { 6 }).await?;
            // Who takes long to follow takes long to react.
            self.moment = MOMENT.max(3 * started.elapsed());
        }
    }

    /// The transactions that wait for a block and were not seen before; processes get a moment to make some.
    async fn fresh(&self) -> Result<Vec<Txid>, LabError> {
        let fresh = until_seen("a new transaction", self.moment, async || {
            let waiting = self.stage.lab.chain().mempool().await?;
            let fresh: Vec<_> = waiting.into_iter().filter(|txid| !self.seen.contains(txid)).collect();
            Ok(if fresh.is_empty() { Look::NotYet(String::new()) } else { Look::Seen(fresh) })
        });
        match fresh.await {
            Err(LabError::TimedOut { .. }) => Ok(Vec::new()),
            outcome => outcome,
        }
    }
}
