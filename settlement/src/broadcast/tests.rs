//! Publishing to a node in memory that answers as bitcoind does.

use std::collections::{BTreeSet, HashMap};

use bitcoin::hashes::Hash;

use super::*;

/// A node with a mempool, a set of confirmed transactions, and answers set by the test.
#[derive(Default)]
struct FakeNode {
    state: Mutex<FakeState>,
}

#[derive(Default)]
struct FakeState {
    mempool: BTreeSet<Txid>,
    chain: BTreeSet<Txid>,
    /// Refusals for the next sends, code and message.
    refuse: HashMap<Txid, (i64, &'static str)>,
    /// What others pay for what the mempool holds.
    paid: HashMap<Txid, FeeRate>,
    down: bool,
    sends: usize,
}

impl FakeNode {
    fn change(&self, change: impl FnOnce(&mut FakeState)) {
        change(&mut self.state.lock().unwrap());
    }
}

impl Node for &FakeNode {
    async fn send(&self, transactions: &[&Transaction]) -> Result<Vec<Result<Txid, RpcError>>, RpcError> {
        let mut state = self.state.lock().unwrap();
        if state.down {
            return Err(RpcError::Unreachable { reason: "down".into() });
        }
        let send = |transaction: &&Transaction| {
            let txid = transaction.compute_txid();
            state.sends += 1;
            match state.refuse.get(&txid) {
                Some((code, message)) => Err(RpcError::Rpc {
                    method: "sendrawtransaction",
                    code: *code,
                    message: (*message).to_owned(),
                }),
                None => {
                    state.mempool.insert(txid);
                    Ok(txid)
                }
            }
        };
        Ok(transactions.iter().map(send).collect())
    }

    async fn send_package(
        &self,
        parent: &Transaction,
        child: &Transaction,
    ) -> Result<Result<(), RpcError>, RpcError> {
        let results = self.send(&[child]).await?;
        let accepted = results.into_iter().next().unwrap().map(|_| ());
        if accepted.is_ok() {
            self.change(|state| {
                state.mempool.insert(parent.compute_txid());
            });
        }
        Ok(accepted)
    }

    async fn locate(&self, _: &Transaction, txid: Txid) -> Result<Option<Published>, RpcError> {
        let state = self.state.lock().unwrap();
        Ok(match (state.mempool.contains(&txid), state.chain.contains(&txid)) {
            (true, _) => Some(Published::InMempool),
            (false, true) => Some(Published::InChain),
            (false, false) => None,
        })
    }

