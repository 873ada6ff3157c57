//! Writing the parts of batches into a transaction, each under its rules.

use redb::Table;

use crate::batch::{Content, RecordRef, Records, Retained, Snapshot};
use crate::committer::{EventRange, State, Written};
use crate::encoding::{self, RowWriter};
use crate::error::Fault;
use crate::limits::{
    MAX_EVENT_BYTES, MAX_RECORD_BYTES, MAX_RETAINED_KEY_BYTES, MAX_RETAINED_VALUE_BYTES, MAX_SNAPSHOT_BYTES,
    ROW_BYTES, ROW_OVERHEAD_BYTES,
};
use crate::machines::{Life, Stored};
use crate::store::fault;

pub(crate) type NumberedTable<'a> = Table<'a, u64, &'static [u8]>;

/// The rows of the log: which there are, and the one being filled.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    /// The oldest row kept; equal to `next` when there is none.
    pub first: u64,
    /// The number of the next row to be written, also while it is being filled.
    pub next: u64,
    /// Size of the rows kept, overhead included.
    pub bytes: u64,
    /// Size of all rows written since opening: the clock of the search for pins.
    pub clock: u64,
    pub writer: RowWriter,
}

impl Rows {
    pub fn count(&self) -> u64 {
        self.next - self.first
    }

    pub fn size_of(value_bytes: usize) -> u64 {
        value_bytes as u64 + ROW_OVERHEAD_BYTES
    }

    /// Writes the row being filled, if there is anything in it.
    pub fn flush(&mut self, table: &mut NumberedTable<'_>, written: &mut Written) -> Result<(), Fault> {
        if self.writer.is_empty() {
            return Ok(());
        }
        let value = self.writer.finish(self.next);
        table.insert(self.next, value).map_err(fault)?;
        written.rows += 1;
        written.row_bytes += value.len() as u64;
        self.bytes += Rows::size_of(value.len());
        self.clock += Rows::size_of(value.len());
        self.next += 1;
        Ok(())
    }
}

/// Indices and sizes of the kept events.
#[derive(Debug)]
pub(crate) struct EventLog {
    /// The oldest index kept; equal to `next` when no event is.
    pub oldest: u64,
    pub next: u64,
    /// The sum of the lengths of all rows ever written.
    pub written: u64,
    /// The part of that sum that is no longer kept.
    pub removed: u64,
}

impl Default for EventLog {
    /// No event was ever written: the first gets index 1.
    fn default() -> Self {
        EventLog { oldest: 1, next: 1, written: 0, removed: 0 }
    }
}

/// Appends records to the log. Their sequences must follow on without a gap.
pub(crate) fn write_records(
    state: &mut State,
    table: &mut NumberedTable<'_>,
    records: &Records,
    written: &mut Written,
) -> Result<(), Fault> {
    for record in records.iter() {
        admit(state, &record)?;
        if state.rows.writer.is_full_for(&record) {
            state.rows.flush(table, written)?;
        }
        state.rows.writer.push(&record);
        // The flush may have moved on to another row, so the machine learns its row only now.
        if let Some(machine) = state.machines.get_mut(&record.machine) {
            machine.last_row = state.rows.next;
        }
    }
    written.records += records.len() as u64;
    written.input_bytes += records.payload_bytes() as u64;
    Ok(())
}

/// Checks one record and counts it as its machine's latest.
fn admit(state: &mut State, record: &RecordRef<'_>) -> Result<(), Fault> {
    limit("a record", record.payload.len(), MAX_RECORD_BYTES)?;
    let machine = state.machines.entry(record.machine).or_default();
    if machine.life == Life::Gone {
        return Err(Fault::AfterTombstone { machine: record.machine });
    }
    let expected = machine.latest + 1;
    if record.sequence != expected {
        return Err(Fault::Gap { machine: record.machine, expected, found: record.sequence });
    }
    machine.latest = expected;
    Ok(())
}

