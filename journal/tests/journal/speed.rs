//! How fast it is. Run with `cargo test -p journal --release -- --ignored --nocapture`.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use journal::{Batch, Content, Journal, Log, MachineId, Opened, Options, Snapshot};

use crate::common::*;

const RECORDS: u64 = 1_000_000;
const MACHINES: u64 = 10_000;
const PAYLOAD: [u8; 100] = [7; 100];

/// Record number `index`, spread over all machines.
fn push_numbered(batch: &mut Batch, index: u64) {
    batch.records.push(MachineId(index % MACHINES), index / MACHINES + 1, &PAYLOAD);
}

fn rate(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

#[test]
#[ignore = "a measurement, for release builds"]
fn records_a_second_appended_and_replayed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    for batches_a_turn in [1, 10, 100] {
        let _ = std::fs::remove_file(&path);
        let mut opened = Journal::open(&path, &header(), Options::default()).unwrap();
        let start = Instant::now();
        let mut index = 0;
        while index < RECORDS {
            for _ in 0..batches_a_turn {
                let mut batch = Batch::default();
                for _ in 0..100 {
                    push_numbered(&mut batch, index);
                    index += 1;
                }
                opened.log.append(batch).unwrap();
            }
            opened.committer.turn().unwrap();
        }
        let time = start.elapsed();
        let stats = opened.log.stats();
        println!(
            "{:>6} records a commit: {:>9.0} records/s, {} fsyncs, {} MB of inputs, {} MB of rows, {} MB to the device",
            100 * batches_a_turn,
            rate(RECORDS, time),
            stats.fsyncs,
            stats.input_bytes / 1_000_000,
            stats.row_bytes / 1_000_000,
            stats.device_bytes / 1_000_000,
        );
        println!("       file {} MB", std::fs::metadata(&path).unwrap().len() / 1_000_000);
        if batches_a_turn == 100 {
            // Keeps the file as a kill would leave it.
            std::fs::copy(&path, folder.path().join("killed")).unwrap();
        }
    }
    let start = Instant::now();
    let opened = Journal::open(&path, &header(), Options::default()).unwrap();
    println!("open after a clean close: {:?}", start.elapsed());
    let start = Instant::now();
    let mut cursor = opened.recovery.records().unwrap();
    let mut bytes = 0;
    while let Some(record) = cursor.next().unwrap() {
        bytes += record.payload.len();
    }
    println!("replay: {:?}, {bytes} bytes", start.elapsed());
    let start = Instant::now();
    let _opened = Journal::open(&folder.path().join("killed"), &header(), Options::default()).unwrap();
    println!("open after a kill: {:?}", start.elapsed());
}

/// Two threads append as shards do, one commits, machines answer when they are asked for snapshots: after the first
/// round the log is trimmed as fast as it grows.
#[test]
#[ignore = "a measurement, for release builds"]
fn records_a_second_while_trimming() {
    const THREADS: u64 = 2;
    const ROUNDS: u64 = 600;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let options = Options { log_bytes: 64 * 1024 * 1024, ..Options::default() };
    let Opened { log, committer, reader: _reader, recovery } =
        Journal::open(&path, &header(), options).unwrap();
    drop(recovery);
    let (to_threads, from_committer): (Vec<_>, Vec<_>) =
        (0..THREADS).map(|_| mpsc::channel::<MachineId>()).unzip();
    let start = Instant::now();
    thread::scope(|scope| {
        let committing = scope.spawn(move || {
            let mut largest = 0;
            committer
                .run(|commit| {
                    largest = largest.max(commit.log_bytes);
                    for id in &commit.wants_snapshot {
                        let _ = to_threads[(id.0 % THREADS) as usize].send(*id);
                    }
                })
                .unwrap();
            largest
        });
        let appending: Vec<_> = from_committer
            .into_iter()
            .zip(0..)
            .map(|(asked, thread)| {
                let log = log.clone();
                scope.spawn(move || append_rounds(&log, &asked, thread, THREADS, ROUNDS))
            })
            .collect();
        for thread in appending {
            thread.join().unwrap();
        }
        log.close();
        println!("largest log: {} MB", committing.join().unwrap() / 1_000_000);
    });
    let time = start.elapsed();
    let stats = log.stats();
    println!(
        "{:.0} records/s while trimming: {} commits of {} records, {} snapshots' MB, {} rows trimmed, file {} MB, {} MB to the device",
        rate(stats.records, time),
        stats.commits,
        stats.records / stats.commits,
        stats.snapshot_bytes / 1_000_000,
        stats.trimmed_rows,
        std::fs::metadata(&path).unwrap().len() / 1_000_000,
        stats.device_bytes / 1_000_000,
    );
}

/// Appends one record of each machine of one thread in each round, a hundred a batch.
fn append_rounds(log: &Log, asked: &mpsc::Receiver<MachineId>, thread: u64, threads: u64, rounds: u64) {
    let machines: Vec<u64> = (0..MACHINES).filter(|machine| machine % threads == thread).collect();
    for sequence in 1..=rounds {
        for part in machines.chunks(100) {
            let mut batch = Batch::default();
            for &machine in part {
                batch.records.push(MachineId(machine), sequence, &PAYLOAD);
            }
            for machine in asked.try_iter() {
                // It may have this round's record behind it or still before it.
                let content = Content::State { payload: vec![1; 2_000], hash: [2; 32] };
                batch.snapshots.push(Snapshot { machine, sequence: sequence - 1, content });
            }
            log.append(batch).unwrap();
        }
    }
}

#[test]
#[ignore = "a measurement, for release builds"]
fn one_small_commit() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = open(&folder.path().join("journal"));
    let mut times = Vec::new();
    for sequence in 1..=2_000 {
        let start = Instant::now();
        opened.log.append(records(&[(1, sequence)])).unwrap();
        opened.committer.turn().unwrap();
        times.push(start.elapsed());
    }
    times.sort();
    let stats = opened.log.stats();
    println!(
        "one small commit: median {:?}, p99 {:?}, {} bytes to the device",
        times[1000],
        times[1980],
        stats.device_bytes / stats.commits
    );
}
