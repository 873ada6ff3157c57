//! Forgetting what is too old to matter: expired invoices, paid ones once they expired, old requests, and ended streams
//! above their limit.
//!
//! Whether anything is due is looked up without changing or copying the state, so that a record is written only then.

use std::collections::BTreeSet;

use channel::ids::StreamId;

use super::state::{Held, HoldState, Invoice, PayerPhase, Settled, State};
use crate::limits;

/// An expired invoice is kept an hour longer, so that a late payment is refused for its true reason.
const INVOICE_GRACE_MS: u64 = 3_600_000;

/// Whether [`apply`] would forget anything.
pub fn is_due(state: &State, now_ms: u64) -> bool {
    // Ids begin with their time, so the first is the oldest.
    let request = state.requests.first_key_value().is_some_and(|(id, _)| !is_recent(id, now_ms));
    request
        || state.invoices.values().any(|invoice| !is_payable(invoice, now_ms))
        || state.settled.values().any(|settled| !is_remembered(settled, now_ms))
        || surplus(state).next().is_some()
}

/// Forgets it.
pub fn apply(state: &mut State, now_ms: u64) {
    state.invoices.retain(|_, invoice| is_payable(invoice, now_ms));
    state.settled.retain(|_, settled| is_remembered(settled, now_ms));
    state.requests.retain(|id, _| is_recent(id, now_ms));
    let surplus: Vec<StreamId> = surplus(state).collect();
    for id in surplus {
        if let Some(stream) = state.payers.remove(&id) {
            state.payer_numbers.remove(&stream.number);
        }
        state.payees.remove(&id);
    }
}

fn is_payable(invoice: &Invoice, now_ms: u64) -> bool {
    let kept = match invoice.hold {
        // A payment that came in time may still wait.
        Some(HoldState::Undecided | HoldState::Waiting { .. }) => limits::HOLD_KEPT_MS,
        Some(HoldState::Settled | HoldState::Cancelled) | None => INVOICE_GRACE_MS,
    };
    invoice.expires_ms.saturating_add(kept) > now_ms
}

fn is_remembered(settled: &Settled, now_ms: u64) -> bool {
    settled.expires_ms > now_ms
}

fn is_recent(id: &[u8; 16], now_ms: u64) -> bool {
    let horizon = now_ms.saturating_sub(2 * proto::limits::REQUEST_ID_MEMORY_MS);
    proto::request_id::RequestId(*id).time_ms() >= horizon
}

/// The ended streams above the limit, the oldest first.
fn surplus(state: &State) -> impl Iterator<Item = StreamId> + use<> {
    let mut ended: Vec<(u64, StreamId)> = Vec::new();
    if state.payers.len() + state.payees.len() > limits::MAX_ENDED_STREAMS {
        for (id, stream) in &state.payers {
            match &stream.phase {
                PayerPhase::Ended { ended_ms, .. } | PayerPhase::Refused { ended_ms, .. } => {
                    // While a tick is on its way its result must find the stream.
                    if stream.open.is_empty() {
                        ended.push((*ended_ms, *id));
                    }
                }
                PayerPhase::Proposed | PayerPhase::Running | PayerPhase::Ending => {}
            }
        }
        // A held tick needs its stream's key until it is acknowledged.
        let held: BTreeSet<StreamId> = state.held.values().filter_map(stream_held).collect();
        for (id, stream) in &state.payees {
            if let (Some((ended_ms, _)), false) = (&stream.ended, held.contains(id)) {
                ended.push((*ended_ms, *id));
            }
        }
        ended.sort_unstable();
    }
    let surplus = ended.len().saturating_sub(limits::MAX_ENDED_STREAMS);
    ended.into_iter().take(surplus).map(|(_, id)| id)
}

fn stream_held(held: &Held) -> Option<StreamId> {
    match held {
        Held::Tick { stream, .. } => Some(*stream),
        Held::Fulfilled { .. } | Held::Failed { .. } => None,
    }
}
