//! Whether the mempool takes a transaction, in the order in which bitcoind asks.
//!
//! A candidate is staged in the mempool itself and taken out again if a later rule refuses it: what the limits of clusters
//! and the worth of a replacement are reckoned on is then always the mempool as it would be.

use std::collections::BTreeSet;
use std::sync::Arc;

use bitcoin::{Amount, OutPoint, Transaction, Txid, Wtxid};

use super::consensus::{self, Spent};
use super::linear::{self, Chunk};
use super::mempool::Entry;
use super::policy::{self, fee_at};
use super::reject::{Reject, Truc};
use super::state::State;

/// What is asked of a transaction on its way in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// By itself.
    Alone,
    /// By itself, as the first attempt of a package: fees are final only with the package.
    FirstOfPackage,
    /// With others whose fees count together.
    Package,
    /// With others, only to see what would be said; nothing may be replaced.
    PackageTest,
    /// Back from a block that was undone: fees and version 3 are not asked about.
    FromBlock,
}

impl Way {
    fn may_replace(self) -> bool {
        self != Way::PackageTest
    }

    /// Only what comes alone may push out a sibling.
    fn may_evict_sibling(self) -> bool {
        match self {
            Way::Alone | Way::FirstOfPackage | Way::FromBlock => true,
            Way::Package | Way::PackageTest => false,
        }
    }

    fn pays_for_itself(self) -> bool {
        match self {
            Way::Alone | Way::FirstOfPackage | Way::PackageTest => true,
            Way::Package | Way::FromBlock => false,
        }
    }
}

/// Whether to take it, or only to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Intent {
    Take,
    Test,
}

/// A transaction that was taken, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Its fee.
    pub fee: Amount,
    /// Its virtual size.
    pub vsize: u64,
    /// What left the mempool for it.
    pub replaced: BTreeSet<Txid>,
}

/// A transaction that passed what can be asked of it before the mempool is touched.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub transaction: Arc<Transaction>,
    pub txid: Txid,
    pub wtxid: Wtxid,
    pub fee: Amount,
    pub weight: u64,
    pub spent: Vec<Spent>,
    /// Entries that it spends an output with, or pushes out as a sibling.
    pub conflicts: BTreeSet<Txid>,
    pub parents: BTreeSet<Txid>,
}

impl Candidate {
    pub(super) fn vsize(&self) -> u64 {
        self.weight.div_ceil(4)
    }

    fn entry(&self) -> Entry {
        Entry {
            transaction: Arc::clone(&self.transaction),
            wtxid: self.wtxid,
            fee: self.fee,
            weight: self.weight,
            arrival: 0,
        }
    }
}

/// Candidates in the mempool on trial.
pub(super) struct Staged {
    removed: Vec<(Txid, Entry)>,
    added: Vec<Txid>,
    before: Vec<Chunk>,
    after: Vec<Chunk>,
}

impl Staged {
    pub(super) fn improves(&self) -> bool {
        linear::improves(&self.before, &self.after)
    }

    pub(super) fn replaced(&self) -> BTreeSet<Txid> {
        self.removed.iter().map(|(txid, _)| *txid).collect()
    }
}

impl State {
    /// Takes a transaction that comes by itself.
    pub(super) fn accept(
        &mut self,
        transaction: &Arc<Transaction>,
        way: Way,
        intent: Intent,
    ) -> Result<Accepted, Reject> {
        let candidate = self.pre_check(transaction, way, &[])?;
        if !candidate.conflicts.is_empty() {
            self.check_replacement_fee(std::slice::from_ref(&candidate))?;
        }
        let staged = self.stage(std::slice::from_ref(&candidate));
        let checked = self.check_staged(&candidate, way, &staged);
        if let Err(reject) = checked {
            self.unstage(staged);
            return Err(reject);
        }
        let accepted = Accepted { fee: candidate.fee, vsize: candidate.vsize(), replaced: staged.replaced() };
        if intent == Intent::Test {
            self.unstage(staged);
        } else if way == Way::Alone {
            self.trim();
            if !self.pool.contains(&candidate.txid) {
                return Err(Reject::MempoolFull);
            }
        }
        Ok(accepted)
    }

