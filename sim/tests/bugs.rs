//! The auditor is tested by faults made on purpose: it must catch each by itself, within a bounded number of seeds.

#![cfg(feature = "deliberate-bugs")]

use std::num::NonZero;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use channel::bug::{Bug, set};
use sim::chronicle::Chronicle;
use sim::plan::Plan;
use sim::run::run;
use sim::seed::Seed;

/// How a fault is looked for: what may go wrong besides, the steps of each run, and the seeds, of which one must fail.
struct Search {
    bug: Bug,
    faults: &'static str,
    steps: u64,
    seeds: std::ops::RangeInclusive<u64>,
}

const fn search(bug: Bug, faults: &'static str, steps: u64, seeds: std::ops::RangeInclusive<u64>) -> Search {
    Search { bug, faults, steps, seeds }
}

/// Every fault, once.
const SEARCHES: [Search; 26] = [
    // --- Forwards between shards ---------------------------------------------------------------------------------------
    search(Bug::AcknowledgementForgotten, "crash,net", 80, 1..=20),
    search(Bug::ChoiceNotJournaled, "crash,net", 100, 1..=40),
    search(Bug::AttemptsNotNumbered, "all", 300, 1..=60),
    search(Bug::FailedBeforeIrrevocable, "crash,net", 100, 1..=40),
    search(Bug::SignedTooLate, "crash,net", 100, 1..=40),
    search(Bug::NotReemitted, "crash,net", 80, 1..=20),
    search(Bug::ExpiredAddSentAgain, "crash,net", 80, 1..=40),
    // --- Disks, channels and wallets -----------------------------------------------------------------------------------
    search(Bug::EffectsBeforeFsync, "crash", 120, 1..=40),
    search(Bug::AnswersBeforeFsync, "crash", 120, 1..=40),
    search(Bug::CommitmentNumberReused, "none", 40, 1..=20),
    search(Bug::TrimmedAtWrongBound, "none", 60, 1..=30),
    search(Bug::FreezeForgotten, "crash,net", 120, 1..=40),
    search(Bug::WrongPreimageTaken, "hostile", 200, 1..=60),
    search(Bug::SignaturesNotChecked, "hostile", 100, 1..=60),
    search(Bug::SecretsNotChecked, "hostile", 100, 1..=60),
    search(Bug::InvoicePaidTwice, "none", 80, 1..=40),
    // --- The chain -----------------------------------------------------------------------------------------------------
    search(Bug::SecondStageNotPunished, "all", 120, 1..=60),
    search(Bug::BalanceNotPunished, "all", 120, 1..=60),
    search(Bug::HtlcsNotPunished, "all", 120, 1..=60),
    search(Bug::RevocationsNotLogged, "all", 120, 1..=60),
    search(Bug::TicketAtWrongIndex, "all", 120, 1..=20),
    search(Bug::ChainPreimageIgnored, "all", 120, 1..=60),
    search(Bug::DeadlinesIgnored, "all", 120, 1..=60),
    search(Bug::ReorganisationIgnored, "all", 120, 1..=60),
    search(Bug::FinalAtOnce, "all", 120, 1..=60),
    search(Bug::NotResubmitted, "all", 120, 1..=20),
];

impl Search {
    /// The seed that caught the fault, and the rule that it broke.
    fn caught(&self) -> Option<(u64, String)> {
        set(Some(self.bug));
        let found = self.seeds.clone().find_map(|seed| {
            let faults = self.faults.parse().expect("a set of faults");
            let plan = Plan { seed: Seed(seed), steps: self.steps, faults, wallets: None };
            let failure = run(&plan, &Chronicle::default()).failure?;
            // Not what goes wrong anyway.
            set(None);
            let without = run(&plan, &Chronicle::default()).failure;
            set(Some(self.bug));
            without.is_none().then(|| (seed, failure.broken.to_string()))
        });
        set(None);
        found
    }
}

#[test]
fn every_fault_made_on_purpose_is_caught() {
    let (next, missed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    // A fault is on for one thread.
    let work = || {
        while let Some(search) = SEARCHES.get(next.fetch_add(1, Ordering::Relaxed)) {
            match search.caught() {
                Some((seed, broken)) => println!("{:<28} seed {seed:>3}  {broken:.120}", search.bug.name()),
                None => missed.lock().expect("nobody panicked").push(search.bug.name()),
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    let missed = missed.into_inner().expect("nobody panicked");
    assert!(missed.is_empty(), "not caught: {missed:?}");
}

#[test]
fn every_fault_is_looked_for_once() {
    for bug in Bug::ALL {
        let searches = SEARCHES.iter().filter(|search| search.bug == bug).count();
        assert_eq!(searches, 1, "{}", bug.name());
    }
}
