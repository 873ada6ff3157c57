//! One module for each kind of vector file, and what they share.

pub mod commitments;
pub mod folder;
pub mod funding;
pub mod keys;
pub mod secrets;
pub mod weights;

use bitcoin::{Transaction, TxOut};

/// Bitcoin's own script interpreter accepts an input.
pub fn assert_spends(transaction: &Transaction, input: usize, spent: &TxOut) {
    let bytes = bitcoin::consensus::serialize(transaction);
    bitcoinconsensus::verify(spent.script_pubkey.as_bytes(), spent.value.to_sat(), &bytes, None, input)
        .unwrap_or_else(|error| panic!("input {input} of {}: {error:?}", transaction.compute_txid()));
}
