//! Funding transactions: our own coins in, channel outputs and change out.

use std::collections::BTreeSet;

use bitcoin::sighash::SighashCache;
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, Transaction, TxOut, Txid, Weight};

use super::coin::{CoinFlaw, check_coin};
use crate::fees::{FeeBounds, fee_for};
use crate::limits;

/// What a funding transaction must be.
#[derive(Clone)]
pub struct FundingRules<'a> {
    /// The output that each input spends, in the order of the inputs, with its outpoint: from our own on-chain
    /// wallet, never from the counterparty.
    pub spent: &'a [(OutPoint, TxOut)],
    /// Outputs that must be there, each once, in any order.
    pub required: &'a [TxOut],
    /// The other outputs: each must be ours.
    pub is_ours: &'a dyn Fn(&bitcoin::Script) -> bool,
    /// Lowest and highest feerate.
    pub fees: FeeBounds,
}

/// Why a funding transaction must not be published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FundingFlaw {
    /// Not version 2. A version-3 funding transaction leaves no room for the child of a commitment.
    #[error("version {found}, 2 is needed")]
    Version {
        /// The version found.
        found: i32,
    },
    /// It spends nothing.
    #[error("no inputs")]
    NoInputs,
    /// An input is not the coin expected at its place.
    #[error("input {index} does not spend the expected coin")]
    Input {
        /// The input.
        index: usize,
    },
    /// A coin is spent twice.
    #[error("input {index} spends {outpoint} again")]
    DuplicateInput {
        /// The second input that spends it.
        index: usize,
        /// The coin.
        outpoint: OutPoint,
    },
    /// A required output is missing.
    #[error("the output of {} to {} is missing", .expected.value, .expected.script_pubkey)]
    MissingOutput {
        /// The output.
        expected: TxOut,
    },
    /// An output that nobody asked for and that is not ours.
    #[error("output {index} pays {value} to a stranger")]
    ForeignOutput {
        /// The output.
        index: usize,
        /// What it pays.
        value: Amount,
    },
    /// An output that nodes do not relay.
    #[error("output {index} of {value} is dust, {minimum} is needed")]
    Dust {
        /// The output.
        index: usize,
        /// What it pays.
        value: Amount,
        /// The least for its script.
        minimum: Amount,
    },
    /// More out than in.
    #[error("{outputs} out of {inputs}")]
    Overspent {
        /// Sum of the inputs.
        inputs: Amount,
        /// Sum of the outputs.
        outputs: Amount,
    },
    /// Heavier than nodes relay.
    #[error("weight {weight}, at most {maximum} is relayed")]
    Weight {
        /// Its weight.
        weight: Weight,
        /// The standard limit.
        maximum: Weight,
    },
    /// A fee below the floor.
    #[error("fee {fee}, at least {minimum} is needed")]
    FeeTooLow {
        /// What it pays.
        fee: Amount,
        /// The floor for its weight.
        minimum: Amount,
    },
    /// A fee above the ceiling.
    #[error("fee {fee}, at most {maximum} is allowed")]
    FeeTooHigh {
        /// What it pays.
        fee: Amount,
        /// The ceiling for its weight.
        maximum: Amount,
    },
    /// An input's witness is wrong.
    #[error("input {index}: {flaw}")]
    Coin {
        /// The input.
        index: usize,
        /// What is wrong.
        flaw: CoinFlaw,
    },
}

/// A funding transaction that kept all the rules: the only kind that is broadcast. Not kept across restarts; after a
/// replay it is verified again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FundingTransaction {
    transaction: Transaction,
    txid: Txid,
    fee: Amount,
}

