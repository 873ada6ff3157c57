//! What a run's days are like.
//!
//! A run in which everything goes wrong all the time meets little but trouble: nobody is ever paid, so nothing of payments can
//! break. Each seed has a climate instead: some kinds of trouble never come, others now and then, others all the time, and so
//! with what people do (Groce and others, "Swarm Testing", 2012).

use crate::plan::{Fault, Plan};
use crate::seed::Chance;

/// One mishap of a kind in so many steps, on average, when the seed makes nothing of it.
const CRASH_EVERY: u32 = 16;
const DISK_EVERY: u32 = 60;
const NET_EVERY: u32 = 12;
const CHAIN_EVERY: u32 = 25;

/// Channels, in satoshi: of some thousands of payments, or so small that most payments fill them.
const LARGE: (u64, u64) = (300_000, 1_500_000);
const SMALL: (u64, u64) = (60_000, 160_000);

/// The odds of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Climate {
    /// A mishap of the kind in so many steps; `None`: never.
    pub crash_every: Option<u32>,
    pub disk_every: Option<u32>,
    pub net_every: Option<u32>,
    pub chain_every: Option<u32>,
    /// How much more or less often than usual each thing is done, by its place in the table of acts.
    pub habits: Vec<u32>,
    /// Most things done in one step.
    pub haste: u64,
    /// One step in so many takes long.
    pub slow_every: u32,
    /// Least and most that is put into a channel, in satoshi.
    pub capacity_sat: (u64, u64),
    /// Channels of each direction that everybody begins with.
    pub first_channels: u32,
    /// Somebody cheats, and takes its time for nothing else.
    pub cheats: bool,
}

impl Climate {
    /// The climate of a plan. `acts`: how many things people do.
    pub fn of(plan: &Plan, acts: usize) -> Self {
        let mut chance = plan.seed.stream("climate");
        let mut every = |fault: Fault, usual: u32| {
            let drawn = chance.below(8);
            let every = match drawn {
                0 | 1 => None,
                2 | 3 => Some(usual * 4),
                4..=6 => Some(usual),
                _ => Some(usual / 3),
            };
            every.filter(|_| plan.faults.has(fault))
        };
        let crash_every = every(Fault::Crash, CRASH_EVERY);
        let disk_every = every(Fault::Disk, DISK_EVERY);
        let net_every = every(Fault::Net, NET_EVERY);
        let chain_every = every(Fault::Chain, CHAIN_EVERY);
        let habits = (0..acts).map(|_| habit(&mut chance)).collect();
        let small = chance.one_of(1, 3);
        Climate {
            crash_every,
            disk_every,
            net_every,
            chain_every,
            habits,
            haste: chance.within(1, 4),
            slow_every: u32::try_from(chance.within(3, 20)).unwrap_or(3),
            capacity_sat: if small { SMALL } else { LARGE },
            first_channels: if small { 3 } else { 1 },
            cheats: plan.faults.has(Fault::Hostile) && plan.seed.stream("cheats' climate").one_of(1, 2),
        }
    }
}

/// In quarters: never, as usual, or much.
fn habit(chance: &mut Chance) -> u32 {
    match chance.below(8) {
        0 => 0,
        1 | 2 => 1,
        3..=5 => 4,
        6 => 8,
        _ => 16,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Faults;
    use crate::seed::Seed;

    fn climate(seed: u64, faults: Faults) -> Climate {
        Climate::of(&Plan { seed: Seed(seed), steps: 1, faults, wallets: None }, 5)
    }

    #[test]
    fn a_seed_has_one_climate_and_faults_that_are_off_never_come() {
        assert_eq!(climate(1, Faults::all()), climate(1, Faults::all()));
        let calm = climate(1, Faults::none());
        assert_eq!(
            (calm.crash_every, calm.disk_every, calm.net_every, calm.chain_every),
            (None, None, None, None)
        );
        // Taking faults away leaves the rest as it was, so that a failure can be made smaller.
        assert_eq!(calm.habits, climate(1, Faults::all()).habits);
        let stormy = (1..40).filter(|seed| climate(*seed, Faults::all()).chain_every.is_some()).count();
        assert!((20..40).contains(&stormy), "{stormy}");
    }
}
