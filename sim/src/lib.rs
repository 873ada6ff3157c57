//! The whole system under one seed: the real hub and the real wallets, on a simulated disk, network, chain and clock, with
//! people who are honest or hostile, and an auditor who believes nobody.
//!
//! One thread, no wall clock: two runs of a seed are equal event by event.
//!
//! | module | its part |
//! | --- | --- |
//! | [`seed`], [`clock`] | chance and time, decided by one number |

pub mod clock;
pub mod seed;
