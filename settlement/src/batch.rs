//! Merging tickets into one transaction.
//!
//! A ticket fixes the wallet's input and the output at the same index, nothing else, so the hub merges any number of
//! them alone: inputs with a payout come first, each beside its output, then tickets without one, then the hub's own
//! coins if the tickets' surplus does not pay the fee; one output for the hub takes what is left. Rebuilding at a higher
//! feerate, with the same tickets or others, is the same call again: it knows what is replaced and pays what BIP 125 asks.
//!
//! Pure: the same request gives the same transaction.

mod weigh;

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::{
    Amount, FeeRate, OutPoint, Script, ScriptBuf, Transaction, TxIn, TxOut, Txid, Weight, Witness,
};
use channel::bug::{self, Bug};
use channel::bytes::KeyId;
use channel::closing::{
    BATCH_LOCK_TIME, BATCH_SEQUENCE, BATCH_VERSION, BatchSighashes, TicketFlaw, TicketSpec,
};
use channel::keys::CompactSignature;
use channel::signer::Signer;

pub use crate::fees::Unconfirmed;
use crate::fees::{FeeBounds, Outbid, fee_for};
use crate::limits;
use crate::onchain::{OnchainError, OnchainWallet};
use crate::verify::{BatchCoin, BatchJob, CloseJob};

/// A frozen channel that is to be closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchTicket {
    /// Names the hub's funding key to its signer.
    pub key_id: KeyId,
    /// What was agreed.
    pub spec: TicketSpec,
    /// The wallet's signature.
    pub signature: CompactSignature,
    /// The unconfirmed transaction that spends the channel now, if there is one: an earlier batch.
    pub spent_by: Option<Txid>,
}

/// What to merge, and how.
#[derive(Debug, Clone)]
pub struct BatchRequest<'a> {
    /// Tickets in the order of their claim to a place; what does not fit is left for the next batch.
    pub tickets: &'a [BatchTicket],
    /// The transactions named by `spent_by`.
    pub unconfirmed: &'a BTreeMap<Txid, Unconfirmed>,
    /// Confirmed coins of the hub's that may be added.
    pub coins: &'a [BatchCoin],
    /// Where the hub is paid.
    pub hub_script: &'a Script,
    /// The feerate wanted; a replacement may pay more.
    pub feerate: FeeRate,
    /// What a replacement adds for its own size (bitcoind's `incrementalrelayfee`).
    pub incremental: FeeRate,
    /// Lowest and highest feerate.
    pub fees: FeeBounds,
    /// The most that the hub adds to the wallets' agreed fees.
    pub max_hub_fee: Amount,
}

/// Why nothing could be merged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// There is no ticket, or none that may be taken now.
    #[error("there is no ticket to merge")]
    NoTickets,
    /// A ticket that should never have been accepted.
    #[error("the ticket of {outpoint}: {flaw}")]
    Ticket {
        /// Its channel.
        outpoint: OutPoint,
        /// The rule it breaks.
        flaw: TicketFlaw,
    },
    /// A ticket is said to be spent by a transaction that the request does not describe.
    #[error("the unconfirmed transaction {txid} is not described")]
    UnknownConflict {
        /// The transaction.
        txid: Txid,
    },
    /// The hub's coins do not cover the fee.
    #[error("{missing} is missing for the fee")]
    NotEnoughCoins {
        /// What would have been needed with all coins added.
        missing: Amount,
    },
    /// The fee, or what a replacement must pay, is above the ceiling.
    #[error("a fee of {needed} is needed, at most {maximum} is allowed")]
    FeeCeiling {
        /// The fee needed.
        needed: Amount,
        /// The ceiling for this weight.
        maximum: Amount,
    },
    /// The hub would have to add too much to what the wallets agreed to.
    #[error("the hub would pay {needed} of the fee, at most {maximum} is allowed")]
    HubFee {
        /// The hub's part.
        needed: Amount,
        /// The most it agreed to add.
        maximum: Amount,
    },
    /// An amount beyond all that exists.
    #[error("the amounts sum up to more than 21 million bitcoin")]
    ImpossibleSum,
}

