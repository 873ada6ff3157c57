//! What the control thread is told and asked.

use bitcoin::Amount;
use channel::ids::{ChannelId, OwnerId, SessionId};
use channel::keys::Point;
use journal::Position;
use proto::frame::InboundRequest;
use proto::relay::Relay;
use proto::request_id::{RequestId, RequestIdError};
use shard::Credit;
use tokio::sync::oneshot;

use crate::events::HubHappening;

/// Mail for the control thread.
#[derive(Debug)]
pub enum ControlMail {
    SessionUp {
        node: Point,
        session: SessionId,
    },
    SessionDown {
        node: Point,
        session: SessionId,
    },
    /// About a stream, from this wallet.
    Relay {
        session: SessionId,
        node: Point,
        relay: Relay,
        /// Room in the session's window, given back when the relay was handled.
        credit: Credit,
    },
    /// The wallet asks for a channel that the hub funds.
    Inbound {
        session: SessionId,
        node: Point,
        request: InboundRequest,
        /// As for a relay.
        credit: Credit,
    },
    /// The desk's answer about such a request: the coins that an opening could spend. None while the desk is stopping.
    Funds {
        session: SessionId,
        node: Point,
        request: InboundRequest,
        spendable: Option<Amount>,
    },
    /// What became of an opening that such a request caused.
    Opened {
        node: Point,
        request: RequestId,
        result: Result<(), shard::Refused>,
    },
    /// A channel ended.
    Finished {
        owner: OwnerId,
        channel: ChannelId,
    },
    /// Remember an operator's call that creates nothing; answered once that is durable.
    Remember {
        request: RequestId,
        body: [u8; 32],
        reply: oneshot::Sender<Result<Remembered, RememberError>>,
    },
    /// Fees of forwards up to this event are summed.
    Earned {
        next_event: u64,
        total_msat: u64,
    },
    /// Tell subscribers.
    Event(HubHappening),
    Durable(Position),
    /// The journal wants a snapshot of the registry.
    SnapshotNow,
    /// Every shard has published its channels: openings that came to nothing can be told.
    Started,
    /// A clean stop: one snapshot more, then nothing.
    Stop,
}

/// Whether a call is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remembered {
    Fresh,
    /// The same call under the same id came before.
    Repeat,
}

/// Why a call is not executed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RememberError {
    #[error(transparent)]
    Id(#[from] RequestIdError),
    #[error("this request_id came before with another request; every request needs an id of its own")]
    Reused,
    #[error("{maximum} requests are remembered, which is the most; try again when the oldest are a day old")]
    Full { maximum: usize },
    #[error("the hub is stopping")]
    Stopping,
}
