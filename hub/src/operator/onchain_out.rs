//! How far a close on the chain is: what the channel knows of it, and what the desk does for it.

use std::collections::BTreeMap;

use bitcoin::consensus::serialize;
use channel::channel::{ChannelView, PhaseView};
use channel::ids::OwnerId;
use proto::view::channel_out;
use tonic::Status;

use super::OperatorHub;
use super::new_address::from_desk;

use proto::fields::{outpoint_out, txid_out};
use proto::hub::v1 as pb;
use settlement::desk::{ClaimState, ClaimStatus, CommitmentState, CommitmentStatus, OnchainStatus};

/// What the desk does for a channel, as far as it is more than what the channel says.
fn add_status(close: &mut pb::OnchainClose, status: &OnchainStatus) {
    close.own = status.commitment.as_ref().map(own);
    for claim in &status.claims {
        let outpoint = outpoint_out(&claim.outpoint);
        let known = close.outputs.iter_mut().find(|output| output.outpoint.as_ref() == Some(&outpoint));
        match known {
            Some(output) => add_claim(output, claim),
            None => {
                let value_sat = claim.value.to_sat();
                let mut output =
                    pb::OnchainOutput { outpoint: Some(outpoint), value_sat, ..pb::OnchainOutput::default() };
                add_claim(&mut output, claim);
                close.outputs.push(output);
            }
        }
    }
}

fn own(status: &CommitmentStatus) -> pb::OwnCommitment {
    let mut own = pb::OwnCommitment { txid: txid_out(&status.txid), ..pb::OwnCommitment::default() };
    own.why = status.state.to_string();
    own.transaction = status.transaction.as_ref().map(serialize).unwrap_or_default().into();
    let stage = match &status.state {
        CommitmentState::AwaitsFunding => pb::OnchainStage::AwaitsFunding,
        CommitmentState::Suspended => pb::OnchainStage::Suspended,
        CommitmentState::Held => pb::OnchainStage::Held,
        CommitmentState::LeavesRoom { .. } => pb::OnchainStage::Waits,
        CommitmentState::TooDear { .. } => pb::OnchainStage::TooDear,
        CommitmentState::NoCoin { .. } => pb::OnchainStage::NoCoin,
        CommitmentState::Faulty { .. } => pb::OnchainStage::Faulty,
        CommitmentState::Pending | CommitmentState::AwaitsProof => pb::OnchainStage::Pending,
        CommitmentState::Sent { child, fee, feerate, refused } => {
            own.why = refused.clone().unwrap_or_default();
            own.child_txid = txid_out(child);
            own.fee_sat = fee.to_sat();
            own.feerate_sat_per_kw = feerate.to_sat_per_kwu();
            pb::OnchainStage::Sent
        }
    };
    own.set_stage(stage);
    own
}

/// What is on its way for an output, or why nothing is. What the channel knows of its spend counts more.
fn add_claim(output: &mut pb::OnchainOutput, claim: &ClaimStatus) {
    let known = output.stage();
    let is_new = known == pb::OnchainStage::Unspecified;
    if matches!(known, pb::OnchainStage::Spent | pb::OnchainStage::Final)
        || (claim.state == ClaimState::Pending && !is_new)
    {
        return;
    }
    output.why = claim.state.to_string();
    let stage = match &claim.state {
        ClaimState::Waits { height } => {
            output.height = *height;
            output.why.clear();
            pb::OnchainStage::Waits
        }
        ClaimState::Uneconomic => pb::OnchainStage::Uneconomic,
        ClaimState::TooDear { .. } => pb::OnchainStage::TooDear,
        ClaimState::NoCoin { .. } => pb::OnchainStage::NoCoin,
        ClaimState::Faulty { .. } => pb::OnchainStage::Faulty,
        ClaimState::Pending => pb::OnchainStage::Pending,
        ClaimState::Sent { txid, fee, feerate: _, refused } => {
            output.why = refused.clone().unwrap_or_default();
            output.spent_by = txid_out(txid);
            output.ours = true;
            output.fee_sat = fee.to_sat();
            pb::OnchainStage::Sent
        }
        ClaimState::Spent { txid, height } => {
            output.spent_by = txid_out(txid);
            output.height = *height;
            output.why.clear();
            pb::OnchainStage::Spent
        }
    };
    output.set_stage(stage);
}

/// What the desk does for those of these channels that end on the chain.
pub async fn statuses(
    hub: &OperatorHub,
    views: &[ChannelView],
) -> Result<BTreeMap<OwnerId, OnchainStatus>, Status> {
    if !views.iter().any(|view| matches!(view.phase, PhaseView::Failed { .. })) {
        return Ok(BTreeMap::new());
    }
    let statuses = from_desk(hub, hub.desk.onchain_statuses()).await?;
    Ok(statuses.into_iter().map(|status| (status.owner, status)).collect())
}

/// A channel with all that is known of its end.
pub fn channel(view: &ChannelView, height: u32, status: Option<&OnchainStatus>) -> pb::Channel {
    let mut channel = channel_out(view, height);
    if let Some(status) = status {
        add_status(channel.onchain.get_or_insert_default(), status);
    }
    channel
}
