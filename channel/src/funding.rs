//! The funding output: what it must be, and whether a transaction has it.

use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, TxOut};
use secp256k1::PublicKey;

use crate::parameters::ChannelContext;
use crate::scripts;

/// The funding output of two keys (BOLT 3, "Funding Transaction Output").
pub fn funding_output(one: &PublicKey, other: &PublicKey, amount: Amount) -> TxOut {
    TxOut { value: amount, script_pubkey: scripts::p2wsh(&scripts::funding(one, other)) }
}

/// What is wrong with a transaction said to fund the channel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FundingFlaw {
    #[error("the transaction's id is {found}, not {expected}")]
    WrongTxid { found: bitcoin::Txid, expected: bitcoin::Txid },
    #[error("the transaction has {outputs} outputs and none with index {index}")]
    NoSuchOutput { index: u32, outputs: usize },
    #[error("the output has {found}, not {expected}")]
    WrongAmount { found: Amount, expected: Amount },
    #[error("the output pays {found:?}, not {expected:?}")]
    WrongScript { found: ScriptBuf, expected: ScriptBuf },
    #[error("the transaction is to pay the accepter a coin of {expected}, and does not")]
    NoReserveCoin { expected: Amount },
}

/// Checks that a transaction funds a channel at the expected place, with the expected amount and script.
pub fn check_funding(
    transaction: &Transaction,
    outpoint: OutPoint,
    expected: &TxOut,
) -> Result<(), FundingFlaw> {
    let found = transaction.compute_txid();
    if found != outpoint.txid {
        return Err(FundingFlaw::WrongTxid { found, expected: outpoint.txid });
    }
    let output = usize::try_from(outpoint.vout).ok().and_then(|index| transaction.output.get(index));
    let Some(output) = output else {
        return Err(FundingFlaw::NoSuchOutput { index: outpoint.vout, outputs: transaction.output.len() });
    };
    check_funding_output(output, expected)
}

/// Checks an output found on the chain at the funding outpoint.
pub fn check_funding_output(output: &TxOut, expected: &TxOut) -> Result<(), FundingFlaw> {
    if output.value != expected.value {
        return Err(FundingFlaw::WrongAmount { found: output.value, expected: expected.value });
    }
    if output.script_pubkey != expected.script_pubkey {
        return Err(FundingFlaw::WrongScript {
            found: output.script_pubkey.clone(),
            expected: expected.script_pubkey.clone(),
        });
    }
    Ok(())
}

impl ChannelContext {
    /// The channel's funding output as it must stand on the chain.
    pub fn funding_output(&self) -> TxOut {
        TxOut {
            value: self.parameters().funding_amount,
            script_pubkey: scripts::p2wsh(self.funding_script()),
        }
    }
}