/// A batch without the hub's signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    transaction: Transaction,
    tickets: Vec<BatchTicket>,
    coins: Vec<BatchCoin>,
    hub_script: ScriptBuf,
    fees: FeeBounds,
    max_hub_fee: Amount,
    fee: Amount,
    weight: Weight,
}

/// A batch and what found no place in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// The batch.
    pub batch: Batch,
    /// Tickets for the next one, in their order.
    pub left: Vec<BatchTicket>,
}

/// Signs inputs that spend the hub's own coins.
pub trait CoinSigner {
    /// The witnesses of those inputs of `transaction` that spend coins of this signer; `prevouts` are all outputs
    /// spent, in the order of the inputs.
    fn sign_coins(
        &self,
        transaction: &Transaction,
        prevouts: &[TxOut],
    ) -> Result<Vec<(usize, Witness)>, OnchainError>;
}

impl CoinSigner for OnchainWallet {
    fn sign_coins(
        &self,
        transaction: &Transaction,
        prevouts: &[TxOut],
    ) -> Result<Vec<(usize, Witness)>, OnchainError> {
        OnchainWallet::sign_coins(self, transaction, prevouts)
    }
}

/// Why a batch was not signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignBatchError {
    /// A ticket would not hold at its place; a batch made by [`merge`] never has one.
    #[error(transparent)]
    Placement(#[from] channel::closing::PlacementFlaw),
    /// A signature out of range.
    #[error(transparent)]
    Signature(#[from] channel::keys::InvalidSignature),
    /// The hub's coins could not be signed.
    #[error(transparent)]
    Coin(#[from] OnchainError),
}

/// Merges as many tickets as one standard transaction holds and as may be replaced at once.
pub fn merge(request: &BatchRequest<'_>) -> Result<Merged, BatchError> {
    let (chosen, left) = choose(request)?;
    let replaced = outbid(request, &chosen)?;
    let (paired, lone): (Vec<BatchTicket>, Vec<BatchTicket>) =
        chosen.into_iter().partition(|ticket| ticket.spec.payout().is_some());
    let tickets = [paired, lone].concat();
    let batch = Draft { request, replaced, tickets }.balance()?;
    Ok(Merged { batch, left })
}

/// Takes tickets in order while they fit.
fn choose(request: &BatchRequest<'_>) -> Result<(Vec<BatchTicket>, Vec<BatchTicket>), BatchError> {
    let mut weight = weigh::overhead(request.hub_script, request.coins);
    let (mut chosen, mut left) = (Vec::new(), Vec::new());
    let (mut outpoints, mut conflicts) = (BTreeSet::new(), BTreeSet::new());
    for ticket in request.tickets {
        let outpoint = ticket.spec.funding_outpoint;
        ticket.spec.check().map_err(|flaw| BatchError::Ticket { outpoint, flaw })?;
        if !outpoints.insert(outpoint) {
            continue;
        }
        let more = weigh::ticket(&ticket.spec);
        let one_conflict_too_many = conflicts.len() == limits::MAX_REPLACEMENTS
            && ticket.spent_by.is_some_and(|txid| !conflicts.contains(&txid));
        if weight + more > limits::STANDARD_WEIGHT || one_conflict_too_many {
            left.push(ticket.clone());
            continue;
        }
        weight += more;
        conflicts.extend(ticket.spent_by);
        chosen.push(ticket.clone());
    }
    if chosen.is_empty() {
        return Err(BatchError::NoTickets);
    }
    Ok((chosen, left))
}

/// What must be outbid.
fn outbid(request: &BatchRequest<'_>, chosen: &[BatchTicket]) -> Result<Outbid, BatchError> {
    let conflicts: BTreeSet<Txid> = chosen.iter().filter_map(|ticket| ticket.spent_by).collect();
    let mut replaced = Vec::with_capacity(conflicts.len());
    for txid in conflicts {
        replaced.push(*request.unconfirmed.get(&txid).ok_or(BatchError::UnknownConflict { txid })?);
    }
    Outbid::of(&replaced, request.incremental).ok_or(BatchError::ImpossibleSum)
}

/// Tickets in their final order, to be balanced with fee, coins and the hub's output.
struct Draft<'a> {
    request: &'a BatchRequest<'a>,
    replaced: Outbid,
    tickets: Vec<BatchTicket>,
}

impl Draft<'_> {
    /// Adds coins one by one until what is left pays the fee.
    fn balance(self) -> Result<Batch, BatchError> {
        let mut coins: Vec<BatchCoin> = self.request.coins.to_vec();
        coins.sort_by(|one, other| {
            (other.output.value, one.outpoint).cmp(&(one.output.value, other.outpoint))
        });
        coins.truncate(limits::MAX_BATCH_COINS);
        let mut payouts = self.payouts();
        if bug::is(Bug::TicketAtWrongIndex) {
            payouts.reverse();
        }
        let fundings = self.tickets.iter().map(|ticket| ticket.spec.funding_amount);
        let surplus = sum(fundings)?
            .checked_sub(sum(payouts.iter().map(|payout| payout.value))?)
            .unwrap_or(Amount::ZERO);
        let mut missing = Amount::ZERO;
        for count in 0..=coins.len() {
            let added = &coins[..count];
            let available = sum(added.iter().map(|coin| coin.output.value).chain([surplus]))?;
            match self.settle(added, &payouts, available)? {
                Ok(batch) => return self.affordable(batch),
                Err(short) => missing = short,
            }
        }
        Err(BatchError::NotEnoughCoins { missing })
    }

    /// With an output for the hub if there is enough for one, without if there is enough for the fee alone; else what
    /// is missing.
    fn settle(
        &self,
        coins: &[BatchCoin],
        payouts: &[TxOut],
        available: Amount,
    ) -> Result<Result<Batch, Amount>, BatchError> {
        let script_pubkey = self.request.hub_script.to_owned();
        let least = script_pubkey.minimal_non_dust();
        let mut outputs = payouts.to_vec();
        outputs.push(TxOut { value: least, script_pubkey });
        let with = self.transaction(coins, outputs);
        let weight = weigh::signed(&with, self.tickets.len(), coins);
        let fee = self.fee(weight)?;
        if let Some(value) = available.checked_sub(fee).filter(|value| *value >= least) {
            let mut transaction = with;
            transaction.output.last_mut().expect("the hub's output was just added").value = value;
            return Ok(Ok(self.batch(transaction, coins, fee, weight)));
        }
        let short = sum([fee, least].into_iter())?.checked_sub(available).unwrap_or(Amount::ZERO);
        if payouts.is_empty() {
            return Ok(Err(short));
        }
        let without = self.transaction(coins, payouts.to_vec());
        let weight = weigh::signed(&without, self.tickets.len(), coins);
        if available >= self.fee(weight)? {
            return Ok(Ok(self.batch(without, coins, available, weight)));
        }
        Ok(Err(short))
    }

    fn fee(&self, weight: Weight) -> Result<Amount, BatchError> {
        let wanted = fee_for(self.request.fees.clamp(self.request.feerate), weight);
        let minimum = self.replaced.minimum(weight, weight).ok_or(BatchError::ImpossibleSum)?;
        Ok(wanted.max(minimum))
    }

    /// Refuses a fee that is too high for the bounds or for the hub.
    fn affordable(&self, batch: Batch) -> Result<Batch, BatchError> {
        // The verifier sees the true weight, which may be a little less.
        let lightest = weigh::lightest(batch.weight, self.tickets.len(), batch.coins.len());
        let maximum = fee_for(self.request.fees.ceiling(), lightest);
        if batch.fee > maximum {
            return Err(BatchError::FeeCeiling { needed: batch.fee, maximum });
        }
        let balances = sum(self.tickets.iter().map(|ticket| ticket.spec.wallet_balance.to_sat_floor()))?;
        let paid = sum(self.payouts().iter().map(|payout| payout.value))?;
        let from_wallets = balances.checked_sub(paid).ok_or(BatchError::ImpossibleSum)?;
        let needed = batch.fee.checked_sub(from_wallets).unwrap_or(Amount::ZERO);
        let maximum = self.request.max_hub_fee;
        if needed > maximum {
            return Err(BatchError::HubFee { needed, maximum });
        }
        Ok(batch)
    }

    fn payouts(&self) -> Vec<TxOut> {
        self.tickets.iter().filter_map(|ticket| ticket.spec.payout()).collect()
    }

    fn transaction(&self, coins: &[BatchCoin], output: Vec<TxOut>) -> Transaction {
        let coin_input = |coin: &BatchCoin| TxIn {
            previous_output: coin.outpoint,
            script_sig: ScriptBuf::new(),
            sequence: BATCH_SEQUENCE,
            witness: Witness::new(),
        };
        let tickets = self.tickets.iter().map(|ticket| ticket.spec.input());
        Transaction {
            version: BATCH_VERSION,
            lock_time: BATCH_LOCK_TIME,
            input: tickets.chain(coins.iter().map(coin_input)).collect(),
            output,
        }
    }

    fn batch(&self, transaction: Transaction, coins: &[BatchCoin], fee: Amount, weight: Weight) -> Batch {
        Batch {
            transaction,
            tickets: self.tickets.clone(),
            coins: coins.to_vec(),
            hub_script: self.request.hub_script.to_owned(),
            fees: self.request.fees,
            max_hub_fee: self.request.max_hub_fee,
            fee,
            weight,
        }
    }
}

