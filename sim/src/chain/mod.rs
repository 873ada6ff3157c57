//! A simulated bitcoind: one chain, one mempool, and JSON-RPC in the same process.
//!
//! What it promises: the rules of consensus and of the mempool that decide over channels (lock times, values, scripts and
//! signatures by bitcoind's own interpreter; version 3, packages, replacements, ephemeral dust, clusters, the mempool's
//! minimum) in the order and in the words in which Bitcoin Core 31 has them. Answers are ready at once unless the node is
//! slow. Nothing depends on anything but the calls made and the [`Clock`]: no thread, no wall clock, no map in random order.
//!
//! What it does not have: peers, an index of transactions, the rules of script that only the mempool has
//! (but for low S), and mempool space as such: [`Pressure`] says what a full mempool would ask.

mod accept;
mod blocks;
mod consensus;
mod faucet;
mod linear;
mod mempool;
mod mine;
mod package;
mod policy;
mod reject;
mod rpc;
mod scripts;
mod state;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bitcoin::{Amount, Block, BlockHash, FeeRate, Network, OutPoint, Script, Transaction, TxOut, Txid};
use settlement::follow::{RpcSource, Waiting};
use settlement::rpc::RpcClient;
use tokio::sync::Notify;

pub use accept::Accepted;
pub use mine::{Keep, Mine};
pub use package::{Outcome, PackageOutcome};
pub use reject::{Reject, Truc};
pub use state::{Pressure, Submission};

use accept::{Intent, Way};
use state::State;

use crate::clock::Clock;
use crate::seed::Seed;

/// Blocks that every chain begins with, so that the faucet has ripe coins. They are never undone.
pub const FIRST_BLOCKS: u32 = 110;

/// Time between the first blocks, in milliseconds.
const FIRST_SPACING_MS: u64 = 600_000;

/// A simulated bitcoind. Clones are the same node.
#[derive(Clone)]
pub struct SimNode(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// A new tip, or the node went down. Waiters wake in the order in which they came, which a `watch` would not promise.
    changed: Notify,
    told: Mutex<Option<BlockHash>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a caller who knows this tip waits no longer.
    fn is_over(&self, label: &str, known: BlockHash) -> bool {
        let state = self.lock();
        state.is_down(label) || state.chain.tip() != known
    }

    /// Wakes whoever waits for another tip than the last one told.
    fn tell(&self, tip: BlockHash) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.replace(tip) != Some(tip) {
            self.changed.notify_waiters();
        }
    }
}

/// Where a transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whereabouts {
    /// In a block of the best chain.
    Confirmed {
        /// The block's height.
        height: u32,
        /// The block.
        block: BlockHash,
    },
    /// It waits for a block.
    Mempool,
    /// This node does not know it, any more or yet.
    Nowhere,
}

/// An output of the best chain that nothing in it spends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unspent {
    /// Which.
    pub outpoint: OutPoint,
    /// Amount and script.
    pub output: TxOut,
    /// Height of its block.
    pub height: u32,
    /// Made by a coinbase: it can be spent after 100 blocks.
    pub coinbase: bool,
}

impl SimNode {
    /// A node on regtest's genesis block and [`FIRST_BLOCKS`] more, the last of them now.
    pub fn new(seed: Seed, clock: Clock) -> SimNode {
        let mut state = State::new(seed, clock);
        for left in (0..u64::from(FIRST_BLOCKS)).rev() {
            state.behind_ms = left.saturating_mul(FIRST_SPACING_MS);
            state.mine(&Mine::nothing());
        }
        SimNode(Arc::new(Shared { state: Mutex::new(state), changed: Notify::new(), told: Mutex::new(None) }))
    }

    /// A client of this node, for the party with this name. Its answers are ready at once, except for `waitfornewblock`, and
    /// while the node is slow towards it.
    pub fn rpc_as(&self, label: &str) -> RpcClient {
        let (shared, label): (_, Arc<str>) = (Arc::clone(&self.0), label.into());
        RpcClient::in_process(move |body| {
            Box::pin(rpc::answer(Arc::clone(&shared), Arc::clone(&label), body))
        })
    }

    /// A client with no name.
    pub fn rpc(&self) -> RpcClient {
        self.rpc_as("")
    }

