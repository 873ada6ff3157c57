//! From the wallet's own types to `wallet.v1` and `hub.v1`.

use bitcoin::OutPoint;
use bytes::Bytes;
use channel::amount::Msat;
use channel::channel::{ChannelView, ConnectionView, PhaseView};
use channel::effect::Report;
use channel::ids::StreamId;
use channel::parameters::Side;
use proto::fields::{bytes, outpoint_out, txid_out};
use proto::hub::v1 as hub;
use proto::hub::v1::channel_event as event;
use proto::message::reason_out;
use proto::wallet::v1 as pb;
use shard::{EventRecord, Happening};

use crate::ledger::state::{Ended, Outcome, PayeeStream, PayerPhase, PayerStream, Payment, PaymentKind};

/// A channel as its holder sees it.
pub fn channel(view: &ChannelView, height: u32) -> hub::Channel {
    let Phase { phase, confirmed, closing_txid, closing_height, failure } = phase(&view.phase);
    let confirmations = confirmed.map_or(0, |at| height.saturating_add(1).saturating_sub(at));
    let online = matches!(view.connection, ConnectionView::Online(_));
    hub::Channel {
        channel_id: bytes(&view.channel_id.0),
        node_key: bytes(view.counterparty_node.as_bytes()),
        phase: phase.into(),
        online,
        usable: online && view.phase == PhaseView::Open,
        capacity_sat: view.capacity.to_sat(),
        local_msat: view.holder_msat.to_u64(),
        remote_msat: view.counterparty_msat.to_u64(),
        in_flight_msat: view.offered_msat.saturating_add(view.received_msat).to_u64(),
        htlcs: u32::try_from(view.htlcs).unwrap_or(u32::MAX),
        spendable_msat: view.spendable_msat.to_u64(),
        receivable_msat: view.receivable_msat.to_u64(),
        dust_exposure_msat: view.dust_exposure_msat.to_u64(),
        funding: view.funding_outpoint.as_ref().map(outpoint_out),
        funded_locally: view.opener == Side::Holder,
        confirmations,
        minimum_depth: view.minimum_depth,
        local_to_self_delay_blocks: view.holder_to_self_delay_blocks.into(),
        remote_to_self_delay_blocks: view.counterparty_to_self_delay_blocks.into(),
        local_commitment_number: view.holder_commitment_number,
        remote_commitment_number: view.counterparty_commitment_number,
        closing_txid,
        closing_height,
        failure,
        format: String::new(),
    }
}

struct Phase {
    phase: hub::ChannelPhase,
    confirmed: Option<u32>,
    closing_txid: Bytes,
    closing_height: u32,
    failure: String,
}

fn phase(view: &PhaseView) -> Phase {
    use hub::ChannelPhase as P;
    let plain = |phase| Phase {
        phase,
        confirmed: None,
        closing_txid: Bytes::new(),
        closing_height: 0,
        failure: String::new(),
    };
    match view {
        PhaseView::Opening => plain(P::Opening),
        PhaseView::AwaitingConfirmation { confirmed_height } => {
            Phase { confirmed: *confirmed_height, ..plain(P::AwaitingConfirmation) }
        }
        PhaseView::Open => plain(P::Open),
        PhaseView::ShuttingDown { .. } => plain(P::ShuttingDown),
        PhaseView::Frozen { .. } => plain(P::Frozen),
        PhaseView::Closing { txid, height } => {
            Phase { closing_txid: txid_out(txid), closing_height: *height, ..plain(P::Closing) }
        }
        PhaseView::Closed { txid, height } => {
            Phase { closing_txid: txid_out(txid), closing_height: *height, ..plain(P::Closed) }
        }
        PhaseView::Aborted => plain(P::Aborted),
        PhaseView::Failed { cause } => Phase { failure: cause.to_string(), ..plain(P::Failed) },
    }
}

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
    }
}

/// A payment on its way.
pub fn in_flight(number: u64, payment: &Payment) -> pb::Payment {
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
        receipt: stream.receipt.as_ref().map(|receipt| hub::StreamReceipt {
            highest_tick: receipt.highest_tick,
            total_msat: receipt.total_msat.to_u64(),
            signature: bytes(receipt.signature.as_bytes()),
        }),
        text,
        started_at_ms: stream.started_ms,
        ended_at_ms,
        last_failure: stream.last_failure.map_or(hub::FailureReason::Unspecified, reason_out).into(),
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
        receipt: None,
        text,
        started_at_ms: stream.started_ms,
        ended_at_ms,
        last_failure: hub::FailureReason::Unspecified.into(),
    }
}

