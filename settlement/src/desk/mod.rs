//! The desk: everything a party does with the chain, as one journaled machine. Hub and wallet share it.
//!
//! It holds the on-chain coins, follows the blocks, watches the channels' fundings, builds funding transactions, merges
//! tickets into batches, and keeps a list of what should be in the chain. It never decides for a channel: what it
//! finds becomes commands of the channels.
//!
//! [`Desk`] is the machine: no I/O, no clock, no randomness; its methods change it and say what to do ([`Outcome`]).
//! [`service`] runs it: blocks and requests in, deliveries, rows and broadcasts out.
//!
//! Invariants:
//!
//! - What a block means for channels reaches the log before the row that moves the desk's tip ([`Outcome::first`]).
//! - Nothing is broadcast that the verifier did not pass in this process: after a restart everything is verified again.
//! - A coin is in one funding transaction at a time; the row that locks it comes before the channel hears of it.

mod batches;
mod bump;
mod closing;
mod funding;
mod lookback;
mod lost;
mod moment;
mod record;
mod request;
mod reserve;
mod returned;
mod scan;
pub mod service;
mod settle;
mod telling;
mod watches;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bitcoin::bip32::Xpriv;
use bitcoin::{Address, Block, Network, Transaction, TxOut, Txid};
use channel::event::{ChainEvent, Command};
use channel::ids::OwnerId;
use channel::signer::Signer;

pub use bump::{BumpError, Bumped};
pub use moment::{Estimates, Moment};
pub use record::{RecordError, replay, rewrite};
pub use request::{Broadcast, DeskReport, DeskRequest, DeskSummary, Outcome};
pub use reserve::{Reserve, ReserveBroken, ReservePolicy};
pub use scan::{FoundCoin, Scan, ScanError};
pub use settle::{Breaker, ClaimState, ClaimStatus, CommitmentState, CommitmentStatus, OnchainStatus};

use crate::fees::FeeBounds;
use crate::follow::{BlockRef, ChainMemory, ChainStep};
use crate::onchain::{AddressKind, CoinChoice, OnchainConfig, OnchainError, OnchainWallet};
use crate::pool::VerifyPool;
use batches::Batches;
use closing::Pending;
use lost::Rivals;
use record::{Gates, Record, State};
use settle::Settling;
use settle::undone::Undone;
use telling::Telling;
use watches::{FundingWatch, Watch, Watches};

/// The coins that openings are funded from.
const FUNDING_COINS: CoinChoice = CoinChoice::ConfirmedOrOwnChange;

/// What a desk is made from; the same at every start.
#[derive(Clone)]
pub struct DeskConfig {
    pub network: Network,
    /// Master key of the on-chain coins.
    pub master: Xpriv,
    pub addresses: AddressKind,
    /// Addresses beyond the last used one that coins are found at.
    pub address_gap: u32,
    /// Confirmations after which nothing is expected to be undone.
    pub final_depth: u32,
    pub fees: FeeBounds,
    /// Most tickets of one batch; also bounded by the standard weight.
    pub max_batch_tickets: usize,
    /// Blocks after which an unconfirmed batch is made again at a higher feerate.
    pub batch_patience_blocks: u32,
    /// What openings must leave.
    pub reserve: ReservePolicy,
    /// How many commitments are published without asking a person.
    pub breaker: Breaker,
    /// How long, from the desk's first look at its node's tip on, commitments that no peer confirmed in this process's life wait: a
    /// peer that connects meanwhile may prove that this party runs from an old backup, and what is revoked is never
    /// published.
    pub proof_wait: Duration,
}

