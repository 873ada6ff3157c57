//! A real hub: its shards, control, journal, desk, sessions and operator's calls, without threads, files or sockets.

use std::sync::Arc;

use channel::ids::ChannelId;
use channel::keys::Point;
use channel::seed_signer::SeedSigner;
use channel::signer::Signer;
use daemon::world::World;
use hub::config::{Config, Layers};
use hub::control::{Control, ControlMail};
use hub::machines::{CommitNews, ShardMachine};
use hub::mailboxes::Mailbox;
use hub::operator::OperatorService;
use hub::outlet::HubOutlet;
use hub::recover::{Rebuild, Recovered, Shared, begin, header, headroom, options};
use hub::serve::{Body, Machines, Node};
use hub::session::Serving;
use hub::threads::Ended;
use hub::wallets::WalletService;
use journal::{Committer, Journal, Options, Room};
use settlement::desk::service::Stopping;
use settlement::pool::VerifyPool;
use shard::{Mail, Shard};
use tokio::sync::mpsc;

use super::{ADDRESS_GAP, Call, Died, HubLine, Tasks, guarded};
use crate::audit::forwards::{Sight, Sights};
use crate::chain::SimNode;
use crate::disk::SimDisk;

/// Rounds of a stop or a settling before something is taken to be stuck.
const MOST_ROUNDS: u32 = 100_000;

/// What time passes at once while a stop waits for it, in milliseconds.
const STOP_STEP_MS: u64 = 100;

/// The simulated node knows the hub by this name.
const NAME: &str = "hub";

/// What makes the hub this hub, the same at each of its starts.
#[derive(Clone)]
pub struct HubSetup {
    pub seed: [u8; 64],
    /// The public key that wallets know it by, which the seed gives.
    node_id: Point,
    pub config: Config,
    /// Size of the log above which snapshots are taken, in bytes: small, so that runs see logs that are trimmed.
    pub log_bytes: u64,
    /// Bytes free beside the journal, as the hub sees them.
    pub free: Arc<dyn Fn() -> u64 + Send + Sync>,
}

impl HubSetup {
    /// The default configuration with three shards, and a disk without end.
    pub fn new(seed: [u8; 64]) -> Self {
        let flag = |key: &str, value: &str| ("sim".to_owned(), key.to_owned(), value.to_owned());
        let flags = vec![
            flag("shards.threads", "3"),
            flag("journal.event_mib", "1"),
            flag("journal.cache_mib", "4"),
            flag("settlement.address_gap", &ADDRESS_GAP.to_string()),
        ];
        let config = hub::config::load(&Layers { flags, ..Layers::default() })
            .expect("defaults and four flags within their ranges are a configuration");
        let node_id = SeedSigner::new(&seed).node_id();
        HubSetup { seed, node_id, config, log_bytes: 64 * 1024, free: Arc::new(|| u64::MAX) }
    }

    /// The number of shards.
    pub fn shards(&self) -> usize {
        self.config.shards.count()
    }

    /// The hub's public key, which wallets know it by.
    pub fn node_id(&self) -> Point {
        self.node_id
    }

    fn options(&self) -> Options {
        // Nobody else would empty a full queue: an append that waits for the journal's turn would wait for ever.
        Options { queue_bytes: usize::MAX, log_bytes: self.log_bytes, ..options(&self.config) }
    }

    fn room(&self) -> Room {
        let free = self.free.clone();
        Room::in_storage(NAME, headroom(&self.config), move || Ok(free()))
    }
}

/// What is turned by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HubPart {
    /// The thread that writes the journal.
    Journal,
    /// The thread of streams, requests and earnings.
    Control,
    /// One of the threads that own channels; one that does not exist has nothing to do.
    Shard(usize),
    /// Desk, sessions, and calls under way: so many polls.
    Tasks { polls: u32 },
}

/// A shard's thread.
struct Seat {
    machine: ShardMachine<HubOutlet>,
    mailbox: Mailbox<Mail>,
    /// The last turn left work for another.
    again: bool,
    /// The chain was followed to its tip, and the shard has not heard of it.
    resume: bool,
}

