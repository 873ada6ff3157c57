//! The queue towards one wallet and the writer that makes frames of it.
//!
//! Invariant: order is kept, and everything queued at one moment goes into as few frames as the limits allow. The queue is
//! bounded: a wallet that does not read is disconnected by name, which loses nothing.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use channel::ids::ChannelId;
use channel::message::Message;
use proto::error::{ErrorCode, status};
use proto::frame::{FrameBuilder, InboundReply, goodbye};
use proto::hub::v1::Frame;
use proto::relay::Relay;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::limits::{SESSION_OUTGOING_MESSAGES, SESSION_TAKE};

/// Something to tell a wallet.
#[derive(Debug)]
pub enum ToWallet {
    /// Messages of several channels, released together.
    Channels(Vec<(ChannelId, Vec<Message>)>),
    Relay(Relay),
    InboundReply(InboundReply),
    Pong(u64),
}

impl ToWallet {
    fn weight(&self) -> usize {
        match self {
            ToWallet::Channels(channels) => channels.iter().map(|(_, messages)| messages.len()).sum(),
            ToWallet::Relay(_) | ToWallet::InboundReply(_) | ToWallet::Pong(_) => 1,
        }
    }
}

/// Why a connection ends, as the wallet is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    pub code: ErrorCode,
    pub text: String,
}

impl Ending {
    pub fn new(code: ErrorCode, text: impl Into<String>) -> Self {
        Ending { code, text: text.into() }
    }

    pub fn status(&self) -> Status {
        status(self.code, self.text.clone())
    }
}

/// The sending end of a session's queue. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Outgoing {
    queue: mpsc::UnboundedSender<ToWallet>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    queued: AtomicUsize,
    ending: OnceLock<Ending>,
    closed: CancellationToken,
}

impl Outgoing {
    /// Queues; a full queue ends the session instead.
    pub fn send(&self, what: ToWallet) {
        let weight = what.weight();
        let queued = self.shared.queued.fetch_add(weight, Ordering::Relaxed);
        if queued > SESSION_OUTGOING_MESSAGES {
            let text = format!(
                "more than {SESSION_OUTGOING_MESSAGES} messages wait because the wallet does not read them"
            );
            self.end(Ending::new(ErrorCode::LimitReached, text));
            return;
        }
        // A writer that is gone ended with its session.
        let _ = self.queue.send(what);
    }

    /// Ends the session: the wallet is told the first reason given.
    pub fn end(&self, ending: Ending) {
        let _ = self.shared.ending.set(ending);
        self.shared.closed.cancel();
    }

    /// The connection is over, and nobody is left to be told anything. Whoever still holds a clone of this (shards do, so that
    /// releases take no lock) sees it by [`Outgoing::is_ended`]; the writer does not wait for them.
    pub fn close(&self) {
        self.shared.closed.cancel();
    }

    pub fn is_ended(&self) -> bool {
        self.shared.closed.is_cancelled()
    }

    /// Resolves when the session was ended or is over.
    pub async fn ended(&self) {
        self.shared.closed.cancelled().await;
    }

    /// Why it was ended, once it was.
    pub fn ending(&self) -> Option<&Ending> {
        self.shared.ending.get()
    }
}

/// The receiving end.
#[derive(Debug)]
pub struct Writer {
    queue: mpsc::UnboundedReceiver<ToWallet>,
    shared: Arc<Shared>,
}

/// A queue towards a wallet.
pub fn channel() -> (Outgoing, Writer) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let shared = Arc::new(Shared::default());
    (Outgoing { queue: sender, shared: shared.clone() }, Writer { queue: receiver, shared })
}

#[cfg(test)]
impl Writer {
    /// Takes everything queued now.
    pub fn queued(&mut self) -> Vec<ToWallet> {
        std::iter::from_fn(|| self.queue.try_recv().ok()).collect()
    }
}

