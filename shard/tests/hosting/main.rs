//! Shards at work: a hub and wallets over real journals in memory.
#![allow(clippy::unwrap_used)]

mod closing;
mod forwarding;
mod turns;
mod world;
