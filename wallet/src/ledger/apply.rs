//! The fold: one entry, one step. It cannot fail, reads nothing but state and entry, and is the same live and at replay.

use channel::amount::Msat;
use channel::ids::StreamId;

use super::entry::{Entry, Received};
use super::prune;
use super::runs::{IndexSet, Run};
use super::state::{Ended, Held, Outcome, PayerPhase, PayerStream, Payment, PaymentKind, Settled, State};
use crate::limits;

/// What the host must do once the entry is in the log; at replay it is dropped.
#[derive(Clone, Debug, PartialEq)]
pub enum Done {
    /// A payment of either direction ended: a retained row, an event, and whoever waits for it.
    Payment(Box<Ended>),
    /// A stream began, changed its phase or ended.
    Stream(StreamId),
}

/// Takes one step. Entries that do not fit the state (only broken records hold such) change nothing.
pub fn apply(state: &mut State, entry: &Entry, done: &mut Vec<Done>) {
    match entry {
        Entry::InvoiceMade { payment_hash, invoice } => {
            state.invoices.insert(*payment_hash, invoice.as_ref().clone());
        }
        Entry::PaymentStarted { number, payment } => {
            state.last_payment = state.last_payment.max(*number);
            state.in_flight.insert(payment.payment_hash, *number);
            state.payments.insert(*number, payment.as_ref().clone());
        }
        Entry::PaymentRetried { number, to } => {
            if let Some(payment) = state.payments.get_mut(number) {
                payment.attempt = payment.attempt.saturating_add(1);
                payment.tried.push(*to);
            }
        }
        Entry::PaymentSettled { number, preimage, now_ms } => {
            end_payment(state, *number, Outcome::Settled { preimage: *preimage }, *now_ms, done);
        }
        Entry::PaymentFailed { number, reason, now_ms } => {
            end_payment(state, *number, Outcome::Failed { reason: *reason }, *now_ms, done);
        }
        Entry::Decided { key, held, received } => {
            state.held.insert(*key, *held);
            if let Some(received) = received {
                receive(state, received, done);
            }
        }
        Entry::Acknowledged { runs } => {
            for key in runs.iter().flat_map(|run| run.keys()) {
                state.held.remove(&key);
            }
        }
        Entry::RequestNoted { id, request } => {
            state.requests.insert(*id, request.clone());
        }
        Entry::RequestForgotten { id } => {
            state.requests.remove(id);
        }
        Entry::Pruned { now_ms } => prune::apply(state, *now_ms),
        Entry::HoldDecided { payment_hash, state: decided } => {
            if let Some(invoice) = state.invoices.get_mut(payment_hash) {
                invoice.hold = Some(*decided);
            }
        }
        Entry::PolicyTold { policy } => state.policy = Some(policy.clone()),
        Entry::StreamProposed { .. }
        | Entry::StreamAccepted { .. }
        | Entry::StreamRefused { .. }
        | Entry::TicksSent { .. }
        | Entry::TicksSettled { .. }
        | Entry::TicksFailed { .. }
        | Entry::ReceiptTaken { .. }
        | Entry::StreamEnding { .. }
        | Entry::StreamEnded { .. } => apply_payer(state, entry, done),
        Entry::PayeeAgreed { .. }
        | Entry::TicksReceived { .. }
        | Entry::ReceiptGiven { .. }
        | Entry::PayeeEnded { .. } => apply_payee(state, entry, done),
    }
}

fn apply_payer(state: &mut State, entry: &Entry, done: &mut Vec<Done>) {
    match entry {
        Entry::StreamProposed { id, stream } => {
            state.last_stream = state.last_stream.max(stream.number);
            state.payer_numbers.insert(stream.number, *id);
            state.payers.insert(*id, stream.as_ref().clone());
            done.push(Done::Stream(*id));
        }
        Entry::StreamAccepted { id, .. } => set_phase(state, id, PayerPhase::Running, done),
        Entry::StreamRefused { id, text, now_ms } => {
            set_phase(state, id, PayerPhase::Refused { ended_ms: *now_ms, text: text.clone() }, done);
        }
        Entry::StreamEnding { id } => set_phase(state, id, PayerPhase::Ending, done),
        Entry::StreamEnded { id, text, now_ms } => {
            set_phase(state, id, PayerPhase::Ended { ended_ms: *now_ms, text: text.clone() }, done);
        }
        Entry::TicksSent { id, count, tick } => with_payer(state, id, |stream| {
            let run = Run { first: stream.next_index, count: *count };
            stream.open.extend(run.numbers().map(|index| (index, *tick)));
            stream.next_index = run.numbers().end;
        }),
        Entry::TicksSettled { id, runs } => with_payer(state, id, |stream| {
            stream.settled += take(stream, runs);
        }),
        Entry::TicksFailed { id, runs, reason } => with_payer(state, id, |stream| {
            stream.failed += take(stream, runs);
            stream.last_failure = Some(*reason);
        }),
        Entry::ReceiptTaken { id, receipt } => {
            with_payer(state, id, |stream| stream.receipt = Some(*receipt));
            done.push(Done::Stream(*id));
        }
        _ => debug_assert!(false, "only the entries of paid streams come here"),
    }
}

