//! Commitments that a reorganisation took out of the chain.
//!
//! Nodes put what a block held back into their mempools, and it is likely to be in one of the next blocks again. A commitment
//! of ours that took its place there would pay for a race that nobody needs; and a cheater whose revoked commitment it replaced
//! would be let off. So ours leaves room for some blocks, unless its deadline is near or a person says otherwise.
//!
//! Invariant: it is journaled. A restart in these blocks would let the cheater off as well, and one that began the wait anew
//! would never end for whoever is online for minutes only.

use bitcoin::Txid;
use channel::channel::PublishJob;
use channel::event::{ChainEvent, Command};
use channel::ids::OwnerId;
use serde::{Deserialize, Serialize};

use super::CommitmentState;
use crate::desk::record::Record;
use crate::desk::{Desk, Outcome};
use crate::limits;

/// What spent a funding in a block that is undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::desk) struct Undone {
    txid: Txid,
    /// Ours waits below this height; set at the first look after the reorganisation.
    until: Option<u32>,
}

impl Desk {
    /// A block was disconnected; this is what its channels are told. Gives the rows for it.
    pub(in crate::desk) fn note_undone(&mut self, told: &[(OwnerId, Command)]) -> Vec<Vec<u8>> {
        let mut records = Vec::new();
        for (owner, command) in told {
            if let Command::Chain(ChainEvent::SpendUndone { txid }) = command {
                let (owner, undone) = (*owner, Undone { txid: *txid, until: None });
                self.undone.insert(owner, undone);
                records.push(Record::Undone { owner, undone }.encode());
            }
        }
        records
    }

    /// Whether our commitment need not wait for another one's return.
    pub(super) fn leaves_no_room(
        &mut self,
        owner: OwnerId,
        job: &PublishJob,
        outcome: &mut Outcome,
    ) -> Result<(), CommitmentState> {
        let tip = self.memory.tip().height;
        let settling = &self.settling;
        let Some(undone) = self.undone.get_mut(&owner) else { return Ok(()) };
        let until = match undone.until {
            Some(until) => until,
            None => {
                let until = tip.saturating_add(limits::COME_BACK_BLOCKS);
                undone.until = Some(until);
                outcome.records.push(Record::Undone { owner, undone: *undone }.encode());
                until
            }
        };
        let hurry = limits::COME_BACK_BLOCKS + limits::FEE_PRESSURE_BLOCKS;
        let is_urgent = job.deadline.is_some_and(|deadline| deadline <= tip.saturating_add(hurry));
        let is_asked_for = settling.words.contains_key(&owner) || settling.commitments.contains_key(&owner);
        if is_urgent || is_asked_for || tip >= until || undone.txid == job.commitment.txid() {
            return Ok(());
        }
        Err(CommitmentState::LeavesRoom { txid: undone.txid, until })
    }
}
