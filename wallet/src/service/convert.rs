//! From the wallet's own types to `wallet.v1` and `hub.v1`.

use std::collections::BTreeSet;

use bytes::Bytes;
use channel::amount::Msat;
use channel::ids::{OwnerId, StreamId};
use proto::fields::bytes;
use proto::hub::v1 as hub;
use proto::hub::v1::channel_event as event;
use proto::message::reason_out;
use proto::view::report_out;
use proto::wallet::v1 as pb;
use shard::{EventRecord, Happening};

use crate::ledger::state::{
    Ended, Outcome, PayeeStream, PayerPhase, PayerStream, Payment, PaymentKind, StoredReceipt,
};

/// A finished payment.
pub fn ended(ended: &Ended) -> pb::Payment {
    let (state, preimage, failure) = match ended.outcome {
        Outcome::Settled { preimage } => {
            (pb::PaymentState::Settled, bytes(preimage.as_bytes()), hub::FailureReason::Unspecified)
        }
        Outcome::Failed { reason } => (pb::PaymentState::Failed, Bytes::new(), reason_out(reason)),
    };
    pb::Payment {
        number: ended.number,
        direction: direction(ended.sent).into(),
        state: state.into(),
        payment_hash: bytes(ended.payment_hash.as_bytes()),
        amount_msat: ended.amount_msat.to_u64(),
        fee_msat: ended.fee_msat.to_u64(),
        preimage,
        failure: failure.into(),
        attempts: ended.attempts,
        created_at_ms: ended.created_ms,
        ended_at_ms: ended.ended_ms,
        payee: ended.payee.as_ref().map_or_else(Bytes::new, |payee| bytes(payee.as_bytes())),
        description: ended.description.clone(),
        spontaneous: ended.spontaneous,
        on_chain: false,
        expiry_height: 0,
    }
}

/// A payment on its way; `on_chain` are the channels that end there.
pub fn in_flight(number: u64, payment: &Payment, on_chain: &BTreeSet<OwnerId>) -> pb::Payment {
    pb::Payment {
        number,
        direction: pb::PaymentDirection::Sent.into(),
        state: pb::PaymentState::InFlight.into(),
        payment_hash: bytes(payment.payment_hash.as_bytes()),
        amount_msat: payment.amount_msat.to_u64(),
        fee_msat: payment.fee_msat.to_u64(),
        preimage: Bytes::new(),
        failure: hub::FailureReason::Unspecified.into(),
        attempts: payment.attempt,
        created_at_ms: payment.created_ms,
        ended_at_ms: 0,
        payee: bytes(payment.payee.as_bytes()),
        description: payment.description.clone(),
        spontaneous: matches!(payment.kind, PaymentKind::Spontaneous { .. }),
        on_chain: payment.tried.last().is_some_and(|owner| on_chain.contains(owner)),
        expiry_height: payment.hub_expiry,
    }
}

fn direction(sent: bool) -> pb::PaymentDirection {
    if sent { pb::PaymentDirection::Sent } else { pb::PaymentDirection::Received }
}

/// A stream this wallet pays.
pub fn paid_stream(id: &StreamId, stream: &PayerStream) -> pb::StreamProgress {
    let (state, ended_at_ms, text) = match &stream.phase {
        PayerPhase::Proposed => (pb::StreamState::Proposed, 0, String::new()),
        PayerPhase::Running => (pb::StreamState::Running, 0, String::new()),
        PayerPhase::Ending => (pb::StreamState::Ending, 0, String::new()),
        PayerPhase::Ended { ended_ms, text } => (pb::StreamState::Ended, *ended_ms, text.clone()),
        PayerPhase::Refused { ended_ms, text } => (pb::StreamState::Refused, *ended_ms, text.clone()),
    };
    let settled_msat = stream.terms.amount_msat.checked_mul(stream.settled).unwrap_or(Msat::MAX);
    pb::StreamProgress {
        stream_id: bytes(&id.0),
        direction: pb::PaymentDirection::Sent.into(),
        state: state.into(),
        peer: bytes(stream.payee.as_bytes()),
        amount_msat: stream.terms.amount_msat.to_u64(),
        ticks: stream.terms.ticks,
        ticks_per_second: stream.terms.ticks_per_second,
        max_in_flight: stream.terms.max_in_flight,
        settled: stream.settled,
        in_flight: u64::try_from(stream.open.len()).unwrap_or(u64::MAX),
        failed: stream.failed,
        settled_msat: settled_msat.to_u64(),
        receipt: stream.receipt.as_ref().map(receipt),
        text,
        started_at_ms: stream.started_ms,
        ended_at_ms,
        last_failure: stream.last_failure.map_or(hub::FailureReason::Unspecified, reason_out).into(),
        times: None,
    }
}

