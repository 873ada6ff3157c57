//! Chance, decided by one number.
//!
//! Every part of a run draws from a stream of its own, named and derived from the seed, so that one part's drawing
//! more or less leaves what the others draw as it was.

use bitcoin::hashes::{Hash, HashEngine, sha256};
use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The number that decides a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seed(pub u64);

impl Seed {
    /// The stream of the part with this name; the same for the same seed and name, and unlike every other.
    pub fn stream(self, name: &str) -> Chance {
        let mut engine = sha256::Hash::engine();
        engine.input(&self.0.to_be_bytes());
        engine.input(name.as_bytes());
        Chance(ChaCha8Rng::from_seed(sha256::Hash::from_engine(engine).to_byte_array()))
    }
}

/// One part's stream of chance.
#[derive(Clone, Debug)]
pub struct Chance(ChaCha8Rng);

impl Chance {
    /// True in `numerator` of `denominator` cases.
    pub fn one_of(&mut self, numerator: u32, denominator: u32) -> bool {
        self.0.gen_ratio(numerator.min(denominator), denominator)
    }

    /// A number from `low` to `high`, both included.
    pub fn within(&mut self, low: u64, high: u64) -> u64 {
        self.0.gen_range(low..=high.max(low))
    }

    /// An index below `length`, which must not be 0.
    pub fn below(&mut self, length: usize) -> usize {
        self.0.gen_range(0..length)
    }

    /// One of the items; `None` of none.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        if items.is_empty() {
            return None;
        }
        items.get(self.below(items.len()))
    }

    /// An index into `weights`, each as likely as it is heavy; `None` if all weigh nothing.
    pub fn weighted(&mut self, weights: &[u32]) -> Option<usize> {
        let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        let mut left = self.within(1, total.max(1));
        weights.iter().position(|weight| {
            let weight = u64::from(*weight);
            let here = weight > 0 && left <= weight;
            left = left.saturating_sub(weight);
            here
        })
    }

    /// Fills `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }

    /// `N` bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_repeats_itself_and_is_like_no_other() {
        let draw = |seed: u64, name: &str| Seed(seed).stream(name).bytes::<16>();
        assert_eq!(draw(1, "disk"), draw(1, "disk"));
        assert_ne!(draw(1, "disk"), draw(2, "disk"));
        assert_ne!(draw(1, "disk"), draw(1, "net"));
    }

    #[test]
    fn what_weighs_nothing_is_never_drawn() {
        let mut chance = Seed(7).stream("weights");
        let drawn: Vec<_> = (0..200).filter_map(|_| chance.weighted(&[0, 3, 0, 1])).collect();
        assert_eq!(drawn.len(), 200);
        assert!(drawn.iter().all(|index| [1, 3].contains(index)));
        assert_eq!(chance.weighted(&[0, 0]), None);
    }
}
