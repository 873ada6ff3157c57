//! A transaction of claims: one thing changed, exactly the flaw of the rule broken.

use bitcoin::absolute::LockTime;
use bitcoin::transaction::Version;
use bitcoin::{Amount, ScriptBuf, Sequence, TxOut, WPubkeyHash, Witness};
use channel::bytes::PaymentPreimage;
use channel::claim::{ClaimError, Contest, SpendPath};
use channel::commitment::HtlcDirection::{Offered, Received};
use settlement::claim::{ContestClass, group};
use settlement::fees::{FeeBounds, fee_for};
use settlement::flaw::Flaw;
use settlement::limits;
use settlement::verify::{ClaimJob, CloseJob, CoinFlaw};

use super::{Kind, assert_each_rule_was_found};
use crate::common::onchain::{EXPIRY, HEIGHT, build, channel, claim_job, claimed_outputs, htlc};
use crate::common::{KeyCoins, hub_script, interpreter_accepts, sat};

/// The place of the coin's input and of the change in [`paired`].
const COIN: usize = 2;
const CHANGE: usize = 2;
/// What the coin holds.
const COIN_SAT: u64 = 100_000;

/// Two HTLC transactions, a coin, change.
fn paired() -> ClaimJob {
    let claims = channel(0).own_claims(vec![htlc(Received, 0, 50_000), htlc(Received, 1, 60_000)]);
    let coin = KeyCoins::new().p2wpkh(1, COIN_SAT);
    let job = claim_job(&build(&group(&claims, HEIGHT)[0], HEIGHT, &[coin]).job).clone();
    assert_eq!((job.transaction.input.len(), job.transaction.output.len()), (COIN + 1, CHANGE + 1));
    job
}

/// Two HTLCs back after their expiries, which differ, out of the other's commitment.
fn direct() -> ClaimJob {
    let mut later = htlc(Received, 1, 60_000);
    later.cltv_expiry = EXPIRY + 3;
    let claims = channel(0).their_claims(vec![htlc(Received, 0, 50_000), later]);
    let groups = group(&claims, EXPIRY + 3);
    let timeouts = groups.iter().find(|group| group.class() == ContestClass::Now).unwrap();
    let job = claim_job(&build(timeouts, EXPIRY + 3, &[]).job).clone();
    assert_eq!((job.transaction.input.len(), job.transaction.output.len()), (2, 1));
    job
}

fn flaw_of(job: ClaimJob) -> Flaw {
    CloseJob::Claim(job).verify().unwrap_err()
}

fn stranger() -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&WPubkeyHash::from_raw_hash(bitcoin::hashes::Hash::hash(b"a stranger")))
}

fn fee(job: &ClaimJob) -> Amount {
    let spent: Amount = claimed_outputs(job).iter().map(|output| output.value).sum();
    spent - job.transaction.output.iter().map(|output| output.value).sum()
}

fn set_lock_time(path: &mut SpendPath, to: LockTime) {
    match path {
        SpendPath::Direct { lock_time, .. } | SpendPath::HtlcTransaction { lock_time, .. } => *lock_time = to,
    }
}

fn set_element(job: &mut ClaimJob, input: usize, element: usize, bytes: &[u8]) {
    let mut elements = job.transaction.input[input].witness.to_vec();
    elements[element] = bytes.to_vec();
    job.transaction.input[input].witness = Witness::from_slice(&elements);
}

/// A valid job, a change of it, and the flaw that it makes.
type Case = (fn() -> ClaimJob, fn(&mut ClaimJob), Flaw);

