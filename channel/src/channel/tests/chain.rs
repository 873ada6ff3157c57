//! A chain in memory: blocks with real transactions, checked by Bitcoin's interpreter, mined and undone; and what both
//! ends are told of it, as a settlement desk tells it.

use std::collections::BTreeMap;

use bitcoin::transaction::Version;
use bitcoin::{OutPoint, ScriptBuf, Transaction, TxOut, Txid};

use super::pair::*;
use crate::channel::{Channel, PhaseView};
use crate::claim::{Claim, SpendPath};
use crate::effect::Effect;
use crate::event::{ChainEvent, Command, FailRequest};
use crate::signer::Signer;

/// Confirmations from which a spend is told as final.
pub(super) const FINAL_DEPTH: u32 = 5;

/// A spend that an end was told of.
#[derive(Clone)]
struct Told {
    height: u32,
    outpoint: OutPoint,
    txid: Txid,
    is_final: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    First,
    Second,
}

/// What one end watches, and what it was told.
#[derive(Default)]
struct Desk {
    outputs: BTreeMap<OutPoint, Stage>,
    told: Vec<Told>,
}

pub(super) struct World {
    pub(super) pair: Pair,
    pub(super) funding: (OutPoint, TxOut),
    /// From height `HEIGHT + 1` on.
    pub(super) blocks: Vec<Vec<Transaction>>,
    hub_desk: Desk,
    wallet_desk: Desk,
}

pub(super) fn payout_of(who: Who) -> ScriptBuf {
    payout_script(match who {
        Who::Hub => 101,
        Who::Wallet => 102,
    })
}

impl World {
    pub(super) fn new(pair: Pair) -> Self {
        let channel = pair.hub.channel();
        let funding = (channel.funding_outpoint().unwrap(), channel.context().funding_output());
        Self { pair, funding, blocks: Vec::new(), hub_desk: Desk::default(), wallet_desk: Desk::default() }
    }

    pub(super) fn tip(&self) -> u32 {
        HEIGHT + u32::try_from(self.blocks.len()).unwrap()
    }

    /// Unspent outputs with the heights of their blocks.
    pub(super) fn unspent(&self) -> BTreeMap<OutPoint, (TxOut, u32)> {
        let mut unspent = BTreeMap::from([(self.funding.0, (self.funding.1.clone(), HEIGHT))]);
        for (height, block) in (HEIGHT + 1..).zip(&self.blocks) {
            for transaction in block {
                for input in &transaction.input {
                    unspent.remove(&input.previous_output);
                }
                let txid = transaction.compute_txid();
                for (vout, output) in (0..).zip(&transaction.output) {
                    unspent.insert(OutPoint { txid, vout }, (output.clone(), height));
                }
            }
        }
        unspent
    }

    /// Whether the next block may hold the transaction. Whatever spends what is there must be valid.
    pub(super) fn is_minable(&self, transaction: &Transaction) -> bool {
        let unspent = self.unspent();
        let next = self.tip() + 1;
        let spent: Option<Vec<_>> =
            transaction.input.iter().map(|input| unspent.get(&input.previous_output)).collect();
        let Some(spent) = spent else { return false };
        let bytes = bitcoin::consensus::serialize(transaction);
        for (index, (output, _)) in spent.iter().enumerate() {
            let script = output.script_pubkey.as_bytes();
            bitcoinconsensus::verify(script, output.value.to_sat(), &bytes, None, index)
                .unwrap_or_else(|error| panic!("input {index}: {error:?}"));
        }
        let paid: u64 = transaction.output.iter().map(|output| output.value.to_sat()).sum();
        assert!(paid <= spent.iter().map(|(output, _)| output.value.to_sat()).sum());
        let waited = transaction.input.iter().zip(&spent).all(|(input, (_, height))| {
            let blocks = match input.sequence.to_relative_lock_time() {
                Some(bitcoin::relative::LockTime::Blocks(blocks)) => u32::from(blocks.value()),
                Some(bitcoin::relative::LockTime::Time(_)) | None => 0,
            };
            height + blocks <= next
        });
        let reached = transaction.lock_time.to_consensus_u32();
        waited && (reached < next || reached >= 500_000_000)
    }

