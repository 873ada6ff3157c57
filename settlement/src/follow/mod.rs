//! Following the chain block by block.
//!
//! [`Follower::next`] hands out [`ChainStep`]s: each `Connected` block's parent is the block that the steps before it
//! ended at, each `Disconnected` block is the one they ended at. Nothing is skipped or repeated, whatever bitcoind
//! does meanwhile: being down, slow, restarted, behind, or reorganising between two calls. A reorganisation of a final
//! block is the one thing it cannot follow; it stops and says so ([`FollowError::TooDeep`]).
//!
//! The follower keeps no disk state. The caller journals its [`ChainMemory`] once a block and starts the next
//! follower from it.

mod memory;
mod source;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::{Block, BlockHash};
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use memory::{BlockRef, ChainMemory, MemoryError};
pub use source::{BlockSource, RpcSource, SourceTip, Waiting};

use crate::limits;
use crate::rpc::RpcError;

/// One step of the chain.
#[derive(Debug, Clone)]
pub enum ChainStep {
    /// A block joined the best chain.
    Connected {
        /// Its height.
        height: u32,
        /// Its hash.
        hash: BlockHash,
        /// Its parent, the tip until now.
        prev: BlockHash,
        /// Its header's time, seconds since 1970; it may lie before its parent's.
        time: u32,
        /// The whole block.
        block: Arc<Block>,
    },
    /// The tip left the best chain.
    Disconnected {
        /// Its height.
        height: u32,
        /// Its hash.
        hash: BlockHash,
    },
}

/// How the follower is doing, for operators and health checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FollowStatus {
    /// No word from bitcoind yet.
    Starting,
    /// Blocks are being read.
    CatchingUp {
        /// The follower's tip.
        at: BlockRef,
    },
    /// At the node's tip.
    Synced {
        /// The common tip.
        at: BlockRef,
    },
    /// The node itself is still behind us (it resyncs, rebuilds its index, or lost blocks); we wait.
    NodeBehind {
        /// The follower's tip.
        at: BlockRef,
        /// The node's height.
        node_height: u32,
    },
    /// The node cannot be used at the moment; we try again and again.
    Unavailable {
        /// The follower's tip.
        at: BlockRef,
        /// The last error.
        error: RpcError,
        /// Attempts since it last worked.
        attempts: u32,
    },
}

impl FollowStatus {
    /// What keeps the chain from being followed, for people; the same words for the same trouble. None when all is
    /// well.
    pub fn trouble(&self) -> Option<String> {
        match self {
            FollowStatus::Starting => Some("bitcoind has not answered yet".to_owned()),
            FollowStatus::CatchingUp { .. } | FollowStatus::Synced { .. } => None,
            FollowStatus::NodeBehind { at, .. } => {
                Some(format!("bitcoind is behind, below height {}, which was seen already", at.height))
            }
            FollowStatus::Unavailable { error, .. } => Some(format!("bitcoind cannot be used: {error}")),
        }
    }
}

/// Why following ended. Transient trouble never ends it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FollowError {
    /// The best chain no longer holds a block that was final. What was settled on it may be undone: the operator
    /// must decide.
    #[error("block {height} ({hash}) was final but left the best chain: reorganisation too deep, stopping")]
    TooDeep {
        /// The final block's height.
        height: u32,
        /// The final block's hash.
        hash: BlockHash,
    },
}

/// Follows the best chain of one [`BlockSource`].
pub struct Follower<S> {
    source: Arc<S>,
    memory: ChainMemory,
    /// Blocks fetched but not yet handed out, in order.
    ahead: VecDeque<(BlockHash, Arc<Block>)>,
    /// The source said at the last look that our tip is not in its best chain.
    tip_is_stale: bool,
    status: watch::Sender<FollowStatus>,
    attempts: u32,
    /// The node that answers was found to be one we may follow. Until then nothing it says counts.
    checked: bool,
}

/// What one look at the source showed.
enum Look {
    Ahead(Vec<BlockHash>),
    AtTip,
    Stale,
    Behind { node_height: u32 },
}

impl<S: BlockSource> Follower<S> {
    /// Follows `source` from the remembered tip.
    pub fn new(source: S, memory: ChainMemory) -> Self {
        Self {
            source: Arc::new(source),
            memory,
            ahead: VecDeque::new(),
            tip_is_stale: false,
            status: watch::Sender::new(FollowStatus::Starting),
            attempts: 0,
            checked: false,
        }
    }

    /// A memory for whoever has none yet: it starts `final_depth` blocks below the tip, so that what is not final yet
    /// can be reorganised, or at the genesis block.
    pub async fn starting_memory(source: &S, final_depth: u32) -> Result<ChainMemory, RpcError> {
        let tip = source.tip().await?;
        let height = tip.block.height.saturating_sub(final_depth);
        let hashes = source.hashes(height..height.saturating_add(1)).await?;
        let hash = hashes.first().copied().ok_or(RpcError::Malformed {
            method: "getblockhash",
            reason: format!("no block at height {height} below the tip"),
        })?;
        Ok(ChainMemory::starting_at(BlockRef { height, hash }, final_depth))
    }

    /// What the follower remembers, as of the last step handed out.
    pub fn memory(&self) -> &ChainMemory {
        &self.memory
    }

    /// Watches how the follower is doing.
    pub fn status(&self) -> watch::Receiver<FollowStatus> {
        self.status.subscribe()
    }

