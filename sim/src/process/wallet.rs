//! A real wallet: its core, its journal, its desk and its dialer, without threads, files or sockets.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use ::wallet::config::{Answers, Checked};
use ::wallet::connection::{Connect, ConnectionError, Dialer, Line, Status};
use ::wallet::core::assemble::{Assembled, Commits, Handles, Parts, assemble, header};
use ::wallet::core::start::StartError;
use ::wallet::core::{Core, CoreMail, Turned};
use ::wallet::service::Service;
use channel::amount::Msat;
use channel::channel::GivenUp;
use channel::ids::ChannelId;
use channel::keys::Point;
use channel::seed_signer::SeedSigner;
use channel::signer::Signer;
use daemon::world::World;
use journal::{Committer, Headroom, Journal, Options, Room};
use settlement::desk::service::DeskEnd;
use settlement::follow::RpcSource;
use settlement::pool::VerifyPool;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::{ADDRESS_GAP, Call, Died, Lost, Tasks, WalletLine, guarded};
use crate::chain::SimNode;
use crate::disk::SimDisk;

/// Rounds of a stop or a settling before something is taken to be stuck.
const MOST_ROUNDS: u32 = 100_000;

/// What makes one wallet this wallet, the same at each of its starts.
#[derive(Clone)]
pub struct WalletSetup {
    /// For messages; the machine's names carry it.
    pub name: String,
    pub seed: [u8; 64],
    /// Its public key, which the seed gives.
    node_id: Point,
    pub checked: Checked,
    /// Bytes free beside the journal, as the wallet sees them.
    pub free: Arc<dyn Fn() -> u64 + Send + Sync>,
}

impl WalletSetup {
    /// A wallet of `hub`'s with the default configuration and a disk without end.
    pub fn new(name: &str, seed: [u8; 64], hub: Point) -> Self {
        let node_id = SeedSigner::new(&seed).node_id();
        WalletSetup {
            name: name.to_owned(),
            seed,
            node_id,
            checked: defaults(hub),
            free: Arc::new(|| u64::MAX),
        }
    }

    /// Its public key.
    pub fn node_id(&self) -> Point {
        self.node_id
    }

    /// The same wallet, made anew from its words: its blocks are looked through from the first.
    pub fn restored(&mut self) {
        self.checked.config.restore.birthday_height = Some(0);
    }

    fn room(&self) -> Room {
        let mib = self.checked.config.disk.headroom_mib;
        let free = self.free.clone();
        let least = Headroom { minimum: mib.saturating_mul(1 << 20) };
        Room::in_storage(&self.name, least, move || Ok(free()))
    }
}

/// The configuration that `hubwallet init` writes.
fn defaults(hub: Point) -> Checked {
    let text = ::wallet::config::write(&Answers {
        listen: "127.0.0.1:0".to_owned(),
        hub_address: "hub:1".to_owned(),
        hub_node_key: hub.to_string(),
        bitcoind_url: "simulated".to_owned(),
        bitcoind_cookie: "none".to_owned(),
    });
    let path = Path::new("(simulated)");
    let mut checked = ::wallet::config::parse(path, &text).expect("what init writes is a configuration");
    checked.config.onchain.address_gap = ADDRESS_GAP;
    checked
}

/// What is turned by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalletPart {
    /// The thread that owns channels and ledger.
    Core,
    /// The thread that writes the journal.
    Journal,
    /// Desk, dialer, and calls under way: so many polls.
    Tasks { polls: u32 },
}

/// A wallet at work. Dropping it is a kill; the disk must be cut before, or it sees the journal closed in order.
pub struct WalletProcess {
    name: String,
    core: Core,
    committer: Committer,
    commits: Commits,
    handles: Handles,
    service: Service,
    connection: watch::Receiver<Status>,
    stop_asked: watch::Receiver<bool>,
    desk: Call<DeskEnd>,
    dialing: JoinHandle<()>,
    dials: Dials,
    tasks: Tasks,
    /// The core has written its last.
    stopped: bool,
    /// The core gets no time.
    behind: bool,
}

impl WalletProcess {
    /// Starts from what the disk holds. Takes no time, unless the node is slow.
    pub fn start(
        setup: &WalletSetup,
        disk: &SimDisk,
        node: &SimNode,
        world: World,
    ) -> Result<WalletProcess, Died> {
        let name = setup.name.clone();
        guarded(&name, || Self::begin(setup, disk, node, world))
    }