fn form_cases() -> Vec<Case> {
    let (two, three) = (Version::TWO, Version::non_standard(3));
    let height = LockTime::from_consensus;
    let bucket = (EXPIRY + 1) / limits::CONTEST_BUCKET_BLOCKS;
    let shared = ContestClass::From { bucket };
    vec![
        (paired, |job| job.claims.clear(), Flaw::NoClaims),
        (
            paired,
            |job| set_lock_time(&mut job.claims[1].path, LockTime::from_consensus(5)),
            Flaw::MixedForms { index: 1 },
        ),
        (paired, |job| job.claims[1] = direct().claims[1].clone(), Flaw::MixedForms { index: 1 }),
        (
            paired,
            |job| job.claims[1].contest = Contest::Never,
            Flaw::MixedContests { index: 1, found: ContestClass::Never, expected: shared },
        ),
        (
            paired,
            |job| job.claims[0].contest = Contest::Now,
            Flaw::MixedContests { index: 1, found: shared, expected: ContestClass::Now },
        ),
        (direct, |job| job.tip -= 1, Flaw::TooEarly { index: 1, earliest: EXPIRY + 4, tip: EXPIRY + 2 }),
        (paired, |job| job.transaction.version = Version::TWO, Flaw::Version { found: two, expected: three }),
        (
            direct,
            |job| job.transaction.version = Version::non_standard(3),
            Flaw::Version { found: three, expected: two },
        ),
        (
            paired,
            |job| job.transaction.lock_time = LockTime::from_consensus(1),
            Flaw::LockTime { found: height(1), expected: LockTime::ZERO },
        ),
        (
            direct,
            |job| job.transaction.lock_time = LockTime::from_consensus(EXPIRY),
            Flaw::LockTime { found: height(EXPIRY), expected: height(EXPIRY + 3) },
        ),
        (
            direct,
            |job| {
                let later = LockTime::from_consensus(EXPIRY + 4);
                set_lock_time(&mut job.claims[0].path, later);
                job.transaction.lock_time = later;
            },
            Flaw::NotFinal { lock_time: height(EXPIRY + 4), tip: EXPIRY + 3 },
        ),
    ]
}

fn input_cases() -> Vec<Case> {
    let job = paired();
    let outpoints = [job.claims[0].outpoint, job.claims[1].outpoint];
    let sequence = job.claims[1].sequence();
    let expected = COIN + 1;
    vec![
        (
            paired,
            |job| {
                job.transaction.input.pop();
            },
            Flaw::InputCount { found: COIN, expected },
        ),
        (
            paired,
            |job| job.transaction.input.push(job.transaction.input[0].clone()),
            Flaw::InputCount { found: COIN + 2, expected },
        ),
        (
            paired,
            |job| job.transaction.input[1].previous_output = job.claims[0].outpoint,
            Flaw::DuplicateInput { index: 1, outpoint: outpoints[0] },
        ),
        (
            paired,
            |job| job.transaction.input.swap(0, 1),
            Flaw::Input { index: 0, found: outpoints[1], expected: outpoints[0] },
        ),
        (
            paired,
            |job| job.transaction.input[1].sequence = Sequence::MAX,
            Flaw::Sequence { index: 1, found: Sequence::MAX, expected: sequence },
        ),
        (
            paired,
            |job| job.transaction.input[COIN].sequence = Sequence::MAX,
            Flaw::Sequence { index: COIN, found: Sequence::MAX, expected: Sequence::ENABLE_RBF_NO_LOCKTIME },
        ),
        (
            paired,
            |job| job.transaction.input[1].script_sig = ScriptBuf::from_bytes(vec![0]),
            Flaw::ScriptSig { index: 1 },
        ),
    ]
}

fn output_cases() -> Vec<Case> {
    let signed = paired().transaction.output;
    let pair =
        |index: usize, found: Option<TxOut>| Flaw::Pair { index, found, expected: signed[index].clone() };
    vec![
        (
            paired,
            |job| job.transaction.output[1].value -= sat(1),
            pair(1, Some(TxOut { value: signed[1].value - sat(1), ..signed[1].clone() })),
        ),
        (
            paired,
            |job| job.transaction.output[0].script_pubkey = hub_script(),
            pair(0, Some(TxOut { script_pubkey: hub_script(), ..signed[0].clone() })),
        ),
        (paired, |job| job.transaction.output.truncate(1), pair(1, None)),
        (paired, |job| job.transaction.output.swap(0, CHANGE), pair(0, Some(signed[CHANGE].clone()))),
        (direct, |job| job.transaction.output.clear(), Flaw::NoOutputs),
        (
            paired,
            |job| job.transaction.output[CHANGE].script_pubkey = stranger(),
            Flaw::ForeignOutput { index: CHANGE, value: signed[CHANGE].value },
        ),
        (
            direct,
            |job| job.transaction.output.push(TxOut { value: sat(1_000), script_pubkey: stranger() }),
            Flaw::ForeignOutput { index: 1, value: sat(1_000) },
        ),
        (
            paired,
            |job| job.transaction.output[CHANGE].value = sat(329),
            Flaw::Dust { index: CHANGE, value: sat(329), minimum: sat(330) },
        ),
        (paired, |job| job.coins[0].output.value = Amount::MAX_MONEY, Flaw::ImpossibleSum),
        (
            paired,
            |job| job.transaction.output[CHANGE].value = sat(COIN_SAT + 1),
            Flaw::Overspent { inputs: sat(COIN_SAT + 110_000), outputs: sat(COIN_SAT + 110_001) },
        ),
    ]
}