    fn check_staged(&mut self, candidate: &Candidate, way: Way, staged: &Staged) -> Result<(), Reject> {
        if !self.clusters_fit(staged) {
            return Err(Reject::TooLargeCluster);
        }
        if !candidate.conflicts.is_empty() {
            if !staged.improves() {
                return Err(Reject::ReplacementFailed);
            }
            // An ancestor that it conflicts with was taken out with all its descendants, a parent of this one among them.
            let gone = staged.replaced();
            let mut inputs = candidate.transaction.input.iter();
            if inputs.any(|input| gone.contains(&input.previous_output.txid)) {
                return Err(Reject::SpendsConflicting);
            }
        }
        if way != Way::FromBlock {
            check_ceiling(candidate)?;
            self.check_dust_spent(std::slice::from_ref(candidate)).map_err(|(_, reject)| reject)?;
        }
        self.check_scripts(candidate)
    }

    /// Everything that does not depend on what else is sent or replaced. `beside` came before it in the same package.
    pub(super) fn pre_check(
        &self,
        transaction: &Arc<Transaction>,
        way: Way,
        beside: &[Candidate],
    ) -> Result<Candidate, Reject> {
        policy::check_form(transaction)?;
        policy::check_standard(transaction)?;
        consensus::check_final(&self.chain, transaction)?;
        let (txid, wtxid) = (transaction.compute_txid(), transaction.compute_wtxid());
        if let Some(entry) = self.pool.get(&txid) {
            let same = entry.wtxid == wtxid;
            return Err(if same { Reject::AlreadyInMempool } else { Reject::SameNonWitnessData });
        }
        let spenders = transaction.input.iter().filter_map(|input| self.pool.spender(&input.previous_output));
        let mut conflicts: BTreeSet<Txid> = spenders.collect();
        if !conflicts.is_empty() && !way.may_replace() {
            return Err(Reject::ReplacementDisallowed);
        }
        let spent = self.find_spent(transaction, txid, beside)?;
        consensus::check_sequences(&self.chain, transaction, &spent)?;
        let fee = consensus::check_values(&self.chain, transaction, &spent)?;
        let outputs = consensus::outputs(&spent);
        policy::check_inputs_standard(transaction, &outputs)?;
        let places = transaction.input.iter().zip(&outputs);
        let sigops = transaction.total_sigop_cost(|outpoint: &OutPoint| {
            let mut places = places.clone();
            places.find(|(input, _)| input.previous_output == *outpoint).map(|(_, output)| output.clone())
        });
        if fee > Amount::ZERO && policy::has_dust(transaction) {
            return Err(Reject::DustWithFee);
        }
        let weight = policy::counted_weight(transaction, sigops)?;
        if way.pays_for_itself() {
            self.check_feerate(fee, weight.div_ceil(4))?;
        }
        let parents = self.pool.parents(transaction);
        if way != Way::FromBlock {
            match self.check_truc(transaction, weight.div_ceil(4), &parents, &conflicts)? {
                None => {}
                Some((_, sibling)) if way.may_evict_sibling() => {
                    conflicts.insert(sibling);
                }
                Some((rule, _)) => return Err(Reject::Truc(rule)),
            }
        }
        let transaction = Arc::clone(transaction);
        Ok(Candidate { transaction, txid, wtxid, fee, weight, spent, conflicts, parents })
    }

    /// The outputs spent, one an input; `beside` came before it in the same package.
    pub(super) fn find_spent(
        &self,
        transaction: &Transaction,
        txid: Txid,
        beside: &[Candidate],
    ) -> Result<Vec<Spent>, Reject> {
        let of_package = |outpoint: &OutPoint| {
            let parent = beside.iter().find(|one| one.txid == outpoint.txid)?;
            parent.transaction.output.get(usize::try_from(outpoint.vout).ok()?)
        };
        let mut spent = Vec::with_capacity(transaction.input.len());
        for input in &transaction.input {
            let outpoint = &input.previous_output;
            let unconfirmed = of_package(outpoint).or_else(|| self.pool.output(outpoint));
            if let Some(output) = unconfirmed {
                spent.push(Spent::unconfirmed(&self.chain, output.clone()));
            } else if let Some(coin) = self.chain.coin(outpoint) {
                let (output, height, coinbase) = (coin.output.clone(), coin.height, coin.coinbase);
                spent.push(Spent { output, height, coinbase });
            } else if self.chain.has_output_of(txid) {
                return Err(Reject::AlreadyKnown);
            } else {
                return Err(Reject::MissingInputs);
            }
        }
        Ok(spent)
    }

