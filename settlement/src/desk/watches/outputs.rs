//! What closed a channel, and where its outputs went.

use std::collections::btree_map::Entry;

use bitcoin::{OutPoint, ScriptBuf, Transaction, Txid};
use channel::event::ChainEvent;
use channel::ids::OwnerId;

use super::{Found, News, OutputWatch, Stage, Watch, Watches};
use crate::watch::Target;

/// The highest byte of a commitment's sequence and of its lock time (BOLT 3, "Commitment Transaction").
const SEQUENCE_BYTE: u32 = 0x80;
const LOCK_TIME_BYTE: u32 = 0x20;

/// Whether a spend of a funding output has the form of a commitment: one input, and the obscured number in sequence and
/// lock time. Both signed it, so it is one of ours if it looks like one.
fn is_commitment(transaction: &Transaction) -> bool {
    let [input] = &transaction.input[..] else { return false };
    input.sequence.to_consensus_u32() >> 24 == SEQUENCE_BYTE
        && transaction.lock_time.to_consensus_u32() >> 24 == LOCK_TIME_BYTE
}

impl Watch {
    /// Whether a block holds what spends the funding.
    pub fn is_spent(&self) -> bool {
        self.funding.as_ref().is_some_and(|funding| funding.spend.is_some())
    }

    /// A spend was found: adds the outputs of the spending transaction that concern this owner, and names them.
    pub(super) fn follow(&mut self, spent: OutPoint, by: &Transaction) -> Vec<OutPoint> {
        let txid = by.compute_txid();
        let is_funding = self.funding.as_ref().is_some_and(|funding| funding.outpoint == spent);
        let stage = self.outputs.get(&spent).map(|output| output.stage);
        let (stage, followed) = match stage {
            _ if is_funding && is_commitment(by) => {
                let outputs = (0u32..).zip(&by.output);
                let mine = outputs.filter(|(_, output)| output.script_pubkey != ScriptBuf::new_p2a());
                (Stage::First, mine.map(|(vout, _)| OutPoint { txid, vout }).collect())
            }
            // `SINGLE|ANYONECANPAY` pairs the input of an HTLC transaction with the output of the same position.
            Some(Stage::First) => {
                let position = by.input.iter().position(|input| input.previous_output == spent);
                let paired = position.and_then(|index| Some((index, by.output.get(index)?)));
                let paired = paired.filter(|(_, output)| output.script_pubkey.is_p2wsh());
                let vout = paired.and_then(|(index, _)| u32::try_from(index).ok());
                (Stage::Second, vout.map(|vout| OutPoint { txid, vout }).into_iter().collect())
            }
            Some(Stage::Second) | None => (Stage::Second, Vec::new()),
        };
        let followed: Vec<OutPoint> = followed;
        for outpoint in &followed {
            self.outputs.entry(*outpoint).or_insert(OutputWatch { stage, spend: None });
        }
        followed
    }
}

impl Watches {
    /// Outputs that a plan names are watched even if the desk did not find them itself. Gives whether any is new.
    pub fn add_outputs(&mut self, owner: OwnerId, outpoints: impl IntoIterator<Item = OutPoint>) -> bool {
        let mut added = false;
        for outpoint in outpoints {
            let watch = self.by_owner.entry(owner).or_default();
            if let Entry::Vacant(entry) = watch.outputs.entry(outpoint) {
                entry.insert(OutputWatch { stage: Stage::First, spend: None });
                self.watcher.watch(owner, Target::Spend(outpoint), []);
                added = true;
            }
        }
        added
    }