    fn begin(
        setup: &WalletSetup,
        disk: &SimDisk,
        node: &SimNode,
        world: World,
    ) -> Result<WalletProcess, Died> {
        let WalletSetup { name, seed, checked, .. } = setup;
        let died = |why: &dyn std::fmt::Display| Died::new(name.as_str(), why);
        let tasks = Tasks::new();
        // Nobody else would empty a full queue: an append that waits for the journal's turn would wait for ever.
        let options = Options { queue_bytes: usize::MAX, ..Options::small() };
        let opened = Journal::open_with_backend(disk.backend(), &header(checked, seed), options)
            .map_err(|error| died(&error))?;
        let parts = Parts {
            opened,
            rpc: node.rpc_as(name),
            source: node.source_as(name),
            pool: VerifyPool::inline(),
            world,
        };
        let assembled = start_now(&tasks, setup.clone(), parts);
        let assembled = assembled.ok_or_else(|| died(&"it does not start"))?.map_err(|error| died(&error))?;
        let Assembled { handles, mut core, committer, commits, desk } = assembled;
        let entered = tasks.enter();
        core.begin().map_err(|error| died(&error))?;
        let desk = tasks.call(desk);
        let (status, connection) = watch::channel(Status::default());
        let (stop, stop_asked) = watch::channel(false);
        let service = Service::new(handles.clone(), checked, connection.clone(), stop, setup.room());
        let dials = Dials::default();
        let dialer = Dialer::new(&handles, checked, dials.clone(), status);
        let dialing = tokio::spawn(dialer.run_from_tip(handles.desk.clone()));
        drop(entered);
        let name = name.clone();
        Ok(WalletProcess {
            name,
            core,
            committer,
            commits,
            handles,
            service,
            connection,
            stop_asked,
            desk,
            dialing,
            dials,
            tasks,
            stopped: false,
            behind: false,
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its public key.
    pub fn node_id(&self) -> Point {
        self.handles.signer.node_id()
    }

    /// Turns one part; whether it had anything to do, as far as it tells (tasks do not).
    pub fn turn(&mut self, part: WalletPart) -> Result<bool, Died> {
        let name = self.name.clone();
        guarded(&name, || match part {
            WalletPart::Core => Ok(self.core()? == Turned::Worked),
            WalletPart::Journal => self.journal(),
            WalletPart::Tasks { polls } => {
                self.tasks.turn(polls);
                self.look_around()?;
                Ok(true)
            }
        })
    }

    fn core(&mut self) -> Result<Turned, Died> {
        if self.stopped {
            return Ok(Turned::Stopped);
        }
        if self.behind {
            return Ok(Turned::Idle);
        }
        let _entered = self.tasks.enter();
        let turned = self.core.turn().map_err(|fault| Died::new(self.name.as_str(), fault))?;
        self.stopped = turned == Turned::Stopped;
        Ok(turned)
    }

    fn journal(&mut self) -> Result<bool, Died> {
        let commit = self.committer.turn().map_err(|fault| Died::new(self.name.as_str(), fault))?;
        if let Some(commit) = &commit {
            self.commits.note(commit);
        }
        Ok(commit.is_some())
    }

    /// In production a process whose desk ended stops. A daemon goes on without a task that panicked; here it is a fault.
    fn look_around(&mut self) -> Result<(), Died> {
        if let Some(words) = self.tasks.panicked() {
            return Err(Died::new(format!("a task of {}", self.name), words));
        }
        match self.desk.answer() {
            None => Ok(()),
            Some(end) => {
                let why = end.map_or_else(|Lost| "the desk panicked".to_owned(), |end| desk_end(&end));
                Err(Died::new(self.name.as_str(), why))
            }
        }
    }

    /// Lets every part work until each waits for something outside, or for time.
    pub fn settle(&mut self) -> Result<(), Died> {
        let name = self.name.clone();
        guarded(&name, || {
            for _ in 0..MOST_ROUNDS {
                self.tasks.settle();
                self.look_around()?;
                let worked = self.core()? == Turned::Worked;
                if !self.journal()? && !worked {
                    return Ok(());
                }
            }
            Err(Died::new(self.name.as_str(), "it never comes to rest"))
        })
    }

    /// Lets time pass for timers. The world's clock is the run's to move.
    pub fn advance_ms(&mut self, ms: u64) {
        self.tasks.advance_ms(ms);
    }

    /// The next connection that the dialer asks for, if it waits for one.
    pub fn dialed(&self) -> Option<Dial> {
        self.dials.next()
    }

    /// The core's thread gets no time from now on.
    pub fn fall_behind(&mut self) {
        self.behind = true;
    }

    /// Every thread gets time again.
    pub fn catch_up(&mut self) {
        self.behind = false;
    }

    /// HTLCs that its channels gave up, while they may still be taken.
    pub fn given_up(&self) -> impl Iterator<Item = GivenUp> + '_ {
        self.core.given_up()
    }

    /// What it has paid so far for channels that the hub funded.
    pub fn prices_paid(&self) -> impl Iterator<Item = (ChannelId, Msat)> + '_ {
        self.core.prices_paid()
    }

    /// How the connection to the hub stands.
    pub fn connection(&self) -> Status {
        self.connection.borrow().clone()
    }

    /// Begins a call of `wallet.v1`, as a script makes it.
    pub fn call<T, F>(&self, call: impl FnOnce(Service) -> F) -> Call<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        self.tasks.call(call(self.service.clone()))
    }

