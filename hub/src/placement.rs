//! Which shard owns what. An owner's number says it: `number % shards`, so that finding the shard of an owner takes no
//! table and no lock, and a restart with another count of shards places every channel again.
//!
//! A new channel goes to the least loaded shard: it gets the next free number of that remainder. Numbers are
//! `epoch << 24 | n`, where the epoch is made durable before it is used and rises with each start of the process, so
//! a number is never used twice.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use channel::ids::OwnerId;

/// Numbers below this belong to machines that are not channels.
pub const FIRST_CHANNEL: u64 = 1024;

/// Bits of a number that count within one run of the process: 16 million channels.
const COUNT_BITS: u32 = 24;

/// Places channels and knows where they are.
#[derive(Debug)]
pub struct Placement {
    shards: u64,
    epoch: u64,
    /// For each shard the next count whose number has its remainder.
    next: Mutex<Vec<u64>>,
    loads: Vec<ShardLoad>,
}

/// How much a shard has to do, as its thread last measured it.
#[derive(Debug, Default)]
pub struct ShardLoad {
    pub channels: AtomicU64,
    /// Share of the last second spent working, in thousandths.
    pub busy_permille: AtomicU64,
    /// Channels placed since the shard last told its count.
    pub placed: AtomicU64,
    /// All its counters, for people.
    pub latest: Mutex<shard::Load>,
}

/// Every number of this run is used: restart for the next epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("all channel numbers of this run are used; restart hubd to get new ones")]
pub struct NumbersExhausted;

impl Placement {
    /// `epoch` must be durable and greater than that of any earlier run; 1 and up.
    pub fn new(shards: usize, epoch: u64) -> Self {
        let shards = shards.max(1);
        let count = u64::try_from(shards).expect("a count of threads fits 64 bits");
        Placement {
            shards: count,
            epoch,
            next: Mutex::new(vec![0; shards]),
            loads: (0..shards).map(|_| ShardLoad::default()).collect(),
        }
    }

    pub fn shards(&self) -> usize {
        self.loads.len()
    }

    /// The shard that owns this number.
    pub fn shard_of(&self, owner: OwnerId) -> usize {
        usize::try_from(owner.0 % self.shards).expect("a remainder of a count of threads is an index")
    }

    pub fn load(&self, shard: usize) -> &ShardLoad {
        &self.loads[shard]
    }

    /// A new number in the least loaded shard.
    pub fn place(&self) -> Result<OwnerId, NumbersExhausted> {
        let shard = self.least_loaded();
        self.loads[shard].placed.fetch_add(1, Ordering::Relaxed);
        self.number_in(shard)
    }

    /// By the count of channels, those just placed included; a shard that works much counts as fuller.
    fn least_loaded(&self) -> usize {
        let weight = |load: &ShardLoad| {
            let channels = load.channels.load(Ordering::Relaxed) + load.placed.load(Ordering::Relaxed);
            (channels + 1) * (1000 + load.busy_permille.load(Ordering::Relaxed))
        };
        self.loads.iter().enumerate().min_by_key(|(_, load)| weight(load)).map_or(0, |(shard, _)| shard)
    }

    fn number_in(&self, shard: usize) -> Result<OwnerId, NumbersExhausted> {
        let mut next = self.next.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let base = self.epoch.max(1) << COUNT_BITS;
        let wanted = u64::try_from(shard).expect("an index fits 64 bits");
        // The first count of this shard whose number leaves the wanted remainder; then every `shards`-th.
        let offset = (wanted + self.shards - base % self.shards) % self.shards;
        let count = next[shard] * self.shards + offset;
        if count >> COUNT_BITS != 0 {
            return Err(NumbersExhausted);
        }
        next[shard] += 1;
        Ok(OwnerId(base + count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_spread_evenly_and_every_number_is_new() {
        for shards in 1..=7 {
            let placement = Placement::new(shards, 3);
            let mut counts = vec![0; shards];
            let mut seen = std::collections::BTreeSet::new();
            for _ in 0..shards * 50 {
                let owner = placement.place().unwrap();
                assert!(owner.0 >= FIRST_CHANNEL && seen.insert(owner));
                assert_eq!(owner.0 >> COUNT_BITS, 3);
                counts[placement.shard_of(owner)] += 1;
            }
            assert!(counts.iter().all(|count| *count == 50), "{counts:?}");
        }
    }

    #[test]
    fn a_busy_or_full_shard_gets_no_new_channels() {
        let placement = Placement::new(2, 1);
        placement.load(0).channels.store(100, Ordering::Relaxed);
        assert_eq!(placement.shard_of(placement.place().unwrap()), 1);
        let placement = Placement::new(2, 1);
        placement.load(0).busy_permille.store(900, Ordering::Relaxed);
        assert_eq!(placement.shard_of(placement.place().unwrap()), 1);
    }

    #[test]
    fn epochs_never_share_a_number() {
        let numbers = |epoch| {
            let placement = Placement::new(3, epoch);
            (0..1000).map(|_| placement.place().unwrap()).collect::<std::collections::BTreeSet<_>>()
        };
        assert!(numbers(1).is_disjoint(&numbers(2)));
    }
}
