//! Bitcoin's own script interpreter as the judge of the verifier: whatever is done to a valid close, what the verifier lets
//! through the interpreter accepts.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use bitcoin::{FeeRate, OutPoint, Transaction, TxIn, TxOut, Txid, Witness};
use channel::commitment::HtlcDirection::{Offered, Received};
use common::onchain::{EXPIRY, build, channel, claim_job, claimed_outputs, htlc, two_htlcs};
use common::{KeyCoins, hub_script, interpreter_accepts, sat, spent_outputs, valid_p2tr, valid_p2wpkh};
use proptest::prelude::*;
use settlement::claim::{ChildRequest, anchor_of, build_child, group};
use settlement::fees::FeeBounds;
use settlement::verify::{CloseJob, UnilateralJob};

/// A change of any byte anywhere.
#[derive(Debug, Clone)]
enum Tampering {
    Witness { input: usize, element: usize, byte: usize, flip: u8 },
    Output { index: usize, add: bool },
    Swap { one: usize, other: usize },
    Outpoint { input: usize },
    Sequence { input: usize, flip: u32 },
    LockTime { later: bool },
    AddInput,
}

fn tampering() -> impl Strategy<Value = Tampering> {
    prop_oneof![
        4 => (0usize..5, 0usize..5, 0usize..140, 1u8..=255).prop_map(|(input, element, byte, flip)| {
            Tampering::Witness { input, element, byte, flip }
        }),
        1 => (0usize..5, any::<bool>()).prop_map(|(index, add)| Tampering::Output { index, add }),
        1 => (0usize..5, 0usize..5).prop_map(|(one, other)| Tampering::Swap { one, other }),
        1 => (0usize..5).prop_map(|input| Tampering::Outpoint { input }),
        1 => (0usize..5, 1u32..4).prop_map(|(input, flip)| Tampering::Sequence { input, flip }),
        1 => any::<bool>().prop_map(|later| Tampering::LockTime { later }),
        1 => Just(Tampering::AddInput),
    ]
}

fn tamper(transaction: &mut Transaction, tampering: &Tampering) {
    let (inputs, outputs) = (transaction.input.len(), transaction.output.len());
    match *tampering {
        Tampering::Witness { input, element, byte, flip } => {
            let input = &mut transaction.input[input % inputs];
            let mut elements = input.witness.to_vec();
            let count = elements.len();
            match elements.get_mut(element % count.max(1)) {
                Some(bytes) => {
                    let length = bytes.len();
                    match bytes.get_mut(byte % length.max(1)) {
                        Some(byte) => *byte ^= flip,
                        None => bytes.push(flip),
                    }
                }
                None => elements.push(vec![flip]),
            }
            input.witness = Witness::from_slice(&elements);
        }
        Tampering::Output { index, add } => {
            let value = &mut transaction.output[index % outputs].value;
            *value = if add { *value + sat(1) } else { value.checked_sub(sat(1)).unwrap_or(*value) };
        }
        Tampering::Swap { one, other } => transaction.input.swap(one % inputs, other % inputs),
        Tampering::Outpoint { input } => transaction.input[input % inputs].previous_output.vout ^= 1,
        Tampering::Sequence { input, flip } => transaction.input[input % inputs].sequence.0 ^= flip,
        Tampering::LockTime { later } => {
            let height = transaction.lock_time.to_consensus_u32();
            let height = if later { height + 1 } else { height.saturating_sub(1) };
            transaction.lock_time = bitcoin::absolute::LockTime::from_consensus(height);
        }
        Tampering::AddInput => transaction.input.push(TxIn {
            previous_output: OutPoint {
                txid: Txid::from_raw_hash(bitcoin::hashes::Hash::all_zeros()),
                vout: 0,
            },
            ..transaction.input[0].clone()
        }),
    }
}

/// How many [`subjects`] there are.
const SUBJECTS: usize = 14;

/// A close with the outputs that the doubted transaction spends.
struct Subject {
    job: CloseJob,
    spent: Vec<TxOut>,
}

/// Batches, every group of claims on any commitment, commitments and their children.
fn subjects() -> Vec<Subject> {
    let mut subjects: Vec<Subject> = [valid_p2tr(), valid_p2wpkh()]
        .map(|job| Subject { spent: spent_outputs(&job), job: CloseJob::Batch(job) })
        .into();
    let (channel, keys, tip) = (channel(0), KeyCoins::new(), EXPIRY + 2_016);
    let htlcs = vec![
        htlc(Offered, 0, 40_000),
        htlc(Offered, 1, 50_000),
        htlc(Received, 2, 60_000),
        htlc(Received, 3, 70_000),
    ];
    let claims =
        [channel.own_claims(htlcs.clone()), channel.their_claims(htlcs.clone()), channel.penalties(htlcs)];
    for group in claims.iter().flat_map(|claims| group(claims, tip)) {
        let built = build(&group, tip, &[keys.p2tr(1, 90_000), keys.p2wpkh(2, 90_000)]);
        let spent = claimed_outputs(claim_job(&built.job));
        subjects.push(Subject { job: built.job, spent });
    }
    let publish = channel.publish(two_htlcs());
    let (coins, script) = ([keys.p2wpkh(1, 50_000), keys.p2tr(2, 50_000)], hub_script());
    for coin in coins {
        let request = ChildRequest {
            parent: &publish.transaction,
            coins: std::slice::from_ref(&coin),
            script: &script,
            feerate: FeeRate::from_sat_per_kwu(2_500),
            budget: sat(20_000),
            bounds: FeeBounds::default(),
            replaces: &[],
        };
        let child = build_child(&request, &keys).unwrap().child;
        let spent = vec![anchor_of(&publish.transaction).unwrap().1, coin.output];
        let job = CloseJob::Unilateral(Box::new(UnilateralJob::new(&publish, Some(child))));
        subjects.push(Subject { job, spent });
    }
    let alone = UnilateralJob::new(&publish, None);
    let spent = vec![channel.hub.funding_output()];
    subjects.push(Subject { job: CloseJob::Unilateral(Box::new(alone)), spent });
    subjects
}

/// The transaction that is doubted: a child, where there is one.
fn doubted(job: &mut CloseJob) -> &mut Transaction {
    match job {
        CloseJob::Batch(job) => &mut job.transaction,
        CloseJob::Claim(job) => &mut job.transaction,
        CloseJob::Unilateral(job) => match &mut job.child {
            Some(child) => &mut child.transaction,
            None => &mut job.transaction,
        },
        CloseJob::Bump(job) => &mut job.child.transaction,
    }
}

#[test]
fn every_subject_is_valid_and_accepted() {
    let subjects = subjects();
    assert_eq!(subjects.len(), SUBJECTS);
    for Subject { mut job, spent } in subjects {
        assert!(interpreter_accepts(doubted(&mut job), &spent));
        job.verify().unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn what_the_verifier_accepts_the_interpreter_accepts(
        changes in prop::collection::vec(prop::collection::vec(tampering(), 0..3), SUBJECTS),
    ) {
        for (Subject { mut job, spent }, changes) in subjects().into_iter().zip(changes) {
            let original = job.clone();
            changes.iter().for_each(|change| tamper(doubted(&mut job), change));
            let transaction = doubted(&mut job).clone();
            match job.clone().verify() {
                Ok(_) => prop_assert!(interpreter_accepts(&transaction, &spent)),
                Err(flaw) => prop_assert!(job != original, "{flaw}"),
            }
        }
    }
}
