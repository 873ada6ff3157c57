//! The hub: `hubd`, which serves wallets and forwards their payments, and `hubctl`, its operator's command line.

pub mod blocking;
pub mod chain;
pub mod checkpoint;
pub mod cli;
pub mod config;
pub mod control;
pub mod data_dir;
pub mod directory;
pub mod earnings;
pub mod events;
pub mod limits;
pub mod listen;
pub mod logging;
pub mod machines;
pub mod mailboxes;
pub mod operator;
pub mod outlet;
pub mod placement;
pub mod rate;
pub mod recover;
pub mod router;
pub mod seed;
pub mod serve;
pub mod session;
pub mod stop;
pub mod threads;
pub mod tls;
pub mod wallets;

mod hubctl;
mod hubd;

pub use hubctl::hubctl_main;
pub use hubd::hubd_main;
