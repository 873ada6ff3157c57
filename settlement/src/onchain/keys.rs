//! The keys of on-chain coins, by BIP 84 or BIP 86, and their signatures.
//!
//! Signing is deterministic: the same transaction gets the same witness, so a replay or a retry changes no wtxid.

use bdk_wallet::KeychainKind;
use bitcoin::bip32::{ChildNumber, Xpriv};
use bitcoin::hashes::Hash;
use bitcoin::key::{Keypair, TapTweak};
use bitcoin::secp256k1::{All, Message, Secp256k1};
use bitcoin::sighash::{Prevouts, SighashCache, TaprootError};
use bitcoin::{EcdsaSighashType, NetworkKind, TapSighashType, Transaction, TxOut, Witness};
use bitcoin::{ecdsa, taproot};

use super::OnchainError;

/// The kind of address, which is also how its coins are spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressKind {
    /// BIP 84.
    P2wpkh,
    /// BIP 86.
    P2tr,
}

impl AddressKind {
    fn purpose(self) -> u32 {
        match self {
            AddressKind::P2wpkh => 84,
            AddressKind::P2tr => 86,
        }
    }
}

/// The two keychains of account 0.
pub(super) struct CoinKeys {
    secp: Secp256k1<All>,
    external: Xpriv,
    internal: Xpriv,
    kind: AddressKind,
}

impl CoinKeys {
    pub(super) fn new(master: &Xpriv, kind: AddressKind) -> Result<Self, OnchainError> {
        let secp = Secp256k1::new();
        let coin = match master.network {
            NetworkKind::Main => 0,
            NetworkKind::Test => 1,
        };
        let hardened = |index| ChildNumber::Hardened { index };
        let path = [hardened(kind.purpose()), hardened(coin), hardened(0)];
        let account = master.derive_priv(&secp, &path).map_err(|_| OnchainError::Keys)?;
        let chain = |index| {
            account.derive_priv(&secp, &[ChildNumber::Normal { index }]).map_err(|_| OnchainError::Keys)
        };
        let (external, internal) = (chain(0)?, chain(1)?);
        Ok(Self { secp, external, internal, kind })
    }

    /// Signs input `input` of `cache`'s transaction, which spends `prevouts[input]`, with the key at `index`.
    pub(super) fn sign<T: std::borrow::Borrow<Transaction>>(
        &self,
        cache: &mut SighashCache<T>,
        input: usize,
        prevouts: &[TxOut],
        keychain: KeychainKind,
        index: u32,
    ) -> Result<Witness, OnchainError> {
        let chain = match keychain {
            KeychainKind::External => &self.external,
            KeychainKind::Internal => &self.internal,
        };
        let key = chain
            .derive_priv(&self.secp, &[ChildNumber::Normal { index }])
            .map_err(|_| OnchainError::Keys)?
            .to_keypair(&self.secp);
        match self.kind {
            AddressKind::P2wpkh => self.sign_p2wpkh(cache, input, &prevouts[input], &key),
            AddressKind::P2tr => self.sign_p2tr(cache, input, prevouts, &key),
        }
    }

    fn sign_p2wpkh<T: std::borrow::Borrow<Transaction>>(
        &self,
        cache: &mut SighashCache<T>,
        input: usize,
        coin: &TxOut,
        key: &Keypair,
    ) -> Result<Witness, OnchainError> {
        let sighash_type = EcdsaSighashType::All;
        let sighash = cache
            .p2wpkh_signature_hash(input, &coin.script_pubkey, coin.value, sighash_type)
            .map_err(|_| OnchainError::NotOurs)?;
        let message = Message::from_digest(sighash.to_byte_array());
        let signature = self.secp.sign_ecdsa(&message, &key.secret_key());
        Ok(Witness::p2wpkh(&ecdsa::Signature { signature, sighash_type }, &key.public_key()))
    }

    fn sign_p2tr<T: std::borrow::Borrow<Transaction>>(
        &self,
        cache: &mut SighashCache<T>,
        input: usize,
        prevouts: &[TxOut],
        key: &Keypair,
    ) -> Result<Witness, OnchainError> {
        let sighash_type = TapSighashType::Default;
        let sighash = cache
            .taproot_key_spend_signature_hash(input, &Prevouts::All(prevouts), sighash_type)
            .map_err(|_: TaprootError| OnchainError::NotOurs)?;
        let message = Message::from_digest(sighash.to_byte_array());
        let tweaked = key.tap_tweak(&self.secp, None).to_keypair();
        let signature = self.secp.sign_schnorr_no_aux_rand(&message, &tweaked);
        Ok(Witness::p2tr_key_spend(&taproot::Signature { signature, sighash_type }))
    }
}
