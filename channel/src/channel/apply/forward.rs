//! The four steps of a forward, as this channel takes them: as the incoming owner A for HTLCs it received, as
//! the outgoing owner B for those it offers.

use super::super::books::Entry;
use super::super::htlc::{Htlcs, Removal, Route};
use super::super::state::{Forwarded, Phase, Place, State};
use super::Out;
use super::rounds::stream_of;
use crate::amount::Msat;
use crate::effect::{Effect, Report};
use crate::failure::FailureReason;
use crate::forward::{ForwardKey, ForwardResult, Internal, Offer, RouteChoice};
use crate::ids::OwnerId;
use crate::message::UpdateAddHtlc;
use crate::parameters::Side;

const SEEN: &str = "check has seen the HTLC";

impl State {
    // --- As B ---------------------------------------------------------------------------------------------------

    /// Takes an offer: it enters the counterparty's next commitment and is signed with it.
    pub(super) fn offered(&mut self, offer: &Offer) {
        let amount = offer.amount_msat;
        let trimmed = self.is_trimmed(amount);
        self.books.counterparty.enter(Entry { offerer: Side::Holder, amount });
        self.htlcs.index.mention(Side::Holder, amount, trimmed);
        self.htlcs.index.note_queued(offer.sign_by_height);
        // A newer attempt acknowledges the failure of the one before.
        self.forwards.insert(
            (offer.key.incoming, offer.key.htlc_id),
            Forwarded { attempt: offer.key.attempt, place: Place::Queued, result: None, acknowledged: false },
        );
        self.updates.queued.push(offer.clone());
    }

    /// Undoes [`State::offered`] for an offer that was never signed. The caller takes it out of the queue.
    pub(super) fn withdraw(&mut self, offer: &Offer) {
        let amount = offer.amount_msat;
        let trimmed = self.is_trimmed(amount);
        self.books.counterparty.withdraw(Entry { offerer: Side::Holder, amount });
        self.htlcs.index.land(Side::Holder, amount, trimmed);
        self.htlcs.index.end_exposure(amount, trimmed);
        self.htlcs.index.forget_queued(offer.sign_by_height);
    }

    /// Fails every offer that was not signed: the channel does not serve any more.
    pub(super) fn withdraw_all(&mut self, reason: FailureReason, out: &mut Out<'_>) {
        for offer in std::mem::take(&mut self.updates.queued) {
            self.withdraw(&offer);
            self.offer_failed(offer.key, reason, out);
        }
    }

    /// A failure of an attempt that was never signed: durable at once.
    pub(super) fn offer_failed(&mut self, key: ForwardKey, reason: FailureReason, out: &mut Out<'_>) {
        let result = ForwardResult::Failed { reason };
        self.forwards.insert(
            (key.incoming, key.htlc_id),
            Forwarded { attempt: key.attempt, place: Place::Over, result: Some(result), acknowledged: false },
        );
        out.push(self.result_effect(key, result));
    }

    /// The HTLC with this id brought a result. The first of an attempt stands: a preimage that was told
    /// upstream is not taken back by a later failure.
    pub(super) fn resolve(&mut self, key: ForwardKey, id: u64, result: ForwardResult, out: &mut Out<'_>) {
        match self.forwards.get_mut(&(key.incoming, key.htlc_id)) {
            Some(forwarded) if forwarded.place == Place::Live(id) => {
                if forwarded.result.is_none() {
                    forwarded.result = Some(result);
                    out.push(self.result_effect(key, result));
                }
            }
            // Given up before. A preimage is told all the same: it counts as long as the incoming HTLC is open.
            Some(_) | None => match result {
                ForwardResult::Fulfilled { .. } => out.push(self.result_effect(key, result)),
                ForwardResult::Failed { .. } => {}
            },
        }
    }

    /// Trimmed HTLCs, or undecidable ones, are overdue: they fail upstream, before the incoming ones expire too and close
    /// *their* channels. They stay where they are, and the counterparty may still resolve them.
    pub(super) fn given_up(&mut self, ids: &[u64], out: &mut Out<'_>) {
        for id in ids {
            let Htlcs { offered, index, .. } = &mut self.htlcs;
            let htlc = offered.get_mut(id).expect(SEEN);
            htlc.given_up = true;
            index.forget_expiry(htlc.add.cltv_expiry);
            let key = htlc.key;
            self.resolve(key, *id, ForwardResult::Failed { reason: FailureReason::TimedOut }, out);
            self.end_forward(key, *id);
        }
        self.progress(out);
    }

    /// The HTLC with this id brings no further result.
    pub(super) fn end_forward(&mut self, key: ForwardKey, id: u64) {
        let forward = (key.incoming, key.htlc_id);
        if let Some(forwarded) = self.forwards.get_mut(&forward)
            && forwarded.place == Place::Live(id)
        {
            forwarded.place = Place::Over;
            if forwarded.acknowledged {
                self.forwards.remove(&forward);
            }
        }
    }

    /// The result of a key, for its incoming owner.
    pub(in super::super) fn result_effect(&self, key: ForwardKey, result: ForwardResult) -> Effect {
        let message = Internal::Result { key, from: self.names.owner, result };
        Effect::Internal { to: key.incoming, message }
    }

