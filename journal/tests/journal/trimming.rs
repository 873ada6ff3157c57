//! The log stays bounded: rows go when snapshots cover them, and the machines that pin the oldest are named.

use std::collections::BTreeMap;

use journal::{Batch, Journal, MachineId, Opened, Options};

use crate::common::*;
use crate::disk::Disk;

const LOG_BYTES: u64 = 200_000;

fn open_disk(disk: &Disk) -> Opened {
    let options = Options { log_bytes: LOG_BYTES, ..Options::small() };
    Journal::open_with_backend(disk.clone(), &header(), options).unwrap()
}

fn payload(length: usize) -> Vec<u8> {
    vec![9; length]
}

/// One record of `length` bytes.
fn sized(machine: u64, sequence: u64, length: usize) -> Batch {
    let mut batch = Batch::default();
    batch.records.push(MachineId(machine), sequence, &payload(length));
    batch
}

#[test]
fn a_long_run_keeps_log_and_file_bounded_and_everything_is_there() {
    const MACHINES: u64 = 200;
    let disk = Disk::new();
    let Opened { log, mut committer, reader: _reader, recovery } = open_disk(&disk);
    drop(recovery);
    let mut latest: BTreeMap<u64, u64> = (1..=MACHINES).map(|machine| (machine, 0)).collect();
    let mut largest = 0;
    let mut state = 1u64;
    for turn in 0..3_000u64 {
        let mut batch = Batch::default();
        for _ in 0..50 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            // Few machines are busy, most are idle most of the time.
            let machine = 1 + (state >> 33) % if state >> 62 == 0 { MACHINES } else { 10 };
            let sequence = latest.get_mut(&machine).unwrap();
            *sequence += 1;
            batch.records.push(MachineId(machine), *sequence, &payload(100));
        }
        log.append(batch).unwrap();
        let commit = committer.turn().unwrap().unwrap();
        if !commit.wants_snapshot.is_empty() {
            let all = commit.wants_snapshot.iter().map(|id| snapshot(id.0, latest[&id.0])).collect();
            log.append(snapshots(all)).unwrap();
        }
        if turn > 500 {
            largest = largest.max(commit.log_bytes);
        }
    }
    committer.turn().unwrap();
    assert!(largest < LOG_BYTES * 3 / 2, "{largest} bytes of log");
    assert!(disk.len() < 5_000_000, "{} bytes of file", disk.len());
    let stats = log.stats();
    assert!(stats.snapshot_bytes < stats.input_bytes / 4, "{stats:?}");
    drop((committer, _reader));

    let opened = open_disk(&disk);
    let mut found: BTreeMap<u64, u64> =
        states(&opened.recovery).iter().map(|snapshot| (snapshot.machine.0, snapshot.sequence)).collect();
    for record in replay(&opened.recovery) {
        let sequence = found.entry(record.machine.0).or_default();
        *sequence += 1;
        assert_eq!(record.sequence, *sequence);
    }
    assert_eq!(found, latest);
}

#[test]
fn nobody_is_asked_while_the_log_is_small() {
    let mut opened = open_disk(&Disk::new());
    for sequence in 1..=9 {
        opened.log.append(sized(sequence % 3, sequence.div_ceil(3), 20_000)).unwrap();
        assert!(opened.committer.turn().unwrap().unwrap().wants_snapshot.is_empty());
    }
}

#[test]
fn the_machine_that_pins_the_oldest_row_is_asked_first_and_again_until_it_answers() {
    let mut opened = open_disk(&Disk::new());
    opened.log.append(sized(7, 1, 10)).unwrap();
    opened.committer.turn().unwrap();
    let mut sequence = 0;
    let mut asked = Vec::new();
    let mut busy_snapshot = 0;
    while asked.iter().filter(|machine| **machine == MachineId(7)).count() < 3 {
        sequence += 1;
        assert!(sequence < 1_000, "asked: {asked:?}");
        let mut batch = sized(8, sequence, 10_000);
        if sequence > busy_snapshot + 2 {
            busy_snapshot = sequence;
            batch.snapshots.push(snapshot(8, sequence));
        }
        opened.log.append(batch).unwrap();
        let commit = opened.committer.turn().unwrap().unwrap();
        assert!(commit.wants_snapshot.is_empty() || commit.log_bytes > LOG_BYTES);
        asked.extend(commit.wants_snapshot);
    }
    assert_eq!(asked[0], MachineId(7));
    let rows_before = opened.log.stats().trimmed_rows;
    assert_eq!(rows_before, 0);

    opened.log.append(snapshots(vec![snapshot(7, 1), snapshot(8, sequence)])).unwrap();
    opened.committer.turn().unwrap();
    assert_eq!(opened.log.stats().trimmed_rows, 16, "a commit removes a bounded number of rows");
    for _ in 0..sequence {
        opened.log.append(events(&["something"])).unwrap();
        opened.committer.turn().unwrap();
    }
    assert_eq!(opened.log.stats().log_bytes, 0);
}

#[test]
fn a_machine_is_named_once_however_many_rows_it_pins() {
    let mut opened = open_disk(&Disk::new());
    let mut batch = Batch::default();
    for sequence in 1..=100 {
        for machine in 1..=5 {
            batch.records.push(MachineId(machine), sequence, &payload(1_000));
        }
    }
    opened.log.append(batch).unwrap();
    let commit = opened.committer.turn().unwrap().unwrap();
    assert_eq!(commit.wants_snapshot, [1, 2, 3, 4, 5].map(MachineId));
}

#[test]
fn a_snapshot_of_an_older_state_does_not_free_newer_rows() {
    let disk = Disk::new();
    let mut opened = open_disk(&disk);
    for sequence in 1..=4 {
        opened.log.append(records(&[(1, sequence)])).unwrap();
        opened.committer.turn().unwrap();
    }
    opened.log.append(snapshots(vec![snapshot(1, 3), snapshot(1, 2)])).unwrap();
    opened.committer.turn().unwrap();
    assert_eq!(opened.log.stats().trimmed_rows, 3);
    drop(opened);
    let opened = open_disk(&disk);
    assert_eq!(states(&opened.recovery), [snapshot(1, 3)]);
    assert_eq!(replay(&opened.recovery), [record(1, 4)]);
}

#[test]
fn a_tombstone_frees_its_machines_rows_and_is_forgotten_with_them() {
    let disk = Disk::new();
    let mut opened = open_disk(&disk);
    opened.log.append(records(&[(1, 1), (2, 1)])).unwrap();
    opened.committer.turn().unwrap();
    opened.log.append(records(&[(2, 2)])).unwrap();
    opened.log.append(snapshots(vec![tombstone(2, 2)])).unwrap();
    opened.committer.turn().unwrap();
    drop(opened);

    let mut opened = open_disk(&disk);
    assert!(states(&opened.recovery).is_empty());
    assert_eq!(replay(&opened.recovery), [record(1, 1)]);
    opened.log.append(snapshots(vec![snapshot(1, 1)])).unwrap();
    opened.committer.turn().unwrap();
    assert_eq!(opened.log.stats().trimmed_rows, 2);
    // Forgotten: the same id is another machine now.
    opened.log.append(records(&[(2, 1)])).unwrap();
    opened.committer.turn().unwrap();
    drop(opened);
    assert_eq!(replay(&open_disk(&disk).recovery), [record(2, 1)]);
}
