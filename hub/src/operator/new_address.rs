//! `NewAddress`: an address never given out, durable before it is shown.

use std::future::Future;

use proto::error::{ErrorCode, status, status_with_advice};
use proto::hub::v1::NewAddressResponse;
use settlement::desk::service::Stopping;
use tonic::Status;

use crate::limits::CALL_TIMEOUT;

use super::OperatorHub;

pub async fn handle(hub: &OperatorHub) -> Result<NewAddressResponse, Status> {
    let address = from_desk(hub, hub.desk.new_address()).await?;
    Ok(NewAddressResponse { address: address.to_string() })
}

/// Waits for the desk; when it does not answer because bitcoind does not, says so.
pub async fn from_desk<T>(
    hub: &OperatorHub,
    answer: impl Future<Output = Result<T, Stopping>>,
) -> Result<T, Status> {
    match tokio::time::timeout(CALL_TIMEOUT, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(Stopping)) => Err(status(ErrorCode::Stopping, "the hub is stopping")),
        Err(_) => {
            let trouble = hub.desk.status().trouble();
            let text = trouble.unwrap_or_else(|| "the settlement desk is busy".to_owned());
            let advice = "see that bitcoind runs and that bitcoind.url and bitcoind.cookie_file are right";
            Err(status_with_advice(ErrorCode::ChainUnavailable, text, advice))
        }
    }
}
