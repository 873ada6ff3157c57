//! From the journal to machines: what `hubd` and `hubd checkpoint` have in common.
//!
//! Order (DESIGN sections 7 and 10.3): open and check the journal, make this run's epoch durable, rebuild every machine,
//! journal a disconnect for each channel. Nothing is served here.

use std::sync::{Arc, PoisonError, RwLock};

use channel::policy::Policy;
use channel::seed_signer::SeedSigner;
use channel::signer::Signer;
use crossbeam_channel::Receiver;
use journal::{Batch, Headroom, Journal, Log, Opened, Options, Position, Reader, Recovery, Retained};
use rand::RngCore;
use shard::{Mail, Setup, Shard};
use tokio::sync::{mpsc, watch};

use crate::chain::{DeskState, ToDesk, recover_desk};
use crate::config::Config;
use crate::control::{Control, ControlMail, ControlSetup};
use crate::data_dir::DataDir;
use crate::directory::Directory;
use crate::mailboxes::Mailboxes;
use crate::outlet::HubOutlet;
use crate::placement::Placement;
use crate::router::{Gate, HubRouter, Tip};
use crate::session::{Sessions, now_ms};
use crate::stop::{Exit, Failed};
use crate::threads::{CommitNews, Ended, spawn_journal};

/// Version of the logic that folds inputs. Raised by every change after which old inputs would fold differently.
pub const LOGIC_VERSION: u32 = 2;

/// The journal's table of this process's own rows.
const PROCESS_TABLE: u8 = 16;

const EPOCH_KEY: &[u8] = b"epoch";

/// Bytes of a mebibyte.
const MIB: u64 = 1024 * 1024;

/// Everything a hub's parts share.
#[derive(Clone)]
pub struct Shared {
    pub signer: Arc<SeedSigner>,
    pub log: Log,
    pub reader: Reader,
    pub mailboxes: Mailboxes,
    pub directory: Arc<Directory>,
    pub sessions: Arc<Sessions>,
    pub policy: Arc<RwLock<Policy>>,
    pub tip: Arc<Tip>,
    pub gate: Arc<Gate>,
    pub durable: watch::Receiver<Position>,
    pub next_event: watch::Receiver<u64>,
    pub started_ms: u64,
}

/// A hub whose machines are rebuilt; nothing runs yet but the journal.
pub struct Recovered {
    pub shared: Shared,
    pub shards: Vec<(Shard, HubOutlet, Receiver<Mail>)>,
    pub control: (Control, Receiver<ControlMail>),
    pub desk: DeskState,
    pub to_desk: mpsc::UnboundedReceiver<ToDesk>,
    pub desk_snapshots: mpsc::UnboundedReceiver<()>,
    pub journal: std::thread::JoinHandle<()>,
}

/// Opens the journal and rebuilds everything in it.
pub fn recover(
    config: &Config,
    data_dir: &DataDir,
    signer: Arc<SeedSigner>,
    ends: &mpsc::UnboundedSender<Ended>,
) -> Result<Recovered, Failed> {
    let cannot_start = Failed::with::<String>(Exit::CannotStart);
    let opened = open_journal(config, data_dir, signer.as_ref())?;
    let Opened { log, committer, reader, recovery } = opened;
    let epoch = next_epoch(&reader)?;
    let placement = Arc::new(Placement::new(config.shards.count(), epoch));
    let (senders, receivers): (Vec<_>, Vec<_>) =
        (0..placement.shards()).map(|_| crossbeam_channel::unbounded()).unzip();
    let (control_sender, control_receiver) = crossbeam_channel::unbounded();
    let mailboxes = Mailboxes::new(senders, control_sender, placement);
    let (durable_sender, durable) = watch::channel(Position::default());
    let (event_sender, next_event) = watch::channel(reader.next_event());
    let (desk_snapshot, desk_snapshots) = mpsc::unbounded_channel();
    let news = CommitNews {
        mailboxes: mailboxes.clone(),
        durable: durable_sender,
        next_event: event_sender,
        desk_snapshot,
    };
    let journal =
        spawn_journal(committer, news, ends.clone()).map_err(|error| cannot_start(error.to_string()))?;
    make_epoch_durable(&log, epoch)?;
    let sessions = Arc::new(Sessions::new(
        mailboxes.clone(),
        config.wallets.max_sessions,
        config.wallets.opens_per_hour,
    ));
    let shared = Shared {
        signer,
        log,
        reader,
        mailboxes,
        directory: Arc::new(Directory::new()),
        sessions,
        policy: Arc::new(RwLock::new(config.policy.channel_policy())),
        tip: Arc::default(),
        gate: Arc::default(),
        durable,
        next_event,
        started_ms: now_ms(),
    };
    let desk = recover_desk(&recovery).map_err(|error| cannot_start(error.to_string()))?;
    let height = desk.replay.memory().map_or(0, |memory| memory.tip().height);
    shared.tip.set(height);
    let (chain, to_desk) = mpsc::unbounded_channel();
    let control = Control::recover(control_setup(config, data_dir, &shared, chain.clone()), &recovery)
        .map_err(|error| cannot_start(format!("the registry cannot be rebuilt: {error}")))?;
    let shards = recover_shards(&shared, height, &recovery, &chain)?;
    let shards =
        shards.into_iter().zip(receivers).map(|((shard, outlet), mail)| (shard, outlet, mail)).collect();
    Ok(Recovered {
        shared,
        shards,
        control: (control, control_receiver),
        desk,
        to_desk,
        desk_snapshots,
        journal,
    })
}

