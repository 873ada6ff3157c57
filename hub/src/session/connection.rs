//! One `Connect` stream from its first frame to its goodbye.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use proto::error::ErrorCode;
use proto::frame::{Contents, Incoming, goodbye};
use proto::handshake::EXPORTER_BYTES;
use proto::hub::v1::{Frame, Welcome};
use shard::Credit;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use tokio_stream::{Stream, StreamExt};
use tonic::{Code, Status};
use tracing::{debug, info};

use crate::limits::SESSION_WINDOW_MESSAGES;
use crate::rate::Bucket;

use super::handshake::{HandshakeSetup, shake};
use super::inbox::{Inbox, InboxSetup};
use super::outgoing::{Ending, Outgoing, channel};
use super::registry::BeginError;

/// What serving a connection needs of the hub.
pub struct Serving {
    pub handshake: HandshakeSetup,
    pub inbox: InboxSetup,
    pub messages_per_second: u32,
    /// Made anew for each connection: policy, height and time change.
    pub welcome: Box<dyn Fn() -> Welcome + Send + Sync>,
}

/// Serves one connection until it ends. `frames` is what goes to the wallet; `proven` is called once it has proven its key.
pub async fn serve(
    serving: Arc<Serving>,
    exporter: [u8; EXPORTER_BYTES],
    address: Option<SocketAddr>,
    mut incoming: impl Stream<Item = Result<Frame, Status>> + Unpin,
    frames: mpsc::Sender<Result<Frame, Status>>,
    proven: impl FnOnce(),
) {
    let shaken = shake(&serving.handshake, exporter, &mut incoming, &frames, &serving.welcome).await;
    let node = match shaken {
        Ok(node) => {
            proven();
            node
        }
        Err(ending) => {
            debug!(?address, reason = %ending.text, "a handshake failed");
            say_goodbye(&frames, &ending).await;
            return;
        }
    };
    let (outgoing, writer) = channel();
    let sessions = serving.inbox.sessions.clone();
    let directory = &serving.inbox.directory;
    let begin = || sessions.begin(node, outgoing.clone(), address, serving.inbox.world.now_ms());
    let begun = match begin() {
        // Node keys cost nothing, channels do: strangers do not keep out those whose money is here.
        Err(BeginError::Full { .. })
            if directory.channels_of(&node) > 0
                && sessions.make_room(|other| directory.channels_of(other) == 0) =>
        {
            begin()
        }
        begun => begun,
    };
    let session = match begun {
        Ok(session) => session,
        Err(error) => {
            say_goodbye(&frames, &error.ending()).await;
            return;
        }
    };
    info!(%node, session = session.id.0, ?address, "wallet connected");
    let writing = tokio::spawn(writer.run(frames));
    let inbox = Inbox::new(&serving.inbox, session.id, node, outgoing.clone());
    let read = read(inbox, &outgoing, serving.messages_per_second, &mut incoming).await;
    if let Err(ending) = read {
        debug!(%node, session = session.id.0, reason = %ending.text, "session ended by us");
        outgoing.end(ending);
    }
    let reason = outgoing.ending().map(|ending| ending.text.clone());
    info!(%node, session = session.id.0, reason, "wallet disconnected");
    drop(session);
    outgoing.close();
    // The writer says goodbye, if there is one to say.
    let _ = writing.await;
}

/// Reads frames until the stream or the session ends.
async fn read(
    mut inbox: Inbox<'_>,
    outgoing: &Outgoing,
    messages_per_second: u32,
    incoming: &mut (impl Stream<Item = Result<Frame, Status>> + Unpin),
) -> Result<(), Ending> {
    let mut rate = Bucket::new(messages_per_second, Duration::from_secs(1), Instant::now());
    let window = Arc::new(Semaphore::new(window_size()));
    loop {
        let next = tokio::select! {
            biased;
            () = outgoing.ended() => return Ok(()),
            next = incoming.next() => next,
        };
        let frame = match next {
            None => return Ok(()),
            Some(Err(status)) => return unreadable(&status),
            Some(Ok(frame)) => frame,
        };
        let contents =
            match proto::frame::open(frame).map_err(|error| Ending::new(error.code(), error.to_string()))? {
                Incoming::Contents(contents) => contents,
                Incoming::Goodbye { code, text } => {
                    debug!(?code, text, "the wallet said goodbye");
                    return Ok(());
                }
            };
        // An empty frame costs work too.
        let count = messages_in(&contents).max(1);
        let Some(mut room) = make_room(outgoing, &mut rate, &window, count).await else { return Ok(()) };
        inbox.deliver(contents, |count| {
            let part = usize::min(count, room.num_permits());
            room.split(part).map_or_else(Credit::none, Credit::new)
        })?;
    }
}

/// The stream broke, or gRPC refused a message above its own limit.
fn unreadable(status: &Status) -> Result<(), Ending> {
    if status.code() == Code::OutOfRange || status.code() == Code::ResourceExhausted {
        let limit = proto::limits::MAX_FRAME_BYTES;
        let text = format!("the frame is larger than the {limit} bytes allowed");
        return Err(Ending::new(ErrorCode::FrameTooLarge, text));
    }
    if status.code() == Code::Internal || status.code() == Code::InvalidArgument {
        return Err(Ending::new(
            ErrorCode::FrameMalformed,
            "the frame is no protobuf message of the kind expected",
        ));
    }
    Ok(())
}

/// Waits for the wallet's rate and for room in the shards' mailboxes; `None` when the session ended meanwhile.
async fn make_room(
    outgoing: &Outgoing,
    rate: &mut Bucket,
    window: &Arc<Semaphore>,
    count: usize,
) -> Option<OwnedSemaphorePermit> {
    let wait = rate.take_later(u64::try_from(count).unwrap_or(u64::MAX), Instant::now());
    if !wait.is_zero() {
        tokio::select! {
            biased;
            () = outgoing.ended() => return None,
            () = tokio::time::sleep(wait) => {}
        }
    }
    let permits = u32::try_from(count).unwrap_or(u32::MAX).min(SESSION_WINDOW_MESSAGES);
    tokio::select! {
        biased;
        () = outgoing.ended() => None,
        permit = window.clone().acquire_many_owned(permits) => permit.ok(),
    }
}

fn window_size() -> usize {
    usize::try_from(SESSION_WINDOW_MESSAGES).expect("a window fits the address space")
}

fn messages_in(contents: &Contents) -> usize {
    let channels: usize = contents.channels.iter().map(|(_, messages)| messages.len()).sum();
    channels + contents.relays.len() + contents.inbound_requests.len()
}

async fn say_goodbye(frames: &mpsc::Sender<Result<Frame, Status>>, ending: &Ending) {
    let _ = frames.send(Ok(goodbye(ending.code, &ending.text))).await;
    let _ = frames.send(Err(ending.status())).await;
}

#[cfg(test)]
mod tests;
