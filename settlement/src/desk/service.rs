//! The desk at work: one task that owns the [`Desk`], and one that reads blocks for it.
//!
//! The order that makes a crash harmless:
//!
//! 1. What a block means for channels is delivered first, and their inputs are in the log, before the row that moves the
//!    desk's tip, and a row that says what is told before either ([`Outcome::before`]). A crash in between replays the
//!    block, and channels take repeats as nothing; should it have left the chain meanwhile, they are told that too.
//! 2. Whatever the desk changed is durable before anything of it is broadcast, delivered or answered.
//! 3. Requests that wait are taken before the next block: a watch asked for before a block was mined sees that block.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bitcoin::{Address, Txid};
use channel::event::Command;
use channel::ids::OwnerId;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::{Broadcast, Desk, DeskError, DeskReport, DeskRequest, DeskSummary, Moment, Outcome};
use crate::broadcast::{Broadcaster, Publishable};
use crate::fees::FeeEstimator;
use crate::follow::{BlockSource, ChainStep, FollowError, FollowStatus, Follower};
use crate::limits;
use crate::rpc::RpcClient;

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

/// What is asked of a running desk.
enum Ask {
    Channel(OwnerId, DeskRequest),
    NewAddress(oneshot::Sender<Address>),
    Summary(oneshot::Sender<DeskSummary>),
    Snapshot(oneshot::Sender<()>),
    Stop(oneshot::Sender<()>),
}

/// A running desk, from outside. Cheap to clone. Every answer rests on what is durable.
#[derive(Clone)]
pub struct DeskHandle {
    asks: mpsc::UnboundedSender<Ask>,
    status: watch::Receiver<FollowStatus>,
    height: watch::Receiver<u32>,
}

impl DeskHandle {
    /// Passes on a channel's request. Never waits: channels are few requests in their whole life, and a shard must not
    /// block. Lost only when the desk ended; channels ask again after a restart.
    pub fn request(&self, owner: OwnerId, request: DeskRequest) {
        // A desk that ended is a process that is stopping.
        let _ = self.asks.send(Ask::Channel(owner, request));
    }

    /// An address never given out.
    pub async fn new_address(&self) -> Result<Address, Stopping> {
        self.ask(Ask::NewAddress).await
    }

    pub async fn summary(&self) -> Result<DeskSummary, Stopping> {
        self.ask(Ask::Summary).await
    }

    /// Journals a snapshot, so that the log before it can be trimmed.
    pub async fn snapshot(&self) -> Result<(), Stopping> {
        self.ask(Ask::Snapshot).await
    }

    /// Snapshots and ends.
    pub async fn stop(&self) -> Result<(), Stopping> {
        self.ask(Ask::Stop).await
    }

    /// How following is doing.
    pub fn status(&self) -> FollowStatus {
        self.status.borrow().clone()
    }

    /// The height of the last block taken in, as it changes.
    pub fn heights(&self) -> watch::Receiver<u32> {
        self.height.clone()
    }

    /// Resolves when the desk has caught up with its node once.
    pub async fn synced(&self) -> Result<(), Stopping> {
        let mut status = self.status.clone();
        status
            .wait_for(|status| matches!(status, FollowStatus::Synced { .. }))
            .await
            .map(|_| ())
            .map_err(|_| Stopping)
    }

    async fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Result<T, Stopping> {
        let (answer, answered) = oneshot::channel();
        self.asks.send(ask(answer)).map_err(|_| Stopping)?;
        answered.await.map_err(|_| Stopping)
    }
}

/// The parts of a desk that talk to the world.
pub struct DeskService<H, S> {
    desk: Desk,
    host: H,
    rpc: RpcClient,
    /// Until it is given to the task that reads blocks.
    follower: Option<Follower<S>>,
    broadcaster: Arc<Broadcaster<RpcClient>>,
    estimator: FeeEstimator,
    /// How long tickets wait for company before they are merged.
    batch_wait: Duration,
    asks: mpsc::UnboundedReceiver<Ask>,
    height: watch::Sender<u32>,
}

