//! The journal against a simple model in memory, under random operations with reopening.

use std::collections::BTreeMap;

use journal::{Batch, Content, Journal, MachineId, Opened, Options, Record, Retained, Snapshot};
use proptest::prelude::*;

use crate::common::*;
use crate::disk::Disk;

/// Small limits, so that rows are trimmed and machines asked for snapshots all the time.
pub fn options() -> Options {
    Options { log_bytes: 60_000, event_bytes: 3_000, ..Options::small() }
}

/// Something to do. Machines are indices; the driver gives a new id to a machine that follows a tombstone.
#[derive(Debug, Clone)]
pub enum Op {
    Records(Vec<(u8, u16)>),
    Snapshot(u8),
    OldSnapshot(u8),
    Tombstone(u8),
    Put { table: u8, key: u8, length: u16 },
    Delete { table: u8, key: u8 },
    Events(Vec<u8>),
    Turn,
    Reopen,
}

pub fn op() -> impl Strategy<Value = Op> {
    let length = prop_oneof![8 => 0u16..200, 2 => 0u16..8_000, 1 => 30_000u16..40_000];
    prop_oneof![
        8 => prop::collection::vec((0u8..6, length), 1..20).prop_map(Op::Records),
        2 => (0u8..6).prop_map(Op::Snapshot),
        1 => (0u8..6).prop_map(Op::OldSnapshot),
        1 => (0u8..6).prop_map(Op::Tombstone),
        2 => (0u8..2, 0u8..6, 0u16..3_000).prop_map(|(table, key, length)| Op::Put { table, key, length }),
        1 => (0u8..2, 0u8..6).prop_map(|(table, key)| Op::Delete { table, key }),
        3 => prop::collection::vec(any::<u8>(), 1..8).prop_map(Op::Events),
        6 => Just(Op::Turn),
        1 => Just(Op::Reopen),
    ]
}

/// What the journal should hold.
#[derive(Debug, Clone, Default)]
pub struct Model {
    latest: BTreeMap<u64, u64>,
    snapshots: BTreeMap<u64, Snapshot>,
    records: Vec<Record>,
    retained: BTreeMap<(u8, Vec<u8>), Vec<u8>>,
    events: Vec<Vec<u8>>,
    /// Generation of each machine index: raised by a tombstone.
    generations: BTreeMap<u8, u64>,
}

impl Model {
    fn id(&self, index: u8) -> u64 {
        u64::from(index) + 1 + 1_000 * self.generations.get(&index).copied().unwrap_or(0)
    }

    /// The batch for an operation; `None` for those that are not a batch.
    pub fn batch(&mut self, op: &Op) -> Option<Batch> {
        let mut batch = Batch::default();
        match op {
            Op::Records(heads) => {
                let mut next = BTreeMap::new();
                for &(index, length) in heads {
                    let id = self.id(index);
                    let sequence = next.entry(id).or_insert(self.latest.get(&id).copied().unwrap_or(0));
                    *sequence += 1;
                    let mut payload = record(id, *sequence).payload;
                    payload.resize(payload.len().max(length.into()), *sequence as u8);
                    push(&mut batch, Record { machine: MachineId(id), sequence: *sequence, payload });
                }
            }
            Op::Snapshot(index) => batch.snapshots.push(self.snapshot(self.id(*index))),
            Op::OldSnapshot(index) => {
                let id = self.id(*index);
                batch.snapshots.push(snapshot(id, self.latest.get(&id).copied().unwrap_or(0) / 2));
            }
            Op::Tombstone(index) => {
                let id = self.id(*index);
                batch.snapshots.push(tombstone(id, self.latest.get(&id).copied().unwrap_or(0)));
                *self.generations.entry(*index).or_default() += 1;
            }
            Op::Put { table, key, length } => {
                let value = Some(vec![*key; usize::from(*length)]);
                batch.retained.push(Retained { table: *table, key: vec![*key; 3], value });
            }
            Op::Delete { table, key } => {
                batch.retained.push(Retained { table: *table, key: vec![*key; 3], value: None });
            }
            Op::Events(lengths) => {
                batch.events = lengths.iter().map(|&length| vec![length; length.into()]).collect();
            }
            Op::Turn | Op::Reopen => return None,
        }
        Some(batch)
    }

    /// A snapshot of a machine's latest state.
    pub fn snapshot(&self, id: u64) -> Snapshot {
        snapshot(id, self.latest.get(&id).copied().unwrap_or(0))
    }

