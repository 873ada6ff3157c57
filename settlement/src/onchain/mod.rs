//! On-chain coins of this party, kept by `bdk_wallet`, as a journaled machine.
//!
//! The wallet writes nothing. Whatever changes is staged; the caller takes it as bytes ([`OnchainWallet::take_staged`]),
//! journals them in the same row as what depends on them, and hands the bytes back to [`OnchainWallet::load`] after a
//! restart: the state is the fold of all of them, or of a [`OnchainWallet::snapshot`] and what came after it.
//!
//! Invariants: no clock and no randomness but what is handed in; a coin chosen for a funding transaction is locked
//! until that transaction is in the chain or given up; coins that others could still take back (unconfirmed, not our
//! own change) are never spent.

mod funding;
mod keys;
mod ledger;
mod prune;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use bdk_wallet::chain::{BlockId, ChainPosition, Merge};
use bdk_wallet::template::{Bip84, Bip86};
use bdk_wallet::{ChangeSet, CreateParams, KeychainKind, LoadParams, Update, Wallet};
use bitcoin::bip32::Xpriv;
use bitcoin::constants::COINBASE_MATURITY;
use bitcoin::{Address, Amount, Block, Network, OutPoint, Script, Transaction, TxOut, Txid};

pub use funding::{BuiltFunding, CoinChoice, FundingRequest};
pub use keys::AddressKind;

use crate::follow::BlockRef;
use crate::verify::Returned;
use keys::CoinKeys;
use ledger::Ledger;
use prune::Whole;
use serde::Serialize;

/// The first byte of every record: the encoding of what follows (JSON of bdk's change set, which reads the
/// records of the major version before it).
const RECORD_VERSION: u8 = 1;

/// The same of a snapshot, which also names coins whose spends are forgotten.
const SNAPSHOT_VERSION: u8 = 2;

/// What the wallet is made from. The same configuration must be given at every start.
#[derive(Clone)]
pub struct OnchainConfig {
    /// The network.
    pub network: Network,
    /// Master key; the account is `m/84'/c'/0'` or `m/86'/c'/0'`.
    pub master: Xpriv,
    /// Kind of addresses.
    pub addresses: AddressKind,
    /// Addresses beyond the last used one that coins are found at; [`limits::ADDRESS_GAPS`].
    pub address_gap: u32,
    /// Where a new wallet starts to look: no earlier block can hold a coin of ours. Ignored when loading.
    pub start: BlockRef,
}

/// Why an operation on the wallet failed. It changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OnchainError {
    /// The keys cannot be derived, or belong to another network.
    #[error("the on-chain keys cannot be derived from this master key on this network")]
    Keys,
    /// A record is not one of ours.
    #[error("an on-chain record cannot be read: {reason}")]
    Record {
        /// What was wrong.
        reason: String,
    },
    /// The records belong to another wallet or network.
    #[error("the on-chain records do not fit the configuration: {reason}")]
    Mismatch {
        /// What differs.
        reason: String,
    },
    /// The block does not follow the wallet's tip, or is not the tip when disconnected.
    #[error("block {got:?} does not fit the wallet's tip {tip:?}")]
    Chain {
        /// The wallet's tip.
        tip: BlockRef,
        /// The block offered.
        got: BlockRef,
    },
    /// Not enough coins may be spent.
    #[error("{available} can be spent, {needed} is needed")]
    NotEnough {
        /// Amount needed with the fee.
        needed: Amount,
        /// Amount that may be spent.
        available: Amount,
    },
    /// An output asked for is dust.
    #[error("output {index} of {value} is dust")]
    Dust {
        /// Its index in the request.
        index: usize,
        /// Its amount.
        value: Amount,
    },
    /// No outputs were asked for.
    #[error("a funding transaction needs an output")]
    NoOutputs,
    /// A coin that is not in this wallet.
    #[error("a coin is not in this wallet")]
    NotOurs,
    /// bdk refused for a reason that this wallet's use of it excludes.
    #[error("the on-chain wallet failed: {reason}")]
    Internal {
        /// What bdk said.
        reason: String,
    },
    /// What was built is not publishable.
    #[error(transparent)]
    Flaw(#[from] crate::verify::FundingFlaw),
}

