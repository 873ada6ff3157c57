//! Events from any index on that is still kept, then live, none missed.

use std::pin::Pin;

use journal::EventsError;
use proto::error::{ErrorCode, status, status_with_advice};
use proto::wallet::v1 as pb;
use proto::wallet::v1::event::Kind;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::channels::unreadable;
use super::{Service, convert};
use crate::history::{AnyEvent, LedgerHappening};

/// Events, until the caller leaves.
pub type Events = Pin<Box<dyn Stream<Item = Result<pb::Event, Status>> + Send>>;

/// Events read at once.
const EVENTS_A_READ: usize = 256;

impl Service {
    pub(super) fn events(&self, request: pb::SubscribeEventsRequest) -> Result<Events, Status> {
        let next = self.reader.next_event();
        let mut index = if request.from_index == 0 { next } else { request.from_index };
        if index > next {
            let text = format!("event {index} is not written yet; the next is {next}");
            return Err(status(ErrorCode::EventsInFuture, text));
        }
        if index < self.reader.oldest_event() {
            return Err(too_old(self.reader.oldest_event()));
        }
        let (sender, receiver) = mpsc::channel(64);
        let reader = self.reader.clone();
        let written = self.next_event.clone();
        let mut stopped = self.stop.subscribe();
        tokio::spawn(async move {
            loop {
                match reader.events_from(index, EVENTS_A_READ) {
                    Err(error) => {
                        let _ = sender.send(Err(events_error(&error))).await;
                        return;
                    }
                    Ok(events) if events.is_empty() => {
                        let news = tokio::select! {
                            biased;
                            _ = stopped.wait_for(|stopped| *stopped) => false,
                            () = sender.closed() => false,
                            news = written.above(index) => news.is_ok(),
                        };
                        if !news {
                            return;
                        }
                    }
                    Ok(events) => {
                        for (at, bytes) in events {
                            index = at + 1;
                            if sender.send(event(at, &bytes)).await.is_err() {
                                return;
                            }
                        }
                    }
                }
            }
        });
        Ok(Box::pin(ReceiverStream::new(receiver)))
    }
}

fn too_old(oldest: u64) -> Status {
    status_with_advice(
        ErrorCode::EventsTooOld,
        format!("the oldest event kept is {oldest}"),
        "read the present state by the other calls, then subscribe from there",
    )
}

fn events_error(error: &EventsError) -> Status {
    match error {
        EventsError::TooOld { oldest } => too_old(*oldest),
        EventsError::Ahead { .. } => status(ErrorCode::EventsInFuture, error.to_string()),
        EventsError::Read(error) => unreadable(error),
    }
}

fn event(index: u64, bytes: &[u8]) -> Result<pb::Event, Status> {
    let (time_ms, kind) = match AnyEvent::decode(bytes).map_err(unreadable)? {
        AnyEvent::Channel(record) => (record.time_ms, Kind::Channel(convert::channel_event(&record))),
        AnyEvent::Ledger(event) => {
            let kind = match &event.what {
                LedgerHappening::Payment(ended) => Kind::Payment(convert::ended(ended)),
                LedgerHappening::Paid { id, stream } => Kind::Stream(convert::paid_stream(id, stream)),
                LedgerHappening::Received { id, stream } => {
                    Kind::Stream(convert::received_stream(id, stream))
                }
            };
            (event.time_ms, kind)
        }
    };
    Ok(pb::Event { index, time_ms, kind: Some(kind) })
}
