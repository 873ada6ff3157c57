//! The best chain: its blocks, the outputs that nothing in it spends, and the way back.
//!
//! What is connected here was checked before; this module only keeps the books.

use std::collections::BTreeMap;
use std::sync::Arc;

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::constants::genesis_block;
use bitcoin::{Amount, Block, BlockHash, Network, OutPoint, TxOut, Txid};

/// Blocks that the median of times is taken of.
const MEDIAN_BLOCKS: usize = 11;

/// An output that nothing in the chain spends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Coin {
    pub output: TxOut,
    /// Height of its block.
    pub height: u32,
    pub coinbase: bool,
}

/// A block, whether or not it is still in the best chain.
pub(super) struct Stored {
    pub block: Arc<Block>,
    pub height: u32,
    /// As `getblock` gives it: everybody asks for every block.
    pub hex: Arc<str>,
}

struct Linked {
    hash: BlockHash,
    /// What its transactions spent that was there before it.
    spent: Vec<(OutPoint, Coin)>,
}

pub(super) struct Chain {
    /// By height.
    best: Vec<Linked>,
    blocks: BTreeMap<BlockHash, Stored>,
    coins: BTreeMap<OutPoint, Coin>,
    heights: BTreeMap<Txid, u32>,
    spenders: BTreeMap<OutPoint, Txid>,
    /// Of whatever was ever in it.
    fees: BTreeMap<Txid, Amount>,
}

impl Chain {
    /// Only regtest's genesis block, whose output cannot be spent.
    pub(super) fn new() -> Chain {
        let mut chain = Chain {
            best: Vec::new(),
            blocks: BTreeMap::new(),
            coins: BTreeMap::new(),
            heights: BTreeMap::new(),
            spenders: BTreeMap::new(),
            fees: BTreeMap::new(),
        };
        chain.connect(genesis_block(Network::Regtest));
        chain.coins.clear();
        chain
    }

    pub(super) fn height(&self) -> u32 {
        u32::try_from(self.best.len().saturating_sub(1)).unwrap_or(u32::MAX)
    }

    pub(super) fn tip(&self) -> BlockHash {
        self.best.last().expect("the genesis block is never disconnected").hash
    }

    pub(super) fn hash_at(&self, height: u32) -> Option<BlockHash> {
        self.best.get(usize::try_from(height).ok()?).map(|linked| linked.hash)
    }

    pub(super) fn stored(&self, hash: BlockHash) -> Option<&Stored> {
        self.blocks.get(&hash)
    }

    pub(super) fn block_at(&self, height: u32) -> Option<&Stored> {
        self.stored(self.hash_at(height)?)
    }

    pub(super) fn is_best(&self, hash: BlockHash) -> bool {
        self.stored(hash).is_some_and(|stored| self.hash_at(stored.height) == Some(hash))
    }

    pub(super) fn coin(&self, outpoint: &OutPoint) -> Option<&Coin> {
        self.coins.get(outpoint)
    }

    pub(super) fn coins(&self) -> impl Iterator<Item = (&OutPoint, &Coin)> {
        self.coins.iter()
    }

    /// Any output of this transaction that is there and unspent.
    pub(super) fn has_output_of(&self, txid: Txid) -> bool {
        self.coins.range(OutPoint::new(txid, 0)..=OutPoint::new(txid, u32::MAX)).next().is_some()
    }

    /// The height of the block in the best chain that holds this transaction.
    pub(super) fn height_of(&self, txid: Txid) -> Option<u32> {
        self.heights.get(&txid).copied()
    }

    pub(super) fn spender(&self, outpoint: &OutPoint) -> Option<Txid> {
        self.spenders.get(outpoint).copied()
    }

    /// The fee of a transaction that is or was in it.
    pub(super) fn fee_of(&self, txid: Txid) -> Option<Amount> {
        self.fees.get(&txid).copied()
    }

    /// Median time of the block at `height` and the ten before it, seconds since 1970.
    pub(super) fn median_time_past(&self, height: u32) -> u32 {
        let end = usize::try_from(height).unwrap_or(usize::MAX).saturating_add(1).min(self.best.len());
        let begin = end.saturating_sub(MEDIAN_BLOCKS);
        let linked = self.best.get(begin..end).unwrap_or_default();
        let mut times: Vec<u32> = linked
            .iter()
            .filter_map(|one| self.stored(one.hash))
            .map(|stored| stored.block.header.time)
            .collect();
        times.sort_unstable();
        times.get(times.len() / 2).copied().unwrap_or(0)
    }

    /// Appends a block whose parent is the tip and whose transactions were checked.
    pub(super) fn connect(&mut self, block: Block) -> BlockHash {
        let hash = block.block_hash();
        let height = u32::try_from(self.best.len()).unwrap_or(u32::MAX);
        let mut spent = Vec::new();
        for (index, transaction) in block.txdata.iter().enumerate() {
            let (txid, coinbase) = (transaction.compute_txid(), index == 0);
            let mut comes_in = Amount::ZERO;
            for input in transaction.input.iter().filter(|_| !coinbase) {
                if let Some(coin) = self.coins.remove(&input.previous_output) {
                    comes_in = comes_in.checked_add(coin.output.value).unwrap_or(Amount::MAX_MONEY);
                    spent.push((input.previous_output, coin));
                }
                self.spenders.insert(input.previous_output, txid);
            }
            for (output, vout) in transaction.output.iter().zip(0..) {
                if output.script_pubkey.is_op_return() {
                    continue;
                }
                let coin = Coin { output: output.clone(), height, coinbase };
                self.coins.insert(OutPoint::new(txid, vout), coin);
            }
            self.heights.insert(txid, height);
            let goes_out = transaction.output.iter().map(|output| output.value).sum();
            self.fees.insert(txid, comes_in.checked_sub(goes_out).unwrap_or(Amount::ZERO));
        }
        self.best.push(Linked { hash, spent });
        let hex = serialize_hex(&block).into();
        self.blocks.insert(hash, Stored { block: Arc::new(block), height, hex });
        hash
    }

    /// Takes the tip back, which must not be the genesis block.
    pub(super) fn disconnect(&mut self) -> Option<Arc<Block>> {
        if self.best.len() <= 1 {
            return None;
        }
        let linked = self.best.pop()?;
        let block = Arc::clone(&self.blocks.get(&linked.hash)?.block);
        for (outpoint, coin) in linked.spent {
            self.coins.insert(outpoint, coin);
        }
        for transaction in &block.txdata {
            let txid = transaction.compute_txid();
            self.heights.remove(&txid);
            for input in &transaction.input {
                self.spenders.remove(&input.previous_output);
            }
        }
        // After the coins spent came back, so that what was made and spent in this block is gone too.
        for transaction in &block.txdata {
            let txid = transaction.compute_txid();
            for vout in (0..).take(transaction.output.len()) {
                self.coins.remove(&OutPoint::new(txid, vout));
            }
        }
        Some(block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_begins_with_regtests_genesis_block() {
        let chain = Chain::new();
        assert_eq!(chain.height(), 0);
        assert_eq!(chain.tip(), genesis_block(Network::Regtest).block_hash());
        assert_eq!(chain.coins().count(), 0, "its output cannot be spent");
    }
}
