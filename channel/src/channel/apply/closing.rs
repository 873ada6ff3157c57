//! The ways a channel ends: by ticket, or by failing on the chain.

use bitcoin::{ScriptBuf, Transaction, Txid};

use super::super::state::{Agreement, Phase, State};
use super::Out;
use crate::closing::ClosingTerms;
use crate::effect::{Effect, OpeningFailure, Report, ToSend};
use crate::error::FailureCause;
use crate::event::{AbortReason, Role};
use crate::failure::FailureReason;
use crate::keys::CompactSignature;
use crate::message::{Message, Shutdown};
use crate::peer_text::PeerText;

impl State {
    /// We announce the close: no offers from now on, and those not signed yet fail.
    pub(super) fn shutdown_sent(&mut self, script: &ScriptBuf, out: &mut Out<'_>) {
        self.shutdowns.holder = Some(script.clone());
        self.withdraw_all(FailureReason::ChannelUnavailable, out);
        self.send_message(Message::Shutdown(Shutdown { script: script.clone() }), out);
        out.report(Report::ShutdownStarted { by_us: true });
    }

    /// They announced the close. The hub answers at once: it needs no script, its share goes to the batch's
    /// own output.
    pub(super) fn shutdown_received(&mut self, script: &ScriptBuf, out: &mut Out<'_>) {
        self.shutdowns.counterparty = Some(script.clone());
        self.withdraw_all(FailureReason::ChannelUnavailable, out);
        out.report(Report::ShutdownStarted { by_us: false });
        if self.names.role == Role::Hub && self.shutdowns.holder.is_none() {
            self.shutdown_sent(&ScriptBuf::new(), out);
        }
    }

    /// Hub: proposes terms. Nothing is frozen before the wallet's ticket.
    pub(super) fn terms_proposed(&mut self, terms: ClosingTerms, out: &mut Out<'_>) {
        self.closing.proposed.push(terms);
        self.closing.proposed_in_session = true;
        self.send_message(Message::ClosingTerms(terms), out);
    }

    /// Wallet: freezes the channel under the hub's terms, for good, and signs its ticket.
    pub(super) fn terms_accepted(&mut self, terms: ClosingTerms, out: &mut Out<'_>) {
        self.closing.frozen = Some(Agreement { terms, ticket: None });
        self.phase = Phase::Frozen;
        self.send(ToSend::Ticket, out);
        out.report(Report::Frozen { terms });
    }

    /// Hub: holds the wallet's ticket, so the channel is frozen for good.
    pub(super) fn ticket_taken(
        &mut self,
        terms: ClosingTerms,
        signature: CompactSignature,
        out: &mut Out<'_>,
    ) {
        self.closing.frozen = Some(Agreement { terms, ticket: Some(signature) });
        self.phase = Phase::Frozen;
        out.push(Effect::TicketReady);
        out.report(Report::Frozen { terms });
    }

    /// Wallet: keeps the batch that closes the channel, to publish it if the hub does not.
    pub(super) fn handed_over(&mut self, transaction: &Transaction, out: &mut Out<'_>) {
        self.closing.handed_over = Some(transaction.clone());
        self.closing.hand_overs += 1;
        out.effects.extend(self.handed_over_effect());
    }

    pub(in super::super) fn handed_over_effect(&self) -> Option<Effect> {
        let transaction = self.closing.handed_over.clone()?;
        let publish_by_height = self.closing.frozen?.terms.publish_by_height;
        Some(Effect::ClosingHandedOver { transaction, publish_by_height })
    }

    /// The agreed close is in a block.
    pub(super) fn agreed_spend(&mut self, txid: Txid, height: u32, paid_sat: u64, out: &mut Out<'_>) {
        if let Phase::Failed { cause } = &self.phase {
            self.closing.given_up = Some(cause.clone());
        }
        self.onchain = None;
        self.phase = Phase::Closing { txid, height };
        self.closing.paid_sat = paid_sat;
        out.report(Report::Closing { txid, height });
    }

    /// The block with the agreed close is gone: all is as it was before, still agreed.
    pub(super) fn spend_undone(&mut self, out: &mut Out<'_>) {
        if let Phase::Closing { txid, .. } = self.phase {
            out.report(Report::ClosingUndone { txid });
            match self.closing.given_up.take() {
                Some(cause) => {
                    self.phase = Phase::Failed { cause };
                    out.push(Effect::PlanChanged);
                }
                None => self.phase = Phase::Frozen,
            }
        } else {
            self.commitment_undone(out);
        }
    }

    pub(super) fn spend_final(&mut self, out: &mut Out<'_>) {
        if let Phase::Closing { txid, height } = self.phase {
            self.phase = Phase::Closed { txid, height };
            self.closing.handed_over = None;
            out.report(Report::Closed { txid, height, paid_sat: self.closing.paid_sat });
            self.finish_if_done(out);
        } else {
            self.commitment_final(out);
        }
    }

    /// The channel is given up. Before the funding is signed that only ends the opening; after, our latest
    /// commitment is to be published (if it may be). Offers never signed fail; signed ones are for the chain
    /// to decide. What both agreed on stays so while it is in a block: the failure counts if that block goes.
    pub(super) fn failed(&mut self, cause: FailureCause, out: &mut Out<'_>) {
        if let Phase::Closing { .. } = self.phase {
            // Other channels may run from the same old data.
            if cause.proves_old_data() {
                out.report(Report::Failed { cause: cause.clone() });
            }
            self.closing.given_up.get_or_insert(cause);
            return;
        }
        if self.is_opening() {
            self.opening_ended(opening_failure(cause), out);
            return;
        }
        self.withdraw_all(FailureReason::ChannelUnavailable, out);
        self.phase = Phase::Failed { cause: cause.clone() };
        // Whoever may not publish asks the counterparty to (BOLT 2, "Message Retransmission").
        if self.session().is_some() {
            out.push(Effect::Send(self.channel_error()));
        }
        out.push(Effect::PlanChanged);
        out.report(Report::Failed { cause });
    }
}

/// The same cause, where nothing was signed yet.
fn opening_failure(cause: FailureCause) -> OpeningFailure {
    match cause {
        FailureCause::Violation(violation) => OpeningFailure::Violation(violation),
        FailureCause::Operator => OpeningFailure::Aborted(AbortReason::Cancelled),
        FailureCause::Counterparty => OpeningFailure::Counterparty { text: PeerText::default() },
        FailureCause::WrongFunding
        | FailureCause::UnexpectedSpend { .. }
        | FailureCause::Behind { .. }
        | FailureCause::HtlcDeadline { .. }
        | FailureCause::SignedAddExpired { .. }
        | FailureCause::CloseOverdue { .. }
        | FailureCause::CounterpartyClosed { .. }
        | FailureCause::Cheated { .. }
        | FailureCause::PublishedElsewhere { .. }
        | FailureCause::NewerCommitment { .. }
        | FailureCause::DataLost
        | FailureCause::CounterpartyLostData => OpeningFailure::NeverConfirmed,
    }
}
