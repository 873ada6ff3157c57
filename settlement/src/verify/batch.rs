//! The rules of a batch of tickets, in the order in which they are checked.

use std::collections::HashSet;

use bitcoin::hashes::Hash;
use bitcoin::secp256k1::Message;
use bitcoin::sighash::SighashCache;
use bitcoin::{Amount, EcdsaSighashType, OutPoint, ScriptBuf, Transaction, TxOut, Witness, ecdsa};
use channel::closing::{BATCH_LOCK_TIME, BATCH_SEQUENCE, BATCH_VERSION, TicketSpec};
use channel::keys::Point;
use secp256k1::SECP256K1;

use super::FeeShares;
use super::coin::check_coin;
use crate::fees::{FeeBounds, fee_for};
use crate::flaw::{Flaw, Party};
use crate::limits;

/// A confirmed coin of the hub's that pays what the tickets' fees do not cover.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchCoin {
    /// Where it is.
    pub outpoint: OutPoint,
    /// Its amount and script, P2WPKH or P2TR.
    pub output: TxOut,
}

/// A signed batch and what was agreed about it. The transaction is what is doubted; everything else comes from the
/// hub's own state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchJob {
    /// The transaction, signed by both parties of each channel.
    pub transaction: Transaction,
    /// What each frozen channel agreed to, in the order of the inputs: those with a payout first.
    pub tickets: Vec<TicketSpec>,
    /// Coins of the hub's, whose inputs follow the tickets'.
    pub coins: Vec<BatchCoin>,
    /// Scripts of the hub's on-chain wallet; outputs beyond the wallets' pay to these.
    pub hub_scripts: Vec<ScriptBuf>,
    /// Lowest and highest feerate.
    pub fees: FeeBounds,
    /// The most that the hub adds to the wallets' agreed fees.
    pub max_hub_fee: Amount,
}

/// A batch that kept all rules but those of its signatures.
pub(crate) struct PreparedBatch<'a> {
    job: &'a BatchJob,
    /// What the hub signs at each ticket's input.
    hub_messages: Vec<Message>,
    fees: FeeShares,
}

impl<'a> PreparedBatch<'a> {
    pub(crate) fn new(job: &'a BatchJob) -> Result<Self, Flaw> {
        check_form(job)?;
        check_tickets(job)?;
        check_inputs(job)?;
        check_outputs(job)?;
        let fees = check_amounts(job)?;
        let mut cache = SighashCache::new(&job.transaction);
        let message = |(index, ticket): (usize, &TicketSpec)| {
            let script = ticket.witness_script();
            cache
                .p2wsh_signature_hash(index, &script, ticket.funding_amount, EcdsaSighashType::All)
                .map(|sighash| Message::from_digest(sighash.to_byte_array()))
                .expect("an input for each ticket was checked to exist")
        };
        let hub_messages = job.tickets.iter().enumerate().map(message).collect();
        Ok(Self { job, hub_messages, fees })
    }

    /// Tickets whose signatures are to be checked.
    pub(crate) fn len(&self) -> usize {
        self.hub_messages.len()
    }

    /// Both signatures of one ticket's input.
    pub(crate) fn check_signatures(&self, index: usize) -> Result<(), Flaw> {
        let ticket = &self.job.tickets[index];
        let witness = &self.job.transaction.input[index].witness;
        let (first, second) = witness_parts(index, ticket, witness)?;
        let (wallet, hub) =
            if ticket.wallet_key <= ticket.hub_key { (first, second) } else { (second, first) };
        let wallet = Signed { index, party: Party::Wallet, key: ticket.wallet_key, bytes: wallet };
        wallet.check(ticket.sighash_type(), &ticket.sighash())?;
        let hub = Signed { index, party: Party::Hub, key: ticket.hub_key, bytes: hub };
        hub.check(EcdsaSighashType::All, &self.hub_messages[index])
    }

