//! The same stories, closes with HTLCs both ways and a cheat beside them, and a hub's cheat, told while everybody is killed at
//! every stage, and while every stage is reorganised away: the end is the same.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bitcoin::{OutPoint, Txid};
use bytes::Bytes;
use regtest::lab::LabError;
use regtest::wait::{Look, until_seen};

use crate::cheat::{self, Age, Past};
use crate::flight::{Flights, Load};
use crate::support::{
    FEES_A_CHANNEL_SAT, LONG_DELAY, MOMENT, MOST_BLOCKS, NO_HUB, SOON, Stage, assert_gained, options,
};

/// What happens at each stage: whenever a transaction that was not seen before waits for a block or got into one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Disturbance {
    /// Hub and wallets die by SIGKILL and start again, before and after the block.
    Kill,
    /// The block is taken back, with up to four before it: each depth from 1 to 5 in turn.
    Reorganise,
}

/// The load of the honest channels, and of the cheaters' old states.
const LOAD: Load = Load { offered: (1, 1), received: (1, 1), trimmed: 0 };

const CHEATER: Past = Past { name: "cheater", age: Age::Early, load: LOAD };

struct Story {
    stage: Stage,
    disturbance: Disturbance,
    /// Transactions that were disturbed already, so that the story goes on.
    seen: BTreeSet<Txid>,
    next_depth: u32,
    disturbed: u32,
    /// How long processes get to react to a block.
    moment: Duration,
}

impl Story {
    fn new(stage: Stage, disturbance: Disturbance) -> Story {
        Story { stage, disturbance, seen: BTreeSet::new(), next_depth: 1, disturbed: 0, moment: MOMENT }
    }

    /// The stage, once as much has happened on it.
    fn told(self, stages: u32) -> Stage {
        assert!(self.disturbed >= stages, "{} stages were disturbed", self.disturbed);
        self.stage
    }

    async fn kill_all(&self) -> Result<(), LabError> {
        let lab = &self.stage.lab;
        lab.hub().kill()?;
        for wallet in lab.wallets() {
            wallet.kill()?;
        }
        lab.hub().start_again().await?;
        for wallet in lab.wallets() {
            // Where the hub was moved to, nobody finds it.
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
            let waits = self.stage.something_waits(self.moment).await?;
            let waiting = self.stage.lab.chain().mempool().await?;
            let fresh: Vec<_> = waiting.into_iter().filter(|txid| !self.seen.contains(txid)).collect();
            match (waits, fresh.is_empty()) {
                (_, false) => self.stage_passes(fresh).await?,
                (true, true) => self.stage.lab.mine(1).await?,
                (false, true) => {
                    let started = Instant::now();
                    self.stage.lab.mine(6).await?;
                    // Who takes long to follow takes long to react.
                    self.moment = MOMENT.max(3 * started.elapsed());
                }
            }
        }
    }
}

async fn fundings(stage: &Stage, channels: &[Bytes]) -> Vec<OutPoint> {
    let mut fundings = Vec::new();
    for channel in channels {
        fundings.push(stage.funding(channel).await);
    }
    fundings
}

