//! The journal from outside: what it keeps, in what order, and what it refuses.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
mod events;
mod round_trip;
mod speed;
