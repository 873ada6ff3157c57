//! Everything a node is, behind one lock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::{Amount, FeeRate, Transaction, Txid, Wtxid};

use super::blocks::Chain;
use super::faucet::Faucet;
use super::mempool::Mempool;
use super::policy;
use super::scripts::Verified;
use crate::clock::Clock;
use crate::seed::Seed;

/// How full the mempool is of what others pay, and what `estimatesmartfee` makes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pressure {
    /// The lowest feerate that the mempool takes and keeps.
    pub minimum: FeeRate,
    /// What `estimatesmartfee` says for a target of so many blocks, and for those up to the next; for targets below the first
    /// what the first says. Empty: nothing is known, as on a young chain.
    pub estimates: BTreeMap<u16, FeeRate>,
}

impl Default for Pressure {
    /// None, and nothing known.
    fn default() -> Self {
        Pressure { minimum: FeeRate::ZERO, estimates: BTreeMap::new() }
    }
}

impl Pressure {
    /// The same feerate for every target, and any feerate taken.
    pub fn flat(feerate: FeeRate) -> Pressure {
        Pressure { minimum: FeeRate::ZERO, estimates: BTreeMap::from([(1, feerate)]) }
    }

    /// In satoshi per 1000 virtual bytes.
    pub(super) fn minimum_per_kvb(&self) -> u64 {
        self.minimum.to_sat_per_kwu().saturating_mul(4)
    }

    /// What is said for this target, per 1000 virtual bytes.
    pub(super) fn estimate(&self, target: u16) -> Option<Amount> {
        let below = self.estimates.range(..=target).next_back();
        let (_, feerate) = below.or_else(|| self.estimates.first_key_value())?;
        let said = feerate.to_sat_per_kwu().saturating_mul(4);
        Some(Amount::from_sat(said.max(self.minimum_per_kvb()).max(policy::MIN_RELAY_PER_KVB)))
    }
}

/// How the node answers one caller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Health {
    pub down: bool,
    /// What every answer takes.
    pub slow: Option<Duration>,
}

/// A transaction that a client sent, and the node's answer.
#[derive(Clone, Debug)]
pub struct Submission {
    /// Who sent it.
    pub label: Arc<str>,
    /// What, with its witness.
    pub transaction: Arc<Transaction>,
    /// Its id.
    pub txid: Txid,
    /// The node's height then.
    pub height: u32,
    /// Whether the mempool or the chain holds it now, or why not.
    pub answer: Result<(), String>,
}

/// Everything that clients sent, in order. What is sent again with the same success is not written down again.
#[derive(Default)]
pub(super) struct Submissions {
    pub all: Vec<Submission>,
    last: BTreeMap<(Arc<str>, Wtxid), bool>,
}

impl Submissions {
    pub(super) fn note(&mut self, submission: Submission) {
        let key = (Arc::clone(&submission.label), submission.transaction.compute_wtxid());
        let accepted = submission.answer.is_ok();
        if self.last.insert(key, accepted) != Some(accepted) {
            self.all.push(submission);
        }
    }
}

pub(super) struct State {
    pub chain: Chain,
    pub pool: Mempool,
    pub verified: Verified,
    pub faucet: Faucet,
    pub pressure: Pressure,
    /// The lowest feerate that the mempool took while it waited for the block of each height.
    pub minimums: BTreeMap<u32, FeeRate>,
    /// By caller; who is not named is answered at once.
    pub health: BTreeMap<String, Health>,
    /// Down for everybody.
    pub down: bool,
    pub submissions: Submissions,
    pub clock: Clock,
    /// By how much blocks are dated back.
    pub behind_ms: u64,
    pub seed: Seed,
    /// Blocks ever made here, so that no two are alike.
    pub made: u64,
}

impl State {
    /// What the mempool takes now counts for the next block.
    pub(super) fn note_minimum(&mut self) {
        let minimum = self.pressure.minimum;
        let noted = self.minimums.entry(self.chain.height().saturating_add(1)).or_insert(minimum);
        *noted = minimum.min(*noted);
    }

    pub(super) fn new(seed: Seed, clock: Clock) -> State {
        State {
            chain: Chain::new(),
            pool: Mempool::default(),
            verified: Verified::default(),
            faucet: Faucet::default(),
            pressure: Pressure::default(),
            minimums: BTreeMap::new(),
            health: BTreeMap::new(),
            down: false,
            submissions: Submissions::default(),
            clock,
            behind_ms: 0,
            seed,
            made: 0,
        }
    }

    pub(super) fn is_down(&self, label: &str) -> bool {
        self.down || self.health.get(label).is_some_and(|health| health.down)
    }

    pub(super) fn slow(&self, label: &str) -> Option<Duration> {
        self.health.get(label).and_then(|health| health.slow)
    }
}
