//! Group commit: everything queued since the last turn becomes one transaction with one fsync.
//!
//! The committer is the only writer. What it keeps in memory runs ahead of the disk within a turn and is
//! published (durable position, events, statistics) only when the transaction is committed; a fault ends it for good,
//! so there is nothing to roll back in memory.

use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use redb::WriteTransaction;

use crate::batch::{Batch, MachineId, Position};
use crate::encoding::{EVENTS, LOG, RETAINED, SNAPSHOTS};
use crate::error::Fault;
use crate::limits::{TRIM_ROWS_MINIMUM, TRIM_ROWS_PER_ROW};
use crate::log::{Shared, Wake};
use crate::machines::Machines;
use crate::options::Options;
use crate::stats::count;
use crate::store::{Store, fault};
use crate::trim::{Graves, Search, Trim};
use crate::write::{EventLog, Rows, write_events, write_records, write_retained, write_snapshots};

/// Writes what is appended. It has no thread of its own: [`run`](Committer::run) is the body of one, and a
/// simulator calls [`turn`](Committer::turn). Dropping it closes the log.
#[derive(Debug)]
pub struct Committer {
    store: Arc<Store>,
    shared: Arc<Shared>,
    options: Options,
    state: State,
    /// The batches of the current turn; its memory is swapped with the queue's.
    taken: Vec<Batch>,
    health: Health,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    Sound,
    Faulted,
}

/// What the committer knows of the file.
#[derive(Debug)]
pub(crate) struct State {
    pub machines: Machines,
    pub rows: Rows,
    pub events: EventLog,
    pub graves: Graves,
    pub trim: Trim,
    pub search: Search,
    /// Reused for encoding values.
    pub scratch: Vec<u8>,
}

/// A finished commit: everything up to `durable` is on the disk and may leave the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// The last batch of this commit; all before it are durable too.
    pub durable: Position,
    /// The indices of the events in this commit, first and last.
    pub events: Option<EventRange>,
    /// Machines to snapshot soon: they pin the oldest rows of a log that is too large. In the order in which they
    /// pin it; a machine that gives no snapshot is named again later.
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
    /// The commit of what was still queued, if anything was.
    pub last: Option<Commit>,
    /// Rows of inputs left in the log: 0 after a clean stop, when snapshots hold everything.
    pub log_rows: u64,
    /// Machines without a snapshot of their latest input that pin the oldest row left.
    pub pinned: Vec<MachineId>,
}

/// What one turn wrote.
#[derive(Debug, Default)]
pub(crate) struct Written {
    pub records: u64,
    pub input_bytes: u64,
    pub row_bytes: u64,
    pub rows: usize,
    pub snapshots: usize,
    pub snapshot_bytes: u64,
    pub retained_bytes: u64,
    pub event_bytes: u64,
    pub events: Option<EventRange>,
}

impl Committer {
    pub(crate) fn new(store: Arc<Store>, shared: Arc<Shared>, options: Options, state: State) -> Self {
        shared.counters.log_bytes.store(state.rows.bytes, Ordering::Relaxed);
        Committer { store, shared, options, state, taken: Vec::new(), health: Health::Sound }
    }

    /// Commits everything queued, as one transaction with one fsync. `None` when nothing was queued. After a
    /// fault nothing more is committed and the log is closed.
    pub fn turn(&mut self) -> Result<Option<Commit>, Fault> {
        if self.health == Health::Faulted {
            return Err(Fault::Earlier);
        }
        let Some(last) = self.shared.take(&mut self.taken) else { return Ok(None) };
        // The engine panics on some damage: that is a fault like others, and ends in the same way.
        let result = panic::catch_unwind(AssertUnwindSafe(|| self.commit(last)))
            .unwrap_or_else(|_| Err(Fault::Storage { reason: "the storage engine panicked".to_owned() }));
        self.taken.clear();
        self.settle(result.map(Some))
    }

    /// Blocks until something is queued, or the log is closed and empty.
    pub fn wait(&self) -> Wake {
        self.shared.wait()
    }

    /// Commits until the log is closed and everything queued is durable, then [finishes](Committer::finish).
    /// `on_commit` runs after each commit on this thread: it must not wait for anybody who may be blocked in
    /// [`Log::append`](crate::Log::append).
    pub fn run(mut self, mut on_commit: impl FnMut(&Commit)) -> Result<Finished, Fault> {
        while self.wait() == Wake::Work {
            if let Some(commit) = self.turn()? {
                on_commit(&commit);
            }
        }
        self.finish()
    }

