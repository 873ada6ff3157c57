//! What is still worth taking when fees are as low as they get.
//!
//! Half of a claim's value is the rule ([`super::claim_budget`]). But half of a small output does not always pay the lowest
//! feerate, which no waiting brings down. Then whatever leaves something is better than leaving it all.

use bitcoin::{Amount, FeeRate, Script};
use channel::claim::Claim;

use super::fee::claim_budget;
use crate::fees::fee_for;
use crate::weigh;

/// The highest fee at the lowest feerate: all but a satoshi of what these outputs bring, once the delayed outputs of HTLC
/// transactions are taken as well; and never less than [`claim_budget`].
pub(super) fn last_budget<'a>(claims: impl Iterator<Item = &'a Claim>, floor: FeeRate) -> Amount {
    let most = |claim: &Claim| {
        let brings = brings(claim, floor).checked_sub(Amount::ONE_SAT).unwrap_or(Amount::ZERO);
        brings.max(claim_budget(std::iter::once(claim)))
    };
    claims.map(most).fold(Amount::ZERO, |sum, most| sum.checked_add(most).unwrap_or(Amount::MAX_MONEY))
}

/// Whether the output cannot be taken by itself at this feerate: less than an output to `script` may hold would be left,
/// or, of an HTLC transaction with a coin that pays for it, nothing. Such a one depends on company, or on a coin to spare.
pub fn is_small(claim: &Claim, script: &Script, floor: FeeRate) -> bool {
    let alone = weigh::FIXED + weigh::output(script) + weigh::claim(claim);
    let (weight, left) = match claim.paired_output() {
        None => (alone, script.minimal_non_dust()),
        Some(_) => (alone + weigh::coin_input(), Amount::ONE_SAT),
    };
    brings(claim, floor).checked_sub(fee_for(floor, weight)).is_none_or(|over| over < left)
}

/// What taking the output brings, before its own fee.
fn brings(claim: &Claim, floor: FeeRate) -> Amount {
    let later = match claim.paired_output() {
        None => Amount::ZERO,
        Some(_) => fee_for(floor, weigh::DELAYED_INPUT),
    };
    claim.output.value.checked_sub(later).unwrap_or(Amount::ZERO)
}
