//! The desk at work: one task that owns the [`Desk`], and one that reads blocks for it.
//!
//! The order that makes a crash harmless:
//!
//! 1. What a block means for channels is delivered first, and their inputs are in the log, before the row that moves the
//!    desk's tip, and a row that says what is told before either ([`Outcome::before`]). A crash in between replays the
//!    block, and channels take repeats as nothing; should it have left the chain meanwhile, they are told that too.
//! 2. Whatever the desk changed is durable before anything of it is broadcast, delivered or answered.
//! 3. Requests that wait are taken before the next block: a watch asked for before a block was mined sees that block.

mod handle;
mod publishing;
mod searching;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::{FeeRate, Transaction};
use channel::event::Command;
use channel::ids::OwnerId;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::lookback::Sought;
use super::{BumpError, Bumped, Desk, DeskError, DeskReport, DeskRequest, Estimates, Moment, Outcome};
use crate::broadcast::Broadcaster;
use crate::fees::FeeEstimator;
use crate::follow::{BlockSource, ChainStep, FollowError, FollowStatus, Follower};
use crate::limits;
use crate::rpc::RpcClient;
use crate::verify::ParentSource;

use handle::Ask;
pub use handle::{BumpTarget, DeskHandle};
use publishing::ToBroadcast;

/// What the desk needs of the process it works in.
pub trait DeskHost: Send + Sync + 'static {
    /// Hands commands to channels, in order. Resolves once every input they caused is in the log (appended, not
    /// necessarily durable).
    fn deliver(&self, commands: Vec<(OwnerId, Command)>) -> impl Future<Output = ()> + Send;

    /// The tip is at `height` now, whose block has this time (seconds since 1970). Comes after the block's commands.
    fn height(&self, height: u32, block_time: u32) -> impl Future<Output = ()> + Send;

    /// Appends records of the desk's machine, and its snapshot after them if there is one. Resolves once they are
    /// durable; `Err` when the process is stopping.
    fn append(
        &self,
        records: Vec<Vec<u8>>,
        snapshot: Option<Vec<u8>>,
    ) -> impl Future<Output = Result<(), Stopping>> + Send;

    /// 32 fresh random bytes.
    fn randomness(&self) -> [u8; 32];

    /// Seconds since 1970.
    fn unix_seconds(&self) -> u64;

    /// For logs and events.
    fn report(&self, report: DeskReport);
}

/// The process is stopping; nothing more is journaled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the process is stopping")]
pub struct Stopping;

