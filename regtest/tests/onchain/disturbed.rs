//! The same story, a close with HTLCs both ways and a cheat beside it, told again while everybody is killed at every stage, and
//! while every stage is reorganised away: the end is the same.

use std::collections::BTreeSet;

use bitcoin::{OutPoint, Txid};
use regtest::lab::LabError;
use regtest::wait::{Look, until_seen};

use crate::cheat::{self, Age, Past};
use crate::flight::{Flights, Load};
use crate::support::{
    FEES_A_CHANNEL_SAT, LONG_DELAY, MOST_BLOCKS, NO_HUB, SOON, Stage, assert_gained, options,
};

/// What happens at each stage: whenever a transaction that was not seen before waits for a block or got into one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Disturbance {
    /// Hub and wallets die by SIGKILL and start again, before and after the block.
    Kill,
    /// The block is taken back, with up to four before it: each depth from 1 to 5 in turn.
    Reorganise,
}

/// The load of the honest wallet's channel, and of the cheater's old state.
const LOAD: Load = Load { offered: (1, 1), received: (1, 1), trimmed: 0 };

const CHEATER: Past = Past { name: "cheater", age: Age::Early, load: LOAD };

struct Story {
    stage: Stage,
    disturbance: Disturbance,
    /// Transactions that were disturbed already, so that the story goes on.
    seen: BTreeSet<Txid>,
    next_depth: u32,
    disturbed: u32,
}

impl Story {
    async fn kill_all(&self) -> Result<(), LabError> {
        let lab = &self.stage.lab;
        lab.hub().kill()?;
        for wallet in lab.wallets() {
            wallet.kill()?;
        }
        lab.hub().start_again().await?;
        for wallet in lab.wallets() {
            match wallet.name() {
                "peer" => wallet.start_again().await?,
                _ => wallet.start_with(&[NO_HUB]).await?,
            }
        }
        lab.all_follow().await
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
    async fn pass_until(
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
            let waits = self.stage.something_waits().await?;
            let waiting = self.stage.lab.chain().mempool().await?;
            let fresh: Vec<_> = waiting.into_iter().filter(|txid| !self.seen.contains(txid)).collect();
            match (waits, fresh.is_empty()) {
                (_, false) => self.stage_passes(fresh).await?,
                (true, true) => self.stage.lab.mine(1).await?,
                (false, true) => self.stage.lab.mine(6).await?,
            }
        }
    }
}

async fn tell(disturbance: Disturbance) {
    // The honest wallet's channel has the same delays; they only make it wait longer.
    let stage = Stage::set_with(options(LONG_DELAY), &["cheater", "honest"]).await;
    let old = cheat::launch(&stage, &[CHEATER]).await;
    cheat::copy_wallets(&stage.wallets[..1]).await;
    cheat::pay_on(&stage, &[CHEATER], &old).await;
    let stake = stage.wallets[0].channels().await.unwrap()[0].local_msat.cast_signed();
    let books = stage.books().await;
    let flights = Flights::launch(&stage, &stage.wallets[1], LOAD).await;
    let mut fundings: Vec<OutPoint> = Vec::new();
    for channel in &stage.channels {
        fundings.push(stage.funding(channel).await);
    }

    cheat::wallet_cheats(&stage, 0).await;
    let honest = &stage.wallets[1];
    honest.kill().unwrap();
    honest.start_with(&[NO_HUB]).await.unwrap();
    honest.force_close(&stage.channels[1]).await.unwrap();
    stage.spent_in_mempool("both commitments", &fundings).await.unwrap();
    flights.decide().await;

    let mut story = Story { stage, disturbance, seen: BTreeSet::new(), next_depth: 1, disturbed: 0 };
    story
        .pass_until("the end of the story", async |stage| {
            if let Look::NotYet(seen) = flights.look_decided().await? {
                return Ok(Look::NotYet(seen));
            }
            stage.look_closed(&stage.channels).await
        })
        .await
        .unwrap();
    let stage = story.stage;
    until_seen("rest", SOON, async || stage.look_at_rest().await).await.unwrap();
    // Commitments, penalties, claims of both kinds and of both sides, second stages.
    assert!(story.disturbed >= 5, "{} stages were disturbed", story.disturbed);
    let ended = stage.ended(&books).await;
    let (cheater, honest) = (&stage.wallets[0], &stage.wallets[1]);
    let most = 2 * FEES_A_CHANNEL_SAT;
    assert_gained(&ended, stage.party(cheater), "the cheater", -stake, 0, most);
    let due = flights.gain(Some(honest)).await;
    assert_gained(&ended, stage.party(honest), "the honest wallet", due, 0, most);
    let due = flights.gain(None).await + stake;
    assert_gained(&ended, stage.hub_party(), "the hub", due, 0, 2 * most);
    assert_gained(&ended, stage.party(&stage.peer), "peer", flights.gain(Some(&stage.peer)).await, 0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_close_and_a_cheat_end_the_same_when_everybody_is_killed_at_every_stage() {
    tell(Disturbance::Kill).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_close_and_a_cheat_end_the_same_when_one_to_five_blocks_are_reorganised_at_every_stage() {
    tell(Disturbance::Reorganise).await;
}
