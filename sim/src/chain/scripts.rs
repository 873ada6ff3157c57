//! Scripts and signatures: the rules of consensus by bitcoind's own interpreter, taproot included, and of the stricter ones
//! that its mempool adds the one that a signer may get wrong, the low form of signatures.

use std::collections::BTreeSet;

use bitcoin::consensus::encode::serialize;
use bitcoin::{Transaction, TxOut, Wtxid};
use bitcoinconsensus::{Utxo, VERIFY_ALL_PRE_TAPROOT, VERIFY_TAPROOT};
use secp256k1::ecdsa::Signature;

use super::reject::Reject;

/// Transactions found good before. What they spend is part of their id, so it never changes.
#[derive(Default)]
pub(super) struct Verified(BTreeSet<Wtxid>);

impl Verified {
    /// Checks every input against the outputs spent, one an input, in their order.
    pub(super) fn check(&mut self, transaction: &Transaction, spent: &[TxOut]) -> Result<(), Reject> {
        let wtxid = transaction.compute_wtxid();
        if self.0.contains(&wtxid) {
            return Ok(());
        }
        consensus(transaction, spent)?;
        self.0.insert(wtxid);
        Ok(())
    }
}

fn consensus(transaction: &Transaction, spent: &[TxOut]) -> Result<(), Reject> {
    let raw = serialize(transaction);
    let utxos: Vec<Utxo> = spent
        .iter()
        .map(|output| Utxo {
            script_pubkey: output.script_pubkey.as_bytes().as_ptr(),
            script_pubkey_len: u32::try_from(output.script_pubkey.len()).unwrap_or(u32::MAX),
            value: i64::try_from(output.value.to_sat()).unwrap_or(i64::MAX),
        })
        .collect();
    let flags = VERIFY_ALL_PRE_TAPROOT | VERIFY_TAPROOT;
    for (input, output) in spent.iter().enumerate() {
        let (script, value) = (output.script_pubkey.as_bytes(), output.value.to_sat());
        bitcoinconsensus::verify_with_flags(script, value, &raw, Some(&utxos), input, flags)
            .map_err(|_| Reject::Script { input })?;
    }
    Ok(())
}

/// Refuses an ECDSA signature with a high S, which anybody could have made of the signer's.
pub(super) fn low_s(transaction: &Transaction, spent: &[TxOut]) -> Result<(), Reject> {
    for (index, (input, output)) in transaction.input.iter().zip(spent).enumerate() {
        if !(output.script_pubkey.is_p2wpkh() || output.script_pubkey.is_p2wsh()) {
            continue;
        }
        for element in input.witness.iter() {
            let Some((_, der)) = element.split_last() else { continue };
            let Ok(signature) = Signature::from_der(der) else { continue };
            let mut normal = signature;
            normal.normalize_s();
            if normal != signature {
                return Err(Reject::HighS { input: index });
            }
        }
    }
    Ok(())
}