    pub fn apply(&mut self, batch: &Batch) {
        for record in batch.records.iter() {
            self.latest.insert(record.machine.0, record.sequence);
            self.records.push(record.to_record());
        }
        for snapshot in &batch.snapshots {
            let id = snapshot.machine.0;
            match snapshot.content {
                Content::State { .. } => {
                    if self.snapshots.get(&id).is_none_or(|kept| kept.sequence <= snapshot.sequence) {
                        self.records
                            .retain(|record| record.machine.0 != id || record.sequence > snapshot.sequence);
                        self.snapshots.insert(id, snapshot.clone());
                    }
                }
                Content::Tombstone => {
                    self.records.retain(|record| record.machine.0 != id);
                    self.snapshots.remove(&id);
                    self.latest.remove(&id);
                }
            }
        }
        for row in &batch.retained {
            let key = (row.table, row.key.clone());
            match &row.value {
                Some(value) => self.retained.insert(key, value.clone()),
                None => self.retained.remove(&key),
            };
        }
        self.events.extend_from_slice(&batch.events);
    }

    /// What differs between this and an opened journal, if anything.
    pub fn difference(&self, opened: &Opened) -> Option<String> {
        let states = states(&opened.recovery);
        if !states.iter().eq(self.snapshots.values()) {
            return Some(format!("snapshots: {states:?}"));
        }
        let records = replay(&opened.recovery);
        if records != self.records {
            return Some(format!("records: {} found, {} expected", records.len(), self.records.len()));
        }
        for table in 0..2 {
            let found = opened.reader.range(table, b"", None, 1_000).unwrap();
            let expected = self.retained.iter().filter(|((named, _), _)| *named == table);
            if !found
                .iter()
                .map(|(key, value)| (key, value))
                .eq(expected.map(|((_, key), value)| (key, value)))
            {
                return Some(format!("retained rows of table {table}"));
            }
        }
        let next = self.events.len() as u64 + 1;
        let oldest = opened.reader.oldest_event();
        if opened.reader.next_event() != next {
            return Some(format!("next event {}, expected {next}", opened.reader.next_event()));
        }
        let found = opened.reader.events_from(oldest, 10_000).unwrap();
        let expected = &self.events[oldest as usize - 1..];
        if !found.iter().map(|(_, event)| event).eq(expected) {
            return Some(format!("events from {oldest}"));
        }
        None
    }
}

/// Runs operations on a journal. What was appended and what was committed are modelled apart.
pub struct Driver {
    pub disk: Disk,
    pub opened: Option<Opened>,
    /// Everything appended.
    pub appended: Model,
    /// Everything reported durable.
    pub durable: Model,
}

impl Driver {
    pub fn new() -> Self {
        let disk = Disk::new();
        let opened = Journal::open_with_backend(disk.clone(), &header(), options()).unwrap();
        Driver { disk, opened: Some(opened), appended: Model::default(), durable: Model::default() }
    }

    /// Does one operation. An error is a fault of the journal.
    pub fn step(&mut self, op: &Op) -> Result<(), String> {
        if let Some(batch) = self.appended.batch(op) {
            self.append(batch);
            return Ok(());
        }
        let opened = self.opened.as_mut().unwrap();
        let commit = opened.committer.turn().map_err(|fault| fault.to_string())?;
        self.durable = self.appended.clone();
        let mut answers = Batch::default();
        for id in commit.map(|commit| commit.wants_snapshot).unwrap_or_default() {
            if self.appended.latest.contains_key(&id.0) {
                answers.snapshots.push(self.appended.snapshot(id.0));
            }
        }
        if !answers.is_empty() {
            self.append(answers);
        }
        if let Op::Reopen = op {
            self.turn()?;
            self.opened = None;
            let opened = Journal::open_with_backend(self.disk.clone(), &header(), options()).unwrap();
            assert_eq!(self.durable.difference(&opened), None);
            self.opened = Some(opened);
        }
        Ok(())
    }

    fn append(&mut self, batch: Batch) {
        self.appended.apply(&batch);
        self.opened.as_ref().unwrap().log.append(batch).unwrap();
    }

    fn turn(&mut self) -> Result<(), String> {
        let opened = self.opened.as_mut().unwrap();
        opened.committer.turn().map_err(|fault| fault.to_string())?;
        self.durable = self.appended.clone();
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_journal_holds_what_the_model_holds(ops in prop::collection::vec(op(), 1..120)) {
        let mut driver = Driver::new();
        for op in &ops {
            driver.step(op).unwrap();
        }
        driver.step(&Op::Reopen).unwrap();
    }
}
