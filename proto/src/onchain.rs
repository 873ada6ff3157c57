//! Closes that nobody agreed on, as both services show them, and what people ask of the chain's side.

use bitcoin::consensus::deserialize;
use bitcoin::{FeeRate, Transaction, Txid};
use channel::channel::{Awaiting, ChannelView, CommitmentOwner, OutputState, OutputView};

use crate::fields::{number, outpoint_out, txid, txid_out};
use crate::hub::v1 as pb;
use crate::view::part_word;
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

/// What the channel knows of such a close, at this height of the chain; what is on its way, only the desk knows.
pub fn close_out(view: &ChannelView, height: u32) -> Option<pb::OnchainClose> {
    let (awaits, by_height) = match view.awaiting {
        None | Some(Awaiting::Close { .. } | Awaiting::Acknowledgements) => {
            (pb::OnchainAwaits::Unspecified, None)
        }
        Some(Awaiting::Commitment { by_height }) => (pb::OnchainAwaits::Commitment, by_height),
        Some(Awaiting::TheirCommitment) => (pb::OnchainAwaits::PeerCommitment, None),
        Some(Awaiting::Finality { .. }) => (pb::OnchainAwaits::Finality, None),
        Some(Awaiting::Outputs) => (pb::OnchainAwaits::Outputs, None),
    };
    let mut close =
        pb::OnchainClose { awaits_by_height: by_height.unwrap_or(0), ..pb::OnchainClose::default() };
    close.set_awaits(awaits);
    let Some(onchain) = &view.onchain else {
        return (awaits != pb::OnchainAwaits::Unspecified).then_some(close);
    };
    close.commitment_txid = txid_out(&onchain.txid);
    close.height = onchain.height;
    close.r#final = onchain.is_final;
    close.set_whose(match onchain.whose {
        CommitmentOwner::Ours => pb::CommitmentOf::Ours,
        CommitmentOwner::Theirs => pb::CommitmentOf::Peer,
        CommitmentOwner::Revoked => pb::CommitmentOf::Cheater,
        CommitmentOwner::Newer => pb::CommitmentOf::Newer,
        CommitmentOwner::Unknown => pb::CommitmentOf::Unknown,
    });
    close.outputs = onchain.outputs.iter().map(|output| output_out(output, height)).collect();
    Some(close)
}

fn output_out(output: &OutputView, height: u32) -> pb::OnchainOutput {
    let mut out = pb::OnchainOutput {
        outpoint: Some(outpoint_out(&output.outpoint)),
        value_sat: output.value.to_sat(),
        kind: part_word(output.kind).to_owned(),
        ..pb::OnchainOutput::default()
    };
    let stage = match output.state {
        OutputState::Claimable { from_height } => {
            out.height = from_height;
            // The next block may hold it.
            if from_height > height.saturating_add(1) {
                pb::OnchainStage::Waits
            } else {
                pb::OnchainStage::Pending
            }
        }
        OutputState::AwaitsPreimage { expiry } => {
            out.height = expiry;
            pb::OnchainStage::AwaitsPreimage
        }
        OutputState::Spent { txid, height, by_us, is_final } => {
            out.spent_by = txid_out(&txid);
            out.height = height;
            out.ours = by_us;
            if is_final { pb::OnchainStage::Final } else { pb::OnchainStage::Spent }
        }
    };
    out.set_stage(stage);
    out
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
