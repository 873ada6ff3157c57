//! What scripts get: the fields of `wallet.v1` by their names, bytes as hexadecimal digits, transaction ids as explorers show
//! them, enums as words. As there, an empty text and a time or height of 0 mean "none"; messages that are absent are null.

pub use daemon::json::merged;
use proto::hub::v1 as hub;
use proto::hub::v1::channel_event::{self, Kind as ChannelKind};
use proto::wallet::v1 as pb;
use serde_json::{Value, json};

use super::text;

/// Empty when nothing failed.
fn reason(reason: hub::FailureReason) -> String {
    match reason {
        hub::FailureReason::Unspecified => String::new(),
        reason => text::failure_reason(reason),
    }
}

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

fn policy(policy: &hub::HubPolicy) -> Value {
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

pub fn channel(channel: &hub::Channel) -> Value {
    json!({
        "channel_id": hex::encode(&channel.channel_id),
        "node_key": hex::encode(&channel.node_key),
        "phase": text::phase(channel.phase()),
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
        "funding": channel.funding.as_ref().map(outpoint),
        "funded_locally": channel.funded_locally,
        "confirmations": channel.confirmations,
        "minimum_depth": channel.minimum_depth,
        "local_to_self_delay_blocks": channel.local_to_self_delay_blocks,
        "remote_to_self_delay_blocks": channel.remote_to_self_delay_blocks,
        "local_commitment_number": channel.local_commitment_number,
        "remote_commitment_number": channel.remote_commitment_number,
        "closing_txid": text::txid(&channel.closing_txid),
        "closing_height": channel.closing_height,
        "paid_sat": channel.paid_sat,
        "online_again_by_height": channel.online_again_by_height,
        "failure": channel.failure,
        "format": channel.format,
    })
}

fn outpoint(outpoint: &hub::OutPoint) -> Value {
    json!({ "txid": text::txid(&outpoint.txid), "index": outpoint.index })
}

pub fn balance(balance: &pb::GetBalanceResponse) -> Value {
    let on_chain = balance.on_chain.unwrap_or_default();
    json!({
        "on_chain": {
            "confirmed_sat": on_chain.confirmed_sat,
            "unconfirmed_sat": on_chain.unconfirmed_sat,
            "locked_sat": on_chain.locked_sat,
        },
        "channels_msat": balance.channels_msat,
        "in_flight_msat": balance.in_flight_msat,
        "spendable_msat": balance.spendable_msat,
        "receivable_msat": balance.receivable_msat,
        "dust_exposure_msat": balance.dust_exposure_msat,
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
        Some(pb::event::Kind::Channel(event)) => of_channel(event),
        Some(pb::event::Kind::Payment(event)) => ("payment", payment(event)),
        Some(pb::event::Kind::Stream(event)) => ("stream", stream(event)),
    };
    merged([fields, json!({ "index": event.index, "time_ms": event.time_ms, "event": name })])
}

/// The event's name in `hub/v1/types.proto`, and its fields.
pub fn of_channel(event: &hub::ChannelEvent) -> (&'static str, Value) {
    let (name, fields) = event.kind.as_ref().map_or(("unknown", json!({})), channel_fields);
    let whose = json!({
        "channel_id": hex::encode(&event.channel_id),
        "node_key": hex::encode(&event.node_key),
    });
    (name, merged([whose, fields]))
}

fn funding(outpoint: Option<&hub::OutPoint>) -> Value {
    json!({ "outpoint": outpoint.map(text::outpoint) })
}

fn channel_fields(kind: &ChannelKind) -> (&'static str, Value) {
    match kind {
        ChannelKind::Opening(event) => ("opening", json!({ "capacity_sat": event.capacity_sat })),
        ChannelKind::OpeningFailed(event) => ("opening_failed", json!({ "why": event.why })),
        ChannelKind::FundingBroadcast(event) => ("funding_broadcast", funding(event.outpoint.as_ref())),
        ChannelKind::FundingConfirmed(event) => (
            "funding_confirmed",
            merged([funding(event.outpoint.as_ref()), json!({ "height": event.height })]),
        ),
        ChannelKind::FundingUndone(_) => ("funding_undone", json!({})),
        ChannelKind::Ready(_) => ("ready", json!({})),
        ChannelKind::Reestablished(_) => ("reestablished", json!({})),
        ChannelKind::CounterpartyBehind(_) => ("counterparty_behind", json!({})),
        ChannelKind::HtlcReceived(event) => ("htlc_received", htlc_received(event)),
        ChannelKind::ForwardSettled(event) => ("forward_settled", forward_settled(event)),
        ChannelKind::ForwardFailed(event) => ("forward_failed", forward_failed(event)),
        ChannelKind::ForwardsFailed(event) => {
            ("forwards_failed", json!({ "reason": reason(event.reason()), "count": event.count }))
        }
        ChannelKind::StreamTicks(event) => ("stream_ticks", stream_ticks(event)),
        ChannelKind::ShutdownStarted(event) => ("shutdown_started", json!({ "by_us": event.by_us })),
        ChannelKind::Frozen(event) => {
            ("frozen", json!({ "fee_sat": event.fee_sat, "publish_by_height": event.publish_by_height }))
        }
        ChannelKind::TermsRefused(event) => (
            "terms_refused",
            json!({ "fee_sat": event.fee_sat, "publish_by_height": event.publish_by_height, "why": event.why }),
        ),
        ChannelKind::Closing(event) => {
            ("closing", json!({ "txid": text::txid(&event.txid), "height": event.height }))
        }
        ChannelKind::ClosingUndone(event) => ("closing_undone", json!({ "txid": text::txid(&event.txid) })),
        ChannelKind::Closed(event) => (
            "closed",
            json!({ "txid": text::txid(&event.txid), "height": event.height, "paid_sat": event.paid_sat }),
        ),
        ChannelKind::Failed(event) => ("failed", json!({ "why": event.why })),
    }
}

fn htlc_received(event: &channel_event::HtlcReceived) -> Value {
    json!({
        "htlc_id": event.htlc_id,
        "amount_msat": event.amount_msat,
        "payment_hash": hex::encode(&event.payment_hash),
    })
}

fn forward_settled(event: &channel_event::ForwardSettled) -> Value {
    json!({
        "htlc_id": event.htlc_id,
        "attempt": event.attempt,
        "incoming_msat": event.incoming_msat,
        "fee_msat": event.fee_msat,
        "payment_hash": hex::encode(&event.payment_hash),
    })
}

fn forward_failed(event: &channel_event::ForwardFailed) -> Value {
    json!({
        "htlc_id": event.htlc_id,
        "attempt": event.attempt,
        "incoming_msat": event.incoming_msat,
        "reason": reason(event.reason()),
        "payment_hash": hex::encode(&event.payment_hash),
    })
}

fn stream_ticks(event: &channel_event::StreamTicks) -> Value {
    json!({
        "stream_id": hex::encode(&event.stream_id),
        "stage": text::tick_stage(event.stage()),
        "ticks": event.ticks,
        "incoming_msat": event.incoming_msat,
        "fee_msat": event.fee_msat,
        "reason": reason(event.reason()),
    })
}