impl Seat {
    /// Whether its thread would wait now.
    fn waits(&self) -> bool {
        !self.again && !self.resume && self.mailbox.is_empty()
    }

    fn turn(&mut self) -> Result<bool, shard::Fault> {
        if self.machine.stopped() || self.waits() {
            return Ok(false);
        }
        if std::mem::take(&mut self.resume) {
            self.machine.resume()?;
            self.again = true;
        } else {
            self.again = self.machine.turn(None, &self.mailbox)?;
        }
        Ok(true)
    }
}

/// A hub at work. Dropping it is a kill; the disk must be cut before, or it sees the journal closed in order.
pub struct HubProcess {
    shards: Vec<Seat>,
    control: Control,
    control_mailbox: Mailbox<ControlMail>,
    committer: Committer,
    news: CommitNews,
    body: Body,
    serving: Arc<Serving>,
    ends: mpsc::UnboundedReceiver<Ended>,
    /// Answered once the desk has caught up with its node.
    synced: Call<Result<(), Stopping>>,
    ready: bool,
    stop_asked: bool,
    /// The shards that get no time.
    behind: Vec<usize>,
    tasks: Tasks,
}

impl HubProcess {
    /// Starts from what the disk holds. Takes no time.
    pub fn start(setup: &HubSetup, disk: &SimDisk, node: &SimNode, world: World) -> Result<HubProcess, Died> {
        guarded(NAME, || Self::begin(setup, disk, node, world))
    }

    fn begin(setup: &HubSetup, disk: &SimDisk, node: &SimNode, world: World) -> Result<HubProcess, Died> {
        let config = &setup.config;
        let tasks = Tasks::new();
        let entered = tasks.enter();
        let Begun { recovered, committer, news } = recovered(setup, disk, world)?;
        let (ends_sender, ends) = mpsc::unbounded_channel();
        let node = Node { rpc: node.rpc_as(NAME), source: node.source_as(NAME), pool: VerifyPool::inline() };
        let (body, machines) =
            Body::start(config, recovered, node, "simulated".to_owned(), &ends_sender).map_err(died)?;
        let Machines { shards, control: (control, control_mailbox) } = machines;
        let shards = seats_of(shards, &body.shared);
        let serving = Arc::clone(WalletService::new(&body.shared, config).serving());
        let desk = body.chain.desk.clone();
        let synced = tasks.call(async move { desk.synced().await });
        drop(entered);
        Ok(HubProcess {
            shards,
            control,
            control_mailbox,
            committer,
            news,
            body,
            serving,
            ends,
            synced,
            ready: false,
            stop_asked: false,
            behind: Vec::new(),
            tasks,
        })
    }

    /// Turns one part; whether it had anything to do, as far as it tells (tasks do not).
    pub fn turn(&mut self, part: HubPart) -> Result<bool, Died> {
        guarded(NAME, || match part {
            HubPart::Journal => self.journal(),
            HubPart::Control => self.control(),
            HubPart::Shard(index) => self.shard(index),
            HubPart::Tasks { polls } => {
                self.tasks.turn(polls);
                self.look_around()?;
                Ok(true)
            }
        })
    }

    fn journal(&mut self) -> Result<bool, Died> {
        let commit = self.committer.turn().map_err(|fault| Died::new("the hub's journal", fault))?;
        if let Some(commit) = &commit {
            self.news.tell(commit);
        }
        Ok(commit.is_some())
    }

    fn control(&mut self) -> Result<bool, Died> {
        if self.control.stopped() {
            return Ok(false);
        }
        let _entered = self.tasks.enter();
        let has_mail = !self.control_mailbox.is_empty();
        // Without mail it looks at its timers, as its thread does every moment.
        let turned = self.control.turn_over(None, &self.control_mailbox);
        turned.map_err(|fault| Died::new("the hub's control", fault))?;
        Ok(has_mail)
    }

    fn shard(&mut self, index: usize) -> Result<bool, Died> {
        let _entered = self.tasks.enter();
        if self.behind.contains(&index) {
            return Ok(false);
        }
        let Some(seat) = self.shards.get_mut(index) else { return Ok(false) };
        seat.turn().map_err(|fault| Died::new(format!("the hub's shard {index}"), fault))
    }

