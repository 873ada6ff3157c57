//! A wallet put together from its parts: what its machines were when the process ended, made again from the journal, and
//! wired to each other. No threads, files or sockets: whoever asks for the parts runs them.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel as queue};
use std::time::Duration;

use channel::ids::OwnerId;
use channel::seed_signer::SeedSigner;
use channel::signer::Signer;
use daemon::rising::{Raise, Rising, rising};
use daemon::world::World;
use journal::{
    Batch, Commit, Committer, Content, Header, Log, MachineId, Opened, Position, Reader, Recovery, Retained,
};
use settlement::desk::service::{DeskEnd, DeskHandle, DeskService};
use settlement::desk::{Desk, DeskConfig, Replay};
use settlement::follow::{BlockRef, BlockSource, ChainMemory, Follower};
use settlement::onchain::AddressKind;
use settlement::pool::VerifyPool;
use settlement::rpc::RpcClient;
use shard::{MachineLog, Outbox, Setup, Shard};
use tokio::time::Instant;

use super::desk_host::WalletDeskHost;
use super::outlet::WalletOutlet;
use super::start::StartError;
use super::{Core, CoreHandle, CoreMail, Owners};
use crate::config::Checked;
use crate::history::EPOCH;
use crate::ledger::{Ledger, Prices};
use crate::router::WalletRouter;

/// Version of the logic that folds the inputs: raised when old inputs would be understood differently.
pub const LOGIC_VERSION: u32 = 4;

/// The desk's number among the machines.
pub const DESK: MachineId = MachineId(2);

/// The desk knows what a scan found under this number.
pub const SCAN: OwnerId = OwnerId(3);

/// Numbers below are not channels.
pub(super) const FIRST_CHANNEL: u64 = 1_024;

/// Confirmations after which nothing is expected to be undone.
const FINAL_DEPTH: u32 = 6;

/// How long a ticket waits for company: a wallet has none, but its chain may be slow.
const BATCH_WAIT: Duration = Duration::from_secs(1);

/// What a wallet is made of, besides its configuration and its seed.
pub struct Parts<S> {
    /// Its journal, opened with [`header`].
    pub opened: Opened,
    pub rpc: RpcClient,
    /// The blocks of the same node.
    pub source: S,
    pub pool: VerifyPool,
    pub world: World,
}

/// The ways into a wallet, and what can be seen of it from outside. Cheap to clone.
#[derive(Clone)]
pub struct Handles {
    pub core: CoreHandle,
    pub desk: DeskHandle,
    pub reader: Reader,
    /// How far the journal is durable, as it rises with each commit.
    pub durable: Rising<Position>,
    /// Index of the next event, as it rises with each commit.
    pub next_event: Rising<u64>,
    pub signer: Arc<dyn Signer>,
    pub world: World,
}

/// A wallet that nobody runs yet.
pub struct Assembled {
    pub handles: Handles,
    /// Begins first, so that its watches are asked for before the desk reads its first block.
    pub core: Core,
    pub committer: Committer,
    /// To be told of every commit.
    pub commits: Commits,
    /// The desk's work, for as long as it lasts.
    pub desk: Pin<Box<dyn Future<Output = DeskEnd> + Send>>,
}

/// Tells everybody what became durable.
pub struct Commits {
    core: Sender<CoreMail>,
    durable: Raise<Position>,
    next_event: Raise<u64>,
}

impl Commits {
    /// A commit ended.
    pub fn note(&self, commit: &Commit) {
        // A core that ended needs no news.
        let _ = self.core.send(CoreMail::Durable(commit.durable));
        self.durable.raise(commit.durable);
        if let Some(events) = commit.events {
            self.next_event.raise(events.last + 1);
        }
        if !commit.wants_snapshot.is_empty() {
            let _ = self.core.send(CoreMail::Snapshots(commit.wants_snapshot.clone()));
        }
    }
}

