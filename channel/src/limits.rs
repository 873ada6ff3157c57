//! Every bound the channel keeps, each with its reason.

use bitcoin::{Amount, Weight};

/// The smallest allowed `dust_limit`: an output of an unknown segwit version of the greatest size is dust below this
/// at Bitcoin's standard relay settings (BOLT 3, "Dust Limits"), and a payout may go to any witness program.
pub const MIN_DUST_LIMIT: Amount = Amount::from_sat(354);

/// The shared anchor never holds more: from here on a pay-to-anchor output is no longer dust, so more would only be
/// money left on the table (BOLT 3, zero-fee commitments).
pub const MAX_SHARED_ANCHOR: Amount = Amount::from_sat(240);

/// Each of the two anchors of the format `option_anchors_zero_fee_htlc_tx`: the dust threshold of P2WSH (BOLT 3).
pub const ANCHOR: Amount = Amount::from_sat(330);

/// HTLCs with an output in one direction: 228 in both together bring a zero-fee commitment to 39,992 weight units,
/// the most that fits [`MAX_COMMITMENT_WEIGHT`].
pub const MAX_HTLCS_WITH_OUTPUT: usize = 114;

/// A version-3 (TRUC) transaction may have 10,000 virtual bytes, and the commitment must always be relayed.
pub const MAX_COMMITMENT_WEIGHT: Weight = Weight::from_wu(40_000);

/// A child of a version-3 transaction may have 1,000 virtual bytes.
pub const MAX_ANCHOR_CHILD_WEIGHT: Weight = Weight::from_wu(4_000);

/// The shortest `to_self_delay` in blocks: tests on regtest use short ones; one block still separates the two paths.
pub const MIN_TO_SELF_DELAY_BLOCKS: u16 = 1;

/// The longest `to_self_delay` in blocks, two weeks: money of an honest party is not locked for longer than that
/// (the value Lightning nodes accept at most).
pub const MAX_TO_SELF_DELAY_BLOCKS: u16 = 2_016;

/// Commitment numbers have 48 bits (BOLT 3); this is the last one, whose secret has index 0.
pub const MAX_COMMITMENT_NUMBER: u64 = (1 << 48) - 1;

/// The longest script a payout may have: a witness program of the greatest size (BIP 141).
pub const MAX_PAYOUT_SCRIPT_LENGTH: usize = 42;