    /// A block with those of the transactions that may be in it; gives how many were.
    pub(super) fn mine(&mut self, transactions: impl IntoIterator<Item = Transaction>) -> usize {
        let mut block: Vec<Transaction> = Vec::new();
        for transaction in transactions {
            // Nothing here spends within a block.
            let spent = |outpoint| {
                let mut inputs = block.iter().flat_map(|other| &other.input);
                inputs.any(|input| input.previous_output == outpoint)
            };
            let conflicts = transaction.input.iter().any(|input| spent(input.previous_output));
            if !conflicts && self.is_minable(&transaction) {
                block.push(transaction);
            }
        }
        let taken = block.len();
        self.blocks.push(block.clone());
        for who in Who::BOTH {
            self.connect(who, &block);
        }
        taken
    }

    pub(super) fn mine_empty(&mut self, blocks: u32) {
        for _ in 0..blocks {
            self.mine([]);
        }
    }

    fn parts(&mut self, who: Who) -> (&mut End, &mut Desk) {
        match who {
            Who::Hub => (&mut self.pair.hub, &mut self.hub_desk),
            Who::Wallet => (&mut self.pair.wallet, &mut self.wallet_desk),
        }
    }

    fn connect(&mut self, who: Who, block: &[Transaction]) {
        let (height, funding) = (self.tip(), self.funding.0);
        let (end, desk) = self.parts(who);
        end.height = height;
        for transaction in block {
            let txid = transaction.compute_txid();
            for (index, input) in transaction.input.iter().enumerate() {
                let outpoint = input.previous_output;
                let told = Told { height, outpoint, txid, is_final: false };
                if outpoint == funding {
                    for vout in 0..u32::try_from(transaction.output.len()).unwrap() {
                        desk.outputs.insert(OutPoint { txid, vout }, Stage::First);
                    }
                    desk.told.push(told);
                    end.funding_spent(height, transaction);
                } else if let Some(stage) = desk.outputs.get(&outpoint).copied() {
                    if stage == Stage::First && transaction.output.get(index).is_some() {
                        let vout = u32::try_from(index).unwrap();
                        desk.outputs.insert(OutPoint { txid, vout }, Stage::Second);
                    }
                    desk.told.push(told);
                    let transaction = transaction.clone();
                    end.chain(ChainEvent::OutputSpent { outpoint, height, transaction }).unwrap();
                }
            }
        }
        let mut buried: Vec<_> = Vec::new();
        for told in &mut desk.told {
            if !told.is_final && height - told.height + 1 >= FINAL_DEPTH {
                told.is_final = true;
                buried.push(told.clone());
            }
        }
        for Told { outpoint, txid, .. } in buried {
            let event = if outpoint == funding {
                ChainEvent::SpendFinal { height, txid }
            } else {
                ChainEvent::OutputSpendFinal { outpoint, height, txid }
            };
            end.chain(event).unwrap();
        }
        while end.channel().next_deadline().is_some_and(|deadline| deadline <= height) {
            end.chain(ChainEvent::Deadline { height }).unwrap();
        }
    }

    /// How many blocks may be undone.
    pub(super) fn undoable(&self) -> u32 {
        let buried = |desk: &Desk| {
            desk.told.iter().filter(|told| told.is_final).map(|told| told.height + FINAL_DEPTH - 1).max()
        };
        let floor = buried(&self.hub_desk).into_iter().chain(buried(&self.wallet_desk)).max();
        let floor = floor.unwrap_or(HEIGHT);
        self.tip().saturating_sub(floor).min(FINAL_DEPTH - 1)
    }

    /// Takes the last block back.
    pub(super) fn undo(&mut self) -> Vec<Transaction> {
        let (height, funding) = (self.tip(), self.funding.0);
        for who in Who::BOTH {
            let (end, desk) = self.parts(who);
            while desk.told.last().is_some_and(|told| told.height == height) {
                let Told { outpoint, txid, .. } = desk.told.pop().unwrap();
                desk.outputs.retain(|made, _| made.txid != txid);
                let event = if outpoint == funding {
                    ChainEvent::SpendUndone { txid }
                } else {
                    ChainEvent::OutputSpendUndone { outpoint, txid }
                };
                end.chain(event).unwrap();
            }
            end.height = height - 1;
        }
        self.blocks.pop().unwrap()
    }

    /// The transaction of this end's latest commitment.
    pub(super) fn commitment(&mut self, who: Who) -> Transaction {
        let end = self.pair.end(who);
        let _ = end.command(Command::Fail { reason: FailRequest::Operator });
        end.channel().publish_job(&end.signer).expect("it may be published").transaction
    }

