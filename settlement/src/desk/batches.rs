//! Tickets on their way into the chain: waiting, merged, replaced, final.
//!
//! Invariant: a batch that was journaled is not forgotten before another spend of its channels is final or another
//! batch has taken its place, because its wallets hold it too. A ticket is in at most one batch at a time; a batch that
//! cannot confirm any more gives its remaining tickets back. A ticket is kept until its channel ends: a
//! reorganisation may bring it back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bitcoin::{FeeRate, OutPoint, Script, ScriptBuf, Txid};
use channel::channel::ReadyTicket;
use channel::closing::TicketSpec;
use channel::ids::OwnerId;
use channel::signer::Signer;

use super::record::BatchRecord;
use crate::batch::{
    BatchError, BatchRequest, BatchTicket, CoinSigner, Merged, SignBatchError, Unconfirmed, merge,
};
use crate::fees::FeeBounds;
use crate::flaw::Flaw;
use crate::limits;
use crate::pool::{PoolError, VerifyPool};
use crate::verify::{BatchCoin, BatchJob, CloseJob, Verified};

/// Why tickets were not merged. They wait, and are tried again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum MergeError {
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error(transparent)]
    Sign(#[from] SignBatchError),
    #[error("a batch of our own making breaks a rule: {0}")]
    Flaw(#[from] Flaw),
    #[error(transparent)]
    Pool(#[from] PoolError),
}

/// A batch that was made or replaced.
pub(super) struct Made {
    pub verified: Verified,
    pub record: BatchRecord,
    pub coins: Vec<OutPoint>,
    pub replaces: Option<Txid>,
}

/// A batch whose tickets are merged again.
#[derive(Clone, Copy)]
pub(super) struct Replaced<'a> {
    pub txid: Txid,
    pub record: &'a BatchRecord,
    pub state: OldBatch,
}

/// Whether nodes may still hold a batch that is to be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OldBatch {
    /// Its successor must outbid it.
    MayConfirm,
    /// The chain spends one of its channels otherwise: no node holds it any more.
    Spoiled,
}

/// What a merge may spend and pay.
pub(super) struct Terms<'a> {
    pub coins: Vec<BatchCoin>,
    pub coin_signer: &'a dyn CoinSigner,
    pub hub_script: &'a Script,
    pub feerate: FeeRate,
    pub fees: FeeBounds,
    pub max_tickets: usize,
    pub height: u32,
}

/// All of them.
pub(super) struct Batches {
    signer: Arc<dyn Signer>,
    pool: Arc<VerifyPool>,
    /// Of every channel that handed one in and has not ended, in this process.
    tickets: BTreeMap<OwnerId, ReadyTicket>,
    records: BTreeMap<Txid, BatchRecord>,
}

impl Batches {
    /// Those that a snapshot or replay ended with. Their tickets come from the channels.
    pub fn resume(
        records: BTreeMap<Txid, BatchRecord>,
        signer: Arc<dyn Signer>,
        pool: Arc<VerifyPool>,
    ) -> Self {
        Self { signer, pool, tickets: BTreeMap::new(), records }
    }

    pub fn records(&self) -> &BTreeMap<Txid, BatchRecord> {
        &self.records
    }

    pub fn add(&mut self, ticket: ReadyTicket) {
        self.tickets.insert(ticket.owner, ticket);
    }

    pub fn forget(&mut self, owner: OwnerId) {
        self.tickets.remove(&owner);
    }

    /// The batch that this channel is in.
    pub fn of(&self, owner: OwnerId) -> Option<(&Txid, &BatchRecord)> {
        self.records.iter().find(|(_, record)| record.owners.contains(&owner))
    }

    /// Channels whose tickets are in no batch.
    pub fn waiting(&self) -> Vec<OwnerId> {
        let merged: BTreeSet<OwnerId> =
            self.records.values().flat_map(|record| record.owners.iter().copied()).collect();
        self.tickets.keys().filter(|owner| !merged.contains(owner)).copied().collect()
    }

    /// Journals are kept by the caller: this only takes the result in.
    pub fn insert(&mut self, txid: Txid, record: BatchRecord) {
        self.records.insert(txid, record);
    }

    pub fn remove(&mut self, txid: &Txid) -> Option<BatchRecord> {
        self.records.remove(txid)
    }

    /// Whether the channel's ticket is here. After a restart they come one by one.
    pub fn has_ticket(&self, owner: OwnerId) -> bool {
        self.tickets.contains_key(&owner)
    }

