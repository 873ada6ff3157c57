//! BOLT 3, Appendix E.

use bitcoin::hashes::{Hash, sha256};
use bitcoin::secp256k1::{PublicKey, SECP256K1, Scalar};
use channel::keys::{
    derive_private_key, derive_public_key, derive_revocation_private_key, derive_revocation_public_key,
    derive_revocation_public_key_with_basepoint_secret, derive_revocation_public_key_with_commitment_secret,
};

use super::folder::Json;

fn hash_points(first: &PublicKey, second: &PublicKey) -> [u8; 32] {
    sha256::Hash::hash(&[first.serialize(), second.serialize()].concat()).to_byte_array()
}

pub fn check_case(document: &Json<'_>, case: &Json<'_>) {
    let common = document.get("common");
    let base_secret = common.secret("base_secret");
    let commitment_secret = common.secret("per_commitment_secret");
    let base = common.point("base_point");
    let point = common.point("per_commitment_point");
    assert_eq!(base_secret.public_key(SECP256K1), base, "{}", case.place());
    assert_eq!(commitment_secret.public_key(SECP256K1), point, "{}", case.place());
    check_inputs(&common, case);
    check_intermediate(&common, &case.get("intermediate"));

    match case.text("output_name") {
        "localpubkey" => assert_eq!(derive_public_key(&base, &point), case.point("output")),
        "localprivkey" => {
            assert_eq!(derive_private_key(&base_secret, &base, &point), case.secret("output"));
        }
        "revocationpubkey" => {
            let expected = case.point("output");
            assert_eq!(derive_revocation_public_key(&base, &point), expected);
            let by_owner_of_base =
                derive_revocation_public_key_with_basepoint_secret(&base_secret, &base, &point);
            assert_eq!(by_owner_of_base, expected);
            let by_owner_of_commitment =
                derive_revocation_public_key_with_commitment_secret(&base, &commitment_secret, &point);
            assert_eq!(by_owner_of_commitment, expected);
        }
        "revocationprivkey" => {
            let secret = derive_revocation_private_key(&base_secret, &commitment_secret);
            assert_eq!(secret, case.secret("output"));
        }
        other => panic!("{}: unknown output {other}", case.place()),
    }
}

/// All cases of the appendix have the same inputs.
fn check_inputs(common: &Json<'_>, case: &Json<'_>) {
    let inputs = case.get("inputs");
    for name in ["base_secret", "per_commitment_secret", "base_point", "per_commitment_point"] {
        if inputs.find(name).is_some() {
            assert_eq!(inputs.text(name), common.text(name), "{}", inputs.place());
        }
    }
}

fn check_intermediate(common: &Json<'_>, intermediate: &Json<'_>) {
    let (base, point) = (common.point("base_point"), common.point("per_commitment_point"));
    let point_first = hash_points(&point, &base);
    let base_first = hash_points(&base, &point);
    let check = |name: &str, computed: &[u8]| {
        if intermediate.find(name).is_some() {
            assert_eq!(intermediate.bytes(name), computed, "{}: {name}", intermediate.place());
        }
    };
    let scalar = |bytes| Scalar::from_be_bytes(bytes).unwrap();
    check("sha256_point_then_basepoint", &point_first);
    check("sha256_basepoint_then_point", &base_first);
    check("basepoint_times_hash", &base.mul_tweak(SECP256K1, &scalar(base_first)).unwrap().serialize());
    check(
        "per_commitment_point_times_hash",
        &point.mul_tweak(SECP256K1, &scalar(point_first)).unwrap().serialize(),
    );
    let base_product = common.secret("base_secret").mul_tweak(&scalar(base_first)).unwrap();
    check("basepoint_secret_times_hash", base_product.as_ref());
    let product = common.secret("per_commitment_secret").mul_tweak(&scalar(point_first)).unwrap();
    check("per_commitment_secret_times_hash", product.as_ref());
}
