//! The last look at a claim before its transaction is published: the script that the chain will run is read, and the
//! transaction must give it exactly what it asks for.
//!
//! What passes here passes Bitcoin's interpreter; whether it is mature, unspent and pays enough is for others to say.

use bitcoin::absolute::LockTime;
use bitcoin::transaction::Version;
use bitcoin::{EcdsaSighashType, Sequence, Transaction, TxIn, ecdsa, relative};

use super::script::{HtlcLock, Lock};
use super::spend::COUNTERSIGNATURE_TYPE;
use super::{Claim, SpendPath, Unlock};
use crate::bytes::PaymentPreimage;
use crate::commitment::HtlcDirection;
use crate::keys::{CompactSignature, Point};
use crate::scripts;

/// Why a transaction does not take what a claim says, or no transaction can.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    #[error("the output does not pay to the claim's script, or the script is not one of that way to spend")]
    Script,
    #[error("the script asks for another key's signature")]
    ForeignKey,
    #[error("the preimage is not that of the script's payment hash")]
    WrongPreimage,
    #[error("the claim's sequence or lock time is below what its script asks for")]
    ClaimTooEarly,
    #[error("input {index} does not spend the output")]
    WrongInput { index: usize },
    #[error("the input has a script, which a witness program does not take")]
    ScriptSig,
    #[error("the input's sequence is {found}, not {expected}")]
    WrongSequence { found: Sequence, expected: Sequence },
    #[error("the lock time {found} does not go with {expected}")]
    WrongLockTime { found: LockTime, expected: LockTime },
    #[error("the version {found} does not go with the claim")]
    WrongVersion { found: Version },
    #[error("output {index} is not the one that the counterparty signed")]
    WrongPair { index: usize },
    #[error("the witness is not the claim's")]
    Witness,
    #[error("our signature is of another type than SIGHASH_ALL")]
    SighashType,
    #[error("our signature does not hold")]
    Signature,
    #[error("the counterparty's signature does not hold")]
    Countersignature,
}

impl Claim {
    /// Whether the claim fits its output: script, keys, preimage, delay and expiry. No curve operation.
    pub fn check(&self) -> Result<(), ClaimError> {
        let script_pubkey = &self.output.script_pubkey;
        let Some(script) = self.witness_script() else {
            let SpendPath::Direct { unlock: Unlock::Key, .. } = self.path else {
                return Err(ClaimError::Script);
            };
            let key = self.public_key.parse().map_err(|_| ClaimError::ForeignKey)?;
            return if *script_pubkey == scripts::p2wpkh(&key) {
                Ok(())
            } else if script_pubkey.is_p2wpkh() {
                Err(ClaimError::ForeignKey)
            } else {
                Err(ClaimError::Script)
            };
        };
        if *script_pubkey != scripts::p2wsh(script) {
            return Err(ClaimError::Script);
        }
        let lock = Lock::read(script).ok_or(ClaimError::Script)?;
        match (&self.path, &lock) {
            (SpendPath::Direct { unlock, .. }, lock) => self.check_unlock(unlock, lock),
            (SpendPath::HtlcTransaction { preimage, countersignatory_key, .. }, Lock::Htlc(lock)) => {
                self.check_htlc_transaction(preimage.as_ref(), countersignatory_key, lock)
            }
            (SpendPath::HtlcTransaction { .. }, Lock::Delayed { .. } | Lock::Waiting { .. }) => {
                Err(ClaimError::Script)
            }
        }
    }

    fn check_unlock(&self, unlock: &Unlock, lock: &Lock) -> Result<(), ClaimError> {
        match (unlock, lock) {
            (Unlock::Signature, Lock::Waiting { key }) => {
                self.expect_key(key)?;
                self.expect_reached(1, 0)
            }
            (Unlock::Delayed, Lock::Delayed { delay_blocks, delayed, .. }) => {
                self.expect_key(delayed)?;
                self.expect_reached(*delay_blocks, 0)
            }
            (Unlock::RevokedDelayed, Lock::Delayed { revocation, .. }) => self.expect_key(revocation),
            (Unlock::RevokedHtlc, Lock::Htlc(lock)) => {
                if lock.is_revoked_by(&self.public_key) {
                    Ok(())
                } else {
                    Err(ClaimError::ForeignKey)
                }
            }
            (Unlock::Preimage(preimage), Lock::Htlc(lock)) if lock.direction == HtlcDirection::Offered => {
                self.expect_key(&lock.countersignatory)?;
                if !lock.is_opened_by(preimage) {
                    return Err(ClaimError::WrongPreimage);
                }
                self.expect_reached(lock.wait_blocks, 0)
            }
            (Unlock::Expired, Lock::Htlc(lock)) if lock.direction == HtlcDirection::Received => {
                self.expect_key(&lock.countersignatory)?;
                self.expect_reached(lock.wait_blocks, lock.expiry)
            }
            (
                Unlock::Key
                | Unlock::Signature
                | Unlock::Delayed
                | Unlock::RevokedDelayed
                | Unlock::RevokedHtlc
                | Unlock::Preimage(_)
                | Unlock::Expired,
                Lock::Delayed { .. } | Lock::Waiting { .. } | Lock::Htlc(_),
            ) => Err(ClaimError::Script),
        }
    }