/// The sums of the wallet's coins. Each coin is counted once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OnchainBalance {
    /// In the chain and free.
    pub confirmed: Amount,
    /// Not in the chain yet and free.
    pub unconfirmed: Amount,
    /// Coinbase outputs that are not 100 blocks deep.
    pub immature: Amount,
    /// Chosen for a transaction that is not published yet, or for the fee of one on its way.
    pub locked: Amount,
}

impl OnchainBalance {
    /// All of them; `None` if the sum is no possible amount.
    pub fn total(&self) -> Option<Amount> {
        [self.unconfirmed, self.immature, self.locked]
            .into_iter()
            .try_fold(self.confirmed, Amount::checked_add)
    }
}

/// What may be done with a coin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CoinState {
    /// In a block at this height, free.
    Confirmed {
        /// Height of its block.
        height: u32,
    },
    /// Our own change, not in the chain yet.
    OwnChange,
    /// From somebody else, not in the chain yet.
    Unconfirmed,
    /// A coinbase output that is not deep enough.
    Immature,
    /// Chosen for a transaction.
    Locked,
    /// In a block at this height, and pays for a claim or a close that is on its way ([`OnchainWallet::reserve`]).
    Reserved {
        /// Height of its block.
        height: u32,
    },
}

/// An unspent output of this wallet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coin {
    /// Where it is.
    pub outpoint: OutPoint,
    /// Its amount and script.
    pub output: TxOut,
    /// What may be done with it.
    pub state: CoinState,
}

/// The wallet.
pub struct OnchainWallet {
    config: OnchainConfig,
    keys: CoinKeys,
    wallet: Ledger,
    /// Everything taken so far, merged: the snapshot.
    taken: ChangeSet,
    /// Changes of our own making that wait to be taken, besides bdk's.
    staged: ChangeSet,
    /// Coins that were spent by transactions which are forgotten.
    spent: BTreeSet<OutPoint>,
    /// Coins that pay for claims and closes on their way. Kept in memory only: after a restart these are made again.
    reserved: BTreeSet<OutPoint>,
}

impl OnchainWallet {
    /// A new wallet. Its first record, which names keys and network, waits to be taken.
    pub fn create(config: OnchainConfig) -> Result<Self, OnchainError> {
        let keys = CoinKeys::new(&config.master, config.addresses)?;
        let mut wallet = create_params(&config)
            .network(config.network)
            .create_wallet_no_persist()
            .map_err(|_| OnchainError::Keys)?;
        if config.start.height > 0 {
            let start = BlockId { height: config.start.height, hash: config.start.hash };
            let chain = Some(wallet.latest_checkpoint().insert(start));
            wallet
                .apply_update(Update { chain, ..Update::default() })
                .map_err(|error| OnchainError::Internal { reason: error.to_string() })?;
        }
        Ok(Self {
            config,
            keys,
            wallet: wallet.into(),
            taken: ChangeSet::default(),
            staged: ChangeSet::default(),
            spent: BTreeSet::new(),
            reserved: BTreeSet::new(),
        })
    }

    /// The wallet that took `records`, in their order; the first may be a snapshot.
    ///
    /// # Errors
    ///
    /// [`OnchainError::Record`] if there are none or one cannot be read, [`OnchainError::Mismatch`] if they belong to
    /// other keys or another network.
    pub fn load<R: AsRef<[u8]>>(
        config: OnchainConfig,
        records: impl IntoIterator<Item = R>,
    ) -> Result<Self, OnchainError> {
        let keys = CoinKeys::new(&config.master, config.addresses)?;
        let Whole { changes: mut taken, mut spent } = Whole::default();
        for record in records {
            let record = decode(record.as_ref())?;
            taken.merge(record.changes);
            spent.extend(record.spent);
        }
        let mut wallet = load_wallet(&config, taken.clone())?;
        let (staged, reserved) = (ChangeSet::default(), BTreeSet::new());
        // Loading stages the scripts that it derives or has read: nothing that must be kept.
        wallet.take_staged();
        Ok(Self { config, keys, wallet: wallet.into(), taken, staged, spent, reserved })
    }

