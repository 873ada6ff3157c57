//! Channels whose journal does not fold into a state: set aside one by one, so that all others start.
//!
//! Invariant: nothing is signed, answered or forgotten for such a channel. It behaves as after data loss (DESIGN section 5):
//! the peer is told, and closes it on the chain.

use channel::ids::{ChannelId, OwnerId};
use channel::keys::Point;
use serde::{Deserialize, Serialize};

use crate::machine::MachineLog;
use crate::shard::Shard;

/// A channel that was set aside at recovery, for the host to show and to warn about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    pub owner: OwnerId,
    /// Known only if a state could be rebuilt at all.
    pub channel_id: Option<ChannelId>,
    pub node: Option<Point>,
    pub why: String,
    pub(crate) log: MachineLog,
    /// What the journal keeps of it: written as its snapshot when the journal asks for one, so that it pins no rows.
    pub(crate) evidence: Evidence,
    pub(crate) snapshot_queued: bool,
}

/// A broken channel's last bytes, for a person to look at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    pub why: String,
    pub channel_id: Option<ChannelId>,
    pub node: Option<Point>,
    /// The snapshot's sequence, payload and stored hash, if there was one.
    pub snapshot: Option<(u64, Vec<u8>, [u8; 32])>,
    /// The records after it in order, up to [`MAX_EVIDENCE_BYTES`](crate::limits::MAX_EVIDENCE_BYTES) in all.
    pub records: Vec<(u64, Vec<u8>)>,
    /// Whether records were left out for their size.
    pub cut: bool,
}

impl Shard {
    /// The channels set aside at recovery.
    pub fn quarantined(&self) -> impl Iterator<Item = &Quarantined> {
        self.quarantine.values()
    }

    /// There are next to none, so looking at each is cheap.
    pub(crate) fn quarantined_by_id(&self, id: &ChannelId) -> Option<&Quarantined> {
        self.quarantine.values().find(|quarantined| quarantined.channel_id.as_ref() == Some(id))
    }
}
