//! Streams this wallet is paid by: agreed, counted, receipted.

use channel::ids::StreamId;
use channel::stream::{Receipt, StreamKey};
use proto::hub::v1::StreamRefusal;
use proto::relay::{self, Relay, RelayKind, StreamTerms};

use super::entry::Entry;
use super::runs::IndexSet;
use super::secrets;
use super::state::{PayeeStream, StoredReceipt, Terms};
use super::{Env, Ledger};
use crate::limits;

impl Ledger {
    /// A relay from the hub, from whichever end of the stream is not here.
    pub fn relayed(&mut self, relay: Relay, env: &Env<'_>) {
        self.now_ms = env.now_ms;
        let id = relay.stream;
        match relay.kind {
            RelayKind::Open(terms) => self.stream_proposed(id, &terms, env),
            RelayKind::End { text } if self.state.payees.contains_key(&id) => self.payee_ended(id, text, env),
            kind => self.payer_told(id, kind, env),
        }
    }

    fn stream_proposed(&mut self, id: StreamId, terms: &StreamTerms, env: &Env<'_>) {
        if let Some(known) = self.state.payees.get(&id) {
            if !known.has_terms(terms) {
                return self.refuse(id, StreamRefusal::Duplicate, "another stream has this id");
            }
            // A repeat: the payer missed our answer, or wants its last receipt.
            if known.ended.is_none() {
                self.out.relays.push(Relay { stream: id, kind: RelayKind::Accept });
            }
            return self.give_receipt(id, env.now_ms);
        }
        match self.judge_stream(id, terms) {
            Err((reason, text)) => self.refuse(id, reason, text),
            Ok(key) => {
                let stream = PayeeStream {
                    payer: terms.payer,
                    fresh_key: terms.fresh_key,
                    terms: Terms {
                        amount_msat: terms.amount_msat,
                        ticks: terms.ticks,
                        ticks_per_second: terms.ticks_per_second,
                        max_in_flight: terms.max_in_flight,
                    },
                    started_ms: env.now_ms,
                    last_ms: env.now_ms,
                    seen: IndexSet::default(),
                    received: 0,
                    total_msat: channel::amount::Msat::ZERO,
                    receipt: None,
                    ended: None,
                };
                self.record(&Entry::PayeeAgreed { id, stream: Box::new(stream) });
                self.keys.insert(id, key);
                self.out.relays.push(Relay { stream: id, kind: RelayKind::Accept });
            }
        }
    }

    fn judge_stream(
        &self,
        id: StreamId,
        terms: &StreamTerms,
    ) -> Result<StreamKey, (StreamRefusal, &'static str)> {
        if terms.payee != self.signer.node_id() {
            return Err((StreamRefusal::UnknownRecipient, "the stream is for another node"));
        }
        if self.state.payers.contains_key(&id) {
            return Err((StreamRefusal::Duplicate, "another stream has this id"));
        }
        if self.state.live_payees() >= limits::MAX_LIVE_STREAMS {
            return Err((StreamRefusal::TooMany, "the payee has too many streams"));
        }
        let sensible = !terms.amount_msat.is_zero()
            && (1..=limits::MAX_TICKS).contains(&terms.ticks)
            && (1..=limits::MAX_TICKS_IN_FLIGHT).contains(&terms.max_in_flight)
            && terms.amount_msat.checked_mul(terms.ticks).is_some();
        if !sensible {
            return Err((StreamRefusal::BadTerms, "amount, ticks or window are outside the payee's limits"));
        }
        let not_authentic = (StreamRefusal::NotAuthentic, "the terms are not what the payer signed");
        let key =
            StreamKey::for_payee(self.signer.as_ref(), &terms.fresh_key, &id).map_err(|_| not_authentic)?;
        if secrets::authenticate(&key, &terms.authenticated_bytes(id)) != terms.authenticator {
            return Err(not_authentic);
        }
        Ok(key)
    }

    fn refuse(&mut self, id: StreamId, reason: StreamRefusal, text: &str) {
        let kind = RelayKind::Refuse { reason, text: text.to_owned() };
        self.out.relays.push(Relay { stream: id, kind });
    }

