//! What comes into a channel: peer messages and the host's commands. `Channel::check` turns one into an
//! `Input`.

use bitcoin::{OutPoint, ScriptBuf, Transaction, Txid};

use crate::amount::Msat;
use crate::bytes::KeyId;
use crate::commitment::HtlcSpec;
use crate::forward::{ForwardKey, ForwardResult, Offer};
use crate::ids::{ChannelId, OwnerId, SessionId};
use crate::keys::Point;
use crate::message::{ClosingTerms, Message};

/// Makes a channel again, for a wallet that lost its data, from what the counterparty kept for it. The first input of
/// that channel.
#[derive(Clone, Debug)]
pub struct RecoverRequest {
    pub owner: OwnerId,
    /// As the session names it.
    pub channel_id: ChannelId,
    pub role: Role,
    /// Whose essentials they are.
    pub counterparty_node: Point,
    pub session: SessionId,
}

/// Something that asks the channel to change.
#[derive(Clone, Debug)]
pub enum Event {
    /// From the counterparty, over the session that is current.
    Message(Message),
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
    /// 32 fresh random bytes, or those of the request that asked for the channel.
    pub channel_id: ChannelId,
    pub role: Role,
    pub counterparty_node: Point,
    /// 32 fresh random bytes, never used for another channel.
    pub key_id: KeyId,
    pub capacity_sat: u64,
    /// What the funding transaction pays to the accepter besides, if it asks for a coin; 0: no coin is offered. Without a coin
    /// on the chain it could not pay for a close of its own.
    pub reserve_sat: u64,
    /// What the channel costs the accepter, and what the coin adds if it asks for that: kept of the first HTLCs that this
    /// side offers in the channel. Together at most the capacity.
    pub price_msat: Msat,
    pub reserve_price_msat: Msat,
    pub session: SessionId,
}

/// The counterparty proposed a channel. The first input of the accepter's channel.
#[derive(Clone, Debug)]
pub struct AcceptRequest {
    pub owner: OwnerId,
    /// As the opener named it; the host refuses a name it already has.
    pub channel_id: ChannelId,
    pub role: Role,
    pub counterparty_node: Point,
    /// 32 fresh random bytes, never used for another channel.
    pub key_id: KeyId,
    /// Where this side wants a coin from the opener, which may pay it or not; empty: it has coins.
    pub reserve_script: ScriptBuf,
    /// The most that this side pays for the channel, a coin included; zero where it did not ask for it.
    pub max_price_msat: Msat,
    pub session: SessionId,
}

/// A command of the host. None of them comes from the counterparty.
#[derive(Clone, Debug)]
pub enum Command {
    /// The peer is connected: start the reestablish. A session that is still open ends first, by
    /// `Disconnected`.
    Connected {
        session: SessionId,
    },
    /// The session ended, or the process restarted (a restart is a disconnect).
    Disconnected,
    /// The opener's on-chain wallet built and signed the funding transaction (not broadcast).
    FundingBuilt {
        transaction: Transaction,
        output_index: u32,
    },
    /// The opener's on-chain wallet could not build it, or the opening took too long before anything was
    /// signed.
    AbortOpening {
        why: AbortReason,
    },
    /// Cover all pending updates with the next commitment, if a round may start (natural batching: the host
    /// gives this once a turn where `Channel::wants_to_sign`).
    SignNow,
    /// Step 1 of a forward, from another owner.
    Offer(Offer),
    /// Step 3: what became of the offer this channel's incoming HTLC made.
    Result {
        key: ForwardKey,
        from: OwnerId,
        result: ForwardResult,
    },
    /// Step 4: the incoming owner took the result.
    Ack {
        key: ForwardKey,
    },
    /// Start the cooperative close. The wallet's script is where it is paid; the hub's is empty.
    Shutdown {
        script: ScriptBuf,
    },
    /// Hub only, after shutdown both ways with nothing in flight (`Channel::wants_terms`).
    ProposeTerms(ClosingTerms),
    /// Give the channel up: durable, and it fails on the chain.
    Fail {
        reason: FailRequest,
    },
    /// Hub: the batch that closes this channel is built; hand it to the wallet. Given again whenever the
    /// wallet returns (`Report::Reestablished`) until the close is in the chain.
    ClosingPublished {
        transaction: Transaction,
    },
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
    #[error(
        "the rest of the on-chain funds is kept to close channels with; send more coins, or open a smaller channel"
    )]
    KeepsReserve,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum FailRequest {
    Operator,
    /// The host found the peer out of its mind beyond this channel's rules (or it sent `ChannelError` for a
    /// channel that this session does not know).
    Counterparty,
}

/// What the chain did to this channel's outputs. Heights are absolute; a reorganisation is told by the
/// `*Undone` events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainEvent {
    /// The funding transaction is in a block; the host passes the very output the chain holds at the outpoint
    /// (none if the transaction has no such output).
    FundingConfirmed { height: u32, block_index: u32, output: Option<bitcoin::TxOut> },
    /// The block with the funding transaction was disconnected.
    FundingUndone,
    /// The funding reached `minimum_depth` (told again after each `FundingUndone` and new confirmation).
    FundingDeep { height: u32 },
    /// The funding is so deep that nothing is expected to undo it: nobody has to send it again.
    FundingFinal,
    /// Unconfirmed for `limits::FUNDING_TIMEOUT_BLOCKS` (accepter), or a conflicting spend is final (opener).
    FundingNeverConfirms { height: u32 },
    /// The funding output was spent in a block. `revoked_htlcs` are the HTLC outputs that the revocation log has for
    /// [`Channel::revoked_number`](crate::channel::Channel::revoked_number), filled in by the shard.
    FundingSpent { height: u32, transaction: Transaction, revoked_htlcs: Option<Vec<HtlcSpec>> },
    /// The block with the spend was disconnected.
    SpendUndone { txid: Txid },
    /// The spend is buried to the final depth.
    SpendFinal { height: u32, txid: Txid },
    /// An output of the commitment in the chain, or of an HTLC transaction that spends it, was spent in a block.
    OutputSpent { outpoint: OutPoint, height: u32, transaction: Transaction },
    /// The block with that spend was disconnected.
    OutputSpendUndone { outpoint: OutPoint, txid: Txid },
    /// That spend is buried to the final depth.
    OutputSpendFinal { outpoint: OutPoint, height: u32, txid: Txid },
    /// A transaction that waits for a block spends the funding or one of the outputs above: preimages are read from
    /// it at once, because it may never get into a block (replacement cycling).
    SeenInMempool { transaction: Transaction },
    /// An output of ours that this final commitment left, or an HTLC transaction of it, was not worth its fee for so long
    /// that nobody waits for it any more.
    OutputGivenUp { outpoint: OutPoint },
    /// `Channel::next_deadline` is reached: an HTLC's expiry plus grace (one without output is then given up,
    /// one with an output closes the channel), the last height to claim one, the last to sign an offer that
    /// still waits, or (wallet) the height by which the agreed close had to be in the chain.
    Deadline { height: u32 },
}
