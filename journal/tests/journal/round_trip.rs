//! What is appended and committed is there after reopening.

use journal::{Batch, Closed, MachineId, Position, Record, TryAppendError, Wake};

use crate::common::*;

#[test]
fn a_new_journal_is_empty() {
    let folder = tempfile::tempdir().unwrap();
    let opened = open(&folder.path().join("journal"));
    assert_eq!(opened.recovery.written_by(), None);
    assert!(states(&opened.recovery).is_empty());
    assert!(replay(&opened.recovery).is_empty());
    assert_eq!(opened.log.durable(), Position(0));
    assert_eq!((opened.reader.oldest_event(), opened.reader.next_event()), (1, 1));
}

#[test]
fn records_come_back_in_order_with_their_snapshots() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let mut opened = open(&path);
    opened.log.append(records(&[(1, 1), (2, 1), (1, 2), (1, 3)])).unwrap();
    let mut batch = records(&[(2, 2), (900_000_000_000, 1)]);
    batch.snapshots = vec![snapshot(1, 2), snapshot(3, 0)];
    let position = opened.log.append(batch).unwrap();
    assert_eq!(position, Position(2));
    let commit = opened.committer.turn().unwrap().unwrap();
    assert_eq!((commit.durable, commit.records), (Position(2), 6));
    opened.log.append(records(&[(1, 4)])).unwrap();
    opened.committer.turn().unwrap().unwrap();
    assert_eq!(opened.committer.turn().unwrap(), None);
    drop(opened);

    let opened = open(&path);
    assert_eq!(opened.recovery.written_by(), Some(1));
    assert_eq!(states(&opened.recovery), [snapshot(1, 2), snapshot(3, 0)]);
    let expected = [record(2, 1), record(1, 3), record(2, 2), record(900_000_000_000, 1), record(1, 4)];
    assert_eq!(replay(&opened.recovery), expected);
}

#[test]
fn one_turn_commits_everything_queued_with_one_fsync() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = open(&folder.path().join("journal"));
    opened.log.append(records(&[(1, 1)])).unwrap();
    opened.committer.turn().unwrap();
    let before = opened.log.stats();
    for sequence in 2..=100 {
        opened.log.append(records(&[(1, sequence)])).unwrap();
    }
    opened.committer.turn().unwrap().unwrap();
    let after = opened.log.stats();
    assert_eq!(after.fsyncs - before.fsyncs, 1);
    assert_eq!(after.commits - before.commits, 1);
    assert_eq!(after.records - before.records, 99);
}

#[test]
fn a_record_larger_than_a_row_comes_back_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let mut opened = open(&path);
    let large = |sequence, length: usize| Record {
        machine: MachineId(7),
        sequence,
        payload: (0..length).map(|index| (index * 31) as u8).collect(),
    };
    let all: Vec<Record> = [0, 31_950, 31_990, 32_000, 32_768, 200_000, 1, journal::limits::MAX_RECORD_BYTES]
        .into_iter()
        .zip(1..)
        .map(|(length, sequence)| large(sequence, length))
        .collect();
    let batch = Batch { records: all.as_slice().into(), ..Batch::default() };
    opened.log.append(batch).unwrap();
    opened.committer.turn().unwrap();
    drop(opened);
    assert_eq!(replay(&open(&path).recovery), all);
}

#[test]
fn an_empty_batch_is_durable_with_what_was_before_it_and_costs_no_fsync() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = open(&folder.path().join("journal"));
    let before = opened.log.stats().fsyncs;
    let position = opened.log.append(Batch::default()).unwrap();
    let commit = opened.committer.turn().unwrap().unwrap();
    assert_eq!(commit.durable, position);
    assert_eq!(opened.log.stats().fsyncs, before);
}

