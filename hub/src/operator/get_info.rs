//! `GetInfo`: the hub's identity, chain, policy, load.

use std::sync::PoisonError;

use bitcoin::hashes::Hash;
use channel::signer::Signer;
use proto::hub::v1::{JournalStats, OperatorGetInfoResponse, ShardLoad};
use settlement::follow::FollowStatus;
use tonic::Status;

use crate::wallets::policy_out;

use super::OperatorHub;

pub async fn handle(hub: &OperatorHub) -> Result<OperatorGetInfoResponse, Status> {
    // What a person must decide; a desk that does not answer while bitcoind is away must not hide the rest.
    let waiting = hub.desk.clone();
    let summary = tokio::time::timeout(crate::limits::DESK_PATIENCE, waiting.summary()).await;
    let summary = summary.ok().and_then(Result::ok).unwrap_or_default();
    let shared = &hub.shared;
    let stats = shared.log.stats();
    let shards = shard_loads(hub);
    let status = hub.desk.status();
    let (chain_ok, block_hash) = chain(&status);
    Ok(OperatorGetInfoResponse {
        node_key: shared.signer.node_id().as_bytes().to_vec().into(),
        network: hub.config.network.to_string(),
        height: shared.tip.height(),
        block_hash,
        policy: Some(policy_out(shared, &hub.config)),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_ms: shared.world.now_ms().saturating_sub(shared.started_ms),
        peers: u32::try_from(shared.sessions.count()).unwrap_or(u32::MAX),
        channels: shards.iter().map(|shard| shard.channels).sum(),
        listen: hub.listen.clone(),
        newest_event: shared.reader.next_event().saturating_sub(1),
        shards,
        journal: Some(JournalStats {
            commits: stats.commits,
            records: stats.records,
            input_bytes: stats.input_bytes,
            disk_bytes: stats.device_bytes,
            log_bytes: stats.log_bytes,
        }),
        chain_ok,
        chain_trouble: status.trouble().unwrap_or_default(),
        streams: u32::try_from(shared.directory.streams()).unwrap_or(u32::MAX),
        publishing_suspended: summary.suspended,
        held: u32::try_from(summary.held.len()).unwrap_or(u32::MAX),
    })
}

/// Whether bitcoind answers and serves, and the best block known.
fn chain(status: &FollowStatus) -> (bool, bytes::Bytes) {
    let (ok, at) = match status {
        FollowStatus::Starting => (false, None),
        FollowStatus::CatchingUp { at } | FollowStatus::Synced { at } => (true, Some(at)),
        FollowStatus::NodeBehind { at, .. } | FollowStatus::Unavailable { at, .. } => (false, Some(at)),
    };
    (ok, at.map_or_else(bytes::Bytes::new, |at| at.hash.to_byte_array().to_vec().into()))
}

fn shard_loads(hub: &OperatorHub) -> Vec<ShardLoad> {
    let mailboxes = &hub.shared.mailboxes;
    (0..mailboxes.shards())
        .map(|index| {
            let load =
                *mailboxes.placement().load(index).latest.lock().unwrap_or_else(PoisonError::into_inner);
            ShardLoad {
                shard: u32::try_from(index).unwrap_or(u32::MAX),
                channels: u32::try_from(load.channels).unwrap_or(u32::MAX),
                messages: load.messages,
                inputs: load.inputs,
                queued: u32::try_from(mailboxes.waiting(index)).unwrap_or(u32::MAX),
                busy_us: load.busy_ns / 1_000,
            }
        })
        .collect()
}
