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
//! | [`fuzz`] | beside the runs: what any bytes at all must not break |
//! | [`process`], [`net`] | real processes, turned by hand, and what is between them |
//! | [`plan`], [`run`] | what a run is to be; the run: people, mishaps, cheats, and the end |
//! | [`report`], [`coverage`], [`shrink`], [`cli`] | what runs came to |
//! | [`model`] | beside the runs: every state of a forward, by exhaustive walks |

pub mod audit;
pub mod chain;
pub mod chronicle;
pub mod cli;
pub mod clock;
pub mod coverage;
pub mod disk;
pub mod fuzz;
pub mod model;
pub mod net;
pub mod plan;
pub mod process;
pub mod report;
pub mod run;
pub mod seed;
pub mod shrink;