    /// Follows this node by `waitfornewblock`, for the party with this name.
    pub fn source_as(&self, label: &str) -> RpcSource {
        RpcSource::new(self.rpc_as(label), Network::Regtest, Waiting::LongPoll)
    }

    /// Follows this node with no name.
    pub fn source(&self) -> RpcSource {
        self.source_as("")
    }

    /// Makes a block.
    pub fn mine(&self, how: &Mine<'_>) -> BlockHash {
        let hash = self.0.lock().mine(how);
        self.0.tell(hash);
        hash
    }

    /// Makes so many blocks, each with all that waits.
    pub fn mine_blocks(&self, count: u32) {
        for _ in 0..count {
            self.mine(&Mine::default());
        }
    }

    /// Undoes `depth` blocks, as far as there are blocks after the first ones, and makes one more in their place, empty but
    /// for what `keep` says. Followers see one jump from the old tip to the new one.
    pub fn reorganise(&self, depth: u32, keep: Keep) -> Vec<BlockHash> {
        self.reorganise_with(depth, keep, &Mine::nothing())
    }

    /// The same; the first of the new blocks is made as `how` says: its [`Mine::include`] may hold what conflicts with what is
    /// undone.
    pub fn reorganise_with(&self, depth: u32, keep: Keep, how: &Mine<'_>) -> Vec<BlockHash> {
        let mut state = self.0.lock();
        let hashes = state.reorganise(depth, FIRST_BLOCKS, keep, how);
        let tip = state.chain.tip();
        drop(state);
        self.0.tell(tip);
        hashes
    }

    /// Pays `amount` to `script` in the next block, out of coins that nobody misses.
    pub fn fund(&self, script: &Script, amount: Amount) {
        let output = TxOut { value: amount, script_pubkey: script.into() };
        self.0.lock().faucet.waiting.push(output);
    }

    /// What the mempool takes and what estimates say. Drops at once what pays too little now.
    pub fn set_pressure(&self, pressure: Pressure) {
        let mut state = self.0.lock();
        state.note_minimum();
        state.pressure = pressure;
        state.note_minimum();
        state.trim();
    }

    /// The lowest feerate that the mempool took while it waited for one of the blocks of these heights.
    pub fn least_minimum(&self, heights: std::ops::RangeInclusive<u32>) -> FeeRate {
        let state = self.0.lock();
        state.minimums.range(heights).map(|(_, minimum)| *minimum).min().unwrap_or(FeeRate::ZERO)
    }

    /// While down, every call of the party with this name fails as unreachable, those under way too.
    pub fn set_down(&self, label: &str, down: bool) {
        self.0.lock().health.entry(label.to_owned()).or_default().down = down;
        self.0.changed.notify_waiters();
    }

    /// The same for everybody.
    pub fn set_all_down(&self, down: bool) {
        self.0.lock().down = down;
        self.0.changed.notify_waiters();
    }

    /// Every answer to the party with this name takes this long from now on. Longer than a deadline: it never comes.
    pub fn set_slow(&self, label: &str, slow: Option<Duration>) {
        self.0.lock().health.entry(label.to_owned()).or_default().slow = slow;
    }

    /// The node forgets what waits for a block, as after a restart.
    pub fn forget_mempool(&self) {
        let mut state = self.0.lock();
        let all = state.pool.txids();
        state.pool.remove_with_descendants(all);
    }

    /// `sendrawtransaction`, without the JSON.
    pub fn submit(&self, transaction: &Transaction) -> Result<Accepted, Reject> {
        self.0.lock().accept(&Arc::new(transaction.clone()), Way::Alone, Intent::Take)
    }

    /// What [`SimNode::submit`] would say now.
    pub fn test(&self, transaction: &Transaction) -> Result<Accepted, Reject> {
        self.0.lock().accept(&Arc::new(transaction.clone()), Way::Alone, Intent::Test)
    }

    /// `submitpackage`, without the JSON: parents first, the child last.
    pub fn submit_package(&self, package: &[&Transaction]) -> PackageOutcome {
        let package: Vec<Arc<Transaction>> = package.iter().map(|one| Arc::new((*one).clone())).collect();
        self.0.lock().accept_package(&package)
    }

