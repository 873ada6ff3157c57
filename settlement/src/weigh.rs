//! Weights of transactions before they are signed: never less than the signed ones', so that a fee suffices.

use bitcoin::{Script, Weight};
use channel::claim::Claim;

use crate::limits;
use crate::verify::BatchCoin;

/// Outpoint, empty script and sequence.
pub(crate) const BARE_INPUT: Weight = Weight::from_wu(41 * 4);

/// Version, lock time, marker and flag, and both counts at their longest below 65,536.
pub(crate) const FIXED: Weight = Weight::from_wu((4 + 4 + 3 + 3) * 4 + 2);

/// Marker and flag, which a transaction has once a witness is in it.
pub(crate) const SEGWIT_MARK: Weight = Weight::from_wu(2);

/// The witness of an input that has none, beside others that do.
pub(crate) const EMPTY_WITNESS: Weight = Weight::from_wu(1);

/// An input that spends a pay-to-anchor output.
pub(crate) const ANCHOR_INPUT: Weight = Weight::from_wu(41 * 4 + 1);

/// An input that spends the delayed output of an HTLC transaction (BOLT 3), a witness script of 80 bytes at most.
pub(crate) const DELAYED_INPUT: Weight = Weight::from_wu(41 * 4 + 1 + 1 + 72 + 1 + 1 + 80);

/// A signature at its longest.
pub(crate) fn longest_signature() -> u64 {
    u64::try_from(limits::MAX_SIGNATURE_BYTES).unwrap_or(u64::MAX)
}

/// An output with this script.
pub(crate) fn output(script: &Script) -> Weight {
    let bytes = u64::try_from(script.len()).unwrap_or(u64::MAX);
    Weight::from_vb(bytes.saturating_add(8 + 1)).unwrap_or(Weight::MAX)
}

/// The witness of a coin, P2TR or else P2WPKH at its longest.
pub(crate) fn coin_witness(coin: &BatchCoin) -> Weight {
    if coin.output.script_pubkey.is_p2tr() {
        return Weight::from_wu(1 + 1 + 64);
    }
    Weight::from_wu(1 + 1 + longest_signature() + 1 + 33)
}

/// An input that spends a coin of either kind at its heaviest.
pub(crate) fn coin_input() -> Weight {
    BARE_INPUT + Weight::from_wu(1 + 1 + longest_signature() + 1 + 33)
}

/// What a claim adds to a transaction: its input with the witness, and the output beside it if there is one.
pub(crate) fn claim(claim: &Claim) -> Weight {
    let paired = claim.paired_output().map_or(Weight::ZERO, |paired| output(&paired.script_pubkey));
    claim.input_weight() + paired
}

/// What a transaction of claims weighs at most without them: with all coins that it may have, and the longest script
/// for what is left.
pub(crate) fn claim_overhead() -> Weight {
    let coins: Weight = (0..limits::MAX_FEE_COINS).map(|_| coin_input()).sum();
    let longest_script = Weight::from_vb(8 + 1 + 34).unwrap_or(Weight::MAX);
    FIXED + longest_script + coins
}
