//! The fee of a claim or child, the coins that pay it, and the change.
//!
//! A draft says what the transaction must spend and pay, and this module adds the fewest coins that will do: none, then
//! the smallest that suffices alone, then the largest together.

use bitcoin::absolute::LockTime;
use bitcoin::transaction::Version;
use bitcoin::{Amount, FeeRate, OutPoint, Script, Sequence, Transaction, TxIn, TxOut, Weight, Witness};

use super::BuildError;
use crate::fees::{FeeBounds, Outbid, Unconfirmed, fee_for};
use crate::limits;
use crate::verify::BatchCoin;
use crate::weigh;

/// The sequence of coins: replaceable, without a relative lock.
pub(crate) const COIN_SEQUENCE: Sequence = Sequence::ENABLE_RBF_NO_LOCKTIME;

/// What a transaction may pay.
#[derive(Debug, Clone, Copy)]
pub(super) struct FeePolicy<'a> {
    /// Aimed at; less is paid where the budget ends, more where a replacement must.
    pub feerate: FeeRate,
    /// The highest fee.
    pub budget: Amount,
    /// Lowest and highest feerate.
    pub bounds: FeeBounds,
    /// What it replaces.
    pub replaces: &'a [Unconfirmed],
    /// What its parent weighs, which pays nothing itself.
    pub parent: Weight,
}

/// What a transaction must spend and pay.
pub(super) struct Draft<'a> {
    pub version: Version,
    pub lock_time: LockTime,
    /// Inputs before the coins, their values, and what their witnesses will weigh at most.
    pub inputs: Vec<TxIn>,
    pub brought: Amount,
    pub witnesses: Weight,
    /// Signatures in those witnesses.
    pub signatures: usize,
    /// Outputs before the change.
    pub outputs: Vec<TxOut>,
    /// Takes what is left.
    pub change: &'a Script,
    pub maximum_weight: Weight,
}

/// A draft with coins and change.
pub(super) struct Balanced {
    pub transaction: Transaction,
    pub coins: Vec<BatchCoin>,
    pub fee: Amount,
    /// What it weighs once signed, at most.
    pub weight: Weight,
}

