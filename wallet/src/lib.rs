//! The wallet: one node's channels with its hub, its invoices, payments and streams. A library, and the program `hubwallet`.
//!
//! | module | its part |
//! | --- | --- |
//! | [`ledger`] | invoices, payments, streams: a pure, journaled machine, and an owner in the forward protocol |
//! | [`core`] | the one thread that owns shard and ledger; what leaves it is durable |
//! | [`connection`] | TLS and the handshake with the hub; made again whenever it breaks |
//! | [`service`] | `wallet.v1` for scripts, on loopback behind a token |
//! | [`daemon`] | all of it together, from the data folder to a clean stop |
//! | [`cli`] | the commands of `hubwallet` |
//! | [`client`] | what commands and scripts in Rust use to call it |
//! | [`config`], [`data_dir`], [`seed`] | the files |
//! | [`directory`], [`router`], [`history`], [`limits`] | which channel can pay; where incoming HTLCs go; what lasts; bounds |
//!
//! It knows every crate but the hub's.

pub mod cli;
pub mod client;
pub mod config;
pub mod connection;
pub mod core;
pub mod daemon;
pub mod data_dir;
pub mod directory;
pub mod history;
pub mod ledger;
pub mod limits;
pub mod router;
pub mod seed;
pub mod service;

pub use cli::hubwallet_main;
