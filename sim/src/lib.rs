//! The whole system under one seed: the real hub and the real wallets, on a simulated disk, network, chain and clock, with
//! people who are honest or hostile, and an auditor who believes nobody.
//!
//! One thread, no wall clock: two runs of a seed are equal event by event.
//!
//! | module | its part |
//! | --- | --- |
//! | [`seed`], [`clock`] | chance and time, decided by one number |
//! | [`chain`] | a bitcoind with the rules that decide over channels |
//! | [`disk`] | a disk that outlives its process, loses power, fills up and fails |
//! | [`chronicle`] | what happened: hash, last events, which events met which phases |
//! | [`audit`] | books of what was promised, and what must hold |
//! | [`process`] | real processes, turned by hand |
//! | [`fuzz`] | beside the runs: what any bytes at all must not break |
//! | [`model`] | beside the runs: every state of a forward, by exhaustive walks |

pub mod audit;
pub mod chain;
pub mod chronicle;
pub mod clock;
pub mod disk;
pub mod fuzz;
pub mod model;
pub mod process;
pub mod seed;
