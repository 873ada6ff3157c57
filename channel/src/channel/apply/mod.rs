//! Taking steps. Everything here trusts the input, reads nothing but the state and the input, and does no
//! curve operation.

mod closing;
mod forward;
mod onchain;
mod opening;
mod rounds;
mod session;
mod updates;

use super::input::Kind;
use super::state::{Connection, Phase, State};
use crate::effect::{Effect, Report, ToSend};
use crate::ids::SessionId;
use crate::message::Message;

/// Appends effects; exists so that what is sent depends on there being a session.
pub(super) struct Out<'a> {
    effects: &'a mut Vec<Effect>,
}

impl<'a> Out<'a> {
    pub(super) fn new(effects: &'a mut Vec<Effect>) -> Self {
        Self { effects }
    }

    fn push(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    fn report(&mut self, report: Report) {
        self.push(Effect::Report(report));
    }
}

impl State {
    /// Takes one step.
    pub(super) fn apply(&mut self, input: &Kind, out: &mut Out<'_>) {
        match input {
            Kind::AddReceived { add, refused } => self.add_received(add, *refused),
            Kind::PricedAddReceived { add, refused, deducted_msat } => {
                self.hold_part(add.id, *deducted_msat);
                self.add_received(add, *refused);
            }
            Kind::FulfillReceived { id, preimage } => self.fulfill_received(*id, *preimage, out),
            Kind::FailReceived { id, reason } => self.fail_received(*id, *reason, out),
            Kind::CommitmentReceived { signatures, sealed } => {
                self.commitment_received(signatures, sealed, out);
            }
            Kind::RevocationReceived { secret, next_point, routes } => {
                self.revocation_received(secret, next_point, routes, out);
            }
            Kind::SignNow { dropped } => self.sign_now(dropped, out),
            Kind::Offered(offer) => self.offered(offer),
            Kind::OfferRefused { key, reason } => self.offer_failed(*key, *reason, out),
            Kind::ResultTaken { key, from, result, next } => {
                self.result_taken(key, *from, result, *next, out)
            }
            Kind::Acknowledged { key } => self.acknowledged(key, out),
            Kind::Connected { session } => self.connected(*session, out),
            Kind::Disconnected => self.disconnected(out),
            Kind::Reestablished { missing } => self.reestablished(*missing, out),
            Kind::ProvenBehind { number } => self.proven_behind(*number, out),
            // A first input makes the channel; it is never applied to one.
            Kind::Opened(_) | Kind::Accepted(_) | Kind::Recovered(_) | Kind::Priced { .. } => {}
            Kind::AcceptReceived { minimum_depth, counterparty, reserve_coin } => {
                self.accept_received(*minimum_depth, counterparty, reserve_coin.clone(), out);
            }
            Kind::FundingBuilt { transaction, outpoint } => self.funding_built(transaction, *outpoint, out),
            Kind::FundingCreated { outpoint, signature, sealed } => {
                self.funding_created(*outpoint, *signature, sealed, out);
            }
            Kind::FundingSigned { signature, sealed } => self.funding_signed(*signature, sealed, out),
            Kind::OpeningEnded { cause } => self.opening_ended(cause.clone(), out),
            Kind::ReadyReceived => self.ready_received(out),
            Kind::FundingConfirmed { height, block_index } => {
                self.funding_confirmed(*height, *block_index, out);
            }
            Kind::FundingUndone => self.funding_undone(out),
            Kind::FundingDeep => self.funding_deep(out),
            Kind::FundingFinal => self.funding_final(),
            Kind::ShutdownSent { script } => self.shutdown_sent(script, out),
            Kind::ShutdownReceived { script } => self.shutdown_received(script, out),
            Kind::TermsProposed(terms) => self.terms_proposed(*terms, out),
            Kind::TermsAccepted(terms) => self.terms_accepted(*terms, out),
            Kind::TicketTaken { terms, signature } => self.ticket_taken(*terms, *signature, out),
            Kind::HandedOver { transaction } => self.handed_over(transaction, out),
            Kind::AgreedSpend { txid, height, paid_sat } => self.agreed_spend(*txid, *height, *paid_sat, out),
            Kind::SpendUndone => self.spend_undone(out),
            Kind::SpendFinal => self.spend_final(out),
            Kind::Failed { cause } => self.failed(cause.clone(), out),
            Kind::GivenUp { ids } => self.given_up(ids, out),
            Kind::OffersLate { dropped } => self.drop_late_offers(dropped, out),
            Kind::CommitmentFound { onchain, cause } => self.commitment_found(onchain, cause, out),
            Kind::OutputSpent { outpoint, spend, second_stage, preimages } => {
                self.preimages_seen(preimages, out);
                self.output_spent(*outpoint, *spend, second_stage.as_ref(), out);
            }
            Kind::OutputUndone { outpoint } => self.output_undone(*outpoint, out),
            Kind::OutputFinal { outpoint } => self.output_final(*outpoint, out),
            Kind::PreimagesSeen { preimages } => self.preimages_seen(preimages, out),
            Kind::OutputGivenUp { outpoint } => self.output_given_up(*outpoint, out),
            Kind::FundingReplaced => self.funding_replaced(out),
        }
    }

    /// The session that is current.
    pub(super) fn session(&self) -> Option<SessionId> {
        match self.connection {
            Connection::Offline => None,
            Connection::Reestablishing(session) | Connection::Online(session) => Some(session),
        }
    }

    /// Sends where somebody listens. What matters is sent again by the reestablish.
    fn send(&self, to_send: ToSend, out: &mut Out<'_>) {
        if matches!(self.connection, Connection::Online(_)) {
            out.push(Effect::Send(to_send));
        }
    }

    fn send_message(&self, message: Message, out: &mut Out<'_>) {
        self.send(ToSend::Ready(Box::new(message)), out);
    }

    /// A channel that ended is forgotten when nobody waits for an answer of its.
    pub(super) fn finish_if_done(&self, out: &mut Out<'_>) {
        let ended = match self.phase {
            Phase::Closed { .. } | Phase::Aborted { .. } => true,
            Phase::Proposed
            | Phase::Building
            | Phase::FundingSent
            | Phase::Accepted
            | Phase::AwaitingConfirmation
            | Phase::Open
            | Phase::Frozen
            | Phase::Closing { .. }
            | Phase::Failed { .. } => false,
        };
        if ended && self.forwards.is_empty() {
            out.push(Effect::Finished);
        }
    }
}
