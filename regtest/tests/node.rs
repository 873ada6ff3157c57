//! A real bitcoind: starting, mining, paying, reorganising, restarting, and dying with its parent.

use std::time::Duration;

use bitcoin::key::rand::thread_rng;
use bitcoin::secp256k1::{Keypair, SECP256K1};
use bitcoin::{Address, Amount, Network, TxOut};
use regtest::bitcoind::{NodeError, OLDEST, View, locate};
use regtest::miner::MinerError;
use regtest::{Bitcoind, Miner, Options, wait};
use serde_json::json;

fn start() -> Bitcoind {
    Bitcoind::start(Options::default()).expect("bitcoind starts")
}

fn somebody() -> Address {
    let key = Keypair::new(SECP256K1, &mut thread_rng());
    Address::p2tr(SECP256K1, key.x_only_public_key().0, None, Network::Regtest)
}

#[test]
fn a_bitcoind_is_found_or_built() {
    let found = locate().unwrap();
    assert!(found.path.is_file());
    assert!(found.version >= OLDEST);
}

#[test]
fn coins_sent_are_on_the_chain_before_and_after_a_restart() {
    let mut node = start();
    let mut miner = Miner::with_coins(node.rpc(), 2).unwrap();
    assert_eq!(node.rpc().height().unwrap(), 101);
    let (address, amount) = (somebody(), Amount::from_sat(123_456_789));
    let outpoint = miner.fund(&address, amount).unwrap();
    assert_eq!(node.rpc().mempool().unwrap(), [outpoint.txid]);
    assert_eq!(node.rpc().unspent(outpoint, View::Chain).unwrap(), None);
    assert!(node.rpc().unspent(outpoint, View::ChainAndMempool).unwrap().is_some());

    let block = node.rpc().block(miner.confirm(1).unwrap()[0]).unwrap();
    assert_eq!(block.txdata[1].compute_txid(), outpoint.txid);
    let (url, first_id) = (node.url(), node.id());
    for clean in [true, false] {
        if !clean {
            node.kill().unwrap();
            assert!(node.rpc().height().is_err());
        }
        node.restart().unwrap();
        assert_eq!((node.url(), node.rpc().height().unwrap()), (url.clone(), 102));
        assert_ne!(node.id(), first_id);
        let coins = node.rpc().coins_of(&[address.script_pubkey()]).unwrap();
        assert_eq!(coins.len(), 1);
        assert_eq!((coins[0].outpoint, coins[0].output.value, coins[0].height), (outpoint, amount, 102));
        assert_eq!(node.rpc().balance_of(&address.script_pubkey()).unwrap(), amount);
    }
    let summary = node.rpc().coins_summary().unwrap();
    assert_eq!((summary.height, summary.total), (102, Amount::from_int_btc(102 * 50)));
}

