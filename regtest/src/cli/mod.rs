//! One module a subcommand: its arguments, and `run`, which does it.

pub mod bench;
pub mod bitcoind;
pub mod chain;
pub mod demo;
pub mod fund;

/// Whatever stops a command; its text is for the user.
pub type Failure = Box<dyn std::error::Error>;

/// What runs everything asynchronous.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}
