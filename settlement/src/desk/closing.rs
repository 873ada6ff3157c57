//! The desk's part in cooperative closes: tickets in, batches out, and a wallet's fallback.

use std::collections::BTreeSet;

use bitcoin::{ScriptBuf, Transaction, Txid};
use channel::channel::ReadyTicket;
use channel::event::Command;
use channel::ids::OwnerId;

use super::batches::{Made, MergeError, OldBatch, Replaced, Terms, raised_feerate};
use super::record::{BatchRecord, Record};
use super::{Broadcast, Desk, DeskReport, Moment, Outcome};
use crate::onchain::CoinState;
use crate::verify::{BatchCoin, HandedOver};

/// A batch that the hub handed to this wallet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pending {
    pub transaction: Transaction,
    pub publish_by_height: u32,
    /// It and those handed over before it, as far as they were published.
    pub published: BTreeSet<Txid>,
}

impl Desk {
    /// True while tickets wait for a batch.
    pub fn batch_wanted(&self) -> bool {
        !self.waiting().is_empty()
    }

    /// Channels whose tickets are in no batch and may be merged: one that the chain has spent would spoil its batch.
    pub(super) fn waiting(&self) -> Vec<OwnerId> {
        let waiting = self.batches.waiting().into_iter();
        waiting.filter(|owner| !self.is_spent(*owner)).collect()
    }

    fn is_spent(&self, owner: OwnerId) -> bool {
        self.watches.funding(owner).is_some_and(|watch| watch.spend.is_some())
    }

    /// Whether the chain spends one of the batch's channels by something else.
    fn is_spoiled(&self, txid: Txid, record: &BatchRecord) -> bool {
        let spends = record.owners.iter().filter_map(|owner| self.watches.funding(*owner)?.spend);
        spends.into_iter().any(|spend| spend.txid != txid)
    }

    /// Merges every waiting ticket.
    pub fn make_batches(&mut self, now: &Moment) -> Outcome {
        self.now = self.now.max(now.unix_seconds);
        let mut outcome = Outcome::default();
        let waiting = self.waiting();
        if !waiting.is_empty() {
            self.merge(&waiting, None, now, &mut outcome);
        }
        outcome
    }

    /// Makes batches again at a higher feerate that have waited too long for a block, and at once those that another
    /// spend has spoiled, for the channels that are left.
    pub fn bump_batches(&mut self, now: &Moment) -> Outcome {
        self.now = self.now.max(now.unix_seconds);
        let mut outcome = Outcome::default();
        let late: Vec<(Txid, BatchRecord, OldBatch)> = self
            .batches
            .records()
            .iter()
            .filter_map(|(txid, record)| Some((*txid, record.clone(), self.why_to_replace(*txid, record)?)))
            .collect();
        for (txid, record, state) in late {
            // Not all tickets may be here: a channel may have ended otherwise, or not have asked since the start.
            let mergeable = |owner: &OwnerId| self.batches.has_ticket(*owner) && !self.is_spent(*owner);
            let owners: Vec<OwnerId> = record.owners.iter().copied().filter(mergeable).collect();
            if !owners.is_empty() {
                self.merge(&owners, Some(Replaced { txid, record: &record, state }), now, &mut outcome);
            }
        }
        outcome
    }

    /// `None`: the batch is in the chain, or has not waited long enough.
    fn why_to_replace(&self, txid: Txid, record: &BatchRecord) -> Option<OldBatch> {
        if self.is_spoiled(txid, record) {
            return Some(OldBatch::Spoiled);
        }
        let waited = self.memory.tip().height.saturating_sub(record.made_at_height);
        let in_chain = record.owners.iter().any(|owner| self.is_spent(*owner));
        (!in_chain && waited >= self.config.batch_patience_blocks).then_some(OldBatch::MayConfirm)
    }

    /// A frozen channel's ticket, new or again after a restart or when its wallet came back.
    pub(super) fn take_ticket(&mut self, ticket: ReadyTicket, outcome: &mut Outcome) {
        let owner = ticket.owner;
        self.batches.add(ticket);
        if self.is_spent(owner) {
            return;
        }
        let Some((txid, record)) = self.batches.of(owner) else { return };
        let (txid, record) = (*txid, record.clone());
        outcome.then.push((owner, Command::ClosingPublished { transaction: record.transaction.clone() }));
        if !self.listed.contains_key(&txid) {
            self.publish_again(txid, &record, outcome);
        }
    }

