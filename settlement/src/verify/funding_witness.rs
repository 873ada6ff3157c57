//! The witness that spends a funding output: two signatures of everything, in the order of the keys.

use bitcoin::hashes::Hash;
use bitcoin::script::Instruction;
use bitcoin::secp256k1::Message;
use bitcoin::sighash::SighashCache;
use bitcoin::{Amount, EcdsaSighashType, PublicKey, Script, Transaction, ecdsa};
use secp256k1::SECP256K1;

/// What is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FundingWitnessFlaw {
    /// A 2-of-2 witness has four elements, the first one empty.
    #[error("it has {found} elements or a first one that is not empty")]
    Form {
        /// Its elements.
        found: usize,
    },
    /// The witness script is not the funding output's, or not one of two keys.
    #[error("its script is not the funding output's")]
    Script,
    /// A signature that is no DER encoding with a sighash type behind it.
    #[error("signature {position} is not well encoded")]
    Encoding {
        /// 0 for the smaller key.
        position: usize,
    },
    /// A signature that covers only a part of the transaction.
    #[error("signature {position} is {found}, SIGHASH_ALL is needed")]
    Sighash {
        /// 0 for the smaller key.
        position: usize,
        /// The type found.
        found: EcdsaSighashType,
    },
    /// A signature that does not hold.
    #[error("signature {position} does not hold")]
    Signature {
        /// 0 for the smaller key.
        position: usize,
    },
}

/// Checks the witness of input 0, which spends an output of `value` with this witness script.
pub(super) fn check_funding_witness(
    transaction: &Transaction,
    script: &Script,
    value: Amount,
) -> Result<(), FundingWitnessFlaw> {
    let witness = transaction.input.first().map(|input| &input.witness);
    let parts: Vec<&[u8]> = witness.into_iter().flat_map(|witness| witness.iter()).collect();
    let [[], first, second, found] = parts[..] else {
        return Err(FundingWitnessFlaw::Form { found: parts.len() });
    };
    if found != script.as_bytes() {
        return Err(FundingWitnessFlaw::Script);
    }
    let keys: Vec<PublicKey> = script
        .instructions()
        .filter_map(|instruction| match instruction.ok()? {
            Instruction::PushBytes(bytes) => PublicKey::from_slice(bytes.as_bytes()).ok(),
            Instruction::Op(_) => None,
        })
        .collect();
    let [one, other] = keys[..] else { return Err(FundingWitnessFlaw::Script) };
    let sighash = SighashCache::new(transaction)
        .p2wsh_signature_hash(0, script, value, EcdsaSighashType::All)
        .map_err(|_| FundingWitnessFlaw::Script)?;
    let message = Message::from_digest(sighash.to_byte_array());
    for (position, (bytes, key)) in [(first, one), (second, other)].into_iter().enumerate() {
        let signature =
            ecdsa::Signature::from_slice(bytes).map_err(|_| FundingWitnessFlaw::Encoding { position })?;
        if signature.sighash_type != EcdsaSighashType::All {
            return Err(FundingWitnessFlaw::Sighash { position, found: signature.sighash_type });
        }
        SECP256K1
            .verify_ecdsa(&message, &signature.signature, &key.inner)
            .map_err(|_| FundingWitnessFlaw::Signature { position })?;
    }
    Ok(())
}
