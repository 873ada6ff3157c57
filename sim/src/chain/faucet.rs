//! Coins from nowhere: the coinbases of blocks that nobody else claims, paid out in the next block on request.
//!
//! Its transactions are never in the mempool, so nobody can hinder them, and a reorganisation makes them again first of all:
//! whoever was given coins has them after the next block, whatever happens.

use std::sync::Arc;

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash;
use bitcoin::opcodes::OP_TRUE;
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, WScriptHash, Witness};

use super::blocks::Chain;
use super::policy::COINBASE_MATURITY;

/// The most coins that one payout joins.
const MAX_COINS: usize = 50;

/// Coins to give away.
#[derive(Default)]
pub(super) struct Faucet {
    /// Asked for and not yet paid.
    pub waiting: Vec<TxOut>,
    /// Every payout, in order. A reorganisation may have taken some out of the chain.
    pub payouts: Vec<Arc<Transaction>>,
}

/// A script that needs no signature.
fn witness_script() -> ScriptBuf {
    ScriptBuf::builder().push_opcode(OP_TRUE).into_script()
}

/// Where the faucet's coins are.
pub(super) fn script() -> ScriptBuf {
    ScriptBuf::new_p2wsh(&WScriptHash::hash(witness_script().as_bytes()))
}

impl Faucet {
    /// Payouts that the chain does not hold, in the order in which they were made.
    pub(super) fn undone(&self, chain: &Chain) -> Vec<Arc<Transaction>> {
        let missing = |payout: &&Arc<Transaction>| chain.height_of(payout.compute_txid()).is_none();
        self.payouts.iter().filter(missing).cloned().collect()
    }

    /// A payout whose coins are gone for good is made anew, with others.
    pub(super) fn ask_again(&mut self, payout: &Arc<Transaction>) {
        self.payouts.retain(|other| !Arc::ptr_eq(other, payout));
        let asked = payout.output.iter().filter(|output| output.script_pubkey != script()).cloned();
        self.waiting.extend(asked);
    }

    /// Pays as much of what is waiting as the ripe coins allow, in the order asked for.
    pub(super) fn pay(&mut self, chain: &Chain) -> Option<Arc<Transaction>> {
        if self.waiting.is_empty() {
            return None;
        }
        let coins = ripe_coins(chain);
        let held = sum(coins.iter().map(|(_, value)| *value));
        let mut outputs: Vec<TxOut> = Vec::new();
        let mut paid = Amount::ZERO;
        while let Some(next) = self.waiting.first() {
            let Some(sum) = paid.checked_add(next.value).filter(|sum| *sum <= held) else { break };
            paid = sum;
            outputs.push(self.waiting.remove(0));
        }
        if outputs.is_empty() {
            return None;
        }
        let mut inputs = Vec::new();
        let mut taken = Amount::ZERO;
        for (outpoint, value) in coins {
            if taken >= paid {
                break;
            }
            taken = sum([taken, value]);
            inputs.push(outpoint);
        }
        let change = taken.checked_sub(paid).unwrap_or(Amount::ZERO);
        if change > Amount::ZERO {
            outputs.push(TxOut { value: change, script_pubkey: script() });
        }
        let transaction = Arc::new(spend(inputs, outputs));
        self.payouts.push(Arc::clone(&transaction));
        Some(transaction)
    }
}

fn sum(amounts: impl IntoIterator<Item = Amount>) -> Amount {
    amounts.into_iter().fold(Amount::ZERO, |sum, one| sum.checked_add(one).unwrap_or(Amount::MAX_MONEY))
}

/// The faucet's coins that the next block may spend, the largest first.
fn ripe_coins(chain: &Chain) -> Vec<(OutPoint, Amount)> {
    let (script, next) = (script(), chain.height().saturating_add(1));
    let mut coins: Vec<(OutPoint, Amount)> = chain
        .coins()
        .filter(|(_, coin)| coin.output.script_pubkey == script)
        .filter(|(_, coin)| !coin.coinbase || next.saturating_sub(coin.height) >= COINBASE_MATURITY)
        .map(|(outpoint, coin)| (*outpoint, coin.output.value))
        .collect();
    coins.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    coins.truncate(MAX_COINS);
    coins
}

fn spend(inputs: Vec<OutPoint>, output: Vec<TxOut>) -> Transaction {
    let input = inputs
        .into_iter()
        .map(|previous_output| TxIn {
            previous_output,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
            witness: Witness::from_slice(&[witness_script().as_bytes()]),
        })
        .collect();
    Transaction { version: Version::TWO, lock_time: LockTime::ZERO, input, output }
}
