//! One test a rule.

mod acceptance;
mod blocks;
mod calls;
mod packages;
mod replacement;
mod scripts;
mod truc;

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash;
use bitcoin::opcodes::all::OP_PUSHNUM_2;
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, WScriptHash, Witness};

use super::*;

/// A node and coins that anybody may spend, confirmed.
struct Lab {
    node: SimNode,
    clock: Clock,
    coins: Vec<OutPoint>,
}

/// What each of the lab's coins holds, in satoshi.
const COIN: u64 = 1_000_000;

impl Lab {
    fn new() -> Lab {
        let clock = Clock::default();
        let node = SimNode::new(Seed(1), clock.clone());
        for _ in 0..20 {
            node.fund(&free(), Amount::from_sat(COIN));
        }
        node.mine(&Mine::nothing());
        let coins = node.unspent(|script| *script == *free()).iter().map(|coin| coin.outpoint).collect();
        Lab { node, clock, coins }
    }

    /// A confirmed coin that nobody took before.
    fn coin(&mut self) -> OutPoint {
        self.coins.pop().unwrap()
    }

    /// A transaction of this version that spends a coin of the lab and pays this fee.
    fn pay(&mut self, version: i32, fee: u64) -> Transaction {
        let coin = self.coin();
        spend(version, &[coin], &[COIN - fee])
    }

    fn submit(&self, transaction: &Transaction) -> Result<Accepted, Reject> {
        self.node.submit(transaction)
    }

    /// Refused by this rule, and nothing changed.
    #[track_caller]
    fn refuses(&self, transaction: &Transaction, reject: &Reject) {
        let before = self.node.mempool_txids();
        assert_eq!(self.node.submit(transaction).as_ref(), Err(reject));
        assert_eq!(self.node.mempool_txids(), before);
    }

    #[track_caller]
    fn takes(&self, transaction: &Transaction) {
        self.node.submit(transaction).unwrap();
        assert_eq!(self.node.transaction(transaction.compute_txid()), Whereabouts::Mempool);
    }

    fn holds(&self, transaction: &Transaction) -> bool {
        self.node.transaction(transaction.compute_txid()) == Whereabouts::Mempool
    }

    fn confirmed(&self, transaction: &Transaction) -> bool {
        matches!(self.node.transaction(transaction.compute_txid()), Whereabouts::Confirmed { .. })
    }
}

/// A script that anybody may satisfy.
fn free_script() -> ScriptBuf {
    ScriptBuf::builder().push_opcode(OP_PUSHNUM_2).into_script()
}

/// Pays to it.
fn free() -> ScriptBuf {
    ScriptBuf::new_p2wsh(&WScriptHash::hash(free_script().as_bytes()))
}

fn free_witness() -> Witness {
    Witness::from_slice(&[free_script().as_bytes()])
}

fn outpoint(transaction: &Transaction, vout: u32) -> OutPoint {
    OutPoint::new(transaction.compute_txid(), vout)
}

fn pays(value: u64, script_pubkey: ScriptBuf) -> TxOut {
    TxOut { value: Amount::from_sat(value), script_pubkey }
}

/// Spends free outputs, and pays to free outputs.
fn spend(version: i32, inputs: &[OutPoint], outputs: &[u64]) -> Transaction {
    let input = inputs.iter().map(|outpoint| TxIn {
        previous_output: *outpoint,
        script_sig: ScriptBuf::new(),
        sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
        witness: free_witness(),
    });
    Transaction {
        version: Version::non_standard(version),
        lock_time: LockTime::ZERO,
        input: input.collect(),
        output: outputs.iter().map(|value| pays(*value, free())).collect(),
    }
}

/// The same with so many bytes of data beside.
fn with_data(mut transaction: Transaction, bytes: usize) -> Transaction {
    let data = bitcoin::script::PushBytesBuf::try_from(vec![7; bytes]).unwrap();
    transaction.output.push(pays(0, ScriptBuf::new_op_return(data)));
    transaction
}

/// The outputs' fee, given what goes in.
fn vsize(transaction: &Transaction) -> u64 {
    transaction.weight().to_wu().div_ceil(4)
}
