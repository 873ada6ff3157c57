//! The chain decides: a commitment is found, its outputs are spent, spends are undone or final. Results go upstream as
//! soon as they cannot be turned around: a preimage at once, a failure only when it is final (BOLT 5).

use bitcoin::{OutPoint, TxOut};

use super::super::htlc::{Received, Removal, Which};
use super::super::onchain::{OnChain, Output, Part, Spend, Whose};
use super::super::state::{Phase, Place, State};
use super::Out;
use super::rounds::stream_of;
use crate::effect::{Effect, OpeningFailure, Report};
use crate::error::FailureCause;
use crate::failure::FailureReason;
use crate::forward::{ForwardKey, ForwardResult};
use crate::message::Preimage;
use crate::parameters::Side;

const KNOWN: &str = "check has seen the output";

impl State {
    /// A spend of the funding is in a block that is not the agreed close. It replaces another that was there before.
    pub(super) fn commitment_found(&mut self, onchain: &OnChain, cause: &FailureCause, out: &mut Out<'_>) {
        let (txid, height, number) = (onchain.txid, onchain.height, onchain.number);
        self.onchain = Some(onchain.clone());
        match &self.phase {
            // The cause that came first stays, but we must not publish what we now know to be old.
            Phase::Failed { cause: first } if first.may_publish() && onchain.whose == Whose::Newer => {
                self.phase = Phase::Failed { cause: cause.clone() };
                out.report(Report::Failed { cause: cause.clone() });
                out.push(Effect::PlanChanged);
            }
            Phase::Failed { .. } => out.push(Effect::PlanChanged),
            Phase::Proposed
            | Phase::Building
            | Phase::FundingSent
            | Phase::Accepted
            | Phase::AwaitingConfirmation
            | Phase::Open
            | Phase::Frozen
            | Phase::Closing { .. }
            | Phase::Closed { .. }
            | Phase::Aborted { .. } => self.failed(cause.clone(), out),
        }
        out.report(Report::CommitmentConfirmed { txid, height, whose: onchain.owner(), number });
    }

    /// The block with it is gone: our own may be published again, and another may be found.
    pub(super) fn commitment_undone(&mut self, out: &mut Out<'_>) {
        if let Some(OnChain { txid, .. }) = self.onchain.take() {
            out.report(Report::CommitmentUndone { txid });
            out.push(Effect::PlanChanged);
        }
    }

    pub(super) fn commitment_final(&mut self, out: &mut Out<'_>) {
        let Some(onchain) = &mut self.onchain else { return };
        onchain.is_final = true;
        self.report_received_without_output(out);
        out.push(Effect::PlanChanged);
        self.progress(out);
    }

    /// An output that concerns us was spent. `second_stage` is the delayed output that the spend made.
    pub(super) fn output_spent(
        &mut self,
        outpoint: OutPoint,
        spend: Spend,
        second_stage: Option<&(OutPoint, TxOut)>,
        out: &mut Out<'_>,
    ) {
        let Some(onchain) = &mut self.onchain else { return };
        onchain.forget_second_stage(outpoint);
        let output = onchain.outputs.get_mut(&outpoint).expect(KNOWN);
        output.spend = Some(spend);
        let (part, value_sat) = (output.part, output.output.value.to_sat());
        if let (Some((place, made)), Part::Htlc { spec, .. }) = (second_stage, part) {
            let part = Part::SecondStage { spec, parent: outpoint };
            let output = Output { output: made.clone(), height: spend.height, part, spend: None };
            onchain.outputs.insert(*place, output);
        }
        if let Some(kind) = onchain.kind(&part) {
            let Spend { txid, height, by, .. } = spend;
            let by_us = by == Side::Holder;
            out.report(Report::OutputSpent { outpoint, kind, value_sat, by_us, txid, height });
        }
        out.push(Effect::PlanChanged);
    }

