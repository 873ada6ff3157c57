//! `ListChannels`: a page over all shards, oldest first.

use channel::channel::{ChannelView, PhaseView};
use channel::ids::OwnerId;
use proto::hub::v1::{ListChannelsRequest, ListChannelsResponse};
use tonic::Status;

use super::ask::shard_channels;
use super::{OperatorHub, onchain_out, page};

pub async fn handle(hub: &OperatorHub, request: ListChannelsRequest) -> Result<ListChannelsResponse, Status> {
    // Each shard gives its oldest `rows`, so the oldest `rows` of all are among them.
    let rows = page::rows(request.page_size)?.min(shard::limits::MAX_PAGE);
    let node = match request.node_key.is_empty() {
        true => None,
        false => Some(proto::fields::point("node_key", &request.node_key)?),
    };
    let after = page::token(&request.page_token)?.map(|bytes| OwnerId(u64::from_be_bytes(bytes)));
    let mailboxes = &hub.shared.mailboxes;
    let mut all: Vec<ChannelView> = Vec::new();
    let mut more = false;
    for shard in 0..mailboxes.shards() {
        let (channels, rest) = shard_channels(mailboxes, shard, node, after, rows).await?;
        more |= rest.is_some();
        all.extend(channels);
    }
    all.sort_unstable_by_key(|view| view.owner);
    more |= all.len() > rows;
    all.truncate(rows);
    let last = all.last().filter(|_| more).map(|view| view.owner.0.to_be_bytes());
    let height = hub.shared.tip.height();
    let statuses = onchain_out::statuses(hub, &all).await?;
    let channels = all
        .iter()
        .filter(|view| request.include_closed || !is_over(&view.phase))
        .map(|view| onchain_out::channel(view, height, statuses.get(&view.owner)))
        .collect();
    let next_page_token = page::next(last.as_ref().map(<[u8; 8]>::as_slice));
    Ok(ListChannelsResponse { channels, next_page_token })
}

/// Whether nothing can happen to the channel any more.
fn is_over(phase: &PhaseView) -> bool {
    match phase {
        PhaseView::Closed { .. } | PhaseView::Aborted { .. } => true,
        PhaseView::Opening
        | PhaseView::AwaitingConfirmation { .. }
        | PhaseView::Open
        | PhaseView::ShuttingDown { .. }
        | PhaseView::Frozen { .. }
        | PhaseView::Closing { .. }
        | PhaseView::Failed { .. } => false,
    }
}
