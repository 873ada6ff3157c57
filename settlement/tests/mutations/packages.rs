//! A commitment with its child: one thing changed, exactly the flaw of the rule broken.

use std::collections::BTreeSet;

use bitcoin::absolute::LockTime;
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, EcdsaSighashType, FeeRate, OutPoint, ScriptBuf, Sequence, Transaction, TxOut, WPubkeyHash,
    Witness,
};
use channel::commitment::HtlcDirection::{Offered, Received};
use channel::format::CommitmentFormat;
use settlement::claim::{ChildRequest, anchor_of, build_child};
use settlement::fees::{FeeBounds, fee_for};
use settlement::flaw::Flaw;
use settlement::limits;
use settlement::verify::{
    BumpJob, ChildJob, CloseJob, CoinFlaw, FundingWitnessFlaw, ParentSource, UnilateralJob,
};

use super::{Kind, assert_each_rule_was_found};
use crate::common::onchain::{channel, channel_of_format, htlc, two_htlcs};
use crate::common::{KeyCoins, hub_script, interpreter_accepts, sat};

const COIN: usize = 1;
const COIN_SAT: u64 = 100_000;

fn child(parent: &Transaction) -> ChildJob {
    let (coins, script) = ([KeyCoins::new().p2wpkh(1, COIN_SAT)], hub_script());
    let request = ChildRequest {
        parent,
        coins: &coins,
        script: &script,
        feerate: FeeRate::from_sat_per_kwu(2_500),
        budget: sat(50_000),
        bounds: FeeBounds::default(),
        replaces: &[],
    };
    build_child(&request, &KeyCoins::new()).unwrap().child
}

fn unilateral() -> UnilateralJob {
    let publish = channel(0).publish(two_htlcs());
    let child = child(&publish.transaction);
    UnilateralJob::new(&publish, Some(child))
}

fn bump() -> BumpJob {
    let parent = channel(0).publish(two_htlcs()).transaction;
    let child = child(&parent);
    BumpJob { parent, source: ParentSource::Given, own_fundings: BTreeSet::new(), child }
}

fn stranger() -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&WPubkeyHash::from_raw_hash(bitcoin::hashes::Hash::hash(b"a stranger")))
}

fn set_element(transaction: &mut Transaction, input: usize, element: usize, bytes: &[u8]) {
    let mut elements = transaction.input[input].witness.to_vec();
    elements[element] = bytes.to_vec();
    transaction.input[input].witness = Witness::from_slice(&elements);
}

fn split_the_change(child: &mut ChildJob) {
    let part = TxOut { value: sat(400), script_pubkey: hub_script() };
    child.transaction.output = vec![part; 25];
}

/// A change of a child, and the flaw that it makes in both kinds of packages.
type ChildCase = (fn(&mut ChildJob), Flaw);

fn form_cases() -> Vec<ChildCase> {
    let valid = unilateral();
    let (anchor, _) = anchor_of(&valid.transaction).unwrap();
    let coin = valid.child.unwrap().coins[0].outpoint;
    vec![
        (
            |child| child.transaction.version = Version::TWO,
            Flaw::Version { found: Version::TWO, expected: Version::non_standard(3) },
        ),
        (
            |child| child.transaction.lock_time = LockTime::from_consensus(1),
            Flaw::LockTime { found: LockTime::from_consensus(1), expected: LockTime::ZERO },
        ),
        (
            |child| {
                child.transaction.input.pop();
            },
            Flaw::InputCount { found: 1, expected: 2 },
        ),
        (
            |child| {
                child.transaction.input[COIN].previous_output = child.transaction.input[0].previous_output
            },
            Flaw::DuplicateInput { index: COIN, outpoint: anchor },
        ),
        (
            |child| child.transaction.input.swap(0, COIN),
            Flaw::Input { index: 0, found: coin, expected: anchor },
        ),
        (
            |child| child.transaction.input[0].previous_output.vout ^= 1,
            Flaw::Input { index: 0, found: OutPoint { vout: anchor.vout ^ 1, ..anchor }, expected: anchor },
        ),
        (
            |child| child.transaction.input[COIN].sequence = Sequence::MAX,
            Flaw::Sequence { index: COIN, found: Sequence::MAX, expected: Sequence::ENABLE_RBF_NO_LOCKTIME },
        ),
        (
            |child| child.transaction.input[0].script_sig = ScriptBuf::from_bytes(vec![0]),
            Flaw::ScriptSig { index: 0 },
        ),
        (|child| child.transaction.input[0].witness.push([1]), Flaw::AnchorWitness),
        (
            |child| child.transaction.output[0].value -= sat(1),
            Flaw::Coin { index: COIN, flaw: CoinFlaw::Signature },
        ),
    ]
}

