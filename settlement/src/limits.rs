//! Every limit of this crate, each with its reason.

use std::time::Duration;

/// RPC connections kept to bitcoind, used in rotation. One connection stalls about 50 ms between two requests
/// that follow each other at once; four reach most of what sixteen do and leave bitcoind's threads to others.
pub const RPC_CONNECTIONS: usize = 4;

/// Calls waiting for a connection, beyond those in flight. More than this means that bitcoind cannot keep up,
/// and a queue that grows without end would only hide it.
pub const RPC_MAX_WAITING: usize = 4_096;

/// An idle connection older than this is not used again: bitcoind closes idle ones after 30 seconds.
pub const RPC_IDLE: Duration = Duration::from_secs(25);

/// A TCP connection to a node on the same network is made well within this.
pub const RPC_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest a call may take. A full block with `getblock` takes 6-16 ms; a node busy writing its cache to disk
/// answers nothing for seconds.
pub const RPC_CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// `scantxoutset` reads the whole UTXO set, which takes minutes on mainnet.
pub const RPC_SCAN_TIMEOUT: Duration = Duration::from_secs(1_800);

/// The largest reply read. A block of 4,000,000 bytes is 8,000,000 hex characters; batches are kept below it.
pub const RPC_MAX_REPLY_BYTES: usize = 32 * 1024 * 1024;

/// Calls in one batch. Larger batches gain nothing and hold a bitcoind thread longer.
pub const RPC_MAX_BATCH: usize = 100;

/// `testmempoolaccept` takes at most 25 transactions in one call.
pub const TEST_ACCEPT_MAX: usize = 25;

/// The oldest bitcoind that has ephemeral dust and `waitfornewblock` with `current_tip`.
pub const MIN_NODE_VERSION: u64 = 300_000;

/// How long bitcoind holds a `waitfornewblock`. The connection is idle meanwhile; a shorter wait costs a call more,
/// a longer one finds a dead peer later.
pub const LONG_POLL: Duration = Duration::from_secs(30);

/// First pause after bitcoind failed to answer, doubled each time up to [`RETRY_MAX`].
pub const RETRY_FIRST: Duration = Duration::from_millis(100);

/// The longest pause between two attempts to reach bitcoind: short enough that a restarted node is found at once
/// in human terms, long enough to be no load.
pub const RETRY_MAX: Duration = Duration::from_secs(5);

/// Blocks fetched ahead of the consumer while catching up: enough to keep every connection busy, few enough
/// that full blocks stay below 64 MB of memory.
pub const BLOCKS_AHEAD: usize = 8;

/// How long a connection must rest before it is used again while another may still be opened (see
/// [`RPC_CONNECTIONS`]).
pub const RPC_STALL: Duration = Duration::from_millis(60);
