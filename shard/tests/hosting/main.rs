//! Shards at work: a hub and wallets over real journals in memory.
#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

mod cheats;
mod closing;
mod forwarding;
mod onchain;
mod openings;
mod turns;
mod world;
