//! Streams this wallet pays: proposed, paced, ended with a receipt.

use std::collections::BTreeMap;

use channel::amount::Msat;
use channel::failure::FailureReason;
use channel::forward::{ForwardKey, ForwardResult, Internal, Offer};
use channel::ids::{OwnerId, StreamId};
use channel::keys::Point;
use channel::message::{ForwardInstruction, PaymentHash, Recipient};
use channel::stream::Receipt;
use proto::relay::{self, Relay, RelayKind, StreamTerms};

use super::entry::Entry;
use super::payments::{Expiries, choose, priced};
use super::requests::Asked;
use super::runs::{self, Run};
use super::secrets;
use super::state::{Made, OpenTick, PayerPhase, PayerStream, StoredReceipt, Terms};
use super::{Env, LEDGER, Ledger, LedgerRefusal};
use crate::limits;

/// What a user asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamRequest {
    pub payee: Point,
    pub amount_msat: u64,
    pub ticks: u64,
    /// 0: as fast as the window allows.
    pub ticks_per_second: u32,
    /// 0: what the settings say.
    pub max_in_flight: u32,
    /// Fresh random bytes.
    pub id: StreamId,
}

/// When a paid stream may go on. Not recorded: after a restart it starts afresh.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    /// Thousandths of ticks that the pace allows now, and when that was computed.
    milliticks: u64,
    counted_ms: u64,
    /// No tick is sent before.
    not_before_ms: u64,
    pause_ms: u64,
    /// When a tick settled last, or the stream began or was resumed.
    progress_ms: u64,
    /// When the payee was asked last.
    asked_ms: u64,
    /// The stream ends, for this reason, when no tick is open.
    ending: Option<String>,
}

impl Ledger {
    /// Proposes a stream to the payee; ticks start when it accepts.
    pub fn start_stream(
        &mut self,
        request: StreamRequest,
        asked: Option<&Asked>,
        env: &Env<'_>,
    ) -> Result<StreamId, LedgerRefusal> {
        self.now_ms = env.now_ms;
        if let Some(Made::Stream(id)) = self.repeated(asked)? {
            return Ok(id);
        }
        let stream = self.check_stream(&request, env)?;
        let id = request.id;
        self.record(&Entry::StreamProposed { id, stream: Box::new(stream) });
        self.note(asked, Made::Stream(id));
        self.pace.insert(id, Pace { progress_ms: env.now_ms, ..Pace::default() });
        self.propose(&id, env.now_ms);
        Ok(id)
    }

    fn check_stream(&self, request: &StreamRequest, env: &Env<'_>) -> Result<PayerStream, LedgerRefusal> {
        request.payee.parse().map_err(|_| LedgerRefusal::NotAPoint)?;
        if request.payee == self.signer.node_id() {
            return Err(LedgerRefusal::ToSelf);
        }
        if request.ticks == 0 || request.ticks > limits::MAX_TICKS {
            return Err(LedgerRefusal::TicksOutOfRange { got: request.ticks, limit: limits::MAX_TICKS });
        }
        let max_in_flight = match request.max_in_flight {
            0 => env.settings.stream_window,
            got if got <= limits::MAX_TICKS_IN_FLIGHT => got,
            got => {
                return Err(LedgerRefusal::WindowOutOfRange { got, limit: limits::MAX_TICKS_IN_FLIGHT });
            }
        };
        if self.state.live_payers() >= limits::MAX_LIVE_STREAMS {
            return Err(LedgerRefusal::Full { what: "live streams", limit: limits::MAX_LIVE_STREAMS });
        }
        let amount_msat = Msat::new(request.amount_msat).ok_or(LedgerRefusal::AmountTooLarge)?;
        amount_msat.checked_mul(request.ticks).ok_or(LedgerRefusal::StreamTooLarge)?;
        let prices = env.prices.ok_or(LedgerRefusal::HubUnknown)?;
        let fee_msat = priced(&prices, amount_msat, None, env)?;
        choose(amount_msat.checked_add(fee_msat).ok_or(LedgerRefusal::AmountTooLarge)?, &[], env)?;
        Expiries::new(env.settings.min_final_expiry_blocks.into(), &prices, env.height)?;
        if secrets::payer_stream_key(self.signer.as_ref(), &request.payee, &request.id).is_err() {
            return Err(LedgerRefusal::NotAPoint);
        }
        Ok(PayerStream {
            number: self.state.last_stream + 1,
            payee: request.payee,
            terms: Terms {
                amount_msat,
                ticks: request.ticks,
                ticks_per_second: request.ticks_per_second,
                max_in_flight,
            },
            fee_msat,
            phase: PayerPhase::Proposed,
            started_ms: env.now_ms,
            next_index: 0,
            open: BTreeMap::new(),
            settled: 0,
            failed: 0,
            last_failure: None,
            receipt: None,
        })
    }

