//! What the shard last said of each channel: where payments can go now. A guess, not a promise; the channel decides.

use std::collections::BTreeMap;

use channel::amount::Msat;
use channel::channel::PhaseView;
use channel::ids::{ChannelId, OwnerId};
use shard::DirectoryEntry;

/// One line a channel.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    entries: BTreeMap<OwnerId, DirectoryEntry>,
}

impl Directory {
    pub fn publish(&mut self, entry: DirectoryEntry) {
        self.entries.insert(entry.owner, entry);
    }

    pub fn forget(&mut self, owner: OwnerId) {
        self.entries.remove(&owner);
    }

    /// The usable channel that can send the most, among those not tried yet.
    pub fn best(&self, tried: &[OwnerId]) -> Option<&DirectoryEntry> {
        self.entries
            .values()
            .filter(|entry| entry.usable && !tried.contains(&entry.owner))
            .max_by_key(|entry| entry.spendable_msat)
    }

    /// The most that one payment can send now.
    pub fn spendable(&self) -> Msat {
        self.best(&[]).map_or(Msat::ZERO, |entry| entry.spendable_msat)
    }

    /// Whether payments can be made at all.
    pub fn any_usable(&self) -> bool {
        self.entries.values().any(|entry| entry.usable)
    }

    pub fn owner_of(&self, id: &ChannelId) -> Option<OwnerId> {
        self.entries.values().find(|entry| entry.channel_id == *id).map(|entry| entry.owner)
    }

    pub fn get(&self, owner: OwnerId) -> Option<&DirectoryEntry> {
        self.entries.get(&owner)
    }

    /// Channels that are not at their end.
    pub fn live(&self) -> usize {
        self.entries
            .values()
            .filter(|entry| match entry.phase {
                PhaseView::Opening
                | PhaseView::AwaitingConfirmation { .. }
                | PhaseView::Open
                | PhaseView::ShuttingDown { .. }
                | PhaseView::Frozen { .. }
                | PhaseView::Closing { .. }
                | PhaseView::Failed { .. } => true,
                PhaseView::Closed { .. } | PhaseView::Aborted { .. } => false,
            })
            .count()
    }
}
