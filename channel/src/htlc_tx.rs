//! HTLC-timeout and HTLC-success transactions (BOLT 3): the broadcaster's second stage, which takes an HTLC out of its
//! own commitment into an output delayed and punishable like its balance.

use bitcoin::absolute::LockTime;
use bitcoin::sighash::SighashCache;
use bitcoin::{EcdsaSighashType, OutPoint, ScriptBuf, Transaction, TxIn, TxOut, Witness};
use secp256k1::Message;

use crate::amount::Msat;
use crate::bytes::PaymentPreimage;
use crate::commitment::{CommitmentTransaction, HtlcDirection, HtlcOutput};
use crate::keys::{CompactSignature, InvalidSignature};
use crate::witness;

/// One HTLC's second-stage transaction, unsigned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HtlcTransaction<'a> {
    output: &'a HtlcOutput,
    countersignature_type: EcdsaSighashType,
    tx: Transaction,
}

/// Why an HTLC transaction cannot be completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HtlcWitnessError {
    #[error("an HTLC-success transaction needs the preimage")]
    PreimageMissing,
    #[error("an HTLC-timeout transaction takes no preimage")]
    PreimageUnexpected,
    #[error("the preimage is not that of the payment hash")]
    WrongPreimage,
    #[error(transparent)]
    Signature(#[from] InvalidSignature),
}

/// Both parties' signatures of one HTLC transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HtlcSignatures {
    /// Of the party that owns the commitment, always `SIGHASH_ALL`.
    pub broadcaster: CompactSignature,
    /// Of the other, with the format's [`crate::format::CommitmentFormat::htlc_sighash_type`].
    pub countersignatory: CompactSignature,
}

impl<'a> HtlcTransaction<'a> {
    pub(crate) fn new(
        commitment: &CommitmentTransaction,
        output: &'a HtlcOutput,
        script_pubkey: ScriptBuf,
    ) -> Self {
        let format = commitment.format();
        let direction = output.htlc.direction;
        let fee = format.htlc_transaction_fee(commitment.feerate_sat_per_kw(), direction);
        let value = output.value.checked_sub(fee).expect("an HTLC that cannot pay its fee is trimmed");
        let tx = Transaction {
            version: format.transaction_version(),
            lock_time: match direction {
                HtlcDirection::Offered => LockTime::from_consensus(output.htlc.cltv_expiry),
                HtlcDirection::Received => LockTime::ZERO,
            },
            input: vec![TxIn {
                previous_output: OutPoint { txid: commitment.txid(), vout: output.output_index },
                script_sig: ScriptBuf::new(),
                sequence: format.htlc_sequence(),
                witness: Witness::new(),
            }],
            output: vec![TxOut { value, script_pubkey }],
        };
        Self { output, countersignature_type: format.htlc_sighash_type(), tx }
    }

    /// The commitment's output that it spends.
    pub const fn spent_output(&self) -> &'a HtlcOutput {
        self.output
    }

    /// The amount of the HTLC.
    pub const fn amount(&self) -> Msat {
        self.output.htlc.amount
    }

    /// The transaction without its witness.
    pub const fn transaction(&self) -> &Transaction {
        &self.tx
    }

    /// What is signed: with the format's type by the countersignatory, with `All` by the broadcaster.
    pub fn sighash(&self, sighash_type: EcdsaSighashType) -> Message {
        let sighash = SighashCache::new(&self.tx)
            .p2wsh_signature_hash(0, &self.output.witness_script, self.output.value, sighash_type)
            .expect("an HTLC transaction has one input and one output");
        Message::from(sighash)
    }

    /// The witness: for a received HTLC with its preimage, for an offered one without.
    pub fn witness(
        &self,
        signatures: &HtlcSignatures,
        preimage: Option<&PaymentPreimage>,
    ) -> Result<Witness, HtlcWitnessError> {
        let key: &[u8] = match (self.output.htlc.direction, preimage) {
            (HtlcDirection::Offered, None) => &[],
            (HtlcDirection::Offered, Some(_)) => return Err(HtlcWitnessError::PreimageUnexpected),
            (HtlcDirection::Received, None) => return Err(HtlcWitnessError::PreimageMissing),
            (HtlcDirection::Received, Some(preimage)) => {
                if preimage.payment_hash() != self.output.htlc.payment_hash {
                    return Err(HtlcWitnessError::WrongPreimage);
                }
                preimage.as_bytes()
            }
        };
        let countersignature = witness::signature(&signatures.countersignatory, self.countersignature_type)?;
        let signature = witness::signature(&signatures.broadcaster, EcdsaSighashType::All)?;
        let mut witness = Witness::new();
        // OP_CHECKMULTISIG takes one element too many.
        witness.push([]);
        witness.push_ecdsa_signature(&countersignature);
        witness.push_ecdsa_signature(&signature);
        witness.push(key);
        witness.push(&self.output.witness_script);
        Ok(witness)
    }

    /// The transaction ready to publish as it is: with zero fees it needs inputs of the broadcaster's own first, and
    /// then [`HtlcTransaction::witness`] with a signature of the whole.
    pub fn signed(
        &self,
        signatures: &HtlcSignatures,
        preimage: Option<&PaymentPreimage>,
    ) -> Result<Transaction, HtlcWitnessError> {
        let mut tx = self.tx.clone();
        tx.input[0].witness = self.witness(signatures, preimage)?;
        Ok(tx)
    }
}
