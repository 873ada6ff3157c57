//! HTLCs for this wallet: each key is decided on once, and answered the same until the channel acknowledges.

use channel::bug::{self, Bug};
use channel::failure::FailureReason;
use channel::forward::{ForwardKey, ForwardResult, Internal, Offer};
use channel::ids::StreamId;
use channel::message::{PaymentHash, Preimage, Recipient};
use channel::seal::{PayloadBinding, PayloadContent, open_payload};

use super::entry::{Entry, Received, TickRun};
use super::secrets::{invoice_preimage, invoice_secret};
use super::state::{Held, HoldState};
use super::{Env, LEDGER, Ledger};

impl Ledger {
    /// Step 1 of the forward protocol, as its paid end.
    pub(super) fn offered(&mut self, offer: &Offer, env: &Env<'_>) {
        if !self.state.held.contains_key(&offer.key) {
            match &offer.recipient {
                Recipient::Node(node) if *node == self.signer.node_id() => self.decide_payment(offer, env),
                Recipient::Node(_) => self.decline(offer, FailureReason::UnknownRecipient),
                Recipient::Stream { id, index } => self.decide_tick(offer, id, *index, env),
            }
        }
        self.answer(offer.key);
    }

    /// Step 3: the result that is held.
    pub(super) fn answer(&mut self, key: ForwardKey) {
        let result = match self.state.held.get(&key) {
            Some(Held::Fulfilled { preimage }) => ForwardResult::Fulfilled { preimage: *preimage },
            Some(Held::Failed { reason }) => ForwardResult::Failed { reason: *reason },
            Some(Held::Tick { stream, index }) => {
                let (stream, index) = (*stream, *index);
                match self.stream_key(&stream) {
                    Some(secret) => ForwardResult::Fulfilled { preimage: secret.preimage(index) },
                    None => return,
                }
            }
            None => return,
        };
        self.send(key.incoming, Internal::Result { key, from: LEDGER, result });
    }

    pub(super) fn decline(&mut self, offer: &Offer, reason: FailureReason) {
        self.record(&Entry::Decided { key: offer.key, held: Held::Failed { reason }, received: None });
    }

    fn decide_payment(&mut self, offer: &Offer, env: &Env<'_>) {
        if self.waits_already(offer) {
            return self.hold(offer, env);
        }
        match self.judge_payment(offer, env) {
            Ok(_) if self.has_to_wait(&offer.payment_hash) => self.hold(offer, env),
            Ok((preimage, spontaneous)) => self.take_payment(offer, preimage, spontaneous, env),
            Err(reason) => self.decline(offer, reason),
        }
    }

    /// Decides for the payment: the preimage may leave.
    pub(super) fn take_payment(
        &mut self,
        offer: &Offer,
        preimage: Preimage,
        spontaneous: bool,
        env: &Env<'_>,
    ) {
        let received = Received {
            payment_hash: offer.payment_hash,
            amount_msat: offer.amount_msat,
            preimage,
            spontaneous,
            now_ms: env.now_ms,
        };
        let held = Held::Fulfilled { preimage };
        self.record(&Entry::Decided { key: offer.key, held, received: Some(received) });
    }

    /// The preimage of an invoice of this wallet's.
    pub(super) fn preimage_of(&self, hash: &PaymentHash) -> Option<Preimage> {
        let invoice = self.state.invoices.get(hash)?;
        Some(invoice_preimage(self.signer.as_ref(), &invoice.salt))
    }

