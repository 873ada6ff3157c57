//! What a snapshot need not hold: transactions that can mean nothing any more.
//!
//! Left out is a transaction that lies deep in the chain if every coin it gave this wallet was spent as deep, and one that
//! does not count (it was given up, or something else took its coins) once it is old. Where the coin stays that such a
//! transaction spent, its outpoint is kept in its place. Invariant: coins, balances and everything that a reorganisation
//! could bring back are the same with it and without.

use std::collections::{BTreeSet, HashMap, HashSet};

use bdk_wallet::chain::ChainPosition;
use bdk_wallet::{ChangeSet, KeychainKind, Wallet};
use bitcoin::{OutPoint, ScriptBuf, Transaction, TxIn, Txid};
use serde::{Deserialize, Serialize};

use super::ledger::Ledger;
use crate::limits;

/// Everything that the records amount to.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Whole {
    pub changes: ChangeSet,
    /// Coins of transactions in `changes` that were spent by some that are not.
    pub spent: BTreeSet<OutPoint>,
}

impl Whole {
    /// Without what can be forgotten. `wallet` is made of the same records.
    pub fn pruned(mut self, wallet: &Ledger) -> Self {
        let void = self.void(wallet);
        let mut gone = self.settled(wallet, &void);
        let spent = self.spent_by(&gone, wallet);
        self.spent.extend(spent);
        gone.extend(void);
        self.spent.retain(|outpoint| !gone.contains(&outpoint.txid));
        let graph = &mut self.changes.tx_graph;
        graph.txs.retain(|transaction| !gone.contains(&transaction.compute_txid()));
        graph.txouts.retain(|outpoint, _| !gone.contains(&outpoint.txid));
        graph.anchors.retain(|(_, txid)| !gone.contains(txid));
        graph.last_seen.retain(|txid, _| !gone.contains(txid));
        graph.last_evicted.retain(|txid, _| !gone.contains(txid));
        graph.first_seen.retain(|txid, _| !gone.contains(txid));
        let keep_from = deep_from(wallet);
        let anchors: HashSet<u32> = graph.anchors.iter().map(|(anchor, _)| anchor.block_id.height).collect();
        self.changes.local_chain.blocks.retain(|height, hash| {
            hash.is_some() && (*height == 0 || *height >= keep_from || anchors.contains(height))
        });
        self.changes.locked_outpoints.outpoints.retain(|_, is_locked| *is_locked);
        // Derived scripts that are ahead save time at a start; those of addresses given out would grow without end.
        let indexer = &mut self.changes.indexer;
        for (descriptor, scripts) in &mut indexer.spk_cache {
            let last = indexer.last_revealed.get(descriptor).copied();
            scripts.retain(|index, _| last.is_none_or(|last| *index > last));
        }
        self
    }

    /// Transactions deep in the chain whose coins were all spent as deep.
    fn settled(&self, wallet: &Ledger, void: &HashSet<Txid>) -> HashSet<Txid> {
        let deep_from = deep_from(wallet);
        let is_deep = |position: &ChainPosition<bdk_wallet::chain::ConfirmationBlockTime>| match position {
            ChainPosition::Confirmed { anchor, .. } => anchor.block_id.height < deep_from,
            ChainPosition::Unconfirmed { .. } => false,
        };
        let deep = wallet.known().iter().filter(|known| is_deep(&known.position));
        let deep: HashMap<Txid, &Transaction> =
            deep.map(|known| (known.txid, known.transaction.as_ref())).collect();
        let last = last_scripts(wallet);
        let is_spent = |outpoint: OutPoint| {
            let spenders = wallet.tx_graph().outspends(outpoint);
            self.spent.contains(&outpoint) || spenders.iter().any(|spender| deep.contains_key(spender))
        };
        // Without it, what it has beaten would count.
        let has_rivals = |txid: Txid, transaction: &Transaction| {
            let spenders = |input: &TxIn| wallet.tx_graph().outspends(input.previous_output);
            transaction
                .input
                .iter()
                .flat_map(spenders)
                .any(|spender| *spender != txid && !void.contains(spender))
        };
        let is_over = |txid: Txid, transaction: &Transaction| {
            own_outputs(wallet, transaction, txid).all(is_spent)
                && !has_rivals(txid, transaction)
                && !transaction.output.iter().any(|output| last.contains(&output.script_pubkey))
        };
        deep.iter().filter(|(txid, known)| is_over(**txid, known)).map(|(txid, _)| *txid).collect()
    }

    /// Coins that these transactions spent of others that stay.
    fn spent_by(&self, gone: &HashSet<Txid>, wallet: &Wallet) -> Vec<OutPoint> {
        let graph = wallet.tx_graph();
        let stays = |outpoint: &OutPoint| {
            let output = graph.get_txout(*outpoint);
            !gone.contains(&outpoint.txid)
                && output.is_some_and(|output| wallet.is_mine(output.script_pubkey.clone()))
        };
        let transactions = gone.iter().filter_map(|txid| graph.get_tx(*txid));
        let inputs = transactions.flat_map(|transaction| transaction.input.clone());
        inputs.map(|input| input.previous_output).filter(stays).collect()
    }

    /// Transactions that do not count and have not been heard of for long. Should a block hold one after all, it is known
    /// again.
    fn void(&self, wallet: &Ledger) -> HashSet<Txid> {
        let graph = &self.changes.tx_graph;
        let mut heard: HashMap<Txid, u64> = HashMap::new();
        let seen = graph.last_seen.iter().chain(&graph.last_evicted).map(|(txid, at)| (*txid, *at));
        let in_blocks = graph.anchors.iter().map(|(anchor, txid)| (*txid, anchor.confirmation_time));
        for (txid, at) in seen.chain(in_blocks) {
            let last = heard.entry(txid).or_default();
            *last = at.max(*last);
        }
        let now = heard.values().copied().max().unwrap_or(0);
        let counting: HashSet<Txid> = wallet.known().iter().map(|known| known.txid).collect();
        let is_old = |txid: &Txid| {
            let last = heard.get(txid).copied().unwrap_or(0);
            now.saturating_sub(last) > limits::ONCHAIN_HISTORY_SECONDS
        };
        let txids = graph.txs.iter().map(|transaction| transaction.compute_txid());
        txids.filter(|txid| !counting.contains(txid) && is_old(txid)).collect()
    }
}

/// The lowest height that is not deep yet.
fn deep_from(wallet: &Wallet) -> u32 {
    wallet.latest_checkpoint().height().saturating_sub(limits::ONCHAIN_CHECKPOINTS)
}

fn own_outputs<'a>(
    wallet: &'a Wallet,
    transaction: &'a Transaction,
    txid: Txid,
) -> impl Iterator<Item = OutPoint> + 'a {
    let outputs = (0u32..).zip(&transaction.output);
    let ours = outputs.filter(|(_, output)| wallet.is_mine(output.script_pubkey.clone()));
    ours.map(move |(vout, _)| OutPoint { txid, vout })
}

/// The scripts given out last: that they were used is known from transactions alone.
fn last_scripts(wallet: &Wallet) -> Vec<ScriptBuf> {
    let script = |keychain: KeychainKind| {
        let index = wallet.derivation_index(keychain)?;
        Some(wallet.peek_address(keychain, index).script_pubkey())
    };
    [KeychainKind::External, KeychainKind::Internal].into_iter().filter_map(script).collect()
}
