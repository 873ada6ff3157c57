//! What the journal held when it was opened: all snapshots, then all records after them.

use std::sync::Arc;

use redb::{OwnedAccessGuard, OwnedRange, ReadTransaction};

use crate::batch::{Content, MachineId, RecordRef, Snapshot};
use crate::encoding::{self, Flaw, LOG, RowCursor, SNAPSHOTS};
use crate::error::{ReadError, RowName};
use crate::machines::Covered;
use crate::store::read_error;

/// The state of the journal at its opening. Every row of it was checked then. Drop it when the machines are rebuilt:
/// while it lives, the space of trimmed rows is not used again.
#[derive(Debug)]
pub struct Recovery {
    view: Arc<View>,
    written_by: Option<u32>,
    records: u64,
}

/// One consistent view of the file, whatever is committed after it was taken.
#[derive(Debug)]
pub(crate) struct View {
    pub transaction: Transaction,
    pub covered: Covered,
}

/// The engine's read transaction has no `Debug` of its own.
pub(crate) struct Transaction(pub ReadTransaction);

impl std::fmt::Debug for Transaction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Transaction")
    }
}

impl Recovery {
    pub(crate) fn new(view: View, written_by: Option<u32>, records: u64) -> Self {
        Recovery { view: Arc::new(view), written_by, records }
    }

    /// The version of the logic that wrote what is here; `None` when the file was just created. It differs
    /// from this program's only after a clean stop.
    pub fn written_by(&self) -> Option<u32> {
        self.written_by
    }

    /// How many records [`records`](Recovery::records) will give; 0 after a clean stop.
    pub fn record_count(&self) -> u64 {
        self.records
    }

    /// The snapshots of all living machines, in the order of their ids. May be called again, also from several threads.
    pub fn snapshots(&self) -> Result<Snapshots, ReadError> {
        let table = self.view.transaction.0.open_table(SNAPSHOTS).map_err(read_error)?;
        Ok(Snapshots { rows: table.range_owned::<u64>(..).map_err(read_error)? })
    }

    /// The records not covered by a snapshot, in the order in which they were appended: each machine's begin
    /// right after its snapshot and have no gap. May be called again, also from several threads.
    pub fn records(&self) -> Result<Replay, ReadError> {
        let table = self.view.transaction.0.open_table(LOG).map_err(read_error)?;
        let rows = table.range_owned::<u64>(..).map_err(read_error)?;
        Ok(Replay { view: self.view.clone(), rows, row: None })
    }
}

/// Yields snapshots.
pub struct Snapshots {
    rows: OwnedRange<u64, &'static [u8]>,
}

impl Iterator for Snapshots {
    type Item = Result<Snapshot, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (key, value) = match self.rows.next()? {
                Ok(row) => row,
                Err(error) => return Some(Err(read_error(error))),
            };
            let machine = MachineId(key.value());
            match encoding::decode_snapshot(machine, value.value()) {
                Ok(row) => {
                    let Some((hash, payload)) = row.state else { continue };
                    let content = Content::State { payload: payload.to_vec(), hash: *hash };
                    return Some(Ok(Snapshot { machine, sequence: row.sequence, content }));
                }
                Err(reason) => {
                    return Some(Err(ReadError::BrokenRow { row: RowName::Snapshot(machine), reason }));
                }
            }
        }
    }
}

/// Yields records, borrowed from the row being read: one row is in memory at a time.
pub struct Replay {
    view: Arc<View>,
    rows: OwnedRange<u64, &'static [u8]>,
    row: Option<Row>,
}

/// The row being read.
struct Row {
    number: u64,
    value: OwnedAccessGuard<&'static [u8]>,
    cursor: RowCursor,
}

impl Replay {
    /// The next record, `None` after the last. (Not an `Iterator`: the record is borrowed from the row.)
    #[expect(clippy::should_implement_trait, reason = "an iterator's items cannot borrow from it")]
    pub fn next(&mut self) -> Result<Option<RecordRef<'_>>, ReadError> {
        let place = loop {
            if let Some(row) = &mut self.row {
                let number = row.number;
                let place = row.cursor.next(row.value.value()).map_err(|reason| broken(number, reason))?;
                match place {
                    Some(place) if self.view.is_covered(place.machine, place.sequence) => continue,
                    Some(place) => break place,
                    None => {}
                }
            }
            let Some(next) = self.rows.next() else { return Ok(None) };
            let (key, value) = next.map_err(read_error)?;
            let number = key.value();
            let cursor = RowCursor::new(number, value.value()).map_err(|reason| broken(number, reason))?;
            self.row = Some(Row { number, value, cursor });
        };
        Ok(self.row.as_ref().map(|row| RecordRef {
            machine: place.machine,
            sequence: place.sequence,
            payload: &row.value.value()[place.payload],
        }))
    }
}

impl View {
    fn is_covered(&self, machine: MachineId, sequence: u64) -> bool {
        self.covered.get(&machine).is_some_and(|&covered| sequence <= covered)
    }
}

fn broken(number: u64, reason: Flaw) -> ReadError {
    ReadError::BrokenRow { row: RowName::Log(number), reason }
}

impl std::fmt::Debug for Snapshots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Snapshots")
    }
}

impl std::fmt::Debug for Replay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Replay")
    }
}
