//! What can go wrong between us and bitcoind, one variant a cause, so that a caller can tell "try again" from
//! "the operator must act".

use bitcoin::Network;

/// bitcoind's own error code for "still starting up".
pub(crate) const RPC_IN_WARMUP: i64 = -28;
/// "Block height out of range", "No such transaction", and other parameters that name nothing.
pub(crate) const RPC_INVALID_PARAMETER: i64 = -8;
/// "Block not found", "No such mempool or blockchain transaction".
pub(crate) const RPC_INVALID_ADDRESS_OR_KEY: i64 = -5;
/// A transaction that cannot be checked, usually because an input is missing or spent.
pub(crate) const RPC_VERIFY_ERROR: i64 = -25;
/// A transaction refused by policy or consensus rules.
pub(crate) const RPC_VERIFY_REJECTED: i64 = -26;
/// A transaction whose outputs are in the UTXO set already.
pub(crate) const RPC_VERIFY_ALREADY_IN_UTXO_SET: i64 = -27;

/// A failed call to bitcoind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RpcError {
    /// No connection, or it broke before the reply was complete. The call may have been carried out.
    #[error("bitcoind cannot be reached: {reason}")]
    Unreachable {
        /// What the operating system or the HTTP layer said.
        reason: String,
    },
    /// No reply in time. The call may have been carried out.
    #[error("bitcoind did not answer {method} within {seconds} s")]
    Timeout {
        /// The method called.
        method: &'static str,
        /// How long we waited.
        seconds: u64,
    },
    /// The user and password, or the cookie as it is on disk now, were refused.
    #[error("bitcoind refused the credentials from {source_name}")]
    Unauthorized {
        /// Where the credentials came from, never the credentials themselves.
        source_name: String,
    },
    /// The cookie file cannot be read. bitcoind removes it when it stops.
    #[error("the cookie file {path} cannot be read: {reason}")]
    NoCookie {
        /// The file asked for.
        path: String,
        /// What the operating system said.
        reason: String,
    },
    /// bitcoind is starting and serves no calls yet.
    #[error("bitcoind is starting: {message}")]
    Warmup {
        /// What it is doing ("Loading block index…").
        message: String,
    },
    /// bitcoind's own queue of calls is full, or ours is.
    #[error("too many calls are waiting: {reason}")]
    Busy {
        /// Whose queue.
        reason: String,
    },
    /// bitcoind understood the call and refused it.
    #[error("bitcoind answered {method} with error {code}: {message}")]
    Rpc {
        /// The method called.
        method: &'static str,
        /// bitcoind's error code.
        code: i64,
        /// bitcoind's message.
        message: String,
    },
    /// The reply is not what the method promises.
    #[error("bitcoind's reply to {method} makes no sense: {reason}")]
    Malformed {
        /// The method called.
        method: &'static str,
        /// What was wrong with the reply.
        reason: String,
    },
    /// The node serves another network than the one configured.
    #[error("bitcoind is on {found}, but {expected} is configured")]
    WrongNetwork {
        /// The chain the node names.
        found: String,
        /// The network configured.
        expected: Network,
    },
    /// The node deletes old blocks, so blocks could be missed after a pause.
    #[error("bitcoind prunes its blocks (kept from height {kept_from}); a node with all blocks is needed")]
    Pruned {
        /// Lowest height it still has.
        kept_from: u64,
    },
    /// The node is older than what we rely on.
    #[error("bitcoind has version {found}, at least {needed} is needed")]
    TooOld {
        /// The node's version, as a number (300000 is 30.0).
        found: u64,
        /// The lowest version accepted.
        needed: u64,
    },
}

impl RpcError {
    /// True if the same call may succeed later without anybody changing anything but bitcoind's own state:
    /// the node is down, slow, starting or overloaded, or its cookie is not yet written.
    pub fn is_transient(&self) -> bool {
        match self {
            RpcError::Unreachable { .. }
            | RpcError::Timeout { .. }
            | RpcError::Unauthorized { .. }
            | RpcError::NoCookie { .. }
            | RpcError::Warmup { .. }
            | RpcError::Busy { .. } => true,
            RpcError::Rpc { .. }
            | RpcError::Malformed { .. }
            | RpcError::WrongNetwork { .. }
            | RpcError::Pruned { .. }
            | RpcError::TooOld { .. } => false,
        }
    }
}
