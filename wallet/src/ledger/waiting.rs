//! Hold invoices: what pays one waits until its maker says what is to become of it.
//!
//! Recorded is which HTLC waits (judged good once, it stays good) and the decision, in one batch with what it does. The
//! HTLC's content comes again from its channel after a restart. Nothing waits so long that it could not be claimed on the
//! chain any more: then it fails by itself.

use channel::failure::FailureReason;
use channel::forward::{ForwardKey, Offer};
use channel::ids::OwnerId;
use channel::message::PaymentHash;

use super::entry::Entry;
use super::state::HoldState;
use super::{Env, Ledger, LedgerRefusal};
use crate::limits::HOLD_MARGIN_BLOCKS;

impl Ledger {
    /// Whether this very HTLC was found good before, and waits.
    pub(super) fn waits_already(&self, offer: &Offer) -> bool {
        match self.state.invoices.get(&offer.payment_hash).and_then(|invoice| invoice.hold) {
            Some(HoldState::Waiting { key, .. }) => key == offer.key,
            Some(HoldState::Undecided | HoldState::Settled | HoldState::Cancelled) | None => false,
        }
    }

    /// Whether this good HTLC has to wait for its invoice's maker.
    pub(super) fn has_to_wait(&self, payment_hash: &PaymentHash) -> bool {
        match self.state.invoices.get(payment_hash).and_then(|invoice| invoice.hold) {
            Some(HoldState::Undecided | HoldState::Waiting { .. }) => true,
            Some(HoldState::Settled | HoldState::Cancelled) | None => false,
        }
    }

    /// Lets an HTLC wait that was judged to be good. One HTLC pays an invoice: another one is declined.
    pub(super) fn hold(&mut self, offer: &Offer, env: &Env<'_>) {
        let hash = offer.payment_hash;
        let before = self.state.invoices.get(&hash).and_then(|invoice| invoice.hold);
        let occupied = match before {
            Some(HoldState::Waiting { key, cltv_expiry }) => key != offer.key && cltv_expiry > env.height,
            Some(HoldState::Undecided | HoldState::Settled | HoldState::Cancelled) | None => false,
        };
        if occupied {
            return self.decline(offer, FailureReason::AlreadyPaid);
        }
        if is_late(offer, env.height) {
            if self.waits_already(offer) {
                self.record(&Entry::HoldDecided { payment_hash: hash, state: HoldState::Undecided });
            }
            return self.decline(offer, FailureReason::ExpiryTooSoon);
        }
        if !self.waits_already(offer) {
            let state = HoldState::Waiting { key: offer.key, cltv_expiry: offer.cltv_expiry };
            self.record(&Entry::HoldDecided { payment_hash: hash, state });
        }
        self.waiting.insert(offer.key, offer.clone());
    }

    /// The HTLCs that wait, with the height at which each fails by itself.
    pub fn waiting(&self) -> impl Iterator<Item = (&Offer, u32)> {
        self.waiting.values().map(|offer| (offer, offer.cltv_expiry.saturating_sub(HOLD_MARGIN_BLOCKS)))
    }

    /// Takes the payment that waits. Asking again changes nothing.
    pub fn settle_invoice(&mut self, hash: PaymentHash, env: &Env<'_>) -> Result<(), LedgerRefusal> {
        self.now_ms = env.now_ms;
        match self.hold_state(&hash)? {
            HoldState::Settled => return Ok(()),
            HoldState::Cancelled => return Err(LedgerRefusal::InvoiceCancelled),
            HoldState::Undecided | HoldState::Waiting { .. } => {}
        }
        let Some(offer) = self.take_waiting(&hash) else { return Err(LedgerRefusal::NothingHeld) };
        if is_late(&offer, env.height) {
            self.give_up(&offer);
            return Err(LedgerRefusal::NothingHeld);
        }
        self.record(&Entry::HoldDecided { payment_hash: hash, state: HoldState::Settled });
        match self.preimage_of(&hash) {
            Some(preimage) => self.take_payment(&offer, preimage, false, env),
            None => self.decline(&offer, FailureReason::IncorrectPaymentDetails),
        }
        self.answer(offer.key);
        Ok(())
    }

    /// Refuses the payment that waits, and every later one. Asking again changes nothing.
    pub fn cancel_invoice(&mut self, hash: PaymentHash, env: &Env<'_>) -> Result<(), LedgerRefusal> {
        self.now_ms = env.now_ms;
        match self.hold_state(&hash)? {
            HoldState::Cancelled => return Ok(()),
            HoldState::Settled => return Err(LedgerRefusal::InvoiceSettled),
            HoldState::Undecided | HoldState::Waiting { .. } => {}
        }
        self.record(&Entry::HoldDecided { payment_hash: hash, state: HoldState::Cancelled });
        if let Some(offer) = self.take_waiting(&hash) {
            self.decline(&offer, FailureReason::IncorrectPaymentDetails);
            self.answer(offer.key);
        }
        Ok(())
    }

    /// Fails what waited too long. For the host to call whenever the height may have changed.
    pub fn review_waiting(&mut self, env: &Env<'_>) {
        self.now_ms = env.now_ms;
        let late = |offer: &&Offer| is_late(offer, env.height);
        let late: Vec<ForwardKey> = self.waiting.values().filter(late).map(|offer| offer.key).collect();
        for key in late {
            if let Some(offer) = self.waiting.remove(&key) {
                tracing::warn!(payment_hash = %offer.payment_hash, "a held payment was neither settled nor cancelled in time");
                self.give_up(&offer);
            }
        }
    }

    /// A channel is no more, nor is what it offered and nobody has answered: its funding was replaced. Others may pay those
    /// invoices.
    pub fn channel_ended(&mut self, owner: OwnerId, env: &Env<'_>) {
        self.now_ms = env.now_ms;
        let gone = self.waiting.values().filter(|offer| offer.key.incoming == owner);
        let gone: Vec<(ForwardKey, PaymentHash)> =
            gone.map(|offer| (offer.key, offer.payment_hash)).collect();
        for (key, payment_hash) in gone {
            self.waiting.remove(&key);
            tracing::warn!(%payment_hash, "a held payment is void, and so is its channel");
            self.record(&Entry::HoldDecided { payment_hash, state: HoldState::Undecided });
        }
    }

    fn give_up(&mut self, offer: &Offer) {
        let undecided = Entry::HoldDecided { payment_hash: offer.payment_hash, state: HoldState::Undecided };
        self.record(&undecided);
        self.decline(offer, FailureReason::TimedOut);
        self.answer(offer.key);
    }

    fn hold_state(&self, hash: &PaymentHash) -> Result<HoldState, LedgerRefusal> {
        let invoice = self.state.invoices.get(hash).ok_or(LedgerRefusal::UnknownInvoice)?;
        invoice.hold.ok_or(LedgerRefusal::NotHeld)
    }

    fn take_waiting(&mut self, hash: &PaymentHash) -> Option<Offer> {
        let key = self.waiting.values().find(|offer| offer.payment_hash == *hash)?.key;
        self.waiting.remove(&key)
    }
}

/// Too late for a claim on the chain, should the hub not take the preimage.
fn is_late(offer: &Offer, height: u32) -> bool {
    offer.cltv_expiry <= height.saturating_add(HOLD_MARGIN_BLOCKS)
}
