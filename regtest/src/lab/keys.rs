//! Which scripts belong to whom, found from the seed file alone, so that the auditor need not take anybody's word.

use std::path::Path;

use bip39::Mnemonic;
use bitcoin::bip32::{ChildNumber, Xpriv};
use bitcoin::secp256k1::SECP256K1;
use bitcoin::{CompressedPublicKey, Network, ScriptBuf};

use super::error::LabError;

/// The receiving and the change scripts of BIP 84 and BIP 86, account 0, coin type 1 (test networks), the first `count` of each.
///
/// # Errors
/// [`LabError`] when the file holds no BIP 39 words.
pub fn scripts_of(seed_file: &Path, count: u32) -> Result<Vec<ScriptBuf>, LabError> {
    let nonsense = |what: String| LabError::Nonsense { name: seed_file.display().to_string(), what };
    let words = std::fs::read_to_string(seed_file)
        .map_err(LabError::system(format!("read {}", seed_file.display())))?;
    let words = Mnemonic::parse_normalized(words.trim()).map_err(|error| nonsense(error.to_string()))?;
    derive(&words.to_seed(""), count).map_err(|error| nonsense(error.to_string()))
}

fn derive(seed: &[u8], count: u32) -> Result<Vec<ScriptBuf>, bitcoin::bip32::Error> {
    let master = Xpriv::new_master(Network::Regtest, seed)?;
    let hardened = |index| ChildNumber::Hardened { index };
    let normal = |index| ChildNumber::Normal { index };
    let mut scripts = Vec::new();
    for purpose in [84, 86] {
        let account = master.derive_priv(SECP256K1, &[hardened(purpose), hardened(1), hardened(0)])?;
        for chain in [0, 1] {
            let chain = account.derive_priv(SECP256K1, &[normal(chain)])?;
            for index in 0..count {
                let key = chain.derive_priv(SECP256K1, &[normal(index)])?.to_keypair(SECP256K1);
                scripts.push(match purpose {
                    84 => ScriptBuf::new_p2wpkh(&CompressedPublicKey(key.public_key()).wpubkey_hash()),
                    _ => ScriptBuf::new_p2tr(SECP256K1, key.x_only_public_key().0, None),
                });
            }
        }
    }
    Ok(scripts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::Address;

    /// The test vectors of BIP 84 and BIP 86 are for the same words, on the main network (coin type 0); the keys here
    /// are those of coin type 1, as other wallets derive them on test networks.
    #[test]
    fn scripts_are_those_of_bip_84_and_bip_86_on_test_networks() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("seed");
        let words =
            "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about";
        std::fs::write(&file, format!("{words}\n")).unwrap();
        let scripts = scripts_of(&file, 2).unwrap();
        assert_eq!(scripts.len(), 8);
        let first = Address::from_script(&scripts[0], Network::Testnet).unwrap();
        assert_eq!(first.to_string(), "tb1q6rz28mcfaxtmd6v789l9rrlrusdprr9pqcpvkl");
        assert!(scripts[4].is_p2tr());
    }
}
