//! Every limit of the wallet, with its reason. What is full is refused by name and changes nothing.

/// Payments in flight at once: each holds an HTLC, and channels allow a few thousand.
pub const MAX_PAYMENTS_IN_FLIGHT: usize = 10_000;

/// Invoices that may still be paid. Expired ones are forgotten first; each takes about a kilobyte.
pub const MAX_INVOICES: usize = 100_000;

/// Bytes of their texts and descriptions in all: a snapshot holds them, and one that is too large would be the daemon's end. A usual
/// invoice has 500, so this is room for 50,000.
pub const MAX_INVOICE_BYTES: usize = 24 * 1024 * 1024;

/// Payments made whose invoice has not expired: they are remembered so that none is paid twice. 50 bytes each.
pub const MAX_SETTLED_REMEMBERED: usize = 500_000;

/// Streams of each direction that have not ended. The receipts of each cost a signature a second.
pub const MAX_LIVE_STREAMS: usize = 1_000;

/// Ended streams kept for `ListStreams`; the oldest above it are forgotten.
pub const MAX_ENDED_STREAMS: usize = 1_000;

/// Request ids remembered. A day's worth at about one a second.
pub const MAX_REQUESTS: usize = 100_000;

/// Ticks of one stream: the number must leave room for replacements of failed ticks within [`STREAM_INDEX_BITS`].
pub const MAX_TICKS: u64 = 1_000_000_000;

/// Bits of a ledger HTLC's number that are a tick's index; the rest is the stream's number (0: not a stream).
pub const STREAM_INDEX_BITS: u32 = 36;

/// Most ticks of one stream in flight: what a channel allows of trimmed HTLCs.
pub const MAX_TICKS_IN_FLIGHT: u32 = channel::limits::MAX_DUST_HTLCS as u32;

/// Ticks one stream sends in one turn, so that turns stay short and streams share.
pub const MAX_TICKS_A_TURN: u64 = 2_048;

/// Gaps in the indices that a payee remembers; ticks that never arrived below the lowest gap count as used.
/// A hostile payer makes them on purpose, in every stream it may have, and a snapshot holds them all.
pub const MAX_INDEX_GAPS: usize = 2_048;

/// Channels tried for one payment (DESIGN 10.8).
pub const MAX_ATTEMPTS: u32 = channel::limits::MAX_ATTEMPTS;

/// Blocks that may pass while a payment travels: the payer adds them to what the payee asks for.
pub const EXPIRY_SLACK_BLOCKS: u32 = 6;

/// Longest description of an invoice in bytes (BOLT 11: 639 characters fit the field).
pub const MAX_DESCRIPTION_BYTES: usize = 639;

/// An invoice lives an hour unless told otherwise (BOLT 11), a year at most.
pub const DEFAULT_INVOICE_EXPIRY_SECONDS: u32 = 3_600;
pub const MAX_INVOICE_EXPIRY_SECONDS: u32 = 31_536_000;

/// How long a proposed stream waits for its acceptance, and how often it asks, in milliseconds.
pub const STREAM_PROPOSAL_PATIENCE_MS: u64 = 60_000;
pub const STREAM_PROPOSAL_RETRY_MS: u64 = 2_000;

/// How long a running stream goes on without a settled tick (the hub or the payee may be restarting), in milliseconds.
pub const STREAM_STALL_PATIENCE_MS: u64 = 300_000;

/// How long the payer waits for the last receipt, in milliseconds; the ticks themselves are settled by then.
pub const STREAM_RECEIPT_PATIENCE_MS: u64 = 15_000;

/// How long a payee keeps a stream without a single tick, in milliseconds: twice as long as a payer goes on without one. Streams
/// that only take up room must not keep others out.
pub const STREAM_FIRST_TICK_MS: u64 = 2 * STREAM_STALL_PATIENCE_MS;

/// How often a payee gives receipts, in milliseconds.
pub const RECEIPT_INTERVAL_MS: u64 = 1_000;

/// Pause after failed ticks, in milliseconds: the first and the longest; it doubles between.
pub const STREAM_PAUSE_MS: u64 = 50;
pub const MAX_STREAM_PAUSE_MS: u64 = 2_000;

/// How long an idle stream is kept by the payee, in milliseconds: a day.
pub const STREAM_IDLE_MS: u64 = 24 * 60 * 60 * 1000;

/// How long a client of the daemon tries to connect, in milliseconds: it is on this machine.
pub const CLIENT_CONNECT_PATIENCE_MS: u64 = 5_000;

/// How long a client goes on asking after its connection broke, unless told otherwise, in milliseconds: a daemon that is
/// started again is there in a second or two. Also the wait for a payment.
pub const CLIENT_RETRY_PATIENCE_MS: u64 = 60_000;

/// The same for commands that change nothing, in milliseconds: people wait at the terminal, and can just ask again.
pub const CLIENT_READ_PATIENCE_MS: u64 = 10_000;

/// Pause of a client before it connects again, in milliseconds.
pub const CLIENT_RETRY_MS: u64 = 200;

/// How long `hubwallet stop` waits for the daemon's end, in milliseconds: it writes snapshots of all channels.
pub const CLIENT_STOP_PATIENCE_MS: u64 = 60_000;

/// How long a command waits for a scan of the chain: bitcoind reads its whole set of unspent outputs, which takes minutes on
/// a large chain. More than the daemon waits for bitcoind.
pub const CLIENT_SCAN_PATIENCE_SECONDS: u64 = 1_830;

/// Events that `hubwallet events` shows when not told from which on.
pub const EVENTS_SHOWN: u64 = 20;

/// Below so much free space on the disk new payments, streams, invoices and channels are refused unless configured otherwise, in
/// MiB: what is under way must still fit, and a wallet's journal is bounded well below.
pub const DISK_HEADROOM_MIB: u64 = 64;

/// The most that can be configured for it, in MiB: more than any disk, and far from where its bytes would overflow.
pub const MAX_DISK_HEADROOM_MIB: u64 = 1 << 30;

/// Frames waiting for a hub that does not read. A round is a frame or a few, so thousands mean that nobody is there.
pub const FRAMES_OUT: usize = 4_096;

/// Blocks before its expiry at which a held payment fails by itself: whoever takes the preimage later could be forced to
/// claim on the chain with too little time ([`channel::limits::CLAIM_MARGIN_BLOCKS`], and an hour to decide).
pub const HOLD_MARGIN_BLOCKS: u32 = channel::limits::CLAIM_MARGIN_BLOCKS + 6;

/// Blocks that a hold invoice asks for on top, a day: the time its maker has to decide.
pub const HOLD_WINDOW_BLOCKS: u32 = 144;

/// How long a hold invoice is remembered after its expiry, 15 days: longer than any HTLC that pays it can wait.
pub const HOLD_KEPT_MS: u64 = 15 * 24 * 60 * 60 * 1_000;

/// Channels that the hub was asked for over one connection and has not proposed yet: people ask for them one at a time, and a
/// hub answers within seconds.
pub const MAX_AGREED_INBOUND: usize = 1_024;

/// Without a limit of the caller's a channel of the hub's costs at most its capacity divided by this: what is published is
/// agreed to unseen only as long as it is in proportion.
pub const MAX_UNASKED_INBOUND_SHARE: u64 = 10;