    /// The hub's own coins, after the tickets.
    pub(crate) fn finish(&self) -> Result<FeeShares, Flaw> {
        let job = self.job;
        if job.coins.is_empty() {
            return Ok(self.fees);
        }
        let tickets = job.tickets.iter().map(TicketSpec::spent_output);
        let prevouts: Vec<TxOut> = tickets.chain(job.coins.iter().map(|coin| coin.output.clone())).collect();
        let mut cache = SighashCache::new(&job.transaction);
        for index in job.tickets.len()..prevouts.len() {
            let witness = &job.transaction.input[index].witness;
            check_coin(&mut cache, index, &prevouts, witness).map_err(|flaw| Flaw::Coin { index, flaw })?;
        }
        Ok(self.fees)
    }
}

fn check_form(job: &BatchJob) -> Result<(), Flaw> {
    let transaction = &job.transaction;
    if transaction.version != BATCH_VERSION {
        return Err(Flaw::Version { found: transaction.version, expected: BATCH_VERSION });
    }
    if transaction.lock_time != BATCH_LOCK_TIME {
        return Err(Flaw::LockTime { found: transaction.lock_time, expected: BATCH_LOCK_TIME });
    }
    Ok(())
}

fn check_tickets(job: &BatchJob) -> Result<(), Flaw> {
    if job.tickets.is_empty() {
        return Err(Flaw::NoTickets);
    }
    let mut payouts_ended = false;
    for (index, ticket) in job.tickets.iter().enumerate() {
        ticket.check().map_err(|flaw| Flaw::Ticket { index, flaw })?;
        match ticket.payout() {
            None => payouts_ended = true,
            Some(_) if payouts_ended => return Err(Flaw::TicketOrder { index }),
            Some(_) => {}
        }
    }
    Ok(())
}

fn check_inputs(job: &BatchJob) -> Result<(), Flaw> {
    let tickets = job.tickets.iter().map(|ticket| ticket.funding_outpoint);
    let expected: Vec<OutPoint> = tickets.chain(job.coins.iter().map(|coin| coin.outpoint)).collect();
    let inputs = &job.transaction.input;
    if inputs.len() != expected.len() {
        return Err(Flaw::InputCount { found: inputs.len(), expected: expected.len() });
    }
    let mut seen = HashSet::with_capacity(inputs.len());
    for (index, (input, expected)) in inputs.iter().zip(expected).enumerate() {
        let found = input.previous_output;
        if !seen.insert(found) {
            return Err(Flaw::DuplicateInput { index, outpoint: found });
        }
        if found != expected {
            return Err(Flaw::Input { index, found, expected });
        }
        if input.sequence != BATCH_SEQUENCE {
            return Err(Flaw::Sequence { index, found: input.sequence, expected: BATCH_SEQUENCE });
        }
        if !input.script_sig.is_empty() {
            return Err(Flaw::ScriptSig { index });
        }
    }
    Ok(())
}

fn check_outputs(job: &BatchJob) -> Result<(), Flaw> {
    let outputs = &job.transaction.output;
    let mut paired = 0;
    for (index, payout) in job.tickets.iter().map_while(TicketSpec::payout).enumerate() {
        let expected = payout.value;
        let output = outputs.get(index).ok_or(Flaw::MissingPayout { index, expected })?;
        if output.value != expected {
            return Err(Flaw::PayoutAmount { index, found: output.value, expected });
        }
        if output.script_pubkey != payout.script_pubkey {
            let found = output.script_pubkey.clone();
            return Err(Flaw::PayoutScript { index, found, expected: payout.script_pubkey });
        }
        paired = index + 1;
    }
    for (index, output) in outputs.iter().enumerate().skip(paired) {
        let value = output.value;
        if !job.hub_scripts.contains(&output.script_pubkey) {
            return Err(Flaw::ForeignOutput { index, value });
        }
        let minimum = output.script_pubkey.minimal_non_dust();
        if value < minimum {
            return Err(Flaw::Dust { index, value, minimum });
        }
    }
    if outputs.is_empty() {
        return Err(Flaw::NoOutputs);
    }
    Ok(())
}

