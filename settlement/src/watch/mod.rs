//! Watching transactions, outpoints and scripts: one pass over a block answers for all.
//!
//! Pure: blocks come in through [`Watcher::connect`] and [`Watcher::disconnect`], hits come out in a fixed order. What
//! was found in a block is told again as undone when that block is disconnected, and as final once it is buried
//! `final_depth` deep; after that a transaction or outpoint is forgotten. A script stays watched until its key is.
//!
//! The watcher keeps nothing on disk. After a restart its host registers again what is still of interest, with the
//! height at which it was found, if it was ([`Watcher::resume`]).

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bitcoin::{Block, OutPoint, ScriptBuf, Transaction, TxOut, Txid};
use channel::bug::{self, Bug};

/// What to look for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// The transaction in a block.
    Transaction(Txid),
    /// A transaction in a block that spends this output.
    Spend(OutPoint),
    /// Any output in a block that pays to this script.
    Script(ScriptBuf),
}

/// What was found, for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hit<K> {
    /// A watched transaction is in a block.
    Confirmed {
        /// Who asked.
        key: K,
        /// The transaction.
        transaction: Arc<Transaction>,
        /// Its id.
        txid: Txid,
        /// Height of the block.
        height: u32,
        /// Place in the block, 0 for the coinbase.
        block_index: u32,
    },
    /// A watched output was spent in a block.
    Spent {
        /// Who asked.
        key: K,
        /// The output.
        outpoint: OutPoint,
        /// The transaction that spends it.
        by: Arc<Transaction>,
        /// Its id.
        txid: Txid,
        /// Height of the block.
        height: u32,
    },
    /// A watched script was paid in a block.
    Paid {
        /// Who asked.
        key: K,
        /// Where the output is.
        outpoint: OutPoint,
        /// The output.
        output: TxOut,
        /// Height of the block.
        height: u32,
    },
    /// What was found at `height` has `depth` confirmations now: one of the depths asked for. Told again if a
    /// reorganisation takes confirmations away and they come back.
    Deep {
        /// Who asked.
        key: K,
        /// What was looked for.
        target: Target,
        /// The transaction that was found, spends or pays.
        txid: Txid,
        /// Height of its block.
        height: u32,
        /// Confirmations.
        depth: u32,
    },
    /// What was found at `height` is buried to the final depth: nothing more will be told of it.
    Final {
        /// Who asked.
        key: K,
        /// What was looked for.
        target: Target,
        /// The transaction that was found, spends or pays.
        txid: Txid,
        /// Height of its block.
        height: u32,
    },
    /// The block that held it was disconnected.
    Undone {
        /// Who asked.
        key: K,
        /// What was looked for.
        target: Target,
        /// The transaction that was found, spent or paid.
        txid: Txid,
        /// Height of the disconnected block.
        height: u32,
    },
}

/// The depths, in confirmations, at which one watch wants to hear [`Hit::Deep`].
type Depths = BTreeSet<u32>;

/// Something found in a block that is not final yet.
#[derive(Debug, Clone)]
struct Found<K> {
    key: K,
    target: Target,
    txid: Txid,
}

/// Looks through blocks for what its keys (channels, usually) registered.
#[derive(Debug)]
pub struct Watcher<K> {
    final_depth: u32,
    /// Who watches what, with the depths wanted.
    watches: HashMap<Target, BTreeMap<K, Depths>>,
    /// The same by key, so that a key can be forgotten.
    by_key: BTreeMap<K, BTreeSet<Target>>,
    /// What was found, by height; only heights that are not final.
    found: BTreeMap<u32, Vec<Found<K>>>,
}

impl<K: Ord + Clone> Watcher<K> {
    /// Watches nothing yet. `final_depth` is in confirmations, at least 1.
    pub fn new(final_depth: u32) -> Self {
        Self {
            final_depth: final_depth.max(1),
            watches: HashMap::new(),
            by_key: BTreeMap::new(),
            found: BTreeMap::new(),
        }
    }

    /// Looks for `target` from the next block on. `depths` are the confirmations, counted from 1, at which `key` wants
    /// to hear [`Hit::Deep`]. Repeating it adds depths and changes nothing else.
    pub fn watch(&mut self, key: K, target: Target, depths: impl IntoIterator<Item = u32>) {
        self.by_key.entry(key.clone()).or_default().insert(target.clone());
        self.watches.entry(target).or_default().entry(key).or_default().extend(depths);
    }

    /// Registers a target that was found earlier, in a block at `height` by `txid`, and may still be undone.
    pub fn resume(
        &mut self,
        key: K,
        target: Target,
        depths: impl IntoIterator<Item = u32>,
        txid: Txid,
        height: u32,
    ) {
        self.watch(key.clone(), target.clone(), depths);
        let found = self.found.entry(height).or_default();
        if !found.iter().any(|other| other.key == key && other.target == target) {
            found.push(Found { key, target, txid });
        }
    }

    /// Forgets one target of `key`, found or not.
    pub fn unwatch(&mut self, key: &K, target: &Target) {
        self.drop_watch(target, key);
        self.drop_target(target, key);
        self.found.retain(|_, found| {
            found.retain(|found| found.key != *key || found.target != *target);
            !found.is_empty()
        });
    }

