//! Transactions that can never be in the chain: what a reorganisation took out of it, once something else that spends the
//! same output is final, and whatever of ours rests on that.
//!
//! A coin counts from its first block on. So change of a claim, or of what paid for a commitment, may be in a funding or a
//! batch when that block is undone; and when another commitment, or another claim, takes its place for good, what was built on
//! it waits for nothing.
//!
//! Invariant: whoever spent an output in a block that is undone is journaled until the channel ends, so that a restart in
//! between forgets nobody.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::{OutPoint, Transaction, Txid};
use channel::event::{ChainEvent, Command};
use channel::ids::OwnerId;

use super::record::Record;
use super::watches::{Found, News};
use super::{Desk, Outcome};

/// What spent a channel's outputs in blocks that are undone.
pub(super) type Rivals = BTreeMap<OwnerId, BTreeSet<(OutPoint, Txid)>>;

impl Desk {
    /// A block was disconnected; this is what its channels are told. Gives the rows for it.
    pub(super) fn note_rivals(&mut self, told: &[(OwnerId, Command)]) -> Vec<Vec<u8>> {
        let mut records = Vec::new();
        for (owner, command) in told {
            let Command::Chain(event) = command else { continue };
            let (outpoint, txid) = match event {
                ChainEvent::SpendUndone { txid } => {
                    let Some(funding) = self.watches.funding(*owner) else { continue };
                    (funding.outpoint, *txid)
                }
                ChainEvent::OutputSpendUndone { outpoint, txid } => (*outpoint, *txid),
                ChainEvent::FundingConfirmed { .. }
                | ChainEvent::FundingUndone
                | ChainEvent::FundingDeep { .. }
                | ChainEvent::FundingFinal
                | ChainEvent::FundingNeverConfirms { .. }
                | ChainEvent::FundingSpent { .. }
                | ChainEvent::SpendFinal { .. }
                | ChainEvent::OutputSpent { .. }
                | ChainEvent::OutputSpendFinal { .. }
                | ChainEvent::SeenInMempool { .. }
                | ChainEvent::OutputGivenUp { .. }
                | ChainEvent::Deadline { .. } => continue,
            };
            if self.rivals.entry(*owner).or_default().insert((outpoint, txid)) {
                records.push(Record::Rival { owner: *owner, outpoint, txid }.encode());
            }
        }
        records
    }

    /// What is lost to the spends that became final with a block: fundings that never confirm, the rivals of those spends, and all of
    /// ours that rests on them. Further fundings among it never confirm either, which is added to the news.
    pub(super) fn lose_rivals(&mut self, news: &mut News) -> BTreeSet<Txid> {
        let mut all: BTreeSet<Txid> =
            news.impossible.iter().flat_map(|funding| self.what_rests_on(*funding)).collect();
        for (rival, by) in self.beaten(&news.commands).into_iter().chain(self.beaten_by_ours()) {
            let lost = self.what_rests_on(rival);
            self.watches.lose(lost.iter().copied().collect(), by, news);
            all.extend(lost);
        }
        all
    }

    /// Coins that lost transactions spend are free again, and batches among them are made anew.
    pub(super) fn release_lost(&mut self, lost: &BTreeSet<Txid>, outcome: &mut Outcome) {
        self.wallet.release_unconfirmed(lost, self.now);
        let batches: Vec<Txid> =
            self.batches.records().keys().filter(|txid| lost.contains(*txid)).copied().collect();
        for txid in batches {
            self.end_batch(txid, outcome);
        }
    }

    /// What spent the same in a block that is undone as something that is final now, with that.
    fn beaten(&self, told: &[(OwnerId, Command)]) -> Vec<(Txid, Found)> {
        let mut beaten = Vec::new();
        for (owner, command) in told {
            let Some(rivals) = self.rivals.get(owner) else { continue };
            let funding = self.watches.funding(*owner).map(|funding| funding.outpoint);
            let (spent, txid, height) = if let Command::Chain(ChainEvent::SpendFinal { height, txid }) =
                command
            {
                (funding, *txid, *height)
            } else if let Command::Chain(ChainEvent::OutputSpendFinal { outpoint, height, txid }) = command {
                (Some(*outpoint), *txid, *height)
            } else {
                continue;
            };
            let by = Found { txid, height, is_final: true };
            let others = rivals.iter().filter(|(outpoint, rival)| Some(*outpoint) == spent && *rival != txid);
            beaten.extend(others.map(|(_, rival)| (*rival, by)));
        }
        beaten
    }

    /// What waits for a block, or what it rests on, against a transaction of ours that is final: the child of a commitment may have
    /// been made anew, and its change spent before.
    fn beaten_by_ours(&self) -> Vec<(Txid, Found)> {
        let tip = self.memory.tip().height;
        let Some(buried) = tip.checked_sub(self.config.final_depth.saturating_sub(1)) else {
            return Vec::new();
        };
        let listed = self.listed.iter().filter(|(_, height)| height.is_none()).map(|(txid, _)| *txid);
        // What rests on a child is off the list as soon as another child counts, if it was there for having left a block.
        let fundings = self.watches.all().values().filter_map(|watch| watch.funding.as_ref());
        let unconfirmed = fundings.filter(|funding| funding.confirmed.is_none() && !funding.is_impossible());
        let waiting = listed.chain(unconfirmed.map(|funding| funding.outpoint.txid));
        let beaten = self.wallet.beaten(waiting, buried);
        let found = |(lost, txid, height)| (lost, Found { txid, height, is_final: true });
        beaten.into_iter().map(found).collect()
    }

    /// A transaction, and all of ours that spend it or what spends it.
    fn what_rests_on(&self, transaction: Txid) -> BTreeSet<Txid> {
        let mut lost = BTreeSet::new();
        let mut parents = vec![transaction];
        while let Some(parent) = parents.pop() {
            if lost.insert(parent) {
                parents.extend(self.wallet.spenders_of(parent));
                let spends = |child: &&Transaction| {
                    child.input.iter().any(|input| input.previous_output.txid == parent)
                };
                parents.extend(self.building.values().filter(spends).map(Transaction::compute_txid));
            }
        }
        lost
    }
}
