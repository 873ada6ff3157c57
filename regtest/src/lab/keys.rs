//! Which scripts belong to whom, found from the seed file alone, so that the auditor need not take anybody's word; and how
//! their owner spends a coin behind the back of the software.

use std::path::Path;

use bip39::Mnemonic;
use bitcoin::bip32::{ChildNumber, Xpriv};
use bitcoin::hashes::Hash;
use bitcoin::key::{Keypair, TapTweak};
use bitcoin::secp256k1::{Message, SECP256K1};
use bitcoin::sighash::{Prevouts, SighashCache};
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, CompressedPublicKey, EcdsaSighashType, Network, ScriptBuf, TapSighashType, Transaction, TxIn,
    TxOut, Witness, absolute, ecdsa, taproot,
};

use super::error::LabError;

/// Keys looked at for the coins of a transaction: those of both chains and kinds, the first of each.
const KEYS: u32 = 300;

/// The receiving and the change scripts of BIP 84 and BIP 86, account 0, coin type 1 (test networks), the first `count` of each.
///
/// # Errors
/// [`LabError`] when the file holds no BIP 39 words.
pub fn scripts_of(seed_file: &Path, count: u32) -> Result<Vec<ScriptBuf>, LabError> {
    Ok(keys_of(seed_file, count)?.into_iter().map(|key| key.script()).collect())
}

/// Another transaction of the owner of these words that spends the same coins as `transaction`, which `spent` are, in its
/// order: it pays them all, but for `fee`, to where the first of them lay.
///
/// # Errors
/// [`LabError`] when a coin is not the owner's, or they are not worth the fee.
pub fn spend_otherwise(
    seed_file: &Path,
    transaction: &Transaction,
    spent: &[TxOut],
    fee: Amount,
) -> Result<Transaction, LabError> {
    let nonsense =
        |what: &str| LabError::Nonsense { name: seed_file.display().to_string(), what: what.into() };
    let sum: Amount = spent.iter().map(|output| output.value).sum();
    let value = sum.checked_sub(fee).ok_or_else(|| nonsense("coins that are not worth the fee"))?;
    let home = spent.first().ok_or_else(|| nonsense("no coins to spend"))?.script_pubkey.clone();
    let input = transaction.input.iter().map(|input| TxIn { witness: Witness::new(), ..input.clone() });
    let mut other = Transaction {
        version: Version::TWO,
        lock_time: absolute::LockTime::ZERO,
        input: input.collect(),
        output: vec![TxOut { value, script_pubkey: home }],
    };
    let keys = keys_of(seed_file, KEYS)?;
    for (index, output) in spent.iter().enumerate() {
        let key = keys.iter().find(|key| key.script() == output.script_pubkey);
        let key = key.ok_or_else(|| nonsense("a coin of somebody else's"))?;
        let witness = key.sign(&other, index, spent).ok_or_else(|| nonsense("inputs without their coins"))?;
        other.input[index].witness = witness;
    }
    Ok(other)
}

/// A key and how its coins are locked.
enum CoinKey {
    /// BIP 84.
    P2wpkh(Keypair),
    /// BIP 86.
    P2tr(Keypair),
}

impl CoinKey {
    fn script(&self) -> ScriptBuf {
        match self {
            CoinKey::P2wpkh(key) => {
                ScriptBuf::new_p2wpkh(&CompressedPublicKey(key.public_key()).wpubkey_hash())
            }
            CoinKey::P2tr(key) => ScriptBuf::new_p2tr(SECP256K1, key.x_only_public_key().0, None),
        }
    }

    /// The witness of an input that spends a coin of this key; none if the input is not there.
    fn sign(&self, transaction: &Transaction, index: usize, spent: &[TxOut]) -> Option<Witness> {
        let mut cache = SighashCache::new(transaction);
        match self {
            CoinKey::P2wpkh(key) => {
                let (script, value, kind) = (self.script(), spent.get(index)?.value, EcdsaSighashType::All);
                let hash = cache.p2wpkh_signature_hash(index, &script, value, kind).ok()?;
                let message = Message::from_digest(hash.to_byte_array());
                let signature = SECP256K1.sign_ecdsa(&message, &key.secret_key());
                let signature = ecdsa::Signature { signature, sighash_type: kind };
                Some(Witness::p2wpkh(&signature, &key.public_key()))
            }
            CoinKey::P2tr(key) => {
                let (prevouts, kind) = (Prevouts::All(spent), TapSighashType::Default);
                let hash = cache.taproot_key_spend_signature_hash(index, &prevouts, kind).ok()?;
                let message = Message::from_digest(hash.to_byte_array());
                let key = key.tap_tweak(SECP256K1, None).to_keypair();
                let signature = SECP256K1.sign_schnorr_no_aux_rand(&message, &key);
                Some(Witness::p2tr_key_spend(&taproot::Signature { signature, sighash_type: kind }))
            }
        }
    }
}

fn keys_of(seed_file: &Path, count: u32) -> Result<Vec<CoinKey>, LabError> {
    let nonsense = |what: String| LabError::Nonsense { name: seed_file.display().to_string(), what };
    let words = std::fs::read_to_string(seed_file)
        .map_err(LabError::system(format!("read {}", seed_file.display())))?;
    let words = Mnemonic::parse_normalized(words.trim()).map_err(|error| nonsense(error.to_string()))?;
    derive(&words.to_seed(""), count).map_err(|error| nonsense(error.to_string()))
}

fn derive(seed: &[u8], count: u32) -> Result<Vec<CoinKey>, bitcoin::bip32::Error> {
    let master = Xpriv::new_master(Network::Regtest, seed)?;
    let hardened = |index| ChildNumber::Hardened { index };
    let normal = |index| ChildNumber::Normal { index };
    let mut keys = Vec::new();
    for purpose in [84, 86] {
        let account = master.derive_priv(SECP256K1, &[hardened(purpose), hardened(1), hardened(0)])?;
        for chain in [0, 1] {
            let chain = account.derive_priv(SECP256K1, &[normal(chain)])?;
            for index in 0..count {
                let key = chain.derive_priv(SECP256K1, &[normal(index)])?.to_keypair(SECP256K1);
                keys.push(match purpose {
                    84 => CoinKey::P2wpkh(key),
                    _ => CoinKey::P2tr(key),
                });
            }
        }
    }
    Ok(keys)
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
