//! Every bound the channel keeps, each with its reason.

use bitcoin::{Amount, Weight};

/// The smallest allowed `dust_limit`: an output of an unknown segwit version of the greatest size is dust
/// below this at Bitcoin's standard relay settings (BOLT 3, "Dust Limits"), and a payout may go to any
/// witness program.
pub const MIN_DUST_LIMIT: Amount = Amount::from_sat(354);

/// The greatest allowed `dust_limit`: whoever has less than it at a close is paid nothing, so it must stay a
/// small sum.
pub const MAX_DUST_LIMIT: Amount = Amount::from_sat(10_000);

/// The shared anchor never holds more: from here on a pay-to-anchor output is no longer dust, so more would
/// only be money left on the table (BOLT 3, zero-fee commitments).
pub const MAX_SHARED_ANCHOR: Amount = Amount::from_sat(240);

/// Each of the two anchors of the format `option_anchors_zero_fee_htlc_tx`: the dust threshold of P2WSH (BOLT
/// 3).
pub const ANCHOR: Amount = Amount::from_sat(330);

/// HTLCs with an output in one direction: 228 in both together bring a zero-fee commitment to 39,992 weight
/// units, the most that fits [`MAX_COMMITMENT_WEIGHT`].
pub const MAX_HTLCS_WITH_OUTPUT: usize = 114;

/// A version-3 (TRUC) transaction may have 10,000 virtual bytes, and the commitment must always be relayed.
pub const MAX_COMMITMENT_WEIGHT: Weight = Weight::from_wu(40_000);

/// A child of a version-3 transaction may have 1,000 virtual bytes.
pub const MAX_ANCHOR_CHILD_WEIGHT: Weight = Weight::from_wu(4_000);

/// The shortest `to_self_delay` in blocks: tests on regtest use short ones; one block still separates the two
/// paths.
pub const MIN_TO_SELF_DELAY_BLOCKS: u16 = 1;

/// The longest `to_self_delay` in blocks, two weeks: money of an honest party is not locked for longer than
/// that (the value Lightning nodes accept at most).
pub const MAX_TO_SELF_DELAY_BLOCKS: u16 = 2_016;

/// Commitment numbers have 48 bits (BOLT 3); this is the last one, whose secret has index 0.
pub const MAX_COMMITMENT_NUMBER: u64 = (1 << 48) - 1;

/// The longest script a payout may have: a witness program of the greatest size (BIP 141).
pub const MAX_PAYOUT_SCRIPT_LENGTH: usize = 42;

/// Heights end here: a `cltv_expiry` from 500,000,000 on would be a time (BOLT 2, `update_add_htlc`).
pub const MAX_CLTV_EXPIRY: u32 = 500_000_000 - 1;

/// Trimmed HTLCs that one side may have in flight: they take no room in a commitment, but memory at both ends
/// (about 300 bytes each) and time in a reestablish, which retransmits them.
pub const MAX_DUST_HTLCS: u16 = 5_000;

/// The deepest confirmation an opening may ask for: a day and a half; more would be a way to hold our coins.
pub const MAX_MINIMUM_DEPTH: u32 = 200;

/// Blocks after which the accepter forgets an opening whose funding never confirmed (BOLT 2, "Funding
/// timeout").
pub const FUNDING_TIMEOUT_BLOCKS: u32 = 2_016;

/// Bytes kept of what a counterparty says when it gives up an opening: a few sentences for a person to read; the
/// peer chooses them, and they are journaled.
pub const MAX_PEER_TEXT_BYTES: usize = 1_024;

/// A side's sealed essentials: about 240 bytes in this version at most, with room for the next.
pub const MAX_SEALED_BLOB_BYTES: usize = 256;

/// A payload for a recipient: an ephemeral key, 41 bytes of content, the seal's tag.
pub const SEALED_PAYLOAD_BYTES: usize = 33 + 41 + 16;

/// Choices of an outgoing owner for one incoming HTLC: each waits for the durable failure of the one before.
pub const MAX_ATTEMPTS: u32 = 3;