    fn payee_ended(&mut self, id: StreamId, text: String, env: &Env<'_>) {
        self.give_receipt(id, env.now_ms);
        if self.state.payees.get(&id).is_some_and(|stream| stream.ended.is_none()) {
            self.record(&Entry::PayeeEnded { id, text, now_ms: env.now_ms });
        }
    }

    /// Gives the receipts that are due, and ends what is complete or forgotten by its payer.
    pub(super) fn drive_payees(&mut self, env: &Env<'_>) {
        let now_ms = env.now_ms;
        let mut due = Vec::new();
        let mut over = Vec::new();
        for (id, stream) in self.state.payees.iter().filter(|(_, stream)| stream.ended.is_none()) {
            let complete = stream.received >= stream.terms.ticks;
            let given_ms = self.receipts_given_ms.get(id).copied().unwrap_or_default();
            let interval = now_ms >= given_ms.saturating_add(limits::RECEIPT_INTERVAL_MS);
            if !stream.is_receipted() && stream.received > 0 && (complete || interval) {
                due.push(*id);
            }
            if complete {
                over.push((*id, String::new()));
            } else if now_ms > stream.last_ms.saturating_add(limits::STREAM_IDLE_MS) {
                over.push((*id, "nothing came for a day".to_owned()));
            } else if stream.received == 0
                && now_ms > stream.started_ms.saturating_add(limits::STREAM_FIRST_TICK_MS)
            {
                over.push((*id, "no tick came".to_owned()));
            }
        }
        for id in due {
            self.give_receipt(id, now_ms);
        }
        for (id, text) in over {
            self.record(&Entry::PayeeEnded { id, text, now_ms });
            self.receipts_given_ms.remove(&id);
        }
    }

    /// Gives the receipt for all that was received: a new one, or the last again if that says it all. It leaves when what
    /// it attests is durable.
    fn give_receipt(&mut self, id: StreamId, now_ms: u64) {
        let Some(stream) = self.state.payees.get(&id) else { return };
        let receipt = match stream.receipt.filter(|_| stream.is_receipted()) {
            Some(last) => last,
            None => {
                let Some(highest_tick) = stream.seen.highest() else { return };
                let total_msat = stream.total_msat;
                let signature = Receipt { stream: id, highest_tick, total_msat }.sign(self.signer.as_ref());
                let receipt = StoredReceipt { highest_tick, total_msat, signature };
                self.record(&Entry::ReceiptGiven { id, receipt });
                receipt
            }
        };
        self.receipts_given_ms.insert(id, now_ms);
        let StoredReceipt { highest_tick, total_msat, signature } = receipt;
        let kind = RelayKind::Receipt(relay::Receipt { highest_tick, total_msat, signature });
        self.out.relays.push(Relay { stream: id, kind });
    }

    /// Takes every stream one step further; after each round.
    pub fn drive(&mut self, env: &Env<'_>) {
        self.now_ms = env.now_ms;
        self.drive_payers(env);
        self.drive_payees(env);
    }

    /// After a restart, once the chain is at its tip: every open offer goes out again, and every result that is held.
    /// Keys make the repeats harmless.
    pub fn resume(&mut self) {
        let numbers: Vec<u64> = self.state.payments.keys().copied().collect();
        for number in numbers {
            self.repeat_payment(number);
        }
        let ticks: Vec<(StreamId, u64)> = self
            .state
            .payers
            .iter()
            .flat_map(|(id, stream)| stream.open.keys().map(|index| (*id, *index)))
            .collect();
        for (id, index) in ticks {
            self.offer_tick(&id, index);
        }
        let held: Vec<_> = self.state.held.keys().copied().collect();
        for key in held {
            self.answer(key);
        }
    }
}

impl PayeeStream {
    fn has_terms(&self, terms: &StreamTerms) -> bool {
        self.payer == terms.payer
            && self.fresh_key == terms.fresh_key
            && self.terms.amount_msat == terms.amount_msat
            && self.terms.ticks == terms.ticks
            && self.terms.ticks_per_second == terms.ticks_per_second
            && self.terms.max_in_flight == terms.max_in_flight
    }
}