#[test]
fn two_nodes_at_once_are_two_chains() {
    let nodes: Vec<Bitcoind> = std::thread::scope(|scope| {
        let starting: Vec<_> = (0..2).map(|_| scope.spawn(start)).collect();
        starting.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_ne!(nodes[0].url(), nodes[1].url());
    nodes[0].rpc().mine(3, &somebody()).unwrap();
    assert_eq!(nodes[0].rpc().height().unwrap(), 3);
    assert_eq!(nodes[1].rpc().height().unwrap(), 0);
}

#[test]
fn the_miner_pays_from_change_and_says_when_coins_run_out() {
    let node = start();
    let mut miner = Miner::with_coins(node.rpc(), 1).unwrap();
    let address = somebody();
    // One mature coin of 50 bitcoins: the second payment spends the unconfirmed change of the first.
    for _ in 0..2 {
        miner.fund(&address, Amount::from_int_btc(20)).unwrap();
    }
    let error = miner.fund(&address, Amount::from_int_btc(20)).unwrap_err();
    let MinerError::TooFewCoins { available, wanted } = error else { panic!("{error}") };
    assert!(available < Amount::from_int_btc(10), "{available}");
    assert!(wanted > Amount::from_int_btc(20), "{wanted}");
    miner.confirm(1).unwrap();
    miner.fund(&address, Amount::from_int_btc(20)).unwrap();
    miner.confirm(1).unwrap();
    assert_eq!(node.rpc().balance_of(&address.script_pubkey()).unwrap(), Amount::from_int_btc(60));
}

#[test]
fn a_fan_out_keeps_its_order_over_several_transactions() {
    let node = start();
    let mut miner = Miner::with_coins(node.rpc(), 3).unwrap();
    let script = somebody().script_pubkey();
    let outputs: Vec<TxOut> = (0..2_500)
        .map(|index| TxOut { value: Amount::from_sat(10_000 + index), script_pubkey: script.clone() })
        .collect();
    let outpoints = miner.fan_out(&outputs).unwrap();
    assert_eq!(node.rpc().mempool().unwrap().len(), 3);
    miner.confirm(1).unwrap();
    assert_eq!(node.rpc().mempool().unwrap().len(), 0);
    for index in [0, 999, 1_000, 2_499] {
        let output = node.rpc().unspent(outpoints[index], View::Chain).unwrap();
        assert_eq!(output.as_ref(), Some(&outputs[index]));
    }
}

#[test]
fn a_reorganisation_returns_transactions_to_the_mempool() {
    let node = start();
    let mut miner = Miner::with_coins(node.rpc(), 1).unwrap();
    let (address, amount) = (somebody(), Amount::from_sat(50_000));
    let outpoint = miner.fund(&address, amount).unwrap();
    let height = node.rpc().height().unwrap();
    let old = miner.confirm(3).unwrap();
    let new = miner.reorganise(3).unwrap();
    assert_eq!(node.rpc().height().unwrap(), height + 4);
    assert_eq!(node.rpc().block_hash(height + 1).unwrap(), new[0]);
    assert_ne!(old[0], new[0]);
    assert_eq!(node.rpc().mempool().unwrap(), [outpoint.txid]);
    assert_eq!(node.rpc().unspent(outpoint, View::Chain).unwrap(), None);
    // The coin behind the payment is spent in the mempool, and the change is there to go on with.
    miner.fund(&address, amount).unwrap();
    miner.confirm(1).unwrap();
    assert_eq!(node.rpc().balance_of(&address.script_pubkey()).unwrap(), amount * 2);
}

#[test]
fn another_miner_of_the_same_chain_goes_on_with_the_same_coins() {
    let node = start();
    let mut first = Miner::with_coins(node.rpc(), 2).unwrap();
    let address = somebody();
    first.fund(&address, Amount::from_int_btc(1)).unwrap();
    let mut second = Miner::open(node.rpc()).unwrap();
    second.fund(&address, Amount::from_int_btc(1)).unwrap();
    second.confirm(1).unwrap();
    first.rescan().unwrap();
    assert_eq!(first.spendable().unwrap(), second.spendable().unwrap());
    assert_eq!(node.rpc().balance_of(&address.script_pubkey()).unwrap(), Amount::from_int_btc(2));
}

#[test]
fn a_frozen_node_answers_nothing_until_it_is_resumed() {
    let mut node = start();
    let hasty = node.rpc().clone().with_timeout(Duration::from_millis(200));
    node.freeze().unwrap();
    wait::until("no answer", Duration::from_secs(60), || hasty.height().err()).unwrap();
    node.resume().unwrap();
    assert_eq!(node.rpc().height().unwrap(), 0);
}

#[test]
fn a_refused_call_carries_the_code_and_the_words_of_bitcoind() {
    let node = start();
    let error = node.rpc().rpc("getblockhash", json!([1])).unwrap_err();
    assert_eq!(error.code(), Some(-8));
    assert_eq!(error.to_string(), "bitcoind refused getblockhash: Block height out of range (code -8)");
    assert_eq!(node.rpc().rpc("nonsense", json!([])).unwrap_err().code(), Some(-32601));
}

#[test]
fn a_node_that_cannot_start_says_why() {
    let bad = Options { arguments: vec!["-nonsense=1".to_owned()], ..Options::default() };
    let error = Bitcoind::start(bad).unwrap_err();
    assert!(matches!(error, NodeError::Ended { .. }), "{error}");
    assert!(error.to_string().contains("Invalid parameter -nonsense"), "{error}");

    let folder = tempfile::tempdir().unwrap();
    let shared = || Options { datadir: Some(folder.path().to_owned()), ..Options::default() };
    let _first = Bitcoind::start(shared()).unwrap();
    let error = Bitcoind::start(shared()).unwrap_err();
    assert!(error.to_string().contains("Cannot obtain a lock"), "{error}");
}

#[test]
fn a_port_taken_by_another_program_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Some(taken.local_addr().unwrap());
    let error = Bitcoind::start(Options { rpc_address: address, ..Options::default() }).unwrap_err();
    assert!(error.to_string().contains("Unable to bind"), "{error}");
}

#[test]
fn empty_blocks_of_the_same_second_can_be_replaced_again_and_again() {
    let node = start();
    let mut miner = Miner::open(node.rpc()).unwrap();
    let mut old = miner.mine_empty(3).unwrap();
    let first = node.rpc().height().unwrap() - 2;
    for _ in 0..3 {
        let new = miner.reorganise(u32::try_from(old.len()).unwrap()).unwrap();
        assert_eq!(new.len(), old.len() + 1);
        assert_eq!(node.rpc().block_hash(first).unwrap(), new[0]);
        assert!(new.iter().all(|hash| !old.contains(hash)), "{new:?} {old:?}");
        old = new;
    }
}
