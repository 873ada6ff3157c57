//! Every limit of this crate, with its reason.

use std::time::Duration;

/// How long a freshly started bitcoind may take until it answers. It takes 0.3 s on an idle machine; the rest is room
/// for a test run in which every core is taken.
pub const READY_WITHIN: Duration = Duration::from_secs(120);

/// How long a bitcoind asked to stop may take to write its state to the disk and exit.
pub const STOP_WITHIN: Duration = Duration::from_secs(120);

/// How long one call may take. The slowest are mining hundreds of blocks and scanning a large set of coins.
pub const CALL_WITHIN: Duration = Duration::from_secs(120);

/// How long `bitcoind -version` may take: it answers at once, but a wrapper script that waits for input never does.
pub const VERSION_WITHIN: Duration = Duration::from_secs(30);

/// How many ports are tried before starting is given up. Two tries in a row meet a port taken between choice and use
/// about once in a hundred million.
pub const PORT_TRIES: u32 = 20;

/// How long hubs and wallets of a lab wait after a start for a peer that may prove their data old, in seconds: the default is
/// for people, and a lab's programs start all the time.
pub const PROOF_WAIT_SECONDS: u64 = 1;

/// How often a condition is looked at again while waiting for it.
pub const POLL_EVERY: Duration = Duration::from_millis(10);

/// Between two tries of a payment that was refused for a passing reason: a refusal that comes at once would use up all
/// tries before the reason has passed.
pub const BETWEEN_TRIES: Duration = Duration::from_millis(50);

/// Threads that answer calls. A pending `waitfornewblock` holds one for as long as it waits, and a test may run
/// several hubs against one node; the default of 16 has been seen exhausted.
pub const RPC_THREADS: u32 = 32;

/// Calls that may queue for a thread before bitcoind refuses more; generous, since a refusal would be a false alarm.
pub const RPC_QUEUE: u32 = 1024;

/// The largest answer taken from bitcoind, in bytes: the hexadecimal text of a full block is 8 MB.
pub const RPC_ANSWER_BYTES: u64 = 256 * 1024 * 1024;

/// Outputs in one fan-out transaction: 1,000 P2TR or P2WSH outputs take 43 kvB, well below the 100 kvB of a standard
/// transaction and the 101 kvB of a cluster.
pub const FAN_OUT_OUTPUTS: usize = 1_000;

/// Lines of a log shown in an error; the whole log is named beside them.
pub const LOG_TAIL_LINES: usize = 15;

/// How long hub or wallet may take from their start until they serve: replaying a journal, and following the chain. It takes a
/// tenth of a second on an idle machine; the rest is room for one in which every core is taken.
pub const START_WITHIN: Duration = Duration::from_secs(60);

/// How long a new block may take until hub and wallets know it. Wallets poll.
pub const CHAIN_WITHIN: Duration = Duration::from_secs(60);

/// How long openings may take that need no more blocks.
pub const OPEN_WITHIN: Duration = Duration::from_secs(60);

/// How long payments and closes may take that need no more blocks, restarts included.
pub const SETTLE_WITHIN: Duration = Duration::from_secs(90);

/// Blocks mined for something that a few blocks bring about.
pub const PATIENT_BLOCKS: u32 = 40;

/// How often a payment is tried again when somebody was just restarted.
pub const PAY_TRIES: u32 = 60;

/// Rows asked for in one page: the most that is given.
pub const PAGE_ROWS: u32 = proto::limits::MAX_PAGE_ROWS;
