//! Deciding about events: every rule, every signature, every limit. Nothing here changes the channel.

mod chain;
mod closing;
mod forward;
mod limits;
mod onchain;
mod opening;
mod recover;
mod reestablish;
mod rounds;
mod updates;

use super::input::{Input, Kind};
use super::state::{Connection, Phase};
use super::{Channel, Checked, Context};
use crate::amount::Msat;
use crate::effect::{Effect, OpeningFailure};
use crate::error::{FailureCause, Refusal, Rejection};
use crate::event::{Command, Event, FailRequest};
use crate::message::Message;
use crate::parameters::Side;
use crate::peer_text::PeerText;

/// What every check answers.
pub(super) type Verdict = Result<Checked, Rejection>;

fn decided(kind: Kind) -> Verdict {
    Ok(Checked::Input(Input(kind)))
}

fn refused(refusal: Refusal) -> Verdict {
    Err(Rejection::Refusal(refusal))
}

impl Channel {
    /// Decides about an event. Changes nothing.
    pub fn check(&self, event: Event, context: &Context<'_>) -> Verdict {
        match event {
            Event::Message(message) => self.check_message(message, context),
            Event::Command(command) => self.check_command(command, context),
        }
    }

    fn check_message(&self, message: Message, context: &Context<'_>) -> Verdict {
        if self.is_over() {
            return self.check_after_the_end(&message, context);
        }
        match self.state.connection {
            Connection::Offline => return refused(Refusal::NotConnected),
            Connection::Reestablishing(_) => match message {
                Message::Reestablish(_) | Message::ChannelError { .. } => {}
                Message::OpenChannel(_)
                | Message::AcceptChannel(_)
                | Message::FundingCreated(_)
                | Message::FundingSigned(_)
                | Message::ChannelReady
                | Message::UpdateAddHtlc(_)
                | Message::PricedAddHtlc { .. }
                | Message::UpdateFulfillHtlc { .. }
                | Message::UpdateFailHtlc { .. }
                | Message::CommitmentSigned(_)
                | Message::RevokeAndAck(_)
                | Message::Shutdown(_)
                | Message::ClosingTerms(_)
                | Message::ClosingTicket(_)
                | Message::ClosingTransaction { .. } => return refused(Refusal::NotReestablished),
            },
            Connection::Online(_) => {}
        }
        match message {
            Message::UpdateAddHtlc(add) => self.check_add(add, Msat::ZERO, context),
            Message::PricedAddHtlc { add, deducted_msat } => self.check_add(add, deducted_msat, context),
            Message::UpdateFulfillHtlc { id, preimage } => self.check_fulfill(id, preimage),
            Message::UpdateFailHtlc { id, reason } => self.check_fail(id, reason),
            Message::CommitmentSigned(signed) => self.check_commitment_signed(signed, context),
            Message::RevokeAndAck(revocation) => self.check_revocation(&revocation, context),
            Message::Reestablish(reestablish) => self.check_reestablish(&reestablish, context),
            // The first input of the accepter takes it; for a channel that exists it comes too late.
            Message::OpenChannel(_) => refused(Refusal::UnexpectedMessage),
            Message::AcceptChannel(accept) => self.check_accepted(&accept, context),
            Message::FundingCreated(created) => self.check_funding_created(created, context),
            Message::FundingSigned(signed) => self.check_funding_signed(signed, context),
            Message::ChannelReady => self.check_channel_ready(),
            Message::Shutdown(shutdown) => self.check_their_shutdown(shutdown),
            Message::ClosingTerms(terms) => self.check_terms(terms, context),
            Message::ClosingTicket(ticket) => self.check_ticket(&ticket),
            Message::ClosingTransaction { transaction } => self.check_handed_over(&transaction),
            Message::ChannelError { text, cannot_publish } => self.check_channel_error(&text, cannot_publish),
        }
    }

    fn check_command(&self, command: Command, context: &Context<'_>) -> Verdict {
        match command {
            Command::Offer(offer) => self.check_offer(offer, context),
            Command::Result { key, from, result } => self.check_result(key, from, result, context),
            Command::Ack { key } => Ok(self.check_ack(key)),
            Command::SignNow => self.check_sign_now(context),
            Command::Connected { session } => self.check_connected(session),
            Command::Disconnected => match self.state.connection {
                Connection::Offline => Ok(Checked::Nothing),
                Connection::Reestablishing(_) | Connection::Online(_) => decided(Kind::Disconnected),
            },
            Command::FundingBuilt { transaction, output_index } => {
                self.check_funding_built(transaction, output_index)
            }
            Command::AbortOpening { why } => match self.state.phase {
                Phase::Proposed | Phase::Building | Phase::FundingSent | Phase::Accepted => {
                    decided(Kind::OpeningEnded { cause: OpeningFailure::Aborted(why) })
                }
                Phase::AwaitingConfirmation
                | Phase::Open
                | Phase::Frozen
                | Phase::Closing { .. }
                | Phase::Closed { .. }
                | Phase::Failed { .. } => refused(Refusal::FundingReleased),
                Phase::Aborted { .. } => Ok(Checked::Nothing),
            },
            Command::Shutdown { script } => self.check_own_shutdown(script),
            Command::ProposeTerms(terms) => self.check_proposal(terms, context),
            Command::Fail { reason } => {
                let cause = match reason {
                    FailRequest::Operator => FailureCause::Operator,
                    FailRequest::Counterparty => FailureCause::Counterparty,
                };
                if self.is_over() { Ok(Checked::Nothing) } else { decided(Kind::Failed { cause }) }
            }
            Command::ClosingPublished { transaction } => self.check_closing_published(&transaction),
            Command::Chain(event) => self.check_chain(event, context),
        }
    }

