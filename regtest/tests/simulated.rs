//! The simulated bitcoind beside the real one: both get the same transactions and packages, good and bad ones by chance, and
//! the same blocks, which the simulated one makes. They must say the same, hold the same mempool, and agree on the chain.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use bitcoin::absolute::LockTime;
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::hashes::Hash;
use bitcoin::opcodes::all::OP_PUSHNUM_2;
use bitcoin::script::PushBytesBuf;
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, FeeRate, Network, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, WScriptHash,
    Weight, Witness,
};
use regtest::{Bitcoind, Options};
use serde_json::{Value, json};
use settlement::rpc::{Auth, PackageResult, RpcClient, RpcConfig, RpcError};
use sim::chain::{FIRST_BLOCKS, Keep, Mine, SimNode, Whereabouts};
use sim::clock::Clock;
use sim::seed::{Chance, Seed};

/// What happens in one run.
const STEPS: u32 = 400;
/// Coins that a run begins with.
const COINS: usize = 100;

struct Both {
    real: RpcClient,
    simulated: RpcClient,
    node: SimNode,
    clock: Clock,
    chance: Chance,
    /// Outputs made so far, spent or not, refused ones too: the latest are the likeliest to be spent.
    coins: Vec<(OutPoint, TxOut)>,
    /// Blocks that the real node was given, from the genesis block on.
    given: Vec<bitcoin::BlockHash>,
    _bitcoind: Bitcoind,
}

/// How often things were taken, and refused for which reason.
type Tally = std::collections::BTreeMap<String, u32>;

fn free_script() -> ScriptBuf {
    ScriptBuf::builder().push_opcode(OP_PUSHNUM_2).into_script()
}

fn free() -> ScriptBuf {
    ScriptBuf::new_p2wsh(&WScriptHash::hash(free_script().as_bytes()))
}

/// bitcoind's word, without what it adds for people.
fn word(message: &str) -> String {
    let ends = [message.find(", "), message.find(" ("), Some(message.len())];
    message[..ends.into_iter().flatten().min().unwrap()].to_owned()
}

fn said<T: std::fmt::Debug>(result: &Result<T, RpcError>) -> String {
    match result {
        Ok(answer) => format!("{answer:?}"),
        Err(RpcError::Rpc { code, message, .. }) => format!("{code} {}", word(message)),
        Err(error) => panic!("{error}"),
    }
}

fn said_of_package(result: &Result<PackageResult, RpcError>) -> String {
    let Ok(result) = result else { return said(result) };
    let each = result
        .tx_results
        .iter()
        .map(|(wtxid, one)| (wtxid.clone(), one.txid, one.error.as_deref().map(word)));
    let replaced: BTreeSet<Txid> = result.replaced_transactions.iter().copied().collect();
    format!("{} {:?} {replaced:?}", word(&result.package_msg), each.collect::<Vec<_>>())
}

impl Both {
    async fn start(seed: u64) -> Both {
        let bitcoind = Bitcoind::start(Options::default()).unwrap();
        let config = RpcConfig::new(bitcoind.url(), Auth::Cookie(bitcoind.cookie_file().to_owned()));
        let (real, _) = RpcClient::connect_and_check(config, Network::Regtest).await.unwrap();
        let clock = Clock::default();
        let node = SimNode::new(Seed(seed), clock.clone());
        for _ in 0..COINS {
            node.fund(&free(), Amount::from_sat(1_000_000));
        }
        node.mine(&Mine::nothing());
        let found = node.unspent(|script| *script == *free());
        let genesis = node.block(0).unwrap().block_hash();
        let mut both = Both {
            real,
            simulated: node.rpc(),
            node,
            clock,
            chance: Seed(seed).stream("transactions"),
            coins: found.into_iter().map(|coin| (coin.outpoint, coin.output)).collect(),
            given: vec![genesis],
            _bitcoind: bitcoind,
        };
        both.share_blocks().await;
        assert!(both.node.height() > FIRST_BLOCKS);
        both
    }

    /// Gives the real node the blocks that it does not have, and finds both at one tip.
    async fn share_blocks(&mut self) {
        let time = self.clock.now_ms() / 1_000;
        self.real.call_json("setmocktime", json!([time])).await.unwrap();
        let best: Vec<_> = self.node.blocks_from(0).into_iter().map(|(_, block)| block).collect();
        let same =
            best.iter().zip(&self.given).take_while(|(block, given)| block.block_hash() == **given).count();
        self.given.truncate(same);
        for block in &best[same..] {
            let answer =
                self.real.call_json("submitblock", json!([serialize_hex(block.as_ref())])).await.unwrap();
            assert!(answer == Value::Null || answer == "inconclusive", "{answer}");
            self.given.push(block.block_hash());
        }
        assert_eq!(self.real.get_best_block_hash().await.unwrap(), self.node.tip());
    }

