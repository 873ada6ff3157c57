//! Whose journal a file is, and how it is kept.

use crate::limits;

/// Whose journal this is. Written when the file is created and compared on every opening, so that a program
/// never replays inputs that it would understand differently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Version of the logic that folds the inputs. Another version opens only a log that holds snapshots alone.
    pub logic_version: u32,
    /// The bitcoin network ("regtest").
    pub network: String,
    /// Role and node key, opaque here.
    pub owner: Vec<u8>,
}

/// Sizes of the journal. The defaults suit a hub; a wallet takes [`Options::small`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Cache of the storage engine, in bytes. Half of it may hold pages that are not yet written.
    pub cache_bytes: usize,
    /// Bound of what is appended and not yet committed, in bytes. One batch above it is taken when nothing else waits.
    pub queue_bytes: usize,
    /// Size of the log in bytes above which [`Commit::wants_snapshot`](crate::Commit::wants_snapshot) names machines.
    pub log_bytes: u64,
    /// Size of the kept events in bytes; the oldest rows above it are removed.
    pub event_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            cache_bytes: limits::DEFAULT_CACHE_BYTES,
            queue_bytes: limits::DEFAULT_QUEUE_BYTES,
            log_bytes: limits::DEFAULT_LOG_BYTES,
            event_bytes: limits::DEFAULT_EVENT_BYTES,
        }
    }
}

impl Options {
    /// Sizes for a wallet: one sixteenth of a hub's.
    pub fn small() -> Self {
        let hub = Options::default();
        Options {
            cache_bytes: hub.cache_bytes / 16,
            queue_bytes: hub.queue_bytes / 16,
            log_bytes: hub.log_bytes / 16,
            event_bytes: hub.event_bytes / 16,
        }
    }
}
