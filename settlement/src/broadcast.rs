//! Publishing, as often as needed.
//!
//! Only what the verifier made is taken ([`Publishable`] cannot be implemented elsewhere). Publishing is idempotent: a
//! transaction that the mempool or the chain holds already is a success. Each block, [`Broadcaster::resubmit`] sends
//! again what is not in the chain, since nodes forget: they restart, evict, and drop what a reorganisation unmade.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bitcoin::{Amount, FeeRate, Transaction, Txid, Weight};
use channel::bug::{self, Bug};

use crate::fees::feerate_within;
use crate::limits;
use crate::rpc::{
    PackageResult, RPC_VERIFY_ALREADY_IN_UTXO_SET, RPC_VERIFY_ERROR, RPC_VERIFY_REJECTED, RpcClient, RpcError,
};
use crate::verify::{FundingTransaction, HandedOver, Returned, Verified, VerifiedPackage};

#[cfg(test)]
mod tests;

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Verified {}
    impl Sealed for super::FundingTransaction {}
    impl Sealed for super::HandedOver {}
    impl Sealed for super::Returned {}
    impl Sealed for super::VerifiedPackage {}
}

/// What may be published: [`Verified`], [`FundingTransaction`], [`HandedOver`], [`Returned`] and [`VerifiedPackage`].
pub trait Publishable: sealed::Sealed {
    /// The transaction; of a package, the parent.
    fn transaction(&self) -> &Transaction;
    /// Its id, by which the broadcaster knows it. Another child for the same parent replaces the first.
    fn txid(&self) -> Txid;
    /// Of a package, the child that pays for both.
    fn child(&self) -> Option<&Transaction> {
        None
    }
    /// Of a package, what the child pays for both.
    fn child_fee(&self) -> Amount {
        Amount::ZERO
    }
}

impl Publishable for Verified {
    fn transaction(&self) -> &Transaction {
        Verified::transaction(self)
    }
    fn txid(&self) -> Txid {
        Verified::txid(self)
    }
}

impl Publishable for FundingTransaction {
    fn transaction(&self) -> &Transaction {
        FundingTransaction::transaction(self)
    }
    fn txid(&self) -> Txid {
        FundingTransaction::txid(self)
    }
}

impl Publishable for HandedOver {
    fn transaction(&self) -> &Transaction {
        HandedOver::transaction(self)
    }
    fn txid(&self) -> Txid {
        HandedOver::txid(self)
    }
}

impl Publishable for Returned {
    fn transaction(&self) -> &Transaction {
        Returned::transaction(self)
    }
    fn txid(&self) -> Txid {
        Returned::txid(self)
    }
}

impl Publishable for VerifiedPackage {
    fn transaction(&self) -> &Transaction {
        self.parent()
    }
    fn txid(&self) -> Txid {
        self.parent_txid()
    }
    fn child(&self) -> Option<&Transaction> {
        VerifiedPackage::child(self)
    }
    fn child_fee(&self) -> Amount {
        self.fee()
    }
}

/// Where a published transaction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// In the mempool, now or before.
    InMempool,
    /// In a block.
    InChain,
}

/// Why bitcoind did not take a transaction. It stays on the list of what is resubmitted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// It pays too little: for the mempool as it is, or to replace what conflicts with it.
    #[error("the fee is too low: {reason}")]
    FeeTooLow {
        /// bitcoind's words.
        reason: String,
    },
    /// The mempool holds the parent with another child, which pays at least as much for both.
    #[error("another transaction pays {} sat/vB for it already", feerate.to_sat_per_vb_floor())]
    PaidByAnother {
        /// What parent and that child pay together.
        feerate: FeeRate,
    },
    /// Another transaction spends an input, and may not be replaced.
    #[error("it conflicts with another transaction: {reason}")]
    Conflict {
        /// bitcoind's words.
        reason: String,
    },
    /// It would replace too many, or the cluster of unconfirmed transactions would become too large. A block helps.
    #[error("a mempool limit is in the way: {reason}")]
    MempoolLimit {
        /// bitcoind's words.
        reason: String,
    },
    /// An input is spent in the chain by another transaction, or its transaction is unknown.
    #[error("an input is missing or spent")]
    MissingInputs,
    /// Its lock time or an input's relative lock is not reached.
    #[error("it is not final yet: {reason}")]
    NotFinal {
        /// bitcoind's words.
        reason: String,
    },
    /// Any other rule. After the verifier this is an error of ours, or an unusual node policy.
    #[error("bitcoind refuses it: {reason}")]
    Rejected {
        /// bitcoind's words.
        reason: String,
    },
    /// Too many transactions wait for a block.
    #[error("{waiting} transactions wait for a block already")]
    TooManyPending {
        /// How many.
        waiting: usize,
    },
    /// bitcoind could not be asked. The transaction may have reached it.
    #[error(transparent)]
    Node(#[from] RpcError),
}