    /// Height of the best block.
    pub fn height(&self) -> u32 {
        self.0.lock().chain.height()
    }

    /// The best block.
    pub fn tip(&self) -> BlockHash {
        self.0.lock().chain.tip()
    }

    /// The block of the best chain at this height.
    pub fn block(&self, height: u32) -> Option<Arc<Block>> {
        self.0.lock().chain.block_at(height).map(|stored| Arc::clone(&stored.block))
    }

    /// Where a transaction is.
    pub fn transaction(&self, txid: Txid) -> Whereabouts {
        let state = self.0.lock();
        let confirmed = state.chain.height_of(txid);
        match confirmed.and_then(|height| Some((height, state.chain.hash_at(height)?))) {
            Some((height, block)) => Whereabouts::Confirmed { height, block },
            None if state.pool.contains(&txid) => Whereabouts::Mempool,
            None => Whereabouts::Nowhere,
        }
    }

    /// A transaction in the chain or in the mempool.
    pub fn find(&self, txid: Txid) -> Option<Arc<Transaction>> {
        let state = self.0.lock();
        if let Some(entry) = state.pool.get(&txid) {
            return Some(Arc::clone(&entry.transaction));
        }
        let stored = state.chain.block_at(state.chain.height_of(txid)?)?;
        let found = stored.block.txdata.iter().find(|one| one.compute_txid() == txid)?;
        Some(Arc::new(found.clone()))
    }

    /// An output of the best chain that nothing in it spends.
    pub fn utxo(&self, outpoint: OutPoint) -> Option<Unspent> {
        let state = self.0.lock();
        let coin = state.chain.coin(&outpoint)?.clone();
        Some(Unspent { outpoint, output: coin.output, height: coin.height, coinbase: coin.coinbase })
    }

    /// Everything in the best chain that nothing in it spends and whose script is `mine`.
    pub fn unspent(&self, mine: impl Fn(&Script) -> bool) -> Vec<Unspent> {
        let state = self.0.lock();
        let found = state.chain.coins().filter(|(_, coin)| mine(&coin.output.script_pubkey));
        found
            .map(|(outpoint, coin)| Unspent {
                outpoint: *outpoint,
                output: coin.output.clone(),
                height: coin.height,
                coinbase: coin.coinbase,
            })
            .collect()
    }

    /// What spends an output, in the best chain or else in the mempool.
    pub fn spender_of(&self, outpoint: OutPoint) -> Option<Txid> {
        let state = self.0.lock();
        state.chain.spender(&outpoint).or_else(|| state.pool.spender(&outpoint))
    }

    /// What waits for a block, in the order of arrival.
    pub fn mempool(&self) -> Vec<Arc<Transaction>> {
        let state = self.0.lock();
        let mut entries: Vec<_> = state.pool.entries().map(|(_, entry)| entry).collect();
        entries.sort_by_key(|entry| entry.arrival);
        entries.into_iter().map(|entry| Arc::clone(&entry.transaction)).collect()
    }

    /// The ids of what waits for a block, in the order of arrival.
    pub fn mempool_txids(&self) -> Vec<Txid> {
        self.mempool().iter().map(|transaction| transaction.compute_txid()).collect()
    }

    /// The fee of a transaction that is or was in the best chain, or waits for a block.
    pub fn fee_of(&self, txid: Txid) -> Option<Amount> {
        let state = self.0.lock();
        state.chain.fee_of(txid).or_else(|| state.pool.get(&txid).map(|entry| entry.fee))
    }

    /// The blocks of the best chain from this height on, with their heights.
    pub fn blocks_from(&self, height: u32) -> Vec<(u32, Arc<Block>)> {
        let state = self.0.lock();
        let stored = (height..=state.chain.height()).filter_map(|height| state.chain.block_at(height));
        stored.map(|stored| (stored.height, Arc::clone(&stored.block))).collect()
    }

    /// What clients sent since the first `seen` submissions, in order. What is sent again and fares the same is not
    /// repeated.
    pub fn submissions(&self, seen: usize) -> Vec<Submission> {
        self.0.lock().submissions.all.get(seen..).unwrap_or_default().to_vec()
    }
}