fn amount_cases() -> Vec<ChildCase> {
    let valid = unilateral();
    let child = valid.child.unwrap();
    let package = valid.transaction.weight() + child.transaction.weight();
    let change = child.transaction.output[0].value;
    let paid = sat(COIN_SAT) - change;
    let mut heavy = child;
    split_the_change(&mut heavy);
    vec![
        (|child| child.transaction.output.clear(), Flaw::NoOutputs),
        (
            |child| child.transaction.output[0].script_pubkey = stranger(),
            Flaw::ForeignOutput { index: 0, value: change },
        ),
        (
            |child| child.transaction.output[0].value = sat(329),
            Flaw::Dust { index: 0, value: sat(329), minimum: sat(330) },
        ),
        (|child| child.coins[0].output.value = Amount::MAX_MONEY + sat(1), Flaw::ImpossibleSum),
        (
            |child| child.transaction.output[0].value = sat(COIN_SAT + 1),
            Flaw::Overspent { inputs: sat(COIN_SAT), outputs: sat(COIN_SAT + 1) },
        ),
        (
            split_the_change,
            Flaw::Weight { found: heavy.transaction.weight(), maximum: limits::MAX_TRUC_CHILD_WEIGHT },
        ),
        (
            // Enough for the child alone, too little for both.
            |child| child.transaction.output[0].value = sat(COIN_SAT - 200),
            Flaw::FeeTooLow { found: sat(200), minimum: fee_for(limits::FEERATE_FLOOR, package) },
        ),
        (
            |child| child.fees = FeeBounds::new(limits::FEERATE_FLOOR, limits::FEERATE_FLOOR).unwrap(),
            Flaw::FeeTooHigh { found: paid, maximum: fee_for(limits::FEERATE_FLOOR, package) },
        ),
        (|child| child.budget = sat(100), Flaw::Budget { found: paid, budget: sat(100) }),
    ]
}

type ParentCase = (fn() -> UnilateralJob, Flaw);

fn changed(change: fn(&mut UnilateralJob)) -> UnilateralJob {
    let mut job = unilateral();
    change(&mut job);
    job
}

fn own_parent_cases() -> Vec<ParentCase> {
    let expected = unilateral().commitment.txid();
    let witness = |flaw| Flaw::FundingWitness { flaw };
    let heavy = || {
        let htlcs = (0..240).map(|id| htlc(if id < 120 { Offered } else { Received }, id, 4_000));
        UnilateralJob::new(&channel(0).publish(htlcs.collect()), None)
    };
    let old_format = || {
        let channel = channel_of_format(0, CommitmentFormat::AnchorsZeroFeeHtlc);
        UnilateralJob::new(&channel.publish(two_htlcs()), None)
    };
    let other = channel(1).publish(two_htlcs()).transaction;
    vec![
        (
            || changed(|job| job.transaction = channel(1).publish(two_htlcs()).transaction),
            Flaw::Parent { found: other.compute_txid(), expected },
        ),
        (old_format, Flaw::ParentVersion { found: Version::TWO }),
        (
            heavy,
            Flaw::ParentWeight {
                found: heavy().transaction.weight(),
                maximum: channel::limits::MAX_COMMITMENT_WEIGHT,
            },
        ),
        (
            || changed(|job| job.funding_amount += sat(1)),
            Flaw::ParentFee { outputs: sat(2_000_000), funding: sat(2_000_001) },
        ),
        (
            || changed(|job| job.transaction.input[0].witness.clear()),
            witness(FundingWitnessFlaw::Form { found: 0 }),
        ),
        (
            || changed(|job| set_element(&mut job.transaction, 0, 0, &[1])),
            witness(FundingWitnessFlaw::Form { found: 4 }),
        ),
        (
            || changed(|job| job.funding_script = channel(1).hub.funding_script().clone()),
            witness(FundingWitnessFlaw::Script),
        ),
        (
            || changed(|job| set_element(&mut job.transaction, 0, 2, &[0x30])),
            witness(FundingWitnessFlaw::Encoding { position: 1 }),
        ),
        (
            || {
                changed(|job| {
                    let mut signature = job.transaction.input[0].witness.nth(1).unwrap().to_vec();
                    *signature.last_mut().unwrap() = 0x83;
                    set_element(&mut job.transaction, 0, 1, &signature);
                })
            },
            witness(FundingWitnessFlaw::Sighash {
                position: 0,
                found: EcdsaSighashType::SinglePlusAnyoneCanPay,
            }),
        ),
        (
            || {
                changed(|job| {
                    let other = job.transaction.input[0].witness.nth(1).unwrap().to_vec();
                    set_element(&mut job.transaction, 0, 2, &other);
                })
            },
            witness(FundingWitnessFlaw::Signature { position: 1 }),
        ),
    ]
}