    async fn paid_in_mempool(&self, txid: Txid) -> Result<Option<FeeRate>, RpcError> {
        Ok(self.state.lock().unwrap().paid.get(&txid).copied())
    }
}

/// Stands for a verified transaction.
struct Anything(Transaction);

/// Stands for a verified package.
struct Pair(Transaction, Transaction);

impl sealed::Sealed for Pair {}

impl Publishable for Pair {
    fn transaction(&self) -> &Transaction {
        &self.0
    }
    fn txid(&self) -> Txid {
        self.0.compute_txid()
    }
    fn child(&self) -> Option<&Transaction> {
        Some(&self.1)
    }
    fn child_fee(&self) -> Amount {
        Amount::from_sat(1_000)
    }
}

impl sealed::Sealed for Anything {}

impl Publishable for Anything {
    fn transaction(&self) -> &Transaction {
        &self.0
    }
    fn txid(&self) -> Txid {
        self.0.compute_txid()
    }
}

fn transaction(unique: u32) -> Anything {
    Anything(Transaction {
        version: bitcoin::transaction::Version::TWO,
        lock_time: bitcoin::absolute::LockTime::from_consensus(unique),
        input: vec![],
        output: vec![],
    })
}

#[tokio::test]
async fn what_the_node_has_already_is_a_success() {
    let node = FakeNode::default();
    let broadcaster = Broadcaster::new(&node);
    let what = transaction(1);
    assert_eq!(broadcaster.publish(&what).await, Ok(Published::InMempool));
    assert_eq!(broadcaster.publish(&what).await, Ok(Published::InMempool));
    let table = [
        (-27, "Transaction outputs already in utxo set", Published::InChain),
        (-26, "txn-already-in-mempool", Published::InMempool),
        (-26, "txn-already-known", Published::InMempool),
        (-26, "txn-same-nonwitness-data-in-mempool", Published::InMempool),
    ];
    for (code, message, expected) in table {
        node.change(|state| {
            state.refuse.insert(what.txid(), (code, message));
        });
        assert_eq!(broadcaster.publish(&what).await, Ok(expected), "{message}");
    }
}

#[tokio::test]
async fn missing_inputs_are_a_success_if_the_transaction_itself_spent_them() {
    let node = FakeNode::default();
    let broadcaster = Broadcaster::new(&node);
    let what = transaction(1);
    node.change(|state| {
        state.refuse.insert(what.txid(), (-25, "bad-txns-inputs-missingorspent"));
    });
    assert_eq!(broadcaster.publish(&what).await, Err(PublishError::MissingInputs));
    node.change(|state| {
        state.chain.insert(what.txid());
    });
    assert_eq!(broadcaster.publish(&what).await, Ok(Published::InChain));
    // All outputs spent: the node cannot tell, but the block follower did.
    node.change(|state| state.chain.clear());
    broadcaster.confirmed(what.txid());
    assert_eq!(broadcaster.publish(&what).await, Ok(Published::InChain));
}

#[tokio::test]
async fn refusals_have_names() {
    let node = FakeNode::default();
    let broadcaster = Broadcaster::new(&node);
    let what = transaction(1);
    let reason = |text: &str| text.to_owned();
    let table = [
        (
            "min relay fee not met, 10 < 100",
            PublishError::FeeTooLow { reason: reason("min relay fee not met, 10 < 100") },
        ),
        (
            "insufficient fee, rejecting",
            PublishError::FeeTooLow { reason: reason("insufficient fee, rejecting") },
        ),
        ("txn-mempool-conflict", PublishError::Conflict { reason: reason("txn-mempool-conflict") }),
        ("too-large-cluster", PublishError::MempoolLimit { reason: reason("too-large-cluster") }),
        ("non-BIP68-final", PublishError::NotFinal { reason: reason("non-BIP68-final") }),
        ("dust", PublishError::Rejected { reason: reason("dust") }),
    ];
    for (message, expected) in table {
        node.change(|state| {
            state.refuse.insert(what.txid(), (-26, message));
        });
        assert_eq!(broadcaster.publish(&what).await, Err(expected), "{message}");
    }
}

#[tokio::test]
async fn what_is_not_in_the_chain_is_sent_again() {
    let node = FakeNode::default();
    let broadcaster = Broadcaster::new(&node);
    let (one, two) = (transaction(1), transaction(2));
    node.change(|state| state.down = true);
    assert!(matches!(broadcaster.publish(&one).await, Err(PublishError::Node(_))));
    assert!(broadcaster.resubmit().await.is_err());
    node.change(|state| state.down = false);
    broadcaster.publish(&two).await.unwrap();
    let results = broadcaster.resubmit().await.unwrap();
    assert_eq!(results.len(), 2, "also what never arrived");
    assert!(results.iter().all(|(_, result)| *result == Ok(Published::InMempool)));
    broadcaster.confirmed(one.txid());
    assert_eq!(broadcaster.resubmit().await.unwrap().len(), 1);
    broadcaster.undone(one.txid());
    assert_eq!(broadcaster.resubmit().await.unwrap().len(), 2);
    broadcaster.forget(one.txid());
    broadcaster.forget(Txid::all_zeros());
    assert_eq!(broadcaster.pending(), vec![two.txid()]);
}

#[tokio::test]
async fn many_are_sent_again_in_batches() {
    let node = FakeNode::default();
    let broadcaster = Broadcaster::new(&node);
    for unique in 0..250 {
        broadcaster.publish(&transaction(unique)).await.unwrap();
    }
    node.change(|state| state.sends = 0);
    let results = broadcaster.resubmit().await.unwrap();
    let mut ids: Vec<Txid> = results.iter().map(|(txid, _)| *txid).collect();
    assert_eq!(node.state.lock().unwrap().sends, 250);
    assert!(ids.is_sorted());
    ids.dedup();
    assert_eq!(ids.len(), 250);
}

/// A node that never answers.
struct Hanging(std::sync::atomic::AtomicUsize);

impl Node for &Hanging {
    async fn send(&self, _: &[&Transaction]) -> Result<Vec<Result<Txid, RpcError>>, RpcError> {
        self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        std::future::pending().await
    }

    async fn send_package(&self, _: &Transaction, _: &Transaction) -> Result<Result<(), RpcError>, RpcError> {
        std::future::pending().await
    }

    async fn locate(&self, _: &Transaction, _: Txid) -> Result<Option<Published>, RpcError> {
        std::future::pending().await
    }

