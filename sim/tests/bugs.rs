//! The auditor is tested by faults made on purpose: it must catch each by itself, within a bounded number of seeds.

#![cfg(feature = "deliberate-bugs")]

use channel::bug::{Bug, set};
use sim::chronicle::Chronicle;
use sim::plan::{Faults, Plan};
use sim::run::run;
use sim::seed::Seed;

/// Most seeds that a fault may go unseen.
const MOST_SEEDS: u64 = 60;
const STEPS: u64 = 300;

/// The seed that caught the fault, and the rule that it broke.
fn caught(bug: Bug) -> Option<(u64, String)> {
    set(Some(bug));
    let found = (1..=MOST_SEEDS).find_map(|seed| {
        let plan = Plan { seed: Seed(seed), steps: STEPS, faults: Faults::all(), wallets: None };
        let failure = run(&plan, &Chronicle::default()).failure?;
        Some((seed, failure.broken.to_string()))
    });
    set(None);
    found
}

#[test]
fn every_fault_made_on_purpose_is_caught() {
    let mut missed = Vec::new();
    for bug in Bug::ALL {
        match caught(bug) {
            Some((seed, broken)) => println!("{:<28} seed {seed:>3}  {broken:.120}", bug.name()),
            None => missed.push(bug.name()),
        }
    }
    assert!(missed.is_empty(), "not caught within {MOST_SEEDS} seeds: {missed:?}");
}
