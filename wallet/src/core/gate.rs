//! What waits for the disk.

use proto::relay::Relay;

use crate::ledger::state::Ended;

/// Something that may leave once the ledger's batch it rests on is durable.
pub enum Gated {
    /// Through the hub, to the other end of a stream.
    Relay(Relay),
    /// An answer.
    Run(Box<dyn FnOnce() + Send>),
    /// A payment ended: whoever waits for it is told.
    Paid(Box<Ended>),
}

impl std::fmt::Debug for Gated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gated(..)")
    }
}