/// What publishing needs of a node; tests have one in memory.
pub trait Node: Send + Sync {
    /// Sends each; results in order.
    fn send(
        &self,
        transactions: &[&Transaction],
    ) -> impl Future<Output = Result<Vec<Result<Txid, RpcError>>, RpcError>> + Send;

    /// Sends a parent and the child that pays for it together.
    fn send_package(
        &self,
        parent: &Transaction,
        child: &Transaction,
    ) -> impl Future<Output = Result<Result<(), RpcError>, RpcError>> + Send;

    /// Where the transaction is, as far as the node knows without an index.
    fn locate(
        &self,
        transaction: &Transaction,
        txid: Txid,
    ) -> impl Future<Output = Result<Option<Published>, RpcError>> + Send;

    /// What a transaction of the mempool and its descendants pay together.
    fn paid_in_mempool(&self, txid: Txid) -> impl Future<Output = Result<Option<FeeRate>, RpcError>> + Send;
}

impl Node for RpcClient {
    async fn send(&self, transactions: &[&Transaction]) -> Result<Vec<Result<Txid, RpcError>>, RpcError> {
        self.send_raw_transactions(transactions).await
    }

    async fn send_package(
        &self,
        parent: &Transaction,
        child: &Transaction,
    ) -> Result<Result<(), RpcError>, RpcError> {
        match self.submit_package(&[parent, child]).await {
            Ok(result) => Ok(package_outcome(&result, child.compute_txid())),
            Err(error @ RpcError::Rpc { .. }) => Ok(Err(error)),
            Err(error) => Err(error),
        }
    }

    async fn locate(&self, transaction: &Transaction, txid: Txid) -> Result<Option<Published>, RpcError> {
        if self.get_mempool_entry(txid).await?.is_some() {
            return Ok(Some(Published::InMempool));
        }
        // Without a transaction index the chain can be asked for unspent outputs only; an output that is in the chain
        // proves its transaction.
        let outputs = u32::try_from(transaction.output.len()).unwrap_or(u32::MAX);
        Ok(self.has_output_in_chain(txid, outputs).await?.then_some(Published::InChain))
    }

    async fn paid_in_mempool(&self, txid: Txid) -> Result<Option<FeeRate>, RpcError> {
        let Some(entry) = self.get_mempool_entry(txid).await? else { return Ok(None) };
        let weight = Weight::from_vb(entry.descendant_vsize).unwrap_or(Weight::MAX);
        Ok(Some(feerate_within(entry.fees.descendant, weight)))
    }
}

/// What `submitpackage` says. The child's refusal is the telling one: the parent pays nothing and is refused whenever its
/// child is.
fn package_outcome(result: &PackageResult, child: Txid) -> Result<(), RpcError> {
    if result.package_msg == "success" {
        return Ok(());
    }
    let (mut of_child, mut of_parent) = (None, None);
    for transaction in result.tx_results.values() {
        let place = if transaction.txid == child { &mut of_child } else { &mut of_parent };
        *place = transaction.error.clone();
    }
    let whole = (result.package_msg != "transaction failed").then(|| result.package_msg.clone());
    if whole.is_some() {
        // The package as a whole was refused, and this is left from looking at the child alone, without its parent.
        of_child = of_child.filter(|reason| !is_missing_inputs(reason));
    }
    let reasons: Vec<String> = [whole, of_child, of_parent].into_iter().flatten().collect();
    Err(RpcError::Rpc {
        method: "submitpackage",
        code: RPC_VERIFY_REJECTED,
        message: if reasons.is_empty() { result.package_msg.clone() } else { reasons.join("; ") },
    })
}

