//! The node through the RPC client and the follower that everybody uses.

use std::time::Duration;

use bitcoin::FeeRate;
use settlement::follow::{ChainStep, Follower};
use settlement::rpc::{MempoolCounts, RpcError};
use tokio::time::Instant;

use super::*;

fn run<T>(what: impl Future<Output = T>) -> T {
    let builder = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    builder.unwrap().block_on(what)
}

#[test]
fn the_node_passes_the_checks_of_a_client() {
    let lab = Lab::new();
    let node = run(lab.node.rpc().check_node(Network::Regtest)).unwrap();
    assert!(node.version >= settlement::limits::MIN_NODE_VERSION);
}

#[test]
fn every_question_about_the_chain_is_answered() {
    let mut lab = Lab::new();
    let transaction = lab.pay(2, 500);
    lab.takes(&transaction);
    let tip = lab.node.mine(&Mine::default());
    let height = lab.node.height();
    run(async {
        let rpc = lab.node.rpc();
        assert_eq!(rpc.get_best_block_hash().await.unwrap(), tip);
        assert_eq!(rpc.get_block_hash(height).await.unwrap(), Some(tip));
        assert_eq!(rpc.get_block_hash(height + 1).await.unwrap(), None);
        assert_eq!(rpc.get_block_hashes(height - 1..height + 5).await.unwrap().len(), 2);
        assert_eq!(*rpc.get_block(tip).await.unwrap(), *lab.node.block(height).unwrap());
        let header = rpc.get_block_header(tip).await.unwrap().unwrap();
        assert_eq!((header.height, header.confirmations), (height, 1));
        let txid = transaction.compute_txid();
        assert_eq!(rpc.get_raw_transaction(txid, Some(tip)).await.unwrap(), Some(transaction.clone()));
        assert_eq!(rpc.get_raw_transaction(txid, None).await.unwrap(), None);
        let found = rpc.get_tx_out(outpoint(&transaction, 0), MempoolCounts::No).await.unwrap().unwrap();
        assert_eq!((found.confirmations, found.value), (1, Amount::from_sat(COIN - 500)));
        assert_eq!(found.script_pubkey, free());
        assert!(rpc.has_output_in_chain(txid, 1).await.unwrap());
        let scan = rpc.scan_tx_out_set(&[&free()]).await.unwrap();
        assert_eq!(scan.unspents.len(), 20);
        assert_eq!(scan.total_amount, Amount::from_sat(20 * COIN - 500));
        lab.node.reorganise(1, Keep::Return);
        assert_eq!(rpc.get_block_header(tip).await.unwrap().unwrap().confirmations, -1);
    });
}

#[test]
fn every_question_about_the_mempool_is_answered() {
    let mut lab = Lab::new();
    let coin = lab.coin();
    let transaction = spend(2, &[coin], &[COIN - 500]);
    let txid = transaction.compute_txid();
    run(async {
        let rpc = lab.node.rpc_as("wallet 3");
        assert!(rpc.get_mempool_entry(txid).await.unwrap().is_none());
        let tested = rpc.test_mempool_accept(&[&transaction]).await.unwrap();
        assert_eq!(tested[0].allowed, Some(true));
        assert_eq!(rpc.send_raw_transaction(&transaction).await.unwrap(), txid);
        assert_eq!(rpc.send_raw_transaction(&transaction).await.unwrap(), txid, "again is no error");
        let child = spend(2, &[outpoint(&transaction, 0)], &[COIN - 1_300]);
        lab.takes(&child);
        let entry = rpc.get_mempool_entry(txid).await.unwrap().unwrap();
        assert_eq!(
            (entry.fees.base, entry.fees.descendant),
            (Amount::from_sat(500), Amount::from_sat(1_300))
        );
        assert_eq!((entry.vsize, entry.descendant_vsize), (vsize(&transaction), 2 * vsize(&transaction)));
        assert_eq!(
            rpc.get_mempool_spenders(&[coin, outpoint(&transaction, 0)]).await.unwrap(),
            [Some(txid), Some(child.compute_txid())]
        );
        assert_eq!(rpc.get_mempool_transactions(&[txid]).await.unwrap(), std::slice::from_ref(&transaction));
        let made = outpoint(&transaction, 0);
        assert!(rpc.get_tx_out(made, MempoolCounts::No).await.unwrap().is_none());
        assert!(rpc.get_tx_out(made, MempoolCounts::Yes).await.unwrap().is_none(), "spent");
        let unspent = rpc.get_tx_out(outpoint(&child, 0), MempoolCounts::Yes).await.unwrap().unwrap();
        assert_eq!((unspent.confirmations, unspent.value), (0, Amount::from_sat(COIN - 1_300)));
        assert!(rpc.get_tx_out(coin, MempoolCounts::Yes).await.unwrap().is_none());
        assert_eq!(rpc.get_mempool_info().await.unwrap().size, 2);
        lab.node.mine(&Mine::default());
        let again = rpc.send_raw_transaction(&child).await;
        assert!(matches!(again, Err(RpcError::Rpc { code: -27, .. })), "{again:?}");
        let missing = rpc.send_raw_transaction(&spend(2, &[coin], &[500])).await;
        assert!(matches!(missing, Err(RpcError::Rpc { code: -25, .. })), "{missing:?}");
        let poor = rpc.send_raw_transaction(&lab.pay(2, 1)).await;
        assert!(matches!(poor, Err(RpcError::Rpc { code: -26, .. })), "{poor:?}");
    });
    let sent = lab.node.submissions(0);
    let said: Vec<_> = sent.iter().map(|one| (one.label.as_ref(), one.answer.is_ok())).collect();
    assert_eq!(said, [("wallet 3", true), ("wallet 3", true), ("wallet 3", false), ("wallet 3", false)]);
    assert_eq!(sent[0].txid, txid);
}

