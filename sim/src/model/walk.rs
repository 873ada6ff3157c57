//! An exhaustive walk through the states of a model: breadth first, so that the way to a failure is the shortest.
//!
//! Invariant: every state that the model's actions reach is visited once, or the report says that it was not. States are
//! told apart by 128 bits of a hash of all of them.

use std::collections::{HashSet, VecDeque};
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};

/// What can be walked through.
pub trait Model {
    type State: Clone + Hash;
    type Action: Clone + Debug;

    fn start(&mut self) -> Self::State;

    /// Everything that can happen next, in an order that depends on the state alone.
    fn actions(&mut self, state: &Self::State) -> Vec<Self::Action>;

    /// The state after an action. An error is a law broken on the way.
    fn take(&mut self, state: &Self::State, action: &Self::Action) -> Result<Self::State, String>;

    /// The laws that the state must keep; `actions` are those that can happen in it.
    fn check(&mut self, state: &Self::State, actions: &[Self::Action]) -> Result<(), String>;
}

/// What a walk found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Different states seen.
    pub states: usize,
    /// Actions taken, those into known states included.
    pub transitions: u64,
    /// States in which nothing more can happen.
    pub ends: usize,
    /// Actions on the shortest way to the state that is farthest from the start.
    pub depth: usize,
    /// Every state that can be reached was seen.
    pub complete: bool,
    pub failure: Option<Failure>,
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Report { states, transitions, ends, depth, complete, failure } = self;
        let whole = if *complete { "all" } else { "the first" };
        write!(f, "{whole} {states} states, {transitions} transitions, {ends} ends, depth {depth}")?;
        if let Some(failure) = failure {
            write!(f, "\nBROKEN: {}", failure.what)?;
            for (number, step) in failure.way.iter().enumerate() {
                write!(f, "\n{number:4}  {step}")?;
            }
        }
        Ok(())
    }
}

/// A law that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub what: String,
    /// The actions from the start to where it shows.
    pub way: Vec<String>,
}

/// Walks until nothing is new, a law is broken, or `max_states` are seen.
pub fn walk<M: Model>(model: &mut M, max_states: usize) -> Report {
    let mut seen: HashSet<u128> = HashSet::new();
    // How each state was first reached: from which, by what.
    let mut reached: Vec<(usize, Option<M::Action>)> = Vec::new();
    let mut waiting: VecDeque<(usize, usize, M::State)> = VecDeque::new();
    let mut report = Report { states: 0, transitions: 0, ends: 0, depth: 0, complete: true, failure: None };

    let start = model.start();
    seen.insert(fingerprint(&start));
    reached.push((0, None));
    waiting.push_back((0, 0, start));
    while let Some((index, depth, state)) = waiting.pop_front() {
        report.depth = depth;
        let actions = model.actions(&state);
        report.ends += usize::from(actions.is_empty());
        if let Err(what) = model.check(&state, &actions) {
            report.failure = Some(Failure { what, way: way_to(&reached, index, None) });
            break;
        }
        for action in actions {
            report.transitions += 1;
            let next = match model.take(&state, &action) {
                Ok(next) => next,
                Err(what) => {
                    report.failure = Some(Failure { what, way: way_to(&reached, index, Some(&action)) });
                    break;
                }
            };
            if seen.contains(&fingerprint(&next)) {
                continue;
            }
            if reached.len() >= max_states {
                report.complete = false;
                continue;
            }
            seen.insert(fingerprint(&next));
            waiting.push_back((reached.len(), depth + 1, next));
            reached.push((index, Some(action)));
        }
        if report.failure.is_some() {
            break;
        }
    }
    report.complete &= report.failure.is_none();
    report.states = reached.len();
    report
}

/// Two hashes with different beginnings. Both are the same in every run.
fn fingerprint(state: &impl Hash) -> u128 {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        salt.hash(&mut hasher);
        state.hash(&mut hasher);
        u128::from(hasher.finish())
    };
    half(1) << 64 | half(2)
}

fn way_to<A: Debug>(reached: &[(usize, Option<A>)], mut index: usize, last: Option<&A>) -> Vec<String> {
    let mut way: Vec<String> = last.iter().map(|action| format!("{action:?}")).collect();
    while let (parent, Some(action)) = &reached[index] {
        way.push(format!("{action:?}"));
        index = *parent;
    }
    way.reverse();
    way
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts to a limit by ones and twos; a forbidden number breaks a law.
    struct Counter {
        limit: u32,
        forbidden: Option<u32>,
    }

    impl Model for Counter {
        type State = u32;
        type Action = u32;

        fn start(&mut self) -> u32 {
            0
        }

        fn actions(&mut self, state: &u32) -> Vec<u32> {
            [1, 2].into_iter().filter(|step| state + step <= self.limit).collect()
        }

        fn take(&mut self, state: &u32, action: &u32) -> Result<u32, String> {
            Ok(state + action)
        }

        fn check(&mut self, state: &u32, _: &[u32]) -> Result<(), String> {
            if self.forbidden == Some(*state) { Err(format!("{state} is forbidden")) } else { Ok(()) }
        }
    }

    #[test]
    fn every_state_is_visited_once() {
        let report = walk(&mut Counter { limit: 10, forbidden: None }, 100);
        assert_eq!((report.states, report.transitions, report.ends, report.depth), (11, 19, 1, 5));
        assert!(report.complete && report.failure.is_none());
    }

    #[test]
    fn the_way_to_a_failure_is_the_shortest() {
        let report = walk(&mut Counter { limit: 10, forbidden: Some(5) }, 100);
        let failure = report.failure.expect("5 can be reached");
        assert_eq!(failure.what, "5 is forbidden");
        assert_eq!(failure.way.len(), 3);
        assert!(!report.complete);
    }

    #[test]
    fn a_walk_that_was_cut_short_says_so() {
        let report = walk(&mut Counter { limit: 10, forbidden: None }, 4);
        assert_eq!(report.states, 4);
        assert!(!report.complete);
    }
}