/// Publishes, and resubmits until told that a transaction is in the chain.
pub struct Broadcaster<N> {
    node: N,
    pending: Mutex<BTreeMap<Txid, Pending>>,
    /// Held by the resubmission under way.
    resubmitting: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
struct Pending {
    transaction: Arc<Transaction>,
    child: Option<Child>,
    confirmed: bool,
}

/// What pays for a parent.
#[derive(Clone)]
struct Child {
    transaction: Arc<Transaction>,
    /// What both pay together.
    feerate: FeeRate,
}

impl Child {
    fn of(what: &impl Publishable) -> Option<Self> {
        let child = what.child()?;
        // Each in whole virtual bytes, as the mempool counts, so that equals compare as equals.
        let size =
            [what.transaction(), child].map(|one| Weight::from_vb_unchecked(one.weight().to_vbytes_ceil()));
        let feerate = feerate_within(what.child_fee(), size[0] + size[1]);
        Some(Self { transaction: Arc::new(child.clone()), feerate })
    }
}

/// A transaction and what became of sending it.
type Sent = (Txid, Result<Published, PublishError>);

impl<N: Node> Broadcaster<N> {
    /// Publishes through `node`.
    pub fn new(node: N) -> Self {
        Self { node, pending: Mutex::new(BTreeMap::new()), resubmitting: tokio::sync::Mutex::new(()) }
    }

    /// Publishes `what` and keeps it for resubmission, also if this attempt fails, until [`Broadcaster::forget`].
    pub async fn publish(&self, what: &impl Publishable) -> Result<Published, PublishError> {
        self.keep(what)?;
        self.send(what).await
    }

    /// The first half of [`Broadcaster::publish`]: keeps `what` for resubmission. At once, so that what is said of it
    /// afterwards (confirmed, forgotten) finds it.
    pub fn keep(&self, what: &impl Publishable) -> Result<(), PublishError> {
        let mut pending = self.lock();
        let waiting = pending.len();
        if waiting >= limits::MAX_PENDING && !pending.contains_key(&what.txid()) {
            return Err(PublishError::TooManyPending { waiting });
        }
        let pending = pending.entry(what.txid()).or_insert_with(|| Pending {
            transaction: Arc::new(what.transaction().clone()),
            child: None,
            confirmed: false,
        });
        pending.child = Child::of(what);
        Ok(())
    }

    /// The second half: sends it once.
    pub async fn send(&self, what: &impl Publishable) -> Result<Published, PublishError> {
        let (txid, transaction) = (what.txid(), what.transaction());
        if let Some(child) = Child::of(what) {
            return self.publish_package(txid, transaction, &child).await;
        }
        let sent = self.node.send(&[transaction]).await?;
        let result = sent
            .into_iter()
            .next()
            .unwrap_or(Err(RpcError::Malformed { method: "sendrawtransaction", reason: "no reply".into() }));
        self.judge(transaction, txid, result).await
    }

    /// Sends again everything that is not in the chain. Results are in the order of the ids, packages after the others; none
    /// if an earlier call is still at it: while many blocks are caught up with, each would add the whole list to the node's
    /// queue.
    pub async fn resubmit(&self) -> Result<Vec<Sent>, RpcError> {
        let Ok(_turn) = self.resubmitting.try_lock() else { return Ok(Vec::new()) };
        if bug::is(Bug::NotResubmitted) {
            return Ok(Vec::new());
        }
        let waiting: Vec<(Txid, Pending)> = self
            .lock()
            .iter()
            .filter(|(_, pending)| !pending.confirmed)
            .map(|(txid, pending)| (*txid, pending.clone()))
            .collect();
        let (packages, singles): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|(_, pending)| pending.child.is_some());
        let mut results = Vec::with_capacity(singles.len() + packages.len());
        for chunk in singles.chunks(limits::RPC_MAX_BATCH) {
            let transactions: Vec<&Transaction> =
                chunk.iter().map(|(_, pending)| pending.transaction.as_ref()).collect();
            let sent = self.node.send(&transactions).await?;
            for ((txid, pending), result) in chunk.iter().zip(sent) {
                results.push((*txid, self.judge(&pending.transaction, *txid, result).await));
            }
        }
        for (txid, pending) in &packages {
            let Some(child) = &pending.child else { continue };
            results.push((*txid, self.publish_package(*txid, &pending.transaction, child).await));
        }
        Ok(results)
    }