    pub(super) fn output_undone(&mut self, outpoint: OutPoint, out: &mut Out<'_>) {
        let Some(onchain) = &mut self.onchain else { return };
        onchain.forget_second_stage(outpoint);
        let output = onchain.outputs.get_mut(&outpoint).expect(KNOWN);
        if let Some(Spend { txid, .. }) = output.spend.take() {
            out.report(Report::OutputSpendUndone { outpoint, txid });
            out.push(Effect::PlanChanged);
        }
    }

    pub(super) fn output_final(&mut self, outpoint: OutPoint, out: &mut Out<'_>) {
        let Some(onchain) = &mut self.onchain else { return };
        let output = onchain.outputs.get_mut(&outpoint).expect(KNOWN);
        let Some(spend) = &mut output.spend else { return };
        spend.is_final = true;
        let (by, part) = (spend.by, output.part);
        if let Part::Htlc { spec, .. } = part
            && !onchain.offered_by_us(&spec)
        {
            out.effects.extend(self.received_ended(spec.id, by == Side::Holder));
        }
        out.push(Effect::PlanChanged);
        self.progress(out);
    }

    /// The output is not worth what taking it costs. It concerns nobody any more: an HTLC of ours in it fails upstream, for
    /// less than a fee is at stake.
    pub(super) fn output_given_up(&mut self, outpoint: OutPoint, out: &mut Out<'_>) {
        let Some(onchain) = &mut self.onchain else { return };
        let output = onchain.outputs.remove(&outpoint).expect(KNOWN);
        let Some(onchain) = &self.onchain else { return };
        if let Some(kind) = onchain.kind(&output.part) {
            out.report(Report::OutputGivenUp { outpoint, kind, value_sat: output.output.value.to_sat() });
        }
        if let Part::Htlc { spec, .. } = output.part
            && !onchain.offered_by_us(&spec)
        {
            out.effects.extend(self.received_ended(spec.id, false));
        }
        out.push(Effect::PlanChanged);
        self.progress(out);
    }

    /// The counterparty showed preimages: each is worth money upstream at once.
    pub(super) fn preimages_seen(&mut self, preimages: &[(u64, Preimage)], out: &mut Out<'_>) {
        for (id, preimage) in preimages {
            let Some(htlc) = self.htlcs.offered.get(id) else { continue };
            let (key, payment_hash) = (htlc.key, htlc.add.payment_hash);
            self.resolve(key, *id, ForwardResult::Fulfilled { preimage: *preimage }, out);
            out.report(Report::PreimageFound { htlc_id: *id, payment_hash });
        }
    }

    /// Takes what has become final: offers that the chain did not pay fail upstream; and when nothing is left that could
    /// change, the channel is closed.
    pub(super) fn progress(&mut self, out: &mut Out<'_>) {
        let (Some(onchain), Phase::Failed { .. }) = (&self.onchain, &self.phase) else { return };
        if !onchain.is_final {
            return;
        }
        let undecided = onchain.undecided(self.htlcs.offered.iter(), |id| self.is_fulfilled(id));
        let decided = self.live_offers(|id| !undecided.contains(&id));
        self.end_offers(decided, FailureReason::TimedOut, out);
        let Some(onchain) = &self.onchain else { return };
        if undecided.is_empty() && onchain.is_over(&self.htlcs) {
            let (txid, height, paid_sat) = (onchain.txid, onchain.height, onchain.taken_sat());
            self.closing.paid_sat = paid_sat;
            self.phase = Phase::Closed { txid, height };
            out.report(Report::Closed { txid, height, paid_sat });
            self.finish_if_done(out);
        }
    }

    /// Offered HTLCs that have not come to their end.
    fn live_offers(&self, wanted: impl Fn(u64) -> bool) -> Vec<(u64, ForwardKey, Option<FailureReason>)> {
        let live = self.htlcs.offered.iter().filter(|(id, htlc)| {
            let forward = self.forwards.get(&(htlc.key.incoming, htlc.key.htlc_id));
            wanted(**id) && forward.is_some_and(|forward| forward.place == Place::Live(**id))
        });
        live.map(|(id, htlc)| {
            let told = match htlc.removal {
                Some(Removal::Failed(reason)) => Some(reason),
                Some(Removal::Fulfilled(_)) | None => None,
            };
            (*id, htlc.key, told)
        })
        .collect()
    }