#[test]
fn estimates_are_those_of_the_pressure() {
    let lab = Lab::new();
    let rate = FeeRate::from_sat_per_kwu;
    run(async {
        let rpc = lab.node.rpc();
        assert_eq!(rpc.estimate_smart_fee(6).await.unwrap(), None);
        let estimates = [(2, rate(5_000)), (6, rate(2_000)), (144, rate(300))].into();
        lab.node.set_pressure(Pressure { minimum: rate(500), estimates });
        for (target, expected) in [(1, 5_000), (2, 5_000), (6, 2_000), (100, 2_000), (144, 500)] {
            assert_eq!(rpc.estimate_smart_fee(target).await.unwrap(), Some(rate(expected)), "{target}");
        }
        assert_eq!(rpc.get_mempool_info().await.unwrap().mempoolminfee, Amount::from_sat(2_000));
    });
}

#[test]
fn a_wait_ends_with_the_block_or_after_its_time() {
    let lab = Lab::new();
    run(async {
        let (rpc, tip) = (lab.node.rpc(), lab.node.tip());
        let begin = Instant::now();
        let same = rpc.wait_for_new_block(tip, Duration::from_secs(30)).await.unwrap();
        assert_eq!((same, begin.elapsed()), (tip, Duration::from_secs(30)));
        let waiting = tokio::spawn(async move {
            let found = rpc.wait_for_new_block(tip, Duration::from_secs(30)).await;
            (found.unwrap(), Instant::now())
        });
        tokio::time::sleep(Duration::from_secs(7)).await;
        let new = lab.node.mine(&Mine::default());
        assert_eq!(waiting.await.unwrap(), (new, begin + Duration::from_secs(37)));
    });
}

#[test]
fn a_node_that_is_down_towards_one_party_serves_the_others() {
    let lab = Lab::new();
    run(async {
        let (one, other) = (lab.node.rpc_as("one"), lab.node.rpc_as("other"));
        let (waits, tip) = (one.clone(), lab.node.tip());
        let waiting =
            tokio::spawn(async move { waits.wait_for_new_block(tip, Duration::from_secs(30)).await });
        tokio::task::yield_now().await;
        lab.node.set_down("one", true);
        assert!(matches!(waiting.await.unwrap(), Err(RpcError::Unreachable { .. })));
        assert!(matches!(one.get_best_block_hash().await, Err(RpcError::Unreachable { .. })));
        assert!(other.get_best_block_hash().await.is_ok());
        lab.node.set_all_down(true);
        assert!(other.get_best_block_hash().await.is_err());
        lab.node.set_all_down(false);
        lab.node.set_down("one", false);
        assert!(one.get_best_block_hash().await.is_ok());
    });
}

#[test]
fn a_slow_node_takes_its_time_and_a_dead_slow_one_is_given_up() {
    let lab = Lab::new();
    run(async {
        let rpc = lab.node.rpc_as("one");
        lab.node.set_slow("one", Some(Duration::from_secs(3)));
        let begin = Instant::now();
        rpc.get_best_block_hash().await.unwrap();
        assert_eq!(begin.elapsed(), Duration::from_secs(3));
        lab.node.set_slow("one", Some(Duration::from_secs(3_600)));
        assert!(matches!(rpc.get_best_block_hash().await, Err(RpcError::Timeout { .. })));
    });
}

/// Heights that a follower goes through while the chain grows and is reorganised.
fn followed(waiting: Waiting) -> Vec<(char, u32)> {
    let lab = Lab::new();
    run(async {
        let source = RpcSource::new(lab.node.rpc(), Network::Regtest, waiting);
        let memory = Follower::starting_memory(&source, 6).await.unwrap();
        let mut follower = Follower::new(source, memory);
        let node = lab.node.clone();
        let steps = tokio::spawn(async move {
            let mut steps = Vec::new();
            while steps.len() < 6 + 1 + 2 + 3 {
                steps.push(match follower.next().await.unwrap() {
                    ChainStep::Connected { height, .. } => ('+', height),
                    ChainStep::Disconnected { height, .. } => ('-', height),
                });
            }
            steps
        });
        tokio::time::sleep(Duration::from_secs(100)).await;
        node.mine(&Mine::default());
        tokio::time::sleep(Duration::from_secs(100)).await;
        node.reorganise(2, Keep::Return);
        steps.await.unwrap()
    })
}

#[test]
fn a_follower_sees_every_block_by_long_polls_and_by_questions() {
    let polled = followed(Waiting::Poll { every: Duration::from_secs(1) });
    assert_eq!(followed(Waiting::LongPoll), polled);
    let tip = FIRST_BLOCKS + 1;
    let end = [('+', tip + 1), ('-', tip + 1), ('-', tip), ('+', tip), ('+', tip + 1), ('+', tip + 2)];
    assert_eq!(polled[6..], end);
}