    pub(super) fn check_feerate(&self, fee: Amount, vsize: u64) -> Result<(), Reject> {
        let needed = fee_at(self.pressure.minimum_per_kvb(), vsize);
        if fee < needed {
            return Err(Reject::MempoolMinFee { fee, needed });
        }
        let needed = fee_at(policy::MIN_RELAY_PER_KVB, vsize);
        if fee < needed {
            return Err(Reject::MinRelayFee { fee, needed });
        }
        Ok(())
    }

    /// The rules for version 3 towards the mempool. A sibling that may be pushed out is no breach yet.
    fn check_truc(
        &self,
        transaction: &Transaction,
        vsize: u64,
        parents: &BTreeSet<Txid>,
        conflicts: &BTreeSet<Txid>,
    ) -> Result<Option<(Truc, Txid)>, Reject> {
        let is_truc = |txid: &Txid| self.pool.get(txid).is_some_and(|entry| is_version_3(&entry.transaction));
        let other = parents.iter().find(|parent| is_truc(parent) != is_version_3(transaction)).copied();
        if !is_version_3(transaction) {
            return other.map_or(Ok(None), |parent| Err(Reject::Truc(Truc::ChildOtherVersion(parent))));
        }
        if let Some(parent) = other {
            return Err(Reject::Truc(Truc::ParentOtherVersion(parent)));
        }
        if vsize > policy::TRUC_MAX_VSIZE {
            return Err(Reject::Truc(Truc::TooBig(vsize)));
        }
        let Some(parent) = parents.first().copied() else { return Ok(None) };
        if parents.len() > 1 || self.pool.ancestors([parent]).len() > 1 {
            return Err(Reject::Truc(Truc::TooManyAncestors));
        }
        if vsize > policy::TRUC_CHILD_MAX_VSIZE {
            return Err(Reject::Truc(Truc::ChildTooBig(vsize)));
        }
        let mut descendants = self.pool.descendants([parent]);
        descendants.remove(&parent);
        if descendants.is_empty() || !descendants.is_disjoint(conflicts) {
            return Ok(None);
        }
        let rule = Truc::TooManyDescendants(parent);
        match (descendants.len(), descendants.first()) {
            // A reorganisation may have left more than one, or a child with other parents.
            (1, Some(sibling)) if self.pool.ancestors([*sibling]).len() == 2 => Ok(Some((rule, *sibling))),
            _ => Err(Reject::Truc(rule)),
        }
    }

    /// Rules 3, 4 and 5 for replacements, for candidates that come together.
    pub(super) fn check_replacement_fee(&self, candidates: &[Candidate]) -> Result<(), Reject> {
        let conflicts: BTreeSet<Txid> =
            candidates.iter().flat_map(|one| one.conflicts.iter().copied()).collect();
        let mut clusters: BTreeSet<Txid> = BTreeSet::new();
        for conflict in &conflicts {
            clusters.extend(self.pool.cluster([*conflict]).first());
        }
        if clusters.len() > policy::MAX_REPLACED_CLUSTERS {
            return Err(Reject::TooManyReplacements);
        }
        let (replaced, _) = self.pool.sum(&self.pool.descendants(conflicts));
        let (fee, vsize) = together(candidates);
        let needed =
            replaced.checked_add(fee_at(policy::INCREMENTAL_PER_KVB, vsize)).unwrap_or(Amount::MAX_MONEY);
        if fee < needed {
            return Err(Reject::InsufficientFee { fee, needed });
        }
        Ok(())
    }

