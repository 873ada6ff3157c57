//! The wallet: one node's channels with its hub, its invoices, payments and streams.

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
pub mod token;
