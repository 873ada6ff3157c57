//! bitcoind: found or built, started and stopped, called.
//!
//! The first call that needs a bitcoind finds one (or builds it, once for the user and version of the source) and the
//! whole process then uses that one.

mod build;
mod call;
mod find;
mod needs;
mod node;
mod ports;
mod progress;
mod rpc;

pub(crate) use build::tail as log_tail;
pub use build::{BuildError, SOURCE_CRATE, SOURCE_VERSION};
pub use call::{Coin, CoinsSummary, View};
pub use find::{Found, LocateError, OLDEST, Origin, Rejected, Search, Unfit, Version};
pub use needs::{Lacking, Need};
pub use node::{Bitcoind, NodeError, Options};
pub(crate) use ports::unused as unused_port;
pub use rpc::{Rpc, RpcError};

use std::sync::Mutex;

/// Finds a bitcoind that works, or builds one; the answer is kept for the life of the process.
///
/// Progress of a build goes to standard error.
///
/// # Errors
/// [`LocateError`]: names each bitcoind that was turned down and why, and why none could be built.
pub fn locate() -> Result<Found, LocateError> {
    static FOUND: Mutex<Option<Found>> = Mutex::new(None);
    let mut found = FOUND.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(found) = &*found {
        return Ok(found.clone());
    }
    let fresh = Search::from_environment().find_or_build()?;
    Ok(found.insert(fresh).clone())
}
