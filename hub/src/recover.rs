//! From the journal to machines: what `hubd`, `hubd checkpoint` and a simulator have in common.
//!
//! Order (DESIGN sections 7 and 10.3): open and check the journal, make this run's epoch durable, rebuild every machine,
//! journal a disconnect for each channel. Nothing is served here. [`recover`] does all of it with threads; [`begin`] and
//! [`Begun::rebuild`] are its two halves for whoever turns the journal by hand.

mod rebuild;

use std::sync::{Arc, RwLock};

use channel::policy::Policy;
use channel::seed_signer::SeedSigner;
use channel::signer::Signer;
use daemon::rising::{Rising, rising};
use daemon::world::World;
use journal::{
    Batch, Committer, Headroom, Journal, Log, Opened, Options, Position, Reader, Recovery, Retained, Room,
};
use shard::{Mail, Shard};
use tokio::sync::mpsc;

use crate::chain::{DeskState, ToDesk};
use crate::config::Config;
use crate::control::{Control, ControlMail};
use crate::data_dir::DataDir;
use crate::directory::Directory;
use crate::machines::CommitNews;
use crate::mailboxes::{Mailbox, Mailboxes};
use crate::outlet::HubOutlet;
use crate::placement::Placement;
use crate::router::{Gate, Tip};
use crate::session::Sessions;
use crate::stop::{Exit, Failed};
use crate::threads::{Ended, spawn_journal};

pub use rebuild::Rebuild;

/// Version of the logic that folds inputs. Raised by every change after which old inputs would fold differently.
pub const LOGIC_VERSION: u32 = 4;

/// The journal's table of this process's own rows.
const PROCESS_TABLE: u8 = 16;

const EPOCH_KEY: &[u8] = b"epoch";

/// Bytes of a mebibyte.
const MIB: u64 = 1024 * 1024;

/// Everything a hub's parts share.
#[derive(Clone)]
pub struct Shared {
    pub signer: Arc<SeedSigner>,
    pub world: World,
    pub log: Log,
    pub reader: Reader,
    pub mailboxes: Mailboxes,
    pub directory: Arc<Directory>,
    pub sessions: Arc<Sessions>,
    pub policy: Arc<RwLock<Policy>>,
    pub tip: Arc<Tip>,
    pub gate: Arc<Gate>,
    pub durable: Rising<Position>,
    pub next_event: Rising<u64>,
    pub started_ms: u64,
}

/// A hub whose machines are rebuilt; nothing runs yet but the journal.
pub struct Recovered {
    pub shared: Shared,
    pub shards: Vec<(Shard, HubOutlet, Mailbox<Mail>)>,
    pub control: (Control, Mailbox<ControlMail>),
    pub desk: DeskState,
    pub to_desk: mpsc::UnboundedReceiver<ToDesk>,
    pub desk_snapshots: mpsc::UnboundedReceiver<()>,
}

/// Opens the journal in the data folder, gives it its thread, and rebuilds everything in it.
pub fn recover(
    config: &Config,
    data_dir: &DataDir,
    signer: Arc<SeedSigner>,
    world: World,
    ends: &mpsc::UnboundedSender<Ended>,
) -> Result<(Recovered, std::thread::JoinHandle<()>), Failed> {
    let (header, options) = (header(config, signer.as_ref()), options(config));
    let opened = Journal::open(&data_dir.layout().journal(), &header, options)
        .map_err(Failed::with(Exit::CannotStart))?;
    let (begun, committer, news) = begin(opened, config, signer, world)?;
    let journal = spawn_journal(committer, news, ends.clone()).map_err(Failed::with(Exit::CannotStart))?;
    let log = &begun.shared.log;
    log.wait_durable(begun.epoch_at).map_err(Failed::with(Exit::Fault))?;
    let room = Room::on_file_system(data_dir.layout().root().to_owned(), headroom(config));
    Ok((begun.rebuild(config, room, Rebuild::Together)?, journal))
}

/// Whose journal a hub's is.
pub fn header(config: &Config, signer: &dyn Signer) -> journal::Header {
    let mut owner = b"hub ".to_vec();
    owner.extend_from_slice(signer.node_id().as_bytes());
    journal::Header { logic_version: LOGIC_VERSION, network: config.network.to_string(), owner }
}

/// The journal's sizes as configured.
pub fn options(config: &Config) -> Options {
    let sizes = &config.journal;
    Options {
        cache_bytes: usize::try_from(sizes.cache_mib.saturating_mul(MIB)).unwrap_or(usize::MAX),
        log_bytes: sizes.log_mib.saturating_mul(MIB),
        event_bytes: sizes.event_mib.saturating_mul(MIB),
        ..Options::default()
    }
}

/// The free space below which new work is refused, as configured.
pub fn headroom(config: &Config) -> Headroom {
    Headroom { minimum: config.journal.headroom_mib.saturating_mul(MIB) }
}

/// A hub whose run has its number, which must be durable before anything is rebuilt.
pub struct Begun {
    pub shared: Shared,
    /// Where the run's number lies in the log. [`Begun::rebuild`] must wait until it is durable.
    pub epoch_at: Position,
    recovery: Recovery,
    shards: Vec<Mailbox<Mail>>,
    control: Mailbox<ControlMail>,
    desk_snapshots: mpsc::UnboundedReceiver<()>,
}

/// Numbers this run, and makes what all parts share. The committer is to be turned from now on, and the news told.
pub fn begin(
    opened: Opened,
    config: &Config,
    signer: Arc<SeedSigner>,
    world: World,
) -> Result<(Begun, Committer, CommitNews), Failed> {
    let Opened { log, committer, reader, recovery } = opened;
    let epoch = next_epoch(&reader)?;
    let placement = Arc::new(Placement::new(config.shards.count(), epoch));
    let (senders, shards): (Vec<_>, Vec<_>) =
        (0..placement.shards()).map(|_| crossbeam_channel::unbounded()).unzip();
    let (control_sender, control) = crossbeam_channel::unbounded();
    let mailboxes = Mailboxes::new(senders, control_sender, placement);
    let (durable_sender, durable) = rising(Position::default());
    let (event_sender, next_event) = rising(reader.next_event());
    let (desk_snapshot, desk_snapshots) = mpsc::unbounded_channel();
    let news = CommitNews {
        mailboxes: mailboxes.clone(),
        durable: durable_sender,
        next_event: event_sender,
        desk_snapshot,
    };
    let epoch_at = log.append(epoch_row(epoch)).map_err(Failed::with(Exit::Fault))?;
    let (max_sessions, opens) = (config.wallets.max_sessions, config.wallets.opens_per_hour);
    let shared = Shared {
        sessions: Arc::new(Sessions::new(mailboxes.clone(), max_sessions, opens)),
        signer,
        started_ms: world.now_ms(),
        world,
        log,
        reader,
        mailboxes,
        directory: Arc::new(Directory::new()),
        policy: Arc::new(RwLock::new(config.policy.channel_policy())),
        tip: Arc::default(),
        gate: Arc::default(),
        durable,
        next_event,
    };
    Ok((Begun { shared, epoch_at, recovery, shards, control, desk_snapshots }, committer, news))
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

fn epoch_row(epoch: u64) -> Batch {
    let value = Some(epoch.to_be_bytes().to_vec());
    let row = Retained { table: PROCESS_TABLE, key: EPOCH_KEY.to_vec(), value };
    Batch { retained: vec![row], ..Batch::default() }
}
