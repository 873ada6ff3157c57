//! Answers as JSON: the field names of the `.proto` files, bytes in hex, txids as explorers print them, enums by name.

use daemon::json::merged;
use daemon::text::{txid, word};
use proto::hub::v1 as pb;
use serde_json::{Value, json};

use super::events::event_name_and_fields;

pub fn hex_of(bytes: &[u8]) -> String {
    hex::encode(bytes)
}

pub fn phase(channel: &pb::Channel) -> String {
    word(channel.phase().as_str_name(), "CHANNEL_PHASE_")
}

pub fn reason(reason: pb::FailureReason) -> String {
    word(reason.as_str_name(), "FAILURE_REASON_")
}

fn policy(policy: &pb::HubPolicy) -> Value {
    json!({
        "fee_base_msat": policy.fee_base_msat,
        "fee_ppm": policy.fee_ppm,
        "cltv_expiry_delta": policy.cltv_expiry_delta,
        "max_cltv_expiry_delta": policy.max_cltv_expiry_delta,
        "htlc_minimum_msat": policy.htlc_minimum_msat,
        "min_capacity_sat": policy.min_capacity_sat,
        "max_capacity_sat": policy.max_capacity_sat,
        "max_inbound_sat": policy.max_inbound_sat,
        "minimum_depth": policy.minimum_depth,
        "to_self_delay_blocks": policy.to_self_delay_blocks,
        "max_streams": policy.max_streams,
    })
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
    let on_chain = balances.on_chain.unwrap_or_default();
    json!({
        "on_chain": {
            "confirmed_sat": on_chain.confirmed_sat,
            "unconfirmed_sat": on_chain.unconfirmed_sat,
            "locked_sat": on_chain.locked_sat,
        },
        "channels_local_msat": balances.channels_local_msat,
        "channels_remote_msat": balances.channels_remote_msat,
        "channels_in_flight_msat": balances.channels_in_flight_msat,
        "fees_earned_msat": balances.fees_earned_msat,
    })
}

pub fn peer(peer: &pb::Peer) -> Value {
    json!({
        "node_key": hex_of(&peer.node_key),
        "connected": peer.connected,
        "channels": peer.channels,
        "local_msat": peer.local_msat,
        "remote_msat": peer.remote_msat,
        "address": peer.address,
        "connected_since_ms": peer.connected_since_ms,
    })
}

pub fn channel(channel: &pb::Channel) -> Value {
    let funding = channel
        .funding
        .as_ref()
        .map(|outpoint| json!({ "txid": txid(&outpoint.txid), "index": outpoint.index }));
    json!({
        "channel_id": hex_of(&channel.channel_id),
        "node_key": hex_of(&channel.node_key),
        "phase": phase(channel),
        "online": channel.online,
        "usable": channel.usable,
        "capacity_sat": channel.capacity_sat,
        "local_msat": channel.local_msat,
        "remote_msat": channel.remote_msat,
        "in_flight_msat": channel.in_flight_msat,
        "htlcs": channel.htlcs,
        "spendable_msat": channel.spendable_msat,
        "receivable_msat": channel.receivable_msat,
        "dust_exposure_msat": channel.dust_exposure_msat,
        "funding": funding,
        "funded_locally": channel.funded_locally,
        "confirmations": channel.confirmations,
        "minimum_depth": channel.minimum_depth,
        "local_to_self_delay_blocks": channel.local_to_self_delay_blocks,
        "remote_to_self_delay_blocks": channel.remote_to_self_delay_blocks,
        "local_commitment_number": channel.local_commitment_number,
        "remote_commitment_number": channel.remote_commitment_number,
        "closing_txid": txid(&channel.closing_txid),
        "closing_height": channel.closing_height,
        "paid_sat": channel.paid_sat,
        "online_again_by_height": channel.online_again_by_height,
        "failure": channel.failure,
        "format": channel.format,
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