impl Batch {
    /// The transaction without witnesses; its id is final.
    pub fn transaction(&self) -> &Transaction {
        &self.transaction
    }

    /// Its id.
    pub fn txid(&self) -> Txid {
        self.transaction.compute_txid()
    }

    /// The tickets, in the order of the inputs.
    pub fn tickets(&self) -> &[BatchTicket] {
        &self.tickets
    }

    /// The hub's coins that it spends; lock them before anything else is built.
    pub fn coins(&self) -> &[BatchCoin] {
        &self.coins
    }

    /// What a later batch must outbid.
    pub fn as_unconfirmed(&self) -> Unconfirmed {
        Unconfirmed { fee: self.fee, weight: self.weight }
    }

    /// Signs every input over the whole transaction. The result still has to be verified.
    pub fn sign(self, signer: &dyn Signer, coins: &dyn CoinSigner) -> Result<CloseJob, SignBatchError> {
        let mut witnesses = Vec::with_capacity(self.transaction.input.len());
        let mut sighashes = BatchSighashes::new(&self.transaction);
        for (index, ticket) in self.tickets.iter().enumerate() {
            let sighash = sighashes.sighash(index, &ticket.spec)?;
            let signature = signer.sign_closing_input(&ticket.key_id, &sighash);
            witnesses.push((index, ticket.spec.witness(&ticket.signature, &signature)?));
        }
        if !self.coins.is_empty() {
            let tickets = self.tickets.iter().map(|ticket| ticket.spec.spent_output());
            let prevouts: Vec<TxOut> =
                tickets.chain(self.coins.iter().map(|coin| coin.output.clone())).collect();
            witnesses.extend(coins.sign_coins(&self.transaction, &prevouts)?);
        }
        let mut transaction = self.transaction;
        for (index, witness) in witnesses {
            if let Some(input) = transaction.input.get_mut(index) {
                input.witness = witness;
            }
        }
        Ok(CloseJob::Batch(BatchJob {
            transaction,
            tickets: self.tickets.into_iter().map(|ticket| ticket.spec).collect(),
            coins: self.coins,
            hub_scripts: vec![self.hub_script],
            fees: self.fees,
            max_hub_fee: self.max_hub_fee,
        }))
    }
}

fn sum(mut amounts: impl Iterator<Item = Amount>) -> Result<Amount, BatchError> {
    amounts
        .try_fold(Amount::ZERO, Amount::checked_add)
        .filter(|sum| *sum <= Amount::MAX_MONEY)
        .ok_or(BatchError::ImpossibleSum)
}
