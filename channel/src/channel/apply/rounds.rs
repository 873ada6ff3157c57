//! Commitment rounds: signatures and revocations, which move all HTLCs that wait for them.

use super::super::books::Entry;
use super::super::htlc::{HtlcState, Htlcs, Next, Offered, Received, Removal, Step, Which};
use super::super::price::HtlcEnd;
use super::super::state::{LastSent, OwnUpdate, Place, State};
use super::Out;
use crate::amount::Msat;
use crate::bug::{self, Bug};
use crate::commitment::CommitmentSignatures;
use crate::effect::{Effect, Report, ToSend};
use crate::failure::FailureReason;
use crate::forward::{ForwardKey, ForwardResult, Offer, RouteChoice};
use crate::ids::OwnerId;
use crate::keys::Point;
use crate::message::{Recipient, UpdateAddHtlc};
use crate::parameters::Side;
use crate::shachain::CommitmentSecret;

const MOVING: &str = "what moves is live";
const DECIDED: &str = "an HTLC on its way out was decided";

impl State {
    /// Signs everything pending into the counterparty's next commitment. Offers get their ids only now.
    pub(super) fn sign_now(&mut self, dropped: &[u32], out: &mut Out<'_>) {
        self.drop_late_offers(dropped, out);
        if !self.has_something_to_sign() {
            return;
        }
        let stashed = self.htlcs.specs(Side::Counterparty, Which::latest);
        self.updates.signed.clear();
        self.updates.signed.extend(self.updates.unsigned.drain(..).map(OwnUpdate::Remove));
        self.step(Side::Holder, Act::Signs, out);
        for offer in std::mem::take(&mut self.updates.queued) {
            self.take_up(offer, out);
        }
        self.books.counterparty.sign();
        self.updates.owed = 0;
        self.updates.last_sent = LastSent::Commitment;
        let their = self.their_mut();
        their.to_be_revoked = stashed;
        their.number += u64::from(!bug::is(Bug::CommitmentNumberReused));
        their.awaiting_revocation = true;
        let number = their.number;
        self.send(ToSend::CommitmentSigned { number }, out);
    }

    /// Takes the offers at these positions out of the queue: they became too late.
    pub(super) fn drop_late_offers(&mut self, dropped: &[u32], out: &mut Out<'_>) {
        if dropped.is_empty() {
            return;
        }
        let queued = std::mem::take(&mut self.updates.queued);
        let mut dropped = dropped.iter().copied().peekable();
        for (position, offer) in (0u32..).zip(queued) {
            if dropped.next_if_eq(&position).is_some() {
                self.withdraw(&offer);
                self.offer_failed(offer.key, FailureReason::TimedOut, out);
            } else {
                self.updates.queued.push(offer);
            }
        }
    }

    /// Gives an offer the next id and puts it into the commitment that is being signed.
    fn take_up(&mut self, offer: Offer, out: &mut Out<'_>) {
        let id = self.htlcs.next_offered_id;
        let amount_msat = self.keep_part(id, &offer);
        let trimmed = self.is_trimmed(amount_msat);
        self.htlcs.index.forget_queued(offer.sign_by_height);
        if let Some(forwarded) = self.forwards.get_mut(&(offer.key.incoming, offer.key.htlc_id)) {
            forwarded.place = Place::Live(id);
        }
        self.htlcs.insert_offered(Offered {
            state: HtlcState::AddCommitted,
            trimmed,
            add: UpdateAddHtlc {
                id,
                amount_msat,
                payment_hash: offer.payment_hash,
                cltv_expiry: offer.cltv_expiry,
                recipient: offer.recipient,
                forward: offer.forward,
                payload: offer.payload,
            },
            key: offer.key,
            removal: None,
            given_up: false,
        });
        self.updates.signed.push(OwnUpdate::Add(id));
        self.send(ToSend::AddHtlc { id }, out);
    }

    /// Keeps what the price takes of an offer, which was counted with its whole amount while it waited. Answers what the
    /// HTLC is for.
    fn keep_part(&mut self, id: u64, offer: &Offer) -> Msat {
        let (whole, part) = (offer.amount_msat, self.part_to_keep(offer));
        let Some(amount) = whole.checked_sub(part).filter(|_| !part.is_zero()) else { return whole };
        self.hold_part(id, part);
        let (was_trimmed, trimmed) = (self.is_trimmed(whole), self.is_trimmed(amount));
        self.books.counterparty.withdraw(Entry { offerer: Side::Holder, amount: whole });
        self.books.counterparty.enter(Entry { offerer: Side::Holder, amount });
        self.htlcs.index.land(Side::Holder, whole, was_trimmed);
        self.htlcs.index.end_exposure(whole, was_trimmed);
        self.htlcs.index.mention(Side::Holder, amount, trimmed);
        amount
    }

