//! Counters of the work done since opening.

use std::sync::atomic::{AtomicU64, Ordering};

/// What the journal did since it was opened. Bytes are those of the values, unless said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Transactions committed.
    pub commits: u64,
    /// Times the file was synced: one a commit, and those of opening.
    pub fsyncs: u64,
    /// Records committed.
    pub records: u64,
    /// Bytes of the records' payloads: the inputs themselves.
    pub input_bytes: u64,
    /// Bytes of the log's rows: inputs with their heads and checks.
    pub row_bytes: u64,
    /// Bytes of snapshots.
    pub snapshot_bytes: u64,
    /// Bytes of retained rows, keys included.
    pub retained_bytes: u64,
    /// Bytes of events' rows.
    pub event_bytes: u64,
    /// Bytes handed to the operating system, pages of the tree included.
    pub device_bytes: u64,
    /// Rows of the log removed.
    pub trimmed_rows: u64,
    /// Size of the log now, in bytes.
    pub log_bytes: u64,
}

/// The counters behind [`Stats`], shared by the threads that count and those that read.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub commits: AtomicU64,
    pub fsyncs: AtomicU64,
    pub records: AtomicU64,
    pub input_bytes: AtomicU64,
    pub row_bytes: AtomicU64,
    pub snapshot_bytes: AtomicU64,
    pub retained_bytes: AtomicU64,
    pub event_bytes: AtomicU64,
    pub device_bytes: AtomicU64,
    pub trimmed_rows: AtomicU64,
    pub log_bytes: AtomicU64,
}

impl Counters {
    pub fn read(&self) -> Stats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            commits: get(&self.commits),
            fsyncs: get(&self.fsyncs),
            records: get(&self.records),
            input_bytes: get(&self.input_bytes),
            row_bytes: get(&self.row_bytes),
            snapshot_bytes: get(&self.snapshot_bytes),
            retained_bytes: get(&self.retained_bytes),
            event_bytes: get(&self.event_bytes),
            device_bytes: get(&self.device_bytes),
            trimmed_rows: get(&self.trimmed_rows),
            log_bytes: get(&self.log_bytes),
        }
    }
}

/// Adds to a counter.
pub(crate) fn count(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}
