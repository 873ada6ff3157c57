use channel::keys::Point;
use daemon::rising::rising;
use journal::{Batch, Header, Journal, Opened, Options};
use tokio_stream::StreamExt;

use super::*;
use crate::events::{HubEvent, HubHappening};

fn open(folder: &std::path::Path, event_bytes: u64) -> Opened {
    let header = Header { logic_version: 1, network: "regtest".into(), owner: b"test".to_vec() };
    let options = Options { event_bytes, ..Options::small() };
    Journal::open(&folder.join("journal.redb"), &header, options).unwrap()
}

fn event(number: u8) -> Vec<u8> {
    let node = Point::from_bytes([number; 33]);
    HubEvent { time_ms: number.into(), what: HubHappening::PeerConnected { node } }.encode()
}

fn batch(numbers: impl IntoIterator<Item = u8>) -> Batch {
    Batch { events: numbers.into_iter().map(event).collect(), ..Batch::default() }
}

#[tokio::test]
async fn a_subscriber_that_comes_back_misses_none_and_sees_none_twice() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = open(folder.path(), 1 << 20);
    let (next, next_event) = rising(journal.reader.next_event());
    let mut commit = |numbers: std::ops::Range<u8>| {
        journal.log.append(batch(numbers)).unwrap();
        let commit = journal.committer.turn().unwrap().unwrap();
        next.raise(commit.events.unwrap().last + 1);
    };
    commit(0..3);
    let mut stream = handle(journal.reader.clone(), next_event.clone(), CancellationToken::new(), 1).unwrap();
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(stream.next().await.unwrap().unwrap().index);
    }
    drop(stream);
    commit(3..5);
    let mut stream = handle(journal.reader.clone(), next_event.clone(), CancellationToken::new(), 4).unwrap();
    commit(5..7);
    for _ in 0..4 {
        let event = stream.next().await.unwrap().unwrap();
        assert_eq!(event.time_ms, event.index - 1);
        seen.push(event.index);
    }
    assert_eq!(seen, [1, 2, 3, 4, 5, 6, 7]);
    // From now on: nothing of the past.
    let mut live = handle(journal.reader.clone(), next_event, CancellationToken::new(), 0).unwrap();
    commit(7..8);
    assert_eq!(live.next().await.unwrap().unwrap().index, 8);
}

#[tokio::test]
async fn an_index_too_old_or_ahead_is_named_and_never_a_silent_gap() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = open(folder.path(), 1_000);
    let (_next, next_event) = rising(1);
    for round in 0..100u8 {
        journal.log.append(batch([round])).unwrap();
        journal.committer.turn().unwrap();
    }
    assert!(journal.reader.oldest_event() > 1);
    let refused =
        handle(journal.reader.clone(), next_event.clone(), CancellationToken::new(), 1).unwrap_err();
    assert_eq!(refused.code(), tonic::Code::OutOfRange);
    assert_eq!(proto::error::parse(&refused).unwrap().code(), ErrorCode::EventsTooOld);
    let refused = handle(journal.reader.clone(), next_event, CancellationToken::new(), 1_000).unwrap_err();
    assert_eq!(proto::error::parse(&refused).unwrap().code(), ErrorCode::EventsInFuture);
}

#[tokio::test]
async fn a_stopping_hub_ends_the_subscription_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path(), 1 << 20);
    let (next, next_event) = rising(1);
    let mut stream = handle(journal.reader.clone(), next_event, CancellationToken::new(), 1).unwrap();
    drop(next);
    let ended = stream.next().await.unwrap().unwrap_err();
    assert_eq!(proto::error::parse(&ended).unwrap().code(), ErrorCode::Stopping);
}