fn apply_payee(state: &mut State, entry: &Entry, done: &mut Vec<Done>) {
    match entry {
        Entry::PayeeAgreed { id, stream } => {
            state.payees.insert(*id, stream.as_ref().clone());
            done.push(Done::Stream(*id));
        }
        Entry::TicksReceived { id, runs, now_ms } => {
            let Some(stream) = state.payees.get_mut(id) else { return };
            stream.last_ms = *now_ms;
            for (key, index) in runs.iter().flat_map(|run| run.ticks()) {
                if stream.seen.insert(index, limits::MAX_INDEX_GAPS) {
                    stream.received += 1;
                    stream.total_msat = stream.total_msat.saturating_add(stream.terms.amount_msat);
                }
                state.held.insert(key, Held::Tick { stream: *id, index });
            }
        }
        Entry::ReceiptGiven { id, receipt } => {
            if let Some(stream) = state.payees.get_mut(id) {
                stream.receipt = Some(*receipt);
                done.push(Done::Stream(*id));
            }
        }
        Entry::PayeeEnded { id, text, now_ms } => {
            if let Some(stream) = state.payees.get_mut(id)
                && stream.ended.is_none()
            {
                stream.ended = Some((*now_ms, text.clone()));
                // No tick is opened any more, so nobody asks which were.
                stream.seen = IndexSet::default();
                done.push(Done::Stream(*id));
            }
        }
        _ => debug_assert!(false, "only the entries of received streams come here"),
    }
}

fn with_payer(state: &mut State, id: &StreamId, change: impl FnOnce(&mut PayerStream)) {
    if let Some(stream) = state.payers.get_mut(id) {
        change(stream);
    }
}

fn set_phase(state: &mut State, id: &StreamId, phase: PayerPhase, done: &mut Vec<Done>) {
    with_payer(state, id, |stream| stream.phase = phase);
    done.push(Done::Stream(*id));
}

/// Removes open ticks; the number of those that were open.
fn take(stream: &mut PayerStream, runs: &[Run]) -> u64 {
    let mut taken = 0;
    for run in runs {
        // A broken record's run is cut to what was ever sent.
        for index in run.first..run.numbers().end.min(stream.next_index) {
            taken += u64::from(stream.open.remove(&index).is_some());
        }
    }
    taken
}

fn end_payment(state: &mut State, number: u64, outcome: Outcome, now_ms: u64, done: &mut Vec<Done>) {
    let Some(payment) = state.payments.remove(&number) else { return };
    state.in_flight.remove(&payment.payment_hash);
    if let (Outcome::Settled { .. }, PaymentKind::Invoice { expires_ms }) = (outcome, payment.kind) {
        state.settled.insert(payment.payment_hash, Settled { number, expires_ms });
    }
    done.push(Done::Payment(Box::new(ended(number, payment, outcome, now_ms))));
}

fn ended(number: u64, payment: Payment, outcome: Outcome, now_ms: u64) -> Ended {
    Ended {
        number,
        sent: true,
        payment_hash: payment.payment_hash,
        amount_msat: payment.amount_msat,
        fee_msat: payment.fee_msat,
        outcome,
        attempts: payment.attempt,
        created_ms: payment.created_ms,
        ended_ms: now_ms,
        payee: Some(payment.payee),
        description: payment.description,
        spontaneous: matches!(payment.kind, PaymentKind::Spontaneous { .. }),
    }
}

fn receive(state: &mut State, received: &Received, done: &mut Vec<Done>) {
    state.last_received += 1;
    let number = state.last_received;
    let mut description = String::new();
    let mut created_ms = received.now_ms;
    if let Some(invoice) = state.invoices.get_mut(&received.payment_hash) {
        invoice.paid = Some(number);
        description.clone_from(&invoice.description);
        created_ms = invoice.created_ms;
    }
    done.push(Done::Payment(Box::new(Ended {
        number,
        sent: false,
        payment_hash: received.payment_hash,
        amount_msat: received.amount_msat,
        fee_msat: Msat::ZERO,
        outcome: Outcome::Settled { preimage: received.preimage },
        attempts: 0,
        created_ms,
        ended_ms: received.now_ms,
        payee: None,
        description,
        spontaneous: received.spontaneous,
    })));
}
