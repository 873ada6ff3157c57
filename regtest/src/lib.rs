//! Everything that runs against a real bitcoind in regtest: finding or building it, starting and stopping it, mining,
//! and the programs of the hub as supervised processes.
//!
//! A script or test needs three things, in this order:
//!
//! 1. [`bitcoind::Bitcoind::start`] finds or builds bitcoind and starts it on a free port;
//! 2. [`miner::Miner::open`] gives coins of its own, since this bitcoind has no wallet;
//! 3. [`process::Supervised`] runs other programs so that none outlives the run.
//!
//! Everything here blocks the calling thread; an async caller uses `spawn_blocking`.

pub mod bench;
pub mod bitcoind;
pub mod demo;
pub mod lab;
pub mod limits;
pub mod miner;
pub mod process;
pub mod programs;
pub mod wait;

pub use bitcoind::{Bitcoind, Options, Rpc, RpcError};
pub use miner::Miner;
