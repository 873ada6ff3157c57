//! The command: many seeds, or one again.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Parser;

use crate::chronicle::Chronicle;
use crate::coverage;
use crate::plan::{Faults, Plan};
use crate::report::{Outcome, Report};
use crate::run::run;
use crate::seed::Seed;
use crate::shrink::shrink;

/// Most characters of a failure that are told at once; the report tells the first one whole.
const LONGEST: usize = 300;
/// A pair that so many runs met, or fewer, is told of with their number.
const SELDOM: u64 = 4;

/// Runs the real hub and real wallets on a simulated disk, network, chain and clock, with people who are honest or hostile,
/// and an auditor who believes nobody. Each run is decided by its seed alone.
#[derive(Debug, Parser)]
#[command(
    name = "sim",
    after_help = "Examples:\n  sim --seeds 100                     a hundred fresh seeds, with everything that can go wrong\n  sim --seed 7 --verbose              seed 7 again, line by line\n  sim --seed 1 --seeds 50 --json      seeds 1 to 50, for scripts\n\nExit code: 0 when no run failed, 1 when one did."
)]
pub struct Args {
    /// The first seed. Without it: fresh ones.
    #[arg(long)]
    seed: Option<u64>,
    /// How many seeds, one after the other.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Things that people and faults do in each run before the books are closed.
    #[arg(long, default_value_t = 300)]
    steps: u64,
    /// What may go wrong: none, all, or some of crash, disk, net, chain, hostile, with commas between them.
    #[arg(long, default_value = "all")]
    faults: Faults,
    /// As many wallets, 2 to 6. Without it the seed decides.
    #[arg(long, value_parser = clap::value_parser!(u8).range(2..=6))]
    wallets: Option<u8>,
    /// One JSON object.
    #[arg(long)]
    json: bool,
    /// Prints every event as it comes.
    #[arg(long, conflicts_with = "json")]
    verbose: bool,
    /// Runs side by side, each on a thread of its own. Changes no run.
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Looks for the shortest run that fails as the first failing one did.
    #[arg(long)]
    shrink: bool,
    /// Lists pairs of phase and event that no run visited, or hardly any, and those that none can, with the reasons.
    #[arg(long)]
    pairs: bool,
    /// Goes on after a failure.
    #[arg(long)]
    keep_going: bool,
    /// Turns a fault on that was made on purpose, by its name, to see whether the auditor catches it.
    #[cfg(feature = "deliberate-bugs")]
    #[arg(long, value_parser = bug_named)]
    bug: Option<channel::bug::Bug>,
}

#[cfg(feature = "deliberate-bugs")]
fn bug_named(name: &str) -> Result<channel::bug::Bug, String> {
    use channel::bug::Bug;
    Bug::ALL.into_iter().find(|bug| bug.name() == name).ok_or_else(|| {
        let names: Vec<&str> = Bug::ALL.into_iter().map(Bug::name).collect();
        format!("there is none of this name; there are {}", names.join(", "))
    })
}

/// The program.
pub fn main() -> ExitCode {
    let args = Args::parse();
    let first = args.seed.unwrap_or_else(fresh_seed);
    let report = run_all(&args, first);
    if args.json {
        println!("{}", report.to_json());
    } else {
        print!("{}", report.to_text(60));
        if args.pairs {
            for pair in report.missing() {
                let why = coverage::why_rare(pair).map_or_else(String::new, |why| format!(" ({why})"));
                println!("not visited: {} <- {}{why}", pair.0, pair.1);
            }
            for ((phase, event), runs) in report.seldom(SELDOM) {
                println!("in {runs} runs: {phase} <- {event}");
            }
            coverage::unreachable().for_each(|line| println!("unreachable: {line}"));
        }
    }
    let Some(failed) = report.failed().first() else { return ExitCode::SUCCESS };
    if args.shrink && !args.json {
        let smaller = shrink(failed, |plan| eprintln!("tried: {}", plan.command()));
        println!("the shortest that fails so: {}", smaller.plan.command());
    }
    ExitCode::FAILURE
}

/// A seed nobody used before, most likely.
fn fresh_seed() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // Short enough to be typed again.
    u64::try_from(since.as_micros() % 1_000_000_000).unwrap_or_default()
}

fn run_all(args: &Args, first: u64) -> Report {
    let plan = |index: u64| Plan {
        seed: Seed(first.wrapping_add(index)),
        steps: args.steps,
        faults: args.faults.clone(),
        wallets: args.wallets.map(usize::from),
    };
    let (next, failed) = (AtomicU64::new(0), AtomicU64::new(0));
    let outcomes = Mutex::new(Vec::new());
    let work = || {
        #[cfg(feature = "deliberate-bugs")]
        channel::bug::set(args.bug);
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= args.seeds || (!args.keep_going && failed.load(Ordering::Relaxed) > 0) {
                return;
            }
            let chronicle = if args.verbose { Chronicle::loud() } else { Chronicle::default() };
            let outcome = run(&plan(index), &chronicle);
            if outcome.failure.is_some() {
                failed.fetch_add(1, Ordering::Relaxed);
            }
            tell(&outcome, index, args);
            if let Ok(mut outcomes) = outcomes.lock() {
                outcomes.push((index, outcome));
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..args.jobs {
            scope.spawn(work);
        }
        work();
    });
    let mut outcomes = outcomes.into_inner().unwrap_or_default();
    outcomes.sort_by_key(|(index, _)| *index);
    let mut report = Report::default();
    outcomes.into_iter().for_each(|(_, outcome)| report.add(outcome));
    report
}

/// Shows that there is progress, and failures at once.
fn tell(outcome: &Outcome, index: u64, args: &Args) {
    if let Some(failure) = &outcome.failure {
        eprintln!("seed {} failed: {:.LONGEST$}", outcome.plan.seed.0, failure.broken.to_string());
    } else if args.seeds > 10 && !args.json && (index + 1).is_multiple_of(args.seeds / 10) {
        eprintln!("{} of {} seeds", index + 1, args.seeds);
    }
}
