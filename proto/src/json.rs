//! What both command lines print of the messages that both services share: the fields of the `.proto` files by their names,
//! bytes as hexadecimal digits, transaction ids as explorers show them, enums as words. As there, an empty text and a time
//! or height of 0 mean "none"; messages that are absent are null.

use serde_json::{Value, json};

use crate::hub::v1 as pb;
use crate::hub::v1::channel_event::{self, Kind};

/// A transaction id as explorers show it: the reverse of its hashing order.
pub fn txid(hashed_order: &[u8]) -> String {
    hex::encode(hashed_order.iter().rev().copied().collect::<Vec<u8>>())
}

/// An enum's name on the wire, without its prefix, in lower case. Exact enough for scripts, readable enough for people.
pub fn word(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_ascii_lowercase()
}

/// A channel's phase, a word.
pub fn phase(phase: pb::ChannelPhase) -> String {
    word(phase.as_str_name(), "CHANNEL_PHASE_")
}

/// Why something failed, a word; empty when nothing did.
pub fn reason(reason: pb::FailureReason) -> String {
    match reason {
        pb::FailureReason::Unspecified => String::new(),
        reason => word(reason.as_str_name(), "FAILURE_REASON_"),
    }
}

/// The hub's policy.
pub fn policy(policy: &pb::HubPolicy) -> Value {
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
        "inbound_fee_base_sat": policy.inbound_fee_base_sat,
        "inbound_fee_ppm": policy.inbound_fee_ppm,
        "inbound_reserve_sat": policy.inbound_reserve_sat,
    })
}

/// A balance on the chain.
pub fn on_chain(balance: &pb::OnChainBalance) -> Value {
    json!({
        "confirmed_sat": balance.confirmed_sat,
        "unconfirmed_sat": balance.unconfirmed_sat,
        "locked_sat": balance.locked_sat,
    })
}

/// A channel.
pub fn channel(channel: &pb::Channel) -> Value {
    json!({
        "channel_id": hex::encode(&channel.channel_id),
        "node_key": hex::encode(&channel.node_key),
        "phase": phase(channel.phase()),
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
        "closing_txid": txid(&channel.closing_txid),
        "closing_height": channel.closing_height,
        "paid_sat": channel.paid_sat,
        "price_msat": channel.price_msat,
        "price_unpaid_msat": channel.price_unpaid_msat,
        "online_again_by_height": channel.online_again_by_height,
        "failure": channel.failure,
        "format": channel.format,
        "onchain": channel.onchain.as_ref().map(onchain),
    })
}

/// Where a transaction is that the chain should hold, a word.
pub fn stage(stage: pb::OnchainStage) -> String {
    word(stage.as_str_name(), "ONCHAIN_STAGE_")
}

/// Whose commitment is in the chain, a word.
pub fn commitment_of(whose: pb::CommitmentOf) -> String {
    word(whose.as_str_name(), "COMMITMENT_OF_")
}

/// How far a close is that nobody agreed on.
fn onchain(close: &pb::OnchainClose) -> Value {
    let own = close.own.as_ref().map(|own| {
        json!({
            "txid": txid(&own.txid),
            "stage": stage(own.stage()),
            "child_txid": txid(&own.child_txid),
            "fee_sat": own.fee_sat,
            "feerate_sat_per_kw": own.feerate_sat_per_kw,
            "why": own.why,
            "transaction": hex::encode(&own.transaction),
        })
    });
    let output = |output: &pb::OnchainOutput| {
        json!({
            "outpoint": output.outpoint.as_ref().map(outpoint),
            "value_sat": output.value_sat,
            "kind": output.kind,
            "stage": stage(output.stage()),
            "height": output.height,
            "spent_by": txid(&output.spent_by),
            "ours": output.ours,
            "fee_sat": output.fee_sat,
            "why": output.why,
        })
    };
    json!({
        "own": own,
        "commitment_txid": txid(&close.commitment_txid),
        "whose": match close.whose() {
            pb::CommitmentOf::Unspecified => String::new(),
            whose => commitment_of(whose),
        },
        "height": close.height,
        "final": close.r#final,
        "outputs": close.outputs.iter().map(output).collect::<Vec<_>>(),
        "awaits": match close.awaits() {
            pb::OnchainAwaits::Unspecified => String::new(),
            awaits => word(awaits.as_str_name(), "ONCHAIN_AWAITS_"),
        },
        "awaits_by_height": close.awaits_by_height,
    })
}

/// The coins kept to close channels with.
pub fn reserve(reserve: &pb::FeeReserve) -> Value {
    json!({
        "needed_coins": reserve.needed_coins,
        "confirmed_coins": reserve.confirmed_coins,
        "needed_sat": reserve.needed_sat,
        "available_sat": reserve.available_sat,
        "short": reserve.short,
    })
}

/// What was sent for a commitment.
pub fn bumped(bumped: &pb::BumpResponse) -> Value {
    json!({
        "txid": txid(&bumped.txid),
        "child_txid": txid(&bumped.child_txid),
        "fee_sat": bumped.fee_sat,
    })
}