fn open_journal(config: &Config, data_dir: &DataDir, signer: &SeedSigner) -> Result<Opened, Failed> {
    let mut owner = b"hub ".to_vec();
    owner.extend_from_slice(signer.node_id().as_bytes());
    let header = journal::Header { logic_version: LOGIC_VERSION, network: config.network.to_string(), owner };
    let sizes = &config.journal;
    let options = Options {
        cache_bytes: usize::try_from(sizes.cache_mib.saturating_mul(MIB)).unwrap_or(usize::MAX),
        log_bytes: sizes.log_mib.saturating_mul(MIB),
        event_bytes: sizes.event_mib.saturating_mul(MIB),
        ..Options::default()
    };
    Journal::open(&data_dir.layout().journal(), &header, options).map_err(Failed::with(Exit::CannotStart))
}

/// One above the last run's; it becomes part of every number given out in this run.
fn next_epoch(reader: &Reader) -> Result<u64, Failed> {
    let stored = reader.get(PROCESS_TABLE, EPOCH_KEY).map_err(Failed::with(Exit::CannotStart))?;
    let last = match stored {
        None => 0,
        Some(bytes) => {
            let bytes: [u8; 8] = bytes.try_into().map_err(|_| {
                Failed::new(Exit::CannotStart, "the journal's row \"epoch\" does not have 8 bytes")
            })?;
            u64::from_be_bytes(bytes)
        }
    };
    Ok(last + 1)
}

fn make_epoch_durable(log: &Log, epoch: u64) -> Result<(), Failed> {
    let value = Some(epoch.to_be_bytes().to_vec());
    let row = Retained { table: PROCESS_TABLE, key: EPOCH_KEY.to_vec(), value };
    let batch = Batch { retained: vec![row], ..Batch::default() };
    let position = log.append(batch).map_err(Failed::with(Exit::Fault))?;
    log.wait_durable(position).map_err(Failed::with(Exit::Fault))
}

fn control_setup(
    config: &Config,
    data_dir: &DataDir,
    shared: &Shared,
    chain: mpsc::UnboundedSender<ToDesk>,
) -> ControlSetup {
    let minimum = config.journal.headroom_mib.saturating_mul(MIB);
    ControlSetup {
        log: shared.log.clone(),
        mailboxes: shared.mailboxes.clone(),
        sessions: shared.sessions.clone(),
        directory: shared.directory.clone(),
        gate: shared.gate.clone(),
        chain,
        inbound: config.inbound.clone(),
        streams: config.streams.clone(),
        max_channels_per_wallet: config.wallets.max_channels_per_wallet,
        min_capacity_sat: config.policy.min_capacity_sat,
        headroom: (data_dir.layout().root().to_owned(), Headroom { minimum }),
    }
}

/// Rebuilds all shards at once, each on a thread of its own, and takes each one's first turn.
fn recover_shards(
    shared: &Shared,
    height: u32,
    recovery: &Recovery,
    chain: &mpsc::UnboundedSender<ToDesk>,
) -> Result<Vec<(Shard, HubOutlet)>, Failed> {
    let placement = shared.mailboxes.placement();
    let recover_one = |index: usize| -> Result<(Shard, HubOutlet), Failed> {
        let mut shard = Shard::recover(setup(shared, height), recovery, |owner| {
            owner.0 >= crate::placement::FIRST_CHANNEL && placement.shard_of(owner) == index
        })
        .map_err(Failed::with(Exit::CannotStart))?;
        let mut outlet = HubOutlet::new(
            index,
            shared.mailboxes.clone(),
            shared.directory.clone(),
            shared.sessions.clone(),
            chain.clone(),
        );
        shard.start(now_ms(), &mut outlet).map_err(Failed::with(Exit::Fault))?;
        Ok((shard, outlet))
    };
    std::thread::scope(|scope| {
        let recover_one = &recover_one;
        let running: Vec<_> =
            (0..placement.shards()).map(|index| scope.spawn(move || recover_one(index))).collect();
        let panicked = |_| Failed::new(Exit::Fault, "a shard panicked while it was rebuilt");
        running.into_iter().map(|thread| thread.join().map_err(panicked)?).collect()
    })
}

fn setup(shared: &Shared, height: u32) -> Setup {
    let router = HubRouter {
        directory: shared.directory.clone(),
        policy: shared.policy.clone(),
        tip: shared.tip.clone(),
        gate: shared.gate.clone(),
    };
    Setup {
        log: shared.log.clone(),
        reader: shared.reader.clone(),
        signer: shared.signer.clone(),
        router: Arc::new(router),
        policy: shared.policy.read().unwrap_or_else(PoisonError::into_inner).clone(),
        height,
        hash_seed: rand::rngs::OsRng.next_u64(),
    }
}