    fn check_htlc_transaction(
        &self,
        preimage: Option<&PaymentPreimage>,
        countersignatory: &Point,
        lock: &HtlcLock,
    ) -> Result<(), ClaimError> {
        self.expect_key(&lock.broadcaster)?;
        if *countersignatory != lock.countersignatory {
            return Err(ClaimError::ForeignKey);
        }
        match (lock.direction, preimage) {
            (HtlcDirection::Offered, None) => {}
            (HtlcDirection::Received, Some(preimage)) if lock.is_opened_by(preimage) => {}
            (HtlcDirection::Received, Some(_)) => return Err(ClaimError::WrongPreimage),
            (HtlcDirection::Offered, Some(_)) | (HtlcDirection::Received, None) => {
                return Err(ClaimError::Script);
            }
        }
        self.expect_reached(lock.wait_blocks, 0)
    }

    fn expect_key(&self, key: &Point) -> Result<(), ClaimError> {
        if self.public_key == *key { Ok(()) } else { Err(ClaimError::ForeignKey) }
    }

    /// Whether sequence and lock time are what `OP_CSV` and `OP_CLTV` ask for (BIP 112, BIP 65); 0 is nothing.
    fn expect_reached(&self, relative_blocks: u32, expiry: u32) -> Result<(), ClaimError> {
        let sequence = self.sequence();
        let waited = match sequence.to_relative_lock_time() {
            Some(relative::LockTime::Blocks(blocks)) => u32::from(blocks.value()),
            Some(relative::LockTime::Time(_)) | None => 0,
        };
        let reached = match self.lock_time() {
            LockTime::Blocks(height) => height.to_consensus_u32(),
            LockTime::Seconds(_) => 0,
        };
        // The last sequence switches the lock time off.
        let switched_off = expiry > 0 && sequence == Sequence::MAX;
        if waited < relative_blocks || reached < expiry || switched_off {
            return Err(ClaimError::ClaimTooEarly);
        }
        Ok(())
    }

    /// Whether the transaction's input takes the output: the claim fits its script, the transaction keeps to what the
    /// claim says, the witness is exactly the expected one, and every signature in it holds. At most two signature
    /// checks.
    pub fn check_witness(&self, transaction: &Transaction, input_index: usize) -> Result<(), ClaimError> {
        self.check()?;
        let input = self.check_input(transaction, input_index)?;
        let position = match &self.path {
            SpendPath::Direct { .. } => 0,
            SpendPath::HtlcTransaction { .. } => 2,
        };
        let element = input.witness.nth(position).ok_or(ClaimError::Witness)?;
        let ours = ecdsa::Signature::from_slice(element).map_err(|_| ClaimError::Signature)?;
        if ours.sighash_type != EcdsaSighashType::All {
            return Err(ClaimError::SighashType);
        }
        let ours = CompactSignature::from(ours.signature);
        if self.witness(&ours).map_err(|_| ClaimError::Witness)? != input.witness {
            return Err(ClaimError::Witness);
        }
        let message = self.sighash(transaction, input_index)?;
        if !holds(&ours, &message, &self.public_key) {
            return Err(ClaimError::Signature);
        }
        match &self.path {
            SpendPath::Direct { .. } => Ok(()),
            SpendPath::HtlcTransaction { countersignature, countersignatory_key, .. } => {
                let message = self.sighash_of_type(transaction, input_index, COUNTERSIGNATURE_TYPE)?;
                if holds(countersignature, &message, countersignatory_key) {
                    Ok(())
                } else {
                    Err(ClaimError::Countersignature)
                }
            }
        }
    }

    /// Everything of [`Claim::check_witness`] that needs no witness.
    fn check_input<'t>(&self, transaction: &'t Transaction, index: usize) -> Result<&'t TxIn, ClaimError> {
        let input = transaction.input.get(index).ok_or(ClaimError::WrongInput { index })?;
        if input.previous_output != self.outpoint {
            return Err(ClaimError::WrongInput { index });
        }
        if !input.script_sig.is_empty() {
            return Err(ClaimError::ScriptSig);
        }
        let expected = self.sequence();
        if input.sequence != expected {
            return Err(ClaimError::WrongSequence { found: input.sequence, expected });
        }
        let (found, expected) = (transaction.lock_time, self.lock_time());
        let (lock_time_fits, version_fits) = match self.fixed_version() {
            Some(version) => (found == expected, transaction.version == version),
            // Relative lock times count from version 2 on (BIP 68).
            None => (expected.is_implied_by(found), transaction.version >= Version::TWO),
        };
        if !lock_time_fits {
            return Err(ClaimError::WrongLockTime { found, expected });
        }
        if !version_fits {
            return Err(ClaimError::WrongVersion { found: transaction.version });
        }
        match self.paired_output() {
            Some(output) if transaction.output.get(index) != Some(output) => {
                Err(ClaimError::WrongPair { index })
            }
            Some(_) | None => Ok(input),
        }
    }
}

fn holds(signature: &CompactSignature, message: &secp256k1::Message, key: &Point) -> bool {
    key.parse().is_ok_and(|key| signature.verify(message, &key).is_ok())
}
