//! `CloseChannel`: starts the cooperative close, or gives the channel up; answered once that is durable.

use bitcoin::ScriptBuf;
use bitcoin::hashes::{Hash, sha256};
use channel::channel::PhaseView;
use channel::error::{Refusal, Rejection};
use channel::event::{Command, FailRequest};
use channel::ids::{ChannelId, OwnerId};
use proto::error::{ErrorCode, ErrorDetail, detail, from_detail};
use proto::hub::v1::{CloseChannelRequest, CloseChannelResponse};
use proto::request_id::RequestId;
use proto::view::channel_out;
use settlement::desk::DeskRequest;
use shard::Refused;
use tokio::sync::oneshot;
use tonic::Status;

use crate::control::{ControlMail, RememberError, Remembered};

use super::OperatorHub;
use super::ask::{answered, channel, command};

pub async fn handle(hub: &OperatorHub, request: CloseChannelRequest) -> Result<CloseChannelResponse, Status> {
    let id = proto::fields::channel_id("channel_id", &request.channel_id)?;
    let request_id = RequestId::parse(&request.request_id).map_err(|error| from_detail(error.into()))?;
    let owner = hub.shared.directory.place(&id).map(|place| place.owner).ok_or_else(|| unknown(id))?;
    remember(hub, request_id, id, request.force).await?;
    let mailboxes = &hub.shared.mailboxes;
    if request.force {
        // Whoever asks for it is not asked again, however many it asks for.
        hub.desk.request(owner, DeskRequest::Allow);
    }
    let asked = match request.force {
        // A channel that is over takes no notice, so a repeat finds what was asked for done.
        true => Command::Fail { reason: FailRequest::Operator },
        // The hub's own share goes to the batch's output, so its script is empty. A repeat finds the close begun.
        false => Command::Shutdown { script: ScriptBuf::new() },
    };
    match command(mailboxes, owner, asked).await? {
        Ok(()) => {}
        Err(refused) => {
            if !closes_already(hub, owner, &refused).await? {
                let code = match refused {
                    Refused::UnknownOwner(_) => return Err(unknown(id)),
                    Refused::Stopping => ErrorCode::Stopping,
                    Refused::Rejected(_)
                    | Refused::Unrecoverable(_)
                    | Refused::ChannelExists(_)
                    | Refused::OwnerExists(_)
                    | Refused::NotConnected(_)
                    | Refused::TooManyChannelsOfNode { .. }
                    | Refused::TooManyChannels { .. }
                    | Refused::TooManySessions { .. }
                    | Refused::Quarantined { .. }
                    | Refused::NotForHosts => ErrorCode::ChannelRefused,
                };
                return Err(about(id, code, refused.to_string()));
            }
        }
    }
    let view = channel(mailboxes, owner).await?.ok_or_else(|| unknown(id))?;
    Ok(CloseChannelResponse { channel: Some(channel_out(&view, hub.shared.tip.height())) })
}

/// Whether the channel refused because it is on its way out: what was asked for is done.
async fn closes_already(hub: &OperatorHub, owner: OwnerId, refused: &Refused) -> Result<bool, Status> {
    let closing = matches!(
        refused,
        Refused::Rejected(Rejection::Refusal(Refusal::ShuttingDown | Refusal::Frozen | Refusal::Closed))
    );
    if !closing {
        return Ok(false);
    }
    let view = channel(&hub.shared.mailboxes, owner).await?;
    Ok(view.is_some_and(|view| match view.phase {
        PhaseView::ShuttingDown { by_us, .. } => by_us,
        PhaseView::Frozen { .. } | PhaseView::Closing { .. } | PhaseView::Closed { .. } => true,
        PhaseView::Opening
        | PhaseView::AwaitingConfirmation { .. }
        | PhaseView::Open
        | PhaseView::Aborted { .. }
        | PhaseView::Failed { .. } => false,
    }))
}

async fn remember(
    hub: &OperatorHub,
    request: RequestId,
    channel: ChannelId,
    force: bool,
) -> Result<Remembered, Status> {
    let mut body = if force { b"CloseChannel force ".to_vec() } else { b"CloseChannel ".to_vec() };
    body.extend_from_slice(&channel.0);
    let body = sha256::Hash::hash(&body).to_byte_array();
    let (reply, receiver) = oneshot::channel();
    hub.shared.mailboxes.control(ControlMail::Remember { request, body, reply });
    answered(receiver).await?.map_err(|error| {
        let text = error.to_string();
        match error {
            RememberError::Id(error) => from_detail(error.into()),
            RememberError::Reused => from_detail(detail(ErrorCode::RequestIdReused, text)),
            RememberError::Full { .. } => from_detail(detail(ErrorCode::LimitReached, text)),
            RememberError::Stopping => from_detail(detail(ErrorCode::Stopping, text)),
        }
    })
}

fn unknown(id: ChannelId) -> Status {
    about(id, ErrorCode::NotFound, format!("no channel {id} is here; hubctl channels lists them"))
}

fn about(id: ChannelId, code: ErrorCode, text: String) -> Status {
    from_detail(ErrorDetail { channel_id: id.0.to_vec().into(), ..detail(code, text) })
}
