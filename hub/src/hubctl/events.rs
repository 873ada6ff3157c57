//! An event's name and fields, for JSON and for eyes alike.

use proto::hub::v1 as pb;
use proto::hub::v1::event::Kind;
use proto::json::{channel_event, reserve, txid, word};
use serde_json::{Value, json};

use super::json::hex_of;

/// The event's name and its own fields, an object.
pub fn event_name_and_fields(event: &pb::Event) -> (&'static str, Value) {
    match &event.kind {
        None => ("unknown", json!({})),
        Some(Kind::Peer(peer)) => {
            let name = if peer.connected { "peer_connected" } else { "peer_disconnected" };
            (name, json!({ "node_key": hex_of(&peer.node_key) }))
        }
        Some(Kind::Stream(stream)) => {
            let name = if stream.ended { "stream_ended" } else { "stream_agreed" };
            let (payer, payee) = (hex_of(&stream.payer), hex_of(&stream.payee));
            (name, json!({ "stream_id": hex_of(&stream.stream_id), "payer": payer, "payee": payee }))
        }
        Some(Kind::Batch(batch)) => (
            "batch",
            json!({ "txid": txid(&batch.txid), "channels": batch.channels, "fee_sat": batch.fee_sat }),
        ),
        Some(Kind::Onchain(sent)) => {
            let name = if sent.channel_id.is_empty() { "claim_sent" } else { "commitment_sent" };
            let fields = json!({
                "txid": txid(&sent.txid),
                "channel_id": hex_of(&sent.channel_id),
                "child_txid": txid(&sent.child_txid),
                "outputs": sent.outputs,
                "fee_sat": sent.fee_sat,
                "replaces": txid(&sent.replaces),
            });
            (name, fields)
        }
        Some(Kind::Publishing(waits)) => {
            let state = word(waits.state().as_str_name(), "PUBLISHING_STATE_");
            ("publishing", json!({ "state": state, "channel_id": hex_of(&waits.channel_id) }))
        }
        Some(Kind::Reserve(event)) => ("reserve", reserve(&event.reserve.unwrap_or_default())),
        Some(Kind::Channel(channel)) => channel_event(channel),
    }
}

/// One line for eyes: index, time, name, fields.
pub fn line(event: &pb::Event) -> String {
    let (name, fields) = event_name_and_fields(event);
    let mut text = format!("{:>8}  {}  {name:<18}", event.index, clock(event.time_ms));
    for (key, value) in fields.as_object().into_iter().flatten() {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let long_id = value.len() == 64 || value.len() == 66;
        let shown = if long_id { format!("{}…", &value[..12]) } else { value };
        text.push_str(&format!(" {key}={shown}"));
    }
    text
}

/// The time of day, UTC, with milliseconds.
fn clock(time_ms: u64) -> String {
    let seconds = time_ms / 1000;
    let (hours, minutes) = (seconds / 3600 % 24, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}.{:03}", seconds % 60, time_ms % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_happened_and_cuts_long_ids() {
        let event = pb::Event {
            index: 7,
            time_ms: 3_723_004,
            kind: Some(Kind::Channel(pb::ChannelEvent {
                channel_id: vec![0xab; 32].into(),
                node_key: vec![2; 33].into(),
                kind: Some(pb::channel_event::Kind::Opening(pb::channel_event::Opening { capacity_sat: 5 })),
            })),
        };
        let line = line(&event);
        assert!(line.contains("01:02:03.004"), "{line}");
        assert!(line.contains("opening") && line.contains("capacity_sat=5"), "{line}");
        assert!(line.contains("channel_id=abababababab…"), "{line}");
    }
}
