//! What people ask of the chain's side: which transaction to pay for, and how much.

use bitcoin::consensus::deserialize;
use bitcoin::{FeeRate, Transaction, Txid};

use crate::fields::{number, txid};
use crate::hub::v1 as pb;
use crate::wire_error::WireError;

/// No node relays at more; a greater number is a slip of the pen.
const MAX_FEERATE_SAT_PER_VB: u64 = 10_000;

/// Which commitment to pay for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BumpParent {
    Txid(Txid),
    Transaction(Box<Transaction>),
}

/// A request to pay for a commitment at this feerate (it and its child together).
pub fn bump_in(request: &pb::BumpRequest) -> Result<(BumpParent, FeeRate), WireError> {
    let feerate = number("feerate_sat_per_vb", request.feerate_sat_per_vb, 1, MAX_FEERATE_SAT_PER_VB)?;
    let feerate = FeeRate::from_sat_per_vb(feerate).unwrap_or(FeeRate::MAX);
    let parent = match (request.txid.is_empty(), request.transaction.is_empty()) {
        (_, true) => BumpParent::Txid(txid("txid", &request.txid)?),
        (true, false) => {
            let transaction = deserialize(&request.transaction)
                .map_err(|_| WireError::NotATransaction { field: "transaction" })?;
            BumpParent::Transaction(Box::new(transaction))
        }
        (false, false) => {
            return Err(WireError::TooMany { what: "transactions to pay for", got: 2, limit: 1 });
        }
    };
    Ok((parent, feerate))
}

#[cfg(test)]
mod tests {
    use bitcoin::consensus::serialize;
    use bitcoin::hashes::Hash;

    use super::*;

    #[test]
    fn a_commitment_is_named_by_its_id_or_given_whole_and_not_both() {
        let transaction = Transaction {
            version: bitcoin::transaction::Version(3),
            lock_time: bitcoin::absolute::LockTime::ZERO,
            input: vec![bitcoin::TxIn::default()],
            output: vec![bitcoin::TxOut {
                value: bitcoin::Amount::ZERO,
                script_pubkey: bitcoin::ScriptBuf::new_p2a(),
            }],
        };
        let feerate = FeeRate::from_sat_per_vb(7).unwrap();
        let id = vec![5; 32];
        let ask = |txid: &[u8], transaction: Vec<u8>, feerate_sat_per_vb| {
            let (txid, transaction) = (txid.to_vec().into(), transaction.into());
            bump_in(&pb::BumpRequest { txid, transaction, feerate_sat_per_vb })
        };
        let named = BumpParent::Txid(Txid::from_byte_array([5; 32]));
        assert_eq!(ask(&id, Vec::new(), 7), Ok((named, feerate)));
        let whole = BumpParent::Transaction(Box::new(transaction.clone()));
        assert_eq!(ask(&[], serialize(&transaction), 7), Ok((whole, feerate)));
        assert!(matches!(ask(&[], Vec::new(), 7), Err(WireError::WrongLength { field: "txid", .. })));
        assert!(matches!(ask(&id, serialize(&transaction), 7), Err(WireError::TooMany { .. })));
        assert!(matches!(ask(&[], vec![1, 2], 7), Err(WireError::NotATransaction { .. })));
        for feerate in [0, 10_001] {
            let refused = ask(&id, Vec::new(), feerate);
            assert!(matches!(refused, Err(WireError::OutOfRange { field: "feerate_sat_per_vb", .. })));
        }
    }
}
