//! Every limit of the hub that is not configured, with its reason. What is full is refused by name.

use std::time::Duration;

/// Messages of one session that are in shards' mailboxes and not yet handled. The reader stops reading the wallet's stream
/// when they are used up, so a mailbox holds at most this many a session, and HTTP/2 slows the wallet down.
pub const SESSION_WINDOW_MESSAGES: u32 = 32_768;

/// Messages queued towards one wallet. What a wallet can cause is bounded by its HTLCs; one that does not read for so long
/// is gone, and is disconnected, which loses nothing.
pub const SESSION_OUTGOING_MESSAGES: usize = 262_144;

/// Outgoing items taken from a session's queue for one frame. The frame's own limits (see `proto`) end it earlier.
pub const SESSION_TAKE: usize = 4_096;

/// Frames handed to HTTP/2 and not yet written. Two keep the line busy; more would only delay what comes after.
pub const SESSION_FRAMES_READY: usize = 2;

/// Mails a shard takes from its mailbox into one turn; the shard has a limit of its own on the work behind them.
pub const MAILS_A_TURN: usize = 4_096;

/// TCP connections in their TLS handshake at once. Each may cost half a millisecond of CPU.
pub const TLS_HANDSHAKES: usize = 1_024;

/// A connection on which no wallet has proven itself by then is closed, whatever else it asked: each holds a file descriptor,
/// and whoever may have them for nothing can keep everybody else out. Probes connect again.
pub const UNPROVEN_PATIENCE: Duration = Duration::from_secs(60);

/// HTTP/2 flow control window of a stream and of a connection: a frame of the largest size fits, and a wallet cannot
/// make the hub hold more than this unread.
pub const HTTP2_WINDOW_BYTES: u32 = 2 * 1024 * 1024;

/// HTTP/2 pings find dead connections: a wallet that vanished is noticed after interval and timeout.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// gRPC streams on one connection: one `Connect` and a few calls.
pub const HTTP2_STREAMS: u32 = 16;

/// Request ids remembered in all, about 100 bytes each. Reached only by a script that runs wild; it is refused by name.
pub const MAX_REQUESTS: usize = 100_000;

/// Streams agreed at once in all: about 150 bytes each.
pub const MAX_STREAMS: usize = 1_000_000;

/// Inbound channels requested and not yet final, in all wallets.
pub const MAX_INBOUND: usize = 100_000;

/// Channels whose funding is in no block yet, above which wallets without any other channel may propose no more: proposals and
/// node keys cost nothing, and each is kept for two weeks, some 5 KiB in memory, on the disk and in the watch on the chain.
pub const MAX_UNFUNDED: usize = 16_384;

/// Events read from the journal at once for one subscriber.
pub const EVENTS_A_READ: usize = 256;

/// How often timers are looked at: idle streams, batches, free space on the disk.
pub const TICK: Duration = Duration::from_millis(100);

/// How often the free space on the disk is asked for: one system call.
pub const HEADROOM_INTERVAL: Duration = Duration::from_secs(1);

/// How long a clean stop waits for the shards' snapshots before it gives up with a fault.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// How long the hub's info waits for the desk, which may be waiting for bitcoind.
pub const DESK_PATIENCE: Duration = Duration::from_secs(2);

/// How long an operator's call waits for its durable answer.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Size that a wallet pays for in a cooperative close, in virtual bytes: its input and a taproot output (138.6 measured
/// in a batch) and the frame of a transaction of its own (10.5), so that a batch of one pays for itself.
pub const CLOSING_VBYTES: u64 = 150;

/// How often bitcoind's state and the on-chain balance are looked at for people and health checks.
pub const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// How long open connections may take to end at a clean stop, before they are cut.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
