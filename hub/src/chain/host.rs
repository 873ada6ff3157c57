//! The desk's host: commands go to the shards, rows into the one log, news to everybody.

use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bitcoin::hashes::{Hash, sha256};
use bitcoin::{Amount, BlockHash, FeeRate};
use channel::event::Command;
use channel::ids::{ChannelId, OwnerId};
use channel::seed_signer::SeedSigner;
use daemon::rising::Rising;
use daemon::world::World;
use journal::{Batch, Content, Log, Position, ReadError, Recovery, TryAppendError};
use settlement::desk::service::{DeskHandle, DeskHost, Stopping};
use settlement::desk::{Breaker, DeskConfig, DeskReport, DeskRequest, RecordError, Replay, ReservePolicy};
use settlement::fees::FeeBounds;
use settlement::follow::{BlockRef, ChainMemory};
use settlement::onchain::AddressKind;
use shard::{MachineLog, Mail, Reply, ReplyTo};
use tokio::sync::oneshot;
use tracing::{debug, error, info, warn};

use crate::config;
use crate::control::{ControlMail, DESK_MACHINE};
use crate::directory::Directory;
use crate::events::HubHappening;
use crate::mailboxes::Mailboxes;
use crate::router::Tip;

/// How long to wait before the log's full queue is tried again.
const QUEUE_RETRY: Duration = Duration::from_millis(5);

/// What the desk works with.
pub struct ChainHost {
    pub mailboxes: Mailboxes,
    pub log: Log,
    pub durable: Rising<Position>,
    pub tip: Arc<Tip>,
    pub directory: Arc<Directory>,
    pub machine: Mutex<MachineLog>,
    pub world: World,
    /// Set once the desk's service is made.
    pub desk: Arc<OnceLock<DeskHandle>>,
}

/// The desk's part of the journal.
pub struct DeskState {
    pub replay: Replay,
    pub machine: MachineLog,
}