/// Writes snapshots over those kept before and notes what they make superfluous.
pub(crate) fn write_snapshots(
    state: &mut State,
    table: &mut NumberedTable<'_>,
    snapshots: &[Snapshot],
    written: &mut Written,
) -> Result<(), Fault> {
    for snapshot in snapshots {
        let id = snapshot.machine;
        let found = snapshot.sequence;
        let machine = state.machines.entry(id).or_default();
        if machine.life == Life::Gone {
            return Err(Fault::AfterTombstone { machine: id });
        }
        if found > machine.latest {
            return Err(Fault::SnapshotAhead { machine: id, latest: machine.latest, found });
        }
        match &snapshot.content {
            Content::State { payload, .. } => {
                limit("a snapshot", payload.len(), MAX_SNAPSHOT_BYTES)?;
                if found < machine.covered {
                    continue;
                }
            }
            Content::Tombstone => {
                if found < machine.latest {
                    return Err(Fault::TombstoneBehind { machine: id, latest: machine.latest, found });
                }
                machine.life = Life::Gone;
                state.graves.add(machine.last_row, id);
            }
        }
        machine.covered = found;
        machine.asked_in = 0;
        machine.stored = Stored::Snapshot;
        encoding::encode_snapshot(snapshot, &mut state.scratch);
        table.insert(id.0, state.scratch.as_slice()).map_err(fault)?;
        written.snapshots += 1;
        written.snapshot_bytes += state.scratch.len() as u64;
        state.trim.note_snapshot();
    }
    Ok(())
}

/// Puts and deletes retained rows in order.
pub(crate) fn write_retained(
    value: &mut Vec<u8>,
    table: &mut Table<'_, &'static [u8], &'static [u8]>,
    rows: &[Retained],
    written: &mut Written,
) -> Result<(), Fault> {
    let mut key = Vec::new();
    for row in rows {
        limit("a retained row's key", row.key.len(), MAX_RETAINED_KEY_BYTES)?;
        encoding::retained_key(row.table, &row.key, &mut key);
        match &row.value {
            Some(content) => {
                limit("a retained row", content.len(), MAX_RETAINED_VALUE_BYTES)?;
                encoding::begin(value);
                value.extend_from_slice(content);
                encoding::seal(&key, value);
                table.insert(key.as_slice(), value.as_slice()).map_err(fault)?;
                written.retained_bytes += (key.len() + value.len()) as u64;
            }
            None => {
                table.remove(key.as_slice()).map_err(fault)?;
            }
        }
    }
    Ok(())
}

/// Gives indices to events and writes them: one row, or more when they do not fit in one.
pub(crate) fn write_events<'a>(
    log: &mut EventLog,
    value: &mut Vec<u8>,
    table: &mut NumberedTable<'_>,
    events: impl Iterator<Item = &'a Vec<u8>>,
    written: &mut Written,
) -> Result<(), Fault> {
    /// The longest number before an event.
    const MAX_LENGTH: usize = 10;
    let first = log.next;
    let mut row_first = log.next;
    encoding::begin_events(log.written, value);
    for event in events {
        limit("an event", event.len(), MAX_EVENT_BYTES)?;
        if log.next > row_first && value.len() + MAX_LENGTH + event.len() > ROW_BYTES {
            write_events_row(log, row_first, value, table, written)?;
            row_first = log.next;
            encoding::begin_events(log.written, value);
        }
        encoding::push_event(event, value);
        log.next += 1;
    }
    write_events_row(log, row_first, value, table, written)?;
    written.events = Some(EventRange { first, last: log.next - 1 });
    Ok(())
}

fn write_events_row(
    log: &mut EventLog,
    first: u64,
    value: &mut [u8],
    table: &mut NumberedTable<'_>,
    written: &mut Written,
) -> Result<(), Fault> {
    encoding::seal(&first.to_be_bytes(), value);
    table.insert(first, &*value).map_err(fault)?;
    log.written += value.len() as u64;
    written.event_bytes += value.len() as u64;
    Ok(())
}

fn limit(what: &'static str, length: usize, maximum: usize) -> Result<(), Fault> {
    if length > maximum { Err(Fault::TooLarge { what, length, maximum }) } else { Ok(()) }
}