    /// What changed since the last call, as the bytes of one record; `None` if nothing did. The changes are in effect
    /// already; nothing that depends on them may leave the process before the record is durable.
    pub fn take_staged(&mut self) -> Option<Vec<u8>> {
        let staged = self.stage_all();
        if staged.is_empty() {
            return None;
        }
        let record = encode(RECORD_VERSION, &staged);
        self.taken.merge(staged);
        Some(record)
    }

    /// Everything taken so far as one record that replaces all earlier ones, without what can mean nothing any more: old
    /// checkpoints that anchor none of our transactions, transactions whose coins were spent long ago or that came to
    /// nothing.
    pub fn snapshot(&self) -> Vec<u8> {
        let whole = Whole { changes: self.taken.clone(), spent: self.spent.clone() };
        encode(SNAPSHOT_VERSION, &whole.pruned(&self.wallet))
    }

    /// The last block taken in.
    pub fn tip(&self) -> BlockRef {
        let tip = self.wallet.latest_checkpoint();
        BlockRef { height: tip.height(), hash: tip.hash() }
    }

    /// Takes in the block after the tip.
    pub fn connect(&mut self, height: u32, block: &Block) -> Result<(), OnchainError> {
        let tip = self.tip();
        let got = BlockRef { height, hash: block.block_hash() };
        if height != tip.height.saturating_add(1) || block.header.prev_blockhash != tip.hash {
            return Err(OnchainError::Chain { tip, got });
        }
        self.wallet.apply_block(block, height).map_err(|_| OnchainError::Chain { tip, got })?;
        // A coin spent in the chain needs no lock. Should the block be disconnected, the spend is still known.
        let locked = self.wallet.locked();
        if !locked.is_empty() {
            let inputs = block.txdata.iter().flat_map(|transaction| &transaction.input);
            let spent =
                inputs.map(|input| input.previous_output).filter(|outpoint| locked.contains(outpoint));
            spent.for_each(|outpoint| self.wallet.unlock(outpoint));
        }
        Ok(())
    }

    /// Takes back the tip. Its transactions count as unconfirmed again.
    pub fn disconnect(&mut self, block: BlockRef) -> Result<(), OnchainError> {
        let tip = self.tip();
        if tip != block || block.height == 0 {
            return Err(OnchainError::Chain { tip, got: block });
        }
        // bdk has no way to remove its tip without a replacement, but its change sets have, and reorganisations are
        // rare: the wallet is loaded again from its own records.
        let mut staged = self.stage_all();
        staged.local_chain.blocks.insert(block.height, None);
        let mut whole = self.taken.clone();
        whole.merge(staged.clone());
        self.wallet = load_wallet(&self.config, whole)?.into();
        self.staged = staged;
        Ok(())
    }

    /// An address that was never given out.
    pub fn new_address(&mut self) -> Address {
        self.wallet.new_address().address
    }

    /// True if coins that pay to `script` belong to this wallet (up to some addresses beyond those given out).
    pub fn is_ours(&self, script: &Script) -> bool {
        self.wallet.is_mine(script.to_owned())
    }

    /// The unspent outputs, in the order of their outpoints.
    pub fn coins(&self) -> Vec<Coin> {
        let next = self.tip().height.saturating_add(1);
        let mut coins: Vec<Coin> = self
            .wallet
            .unspent()
            .iter()
            .filter(|output| !self.spent.contains(&output.outpoint))
            .map(|output| Coin {
                outpoint: output.outpoint,
                state: self.state_of(output.outpoint, output.keychain, &output.chain_position, next),
                output: output.txout.clone(),
            })
            .collect();
        coins.sort_unstable_by_key(|coin| coin.outpoint);
        coins
    }

