//! What a claim puts into a transaction: its input, the message that is signed, the witness, and the most it weighs.

use bitcoin::absolute::LockTime;
use bitcoin::sighash::SighashCache;
use bitcoin::transaction::{InputWeightPrediction, Version};
use bitcoin::{EcdsaSighashType, Script, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Weight, Witness};
use secp256k1::Message;

use super::{Claim, ClaimError, SpendPath, Unlock};
use crate::keys::{CompactSignature, InvalidSignature};
use crate::witness::signature;

/// How the counterparty signed the HTLC transaction, so that inputs and outputs can be added.
pub(super) const COUNTERSIGNATURE_TYPE: EcdsaSighashType = EcdsaSighashType::SinglePlusAnyoneCanPay;

/// The longest signature: DER with a low S (a high one is neither made nor taken nor relayed), and the sighash byte.
/// BOLT 3 counts one byte more, for a high S.
const SIGNATURE_LENGTH: usize = 72;
const OUTPOINT_AND_SEQUENCE_LENGTH: u64 = 36 + 4;
const PREIMAGE_LENGTH: usize = 32;
const KEY_LENGTH: usize = 33;

impl Claim {
    /// The input that spends the output, without its witness.
    pub fn unsigned_input(&self) -> TxIn {
        TxIn {
            previous_output: self.outpoint,
            script_sig: ScriptBuf::new(),
            sequence: self.sequence(),
            witness: Witness::new(),
        }
    }

    /// The sequence the input must have.
    pub const fn sequence(&self) -> Sequence {
        match &self.path {
            SpendPath::Direct { sequence, .. } | SpendPath::HtlcTransaction { sequence, .. } => *sequence,
        }
    }

    /// The lock time: the least of a transaction for [`SpendPath::Direct`], the only one for
    /// [`SpendPath::HtlcTransaction`].
    pub const fn lock_time(&self) -> LockTime {
        match &self.path {
            SpendPath::Direct { lock_time, .. } | SpendPath::HtlcTransaction { lock_time, .. } => *lock_time,
        }
    }

    /// The only version the transaction may have; none where any from 2 on will do.
    pub const fn fixed_version(&self) -> Option<Version> {
        match &self.path {
            SpendPath::Direct { .. } => None,
            SpendPath::HtlcTransaction { version, .. } => Some(*version),
        }
    }

    /// The output that must stand at the input's own position, where the counterparty signed one.
    pub const fn paired_output(&self) -> Option<&TxOut> {
        match &self.path {
            SpendPath::Direct { .. } => None,
            SpendPath::HtlcTransaction { output, .. } => Some(output),
        }
    }

    /// What our key signs: `SIGHASH_ALL` of the input at this position.
    pub fn sighash(&self, transaction: &Transaction, input_index: usize) -> Result<Message, ClaimError> {
        self.sighash_of_type(transaction, input_index, EcdsaSighashType::All)
    }

    pub(super) fn sighash_of_type(
        &self,
        transaction: &Transaction,
        input_index: usize,
        sighash_type: EcdsaSighashType,
    ) -> Result<Message, ClaimError> {
        let wrong_input = ClaimError::WrongInput { index: input_index };
        match transaction.input.get(input_index) {
            Some(input) if input.previous_output == self.outpoint => {}
            Some(_) | None => return Err(wrong_input),
        }
        let mut cache = SighashCache::new(transaction);
        let value = self.output.value;
        match self.witness_script() {
            Some(script) => cache
                .p2wsh_signature_hash(input_index, script, value, sighash_type)
                .map(Message::from)
                .map_err(|_| wrong_input),
            None => cache
                .p2wpkh_signature_hash(input_index, &self.output.script_pubkey, value, sighash_type)
                .map(Message::from)
                .map_err(|_| ClaimError::Script),
        }
    }

    /// The witness with our signature (`SIGHASH_ALL`). An error means that a signature is out of range; whether it
    /// holds is for [`Claim::check_witness`].
    pub fn witness(&self, ours: &CompactSignature) -> Result<Witness, InvalidSignature> {
        let ours = signature(ours, EcdsaSighashType::All)?;
        let mut witness = Witness::new();
        match &self.path {
            SpendPath::Direct { witness_script, unlock, .. } => {
                witness.push_ecdsa_signature(&ours);
                if let Some(element) = self.unlock_element(unlock) {
                    witness.push(element);
                }
                if let Some(script) = witness_script {
                    witness.push(script);
                }
            }
            SpendPath::HtlcTransaction { witness_script, countersignature, preimage, .. } => {
                // OP_CHECKMULTISIG takes one element too many.
                witness.push([]);
                witness.push_ecdsa_signature(&signature(countersignature, COUNTERSIGNATURE_TYPE)?);
                witness.push_ecdsa_signature(&ours);
                match preimage {
                    Some(preimage) => witness.push(preimage),
                    None => witness.push([]),
                }
                witness.push(witness_script);
            }
        }
        Ok(witness)
    }

    fn unlock_element<'a>(&'a self, unlock: &'a Unlock) -> Option<&'a [u8]> {
        match unlock {
            Unlock::Key | Unlock::RevokedHtlc => Some(self.public_key.as_bytes()),
            Unlock::Signature => None,
            Unlock::Delayed | Unlock::Expired => Some(&[]),
            Unlock::RevokedDelayed => Some(&[1]),
            Unlock::Preimage(preimage) => Some(preimage.as_bytes()),
        }
    }

    /// The most the input weighs, witness included. The transaction's own marker and flag (2 WU) are not counted, nor
    /// the growth of the inputs' count.
    pub fn input_weight(&self) -> Weight {
        let script = self.witness_script().map(Script::len);
        let lengths: [Option<usize>; 5] = match &self.path {
            SpendPath::Direct { unlock, .. } => {
                let element = match unlock {
                    Unlock::Key | Unlock::RevokedHtlc => Some(KEY_LENGTH),
                    Unlock::Signature => None,
                    Unlock::Delayed | Unlock::Expired => Some(0),
                    Unlock::RevokedDelayed => Some(1),
                    Unlock::Preimage(_) => Some(PREIMAGE_LENGTH),
                };
                [Some(SIGNATURE_LENGTH), element, script, None, None]
            }
            SpendPath::HtlcTransaction { preimage, .. } => {
                let element = preimage.map_or(0, |_| PREIMAGE_LENGTH);
                [Some(0), Some(SIGNATURE_LENGTH), Some(SIGNATURE_LENGTH), Some(element), script]
            }
        };
        // The prediction counts the empty script's length byte, but neither outpoint nor sequence.
        InputWeightPrediction::new(0, lengths.into_iter().flatten()).weight()
            + Weight::from_non_witness_data_size(OUTPOINT_AND_SEQUENCE_LENGTH)
    }

    pub(super) fn witness_script(&self) -> Option<&Script> {
        match &self.path {
            SpendPath::Direct { witness_script, .. } => witness_script.as_deref(),
            SpendPath::HtlcTransaction { witness_script, .. } => Some(witness_script),
        }
    }
}