fn outpoint(outpoint: &pb::OutPoint) -> Value {
    json!({ "txid": txid(&outpoint.txid), "index": outpoint.index })
}

/// The name of what happened to a channel, as in `hub/v1/types.proto`, and its fields, an object.
pub fn channel_event(event: &pb::ChannelEvent) -> (&'static str, Value) {
    let (name, mut fields) = event.kind.as_ref().map_or(("unknown", json!({})), happened);
    fields["channel_id"] = hex::encode(&event.channel_id).into();
    fields["node_key"] = hex::encode(&event.node_key).into();
    (name, fields)
}

fn outpoint_text(outpoint: Option<&pb::OutPoint>) -> Option<String> {
    outpoint.map(|outpoint| format!("{}:{}", txid(&outpoint.txid), outpoint.index))
}

fn happened(kind: &Kind) -> (&'static str, Value) {
    match kind {
        Kind::Opening(event) => ("opening", json!({ "capacity_sat": event.capacity_sat })),
        Kind::OpeningFailed(event) => ("opening_failed", json!({ "why": event.why })),
        Kind::FundingBroadcast(event) => {
            ("funding_broadcast", json!({ "outpoint": outpoint_text(event.outpoint.as_ref()) }))
        }
        Kind::FundingConfirmed(event) => (
            "funding_confirmed",
            json!({ "outpoint": outpoint_text(event.outpoint.as_ref()), "height": event.height }),
        ),
        Kind::FundingUndone(_) => ("funding_undone", json!({})),
        Kind::Ready(_) => ("ready", json!({})),
        Kind::Reestablished(_) => ("reestablished", json!({})),
        Kind::CounterpartyBehind(_) => ("counterparty_behind", json!({})),
        Kind::HtlcReceived(event) => ("htlc_received", htlc_received(event)),
        Kind::ForwardSettled(event) => ("forward_settled", forward_settled(event)),
        Kind::ForwardFailed(event) => ("forward_failed", forward_failed(event)),
        Kind::ForwardsFailed(event) => {
            ("forwards_failed", json!({ "reason": reason(event.reason()), "count": event.count }))
        }
        Kind::StreamTicks(event) => ("stream_ticks", stream_ticks(event)),
        Kind::ShutdownStarted(event) => ("shutdown_started", json!({ "by_us": event.by_us })),
        Kind::Frozen(event) => {
            ("frozen", json!({ "fee_sat": event.fee_sat, "publish_by_height": event.publish_by_height }))
        }
        Kind::TermsRefused(event) => (
            "terms_refused",
            json!({ "fee_sat": event.fee_sat, "publish_by_height": event.publish_by_height, "why": event.why }),
        ),
        Kind::Closing(event) => ("closing", json!({ "txid": txid(&event.txid), "height": event.height })),
        Kind::ClosingUndone(event) => ("closing_undone", json!({ "txid": txid(&event.txid) })),
        Kind::ChainStep(event) => (
            "chain_step",
            json!({
                "what": event.what,
                "txid": txid(&event.txid),
                "height": event.height,
                "outpoint": outpoint_text(event.outpoint.as_ref()),
                "value_sat": event.value_sat,
                "kind": event.kind,
                "by_us": event.by_us,
                "payment_hash": hex::encode(&event.payment_hash),
            }),
        ),
        Kind::Closed(event) => (
            "closed",
            json!({ "txid": txid(&event.txid), "height": event.height, "paid_sat": event.paid_sat }),
        ),
        Kind::PricePaid(event) => {
            ("price_paid", json!({ "amount_msat": event.amount_msat, "unpaid_msat": event.unpaid_msat }))
        }
        Kind::Failed(event) => ("failed", json!({ "why": event.why })),
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
        "stage": word(event.stage().as_str_name(), "TICK_STAGE_"),
        "ticks": event.ticks,
        "incoming_msat": event.incoming_msat,
        "fee_msat": event.fee_msat,
        "reason": reason(event.reason()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transaction_ids_are_shown_in_reverse() {
        assert_eq!(txid(&[1, 2, 3]), "030201");
    }

    #[test]
    fn names_on_the_wire_become_words() {
        assert_eq!(phase(pb::ChannelPhase::ShuttingDown), "shutting_down");
        assert_eq!(reason(pb::FailureReason::NoLiquidity), "no_liquidity");
        assert_eq!(reason(pb::FailureReason::Unspecified), "");
    }

    #[test]
    fn an_events_fields_lie_beside_those_of_its_channel() {
        let outpoint = Some(pb::OutPoint { txid: vec![1, 2].into(), index: 3 });
        let event = |kind| pb::ChannelEvent { channel_id: vec![7].into(), node_key: vec![8].into(), kind };
        let broadcast = event(Some(Kind::FundingBroadcast(channel_event::FundingBroadcast { outpoint })));
        let fields = json!({ "outpoint": "0201:3", "channel_id": "07", "node_key": "08" });
        assert_eq!(super::channel_event(&broadcast), ("funding_broadcast", fields));
        let fields = json!({ "channel_id": "07", "node_key": "08" });
        assert_eq!(super::channel_event(&event(None)), ("unknown", fields));
    }
}