    fn state_of(
        &self,
        outpoint: OutPoint,
        keychain: KeychainKind,
        position: &ChainPosition<bdk_wallet::chain::ConfirmationBlockTime>,
        next_height: u32,
    ) -> CoinState {
        if self.wallet.is_outpoint_locked(outpoint) {
            return CoinState::Locked;
        }
        match position {
            ChainPosition::Confirmed { anchor, .. } => {
                let height = anchor.block_id.height;
                let coinbase =
                    self.wallet.tx_graph().get_tx(outpoint.txid).is_some_and(|tx| tx.is_coinbase());
                if coinbase && next_height.saturating_sub(height) < COINBASE_MATURITY {
                    return CoinState::Immature;
                }
                if self.reserved.contains(&outpoint) {
                    return CoinState::Reserved { height };
                }
                CoinState::Confirmed { height }
            }
            ChainPosition::Unconfirmed { .. } => match keychain {
                KeychainKind::Internal if self.spends_only_our_coins(outpoint.txid) => CoinState::OwnChange,
                KeychainKind::Internal | KeychainKind::External => CoinState::Unconfirmed,
            },
        }
    }

    /// Whether nobody but this wallet could replace the transaction. A batch of closes is no such: what rests on
    /// our share of it would be pulled away when the batch is made again.
    fn spends_only_our_coins(&self, txid: Txid) -> bool {
        self.transaction(txid).is_some_and(|transaction| {
            let known = |outpoint| self.output(outpoint);
            let inputs = &transaction.input;
            inputs.iter().all(|input| {
                known(input.previous_output).is_some_and(|output| self.is_ours(&output.script_pubkey))
            })
        })
    }

    /// The sums of [`OnchainWallet::coins`] by state.
    pub fn balance(&self) -> OnchainBalance {
        let mut balance = OnchainBalance::default();
        for coin in self.coins() {
            let sum = match coin.state {
                CoinState::Confirmed { .. } => &mut balance.confirmed,
                CoinState::OwnChange | CoinState::Unconfirmed => &mut balance.unconfirmed,
                CoinState::Immature => &mut balance.immature,
                CoinState::Locked | CoinState::Reserved { .. } => &mut balance.locked,
            };
            *sum =
                sum.checked_add(coin.output.value).expect("a chain's outputs sum up to less than 21 million");
        }
        balance
    }

    /// Keeps these coins from being chosen.
    pub fn lock(&mut self, outpoints: &[OutPoint]) {
        outpoints.iter().for_each(|outpoint| self.wallet.lock(*outpoint));
    }

    /// Lets these coins be chosen again.
    pub fn unlock(&mut self, outpoints: &[OutPoint]) {
        outpoints.iter().for_each(|outpoint| self.wallet.unlock(*outpoint));
    }

    /// Keeps exactly these coins from being chosen, besides the locked ones, until the next call or the next start.
    pub fn reserve(&mut self, outpoints: BTreeSet<OutPoint>) {
        self.reserved = outpoints;
    }

    /// Takes note of a transaction of ours that was or will be published, so that the coins it spends are gone and its
    /// change is known. `seen_at` is in seconds since 1970; of two that conflict, the later counts.
    pub fn record_unconfirmed(&mut self, transaction: &Transaction, seen_at: u64) {
        self.wallet.apply_unconfirmed_txs([(transaction.clone(), seen_at)]);
    }

    /// A transaction that will never be in the chain: its coins are unlocked, and if it was recorded, it no longer
    /// counts (unless the chain holds it after all). `at` is in seconds since 1970; it is taken as no earlier than the
    /// record, whatever became of the clock since.
    pub fn release(&mut self, transaction: &Transaction, at: u64) {
        for input in &transaction.input {
            self.wallet.unlock(input.previous_output);
        }
        let txid = transaction.compute_txid();
        let recorded = self.wallet.tx_graph().get_tx_node(txid).and_then(|node| node.last_seen);
        self.wallet.apply_evicted_txs([(txid, recorded.map_or(at, |recorded| recorded.max(at)))]);
    }

