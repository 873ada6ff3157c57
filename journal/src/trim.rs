//! Keeping the log bounded. Rows go from the front only: the oldest goes when every record in it is covered by its
//! machine's snapshot, and the machines that pin it are the ones to snapshot next. So memory holds the pins of one
//! row, whatever the size of the log.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};

use redb::{ReadableTable, WriteTransaction};

use crate::batch::MachineId;
use crate::committer::State;
use crate::encoding::{self, EVENTS, LOG, RowCursor, SNAPSHOTS};
use crate::error::{Fault, RowName};
use crate::limits::{ASK_AGAIN_SHARE, PIN_SEARCH_ROWS};
use crate::machines::{Machines, Stored};
use crate::store::fault;
use crate::write::{NumberedTable, Rows};

/// Machines with a tombstone, by the last row that holds a record of them.
#[derive(Debug, Default)]
pub(crate) struct Graves(BinaryHeap<Reverse<(u64, MachineId)>>);

impl Graves {
    pub fn add(&mut self, last_row: u64, machine: MachineId) {
        self.0.push(Reverse((last_row, machine)));
    }

    /// A machine of which no row from `first` on holds a record.
    fn take_before(&mut self, first: u64) -> Option<MachineId> {
        let Reverse((last_row, machine)) = *self.0.peek()?;
        if last_row >= first {
            return None;
        }
        self.0.pop();
        Some(machine)
    }
}

/// The state of removing rows from the front.
#[derive(Debug)]
pub(crate) struct Trim {
    /// What still pins the oldest row, once it was read.
    front: Option<Front>,
    due: Due,
    /// Rows removed since this was last taken for the statistics.
    pub removed: u64,
}

#[derive(Debug)]
struct Front {
    value_bytes: usize,
    pins: Vec<Pin>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pin {
    machine: MachineId,
    sequence: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    /// Nothing can be removed before the next snapshot.
    Waiting,
    /// There may be something to remove.
    Now,
}

impl Default for Trim {
    fn default() -> Self {
        Trim { front: None, due: Due::Now, removed: 0 }
    }
}

impl Trim {
    pub fn note_snapshot(&mut self) {
        self.due = Due::Now;
    }

    pub fn is_due(&self) -> bool {
        self.due == Due::Now
    }

    /// The machines that pin the oldest row, in its order, each once.
    pub fn pinned_by(&self) -> Vec<MachineId> {
        let mut seen = HashSet::new();
        let pins = self.front.iter().flat_map(|front| &front.pins);
        pins.map(|pin| pin.machine).filter(|machine| seen.insert(*machine)).collect()
    }
}

/// The state of looking for machines to snapshot. A search goes from the oldest row on, naming each machine once; it
/// starts anew when the log has grown by a share of its allowed size, so that nobody is forgotten.
#[derive(Debug)]
pub(crate) struct Search {
    number: u32,
    /// The next row to look at.
    next_row: u64,
    /// The log's clock when the search began.
    began: u64,
}

impl Default for Search {
    fn default() -> Self {
        Search { number: 1, next_row: 0, began: 0 }
    }
}

impl State {
    /// Removes up to `budget` rows of the log, and as many graves, if snapshots have made them superfluous.
    pub(crate) fn trim(&mut self, transaction: &WriteTransaction, budget: usize) -> Result<(), Fault> {
        if !self.trim.is_due() {
            return Ok(());
        }
        let mut log = transaction.open_table(LOG).map_err(fault)?;
        let mut left = budget;
        while self.rows.count() > 0 {
            if left == 0 {
                return Ok(());
            }
            let row = self.rows.first;
            let mut front = match self.trim.front.take() {
                Some(front) => front,
                None => read_front(&log, row, &self.machines)?,
            };
            front.pins.retain(|pin| is_pinned(&self.machines, pin.machine, pin.sequence));
            if !front.pins.is_empty() {
                self.trim.front = Some(front);
                break;
            }
            log.remove(row).map_err(fault)?;
            self.rows.first += 1;
            self.rows.bytes -= Rows::size_of(front.value_bytes);
            self.trim.removed += 1;
            left -= 1;
        }
        drop(log);
        self.bury(transaction, budget)
    }

    /// Forgets machines with a tombstone of which no record is left.
    fn bury(&mut self, transaction: &WriteTransaction, budget: usize) -> Result<(), Fault> {
        let mut table = transaction.open_table(SNAPSHOTS).map_err(fault)?;
        for _ in 0..budget {
            let Some(id) = self.graves.take_before(self.rows.first) else {
                self.trim.due = Due::Waiting;
                return Ok(());
            };
            if self.machines.remove(&id).is_some_and(|machine| machine.stored == Stored::Snapshot) {
                table.remove(id.0).map_err(fault)?;
            }
        }
        Ok(())
    }

