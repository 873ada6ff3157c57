//! Snapshots while running, the clean stop, and the end of channels.
//!
//! A snapshot's payload begins with a byte that says what follows: a channel's state or the evidence of a broken one.

use channel::ids::OwnerId;
use journal::ReadError;

use crate::limits;
use crate::outlet::Outlet;
use crate::quarantine::Evidence;
use crate::release::Outgoing;
use crate::shard::{Run, Shard};

const STATE: u8 = 0;
const EVIDENCE: u8 = 1;

/// What a snapshot's payload holds.
#[derive(Debug, PartialEq)]
pub(crate) enum Payload<'a> {
    /// `Channel::encode_snapshot`'s bytes.
    State(&'a [u8]),
    Evidence(Box<Evidence>),
    Unknown,
}

impl<'a> Payload<'a> {
    pub fn decode(bytes: &'a [u8]) -> Self {
        match bytes.split_first() {
            Some((&STATE, state)) => Payload::State(state),
            Some((&EVIDENCE, evidence)) => channel::bytes::read_all(evidence)
                .map_or(Payload::Unknown, |e| Payload::Evidence(Box::new(e))),
            Some(_) | None => Payload::Unknown,
        }
    }
}

impl Shard {
    /// Remembers that the channel's snapshot is wanted. Repeats while it waits cost nothing.
    pub(crate) fn queue_snapshot(&mut self, owner: OwnerId) {
        let queued = if let Some(slot) = self.table.by_owner(owner) {
            &mut self.table.get_mut(slot).snapshot_queued
        } else if let Some(quarantined) = self.quarantine.get_mut(&owner) {
            &mut quarantined.snapshot_queued
        } else {
            return;
        };
        if !std::mem::replace(queued, true) {
            self.turn.snapshots.push_back(owner);
        }
    }

    /// At a turn's end, when all its records are in the batch: the snapshots wanted, as many as a turn takes.
    pub(crate) fn take_snapshots(&mut self) {
        for _ in 0..limits::MAX_SNAPSHOTS_A_TURN {
            let Some(owner) = self.turn.snapshots.pop_front() else { break };
            if let Some(slot) = self.table.by_owner(owner) {
                let hosted = self.table.get_mut(slot);
                hosted.snapshot_queued = false;
                let mut payload = vec![STATE];
                payload.extend_from_slice(&hosted.channel.encode_snapshot());
                let snapshot = hosted.log.snapshot(payload, hosted.channel.state_hash());
                self.turn.batch.snapshots.push(snapshot);
            } else if let Some(quarantined) = self.quarantine.get_mut(&owner) {
                quarantined.snapshot_queued = false;
                let payload = postcard::to_extend(&quarantined.evidence, vec![EVIDENCE])
                    .expect("a vector takes any number of bytes");
                self.turn.batch.snapshots.push(quarantined.log.snapshot(payload, [0; 32]));
            }
        }
    }

    /// At a turn's end: channels that ended in it get their tombstone, lose their revocation log and can no longer be found.
    pub(crate) fn bury_ended(&mut self, outlet: &mut impl Outlet) -> Result<(), ReadError> {
        while let Some(slot) = self.turn.ended.pop() {
            let hosted = self.table.get(slot);
            self.turn.batch.snapshots.push(hosted.log.tombstone());
            self.turn.batch.retained.extend(outlet.ending(&hosted.channel.view()));
            let owner = hosted.owner;
            self.table.retire(slot);
            self.turn.pending.push(Outgoing::Finished { slot });
            self.sweep_ended(owner)?;
        }
        Ok(())
    }

    /// A clean stop: every channel is disconnected in this turn and has its snapshot taken in this and the next ones.
    pub(crate) fn stop(&mut self) {
        let slots: Vec<_> = self.table.after(None).collect();
        for slot in &slots {
            self.disconnect(*slot);
        }
        // What the disconnections tell other channels is handled now: no record may follow a snapshot of the stop.
        self.settle();
        self.turn.local.clear();
        self.run = Run::Stopping;
        for slot in slots {
            let owner = self.table.get(slot).owner;
            self.queue_snapshot(owner);
        }
        for owner in self.quarantine.keys().copied().collect::<Vec<_>>() {
            self.queue_snapshot(owner);
        }
    }
}
