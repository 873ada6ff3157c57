//! Transactions that are sent together: parents first, then the child that pays for them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bitcoin::{OutPoint, Transaction, Txid, Wtxid};

use super::accept::{self, Accepted, Candidate, Intent, Way};
use super::linear::Chunk;
use super::policy;
use super::reject::{Class, Reject, Truc};
use super::state::State;

/// What became of a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageOutcome {
    /// `success`, or what is wrong with the package as a whole, in bitcoind's words.
    pub message: String,
    /// What became of each, as far as it was looked at.
    pub transactions: BTreeMap<Wtxid, Outcome>,
    /// What left the mempool for it.
    pub replaced: BTreeSet<Txid>,
}

/// What became of a transaction of a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is in the mempool now.
    Accepted(Accepted),
    /// It was in the mempool before.
    InMempool,
    /// The mempool holds it with another witness.
    OtherWitness(Wtxid),
    /// It was refused.
    Rejected(Reject),
}

/// bitcoind's word when single transactions are at fault.
const TRANSACTION_FAILED: &str = "transaction failed";
/// bitcoind's word when all is well.
pub(super) const SUCCESS: &str = "success";

/// What is wrong with transactions that were looked at together.
struct Refused {
    message: String,
    transactions: BTreeMap<Wtxid, Outcome>,
}

impl Refused {
    fn whole(message: impl Into<String>) -> Refused {
        Refused { message: message.into(), transactions: BTreeMap::new() }
    }

    fn one(message: &str, wtxid: Wtxid, reject: Reject) -> Refused {
        Refused {
            message: message.to_owned(),
            transactions: BTreeMap::from([(wtxid, Outcome::Rejected(reject))]),
        }
    }
}

impl State {
    /// `submitpackage`.
    pub(super) fn accept_package(&mut self, package: &[Arc<Transaction>]) -> PackageOutcome {
        if let Err(message) = check_shape(package) {
            let (transactions, replaced) = (BTreeMap::new(), BTreeSet::new());
            return PackageOutcome { message: message.to_owned(), transactions, replaced };
        }
        let mut message = SUCCESS.to_owned();
        let mut transactions = BTreeMap::new();
        let mut together = Vec::new();
        for transaction in package {
            let wtxid = transaction.compute_wtxid();
            if let Some(entry) = self.pool.get(&transaction.compute_txid()) {
                let same = entry.wtxid == wtxid;
                let known = if same { Outcome::InMempool } else { Outcome::OtherWitness(entry.wtxid) };
                transactions.insert(wtxid, known);
                continue;
            }
            match self.accept(transaction, Way::FirstOfPackage, Intent::Take) {
                Ok(accepted) => {
                    transactions.insert(wtxid, Outcome::Accepted(accepted));
                    continue;
                }
                Err(reject) => {
                    if package.len() == 1 || reject.class() == Class::Final {
                        message = TRANSACTION_FAILED.to_owned();
                    }
                    transactions.insert(wtxid, Outcome::Rejected(reject));
                }
            }
            together.push(Arc::clone(transaction));
        }
        if together.len() == 1 {
            // What is left alone has nobody to pay for it.
            message = TRANSACTION_FAILED.to_owned();
        }
        if message == SUCCESS && !together.is_empty() {
            match self.accept_together(&together, Way::Package, Intent::Take) {
                Ok(accepted) => {
                    transactions
                        .extend(accepted.into_iter().map(|(wtxid, one)| (wtxid, Outcome::Accepted(one))));
                }
                Err(refused) => {
                    message = refused.message;
                    transactions.extend(refused.transactions);
                }
            }
        }
        self.trim();
        for transaction in package {
            let refused =
                matches!(transactions.get(&transaction.compute_wtxid()), Some(Outcome::Rejected(_)));
            if !refused && !self.pool.contains(&transaction.compute_txid()) {
                message = TRANSACTION_FAILED.to_owned();
                transactions.insert(transaction.compute_wtxid(), Outcome::Rejected(Reject::MempoolFull));
            }
        }
        let replaced = replaced_by(&transactions);
        PackageOutcome { message, transactions, replaced }
    }

    /// `testmempoolaccept` of more than one: what became of each that was looked at.
    pub(super) fn test_together(&mut self, package: &[Arc<Transaction>]) -> BTreeMap<Wtxid, Outcome> {
        if check_well_formed(package).is_err() {
            return BTreeMap::new();
        }
        match self.accept_together(package, Way::PackageTest, Intent::Test) {
            Ok(accepted) => {
                accepted.into_iter().map(|(wtxid, one)| (wtxid, Outcome::Accepted(one))).collect()
            }
            Err(refused) => refused.transactions,
        }
    }