    async fn paid_in_mempool(&self, _: Txid) -> Result<Option<FeeRate>, RpcError> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_slow_node_is_not_sent_the_list_twice_at_once() {
    let node = Hanging(Default::default());
    let broadcaster = Broadcaster::new(&node);
    let polled_once = std::time::Duration::ZERO;
    assert!(tokio::time::timeout(polled_once, broadcaster.publish(&transaction(1))).await.is_err());
    let mut first = Box::pin(broadcaster.resubmit());
    assert!(tokio::time::timeout(polled_once, &mut first).await.is_err());
    let second = tokio::time::timeout(polled_once, broadcaster.resubmit()).await;
    assert_eq!(second, Ok(Ok(Vec::new())), "one is at it already");
    drop(first);
    assert!(tokio::time::timeout(polled_once, broadcaster.resubmit()).await.is_err());
    assert_eq!(node.0.load(std::sync::atomic::Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_package_goes_out_whole_and_another_child_takes_the_place_of_the_first() {
    let node = FakeNode::default();
    let broadcaster = Broadcaster::new(&node);
    let (parent, first, second) = (transaction(1).0, transaction(2), transaction(3));
    let package = |child: &Anything| Pair(parent.clone(), child.0.clone());
    assert_eq!(broadcaster.publish(&package(&first)).await, Ok(Published::InMempool));
    assert_eq!(broadcaster.publish(&package(&second)).await, Ok(Published::InMempool));
    assert_eq!(broadcaster.pending(), vec![parent.compute_txid()]);
    node.change(|state| state.mempool.clear());
    assert_eq!(
        broadcaster.resubmit().await.unwrap(),
        vec![(parent.compute_txid(), Ok(Published::InMempool))]
    );
    let mempool = node.state.lock().unwrap().mempool.clone();
    assert_eq!(mempool, BTreeSet::from([parent.compute_txid(), second.txid()]));

    node.change(|state| {
        state.refuse.insert(second.txid(), (-26, "bad-txns-inputs-missingorspent"));
    });
    let refused = broadcaster.publish(&package(&second)).await;
    assert_eq!(refused, Err(PublishError::MissingInputs), "that the parent is in the mempool says nothing");
    node.change(|state| {
        state.mempool.clear();
        state.chain.insert(parent.compute_txid());
    });
    assert_eq!(broadcaster.publish(&package(&second)).await, Ok(Published::InChain));
    broadcaster.confirmed(parent.compute_txid());
    assert_eq!(broadcaster.resubmit().await.unwrap(), vec![]);
}

#[tokio::test]
async fn whoever_pays_as_much_for_the_same_parent_is_not_outbid() {
    let node = FakeNode::default();
    let broadcaster = Broadcaster::new(&node);
    let (parent, child) = (transaction(1).0, transaction(2));
    let package = Pair(parent.clone(), child.0.clone());
    let ours = Child::of(&package).unwrap().feerate;
    let less = FeeRate::from_sat_per_kwu(ours.to_sat_per_kwu() - 1);
    node.change(|state| {
        state.refuse.insert(child.txid(), (-26, "insufficient fee, rejecting replacement"));
    });
    let too_low = |result: &_| matches!(result, Err(PublishError::FeeTooLow { .. }));
    let refused = broadcaster.publish(&package).await;
    assert!(too_low(&refused), "the parent is in no mempool: {refused:?}");
    for (paid, is_enough) in [(less, false), (ours, true)] {
        node.change(|state| {
            state.paid.insert(parent.compute_txid(), paid);
        });
        let refused = broadcaster.publish(&package).await;
        assert_eq!(refused == Err(PublishError::PaidByAnother { feerate: paid }), is_enough, "{refused:?}");
        assert_eq!(too_low(&refused), !is_enough, "{refused:?}");
        // So it is when it is sent again.
        assert_eq!(broadcaster.resubmit().await.unwrap(), vec![(parent.compute_txid(), refused)]);
    }
}

#[test]
fn a_refused_package_names_every_reason() {
    let (parent, child) = (transaction(1).txid(), transaction(2).txid());
    let result = |message: &str, child_error: Option<&str>| PackageResult {
        package_msg: message.to_owned(),
        tx_results: [(parent, Some("min relay fee not met, 0 < 1")), (child, child_error)]
            .into_iter()
            .map(|(txid, error)| {
                let error = error.map(str::to_owned);
                (txid.to_string(), crate::rpc::PackageTxResult { txid, error })
            })
            .collect(),
        replaced_transactions: Vec::new(),
    };
    assert_eq!(package_outcome(&result("success", None), child), Ok(()));
    let reason = |result| match package_outcome(&result, child) {
        Err(RpcError::Rpc { message, .. }) => message,
        other => panic!("{other:?}"),
    };
    assert_eq!(reason(result("transaction failed", Some("dust"))), "dust; min relay fee not met, 0 < 1");
    assert_eq!(
        reason(result("package RBF failed", None)),
        "package RBF failed; min relay fee not met, 0 < 1"
    );
    // Beside another commitment in the mempool: the child alone, without its parent, has no anchor to spend.
    let missing = Some("bad-txns-inputs-missingorspent");
    let outbid = "package RBF failed: insufficient anti-DoS fees, less fees than conflicting txs";
    let rival = reason(result(outbid, missing));
    assert!(rival.starts_with(outbid) && !is_missing_inputs(&rival), "{rival}");
    assert!(matches!(refusal(outbid.into()), Refusal::Error(PublishError::FeeTooLow { .. })));
    // Inputs that are gone for the whole package are named so.
    assert!(is_missing_inputs(&reason(result("transaction failed", missing))));
}