    /// The service, to be called within [`WalletProcess::tasks`].
    pub fn service(&self) -> Service {
        self.service.clone()
    }

    pub fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// Somebody called `Stop`: the run should stop it.
    pub fn wants_stop(&self) -> bool {
        *self.stop_asked.borrow()
    }

    /// A clean stop: only snapshots are left in the journal.
    pub fn stop(mut self) -> Result<(), Died> {
        self.catch_up();
        guarded(&self.name.clone(), move || {
            let name = self.name.clone();
            self.dialing.abort();
            let desk = self.handles.desk.clone();
            drop(self.tasks.call(async move { desk.stop().await }));
            let mut end = None;
            self.work_until(|process| {
                end = process.desk.answer();
                Ok(end.is_some())
            })?;
            match end {
                None | Some(Ok(DeskEnd::Stopped)) => {}
                Some(Ok(end)) => return Err(Died::new(name.as_str(), desk_end(&end))),
                Some(Err(Lost)) => return Err(Died::new(name.as_str(), "the desk panicked")),
            }
            self.handles.core.send(CoreMail::Stop);
            self.work_until(|process| Ok(process.core()? == Turned::Stopped))?;
            let finished = self.committer.finish().map_err(|fault| Died::new(&name, fault))?;
            match finished.log_rows {
                0 => Ok(()),
                rows => Err(Died::new(&name, format!("{rows} rows of inputs are left after a clean stop"))),
            }
        })
    }

    fn work_until(&mut self, mut done: impl FnMut(&mut Self) -> Result<bool, Died>) -> Result<(), Died> {
        for _ in 0..MOST_ROUNDS {
            if done(self)? {
                return Ok(());
            }
            self.tasks.settle();
            let worked = self.core()? == Turned::Worked;
            if !self.journal()? && !worked {
                // What is left waits for time: an answer of a slow node.
                self.tasks.advance_ms(100);
            }
        }
        Err(Died::new(self.name.as_str(), "it does not stop"))
    }
}

/// `None`: it waits for an answer that never comes.
fn start_now(
    tasks: &Tasks,
    setup: WalletSetup,
    parts: Parts<RpcSource>,
) -> Option<Result<Assembled, StartError>> {
    let mut starting = tasks.call(async move { assemble(&setup.checked, &setup.seed, parts).await });
    for _ in 0..MOST_ROUNDS {
        tasks.settle();
        match starting.answer() {
            None => tasks.advance_ms(100),
            Some(Ok(started)) => return Some(started),
            Some(Err(Lost)) => return None,
        }
    }
    None
}

fn desk_end(end: &DeskEnd) -> String {
    match end {
        DeskEnd::Stopped => "the desk stopped although nobody asked it to".to_owned(),
        DeskEnd::Follow(error) => error.to_string(),
        DeskEnd::Desk(error) => error.to_string(),
    }
}

/// The dialer's way to the net: it asks for a line, and the run answers when it likes, or never.
#[derive(Clone, Default)]
struct Dials(Arc<Mutex<VecDeque<oneshot::Sender<WalletLine>>>>);

impl Dials {
    fn next(&self) -> Option<Dial> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::iter::from_fn(|| waiting.pop_front()).find(|dial| !dial.is_closed()).map(Dial)
    }
}

impl Connect for Dials {
    async fn connect(&self) -> Result<Line, ConnectionError> {
        let (answer, answered) = oneshot::channel();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(answer);
        let line = answered.await.map_err(|_| ConnectionError::Broken("nobody answers".to_owned()))?;
        let WalletLine { incoming, outgoing, exporter } = line;
        Ok(Line { exporter, outgoing, incoming: Box::pin(incoming) })
    }
}

/// A wallet waits for a connection. Dropped: it is refused. The wallet gives up by itself after its own deadline.
pub struct Dial(oneshot::Sender<WalletLine>);

impl Dial {
    /// Connected. The other end of the line is the net's.
    pub fn answer(self, line: WalletLine) {
        // Whoever dialed may have given up meanwhile, which the net notices by the line.
        let _ = self.0.send(line);
    }
}

#[cfg(test)]
mod tests;