    /// `commitment_signed` of theirs, and our revocation of the commitment before: one step, because nothing
    /// lies between.
    pub(super) fn commitment_received(
        &mut self,
        signatures: &CommitmentSignatures,
        sealed: &[u8],
        out: &mut Out<'_>,
    ) {
        let revoked = self.holder.number;
        self.holder.number += 1;
        match &mut self.holder.signatures {
            Some(latest) => latest.clone_from(signatures),
            None => self.holder.signatures = Some(signatures.clone()),
        }
        self.sealed.clear();
        self.sealed.extend_from_slice(sealed);
        self.updates.expected = 0;
        self.step(Side::Counterparty, Act::Signs, out);
        self.books.holder.sign();
        self.step(Side::Holder, Act::Revokes, out);
        self.updates.last_sent = LastSent::Revocation;
        self.send(ToSend::RevokeAndAck { number: revoked }, out);
    }

    /// `revoke_and_ack` of theirs. Received HTLCs become irrevocable and go where the choices say.
    pub(super) fn revocation_received(
        &mut self,
        secret: &CommitmentSecret,
        next_point: &Point,
        routes: &[RouteChoice],
        out: &mut Out<'_>,
    ) {
        let their = self.their_mut();
        their.secrets.insert_checked(*secret);
        their.unrevoked_point = their.next_point;
        their.next_point = *next_point;
        their.awaiting_revocation = false;
        let number = their.number.saturating_sub(1);
        let htlcs = std::mem::take(&mut their.to_be_revoked);
        if !htlcs.is_empty() {
            out.push(Effect::LogRevoked { number, htlcs });
        }
        self.updates.signed.clear();

        let mut choices = routes.iter();
        let waiting = self.becoming_irrevocable().collect::<Vec<_>>();
        self.step(Side::Counterparty, Act::Revokes, out);
        for id in waiting {
            let choice = choices.next().expect("check made a choice for each");
            self.received_irrevocable(id, *choice, out);
        }
    }

