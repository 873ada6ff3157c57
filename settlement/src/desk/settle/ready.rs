//! Our own commitments, for others to pay for.
//!
//! Nodes take a commitment only with a child that pays for it. While this party has no coin for one, or finds it too dear, a
//! person may give the commitment itself to whoever pays: the anchor is anybody's to spend.
//!
//! Invariant: nothing is shown that this party would not send itself at this very moment. It is the latest commitment of a
//! channel that has failed, the verifier passed it in this process, and neither a suspension nor the breaker keeps it.

use bitcoin::Transaction;
use channel::channel::PublishJob;
use channel::ids::OwnerId;

use super::CommitmentState;
use super::gate::Gate;
use crate::desk::{Desk, DeskReport, Outcome};
use crate::verify::{CloseJob, UnilateralJob, VerifiedClose};

impl Desk {
    /// Verifies the commitments that wait for somebody's money. Those that were sent have been verified with their child.
    pub(super) fn verify_unpaid(&mut self, outcome: &mut Outcome) {
        let settling = &mut self.settling;
        let plans = &settling.plans;
        settling.ready.retain(|owner, ready| {
            let wanted = plans.get(owner).and_then(|plan| plan.publish.as_ref());
            wanted.is_some_and(|job| job.commitment.txid() == ready.parent_txid())
        });
        let unpaid = settling.commitment_states.iter().filter(|(owner, state)| match state {
            CommitmentState::TooDear { .. } | CommitmentState::NoCoin { .. } => {
                !settling.ready.contains_key(owner)
            }
            CommitmentState::AwaitsFunding
            | CommitmentState::AwaitsProof
            | CommitmentState::Suspended
            | CommitmentState::Held
            | CommitmentState::LeavesRoom { .. }
            | CommitmentState::Faulty { .. }
            | CommitmentState::Pending
            | CommitmentState::Sent { .. } => false,
        });
        let (owners, jobs): (Vec<OwnerId>, Vec<CloseJob>) = unpaid
            .filter_map(|(owner, _)| {
                let job = settling.plans.get(owner)?.publish.as_ref()?;
                Some((*owner, CloseJob::Unilateral(Box::new(UnilateralJob::new(job, None)))))
            })
            .unzip();
        if jobs.is_empty() {
            return;
        }
        let results = match settling.verify(jobs) {
            Ok(results) => results,
            Err(error) => {
                // The next block brings the next attempt.
                outcome.reports.push(DeskReport::Trouble { what: format!("commitments wait: {error}") });
                return;
            }
        };
        for (owner, result) in owners.into_iter().zip(results) {
            match result.map(VerifiedClose::package) {
                Ok(Some(verified)) => drop(self.settling.ready.insert(owner, verified)),
                Ok(None) => self.faulty_commitment(owner, "it was verified as something else", outcome),
                Err(flaw) => self.faulty_commitment(owner, &flaw.to_string(), outcome),
            }
        }
    }

    /// Our commitment of this channel, if somebody else may pay for it now.
    pub(super) fn for_others(
        &self,
        owner: OwnerId,
        job: &PublishJob,
        state: &CommitmentState,
    ) -> Option<Transaction> {
        match state {
            CommitmentState::TooDear { .. }
            | CommitmentState::NoCoin { .. }
            | CommitmentState::Sent { .. } => {}
            CommitmentState::AwaitsFunding
            | CommitmentState::AwaitsProof
            | CommitmentState::Suspended
            | CommitmentState::Held
            | CommitmentState::LeavesRoom { .. }
            | CommitmentState::Faulty { .. }
            | CommitmentState::Pending => return None,
        }
        // The state is of the last look: what has happened since counts too.
        let funding = self.watches.funding(owner)?;
        let is_unspent = funding.confirmed.is_some() && funding.spend.is_none();
        let is_current = !self.gates.suspended || job.proven_current;
        let was_let_through = matches!(self.gates.by_owner.get(&owner), Some(Gate::Open { .. }));
        if !(is_unspent && is_current && was_let_through) {
            return None;
        }
        let ready = self.settling.ready.get(&owner)?;
        (ready.parent_txid() == job.commitment.txid()).then(|| ready.parent().clone())
    }
}