/// Whose journal it is.
pub fn header(checked: &Checked, seed: &[u8; 64]) -> Header {
    let node = SeedSigner::new(seed).node_id();
    Header {
        logic_version: LOGIC_VERSION,
        network: checked.config.network.clone(),
        owner: [b"wallet:".as_slice(), node.as_bytes()].concat(),
    }
}

/// Makes the wallet's machines again from the journal. Must be called within a runtime, where its tasks will run.
pub async fn assemble<S: BlockSource>(
    checked: &Checked,
    seed: &[u8; 64],
    parts: Parts<S>,
) -> Result<Assembled, StartError> {
    let Parts { opened, rpc, source, pool, world } = parts;
    let Opened { log, mut committer, reader, recovery } = opened;
    let signer: Arc<dyn Signer> = Arc::new(SeedSigner::new(seed));
    let (replay, desk_log) = replay_desk(&recovery)?;
    let memory = memory(&replay, &rpc, &source, checked).await?;
    let height = memory.tip().height;
    let ledger = Ledger::restore(&recovery, signer.clone())?;
    let prices = ledger.policy(&checked.hub).as_ref().map(Prices::from);
    let setup = Setup {
        log: log.clone(),
        reader: reader.clone(),
        signer: signer.clone(),
        router: Arc::new(WalletRouter),
        policy: checked.policy.clone(),
        height,
        hash_seed: u64::from_be_bytes(world.random()),
    };
    let shard = Shard::recover(setup, &recovery, |owner| owner.0 >= FIRST_CHANNEL)?;
    drop(recovery);

    let (inbox, inbox_end) = queue();
    let core = CoreHandle::new(inbox.clone());
    let (durable, durable_seen) = rising(Position::default());
    let (next_event, next_event_seen) = rising(reader.next_event());
    let commits = Commits { core: inbox, durable, next_event };
    let epoch = next_epoch(&reader)?;
    if let Some(commit) = make_epoch_durable(&log, epoch, &mut committer)? {
        commits.note(&commit);
    }

    let host = WalletDeskHost::new(core.clone(), log.clone(), desk_log, durable_seen.clone(), world.clone());
    let config = desk_config(checked, seed);
    let (desk, first) = Desk::open(config, replay, memory, signer.clone(), Arc::new(pool))?;
    let (service, desk) = DeskService::new(desk, host, rpc, source, BATCH_WAIT);
    let birthday = checked.config.restore.birthday_height.unwrap_or_default();
    let runtime = tokio::runtime::Handle::current();
    let the_core = Core {
        shard,
        ledger,
        outlet: WalletOutlet::new(core.clone(), desk.clone(), runtime, birthday),
        log,
        reader: reader.clone(),
        inbox: inbox_end,
        mail: VecDeque::new(),
        replies: Vec::new(),
        delivered: Vec::new(),
        gate: Outbox::new(),
        durable: Position::default(),
        last: Position::default(),
        settings: checked.settings.clone(),
        hub: checked.hub,
        prices,
        height,
        resumed: false,
        wants_resume: false,
        owners: Owners { epoch, next: 0 },
        payments: BTreeMap::new(),
        inbound: BTreeMap::new(),
        agreed: BTreeMap::new(),
        snapshot_wanted: false,
        pruned_ms: 0,
        began: Instant::now(),
        world: world.clone(),
        stopping: false,
    };
    let (durable, next_event) = (durable_seen, next_event_seen);
    Ok(Assembled {
        handles: Handles { core, desk, reader, durable, next_event, signer, world },
        core: the_core,
        committer,
        commits,
        desk: Box::pin(service.run(first)),
    })
}

fn desk_config(checked: &Checked, seed: &[u8; 64]) -> DeskConfig {
    DeskConfig {
        network: checked.network,
        master: SeedSigner::new(seed).onchain_master(checked.network),
        addresses: AddressKind::P2wpkh,
        address_gap: checked.config.onchain.address_gap,
        final_depth: FINAL_DEPTH,
        fees: settlement::fees::FeeBounds::default(),
        max_batch_tickets: 1,
        batch_patience_blocks: 6,
        reserve: settlement::desk::ReservePolicy::default(),
        breaker: settlement::desk::Breaker::default(),
        proof_wait: Duration::from_secs(checked.config.channels.proof_wait_seconds),
    }
}

