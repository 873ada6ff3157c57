//! What the tests share.

use std::path::Path;

use journal::{
    Batch, Content, Header, Journal, MachineId, Opened, Options, Record, Recovery, Retained, Snapshot,
};

pub fn header() -> Header {
    Header { logic_version: 1, network: "regtest".into(), owner: b"hub 02".to_vec() }
}

pub fn open(path: &Path) -> Opened {
    Journal::open(path, &header(), Options::small()).unwrap()
}

/// A record whose payload can be told from every other.
pub fn record(machine: u64, sequence: u64) -> Record {
    let payload = format!("input {sequence} of machine {machine}").into_bytes();
    Record { machine: MachineId(machine), sequence, payload }
}

/// A batch with these records, each `(machine, sequence)`.
pub fn records(heads: &[(u64, u64)]) -> Batch {
    let mut batch = Batch::default();
    for &(machine, sequence) in heads {
        push(&mut batch, record(machine, sequence));
    }
    batch
}

pub fn push(batch: &mut Batch, record: Record) {
    batch.records.push(record.machine, record.sequence, &record.payload);
}

pub fn snapshot(machine: u64, sequence: u64) -> Snapshot {
    let payload = format!("state {sequence} of machine {machine}").into_bytes();
    let hash = [sequence as u8; 32];
    Snapshot { machine: MachineId(machine), sequence, content: Content::State { payload, hash } }
}

pub fn tombstone(machine: u64, sequence: u64) -> Snapshot {
    Snapshot { machine: MachineId(machine), sequence, content: Content::Tombstone }
}

pub fn snapshots(all: Vec<Snapshot>) -> Batch {
    Batch { snapshots: all, ..Batch::default() }
}

pub fn retained(table: u8, key: &[u8], value: Option<&[u8]>) -> Batch {
    let row = Retained { table, key: key.to_vec(), value: value.map(<[u8]>::to_vec) };
    Batch { retained: vec![row], ..Batch::default() }
}

pub fn events(texts: &[&str]) -> Batch {
    Batch { events: texts.iter().map(|text| text.as_bytes().to_vec()).collect(), ..Batch::default() }
}

/// All records a recovery gives.
pub fn replay(recovery: &Recovery) -> Vec<Record> {
    let mut cursor = recovery.records().unwrap();
    let mut all = Vec::new();
    while let Some(record) = cursor.next().unwrap() {
        all.push(record.to_record());
    }
    assert_eq!(all.len() as u64, recovery.record_count());
    all
}

/// All snapshots a recovery gives.
pub fn states(recovery: &Recovery) -> Vec<Snapshot> {
    recovery.snapshots().unwrap().collect::<Result<_, _>>().unwrap()
}
