//! Comparing states after a reconnection (BOLT 2, "Message Retransmission").

use super::{Verdict, decided, refused};
use crate::bug::{self, Bug};
use crate::channel::input::{Kind, Missing};
use crate::channel::state::{Connection, OwnUpdate};
use crate::channel::{Channel, Checked, Context};
use crate::effect::{Effect, Report};
use crate::error::{FailureCause, Refusal, Rejection, Violation};
use crate::event::Role;
use crate::limits::MAX_COMMITMENT_NUMBER;
use crate::message::Reestablish;

impl Channel {
    pub(super) fn check_reestablish(&self, theirs: &Reestablish, context: &Context<'_>) -> Verdict {
        if !self.has_commitments() {
            return refused(Refusal::UnexpectedMessage);
        }
        match self.state.connection {
            Connection::Reestablishing(_) => {}
            Connection::Online(_) => return refused(Refusal::AlreadyReestablished),
            Connection::Offline => return refused(Refusal::NotConnected),
        }
        let latest = self.state.holder.number;
        let next_revocation = theirs.next_revocation_number;
        self.check_last_secret(theirs, context)?;
        if let Some(number) = self.proven_behind_by(theirs, context) {
            return decided(Kind::ProvenBehind { number });
        }
        let their = self.state.their();
        let next_commitment = theirs.next_commitment_number;
        if next_commitment > their.number + 1 {
            let expected = their.number + 1;
            return Err(Violation::ReestablishFromFuture { number: next_commitment, expected }.into());
        }
        let missing = Missing {
            frozen: theirs.frozen,
            commitment: their.awaiting_revocation && next_commitment == their.number,
            revocation: next_revocation + 1 == latest,
            ready: next_commitment == 1 && latest == 0,
        };
        let has_commitments = next_commitment == their.number + 1 || missing.commitment;
        let has_revocations = next_revocation == latest || missing.revocation;
        if !has_commitments || !has_revocations {
            // It lost data, and got our essentials with our own reestablish. We stay as we are: only it can
            // decide to give up, and then ours is the commitment to publish.
            return Ok(Checked::Repeat(Effect::Report(Report::CounterpartyBehind)));
        }
        if let (Role::Hub, Some(terms)) = (self.state.names.role, &theirs.frozen)
            && !self.state.closing.proposed.contains(terms)
            && self.state.closing.frozen.is_none_or(|agreement| agreement.terms != *terms)
        {
            return Err(Violation::UnknownFrozenTerms.into());
        }
        if missing.commitment
            && self.has_expired_signed_add(context.height)
            && !bug::is(Bug::ExpiredAddSentAgain)
        {
            let cause = FailureCause::SignedAddExpired { height: context.height };
            return decided(Kind::Failed { cause });
        }
        decided(Kind::Reestablished { missing })
    }

    /// The commitment of ours that the counterparty proves revoked although we remember it as our latest, or
    /// none that late. Only who was given the secret of a commitment can know it: we lost what came after.
    pub(super) fn proven_behind_by(&self, theirs: &Reestablish, context: &Context<'_>) -> Option<u64> {
        let number = theirs.next_revocation_number.checked_sub(1)?;
        (number >= self.state.holder.number && self.check_last_secret(theirs, context).is_ok())
            .then_some(number)
    }

    /// The secret must be that of our commitment before the one it expects to see revoked next.
    fn check_last_secret(&self, theirs: &Reestablish, context: &Context<'_>) -> Result<(), Rejection> {
        let Some(number) = theirs.next_revocation_number.checked_sub(1) else { return Ok(()) };
        if number > MAX_COMMITMENT_NUMBER {
            return Err(Violation::WrongReestablishSecret { number }.into());
        }
        let point = context.signer.per_commitment_point(&self.state.names.key_id, number);
        if theirs.last_secret.opens(&point) {
            Ok(())
        } else {
            Err(Violation::WrongReestablishSecret { number }.into())
        }
    }

    /// An HTLC that may have never reached the counterparty must not start its life after its expiry. For a
    /// trimmed one the cap on dust exposure answers, and an honest counterparty just fails it.
    fn has_expired_signed_add(&self, height: u32) -> bool {
        self.state.updates.signed.iter().any(|update| match update {
            OwnUpdate::Add(id) => {
                let htlc = self.state.htlcs.offered.get(id);
                htlc.is_some_and(|htlc| !htlc.trimmed && htlc.add.cltv_expiry <= height)
            }
            OwnUpdate::Remove(_) => false,
        })
    }
}
