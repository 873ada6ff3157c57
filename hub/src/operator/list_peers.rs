//! `ListPeers`: wallets with channels or connected, in the order of their keys.

use std::collections::BTreeSet;

use channel::channel::PhaseView;
use channel::keys::Point;
use proto::hub::v1::{ListPeersRequest, ListPeersResponse, Peer};
use tonic::Status;

use super::ask::every_channel;
use super::get_balances::is_live;
use super::{OperatorHub, page};

pub async fn handle(hub: &OperatorHub, request: ListPeersRequest) -> Result<ListPeersResponse, Status> {
    let rows = page::rows(request.page_size)?;
    let after = page::token(&request.page_token)?.map(Point::from_bytes);
    let shared = &hub.shared;
    let mut nodes: BTreeSet<Point> =
        shared.directory.nodes_after(after.as_ref(), rows + 1).into_iter().collect();
    nodes.extend(shared.sessions.nodes_after(after.as_ref(), rows + 1));
    let more = nodes.len() > rows;
    let page: Vec<Point> = nodes.into_iter().take(rows).collect();
    let mut peers = Vec::with_capacity(page.len());
    for node in &page {
        peers.push(peer(hub, node).await?);
    }
    let last = page.last().filter(|_| more);
    Ok(ListPeersResponse { peers, next_page_token: page::next(last.map(|node| node.as_bytes().as_slice())) })
}

async fn peer(hub: &OperatorHub, node: &Point) -> Result<Peer, Status> {
    let connected = hub.shared.sessions.connected(node);
    let address = connected.as_ref().and_then(|connected| connected.address);
    let mut peer = Peer {
        node_key: node.as_bytes().to_vec().into(),
        connected: connected.is_some(),
        address: address.map_or_else(String::new, |address| address.to_string()),
        connected_since_ms: connected.map_or(0, |connected| connected.since_ms),
        ..Peer::default()
    };
    every_channel(&hub.shared.mailboxes, Some(*node), |view| {
        if is_live(view) {
            peer.channels = peer.channels.saturating_add(1);
            let ends = matches!(view.phase, PhaseView::Failed { .. });
            peer.ending_on_chain = peer.ending_on_chain.saturating_add(u32::from(ends));
            peer.local_msat = peer.local_msat.saturating_add(view.holder_msat.to_u64());
            peer.remote_msat = peer.remote_msat.saturating_add(view.counterparty_msat.to_u64());
        }
    })
    .await?;
    Ok(peer)
}
