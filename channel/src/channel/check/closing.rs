//! The cooperative close: shutdown both ways, the hub's terms, the wallet's ticket, the batch.

use bitcoin::consensus::deserialize;
use bitcoin::{Amount, ScriptBuf, Transaction, Txid};

use super::{Verdict, decided, refused};
use crate::channel::input::Kind;
use crate::channel::state::Phase;
use crate::channel::{Channel, Checked, Context};
use crate::closing::{ClosingTerms, TicketFlaw, TicketSpec, check_placement};
use crate::effect::{Effect, Report, TermsFlaw, ToSend};
use crate::error::{Refusal, Violation};
use crate::event::Role;
use crate::limits::{
    MAX_CLOSING_TRANSACTION_BYTES, MAX_CLOSING_WAIT_BLOCKS, MAX_HAND_OVERS, MAX_PAYOUT_SCRIPT_LENGTH,
    MAX_PROPOSED_TERMS,
};
use crate::message::{Message, Shutdown, Ticket};
use crate::parameters::Side;
use crate::scripts::is_standard_payout;

impl Channel {
    pub(super) fn check_own_shutdown(&self, script: ScriptBuf) -> Verdict {
        self.expect_open()?;
        if let Some(known) = &self.state.shutdowns.holder {
            return if *known == script {
                Ok(Checked::Nothing)
            } else {
                refused(Refusal::ShutdownScriptFixed)
            };
        }
        if !may_be_paid_to(self.state.names.role, &script) {
            return refused(Refusal::NonStandardScript);
        }
        decided(Kind::ShutdownSent { script })
    }

    pub(super) fn check_their_shutdown(&self, shutdown: Shutdown) -> Verdict {
        let Shutdown { script } = shutdown;
        if let Some(known) = &self.state.shutdowns.counterparty {
            return if *known == script {
                Ok(Checked::Nothing)
            } else {
                Err(Violation::ShutdownScriptChanged.into())
            };
        }
        self.expect_open()?;
        let their_role = match self.state.names.role {
            Role::Hub => Role::Wallet,
            Role::Wallet => Role::Hub,
        };
        if !may_be_paid_to(their_role, &script) {
            return Err(Violation::ShutdownScript.into());
        }
        decided(Kind::ShutdownReceived { script })
    }

    /// Whether both sides have shut down and nothing is in flight: the balances are final.
    fn expect_settled(&self) -> Result<(), Refusal> {
        self.expect_open()?;
        if self.state.shutdowns.holder.is_none() || self.state.shutdowns.counterparty.is_none() {
            return Err(Refusal::ShutdownIncomplete);
        }
        if !self.state.is_quiescent() {
            return Err(Refusal::InFlight);
        }
        Ok(())
    }

    /// Hub: whether `ProposeTerms` is due: both sides have shut down, nothing is in flight, no terms were
    /// proposed since the counterparty came online.
    pub fn wants_terms(&self) -> bool {
        self.state.names.role == Role::Hub
            && self.state.is_operating()
            && !self.state.closing.proposed_in_session
            && self.expect_settled().is_ok()
    }

    /// Hub: terms for the wallet to freeze under.
    pub(super) fn check_proposal(&self, terms: ClosingTerms, context: &Context<'_>) -> Verdict {
        if self.state.names.role != Role::Hub {
            return refused(Refusal::NotTheHub);
        }
        self.expect_settled()?;
        self.expect_online()?;
        if self.state.closing.proposed.len() >= MAX_PROPOSED_TERMS {
            return refused(Refusal::TooManyTerms { maximum: MAX_PROPOSED_TERMS });
        }
        check_publish_height(&terms, context.height)?;
        self.ticket_spec(&terms).check().map_err(Refusal::ImpossibleTicket)?;
        decided(Kind::TermsProposed(terms))
    }

    /// Wallet: the hub's terms. Agreeing freezes the channel for good.
    pub(super) fn check_terms(&self, terms: ClosingTerms, context: &Context<'_>) -> Verdict {
        if self.state.names.role != Role::Wallet {
            return Err(Violation::TermsFromWallet.into());
        }
        // Frozen under one set of terms, whatever else is proposed.
        if self.state.closing.frozen.is_some() {
            return Ok(Checked::Repeat(Effect::Send(ToSend::Ticket)));
        }
        self.expect_open()?;
        if self.expect_settled().is_err() {
            return Err(Violation::TermsTooEarly.into());
        }
        self.ticket_spec(&terms).check().map_err(Refusal::ImpossibleTicket)?;
        match terms_flaw(&terms, context) {
            // The channel stays as it is, and the session too: the hub may propose others, the user may raise
            // the limit.
            Some(why) => Ok(Checked::Repeat(Effect::Report(Report::TermsRefused { terms, why }))),
            None => decided(Kind::TermsAccepted(terms)),
        }
    }

    /// Hub: the wallet's ticket.
    pub(super) fn check_ticket(&self, ticket: &Ticket) -> Verdict {
        let Ticket { terms, signature } = ticket;
        if let (Role::Hub, Some(agreement)) = (self.state.names.role, &self.state.closing.frozen) {
            // Sent again after each reestablish.
            return if agreement.terms == *terms {
                Ok(Checked::Nothing)
            } else {
                Err(Violation::TicketForUnknownTerms.into())
            };
        }
        self.expect_open()?;
        if self.state.names.role != Role::Hub || self.state.closing.proposed.is_empty() {
            return Err(Violation::UnexpectedTicket.into());
        }
        if !self.state.closing.proposed.contains(terms) {
            return Err(Violation::TicketForUnknownTerms.into());
        }
        self.ticket_spec(terms).verify(signature).map_err(|flaw| match flaw {
            TicketFlaw::Signature => crate::error::Rejection::from(Violation::WrongTicketSignature),
            TicketFlaw::BalanceExceedsFunding { .. }
            | TicketFlaw::DustLimitOutOfRange { .. }
            | TicketFlaw::NonStandardScript
            | TicketFlaw::Key(_) => Refusal::ImpossibleTicket(flaw).into(),
        })?;
        decided(Kind::TicketTaken { terms: *terms, signature: *signature })
    }