impl Writer {
    /// Writes frames until the session is ended or the wallet is gone, then says goodbye.
    pub async fn run(mut self, frames: mpsc::Sender<Result<Frame, Status>>) {
        let mut taken = Vec::new();
        let mut builder = FrameBuilder::default();
        loop {
            let count = tokio::select! {
                biased;
                () = self.shared.closed.cancelled() => break,
                count = self.queue.recv_many(&mut taken, SESSION_TAKE) => count,
            };
            if count == 0 {
                break;
            }
            let weight = taken.iter().map(ToWallet::weight).sum();
            for what in taken.drain(..) {
                add(&mut builder, what);
            }
            for frame in builder.take() {
                tokio::select! {
                    biased;
                    () = self.shared.closed.cancelled() => {}
                    sent = frames.send(Ok(frame)) => if sent.is_err() { return },
                }
            }
            self.shared.queued.fetch_sub(weight, Ordering::Relaxed);
        }
        if let Some(ending) = self.shared.ending.get() {
            // Nobody waits for a wallet that does not read: a full line means no goodbye.
            let _ = frames.try_send(Ok(goodbye(ending.code, &ending.text)));
            let _ = frames.try_send(Err(ending.status()));
        }
    }
}

fn add(builder: &mut FrameBuilder, what: ToWallet) {
    match what {
        ToWallet::Channels(channels) => {
            for (channel, messages) in channels {
                builder.channel(channel, &messages);
            }
        }
        ToWallet::Relay(relay) => builder.relay(&relay),
        ToWallet::InboundReply(reply) => builder.inbound_reply(reply),
        ToWallet::Pong(nonce) => builder.pong(nonce),
    }
}

#[cfg(test)]
mod tests {
    use proto::hub::v1::frame::Kind;

    use super::*;

    fn fails(count: u64) -> Vec<Message> {
        use channel::failure::FailureReason;
        (0..count).map(|id| Message::UpdateFailHtlc { id, reason: FailureReason::NoLiquidity }).collect()
    }

    #[tokio::test]
    async fn everything_queued_at_one_moment_goes_into_one_frame() {
        let (outgoing, writer) = channel();
        outgoing
            .send(ToWallet::Channels(vec![(ChannelId([1; 32]), fails(3)), (ChannelId([2; 32]), fails(2))]));
        outgoing.send(ToWallet::Channels(vec![(ChannelId([2; 32]), fails(1))]));
        outgoing.send(ToWallet::Pong(7));
        let (sender, mut frames) = mpsc::channel(4);
        let running = tokio::spawn(writer.run(sender));
        let Some(Kind::Batch(batch)) = frames.recv().await.unwrap().unwrap().kind else { panic!("no batch") };
        let sizes: Vec<usize> = batch.channels.iter().map(|channel| channel.messages.len()).collect();
        assert_eq!(sizes, [3, 3]);
        assert_eq!(batch.pong.unwrap().nonce, 7);
        drop(outgoing);
        running.await.unwrap();
        assert!(frames.recv().await.is_none());
    }

    #[tokio::test]
    async fn an_ended_session_says_goodbye_with_the_first_reason() {
        let (outgoing, writer) = channel();
        outgoing.end(Ending::new(ErrorCode::Superseded, "newer"));
        outgoing.end(Ending::new(ErrorCode::Stopping, "stop"));
        let (sender, mut frames) = mpsc::channel(4);
        writer.run(sender).await;
        let Some(Kind::Goodbye(goodbye)) = frames.recv().await.unwrap().unwrap().kind else {
            panic!("no goodbye")
        };
        assert_eq!(goodbye.code(), ErrorCode::Superseded);
        assert_eq!(frames.recv().await.unwrap().unwrap_err().code(), tonic::Code::Aborted);
    }

    #[tokio::test]
    async fn a_wallet_that_does_not_read_is_disconnected_by_name() {
        let (outgoing, _writer) = channel();
        let part = 10_000;
        for _ in 0..=(SESSION_OUTGOING_MESSAGES / part + 1) {
            outgoing.send(ToWallet::Channels(vec![(ChannelId([1; 32]), fails(part as u64))]));
        }
        assert!(outgoing.is_ended());
        assert_eq!(outgoing.ending().unwrap().code, ErrorCode::LimitReached);
    }
}
