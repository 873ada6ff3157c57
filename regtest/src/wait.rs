//! Waiting for a condition with a deadline, instead of sleeping for a time that is either too short or too long.

use std::time::{Duration, Instant};

use crate::limits::POLL_EVERY;

/// A condition did not come true in time.
#[derive(Debug, thiserror::Error)]
#[error("{what} did not happen within {within:?}")]
pub struct TimedOut {
    /// What was waited for, as a phrase: "bitcoind answering".
    pub what: String,
    /// How long was waited.
    pub within: Duration,
}

/// Calls `probe` until it gives a value, at least once and at most until `within` has passed.
///
/// # Errors
/// [`TimedOut`], naming `what`.
pub fn until<T>(what: &str, within: Duration, mut probe: impl FnMut() -> Option<T>) -> Result<T, TimedOut> {
    let deadline = Instant::now() + within;
    loop {
        if let Some(value) = probe() {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            return Err(TimedOut { what: what.to_owned(), within });
        }
        std::thread::sleep(POLL_EVERY);
    }
}