    async fn publish_package(
        &self,
        txid: Txid,
        parent: &Transaction,
        child: &Child,
    ) -> Result<Published, PublishError> {
        let Err(error) = self.node.send_package(parent, &child.transaction).await? else {
            return Ok(Published::InMempool);
        };
        // A parent that is in the chain needs no child any more. Whether the mempool holds it says nothing of the child.
        if self.lock().get(&txid).is_some_and(|pending| pending.confirmed)
            || self.node.locate(parent, txid).await? == Some(Published::InChain)
        {
            return Ok(Published::InChain);
        }
        match error {
            RpcError::Rpc { message, .. } if is_missing_inputs(&message) => Err(PublishError::MissingInputs),
            RpcError::Rpc { message, .. } => match refusal(message) {
                Refusal::Known => Ok(Published::InMempool),
                Refusal::Error(error @ PublishError::FeeTooLow { .. }) => {
                    // Whoever pays as much as we would is not to be outbid: it is the same parent.
                    let paid = self.node.paid_in_mempool(txid).await?.filter(|paid| *paid >= child.feerate);
                    Err(paid.map_or(error, |feerate| PublishError::PaidByAnother { feerate }))
                }
                Refusal::Error(error) => Err(error),
            },
            error => Err(PublishError::Node(error)),
        }
    }

    /// The transaction is in a block: not resubmitted unless the block is undone.
    pub fn confirmed(&self, txid: Txid) {
        self.set_confirmed(txid, true);
    }

    /// The block was disconnected.
    pub fn undone(&self, txid: Txid) {
        self.set_confirmed(txid, false);
    }

    /// The transaction is final, replaced for good or given up.
    pub fn forget(&self, txid: Txid) {
        self.lock().remove(&txid);
    }

    /// The ids of everything kept.
    pub fn pending(&self) -> Vec<Txid> {
        self.lock().keys().copied().collect()
    }

    fn set_confirmed(&self, txid: Txid, confirmed: bool) {
        if let Some(pending) = self.lock().get_mut(&txid) {
            pending.confirmed = confirmed;
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Txid, Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads bitcoind's answer. Some refusals mean that it has the transaction.
    async fn judge(
        &self,
        transaction: &Transaction,
        txid: Txid,
        result: Result<Txid, RpcError>,
    ) -> Result<Published, PublishError> {
        match result {
            Ok(_) => Ok(Published::InMempool),
            Err(RpcError::Rpc { code: RPC_VERIFY_ALREADY_IN_UTXO_SET, .. }) => Ok(Published::InChain),
            Err(RpcError::Rpc { code: RPC_VERIFY_REJECTED, message, .. }) => match refusal(message) {
                Refusal::Known => Ok(Published::InMempool),
                Refusal::Error(error) => Err(error),
            },
            Err(RpcError::Rpc { code: RPC_VERIFY_ERROR, message, .. }) if is_missing_inputs(&message) => {
                // Its inputs are gone. If it is what spent them, all is well.
                match self.node.locate(transaction, txid).await? {
                    Some(published) => Ok(published),
                    None if self.lock().get(&txid).is_some_and(|pending| pending.confirmed) => {
                        Ok(Published::InChain)
                    }
                    None => Err(PublishError::MissingInputs),
                }
            }
            Err(RpcError::Rpc { code: RPC_VERIFY_ERROR, message, .. }) => {
                Err(PublishError::Rejected { reason: message })
            }
            Err(error) => Err(PublishError::Node(error)),
        }
    }
}

enum Refusal {
    Known,
    Error(PublishError),
}

fn is_missing_inputs(message: &str) -> bool {
    message.contains("missingorspent") || message.contains("missing-inputs")
}

/// bitcoind's reasons are words of its own, not codes; a reason that is not known here is shown as it is.
fn refusal(reason: String) -> Refusal {
    let contains = |words: &[&str]| words.iter().any(|word| reason.contains(word));
    if contains(&["already-in-mempool", "already-known", "same-nonwitness-data-in-mempool"]) {
        return Refusal::Known;
    }
    Refusal::Error(
        if contains(&["too many potential replacements", "too-large-cluster", "too-long-mempool-chain"]) {
            PublishError::MempoolLimit { reason }
        } else if contains(&[
            "min relay fee not met",
            "mempool min fee not met",
            "insufficient fee",
            "insufficient anti-DoS fees",
            "mempool full",
        ]) {
            PublishError::FeeTooLow { reason }
        } else if contains(&["txn-mempool-conflict", "bad-txns-spends-conflicting-tx"]) {
            PublishError::Conflict { reason }
        } else if contains(&["non-final", "non-BIP68-final"]) {
            PublishError::NotFinal { reason }
        } else {
            PublishError::Rejected { reason }
        },
    )
}