    /// Closes the log, commits what is still queued and removes every row that snapshots have made superfluous.
    /// When all machines have a snapshot of their latest input, only snapshots are left: a clean stop.
    pub fn finish(mut self) -> Result<Finished, Fault> {
        self.shared.close();
        let last = self.turn()?;
        let result = self.trim_all();
        let pinned = self.settle(result)?;
        Ok(Finished { last, log_rows: self.state.rows.count(), pinned })
    }

    /// Remembers a fault and closes the log for everybody.
    fn settle<T>(&mut self, result: Result<T, Fault>) -> Result<T, Fault> {
        if result.is_err() {
            self.health = Health::Faulted;
            self.shared.stop();
        }
        result
    }

    fn commit(&mut self, durable: Position) -> Result<Commit, Fault> {
        let mut written = Written::default();
        let mut wants_snapshot = Vec::new();
        if self.taken.iter().any(|batch| !batch.is_empty()) {
            let transaction = self.store.db.begin_write().map_err(fault)?;
            self.state.write(&transaction, &self.taken, &mut written)?;
            let least = written.rows * TRIM_ROWS_PER_ROW;
            let budget = TRIM_ROWS_MINIMUM.max(least);
            self.state.trim(&transaction, budget)?;
            self.state.trim_events(&transaction, self.options.event_bytes, budget)?;
            wants_snapshot = self.state.search(&transaction, self.options.log_bytes, written.rows)?;
            transaction.commit().map_err(fault)?;
            self.publish(&written);
        }
        self.shared.set_durable(durable);
        Ok(Commit {
            durable,
            events: written.events,
            wants_snapshot,
            records: written.records,
            input_bytes: written.input_bytes,
            row_bytes: written.row_bytes,
            log_bytes: self.state.rows.bytes,
        })
    }

    /// Removes whatever can be removed, in transactions of bounded size.
    fn trim_all(&mut self) -> Result<Vec<MachineId>, Fault> {
        const ROWS_A_COMMIT: usize = 4096;
        while self.state.trim.is_due() {
            let transaction = self.store.db.begin_write().map_err(fault)?;
            self.state.trim(&transaction, ROWS_A_COMMIT)?;
            transaction.commit().map_err(fault)?;
            self.publish(&Written::default());
        }
        Ok(self.state.trim.pinned_by())
    }

    /// Tells the others what a commit made durable.
    fn publish(&mut self, written: &Written) {
        self.store.events.set(self.state.events.oldest, self.state.events.next);
        let counters = &self.shared.counters;
        count(&counters.commits, 1);
        count(&counters.records, written.records);
        count(&counters.input_bytes, written.input_bytes);
        count(&counters.row_bytes, written.row_bytes);
        count(&counters.snapshot_bytes, written.snapshot_bytes);
        count(&counters.retained_bytes, written.retained_bytes);
        count(&counters.event_bytes, written.event_bytes);
        count(&counters.trimmed_rows, std::mem::take(&mut self.state.trim.removed));
        counters.log_bytes.store(self.state.rows.bytes, Ordering::Relaxed);
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

impl State {
    /// Writes all batches into the transaction. Only the tables that get something are touched.
    fn write(
        &mut self,
        transaction: &WriteTransaction,
        batches: &[Batch],
        written: &mut Written,
    ) -> Result<(), Fault> {
        if batches.iter().any(|batch| !batch.records.is_empty() || !batch.snapshots.is_empty()) {
            let mut log = transaction.open_table(LOG).map_err(fault)?;
            let mut snapshots = transaction.open_table(SNAPSHOTS).map_err(fault)?;
            for batch in batches {
                write_records(self, &mut log, &batch.records, written)?;
                write_snapshots(self, &mut snapshots, &batch.snapshots, written)?;
            }
            self.rows.flush(&mut log, written)?;
        }
        if batches.iter().any(|batch| !batch.retained.is_empty()) {
            let mut retained = transaction.open_table(RETAINED).map_err(fault)?;
            for batch in batches {
                write_retained(&mut self.scratch, &mut retained, &batch.retained, written)?;
            }
        }
        if batches.iter().any(|batch| !batch.events.is_empty()) {
            let mut table = transaction.open_table(EVENTS).map_err(fault)?;
            let events = batches.iter().flat_map(|batch| &batch.events);
            write_events(&mut self.events, &mut self.scratch, &mut table, events, written)?;
        }
        Ok(())
    }
}