impl FundingTransaction {
    /// Checks every rule.
    ///
    /// # Errors
    ///
    /// The first [`FundingFlaw`] in the order of its variants, but the weight before the fee.
    pub fn verify(transaction: Transaction, rules: &FundingRules<'_>) -> Result<Self, FundingFlaw> {
        check_inputs(&transaction, rules)?;
        check_outputs(&transaction, rules)?;
        let fee = check_fee(&transaction, rules)?;
        let prevouts: Vec<TxOut> = rules.spent.iter().map(|(_, output)| output.clone()).collect();
        let mut cache = SighashCache::new(&transaction);
        for (index, input) in transaction.input.iter().enumerate() {
            check_coin(&mut cache, index, &prevouts, &input.witness)
                .map_err(|flaw| FundingFlaw::Coin { index, flaw })?;
        }
        let txid = transaction.compute_txid();
        Ok(Self { transaction, txid, fee })
    }

    /// The transaction.
    pub fn transaction(&self) -> &Transaction {
        &self.transaction
    }

    /// Its id.
    pub fn txid(&self) -> Txid {
        self.txid
    }

    /// Its fee.
    pub fn fee(&self) -> Amount {
        self.fee
    }

    /// The index of the first output that equals `output`.
    pub fn position_of(&self, output: &TxOut) -> Option<u32> {
        let index = self.transaction.output.iter().position(|other| other == output)?;
        u32::try_from(index).ok()
    }
}

fn check_inputs(transaction: &Transaction, rules: &FundingRules<'_>) -> Result<(), FundingFlaw> {
    if transaction.version != Version::TWO {
        return Err(FundingFlaw::Version { found: transaction.version.0 });
    }
    if transaction.input.is_empty() {
        return Err(FundingFlaw::NoInputs);
    }
    let mut seen = BTreeSet::new();
    for (index, input) in transaction.input.iter().enumerate() {
        let outpoint = input.previous_output;
        if !seen.insert(outpoint) {
            return Err(FundingFlaw::DuplicateInput { index, outpoint });
        }
        if rules.spent.get(index).map(|(expected, _)| *expected) != Some(outpoint) {
            return Err(FundingFlaw::Input { index });
        }
    }
    if rules.spent.len() > transaction.input.len() {
        return Err(FundingFlaw::Input { index: transaction.input.len() });
    }
    Ok(())
}

fn check_outputs(transaction: &Transaction, rules: &FundingRules<'_>) -> Result<(), FundingFlaw> {
    let mut missing: Vec<&TxOut> = rules.required.iter().collect();
    for (index, output) in transaction.output.iter().enumerate() {
        match missing.iter().position(|expected| *expected == output) {
            Some(found) => {
                missing.swap_remove(found);
            }
            None if (rules.is_ours)(&output.script_pubkey) => {}
            None => return Err(FundingFlaw::ForeignOutput { index, value: output.value }),
        }
        let minimum = output.script_pubkey.minimal_non_dust();
        if output.value < minimum {
            return Err(FundingFlaw::Dust { index, value: output.value, minimum });
        }
    }
    match missing.first() {
        Some(expected) => Err(FundingFlaw::MissingOutput { expected: (*expected).clone() }),
        None => Ok(()),
    }
}

fn check_fee(transaction: &Transaction, rules: &FundingRules<'_>) -> Result<Amount, FundingFlaw> {
    let inputs = sum(rules.spent.iter().map(|(_, output)| output.value));
    let outputs = sum(transaction.output.iter().map(|output| output.value));
    let fee = inputs.checked_sub(outputs).ok_or(FundingFlaw::Overspent { inputs, outputs })?;
    let (weight, maximum) = (transaction.weight(), limits::STANDARD_WEIGHT);
    if weight > maximum {
        return Err(FundingFlaw::Weight { weight, maximum });
    }
    let minimum = fee_for(rules.fees.floor(), weight);
    if fee < minimum {
        return Err(FundingFlaw::FeeTooLow { fee, minimum });
    }
    let maximum = fee_for(rules.fees.ceiling(), weight);
    if fee > maximum {
        return Err(FundingFlaw::FeeTooHigh { fee, maximum });
    }
    Ok(fee)
}

/// The sum, or the largest amount if it does not fit, which no input sum reaches.
fn sum(mut values: impl Iterator<Item = Amount>) -> Amount {
    values.try_fold(Amount::ZERO, Amount::checked_add).unwrap_or(Amount::MAX)
}