    /// Tells the payee the terms (again): it accepts, refuses, or repeats its last receipt.
    fn propose(&mut self, id: &StreamId, now_ms: u64) {
        let signer = self.signer.clone();
        let Some(stream) = self.state.payers.get(id) else { return };
        let Some(key) = secrets::stream_payer_key(signer.as_ref(), id) else { return };
        let mut terms = StreamTerms {
            payee: stream.payee,
            payer: signer.node_id(),
            fresh_key: secrets::stream_payer_point(&key),
            amount_msat: stream.terms.amount_msat,
            ticks: stream.terms.ticks,
            ticks_per_second: stream.terms.ticks_per_second,
            max_in_flight: stream.terms.max_in_flight,
            authenticator: [0; 32],
        };
        let Some(key) = self.stream_key(id) else { return };
        terms.authenticator = secrets::authenticate(key, &terms.authenticated_bytes(*id));
        self.out.relays.push(Relay { stream: *id, kind: RelayKind::Open(terms) });
        self.pace.entry(*id).or_default().asked_ms = now_ms;
    }

    /// Takes every paid stream one step further. For the host to call after each round; cheap when there is none.
    pub(super) fn drive_payers(&mut self, env: &Env<'_>) {
        let live: Vec<StreamId> =
            self.state.payers.iter().filter(|(_, stream)| stream.is_live()).map(|(id, _)| *id).collect();
        for id in live {
            self.drive_payer(&id, env);
        }
    }

    fn drive_payer(&mut self, id: &StreamId, env: &Env<'_>) {
        let now_ms = env.now_ms;
        let Some(stream) = self.state.payers.get(id) else { return };
        let pace = self.pace.entry(*id).or_insert_with(|| Pace { progress_ms: now_ms, ..Pace::default() });
        let ask_again = now_ms >= pace.asked_ms.saturating_add(limits::STREAM_PROPOSAL_RETRY_MS);
        let waited = now_ms.saturating_sub(pace.progress_ms);
        match &stream.phase {
            PayerPhase::Proposed => {
                if waited > limits::STREAM_PROPOSAL_PATIENCE_MS {
                    let text = "the payee did not answer".to_owned();
                    self.record(&Entry::StreamRefused { id: *id, text, now_ms });
                } else if ask_again {
                    self.propose(id, now_ms);
                }
            }
            PayerPhase::Running => {
                if stream.open.is_empty() && stream.settled >= stream.terms.ticks {
                    pace.progress_ms = now_ms;
                    self.record(&Entry::StreamEnding { id: *id });
                    self.drive_payer(id, env);
                } else if let (Some(text), true) = (&pace.ending, stream.open.is_empty()) {
                    let text = text.clone();
                    self.end_payer(id, text, now_ms);
                } else if stream.open.is_empty() && waited > limits::STREAM_STALL_PATIENCE_MS {
                    let why = stream.last_failure.map_or_else(
                        || "no channel could carry a tick".to_owned(),
                        |reason| reason.to_string(),
                    );
                    self.end_payer(id, format!("no tick settled for {} s: {why}", waited / 1_000), now_ms);
                } else if pace.ending.is_none() {
                    self.send_ticks(id, env);
                }
            }
            PayerPhase::Ending => {
                let total = stream.terms.amount_msat.checked_mul(stream.terms.ticks);
                let complete = stream.receipt.is_some_and(|receipt| Some(receipt.total_msat) == total);
                if complete {
                    self.end_payer(id, String::new(), now_ms);
                } else if waited > limits::STREAM_RECEIPT_PATIENCE_MS {
                    self.end_payer(id, "the payee gave no receipt for all of it".to_owned(), now_ms);
                } else if ask_again {
                    self.propose(id, now_ms);
                }
            }
            PayerPhase::Ended { .. } | PayerPhase::Refused { .. } => {}
        }
    }

    fn end_payer(&mut self, id: &StreamId, text: String, now_ms: u64) {
        self.record(&Entry::StreamEnded { id: *id, text: text.clone(), now_ms });
        self.out.relays.push(Relay { stream: *id, kind: RelayKind::End { text } });
        self.pace.remove(id);
    }

