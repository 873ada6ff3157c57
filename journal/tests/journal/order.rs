//! Group commit over several threads: one order, released only when durable, bounded.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

use journal::{Batch, Closed, Committer, Fault, Journal, MachineId, Options, Position, TryAppendError};

use crate::common::*;
use crate::disk::{Disk, Plan};
use crate::model::options;

#[test]
fn the_order_of_appends_over_all_threads_is_the_order_of_the_log() {
    const THREADS: u64 = 4;
    const EACH: u64 = 500;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let opened = open(&path);
    let log = opened.log.clone();
    let committer = thread::spawn(move || {
        let mut last = Position(0);
        let finished = opened.committer.run(|commit| {
            assert!(commit.durable > last);
            last = commit.durable;
        });
        (finished.unwrap().log_rows, last)
    });
    let mut appended: Vec<(Position, (u64, u64))> = thread::scope(|scope| {
        let threads: Vec<_> = (1..=THREADS)
            .map(|machine| {
                let log = log.clone();
                scope.spawn(move || {
                    let append = |sequence| {
                        (log.append(records(&[(machine, sequence)])).unwrap(), (machine, sequence))
                    };
                    (1..=EACH).map(append).collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    log.wait_durable(Position(THREADS * EACH)).unwrap();
    assert_eq!(log.durable(), Position(THREADS * EACH));
    log.close();
    let (rows, last) = committer.join().unwrap();
    assert!(rows > 0);
    assert_eq!(last, Position(THREADS * EACH));
    assert!(log.stats().commits <= THREADS * EACH);

    appended.sort();
    drop((opened.reader, opened.recovery));
    let replayed = replay(&open(&path).recovery);
    let heads: Vec<(u64, u64)> = replayed.iter().map(|record| (record.machine.0, record.sequence)).collect();
    assert!(heads.iter().eq(appended.iter().map(|(_, head)| head)));
}

#[test]
fn what_was_caused_lies_behind_its_cause() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let opened = open(&path);
    let (to_b, from_a) = mpsc::channel();
    let (to_a, from_b) = mpsc::channel();
    let (log_a, log_b) = (opened.log.clone(), opened.log.clone());
    let committer = thread::spawn(move || opened.committer.run(|_| ()).unwrap());
    thread::scope(|scope| {
        scope.spawn(move || {
            for sequence in 1..=300 {
                log_a.append(records(&[(1, sequence)])).unwrap();
                to_b.send(sequence).unwrap();
                from_b.recv().unwrap();
            }
        });
        scope.spawn(move || {
            for sequence in from_a {
                log_b.append(records(&[(2, sequence)])).unwrap();
                to_a.send(()).unwrap();
            }
        });
    });
    opened.log.close();
    committer.join().unwrap();
    drop((opened.reader, opened.recovery));
    let replayed = replay(&open(&path).recovery);
    let expected: Vec<_> =
        (1..=300).flat_map(|sequence| [record(1, sequence), record(2, sequence)]).collect();
    assert_eq!(replayed, expected);
}

#[test]
fn a_full_queue_blocks_until_the_committer_takes_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let mut opened = Journal::open(&path, &header(), Options { queue_bytes: 1, ..Options::small() }).unwrap();
    opened.log.append(records(&[(1, 1)])).unwrap();
    let Err(TryAppendError::Full(batch)) = opened.log.try_append(records(&[(1, 2)])) else { panic!() };
    assert_eq!(batch, records(&[(1, 2)]));
    let log = opened.log.clone();
    let blocked = thread::spawn(move || log.append(batch));
    while opened.log.durable() < Position(2) {
        opened.committer.wait();
        opened.committer.turn().unwrap();
    }
    assert_eq!(blocked.join().unwrap(), Ok(Position(2)));
}

#[test]
fn a_blocked_append_is_released_when_the_log_stops() {
    type Stop = fn(Committer);
    let by_drop: Stop = drop;
    let by_close: Stop = |committer| {
        committer.finish().unwrap();
    };
    for stop in [by_drop, by_close] {
        let opened =
            Journal::open_with_backend(Disk::new(), &header(), Options { queue_bytes: 1, ..options() })
                .unwrap();
        opened.log.append(records(&[(1, 1)])).unwrap();
        let log = opened.log.clone();
        let blocked = thread::spawn(move || log.append(Batch::default()));
        stop(opened.committer);
        // It may have been taken just before the log closed, but it never hangs.
        let _ = blocked.join().unwrap();
        assert_eq!(opened.log.append(Batch::default()), Err(Closed));
    }
}

#[test]
fn a_fault_ends_the_committers_thread_and_tells_those_who_wait() {
    let disk = Disk::new();
    let opened = Journal::open_with_backend(disk.clone(), &header(), options()).unwrap();
    disk.plan(Plan::FailSyncAfter(0));
    let committer = thread::spawn(move || opened.committer.run(|_| panic!("nothing is durable")));
    let position = opened.log.append(records(&[(1, 1)])).unwrap();
    assert_eq!(opened.log.wait_durable(position), Err(Closed));
    assert!(matches!(committer.join().unwrap(), Err(Fault::Storage { .. })));
    assert_eq!(opened.log.append(records(&[(1, 2)])), Err(Closed));
}

#[test]
fn readers_see_whole_commits_while_others_are_made() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = open(&folder.path().join("journal"));
    let done = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..3 {
            let reader = opened.reader.clone();
            let done = &done;
            scope.spawn(move || {
                while done.load(Ordering::Acquire) == 0 {
                    let rows = reader.range(1, b"", None, 10).unwrap();
                    assert!(rows.is_empty() || rows.len() == 2);
                    assert!(rows.iter().all(|(_, value)| *value == rows[0].1));
                    let next = reader.next_event();
                    let found = reader.events_from(reader.oldest_event(), 1_000).unwrap();
                    assert!(found.len() as u64 >= next - 1);
                }
            });
        }
        for turn in 0..100u64 {
            let mut batch = events(&["event"]);
            for key in [b"a", b"b"] {
                batch.retained.append(&mut retained(1, key, Some(&turn.to_le_bytes())).retained);
            }
            opened.log.append(batch).unwrap();
            opened.committer.turn().unwrap();
        }
        done.store(1, Ordering::Release);
    });
}

#[test]
fn an_impossible_batch_is_a_fault_that_says_what_was_expected() {
    let too_large = |batch: &mut Batch| batch.records.push(MachineId(1), 3, &vec![0; 4 * 1024 * 1024 + 1]);
    type Spoil<'a> = &'a dyn Fn(&mut Batch);
    let cases: [(&str, Spoil<'_>); 10] = [
        ("machine 1 appended input 4, expected 3", &|batch| push(batch, record(1, 4))),
        ("machine 1 appended input 2, expected 3", &|batch| push(batch, record(1, 2))),
        ("machine 9 appended input 2, expected 1", &|batch| push(batch, record(9, 2))),
        ("machine 9 appended input 0, expected 1", &|batch| push(batch, record(9, 0))),
        ("machine 1 has a snapshot at input 3, but its latest input is 2", &|batch| {
            batch.snapshots.push(snapshot(1, 3));
        }),
        ("machine 1 has a tombstone at input 1, but its latest input is 2", &|batch| {
            batch.snapshots.push(tombstone(1, 1));
        }),
        ("machine 2 appended after its tombstone", &|batch| push(batch, record(2, 2))),
        ("a record has 4194305 bytes, at most 4194304 are allowed", &too_large),
        ("an event has 65537 bytes, at most 65536 are allowed", &|batch| batch.events.push(vec![0; 65_537])),
        ("a retained row's key has 513 bytes, at most 512 are allowed", &|batch| {
            batch.retained.append(&mut retained(1, &[0; 513], None).retained);
        }),
    ];
    for (expected, spoil) in cases {
        let disk = Disk::new();
        let mut opened = Journal::open_with_backend(disk.clone(), &header(), options()).unwrap();
        let mut good = records(&[(1, 1), (1, 2), (2, 1)]);
        good.snapshots.push(tombstone(2, 1));
        opened.log.append(good).unwrap();
        opened.committer.turn().unwrap();
        opened.log.append(events(&["queued with it"])).unwrap();
        let mut bad = Batch::default();
        spoil(&mut bad);
        opened.log.append(bad).unwrap();
        assert_eq!(opened.committer.turn().unwrap_err().to_string(), expected);
        assert_eq!(opened.log.append(Batch::default()), Err(Closed));
        drop(opened);
        let opened = Journal::open_with_backend(disk, &header(), options()).unwrap();
        assert_eq!(replay(&opened.recovery), [record(1, 1), record(1, 2)]);
        assert_eq!(opened.reader.next_event(), 1);
    }
}
