//! Real processes, made runnable within one thread.
//!
//! A process is a runtime whose clock stands still ([`Tasks`]: what is asynchronous) and machines that in production have
//! threads of their own (shards, control, journal, a wallet's core). The run turns each of them by itself, in the order the
//! seed decides. Killing one is dropping it; what its disk keeps is the disk's matter.
//!
//! Processes talk over [`lines`]: each holds one end as its real connection code wants it, the net holds the other.

mod hub;
mod lines;
mod panics;
mod tasks;
mod wallet;

pub use hub::{HubPart, HubProcess, HubSetup};
pub use lines::{HubEnd, HubLine, WalletEnd, WalletLine, hub_line, wallet_line};
pub use tasks::{Call, Lost, Tasks};
pub use wallet::{Dial, WalletPart, WalletProcess, WalletSetup};

/// Addresses beyond the last used one that coins are found at. Deriving as many as a real wallet does takes half of a run's time.
const ADDRESS_GAP: u32 = 50;

/// A process ended although nobody asked it to: a fault of its disk, or of its logic.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{who} died: {why}")]
pub struct Died {
    /// Which part.
    pub who: String,
    pub why: String,
}

impl Died {
    pub fn new(who: impl Into<String>, why: impl std::fmt::Display) -> Self {
        Died { who: who.into(), why: why.to_string() }
    }
}

/// Runs a part of a process; a panic in it is the process's death, as it is in production.
pub fn guarded<T>(who: &str, part: impl FnOnce() -> Result<T, Died>) -> Result<T, Died> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(part))
        .unwrap_or_else(|panic| Err(Died::new(who, panic_text(panic.as_ref()))))
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("it panicked: {}", text.unwrap_or("with no words"))
}