    /// As many ticks as window, pace and channel allow. Their indices are in the log before their offers leave.
    fn send_ticks(&mut self, id: &StreamId, env: &Env<'_>) {
        let Some(stream) = self.state.payers.get(id) else { return };
        let Some(pace) = self.pace.get_mut(id) else { return };
        pace.count(stream.terms.ticks_per_second, env.now_ms);
        if env.now_ms < pace.not_before_ms {
            return;
        }
        let open = u64::try_from(stream.open.len()).unwrap_or(u64::MAX);
        let room = u64::from(stream.terms.max_in_flight).saturating_sub(open);
        let last = (1u64 << limits::STREAM_INDEX_BITS).saturating_sub(stream.next_index);
        let mut count = stream.wanted().min(room).min(limits::MAX_TICKS_A_TURN).min(last);
        if stream.terms.ticks_per_second > 0 {
            count = count.min(pace.milliticks / 1_000);
        }
        let (Some(prices), Some(entry)) = (env.prices, env.directory.best(&[])) else { return };
        let amount_msat = stream.terms.amount_msat;
        let Some(fee_msat) = prices.fee(amount_msat) else { return };
        if fee_msat > stream.fee_msat {
            let agreed = stream.fee_msat;
            let why =
                || format!("the hub takes {fee_msat} a tick now; it was {agreed} when the stream began");
            pace.ending.get_or_insert_with(why);
            return;
        }
        let each = amount_msat.saturating_add(fee_msat).to_u64().max(1);
        count = count.min(entry.spendable_msat.to_u64() / each);
        let min_final = env.settings.min_final_expiry_blocks.into();
        let Ok(expiries) = Expiries::new(min_final, &prices, env.height) else { return };
        if count == 0 {
            return;
        }
        if stream.terms.ticks_per_second > 0 {
            pace.milliticks -= count * 1_000;
        }
        let tick = OpenTick {
            to: entry.owner,
            fee_msat,
            final_expiry: expiries.final_expiry,
            hub_expiry: expiries.hub_expiry,
            sign_by_height: expiries.sign_by_height,
        };
        let first = stream.next_index;
        self.times.entry(*id).or_default().sent(Run { first, count }, env.now_us);
        self.record(&Entry::TicksSent { id: *id, count, tick });
        for index in (Run { first, count }).numbers() {
            self.offer_tick(id, index);
        }
    }

    /// Offers an open tick (again).
    pub(super) fn offer_tick(&mut self, id: &StreamId, index: u64) {
        let Some(payment_hash) = self.stream_key(id).map(|key| key.payment_hash(index)) else { return };
        let Some(stream) = self.state.payers.get(id) else { return };
        let Some(tick) = stream.open.get(&index).copied() else { return };
        let offer = tick_offer(stream.number, *id, index, &tick, stream.terms.amount_msat, payment_hash);
        self.send(tick.to, Internal::Offer(offer));
    }

    /// What became of a tick. It is never tried again: a failed one is made up for by a new index.
    pub(super) fn tick_resulted(
        &mut self,
        key: ForwardKey,
        from: OwnerId,
        result: ForwardResult,
        env: &Env<'_>,
    ) {
        let index = key.htlc_id & ((1 << limits::STREAM_INDEX_BITS) - 1);
        let number = key.htlc_id >> limits::STREAM_INDEX_BITS;
        let Some(id) = self.state.payer_numbers.get(&number).copied() else { return };
        let Some(stream) = self.state.payers.get(&id) else { return };
        if stream.open.get(&index).is_none_or(|tick| tick.to != from) {
            return;
        }
        let pace = self.pace.entry(id).or_default();
        match result {
            ForwardResult::Fulfilled { .. } => {
                pace.progress_ms = env.now_ms;
                pace.pause_ms = 0;
                self.times.entry(id).or_default().settled(index, env.now_us);
                self.step(&Entry::TicksSettled { id, runs: vec![Run::one(index)] });
                runs::push(self.pending.settled.entry(id).or_default(), index);
            }
            ForwardResult::Failed { reason } => {
                pace.failed(reason, env.now_ms);
                self.step(&Entry::TicksFailed { id, runs: vec![Run::one(index)], reason });
                runs::push(self.pending.failed.entry((id, reason.code())).or_default(), index);
            }
        }
    }

    /// The payee's words about a stream this wallet pays.
    pub(super) fn payer_told(&mut self, id: StreamId, kind: RelayKind, env: &Env<'_>) {
        let now_ms = env.now_ms;
        let Some(stream) = self.state.payers.get(&id) else { return };
        match kind {
            RelayKind::Accept => {
                if stream.phase == PayerPhase::Proposed {
                    self.pace.entry(id).or_default().progress_ms = now_ms;
                    self.record(&Entry::StreamAccepted { id, now_ms });
                }
            }
            RelayKind::Refuse { reason, text } => {
                let text = if text.is_empty() { format!("{reason:?}") } else { text };
                match stream.phase {
                    PayerPhase::Proposed => self.record(&Entry::StreamRefused { id, text, now_ms }),
                    PayerPhase::Running => self.pace.entry(id).or_default().ending = Some(text),
                    PayerPhase::Ending | PayerPhase::Ended { .. } | PayerPhase::Refused { .. } => {}
                }
            }
            RelayKind::Receipt(receipt) => self.take_receipt(id, &receipt),
            RelayKind::End { text } => {
                if stream.phase == PayerPhase::Running {
                    let text = format!("the payee ended the stream: {text}");
                    self.pace.entry(id).or_default().ending = Some(text);
                }
            }
            RelayKind::Open(_) => {}
        }
    }