    /// After a restart: a journaled batch is verified again before it is broadcast again.
    fn publish_again(&mut self, txid: Txid, record: &BatchRecord, outcome: &mut Outcome) {
        let coins = self.own_coins(record);
        let scripts = record.transaction.output.iter().map(|output| output.script_pubkey.clone());
        let hub_scripts: Vec<ScriptBuf> = scripts.filter(|script| self.wallet.is_ours(script)).collect();
        match self.batches.verify_again(record, coins, hub_scripts, self.config.fees) {
            // Tickets are missing: channels that were spent meanwhile, or that have not asked yet.
            None => {}
            Some(Ok(verified)) => {
                self.listed.insert(txid, None);
                outcome.broadcasts.push(Broadcast::Close(verified));
            }
            Some(Err(error)) => trouble(outcome, format!("the stored batch {txid}: {error}")),
        }
    }

    /// After a block was disconnected: batches that it held, and that this process has not published yet.
    pub(super) fn revive_batches(&mut self, outcome: &mut Outcome) {
        let undone: Vec<(Txid, BatchRecord)> = self
            .batches
            .records()
            .iter()
            .filter(|(txid, record)| {
                let in_chain = record.owners.iter().any(|owner| self.is_spent(*owner));
                !in_chain && !self.listed.contains_key(*txid)
            })
            .map(|(txid, record)| (*txid, record.clone()))
            .collect();
        for (txid, record) in undone {
            self.publish_again(txid, &record, outcome);
        }
    }

