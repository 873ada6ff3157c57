//! Closes on the chain: how far they are, and what a person does about them.

use std::collections::BTreeMap;

use bitcoin::consensus::serialize;
use channel::channel::{ChannelView, PhaseView};
use channel::ids::OwnerId;
use proto::error::{ErrorCode, ErrorDetail, detail, from_detail, status_with_advice};
use proto::fields::{bytes, outpoint_out, txid_out};
use proto::hub::v1 as pb;
use proto::onchain::{BumpParent, bump_in};
use proto::view::channel_out;
use proto::wallet::v1 as wallet_pb;
use settlement::desk::service::BumpTarget;
use settlement::desk::{
    BumpError, ClaimState, ClaimStatus, CommitmentState, CommitmentStatus, OnchainStatus, Reserve, ScanError,
};
use shard::Query;
use tonic::Status;

use super::{HUB_PATIENCE, Service, stopping, wrong_field};
use crate::core::Stopped;
use crate::core::assemble::SCAN;

impl Service {
    /// These channels with all that is known of their ends.
    pub(super) async fn shown(&self, views: &[&ChannelView]) -> Result<Vec<pb::Channel>, Status> {
        let height = *self.desk.heights().borrow();
        let statuses = self.statuses(views).await?;
        let show = |view: &&ChannelView| {
            let mut channel = channel_out(view, height);
            if let Some(status) = statuses.get(&view.owner) {
                add_status(channel.onchain.get_or_insert_default(), status);
            }
            channel
        };
        Ok(views.iter().map(show).collect())
    }

    async fn statuses(&self, views: &[&ChannelView]) -> Result<BTreeMap<OwnerId, OnchainStatus>, Status> {
        if !views.iter().any(|view| matches!(view.phase, PhaseView::Failed { .. })) {
            return Ok(BTreeMap::new());
        }
        let statuses = self.desk.onchain_statuses().await.map_err(|_| stopping(Stopped))?;
        Ok(statuses.into_iter().map(|status| (status.owner, status)).collect())
    }

    pub(super) async fn bump(&self, request: &pb::BumpRequest) -> Result<pb::BumpResponse, Status> {
        let (parent, feerate) = bump_in(request).map_err(wrong_field)?;
        let target = match parent {
            BumpParent::Txid(txid) => BumpTarget::Txid(txid),
            BumpParent::Transaction(transaction) => BumpTarget::Transaction(transaction),
        };
        let Ok(bumped) = tokio::time::timeout(HUB_PATIENCE, self.desk.bump(target, feerate)).await else {
            return Err(status_with_advice(
                ErrorCode::StillUnderWay,
                "bitcoind does not answer; the bump may still come to pass",
                "see `hubwallet channels`",
            ));
        };
        let bumped = bumped.map_err(|error| refused(&error))?;
        Ok(pb::BumpResponse {
            txid: txid_out(&bumped.parent),
            child_txid: txid_out(&bumped.child),
            fee_sat: bumped.fee.to_sat(),
        })
    }

    pub(super) async fn scan(&self) -> Result<wallet_pb::ScanChainResponse, Status> {
        let scan = self.desk.scan(SCAN).await.map_err(|error| match &error {
            ScanError::Stopping => stopping(Stopped),
            ScanError::Rpc(_) | ScanError::Aborted => status_with_advice(
                ErrorCode::ChainUnavailable,
                error.to_string(),
                "nothing was changed; bitcoind does one scan at a time, so try again",
            ),
        })?;
        let found = scan.found.iter().map(|found| wallet_pb::FoundOutput {
            outpoint: Some(outpoint_out(&found.outpoint)),
            value_sat: found.output.value.to_sat(),
            height: found.height,
            earliest_height: found.earliest_height,
            of_channel: found.of_channel,
        });
        Ok(wallet_pb::ScanChainResponse { height: scan.height, found: found.collect() })
    }

    pub(super) async fn release_held(&self) -> Result<pb::ReleaseHeldResponse, Status> {
        let released = self.desk.release_held().await.map_err(|_| stopping(Stopped))?;
        let mut channel_ids = Vec::with_capacity(released.len());
        for owner in released {
            let view = match self.core.read(Query::Channel(owner)).await.map_err(stopping)? {
                shard::Answer::Channel(view) => view,
                shard::Answer::Channels { .. } | shard::Answer::PublishJob(_) => {
                    return Err(stopping(Stopped));
                }
            };
            channel_ids.extend(view.map(|view| bytes(&view.channel_id.0)));
        }
        Ok(pb::ReleaseHeldResponse { channel_ids })
    }

    pub(super) async fn resume_publishing(&self) -> Result<pb::ResumePublishingResponse, Status> {
        let was_suspended = self.desk.resume_publishing().await.map_err(|_| stopping(Stopped))?;
        Ok(pb::ResumePublishingResponse { was_suspended })
    }
}

/// The coins kept to close channels with.
pub(super) fn reserve_out(reserve: &Reserve) -> pb::FeeReserve {
    pb::FeeReserve {
        needed_coins: reserve.needed_coins,
        confirmed_coins: reserve.confirmed_coins,
        needed_sat: reserve.needed.to_sat(),
        available_sat: reserve.available.to_sat(),
        short: reserve.short,
    }
}

fn refused(error: &BumpError) -> Status {
    let (code, advice) = match error {
        BumpError::Unknown { .. } => (ErrorCode::NotFound, "give the whole transaction with --transaction"),
        BumpError::NoAnchor => (ErrorCode::NotPublishable, ""),
        BumpError::TooLow { .. } => (ErrorCode::FeerateTooLow, "give a higher --feerate"),
        BumpError::TooHigh { .. } => (ErrorCode::FeeAboveLimit, "give a lower --feerate"),
        BumpError::NoCoin { .. } => {
            (ErrorCode::InsufficientFunds, "send coins to `hubwallet address` and wait for a confirmation")
        }
        BumpError::NotSent { .. } => {
            (ErrorCode::NotPublishable, "`hubwallet channels` shows what it waits for")
        }
        BumpError::Flaw(_) | BumpError::Build(_) => (ErrorCode::NotPublishable, ""),
        BumpError::Pool(_) => (ErrorCode::Fault, ""),
        BumpError::Node(_) => (ErrorCode::ChainUnavailable, "see that bitcoind runs"),
        BumpError::Stopping => (ErrorCode::Stopping, ""),
    };
    from_detail(ErrorDetail { advice: advice.to_owned(), ..detail(code, error.to_string()) })
}

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