    /// A receipt counts if the payee signed it, it says more than the last, and no more than was ever sent.
    fn take_receipt(&mut self, id: StreamId, receipt: &relay::Receipt) {
        let Some(stream) = self.state.payers.get(&id) else { return };
        let said = Receipt { stream: id, highest_tick: receipt.highest_tick, total_msat: receipt.total_msat };
        let more = stream.receipt.is_none_or(|last| receipt.total_msat > last.total_msat);
        let sent = stream.terms.amount_msat.checked_mul(stream.next_index);
        let possible = receipt.highest_tick < stream.next_index && Some(receipt.total_msat) <= sent;
        if more && possible && said.verify(&stream.payee, &receipt.signature).is_ok() {
            let receipt = StoredReceipt {
                highest_tick: receipt.highest_tick,
                total_msat: receipt.total_msat,
                signature: receipt.signature,
            };
            self.record(&Entry::ReceiptTaken { id, receipt });
        }
    }

    /// How long a paid stream's ticks took since this process began: counts by [`proto::tick_times::bucket`].
    pub fn tick_times(&self, id: &StreamId) -> Option<&[u64]> {
        self.times.get(id).map(super::times::TickTimes::counts)
    }

    /// When the earliest stream wants to be driven again; the host wakes up by then.
    pub fn next_due_ms(&self, now_ms: u64) -> Option<u64> {
        let paced = self.state.payers.iter().filter(|(_, stream)| stream.is_live()).map(|(id, stream)| {
            let pace = self.pace.get(id);
            let interval = match stream.terms.ticks_per_second {
                0 => limits::STREAM_PAUSE_MS,
                rate => (1_000 / u64::from(rate)).clamp(1, limits::STREAM_PAUSE_MS),
            };
            pace.map_or(now_ms, |pace| pace.not_before_ms.max(now_ms + interval))
        });
        let receipts = self
            .state
            .payees
            .values()
            .any(|stream| stream.ended.is_none())
            .then_some(now_ms + limits::RECEIPT_INTERVAL_MS / 2);
        paced.chain(receipts).min()
    }
}

impl Pace {
    /// Lets the pace run on; what was not used within a tenth of a second is lost, so that a pause is no burst.
    fn count(&mut self, rate: u32, now_ms: u64) {
        let since = now_ms.saturating_sub(self.counted_ms).min(1_000);
        let most = (u64::from(rate) * 100).max(1_000);
        self.milliticks = (self.milliticks + since * u64::from(rate)).min(most);
        self.counted_ms = now_ms;
    }

    fn failed(&mut self, reason: FailureReason, now_ms: u64) {
        if is_terminal(reason) {
            self.ending.get_or_insert_with(|| reason.to_string());
        }
        // Many ticks fail together: the pause grows once, not with each.
        if now_ms >= self.not_before_ms {
            self.pause_ms = (self.pause_ms * 2).clamp(limits::STREAM_PAUSE_MS, limits::MAX_STREAM_PAUSE_MS);
            self.not_before_ms = now_ms + self.pause_ms;
        }
    }
}

/// Whether no later tick can fare better.
fn is_terminal(reason: FailureReason) -> bool {
    match reason {
        FailureReason::UnknownRecipient
        | FailureReason::IncorrectPaymentDetails
        | FailureReason::StreamRefused
        | FailureReason::AmountOutOfRange => true,
        FailureReason::RecipientOffline
        | FailureReason::NoLiquidity
        | FailureReason::FeeTooLow
        | FailureReason::ExpiryTooSoon
        | FailureReason::ExpiryTooFar
        | FailureReason::TooManyHtlcs
        | FailureReason::ChannelUnavailable
        | FailureReason::AlreadyPaid
        | FailureReason::InvoiceExpired
        | FailureReason::Overloaded
        | FailureReason::TimedOut => false,
    }
}

fn tick_offer(
    number: u64,
    id: StreamId,
    index: u64,
    tick: &OpenTick,
    amount_msat: Msat,
    payment_hash: PaymentHash,
) -> Offer {
    let htlc_id = (number << limits::STREAM_INDEX_BITS) | index;
    Offer {
        key: ForwardKey { incoming: LEDGER, htlc_id, attempt: 1 },
        amount_msat: amount_msat.saturating_add(tick.fee_msat),
        payment_hash,
        cltv_expiry: tick.hub_expiry,
        recipient: Recipient::Stream { id, index },
        forward: Some(ForwardInstruction { amount_msat, cltv_expiry: tick.final_expiry }),
        payload: Vec::new(),
        sign_by_height: tick.sign_by_height,
    }
}