    pub(super) fn spent(
        &mut self,
        owner: OwnerId,
        outpoint: OutPoint,
        by: &Transaction,
        found: Found,
        news: &mut News,
    ) {
        let Some(watch) = self.by_owner.get_mut(&owner) else { return };
        let Found { height, txid, .. } = found;
        if let Some(funding) = &mut watch.funding {
            if funding.outpoint == outpoint {
                funding.spend = Some(found);
                news.changed.insert(owner);
                let transaction = by.clone();
                news.tell(owner, ChainEvent::FundingSpent { height, transaction, revoked_htlcs: None });
                return;
            }
            if funding.inputs.contains(&outpoint) && txid != funding.outpoint.txid {
                // The first one is also the last to be undone.
                if funding.conflict.is_none() {
                    funding.conflict = Some(found);
                    news.changed.insert(owner);
                }
                return;
            }
        }
        if let Some(output) = watch.outputs.get_mut(&outpoint) {
            output.spend = Some(found);
            news.changed.insert(owner);
            let transaction = by.clone();
            news.tell(owner, ChainEvent::OutputSpent { outpoint, height, transaction });
        }
    }

    pub(super) fn spend_undone(&mut self, owner: OwnerId, outpoint: OutPoint, txid: Txid, news: &mut News) {
        let Some(watch) = self.by_owner.get_mut(&owner) else { return };
        if let Some(funding) = &mut watch.funding {
            if funding.outpoint == outpoint {
                funding.spend = None;
                news.changed.insert(owner);
                self.drop_outputs_of(owner, txid);
                news.tell(owner, ChainEvent::SpendUndone { txid });
                return;
            }
            if funding.conflict.is_some_and(|conflict| conflict.txid == txid) {
                funding.conflict = None;
                news.changed.insert(owner);
                return;
            }
        }
        if let Some(output) = watch.outputs.get_mut(&outpoint) {
            output.spend = None;
            news.changed.insert(owner);
            self.drop_outputs_of(owner, txid);
            news.tell(owner, ChainEvent::OutputSpendUndone { outpoint, txid });
        }
    }

    pub(super) fn spend_final(&mut self, owner: OwnerId, outpoint: OutPoint, found: Found, news: &mut News) {
        let Some(watch) = self.by_owner.get_mut(&owner) else { return };
        let Found { txid, height, .. } = found;
        if let Some(funding) = &mut watch.funding {
            if funding.outpoint == outpoint {
                funding.spend = Some(found);
                news.changed.insert(owner);
                news.tell(owner, ChainEvent::SpendFinal { height, txid });
                return;
            }
            if funding.inputs.contains(&outpoint) && txid != funding.outpoint.txid {
                let funding = funding.outpoint.txid;
                self.lose(vec![funding], found, news);
                return;
            }
        }
        if let Some(output) = watch.outputs.get_mut(&outpoint) {
            output.spend = Some(found);
            news.changed.insert(owner);
            news.tell(owner, ChainEvent::OutputSpendFinal { outpoint, height, txid });
        }
    }

    /// Something else took their coins for good: these will never be, nor any funding that is one of them or spends what it would
    /// have made.
    pub fn lose(&mut self, mut lost: Vec<Txid>, by: Found, news: &mut News) {
        while let Some(txid) = lost.pop() {
            news.impossible.push(txid);
            for (owner, watch) in &mut self.by_owner {
                let Some(funding) = &mut watch.funding else { continue };
                let is_spent_from = funding.inputs.iter().any(|input| input.txid == txid);
                if funding.is_impossible() || !(funding.outpoint.txid == txid || is_spent_from) {
                    continue;
                }
                funding.conflict = Some(by);
                news.changed.insert(*owner);
                news.tell(*owner, ChainEvent::FundingNeverConfirms { height: by.height });
                if is_spent_from {
                    lost.push(funding.outpoint.txid);
                }
            }
        }
    }

    /// The transaction left the chain, and its outputs with it: whatever spent them left before.
    fn drop_outputs_of(&mut self, owner: OwnerId, txid: Txid) {
        let Some(watch) = self.by_owner.get_mut(&owner) else { return };
        let gone: Vec<OutPoint> =
            watch.outputs.keys().filter(|outpoint| outpoint.txid == txid).copied().collect();
        for outpoint in gone {
            watch.outputs.remove(&outpoint);
            self.watcher.unwatch(&owner, &Target::Spend(outpoint));
        }
    }
}