    /// A transaction that is not ours left the chain: what spent its outputs, and what spent theirs, counts as little as before
    /// a block held it.
    pub fn release_what_spends(&mut self, transaction: Txid, at: u64) {
        let unconfirmed = self.wallet.unconfirmed();
        let mut unconfirmed: Vec<_> = unconfirmed.map(|known| known.transaction.clone()).collect();
        let mut parents = vec![transaction];
        while let Some(parent) = parents.pop() {
            let spends =
                |child: &Transaction| child.input.iter().any(|input| input.previous_output.txid == parent);
            let (children, others): (Vec<_>, Vec<_>) =
                unconfirmed.into_iter().partition(|child| spends(child));
            unconfirmed = others;
            for child in children {
                parents.push(child.compute_txid());
                self.release(&child, at);
            }
        }
    }

    /// These will never be in the chain: those of them that the wallet counts with no longer count, and their coins are unlocked.
    pub fn release_unconfirmed(&mut self, transactions: &BTreeSet<Txid>, at: u64) {
        if transactions.is_empty() {
            return;
        }
        let counted = self.wallet.unconfirmed().filter(|known| transactions.contains(&known.txid));
        let counted: Vec<_> = counted.map(|known| known.transaction.clone()).collect();
        counted.iter().for_each(|transaction| self.release(transaction, at));
    }

    /// Transactions that spend a coin of ours and that a block held, in no block any more, and counted with all the same.
    pub fn returned(&self) -> Vec<Returned> {
        let spends_ours = |transaction: &Transaction| {
            let outputs = transaction.input.iter().filter_map(|input| self.output(input.previous_output));
            outputs.into_iter().any(|output| self.is_ours(&output.script_pubkey))
        };
        let held = self.wallet.unconfirmed().filter(|known| known.was_in_block);
        let ours = held.filter(|known| spends_ours(&known.transaction));
        let mut returned: Vec<Returned> =
            ours.map(|known| Returned::new(known.transaction.clone())).collect();
        returned.sort_by_key(Returned::txid);
        returned
    }

    /// Of these transactions, and those of ours that they rest on and that are in no block either: each that spends the same output
    /// as a transaction of ours that is in a block at `height` or below. With that and its height.
    pub fn beaten(
        &self,
        transactions: impl IntoIterator<Item = Txid>,
        height: u32,
    ) -> Vec<(Txid, Txid, u32)> {
        let mut waiting: Vec<Txid> =
            transactions.into_iter().filter(|txid| self.transaction(*txid).is_some()).collect();
        if waiting.is_empty() {
            return Vec::new();
        }
        let known = self.wallet.known().iter();
        let confirmed: BTreeMap<Txid, u32> = known
            .filter_map(|known| Some((known.txid, known.position.confirmation_height_upper_bound()?)))
            .collect();
        let (mut seen, mut beaten) = (BTreeSet::new(), Vec::new());
        while let Some(txid) = waiting.pop() {
            if confirmed.contains_key(&txid) || !seen.insert(txid) {
                continue;
            }
            let Some(transaction) = self.transaction(txid) else { continue };
            for input in &transaction.input {
                let outpoint = input.previous_output;
                waiting.push(outpoint.txid);
                let spenders = self.wallet.tx_graph().outspends(outpoint).iter();
                let others = spenders.filter_map(|other| Some((*other, *confirmed.get(other)?)));
                let buried = others.filter(|(_, at)| *at <= height).min();
                beaten.extend(buried.map(|(other, at)| (txid, other, at)));
            }
        }
        beaten
    }

