//! What comes into a channel: peer messages and the host's commands. `Channel::check` turns one into an `Input`.

use bitcoin::{ScriptBuf, Transaction, Txid};

use crate::failure::FailureReason;
use crate::forward::{ForwardKey, ForwardResult, Offer};
use crate::ids::{ChannelId, OwnerId, SessionId};
use crate::keys::Point;
use crate::message::{ClosingTerms, Message};
use crate::signer::KeyId;

/// Something that asks the channel to change.
#[derive(Clone, Debug)]
pub enum Event {
    /// From the counterparty, over the session that is current.
    Message(Box<Message>),
    Command(Command),
}

/// Which side of the product this end is. It decides who proposes closing terms and who signs the ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Role {
    Hub,
    Wallet,
}

/// Opens a channel that this side funds. The first input of the opener's channel.
#[derive(Clone, Debug)]
pub struct OpenRequest {
    pub owner: OwnerId,
    pub channel_id: ChannelId,
    pub role: Role,
    pub counterparty_node: Point,
    pub key_id: KeyId,
    pub capacity_sat: u64,
    pub session: SessionId,
}

/// The counterparty proposed a channel. The first input of the accepter's channel.
#[derive(Clone, Debug)]
pub struct AcceptRequest {
    pub owner: OwnerId,
    pub channel_id: ChannelId,
    pub role: Role,
    pub counterparty_node: Point,
    pub key_id: KeyId,
    pub session: SessionId,
}

/// A command of the host. None of them comes from the counterparty.
#[derive(Clone, Debug)]
pub enum Command {
    /// The peer is connected: start the reestablish.
    Connected { session: SessionId },
    /// The session ended, or the process restarted (a restart is a disconnect).
    Disconnected,
    /// The opener's on-chain wallet built and signed the funding transaction (not broadcast).
    FundingBuilt { transaction: Transaction, output_index: u32 },
    /// The opener's on-chain wallet could not build it, or the opening took too long before anything was signed.
    AbortOpening { why: AbortReason },
    /// Cover all pending updates with the next commitment, if a round may start (natural batching: the host gives this
    /// once a turn; it is refused while a round is under way or nothing is pending).
    SignNow,
    /// Step 1 of a forward, from another owner.
    Offer(Offer),
    /// Step 3: what became of the offer this channel's incoming HTLC made.
    Result { key: ForwardKey, from: OwnerId, result: ForwardResult },
    /// Step 4: the incoming owner took the result.
    Ack { key: ForwardKey },
    /// Start (or repeat) the cooperative close.
    Shutdown { script: ScriptBuf },
    /// Hub only, after shutdown both ways with nothing in flight.
    ProposeTerms(ClosingTerms),
    /// Give the channel up: durable, and it fails on the chain.
    Fail { reason: FailRequest },
    /// The batch that closes this channel is final in the hub's log; hand it to the wallet.
    ClosingPublished { transaction: Transaction },
    Chain(ChainEvent),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, thiserror::Error)]
pub enum AbortReason {
    #[error("not enough confirmed on-chain funds")]
    NotEnoughFunds,
    #[error("the peer did not answer in time")]
    TimedOut,
    #[error("cancelled by the user")]
    Cancelled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum FailRequest {
    Operator,
    /// The peer sent `ChannelError`.
    Counterparty,
}

/// What the chain did to this channel's outputs. Heights are absolute; a reorganisation is told by the `*Undone` events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainEvent {
    /// The funding transaction is in a block; the host passes the very output the chain holds at the outpoint.
    FundingConfirmed { height: u32, block_index: u32, output: Option<bitcoin::TxOut> },
    /// The block with the funding transaction was disconnected.
    FundingUndone,
    /// The funding reached `minimum_depth` (told at each block that gives it, by the host's index of deadlines).
    FundingDeep { height: u32 },
    /// Unconfirmed for `limits::FUNDING_TIMEOUT_BLOCKS` (accepter), or a conflicting spend is final (opener).
    FundingNeverConfirms { height: u32 },
    /// The funding output was spent in a block.
    FundingSpent { height: u32, transaction: Transaction },
    /// The block with the spend was disconnected.
    SpendUndone { txid: Txid },
    /// The spend is buried to the final depth.
    SpendFinal { height: u32, txid: Txid },
    /// An HTLC's expiry plus grace passed, or another deadline of this channel.
    Deadline { height: u32 },
}

/// A failure that `Event`s about an HTLC this side holds may carry.
pub type LocalFailure = FailureReason;
