//! From a run that fails to the shortest that fails in the same way.
//!
//! Parts of a run draw from streams of their own, so a run with fewer faults, wallets or steps is much the same run up to
//! where it differs.

use crate::chronicle::Chronicle;
use crate::plan::{Fault, Plan};
use crate::report::Outcome;
use crate::run::run;

/// The smallest plan found that breaks the same rule as `failed`. `tried` is told each plan that was run.
pub fn shrink(failed: &Outcome, mut tried: impl FnMut(&Plan)) -> Outcome {
    let Some(rule) = failed.failure.as_ref().map(|failure| failure.broken.rule) else {
        return failed.clone();
    };
    let mut best = failed.clone();
    let mut attempt = |plan: Plan, best: &mut Outcome| {
        tried(&plan);
        let outcome = run(&plan, &Chronicle::default());
        let same = outcome.failure.as_ref().is_some_and(|failure| failure.broken.rule == rule);
        if same {
            *best = outcome;
        }
        same
    };
    for fault in Fault::ALL {
        if best.plan.faults.has(fault) {
            let plan = Plan { faults: best.plan.faults.without(fault), ..best.plan.clone() };
            attempt(plan, &mut best);
        }
    }
    for wallets in crate::plan::WALLETS {
        if best.plan.wallets.is_none_or(|most| wallets < most)
            && attempt(Plan { wallets: Some(wallets), ..best.plan.clone() }, &mut best)
        {
            break;
        }
    }
    // The fewest steps: halves first, then one after the other is given up.
    let mut low = 0;
    while low < best.plan.steps {
        let middle = low + (best.plan.steps - low) / 2;
        if !attempt(Plan { steps: middle, ..best.plan.clone() }, &mut best) {
            low = middle + 1;
        }
    }
    best
}
