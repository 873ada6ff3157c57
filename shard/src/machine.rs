//! Record keeping of one journaled machine: a channel, the hub's registry, the wallet's ledger, the settlement desk.
//! Invariant: its records are numbered 1, 2, 3, … without a gap, in one process's life and over all of them.

use journal::{Batch, Content, MachineId, RecordRef, Snapshot};

/// A machine's number and the sequence of its latest record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MachineLog {
    machine: MachineId,
    sequence: u64,
}

/// A record or snapshot is not the one that must come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{machine} has record {found} where {expected} must come")]
pub struct Gap {
    pub machine: MachineId,
    pub expected: u64,
    pub found: u64,
}

impl MachineLog {
    /// A machine without records yet.
    pub fn new(machine: MachineId) -> Self {
        MachineLog { machine, sequence: 0 }
    }

    /// A machine restored from its snapshot.
    pub fn at(machine: MachineId, sequence: u64) -> Self {
        MachineLog { machine, sequence }
    }

    pub fn machine(&self) -> MachineId {
        self.machine
    }

    /// The sequence of the latest record; 0 before the first.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Adds the next record; `encode` appends its payload to the batch's buffer and must only append.
    pub fn record(&mut self, batch: &mut Batch, encode: impl FnOnce(&mut Vec<u8>)) {
        self.sequence += 1;
        batch.records.push_with(self.machine, self.sequence, encode);
    }

    /// At replay: accepts the record if it is the next one.
    pub fn replay(&mut self, record: &RecordRef<'_>) -> Result<(), Gap> {
        let expected = self.sequence + 1;
        if record.machine != self.machine || record.sequence != expected {
            return Err(Gap { machine: self.machine, expected, found: record.sequence });
        }
        self.sequence = expected;
        Ok(())
    }

    /// The state after the latest record. `hash` is compared at recovery with the hash of the decoded state.
    pub fn snapshot(&self, payload: Vec<u8>, hash: [u8; 32]) -> Snapshot {
        Snapshot { machine: self.machine, sequence: self.sequence, content: Content::State { payload, hash } }
    }

    /// Says that the machine is gone; no record of it may follow.
    pub fn tombstone(&self) -> Snapshot {
        Snapshot { machine: self.machine, sequence: self.sequence, content: Content::Tombstone }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_numbered_without_a_gap() {
        let mut log = MachineLog::new(MachineId(7));
        let mut batch = Batch::default();
        log.record(&mut batch, |out| out.push(1));
        log.record(&mut batch, |out| out.push(2));
        let numbers: Vec<u64> = batch.records.iter().map(|record| record.sequence).collect();
        assert_eq!(numbers, [1, 2]);
        assert_eq!(log.snapshot(vec![], [0; 32]).sequence, 2);
    }

    #[test]
    fn a_missing_record_is_named() {
        let mut log = MachineLog::at(MachineId(7), 4);
        let record = RecordRef { machine: MachineId(7), sequence: 6, payload: &[] };
        assert_eq!(log.replay(&record), Err(Gap { machine: MachineId(7), expected: 5, found: 6 }));
        let record = RecordRef { machine: MachineId(7), sequence: 5, payload: &[] };
        assert_eq!(log.replay(&record), Ok(()));
    }
}