fn receipt(receipt: &StoredReceipt) -> hub::StreamReceipt {
    hub::StreamReceipt {
        highest_tick: receipt.highest_tick,
        total_msat: receipt.total_msat.to_u64(),
        signature: bytes(receipt.signature.as_bytes()),
    }
}

/// A stream this wallet is paid by.
pub fn received_stream(id: &StreamId, stream: &PayeeStream) -> pb::StreamProgress {
    let (state, ended_at_ms, text) = match &stream.ended {
        None => (pb::StreamState::Running, 0, String::new()),
        Some((ended_ms, text)) => (pb::StreamState::Ended, *ended_ms, text.clone()),
    };
    pb::StreamProgress {
        stream_id: bytes(&id.0),
        direction: pb::PaymentDirection::Received.into(),
        state: state.into(),
        peer: bytes(stream.payer.as_bytes()),
        amount_msat: stream.terms.amount_msat.to_u64(),
        ticks: stream.terms.ticks,
        ticks_per_second: stream.terms.ticks_per_second,
        max_in_flight: stream.terms.max_in_flight,
        settled: stream.received,
        in_flight: 0,
        failed: 0,
        settled_msat: stream.total_msat.to_u64(),
        receipt: stream.receipt.as_ref().map(receipt),
        text,
        started_at_ms: stream.started_ms,
        ended_at_ms,
        last_failure: hub::FailureReason::Unspecified.into(),
        times: None,
    }
}

/// What happened to a channel.
pub fn channel_event(record: &EventRecord) -> hub::ChannelEvent {
    let ticks = |stream: &StreamId, stage: hub::TickStage, ticks: u64, amount: &Msat| event::StreamTicks {
        stream_id: bytes(&stream.0),
        stage: stage.into(),
        ticks,
        incoming_msat: amount.to_u64(),
        fee_msat: 0,
        reason: hub::FailureReason::Unspecified.into(),
    };
    let kind = match &record.what {
        Happening::Report(report) => report_out(report),
        Happening::StreamReceived { stream, ticks: count, amount_msat } => {
            event::Kind::StreamTicks(ticks(stream, hub::TickStage::Received, *count, amount_msat))
        }
        Happening::StreamSettled { stream, ticks: count, amount_msat, fee_msat } => {
            event::Kind::StreamTicks(event::StreamTicks {
                fee_msat: fee_msat.to_u64(),
                ..ticks(stream, hub::TickStage::Settled, *count, amount_msat)
            })
        }
        Happening::StreamFailed { stream, reason, ticks: count, amount_msat } => {
            event::Kind::StreamTicks(event::StreamTicks {
                reason: reason_out(*reason).into(),
                ..ticks(stream, hub::TickStage::Failed, *count, amount_msat)
            })
        }
        Happening::ForwardsFailed { reason, count } => event::Kind::ForwardsFailed(event::ForwardsFailed {
            reason: reason_out(*reason).into(),
            count: *count,
        }),
    };
    hub::ChannelEvent {
        channel_id: bytes(&record.channel_id.0),
        node_key: bytes(record.node.as_bytes()),
        kind: Some(kind),
    }
}
