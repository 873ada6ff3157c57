//! Where the follower gets blocks from: bitcoind, or a chain in memory for tests and the simulator.

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::{Block, BlockHash, Network};

use super::BlockRef;
use crate::limits;
use crate::rpc::{RpcClient, RpcError};

/// The tip of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceTip {
    /// The best block.
    pub block: BlockRef,
    /// True while the source itself is catching up, so that a tip below ours is no reorganisation.
    pub syncing: bool,
}

/// Answers about one best chain. The answers to two calls may belong to different chains.
pub trait BlockSource: Send + Sync + 'static {
    /// The best block.
    fn tip(&self) -> impl Future<Output = Result<SourceTip, RpcError>> + Send;

    /// Hashes of the best chain at `heights`, ending at the tip if that is lower.
    fn hashes(&self, heights: Range<u32>) -> impl Future<Output = Result<Vec<BlockHash>, RpcError>> + Send;

    /// The block with this hash.
    fn block(&self, hash: BlockHash) -> impl Future<Output = Result<Arc<Block>, RpcError>> + Send;

    /// Returns once the tip may be another than `known`.
    fn wait(&self, known: BlockHash) -> impl Future<Output = Result<(), RpcError>> + Send;

    /// Asked after an error: may this source be followed? It may be another node than before.
    fn check(&self) -> impl Future<Output = Result<(), RpcError>> + Send;
}

/// How to learn of a new block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// `waitfornewblock`: within a millisecond, at the price of one of bitcoind's 16 RPC threads. For the hub.
    LongPoll,
    /// `getbestblockhash` at this interval. For wallets, of which many may share a node.
    Poll {
        /// Time between two questions.
        every: Duration,
    },
}

/// bitcoind as a block source.
pub struct RpcSource {
    client: RpcClient,
    network: Network,
    waiting: Waiting,
}

impl RpcSource {
    /// Follows the node behind `client`, as long as it is on `network`.
    pub fn new(client: RpcClient, network: Network, waiting: Waiting) -> Self {
        Self { client, network, waiting }
    }
}

impl BlockSource for RpcSource {
    async fn tip(&self) -> Result<SourceTip, RpcError> {
        let info = self.client.get_blockchain_info().await?;
        Ok(SourceTip {
            block: BlockRef { height: info.blocks, hash: info.bestblockhash },
            syncing: info.initialblockdownload,
        })
    }

    async fn hashes(&self, heights: Range<u32>) -> Result<Vec<BlockHash>, RpcError> {
        self.client.get_block_hashes(heights).await
    }

    async fn block(&self, hash: BlockHash) -> Result<Arc<Block>, RpcError> {
        self.client.get_block(hash).await
    }

    async fn wait(&self, known: BlockHash) -> Result<(), RpcError> {
        loop {
            let tip = match self.waiting {
                Waiting::LongPoll => self.client.wait_for_new_block(known, limits::LONG_POLL).await?,
                Waiting::Poll { every } => {
                    tokio::time::sleep(every).await;
                    self.client.get_best_block_hash().await?
                }
            };
            if tip != known {
                return Ok(());
            }
        }
    }

    async fn check(&self) -> Result<(), RpcError> {
        self.client.check_node(self.network).await.map(|_| ())
    }
}
