//! A running desk, from outside.

use bitcoin::{Address, FeeRate, Transaction, Txid};
use channel::ids::OwnerId;
use tokio::sync::{mpsc, oneshot, watch};

use super::Stopping;
use crate::desk::lookback::LookBack;
use crate::desk::{BumpError, Bumped, DeskRequest, DeskSummary, OnchainStatus, Scan, ScanError};
use crate::follow::FollowStatus;
use crate::rpc::UtxoScan;
use crate::verify::ParentSource;

/// Which commitment to pay for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BumpTarget {
    /// One of ours, or one that the node's mempool holds.
    Txid(Txid),
    /// This one, whoever has it.
    Transaction(Box<Transaction>),
}

/// What is asked of a running desk.
pub(super) enum Ask {
    Channel(OwnerId, DeskRequest),
    NewAddress(oneshot::Sender<Address>),
    Summary(oneshot::Sender<DeskSummary>),
    Status(oneshot::Sender<Vec<OnchainStatus>>),
    Bump {
        target: BumpTarget,
        feerate: FeeRate,
        answer: oneshot::Sender<Result<Bumped, BumpError>>,
    },
    /// The same, once the transaction to pay for is known.
    BumpFound {
        parent: Box<Transaction>,
        source: ParentSource,
        feerate: FeeRate,
        answer: oneshot::Sender<Result<Bumped, BumpError>>,
    },
    /// A search stands at the node's tip.
    LookedBack(Box<LookBack>),
    Scan {
        owner: OwnerId,
        answer: oneshot::Sender<Result<Scan, ScanError>>,
    },
    /// The same, once the node has answered.
    Scanned {
        owner: OwnerId,
        found: Box<UtxoScan>,
        answer: oneshot::Sender<Result<Scan, ScanError>>,
    },
    ReleaseHeld(oneshot::Sender<Vec<OwnerId>>),
    ResumePublishing(oneshot::Sender<bool>),
    Snapshot(oneshot::Sender<()>),
    Stop(oneshot::Sender<()>),
}

/// A running desk, from outside. Cheap to clone. Every answer rests on what is durable.
#[derive(Clone)]
pub struct DeskHandle {
    pub(super) asks: mpsc::UnboundedSender<Ask>,
    pub(super) status: watch::Receiver<FollowStatus>,
    pub(super) height: watch::Receiver<u32>,
}

impl DeskHandle {
    /// Passes on a channel's request. Never waits: channels are few requests in their whole life, and a shard must not
    /// block. Lost only when the desk ended; channels ask again after a restart.
    pub fn request(&self, owner: OwnerId, request: DeskRequest) {
        // A desk that ended is a process that is stopping.
        let _ = self.asks.send(Ask::Channel(owner, request));
    }

    /// An address never given out.
    pub async fn new_address(&self) -> Result<Address, Stopping> {
        self.ask(Ask::NewAddress).await
    }

    pub async fn summary(&self) -> Result<DeskSummary, Stopping> {
        self.ask(Ask::Summary).await
    }

    /// A peer of this channel proved that this party lost data: nothing is published by itself any more for channels that
    /// no peer confirmed. A repeat for a channel changes nothing, so a start may give it again.
    pub fn suspend(&self, owner: OwnerId) {
        self.request(owner, DeskRequest::Suspend);
    }

    /// A person ends the suspension. Gives whether there was one.
    pub async fn resume_publishing(&self) -> Result<bool, Stopping> {
        self.ask(Ask::ResumePublishing).await
    }

    /// A person lets every commitment through that waits because too many wanted to leave at once. Gives whose.
    pub async fn release_held(&self) -> Result<Vec<OwnerId>, Stopping> {
        self.ask(Ask::ReleaseHeld).await
    }

    /// What is on its way into the chain, and what the rest waits for; of every channel that wants something of it.
    pub async fn onchain_statuses(&self) -> Result<Vec<OnchainStatus>, Stopping> {
        self.ask(Ask::Status).await
    }

    /// Pays for a commitment, ours or anybody's, at this feerate (parent and child together).
    ///
    /// # Errors
    ///
    /// [`BumpError`]; nothing was sent.
    pub async fn bump(&self, target: BumpTarget, feerate: FeeRate) -> Result<Bumped, BumpError> {
        let asked = self.ask(|answer| Ask::Bump { target, feerate, answer }).await;
        asked.unwrap_or(Err(BumpError::Stopping))
    }

    /// Looks through the node's set of unspent outputs for balances that counterparties' commitments pay to this seed,
    /// whatever is known of their channels, and takes those that no channel's plan names. `owner` is a number that is no
    /// channel's: its plan they become, in place of an earlier scan's. In memory only: after a restart scan again.
    ///
    /// # Errors
    ///
    /// [`ScanError`]; nothing changed.
    pub async fn scan(&self, owner: OwnerId) -> Result<Scan, ScanError> {
        let asked = self.ask(|answer| Ask::Scan { owner, answer }).await;
        asked.unwrap_or(Err(ScanError::Stopping))
    }

    /// Journals a snapshot, so that the log before it can be trimmed.
    pub async fn snapshot(&self) -> Result<(), Stopping> {
        self.ask(Ask::Snapshot).await
    }

    /// Snapshots and ends.
    pub async fn stop(&self) -> Result<(), Stopping> {
        self.ask(Ask::Stop).await
    }

    /// How following is doing.
    pub fn status(&self) -> FollowStatus {
        self.status.borrow().clone()
    }

    /// The height of the last block taken in, as it changes.
    pub fn heights(&self) -> watch::Receiver<u32> {
        self.height.clone()
    }

    /// Resolves when the desk has caught up with its node once.
    pub async fn synced(&self) -> Result<(), Stopping> {
        let mut status = self.status.clone();
        status
            .wait_for(|status| matches!(status, FollowStatus::Synced { .. }))
            .await
            .map(|_| ())
            .map_err(|_| Stopping)
    }

    async fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Result<T, Stopping> {
        let (answer, answered) = oneshot::channel();
        self.asks.send(ask(answer)).map_err(|_| Stopping)?;
        answered.await.map_err(|_| Stopping)
    }
}