/// Why the desk cannot begin, or go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeskError {
    #[error("the on-chain wallet: {0}")]
    Onchain(#[from] OnchainError),
    #[error("the desk's rows: {0}")]
    Record(#[from] RecordError),
    #[error("a block does not follow the desk's tip: {0}")]
    Chain(String),
}

/// The desk's rows read back from the journal.
#[derive(Default)]
pub struct Replay(State);

impl Replay {
    /// Begins with the desk's snapshot.
    pub fn from_snapshot(bytes: &[u8]) -> Result<Self, RecordError> {
        State::decode(bytes).map(Replay)
    }

    /// Takes the next row.
    pub fn apply(&mut self, record: &[u8]) -> Result<(), RecordError> {
        self.0.apply(record)
    }

    /// All of it as one row, as it was read: what a desk was telling when it died is still to be told or taken back. `None` for a
    /// desk that never began.
    pub fn snapshot(&self) -> Option<Vec<u8>> {
        self.memory().map(|_| self.0.encode())
    }

    /// Where following goes on; `None` for a desk that never began.
    pub fn memory(&self) -> Option<&ChainMemory> {
        self.0.memory.as_ref()
    }
}

/// The machine.
pub struct Desk {
    config: DeskConfig,
    wallet: OnchainWallet,
    memory: ChainMemory,
    watches: Watches,
    batches: Batches,
    /// Funding transactions that were built and never published: who locked their coins.
    building: BTreeMap<OwnerId, Transaction>,
    /// Batches that the hub handed over, to be published by this wallet if it comes to that.
    handed_over: BTreeMap<OwnerId, Pending>,
    settling: Settling,
    gates: Gates,
    /// What the funding transactions of openings pay to the other side besides.
    reserve_coins: BTreeMap<OwnerId, TxOut>,
    /// What reorganisations took out of the chain, until something spends that funding again.
    undone: BTreeMap<OwnerId, Undone>,
    rivals: Rivals,
    /// What was given to the broadcaster, with the height of its block once it is in one.
    listed: BTreeMap<Txid, Option<u32>>,
    /// Of these, what is there only because a block held it; and since which height nodes miss a coin of it.
    returned: BTreeMap<Txid, Option<u32>>,
    /// Seconds since 1970, as last told.
    now: u64,
}

impl Desk {
    /// Begins, or goes on from what the journal held. `start` is where a new desk begins to follow; it is ignored when
    /// there is a past. The outcome holds the first rows.
    pub fn open(
        config: DeskConfig,
        replay: Replay,
        start: ChainMemory,
        signer: Arc<dyn Signer>,
        pool: Arc<VerifyPool>,
    ) -> Result<(Self, Outcome), DeskError> {
        let state = replay.0;
        let onchain = |start: BlockRef| OnchainConfig {
            network: config.network,
            master: config.master,
            addresses: config.addresses,
            address_gap: config.address_gap,
            start,
        };
        let mut outcome = Outcome::default();
        let (wallet, memory) = match state.memory {
            Some(memory) => (OnchainWallet::load(onchain(memory.tip()), &state.wallet)?, memory),
            None => {
                let mut wallet = OnchainWallet::create(onchain(start.tip()))?;
                outcome.records.push(Record::Started { memory: start.clone() }.encode());
                outcome.records.extend(wallet.take_staged().map(|change| Record::Wallet(change).encode()));
                (wallet, start)
            }
        };
        let mut desk = Self {
            watches: Watches::resume(state.watches, config.final_depth),
            batches: Batches::resume(state.batches, Arc::clone(&signer), Arc::clone(&pool)),
            settling: Settling::new(signer, pool),
            gates: state.gates,
            reserve_coins: state.reserve_coins,
            undone: state.undone,
            rivals: state.rivals,
            config,
            wallet,
            memory,
            building: state.building,
            handed_over: BTreeMap::new(),
            listed: BTreeMap::new(),
            returned: BTreeMap::new(),
            now: 0,
        };
        match state.telling {
            None => {}
            Some(Telling::Connected { undo }) => {
                outcome.first = undo.into_iter().map(|(owner, undo)| (owner, undo.command())).collect();
                outcome.records.extend(desk.note_undone(&outcome.first));
                outcome.records.extend(desk.note_rivals(&outcome.first));
            }
            Some(Telling::Disconnected { block }) => outcome = desk.disconnect(block)?,
        }
        desk.list_returned(&mut outcome);
        Ok((desk, outcome))
    }

    /// Everything that the rows so far amount to.
    pub fn snapshot(&self) -> Vec<u8> {
        State {
            memory: Some(self.memory.clone()),
            wallet: vec![self.wallet.snapshot()],
            watches: self.watches.all().clone(),
            batches: self.batches.records().clone(),
            building: self.building.clone(),
            telling: None,
            gates: self.gates.clone(),
            reserve_coins: self.reserve_coins.clone(),
            undone: self.undone.clone(),
            rivals: self.rivals.clone(),
        }
        .encode()
    }

    /// The chain as far as it was taken in.
    pub fn memory(&self) -> &ChainMemory {
        &self.memory
    }

    pub fn summary(&self) -> DeskSummary {
        DeskSummary {
            balance: self.wallet.balance(),
            spendable: self.spendable(),
            reserve: self.reserve(),
            suspended: self.gates.suspended,
            held: self.held(),
            height: self.memory.tip().height,
            settled_height: self.settling.settled_height,
            tickets_waiting: self.waiting().len(),
            batches: self.batches.records().len(),
        }
    }

    /// An address never given out; its row is in the outcome.
    pub fn new_address(&mut self) -> (Address, Outcome) {
        let address = self.wallet.new_address();
        let mut outcome = Outcome::default();
        self.stage_wallet(&mut outcome);
        (address, outcome)
    }

    /// What every channel is told again at a start. It is nothing new to those that live; one that ended while the desk had
    /// not heard of its end is not known any more, and whoever is told so asks to forget it.
    pub fn repeats(&self) -> Outcome {
        let tip = self.memory.tip().height;
        let watched = self.watches.all().keys().flat_map(|owner| self.watches.repeat(*owner, tip));
        // An opening whose funding was built is not watched yet: what it is told can change nothing.
        let building = self.building.keys().filter(|owner| self.watches.get(**owner).is_none());
        let building = building.map(|owner| (*owner, Command::Chain(ChainEvent::FundingUndone)));
        Outcome { then: watched.chain(building).collect(), ..Outcome::default() }
    }

    /// Takes the next step of the chain, which must follow from the last.
    pub fn step(&mut self, step: &ChainStep) -> Result<Outcome, DeskError> {
        match step {
            ChainStep::Connected { height, hash, block, .. } => {
                self.connect(BlockRef { height: *height, hash: *hash }, block)
            }
            ChainStep::Disconnected { height, hash } => {
                self.disconnect(BlockRef { height: *height, hash: *hash })
            }
        }
    }

    fn connect(&mut self, at: BlockRef, block: &Block) -> Result<Outcome, DeskError> {
        self.wallet.connect(at.height, block)?;
        self.memory.connect(at).map_err(|error| DeskError::Chain(error.to_string()))?;
        let mut news = self.watches.connect(at.height, block);
        let lost = self.lose_rivals(&mut news);
        for owner in &news.changed {
            if self.watches.get(*owner).is_some_and(Watch::is_spent) {
                self.undone.remove(owner);
            }
        }
        let watches = self.changed(&news.changed);
        let before = Telling::connected(&news.commands).map(|telling| Record::Telling(telling).encode());
        let mut outcome = Outcome { before, first: news.commands, ..Outcome::default() };
        self.release_lost(&lost, &mut outcome);
        self.stage_wallet(&mut outcome);
        outcome.records.push(Record::Connected { block: at, watches }.encode());
        if !self.listed.is_empty() {
            self.list_confirmed(at.height, block, &mut outcome);
        }
        if !self.returned.is_empty() {
            self.list_returned(&mut outcome);
        }
        for txid in news.impossible {
            if self.listed.remove(&txid).is_some() {
                outcome.broadcasts.push(Broadcast::Forget(txid));
            }
        }
        self.review_batches(&mut outcome);
        self.publish_handed_over(at.height, &mut outcome);
        self.count_anew();
        Ok(outcome)
    }

    fn disconnect(&mut self, at: BlockRef) -> Result<Outcome, DeskError> {
        self.wallet.disconnect(at)?;
        self.memory.disconnect(at).map_err(|error| DeskError::Chain(error.to_string()))?;
        let news = self.watches.disconnect(at.height);
        let mut undone = self.note_undone(&news.commands);
        undone.extend(self.note_rivals(&news.commands));
        let watches = self.changed(&news.changed);
        let before =
            Telling::disconnected(&news.commands, at).map(|telling| Record::Telling(telling).encode());
        for (_, command) in &news.commands {
            // Another commitment may take its place, or the funding itself may never be again.
            if let Command::Chain(ChainEvent::SpendUndone { txid }) = command
                && self.wallet.transaction(*txid).is_none()
            {
                self.wallet.release_what_spends(*txid, self.now);
            }
        }
        let mut outcome = Outcome { before, first: news.commands, ..Outcome::default() };
        self.stage_wallet(&mut outcome);
        outcome.records.push(Record::Disconnected { block: at, watches }.encode());
        outcome.records.extend(undone);
        for (txid, height) in &mut self.listed {
            if *height == Some(at.height) {
                *height = None;
                outcome.broadcasts.push(Broadcast::Undone(*txid));
            }
        }
        self.revive_batches(&mut outcome);
        self.list_returned(&mut outcome);
        Ok(outcome)
    }

    /// Notes what of ours the block holds, and lets go of what is final.
    fn list_confirmed(&mut self, height: u32, block: &Block, outcome: &mut Outcome) {
        let in_block: BTreeSet<Txid> = block.txdata.iter().map(Transaction::compute_txid).collect();
        let final_depth = self.config.final_depth;
        self.listed.retain(|txid, found| {
            if found.is_none() && in_block.contains(txid) {
                *found = Some(height);
                outcome.broadcasts.push(Broadcast::Confirmed(*txid));
                outcome.reports.push(DeskReport::Confirmed { txid: *txid, height });
            }
            let is_final = found.is_some_and(|found| watches::depth(height, found) >= final_depth);
            if is_final {
                outcome.broadcasts.push(Broadcast::Forget(*txid));
            }
            !is_final
        });
    }

    /// A channel asks.
    pub fn request(&mut self, owner: OwnerId, request: DeskRequest, now: &Moment) -> Outcome {
        self.now = self.now.max(now.unix_seconds);
        let mut outcome = Outcome::default();
        match request {
            DeskRequest::BuildFunding { output, reserve_coin } => {
                self.build_funding(owner, output, reserve_coin, now, &mut outcome);
            }
            DeskRequest::WatchFunding { outpoint, output, minimum_depth } => {
                let tip = self.memory.tip().height;
                let funding = FundingWatch {
                    outpoint,
                    output,
                    minimum_depth,
                    since: tip,
                    confirmed: None,
                    spend: None,
                    inputs: Vec::new(),
                    conflict: None,
                };
                if self.watches.add(owner, funding) {
                    self.record_watch(owner, &mut outcome);
                } else {
                    outcome.then = self.watches.repeat(owner, tip);
                }
            }
            // The service reads the blocks; whoever drives the desk alone has none to read.
            DeskRequest::FindFunding { .. } => {}
            DeskRequest::BroadcastFunding { transaction } => {
                self.broadcast_funding(owner, transaction, &mut outcome);
            }
            DeskRequest::ReleaseCoins { transaction } => {
                self.release_building(owner, &mut outcome);
                // One that was published is in the coins' books, until something else that spends them is final.
                let published = transaction.filter(|tx| self.wallet.transaction(tx.compute_txid()).is_some());
                if let Some(transaction) = published {
                    self.wallet.release(&transaction, self.now);
                    self.stage_wallet(&mut outcome);
                }
            }
            DeskRequest::TicketReady(ticket) => self.take_ticket(*ticket, &mut outcome),
            DeskRequest::ClosingHandedOver { transaction, publish_by_height } => {
                self.take_handed_over(owner, transaction, publish_by_height, &mut outcome);
            }
            DeskRequest::Plan(plan) => self.take_plan(owner, *plan, &mut outcome),
            DeskRequest::Suspend => self.suspend(owner, &mut outcome),
            DeskRequest::Allow => self.allow(owner, &mut outcome),
            DeskRequest::Forget => {
                self.release_building(owner, &mut outcome);
                self.forget_handed_over(owner, &mut outcome);
                self.forget_plan(owner, &mut outcome);
                self.batches.forget(owner);
                let gone = [
                    self.watches.forget(owner),
                    self.gates.forget(owner),
                    self.reserve_coins.remove(&owner).is_some(),
                    self.rivals.remove(&owner).is_some(),
                ];
                if gone.contains(&true) {
                    outcome.records.push(Record::Forget { owner }.encode());
                }
            }
        }
        outcome
    }

    fn stage_wallet(&mut self, outcome: &mut Outcome) {
        outcome.records.extend(self.wallet.take_staged().map(|change| Record::Wallet(change).encode()));
    }

    fn record_watch(&self, owner: OwnerId, outcome: &mut Outcome) {
        if let Some(watch) = self.watches.get(owner) {
            outcome.records.push(Record::Watch { owner, watch: watch.clone() }.encode());
        }
    }

    /// These owners' watches, for the block's row.
    fn changed(&self, owners: &BTreeSet<OwnerId>) -> Vec<(OwnerId, Watch)> {
        let changed = owners.iter().filter_map(|owner| Some((*owner, self.watches.get(*owner)?.clone())));
        changed.collect()
    }
}
