//! Tests of the state machine: scenarios, one case a rule, properties.

mod adversary;
mod alike;
mod chain;
mod flows;
mod forwards;
mod hostile;
mod model;
mod offers;
mod onchain;
mod onchain_model;
mod pair;
mod parameters;
mod price;
mod recovery;
mod refusals;
mod review;
mod rules;
mod troubles;
mod violations;

/// Bitcoin's own interpreter accepts the spend of the one output.
fn verify_script(spend: &bitcoin::Transaction, spent: &bitcoin::TxOut) {
    let bytes = bitcoin::consensus::serialize(spend);
    bitcoinconsensus::verify(spent.script_pubkey.as_bytes(), spent.value.to_sat(), &bytes, None, 0).unwrap();
}