#[test]
fn retained_rows_are_put_read_ranged_and_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let mut opened = open(&path);
    for (table, key, value) in [
        (1, b"a1".as_slice(), Some(b"one".as_slice())),
        (1, b"a2", Some(b"two")),
        (1, b"a3", Some(b"")),
        (1, b"b1", Some(b"four")),
        (2, b"a1", Some(b"other table")),
        (1, b"a2", Some(b"changed")),
        (1, b"a1", None),
        (1, b"absent", None),
        (255, b"", Some(b"empty key")),
    ] {
        opened.log.append(retained(table, key, value)).unwrap();
    }
    opened.committer.turn().unwrap();
    drop(opened);

    let reader = open(&path).reader;
    assert_eq!(reader.get(1, b"a1").unwrap(), None);
    assert_eq!(reader.get(1, b"a2").unwrap().unwrap(), b"changed");
    assert_eq!(reader.get(1, b"a3").unwrap().unwrap(), b"");
    assert_eq!(reader.get(2, b"a1").unwrap().unwrap(), b"other table");
    assert_eq!(reader.get(255, b"").unwrap().unwrap(), b"empty key");
    let keys = |rows: Vec<(Vec<u8>, Vec<u8>)>| rows.into_iter().map(|row| row.0).collect::<Vec<_>>();
    assert_eq!(keys(reader.range(1, b"", None, 10).unwrap()), [b"a2", b"a3", b"b1"]);
    assert_eq!(keys(reader.range(1, b"a", None, 10).unwrap()), [b"a2", b"a3"]);
    assert_eq!(keys(reader.range(1, b"a", None, 1).unwrap()), [b"a2"]);
    assert_eq!(keys(reader.range(1, b"a", Some(b"a2"), 10).unwrap()), [b"a3"]);
    assert!(reader.range(1, b"a", Some(b"a3"), 10).unwrap().is_empty());
    assert!(reader.range(3, b"", None, 10).unwrap().is_empty());
    assert_eq!(keys(reader.range(255, b"", None, 10).unwrap()), [b""]);
}

#[test]
fn a_closed_log_takes_nothing_and_commits_what_it_has() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let opened = open(&path);
    let position = opened.log.append(records(&[(1, 1)])).unwrap();
    opened.log.close();
    assert_eq!(opened.log.append(records(&[(1, 2)])), Err(Closed));
    assert!(matches!(opened.log.try_append(records(&[(1, 2)])), Err(TryAppendError::Closed(_))));
    assert_eq!(opened.committer.wait(), Wake::Work);
    let mut commits = 0;
    let finished = opened.committer.run(|_| commits += 1).unwrap();
    assert_eq!((commits, finished.log_rows, finished.pinned), (1, 1, vec![MachineId(1)]));
    assert_eq!(opened.log.wait_durable(position), Ok(()));
    assert_eq!(opened.log.wait_durable(Position(2)), Err(Closed));
    drop((opened.reader, opened.recovery));
    assert_eq!(replay(&open(&path).recovery), [record(1, 1)]);
}

#[test]
fn a_clean_stop_leaves_snapshots_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let opened = open(&path);
    opened.log.append(records(&[(1, 1), (2, 1), (1, 2), (3, 1)])).unwrap();
    opened.log.append(snapshots(vec![snapshot(1, 2), snapshot(2, 1), tombstone(3, 1)])).unwrap();
    let finished = opened.committer.finish().unwrap();
    assert_eq!(finished.last.unwrap().records, 4);
    assert_eq!((finished.log_rows, finished.pinned), (0, vec![]));
    drop((opened.reader, opened.recovery));

    let mut opened = open(&path);
    assert!(replay(&opened.recovery).is_empty());
    assert_eq!(states(&opened.recovery), [snapshot(1, 2), snapshot(2, 1)]);
    opened.log.append(records(&[(1, 3), (3, 1)])).unwrap();
    opened.committer.turn().unwrap();
    drop(opened);
    assert_eq!(replay(&open(&path).recovery), [record(1, 3), record(3, 1)]);
}