#[derive(Debug, thiserror::Error)]
pub enum DeskRecoverError {
    #[error("the journal could not be read: {0}")]
    Read(#[from] ReadError),
    #[error("the settlement desk's rows: {0}")]
    Record(#[from] RecordError),
    #[error(transparent)]
    Gap(#[from] shard::Gap),
}

/// Reads the desk's rows back.
pub fn recover_desk(recovery: &Recovery) -> Result<DeskState, DeskRecoverError> {
    let mut replay = Replay::default();
    let mut machine = MachineLog::new(DESK_MACHINE);
    for snapshot in recovery.snapshots()? {
        let snapshot = snapshot?;
        if snapshot.machine == DESK_MACHINE
            && let Content::State { payload, .. } = &snapshot.content
        {
            replay = Replay::from_snapshot(payload)?;
            machine = MachineLog::at(DESK_MACHINE, snapshot.sequence);
        }
    }
    let mut records = recovery.records()?;
    while let Some(record) = records.next()? {
        if record.machine == DESK_MACHINE {
            machine.replay(&record)?;
            replay.apply(record.payload)?;
        }
    }
    Ok(DeskState { replay, machine })
}

/// The desk of this hub, and where a new one begins to follow the chain: at the genesis block, so that coins sent before
/// the first start are found and bitcoind need not be there.
pub fn desk_config(config: &config::Config, signer: &SeedSigner) -> (DeskConfig, ChainMemory) {
    let settlement = &config.settlement;
    let rate = |sat_per_vb: u64| FeeRate::from_sat_per_vb(sat_per_vb).unwrap_or(FeeRate::MAX);
    let floor = rate(settlement.feerate_floor_sat_per_vb);
    let ceiling = rate(settlement.feerate_ceiling_sat_per_vb);
    let desk = DeskConfig {
        network: config.network,
        master: signer.onchain_master(config.network),
        addresses: AddressKind::P2tr,
        address_gap: settlement.address_gap,
        final_depth: settlement.final_depth,
        fees: FeeBounds::new(floor, ceiling).unwrap_or_default(),
        max_batch_tickets: settlement.batch_max_channels,
        batch_patience_blocks: settlement.batch_patience_blocks,
        reserve: ReservePolicy {
            per_channel: Amount::from_sat(settlement.reserve_sat_per_channel),
            max_channels: settlement.reserve_max_channels,
        },
        breaker: Breaker {
            publications: settlement.breaker_publications,
            window_blocks: settlement.breaker_window_blocks,
        },
        proof_wait: Duration::from_secs(settlement.proof_wait_s),
    };
    let genesis = bitcoin::constants::genesis_block(config.network);
    let hash: BlockHash = genesis.block_hash();
    (desk, ChainMemory::starting_at(BlockRef { height: 0, hash }, settlement.final_depth))
}

impl ChainHost {
    /// A funding that its channel does not want any more leaves its coins free.
    fn refused(&self, owner: OwnerId, command: &Command, why: &shard::Refused) {
        debug!(owner = owner.0, %why, "a channel took no notice of the desk's news");
        let Some(desk) = self.desk.get() else { return };
        if matches!(why, shard::Refused::UnknownOwner(_)) {
            // It ended, and the hub died before the desk heard of it.
            desk.request(owner, DeskRequest::Forget);
        } else if let Command::FundingBuilt { transaction, .. } = command {
            let transaction = Some(transaction.clone());
            desk.request(owner, DeskRequest::ReleaseCoins { transaction });
        }
    }

    /// To those who follow events.
    fn tell(&self, happening: HubHappening) {
        self.mailboxes.control(ControlMail::Event(happening));
    }

    /// The same, of a channel that is still there.
    fn tell_of(&self, owner: OwnerId, happening: impl FnOnce(ChannelId) -> HubHappening) {
        if let Some(channel) = self.directory.name_of(owner) {
            self.tell(happening(channel));
        }
    }

    async fn wait_durable(&self, position: Position) -> Result<(), Stopping> {
        self.durable.reaches(position).await.map(|_| ()).map_err(|_| Stopping)
    }
}

impl DeskHost for ChainHost {
    /// Answers come once the inputs are durable, which is later than the desk asks for.
    async fn deliver(&self, commands: Vec<(OwnerId, Command)>) {
        let mut waiting = Vec::with_capacity(commands.len());
        for (owner, command) in commands {
            let (sender, answer) = oneshot::channel();
            let reply = ReplyTo::new(move |reply| {
                let _ = sender.send(reply);
            });
            let mail = Mail::Command { owner, command: command.clone(), reply: Some(reply) };
            self.mailboxes.owner(owner, mail);
            waiting.push((owner, command, answer));
        }
        for (owner, command, answer) in waiting {
            // No answer: the process is stopping, and the next start tells the channel again.
            if let Ok(Reply::Refused(why)) = answer.await {
                self.refused(owner, &command, &why);
            }
        }
    }

    async fn height(&self, height: u32, _block_time: u32) {
        self.tip.set(height);
        self.mailboxes.every_shard(|| Mail::Height(height));
    }

    async fn append(&self, records: Vec<Vec<u8>>, snapshot: Option<Vec<u8>>) -> Result<(), Stopping> {
        let mut batch = Batch::default();
        {
            let mut machine = self.machine.lock().unwrap_or_else(PoisonError::into_inner);
            for record in &records {
                machine.record(&mut batch, |out| out.extend_from_slice(record));
            }
            if let Some(payload) = snapshot {
                let hash = sha256::Hash::hash(&payload).to_byte_array();
                batch.snapshots.push(machine.snapshot(payload, hash));
            }
        }
        let position = loop {
            match self.log.try_append(batch) {
                Ok(position) => break position,
                Err(TryAppendError::Full(back)) => {
                    batch = back;
                    tokio::time::sleep(QUEUE_RETRY).await;
                }
                Err(TryAppendError::Closed(_)) => return Err(Stopping),
            }
        };
        self.wait_durable(position).await
    }

    fn randomness(&self) -> [u8; 32] {
        self.world.random()
    }

    fn unix_seconds(&self) -> u64 {
        self.world.now_ms() / 1000
    }

    fn report(&self, report: DeskReport) {
        match report {
            DeskReport::FundingBuilt { owner, txid, fee } => {
                info!(owner = owner.0, %txid, %fee, "funding built");
            }
            DeskReport::FundingRefused { owner, why } => warn!(owner = owner.0, why, "funding not built"),
            DeskReport::BatchMade { txid, channels, fee, replaces } => {
                info!(%txid, channels, %fee, ?replaces, "closing batch made");
                let channels = u32::try_from(channels).unwrap_or(u32::MAX);
                let happening = HubHappening::BatchMade { txid, channels, fee_sat: fee.to_sat() };
                self.tell(happening);
            }
            DeskReport::CommitmentSent { owner, txid, child, fee, replaces } => {
                warn!(owner = owner.0, %txid, %child, %fee, ?replaces, "a channel is closed by its commitment");
                let fee_sat = fee.to_sat();
                self.tell_of(owner, |channel| HubHappening::CommitmentSent {
                    channel,
                    txid,
                    child,
                    fee_sat,
                    replaces,
                });
            }
            DeskReport::ClaimSent { txid, outputs, fee, replaces } => {
                info!(%txid, outputs, %fee, ?replaces, "outputs of closed channels are taken");
                let outputs = u32::try_from(outputs).unwrap_or(u32::MAX);
                self.tell(HubHappening::ClaimSent { txid, outputs, fee_sat: fee.to_sat(), replaces });
            }
            DeskReport::Suspended { by } => {
                error!(
                    owner = by.0,
                    "a wallet proved that this hub lost data: channels that no wallet confirms are not closed until an \
                     operator resumes publishing"
                );
                self.tell_of(by, |by| HubHappening::PublishingSuspended { by });
            }
            DeskReport::Held { owner } => {
                error!(
                    owner = owner.0,
                    "too many channels are to be closed at once: this one waits for an operator"
                );
                self.tell_of(owner, |channel| HubHappening::PublishingHeld { channel });
            }
            DeskReport::ReserveShort { reserve } => {
                warn!(
                    confirmed_coins = reserve.confirmed_coins,
                    needed_coins = reserve.needed_coins,
                    available = %reserve.available,
                    needed = %reserve.needed,
                    "too few coins are left to close channels with: send more to this hub"
                );
                self.tell(HubHappening::Reserve(reserve.into()));
            }
            DeskReport::ReserveWhole { reserve } => {
                info!("there are coins enough to close channels with");
                self.tell(HubHappening::Reserve(reserve.into()));
            }
            DeskReport::Confirmed { txid, height } => info!(%txid, height, "confirmed"),
            DeskReport::Published { txid } => info!(%txid, "published"),
            DeskReport::PublishRefused { txid, why } => warn!(%txid, why, "not published yet"),
            DeskReport::Trouble { what } => error!(what, "the settlement desk needs a person to look"),
        }
    }
}

/// How bitcoind is called.
pub fn rpc_config(bitcoind: &config::Bitcoind) -> settlement::rpc::RpcConfig {
    use settlement::rpc::{Auth, RpcConfig};
    let auth = if bitcoind.user.is_empty() {
        Auth::Cookie(Path::new(&bitcoind.cookie_file).to_owned())
    } else {
        Auth::UserPassword { user: bitcoind.user.clone(), password: bitcoind.password.clone() }
    };
    RpcConfig { connections: bitcoind.connections, ..RpcConfig::new(bitcoind.url.clone(), auth) }
}
