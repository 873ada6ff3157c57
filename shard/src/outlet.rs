//! What goes out of a shard. The host implements [`Outlet`]; every call except `internal`, `publish` and `ending` is made
//! only after the journal rows it depends on are durable.

use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, TxOut};
use channel::amount::Msat;
use channel::channel::{ChannelView, PhaseView, ReadyTicket};
use channel::claim::OnchainPlan;
use channel::forward::Internal;
use channel::ids::{ChannelId, OwnerId, SessionId};
use channel::keys::Point;
use channel::message::Message;
use journal::Retained;

use crate::mail::{Refused, Reply, ReplyTo};

/// Performs what a shard decides. No call may block on the shard itself, on its mailbox or on the journal's queue.
pub trait Outlet {
    /// Messages to a peer about one channel, in order. Called once a channel and release, so that frames batch; [`flush`](Outlet::flush)
    /// ends the release.
    fn send(&mut self, session: SessionId, channel: ChannelId, messages: Vec<Message>);

    /// To an owner outside this shard: another shard's channel or the wallet's ledger. Its cause is appended to the log, not yet
    /// durable. An owner nobody has (any more) may be delivered to any shard, which answers for it.
    /// It must never be dropped while the process lives; room for it was reserved when the HTLC was accepted.
    fn internal(&mut self, to: OwnerId, message: Internal);

    /// Work for the settlement desk.
    fn chain(&mut self, owner: OwnerId, request: ChainRequest);

    /// An answer.
    fn reply(&mut self, to: ReplyTo, reply: Reply) {
        to.send(reply);
    }

    /// A channel's line in the host's directory changed. Not gated by the disk: routing by it is only a guess that the outgoing
    /// channel's `check` decides about. What users see goes through reads.
    fn publish(&mut self, entry: DirectoryEntry);

    /// A peer's message changed nothing, for this reason. The peer was told where that helps it. Hosts may close the session.
    fn peer_refused(&mut self, session: SessionId, channel: ChannelId, why: PeerRefusal);

    /// A channel ends in the batch that is being collected. What is returned is kept with it: the end and this row become
    /// durable together.
    fn ending(&mut self, view: &ChannelView) -> Option<Retained> {
        let _ = view;
        None
    }

    /// The channel ended and its end is durable: forget it.
    fn finished(&mut self, owner: OwnerId, channel: ChannelId);

    /// Everything that became durable together has been handed out: frames may be closed and written.
    fn flush(&mut self) {}
}

/// What a channel asks of the chain's side.
#[derive(Clone, Debug, PartialEq)]
pub enum ChainRequest {
    /// Build and sign (never broadcast) a transaction with this output, and with the coin for the other side if there is one;
    /// answer with `Command::FundingBuilt` or `AbortOpening`.
    BuildFunding {
        script: ScriptBuf,
        amount: Amount,
        reserve_coin: Option<TxOut>,
    },
    /// Report the outpoint's confirmation, depth and spend as `ChainEvent`s.
    WatchFunding {
        outpoint: OutPoint,
        script: ScriptBuf,
        amount: Amount,
        minimum_depth: u32,
    },
    BroadcastFunding {
        transaction: Transaction,
    },
    /// The opening ended before anything was broadcast.
    ReleaseCoins {
        transaction: Option<Transaction>,
    },
    /// Hub: shutdown is complete both ways; name fee and height by `Command::ProposeTerms`.
    ClosingTerms,
    /// Hub: merge this ticket into a batch.
    TicketReady(Box<ReadyTicket>),
    /// Wallet: publish if the chain holds no close by this height.
    ClosingHandedOver {
        transaction: Transaction,
        publish_by_height: u32,
    },
    /// The peer proved that this side lost data, by its word or by a commitment in the chain. Given again at every start,
    /// before any plan of the shard.
    ProvenBehind,
    /// All that the channel wants done on the chain now; replaces what it wanted before.
    Plan(Box<OnchainPlan>),
}

/// What a router and a host's tables need of a channel without asking its shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryEntry {
    pub owner: OwnerId,
    pub channel_id: ChannelId,
    pub node: Point,
    /// The peer's session, while the channel has one.
    pub session: Option<SessionId>,
    /// HTLCs can be added now, as far as this side knows.
    pub usable: bool,
    /// The largest HTLC this side could offer now.
    pub spendable_msat: Msat,
    /// The largest HTLC the peer could offer now.
    pub receivable_msat: Msat,
    pub phase: PhaseView,
    /// Its funding is in a block: it has cost its opener something, whatever became of it since.
    pub funded: bool,
}

/// Why a peer's messages were not taken.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PeerRefusal {
    #[error("no channel has this id")]
    UnknownChannel,
    #[error("the channel belongs to another node")]
    NotYours,
    #[error(transparent)]
    Refused(#[from] Refused),
}
