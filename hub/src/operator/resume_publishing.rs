//! `ResumePublishing`: ends the suspension; answered once that is durable.

use proto::hub::v1::ResumePublishingResponse;
use tonic::Status;

use super::OperatorHub;
use super::new_address::from_desk;

pub async fn handle(hub: &OperatorHub) -> Result<ResumePublishingResponse, Status> {
    let was_suspended = from_desk(hub, hub.desk.resume_publishing()).await?;
    Ok(ResumePublishingResponse { was_suspended })
}
