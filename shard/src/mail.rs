//! What comes into a shard, and the answers to those who asked.

use std::any::Any;

use channel::channel::{ChannelView, PublishJob};
use channel::error::{RecoveryFlaw, Rejection};
use channel::event::{AcceptRequest, ChainEvent, Command, OpenRequest, RecoverRequest};
use channel::forward::Internal;
use channel::ids::{ChannelId, OwnerId, SessionId};
use channel::keys::Point;
use channel::message::{Essentials, Message, OpenChannel};
use channel::policy::Policy;
use journal::Position;

/// Something for the shard to do. A turn takes mail in the order given; mail of one sender keeps its order.
#[derive(Debug)]
pub enum Mail {
    /// Open a channel that this side funds. Answered with `Opened` or `Refused`.
    Open { request: OpenRequest, reply: Option<ReplyTo> },
    /// A peer proposed a channel under an id unknown to the host. The host routes later messages for that id here.
    Accept { request: AcceptRequest, message: Box<OpenChannel> },
    /// A peer reestablished a channel under an id unknown to the host, and told what it keeps for whoever lost its data.
    /// Hosted if it is what this side sealed for itself; otherwise the peer is told that no such channel is here.
    Recover { request: RecoverRequest, essentials: Box<Essentials> },
    /// Messages of one peer about one channel, in order.
    Peer { session: SessionId, node: Point, channel: ChannelId, messages: Vec<Message>, credit: Credit },
    /// A host's command to one channel. Those that belong to the shard itself (connecting, signing) and to forwards are refused.
    Command { owner: OwnerId, command: Command, reply: Option<ReplyTo> },
    /// From an owner outside this shard. Mail from one owner to another keeps its order.
    Internal { to: OwnerId, message: Internal },
    /// The node is connected and proved its key. A newer session (a greater number) supersedes the node's older one.
    SessionUp { node: Point, session: SessionId },
    /// The session ended. Ignored unless it is its node's current one.
    SessionDown { session: SessionId },
    /// What a block did to channels' outputs.
    Chain { events: Vec<(OwnerId, ChainEvent)> },
    /// The tip's height. Channels whose deadline has come are told.
    Height(u32),
    /// Answered through the outbox, so that nobody reads what a crash could undo.
    Read { query: Query, reply: ReplyTo },
    /// The journal wants this channel's snapshot, to free its log.
    SnapshotNow(OwnerId),
    /// Everything up to this position is on the disk.
    Durable(Position),
    /// The policy from now on.
    Policy(Box<Policy>),
    /// A clean stop: disconnect and snapshot every channel, refuse everything else. See [`Shard::stopped`](crate::Shard::stopped).
    Stop,
}

/// Room in the sender's window, given back (dropped) when the mail it came with has been handled.
#[derive(Default)]
pub struct Credit(#[allow(dead_code, reason = "only dropped")] Option<Box<dyn Any + Send>>);

impl Credit {
    /// `guard` gives the room back when it is dropped.
    pub fn new(guard: impl Any + Send) -> Self {
        Credit(Some(Box::new(guard)))
    }

    /// For senders without a window.
    pub fn none() -> Self {
        Credit(None)
    }
}

impl std::fmt::Debug for Credit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credit(..)")
    }
}

/// Where an answer goes. Called at most once; dropped without a call when the process stops first.
pub struct ReplyTo(Box<dyn FnOnce(Reply) + Send>);

impl ReplyTo {
    /// `deliver` must not block: it runs in the shard's turn.
    pub fn new(deliver: impl FnOnce(Reply) + Send + 'static) -> Self {
        ReplyTo(Box::new(deliver))
    }

    pub fn send(self, reply: Reply) {
        (self.0)(reply);
    }
}

impl std::fmt::Debug for ReplyTo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ReplyTo(..)")
    }
}

/// The answer to an `Open`, a `Command` or a `Read`, once what it depends on is durable.
#[derive(Debug)]
pub enum Reply {
    /// The opening is journaled and under way.
    Opened {
        owner: OwnerId,
        channel_id: ChannelId,
    },
    /// The command is journaled, or it was a repeat that changed nothing.
    Done,
    /// Nothing changed.
    Refused(Refused),
    Answer(Answer),
}

/// Why a shard did nothing. One variant a rule.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refused {
    /// A rule of the channel.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// What the peer keeps of a channel is not what this side sealed.
    #[error(transparent)]
    Unrecoverable(#[from] RecoveryFlaw),
    #[error("no channel has the number {}", .0.0)]
    UnknownOwner(OwnerId),
    #[error("channel {0} exists already")]
    ChannelExists(ChannelId),
    #[error("the number {} is taken by another machine", .0.0)]
    OwnerExists(OwnerId),
    #[error("the node is not connected by session {}", .0.0)]
    NotConnected(SessionId),
    #[error("the node has {maximum} channels here, which is the most allowed")]
    TooManyChannelsOfNode { maximum: usize },
    #[error("this shard holds {maximum} channels, which is the most allowed")]
    TooManyChannels { maximum: usize },
    #[error("there are {maximum} sessions, which is the most allowed")]
    TooManySessions { maximum: usize },
    #[error("the channel's records do not fold: {why}")]
    Quarantined { why: String },
    #[error("the shard gives this command by itself")]
    NotForHosts,
    #[error("the process is stopping")]
    Stopping,
}

/// What can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    /// One channel by its number.
    Channel(OwnerId),
    /// One channel by its name on the wire.
    ChannelById(ChannelId),
    /// A page of channels in the order of their numbers, after `after`; of one node if it is named.
    Channels { node: Option<Point>, after: Option<OwnerId>, max: usize },
    /// A failed channel's latest commitment, fully signed, if it may be published.
    PublishJob(OwnerId),
}

/// What was read.
#[derive(Debug)]
pub enum Answer {
    Channel(Option<Box<ChannelView>>),
    /// `more` is the `after` of the next page.
    Channels {
        channels: Vec<ChannelView>,
        more: Option<OwnerId>,
    },
    PublishJob(Option<Box<PublishJob>>),
}
