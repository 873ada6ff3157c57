//! The one clock of a run, and each process's view of the world.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use daemon::world::{Source, World};

use crate::seed::{Chance, Seed};

/// When every run begins: 2026-01-01, in milliseconds since 1970.
pub const BEGINNING_MS: u64 = 1_767_225_600_000;

/// Simulated time. It moves only when the run moves it. Clones show the same time.
#[derive(Clone, Debug)]
pub struct Clock(Arc<AtomicU64>);

impl Default for Clock {
    fn default() -> Self {
        Clock(Arc::new(AtomicU64::new(BEGINNING_MS)))
    }
}

impl Clock {
    /// Milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Lets time pass.
    pub fn advance_ms(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::Relaxed);
    }

    /// The world as the process with this name sees it: this clock, and chance of its own.
    pub fn world(&self, seed: Seed, name: &str) -> World {
        World::from_source(Simulated { clock: self.clone(), chance: Mutex::new(seed.stream(name)) })
    }
}

struct Simulated {
    clock: Clock,
    chance: Mutex<Chance>,
}

impl Source for Simulated {
    fn unix_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    fn fill(&self, bytes: &mut [u8]) {
        self.chance.lock().unwrap_or_else(PoisonError::into_inner).fill(bytes);
    }
}
