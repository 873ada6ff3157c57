//! How far the walks go, and why no farther.

use channel::limits::{CLAIM_MARGIN_BLOCKS, OUTGOING_GRACE_BLOCKS};

use super::pair::HEIGHT;

/// Rows that a modelled disk may be behind. Two are enough to tell every order of "appended" and "durable" of two steps
/// that depend on each other; each more multiplies the states without a new order of two.
pub const UNSYNCED_ROWS: usize = 2;

/// States of a walk in the ordinary tests: a walk that needs more has grown beyond what a minute holds, and says so.
pub const MAX_STATES_IN_TESTS: usize = 3_000_000;

/// States of a walk that a person asks for: some 500 bytes each stay in memory.
pub const MAX_STATES: usize = 20_000_000;

/// The latest height at which an add may be signed.
pub const SIGN_BY: u32 = HEIGHT + 10;
/// The outgoing HTLC's expiry.
pub const OUT_EXPIRY: u32 = HEIGHT + 60;
/// The incoming HTLC's expiry.
pub const IN_EXPIRY: u32 = HEIGHT + 100;

/// The heights that pass. Nothing depends on those between: each is the first at which a rule gives another answer.
pub const HEIGHTS: [u32; 8] = [
    // Too late to sign.
    SIGN_BY + 1,
    // The payee's last to claim with the preimage.
    OUT_EXPIRY - CLAIM_MARGIN_BLOCKS,
    // A signed add is not sent again; the hub may take it back on the chain.
    OUT_EXPIRY,
    MARGIN_BEGINS,
    // The hub's last to claim from the payer.
    IN_EXPIRY - CLAIM_MARGIN_BLOCKS,
    IN_EXPIRY,
    // The payer gives up on its channel.
    IN_EXPIRY + OUTGOING_GRACE_BLOCKS,
    LAST_HEIGHT,
];

/// As few as lead to the end with nobody's deadline left out: some of the others pass at once.
pub const FEW_HEIGHTS: [u32; 5] = [
    OUT_EXPIRY - CLAIM_MARGIN_BLOCKS,
    MARGIN_BEGINS,
    IN_EXPIRY - CLAIM_MARGIN_BLOCKS,
    IN_EXPIRY + OUTGOING_GRACE_BLOCKS,
    LAST_HEIGHT,
];

/// The hub gives up on the outgoing channel. Up to here time passes whatever the hub does. From here on it passes only while the
/// hub runs and has nothing to do by itself: the difference between the two expiries is chosen so that blocks take longer
/// than that.
pub const MARGIN_BEGINS: u32 = OUT_EXPIRY + OUTGOING_GRACE_BLOCKS;

/// Every delay is over, and nothing is decided any more.
pub const LAST_HEIGHT: u32 = IN_EXPIRY + 100;