    /// What the main task of `hubd` does between its parts.
    fn look_around(&mut self) -> Result<(), Died> {
        if let Ok(Ended { who, fault, .. }) = self.ends.try_recv() {
            let why = fault.unwrap_or_else(|| "it ended without being asked to".to_owned());
            return Err(Died::new(format!("the hub's part {who}"), why));
        }
        if let Ok(wrong) = self.body.chain.wrong.try_recv() {
            return Err(died(wrong));
        }
        // A daemon goes on without a task that panicked; here it is a fault like any other.
        if let Some(words) = self.tasks.panicked() {
            return Err(Died::new("a task of the hub's", words));
        }
        self.stop_asked |= self.body.stopped.try_recv().is_ok();
        if !self.ready && matches!(self.synced.answer(), Some(Ok(Ok(())))) {
            self.ready = true;
            self.shards.iter_mut().for_each(|seat| seat.resume = true);
        }
        Ok(())
    }

    /// Lets every part work until each waits for something outside, or for time.
    pub fn settle(&mut self) -> Result<(), Died> {
        guarded(NAME, || {
            for _ in 0..MOST_ROUNDS {
                self.tasks.settle();
                self.look_around()?;
                if !self.turn_machines()? {
                    return Ok(());
                }
            }
            Err(died("it never comes to rest"))
        })
    }

    /// One turn of each machine; whether one had anything to do.
    fn turn_machines(&mut self) -> Result<bool, Died> {
        let mut worked = self.control()?;
        for index in 0..self.shards.len() {
            worked |= self.shard(index)?;
        }
        worked |= self.journal()?;
        Ok(worked)
    }

    /// Lets time pass for timers. The world's clock is the run's to move.
    pub fn advance_ms(&mut self, ms: u64) {
        self.tasks.advance_ms(ms);
    }

    /// A shard's thread gets no time from now on.
    pub fn fall_behind(&mut self, shard: usize) {
        self.behind.push(shard);
    }

    /// Every thread gets time again.
    pub fn catch_up(&mut self) {
        self.behind.clear();
    }

    /// Whether wallets are served: the chain was followed to its tip since the start.
    pub fn ready(&self) -> bool {
        self.ready
    }

    /// Somebody called `Stop`: the run should stop it.
    pub fn wants_stop(&self) -> bool {
        self.stop_asked
    }

    /// A wallet connects. A hub that is not [ready](Self::ready) refuses, which the net sees by the line.
    pub fn connect(&self, line: HubLine) {
        if !self.ready {
            return;
        }
        let HubLine { incoming, outgoing, exporter } = line;
        let serving = Arc::clone(&self.serving);
        self.tasks.spawn(hub::session::serve(serving, exporter, None, incoming, outgoing, || ()));
    }