/// Why the desk ended.
#[derive(Debug, thiserror::Error)]
pub enum DeskEnd {
    /// Asked to, or its host is stopping.
    #[error("the desk was stopped")]
    Stopped,
    /// The chain did what must not happen: a person must decide.
    #[error(transparent)]
    Follow(#[from] FollowError),
    /// The desk's state and the chain do not fit: a fault of ours.
    #[error(transparent)]
    Desk(#[from] DeskError),
}

/// The parts of a desk that talk to the world.
pub struct DeskService<H, S> {
    desk: Desk,
    host: H,
    rpc: RpcClient,
    /// Until it is given to the task that reads blocks.
    follower: Option<Follower<S>>,
    broadcaster: Arc<Broadcaster<RpcClient>>,
    /// For openings and agreed closes.
    estimator: FeeEstimator,
    /// For what has a deadline soon, and for what has none.
    urgent: FeeEstimator,
    patient: FeeEstimator,
    /// How long tickets wait for company before they are merged.
    batch_wait: Duration,
    asks: mpsc::UnboundedReceiver<Ask>,
    height: watch::Sender<u32>,
    status: watch::Receiver<FollowStatus>,
    /// For what the service asks of itself.
    own_asks: mpsc::WeakUnboundedSender<Ask>,
}

impl<H: DeskHost, S: BlockSource> DeskService<H, S> {
    /// A desk that begins to work when [`DeskService::run`] is polled. Requests may be sent before that, and are taken
    /// before the first block.
    pub fn new(desk: Desk, host: H, rpc: RpcClient, source: S, batch_wait: Duration) -> (Self, DeskHandle) {
        let (asks, asked) = mpsc::unbounded_channel();
        let follower = Follower::new(source, desk.memory().clone());
        let (height, heights) = watch::channel(desk.memory().tip().height);
        let (status, own_asks) = (follower.status(), asks.downgrade());
        let handle = DeskHandle { asks, status: status.clone(), height: heights };
        let fees = desk.config.fees;
        let service = Self {
            broadcaster: Arc::new(Broadcaster::new(rpc.clone())),
            estimator: FeeEstimator::new(fees, limits::FEERATE_FALLBACK),
            urgent: FeeEstimator::new(fees, limits::FEERATE_FALLBACK),
            patient: FeeEstimator::new(fees, limits::FEERATE_FALLBACK),
            desk,
            host,
            rpc,
            follower: Some(follower),
            batch_wait,
            asks: asked,
            height,
            status,
            own_asks,
        };
        (service, handle)
    }

    /// Journals the first rows of a new desk, then works until it is stopped.
    pub async fn run(mut self, first: Outcome) -> DeskEnd {
        match self.work(first).await {
            Err(end) => end,
            Ok(never) => match never {},
        }
    }

    async fn work(&mut self, first: Outcome) -> Result<std::convert::Infallible, DeskEnd> {
        let (results, mut published) = mpsc::unbounded_channel();
        let repeats = self.desk.repeats();
        for outcome in [first, repeats] {
            let broadcasts = self.perform(outcome).await?;
            self.broadcast(broadcasts, &results);
        }
        let (steps, mut stepped) = mpsc::channel(1);
        // Aborted when this function ends.
        let mut reading = JoinSet::new();
        if let Some(follower) = self.follower.take() {
            reading.spawn(read_blocks(follower, steps));
        }
        let (sightings, mut seen) = mpsc::unbounded_channel();
        let mut batch_due: Option<Instant> = None;
        // What was on its way before the start is looked at once the desk is at its node's tip.
        let mut settle_due = Some(Instant::now() + limits::SETTLE_WAIT);
        loop {
            let idle = Instant::now() + limits::DESK_IDLE;
            let wake = [batch_due, settle_due].into_iter().flatten().min().unwrap_or(idle);
            tokio::select! {
                biased;
                ask = self.asks.recv() => {
                    let Some(ask) = ask else { return Err(DeskEnd::Stopped) };
                    let broadcasts = self.answer(ask).await?;
                    self.broadcast(broadcasts, &results);
                }
                Some((txid, result)) = published.recv() => self.note(txid, &result),
                Some(seen) = seen.recv() => {
                    let outcome = self.desk.seen_in_mempool(seen);
                    let broadcasts = self.perform(outcome).await?;
                    self.broadcast(broadcasts, &results);
                }
                step = stepped.recv() => {
                    let Some(step) = step else { return Err(end_of(reading).await) };
                    let Step { step, taken } = step?;
                    let broadcasts = self.take(step).await?;
                    self.broadcast(broadcasts, &results);
                    self.resubmit(&results);
                    let _ = taken.send(());
                    settle_due = sooner(settle_due, Some(limits::SETTLE_WAIT));
                }
                () = tokio::time::sleep_until(wake) => {
                    let due = |at: Option<Instant>| at.is_some_and(|at| at <= Instant::now());
                    if due(batch_due) {
                        batch_due = None;
                        let moment = self.moment().await;
                        // Verifying hundreds of closes takes every core for a moment.
                        let outcome = in_place(|| self.desk.make_batches(&moment));
                        let broadcasts = self.perform(outcome).await?;
                        self.broadcast(broadcasts, &results);
                    }
                    if due(settle_due) {
                        settle_due = None;
                        if matches!(*self.status.borrow(), FollowStatus::Synced { .. }) {
                            let broadcasts = self.settle().await?;
                            self.broadcast(broadcasts, &results);
                            self.search_mempool(&sightings);
                        } else {
                            // What the chain holds beyond is not known yet.
                            settle_due = Some(Instant::now() + limits::SETTLE_WAIT);
                        }
                    }
                }
            }
            if batch_due.is_none() && self.desk.batch_wanted() {
                batch_due = Some(Instant::now() + self.batch_wait);
            }
            // A commitment may wait for a peer's proof for minutes: claims do not wait with it.
            let wanted = self.desk.settle_wanted().then_some(limits::SETTLE_WAIT);
            settle_due = sooner(settle_due, wanted.or_else(|| self.desk.looks_again_in()));
        }
    }

    async fn settle(&mut self) -> Result<ToBroadcast, DeskEnd> {
        let moment = self.settling_moment().await;
        let outcome = in_place(|| self.desk.settle(&moment));
        self.perform(outcome).await
    }

    async fn answer(&mut self, ask: Ask) -> Result<ToBroadcast, DeskEnd> {
        match ask {
            Ask::Channel(
                owner,
                DeskRequest::FindFunding { outpoint, output, minimum_depth, from_height },
            ) => {
                let sought = Sought { outpoint, output, minimum_depth, from_height };
                if let Some(outcome) = self.desk.repeat_watch(owner) {
                    return self.perform(outcome).await;
                }
                self.search(Box::new(self.desk.look_back(owner, sought)));
                Ok(ToBroadcast::default())
            }
            Ask::LookedBack(look) => match self.desk.looked_back(look) {
                Ok(outcome) => self.perform(outcome).await,
                Err(look) => {
                    self.search(look);
                    Ok(ToBroadcast::default())
                }
            },
            Ask::Scan { owner, answer } => {
                self.scan(owner, answer);
                Ok(ToBroadcast::default())
            }
            Ask::Scanned { owner, found, answer } => {
                let (scan, outcome) = self.desk.scanned(owner, &found);
                let broadcasts = self.perform(outcome).await?;
                let _ = answer.send(Ok(scan));
                Ok(broadcasts)
            }
            Ask::Channel(owner, request) => {
                let moment = self.moment().await;
                let outcome = self.desk.request(owner, request, &moment);
                self.perform(outcome).await
            }
            Ask::NewAddress(answer) => {
                let (address, outcome) = self.desk.new_address();
                let broadcasts = self.perform(outcome).await?;
                let _ = answer.send(address);
                Ok(broadcasts)
            }
            Ask::Summary(answer) => {
                let _ = answer.send(self.desk.summary());
                Ok(ToBroadcast::default())
            }
            Ask::Status(answer) => {
                let _ = answer.send(self.desk.onchain_statuses());
                Ok(ToBroadcast::default())
            }
            Ask::ReleaseHeld(answer) => {
                let (released, outcome) = self.desk.release_held();
                let broadcasts = self.perform(outcome).await?;
                let _ = answer.send(released);
                Ok(broadcasts)
            }
            Ask::ResumePublishing(answer) => {
                let (was_suspended, outcome) = self.desk.resume_publishing();
                let broadcasts = self.perform(outcome).await?;
                let _ = answer.send(was_suspended);
                Ok(broadcasts)
            }
            Ask::Bump { target, feerate, answer } => {
                self.find_parent(target, feerate, answer);
                Ok(ToBroadcast::default())
            }
            Ask::BumpFound { parent, source, feerate, answer } => {
                let moment = self.settling_moment().await;
                let (bumped, outcome) = in_place(|| self.desk.bump(*parent, source, feerate, &moment));
                let broadcasts = self.perform(outcome).await?;
                let _ = answer.send(bumped);
                Ok(broadcasts)
            }
            Ask::Snapshot(answer) => {
                self.snapshot().await?;
                let _ = answer.send(());
                Ok(ToBroadcast::default())
            }
            Ask::Stop(answer) => {
                self.snapshot().await?;
                let _ = answer.send(());
                Err(DeskEnd::Stopped)
            }
        }
    }

    async fn snapshot(&mut self) -> Result<(), DeskEnd> {
        let snapshot = self.desk.snapshot();
        self.host.append(Vec::new(), Some(snapshot)).await.map_err(|Stopping| DeskEnd::Stopped)
    }

    /// Takes a step of the chain in.
    async fn take(&mut self, step: ChainStep) -> Result<ToBroadcast, DeskEnd> {
        let outcome = self.desk.step(&step)?;
        let broadcasts = self.perform(outcome).await?;
        let tip = self.desk.memory().tip().height;
        let time = match &step {
            ChainStep::Connected { time, .. } => *time,
            ChainStep::Disconnected { .. } => 0,
        };
        self.host.height(tip, time).await;
        self.height.send_replace(tip);
        // A block that was taken back is followed by others, which will likely hold the same batches.
        if matches!(step, ChainStep::Disconnected { .. }) {
            return Ok(broadcasts);
        }
        let moment = self.moment().await;
        let bumps = in_place(|| self.desk.bump_batches(&moment));
        let more = self.perform(bumps).await?;
        Ok(broadcasts.and(more))
    }

    /// Does what an outcome says, in its order; returns what is to be broadcast.
    async fn perform(&mut self, outcome: Outcome) -> Result<ToBroadcast, DeskEnd> {
        if let Some(before) = outcome.before {
            self.host.append(vec![before], None).await.map_err(|Stopping| DeskEnd::Stopped)?;
        }
        if !outcome.first.is_empty() {
            self.host.deliver(outcome.first).await;
        }
        if !outcome.records.is_empty() {
            self.host.append(outcome.records, None).await.map_err(|Stopping| DeskEnd::Stopped)?;
        }
        if !outcome.then.is_empty() {
            self.host.deliver(outcome.then).await;
        }
        outcome.reports.into_iter().for_each(|report| self.host.report(report));
        Ok(ToBroadcast(outcome.broadcasts))
    }

    /// Finds the transaction that is to be paid for and asks on. bitcoind may take its time, so not in the desk's.
    fn find_parent(
        &self,
        target: BumpTarget,
        feerate: FeeRate,
        answer: oneshot::Sender<Result<Bumped, BumpError>>,
    ) {
        let Some(asks) = self.own_asks.upgrade() else { return };
        let ask_on = move |parent: Transaction, source, answer| {
            // A desk that ended takes nothing more, and whoever asked sees that.
            let _ = asks.send(Ask::BumpFound { parent: Box::new(parent), source, feerate, answer });
        };
        let txid = match target {
            BumpTarget::Transaction(parent) => return ask_on(*parent, ParentSource::Given, answer),
            BumpTarget::Txid(txid) => txid,
        };
        if let Some(parent) = self.desk.own_commitment_of(txid) {
            return ask_on(parent, ParentSource::Given, answer);
        }
        let rpc = self.rpc.clone();
        tokio::spawn(async move {
            match rpc.get_raw_transaction(txid, None).await {
                Ok(Some(parent)) => ask_on(parent, ParentSource::Mempool, answer),
                Ok(None) => drop(answer.send(Err(BumpError::Unknown { txid }))),
                Err(error) => drop(answer.send(Err(error.into()))),
            }
        });
    }

    async fn moment(&mut self) -> Moment {
        // While bitcoind cannot say, nothing is published anyway.
        let feerate = self.estimator.estimate_or_last(&self.rpc, limits::FEE_TARGET_BLOCKS).await;
        Moment {
            unix_seconds: self.host.unix_seconds(),
            feerate,
            estimates: Estimates::flat(feerate),
            randomness: self.host.randomness(),
        }
    }

    /// With an estimate for each patience.
    async fn settling_moment(&mut self) -> Moment {
        let moment = self.moment().await;
        let urgent = self.urgent.estimate_or_last(&self.rpc, limits::URGENT_TARGET_BLOCKS).await;
        let patient = self.patient.estimate_or_last(&self.rpc, limits::PATIENT_TARGET_BLOCKS).await;
        Moment { estimates: Estimates { urgent, usual: moment.feerate, patient }, ..moment }
    }
}

/// What is due already, or after this wait if that is earlier.
fn sooner(due: Option<Instant>, wait: Option<Duration>) -> Option<Instant> {
    let other = wait.map(|wait| Instant::now() + wait);
    due.into_iter().chain(other).min()
}

/// A step of the chain on its way to the desk.
struct Step {
    step: ChainStep,
    taken: oneshot::Sender<()>,
}

/// Reads blocks, whatever is asked of the desk meanwhile. The next step is looked for once the desk has taken the last
/// one in, so that "synced" is said of the desk too.
async fn read_blocks<S: BlockSource>(
    mut follower: Follower<S>,
    steps: mpsc::Sender<Result<Step, FollowError>>,
) {
    loop {
        let next = follower.next().await;
        let failed = next.is_err();
        let (taken, was_taken) = oneshot::channel();
        let sent = steps.send(next.map(|step| Step { step, taken })).await;
        // A desk that ended takes nothing more.
        if failed || sent.is_err() || was_taken.await.is_err() {
            return;
        }
    }
}

/// Why the blocks' reader is gone: it never ends by itself without a word. A panic of its goes on here.
async fn end_of(mut reading: JoinSet<()>) -> DeskEnd {
    match reading.join_next().await {
        Some(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Some(Ok(()) | Err(_)) | None => DeskEnd::Stopped,
    }
}

/// Work that takes a core for a moment. Where other threads can take this one's tasks they do; where there is but this
/// thread, everything waits.
fn in_place<T>(work: impl FnOnce() -> T) -> T {
    use tokio::runtime::{Handle, RuntimeFlavor};
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::CurrentThread => work(),
        _ => tokio::task::block_in_place(work),
    }
}
