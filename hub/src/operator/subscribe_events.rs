//! `SubscribeEvents`: every event from an index on, then live, none missed.

use daemon::rising::Rising;
use journal::{EventsError, Reader};
use proto::error::{ErrorCode, status, status_with_advice};
use proto::hub::v1 as pb;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::blocking::blocking;
use crate::events::Event;
use crate::limits::EVENTS_A_READ;

use super::event_out::event_out;

/// Starts a subscription at `from`; 0 means from now on. `next_event` rises with every durable event.
pub fn handle(
    reader: Reader,
    next_event: Rising<u64>,
    stopping: CancellationToken,
    from: u64,
) -> Result<ReceiverStream<Result<pb::Event, Status>>, Status> {
    let from = if from == 0 { reader.next_event() } else { from };
    // The first read decides whether the index can be served at all.
    let first = reader.events_from(from, EVENTS_A_READ).map_err(refused)?;
    let (sender, receiver) = mpsc::channel(EVENTS_A_READ);
    tokio::spawn(async move {
        let followed = tokio::select! {
            biased;
            () = stopping.cancelled() => Err(the_hub_stops()),
            followed = follow(reader, next_event, from, first, &sender) => followed,
        };
        if let Err(status) = followed {
            // A subscriber that does not read learns the same from the end of its connection.
            let _ = sender.try_send(Err(status));
        }
    });
    Ok(ReceiverStream::new(receiver))
}

async fn follow(
    reader: Reader,
    next_event: Rising<u64>,
    mut index: u64,
    mut events: Vec<(u64, Vec<u8>)>,
    sender: &mpsc::Sender<Result<pb::Event, Status>>,
) -> Result<(), Status> {
    loop {
        for (at, bytes) in events.drain(..) {
            let event = Event::decode(&bytes)
                .map_err(|error| status(ErrorCode::Fault, format!("event {at} cannot be read: {error}")))?;
            if sender.send(Ok(event_out(at, &event))).await.is_err() {
                return Ok(());
            }
            index = at + 1;
        }
        tokio::select! {
            biased;
            () = sender.closed() => return Ok(()),
            came = next_event.above(index) => if came.is_err() {
                return Err(the_hub_stops());
            },
        }
        events = read(&reader, index).await?;
    }
}

fn the_hub_stops() -> Status {
    status(ErrorCode::Stopping, "the hub is stopping; subscribe again with the next index")
}

/// Reads on a thread that may block.
async fn read(reader: &Reader, index: u64) -> Result<Vec<(u64, Vec<u8>)>, Status> {
    let reader = reader.clone();
    blocking(move || reader.events_from(index, EVENTS_A_READ))
        .await
        .map_err(|_| status(ErrorCode::Fault, "reading events panicked"))?
        .map_err(refused)
}

/// Why an index cannot be served, never a silent gap.
pub fn refused(error: EventsError) -> Status {
    let text = error.to_string();
    match error {
        EventsError::TooOld { oldest } => {
            let advice = format!("ask from {oldest} on, and read the present state by the lists");
            status_with_advice(ErrorCode::EventsTooOld, text, advice)
        }
        EventsError::Ahead { next } => {
            let advice = format!("ask from {next} on, or from 0 for whatever comes next");
            status_with_advice(ErrorCode::EventsInFuture, text, advice)
        }
        EventsError::Read(_) => status(ErrorCode::Fault, text),
    }
}

#[cfg(test)]
mod tests;
