//! Starting and stopping a wallet of this machine: its journal in a file, its node over RPC, and the threads.

use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use daemon::world::World;
use journal::{Journal, OpenError, Options};
use settlement::desk::service::DeskEnd;
use settlement::follow::{RpcSource, Waiting};
use settlement::pool::VerifyPool;
use settlement::rpc::{Auth, RpcClient, RpcConfig, RpcError};

use super::assemble::{Assembled, Handles, Parts, assemble, header};
use super::{CoreFault, CoreMail};
use crate::config::Checked;
use crate::data_dir::DataDir;
use crate::ledger::RestoreError;

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
    pub handles: Handles,
    core_thread: JoinHandle<Result<(), CoreFault>>,
    journal_thread: JoinHandle<Result<(), journal::Fault>>,
    desk_task: tokio::task::JoinHandle<DeskEnd>,
    /// Kept locked until everything has ended.
    _data: DataDir,
}

/// Opens the journal and starts everything but the connection to the hub and the wallet's own service.
pub async fn start(checked: &Checked, data: DataDir, seed: &[u8; 64]) -> Result<Running, StartError> {
    let opened = Journal::open(&data.layout().journal(), &header(checked, seed), Options::small())?;
    let (rpc, source) = chain_source(checked);
    let one = std::num::NonZeroUsize::new(1);
    let pool = VerifyPool::new(one).map_err(|error| StartError::Pool(error.to_string()))?;
    let parts = Parts { opened, rpc, source, pool, world: World::real() };
    let Assembled { handles, core, committer, commits, desk } = assemble(checked, seed, parts).await?;
    let journal_thread = thread("wallet-journal", move || {
        let finished = committer.run(|commit| commits.note(commit));
        finished.map(|_| ())
    })?;
    let core_thread = thread("wallet-core", move || core.run())?;
    // Watches are asked for before the first block is read: requests go first (see the desk's page), and this waits until
    // the core's start has sent them.
    let _ = handles.core.ask(|_| ()).await;
    let desk_task = tokio::spawn(desk);
    Ok(Running { handles, core_thread, journal_thread, desk_task, _data: data })
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

impl Running {
    /// A clean stop: the journal holds snapshots only when this returns.
    pub async fn stop(self) -> Result<(), String> {
        let _ = self.handles.desk.stop().await;
        let end = self.desk_task.await;
        self.handles.core.send(CoreMail::Stop);
        let core = tokio::task::spawn_blocking(move || self.core_thread.join());
        let core = core.await.map_err(|error| error.to_string())?;
        let core = core.map_err(|_| "the core's thread panicked".to_owned())?;
        drop(self.handles);
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
