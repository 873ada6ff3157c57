//! Inputs that spend an on-chain coin of our own by its key: P2WPKH and P2TR.
//!
//! Shared by everything that may hold such an input: funding transactions, and batches to which the hub adds a coin.

use bitcoin::hashes::Hash;
use bitcoin::secp256k1::{Message, XOnlyPublicKey};
use bitcoin::sighash::{Prevouts, SighashCache};
use bitcoin::{EcdsaSighashType, PublicKey, TapSighashType, Transaction, TxOut, Witness};
use bitcoin::{ecdsa, taproot};
use secp256k1::SECP256K1;

/// What is wrong with the witness of a coin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CoinFlaw {
    /// The coin's script is neither P2WPKH nor P2TR.
    #[error("the coin's script is neither P2WPKH nor P2TR")]
    Script,
    /// The witness has not the elements that the script asks for.
    #[error("the witness has {found} elements, {expected} are needed")]
    Elements {
        /// Elements in the witness.
        found: usize,
        /// Elements needed.
        expected: usize,
    },
    /// A signature or key that is not encoded as it must be.
    #[error("a key or signature is not well encoded")]
    Encoding,
    /// The signature does not cover the whole transaction.
    #[error("the signature covers only a part of the transaction")]
    Sighash,
    /// The key is not the one the script names.
    #[error("the key is not the coin's")]
    Key,
    /// The signature is wrong.
    #[error("the signature is wrong")]
    Signature,
}

/// Checks the witness of input `index`, which spends `prevouts[index]`. The signature must cover all inputs and outputs.
pub(crate) fn check_coin<T: std::borrow::Borrow<Transaction>>(
    cache: &mut SighashCache<T>,
    index: usize,
    prevouts: &[TxOut],
    witness: &Witness,
) -> Result<(), CoinFlaw> {
    let script = &prevouts[index].script_pubkey;
    if script.is_p2wpkh() {
        return check_p2wpkh(cache, index, &prevouts[index], witness);
    }
    if script.is_p2tr() {
        return check_p2tr(cache, index, prevouts, witness);
    }
    Err(CoinFlaw::Script)
}

fn check_p2wpkh<T: std::borrow::Borrow<Transaction>>(
    cache: &mut SighashCache<T>,
    index: usize,
    coin: &TxOut,
    witness: &Witness,
) -> Result<(), CoinFlaw> {
    let (signature, key) = match (witness.len(), witness.nth(0), witness.nth(1)) {
        (2, Some(signature), Some(key)) => (signature, key),
        (found, _, _) => return Err(CoinFlaw::Elements { found, expected: 2 }),
    };
    let signature = ecdsa::Signature::from_slice(signature).map_err(|_| CoinFlaw::Encoding)?;
    if signature.sighash_type != EcdsaSighashType::All {
        return Err(CoinFlaw::Sighash);
    }
    let key = PublicKey::from_slice(key).map_err(|_| CoinFlaw::Encoding)?;
    let hash = key.wpubkey_hash().map_err(|_| CoinFlaw::Encoding)?;
    if coin.script_pubkey != bitcoin::ScriptBuf::new_p2wpkh(&hash) {
        return Err(CoinFlaw::Key);
    }
    let sighash = cache
        .p2wpkh_signature_hash(index, &coin.script_pubkey, coin.value, EcdsaSighashType::All)
        .map_err(|_| CoinFlaw::Script)?;
    SECP256K1
        .verify_ecdsa(&Message::from_digest(sighash.to_byte_array()), &signature.signature, &key.inner)
        .map_err(|_| CoinFlaw::Signature)
}

fn check_p2tr<T: std::borrow::Borrow<Transaction>>(
    cache: &mut SighashCache<T>,
    index: usize,
    prevouts: &[TxOut],
    witness: &Witness,
) -> Result<(), CoinFlaw> {
    let signature = match (witness.len(), witness.nth(0)) {
        (1, Some(signature)) => signature,
        (found, _) => return Err(CoinFlaw::Elements { found, expected: 1 }),
    };
    let signature = taproot::Signature::from_slice(signature).map_err(|_| CoinFlaw::Encoding)?;
    if !matches!(signature.sighash_type, TapSighashType::Default | TapSighashType::All) {
        return Err(CoinFlaw::Sighash);
    }
    let program = prevouts[index].script_pubkey.as_bytes().get(2..).unwrap_or_default();
    let key = XOnlyPublicKey::from_slice(program).map_err(|_| CoinFlaw::Script)?;
    let sighash = cache
        .taproot_key_spend_signature_hash(index, &Prevouts::All(prevouts), signature.sighash_type)
        .map_err(|_| CoinFlaw::Script)?;
    SECP256K1
        .verify_schnorr(&signature.signature, &Message::from_digest(sighash.to_byte_array()), &key)
        .map_err(|_| CoinFlaw::Signature)
}
