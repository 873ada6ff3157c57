//! `ReleaseHeld`: lets through what the breaker holds; answered once that is durable.

use proto::fields::bytes;
use proto::hub::v1::ReleaseHeldResponse;
use tonic::Status;

use super::OperatorHub;
use super::new_address::from_desk;

pub async fn handle(hub: &OperatorHub) -> Result<ReleaseHeldResponse, Status> {
    let released = from_desk(hub, hub.desk.release_held()).await?;
    let names = released.into_iter().filter_map(|owner| hub.shared.directory.name_of(owner));
    Ok(ReleaseHeldResponse { channel_ids: names.map(|name| bytes(&name.0)).collect() })
}
