//! Sets of numbers that come mostly in a row, kept as runs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `count` numbers from `first` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    pub first: u64,
    pub count: u64,
}

impl Run {
    /// One number.
    pub fn one(first: u64) -> Self {
        Run { first, count: 1 }
    }

    /// The numbers. Counts beyond the end of numbers (only broken records have them) are cut.
    pub fn numbers(self) -> std::ops::Range<u64> {
        self.first..self.first.saturating_add(self.count)
    }
}

/// Adds a number to a list of runs, at the end of the last where it fits.
pub fn push(runs: &mut Vec<Run>, number: u64) {
    match runs.last_mut() {
        Some(last) if last.numbers().end == number && number != u64::MAX => last.count += 1,
        _ => runs.push(Run::one(number)),
    }
}

/// A set of indices. Memory is bounded by the number of gaps: above `max_gaps` the lowest gap is closed, as if its indices
/// were in the set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexSet {
    /// First index of each run, and the index after its last. Runs neither touch nor overlap.
    runs: BTreeMap<u64, u64>,
}

impl IndexSet {
    /// Whether the index is in the set.
    pub fn contains(&self, index: u64) -> bool {
        self.runs.range(..=index).next_back().is_some_and(|(_, end)| index < *end)
    }

    /// Adds an index. False if it was there already.
    pub fn insert(&mut self, index: u64, max_gaps: usize) -> bool {
        if self.contains(index) || index == u64::MAX {
            return false;
        }
        let end = self.runs.remove(&(index + 1)).unwrap_or(index + 1);
        match self.runs.range_mut(..index).next_back() {
            Some((_, before)) if *before == index => *before = end,
            _ => {
                self.runs.insert(index, end);
            }
        }
        while self.runs.len() > max_gaps.max(1) {
            let (Some((first, _)), Some((_, end))) = (self.runs.pop_first(), self.runs.pop_first()) else {
                break;
            };
            self.runs.insert(first, end);
        }
        true
    }

    /// The highest index in the set.
    pub fn highest(&self) -> Option<u64> {
        self.runs.last_key_value().map(|(_, end)| end - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn the_set_agrees_with_a_plain_one(indices in proptest::collection::vec(0u64..60, 0..200)) {
            let mut plain = BTreeSet::new();
            let mut set = IndexSet::default();
            for index in indices {
                prop_assert_eq!(set.insert(index, 100), plain.insert(index));
                prop_assert_eq!(set.highest(), plain.last().copied());
                for probe in 0..62 {
                    prop_assert_eq!(set.contains(probe), plain.contains(&probe));
                }
            }
        }

        #[test]
        fn a_bounded_set_forgets_nothing_it_was_given(indices in proptest::collection::vec(0u64..1_000, 0..200)) {
            let mut set = IndexSet::default();
            for index in &indices {
                set.insert(*index, 3);
                prop_assert!(set.runs.len() <= 3);
            }
            for index in &indices {
                prop_assert!(set.contains(*index));
            }
        }
    }

    #[test]
    fn numbers_in_a_row_make_one_run() {
        let mut runs = Vec::new();
        for number in [5, 6, 7, 9, 10] {
            push(&mut runs, number);
        }
        assert_eq!(runs, [Run { first: 5, count: 3 }, Run { first: 9, count: 2 }]);
    }
}
