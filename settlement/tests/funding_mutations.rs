//! One valid funding transaction, one thing changed, exactly the flaw of the rule broken.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeSet;

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash;
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, OutPoint, Script, ScriptBuf, Sequence, Transaction, TxIn, TxOut, WScriptHash, Witness,
};
use common::{KeyCoins, hub_script, interpreter_accepts, sat};
use settlement::batch::CoinSigner;
use settlement::fees::{FeeBounds, fee_for};
use settlement::limits;
use settlement::verify::{CoinFlaw, FundingFlaw, FundingRules, FundingTransaction};

/// A transaction and what it is checked against.
#[derive(Clone)]
struct Subject {
    transaction: Transaction,
    spent: Vec<(OutPoint, TxOut)>,
    required: Vec<TxOut>,
}

fn channel_output() -> TxOut {
    TxOut { value: sat(60_000), script_pubkey: ScriptBuf::new_p2wsh(&WScriptHash::from_byte_array([3; 32])) }
}

/// Two coins, one channel, change.
fn valid() -> Subject {
    let coins = KeyCoins::new();
    let coins = [coins.p2wpkh(1, 1_000_000), coins.p2tr(2, 40_000)];
    let spent: Vec<(OutPoint, TxOut)> = coins.map(|coin| (coin.outpoint, coin.output)).to_vec();
    let input = |outpoint: OutPoint| TxIn {
        previous_output: outpoint,
        script_sig: ScriptBuf::new(),
        sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
        witness: Witness::new(),
    };
    let transaction = Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: spent.iter().map(|(outpoint, _)| input(*outpoint)).collect(),
        output: vec![TxOut { value: sat(979_000), script_pubkey: hub_script() }, channel_output()],
    };
    let mut subject = Subject { transaction, spent, required: vec![channel_output()] };
    sign(&mut subject);
    subject
}

fn prevouts(subject: &Subject) -> Vec<TxOut> {
    subject.spent.iter().map(|(_, output)| output.clone()).collect()
}

fn sign(subject: &mut Subject) {
    let signed = KeyCoins::new().sign_coins(&subject.transaction, &prevouts(subject)).unwrap();
    for (index, witness) in signed {
        subject.transaction.input[index].witness = witness;
    }
}

fn verify(subject: &Subject) -> Result<FundingTransaction, FundingFlaw> {
    let is_ours = |script: &Script| *script == *hub_script();
    let rules = FundingRules {
        spent: &subject.spent,
        required: &subject.required,
        is_ours: &is_ours,
        fees: FeeBounds::default(),
    };
    FundingTransaction::verify(subject.transaction.clone(), &rules)
}

/// A number for each rule; the match is whole, so that a new one is not forgotten.
fn rule(flaw: &FundingFlaw) -> usize {
    match flaw {
        FundingFlaw::Version { .. } => 0,
        FundingFlaw::NoInputs => 1,
        FundingFlaw::Input { .. } => 2,
        FundingFlaw::DuplicateInput { .. } => 3,
        FundingFlaw::MissingOutput { .. } => 4,
        FundingFlaw::ForeignOutput { .. } => 5,
        FundingFlaw::Dust { .. } => 6,
        FundingFlaw::Overspent { .. } => 7,
        FundingFlaw::Weight { .. } => 8,
        FundingFlaw::FeeTooLow { .. } => 9,
        FundingFlaw::FeeTooHigh { .. } => 10,
        FundingFlaw::Coin { .. } => 11,
    }
}

/// One more than the highest number in [`rule`].
const RULES: usize = 12;

type Case = (fn(&mut Subject), FundingFlaw);

fn fixed_cases() -> Vec<Case> {
    let first = valid().spent[0].0;
    vec![
        (|subject| subject.transaction.version = Version::non_standard(3), FundingFlaw::Version { found: 3 }),
        (|subject| subject.transaction.input.clear(), FundingFlaw::NoInputs),
        (|subject| subject.transaction.input.swap(0, 1), FundingFlaw::Input { index: 0 }),
        (
            |subject| {
                subject.transaction.input.pop();
            },
            FundingFlaw::Input { index: 1 },
        ),
        (
            |subject| subject.transaction.input[1].previous_output = subject.spent[0].0,
            FundingFlaw::DuplicateInput { index: 1, outpoint: first },
        ),
        (
            |subject| {
                subject.transaction.output.pop();
            },
            FundingFlaw::MissingOutput { expected: channel_output() },
        ),
        (
            |subject| subject.required.push(channel_output()),
            FundingFlaw::MissingOutput { expected: channel_output() },
        ),
        (
            |subject| subject.transaction.output[1].value = sat(59_999),
            FundingFlaw::ForeignOutput { index: 1, value: sat(59_999) },
        ),
        (
            |subject| subject.transaction.output[0].value = sat(329),
            FundingFlaw::Dust { index: 0, value: sat(329), minimum: sat(330) },
        ),
        (
            |subject| subject.transaction.output[0].value = sat(980_001),
            FundingFlaw::Overspent { inputs: sat(1_040_000), outputs: sat(1_040_001) },
        ),
        (
            |subject| subject.transaction.output[0].value -= sat(1),
            FundingFlaw::Coin { index: 0, flaw: CoinFlaw::Signature },
        ),
        (
            |subject| subject.spent[1].1.value += sat(1),
            FundingFlaw::Coin { index: 1, flaw: CoinFlaw::Signature },
        ),
    ]
}

fn fee_cases() -> Vec<Case> {
    let subject = valid();
    let weight = subject.transaction.weight();
    let limits = FeeBounds::default();
    let split: fn(&mut Subject) = |subject| {
        let part = TxOut { value: sat(400), script_pubkey: hub_script() };
        subject.transaction.output.extend(std::iter::repeat_n(part, 2_400));
        subject.transaction.output[0].value = sat(400);
    };
    let mut heavy = subject;
    split(&mut heavy);
    let heavy = heavy.transaction.weight();
    let maximum = limits::STANDARD_WEIGHT;
    vec![
        (
            |subject| subject.transaction.output[0].value = sat(979_990),
            FundingFlaw::FeeTooLow { fee: sat(10), minimum: fee_for(limits.floor(), weight) },
        ),
        (
            |subject| subject.transaction.output[0].value = sat(400),
            FundingFlaw::FeeTooHigh { fee: sat(979_600), maximum: fee_for(limits.ceiling(), weight) },
        ),
        (split, FundingFlaw::Weight { weight: heavy, maximum }),
    ]
}

#[test]
fn the_unchanged_transaction_is_valid() {
    let subject = valid();
    assert!(interpreter_accepts(&subject.transaction, &prevouts(&subject)));
    let funding = verify(&subject).unwrap();
    assert_eq!(funding.fee(), Amount::from_sat(1_000));
    assert_eq!(funding.position_of(&channel_output()), Some(1));
}

#[test]
fn each_change_is_found_by_its_rule_and_each_rule_has_a_change() {
    let mut covered = BTreeSet::new();
    for (change, flaw) in fixed_cases().into_iter().chain(fee_cases()) {
        let mut subject = valid();
        change(&mut subject);
        assert_eq!(verify(&subject), Err(flaw.clone()));
        covered.insert(rule(&flaw));
    }
    assert_eq!(covered, (0..RULES).collect(), "each rule needs a case");
}