    /// Whether the counterparty's words change nothing any more.
    fn is_over(&self) -> bool {
        match self.state.phase {
            Phase::Closed { .. } | Phase::Aborted { .. } | Phase::Failed { .. } => true,
            Phase::Proposed
            | Phase::Building
            | Phase::FundingSent
            | Phase::Accepted
            | Phase::AwaitingConfirmation
            | Phase::Open
            | Phase::Frozen
            | Phase::Closing { .. } => false,
        }
    }

    /// A counterparty that does not know yet is told. One that proves us behind still counts: what we have
    /// must not be published.
    fn check_after_the_end(&self, message: &Message, context: &Context<'_>) -> Verdict {
        if let (Phase::Failed { cause }, Message::Reestablish(theirs)) = (&self.state.phase, message)
            && cause.may_publish()
            && let Some(number) = self.proven_behind_by(theirs, context)
        {
            return decided(Kind::ProvenBehind { number });
        }
        if let (Phase::Failed { cause }, Message::ChannelError { cannot_publish: true, .. }) =
            (&self.state.phase, message)
            && cause.may_publish()
            && *cause != FailureCause::CounterpartyLostData
            && self.state.onchain.is_none()
        {
            // Whatever it failed for: from now on nobody else can publish.
            return decided(Kind::Failed { cause: FailureCause::CounterpartyLostData });
        }
        Ok(self.answer_after_the_end(message))
    }

    fn answer_after_the_end(&self, message: &Message) -> Checked {
        match message {
            Message::Reestablish(_) if self.state.session().is_some() => {
                Checked::Repeat(Effect::Send(self.state.channel_error()))
            }
            Message::Reestablish(_)
            | Message::OpenChannel(_)
            | Message::AcceptChannel(_)
            | Message::FundingCreated(_)
            | Message::FundingSigned(_)
            | Message::ChannelReady
            | Message::UpdateAddHtlc(_)
            | Message::PricedAddHtlc { .. }
            | Message::UpdateFulfillHtlc { .. }
            | Message::UpdateFailHtlc { .. }
            | Message::CommitmentSigned(_)
            | Message::RevokeAndAck(_)
            | Message::Shutdown(_)
            | Message::ClosingTerms(_)
            | Message::ClosingTicket(_)
            | Message::ClosingTransaction { .. }
            | Message::ChannelError { .. } => Checked::Nothing,
        }
    }

    /// The counterparty gave the channel up. It can only hurt where something of ours is at stake: an
    /// accepter whose channel never confirmed just forgets it, unless the opener lost its data. Then the funding may confirm
    /// yet, and what the opener owns of it only we can publish.
    fn check_channel_error(&self, text: &str, cannot_publish: bool) -> Verdict {
        let cause = match cannot_publish {
            true => FailureCause::CounterpartyLostData,
            false => FailureCause::Counterparty,
        };
        let nothing_at_stake = !cannot_publish
            && self.state.terms.opener == Side::Counterparty
            && self.state.phase == Phase::AwaitingConfirmation
            && self.state.funding.as_ref().is_none_or(|funding| funding.confirmed.is_none());
        let given_up = || {
            decided(Kind::OpeningEnded { cause: OpeningFailure::Counterparty { text: PeerText::new(text) } })
        };
        match self.state.phase {
            Phase::Proposed | Phase::Building | Phase::FundingSent | Phase::Accepted => given_up(),
            Phase::AwaitingConfirmation if nothing_at_stake => given_up(),
            Phase::AwaitingConfirmation | Phase::Open => decided(Kind::Failed { cause }),
            // Both agreed to the close, and hold what it takes: it goes on.
            Phase::Frozen | Phase::Closing { .. } => Ok(Checked::Nothing),
            Phase::Closed { .. } | Phase::Aborted { .. } | Phase::Failed { .. } => Ok(Checked::Nothing),
        }
    }

    fn check_connected(&self, session: crate::ids::SessionId) -> Verdict {
        match self.state.connection {
            Connection::Offline => decided(Kind::Connected { session }),
            Connection::Reestablishing(current) | Connection::Online(current) => {
                refused(Refusal::StillConnected { current })
            }
        }
    }

    /// Whether updates and rounds are exchanged in this phase.
    pub(super) fn expect_open(&self) -> Result<(), Refusal> {
        match self.state.phase {
            Phase::Open => Ok(()),
            Phase::Proposed
            | Phase::Building
            | Phase::FundingSent
            | Phase::Accepted
            | Phase::AwaitingConfirmation => Err(Refusal::NotOpenYet),
            Phase::Frozen => Err(Refusal::Frozen),
            Phase::Closing { .. } | Phase::Closed { .. } | Phase::Aborted { .. } => Err(Refusal::Closed),
            Phase::Failed { .. } => Err(Refusal::Failed),
        }
    }

    /// Whether the counterparty can be talked to.
    pub(super) fn expect_online(&self) -> Result<(), Refusal> {
        match self.state.connection {
            Connection::Online(_) => Ok(()),
            Connection::Offline => Err(Refusal::NotConnected),
            Connection::Reestablishing(_) => Err(Refusal::NotReestablished),
        }
    }
}
