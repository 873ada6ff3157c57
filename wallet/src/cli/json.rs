//! What scripts get: the fields of `wallet.v1` by their names, bytes as hexadecimal digits, transaction ids as explorers show
//! them, enums as words. As there, an empty text and a time or height of 0 mean "none"; messages that are absent are null.

pub use daemon::json::merged;
pub use proto::json::channel;
use proto::json::{channel_event, on_chain, policy, reason, reserve};
use proto::wallet::v1 as pb;
use serde_json::{Value, json};

use super::text;

pub fn info(info: &pb::GetInfoResponse) -> Value {
    json!({
        "node_key": hex::encode(&info.node_key),
        "network": info.network,
        "height": info.height,
        "block_hash": text::txid(&info.block_hash),
        "chain_ok": info.chain_ok,
        "hub_node_key": hex::encode(&info.hub_node_key),
        "hub_address": info.hub_address,
        "hub_connected": info.hub_connected,
        "hub_policy": info.hub_policy.as_ref().map(policy),
        "channels": info.channels,
        "online_again_by_height": info.online_again_by_height,
        "newest_event": info.newest_event,
        "trouble": info.trouble,
        "version": info.version,
    })
}

pub fn balance(balance: &pb::GetBalanceResponse) -> Value {
    json!({
        "on_chain": on_chain(&balance.on_chain.unwrap_or_default()),
        "channels_msat": balance.channels_msat,
        "in_flight_msat": balance.in_flight_msat,
        "spendable_msat": balance.spendable_msat,
        "receivable_msat": balance.receivable_msat,
        "dust_exposure_msat": balance.dust_exposure_msat,
        "reserve": reserve(&balance.reserve.unwrap_or_default()),
        "publishing_suspended": balance.publishing_suspended,
        "held": balance.held,
    })
}

pub fn invoice(made: &pb::CreateInvoiceResponse) -> Value {
    json!({
        "invoice": made.invoice,
        "payment_hash": hex::encode(&made.payment_hash),
        "expires_at_ms": made.expires_at_ms,
    })
}

pub fn held(held: &pb::HeldPayment) -> Value {
    json!({
        "payment_hash": hex::encode(&held.payment_hash),
        "amount_msat": held.amount_msat,
        "description": held.description,
        "decide_by_height": held.decide_by_height,
    })
}

pub fn decoded(invoice: &pb::DecodeInvoiceResponse) -> Value {
    json!({
        "payee": hex::encode(&invoice.payee),
        "network": invoice.network,
        "amount_msat": invoice.amount_msat,
        "payment_hash": hex::encode(&invoice.payment_hash),
        "description": invoice.description,
        "description_hash": hex::encode(&invoice.description_hash),
        "created_at_ms": invoice.created_at_ms,
        "expires_at_ms": invoice.expires_at_ms,
        "min_final_cltv_expiry_delta": invoice.min_final_cltv_expiry_delta,
        "expired": invoice.expired,
        "via_our_hub": invoice.via_our_hub,
        "ours": invoice.ours,
    })
}

pub fn payment(payment: &pb::Payment) -> Value {
    json!({
        "number": payment.number,
        "direction": text::direction(payment.direction()),
        "state": text::payment_state(payment.state()),
        "payment_hash": hex::encode(&payment.payment_hash),
        "amount_msat": payment.amount_msat,
        "fee_msat": payment.fee_msat,
        "preimage": hex::encode(&payment.preimage),
        "failure": reason(payment.failure()),
        "attempts": payment.attempts,
        "created_at_ms": payment.created_at_ms,
        "ended_at_ms": payment.ended_at_ms,
        "payee": hex::encode(&payment.payee),
        "description": payment.description,
        "spontaneous": payment.spontaneous,
        "on_chain": payment.on_chain,
        "expiry_height": payment.expiry_height,
    })
}

pub fn stream(stream: &pb::StreamProgress) -> Value {
    let receipt = stream.receipt.as_ref().map(|receipt| {
        json!({
            "highest_tick": receipt.highest_tick,
            "total_msat": receipt.total_msat,
            "signature": hex::encode(&receipt.signature),
        })
    });
    json!({
        "stream_id": hex::encode(&stream.stream_id),
        "direction": text::direction(stream.direction()),
        "state": text::stream_state(stream.state()),
        "peer": hex::encode(&stream.peer),
        "amount_msat": stream.amount_msat,
        "ticks": stream.ticks,
        "ticks_per_second": stream.ticks_per_second,
        "max_in_flight": stream.max_in_flight,
        "settled": stream.settled,
        "in_flight": stream.in_flight,
        "failed": stream.failed,
        "settled_msat": stream.settled_msat,
        "receipt": receipt,
        "last_failure": reason(stream.last_failure()),
        "text": stream.text,
        "started_at_ms": stream.started_at_ms,
        "ended_at_ms": stream.ended_at_ms,
    })
}

/// An event has the fields of its kind beside its own: `index`, `time_ms` and `event`, its name.
pub fn event(event: &pb::Event) -> Value {
    let (name, fields) = match &event.kind {
        None => ("unknown", json!({})),
        Some(pb::event::Kind::Channel(event)) => channel_event(event),
        Some(pb::event::Kind::Payment(event)) => ("payment", payment(event)),
        Some(pb::event::Kind::Stream(event)) => ("stream", stream(event)),
    };
    merged([fields, json!({ "index": event.index, "time_ms": event.time_ms, "event": name })])
}