    /// The preimage, if hash, secret, amount and expiry are right (BOLT 4, "Failure Messages" of the final node).
    fn judge_payment(&self, offer: &Offer, env: &Env<'_>) -> Result<(Preimage, bool), FailureReason> {
        const WRONG: FailureReason = FailureReason::IncorrectPaymentDetails;
        let binding = PayloadBinding {
            payment_hash: offer.payment_hash,
            amount_msat: offer.amount_msat,
            cltv_expiry: offer.cltv_expiry,
        };
        let payload = open_payload(self.signer.as_ref(), &offer.payload, &binding).map_err(|_| WRONG)?;
        // One HTLC carries the whole payment: parts are not collected.
        if payload.total_msat != offer.amount_msat || offer.amount_msat.is_zero() || offer.forward.is_some() {
            return Err(WRONG);
        }
        let (preimage, spontaneous) = match payload.content {
            PayloadContent::InvoiceSecret(secret) => {
                let invoice = self.state.invoices.get(&offer.payment_hash).ok_or(WRONG)?;
                if secret != invoice_secret(self.signer.as_ref(), &invoice.salt) {
                    return Err(WRONG);
                }
                if invoice.paid.is_some() && !bug::is(Bug::InvoicePaidTwice) {
                    return Err(FailureReason::AlreadyPaid);
                }
                if invoice.hold == Some(HoldState::Cancelled) {
                    return Err(WRONG);
                }
                if invoice.expires_ms <= env.now_ms {
                    return Err(FailureReason::InvoiceExpired);
                }
                if let Some(asked) = invoice.amount_msat {
                    // At most twice of what was asked, so that nobody gives away a fortune by mistake (BOLT 4).
                    let most = asked.saturating_add(asked);
                    if offer.amount_msat < asked || offer.amount_msat > most {
                        return Err(WRONG);
                    }
                }
                (invoice_preimage(self.signer.as_ref(), &invoice.salt), false)
            }
            PayloadContent::Spontaneous(preimage) => {
                if !env.settings.accept_spontaneous {
                    return Err(WRONG);
                }
                (preimage, true)
            }
        };
        if preimage.payment_hash() != offer.payment_hash {
            return Err(WRONG);
        }
        self.judge_expiry(offer, env)?;
        Ok((preimage, spontaneous))
    }

    fn judge_expiry(&self, offer: &Offer, env: &Env<'_>) -> Result<(), FailureReason> {
        let least = env.height.saturating_add(env.settings.min_final_expiry_blocks);
        if offer.cltv_expiry < least { Err(FailureReason::ExpiryTooSoon) } else { Ok(()) }
    }

    fn decide_tick(&mut self, offer: &Offer, id: &StreamId, index: u64, env: &Env<'_>) {
        if let Err(reason) = self.judge_tick(offer, id, index, env) {
            return self.decline(offer, reason);
        }
        let key = offer.key;
        let run =
            TickRun { incoming: key.incoming, attempt: key.attempt, htlc_id: key.htlc_id, index, count: 1 };
        self.step(&Entry::TicksReceived { id: *id, runs: vec![run], now_ms: env.now_ms });
        let runs = self.pending.received.entry(*id).or_default();
        if !runs.last_mut().is_some_and(|last| last.extend(&key, index)) {
            runs.push(run);
        }
    }

    /// Whether this tick may be opened: right hash, amount and expiry, and an index never opened before.
    fn judge_tick(
        &mut self,
        offer: &Offer,
        id: &StreamId,
        index: u64,
        env: &Env<'_>,
    ) -> Result<(), FailureReason> {
        const REFUSED: FailureReason = FailureReason::StreamRefused;
        let stream = self.state.payees.get(id).ok_or(REFUSED)?;
        let fits = stream.ended.is_none()
            && stream.received < stream.terms.ticks
            && offer.amount_msat == stream.terms.amount_msat
            && offer.forward.is_none()
            && index < 1 << crate::limits::STREAM_INDEX_BITS
            && !stream.seen.contains(index);
        if !fits {
            return Err(REFUSED);
        }
        self.judge_expiry(offer, env)?;
        let key = self.stream_key(id).ok_or(REFUSED)?;
        if key.payment_hash(index) != offer.payment_hash {
            return Err(FailureReason::IncorrectPaymentDetails);
        }
        Ok(())
    }
}
