//! The chain: bitcoind's RPC, block following, watching, verification, batches, broadcast and on-chain coins.
//!
//! What it promises:
//!
//! - **Blocks in order, none missed.** [`follow::Follower`] hands out every connect and disconnect, through
//!   reorganisations up to the final depth, whatever bitcoind does meanwhile.
//! - **Never publish the unverified.** `Broadcaster` takes only types that the verifier makes.
//! - **Bounded.** Every queue and parallelism is in [`limits`].
//!
//! It never decides for a channel: what it finds in blocks becomes inputs of the channels. It knows `channel`'s types
//! and the chain, no gRPC, no tables of the hub, no disk: what must last is handed to the caller as bytes.

pub mod batch;
pub mod broadcast;
pub mod claim;
pub mod desk;
pub mod fees;
pub mod flaw;
pub mod follow;
pub mod limits;
pub mod onchain;
pub mod pool;
pub mod rpc;
pub mod verify;
pub mod watch;

mod weigh;
