//! The settlement desk against a real bitcoind: commitments, claims, penalties, fees, reorganisations and restarts. The
//! channels themselves are played by [`party`], which wants what a channel would want.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod claims;
mod closes;
#[path = "../../../settlement/tests/common/pair.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod pair;
mod party;
mod stages;