/// Blocks past an outgoing HTLC's expiry after which its channel is closed: time for the peer to fail it, and
/// for a short reorganisation.
pub const OUTGOING_GRACE_BLOCKS: u32 = 3;

/// Blocks before an incoming HTLC's expiry at which its channel is closed if its preimage is known and the
/// payer has not removed it: commitment and claim must both confirm before the payer can take the HTLC back
/// (BOLT 2, "cltv_expiry_delta Selection": twice the grace and the depth of reorganisation).
pub const CLAIM_MARGIN_BLOCKS: u32 = 12;

/// Of those blocks, the ones left for the claim: our commitment must be in a block before them.
pub const SUCCESS_CLAIM_BLOCKS: u32 = 6;

/// Blocks that our commitment has to get into one, from the moment its channel is closed for an HTLC that we offered: with
/// [`TIMEOUT_CLAIM_BLOCKS`] still within the 34 that BOLT 2 counts.
pub const COMMITMENT_CONFIRM_BLOCKS: u32 = 12;

/// Blocks after the first that may hold it, by which the claim of an HTLC that we offered and that expired should be in a
/// block: only when it is final there is the HTLC it pays for failed, and that must happen before the one who
/// paid us closes its channel (34 blocks or more later, BOLT 2, "cltv_expiry_delta Selection").
pub const TIMEOUT_CLAIM_BLOCKS: u32 = 12;

/// The least difference between an incoming and its outgoing expiry (BOLT 2, "cltv_expiry_delta Selection": 34 blocks for
/// a reasonable node): [`OUTGOING_GRACE_BLOCKS`], [`COMMITMENT_CONFIRM_BLOCKS`] and [`TIMEOUT_CLAIM_BLOCKS`], until the
/// last of which the next hop may show the preimage, and what is left of it to be paid by the one before.
pub const MIN_CLTV_EXPIRY_DELTA: u16 = 34;

/// Blocks that an HTLC must have left when its payee learns of it (BOLT 2, "cltv_expiry_delta Selection": 18 for terminal
/// payments, the default of BOLT 11's `min_final_cltv_expiry_delta`): once it has told the preimage, the payer has what is
/// beyond [`CLAIM_MARGIN_BLOCKS`] to remove the HTLC, and the payee those to take it on the chain.
pub const MIN_FINAL_EXPIRY_BLOCKS: u32 = 18;

const _: () = assert!(MIN_FINAL_EXPIRY_BLOCKS > CLAIM_MARGIN_BLOCKS);

/// Blocks past its expiry after which a hub gives an HTLC up that nobody can decide: its output may be one of a
/// commitment that this side knows nothing of, and only the next hop can spend it. By then the incoming one expires, and
/// whoever offered it takes it back.
pub const UNDECIDED_PATIENCE_BLOCKS: u32 = MIN_CLTV_EXPIRY_DELTA as u32;

/// The same of a wallet's own payment, which nobody waits for: two weeks. What the hub has not taken by then it never will.
pub const UNDECIDED_PAYMENT_BLOCKS: u32 = 2_016;

/// Closing terms the hub may propose in one session: a fee that the wallet refuses may be lowered a few times.
pub const MAX_PROPOSED_TERMS: usize = 8;

/// Blocks that a wallet waits for the hub's close at most, two weeks: as long as its own commitment could
/// lock its money ([`MAX_TO_SELF_DELAY_BLOCKS`]). A frozen channel serves nobody.
pub const MAX_CLOSING_WAIT_BLOCKS: u32 = 2_016;

/// Blocks that a batch, published by the wallet at the agreed height, has to confirm before the wallet closes
/// alone: a day.
pub const HANDED_OVER_GRACE_BLOCKS: u32 = 144;

/// Batches a wallet takes for one close: the hub raises the fee of a batch now and then, but each is
/// journaled, so that a hub must not fill the wallet's disk with them.
pub const MAX_HAND_OVERS: u32 = 32;

/// The largest batch a wallet takes from the hub: a standard transaction has at most 400,000 weight units.
pub const MAX_CLOSING_TRANSACTION_BYTES: usize = 400_000;