/// What happened to a channel.
pub fn channel_event(record: &EventRecord) -> hub::ChannelEvent {
    let kind = match &record.what {
        Happening::Report(report) => report_kind(report),
        Happening::StreamReceived { .. } => return named(record, None),
        Happening::StreamSettled { stream, ticks, amount_msat, .. } => {
            Some(event::Kind::StreamTicks(event::StreamTicks {
                stream_id: bytes(&stream.0),
                ticks: *ticks,
                incoming_msat: amount_msat.to_u64(),
            }))
        }
        Happening::StreamFailed { ticks, reason, stream, .. } => Some(event::Kind::Refused(event::Refused {
            why: format!("{ticks} ticks of stream {stream} failed: {reason}"),
        })),
        Happening::ForwardsFailed { reason, count } => {
            Some(event::Kind::Refused(event::Refused { why: format!("{count} payments failed: {reason}") }))
        }
    };
    named(record, kind)
}

fn named(record: &EventRecord, kind: Option<event::Kind>) -> hub::ChannelEvent {
    hub::ChannelEvent {
        channel_id: bytes(&record.channel_id.0),
        node_key: bytes(record.node.as_bytes()),
        kind,
    }
}

fn report_kind(report: &Report) -> Option<event::Kind> {
    use event::Kind;
    let outpoint = |outpoint: &OutPoint| Some(outpoint_out(outpoint));
    Some(match report {
        Report::Opening { capacity_sat } => Kind::Opening(event::Opening { capacity_sat: *capacity_sat }),
        Report::OpeningFailed { cause } => {
            Kind::OpeningFailed(event::OpeningFailed { why: cause.to_string() })
        }
        Report::FundingBroadcast { outpoint: at } => {
            Kind::FundingBroadcast(event::FundingBroadcast { outpoint: outpoint(at) })
        }
        Report::FundingConfirmed { outpoint: at, height } => {
            Kind::FundingConfirmed(event::FundingConfirmed { outpoint: outpoint(at), height: *height })
        }
        Report::FundingUndone => Kind::Refused(event::Refused {
            why: "the block with the funding was disconnected: no new payments until it is confirmed again"
                .into(),
        }),
        Report::CounterpartyBehind => Kind::Refused(event::Refused {
            why: "the hub showed an older state than ours: it lost data".into(),
        }),
        Report::Ready => Kind::Ready(event::Ready {}),
        Report::Reestablished => Kind::Reestablished(event::Reestablished {}),
        Report::HtlcReceived { payment_hash, amount_msat, .. } => Kind::HtlcReceived(event::HtlcReceived {
            payment_hash: bytes(payment_hash.as_bytes()),
            amount_msat: amount_msat.to_u64(),
        }),
        Report::ForwardSettled { key, amount_msat, .. } => Kind::ForwardSettled(event::ForwardSettled {
            htlc_id: key.htlc_id,
            attempt: key.attempt,
            incoming_msat: amount_msat.to_u64(),
            preimage: Bytes::new(),
        }),
        Report::ForwardFailed { key, reason, .. } => Kind::ForwardFailed(event::ForwardFailed {
            htlc_id: key.htlc_id,
            attempt: key.attempt,
            reason: reason_out(*reason).into(),
        }),
        Report::ShutdownStarted { by_us } => Kind::ShutdownStarted(event::ShutdownStarted { by_us: *by_us }),
        Report::Frozen { terms } => Kind::Frozen(event::Frozen {
            fee_sat: terms.fee.to_sat(),
            publish_by_height: terms.publish_by_height,
        }),
        Report::Closing { txid, height } => {
            Kind::Closing(event::Closing { txid: txid_out(txid), height: *height })
        }
        Report::ClosingUndone { txid } => Kind::Closing(event::Closing { txid: txid_out(txid), height: 0 }),
        Report::Closed { txid, height, paid_sat } => {
            Kind::Closed(event::Closed { txid: txid_out(txid), height: *height, paid_sat: *paid_sat })
        }
        Report::Failed { cause } => Kind::Failed(event::Failed { why: cause.to_string() }),
    })
}