    /// A took the result: it may be forgotten, once no HTLC can bring it up again.
    pub(super) fn acknowledged(&mut self, key: &ForwardKey, out: &mut Out<'_>) {
        let forward = (key.incoming, key.htlc_id);
        let Some(forwarded) = self.forwards.get_mut(&forward) else { return };
        match forwarded.place {
            Place::Over => {
                self.forwards.remove(&forward);
                self.finish_if_done(out);
            }
            Place::Queued | Place::Live(_) => forwarded.acknowledged = true,
        }
    }

    // --- As A ---------------------------------------------------------------------------------------------------

    /// A received HTLC can no longer be taken back by its offerer alone: it is passed on, or failed.
    pub(super) fn received_irrevocable(&mut self, id: u64, choice: RouteChoice, out: &mut Out<'_>) {
        let htlc = self.htlcs.received.get_mut(&id).expect("it just moved");
        out.report(Report::HtlcReceived {
            htlc_id: id,
            payment_hash: htlc.add.payment_hash,
            amount_msat: htlc.add.amount_msat,
            stream: stream_of(&htlc.add.recipient),
        });
        match choice {
            RouteChoice::Offer { to, sign_by_height } => {
                htlc.route = Some(Route { attempt: 1, to, sign_by_height, tried: Vec::new() });
                self.offer_out(id, out);
            }
            RouteChoice::Fail { reason } => self.remove_received(id, Removal::Failed(reason), out),
        }
    }

    /// Emits (again) the offer of a received HTLC that was passed on and has no result.
    fn offer_out(&self, id: u64, out: &mut Out<'_>) {
        out.effects.extend(self.offer_effect(id));
    }

    /// The offer of a received HTLC that waits for its result.
    pub(in super::super) fn offer_effect(&self, id: u64) -> Option<Effect> {
        let htlc = self.htlcs.received.get(&id)?;
        let route = htlc.route.as_ref()?;
        if htlc.removal.is_some() {
            return None;
        }
        let key = ForwardKey { incoming: self.names.owner, htlc_id: id, attempt: route.attempt };
        let offer = offer_of(&htlc.add, self.part_of(Side::Counterparty, id), key, route.sign_by_height);
        Some(Effect::Internal { to: route.to, message: Internal::Offer(offer) })
    }

    /// Takes a result that counts, and acknowledges it.
    pub(super) fn result_taken(
        &mut self,
        key: &ForwardKey,
        from: OwnerId,
        result: &ForwardResult,
        next: Option<RouteChoice>,
        out: &mut Out<'_>,
    ) {
        let id = key.htlc_id;
        out.push(Effect::Internal { to: from, message: Internal::Ack { key: *key } });
        match (result, next) {
            (ForwardResult::Fulfilled { preimage }, _) => {
                // Perhaps from an earlier attempt than the current one: it is the one that was paid.
                let htlc = self.htlcs.received.get_mut(&id).expect(SEEN);
                if let Some(route) = &mut htlc.route {
                    (route.attempt, route.to) = (key.attempt, from);
                }
                self.remove_received(id, Removal::Fulfilled(*preimage), out);
            }
            (ForwardResult::Failed { .. }, Some(RouteChoice::Offer { to, sign_by_height })) => {
                let htlc = self.htlcs.received.get_mut(&id).expect(SEEN);
                let route = htlc.route.as_mut().expect("what has a result was passed on");
                route.tried.push(route.to);
                route.attempt += 1;
                route.to = to;
                route.sign_by_height = sign_by_height;
                self.offer_out(id, out);
            }
            (ForwardResult::Failed { .. }, Some(RouteChoice::Fail { reason })) => {
                self.remove_received(id, Removal::Failed(reason), out);
            }
            (ForwardResult::Failed { reason }, None) => {
                self.remove_received(id, Removal::Failed(*reason), out);
            }
        }
    }

    /// Whether removals still go through commitment rounds, now or after the next reestablish.
    pub(in super::super) fn may_update(&self) -> bool {
        match self.phase {
            Phase::Open => true,
            Phase::Proposed
            | Phase::Building
            | Phase::FundingSent
            | Phase::Accepted
            | Phase::AwaitingConfirmation
            | Phase::Frozen
            | Phase::Closing { .. }
            | Phase::Closed { .. }
            | Phase::Aborted { .. }
            | Phase::Failed { .. } => false,
        }
    }
}

/// What a received HTLC asks the next owner for: what its instruction says, or itself at the last hop. There the payer
/// paid also what was kept of it as a part of the channel's price.
fn offer_of(add: &UpdateAddHtlc, part: Msat, key: ForwardKey, sign_by_height: u32) -> Offer {
    let (amount_msat, cltv_expiry) = match add.forward {
        Some(forward) => (forward.amount_msat, forward.cltv_expiry),
        None => (add.amount_msat.saturating_add(part), add.cltv_expiry),
    };
    Offer {
        key,
        amount_msat,
        payment_hash: add.payment_hash,
        cltv_expiry,
        recipient: add.recipient.clone(),
        forward: None,
        payload: add.payload.clone(),
        sign_by_height,
    }
}
