//! `Stop`: stops the hub cleanly. The answer comes before the stop; the process ends when everything is in snapshots.

use proto::hub::v1::StopResponse;
use tonic::Status;

use super::OperatorHub;

pub async fn handle(hub: &OperatorHub) -> Result<StopResponse, Status> {
    // A full or closed channel means that a stop was asked for already.
    let _ = hub.stop.try_send(());
    Ok(StopResponse {})
}
