//! The desk's way into the rest of the process: commands to channels, rows to the log, chance, and reports.

use std::future::Future;
use std::sync::{Mutex, PoisonError};

use channel::event::Command;
use channel::ids::OwnerId;
use daemon::rising::Rising;
use daemon::world::World;
use journal::{Batch, Log, Position};
use settlement::desk::DeskReport;
use settlement::desk::service::{DeskHost, Stopping};
use shard::{MachineLog, Mail};
use tokio::sync::oneshot;

use super::{Core, CoreHandle, CoreMail};

/// What the desk needs of this process.
pub struct WalletDeskHost {
    core: CoreHandle,
    log: Log,
    records: Mutex<MachineLog>,
    durable: Rising<Position>,
    world: World,
}

impl WalletDeskHost {
    /// `records` is the desk's machine as it was found in the journal.
    pub fn new(
        core: CoreHandle,
        log: Log,
        records: MachineLog,
        durable: Rising<Position>,
        world: World,
    ) -> Self {
        WalletDeskHost { core, log, records: Mutex::new(records), durable, world }
    }
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
        let durable = self.durable.clone();
        async move {
            let position = position.map_err(|_| Stopping)?;
            durable.reaches(position).await.map_err(|_| Stopping)?;
            Ok(())
        }
    }

    fn randomness(&self) -> [u8; 32] {
        self.world.random()
    }

    fn unix_seconds(&self) -> u64 {
        self.world.now_ms() / 1_000
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
