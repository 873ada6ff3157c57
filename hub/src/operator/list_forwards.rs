//! `ListForwards`: forwards that ended, newest first, from the kept events.

use channel::effect::Report;
use journal::Reader;
use proto::error::{ErrorCode, status};
use proto::hub::v1::{Forward, ForwardState, ListForwardsRequest, ListForwardsResponse};
use proto::message::reason_out;
use shard::{EventRecord, Happening};
use tonic::Status;

use crate::blocking::blocking;
use crate::events::Event;
use crate::limits::EVENTS_A_READ;

use super::{OperatorHub, page, subscribe_events};

/// Events looked at for one page, so that a page ends even where forwards are rare.
const EVENTS_A_PAGE: u64 = 65_536;

pub async fn handle(hub: &OperatorHub, request: ListForwardsRequest) -> Result<ListForwardsResponse, Status> {
    let rows = page::rows(request.page_size)?;
    let before = page::token(&request.page_token)?.map(u64::from_be_bytes);
    let reader = hub.shared.reader.clone();
    blocking(move || collect(&reader, before, rows))
        .await
        .map_err(|_| status(ErrorCode::Fault, "reading events panicked"))?
}

/// Walks back from `before`, a window at a time.
fn collect(reader: &Reader, before: Option<u64>, rows: usize) -> Result<ListForwardsResponse, Status> {
    let mut forwards = Vec::new();
    let mut end = before.unwrap_or_else(|| reader.next_event()).min(reader.next_event());
    let lowest = end.saturating_sub(EVENTS_A_PAGE);
    while end > reader.oldest_event() && end > lowest && forwards.len() < rows {
        let window = u64::try_from(EVENTS_A_READ).unwrap_or(u64::MAX);
        let start = end.saturating_sub(window).max(reader.oldest_event());
        let mut events = read_window(reader, start, end)?;
        while let Some((index, event)) = events.pop() {
            end = index;
            if let Event::Channel(record) = event
                && let Some(forward) = forward_out(index, &record)
            {
                forwards.push(forward);
                if forwards.len() == rows {
                    break;
                }
            }
        }
        if forwards.len() < rows {
            end = start;
        }
    }
    let more = end > reader.oldest_event();
    let token = end.to_be_bytes();
    Ok(ListForwardsResponse { forwards, next_page_token: page::next(more.then_some(token.as_slice())) })
}

/// The events of `start..end`, however many reads they take.
fn read_window(reader: &Reader, start: u64, end: u64) -> Result<Vec<(u64, Event)>, Status> {
    let mut all = Vec::new();
    let mut at = start;
    while at < end {
        let events = reader.events_from(at, EVENTS_A_READ).map_err(subscribe_events::refused)?;
        let Some((last, _)) = events.last() else { break };
        let last = *last;
        for (index, bytes) in events {
            if index < end {
                let event = Event::decode(&bytes).map_err(|error| {
                    status(ErrorCode::Fault, format!("event {index} cannot be read: {error}"))
                })?;
                all.push((index, event));
            }
        }
        at = last + 1;
    }
    Ok(all)
}

fn forward_out(index: u64, record: &EventRecord) -> Option<Forward> {
    let forward = |state: ForwardState, incoming_msat: u64| Forward {
        event_index: index,
        time_ms: record.time_ms,
        incoming_channel_id: record.channel_id.0.to_vec().into(),
        node_key: record.node.as_bytes().to_vec().into(),
        state: state.into(),
        incoming_msat,
        ..Forward::default()
    };
    match &record.what {
        Happening::Report(Report::ForwardSettled { key, amount_msat, .. }) => {
            let settled = forward(ForwardState::Settled, amount_msat.to_u64());
            Some(Forward { htlc_id: key.htlc_id, ..settled })
        }
        Happening::Report(Report::ForwardFailed { key, reason, amount_msat, .. }) => {
            let failed = forward(ForwardState::Failed, amount_msat.to_u64());
            Some(Forward { htlc_id: key.htlc_id, reason: reason_out(*reason).into(), ..failed })
        }
        Happening::StreamSettled { stream, ticks, amount_msat, .. } => {
            let settled = forward(ForwardState::Settled, amount_msat.to_u64());
            Some(Forward { stream_id: stream.0.to_vec().into(), ticks: *ticks, ..settled })
        }
        Happening::StreamFailed { stream, reason, ticks, amount_msat } => {
            let failed = forward(ForwardState::Failed, amount_msat.to_u64());
            let reason = reason_out(*reason).into();
            Some(Forward { stream_id: stream.0.to_vec().into(), ticks: *ticks, reason, ..failed })
        }
        Happening::ForwardsFailed { reason, count } => {
            let failed = forward(ForwardState::Failed, 0);
            Some(Forward { ticks: *count, reason: reason_out(*reason).into(), ..failed })
        }
        Happening::StreamReceived { .. } | Happening::Report(_) => None,
    }
}
