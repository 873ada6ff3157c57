//! bitcoind, the desk and what connects them to the rest.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bitcoin::Network;
use settlement::desk::Desk;
use settlement::desk::service::{DeskEnd, DeskHandle, DeskService};
use settlement::follow::{BlockSource, FollowStatus, RpcSource, Waiting};
use settlement::limits::{RETRY_FIRST, RETRY_MAX};
use settlement::pool::VerifyPool;
use settlement::rpc::RpcClient;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::chain::{ChainHost, DeskState, Terms, ToDesk, desk_config, forward_requests, rpc_config};
use crate::config::Config;
use crate::recover::Shared;
use crate::stop::{Exit, Failed};
use crate::threads::{EndTeller, Ended, Who};

/// The chain's side of a running hub.
pub struct ChainSide {
    pub desk: DeskHandle,
    /// Told when bitcoind can never serve: another network, pruned, too old.
    pub wrong: mpsc::Receiver<Failed>,
}

/// The node a hub works with, and who verifies what is sent there.
pub struct Node<S> {
    pub rpc: RpcClient,
    pub source: S,
    pub pool: VerifyPool,
}

impl Node<RpcSource> {
    /// The bitcoind that is configured, verification on all cores.
    pub fn bitcoind(config: &Config) -> Result<Self, Failed> {
        let rpc = RpcClient::new(rpc_config(&config.bitcoind));
        let source = RpcSource::new(rpc.clone(), config.network, Waiting::LongPoll);
        let pool = VerifyPool::new(None).map_err(Failed::with(Exit::CannotStart))?;
        Ok(Node { rpc, source, pool })
    }
}

/// What the desk is fed from.
pub struct FromJournal {
    pub state: DeskState,
    pub to_desk: mpsc::UnboundedReceiver<ToDesk>,
    /// One for each snapshot of the desk that the journal wants.
    pub desk_snapshots: mpsc::UnboundedReceiver<()>,
}

impl ChainSide {
    /// Starts the desk. It works as soon as the node has answered and is the right one.
    pub fn start<S: BlockSource>(
        config: &Config,
        shared: &Shared,
        node: Node<S>,
        from: FromJournal,
        ends: &mpsc::UnboundedSender<Ended>,
        stopping: CancellationToken,
    ) -> Result<ChainSide, Failed> {
        let Node { rpc, source, pool } = node;
        let (desk_config, start) = desk_config(config, &shared.signer);
        let fees = desk_config.fees;
        let DeskState { replay, machine } = from.state;
        let (desk, first) = Desk::open(desk_config, replay, start, shared.signer.clone(), Arc::new(pool))
            .map_err(Failed::with(Exit::CannotStart))?;
        let handle = Arc::new(OnceLock::new());
        let host = ChainHost {
            mailboxes: shared.mailboxes.clone(),
            log: shared.log.clone(),
            durable: shared.durable.clone(),
            tip: shared.tip.clone(),
            directory: shared.directory.clone(),
            machine: Mutex::new(machine),
            world: shared.world.clone(),
            desk: handle.clone(),
        };
        let wait = Duration::from_millis(config.settlement.batch_wait_ms);
        let (service, desk) = DeskService::new(desk, host, rpc.clone(), source, wait);
        let _ = handle.set(desk.clone());
        let (tell_wrong, wrong) = mpsc::channel(1);
        let (network, checked, end) = (config.network, rpc.clone(), EndTeller::new(Who::Desk, ends.clone()));
        tokio::spawn(async move {
            tokio::select! {
                biased;
                // A desk that is to stop needs no chain for it.
                () = stopping.cancelled() => {}
                answered = wait_for_node(&checked, network) => if let Err(failed) = answered {
                    // The follower takes nothing of such a node either; the desk only answers until it is stopped.
                    let _ = tell_wrong.send(failed).await;
                }
            }
            let ended = service.run(first).await;
            let fault = match ended {
                DeskEnd::Stopped => None,
                DeskEnd::Follow(_) | DeskEnd::Desk(_) => Some(ended.to_string()),
            };
            end.tell(fault, None);
        });
        let terms = Terms { rpc, fees, publish_within_blocks: config.settlement.publish_within_blocks };
        tokio::spawn(forward_requests(from.to_desk, desk.clone(), shared.mailboxes.clone(), terms));
        tokio::spawn(take_snapshots(desk.clone(), from.desk_snapshots));
        tokio::spawn(tell_status(desk.clone()));
        Ok(ChainSide { desk, wrong })
    }
}

/// Asks until bitcoind answers; an answer that no later one can mend is a failure.
async fn wait_for_node(rpc: &RpcClient, network: Network) -> Result<(), Failed> {
    let mut pause = RETRY_FIRST;
    loop {
        match rpc.check_node(network).await {
            Ok(_) => return Ok(()),
            Err(error) if error.is_transient() => {
                warn!(%error, "bitcoind does not serve yet: trying again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RETRY_MAX);
            }
            Err(error) => return Err(Failed::new(Exit::WrongChain, error)),
        }
    }
}

/// Snapshots of the desk when the journal wants them.
async fn take_snapshots(desk: DeskHandle, mut wanted: mpsc::UnboundedReceiver<()>) {
    while wanted.recv().await.is_some() {
        // What was asked meanwhile is served by this one.
        while wanted.try_recv().is_ok() {}
        if desk.snapshot().await.is_err() {
            return;
        }
    }
}

/// Says in the log whenever bitcoind's state changes.
async fn tell_status(desk: DeskHandle) {
    let mut told = None;
    let mut ticks = tokio::time::interval(crate::limits::STATUS_INTERVAL);
    loop {
        ticks.tick().await;
        let status = desk.status();
        let height = match &status {
            FollowStatus::Starting | FollowStatus::CatchingUp { .. } => continue,
            FollowStatus::Synced { at }
            | FollowStatus::NodeBehind { at, .. }
            | FollowStatus::Unavailable { at, .. } => at.height,
        };
        let trouble = status.trouble();
        if told.as_ref() != Some(&trouble) {
            match &trouble {
                None => info!(height, "at the chain's tip"),
                Some(trouble) => warn!("{trouble}; what needs no chain goes on"),
            }
            told = Some(trouble);
        }
    }
}