/// Where the desk goes on from.
async fn memory<S: BlockSource>(
    replay: &Replay,
    rpc: &RpcClient,
    source: &S,
    checked: &Checked,
) -> Result<ChainMemory, StartError> {
    let node = check_node(rpc, checked).await;
    match (node, replay.memory()) {
        (Ok(()), Some(memory)) => Ok(memory.clone()),
        // What needs no chain goes on without bitcoind; the follower asks again, and checks who answers.
        (Err(StartError::Bitcoind { source, .. }), Some(memory)) if source.is_transient() => {
            Ok(memory.clone())
        }
        (Ok(()), None) => first_memory(source, checked).await,
        (Err(error), _) => Err(error),
    }
}

/// A node of another network, pruned or too old is no node of this wallet's.
async fn check_node(rpc: &RpcClient, checked: &Checked) -> Result<(), StartError> {
    let named = |source| StartError::Bitcoind { url: checked.config.bitcoind.url.clone(), source };
    rpc.check_node(checked.network).await.map(|_| ()).map_err(named)
}

/// A new wallet has nothing in blocks that are final; a restored one begins before it had anything.
async fn first_memory<S: BlockSource>(source: &S, checked: &Checked) -> Result<ChainMemory, StartError> {
    let named = |source| StartError::Bitcoind { url: checked.config.bitcoind.url.clone(), source };
    let near_the_tip = Follower::starting_memory(source, FINAL_DEPTH).await.map_err(named)?;
    let birthday = match checked.config.restore.birthday_height {
        Some(birthday) if birthday < near_the_tip.tip().height => birthday,
        Some(_) | None => return Ok(near_the_tip),
    };
    let hashes = source.hashes(birthday..birthday.saturating_add(1)).await.map_err(named)?;
    let first = hashes.first().map(|hash| BlockRef { height: birthday, hash: *hash });
    Ok(first.map_or(near_the_tip, |first| ChainMemory::starting_at(first, FINAL_DEPTH)))
}

fn replay_desk(recovery: &Recovery) -> Result<(Replay, MachineLog), StartError> {
    let mut replay = Replay::default();
    let mut log = MachineLog::new(DESK);
    for snapshot in recovery.snapshots()? {
        let snapshot = snapshot?;
        if let (DESK, Content::State { payload, .. }) = (snapshot.machine, &snapshot.content) {
            replay = Replay::from_snapshot(payload)?;
            log = MachineLog::at(DESK, snapshot.sequence);
        }
    }
    let mut records = recovery.records()?;
    while let Some(record) = records.next()? {
        if record.machine == DESK {
            log.replay(&record)?;
            replay.apply(record.payload)?;
        }
    }
    Ok((replay, log))
}

/// One more than the last start's. Channels are numbered with it, so that a number is never used again.
fn next_epoch(reader: &Reader) -> Result<u64, StartError> {
    let before = match reader.get(EPOCH, b"epoch")? {
        None => 0,
        Some(value) => u64::from_be_bytes(value.try_into().map_err(|_| StartError::Epoch)?),
    };
    before.checked_add(1).ok_or(StartError::Epoch)
}

/// Nobody else appends yet, so this is a commit of its own.
fn make_epoch_durable(
    log: &Log,
    epoch: u64,
    committer: &mut Committer,
) -> Result<Option<Commit>, StartError> {
    let value = Some(epoch.to_be_bytes().to_vec());
    let row = Retained { table: EPOCH, key: b"epoch".to_vec(), value };
    log.append(Batch { retained: vec![row], ..Batch::default() })?;
    Ok(committer.turn()?)
}
