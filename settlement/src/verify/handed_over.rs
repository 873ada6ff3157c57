//! A batch that the hub handed to a wallet: what the wallet can check of it, and does before it publishes.
//!
//! The wallet knows one input: its own channel's. It checks that this input is signed by both parties, so that the
//! transaction is no empty promise; that its own output is there was checked by the channel, which knows what was agreed.
//! The other inputs are other people's.

use bitcoin::hashes::Hash;
use bitcoin::script::Instruction;
use bitcoin::secp256k1::Message;
use bitcoin::sighash::SighashCache;
use bitcoin::{OutPoint, PublicKey, Script, ScriptBuf, Transaction, TxOut, Txid, ecdsa};
use secp256k1::SECP256K1;

/// Why a batch handed over is not worth publishing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HandedOverFlaw {
    /// It does not spend the channel.
    #[error("it does not spend the channel's funding output")]
    OtherChannel,
    /// The witness has another form than a 2-of-2's.
    #[error("the input's witness has not the form of a 2-of-2")]
    WitnessForm,
    /// The witness script is not the funding output's.
    #[error("the input's witness script is not the funding output's")]
    WitnessScript,
    /// A signature that does not hold.
    #[error("signature {index} of the input does not hold")]
    Signature {
        /// 0 for the smaller key.
        index: usize,
    },
}

/// A batch whose input for one channel was checked. Only [`HandedOver::verify`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandedOver {
    transaction: Transaction,
    txid: Txid,
}

impl HandedOver {
    /// Checks the input that spends `funding`, which holds `output`.
    pub fn verify(
        transaction: Transaction,
        funding: OutPoint,
        output: &TxOut,
    ) -> Result<Self, HandedOverFlaw> {
        let index = transaction
            .input
            .iter()
            .position(|input| input.previous_output == funding)
            .ok_or(HandedOverFlaw::OtherChannel)?;
        let parts: Vec<&[u8]> = transaction.input[index].witness.iter().collect();
        let [empty, first, second, script] = parts[..] else { return Err(HandedOverFlaw::WitnessForm) };
        if !empty.is_empty() {
            return Err(HandedOverFlaw::WitnessForm);
        }
        let script = Script::from_bytes(script);
        if ScriptBuf::new_p2wsh(&script.wscript_hash()) != output.script_pubkey {
            return Err(HandedOverFlaw::WitnessScript);
        }
        let keys: Vec<PublicKey> = script
            .instructions()
            .filter_map(|instruction| match instruction.ok()? {
                Instruction::PushBytes(bytes) => PublicKey::from_slice(bytes.as_bytes()).ok(),
                Instruction::Op(_) => None,
            })
            .collect();
        let [one, other] = keys[..] else { return Err(HandedOverFlaw::WitnessScript) };
        let mut cache = SighashCache::new(&transaction);
        for (place, (bytes, key)) in [(first, one), (second, other)].into_iter().enumerate() {
            let wrong = HandedOverFlaw::Signature { index: place };
            let signature = ecdsa::Signature::from_slice(bytes).map_err(|_| wrong)?;
            let sighash = cache
                .p2wsh_signature_hash(index, script, output.value, signature.sighash_type)
                .map_err(|_| wrong)?;
            let message = Message::from_digest(sighash.to_byte_array());
            SECP256K1.verify_ecdsa(&message, &signature.signature, &key.inner).map_err(|_| wrong)?;
        }
        let txid = transaction.compute_txid();
        Ok(Self { transaction, txid })
    }

    /// The transaction.
    pub fn transaction(&self) -> &Transaction {
        &self.transaction
    }

    /// Its id.
    pub fn txid(&self) -> Txid {
        self.txid
    }
}