    fn merge(&mut self, owners: &[OwnerId], old: Option<Replaced<'_>>, now: &Moment, outcome: &mut Outcome) {
        let hub_script = self.wallet.change_script();
        self.stage_wallet(outcome);
        let confirmed = self.wallet.coins().into_iter().filter(|coin| match coin.state {
            CoinState::Confirmed { .. } => true,
            CoinState::OwnChange
            | CoinState::Unconfirmed
            | CoinState::Immature
            | CoinState::Locked
            | CoinState::Reserved { .. } => false,
        });
        let mut coins: Vec<BatchCoin> =
            confirmed.map(|coin| BatchCoin { outpoint: coin.outpoint, output: coin.output }).collect();
        // What the old batch spends of ours is free for the new one: only one of them can be in the chain.
        coins.extend(old.iter().flat_map(|old| self.own_coins(old.record)));
        coins.sort_by_key(|coin| coin.outpoint);
        coins.dedup_by_key(|coin| coin.outpoint);
        let raised = |old: &Replaced<'_>| match old.state {
            OldBatch::MayConfirm => now.feerate.max(raised_feerate(old.record)),
            OldBatch::Spoiled => now.feerate,
        };
        let feerate = old.as_ref().map_or(now.feerate, raised);
        let terms = Terms {
            coins,
            coin_signer: &self.wallet,
            hub_script: &hub_script,
            feerate,
            fees: self.config.fees,
            max_tickets: self.config.max_batch_tickets,
            height: self.memory.tip().height,
        };
        let (made, error) = self.batches.merge(owners, old, &terms);
        if let Some(old) = old.filter(|_| !made.is_empty()) {
            self.end_batch(old.txid, outcome);
        }
        made.into_iter().for_each(|made| self.keep(made, outcome));
        match error {
            None => {}
            Some(error @ (MergeError::Batch(_) | MergeError::Pool(_))) => {
                trouble(outcome, format!("{} tickets wait: {error}", owners.len()));
            }
            Some(error @ (MergeError::Sign(_) | MergeError::Flaw(_))) => trouble(outcome, error.to_string()),
        }
    }

    /// The coins of ours that a batch spends besides its tickets' channels.
    fn own_coins(&self, record: &BatchRecord) -> Vec<BatchCoin> {
        let own_inputs = record.transaction.input.iter().skip(record.owners.len());
        let known = |input: &bitcoin::TxIn| {
            let outpoint = input.previous_output;
            self.wallet.output(outpoint).map(|output| BatchCoin { outpoint, output })
        };
        own_inputs.filter_map(known).collect()
    }

    fn keep(&mut self, made: Made, outcome: &mut Outcome) {
        let Made { verified, record, coins, replaces } = made;
        let txid = verified.txid();
        self.wallet.lock(&coins);
        self.wallet.record_unconfirmed(verified.transaction(), self.now);
        self.stage_wallet(outcome);
        outcome.records.push(Record::Batch(record.clone()).encode());
        let handed = record
            .owners
            .iter()
            .map(|owner| (*owner, Command::ClosingPublished { transaction: record.transaction.clone() }));
        outcome.then.extend(handed);
        outcome.reports.push(DeskReport::BatchMade {
            txid,
            channels: record.owners.len(),
            fee: record.fee,
            replaces,
        });
        self.batches.insert(txid, record);
        self.listed.insert(txid, None);
        outcome.broadcasts.push(Broadcast::Close(verified));
    }

    pub(super) fn end_batch(&mut self, txid: Txid, outcome: &mut Outcome) {
        if let Some(record) = self.batches.remove(&txid) {
            // Its coins of ours are free again and its share is no money any more; where it is in the chain after all,
            // the chain's word counts and this says nothing.
            self.wallet.release(&record.transaction, self.now);
            self.stage_wallet(outcome);
            outcome.records.push(Record::BatchEnded { txid }.encode());
        }
        if self.listed.remove(&txid).is_some() {
            outcome.broadcasts.push(Broadcast::Forget(txid));
        }
    }

    /// Ends batches whose channels are all spent for good, and those that another spend made impossible.
    pub(super) fn review_batches(&mut self, outcome: &mut Outcome) {
        let mut ended = BTreeSet::new();
        for (txid, record) in self.batches.records() {
            let spends = || {
                record
                    .owners
                    .iter()
                    .map(|owner| self.watches.funding(*owner))
                    .map(|watch| watch.map(|watch| watch.spend))
            };
            let all_final =
                spends().all(|spend| spend.is_none_or(|spend| spend.is_some_and(|found| found.is_final)));
            let contradicted =
                spends().flatten().flatten().any(|found| found.is_final && found.txid != *txid);
            if all_final || contradicted {
                ended.insert(*txid);
            }
        }
        for txid in ended {
            self.end_batch(txid, outcome);
        }
    }

    /// A batch that the hub handed over. What was published of earlier ones goes on being sent: the newer one may be
    /// worth less than it seems, for the wallet can check its own input only.
    pub(super) fn take_handed_over(
        &mut self,
        owner: OwnerId,
        transaction: Transaction,
        publish_by_height: u32,
        outcome: &mut Outcome,
    ) {
        let published = self.handed_over.remove(&owner).map(|old| old.published).unwrap_or_default();
        self.handed_over.insert(owner, Pending { transaction, publish_by_height, published });
        self.publish_handed_over(self.memory.tip().height, outcome);
    }

    /// Its channel ended: what was published for it is not sent again.
    pub(super) fn forget_handed_over(&mut self, owner: OwnerId, outcome: &mut Outcome) {
        let published = self.handed_over.remove(&owner).map(|pending| pending.published).unwrap_or_default();
        for txid in published {
            if self.listed.remove(&txid).is_some() {
                outcome.broadcasts.push(Broadcast::Forget(txid));
            }
        }
    }

    /// A wallet's batches whose height has come, while nothing spends their channels.
    pub(super) fn publish_handed_over(&mut self, height: u32, outcome: &mut Outcome) {
        let due: Vec<(OwnerId, Transaction)> = self
            .handed_over
            .iter()
            .filter(|(_, pending)| height >= pending.publish_by_height)
            .map(|(owner, pending)| (*owner, pending.transaction.clone()))
            .collect();
        for (owner, transaction) in due {
            let Some(watch) = self.watches.funding(owner) else { continue };
            if watch.spend.is_some() || self.listed.contains_key(&transaction.compute_txid()) {
                continue;
            }
            match HandedOver::verify(transaction, watch.outpoint, &watch.output) {
                Ok(handed_over) => {
                    self.listed.insert(handed_over.txid(), None);
                    if let Some(pending) = self.handed_over.get_mut(&owner) {
                        pending.published.insert(handed_over.txid());
                    }
                    outcome.broadcasts.push(Broadcast::HandedOver(handed_over));
                }
                Err(flaw) => {
                    self.handed_over.remove(&owner);
                    trouble(outcome, format!("the batch handed over for channel {}: {flaw}", owner.0));
                }
            }
        }
    }
}

fn trouble(outcome: &mut Outcome, what: String) {
    outcome.reports.push(DeskReport::Trouble { what });
}
