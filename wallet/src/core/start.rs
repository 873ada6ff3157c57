//! Starting and stopping: journal, channels, ledger, desk, and the threads between them.

use std::future::Future;
use std::path::Path;
use std::sync::mpsc::channel as queue;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use channel::event::Command;
use channel::ids::OwnerId;
use channel::seed_signer::SeedSigner;
use channel::signer::Signer;
use journal::{
    Batch, Content, Header, Journal, Log, MachineId, OpenError, Options, Position, Reader, Recovery, Retained,
};
use rand::RngCore;
use settlement::desk::service::{DeskEnd, DeskHandle, DeskHost, DeskService, Stopping};
use settlement::desk::{Desk, DeskConfig, DeskReport, Replay};
use settlement::follow::{BlockRef, BlockSource, ChainMemory, Follower, RpcSource, Waiting};
use settlement::onchain::AddressKind;
use settlement::pool::VerifyPool;
use settlement::rpc::{Auth, RpcClient, RpcConfig, RpcError};
use shard::{MachineLog, Mail, Outbox, Setup, Shard};
use tokio::sync::{oneshot, watch};

use super::outlet::WalletOutlet;
use super::{Core, CoreFault, CoreHandle, CoreMail, Owners};
use crate::config::Checked;
use crate::data_dir::DataDir;
use crate::history::EPOCH;
use crate::ledger::{Ledger, Prices, RestoreError};
use crate::router::WalletRouter;

/// Version of the logic that folds the inputs: raised when old inputs would be understood differently.
pub const LOGIC_VERSION: u32 = 3;

/// The desk's number among the machines.
pub const DESK: MachineId = MachineId(2);

/// The desk knows what a scan found under this number.
pub const SCAN: OwnerId = OwnerId(3);

/// Numbers below are not channels.
const FIRST_CHANNEL: u64 = 1_024;

/// Confirmations after which nothing is expected to be undone.
const FINAL_DEPTH: u32 = 6;

