//! Bounds of what crosses the wire, each with its reason.

/// Version of the wallet-hub protocol spoken here.
pub const PROTOCOL_VERSION: u32 = 1;

/// Largest frame in bytes, encoded: room for a full round of updates, small enough that thousands of connections
/// cannot fill the memory.
pub const MAX_FRAME_BYTES: usize = 1024 * 1024;

/// What gRPC itself lets through, in bytes: above [`MAX_FRAME_BYTES`], so that the refusal is ours and by name.
pub const MAX_GRPC_MESSAGE_BYTES: usize = 2 * MAX_FRAME_BYTES;

/// A sender begins another frame above this size, in bytes: a message more never breaks the limit of a frame.
pub const FRAME_TARGET_BYTES: usize = 256 * 1024;

/// Messages about channels in one frame. The smallest takes 4 bytes, so the frame's size alone would allow 262,144;
/// one shard's turn should stay short.
pub const MAX_MESSAGES_PER_FRAME: usize = 16_384;

/// Agreements on streams in one frame: far more than a wallet may have streams.
pub const MAX_RELAYS_PER_FRAME: usize = 1_024;

/// Requests for inbound channels in one frame, and answers: people ask for them one at a time.
pub const MAX_INBOUND_PER_FRAME: usize = 16;

/// HTLC signatures in one `commitment_signed`: 114 a direction (BOLT 3, zero-fee commitments).
pub const MAX_HTLC_SIGNATURES: usize = 228;

/// The sealed copy of a side's essentials, in bytes; the channel's own bound.
pub const MAX_SEALED_BYTES: usize = channel::limits::MAX_SEALED_BLOB_BYTES;

/// The sealed payload for an HTLC's recipient, in bytes; the channel's own bound.
pub const MAX_PAYLOAD_BYTES: usize = channel::limits::SEALED_PAYLOAD_BYTES;

/// Name of a commitment format, in bytes.
pub const MAX_FORMAT_BYTES: usize = 64;

/// An output script in `shutdown`, in bytes: a witness program of the greatest size (BIP 141).
pub const MAX_SCRIPT_BYTES: usize = channel::limits::MAX_PAYOUT_SCRIPT_LENGTH;

/// A closing transaction, in bytes: Bitcoin's relay limit of 400,000 weight units, witness bytes counted once.
pub const MAX_TRANSACTION_BYTES: usize = channel::limits::MAX_CLOSING_TRANSACTION_BYTES;

/// A funding transaction without its witnesses, in bytes: more would not be relayed (400,000 weight units, four a byte).
pub const MAX_FUNDING_BYTES: usize = 100_000;

/// Text for people, in bytes: enough for a sentence with two keys in it.
pub const MAX_TEXT_BYTES: usize = 1_024;

/// Absolute heights are below this, above it a lock time means a time (BOLT 2, `cltv_expiry`).
pub const MAX_HEIGHT: u32 = channel::limits::MAX_CLTV_EXPIRY;

/// Commitment numbers have 48 bits (BOLT 3).
pub const MAX_COMMITMENT_NUMBER: u64 = channel::limits::MAX_COMMITMENT_NUMBER;

/// Rows in a page of any list, and how many come when the caller does not say.
pub const MAX_PAGE_ROWS: u32 = 1_000;
pub const DEFAULT_PAGE_ROWS: u32 = 100;

/// How long a `request_id` is remembered, in milliseconds: a day covers every retry that a script makes by itself.
pub const REQUEST_ID_MEMORY_MS: u64 = 24 * 60 * 60 * 1000;

/// How far a `request_id`'s time may lie ahead of this clock, in milliseconds: clocks of one machine or a careful network differ less.
pub const REQUEST_ID_AHEAD_MS: u64 = 5 * 60 * 1000;
