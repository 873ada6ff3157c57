//! Every limit of the journal, with its reason. Those that an operator may change are defaults of
//! [`Options`](crate::Options); the rest are part of the format or of its cost.

/// Version of the file's own layout (tables, keys, row encoding). Raised by every change that an older
/// program could not read.
pub const FORMAT_VERSION: u32 = 1;

/// A row of the log is closed before it grows past this many bytes. The storage engine rounds a large value
/// up to a power of two of 4 KiB pages, with its own header inside: 32,000 fits in eight pages, while
/// 32,768 takes sixteen and wastes half of them.
pub const ROW_BYTES: usize = 32_000;

/// Largest payload of one record. Only a record above [`ROW_BYTES`] gets a row of its own size. A
/// commitment with all its HTLC signatures is about 32 KiB; a change set of the on-chain wallet may be more.
pub const MAX_RECORD_BYTES: usize = 4 * 1024 * 1024;

/// Largest payload of one snapshot. A channel's is a few KiB; the on-chain wallet's grows with its history; the hub's registry and the
/// wallet's ledger stay below it by limits of their own, because a machine above it could never be stopped cleanly again.
pub const MAX_SNAPSHOT_BYTES: usize = 128 * 1024 * 1024;

/// Largest key of a retained row. Keys are compared on every step down the tree, so they must stay short.
pub const MAX_RETAINED_KEY_BYTES: usize = 512;

/// Largest value of a retained row: a publish job holds a whole transaction of at most 400,000 weight units.
pub const MAX_RETAINED_VALUE_BYTES: usize = 4 * 1024 * 1024;

/// Largest event. Events are for subscribers of the API, whose messages are bounded too.
pub const MAX_EVENT_BYTES: usize = 64 * 1024;

/// Largest network name in the header ("testnet4" is the longest in use).
pub const MAX_NETWORK_BYTES: usize = 64;

/// Largest owner in the header: a role and a node key.
pub const MAX_OWNER_BYTES: usize = 256;

/// Default bound of what is appended and not yet committed, in bytes. At a million records of 100 bytes a second it is
/// 0.2 s of the disk standing still. It bounds a commit too, whose pages should fit in half of the cache: more are
/// written out early, some of them twice.
pub const DEFAULT_QUEUE_BYTES: usize = 32 * 1024 * 1024;

/// Default size of the log above which snapshots are asked for. It bounds the time of a restart: about
/// 2.5 million records of 100 bytes, read and folded in a few seconds.
pub const DEFAULT_LOG_BYTES: u64 = 256 * 1024 * 1024;

/// Default size of the kept events. A subscriber that was away longer than that many bytes of events is told so.
pub const DEFAULT_EVENT_BYTES: u64 = 64 * 1024 * 1024;

/// Default cache of the storage engine. Half of it may hold pages not yet written: the largest commit. What the log
/// reads back is recent and in the system's page cache anyway.
pub const DEFAULT_CACHE_BYTES: usize = 64 * 1024 * 1024;

/// Rows removed by one commit, at least: enough to keep up, little enough (about 15 us each) not to be
/// felt in the latency of a lone payment.
pub const TRIM_ROWS_MINIMUM: usize = 16;

/// Rows removed by one commit for each row it adds, so that trimming outruns growth under any load.
pub const TRIM_ROWS_PER_ROW: usize = 2;

/// Rows of the log read in one commit to find the machines that pin them. Bounds the time of the search:
/// 64 rows of 32,000 bytes are read and decoded in about a millisecond.
pub const PIN_SEARCH_ROWS: usize = 64;

/// A machine that was asked for a snapshot and gave none is asked again once the log has taken this share
/// (one part in so many) of its allowed size since.
pub const ASK_AGAIN_SHARE: u64 = 8;

/// What a row costs besides its value (key, offsets, its part of the tree above), counted in the log's size
/// so that many tiny rows are bounded too.
pub const ROW_OVERHEAD_BYTES: u64 = 32;

/// Events returned by one read hold at most this many bytes, whatever number was asked for.
pub const MAX_EVENTS_READ_BYTES: usize = 4 * 1024 * 1024;

/// Retained rows returned by one range read hold at most this many bytes, whatever number was asked for.
pub const MAX_RANGE_READ_BYTES: usize = 16 * 1024 * 1024;
