//! How fast it is. Run with `cargo test -p journal --release -- --ignored --nocapture`.

use std::time::{Duration, Instant};

use journal::{Batch, Journal, MachineId, Options};

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
