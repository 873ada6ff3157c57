//! Commitments that a reorganisation took out of the chain.
//!
//! Nodes put what a block held back into their mempools, and it is likely to be in one of the next blocks again. A commitment
//! of ours that took its place there would pay for a race that nobody needs; and a cheater whose revoked commitment it replaced
//! would be let off. So ours leaves room for some blocks, unless its deadline is near or a person says otherwise.
//!
//! In memory only: after a restart ours is sent at once.

use bitcoin::Txid;
use channel::channel::PublishJob;
use channel::event::{ChainEvent, Command};
use channel::ids::OwnerId;

use super::CommitmentState;
use crate::desk::Desk;
use crate::limits;

/// What spent a funding in a block that is undone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Undone {
    txid: Txid,
    /// Ours waits below this height; set at the first look after the reorganisation.
    until: Option<u32>,
}

impl Desk {
    /// A block was disconnected; this is what its channels are told.
    pub(in crate::desk) fn note_undone(&mut self, told: &[(OwnerId, Command)]) {
        for (owner, command) in told {
            if let Command::Chain(ChainEvent::SpendUndone { txid }) = command {
                self.settling.undone.insert(*owner, Undone { txid: *txid, until: None });
            }
        }
    }

    /// Whether our commitment need not wait for another one's return.
    pub(super) fn leaves_no_room(&mut self, owner: OwnerId, job: &PublishJob) -> Result<(), CommitmentState> {
        let tip = self.memory.tip().height;
        let settling = &mut self.settling;
        let Some(undone) = settling.undone.get_mut(&owner) else { return Ok(()) };
        let until = *undone.until.get_or_insert(tip.saturating_add(limits::COME_BACK_BLOCKS));
        let hurry = limits::COME_BACK_BLOCKS + limits::FEE_PRESSURE_BLOCKS;
        let is_urgent = job.deadline.is_some_and(|deadline| deadline <= tip.saturating_add(hurry));
        let is_asked_for = settling.words.contains_key(&owner) || settling.commitments.contains_key(&owner);
        if is_urgent || is_asked_for || tip >= until || undone.txid == job.commitment.txid() {
            return Ok(());
        }
        Err(CommitmentState::LeavesRoom { txid: undone.txid, until })
    }
}
