//! Rules that a claim and a commitment's child have in common: inputs in order, outputs to us, and a fee within bounds.

use std::collections::HashSet;

use bitcoin::sighash::SighashCache;
use bitcoin::{Amount, OutPoint, Script, ScriptBuf, Sequence, Transaction, TxOut, Weight};

use super::batch::BatchCoin;
use super::coin::check_coin;
use crate::fees::{FeeBounds, fee_for};
use crate::flaw::Flaw;

/// An input that is expected at its place.
pub(super) struct Expected {
    pub outpoint: OutPoint,
    pub sequence: Sequence,
}

/// Every input is there, in order, once, with its sequence and without a script.
pub(super) fn check_inputs(transaction: &Transaction, expected: &[Expected]) -> Result<(), Flaw> {
    let inputs = &transaction.input;
    if inputs.len() != expected.len() {
        return Err(Flaw::InputCount { found: inputs.len(), expected: expected.len() });
    }
    let mut seen = HashSet::with_capacity(inputs.len());
    for (index, (input, expected)) in inputs.iter().zip(expected).enumerate() {
        let found = input.previous_output;
        if !seen.insert(found) {
            return Err(Flaw::DuplicateInput { index, outpoint: found });
        }
        if found != expected.outpoint {
            return Err(Flaw::Input { index, found, expected: expected.outpoint });
        }
        if input.sequence != expected.sequence {
            let expected = expected.sequence;
            return Err(Flaw::Sequence { index, found: input.sequence, expected });
        }
        if !input.script_sig.is_empty() {
            return Err(Flaw::ScriptSig { index });
        }
    }
    Ok(())
}

/// Every output from `first` on pays to one of our scripts, none is dust, and there is one.
pub(super) fn check_outputs(
    transaction: &Transaction,
    first: usize,
    own_scripts: &[ScriptBuf],
) -> Result<(), Flaw> {
    if transaction.output.is_empty() {
        return Err(Flaw::NoOutputs);
    }
    for (index, output) in transaction.output.iter().enumerate() {
        let value = output.value;
        if index >= first && !own_scripts.contains(&output.script_pubkey) {
            return Err(Flaw::ForeignOutput { index, value });
        }
        let minimum = Script::minimal_non_dust(&output.script_pubkey);
        if value < minimum {
            return Err(Flaw::Dust { index, value, minimum });
        }
    }
    Ok(())
}

/// How a fee is judged.
pub(super) struct FeeRules {
    pub fees: FeeBounds,
    pub budget: Amount,
    pub maximum_weight: Weight,
    /// What the transaction pays for besides itself.
    pub parent: Weight,
}

/// Conservation, weight, feerate and budget. Returns the fee.
pub(super) fn check_amounts(
    transaction: &Transaction,
    spent: impl Iterator<Item = Amount>,
    rules: &FeeRules,
) -> Result<Amount, Flaw> {
    let inputs = sum(spent)?;
    let outputs = sum(transaction.output.iter().map(|output| output.value))?;
    let fee = inputs.checked_sub(outputs).ok_or(Flaw::Overspent { inputs, outputs })?;
    let weight = transaction.weight();
    if weight > rules.maximum_weight {
        return Err(Flaw::Weight { found: weight, maximum: rules.maximum_weight });
    }
    let package = weight.checked_add(rules.parent).unwrap_or(Weight::MAX);
    let minimum = fee_for(rules.fees.floor(), package);
    if fee < minimum {
        return Err(Flaw::FeeTooLow { found: fee, minimum });
    }
    let maximum = fee_for(rules.fees.ceiling(), package);
    if fee > maximum {
        return Err(Flaw::FeeTooHigh { found: fee, maximum });
    }
    if fee > rules.budget {
        return Err(Flaw::Budget { found: fee, budget: rules.budget });
    }
    Ok(fee)
}

/// The sum, if it is an amount that there can be.
pub(super) fn sum(mut amounts: impl Iterator<Item = Amount>) -> Result<Amount, Flaw> {
    amounts
        .try_fold(Amount::ZERO, Amount::checked_add)
        .filter(|sum| *sum <= Amount::MAX_MONEY)
        .ok_or(Flaw::ImpossibleSum)
}

/// The witnesses of our own coins, which follow `before`, the other outputs spent.
pub(super) fn check_coins(
    transaction: &Transaction,
    before: impl Iterator<Item = TxOut>,
    coins: &[BatchCoin],
) -> Result<(), Flaw> {
    if coins.is_empty() {
        return Ok(());
    }
    let prevouts: Vec<TxOut> = before.chain(coins.iter().map(|coin| coin.output.clone())).collect();
    let first = prevouts.len() - coins.len();
    let mut cache = SighashCache::new(transaction);
    for (index, input) in transaction.input.iter().enumerate().skip(first) {
        check_coin(&mut cache, index, &prevouts, &input.witness)
            .map_err(|flaw| Flaw::Coin { index, flaw })?;
    }
    Ok(())
}
