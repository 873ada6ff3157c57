//! The control thread: everything durable that is not a channel's and not the chain's. Streams, requests, fees earned.
//!
//! It works like a shard: mail in, [`Registry`] checks and applies, one batch a turn, and what may leave leaves once the
//! batch is durable.

mod inbound;
mod mail;
mod registry;
mod streams;
mod thread;

pub use mail::{ControlMail, RememberError, Remembered};
pub use registry::{Inbound, InboundState, Input, Registry, RegistryError, StateError, Stream};
pub use thread::{Control, ControlSetup, Faulted};

/// The registry's number in the journal.
pub const MACHINE: journal::MachineId = journal::MachineId(1);

/// The settlement desk's number in the journal.
pub const DESK_MACHINE: journal::MachineId = journal::MachineId(2);
