//! Every limit of the shard, with its reason. What is full is refused by name and changes nothing.

/// Mails and peer messages one turn takes before it signs and appends. A turn's work must end, so that its row reaches
/// the disk and other mail is looked at: at about 2 us a message this is under 20 ms.
pub const MAX_WORK_A_TURN: usize = 8_192;

/// A turn takes no more mail once its records hold this many bytes: a quarter of the journal's queue for a hub with
/// several shards, so that no single batch fills it.
pub const MAX_BATCH_BYTES: usize = 4 * 1024 * 1024;

/// Messages between channels of this shard handled in one turn; the rest waits for the next, which the host is told to
/// start at once. A forward costs at most three tries of three messages, so this is room for everything one turn's mail causes.
pub const MAX_INTERNALS_A_TURN: usize = 16 * MAX_WORK_A_TURN;

/// Rounds of "handle what channels told each other, then sign" in one turn. Signing may only fail late adds, whose
/// owners try again at most three times; later rounds wait for the next turn.
pub const MAX_ROUNDS_A_TURN: usize = 8;

/// Blocks that a peer has, from when this shard heard of an opening, until the funding's signatures are exchanged: an hour for what takes
/// seconds. Until then its funder's coins are locked, and may be those that it needs to close other channels with.
pub const OPENING_PATIENCE_BLOCKS: u32 = 6;

/// Channels in one shard. With 4 KiB an idle channel this is 4 GiB; the host's policy is lower.
pub const MAX_CHANNELS: usize = 1_000_000;

/// Channels one node may have in one shard. Every connection of the node touches all of them.
pub const MAX_CHANNELS_PER_NODE: usize = 1_024;

/// Sessions one shard keeps at once. The host limits connections long before.
pub const MAX_SESSIONS: usize = 1_000_000;

/// Channels whose snapshots one turn takes: at a few KiB each a batch stays within a few MiB.
pub const MAX_SNAPSHOTS_A_TURN: usize = 512;

/// Rows of the revocation log that one turn deletes for channels that ended, and their keys read at once. A channel that
/// lived on payments with outputs may have a million; a thousand deletions hold up one commit by some 15 ms.
pub const MAX_SWEPT_A_TURN: usize = 1_024;

/// Most channels one page of a read holds; larger requests get this many. Encoding a page must not hold up a turn.
pub const MAX_PAGE: usize = 256;

/// Events written one by one in one turn. Above it failed forwards are counted instead of listed, so that a storm of
/// failures costs a few rows and not megabytes.
pub const MAX_SINGLE_EVENTS_A_TURN: usize = 1_024;

/// What is kept of a channel whose records do not fold, for a person to look at: its last good snapshot and the records
/// after it, up to this many bytes in all.
pub const MAX_EVIDENCE_BYTES: usize = 4 * 1024 * 1024;

/// Bytes of the text in a `ChannelError` this side sends.
pub const MAX_ERROR_TEXT_BYTES: usize = 256;

/// Deadlines of one channel that are met at one height, one after the other: HTLCs are given up, the channel fails, and offers or
/// further HTLCs go with it. What were left is met at the next height.
pub const DEADLINES_AT_ONCE: u32 = 4;