impl Draft<'_> {
    /// Adds coins of `candidates` until what is left after the outputs pays the fee.
    pub fn balance(&self, candidates: &[BatchCoin], policy: &FeePolicy<'_>) -> Result<Balanced, BuildError> {
        let outbid =
            Outbid::of(policy.replaces, limits::INCREMENTAL_FEERATE).ok_or(BuildError::ImpossibleSum)?;
        let fees = Fees { policy, outbid };
        let mut missing = match self.settle(&[], &fees)? {
            Ok(balanced) => return Ok(balanced),
            Err(missing) => missing,
        };
        let mut coins = candidates.to_vec();
        coins.sort_by_key(|coin| (coin.output.value, coin.outpoint));
        // A coin weighs something itself, so one below what is missing cannot do.
        let first = coins.partition_point(|coin| coin.output.value < missing);
        for coin in &coins[first..] {
            if let Ok(balanced) = self.settle(std::slice::from_ref(coin), &fees)? {
                return Ok(balanced);
            }
        }
        coins.reverse();
        for count in 1..=coins.len().min(limits::MAX_FEE_COINS) {
            match self.settle(&coins[..count], &fees)? {
                Ok(balanced) => return Ok(balanced),
                Err(short) => missing = short,
            }
        }
        Err(BuildError::NotEnoughCoins { missing })
    }

    /// With change if it is worth an output; without, if there is another output and what is left over is no more than
    /// the fee may be; else what is missing.
    fn settle(&self, coins: &[BatchCoin], fees: &Fees<'_>) -> Result<Result<Balanced, Amount>, BuildError> {
        let brought = sum(coins.iter().map(|coin| coin.output.value).chain([self.brought]))?;
        let paid = sum(self.outputs.iter().map(|output| output.value))?;
        let least = self.change.minimal_non_dust();
        let change = TxOut { value: least, script_pubkey: self.change.to_owned() };
        let (mut with, weight) = self.transaction(coins, Some(change));
        let fee = fees.fee(weight, self.lightest(weight, coins))?;
        let needed = sum([paid, fee, least].into_iter())?;
        if weight <= self.maximum_weight
            && let Some(over) = brought.checked_sub(needed)
        {
            let value = sum([least, over].into_iter())?;
            with.output.last_mut().expect("the change was just added").value = value;
            return Ok(Ok(Balanced { transaction: with, coins: coins.to_vec(), fee, weight }));
        }
        let short = needed.checked_sub(brought).unwrap_or(Amount::ZERO);
        if self.outputs.is_empty() {
            return Ok(Err(short));
        }
        let (without, weight) = self.transaction(coins, None);
        let lightest = self.lightest(weight, coins);
        let least = fees.fee(weight, lightest)?;
        match brought.checked_sub(paid) {
            Some(fee) if fee >= least && fee <= fees.most(lightest) && weight <= self.maximum_weight => {
                Ok(Ok(Balanced { transaction: without, coins: coins.to_vec(), fee, weight }))
            }
            Some(_) | None => Ok(Err(short)),
        }
    }

    fn transaction(&self, coins: &[BatchCoin], change: Option<TxOut>) -> (Transaction, Weight) {
        let inputs = coins.iter().map(|coin| coin_input(coin.outpoint));
        let transaction = Transaction {
            version: self.version,
            lock_time: self.lock_time,
            input: self.inputs.iter().cloned().chain(inputs).collect(),
            output: self.outputs.iter().cloned().chain(change).collect(),
        };
        let coins: Weight = coins.iter().map(weigh::coin_witness).sum();
        let weight = transaction.weight() + weigh::SEGWIT_MARK + self.witnesses + coins;
        (transaction, weight)
    }

    /// The least that it weighs once signed.
    fn lightest(&self, weight: Weight, coins: &[BatchCoin]) -> Weight {
        let signatures = self.signatures + coins.len();
        let slack = signatures * (limits::MAX_SIGNATURE_BYTES - limits::SHORTEST_SIGNATURE_BYTES);
        let slack = Weight::from_wu(u64::try_from(slack).unwrap_or(u64::MAX));
        weight.checked_sub(slack).unwrap_or(Weight::ZERO)
    }
}

struct Fees<'a> {
    policy: &'a FeePolicy<'a>,
    outbid: Outbid,
}

impl Fees<'_> {
    /// What a transaction of at most `weight` and at least `lightest` pays.
    fn fee(&self, weight: Weight, lightest: Weight) -> Result<Amount, BuildError> {
        let policy = self.policy;
        let package = weight + policy.parent;
        let floor = fee_for(policy.bounds.floor(), package);
        let replacing = self.outbid.minimum(weight, package).ok_or(BuildError::ImpossibleSum)?;
        let least = floor.max(replacing);
        let most = self.most(lightest);
        if least > most {
            return Err(BuildError::OverBudget { needed: least, allowed: most });
        }
        Ok(fee_for(policy.feerate, package).clamp(least, most))
    }

    /// The most that a transaction of at least `lightest` may pay.
    fn most(&self, lightest: Weight) -> Amount {
        let ceiling = fee_for(self.policy.bounds.ceiling(), lightest + self.policy.parent);
        ceiling.min(self.policy.budget)
    }
}

/// The unsigned input of a coin.
pub(super) fn coin_input(previous_output: OutPoint) -> TxIn {
    TxIn {
        previous_output,
        script_sig: bitcoin::ScriptBuf::new(),
        sequence: COIN_SEQUENCE,
        witness: Witness::new(),
    }
}

fn sum(mut amounts: impl Iterator<Item = Amount>) -> Result<Amount, BuildError> {
    amounts
        .try_fold(Amount::ZERO, Amount::checked_add)
        .filter(|sum| *sum <= Amount::MAX_MONEY)
        .ok_or(BuildError::ImpossibleSum)
}
