//! Group commit: everything queued since the last turn becomes one transaction with one fsync.
#![allow(clippy::unimplemented)]

use crate::batch::{MachineId, Position};
use crate::error::Fault;
use crate::log::Wake;

/// Writes what is appended. It has no thread of its own: [`run`](Committer::run) is the body of one, and a
/// simulator calls [`turn`](Committer::turn).
#[derive(Debug)]
pub struct Committer {}

/// A finished commit: everything up to `durable` is on the disk and may leave the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// The last batch of this commit; all before it are durable too.
    pub durable: Position,
    /// The indices of the events in this commit, first and last.
    pub events: Option<EventRange>,
    /// Machines to snapshot soon: they pin the oldest rows of a log that is too large. In the order in which they pin it.
    pub wants_snapshot: Vec<MachineId>,
    /// Records in this commit.
    pub records: u64,
    /// Bytes of their payloads.
    pub input_bytes: u64,
    /// Bytes of the log's rows written.
    pub row_bytes: u64,
    /// Size of the log after this commit, in bytes.
    pub log_bytes: u64,
}

/// Indices of events, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventRange {
    pub first: u64,
    pub last: u64,
}

/// How the journal was left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// What was still queued, if anything.
    pub last: Option<Commit>,
    /// Rows of inputs left in the log: 0 after a clean stop, when snapshots hold everything.
    pub log_rows: u64,
    /// Some of the machines without which the log would be empty.
    pub pinned: Vec<MachineId>,
}

impl Committer {
    /// Commits everything queued, as one transaction with one fsync. `None` when nothing was queued. After a
    /// fault nothing more is committed and the log is closed.
    pub fn turn(&mut self) -> Result<Option<Commit>, Fault> {
        unimplemented!()
    }

    /// Blocks until something is queued, or the log is closed and empty.
    pub fn wait(&self) -> Wake {
        unimplemented!()
    }

    /// Commits until the log is closed and everything queued is durable, then [finishes](Committer::finish).
    /// `on_commit` runs after each commit on this thread: it must not wait for anybody who may be blocked in
    /// [`Log::append`](crate::Log::append).
    pub fn run(self, _on_commit: impl FnMut(&Commit)) -> Result<Finished, Fault> {
        unimplemented!()
    }

    /// Closes the log, commits what is still queued and removes every row that snapshots have made superfluous.
    /// When all machines have a snapshot of their latest input, only snapshots are left: a clean stop.
    pub fn finish(self) -> Result<Finished, Fault> {
        unimplemented!()
    }
}