type BumpCase = (fn(&mut BumpJob), Flaw);

fn others_parent_cases() -> Vec<BumpCase> {
    let parent = bump().parent;
    let funding = parent.input[0].previous_output;
    let mut heavy = bump();
    make_heavy(&mut heavy);
    vec![
        (|job| job.parent.version = Version::TWO, Flaw::ParentVersion { found: Version::TWO }),
        (make_heavy, Flaw::ParentWeight { found: heavy.parent.weight(), maximum: limits::MAX_TRUC_WEIGHT }),
        (
            |job| job.parent.input.push(job.child.transaction.input[1].clone()),
            Flaw::ParentInputs { found: 2 },
        ),
        (|job| job.parent.output.retain(|output| output.value > Amount::ZERO), Flaw::Anchors { found: 0 }),
        (
            |job| job.parent.output.push(TxOut { value: sat(240), script_pubkey: ScriptBuf::new_p2a() }),
            Flaw::Anchors { found: 2 },
        ),
        (
            |job| {
                let anchor = job.parent.output.iter_mut().find(|output| output.value == Amount::ZERO);
                anchor.unwrap().value = sat(241);
            },
            Flaw::AnchorValue { found: sat(241), maximum: sat(240) },
        ),
        (
            |job| job.own_fundings = BTreeSet::from([job.parent.input[0].previous_output]),
            Flaw::OwnChannel { funding },
        ),
    ]
}

fn make_heavy(job: &mut BumpJob) {
    let part = TxOut { value: sat(400), script_pubkey: hub_script() };
    job.parent.output.extend(std::iter::repeat_n(part, 240));
}

#[test]
fn the_unchanged_packages_are_valid() {
    let job = unilateral();
    let (_, anchor) = anchor_of(&job.transaction).unwrap();
    let child = job.child.clone().unwrap();
    let spent = [anchor, child.coins[0].output.clone()];
    assert!(interpreter_accepts(&child.transaction, &spent));
    assert!(interpreter_accepts(&job.transaction, &[channel(0).hub.funding_output()]));
    CloseJob::Unilateral(Box::new(job)).verify().unwrap();
    CloseJob::Bump(bump()).verify().unwrap();
}

#[test]
fn each_change_of_a_unilateral_close_is_found_and_each_rule_has_a_change() {
    let mut found = Vec::new();
    let flaw_of = |job| CloseJob::Unilateral(Box::new(job)).verify().unwrap_err();
    for (change, flaw) in form_cases().into_iter().chain(amount_cases()) {
        let mut job = unilateral();
        change(job.child.as_mut().unwrap());
        assert_eq!(flaw_of(job), flaw);
        found.push(flaw);
    }
    for (job, flaw) in own_parent_cases() {
        assert_eq!(flaw_of(job()), flaw);
        found.push(flaw);
    }
    assert_each_rule_was_found(Kind::Unilateral, found);
}

#[test]
fn each_change_of_a_bump_is_found_and_each_rule_has_a_change() {
    let mut found = Vec::new();
    let flaw_of = |job| CloseJob::Bump(job).verify().unwrap_err();
    for (change, flaw) in form_cases().into_iter().chain(amount_cases()) {
        let mut job = bump();
        change(&mut job.child);
        assert_eq!(flaw_of(job), flaw);
        found.push(flaw);
    }
    for (change, flaw) in others_parent_cases() {
        let mut job = bump();
        change(&mut job);
        assert_eq!(flaw_of(job), flaw);
        found.push(flaw);
    }
    assert_each_rule_was_found(Kind::Bump, found);
}

#[test]
fn a_commitment_alone_is_judged_like_one_with_a_child() {
    for (job, flaw) in own_parent_cases() {
        let alone = UnilateralJob { child: None, ..job() };
        assert_eq!(CloseJob::Unilateral(Box::new(alone)).verify(), Err(flaw));
    }
}
