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

    async fn locate(&self, _: &Transaction, txid: Txid) -> Result<Option<Published>, RpcError> {
        let state = self.state.lock().unwrap();
        Ok(match (state.mempool.contains(&txid), state.chain.contains(&txid)) {
            (true, _) => Some(Published::InMempool),
            (false, true) => Some(Published::InChain),
            (false, false) => None,
        })
    }
}

/// Stands for a verified transaction.
struct Anything(Transaction);

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

    async fn locate(&self, _: &Transaction, _: Txid) -> Result<Option<Published>, RpcError> {
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
