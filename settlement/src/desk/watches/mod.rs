//! What the desk watches for channels, and what the chain did to it: fundings, what closed them, and what that led to.
//!
//! Nobody need ask for the outputs of a commitment: the desk sees one by its form ([`outputs::is_commitment`]) and watches
//! them from that very block on, and the outputs of the HTLC transactions that spend them. So nothing is missed while
//! weeks of blocks are caught up with.
//!
//! Invariant: what was found is what the journaled blocks say, so that a restart goes on where the last durable block
//! ended. Channels hear of a block before the block's record is appended, so nothing found is ever told to nobody.

mod outputs;

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::{Block, OutPoint, Transaction, TxOut, Txid};
use channel::bug::{self, Bug};
use channel::event::{ChainEvent, Command};
use channel::ids::OwnerId;
use serde::{Deserialize, Serialize};

use crate::limits;
use crate::watch::{Hit, Target, Watcher};

/// One owner's interests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Watch {
    pub funding: Option<FundingWatch>,
    /// The outputs of what closed the channel, and those a plan named.
    pub outputs: BTreeMap<OutPoint, OutputWatch>,
}

/// One channel's funding, as the channel described it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FundingWatch {
    pub outpoint: OutPoint,
    pub output: TxOut,
    pub minimum_depth: u32,
    /// Height at which the channel asked.
    pub since: u32,
    /// Height and place of the funding transaction's block.
    pub confirmed: Option<(u32, u32)>,
    /// What spent it.
    pub spend: Option<Found>,
    /// The funding transaction's inputs, once it is known and until it is final: whatever else spends one of them undoes
    /// the channel.
    pub inputs: Vec<OutPoint>,
    /// The first other transaction that spent one of them. Those that came later and spent others leave the chain before it: one is
    /// enough to know whether there is any.
    pub conflict: Option<Found>,
}

impl FundingWatch {
    /// Whether its channel was told that it never confirms.
    pub fn is_impossible(&self) -> bool {
        self.conflict.is_some_and(|conflict| conflict.is_final)
    }
}

/// An output of a commitment or of an HTLC transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OutputWatch {
    pub stage: Stage,
    pub spend: Option<Found>,
}

/// How far an output is from the funding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Stage {
    /// Of a commitment, or named by a plan: what spends it may have outputs to be watched.
    First,
    /// Of what spends such an output. Nothing of what spends it concerns us.
    Second,
}

/// A transaction in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Found {
    pub txid: Txid,
    pub height: u32,
    /// Nothing more will be told of it.
    pub is_final: bool,
}

/// What a block means for channels.
#[derive(Debug, Default)]
pub(super) struct News {
    /// In the block's order.
    pub commands: Vec<(OwnerId, Command)>,
    /// Whose watches are not what they were.
    pub changed: BTreeSet<OwnerId>,
    /// Fundings that can never confirm: something else that spends one of their inputs is final.
    pub impossible: Vec<Txid>,
}

impl News {
    fn tell(&mut self, owner: OwnerId, event: ChainEvent) {
        self.commands.push((owner, Command::Chain(event)));
    }
}

/// All of them, with the watcher that finds them in blocks.
pub(super) struct Watches {
    by_owner: BTreeMap<OwnerId, Watch>,
    watcher: Watcher<OwnerId>,
    final_depth: u32,
}

impl Watches {
    /// The watches that a snapshot or replay ended with, none for a new desk.
    pub fn resume(by_owner: BTreeMap<OwnerId, Watch>, final_depth: u32) -> Self {
        let final_depth = if bug::is(Bug::FinalAtOnce) { 1 } else { final_depth };
        let watcher = Watcher::new(final_depth);
        let mut watches = Self { by_owner: BTreeMap::new(), watcher, final_depth: final_depth.max(1) };
        for (owner, watch) in by_owner {
            watches.adopt(owner, watch);
        }
        watches
    }

    /// Goes on with what other watches found for an owner, up to the same block.
    pub fn adopt(&mut self, owner: OwnerId, watch: Watch) {
        if let Some(funding) = &watch.funding {
            self.register(owner, funding);
        }
        for (outpoint, output) in &watch.outputs {
            self.register_spend(owner, *outpoint, output.spend);
        }
        self.by_owner.insert(owner, watch);
    }

    pub fn all(&self) -> &BTreeMap<OwnerId, Watch> {
        &self.by_owner
    }

    pub fn get(&self, owner: OwnerId) -> Option<&Watch> {
        self.by_owner.get(&owner)
    }

    pub fn funding(&self, owner: OwnerId) -> Option<&FundingWatch> {
        self.by_owner.get(&owner)?.funding.as_ref()
    }

