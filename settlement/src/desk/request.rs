//! What channels and people ask of the desk, and what it answers.

use bitcoin::{Amount, OutPoint, Transaction, TxOut, Txid};
use channel::channel::ReadyTicket;
use channel::claim::OnchainPlan;
use channel::event::Command;
use channel::ids::OwnerId;

use super::reserve::Reserve;
use crate::onchain::OnchainBalance;
use crate::verify::{FundingTransaction, HandedOver, Returned, Verified, VerifiedPackage};

/// A channel's request. Every one is safe to repeat: channels ask again after a restart.
#[derive(Clone, Debug, PartialEq)]
pub enum DeskRequest {
    /// Build and sign a transaction with this output, and lock its coins; answered by `Command::FundingBuilt` or
    /// `Command::AbortOpening`. `reserve_coin` is paid to the other side: a wallet without coins could not close its channel
    /// alone.
    BuildFunding { output: TxOut, reserve_coin: Option<TxOut> },
    /// Tell the channel when this output is confirmed, deep, spent and finally spent, and when one of these is undone.
    WatchFunding { outpoint: OutPoint, output: TxOut, minimum_depth: u32 },
    /// The same for an output that blocks may hold already, none below `from_height`: they are read again.
    FindFunding { outpoint: OutPoint, output: TxOut, minimum_depth: u32, from_height: u32 },
    /// Bring the funding transaction into the chain, and keep at it.
    BroadcastFunding { transaction: Transaction },
    /// The opening ended: the coins chosen for this channel are free again, whether or not it knows the transaction.
    ReleaseCoins { transaction: Option<Transaction> },
    /// Merge this ticket into a batch.
    TicketReady(Box<ReadyTicket>),
    /// Publish the batch from this height on, if the chain holds no close of the channel by then.
    ClosingHandedOver { transaction: Transaction, publish_by_height: u32 },
    /// All that the channel wants done on the chain now; replaces what it wanted before.
    Plan(Box<OnchainPlan>),
    /// The channel's peer proved that this party lost data: nothing is published by itself any more for channels that no
    /// peer confirmed, until a person says so. Repeats of a channel change nothing.
    Suspend,
    /// A person asked for this very close: the breaker lets the channel's commitment through.
    Allow,
    /// The channel ended: forget all about it.
    Forget,
}

/// On-chain funds and what the desk has under way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeskSummary {
    pub balance: OnchainBalance,
    /// What an opening could spend now: coins in the chain and our own change, less the reserve for one channel more. Fees
    /// not counted.
    pub spendable: Amount,
    /// What is kept to close channels with.
    pub reserve: Reserve,
    /// This party was proven to have lost data: commitments of channels that no peer confirmed wait for a person.
    pub suspended: bool,
    /// Channels whose commitments the breaker holds for a person.
    pub held: Vec<OwnerId>,
    /// Height of the last block taken in.
    pub height: u32,
    /// Height at which commitments and claims were last looked at, in this process.
    pub settled_height: Option<u32>,
    /// Tickets that wait for their batch.
    pub tickets_waiting: usize,
    /// Batches that are not final.
    pub batches: usize,
}

/// Something for the broadcaster, after the outcome's rows are durable.
#[derive(Debug, Clone)]
pub enum Broadcast {
    /// Publish, and again with each block until it is confirmed.
    Funding(FundingTransaction),
    Close(Verified),
    /// A commitment and its child, known by the commitment's id. Another child takes the place of the first.
    Package(VerifiedPackage),
    HandedOver(HandedOver),
    /// Ours, in no block any more after a reorganisation.
    Returned(Returned),
    /// In a block: no need to publish it again, unless the block is undone.
    Confirmed(Txid),
    Undone(Txid),
    /// Final, replaced or given up.
    Forget(Txid),
}

/// What the desk's host is to do, in this order: append `before` and wait until it is durable, deliver `first`, append
/// `records`, and once they are durable deliver
/// `then`, broadcast and report.
#[derive(Debug, Default)]
pub struct Outcome {
    /// A record of the desk's machine that must be durable before `first` is delivered.
    pub before: Option<Vec<u8>>,
    /// Commands whose inputs must be in the log before `records`: what a block means for channels.
    pub first: Vec<(OwnerId, Command)>,
    /// Records of the desk's machine.
    pub records: Vec<Vec<u8>>,
    /// Commands that rest on `records`.
    pub then: Vec<(OwnerId, Command)>,
    pub broadcasts: Vec<Broadcast>,
    pub reports: Vec<DeskReport>,
}

/// For logs and events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeskReport {
    /// A funding transaction was built and its coins locked.
    FundingBuilt { owner: OwnerId, txid: Txid, fee: Amount },
    /// A funding transaction could not be built.
    FundingRefused { owner: OwnerId, why: String },
    /// Tickets were merged and verified.
    BatchMade { txid: Txid, channels: usize, fee: Amount, replaces: Option<Txid> },
    /// A commitment of ours was sent, with the child that pays for it; or another child.
    CommitmentSent { owner: OwnerId, txid: Txid, child: Txid, fee: Amount, replaces: Option<Txid> },
    /// Outputs of ours are being taken.
    ClaimSent { txid: Txid, outputs: usize, fee: Amount, replaces: Option<Txid> },
    /// This party was proven to have lost data, by a peer of this channel.
    Suspended { by: OwnerId },
    /// Too many commitments at once: this channel's waits for a person.
    Held { owner: OwnerId },
    /// Too few coins are left to close channels with.
    ReserveShort { reserve: Reserve },
    /// There are enough again.
    ReserveWhole { reserve: Reserve },
    /// A transaction of the list is in a block.
    Confirmed { txid: Txid, height: u32 },
    /// bitcoind took a transaction, or had it.
    Published { txid: Txid },
    /// bitcoind refused a transaction for now; it is tried again with each block.
    PublishRefused { txid: Txid, why: String },
    /// A transaction that should be published did not pass its verification, or something else that must not be: a
    /// person should look.
    Trouble { what: String },
}
