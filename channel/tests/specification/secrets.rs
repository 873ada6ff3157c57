//! BOLT 3, Appendix D.

use bitcoin::secp256k1::SECP256K1;
use channel::limits::MAX_COMMITMENT_NUMBER;
use channel::shachain::{CommitmentSecret, SecretStore, index_of, secret_at_index};

use super::folder::Json;

pub fn check_case(_document: &Json<'_>, case: &Json<'_>) {
    match case.text("kind") {
        "generate_from_seed" => generate(case),
        "insert_secret" => insert(case),
        other => panic!("{}: unknown kind {other}", case.place()),
    }
}

fn generate(case: &Json<'_>) {
    let secret = secret_at_index(&case.array("seed"), case.number("index"));
    assert_eq!(secret.to_bytes(), case.array::<32>("secret"), "{}", case.place());
    let point = secret.to_secret_key().unwrap().public_key(SECP256K1);
    assert_eq!(point, case.point("per_commitment_point"), "{}", case.place());
}

fn insert(case: &Json<'_>) {
    let mut store = SecretStore::new();
    let mut stored = Vec::new();
    let mut refused = false;
    for insert in case.list("inserts") {
        let number = MAX_COMMITMENT_NUMBER - insert.number("index");
        assert_eq!(index_of(number), insert.number("index"));
        let secret = CommitmentSecret::from_bytes(insert.array("secret"));
        let before = store.clone();
        let result = store.insert(number, secret);
        match insert.text("expect") {
            "ok" => {
                result.unwrap_or_else(|error| panic!("{}: {error}", insert.place()));
                stored.push((number, secret));
            }
            "error" => {
                assert!(result.is_err(), "{}", insert.place());
                assert_eq!(store, before, "{}: a refusal changed the store", insert.place());
                refused = true;
            }
            other => panic!("{}: unknown expectation {other}", insert.place()),
        }
    }
    assert_eq!(if refused { "error" } else { "ok" }, case.text("result"), "{}", case.place());
    // In a store filled with secrets of different seeds the older ones need not follow from the newer.
    if !refused {
        for (number, secret) in stored {
            assert_eq!(store.get(number), Some(secret), "{}", case.place());
        }
    }
}