/// A wallet cheats, another closes alone, and the hub closes the channel of a third; payments are in flight through the last two.
async fn wallets_end(disturbance: Disturbance) {
    // The honest channels have the same delays; they only make everybody wait longer.
    let stage = Stage::set_with(options(LONG_DELAY), &["cheater", "closer", "closed"]).await;
    let old = cheat::launch(&stage, &[CHEATER]).await;
    cheat::copy_wallets(&stage.wallets[..1]).await;
    cheat::pay_on(&stage, &[CHEATER], &old).await;
    let stake = stage.wallets[0].channels().await.unwrap()[0].local_msat.cast_signed();
    let books = stage.books().await;
    let mut flights = Vec::new();
    for wallet in &stage.wallets[1..] {
        flights.push(Flights::launch(&stage, wallet, LOAD).await);
    }
    let fundings = fundings(&stage, &stage.channels).await;
    cheat::wallet_cheats(&stage, 0).await;
    for wallet in &stage.wallets[1..] {
        wallet.kill().unwrap();
        wallet.start_with(&[NO_HUB]).await.unwrap();
    }
    stage.wallets[1].force_close(&stage.channels[1]).await.unwrap();
    stage.lab.hub().force_close(&stage.channels[2]).await.unwrap();
    stage.spent_in_mempool("all commitments", &fundings).await.unwrap();
    for flights in &flights {
        flights.decide().await;
    }

    let mut story = Story::new(stage, disturbance);
    story
        .pass_until("the end of the story", async |stage| {
            for flights in &flights {
                if let Look::NotYet(seen) = flights.look_decided().await? {
                    return Ok(Look::NotYet(seen));
                }
            }
            stage.look_closed(&stage.channels).await
        })
        .await
        .unwrap();
    // Commitments, penalties, claims at once and after expiry, second stages.
    let stage = story.told(5);
    until_seen("rest", SOON, async || stage.look_at_rest().await).await.unwrap();
    let ended = stage.ended(&books).await;
    let most = 2 * FEES_A_CHANNEL_SAT;
    assert_gained(&ended, stage.party(&stage.wallets[0]), "the cheater", -stake, 0, most);
    let (mut hub, mut peer) = (stake, 0);
    for (wallet, flights) in stage.wallets[1..].iter().zip(&flights) {
        let due = flights.gain(Some(wallet)).await;
        assert_gained(&ended, stage.party(wallet), wallet.name(), due, 0, most);
        hub += flights.gain(None).await;
        peer += flights.gain(Some(&stage.peer)).await;
    }
    assert_gained(&ended, stage.hub_party(), "the hub", hub, 0, 3 * most);
    assert_gained(&ended, stage.party(&stage.peer), "peer", peer, 0, 0);
}

/// The hub cheats in all channels at once.
async fn hub_cheats(disturbance: Disturbance) {
    let stage = Stage::set_with(options(LONG_DELAY), &["victim"]).await;
    let old = cheat::launch(&stage, &[CHEATER]).await;
    cheat::copy_hub(&stage).await;
    cheat::pay_on(&stage, &[CHEATER], &old).await;
    let books = stage.books().await;
    let victim = stage.wallets[0].channels().await.unwrap();
    let channels = cheat::hub_cheats(&stage).await;
    assert!(channels.contains(&victim[0].channel_id));
    let fundings = fundings(&stage, &channels).await;
    stage.spent_in_mempool("the revoked commitments", &fundings).await.unwrap();

    let mut story = Story::new(stage, disturbance);
    story.kill_all().await.unwrap();
    story.pass_until("the end of the story", async |stage| stage.look_closed(&channels).await).await.unwrap();
    // Commitments and penalties.
    let stage = story.told(2);
    let ended = stage.ended(&books).await;
    let (share, most) = (victim[0].remote_msat.cast_signed(), 2 * FEES_A_CHANNEL_SAT);
    assert_gained(&ended, stage.party(&stage.wallets[0]), "the victim", share, 0, most);
    assert!(ended.gain_before_fees(stage.party(&stage.peer)) >= 0, "{ended:?}");
    assert!(ended.gain_before_fees(stage.hub_party()) <= -share, "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn closes_and_a_cheat_end_the_same_when_everybody_is_killed_at_every_stage() {
    wallets_end(Disturbance::Kill).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn closes_and_a_cheat_end_the_same_when_one_to_five_blocks_are_reorganised_at_every_stage() {
    wallets_end(Disturbance::Reorganise).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hubs_cheat_ends_the_same_when_everybody_is_killed_at_every_stage() {
    hub_cheats(Disturbance::Kill).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hubs_cheat_ends_the_same_when_one_to_five_blocks_are_reorganised_at_every_stage() {
    hub_cheats(Disturbance::Reorganise).await;
}
