//! Answers as JSON: the field names of the `.proto` files, bytes in hex, txids as explorers print them, enums by name.

use daemon::json::merged;
use proto::hub::v1 as pb;
pub use proto::json::channel;
use proto::json::{on_chain, policy, reason, reserve, txid, word};
use serde_json::{Value, json};

use super::events::event_name_and_fields;

pub fn hex_of(bytes: &[u8]) -> String {
    hex::encode(bytes)
}

pub fn info(info: &pb::OperatorGetInfoResponse) -> Value {
    let journal = info.journal.unwrap_or_default();
    let shards: Vec<Value> = info
        .shards
        .iter()
        .map(|shard| {
            json!({
                "shard": shard.shard,
                "channels": shard.channels,
                "messages": shard.messages,
                "inputs": shard.inputs,
                "queued": shard.queued,
                "busy_us": shard.busy_us,
            })
        })
        .collect();
    json!({
        "node_key": hex_of(&info.node_key),
        "network": info.network,
        "height": info.height,
        "block_hash": txid(&info.block_hash),
        "chain_ok": info.chain_ok,
        "chain_trouble": info.chain_trouble,
        "policy": info.policy.as_ref().map(policy),
        "version": info.version,
        "uptime_ms": info.uptime_ms,
        "peers": info.peers,
        "channels": info.channels,
        "streams": info.streams,
        "publishing_suspended": info.publishing_suspended,
        "held": info.held,
        "listen": info.listen,
        "newest_event": info.newest_event,
        "shards": shards,
        "journal": {
            "commits": journal.commits,
            "records": journal.records,
            "input_bytes": journal.input_bytes,
            "disk_bytes": journal.disk_bytes,
            "log_bytes": journal.log_bytes,
        },
    })
}

pub fn balances(balances: &pb::GetBalancesResponse) -> Value {
    json!({
        "on_chain": on_chain(&balances.on_chain.unwrap_or_default()),
        "channels_local_msat": balances.channels_local_msat,
        "channels_remote_msat": balances.channels_remote_msat,
        "channels_in_flight_msat": balances.channels_in_flight_msat,
        "fees_earned_msat": balances.fees_earned_msat,
        "reserve": reserve(&balances.reserve.unwrap_or_default()),
    })
}

pub fn peer(peer: &pb::Peer) -> Value {
    json!({
        "node_key": hex_of(&peer.node_key),
        "connected": peer.connected,
        "channels": peer.channels,
        "ending_on_chain": peer.ending_on_chain,
        "local_msat": peer.local_msat,
        "remote_msat": peer.remote_msat,
        "address": peer.address,
        "connected_since_ms": peer.connected_since_ms,
    })
}

pub fn forward(forward: &pb::Forward) -> Value {
    json!({
        "event_index": forward.event_index,
        "time_ms": forward.time_ms,
        "incoming_channel_id": hex_of(&forward.incoming_channel_id),
        "node_key": hex_of(&forward.node_key),
        "htlc_id": forward.htlc_id,
        "state": word(forward.state().as_str_name(), "FORWARD_STATE_"),
        "incoming_msat": forward.incoming_msat,
        "reason": reason(forward.reason()),
        "stream_id": hex_of(&forward.stream_id),
        "ticks": forward.ticks,
    })
}

pub fn event(event: &pb::Event) -> Value {
    let (name, fields) = event_name_and_fields(event);
    merged([json!({ "index": event.index, "time_ms": event.time_ms, "event": name }), fields])
}
