//! Every channel can end on the chain, and no cheat pays: the real processes against a real bitcoind, each test named
//! after the sentence it proves. Mining drives time; the books are kept by [`regtest::lab::endings`].

// What fails in a helper fails the test.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bolt5;
mod bump;
mod cheat;
mod closes;
mod command;
mod disturbed;
mod fees;
mod flight;
mod forwards;
mod held;
mod outage;
mod penalty;
mod races;
mod replaced;
mod restore;
mod story;
mod support;
mod wire;