    /// Merges these channels' tickets into as many batches as it takes; `old` is what they replace. What was made before an
    /// error stands.
    pub fn merge(
        &self,
        owners: &[OwnerId],
        old: Option<Replaced<'_>>,
        terms: &Terms<'_>,
    ) -> (Vec<Made>, Option<MergeError>) {
        let mut made = Vec::new();
        let error = self.merge_into(&mut made, owners, old, terms).err();
        (made, error)
    }

    fn merge_into(
        &self,
        made: &mut Vec<Made>,
        owners: &[OwnerId],
        old: Option<Replaced<'_>>,
        terms: &Terms<'_>,
    ) -> Result<(), MergeError> {
        let in_mempool = old.filter(|old| old.state == OldBatch::MayConfirm);
        let mut owner_of = BTreeMap::new();
        let mut tickets = Vec::new();
        for ready in owners.iter().filter_map(|owner| self.tickets.get(owner)) {
            owner_of.insert(ready.spec.funding_outpoint, ready.owner);
            tickets.push(BatchTicket {
                key_id: ready.key_id,
                spec: ready.spec.clone(),
                signature: ready.signature,
                spent_by: in_mempool.map(|old| old.txid),
            });
        }
        let unconfirmed = in_mempool
            .map(|Replaced { txid, record, .. }| {
                (txid, Unconfirmed { fee: record.fee, weight: record.transaction.weight() })
            })
            .into_iter()
            .collect();
        let mut coins = terms.coins.clone();
        while !tickets.is_empty() {
            let rest = tickets.split_off(tickets.len().min(terms.max_tickets));
            let request = BatchRequest {
                tickets: &tickets,
                unconfirmed: &unconfirmed,
                coins: &coins,
                hub_script: terms.hub_script,
                feerate: terms.feerate,
                incremental: limits::INCREMENTAL_FEERATE,
                fees: terms.fees,
                max_hub_fee: limits::MAX_HUB_BATCH_FEE,
            };
            let Merged { batch, left } = merge(&request)?;
            let owners = batch.tickets().iter().map(|ticket| owner_of[&ticket.spec.funding_outpoint]);
            let owners: Vec<OwnerId> = owners.collect();
            let spent: Vec<OutPoint> = batch.coins().iter().map(|coin| coin.outpoint).collect();
            coins.retain(|coin| !spent.contains(&coin.outpoint));
            let fee = batch.as_unconfirmed().fee;
            let job = batch.sign(self.signer.as_ref(), terms.coin_signer)?;
            let verified = self.verify(job)?;
            let record = BatchRecord {
                transaction: verified.transaction().clone(),
                owners,
                made_at_height: terms.height,
                fee,
            };
            let replaces = old.map(|old| old.txid);
            made.push(Made { verified, record, coins: spent, replaces });
            tickets = left;
            tickets.extend(rest);
        }
        Ok(())
    }

    /// Verifies a journaled batch again, once all of its tickets are here. `None`: not yet, or not ours to publish.
    pub fn verify_again(
        &self,
        record: &BatchRecord,
        coins: Vec<BatchCoin>,
        hub_scripts: Vec<ScriptBuf>,
        fees: FeeBounds,
    ) -> Option<Result<Verified, MergeError>> {
        let specs: Option<Vec<TicketSpec>> =
            record.owners.iter().map(|owner| Some(self.tickets.get(owner)?.spec.clone())).collect();
        let job = CloseJob::Batch(BatchJob {
            transaction: record.transaction.clone(),
            tickets: specs?,
            coins,
            hub_scripts,
            fees,
            max_hub_fee: limits::MAX_HUB_BATCH_FEE,
        });
        Some(self.verify(job))
    }

    fn verify(&self, job: CloseJob) -> Result<Verified, MergeError> {
        let mut outcomes = self.pool.verify_all(vec![job])?;
        let outcome = outcomes.pop().expect("the pool answers each job");
        Ok(outcome?.single().expect("a batch is one transaction"))
    }
}

/// A quarter more than the batch pays now, and at least what nodes ask of a replacement: the merge pays what BIP 125 asks.
pub(super) fn raised_feerate(record: &BatchRecord) -> FeeRate {
    let weight = record.transaction.weight().to_wu().max(1);
    let paid = record.fee.to_sat().saturating_mul(1_000) / weight;
    let more = (paid / 4).max(limits::INCREMENTAL_FEERATE.to_sat_per_kwu());
    FeeRate::from_sat_per_kwu(paid.saturating_add(more))
}
