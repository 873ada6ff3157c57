//! What a process takes from the world and cannot compute: the time of day, and chance.
//!
//! Handed in rather than called, so that a run can be repeated: the simulator hands in a world of its own, which a seed
//! decides. Spans of time are measured with the runtime's clock, which a simulator holds as well.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use rand::RngCore;

/// Where time and chance come from.
pub trait Source: Send + Sync {
    /// Milliseconds since 1970.
    fn unix_ms(&self) -> u64;

    /// Fills `bytes` with bytes that nobody can foresee.
    fn fill(&self, bytes: &mut [u8]);
}

/// Time and chance. Cheap to clone.
#[derive(Clone)]
pub struct World(Arc<dyn Source>);

impl World {
    /// The clock and the randomness of the machine.
    pub fn real() -> Self {
        World(Arc::new(Machine))
    }

    /// Another source: a simulator's.
    pub fn from_source(source: impl Source + 'static) -> Self {
        World(Arc::new(source))
    }

    /// Milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        self.0.unix_ms()
    }

    /// Fresh bytes that nobody can foresee.
    pub fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill(&mut bytes);
        bytes
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("World(..)")
    }
}

struct Machine;

impl Source for Machine {
    fn unix_ms(&self) -> u64 {
        // A clock before 1970 is wrong; nothing here depends on how wrong.
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn fill(&self, bytes: &mut [u8]) {
        rand::rngs::OsRng.fill_bytes(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_real_world_has_a_present_and_never_the_same_bytes_twice() {
        let world = World::real();
        // 2025-01-01.
        assert!(world.now_ms() > 1_735_689_600_000);
        assert_ne!(world.random::<32>(), world.random::<32>());
    }
}