    /// Begins a call of the operator's, as a script makes it.
    pub fn call<T, F>(&self, call: impl FnOnce(OperatorService) -> F) -> Call<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        self.tasks.call(call(self.body.operator.clone()))
    }

    /// What its shards say of forwards; `None` before they have resumed them.
    pub fn forwards(&self) -> Option<Sights> {
        if !self.ready || self.shards.iter().any(|seat| seat.resume) {
            return None;
        }
        let mut sights = Sights::default();
        for seat in &self.shards {
            let shard = seat.machine.shard();
            let height = shard.known_height();
            let seen = shard.forwards().map(|(owner, forwards)| (owner, Sight { height, forwards }));
            sights.channels.extend(seen);
            sights.set_aside.extend(shard.quarantined().map(|quarantined| quarantined.owner));
        }
        Some(sights)
    }

    /// Every channel that one of its shards has.
    pub fn channel_ids(&self) -> Vec<ChannelId> {
        let owners = self.shards.iter().flat_map(|seat| seat.machine.shard().forwards());
        owners.filter_map(|(owner, _)| self.body.shared.directory.name_of(owner)).collect()
    }

    /// The shard that owns this channel.
    pub fn shard_of(&self, channel: &ChannelId) -> Option<usize> {
        let owner = self.body.shared.directory.place(channel)?.owner;
        self.shards.iter().position(|seat| seat.machine.shard().forwards().any(|(owns, _)| owns == owner))
    }

    /// The least height that one of its shards has heard of.
    pub fn height(&self) -> u32 {
        self.shards.iter().map(|seat| seat.machine.shard().known_height()).min().unwrap_or_default()
    }

    pub fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// A clean stop: only snapshots are left in the journal.
    pub fn stop(mut self) -> Result<(), Died> {
        self.catch_up();
        guarded(NAME, move || {
            let shared = self.body.shared.clone();
            shared.sessions.stop();
            self.body.cancel.cancel();
            // Sessions say goodbye.
            self.tasks.settle();
            let desk = self.body.chain.desk.clone();
            drop(self.tasks.call(async move { desk.stop().await }));
            self.work_until(Self::desk_ended)?;
            shared.mailboxes.every_shard(|| Mail::Stop);
            self.work_until(|process| Ok(process.shards.iter().all(|seat| seat.machine.stopped())))?;
            shared.mailboxes.control(ControlMail::Stop);
            self.work_until(|process| Ok(process.control.stopped()))?;
            let finished = self.committer.finish().map_err(|fault| Died::new("the hub's journal", fault))?;
            match finished.log_rows {
                0 => Ok(()),
                rows => Err(died(format_args!("{rows} rows of inputs are left after a clean stop"))),
            }
        })
    }

    fn desk_ended(&mut self) -> Result<bool, Died> {
        match self.ends.try_recv() {
            Err(_) => Ok(false),
            Ok(Ended { fault: None, .. }) => Ok(true),
            Ok(Ended { who, fault: Some(why), .. }) => Err(Died::new(format!("the hub's part {who}"), why)),
        }
    }

    fn work_until(&mut self, mut done: impl FnMut(&mut Self) -> Result<bool, Died>) -> Result<(), Died> {
        for _ in 0..MOST_ROUNDS {
            if done(self)? {
                return Ok(());
            }
            self.tasks.settle();
            if !self.turn_machines()? {
                // What is left waits for time: an answer of a slow node.
                self.tasks.advance_ms(STOP_STEP_MS);
            }
        }
        Err(died("it does not stop"))
    }
}

/// What a start reads from the disk.
struct Begun {
    recovered: Recovered,
    committer: Committer,
    news: CommitNews,
}

/// Reads the journal. Nothing of it is at work yet.
fn recovered(setup: &HubSetup, disk: &SimDisk, world: World) -> Result<Begun, Died> {
    let HubSetup { seed, config, .. } = setup;
    let signer = Arc::new(SeedSigner::new(seed));
    let (header, options) = (header(config, signer.as_ref()), setup.options());
    let opened = Journal::open_with_backend(disk.backend(), &header, options).map_err(died)?;
    let (begun, mut committer, news) = begin(opened, config, signer, world).map_err(died)?;
    let epoch_at = begun.epoch_at;
    let commit = committer.turn().map_err(died)?;
    let commit = commit.filter(|commit| commit.durable >= epoch_at);
    news.tell(&commit.ok_or_else(|| died("the run's number was not written"))?);
    let recovered = begun.rebuild(config, setup.room(), Rebuild::InTurn).map_err(died)?;
    Ok(Begun { recovered, committer, news })
}

fn seats_of(shards: Vec<(Shard, HubOutlet, Mailbox<Mail>)>, shared: &Shared) -> Vec<Seat> {
    let (placement, world) = (shared.mailboxes.placement(), &shared.world);
    let seat = |(index, (shard, outlet, mailbox))| {
        let machine = ShardMachine::new(index, shard, outlet, Arc::clone(placement), world.clone());
        Seat { machine, mailbox, again: true, resume: false }
    };
    shards.into_iter().enumerate().map(seat).collect()
}

fn died(why: impl std::fmt::Display) -> Died {
    Died::new("the hub", why)
}

mod checkpoint;
#[cfg(test)]
mod tests;
