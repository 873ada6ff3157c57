//! The journal from outside: what it keeps, in what order, and what it refuses.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
mod crash;
mod disk;
mod events;
mod model;
mod opening;
mod order;
mod round_trip;
mod speed;
mod trimming;
