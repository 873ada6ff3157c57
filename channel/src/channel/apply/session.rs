//! Connections: what a disconnect forgets, and what a reestablish sends again.

use super::super::books::Entry;
use super::super::htlc::HtlcState;
use super::super::input::Missing;
use super::super::price::HtlcEnd;
use super::super::state::{Connection, LastSent, OwnUpdate, Phase, State};
use super::Out;
use super::updates::removal_message;
use crate::bug::{self, Bug};
use crate::effect::{Effect, OpeningFailure, Report, ToSend};
use crate::error::FailureCause;
use crate::event::Role;
use crate::failure::FailureReason;
use crate::ids::SessionId;
use crate::message::{Message, Shutdown};
use crate::parameters::Side;

impl State {
    /// A session begins: both sides tell where they stand. Sent before the other's word is known, so that one
    /// that lost its data gets what it needs.
    pub(super) fn connected(&mut self, session: SessionId, out: &mut Out<'_>) {
        self.connection = Connection::Reestablishing(session);
        self.closing.proposed_in_session = false;
        if let Phase::Failed { cause } = &self.phase
            && cause.may_publish()
        {
            // Before it hears that the channel failed, the counterparty learns what it may have lost: were its data old, it
            // would answer the failure by publishing what is revoked.
            out.push(Effect::Send(self.own_reestablish()));
        }
        out.push(Effect::Send(match &self.phase {
            Phase::Failed { cause } if cause.may_publish() => self.channel_error(),
            // Nothing to compare: the counterparty is asked to publish.
            Phase::Failed { cause: FailureCause::DataLost } => self.channel_error(),
            Phase::Closed { .. } | Phase::Aborted { .. } => self.channel_error(),
            Phase::Proposed
            | Phase::Building
            | Phase::FundingSent
            | Phase::Accepted
            | Phase::AwaitingConfirmation
            | Phase::Open
            | Phase::Frozen
            | Phase::Closing { .. }
            | Phase::Failed { .. } => self.own_reestablish(),
        }));
    }

    fn own_reestablish(&self) -> ToSend {
        ToSend::Reestablish {
            next_commitment_number: self.holder.number + 1,
            next_revocation_number: self.counterparty.as_ref().map_or(0, |their| their.secrets.count()),
        }
    }

    /// What the counterparty is told of a channel that is over.
    pub(in super::super) fn channel_error(&self) -> ToSend {
        let (text, cannot_publish) = match &self.phase {
            Phase::Failed { cause } => (cause.to_string(), cause.is_data_loss()),
            Phase::Closed { .. } => ("the channel is closed".to_owned(), false),
            Phase::Proposed
            | Phase::Building
            | Phase::FundingSent
            | Phase::Accepted
            | Phase::AwaitingConfirmation
            | Phase::Open
            | Phase::Frozen
            | Phase::Closing { .. }
            | Phase::Aborted { .. } => ("the opening ended".to_owned(), false),
        };
        ToSend::Ready(Box::new(Message::ChannelError { text, cannot_publish }))
    }

    /// The session is gone: what was not committed is forgotten on both sides (BOLT 2, "Message
    /// Retransmission"). Our own removals stay and are sent again.
    pub(super) fn disconnected(&mut self, out: &mut Out<'_>) {
        self.connection = Connection::Offline;
        if bug::is(Bug::FreezeForgotten) && self.phase == Phase::Frozen {
            (self.phase, self.closing.frozen) = (Phase::Open, None);
        }
        if self.is_opening() {
            self.opening_ended(OpeningFailure::Disconnected, out);
            return;
        }
        self.withdraw_all(FailureReason::ChannelUnavailable, out);
        self.forget_their_adds();
        self.forget_their_removals();
    }