    /// Puts a copy of an older state in the place of this end: it cheats.
    pub(super) fn turn_back(&mut self, who: Who, old: &Channel) {
        let end = self.pair.end(who);
        end.channel = Some(old.clone());
        end.take_snapshot();
        end.command(Command::Disconnected).unwrap();
        end.command(Command::Fail { reason: FailRequest::Operator }).unwrap();
    }

    /// Claims of this end that are unspent.
    pub(super) fn open_claims(&mut self, who: Who) -> Vec<Claim> {
        let unspent = self.unspent();
        let end = self.pair.end(who);
        let plan = end.channel().onchain_plan(&end.signer);
        plan.claims.into_iter().filter(|claim| unspent.contains_key(&claim.outpoint)).collect()
    }

    /// Those that the next block may hold.
    pub(super) fn due_claims(&mut self, who: Who) -> Vec<Claim> {
        let next = self.tip() + 1;
        self.open_claims(who).into_iter().filter(|claim| claim.earliest_height <= next).collect()
    }

    /// One transaction that takes these claims, signed, each witness checked.
    pub(super) fn take(&mut self, who: Who, claims: &[Claim]) -> Transaction {
        let end = self.pair.end(who);
        let key_id = end.channel().key_id();
        let output = |claim: &Claim| match claim.paired_output() {
            Some(output) => output.clone(),
            None => TxOut { value: claim.output.value, script_pubkey: payout_of(who) },
        };
        let mut transaction = Transaction {
            version: claims[0].fixed_version().unwrap_or(Version::TWO),
            lock_time: claims
                .iter()
                .map(Claim::lock_time)
                .max_by_key(|lock| lock.to_consensus_u32())
                .unwrap(),
            input: claims.iter().map(Claim::unsigned_input).collect(),
            output: claims.iter().map(output).collect(),
        };
        for (index, claim) in claims.iter().enumerate() {
            let signature = end.signer.sign_claim(&key_id, claim, &transaction, index).unwrap();
            transaction.input[index].witness = claim.witness(&signature).unwrap();
        }
        for (index, claim) in claims.iter().enumerate() {
            claim.check_witness(&transaction, index).unwrap();
        }
        transaction
    }

    /// One transaction a claim.
    pub(super) fn take_each(&mut self, who: Who, claims: &[Claim]) -> Vec<Transaction> {
        claims.iter().map(|claim| self.take(who, std::slice::from_ref(claim))).collect()
    }

    /// As few transactions as the claims allow.
    pub(super) fn take_together(&mut self, who: Who, claims: &[Claim]) -> Vec<Transaction> {
        let mut groups: BTreeMap<Option<u32>, Vec<Claim>> = BTreeMap::new();
        for claim in claims {
            let exact = match claim.path {
                SpendPath::Direct { .. } => None,
                SpendPath::HtlcTransaction { .. } => Some(claim.lock_time().to_consensus_u32()),
            };
            groups.entry(exact).or_default().push(claim.clone());
        }
        groups.into_values().map(|claims| self.take(who, &claims)).collect()
    }

    /// Mines until this end is closed, taking its claims as they become due.
    pub(super) fn run_to_the_end(&mut self, ends: &[Who]) {
        for _ in 0..2_000 {
            if ends.iter().all(|who| self.is_closed(*who)) {
                return;
            }
            let mut transactions = Vec::new();
            for who in ends {
                let due = self.due_claims(*who);
                transactions.extend(self.take_each(*who, &due));
            }
            self.mine(transactions);
        }
        panic!("the channel never ends: {:?}", self.pair.end(ends[0]).channel().view().onchain);
    }

    pub(super) fn is_closed(&mut self, who: Who) -> bool {
        matches!(self.pair.end(who).channel().phase(), PhaseView::Closed { .. })
    }

    /// What this end holds on the chain.
    pub(super) fn owned(&self, who: Who) -> u64 {
        let mine = self.unspent().into_values().filter(|(output, _)| output.script_pubkey == payout_of(who));
        mine.map(|(output, _)| output.value.to_sat()).sum()
    }

    pub(super) fn is_finished(&mut self, who: Who) -> bool {
        self.pair.end(who).effects.contains(&Effect::Finished)
    }
}

impl End {
    /// The shard adds what the revocation log knows.
    fn funding_spent(&mut self, height: u32, transaction: &Transaction) {
        let number = self.channel().revoked_number(transaction);
        let revoked_htlcs = number.and_then(|number| self.revoked.get(&number).cloned());
        let transaction = transaction.clone();
        self.chain(ChainEvent::FundingSpent { height, transaction, revoked_htlcs }).unwrap();
    }
}