    /// Names machines to snapshot, so that the log shrinks below `allowed` bytes again.
    pub(crate) fn search(
        &mut self,
        transaction: &WriteTransaction,
        allowed: u64,
        rows_written: usize,
    ) -> Result<Vec<MachineId>, Fault> {
        let mut named = Vec::new();
        if self.rows.bytes <= allowed || self.rows.count() == 0 {
            return Ok(named);
        }
        let share = allowed / ASK_AGAIN_SHARE;
        if self.rows.clock - self.search.began > share {
            self.search.number = self.search.number.wrapping_add(1).max(1);
            self.search.began = self.rows.clock;
            self.search.next_row = 0;
        }
        // Enough rows to make room for what is too much now and what comes until the answers do.
        let too_much = self.rows.bytes - allowed + share;
        let average = (self.rows.bytes / self.rows.count()).max(1);
        let wanted = (too_much / average + 1).min(self.rows.count());
        let end = self.rows.first + wanted;
        let log = transaction.open_table(LOG).map_err(fault)?;
        let mut left = PIN_SEARCH_ROWS.max(2 * rows_written);
        let mut row = self.search.next_row.max(self.rows.first);
        while row < end && left > 0 {
            self.name_pins(&log, row, &mut named)?;
            row += 1;
            left -= 1;
        }
        self.search.next_row = row;
        Ok(named)
    }

    /// Adds the machines that pin a row and were not named in this search.
    fn name_pins(
        &mut self,
        log: &NumberedTable<'_>,
        row: u64,
        named: &mut Vec<MachineId>,
    ) -> Result<(), Fault> {
        let search = self.search.number;
        let machines = &mut self.machines;
        each_record(log, row, |id, sequence| {
            if let Some(machine) = machines.get_mut(&id)
                && machine.covered < sequence
                && machine.asked_in != search
            {
                machine.asked_in = search;
                named.push(id);
            }
        })?;
        Ok(())
    }

    /// Removes up to `budget` of the oldest event rows while they hold more than `allowed` bytes. The newest row
    /// stays in any case: it tells the next index after a restart.
    pub(crate) fn trim_events(
        &mut self,
        transaction: &WriteTransaction,
        allowed: u64,
        budget: usize,
    ) -> Result<(), Fault> {
        let events = &mut self.events;
        if events.written - events.removed <= allowed {
            return Ok(());
        }
        let mut table = transaction.open_table(EVENTS).map_err(fault)?;
        for _ in 0..budget {
            let oldest = {
                let mut front = table.iter().map_err(fault)?;
                let oldest = front.next().transpose().map_err(fault)?;
                let newer = front.next().transpose().map_err(fault)?;
                let (Some((key, value)), Some((newer, _))) = (oldest, newer) else { break };
                (key.value(), value.value().len() as u64, newer.value())
            };
            let (first, length, next_first) = oldest;
            table.remove(first).map_err(fault)?;
            events.removed += length;
            events.oldest = next_first;
            if events.written - events.removed <= allowed {
                break;
            }
        }
        Ok(())
    }
}

fn is_pinned(machines: &Machines, machine: MachineId, sequence: u64) -> bool {
    machines.get(&machine).is_some_and(|machine| machine.covered < sequence)
}

/// Reads the oldest row back: it is in the system's page cache or soon read once.
fn read_front(log: &NumberedTable<'_>, row: u64, machines: &Machines) -> Result<Front, Fault> {
    let mut pins: Vec<Pin> = Vec::new();
    let value_bytes = each_record(log, row, |machine, sequence| {
        if !is_pinned(machines, machine, sequence) {
            return;
        }
        match pins.last_mut() {
            Some(last) if last.machine == machine => last.sequence = sequence,
            _ => pins.push(Pin { machine, sequence }),
        }
    })?;
    Ok(Front { value_bytes, pins })
}

/// Calls `visit` for each record of a row; the row's length.
fn each_record(
    log: &NumberedTable<'_>,
    row: u64,
    mut visit: impl FnMut(MachineId, u64),
) -> Result<usize, Fault> {
    let broken = |reason: encoding::Flaw| Fault::BrokenRow { row: RowName::Log(row), reason };
    let guard = log.get(row).map_err(fault)?.ok_or_else(|| broken("it is missing"))?;
    let value = guard.value();
    let mut cursor = RowCursor::new(row, value).map_err(broken)?;
    while let Some(place) = cursor.next(value).map_err(broken)? {
        visit(place.machine, place.sequence);
    }
    Ok(value.len())
}