    /// Hub: the finished batch goes to the wallet. Nothing is remembered here: the batch is in the
    /// settlement's rows.
    pub(super) fn check_closing_published(&self, transaction: &Transaction) -> Verdict {
        self.agreed_payout(transaction)?;
        let transaction = bitcoin::consensus::serialize(transaction);
        let message = Box::new(Message::ClosingTransaction { transaction });
        match self.expect_online() {
            Ok(()) => Ok(Checked::Repeat(Effect::Send(ToSend::Ready(message)))),
            Err(refusal) => refused(refusal),
        }
    }

    /// Wallet: the finished batch, to publish if the hub does not.
    pub(super) fn check_handed_over(&self, transaction: &[u8]) -> Verdict {
        match (self.state.names.role, &self.state.phase) {
            (Role::Wallet, Phase::Frozen) => {}
            // The chain was faster.
            (Role::Wallet, Phase::Closing { .. }) => return Ok(Checked::Nothing),
            (Role::Wallet | Role::Hub, _) => return refused(Refusal::UnexpectedMessage),
        }
        if transaction.len() > MAX_CLOSING_TRANSACTION_BYTES {
            return refused(Refusal::MalformedClosing);
        }
        let transaction: Transaction = deserialize(transaction).map_err(|_| Refusal::MalformedClosing)?;
        self.agreed_payout(&transaction)?;
        let closing = &self.state.closing;
        if closing.handed_over.as_ref() == Some(&transaction) || closing.hand_overs >= MAX_HAND_OVERS {
            return Ok(Checked::Nothing);
        }
        decided(Kind::HandedOver { transaction: Box::new(transaction) })
    }

    /// What the transaction pays the wallet by our agreement; refused if it does not keep the agreement.
    pub(super) fn agreed_payout(&self, transaction: &Transaction) -> Result<Amount, Refusal> {
        let Some(agreement) = &self.state.closing.frozen else { return Err(Refusal::InFlight) };
        let spec = self.ticket_spec(&agreement.terms);
        let index = transaction
            .input
            .iter()
            .position(|input| input.previous_output == spec.funding_outpoint)
            .ok_or(Refusal::ClosingSpendsNothing)?;
        check_placement(transaction, index, &spec).map_err(Refusal::ClosingNotAsAgreed)?;
        Ok(spec.payout().map_or(Amount::ZERO, |output| output.value))
    }

    /// Whether the transaction, known to spend the channel, is the agreed close.
    pub(super) fn agreed_spend(&self, transaction: &Transaction) -> Option<(Txid, Amount)> {
        let paid = self.agreed_payout(transaction).ok()?;
        Some((transaction.compute_txid(), paid))
    }

    /// All that the ticket depends on. Both ends compute it from their own state.
    pub(in super::super) fn ticket_spec(&self, terms: &ClosingTerms) -> TicketSpec {
        let holder = self.state.terms.holder.basepoints.funding;
        let counterparty = self.state.counterparty_parameters().basepoints.funding;
        let (wallet, wallet_key, hub_key, script) = match self.state.names.role {
            Role::Wallet => (Side::Holder, holder, counterparty, &self.state.shutdowns.holder),
            Role::Hub => (Side::Counterparty, counterparty, holder, &self.state.shutdowns.counterparty),
        };
        let parameters = self.context().parameters();
        TicketSpec {
            funding_outpoint: parameters.funding_outpoint,
            funding_amount: parameters.funding_amount,
            wallet_key,
            hub_key,
            wallet_balance: self.state.books.holder.latest.of(wallet),
            fee: terms.fee,
            dust_limit: parameters.dust_limit,
            wallet_script: script.clone().unwrap_or_default(),
        }
    }
}

/// Where a side may ask to be paid: standard witness programs; the hub may leave it to the batch.
fn may_be_paid_to(role: Role, script: &ScriptBuf) -> bool {
    let left_open = role == Role::Hub && script.is_empty();
    left_open || (script.len() <= MAX_PAYOUT_SCRIPT_LENGTH && is_standard_payout(script))
}

/// Why a wallet does not agree to terms that the protocol allows.
fn terms_flaw(terms: &ClosingTerms, context: &Context<'_>) -> Option<TermsFlaw> {
    let maximum_sat = context.policy.max_closing_fee_sat;
    if terms.fee.to_sat() > maximum_sat {
        return Some(TermsFlaw::FeeTooHigh { maximum_sat });
    }
    let height = context.height;
    if terms.publish_by_height <= height {
        return Some(TermsFlaw::PublishHeightPast { height });
    }
    let latest = height.saturating_add(MAX_CLOSING_WAIT_BLOCKS);
    (terms.publish_by_height > latest).then_some(TermsFlaw::PublishHeightTooFar { latest })
}

fn check_publish_height(terms: &ClosingTerms, height: u32) -> Result<(), Refusal> {
    let publish_by_height = terms.publish_by_height;
    if publish_by_height <= height {
        return Err(Refusal::PublishHeightPast { publish_by_height, height });
    }
    Ok(())
}
