//! Transactions that wait for a block, and how they hang together.
//!
//! Invariant: every input is an output of the chain or of another entry, and no output is spent twice. Whoever inserts has
//! checked that; whoever removes takes what depends on it along.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bitcoin::{Amount, OutPoint, Transaction, TxOut, Txid, Wtxid};

use super::linear::{self, Chunk, Piece};

/// A transaction that waits.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub transaction: Arc<Transaction>,
    pub wtxid: Wtxid,
    pub fee: Amount,
    /// Weight that counts for fees and limits.
    pub weight: u64,
    /// Rises with each arrival.
    pub arrival: u64,
}

impl Entry {
    pub(super) fn vsize(&self) -> u64 {
        self.weight.div_ceil(4)
    }
}

#[derive(Default)]
pub(super) struct Mempool {
    entries: BTreeMap<Txid, Entry>,
    spenders: BTreeMap<OutPoint, Txid>,
    arrivals: u64,
}

impl Mempool {
    pub(super) fn get(&self, txid: &Txid) -> Option<&Entry> {
        self.entries.get(txid)
    }

    pub(super) fn contains(&self, txid: &Txid) -> bool {
        self.entries.contains_key(txid)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (&Txid, &Entry)> {
        self.entries.iter()
    }

    pub(super) fn txids(&self) -> BTreeSet<Txid> {
        self.entries.keys().copied().collect()
    }

    /// The entry that spends this output.
    pub(super) fn spender(&self, outpoint: &OutPoint) -> Option<Txid> {
        self.spenders.get(outpoint).copied()
    }

    /// An entry's output, spent or not.
    pub(super) fn output(&self, outpoint: &OutPoint) -> Option<&TxOut> {
        let entry = self.entries.get(&outpoint.txid)?;
        entry.transaction.output.get(usize::try_from(outpoint.vout).ok()?)
    }

    /// The entries whose outputs this transaction spends, whether or not it is an entry itself.
    pub(super) fn parents(&self, transaction: &Transaction) -> BTreeSet<Txid> {
        let spent = transaction.input.iter().map(|input| input.previous_output.txid);
        spent.filter(|txid| self.contains(txid)).collect()
    }

    /// The entries that spend outputs of this transaction, whether or not it is an entry itself.
    pub(super) fn children(&self, txid: Txid) -> BTreeSet<Txid> {
        let outputs = OutPoint::new(txid, 0)..=OutPoint::new(txid, u32::MAX);
        self.spenders.range(outputs).map(|(_, spender)| *spender).collect()
    }

    fn parents_of(&self, txid: Txid) -> BTreeSet<Txid> {
        self.entries.get(&txid).map(|entry| self.parents(&entry.transaction)).unwrap_or_default()
    }

    /// The given ones, their parents and so on.
    pub(super) fn ancestors(&self, of: impl IntoIterator<Item = Txid>) -> BTreeSet<Txid> {
        self.reach(of, |txid| self.parents_of(txid))
    }

    /// The given ones, their children and so on.
    pub(super) fn descendants(&self, of: impl IntoIterator<Item = Txid>) -> BTreeSet<Txid> {
        self.reach(of, |txid| self.children(txid))
    }

    /// The given ones and everything they hang together with.
    pub(super) fn cluster(&self, of: impl IntoIterator<Item = Txid>) -> BTreeSet<Txid> {
        self.reach(of, |txid| {
            let mut around = self.parents_of(txid);
            around.append(&mut self.children(txid));
            around
        })
    }

    /// All entries, by what hangs together.
    pub(super) fn clusters(&self) -> Vec<BTreeSet<Txid>> {
        let mut left = self.txids();
        let mut clusters = Vec::new();
        while let Some(first) = left.pop_first() {
            let cluster = self.cluster([first]);
            left.retain(|txid| !cluster.contains(txid));
            clusters.push(cluster);
        }
        clusters
    }

    fn reach(
        &self,
        of: impl IntoIterator<Item = Txid>,
        next: impl Fn(Txid) -> BTreeSet<Txid>,
    ) -> BTreeSet<Txid> {
        let mut found = BTreeSet::new();
        let mut open: Vec<Txid> = of.into_iter().collect();
        while let Some(txid) = open.pop() {
            if found.insert(txid) {
                open.extend(next(txid));
            }
        }
        found
    }

    /// Fees and virtual sizes of these, added up.
    pub(super) fn sum(&self, of: &BTreeSet<Txid>) -> (Amount, u64) {
        let entries = of.iter().filter_map(|txid| self.entries.get(txid));
        entries.fold((Amount::ZERO, 0), |(fees, vsize), entry| {
            (fees.checked_add(entry.fee).unwrap_or(Amount::MAX_MONEY), vsize.saturating_add(entry.vsize()))
        })
    }

    /// Adds a transaction that was checked. Its arrival is set here.
    pub(super) fn insert(&mut self, txid: Txid, mut entry: Entry) {
        entry.arrival = self.arrivals;
        self.arrivals = self.arrivals.saturating_add(1);
        self.restore(txid, entry);
    }

    /// Puts an entry back that was taken out.
    pub(super) fn restore(&mut self, txid: Txid, entry: Entry) {
        for input in &entry.transaction.input {
            self.spenders.insert(input.previous_output, txid);
        }
        self.entries.insert(txid, entry);
    }

    /// Takes out one entry alone. What depends on it must go too, or its outputs be in the chain.
    pub(super) fn remove(&mut self, txid: Txid) -> Option<Entry> {
        let entry = self.entries.remove(&txid)?;
        for input in &entry.transaction.input {
            self.spenders.remove(&input.previous_output);
        }
        Some(entry)
    }

    /// Takes out these with all that depend on them.
    pub(super) fn remove_with_descendants(
        &mut self,
        of: impl IntoIterator<Item = Txid>,
    ) -> Vec<(Txid, Entry)> {
        let gone = self.descendants(of);
        gone.into_iter().filter_map(|txid| Some((txid, self.remove(txid)?))).collect()
    }

    /// The order in which a miner would take `of`, in chunks of falling feerate.
    pub(super) fn chunks(&self, of: &BTreeSet<Txid>) -> Vec<Chunk> {
        let pieces = of
            .iter()
            .filter_map(|txid| {
                let entry = self.entries.get(txid)?;
                let parents = self.parents(&entry.transaction).intersection(of).copied().collect();
                let piece =
                    Piece { fee: entry.fee.to_sat(), weight: entry.weight, arrival: entry.arrival, parents };
                Some((*txid, piece))
            })
            .collect();
        linear::chunks(&pieces)
    }
}
