//! Weights of a batch before it is signed: never less than the signed one's, so that the fee suffices.

use bitcoin::{Script, Transaction, Weight};
use channel::closing::TicketSpec;

use crate::limits;
use crate::verify::BatchCoin;
use crate::weigh::{BARE_INPUT, FIXED, SEGWIT_MARK, coin_witness, longest_signature, output};

/// The witness script: two keys of 33 bytes with their pushes, and three opcodes.
const FUNDING_SCRIPT_BYTES: u64 = 71;

/// A signature at its shortest in practice: R and S of 31 bytes. Shorter ones come up once in 2^16 signatures, and then
/// the batch costs a hair more than the ceiling and is refused, not wrongly published.
const SHORT_SIGNATURE_BYTES: u64 = 69;

/// The count of elements, the empty one, two signatures and the script, each with its length.
fn ticket_witness(signature_bytes: u64) -> Weight {
    Weight::from_wu(1 + 1 + 2 * (1 + signature_bytes) + 1 + FUNDING_SCRIPT_BYTES)
}

/// What a batch weighs before its first ticket, with room for the hub's output and the coins it may need.
pub(super) fn overhead(hub_script: &Script, coins: &[BatchCoin]) -> Weight {
    let mut heaviest: Vec<Weight> = coins.iter().map(|coin| BARE_INPUT + coin_witness(coin)).collect();
    heaviest.sort_unstable();
    let coins: Weight = heaviest.into_iter().rev().take(limits::MAX_BATCH_COINS).sum();
    FIXED + output(hub_script) + coins
}

/// What a ticket adds: its input, witness and payout.
pub(super) fn ticket(spec: &TicketSpec) -> Weight {
    let payout = spec.payout().map(|payout| output(&payout.script_pubkey)).unwrap_or(Weight::ZERO);
    BARE_INPUT + ticket_witness(longest_signature()) + payout
}

/// What an unsigned batch weighs once signed, at most.
pub(super) fn signed(unsigned: &Transaction, tickets: usize, coins: &[BatchCoin]) -> Weight {
    let witnesses: Weight = (0..tickets).map(|_| ticket_witness(longest_signature())).sum();
    let coins: Weight = coins.iter().map(coin_witness).sum();
    unsigned.weight() + SEGWIT_MARK + witnesses + coins
}

/// The least that a batch estimated at `weight` weighs once signed.
pub(super) fn lightest(weight: Weight, tickets: usize, coins: usize) -> Weight {
    let signatures = u64::try_from(2 * tickets + coins).unwrap_or(u64::MAX);
    let slack = signatures.saturating_mul(longest_signature().saturating_sub(SHORT_SIGNATURE_BYTES));
    weight.checked_sub(Weight::from_wu(slack)).unwrap_or(Weight::ZERO)
}