    /// Puts the candidates into the mempool in place of what they conflict with.
    pub(super) fn stage(&mut self, candidates: &[Candidate]) -> Staged {
        let conflicts: BTreeSet<Txid> =
            candidates.iter().flat_map(|one| one.conflicts.iter().copied()).collect();
        let parents = candidates.iter().flat_map(|one| one.parents.iter().copied());
        let around = self.pool.cluster(conflicts.iter().copied().chain(parents));
        let before = self.pool.chunks(&around);
        let removed = self.pool.remove_with_descendants(conflicts);
        let mut after = around;
        for (txid, _) in &removed {
            after.remove(txid);
        }
        let mut added = Vec::with_capacity(candidates.len());
        for one in candidates {
            self.pool.insert(one.txid, one.entry());
            after.insert(one.txid);
            added.push(one.txid);
        }
        let after = self.pool.chunks(&after);
        Staged { removed, added, before, after }
    }

    pub(super) fn unstage(&mut self, staged: Staged) {
        for txid in staged.added {
            self.pool.remove(txid);
        }
        for (txid, entry) in staged.removed {
            self.pool.restore(txid, entry);
        }
    }

    pub(super) fn clusters_fit(&self, staged: &Staged) -> bool {
        staged.added.iter().all(|txid| {
            let cluster = self.pool.cluster([*txid]);
            let weights = cluster.iter().filter_map(|txid| self.pool.get(txid)).map(|entry| entry.weight);
            cluster.len() <= policy::MAX_CLUSTER_COUNT
                && weights.fold(0, u64::saturating_add) <= policy::MAX_CLUSTER_WEIGHT
        })
    }

    /// Whoever spends of a transaction with dust spends the dust. Names the one that does not.
    pub(super) fn check_dust_spent(&self, candidates: &[Candidate]) -> Result<(), (Wtxid, Reject)> {
        for child in candidates {
            let inputs: BTreeSet<OutPoint> =
                child.transaction.input.iter().map(|input| input.previous_output).collect();
            for parent in inputs.iter().map(|outpoint| outpoint.txid).collect::<BTreeSet<Txid>>() {
                let beside = candidates.iter().find(|one| one.txid == parent).map(|one| &one.transaction);
                let Some(found) = beside.or_else(|| self.pool.get(&parent).map(|entry| &entry.transaction))
                else {
                    continue;
                };
                let dust = (0..).zip(&found.output).filter(|(_, output)| policy::is_dust(output));
                if dust.into_iter().any(|(vout, _)| !inputs.contains(&OutPoint::new(parent, vout))) {
                    return Err((child.wtxid, Reject::MissingEphemeralSpends));
                }
            }
        }
        Ok(())
    }

    pub(super) fn check_scripts(&mut self, candidate: &Candidate) -> Result<(), Reject> {
        let outputs = consensus::outputs(&candidate.spent);
        super::scripts::low_s(&candidate.transaction, &outputs)?;
        self.verified.check(&candidate.transaction, &outputs)
    }

    /// Drops what pays less than the mempool asks now, with what depends on it.
    pub(super) fn trim(&mut self) {
        let minimum = self.pressure.minimum_per_kvb();
        if minimum == 0 {
            return;
        }
        for cluster in self.pool.clusters() {
            let poor = self.pool.chunks(&cluster).into_iter().filter(|chunk| !chunk.pays(minimum));
            let poor: Vec<Txid> = poor.flat_map(|chunk| chunk.txids).collect();
            self.pool.remove_with_descendants(poor);
        }
    }
}

/// Fees and virtual sizes added up.
pub(super) fn together(candidates: &[Candidate]) -> (Amount, u64) {
    candidates.iter().fold((Amount::ZERO, 0), |(fee, vsize), one| {
        (fee.checked_add(one.fee).unwrap_or(Amount::MAX_MONEY), vsize.saturating_add(one.vsize()))
    })
}

/// The caller's own ceiling, which is bitcoind's default.
pub(super) fn check_ceiling(candidate: &Candidate) -> Result<(), Reject> {
    if candidate.fee > fee_at(policy::MAX_FEERATE_PER_KVB, candidate.vsize()) {
        return Err(Reject::MaxFeerate);
    }
    Ok(())
}

pub(super) fn is_version_3(transaction: &Transaction) -> bool {
    transaction.version.0 == 3
}