    /// Starts to watch a channel's funding. False if its owner has one already.
    pub fn add(&mut self, owner: OwnerId, funding: FundingWatch) -> bool {
        if self.funding(owner).is_some() {
            return false;
        }
        self.register(owner, &funding);
        self.by_owner.entry(owner).or_default().funding = Some(funding);
        true
    }

    /// Takes note of the funding transaction, unconfirmed yet. False if that changes nothing.
    pub fn add_funding_transaction(&mut self, owner: OwnerId, transaction: &Transaction) -> bool {
        let Some(funding) = self.by_owner.get_mut(&owner).and_then(|watch| watch.funding.as_mut()) else {
            return false;
        };
        if funding.confirmed.is_some() || !funding.inputs.is_empty() {
            return false;
        }
        funding.inputs = inputs_of(transaction);
        for input in &funding.inputs {
            self.watcher.watch(owner, Target::Spend(*input), []);
        }
        true
    }

    pub fn forget(&mut self, owner: OwnerId) -> bool {
        self.watcher.forget(&owner);
        self.by_owner.remove(&owner).is_some()
    }

    /// What a channel that asks again may have missed: nothing in truth, since it hears first; but a repeat is harmless
    /// and makes the two agree.
    pub fn repeat(&self, owner: OwnerId, tip: u32) -> Vec<(OwnerId, Command)> {
        let Some(watch) = self.by_owner.get(&owner) else { return Vec::new() };
        let mut news = News::default();
        if let Some(funding) = &watch.funding {
            if let Some((height, block_index)) = funding.confirmed {
                let output = Some(funding.output.clone());
                news.tell(owner, ChainEvent::FundingConfirmed { height, block_index, output });
                if depth(tip, height) >= self.deep_at(funding) {
                    news.tell(owner, ChainEvent::FundingDeep { height });
                }
                if depth(tip, height) >= self.final_depth {
                    news.tell(owner, ChainEvent::FundingFinal);
                }
            }
            if let Some(Found { is_final: true, .. }) = funding.conflict {
                news.tell(owner, ChainEvent::FundingNeverConfirms { height: tip });
            }
            if let Some(Found { txid, height, is_final: true }) = funding.spend {
                news.tell(owner, ChainEvent::SpendFinal { height, txid });
            }
        }
        for (outpoint, output) in &watch.outputs {
            if let Some(Found { txid, height, is_final: true }) = output.spend {
                let outpoint = *outpoint;
                news.tell(owner, ChainEvent::OutputSpendFinal { outpoint, height, txid });
            }
        }
        news.commands
    }

    /// Looks through a block.
    pub fn connect(&mut self, height: u32, block: &Block) -> News {
        let by_owner = &mut self.by_owner;
        let follow = |hit: &Hit<OwnerId>| match hit {
            Hit::Spent { key, outpoint, by, .. } => {
                let Some(watch) = by_owner.get_mut(key) else { return Vec::new() };
                let found = watch.follow(*outpoint, by);
                found.into_iter().map(|outpoint| (*key, Target::Spend(outpoint))).collect()
            }
            Hit::Confirmed { .. }
            | Hit::Paid { .. }
            | Hit::Deep { .. }
            | Hit::Final { .. }
            | Hit::Undone { .. } => Vec::new(),
        };
        let hits = self.watcher.connect_following(height, block, follow);
        let mut news = News::default();
        hits.into_iter().for_each(|hit| self.take(hit, &mut news));
        self.expire(height, &mut news);
        news
    }

    /// Takes a block back.
    pub fn disconnect(&mut self, height: u32) -> News {
        let mut news = News::default();
        for hit in self.watcher.disconnect(height) {
            self.take(hit, &mut news);
        }
        news
    }

    fn take(&mut self, hit: Hit<OwnerId>, news: &mut News) {
        match hit {
            Hit::Confirmed { key, transaction, height, block_index, .. } => {
                self.funding_confirmed(key, &transaction, (height, block_index), news);
            }
            Hit::Spent { key, outpoint, by, txid, height } => {
                let found = Found { txid, height, is_final: false };
                self.spent(key, outpoint, &by, found, news);
            }
            Hit::Deep { key, target, height, .. } => match target {
                Target::Transaction(_) => news.tell(key, ChainEvent::FundingDeep { height }),
                Target::Spend(_) | Target::Script(_) => {}
            },
            Hit::Final { key, target, txid, height } => match target {
                Target::Transaction(_) => self.funding_final(key, news),
                Target::Spend(outpoint) => {
                    self.spend_final(key, outpoint, Found { txid, height, is_final: true }, news);
                }
                Target::Script(_) => {}
            },
            Hit::Undone { key, target, txid, .. } => match target {
                Target::Transaction(_) => self.funding_undone(key, news),
                Target::Spend(outpoint) => self.spend_undone(key, outpoint, txid, news),
                Target::Script(_) => {}
            },
            Hit::Paid { .. } => {}
        }
    }

