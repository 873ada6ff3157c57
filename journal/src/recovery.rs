//! What the journal held when it was opened: all snapshots, then all records after them.
#![allow(clippy::unimplemented)]

use crate::batch::{RecordRef, Snapshot};
use crate::error::ReadError;

/// The state of the journal at its opening. Every row was checked then. Drop it when the machines are rebuilt:
/// while it lives, the space of trimmed rows is not used again.
#[derive(Debug)]
pub struct Recovery {}

impl Recovery {
    /// The version of the logic that wrote what is here; `None` when the file was just created. It differs
    /// from this program's only after a clean stop.
    pub fn written_by(&self) -> Option<u32> {
        unimplemented!()
    }

    /// The snapshots of all living machines, in the order of their ids. May be called again, also from several threads.
    pub fn snapshots(&self) -> Result<Snapshots, ReadError> {
        unimplemented!()
    }

    /// The records not covered by a snapshot, in the order in which they were appended: each machine's begin
    /// right after its snapshot and have no gap. May be called again, also from several threads.
    pub fn records(&self) -> Result<Replay, ReadError> {
        unimplemented!()
    }
}

/// Yields snapshots.
#[derive(Debug)]
pub struct Snapshots {}

impl Iterator for Snapshots {
    type Item = Result<Snapshot, ReadError>;
    fn next(&mut self) -> Option<Self::Item> {
        unimplemented!()
    }
}

/// Yields records, borrowed from the row being read: one row is in memory at a time.
#[derive(Debug)]
pub struct Replay {}

impl Replay {
    /// The next record, `None` after the last.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<RecordRef<'_>>, ReadError> {
        unimplemented!()
    }
}
