//! One module a subcommand: its arguments, and `run`, which does it.

pub mod bitcoind;
pub mod chain;
pub mod fund;

/// Whatever stops a command; its text is for the user.
pub type Failure = Box<dyn std::error::Error>;
