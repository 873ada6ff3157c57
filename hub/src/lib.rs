//! The hub: `hubd`, which serves wallets and forwards their payments, and `hubctl`, its operator's command line.

pub mod cli;
pub mod config;
pub mod control;
pub mod data_dir;
pub mod directory;
pub mod events;
pub mod limits;
pub mod logging;
pub mod mailboxes;
pub mod placement;
pub mod rate;
pub mod router;
pub mod seed;
pub mod session;
pub mod stop;
pub mod tls;
pub mod token;