    /// The next step; waits for it as long as it takes. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<ChainStep, FollowError> {
        loop {
            if let Some(step) = self.take_ready()? {
                return Ok(step);
            }
            match self.look_further().await {
                Ok(()) => self.attempts = 0,
                Err(error) => self.pause_after(error).await,
            }
        }
    }

    /// The step that follows from what was read already.
    fn take_ready(&mut self) -> Result<Option<ChainStep>, FollowError> {
        let tip = self.memory.tip();
        if self.tip_is_stale {
            self.memory
                .disconnect(tip)
                .map_err(|_| FollowError::TooDeep { height: tip.height, hash: tip.hash })?;
            self.tip_is_stale = false;
            self.ahead.clear();
            return Ok(Some(ChainStep::Disconnected { height: tip.height, hash: tip.hash }));
        }
        let Some((hash, block)) = self.ahead.pop_front() else { return Ok(None) };
        if block.header.prev_blockhash != tip.hash {
            // The chain changed while the hashes were read; look again.
            self.ahead.clear();
            return Ok(None);
        }
        let height = tip.height + 1;
        self.memory.connect(BlockRef { height, hash }).expect("the height after the tip's");
        let (prev, time) = (tip.hash, block.header.time);
        Ok(Some(ChainStep::Connected { height, hash, prev, time, block }))
    }

    /// Reads on: fetches blocks, notices that the tip is stale, or waits for news.
    async fn look_further(&mut self) -> Result<(), RpcError> {
        if !self.checked {
            self.source.check().await?;
            self.checked = true;
        }
        let at = self.memory.tip();
        match look(self.source.as_ref(), at, self.memory.base().height).await? {
            Look::Ahead(hashes) => {
                self.report(FollowStatus::CatchingUp { at });
                self.ahead = fetch(&self.source, hashes).await?;
            }
            Look::Stale => {
                // Another node may answer at the same address by now: its chain is no reorganisation of ours.
                self.source.check().await?;
                self.tip_is_stale = true;
            }
            Look::AtTip => {
                self.report(FollowStatus::Synced { at });
                self.source.wait(at.hash).await?;
            }
            Look::Behind { node_height } => {
                self.report(FollowStatus::NodeBehind { at, node_height });
                tokio::time::sleep(limits::RETRY_MAX).await;
            }
        }
        Ok(())
    }

    /// Shows the error, waits a while and makes sure that the node which answers next is one we may follow.
    async fn pause_after(&mut self, error: RpcError) {
        self.attempts = self.attempts.saturating_add(1);
        if self.attempts == 1 {
            tracing::warn!(%error, "bitcoind cannot be used, trying again");
        }
        let at = self.memory.tip();
        self.report(FollowStatus::Unavailable { at, error, attempts: self.attempts });
        tokio::time::sleep(backoff(self.attempts)).await;
        while let Err(error) = self.source.check().await {
            self.attempts = self.attempts.saturating_add(1);
            self.report(FollowStatus::Unavailable { at, error, attempts: self.attempts });
            tokio::time::sleep(backoff(self.attempts)).await;
        }
    }

    fn report(&self, status: FollowStatus) {
        self.status.send_if_modified(|old| {
            let changed = *old != status;
            *old = status;
            changed
        });
    }
}

/// Compares the source's best chain with our tip. A chain that ends below our final block (`base`) is no reorganisation,
/// for one has more work than what it replaces: the node lost its data or was exchanged, and will catch up.
async fn look<S: BlockSource>(source: &S, at: BlockRef, base: u32) -> Result<Look, RpcError> {
    let ahead = u32::try_from(limits::BLOCKS_AHEAD).unwrap_or(1);
    let end = at.height.saturating_add(1).saturating_add(ahead);
    let mut hashes = source.hashes(at.height..end).await?;
    if hashes.first() == Some(&at.hash) {
        hashes.remove(0);
        return Ok(if hashes.is_empty() { Look::AtTip } else { Look::Ahead(hashes) });
    }
    let tip = source.tip().await?;
    let height = tip.block.height;
    if height < base || (tip.syncing && height < at.height) {
        return Ok(Look::Behind { node_height: height });
    }
    Ok(Look::Stale)
}

/// Fetches the blocks side by side and returns them in the order asked for.
async fn fetch<S: BlockSource>(
    source: &Arc<S>,
    hashes: Vec<BlockHash>,
) -> Result<VecDeque<(BlockHash, Arc<Block>)>, RpcError> {
    let mut tasks = JoinSet::new();
    for (index, hash) in hashes.iter().copied().enumerate() {
        let source = Arc::clone(source);
        tasks.spawn(async move { (index, source.block(hash).await) });
    }
    let mut blocks: Vec<Option<Arc<Block>>> = vec![None; hashes.len()];
    while let Some(joined) = tasks.join_next().await {
        let (index, block) = joined.map_err(|error| RpcError::Unreachable { reason: error.to_string() })?;
        blocks[index] = Some(block?);
    }
    Ok(hashes.into_iter().zip(blocks.into_iter().flatten()).collect())
}

fn backoff(attempts: u32) -> Duration {
    let doublings = attempts.saturating_sub(1).min(16);
    limits::RETRY_FIRST.saturating_mul(1 << doublings).min(limits::RETRY_MAX)
}
