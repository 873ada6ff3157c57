//! The specification's vectors: every case of every file, compared to the last byte.
//!
//! `BOLT_VECTORS` names another folder of the same format; it may hold some of the files only. Each file that was run is
//! named with its number of cases: `cargo test -p channel vectors -- --nocapture`.

// All of this is a test, its helpers too: a value that is not there fails it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod specification;

use specification::{commitments, folder, funding, keys, secrets, weights};

#[test]
fn vectors_of_commitments_with_fees_are_built_to_the_byte() {
    folder::run("bolt3-commitments.json", commitments::check_case);
}

#[test]
fn vectors_of_zero_fee_commitments_are_built_to_the_byte() {
    folder::run("bolt3-zero-fee-commitments.json", commitments::check_case);
}

#[test]
fn vectors_of_the_funding_transaction_are_built_to_the_byte() {
    folder::run("bolt3-funding.json", funding::check_case);
}

#[test]
fn vectors_of_key_derivation_agree() {
    folder::run("bolt3-key-derivation.json", keys::check_case);
}

#[test]
fn vectors_of_per_commitment_secrets_agree() {
    folder::run("bolt3-per-commitment-secret.json", secrets::check_case);
}

#[test]
fn vectors_of_weights_agree() {
    folder::run("bolt3-weights.json", weights::check_case);
}

#[test]
fn vectors_are_there_to_be_run() {
    folder::expect_some_file(&[
        "bolt3-commitments.json",
        "bolt3-zero-fee-commitments.json",
        "bolt3-funding.json",
        "bolt3-key-derivation.json",
        "bolt3-per-commitment-secret.json",
        "bolt3-weights.json",
    ]);
}
