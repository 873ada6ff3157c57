//! The desk's part in cooperative closes: tickets in, batches out, and a wallet's fallback.

use std::collections::BTreeSet;

use bitcoin::{ScriptBuf, Transaction, Txid};
use channel::channel::ReadyTicket;
use channel::event::Command;
use channel::ids::OwnerId;

use super::batches::{Made, MergeError, Terms, raised_feerate};
use super::record::{BatchRecord, Record};
use super::{Broadcast, Desk, DeskReport, Moment, Outcome};
use crate::onchain::CoinState;
use crate::verify::{BatchCoin, HandedOver};

/// A batch that the hub handed to this wallet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pending {
    pub transaction: Transaction,
    pub publish_by_height: u32,
}

impl Desk {
    /// True while tickets wait for a batch.
    pub fn batch_wanted(&self) -> bool {
        !self.batches.waiting().is_empty()
    }

    /// Merges every waiting ticket.
    pub fn make_batches(&mut self, now: &Moment) -> Outcome {
        let mut outcome = Outcome::default();
        let waiting = self.batches.waiting();
        if !waiting.is_empty() {
            self.merge(&waiting, None, now, &mut outcome);
        }
        outcome
    }

    /// Makes batches again at a higher feerate that have waited too long for a block.
    pub fn bump_batches(&mut self, now: &Moment) -> Outcome {
        let mut outcome = Outcome::default();
        let tip = self.memory.tip().height;
        let patience = self.config.batch_patience_blocks;
        let late: Vec<(Txid, BatchRecord)> = self
            .batches
            .records()
            .iter()
            .filter(|(txid, record)| {
                let unconfirmed = self.listed.get(*txid) == Some(&None);
                unconfirmed && tip.saturating_sub(record.made_at_height) >= patience
            })
            .map(|(txid, record)| (*txid, record.clone()))
            .collect();
        for (txid, record) in late {
            self.merge(&record.owners, Some((&txid, &record)), now, &mut outcome);
        }
        outcome
    }

    /// A frozen channel's ticket, new or again after a restart or when its wallet came back.
    pub(super) fn take_ticket(&mut self, ticket: ReadyTicket, outcome: &mut Outcome) {
        let owner = ticket.owner;
        if self.watches.funding(owner).is_some_and(|watch| watch.spend.is_some()) {
            return;
        }
        self.batches.add(ticket);
        let Some((txid, record)) = self.batches.of(owner) else { return };
        let (txid, record) = (*txid, record.clone());
        outcome.then.push((owner, Command::ClosingPublished { transaction: record.transaction.clone() }));
        if !self.listed.contains_key(&txid) {
            self.publish_again(txid, &record, outcome);
        }
    }

    /// After a restart: a journaled batch is verified again before it is broadcast again.
    fn publish_again(&mut self, txid: Txid, record: &BatchRecord, outcome: &mut Outcome) {
        let own_inputs = record.transaction.input.iter().skip(record.owners.len());
        let coins: Vec<BatchCoin> = own_inputs
            .filter_map(|input| {
                let outpoint = input.previous_output;
                self.wallet.output(outpoint).map(|output| BatchCoin { outpoint, output })
            })
            .collect();
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

    fn merge(
        &mut self,
        owners: &[OwnerId],
        old: Option<(&Txid, &BatchRecord)>,
        now: &Moment,
        outcome: &mut Outcome,
    ) {
        let hub_script = self.wallet.new_change_script();
        self.stage_wallet(outcome);
        let confirmed = self.wallet.coins().into_iter().filter(|coin| match coin.state {
            CoinState::Confirmed { .. } => true,
            CoinState::OwnChange | CoinState::Unconfirmed | CoinState::Immature | CoinState::Locked => false,
        });
        let coins =
            confirmed.map(|coin| BatchCoin { outpoint: coin.outpoint, output: coin.output }).collect();
        let feerate = old.map_or(now.feerate, |(_, record)| now.feerate.max(raised_feerate(record)));
        let terms = Terms {
            coins,
            coin_signer: &self.wallet,
            hub_script: &hub_script,
            feerate,
            fees: self.config.fees,
            max_tickets: self.config.max_batch_tickets,
            height: self.memory.tip().height,
        };
        match self.batches.merge(owners, old, &terms) {
            Ok(made) => {
                if let Some((txid, _)) = old {
                    self.end_batch(*txid, outcome);
                }
                made.into_iter().for_each(|made| self.keep(made, outcome));
            }
            Err(error @ (MergeError::Batch(_) | MergeError::Pool(_))) => {
                trouble(outcome, format!("{} tickets wait: {error}", owners.len()));
            }
            Err(error @ (MergeError::Sign(_) | MergeError::Flaw(_))) => trouble(outcome, error.to_string()),
        }
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

    fn end_batch(&mut self, txid: Txid, outcome: &mut Outcome) {
        if let Some(record) = self.batches.remove(&txid) {
            // Its coins of ours are free again; where it is in the chain they are spent and this says nothing.
            let coins: Vec<_> = record.transaction.input[record.owners.len()..]
                .iter()
                .map(|input| input.previous_output)
                .collect();
            self.wallet.unlock(&coins);
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
