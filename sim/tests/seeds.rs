//! Runs of the simulator: a fixed set. Each is a whole life of a hub and its wallets.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

use sim::chronicle::Chronicle;
use sim::plan::{Faults, Plan};
use sim::report::Outcome;
use sim::run::run;
use sim::seed::Seed;

/// The fixed set: so many seeds, from 1.
const FIXED: u64 = 6;
/// Steps of each.
const STEPS: u64 = 200;

fn plan(seed: u64, steps: u64, faults: &str) -> Plan {
    Plan { seed: Seed(seed), steps, faults: faults.parse::<Faults>().unwrap(), wallets: None }
}

fn check(plan: &Plan) -> Outcome {
    let outcome = run(plan, &Chronicle::default());
    if let Some(failure) = &outcome.failure {
        let last = failure.last.iter().rev().take(60).rev().cloned().collect::<Vec<_>>().join("\n");
        panic!("{last}\n\n{}\nagain: {}", failure.broken, plan.command());
    }
    outcome
}

#[test]
fn the_fixed_seeds_break_no_rule() {
    let mut payments = 0;
    for seed in 1..=FIXED {
        payments += check(&plan(seed, STEPS, "all")).counts.payments;
    }
    assert!(payments > 0, "nobody was ever paid");
}

#[test]
fn a_run_without_faults_pays_and_closes_everything() {
    let outcome = check(&plan(1, STEPS, "none"));
    assert!(outcome.counts.payments > 5, "{:?}", outcome.counts);
    assert_eq!(outcome.counts.crashes, 0);
}

#[test]
fn two_runs_of_a_seed_are_equal_event_by_event() {
    let plan = plan(2, STEPS, "all");
    let (one, other) = (run(&plan, &Chronicle::default()), run(&plan, &Chronicle::default()));
    assert_eq!(hex::encode(one.hash), hex::encode(other.hash));
    assert_eq!(one.counts, other.counts);
    assert_ne!(one.hash, run(&Plan { seed: Seed(3), ..plan }, &Chronicle::default()).hash);
}