    /// What was not fulfilled fails; nothing can turn that around any more.
    fn end_offers(
        &mut self,
        offers: Vec<(u64, ForwardKey, Option<FailureReason>)>,
        otherwise: FailureReason,
        out: &mut Out<'_>,
    ) {
        for (id, key, told) in offers {
            let result = ForwardResult::Failed { reason: told.unwrap_or(otherwise) };
            self.resolve(key, id, result, out);
            self.end_forward(key, id);
        }
    }

    /// The funding can never be in a block again: no commitment decides about anything, and nobody is paid.
    pub(super) fn funding_replaced(&mut self, out: &mut Out<'_>) {
        self.withdraw_all(FailureReason::ChannelUnavailable, out);
        let live = self.live_offers(|_| true);
        self.end_offers(live, FailureReason::ChannelUnavailable, out);
        let ids: Vec<u64> = self.htlcs.received.keys().copied().collect();
        for id in ids {
            out.effects.extend(self.received_ended(id, false));
        }
        self.opening_ended(OpeningFailure::FundingReplaced, out);
    }

    /// Received HTLCs without an output in the commitment that is final now: removed before and settled in its balances,
    /// or too small.
    fn report_received_without_output(&self, out: &mut Out<'_>) {
        let Some(onchain) = &self.onchain else { return };
        let owner = match onchain.whose {
            Whose::Ours => Side::Holder,
            Whose::Theirs { .. } | Whose::Revoked { .. } | Whose::Newer | Whose::Foreign => {
                Side::Counterparty
            }
        };
        let has_output = |id: u64| {
            onchain.outputs.values().any(|output| match &output.part {
                Part::Htlc { spec, .. } => spec.id == id && !onchain.offered_by_us(spec),
                Part::ToLocal | Part::ToRemote | Part::SecondStage { .. } | Part::Candidate => false,
            })
        };
        for (id, htlc) in self.htlcs.received.iter().filter(|(id, _)| !has_output(**id)) {
            let lost = htlc.trimmed && htlc.state.is_in(Which::latest(owner, Side::Counterparty));
            out.effects.extend(self.received_ended(*id, !lost));
        }
    }

    /// The last that is told of a received HTLC, if its first was: settled if we were paid and have paid on, else failed.
    fn received_ended(&self, id: u64, paid: bool) -> Option<Effect> {
        let htlc = self.htlcs.received.get(&id)?;
        let reason = match (&htlc.removal, &htlc.route) {
            (Some(Removal::Fulfilled(_)), _) if paid => {
                return Some(Effect::Report(self.received_report(htlc.clone())));
            }
            (Some(Removal::Failed(reason)), _) => *reason,
            (Some(Removal::Fulfilled(_)), _) | (None, Some(_)) => FailureReason::TimedOut,
            // Never irrevocable, so nobody heard of it.
            (None, None) => return None,
        };
        let Received { add, .. } = htlc;
        let (attempt, _) = self.last_choice(htlc);
        Some(Effect::Report(Report::ForwardFailed {
            key: ForwardKey { incoming: self.names.owner, htlc_id: id, attempt },
            payment_hash: add.payment_hash,
            amount_msat: add.amount_msat,
            reason,
            stream: stream_of(&add.recipient),
        }))
    }
}

impl OnChain {
    /// The spend of an HTLC's output is gone, and with it what it made.
    fn forget_second_stage(&mut self, htlc: OutPoint) {
        self.outputs.retain(|_, output| match &output.part {
            Part::SecondStage { parent, .. } => *parent != htlc,
            Part::ToLocal | Part::ToRemote | Part::Htlc { .. } | Part::Candidate => true,
        });
    }
}