/// Why a wallet did not start. Nothing was lost.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Journal(#[from] OpenError),
    #[error(transparent)]
    Read(#[from] journal::ReadError),
    #[error(transparent)]
    Ledger(#[from] RestoreError),
    #[error("the desk's rows: {0}")]
    Desk(#[from] settlement::desk::DeskError),
    #[error("the desk's rows: {0}")]
    DeskRecord(#[from] settlement::desk::RecordError),
    #[error("the desk has a gap: {0}")]
    Gap(#[from] shard::Gap),
    #[error("bitcoind at {url}: {source}")]
    Bitcoind { url: String, source: RpcError },
    #[error(transparent)]
    Fault(#[from] journal::Fault),
    #[error("the journal takes nothing")]
    Closed(#[from] journal::Closed),
    #[error("the row of epochs is broken")]
    Epoch,
    #[error("no thread could be started: {0}")]
    Thread(std::io::Error),
    #[error("no threads for the verifier: {0}")]
    Pool(String),
}

/// A running wallet without its network.
pub struct Running {
    pub core: CoreHandle,
    pub desk: DeskHandle,
    pub reader: Reader,
    /// How far the journal is durable, as it rises with each commit.
    pub durable: watch::Receiver<Position>,
    /// Index of the next event, as it rises with each commit.
    pub next_event: watch::Receiver<u64>,
    pub signer: Arc<dyn Signer>,
    core_thread: JoinHandle<Result<(), CoreFault>>,
    journal_thread: JoinHandle<Result<(), journal::Fault>>,
    desk_task: tokio::task::JoinHandle<DeskEnd>,
    /// Kept locked until everything has ended.
    _data: DataDir,
}

/// Opens the journal and starts everything but the connection to the hub and the wallet's own service.
pub async fn start(checked: &Checked, data: DataDir, seed: &[u8; 64]) -> Result<Running, StartError> {
    let signer: Arc<dyn Signer> = Arc::new(SeedSigner::new(seed));
    let header = Header {
        logic_version: LOGIC_VERSION,
        network: checked.config.network.clone(),
        owner: [b"wallet:".as_slice(), signer.node_id().as_bytes()].concat(),
    };
    let opened = Journal::open(&data.layout().journal(), &header, Options::small())?;
    let (rpc, source) = chain_source(checked);
    let (replay, desk_log) = replay_desk(&opened.recovery)?;
    let node = check_node(&rpc, checked).await;
    let memory = match (node, replay.memory()) {
        (Ok(()), Some(memory)) => memory.clone(),
        // What needs no chain goes on without bitcoind; the follower asks again, and checks who answers.
        (Err(StartError::Bitcoind { source, .. }), Some(memory)) if source.is_transient() => memory.clone(),
        (Ok(()), None) => first_memory(&source, checked).await?,
        (Err(error), _) => return Err(error),
    };
    let ledger = Ledger::restore(&opened.recovery, signer.clone())?;
    let prices = ledger.policy(&checked.hub).as_ref().map(Prices::from);
    let setup = Setup {
        log: opened.log.clone(),
        reader: opened.reader.clone(),
        signer: signer.clone(),
        router: Arc::new(WalletRouter),
        policy: checked.policy.clone(),
        height: memory.tip().height,
        hash_seed: rand::rngs::OsRng.next_u64(),
    };
    let shard = Shard::recover(setup, &opened.recovery, |owner| owner.0 >= FIRST_CHANNEL)?;
    let epoch = next_epoch(&opened.reader)?;
    drop(opened.recovery);

    let (inbox, outbox) = queue();
    let core = CoreHandle::new(inbox.clone());
    let (durable, durable_seen) = watch::channel(Position::default());
    let (next_event, next_event_seen) = watch::channel(opened.reader.next_event());
    let committer = opened.committer;
    let journal_thread = thread("wallet-journal", move || {
        let finished = committer.run(|commit| {
            let _ = inbox.send(CoreMail::Durable(commit.durable));
            durable.send_replace(commit.durable);
            if let Some(events) = commit.events {
                next_event.send_replace(events.last + 1);
            }
            if !commit.wants_snapshot.is_empty() {
                let _ = inbox.send(CoreMail::Snapshots(commit.wants_snapshot.clone()));
            }
        });
        finished.map(|_| ())
    })?;
    if let Err(error) = make_epoch_durable(&opened.log, epoch, durable_seen.clone()).await {
        // The journal's thread has ended: its fault says why.
        return Err(match journal_thread.join() {
            Ok(Err(fault)) => StartError::Fault(fault),
            Ok(Ok(())) | Err(_) => error,
        });
    }

    let host = WalletDeskHost {
        core: core.clone(),
        log: opened.log.clone(),
        records: Arc::new(Mutex::new(desk_log)),
        durable: durable_seen.clone(),
    };
    let config = DeskConfig {
        network: checked.network,
        master: SeedSigner::new(seed).onchain_master(checked.network),
        addresses: AddressKind::P2wpkh,
        final_depth: FINAL_DEPTH,
        fees: settlement::fees::FeeBounds::default(),
        max_batch_tickets: 1,
        batch_patience_blocks: 6,
        reserve: settlement::desk::ReservePolicy::default(),
        breaker: settlement::desk::Breaker::default(),
        proof_wait: Duration::from_secs(checked.config.channels.proof_wait_seconds),
    };
    let pool =
        VerifyPool::new(std::num::NonZeroUsize::new(1)).map_err(|e| StartError::Pool(e.to_string()))?;
    let height = memory.tip().height;
    let (desk, first) = Desk::open(config, replay, memory, signer.clone(), Arc::new(pool))?;
    let (service, desk) = DeskService::new(desk, host, rpc, source, Duration::from_secs(1));
    let the_core = Core {
        shard,
        ledger,
        outlet: WalletOutlet::new(
            core.clone(),
            desk.clone(),
            tokio::runtime::Handle::current(),
            checked.config.restore.birthday_height.unwrap_or_default(),
        ),
        log: opened.log,
        reader: opened.reader.clone(),
        inbox: outbox,
        mail: std::collections::VecDeque::new(),
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
        payments: std::collections::BTreeMap::new(),
        inbound: std::collections::BTreeMap::new(),
        agreed: std::collections::BTreeMap::new(),
        snapshot_wanted: false,
        pruned_ms: 0,
        began: std::time::Instant::now(),
        stopping: false,
    };
    let core_thread = thread("wallet-core", move || the_core.run())?;
    // Watches are asked for before the first block is read: requests go first (see the desk's page), and this waits until
    // the core's start has sent them.
    let _ = core.ask(|_| ()).await;
    let desk_task = tokio::spawn(service.run(first));
    Ok(Running {
        core,
        desk,
        reader: opened.reader,
        durable: durable_seen,
        next_event: next_event_seen,
        signer,
        core_thread,
        journal_thread,
        desk_task,
        _data: data,
    })
}

fn thread<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, StartError> {
    std::thread::Builder::new().name(name.to_owned()).spawn(body).map_err(StartError::Thread)
}

fn chain_source(checked: &Checked) -> (RpcClient, RpcSource) {
    let bitcoind = &checked.config.bitcoind;
    let auth = if bitcoind.cookie.is_empty() {
        Auth::UserPassword { user: bitcoind.user.clone(), password: bitcoind.password.clone() }
    } else {
        Auth::Cookie(Path::new(&bitcoind.cookie).to_owned())
    };
    // One connection is enough for a wallet, and many wallets may share a node.
    let rpc = RpcClient::new(RpcConfig { connections: 1, ..RpcConfig::new(bitcoind.url.clone(), auth) });
    let waiting = Waiting::Poll { every: Duration::from_millis(bitcoind.poll_ms) };
    (rpc.clone(), RpcSource::new(rpc, checked.network, waiting))
}

/// A node of another network, pruned or too old is no node of this wallet's.
async fn check_node(rpc: &RpcClient, checked: &Checked) -> Result<(), StartError> {
    let named = |source| StartError::Bitcoind { url: checked.config.bitcoind.url.clone(), source };
    rpc.check_node(checked.network).await.map(|_| ()).map_err(named)
}

/// A new wallet has nothing in blocks that are final; a restored one begins before it had anything.
async fn first_memory(source: &RpcSource, checked: &Checked) -> Result<ChainMemory, StartError> {
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

async fn make_epoch_durable(
    log: &Log,
    epoch: u64,
    mut durable: watch::Receiver<Position>,
) -> Result<(), StartError> {
    let value = Some(epoch.to_be_bytes().to_vec());
    let row = Retained { table: EPOCH, key: b"epoch".to_vec(), value };
    let position = log.append(Batch { retained: vec![row], ..Batch::default() })?;
    durable.wait_for(|durable| *durable >= position).await.map_err(|_| journal::Closed)?;
    Ok(())
}

impl Running {
    /// A clean stop: the journal holds snapshots only when this returns.
    pub async fn stop(self) -> Result<(), String> {
        let _ = self.desk.stop().await;
        let end = self.desk_task.await;
        self.core.send(CoreMail::Stop);
        let core = tokio::task::spawn_blocking(move || self.core_thread.join());
        let core = core.await.map_err(|error| error.to_string())?;
        let core = core.map_err(|_| "the core's thread panicked".to_owned())?;
        drop(self.reader);
        // The journal ends too: the core closed it, or found it closed. Its own fault is the cause, so it is named first.
        let journal = tokio::task::spawn_blocking(move || self.journal_thread.join());
        let journal = journal.await.map_err(|error| error.to_string())?;
        journal
            .map_err(|_| "the journal's thread panicked".to_owned())?
            .map_err(|fault| fault.to_string())?;
        core.map_err(|fault| fault.to_string())?;
        match end {
            Ok(DeskEnd::Stopped) => Ok(()),
            Ok(DeskEnd::Follow(error)) => Err(error.to_string()),
            Ok(DeskEnd::Desk(error)) => Err(error.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Whether something that must run has ended by itself.
    pub fn faulted(&self) -> bool {
        self.core_thread.is_finished() || self.journal_thread.is_finished() || self.desk_task.is_finished()
    }
}

/// What the desk needs of this process.
struct WalletDeskHost {
    core: CoreHandle,
    log: Log,
    records: Arc<Mutex<MachineLog>>,
    durable: watch::Receiver<Position>,
}

impl DeskHost for WalletDeskHost {
    async fn deliver(&self, commands: Vec<(OwnerId, Command)>) {
        let (done, delivered) = oneshot::channel();
        self.core.send(CoreMail::Deliver { commands, done });
        let _ = delivered.await;
    }

    async fn height(&self, height: u32, _: u32) {
        let set = move |core: &mut Core| {
            core.height = height;
            core.mail.push_back(Mail::Height(height));
        };
        let _ = self.core.ask(set).await;
    }

    fn append(
        &self,
        records: Vec<Vec<u8>>,
        snapshot: Option<Vec<u8>>,
    ) -> impl Future<Output = Result<(), Stopping>> + Send {
        let mut batch = Batch::default();
        let position = {
            let mut log = self.records.lock().unwrap_or_else(PoisonError::into_inner);
            for record in records {
                log.record(&mut batch, |out| out.extend_from_slice(&record));
            }
            if let Some(payload) = snapshot {
                use bitcoin::hashes::{Hash, sha256};
                let hash = sha256::Hash::hash(&payload).to_byte_array();
                batch.snapshots.push(log.snapshot(payload, hash));
            }
            self.log.append(batch)
        };
        let mut durable = self.durable.clone();
        async move {
            let position = position.map_err(|_| Stopping)?;
            durable.wait_for(|durable| *durable >= position).await.map_err(|_| Stopping)?;
            Ok(())
        }
    }

    fn randomness(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        rand::rngs::OsRng.fill_bytes(&mut bytes);
        bytes
    }

    fn unix_seconds(&self) -> u64 {
        // A clock before 1970 is wrong; nothing here depends on how wrong.
        std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs()
    }

    fn report(&self, report: DeskReport) {
        match report {
            DeskReport::Trouble { what } => tracing::error!(%what, "the desk needs a person"),
            DeskReport::PublishRefused { txid, why } => {
                tracing::warn!(%txid, %why, "bitcoind refused a transaction")
            }
            DeskReport::FundingRefused { owner, why } => tracing::warn!(owner = owner.0, %why, "no funding"),
            DeskReport::Suspended { .. } => tracing::error!("the hub proved that this wallet lost data"),
            DeskReport::Held { owner } => {
                tracing::error!(owner = owner.0, "a close waits for you to release it")
            }
            DeskReport::ReserveShort { reserve } => tracing::warn!(
                confirmed_coins = reserve.confirmed_coins,
                needed_coins = reserve.needed_coins,
                available = %reserve.available,
                needed = %reserve.needed,
                "too few coins are left to close channels with: send more to this wallet"
            ),
            DeskReport::CommitmentSent { .. }
            | DeskReport::ClaimSent { .. }
            | DeskReport::ReserveWhole { .. }
            | DeskReport::FundingBuilt { .. }
            | DeskReport::BatchMade { .. }
            | DeskReport::Confirmed { .. }
            | DeskReport::Published { .. } => tracing::info!(?report, "desk"),
        }
    }
}