impl<H: DeskHost, S: BlockSource> DeskService<H, S> {
    /// A desk that begins to work when [`DeskService::run`] is polled. Requests may be sent before that, and are taken
    /// before the first block.
    pub fn new(desk: Desk, host: H, rpc: RpcClient, source: S, batch_wait: Duration) -> (Self, DeskHandle) {
        let (asks, asked) = mpsc::unbounded_channel();
        let follower = Follower::new(source, desk.memory().clone());
        let (height, heights) = watch::channel(desk.memory().tip().height);
        let handle = DeskHandle { asks, status: follower.status(), height: heights };
        let fees = desk.config.fees;
        let service = Self {
            broadcaster: Arc::new(Broadcaster::new(rpc.clone())),
            estimator: FeeEstimator::new(fees, limits::FEERATE_FALLBACK),
            desk,
            host,
            rpc,
            follower: Some(follower),
            batch_wait,
            asks: asked,
            height,
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
        self.perform(first).await?;
        let (results, mut published) = mpsc::unbounded_channel();
        let (steps, mut stepped) = mpsc::channel(1);
        // Aborted when this function ends.
        let mut reading = JoinSet::new();
        if let Some(follower) = self.follower.take() {
            reading.spawn(read_blocks(follower, steps));
        }
        let mut batch_due: Option<tokio::time::Instant> = None;
        loop {
            let wake = batch_due.unwrap_or_else(|| tokio::time::Instant::now() + limits::DESK_IDLE);
            tokio::select! {
                biased;
                ask = self.asks.recv() => {
                    let Some(ask) = ask else { return Err(DeskEnd::Stopped) };
                    let broadcasts = self.answer(ask).await?;
                    self.broadcast(broadcasts, &results);
                }
                Some((txid, result)) = published.recv() => self.note(txid, result),
                step = stepped.recv() => {
                    let Some(step) = step else { return Err(end_of(reading).await) };
                    let Step { step, taken } = step?;
                    let broadcasts = self.take(step).await?;
                    self.broadcast(broadcasts, &results);
                    self.resubmit(&results);
                    let _ = taken.send(());
                }
                () = tokio::time::sleep_until(wake) => {
                    if batch_due.take().is_some() {
                        let moment = self.moment().await;
                        // Verifying hundreds of closes takes every core for a moment.
                        let outcome = tokio::task::block_in_place(|| self.desk.make_batches(&moment));
                        let broadcasts = self.perform(outcome).await?;
                        self.broadcast(broadcasts, &results);
                    }
                }
            }
            if batch_due.is_none() && self.desk.batch_wanted() {
                batch_due = Some(tokio::time::Instant::now() + self.batch_wait);
            }
        }
    }

    async fn answer(&mut self, ask: Ask) -> Result<Vec<Broadcast>, DeskEnd> {
        match ask {
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
                Ok(Vec::new())
            }
            Ask::Snapshot(answer) => {
                self.snapshot().await?;
                let _ = answer.send(());
                Ok(Vec::new())
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
    async fn take(&mut self, step: ChainStep) -> Result<Vec<Broadcast>, DeskEnd> {
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
        let bumps = tokio::task::block_in_place(|| self.desk.bump_batches(&moment));
        let more = self.perform(bumps).await?;
        Ok(broadcasts.into_iter().chain(more).collect())
    }

    /// Does what an outcome says, in its order; returns what is to be broadcast.
    async fn perform(&mut self, outcome: Outcome) -> Result<Vec<Broadcast>, DeskEnd> {
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
        Ok(outcome.broadcasts)
    }

    /// Broadcasts in the background: bitcoind may be slow or away, and the desk has other things to do.
    fn broadcast(&self, broadcasts: Vec<Broadcast>, results: &Results) {
        for broadcast in broadcasts {
            let (broadcaster, results) = (Arc::clone(&self.broadcaster), results.clone());
            match broadcast {
                Broadcast::Confirmed(txid) => broadcaster.confirmed(txid),
                Broadcast::Undone(txid) => broadcaster.undone(txid),
                Broadcast::Forget(txid) => broadcaster.forget(txid),
                Broadcast::Funding(what) => publish(broadcaster, what, results),
                Broadcast::Close(what) => publish(broadcaster, what, results),
                Broadcast::HandedOver(what) => publish(broadcaster, what, results),
            }
        }
    }

    /// Sends again what is in no block yet: nodes forget.
    fn resubmit(&self, results: &Results) {
        if self.broadcaster.pending().is_empty() {
            return;
        }
        let (broadcaster, results) = (Arc::clone(&self.broadcaster), results.clone());
        tokio::spawn(async move {
            // bitcoind being away is shown by the follower's status; the next block brings the next attempt.
            for (txid, result) in broadcaster.resubmit().await.unwrap_or_default() {
                if let Err(error) = result {
                    let _ = results.send((txid, Err(error.to_string())));
                }
            }
        });
    }

    fn note(&self, txid: Txid, result: Result<(), String>) {
        self.host.report(match result {
            Ok(()) => DeskReport::Published { txid },
            Err(why) => DeskReport::PublishRefused { txid, why },
        });
    }

    async fn moment(&mut self) -> Moment {
        // While bitcoind cannot say, nothing is published anyway.
        let feerate = self.estimator.estimate_or_last(&self.rpc, limits::FEE_TARGET_BLOCKS).await;
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
        Moment {
            unix_seconds: since_1970.map_or(0, |elapsed| elapsed.as_secs()),
            feerate,
            randomness: self.host.randomness(),
        }
    }
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

type Results = mpsc::UnboundedSender<(Txid, Result<(), String>)>;

fn publish<P: Publishable + Send + Sync + 'static>(
    broadcaster: Arc<Broadcaster<RpcClient>>,
    what: P,
    results: Results,
) {
    // Now, and not when the task comes to it: it may be confirmed or forgotten by then.
    let kept = broadcaster.keep(&what);
    tokio::spawn(async move {
        let result = match kept {
            Ok(()) => broadcaster.send(&what).await,
            Err(error) => Err(error),
        };
        let _ = results.send((what.txid(), result.map(|_| ()).map_err(|error| error.to_string())));
    });
}
