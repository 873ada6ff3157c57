//! Witnesses of the funding output: two signatures in the order of the keys.

use bitcoin::ecdsa;
use bitcoin::{EcdsaSighashType, Script, Witness};

use crate::keys::{CompactSignature, InvalidSignature, Point};

/// A signature with the key it belongs to.
#[derive(Clone, Copy, Debug)]
pub struct OwnedSignature {
    key: Point,
    signature: ecdsa::Signature,
}

impl OwnedSignature {
    /// Parses the signature; whether it holds is not checked here.
    pub fn new(
        key: Point,
        compact: &CompactSignature,
        sighash_type: EcdsaSighashType,
    ) -> Result<Self, InvalidSignature> {
        Ok(Self { key, signature: signature(compact, sighash_type)? })
    }
}

pub(crate) fn signature(
    compact: &CompactSignature,
    sighash_type: EcdsaSighashType,
) -> Result<ecdsa::Signature, InvalidSignature> {
    Ok(ecdsa::Signature { signature: compact.parse()?, sighash_type })
}

/// The witness of a 2-of-2: signatures in the order in which the script lists the keys.
pub fn funding(witness_script: &Script, one: OwnedSignature, other: OwnedSignature) -> Witness {
    let (first, second) = if one.key <= other.key { (one, other) } else { (other, one) };
    let mut witness = Witness::new();
    // OP_CHECKMULTISIG takes one element too many.
    witness.push([]);
    witness.push_ecdsa_signature(&first.signature);
    witness.push_ecdsa_signature(&second.signature);
    witness.push(witness_script);
    witness
}
