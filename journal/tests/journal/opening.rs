//! What a journal refuses to open, and how it says so.

use std::fs;
use std::io::Write;
use std::process::Command;

use journal::{
    Header, Headroom, HeadroomError, Journal, MachineId, OpenError, Options, ReadError, RowName, free_bytes,
};

use crate::common::*;
use crate::disk::Disk;
use crate::model::options;

/// A journal with three records, a snapshot, a retained row and an event, closed.
fn disk() -> Disk {
    let disk = Disk::new();
    let mut opened = Journal::open_with_backend(disk.clone(), &header(), options()).unwrap();
    opened.log.append(records(&[(1, 1), (2, 1), (2, 2)])).unwrap();
    opened.log.append(snapshots(vec![snapshot(1, 1)])).unwrap();
    opened.log.append(retained(5, b"the key", Some(b"the retained value"))).unwrap();
    opened.log.append(events(&["the event"])).unwrap();
    opened.committer.turn().unwrap();
    disk
}

fn refused(disk: &Disk, header: &Header) -> OpenError {
    Journal::open_with_backend(disk.clone(), header, options()).unwrap_err()
}

#[test]
fn another_network_is_refused_and_both_are_named() {
    let other = Header { network: "bitcoin".into(), ..header() };
    let found = refused(&disk(), &other);
    assert_eq!(found.to_string(), r#"the journal belongs to network "regtest", expected "bitcoin""#);
    assert!(matches!(found, OpenError::WrongNetwork { .. }));
}

#[test]
fn another_owner_is_refused() {
    let other = Header { owner: b"wallet 03".to_vec(), ..header() };
    let found = refused(&disk(), &other);
    let OpenError::WrongOwner { expected, found } = found else { panic!("{found}") };
    assert_eq!((expected.as_slice(), found.as_slice()), (b"wallet 03".as_slice(), b"hub 02".as_slice()));
}

#[test]
fn another_logic_version_is_refused_while_there_are_inputs() {
    let disk = disk();
    let other = Header { logic_version: 2, ..header() };
    let found = refused(&disk, &other);
    assert!(matches!(found, OpenError::WrongLogicVersion { expected: 2, found: 1 }), "{found}");
    // The refusal changed nothing.
    let opened = Journal::open_with_backend(disk, &header(), options()).unwrap();
    assert_eq!(opened.recovery.written_by(), Some(1));
    assert_eq!(replay(&opened.recovery), [record(2, 1), record(2, 2)]);
}

#[test]
fn another_logic_version_opens_a_journal_that_was_stopped_cleanly() {
    let disk = disk();
    let opened = Journal::open_with_backend(disk.clone(), &header(), options()).unwrap();
    opened.log.append(snapshots(vec![snapshot(2, 2)])).unwrap();
    opened.committer.finish().unwrap();
    drop((opened.reader, opened.recovery));

    let other = Header { logic_version: 2, ..header() };
    let mut opened = Journal::open_with_backend(disk.clone(), &other, options()).unwrap();
    assert_eq!(opened.recovery.written_by(), Some(1));
    assert_eq!(states(&opened.recovery), [snapshot(1, 1), snapshot(2, 2)]);
    opened.log.append(records(&[(1, 2)])).unwrap();
    opened.committer.turn().unwrap();
    drop(opened);
    let found = refused(&disk, &header());
    assert!(matches!(found, OpenError::WrongLogicVersion { expected: 1, found: 2 }), "{found}");
}

#[test]
fn a_header_too_long_is_refused() {
    let other = Header { owner: vec![0; 1_000], ..header() };
    let found = refused(&Disk::new(), &other);
    assert!(matches!(found, OpenError::HeaderTooLong { field: "owner", length: 1_000, .. }), "{found}");
}

#[test]
fn a_file_that_is_no_journal_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    for content in [b"".as_slice(), b"short", &[7; 100_000], &[0; 100_000]] {
        fs::write(&path, content).unwrap();
        let found = Journal::open(&path, &header(), Options::small()).unwrap_err();
        assert!(matches!(&found, OpenError::NotAJournal { file, .. } if *file == path), "{found}");
        assert_eq!(fs::read(&path).unwrap(), content);
    }
}

#[test]
fn a_database_of_another_program_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let db = redb::Database::create(&path).unwrap();
    let transaction = db.begin_write().unwrap();
    transaction.open_table(redb::TableDefinition::<u64, u64>::new("theirs")).unwrap();
    transaction.commit().unwrap();
    drop(db);
    let found = Journal::open(&path, &header(), Options::small()).unwrap_err();
    assert!(matches!(found, OpenError::NotAJournal { .. }), "{found}");
}

