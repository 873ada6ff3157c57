//! What keeps this process from publishing by itself: a proof that it lost data, and too many closes at once.
//!
//! A party that runs from an old backup must not publish: its latest commitment may be revoked. Who proves it (a peer that
//! knows more than we do) suspends every channel that no peer has confirmed in this process's life, deadlines or not,
//! until a person says otherwise. A proof needs a peer, so after a start what no peer confirmed waits a while for one
//! ([`DeskConfig::proof_wait`](crate::desk::DeskConfig::proof_wait)), deadlines or not: seconds, where blocks take
//! minutes. And many channels that fail at once are more likely a fault of ours than of
//! everybody else's: beyond [`Breaker::publications`] within [`Breaker::window_blocks`] the rest waits for a person
//! too, unless a deadline is near.
//!
//! Invariant: what a person decided, and what was let through, is journaled: a restart neither asks again nor forgets.

use std::time::Duration;

use channel::channel::PublishJob;
use channel::ids::OwnerId;
use serde::{Deserialize, Serialize};

use super::CommitmentState;
use crate::desk::record::Record;
use crate::desk::{Desk, DeskReport, Outcome};
use crate::limits;

/// How many commitments are published without asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breaker {
    pub publications: u32,
    pub window_blocks: u32,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { publications: limits::BREAKER_PUBLICATIONS, window_blocks: limits::BREAKER_WINDOW_BLOCKS }
    }
}

/// Whether a channel's commitment may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::desk) enum Gate {
    /// Let through, at this height.
    Open { height: u32 },
    /// Waits for a person.
    Held,
}

impl Desk {
    /// A peer proved that this party lost data. A channel counts once, however often it says so: after
    /// [`Desk::resume_publishing`] its repeat changes nothing.
    pub fn suspend(&mut self, by: OwnerId, outcome: &mut Outcome) {
        if !self.gates.suspenders.insert(by) {
            return;
        }
        self.gates.suspended = true;
        outcome.records.push(Record::Suspended { by }.encode());
        outcome.reports.push(DeskReport::Suspended { by });
        self.settling.wanted = true;
    }

    /// A person ends the suspension: every channel's latest commitment is good to publish. Gives whether there was one.
    pub fn resume_publishing(&mut self) -> (bool, Outcome) {
        let mut outcome = Outcome::default();
        let was_suspended = std::mem::take(&mut self.gates.suspended);
        if was_suspended {
            self.settling.first_look = Some(0);
            outcome.records.push(Record::PublishingResumed.encode());
            self.settling.wanted = true;
        }
        (was_suspended, outcome)
    }

    /// A person asked for this very close.
    pub(in crate::desk) fn allow(&mut self, owner: OwnerId, outcome: &mut Outcome) {
        if !matches!(self.gates.by_owner.get(&owner), Some(Gate::Open { .. })) {
            self.set_gate(owner, Gate::Open { height: self.memory.tip().height }, outcome);
            self.settling.wanted = true;
        }
    }

    /// A person lets everything through that the breaker holds. Gives whose that is.
    pub fn release_held(&mut self) -> (Vec<OwnerId>, Outcome) {
        let mut outcome = Outcome::default();
        let held = self.held();
        for owner in &held {
            self.set_gate(*owner, Gate::Open { height: self.memory.tip().height }, &mut outcome);
        }
        self.settling.wanted |= !held.is_empty();
        (held, outcome)
    }

    /// The channels whose commitments the breaker holds.
    pub(in crate::desk) fn held(&self) -> Vec<OwnerId> {
        let gates = self.gates.by_owner.iter();
        gates.filter(|(_, gate)| **gate == Gate::Held).map(|(owner, _)| *owner).collect()
    }

    pub(super) fn may_publish(
        &mut self,
        owner: OwnerId,
        job: &PublishJob,
        outcome: &mut Outcome,
    ) -> Result<(), CommitmentState> {
        if self.gates.suspended && !job.proven_current {
            return Err(CommitmentState::Suspended);
        }
        if !job.proven_current && self.proof_seconds_left() > 0 {
            return Err(CommitmentState::AwaitsProof);
        }
        let tip = self.memory.tip().height;
        let near = |deadline: u32| deadline <= tip.saturating_add(limits::BREAKER_URGENT_BLOCKS);
        let is_urgent = job.deadline.is_some_and(near);
        match self.gates.by_owner.get(&owner) {
            Some(Gate::Open { .. }) => return Ok(()),
            Some(Gate::Held) if !is_urgent => return Err(CommitmentState::Held),
            Some(Gate::Held) | None => {}
        }
        let since = tip.saturating_sub(self.config.breaker.window_blocks);
        let recent = self.gates.by_owner.values().filter(|gate| match gate {
            Gate::Open { height } => *height > since,
            Gate::Held => false,
        });
        let recent = u32::try_from(recent.count()).unwrap_or(u32::MAX);
        if is_urgent || recent < self.config.breaker.publications {
            self.set_gate(owner, Gate::Open { height: tip }, outcome);
            return Ok(());
        }
        self.set_gate(owner, Gate::Held, outcome);
        outcome.reports.push(DeskReport::Held { owner });
        Err(CommitmentState::Held)
    }

    /// How long commitments that no peer confirmed wait for one yet, if any does: then the desk should look again.
    pub fn looks_again_in(&self) -> Option<Duration> {
        let mut states = self.settling.commitment_states.values();
        let waits = states.any(|state| *state == CommitmentState::AwaitsProof);
        waits.then(|| Duration::from_secs(self.proof_seconds_left().max(1)))
    }

    fn proof_seconds_left(&self) -> u64 {
        let since = self.settling.first_look.unwrap_or(self.now);
        since.saturating_add(self.config.proof_wait.as_secs()).saturating_sub(self.now)
    }

    fn set_gate(&mut self, owner: OwnerId, gate: Gate, outcome: &mut Outcome) {
        self.gates.by_owner.insert(owner, gate);
        outcome.records.push(Record::Gate { owner, gate }.encode());
    }
}
