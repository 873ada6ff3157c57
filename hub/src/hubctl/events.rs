//! An event's name and fields, for JSON and for eyes alike.

use daemon::json::merged;
use daemon::text::{txid, word};
use proto::hub::v1 as pb;
use proto::hub::v1::channel_event::Kind as ChannelKind;
use proto::hub::v1::event::Kind;
use serde_json::{Value, json};

use super::json::{hex_of, reason};

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
        Some(Kind::Channel(channel)) => {
            let (name, fields) = channel.kind.as_ref().map_or(("unknown", json!({})), channel_fields);
            let (id, node) = (hex_of(&channel.channel_id), hex_of(&channel.node_key));
            (name, merged([fields, json!({ "channel_id": id, "node_key": node })]))
        }
    }
}

fn outpoint(outpoint: Option<&pb::OutPoint>) -> Value {
    outpoint.map_or(Value::Null, |outpoint| format!("{}:{}", txid(&outpoint.txid), outpoint.index).into())
}

fn channel_fields(kind: &ChannelKind) -> (&'static str, Value) {
    match kind {
        ChannelKind::Opening(e) => ("opening", json!({ "capacity_sat": e.capacity_sat })),
        ChannelKind::OpeningFailed(e) => ("opening_failed", json!({ "why": e.why })),
        ChannelKind::FundingBroadcast(e) => {
            ("funding_broadcast", json!({ "outpoint": outpoint(e.outpoint.as_ref()) }))
        }
        ChannelKind::FundingConfirmed(e) => {
            ("funding_confirmed", json!({ "outpoint": outpoint(e.outpoint.as_ref()), "height": e.height }))
        }
        ChannelKind::FundingUndone(_) => ("funding_undone", json!({})),
        ChannelKind::Ready(_) => ("ready", json!({})),
        ChannelKind::Reestablished(_) => ("reestablished", json!({})),
        ChannelKind::CounterpartyBehind(_) => ("counterparty_behind", json!({})),
        ChannelKind::ForwardSettled(e) => (
            "forward_settled",
            json!({
                "htlc_id": e.htlc_id, "attempt": e.attempt, "incoming_msat": e.incoming_msat,
                "payment_hash": hex_of(&e.payment_hash), "fee_msat": e.fee_msat,
            }),
        ),
        ChannelKind::ForwardFailed(e) => (
            "forward_failed",
            json!({
                "htlc_id": e.htlc_id, "attempt": e.attempt, "incoming_msat": e.incoming_msat,
                "payment_hash": hex_of(&e.payment_hash), "reason": reason(e.reason()),
            }),
        ),
        ChannelKind::ForwardsFailed(e) => {
            ("forwards_failed", json!({ "reason": reason(e.reason()), "count": e.count }))
        }
        ChannelKind::HtlcReceived(e) => (
            "htlc_received",
            json!({ "htlc_id": e.htlc_id, "payment_hash": hex_of(&e.payment_hash), "amount_msat": e.amount_msat }),
        ),
        ChannelKind::StreamTicks(e) => (
            "stream_ticks",
            json!({
                "stream_id": hex_of(&e.stream_id), "stage": word(e.stage().as_str_name(), "TICK_STAGE_"),
                "ticks": e.ticks, "incoming_msat": e.incoming_msat, "fee_msat": e.fee_msat,
                "reason": reason(e.reason()),
            }),
        ),
        ChannelKind::ShutdownStarted(e) => ("shutdown_started", json!({ "by_us": e.by_us })),
        ChannelKind::Frozen(e) => {
            ("frozen", json!({ "fee_sat": e.fee_sat, "publish_by_height": e.publish_by_height }))
        }
        ChannelKind::TermsRefused(e) => (
            "terms_refused",
            json!({ "fee_sat": e.fee_sat, "publish_by_height": e.publish_by_height, "why": e.why }),
        ),
        ChannelKind::Closing(e) => ("closing", json!({ "txid": txid(&e.txid), "height": e.height })),
        ChannelKind::ClosingUndone(e) => ("closing_undone", json!({ "txid": txid(&e.txid) })),
        ChannelKind::Closed(e) => {
            ("closed", json!({ "txid": txid(&e.txid), "height": e.height, "paid_sat": e.paid_sat }))
        }
        ChannelKind::Failed(e) => ("failed", json!({ "why": e.why })),
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
                kind: Some(ChannelKind::Opening(pb::channel_event::Opening { capacity_sat: 5 })),
            })),
        };
        let line = line(&event);
        assert!(line.contains("01:02:03.004"), "{line}");
        assert!(line.contains("opening") && line.contains("capacity_sat=5"), "{line}");
        assert!(line.contains("channel_id=abababababab…"), "{line}");
    }
}
