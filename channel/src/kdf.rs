//! HMAC and HKDF with SHA-256 (RFC 5869), for the few secrets that are derived outside a signer.

use bitcoin::hashes::{Hash, HashEngine, Hmac, HmacEngine, sha256};

/// HMAC-SHA256 of the concatenated parts.
pub(crate) fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut engine = HmacEngine::<sha256::Hash>::new(key);
    for part in parts {
        engine.input(part);
    }
    Hmac::<sha256::Hash>::from_engine(engine).to_byte_array()
}

/// HKDF with one block of output: enough for every key here.
pub(crate) fn hkdf(salt: &[u8], secret: &[u8], info: &[&[u8]]) -> [u8; 32] {
    let key = hmac(salt, &[secret]);
    let mut engine = HmacEngine::<sha256::Hash>::new(&key);
    for part in info {
        engine.input(part);
    }
    engine.input(&[1]);
    Hmac::<sha256::Hash>::from_engine(engine).to_byte_array()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hkdf_gives_the_first_block_of_rfc_5869_case_1() {
        let salt = hex::decode("000102030405060708090a0b0c").unwrap();
        let info = hex::decode("f0f1f2f3f4f5f6f7f8f9").unwrap();
        let expected = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf";
        assert_eq!(hex::encode(hkdf(&salt, &[0x0b; 22], &[&info])), expected);
    }
}