#[test]
fn a_truncated_file_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    drop(open(&path));
    let length = fs::metadata(&path).unwrap().len();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(length / 2).unwrap();
    let found = Journal::open(&path, &header(), Options::small()).unwrap_err();
    assert!(matches!(found, OpenError::Damaged { .. }), "{found}");
}

#[test]
fn a_missing_folder_and_a_folder_in_place_of_the_file_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing").join("journal");
    let found = Journal::open(&missing, &header(), Options::small()).unwrap_err();
    assert!(matches!(found, OpenError::Io { .. }), "{found}");
    let found = Journal::open(folder.path(), &header(), Options::small()).unwrap_err();
    assert!(matches!(found, OpenError::Io { .. }), "{found}");
}

#[test]
fn a_new_journal_costs_about_a_megabyte_and_a_few_syncs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let opened = open(&path);
    assert!(fs::metadata(&path).unwrap().len() < 1_200_000);
    let stats = opened.log.stats();
    assert!(stats.fsyncs <= 20 && stats.device_bytes < 300_000, "{stats:?}");
    drop(opened);
    let stats = open(&path).log.stats();
    assert!(stats.fsyncs <= 10 && stats.device_bytes < 100_000, "{stats:?}");
}

#[test]
fn a_leftover_of_an_interrupted_creation_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    fs::File::create(folder.path().join("journal.new")).unwrap().write_all(b"half").unwrap();
    assert_eq!(open(&path).recovery.written_by(), None);
    assert!(!folder.path().join("journal.new").exists());
    assert_eq!(open(&path).recovery.written_by(), Some(1));
}

#[test]
fn a_second_handle_is_refused_until_the_first_is_dropped_and_the_locked_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let opened = open(&path);
    let found = Journal::open(&path, &header(), Options::small()).unwrap_err();
    let OpenError::AlreadyOpen { file } = found else { panic!("{found}") };
    assert_eq!(file, folder.path().join("journal.lock"));
    // A log may outlive the rest; a reader keeps the file.
    let (log, reader) = (opened.log.clone(), opened.reader.clone());
    drop(opened);
    assert!(matches!(Journal::open(&path, &header(), Options::small()), Err(OpenError::AlreadyOpen { .. })));
    drop(reader);
    open(&path);
    drop(log);
}

#[test]
fn a_journal_whose_lock_file_was_deleted_is_still_refused_to_a_second_handle() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let _opened = open(&path);
    fs::remove_file(folder.path().join("journal.lock")).unwrap();
    let found = Journal::open(&path, &header(), Options::small()).unwrap_err();
    assert!(matches!(&found, OpenError::AlreadyOpen { file } if *file == path), "{found}");
}

/// Names the journal that the test below opens when it is run again as another process.
const OTHER_PROCESS: &str = "JOURNAL_OF_THE_OTHER_PROCESS";

#[test]
fn a_second_process_is_refused() {
    if let Some(path) = std::env::var_os(OTHER_PROCESS) {
        let found = Journal::open(path.as_ref(), &header(), Options::small());
        assert!(matches!(found, Err(OpenError::AlreadyOpen { .. })));
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let _opened = open(&path);
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "opening::a_second_process_is_refused"])
        .env(OTHER_PROCESS, &path)
        .status()
        .unwrap();
    assert!(status.success());
}

/// Changes one bit of each copy of `text` on the disk.
fn spoil(disk: &Disk, text: &str) {
    let places = disk.find(text.as_bytes());
    assert!(!places.is_empty());
    for place in places {
        disk.flip_bit(place, 3);
    }
}

#[test]
fn a_broken_row_of_the_log_is_named() {
    let disk = disk();
    spoil(&disk, "input 2 of machine 2");
    let found = refused(&disk, &header());
    assert!(matches!(&found, OpenError::BrokenRow { row: RowName::Log(1), .. }), "{found}");
    assert_eq!(found.to_string(), "log row 1 is broken: its check does not match");
}

#[test]
fn a_broken_snapshot_is_named() {
    let disk = disk();
    spoil(&disk, "state 1 of machine 1");
    let found = refused(&disk, &header());
    assert!(matches!(&found, OpenError::BrokenRow { row: RowName::Snapshot(MachineId(1)), .. }), "{found}");
}

#[test]
fn a_broken_header_is_named() {
    let disk = disk();
    spoil(&disk, "hub 02");
    let found = refused(&disk, &header());
    assert!(matches!(&found, OpenError::BrokenRow { row: RowName::Header, .. }), "{found}");
}

#[test]
fn a_broken_event_is_named() {
    let disk = disk();
    spoil(&disk, "the event");
    let found = refused(&disk, &header());
    assert!(matches!(&found, OpenError::BrokenRow { row: RowName::Events(1), .. }), "{found}");
}