    /// Those of a package that did not pass by themselves.
    fn accept_together(
        &mut self,
        package: &[Arc<Transaction>],
        way: Way,
        intent: Intent,
    ) -> Result<BTreeMap<Wtxid, Accepted>, Refused> {
        let mut candidates: Vec<Candidate> = Vec::with_capacity(package.len());
        for transaction in package {
            let fails = |reject| Refused::one(TRANSACTION_FAILED, transaction.compute_wtxid(), reject);
            let candidate = self.pre_check(transaction, way, &candidates).map_err(fails)?;
            accept::check_ceiling(&candidate).map_err(fails)?;
            candidates.push(candidate);
        }
        for place in 0..candidates.len() {
            self.check_package_truc(&candidates, place)
                .map_err(|rule| Refused::whole(Reject::Truc(rule).words()))?;
        }
        let (fee, vsize) = accept::together(&candidates);
        if let (Way::Package, Some(last)) = (way, candidates.last()) {
            self.check_feerate(fee, vsize)
                .map_err(|reject| Refused::one(TRANSACTION_FAILED, last.wtxid, reject))?;
        }
        let replaces = candidates.iter().any(|one| !one.conflicts.is_empty());
        if replaces {
            self.check_package_replacement(&candidates)?;
        }
        let staged = self.stage(&candidates);
        let checked = if !self.clusters_fit(&staged) {
            Err(Refused::whole(Reject::TooLargeCluster.reason()))
        } else if replaces && !staged.improves() {
            Err(Refused::whole("package RBF failed: insufficient feerate: does not improve feerate diagram"))
        } else {
            self.check_package_last(&candidates)
        };
        let replaced = staged.replaced();
        if checked.is_err() || intent == Intent::Test {
            self.unstage(staged);
        }
        checked?;
        // bitcoind names what was replaced with the first of them.
        let mut accepted = BTreeMap::new();
        for (place, one) in candidates.iter().enumerate() {
            let replaced = if place == 0 { replaced.clone() } else { BTreeSet::new() };
            accepted.insert(one.wtxid, Accepted { fee: one.fee, vsize: one.vsize(), replaced });
        }
        Ok(accepted)
    }

    fn check_package_last(&mut self, candidates: &[Candidate]) -> Result<(), Refused> {
        self.check_dust_spent(candidates)
            .map_err(|(wtxid, reject)| Refused::one("unspent-dust", wtxid, reject))?;
        for one in candidates {
            self.check_scripts(one).map_err(|reject| Refused::one(TRANSACTION_FAILED, one.wtxid, reject))?;
        }
        Ok(())
    }

    /// Rules for a package that replaces: one parent, one child, nothing of theirs in the mempool yet.
    fn check_package_replacement(&self, candidates: &[Candidate]) -> Result<(), Refused> {
        let failed = |why: &str| Refused::whole(format!("package RBF failed: {why}"));
        let [parent, _] = candidates else {
            return Err(failed("package must be 1-parent-1-child"));
        };
        if candidates.iter().any(|one| !one.parents.is_empty()) {
            return Err(failed("new transaction cannot have mempool ancestors"));
        }
        match self.check_replacement_fee(candidates) {
            Ok(()) => {}
            Err(Reject::TooManyReplacements) => return Err(failed("too many potential replacements")),
            Err(reject) => {
                let words = reject.words();
                let details = words.split_once(", ").map_or("", |(_, details)| details);
                return Err(failed(&format!("insufficient anti-DoS fees, {details}")));
            }
        }
        let (fee, _) = accept::together(candidates);
        let chunk = |fee: bitcoin::Amount, weight| Chunk { txids: Vec::new(), fee: fee.to_sat(), weight };
        let weight = candidates.iter().fold(0_u64, |sum, one| sum.saturating_add(one.weight));
        if chunk(fee, weight).compare(&chunk(parent.fee, parent.weight)).is_le() {
            return Err(failed("package feerate is less than or equal to parent feerate"));
        }
        Ok(())
    }

