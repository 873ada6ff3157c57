//! The hash map of the hot path: fast, and the same in every run. Nobody iterates over one, so no order of
//! hashing can reach the log; a seed from the host keeps strangers, who choose channel ids, from choosing collisions.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};

/// A map that is only looked up, never iterated over.
pub(crate) type FastMap<K, V> = HashMap<K, V, Seeded>;

/// Makes hashers that start from one secret seed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seeded(pub u64);

impl BuildHasher for Seeded {
    type Hasher = Fold;
    fn build_hasher(&self) -> Fold {
        Fold { state: self.0 ^ START }
    }
}

/// Multiplies each 8 bytes into the state and folds the halves of the 128-bit product.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fold {
    state: u64,
}

/// Digits of pi: odd constants without structure.
const START: u64 = 0x243f_6a88_85a3_08d3;
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

impl Fold {
    fn mix(&mut self, word: u64) {
        let product = u128::from(self.state ^ word).wrapping_mul(u128::from(FACTOR));
        // Folding keeps both halves: the low one alone would never see the high bits of the word.
        let low = product as u64;
        let high = (product >> 64) as u64;
        self.state = low ^ high ^ word.rotate_left(32);
    }
}

impl Hasher for Fold {
    fn write(&mut self, bytes: &[u8]) {
        let mut chunks = bytes.chunks_exact(8);
        for chunk in &mut chunks {
            let mut word = [0; 8];
            word.copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
        let rest = chunks.remainder();
        if !rest.is_empty() {
            let mut word = [0; 8];
            word[..rest.len()].copy_from_slice(rest);
            self.mix(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.mix(u64::from(value));
    }

    fn write_u32(&mut self, value: u32) {
        self.mix(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.mix(value);
    }

    fn write_usize(&mut self, value: usize) {
        self.mix(value as u64);
    }

    fn finish(&self) -> u64 {
        self.state.wrapping_mul(FACTOR) ^ (self.state >> 29)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consecutive_numbers_spread_over_all_buckets() {
        let seeded = Seeded(7);
        let mut buckets = [0u32; 64];
        for number in 0u64..6_400 {
            let hash = seeded.hash_one(number);
            buckets[(hash % 64) as usize] += 1;
        }
        assert!(buckets.iter().all(|count| (50..200).contains(count)), "{buckets:?}");
    }

    #[test]
    fn another_seed_gives_other_hashes() {
        let key = [9u8; 32];
        assert_ne!(Seeded(1).hash_one(key), Seeded(2).hash_one(key));
    }
}
