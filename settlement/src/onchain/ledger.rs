//! bdk's wallet, and what was counted from it last.
//!
//! To tell which transactions count and which outputs are unspent, bdk walks everything it knows and the chain below it. The desk
//! asks several times a block, and most blocks change nothing. Invariant: what was counted is that of the wallet as it is now;
//! every access that could change transactions or blocks forgets it.

use std::collections::HashSet;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, OnceLock};

use bdk_wallet::chain::local_chain::CannotConnectError;
use bdk_wallet::chain::{BlockId, CanonicalizationParams, ChainPosition, ConfirmationBlockTime, TxUpdate};
use bdk_wallet::{AddressInfo, ChangeSet, KeychainKind, LocalOutput, Update, Wallet};
use bitcoin::{Block, OutPoint, Transaction, TxIn, Txid};

pub(super) struct Ledger {
    wallet: Wallet,
    known: OnceLock<Vec<Known>>,
    unspent: OnceLock<Vec<LocalOutput>>,
}

/// A transaction that counts.
pub(super) struct Known {
    pub txid: Txid,
    pub transaction: Arc<Transaction>,
    pub position: ChainPosition<ConfirmationBlockTime>,
    /// A block held it at some time, be it in the chain or not.
    pub was_in_block: bool,
}

impl From<Wallet> for Ledger {
    fn from(wallet: Wallet) -> Self {
        Self { wallet, known: OnceLock::new(), unspent: OnceLock::new() }
    }
}

/// For reading.
impl Deref for Ledger {
    type Target = Wallet;

    fn deref(&self) -> &Wallet {
        &self.wallet
    }
}

/// For changes of any kind: what was counted is forgotten.
impl DerefMut for Ledger {
    fn deref_mut(&mut self) -> &mut Wallet {
        self.forget();
        &mut self.wallet
    }
}

impl Ledger {
    /// The transactions that count, each once.
    pub fn known(&self) -> &[Known] {
        self.known.get_or_init(|| {
            // bdk's own list leaves out what is neither to us nor from us: rivals.
            let (graph, chain) = (self.wallet.tx_graph(), self.wallet.local_chain());
            let tip = chain.tip().block_id();
            let known = graph.list_canonical_txs(chain, tip, CanonicalizationParams::default());
            let known = known.map(|known| Known {
                txid: known.tx_node.txid,
                transaction: known.tx_node.tx,
                position: known.chain_position,
                was_in_block: !known.tx_node.anchors.is_empty(),
            });
            known.collect()
        })
    }

    /// Those of them that no block of the chain holds.
    pub fn unconfirmed(&self) -> impl Iterator<Item = &Known> {
        self.known().iter().filter(|known| !known.position.is_confirmed())
    }

    /// The outputs of ours that nothing spends which counts.
    pub fn unspent(&self) -> &[LocalOutput] {
        self.unspent.get_or_init(|| self.wallet.list_unspent().collect())
    }

    fn forget(&mut self) {
        self.known.take();
        self.unspent.take();
    }

    /// Takes in the block after the tip. A block with no transaction of interest changes nothing that is counted: positions are
    /// heights, not depths.
    pub fn apply_block(&mut self, block: &Block, height: u32) -> Result<(), CannotConnectError> {
        self.wallet.apply_block(block, height)?;
        let block_id = BlockId { height, hash: block.block_hash() };
        let rivals = self.rivals(block);
        if !rivals.is_empty() {
            let anchor = ConfirmationBlockTime { block_id, confirmation_time: block.header.time.into() };
            let mut tx_update = TxUpdate::default();
            tx_update.anchors.extend(rivals.iter().map(|rival| (anchor, rival.compute_txid())));
            tx_update.txs = rivals;
            self.wallet.apply_update(Update { tx_update, ..Update::default() })?;
        }
        let anchors = self.wallet.tx_graph().all_anchors().values();
        if anchors.flatten().any(|anchor| anchor.block_id == block_id) {
            self.forget();
        }
        Ok(())
    }

    /// Transactions that are nothing to us but that they spend an output which one of ours spends too, an anchor for example: bdk
    /// keeps only what pays us or spends our coins, and would count ours for ever.
    fn rivals(&self, block: &Block) -> Vec<Arc<Transaction>> {
        let graph = self.wallet.tx_graph();
        let is_rival = |transaction: &&Transaction| {
            let spent_elsewhere = |input: &TxIn| !graph.outspends(input.previous_output).is_empty();
            transaction.input.iter().any(spent_elsewhere)
                && graph.get_tx(transaction.compute_txid()).is_none()
        };
        block.txdata.iter().filter(is_rival).cloned().map(Arc::new).collect()
    }

    /// What changed since the last call.
    pub fn take_staged(&mut self) -> Option<ChangeSet> {
        self.wallet.take_staged()
    }

    /// An address that was never given out. What it may be paid was looked for already.
    pub fn new_address(&mut self) -> AddressInfo {
        self.wallet.reveal_next_address(KeychainKind::External)
    }

    /// An address for change that nobody paid to yet.
    pub fn change_address(&mut self) -> AddressInfo {
        self.wallet.next_unused_address(KeychainKind::Internal)
    }

    /// A lock keeps a coin from being chosen; it is unspent all the same.
    pub fn lock(&mut self, outpoint: OutPoint) {
        self.wallet.lock_outpoint(outpoint);
    }

    /// Ends [`Ledger::lock`].
    pub fn unlock(&mut self, outpoint: OutPoint) {
        self.wallet.unlock_outpoint(outpoint);
    }

    /// The coins locked.
    pub fn locked(&self) -> HashSet<OutPoint> {
        self.wallet.list_locked_outpoints().collect()
    }
}
