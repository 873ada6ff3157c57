//! Between the shards and the settlement desk: requests one way, commands the other, and the journal for both.

mod host;
mod requests;

pub use host::{ChainHost, DeskRecoverError, DeskState, desk_config, recover_desk, rpc_config};
pub use requests::{Terms, ToDesk, forward_requests};
