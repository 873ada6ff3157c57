//! What runs came to, for eyes and for scripts.

use std::collections::BTreeMap;
use std::fmt::Write;

use bitcoin::hashes::{Hash, HashEngine, sha256};
use serde_json::{Value, json};

use crate::audit::Broken;
use crate::chronicle::Pair;
use crate::coverage;
use crate::plan::Plan;

/// What one run came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub plan: Plan,
    pub counts: Counts,
    pub pairs: BTreeMap<Pair, u64>,
    pub hash: [u8; 32],
    pub failure: Option<Failure>,
}

/// What happened, by number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub steps: u64,
    /// Settled, as told by their payers; ticks of streams not counted.
    pub payments: u64,
    pub crashes: u64,
    pub reorgs: u64,
    /// Channels in which an old state was published and everything went to the other side.
    pub cheats_punished: u64,
    pub blocks: u64,
}

/// A rule that was broken, and what came before.
#[derive(Clone, Debug)]
pub struct Failure {
    pub broken: Broken,
    pub at_step: u64,
    pub last: Vec<String>,
}

/// Many runs.
pub struct Report {
    seeds: u64,
    counts: Counts,
    /// In how many runs each was met.
    pairs: BTreeMap<Pair, u64>,
    engine: sha256::HashEngine,
    failed: Vec<Outcome>,
}

impl Default for Report {
    fn default() -> Self {
        Report {
            seeds: 0,
            counts: Counts::default(),
            pairs: BTreeMap::new(),
            engine: sha256::Hash::engine(),
            failed: Vec::new(),
        }
    }
}

impl Report {
    /// Takes one in. The order decides the hash.
    pub fn add(&mut self, outcome: Outcome) {
        self.seeds += 1;
        let Counts { steps, payments, crashes, reorgs, cheats_punished, blocks } = outcome.counts;
        self.counts.steps += steps;
        self.counts.payments += payments;
        self.counts.crashes += crashes;
        self.counts.reorgs += reorgs;
        self.counts.cheats_punished += cheats_punished;
        self.counts.blocks += blocks;
        for pair in outcome.pairs.keys() {
            *self.pairs.entry(*pair).or_default() += 1;
        }
        self.engine.input(&outcome.hash);
        if outcome.failure.is_some() {
            self.failed.push(outcome);
        }
    }

    /// The runs that broke a rule, in the order in which they were added.
    pub fn failed(&self) -> &[Outcome] {
        &self.failed
    }

    /// The hash of all runs' hashes, in their order.
    pub fn run_hash(&self) -> [u8; 32] {
        sha256::Hash::from_engine(self.engine.clone()).to_byte_array()
    }

    fn visited(&self) -> usize {
        self.pairs.keys().filter(|pair| coverage::is_reachable(**pair)).count()
    }

    /// One object, for scripts.
    pub fn to_json(&self) -> Value {
        let Counts { steps, payments, crashes, reorgs, cheats_punished, blocks } = self.counts;
        let first = self.failed.first().and_then(|outcome| {
            let failure = outcome.failure.as_ref()?;
            Some(json!({
                "seed": outcome.plan.seed.0,
                "step": failure.at_step,
                "rule": failure.broken.rule,
                "what": failure.broken.what,
                "replay": outcome.plan.command(),
                "last_events": failure.last,
            }))
        });
        json!({
            "seeds": self.seeds,
            "failures": self.failed.len(),
            "steps": steps,
            "payments": payments,
            "crashes": crashes,
            "reorgs": reorgs,
            "blocks": blocks,
            "cheats_punished": cheats_punished,
            "pairs_visited": self.visited(),
            "pairs_reachable": coverage::reachable().count(),
            "run_hash": hex::encode(self.run_hash()),
            "first_failure": first,
        })
    }

    /// The same for eyes. `lines`: how many of the first failure's last events.
    pub fn to_text(&self, lines: usize) -> String {
        let json = self.to_json();
        let mut text = String::new();
        let names = [
            "seeds",
            "failures",
            "steps",
            "payments",
            "crashes",
            "reorgs",
            "blocks",
            "cheats_punished",
            "pairs_visited",
            "pairs_reachable",
            "run_hash",
        ];
        for name in names {
            let value = match &json[name] {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            // Writing into a string cannot fail.
            let _ = writeln!(text, "{name:<16} {value}");
        }
        let Some(outcome) = self.failed.first() else { return text };
        let Some(failure) = &outcome.failure else { return text };
        let skipped = failure.last.len().saturating_sub(lines);
        let _ = writeln!(text, "\nseed {} failed at step {}", outcome.plan.seed.0, failure.at_step);
        for line in failure.last.iter().skip(skipped) {
            let _ = writeln!(text, "  {line}");
        }
        let _ = writeln!(text, "\n{}\nagain: {}", failure.broken, outcome.plan.command());
        text
    }

    /// The pairs that so many runs met at most, but at least one.
    pub fn seldom(&self, most: u64) -> Vec<(Pair, u64)> {
        self.pairs.iter().filter(|(_, runs)| **runs <= most).map(|(pair, runs)| (*pair, *runs)).collect()
    }

    /// The pairs that can be reached and were not.
    pub fn missing(&self) -> Vec<Pair> {
        coverage::reachable().filter(|pair| !self.pairs.contains_key(pair)).collect()
    }
}