    /// The received HTLCs that the counterparty's next revocation makes irrevocable, in the order of their
    /// choices.
    pub(in super::super) fn becoming_irrevocable(&self) -> impl Iterator<Item = u64> + '_ {
        self.htlcs.moving_received.iter().copied().filter(|id| {
            self.htlcs.received.get(id).is_some_and(|htlc| htlc.state == HtlcState::AddAckCommitted)
        })
    }

    /// Moves every HTLC that waits for this act of this side. In the commitment that changes, removals come
    /// before the adds that may spend what they free: a revocation of ours frees what we offered, one of
    /// theirs what they offered.
    fn step(&mut self, actor: Side, act: Act, out: &mut Out<'_>) {
        let (offered_step, received_step) = act.steps(actor);
        match actor {
            Side::Holder => {
                self.step_all_offered(offered_step, out);
                self.step_all_received(received_step, out);
            }
            Side::Counterparty => {
                self.step_all_received(received_step, out);
                self.step_all_offered(offered_step, out);
            }
        }
    }

    fn step_all_offered(&mut self, step: Step, out: &mut Out<'_>) {
        let mut moving = std::mem::take(&mut self.htlcs.moving_offered);
        moving.retain(|id| self.step_offered(*id, step, out));
        // Nothing is mentioned while a step is taken, so the list is still empty.
        self.htlcs.moving_offered = moving;
    }

    fn step_all_received(&mut self, step: Step, out: &mut Out<'_>) {
        let mut moving = std::mem::take(&mut self.htlcs.moving_received);
        moving.retain(|id| self.step_received(*id, step, out));
        self.htlcs.moving_received = moving;
    }

    /// Whether the HTLC still moves afterwards.
    fn step_offered(&mut self, id: u64, step: Step, out: &mut Out<'_>) -> bool {
        let Htlcs { offered, index, .. } = &mut self.htlcs;
        let htlc = offered.get_mut(&id).expect(MOVING);
        let entry = Entry { offerer: Side::Holder, amount: htlc.add.amount_msat };
        match htlc.state.next(step) {
            Next::Stays => return true,
            Next::Gone => {
                self.offered_gone(id, out);
                return false;
            }
            Next::To(state) => htlc.state = state,
        }
        match htlc.state {
            // The counterparty has it for sure: it is never sent again, so its payload is not needed any more.
            HtlcState::AddRevoked => {
                htlc.add.payload = Vec::new();
                self.books.holder.enter(entry);
                self.updates.expected += 1;
            }
            HtlcState::RemoveRevoked => {
                index.land(Side::Holder, entry.amount, htlc.trimmed);
                self.books.counterparty.leave(entry, htlc.removal.as_ref().expect(DECIDED));
                self.updates.owed += 1;
            }
            HtlcState::AddSent
            | HtlcState::AddCommitted
            | HtlcState::AddAckCommitted
            | HtlcState::Irrevocable
            | HtlcState::RemoveSent
            | HtlcState::RemoveCommitted
            | HtlcState::RemoveAckCommitted => {}
        }
        htlc.state != HtlcState::Irrevocable
    }

    /// Whether the HTLC still moves afterwards.
    fn step_received(&mut self, id: u64, step: Step, out: &mut Out<'_>) -> bool {
        let Htlcs { received, index, .. } = &mut self.htlcs;
        let htlc = received.get_mut(&id).expect(MOVING);
        let entry = Entry { offerer: Side::Counterparty, amount: htlc.add.amount_msat };
        match htlc.state.next(step) {
            Next::Stays => return true,
            Next::Gone => {
                self.received_gone(id, out);
                return false;
            }
            Next::To(state) => htlc.state = state,
        }
        match htlc.state {
            HtlcState::AddRevoked => {
                self.books.counterparty.enter(entry);
                self.updates.owed += 1;
            }
            HtlcState::RemoveRevoked => {
                index.land(Side::Counterparty, entry.amount, htlc.trimmed);
                self.books.holder.leave(entry, htlc.removal.as_ref().expect(DECIDED));
                self.updates.expected += 1;
            }
            HtlcState::AddSent
            | HtlcState::AddCommitted
            | HtlcState::AddAckCommitted
            | HtlcState::Irrevocable
            | HtlcState::RemoveSent
            | HtlcState::RemoveCommitted
            | HtlcState::RemoveAckCommitted => {}
        }
        htlc.state != HtlcState::Irrevocable
    }

    /// An HTLC of ours is in no commitment any more: only now is its failure final.
    fn offered_gone(&mut self, id: u64, out: &mut Out<'_>) {
        let htlc = self.htlcs.remove_offered(id).expect(MOVING);
        match htlc.removal.as_ref().expect(DECIDED) {
            // Told when the preimage came.
            Removal::Fulfilled(_) => self.pay_part(Side::Holder, &htlc.add, out),
            Removal::Failed(reason) => {
                self.end_part(Side::Holder, id, HtlcEnd::Failed);
                self.resolve(htlc.key, id, ForwardResult::Failed { reason: *reason }, out);
            }
        }
        self.end_forward(htlc.key, id);
    }

    /// An HTLC of theirs is in no commitment any more.
    fn received_gone(&mut self, id: u64, out: &mut Out<'_>) {
        let htlc = self.htlcs.remove_received(id).expect(MOVING);
        match htlc.removal.as_ref().expect(DECIDED) {
            Removal::Fulfilled(_) => self.pay_part(Side::Counterparty, &htlc.add, out),
            Removal::Failed(_) => {
                self.end_part(Side::Counterparty, id, HtlcEnd::Failed);
            }
        }
        out.report(self.received_report(htlc));
    }

    /// What was kept of a fulfilled HTLC is paid for good.
    fn pay_part(&mut self, offerer: Side, add: &UpdateAddHtlc, out: &mut Out<'_>) {
        let amount_msat = self.end_part(offerer, add.id, HtlcEnd::Fulfilled);
        if !amount_msat.is_zero() {
            out.report(Report::PricePaid { amount_msat, unpaid_msat: self.price_unpaid() });
        }
    }

    /// The attempt and the owner that an HTLC went to last: if it was refused without asking anybody, the attempt 0 of
    /// nobody but this channel.
    pub(super) fn last_choice(&self, htlc: &Received) -> (u32, OwnerId) {
        htlc.route.as_ref().map_or((0, self.names.owner), |route| (route.attempt, route.to))
    }

    pub(super) fn received_report(&self, htlc: Received) -> Report {
        let (attempt, to) = self.last_choice(&htlc);
        let key = ForwardKey { incoming: self.names.owner, htlc_id: htlc.add.id, attempt };
        let UpdateAddHtlc { amount_msat, payment_hash, .. } = htlc.add;
        let stream = stream_of(&htlc.add.recipient);
        match htlc.removal.expect(DECIDED) {
            Removal::Fulfilled(_) => {
                let passed_on = htlc.add.forward.map_or(amount_msat, |forward| forward.amount_msat);
                let fee_msat = amount_msat.saturating_sub(passed_on);
                Report::ForwardSettled { key, to, payment_hash, amount_msat, fee_msat, stream }
            }
            Removal::Failed(reason) => {
                Report::ForwardFailed { key, payment_hash, amount_msat, reason, stream }
            }
        }
    }
}

/// What one side does to commitments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    /// Signs the other side's next commitment.
    Signs,
    /// Revokes its own previous commitment.
    Revokes,
}

impl Act {
    /// What the act is to HTLCs that we offered, and to those that we received.
    const fn steps(self, actor: Side) -> (Step, Step) {
        match (self, actor) {
            (Self::Signs, Side::Holder) => (Step::OffererSigns, Step::ReceiverSigns),
            (Self::Signs, Side::Counterparty) => (Step::ReceiverSigns, Step::OffererSigns),
            (Self::Revokes, Side::Holder) => (Step::OffererRevokes, Step::ReceiverRevokes),
            (Self::Revokes, Side::Counterparty) => (Step::ReceiverRevokes, Step::OffererRevokes),
        }
    }
}

/// The stream an HTLC is a tick of.
pub(super) fn stream_of(recipient: &Recipient) -> Option<crate::ids::StreamId> {
    match recipient {
        Recipient::Stream { id, .. } => Some(*id),
        Recipient::Node(_) => None,
    }
}
