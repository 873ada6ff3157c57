//! `Bump`: pays for a commitment, the hub's or anybody's.

use proto::error::{ErrorCode, ErrorDetail, detail, from_detail};
use proto::fields::txid_out;
use proto::hub::v1::{BumpRequest, BumpResponse};
use proto::onchain::{BumpParent, bump_in};
use settlement::desk::BumpError;
use settlement::desk::service::BumpTarget;
use tonic::Status;

use crate::limits::CALL_TIMEOUT;

use super::OperatorHub;

pub async fn handle(hub: &OperatorHub, request: &BumpRequest) -> Result<BumpResponse, Status> {
    let (parent, feerate) = bump_in(request)?;
    let target = match parent {
        BumpParent::Txid(txid) => BumpTarget::Txid(txid),
        BumpParent::Transaction(transaction) => BumpTarget::Transaction(transaction),
    };
    let bumped = tokio::time::timeout(CALL_TIMEOUT, hub.desk.bump(target, feerate)).await;
    let Ok(bumped) = bumped else {
        let text = "bitcoind does not answer; the bump may still come to pass";
        return Err(from_detail(detail(ErrorCode::StillUnderWay, text)));
    };
    let bumped = bumped.map_err(|error| refused(&error))?;
    Ok(BumpResponse {
        txid: txid_out(&bumped.parent),
        child_txid: txid_out(&bumped.child),
        fee_sat: bumped.fee.to_sat(),
    })
}

fn refused(error: &BumpError) -> Status {
    let (code, advice) = match error {
        BumpError::Unknown { .. } => (ErrorCode::NotFound, "give the whole transaction with --transaction"),
        BumpError::NoAnchor => (ErrorCode::NotPublishable, ""),
        BumpError::TooLow { .. } => (ErrorCode::FeerateTooLow, "give a higher --feerate"),
        BumpError::TooHigh { .. } => {
            (ErrorCode::FeeAboveLimit, "the ceiling is settlement.feerate_ceiling_sat_per_vb in hubd.toml")
        }
        BumpError::NoCoin { .. } => {
            (ErrorCode::InsufficientFunds, "send coins to `hubctl address` and wait for a confirmation")
        }
        BumpError::NotSent { .. } => (ErrorCode::NotPublishable, "`hubctl channels` shows what it waits for"),
        BumpError::Flaw(_) | BumpError::Build(_) => (ErrorCode::NotPublishable, ""),
        BumpError::Pool(_) => (ErrorCode::Fault, ""),
        BumpError::Node(_) => (ErrorCode::ChainUnavailable, "see that bitcoind runs"),
        BumpError::Stopping => (ErrorCode::Stopping, ""),
    };
    from_detail(ErrorDetail { advice: advice.to_owned(), ..detail(code, error.to_string()) })
}