    async fn compare_mempools(&self, after: &str) {
        let real = self.real.call_json("getrawmempool", json!([])).await.unwrap();
        let real: BTreeSet<Txid> = serde_json::from_value(real).unwrap();
        let simulated: BTreeSet<Txid> = self.node.mempool_txids().into_iter().collect();
        assert_eq!(simulated, real, "the mempools differ after {after}");
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        *self.chance.pick(choices).unwrap()
    }

    /// Coins to spend, without repetition: recent ones mostly.
    fn some_coins(&mut self, count: usize) -> Vec<(OutPoint, TxOut)> {
        let mut chosen: Vec<(OutPoint, TxOut)> = Vec::new();
        for _ in 0..count {
            let recent = if self.chance.one_of(2, 3) { 12 } else { self.coins.len() };
            let from = self.coins.len().saturating_sub(recent);
            let index = from + self.chance.below(self.coins.len() - from);
            let coin = self.coins[index].clone();
            if chosen.iter().all(|(outpoint, _)| *outpoint != coin.0) {
                chosen.push(coin);
            }
        }
        chosen
    }

    /// A transaction that spends these and leaves about `fee`, good in most of what else it does.
    fn transaction(&mut self, version: i32, coins: &[(OutPoint, TxOut)], fee: u64) -> Transaction {
        let sequence = match self.chance.below(10) {
            0 => self.one_of(&[1, 2, 0x0040_0001]),
            1 => self.one_of(&[0, 0xffff_ffff]),
            _ => 0xffff_fffd,
        };
        let height = self.node.height();
        let lock = match self.chance.below(10) {
            0 => self.one_of(&[height, height - 1, height + 1]),
            _ => 0,
        };
        let input = coins.iter().map(|(outpoint, output)| TxIn {
            previous_output: *outpoint,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::from_consensus(sequence),
            witness: if output.script_pubkey == free() {
                Witness::from_slice(&[free_script().as_bytes()])
            } else {
                Witness::new()
            },
        });
        let input = input.collect();
        let mut left = coins.iter().map(|(_, output)| output.value.to_sat()).sum::<u64>().saturating_sub(fee);
        let mut output = Vec::new();
        // Dust wants a zero fee; a fee beside it is refused.
        let anchor = match (fee, self.chance.below(12)) {
            (0, 0..=9) | (_, 0) => Some(self.one_of(&[0, 100, 240])),
            _ => None,
        };
        if let Some(value) = anchor.filter(|value| *value < left) {
            left -= value;
            output.push(TxOut { value: Amount::from_sat(value), script_pubkey: ScriptBuf::new_p2a() });
        }
        let count = self.one_of(&[1, 1, 2, 3]);
        for _ in 0..count {
            output.push(TxOut { value: Amount::from_sat(left / count), script_pubkey: free() });
        }
        let data = match self.chance.below(12) {
            0 => self.one_of(&[850, 1_000, 10_000, 60_000]),
            _ => 0,
        };
        if data > 0 {
            let data = PushBytesBuf::try_from(vec![9; data]).unwrap();
            output.push(TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::new_op_return(data) });
        }
        let lock_time = LockTime::from_height(lock).unwrap();
        Transaction { version: Version::non_standard(version), lock_time, input, output }
    }

    fn remember(&mut self, transaction: &Transaction) {
        let txid = transaction.compute_txid();
        for (vout, output) in (0..).zip(&transaction.output) {
            if !output.script_pubkey.is_op_return() {
                self.coins.push((OutPoint::new(txid, vout), output.clone()));
            }
        }
    }

    async fn send_one(&mut self) -> String {
        let count = self.one_of(&[1, 1, 2, 3]);
        let coins = self.some_coins(count);
        let version = self.one_of(&[1, 2, 2, 2, 2, 3, 3, 3, 3]);
        let fee = self.one_of(&FEES);
        let transaction = self.transaction(version, &coins, fee);
        let real = self.real.send_raw_transaction(&transaction).await;
        let simulated = self.simulated.send_raw_transaction(&transaction).await;
        assert_eq!(
            said(&simulated),
            said(&real),
            "{transaction:#?}\nreal: {real:?}\nsimulated: {simulated:?}"
        );
        if real.is_ok() || self.chance.one_of(1, 30) {
            self.remember(&transaction);
        }
        if real.is_ok() { "taken".to_owned() } else { said(&real) }
    }

    async fn send_package(&mut self) -> String {
        let (version, fee) = (self.one_of(&[2, 3, 3, 3]), self.one_of(&[0, 0, 0, 5, 200]));
        let coins = self.some_coins(1);
        let parent = self.transaction(version, &coins, fee);
        let made = (0..)
            .zip(&parent.output)
            .map(|(vout, output)| (OutPoint::new(parent.compute_txid(), vout), output.clone()));
        let mut made: Vec<_> = made.filter(|(_, output)| !output.script_pubkey.is_op_return()).collect();
        // Anchors come first: the child leaves one behind now and then.
        if made.len() > 1 && self.chance.one_of(1, 4) {
            made.remove(0);
        }
        let spent = 1 + self.chance.below(made.len());
        made.truncate(spent);
        if self.chance.one_of(4, 5) {
            made.extend(self.some_coins(1));
        }
        let version = if self.chance.one_of(9, 10) { version } else { 5 - version };
        let fee = self.one_of(&FEES);
        let child = self.transaction(version, &made, fee);
        let real = self.real.submit_package(&[&parent, &child]).await;
        let simulated = self.simulated.submit_package(&[&parent, &child]).await;
        let (real, simulated) = (said_of_package(&real), said_of_package(&simulated));
        assert_eq!(simulated, real, "{parent:#?}\n{child:#?}");
        for one in [&parent, &child] {
            if self.node.find(one.compute_txid()).is_some() {
                self.remember(one);
            }
        }
        format!("package: {}", real.split(" [").next().unwrap())
    }

    async fn mine(&mut self) -> String {
        self.clock.advance_ms(600_000);
        let unlucky = self.chance.within(0, 3);
        let censor = |transaction: &Transaction| u64::from(transaction.compute_txid()[0]) % 4 == unlucky;
        let how = match self.chance.below(3) {
            0 => Mine { censor: Some(&censor), ..Mine::default() },
            1 => Mine { weight_limit: Weight::from_wu(5_000), ..Mine::default() },
            _ => Mine { minimum: FeeRate::from_sat_per_kwu(250), ..Mine::default() },
        };
        self.node.mine(&how);
        self.share_blocks().await;
        // Some of what is spent for good is kept, to be spent again.
        let (node, chance) = (&self.node, &mut self.chance);
        let is_there = |outpoint: OutPoint| {
            node.utxo(outpoint).is_some() || node.transaction(outpoint.txid) == Whereabouts::Mempool
        };
        self.coins.retain(|(outpoint, _)| is_there(*outpoint) || chance.one_of(1, 10));
        "block".to_owned()
    }

    async fn reorganise(&mut self) -> String {
        let depth = self.one_of(&[1, 1, 2, 3]);
        let keep = self.one_of(&[Keep::Return, Keep::Again]);
        self.clock.advance_ms(600_000);
        self.node.reorganise(depth, keep);
        self.share_blocks().await;
        "reorganisation".to_owned()
    }

    async fn run(mut self) -> Tally {
        let mut tally = Tally::new();
        for _ in 0..STEPS {
            let what = match self.chance.weighted(&[60, 30, 8, 2]).unwrap() {
                0 => self.send_one().await,
                1 => self.send_package().await,
                2 => self.mine().await,
                _ => self.reorganise().await,
            };
            self.compare_mempools(&what).await;
            *tally.entry(what).or_default() += 1;
        }
        tally
    }
}

/// From nothing to plenty, for a hundred to a few hundred virtual bytes.
const FEES: [u64; 11] = [0, 10, 14, 30, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_simulated_node_says_what_the_real_one_says() {
    let mut all = Tally::new();
    for seed in 1..=5 {
        for (what, count) in Both::start(seed).await.run().await {
            *all.entry(what).or_default() += count;
        }
    }
    // Chance must have found its way into the rules.
    for rule in [
        "taken",
        "block",
        "reorganisation",
        "package: success",
        "package: unspent-dust",
        "package: TRUC-violation",
        "-26 TRUC-violation",
        "-26 insufficient fee",
        "-26 min relay fee not met",
        "-26 non-BIP68-final",
        "-26 non-final",
        "-26 dust",
        "-26 replacement-failed",
        "package: package RBF failed: insufficient anti-DoS fees",
        "-25 bad-txns-inputs-missingorspent",
    ] {
        assert!(all.contains_key(rule), "nothing was {rule}: {all:#?}");
    }
}