    /// The rules for version 3 within the package. What holds towards the mempool alone was checked before.
    fn check_package_truc(&self, candidates: &[Candidate], place: usize) -> Result<(), Truc> {
        let Some((one, before)) = candidates.get(place).zip(candidates.get(..place)) else { return Ok(()) };
        let spends = |child: &Candidate, parent: Txid| {
            child.transaction.input.iter().any(|input| input.previous_output.txid == parent)
        };
        let beside: Vec<&Candidate> = before.iter().filter(|parent| spends(one, parent.txid)).collect();
        let version_3 = accept::is_version_3(&one.transaction);
        let other = beside.iter().find(|parent| accept::is_version_3(&parent.transaction) != version_3);
        if !version_3 {
            return other.map_or(Ok(()), |parent| Err(Truc::ChildOtherVersion(parent.txid)));
        }
        if one.parents.len().saturating_add(beside.len()) > 1 {
            return Err(Truc::TooManyAncestors);
        }
        let Some(parent) = one.parents.first().copied().or(beside.first().map(|parent| parent.txid)) else {
            return Ok(());
        };
        if one.parents.len() == 1 && self.pool.ancestors([parent]).len() > 1 {
            return Err(Truc::TooManyAncestors);
        }
        if one.vsize() > policy::TRUC_CHILD_MAX_VSIZE {
            return Err(Truc::ChildTooBig(one.vsize()));
        }
        if let Some(parent) = other {
            return Err(Truc::ParentOtherVersion(parent.txid));
        }
        for another in candidates.iter().filter(|another| another.txid != one.txid) {
            if spends(another, parent) {
                return Err(Truc::TooManyDescendants(parent));
            }
            if spends(another, one.txid) {
                return Err(Truc::TooManyAncestors);
            }
        }
        if self.pool.descendants([parent]).iter().any(|txid| *txid != parent) {
            return Err(Truc::TooManyDescendants(parent));
        }
        Ok(())
    }
}

fn replaced_by(transactions: &BTreeMap<Wtxid, Outcome>) -> BTreeSet<Txid> {
    let mut all = BTreeSet::new();
    for outcome in transactions.values() {
        if let Outcome::Accepted(accepted) = outcome {
            all.extend(accepted.replaced.iter().copied());
        }
    }
    all
}

/// What can be said without looking at the mempool.
fn check_well_formed(package: &[Arc<Transaction>]) -> Result<(), &'static str> {
    if package.len() > policy::MAX_PACKAGE_COUNT {
        return Err("package-too-many-transactions");
    }
    let weights = package.iter().map(|one| one.weight().to_wu());
    if package.len() > 1 && weights.fold(0, u64::saturating_add) > policy::MAX_PACKAGE_WEIGHT {
        return Err("package-too-large");
    }
    let txids: Vec<Txid> = package.iter().map(|one| one.compute_txid()).collect();
    if txids.iter().collect::<BTreeSet<_>>().len() != txids.len() {
        return Err("package-contains-duplicates");
    }
    let mut spent: BTreeSet<OutPoint> = BTreeSet::new();
    for (place, one) in package.iter().enumerate() {
        let later = txids.get(place..).unwrap_or_default();
        if one.input.iter().any(|input| later.contains(&input.previous_output.txid)) {
            return Err("package-not-sorted");
        }
    }
    for one in package {
        let mine: BTreeSet<OutPoint> = one.input.iter().map(|input| input.previous_output).collect();
        if mine.is_empty() || !spent.is_disjoint(&mine) {
            return Err("conflict-in-package");
        }
        spent.extend(mine);
    }
    Ok(())
}

/// A child and its parents.
fn check_shape(package: &[Arc<Transaction>]) -> Result<(), &'static str> {
    check_well_formed(package)?;
    let Some((child, parents)) = package.split_last() else { return Ok(()) };
    let spent: BTreeSet<Txid> = child.input.iter().map(|input| input.previous_output.txid).collect();
    if parents.iter().all(|parent| spent.contains(&parent.compute_txid())) {
        Ok(())
    } else {
        Err("package-not-child-with-parents")
    }
}

/// True for a child and its parents of which none spends another: no other package is even looked at.
pub(super) fn is_tree(package: &[Arc<Transaction>]) -> bool {
    let Some((child, parents)) = package.split_last() else { return false };
    let txids: BTreeSet<Txid> = parents.iter().map(|parent| parent.compute_txid()).collect();
    let spent: BTreeSet<Txid> = child.input.iter().map(|input| input.previous_output.txid).collect();
    let of_another = |parent: &Arc<Transaction>| {
        parent.input.iter().any(|input| txids.contains(&input.previous_output.txid))
    };
    txids.is_subset(&spent) && !parents.iter().any(of_another)
}
