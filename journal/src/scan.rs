//! Reading a journal's snapshots and log once at its opening: every row's check is compared and every machine's
//! sequence followed, so that what starts from it starts from something whole.

use std::path::Path;

use redb::ReadTransaction;

use crate::batch::MachineId;
use crate::encoding::{self, EVENTS, LOG, RETAINED, RowCursor, SNAPSHOTS};
use crate::error::{OpenError, ReadError, RowName};
use crate::machines::{Life, Machine, Machines, Stored};
use crate::reader;
use crate::store::open_error;
use crate::write::{EventLog, Rows};

/// What the scan found.
pub(crate) struct Found {
    pub machines: Machines,
    pub rows: Rows,
    pub events: EventLog,
    /// Records not covered by a snapshot.
    pub records: u64,
}

/// Scans the file seen by `transaction`; `file` is named in errors.
pub(crate) fn scan(file: &Path, transaction: &ReadTransaction) -> Result<Found, OpenError> {
    let mut machines = scan_snapshots(file, transaction)?;
    let (rows, records) = scan_log(file, transaction, &mut machines)?;
    let events = scan_events(file, transaction)?;
    Ok(Found { machines, rows, events, records })
}

fn scan_snapshots(file: &Path, transaction: &ReadTransaction) -> Result<Machines, OpenError> {
    let mut machines = Machines::default();
    let table = transaction.open_table(SNAPSHOTS).map_err(|error| open_error(file, error))?;
    for row in table.range_owned::<u64>(..).map_err(|error| open_error(file, error))? {
        let (key, value) = row.map_err(|error| open_error(file, error))?;
        let id = MachineId(key.value());
        let snapshot = encoding::decode_snapshot(id, value.value())
            .map_err(|reason| OpenError::BrokenRow { row: RowName::Snapshot(id), reason })?;
        let life = if snapshot.state.is_some() { Life::Alive } else { Life::Gone };
        let machine = Machine {
            latest: snapshot.sequence,
            covered: snapshot.sequence,
            life,
            stored: Stored::Snapshot,
            ..Machine::default()
        };
        machines.insert(id, machine);
    }
    Ok(machines)
}

/// Follows the machines through the log. Rows are numbered without a gap and removed from the front only.
fn scan_log(
    file: &Path,
    transaction: &ReadTransaction,
    machines: &mut Machines,
) -> Result<(Rows, u64), OpenError> {
    let mut rows = Rows { first: 1, next: 1, ..Rows::default() };
    let mut records = 0;
    let table = transaction.open_table(LOG).map_err(|error| open_error(file, error))?;
    for row in table.range_owned::<u64>(..).map_err(|error| open_error(file, error))? {
        let (key, value) = row.map_err(|error| open_error(file, error))?;
        let number = key.value();
        if rows.count() == 0 {
            (rows.first, rows.next) = (number, number);
        }
        if number != rows.next {
            return Err(broken_row(rows.next, "it is missing"));
        }
        records += scan_row(number, value.value(), machines)?;
        rows.bytes += Rows::size_of(value.value().len());
        rows.next = number + 1;
    }
    Ok((rows, records))
}

/// Checks one row of the log and follows its machines; how many of its records no snapshot covers.
fn scan_row(number: u64, value: &[u8], machines: &mut Machines) -> Result<u64, OpenError> {
    let broken = |reason| broken_row(number, reason);
    let mut cursor = RowCursor::new(number, value).map_err(broken)?;
    let mut uncovered = 0;
    while let Some(place) = cursor.next(value).map_err(broken)? {
        let machine = machines.entry(place.machine).or_default();
        machine.last_row = number;
        if place.sequence <= machine.covered {
            continue;
        }
        let expected = machine.latest + 1;
        if place.sequence != expected || machine.life == Life::Gone {
            let (machine, found) = (place.machine, place.sequence);
            return Err(OpenError::Gap { machine, row: number, expected, found });
        }
        machine.latest = expected;
        uncovered += 1;
    }
    Ok(uncovered)
}

/// The bounds of the events: the oldest and the newest row tell them.
fn scan_events(file: &Path, transaction: &ReadTransaction) -> Result<EventLog, OpenError> {
    let table = transaction.open_table(EVENTS).map_err(|error| open_error(file, error))?;
    reader::bounds(&table).map_err(|error| match error {
        ReadError::Storage { reason } => OpenError::Damaged { file: file.to_owned(), reason },
        ReadError::BrokenRow { row, reason } => OpenError::BrokenRow { row, reason },
    })
}

/// Looks for the broken row among those that the scan leaves out, once the engine says that something is wrong.
pub(crate) fn find_broken_row(transaction: &ReadTransaction) -> Option<OpenError> {
    for row in transaction.open_table(RETAINED).ok()?.range_owned::<&[u8]>(..).ok()? {
        let (key, value) = row.ok()?;
        if let Err(reason) = encoding::unseal(key.value(), value.value()) {
            return Some(OpenError::BrokenRow { row: RowName::retained(key.value()), reason });
        }
    }
    for row in transaction.open_table(EVENTS).ok()?.range_owned::<u64>(..).ok()? {
        let (first, value) = row.ok()?;
        if let Err(reason) = encoding::decode_events(first.value(), value.value()) {
            return Some(OpenError::BrokenRow { row: RowName::Events(first.value()), reason });
        }
    }
    None
}

fn broken_row(number: u64, reason: &'static str) -> OpenError {
    OpenError::BrokenRow { row: RowName::Log(number), reason }
}
