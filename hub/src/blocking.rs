//! Work that blocks its thread, like reading the journal: on threads for that, unless there is but one thread in all.

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::JoinError;

/// Does `work` where it holds up no other task, if there is such a place.
///
/// # Errors
///
/// The work panicked, or the runtime ended first.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::CurrentThread => Ok(work()),
        _ => tokio::task::spawn_blocking(work).await,
    }
}
