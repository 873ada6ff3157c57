//! Bitcoin's own script interpreter as the judge of the verifier: whatever is done to a valid batch, what the verifier lets
//! through the interpreter accepts.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use bitcoin::{OutPoint, TxIn, Txid, Witness};
use common::{interpreter_accepts, sat, spent_outputs, valid_p2tr, valid_p2wpkh};
use proptest::prelude::*;
use settlement::verify::{BatchJob, CloseJob};

/// A change of any byte anywhere.
#[derive(Debug, Clone)]
enum Tampering {
    Witness { input: usize, element: usize, byte: usize, flip: u8 },
    Output { index: usize, add: bool },
    Swap { one: usize, other: usize },
    Outpoint { input: usize },
    AddInput,
}

fn tampering() -> impl Strategy<Value = Tampering> {
    prop_oneof![
        4 => (0usize..5, 0usize..4, 0usize..72, 1u8..=255).prop_map(|(input, element, byte, flip)| {
            Tampering::Witness { input, element, byte, flip }
        }),
        1 => (0usize..4, any::<bool>()).prop_map(|(index, add)| Tampering::Output { index, add }),
        1 => (0usize..5, 0usize..5).prop_map(|(one, other)| Tampering::Swap { one, other }),
        1 => (0usize..5).prop_map(|input| Tampering::Outpoint { input }),
        1 => Just(Tampering::AddInput),
    ]
}

fn tamper(job: &mut BatchJob, tampering: &Tampering) {
    let transaction = &mut job.transaction;
    match *tampering {
        Tampering::Witness { input, element, byte, flip } => {
            let mut elements = transaction.input[input].witness.to_vec();
            let count = elements.len();
            let bytes = &mut elements[element % count];
            let length = bytes.len();
            match bytes.get_mut(byte % length.max(1)) {
                Some(byte) => *byte ^= flip,
                None => bytes.push(flip),
            }
            transaction.input[input].witness = Witness::from_slice(&elements);
        }
        Tampering::Output { index, add } => {
            let value = &mut transaction.output[index].value;
            *value = if add { *value + sat(1) } else { *value - sat(1) };
        }
        Tampering::Swap { one, other } => transaction.input.swap(one, other),
        Tampering::Outpoint { input } => transaction.input[input].previous_output.vout ^= 1,
        Tampering::AddInput => transaction.input.push(TxIn {
            previous_output: OutPoint {
                txid: Txid::from_raw_hash(bitcoin::hashes::Hash::all_zeros()),
                vout: 0,
            },
            ..transaction.input[0].clone()
        }),
    }
}

proptest! {
    #[test]
    fn what_the_verifier_accepts_the_interpreter_accepts(
        changes in prop::collection::vec(tampering(), 0..3),
        taproot in any::<bool>(),
    ) {
        let mut job = if taproot { valid_p2tr() } else { valid_p2wpkh() };
        let original = job.clone();
        changes.iter().for_each(|change| tamper(&mut job, change));
        let spent = spent_outputs(&job);
        match CloseJob::Batch(job.clone()).verify() {
            Ok(verified) => {
                let verified = verified.single().unwrap();
                prop_assert!(interpreter_accepts(verified.transaction(), &spent));
            }
            Err(flaw) => prop_assert!(job != original, "{flaw}"),
        }
    }
}