    fn funding_confirmed(
        &mut self,
        owner: OwnerId,
        transaction: &Transaction,
        block: (u32, u32),
        news: &mut News,
    ) {
        let Some(funding) = self.by_owner.get_mut(&owner).and_then(|watch| watch.funding.as_mut()) else {
            return;
        };
        funding.confirmed = Some(block);
        if funding.inputs.is_empty() {
            funding.inputs = inputs_of(transaction);
            // Should the block be undone, these are watched without anybody asking.
            for input in &funding.inputs {
                self.watcher.resume(owner, Target::Spend(*input), [], funding.outpoint.txid, block.0);
            }
        }
        let index = usize::try_from(funding.outpoint.vout).ok();
        let output = index.and_then(|index| transaction.output.get(index)).cloned();
        news.changed.insert(owner);
        let (height, block_index) = block;
        news.tell(owner, ChainEvent::FundingConfirmed { height, block_index, output });
    }

    fn funding_undone(&mut self, owner: OwnerId, news: &mut News) {
        let Some(funding) = self.by_owner.get_mut(&owner).and_then(|watch| watch.funding.as_mut()) else {
            return;
        };
        funding.confirmed = None;
        news.changed.insert(owner);
        news.tell(owner, ChainEvent::FundingUndone);
    }

    fn funding_final(&mut self, owner: OwnerId, news: &mut News) {
        let Some(funding) = self.by_owner.get_mut(&owner).and_then(|watch| watch.funding.as_mut()) else {
            return;
        };
        // Nothing can conflict with it any more.
        funding.inputs.clear();
        news.tell(owner, ChainEvent::FundingFinal);
        news.changed.insert(owner);
    }

    /// Fundings that did not confirm in time and that only their maker has seen. Told with each block: the channel may
    /// have had a reason to wait. Our own, once published, and one that was in a block before may confirm at any later
    /// time, and a channel that gave it up would have lost what it holds: only a conflicting spend ends those.
    fn expire(&self, height: u32, news: &mut News) {
        for (owner, watch) in &self.by_owner {
            let Some(funding) = &watch.funding else { continue };
            let late = height.saturating_sub(funding.since) >= limits::FUNDING_TIMEOUT_BLOCKS;
            if late && funding.confirmed.is_none() && funding.inputs.is_empty() {
                news.tell(*owner, ChainEvent::FundingNeverConfirms { height });
            }
        }
    }

    fn register(&mut self, owner: OwnerId, funding: &FundingWatch) {
        let txid = funding.outpoint.txid;
        let (target, depths) = (Target::Transaction(txid), [self.deep_at(funding)]);
        match funding.confirmed {
            _ if funding.spend.is_some_and(|found| found.is_final) => {}
            None => self.watcher.watch(owner, target, depths),
            Some((height, _)) => self.watcher.resume(owner, target, depths, txid, height),
        }
        for input in &funding.inputs {
            // Whichever of them the conflict spends: all are looked for again when it is undone.
            let own = funding.confirmed.map(|(height, _)| Found { txid, height, is_final: false });
            self.register_spend(owner, *input, funding.conflict.or(own));
        }
        self.register_spend(owner, funding.outpoint, funding.spend);
    }

    fn register_spend(&mut self, owner: OwnerId, outpoint: OutPoint, spend: Option<Found>) {
        let target = Target::Spend(outpoint);
        match spend {
            None => self.watcher.watch(owner, target, []),
            Some(Found { is_final: true, .. }) => {}
            Some(Found { txid, height, is_final: false }) => {
                self.watcher.resume(owner, target, [], txid, height);
            }
        }
    }

    /// Confirmations at which the funding counts as deep. What is final is deep enough for anybody, and the watcher
    /// lets go of it then: a counterparty may ask for more, and the channel must not wait for it for ever.
    fn deep_at(&self, funding: &FundingWatch) -> u32 {
        funding.minimum_depth.min(self.final_depth)
    }
}

fn inputs_of(transaction: &Transaction) -> Vec<OutPoint> {
    transaction.input.iter().map(|input| input.previous_output).collect()
}

/// Confirmations of a block at `height` under the tip.
pub(super) fn depth(tip: u32, height: u32) -> u32 {
    tip.checked_sub(height).map_or(0, |below| below.saturating_add(1))
}