    fn forget_their_adds(&mut self) {
        let mut forgotten = Vec::new();
        let htlcs = &mut self.htlcs;
        let mut moving = std::mem::take(&mut htlcs.moving_received);
        moving.retain(|id| htlcs.received.get(id).is_some_and(|htlc| htlc.state != HtlcState::AddSent));
        htlcs.moving_received = moving;
        // Ids rise, so the adds not yet committed are the last.
        while let Some((&id, htlc)) = htlcs.received.last_key_value() {
            if htlc.state != HtlcState::AddSent {
                break;
            }
            let (amount, trimmed) = (htlc.add.amount_msat, htlc.trimmed);
            htlcs.index.land(Side::Counterparty, amount, trimmed);
            htlcs.remove_received(id);
            htlcs.next_received_id = id;
            self.books.holder.withdraw(Entry { offerer: Side::Counterparty, amount });
            self.updates.expected -= 1;
            forgotten.push(id);
        }
        for id in forgotten {
            self.end_part(Side::Counterparty, id, HtlcEnd::Failed);
        }
    }

    fn forget_their_removals(&mut self) {
        let mut moving = std::mem::take(&mut self.htlcs.moving_offered);
        moving.retain(|id| {
            let Some(htlc) = self.htlcs.offered.get_mut(id) else { return false };
            if htlc.state != HtlcState::RemoveSent {
                return true;
            }
            htlc.state = HtlcState::Irrevocable;
            let amount = htlc.add.amount_msat;
            if let Some(removal) = htlc.removal.take() {
                self.books.holder.restore(Entry { offerer: Side::Holder, amount }, &removal);
            }
            self.updates.expected -= 1;
            false
        });
        self.htlcs.moving_offered = moving;
    }

    /// Both sides know where the other stands: what it missed is sent again, in the order it was first sent.
    pub(super) fn reestablished(&mut self, missing: Missing, out: &mut Out<'_>) {
        let (Connection::Reestablishing(session) | Connection::Online(session)) = self.connection else {
            return;
        };
        self.connection = Connection::Online(session);
        let ready = self.funding.as_ref().is_some_and(|funding| funding.holder_ready);
        if missing.ready && ready {
            self.send_message(Message::ChannelReady, out);
        }
        match self.updates.last_sent {
            LastSent::Revocation => {
                self.resend_commitment(missing, out);
                self.resend_revocation(missing, out);
            }
            LastSent::Commitment => {
                self.resend_revocation(missing, out);
                self.resend_commitment(missing, out);
            }
        }
        for id in &self.updates.unsigned {
            self.resend_removal(*id, out);
        }
        self.resend_closing(missing, out);
        out.report(Report::Reestablished);
    }

    fn resend_revocation(&self, missing: Missing, out: &mut Out<'_>) {
        if missing.revocation {
            self.send(ToSend::RevokeAndAck { number: self.holder.number.saturating_sub(1) }, out);
        }
    }

    fn resend_commitment(&self, missing: Missing, out: &mut Out<'_>) {
        if !missing.commitment {
            return;
        }
        for update in &self.updates.signed {
            match update {
                OwnUpdate::Add(id) => self.send(ToSend::AddHtlc { id: *id }, out),
                OwnUpdate::Remove(id) => self.resend_removal(*id, out),
            }
        }
        self.send(ToSend::CommitmentSigned { number: self.their().number }, out);
    }

    fn resend_removal(&self, id: u64, out: &mut Out<'_>) {
        let removal = self.htlcs.received.get(&id).and_then(|htlc| htlc.removal.as_ref());
        if let Some(removal) = removal {
            self.send(removal_message(id, removal), out);
        }
    }

    /// Announces the close again. What the hub proposed in earlier sessions is void, unless the wallet froze
    /// under it: then its ticket comes next.
    fn resend_closing(&mut self, missing: Missing, out: &mut Out<'_>) {
        if let Some(script) = self.shutdowns.holder.clone() {
            self.send_message(Message::Shutdown(Shutdown { script }), out);
        }
        match self.names.role {
            Role::Wallet => {
                if self.closing.frozen.is_some() {
                    self.send(ToSend::Ticket, out);
                }
            }
            Role::Hub => {
                self.closing.proposed.clear();
                self.closing.proposed.extend(missing.frozen);
                self.closing.proposed_in_session = missing.frozen.is_some();
                if self.closing.frozen.is_some() {
                    // The wallet may have missed the batch it is in: the settlement hands it over again.
                    out.push(Effect::TicketReady);
                }
            }
        }
    }

    /// We lost data. Nothing is published by us, or the counterparty could take everything.
    pub(super) fn proven_behind(&mut self, number: u64, out: &mut Out<'_>) {
        self.failed(FailureCause::Behind { number }, out);
    }
}