    /// The transactions known to the wallet that spend an output of this one, which it need not know.
    pub fn spenders_of(&self, transaction: Txid) -> BTreeSet<Txid> {
        self.wallet.tx_graph().tx_spends(transaction).flat_map(|(_, spenders)| spenders).copied().collect()
    }

    /// Transactions in no block that the wallet counts with and that spend one of these outputs, ours or not.
    pub fn unconfirmed_spenders(&self, outpoints: &BTreeSet<OutPoint>) -> Vec<Transaction> {
        let spends = |transaction: &Transaction| {
            transaction.input.iter().any(|input| outpoints.contains(&input.previous_output))
        };
        let spenders = self.wallet.unconfirmed().filter(|known| spends(&known.transaction));
        spenders.map(|known| known.transaction.as_ref().clone()).collect()
    }

    /// The transaction, if the wallet has a reason to know it.
    pub fn transaction(&self, txid: Txid) -> Option<std::sync::Arc<Transaction>> {
        self.wallet.tx_graph().get_tx(txid)
    }

    fn stage_all(&mut self) -> ChangeSet {
        let mut staged = std::mem::take(&mut self.staged);
        if let Some(more) = self.wallet.take_staged() {
            staged.merge(more);
        }
        staged
    }
}

fn create_params(config: &OnchainConfig) -> CreateParams {
    let master = config.master;
    let params = match config.addresses {
        AddressKind::P2wpkh => {
            Wallet::create(Bip84(master, KeychainKind::External), Bip84(master, KeychainKind::Internal))
        }
        AddressKind::P2tr => {
            Wallet::create(Bip86(master, KeychainKind::External), Bip86(master, KeychainKind::Internal))
        }
    };
    // Scripts derived once are kept with the rest: a start does not derive them all again.
    params.lookahead(config.address_gap).use_spk_cache(true)
}

fn load_wallet(config: &OnchainConfig, state: ChangeSet) -> Result<Wallet, OnchainError> {
    let master = config.master;
    let (external, internal) = (KeychainKind::External, KeychainKind::Internal);
    let params: LoadParams = match config.addresses {
        AddressKind::P2wpkh => Wallet::load()
            .descriptor(external, Some(Bip84(master, external)))
            .descriptor(internal, Some(Bip84(master, internal))),
        AddressKind::P2tr => Wallet::load()
            .descriptor(external, Some(Bip86(master, external)))
            .descriptor(internal, Some(Bip86(master, internal))),
    };
    let mut wallet = params
        .lookahead(config.address_gap)
        .use_spk_cache(true)
        .check_network(config.network)
        .load_wallet_no_persist(state)
        .map_err(|error| OnchainError::Mismatch { reason: error.to_string() })?
        .ok_or(OnchainError::Record { reason: "there is none".into() })?;
    // Which addresses were used is known from transactions, some of which are forgotten; so all but the last given out
    // count as used.
    for keychain in [external, internal] {
        for index in 0..wallet.derivation_index(keychain).unwrap_or(0) {
            wallet.mark_used(keychain, index);
        }
    }
    Ok(wallet)
}

fn encode<T: Serialize>(version: u8, state: &T) -> Vec<u8> {
    let mut record = vec![version];
    serde_json::to_writer(&mut record, state)
        .expect("a change set has string keys only, and memory takes any write");
    record
}

fn decode(record: &[u8]) -> Result<Whole, OnchainError> {
    let unreadable = |reason: String| OnchainError::Record { reason };
    let not_json = |error: serde_json::Error| unreadable(error.to_string());
    match record.split_first() {
        Some((&RECORD_VERSION, json)) => {
            let changes = serde_json::from_slice(json).map_err(not_json)?;
            Ok(Whole { changes, spent: BTreeSet::new() })
        }
        Some((&SNAPSHOT_VERSION, json)) => serde_json::from_slice(json).map_err(not_json),
        Some((version, _)) => Err(unreadable(format!("version {version} is unknown"))),
        None => Err(unreadable("it is empty".into())),
    }
}
