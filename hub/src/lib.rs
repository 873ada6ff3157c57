//! The hub: `hubd`, which serves wallets and forwards their payments, and `hubctl`, its operator's command line.

pub mod cli;
pub mod config;
pub mod data_dir;
pub mod seed;
pub mod stop;
pub mod tls;
pub mod token;