#[test]
fn a_broken_event_between_others_is_named() {
    let disk = disk();
    for text in ["the second event", "the third event"] {
        let mut opened = Journal::open_with_backend(disk.clone(), &header(), options()).unwrap();
        opened.log.append(events(&[text])).unwrap();
        opened.committer.turn().unwrap();
    }
    spoil(&disk, "the second event");
    let found = refused(&disk, &header());
    assert!(matches!(&found, OpenError::BrokenRow { row: RowName::Events(2), .. }), "{found}");
}

#[test]
fn a_broken_retained_row_is_named() {
    let disk = disk();
    let expected = RowName::Retained { table: 5, key: b"the key".to_vec() };
    // Broken while it is open: found when it is read. Without a cache every read goes to the disk.
    let options = Options { cache_bytes: 0, ..options() };
    let opened = Journal::open_with_backend(disk.clone(), &header(), options).unwrap();
    spoil(&disk, "the retained value");
    let found = opened.reader.get(5, b"the key").unwrap_err();
    assert!(matches!(&found, ReadError::BrokenRow { row, .. } if *row == expected), "{found}");
    let found = opened.reader.range(5, b"", None, 10).unwrap_err();
    assert!(matches!(&found, ReadError::BrokenRow { row, .. } if *row == expected), "{found}");
    assert_eq!(opened.reader.get(5, b"another").unwrap(), None);
    drop(opened);
    let found = refused(&disk, &header());
    assert!(matches!(&found, OpenError::BrokenRow { row, .. } if *row == expected), "{found}");
}

/// Writes one row into a closed journal, around it: keys in the file are big-endian in the check.
fn write_row(disk: &Disk, table: &str, key: u64, body: &[u8]) {
    let checked = [&key.to_be_bytes(), body].concat();
    let value = [&crc32fast::hash(&checked).to_le_bytes(), body].concat();
    let db = redb::Database::builder().create_with_backend(disk.clone()).unwrap();
    let transaction = db.begin_write().unwrap();
    let definition = redb::TableDefinition::<u64, &[u8]>::new(table);
    transaction.open_table(definition).unwrap().insert(key, value.as_slice()).unwrap();
    transaction.commit().unwrap();
}

#[test]
fn another_format_is_refused_whatever_follows_its_number() {
    let disk = disk();
    write_row(&disk, "header", 0, &[77, 1, 2, 3]);
    let found = refused(&disk, &header());
    assert!(matches!(found, OpenError::WrongFormat { expected: 1, found: 77 }), "{found}");
}

#[test]
fn a_gap_in_a_machines_inputs_is_refused_with_its_machine() {
    let disk = disk();
    // An empty input: length 0, machine 2, sequence 4.
    write_row(&disk, "log", 2, &[0, 2, 4]);
    let found = refused(&disk, &header());
    assert_eq!(found.to_string(), "machine 2 has a gap in log row 2: expected input 3, found 4");
}

#[test]
fn a_missing_row_of_the_log_is_named() {
    let disk = disk();
    write_row(&disk, "log", 3, &[0, 2, 3]);
    let found = refused(&disk, &header());
    assert_eq!(found.to_string(), "log row 2 is broken: it is missing");
}

#[test]
fn too_little_room_on_the_disk_is_refused_with_both_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let free = free_bytes(folder.path()).unwrap();
    assert!(free > 0);
    assert!(Headroom { minimum: 1 }.check(folder.path()).unwrap() > 0);
    let found = Headroom { minimum: u64::MAX }.check(folder.path()).unwrap_err();
    assert!(matches!(found, HeadroomError::TooLittle { minimum: u64::MAX, .. }), "{found}");
    let found = Headroom { minimum: 1 }.check(&folder.path().join("missing")).unwrap_err();
    assert!(matches!(found, HeadroomError::Io { .. }), "{found}");
}

#[test]
fn a_flipped_bit_is_refused_or_harmless_but_never_a_panic_or_another_content() {
    let whole = disk();
    let mut state = 88_172_645_463_325_252u64;
    for round in 0..400 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let disk = whole.after_kill();
        // Every other one in the engine's own header, where most damage shows.
        let range = if round % 2 == 0 { 320 } else { 64 * 1024 };
        disk.flip_bit(state % range, (state >> 50) as u32 % 8);
        if let Ok(opened) = Journal::open_with_backend(disk, &header(), options()) {
            assert_eq!(replay(&opened.recovery), [record(2, 1), record(2, 2)]);
            assert_eq!(states(&opened.recovery), [snapshot(1, 1)]);
        }
    }
}