    /// Forgets everything that `key` registered.
    pub fn forget(&mut self, key: &K) {
        for target in self.by_key.remove(key).unwrap_or_default() {
            self.drop_watch(&target, key);
        }
        self.found.retain(|_, found| {
            found.retain(|found| found.key != *key);
            !found.is_empty()
        });
    }

    /// Number of targets watched.
    pub fn len(&self) -> usize {
        self.watches.len()
    }

    /// True if nothing is watched.
    pub fn is_empty(&self) -> bool {
        self.watches.is_empty()
    }

    /// One pass over the block at `height`. Hits come in the block's order, then depths and finality.
    pub fn connect(&mut self, height: u32, block: &Block) -> Vec<Hit<K>> {
        self.connect_following(height, block, |_| Vec::new())
    }

    /// The same; what `follow` names for a hit is watched for the hit's key from the next transaction of this very block
    /// on.
    pub fn connect_following(
        &mut self,
        height: u32,
        block: &Block,
        mut follow: impl FnMut(&Hit<K>) -> Vec<(K, Target)>,
    ) -> Vec<Hit<K>> {
        let mut hits = Vec::new();
        if !self.watches.is_empty() {
            for (index, transaction) in block.txdata.iter().enumerate() {
                let before = hits.len();
                self.look_at(height, index, transaction, &mut hits);
                for (key, target) in hits[before..].iter().flat_map(&mut follow) {
                    self.watch(key, target, []);
                }
            }
        }
        self.tell_depths(height, &mut hits);
        hits
    }

    /// Takes back what was found in the block at `height`, in reverse order.
    pub fn disconnect(&mut self, height: u32) -> Vec<Hit<K>> {
        if bug::is(Bug::ReorganisationIgnored) {
            return Vec::new();
        }
        let found = self.found.remove(&height).unwrap_or_default();
        let undone =
            |found: Found<K>| Hit::Undone { key: found.key, target: found.target, txid: found.txid, height };
        found.into_iter().rev().map(undone).collect()
    }

    fn look_at(&mut self, height: u32, index: usize, transaction: &Transaction, hits: &mut Vec<Hit<K>>) {
        let txid = transaction.compute_txid();
        let mut shared: Option<Arc<Transaction>> = None;
        let mut share = || Arc::clone(shared.get_or_insert_with(|| Arc::new(transaction.clone())));
        let mut found = Vec::new();
        for input in &transaction.input {
            let outpoint = input.previous_output;
            for key in self.watchers_of(&Target::Spend(outpoint)) {
                hits.push(Hit::Spent { key: key.clone(), outpoint, by: share(), txid, height });
                found.push(Found { key, target: Target::Spend(outpoint), txid });
            }
        }
        for key in self.watchers_of(&Target::Transaction(txid)) {
            let block_index = u32::try_from(index).unwrap_or(u32::MAX);
            hits.push(Hit::Confirmed { key: key.clone(), transaction: share(), txid, height, block_index });
            found.push(Found { key, target: Target::Transaction(txid), txid });
        }
        for (vout, output) in (0u32..).zip(&transaction.output) {
            let target = Target::Script(output.script_pubkey.clone());
            for key in self.watchers_of(&target) {
                let outpoint = OutPoint { txid, vout };
                hits.push(Hit::Paid { key: key.clone(), outpoint, output: output.clone(), height });
                found.push(Found { key, target: target.clone(), txid });
            }
        }
        if !found.is_empty() {
            self.found.entry(height).or_default().extend(found);
        }
    }

    fn watchers_of(&self, target: &Target) -> Vec<K> {
        self.watches.get(target).map(|keys| keys.keys().cloned().collect()).unwrap_or_default()
    }

    /// Tells which of the finds reached a depth asked for with the block at `tip`, and lets go of the final ones.
    fn tell_depths(&mut self, tip: u32, hits: &mut Vec<Hit<K>>) {
        for (height, found) in self.found.range(..=tip) {
            let depth = tip - height + 1;
            for Found { key, target, txid } in found {
                let wanted = self.watches.get(target).and_then(|keys| keys.get(key));
                if wanted.is_some_and(|depths| depths.contains(&depth)) {
                    let (key, target) = (key.clone(), target.clone());
                    hits.push(Hit::Deep { key, target, txid: *txid, height: *height, depth });
                }
            }
        }
        while let Some((&height, _)) = self.found.first_key_value() {
            if tip.saturating_sub(height).saturating_add(1) < self.final_depth || height > tip {
                break;
            }
            for Found { key, target, txid } in self.found.remove(&height).unwrap_or_default() {
                if !matches!(target, Target::Script(_)) {
                    self.drop_watch(&target, &key);
                    self.drop_target(&target, &key);
                }
                hits.push(Hit::Final { key, target, txid, height });
            }
        }
    }

    fn drop_target(&mut self, target: &Target, key: &K) {
        if let Some(targets) = self.by_key.get_mut(key) {
            targets.remove(target);
            if targets.is_empty() {
                self.by_key.remove(key);
            }
        }
    }

    fn drop_watch(&mut self, target: &Target, key: &K) {
        if let Some(keys) = self.watches.get_mut(target) {
            keys.remove(key);
            if keys.is_empty() {
                self.watches.remove(target);
            }
        }
    }
}
