//! Waiting for a condition with a deadline, instead of sleeping for a time that is either too short or too long.

use std::time::{Duration, Instant};

use crate::lab::LabError;
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

/// How often a condition of another process is looked at: it costs a call.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// Like [`until`], for a probe that calls others. An error of the probe ends the wait at once; [`Look::NotYet`] says what was
/// seen instead, for the error in the end.
///
/// # Errors
/// The probe's; [`LabError::TimedOut`].
pub async fn until_seen<T>(
    what: &str,
    within: Duration,
    mut probe: impl AsyncFnMut() -> Result<Look<T>, LabError>,
) -> Result<T, LabError> {
    let deadline = Instant::now() + within;
    loop {
        let last = match probe().await? {
            Look::Seen(value) => return Ok(value),
            Look::NotYet(last) => last,
        };
        if Instant::now() >= deadline {
            return Err(LabError::TimedOut { what: what.to_owned(), within, last });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What one look at a condition gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look<T> {
    /// It is true.
    Seen(T),
    /// It is not; this is how things stand.
    NotYet(String),
}
