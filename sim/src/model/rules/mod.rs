//! The rules of a forward (DESIGN section 7) in a model of their own, in which each can be left out.
//!
//! One payment comes in over channel A and may go out over one of two channels, by two attempts. The hub's disk keeps
//! rows in order; a crash takes it back to any row. Messages between owners go before the disk has their rows, messages to
//! wallets after. Wallets do what they like: fulfil, fail, take an uncommitted failure back, go away. Heights pass, the
//! payment's expiry and the deadlines before it.
//!
//! It proves two things: with all rules no state breaks a law, and without any one of them some state does. That the
//! code obeys the rules is for [`real`](super::real).

mod hub;
mod laws;
mod world;

use super::limits;
use super::walk::{Model, Report, walk};

pub use world::{Action, World};

/// A rule that can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// The outgoing channel is chosen *and journaled*.
    JournaledChoice,
    /// Every message carries the attempt's number; "failed" counts only for the current one.
    AttemptNumber,
    /// "Failed" leaves only when no HTLC was ever signed or its removal is irrevocable.
    FailureOnceIrrevocable,
    /// An offer that waited past the height it names is not signed any more.
    CheckAtSigning,
    /// On start unresolved offers and results not acknowledged are sent again.
    Reemission,
    /// A signed add past its expiry is never sent again: its channel is closed instead.
    NoLateResend,
    /// The incoming side acknowledges a result.
    Acknowledgement,
    /// The outgoing side keeps its result until then.
    KeptResult,
    /// What leaves the process waits for the disk.
    DurableBeforeVisible,
}

impl Rule {
    pub const ALL: [Self; 9] = [
        Self::JournaledChoice,
        Self::AttemptNumber,
        Self::FailureOnceIrrevocable,
        Self::CheckAtSigning,
        Self::Reemission,
        Self::NoLateResend,
        Self::Acknowledgement,
        Self::KeptResult,
        Self::DurableBeforeVisible,
    ];
}

/// How far the walk goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub crashes: u8,
    /// Connections lost without a crash.
    pub cuts: u8,
    /// Rows that the disk may be behind.
    pub unsynced: usize,
    pub max_states: usize,
}

impl Bounds {
    /// For the ordinary tests.
    pub const SMALL: Self = Self {
        crashes: 1,
        cuts: 1,
        unsynced: limits::UNSYNCED_ROWS,
        max_states: limits::MAX_STATES_IN_TESTS,
    };

    /// As much as a person waits for.
    pub const LARGE: Self =
        Self { crashes: 2, cuts: 2, unsynced: limits::UNSYNCED_ROWS, max_states: limits::MAX_STATES };
}

/// Walks through all states within the bounds, with all rules or without one of them.
pub fn explore(bounds: Bounds, without: Option<Rule>) -> Report {
    walk(&mut Rules { bounds, without }, bounds.max_states)
}

/// The model: what applies.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    bounds: Bounds,
    without: Option<Rule>,
}

impl Rules {
    fn has(&self, rule: Rule) -> bool {
        self.without != Some(rule)
    }
}

impl Model for Rules {
    type State = World;
    type Action = Action;

    fn start(&mut self) -> World {
        World::new(self.bounds)
    }

    fn actions(&mut self, state: &World) -> Vec<Action> {
        state.actions(self)
    }

    fn take(&mut self, state: &World, action: &Action) -> Result<World, String> {
        let mut next = state.clone();
        next.take(*action, self);
        Ok(next)
    }

    fn check(&mut self, state: &World, _: &[Action]) -> Result<(), String> {
        state.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_all_rules_no_state_breaks_a_law() {
        let report = explore(Bounds::SMALL, None);
        println!("all rules: {report}");
        assert_eq!(report.failure, None, "{report}");
        assert!(report.complete, "{report}");
    }

    #[test]
    fn each_rule_is_needed() {
        for rule in Rule::ALL {
            let report = explore(Bounds::SMALL, Some(rule));
            println!("without {rule:?}: {report}");
            assert!(report.failure.is_some(), "{rule:?} can be left out: {report}");
        }
    }
}
