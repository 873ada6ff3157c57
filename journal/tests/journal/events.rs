//! Events have rising indices, resume after any of them, and are kept up to a size.

use journal::{Batch, EventRange, EventsError, Journal, Options};

use crate::common::*;

fn text(event: &(u64, Vec<u8>)) -> (u64, &str) {
    (event.0, std::str::from_utf8(&event.1).unwrap())
}

#[test]
fn a_subscriber_resumes_after_the_last_event_it_saw() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let mut opened = open(&path);
    opened.log.append(events(&["one", "two"])).unwrap();
    opened.log.append(records(&[(1, 1)])).unwrap();
    opened.log.append(events(&["three"])).unwrap();
    let commit = opened.committer.turn().unwrap().unwrap();
    assert_eq!(commit.events, Some(EventRange { first: 1, last: 3 }));
    opened.log.append(events(&["", "five"])).unwrap();
    let commit = opened.committer.turn().unwrap().unwrap();
    assert_eq!(commit.events, Some(EventRange { first: 4, last: 5 }));
    opened.log.append(records(&[(1, 2)])).unwrap();
    assert_eq!(opened.committer.turn().unwrap().unwrap().events, None);
    drop(opened);

    let opened = open(&path);
    let reader = &opened.reader;
    assert_eq!((reader.oldest_event(), reader.next_event()), (1, 6));
    let all = reader.events_from(1, 100).unwrap();
    let all: Vec<_> = all.iter().map(text).collect();
    assert_eq!(all, [(1, "one"), (2, "two"), (3, "three"), (4, ""), (5, "five")]);
    assert_eq!(reader.events_from(3, 2).unwrap().iter().map(text).collect::<Vec<_>>(), all[2..4]);
    assert_eq!(reader.events_from(5, 2).unwrap().iter().map(text).collect::<Vec<_>>(), all[4..]);
    assert!(reader.events_from(6, 2).unwrap().is_empty());
    assert!(matches!(reader.events_from(7, 2), Err(EventsError::Ahead { next: 6 })));
    assert!(matches!(reader.events_from(0, 2), Err(EventsError::TooOld { oldest: 1 })));
}

#[test]
fn an_event_not_yet_committed_is_not_seen() {
    let folder = tempfile::tempdir().unwrap();
    let opened = open(&folder.path().join("journal"));
    opened.log.append(events(&["one"])).unwrap();
    assert_eq!(opened.reader.next_event(), 1);
    assert!(opened.reader.events_from(1, 1).unwrap().is_empty());
    assert!(matches!(opened.reader.events_from(2, 1), Err(EventsError::Ahead { next: 1 })));
}

#[test]
fn old_events_go_when_they_exceed_their_size_and_the_oldest_index_is_remembered() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let options = Options { event_bytes: 10_000, ..Options::small() };
    let mut opened = Journal::open(&path, &header(), options.clone()).unwrap();
    let event = vec![1; 500];
    for turn in 1..=200u64 {
        let batch = Batch { events: vec![event.clone(); 3], ..Batch::default() };
        opened.log.append(batch).unwrap();
        opened.committer.turn().unwrap();
        let kept = opened.reader.next_event() - opened.reader.oldest_event();
        assert_eq!(opened.reader.next_event(), turn * 3 + 1);
        assert!(kept * 500 <= 10_000, "{kept} events are kept");
        assert!(turn < 7 || kept >= 15, "only {kept} events are kept");
    }
    let oldest = opened.reader.oldest_event();
    drop(opened);

    let mut opened = Journal::open(&path, &header(), options).unwrap();
    assert_eq!(opened.reader.oldest_event(), oldest);
    assert_eq!(opened.reader.next_event(), 601);
    let found = opened.reader.events_from(oldest - 1, 1).unwrap_err();
    assert!(matches!(found, EventsError::TooOld { oldest: named } if named == oldest));
    assert_eq!(opened.reader.events_from(oldest, 1_000).unwrap().len() as u64, 601 - oldest);
    opened.log.append(events(&["next"])).unwrap();
    let commit = opened.committer.turn().unwrap().unwrap();
    assert_eq!(commit.events, Some(EventRange { first: 601, last: 601 }));
}

#[test]
fn the_newest_row_stays_however_small_the_size_so_that_indices_never_repeat() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let options = Options { event_bytes: 0, ..Options::small() };
    for round in 0..4u64 {
        let mut opened = Journal::open(&path, &header(), options.clone()).unwrap();
        assert_eq!(opened.reader.next_event(), round * 2 + 1);
        opened.log.append(events(&["a", "b"])).unwrap();
        opened.committer.turn().unwrap();
        assert_eq!(opened.reader.oldest_event(), round * 2 + 1);
    }
}

#[test]
fn many_events_of_one_commit_fill_several_rows_and_read_as_one_sequence() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let mut opened = open(&path);
    let all: Vec<Vec<u8>> =
        (0..2_000u32).map(|index| index.to_le_bytes().repeat(1 + index as usize % 40)).collect();
    for part in all.chunks(700) {
        opened.log.append(Batch { events: part.to_vec(), ..Batch::default() }).unwrap();
    }
    opened.committer.turn().unwrap();
    let mut next = 1;
    let mut found = Vec::new();
    while next < opened.reader.next_event() {
        let page = opened.reader.events_from(next, 333).unwrap();
        assert!(!page.is_empty());
        for (index, event) in page {
            assert_eq!(index, next);
            next += 1;
            found.push(event);
        }
    }
    assert_eq!(found, all);
}