fn split_the_change(job: &mut ClaimJob) {
    let part = TxOut { value: sat(400), script_pubkey: hub_script() };
    job.transaction.output.truncate(CHANGE);
    job.transaction.output.extend(std::iter::repeat_n(part, 240));
}

fn fee_cases() -> Vec<Case> {
    let job = paired();
    let (paid, weight) = (fee(&job), job.transaction.weight());
    let mut heavy = job;
    split_the_change(&mut heavy);
    vec![
        (
            paired,
            split_the_change,
            Flaw::Weight { found: heavy.transaction.weight(), maximum: limits::MAX_TRUC_WEIGHT },
        ),
        (
            paired,
            |job| job.transaction.output[CHANGE].value = sat(COIN_SAT - 100),
            Flaw::FeeTooLow { found: sat(100), minimum: fee_for(limits::FEERATE_FLOOR, weight) },
        ),
        (
            paired,
            |job| job.fees = FeeBounds::new(limits::FEERATE_FLOOR, limits::FEERATE_FLOOR).unwrap(),
            Flaw::FeeTooHigh { found: paid, maximum: fee_for(limits::FEERATE_FLOOR, weight) },
        ),
        (paired, |job| job.budget = fee(job) - sat(1), Flaw::Budget { found: paid, budget: paid - sat(1) }),
    ]
}

fn witness_cases() -> Vec<Case> {
    let claim = |index, flaw| Flaw::Claim { index, flaw };
    vec![
        (paired, |job| job.transaction.input[1].witness.clear(), claim(1, ClaimError::Witness)),
        (
            paired,
            |job| set_element(job, 1, 3, &PaymentPreimage::from_bytes([0; 32]).as_bytes()[..]),
            claim(1, ClaimError::Witness),
        ),
        (
            paired,
            |job| job.claims[0].public_key = direct().claims[0].public_key,
            claim(0, ClaimError::ForeignKey),
        ),
        (
            // Our signatures cover the change, the counterparty's do not.
            paired,
            |job| job.transaction.output[CHANGE].value -= sat(1),
            claim(0, ClaimError::Signature),
        ),
        (direct, |job| job.claims[0].output.value += sat(1), claim(0, ClaimError::Signature)),
        (direct, |job| job.claims[1].output.script_pubkey = hub_script(), claim(1, ClaimError::Script)),
        (
            paired,
            |job| set_element(job, COIN, 0, &[0x30]),
            Flaw::Coin { index: COIN, flaw: CoinFlaw::Encoding },
        ),
        (
            paired,
            |job| job.coins[0].output.value += sat(1),
            Flaw::Coin { index: COIN, flaw: CoinFlaw::Signature },
        ),
    ]
}

#[test]
fn the_unchanged_claims_are_valid() {
    for job in [paired(), direct()] {
        assert!(interpreter_accepts(&job.transaction, &claimed_outputs(&job)));
        let fee = fee(&job);
        let verified = CloseJob::Claim(job).verify().unwrap().single().unwrap();
        assert_eq!((verified.fees().total, verified.fees().from_hub), (fee, fee));
    }
}

#[test]
fn each_change_is_found_by_its_rule_and_each_rule_has_a_change() {
    let cases = [form_cases(), input_cases(), output_cases(), fee_cases(), witness_cases()];
    let mut found = Vec::new();
    for (valid, change, flaw) in cases.into_iter().flatten() {
        let mut job = valid();
        change(&mut job);
        assert_eq!(flaw_of(job), flaw);
        found.push(flaw);
    }
    assert_each_rule_was_found(Kind::Claim, found);
}

#[test]
fn an_htlc_that_was_offered_and_one_that_was_received_share_no_htlc_transaction() {
    let claims = channel(0).own_claims(vec![htlc(Offered, 0, 50_000), htlc(Received, 1, 60_000)]);
    let coin = KeyCoins::new().p2wpkh(1, COIN_SAT);
    let groups = group(&claims, EXPIRY);
    let jobs: Vec<ClaimJob> = groups
        .iter()
        .map(|group| claim_job(&build(group, EXPIRY, std::slice::from_ref(&coin)).job).clone())
        .collect();
    let mut merged = jobs[0].clone();
    merged.claims.push(jobs[1].claims[0].clone());
    assert_eq!(flaw_of(merged), Flaw::MixedForms { index: 1 });
}