fn check_amounts(job: &BatchJob) -> Result<FeeShares, Flaw> {
    let fundings = sum(job.tickets.iter().map(|ticket| ticket.funding_amount))?;
    let coins = sum(job.coins.iter().map(|coin| coin.output.value))?;
    let inputs = sum([fundings, coins].into_iter())?;
    let outputs = sum(job.transaction.output.iter().map(|output| output.value))?;
    let total = inputs.checked_sub(outputs).ok_or(Flaw::Overspent { inputs, outputs })?;
    let weight = job.transaction.weight();
    if weight > limits::STANDARD_WEIGHT {
        return Err(Flaw::Weight { found: weight, maximum: limits::STANDARD_WEIGHT });
    }
    let minimum = fee_for(job.fees.floor(), weight);
    if total < minimum {
        return Err(Flaw::FeeTooLow { found: total, minimum });
    }
    let maximum = fee_for(job.fees.ceiling(), weight);
    if total > maximum {
        return Err(Flaw::FeeTooHigh { found: total, maximum });
    }
    let balances = sum(job.tickets.iter().map(|ticket| ticket.wallet_balance.to_sat_floor()))?;
    let payouts = sum(job.tickets.iter().filter_map(TicketSpec::payout).map(|payout| payout.value))?;
    // No payout exceeds its balance: the dust limit, to which it is raised, is at most the balance.
    let from_wallets = balances.checked_sub(payouts).ok_or(Flaw::ImpossibleSum)?;
    let from_hub = total.checked_sub(from_wallets).unwrap_or(Amount::ZERO);
    let to_hub = from_wallets.checked_sub(total).unwrap_or(Amount::ZERO);
    if from_hub > job.max_hub_fee {
        return Err(Flaw::HubFee { found: from_hub, maximum: job.max_hub_fee });
    }
    Ok(FeeShares { total, from_wallets, from_hub, to_hub })
}

fn sum(mut amounts: impl Iterator<Item = Amount>) -> Result<Amount, Flaw> {
    amounts
        .try_fold(Amount::ZERO, Amount::checked_add)
        .filter(|sum| *sum <= Amount::MAX_MONEY)
        .ok_or(Flaw::ImpossibleSum)
}

/// The two signatures of a 2-of-2 witness, in the order of the keys.
fn witness_parts<'a>(
    index: usize,
    ticket: &TicketSpec,
    witness: &'a Witness,
) -> Result<(&'a [u8], &'a [u8]), Flaw> {
    let found = witness.len();
    let mut elements = witness.iter();
    let parts = (elements.next(), elements.next(), elements.next(), elements.next());
    let (Some(empty), Some(first), Some(second), Some(script)) = parts else {
        return Err(Flaw::WitnessForm { index, found });
    };
    if found != 4 || !empty.is_empty() {
        return Err(Flaw::WitnessForm { index, found });
    }
    if script != ticket.witness_script().as_bytes() {
        return Err(Flaw::WitnessScript { index });
    }
    Ok((first, second))
}

/// One signature of a channel's input.
struct Signed<'a> {
    index: usize,
    party: Party,
    key: Point,
    bytes: &'a [u8],
}

impl Signed<'_> {
    fn check(&self, expected: EcdsaSighashType, message: &Message) -> Result<(), Flaw> {
        let (index, party) = (self.index, self.party);
        let signature =
            ecdsa::Signature::from_slice(self.bytes).map_err(|_| Flaw::SignatureEncoding { index, party })?;
        if signature.sighash_type != expected {
            return Err(Flaw::SighashType { index, party, found: signature.sighash_type, expected });
        }
        let wrong = Flaw::Signature { index, party };
        let key = self.key.parse().map_err(|_| wrong.clone())?;
        SECP256K1.verify_ecdsa(message, &signature.signature, &key).map_err(|_| wrong)
    }
}
