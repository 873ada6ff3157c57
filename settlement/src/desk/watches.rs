//! The fundings that the desk watches for channels, and what the chain did to them.
//!
//! Invariant: what was found is what the journaled blocks say, so that a restart goes on where the last durable block
//! ended. Channels hear of a block before the block's record is appended, so nothing found is ever told to nobody.

use std::collections::BTreeMap;

use bitcoin::{Block, OutPoint, TxOut, Txid};
use channel::event::{ChainEvent, Command};
use channel::ids::OwnerId;
use serde::{Deserialize, Serialize};

use crate::limits;
use crate::watch::{Hit, Target, Watcher};

/// One channel's funding, as the channel described it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Watch {
    pub outpoint: OutPoint,
    pub output: TxOut,
    pub minimum_depth: u32,
    /// Height at which the channel asked.
    pub since: u32,
    /// Height and place of the funding transaction's block.
    pub funding: Option<(u32, u32)>,
    /// What spent it, and at which height.
    pub spend: Option<(Txid, u32)>,
    /// The spend is final: nothing more will come.
    pub ended: bool,
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
        let watcher = Watcher::new(final_depth);
        let mut watches = Self { by_owner: BTreeMap::new(), watcher, final_depth: final_depth.max(1) };
        for (owner, watch) in by_owner {
            watches.register(owner, &watch);
            watches.by_owner.insert(owner, watch);
        }
        watches
    }

    pub fn all(&self) -> &BTreeMap<OwnerId, Watch> {
        &self.by_owner
    }

    pub fn get(&self, owner: OwnerId) -> Option<&Watch> {
        self.by_owner.get(&owner)
    }

    /// Starts a watch. False if the owner has one already.
    pub fn add(&mut self, owner: OwnerId, watch: Watch) -> bool {
        if self.by_owner.contains_key(&owner) {
            return false;
        }
        self.register(owner, &watch);
        self.by_owner.insert(owner, watch);
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
        let Some((height, block_index)) = watch.funding else { return Vec::new() };
        let output = Some(watch.output.clone());
        let mut events = vec![ChainEvent::FundingConfirmed { height, block_index, output }];
        if depth(tip, height) >= self.deep_at(watch) {
            events.push(ChainEvent::FundingDeep { height });
        }
        if let Some((txid, height)) = watch.spend
            && watch.ended
        {
            events.push(ChainEvent::SpendFinal { height, txid });
        }
        events.into_iter().map(|event| (owner, Command::Chain(event))).collect()
    }

    /// Looks through a block. The commands are in the block's order. `is_ours` says of a funding transaction whether
    /// this party made and published it.
    pub fn connect(
        &mut self,
        height: u32,
        block: &Block,
        is_ours: impl Fn(Txid) -> bool,
    ) -> Vec<(OwnerId, Command)> {
        let mut events = Vec::new();
        for hit in self.watcher.connect(height, block) {
            self.take(hit, &mut events);
        }
        self.expire(height, is_ours, &mut events);
        events.into_iter().map(|(owner, event)| (owner, Command::Chain(event))).collect()
    }

    /// Takes a block back.
    pub fn disconnect(&mut self, height: u32) -> Vec<(OwnerId, Command)> {
        let mut events = Vec::new();
        for hit in self.watcher.disconnect(height) {
            self.take(hit, &mut events);
        }
        events.into_iter().map(|(owner, event)| (owner, Command::Chain(event))).collect()
    }

    fn register(&mut self, owner: OwnerId, watch: &Watch) {
        if watch.ended {
            return;
        }
        let funding = Target::Transaction(watch.outpoint.txid);
        let depths = [self.deep_at(watch)];
        match watch.funding {
            None => self.watcher.watch(owner, funding, depths),
            Some((height, _)) => {
                let txid = watch.outpoint.txid;
                self.watcher.resume(owner, funding, depths, txid, height);
            }
        }
        let spend = Target::Spend(watch.outpoint);
        match watch.spend {
            None => self.watcher.watch(owner, spend, []),
            Some((txid, height)) => self.watcher.resume(owner, spend, [], txid, height),
        }
    }

    /// Confirmations at which the funding counts as deep. What is final is deep enough for anybody, and the watcher
    /// lets go of it then: a counterparty may ask for more, and the channel must not wait for it for ever.
    fn deep_at(&self, watch: &Watch) -> u32 {
        watch.minimum_depth.min(self.final_depth)
    }

    fn take(&mut self, hit: Hit<OwnerId>, events: &mut Vec<(OwnerId, ChainEvent)>) {
        match hit {
            Hit::Confirmed { key, transaction, height, block_index, .. } => {
                let Some(watch) = self.by_owner.get_mut(&key) else { return };
                watch.funding = Some((height, block_index));
                let index = usize::try_from(watch.outpoint.vout).ok();
                let output = index.and_then(|index| transaction.output.get(index)).cloned();
                events.push((key, ChainEvent::FundingConfirmed { height, block_index, output }));
            }
            Hit::Spent { key, by, txid, height, .. } => {
                let Some(watch) = self.by_owner.get_mut(&key) else { return };
                watch.spend = Some((txid, height));
                events.push((
                    key,
                    ChainEvent::FundingSpent {
                        height,
                        transaction: by.as_ref().clone(),
                        revoked_htlcs: None,
                    },
                ));
            }
            Hit::Deep { key, target, height, .. } => match target {
                Target::Transaction(_) => events.push((key, ChainEvent::FundingDeep { height })),
                Target::Spend(_) | Target::Script(_) => {}
            },
            Hit::Final { key, target, txid, height } => match target {
                Target::Spend(_) => {
                    if let Some(watch) = self.by_owner.get_mut(&key) {
                        watch.ended = true;
                    }
                    events.push((key, ChainEvent::SpendFinal { height, txid }));
                }
                Target::Transaction(_) | Target::Script(_) => {}
            },
            Hit::Undone { key, target, txid, .. } => {
                let Some(watch) = self.by_owner.get_mut(&key) else { return };
                match target {
                    Target::Transaction(_) => {
                        watch.funding = None;
                        events.push((key, ChainEvent::FundingUndone));
                    }
                    Target::Spend(_) => {
                        watch.spend = None;
                        events.push((key, ChainEvent::SpendUndone { txid }));
                    }
                    Target::Script(_) => {}
                }
            }
            Hit::Paid { .. } => {}
        }
    }

    /// Fundings of others that did not confirm in time. Told with each block: the channel may have had a reason to wait.
    /// Our own, once published, may confirm at any later time, and a channel that gave it up would have lost what it
    /// holds: only a conflicting spend could end it.
    fn expire(&self, height: u32, is_ours: impl Fn(Txid) -> bool, events: &mut Vec<(OwnerId, ChainEvent)>) {
        for (owner, watch) in &self.by_owner {
            let waited = height.saturating_sub(watch.since);
            let late = watch.funding.is_none() && waited >= limits::FUNDING_TIMEOUT_BLOCKS;
            if late && !is_ours(watch.outpoint.txid) {
                events.push((*owner, ChainEvent::FundingNeverConfirms { height }));
            }
        }
    }
}

/// Confirmations of a block at `height` under the tip.
pub(super) fn depth(tip: u32, height: u32) -> u32 {
    tip.checked_sub(height).map_or(0, |below| below.saturating_add(1))
}
