//! The hub's shutdowns that wait for this wallet's own (BOLT 2: whoever receives a shutdown sends one).
//!
//! Invariant: one address is asked for a channel and process. A restart between the hub's shutdown and ours finds the
//! channel in the same state, and asks again.

use std::collections::BTreeSet;

use channel::channel::PhaseView;
use channel::ids::OwnerId;
use shard::DirectoryEntry;

/// The channels whose answer is on its way or done.
#[derive(Debug, Default)]
pub struct Answers(BTreeSet<OwnerId>);

impl Answers {
    /// Whether the channel's shutdown is to be answered now.
    pub fn due(&mut self, entry: &DirectoryEntry) -> bool {
        match entry.phase {
            PhaseView::ShuttingDown { by_us: false, by_counterparty: true } => self.0.insert(entry.owner),
            PhaseView::ShuttingDown { .. }
            | PhaseView::Opening
            | PhaseView::AwaitingConfirmation { .. }
            | PhaseView::Open
            | PhaseView::Frozen { .. }
            | PhaseView::Closing { .. }
            | PhaseView::Closed { .. }
            | PhaseView::Aborted { .. }
            | PhaseView::Failed { .. } => false,
        }
    }

    /// The channel ended.
    pub fn forget(&mut self, owner: OwnerId) {
        self.0.remove(&owner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use channel::amount::Msat;
    use channel::ids::ChannelId;
    use channel::keys::Point;

    fn entry(owner: u64, phase: PhaseView, spendable: u32) -> DirectoryEntry {
        DirectoryEntry {
            owner: OwnerId(owner),
            channel_id: ChannelId([1; 32]),
            node: Point::from_bytes([2; 33]),
            session: None,
            usable: false,
            spendable_msat: Msat::from_u32(spendable),
            receivable_msat: Msat::ZERO,
            phase,
            funded: true,
        }
    }

    #[test]
    fn the_hubs_shutdown_is_answered_once_and_again_only_after_a_restart() {
        let theirs = PhaseView::ShuttingDown { by_us: false, by_counterparty: true };
        let mut answers = Answers::default();
        assert!(!answers.due(&entry(1, PhaseView::Open, 9)));
        assert!(answers.due(&entry(1, theirs.clone(), 0)));
        assert!(!answers.due(&entry(1, theirs.clone(), 1)), "the line changed, the answer is on its way");
        assert!(answers.due(&entry(2, theirs.clone(), 0)));
        let both = PhaseView::ShuttingDown { by_us: true, by_counterparty: true };
        let ours = PhaseView::ShuttingDown { by_us: true, by_counterparty: false };
        assert!(!answers.due(&entry(3, both, 0)));
        assert!(!answers.due(&entry(3, ours, 0)));
        assert!(Answers::default().due(&entry(1, theirs, 0)), "a new process knows nothing of it");
    }
}
