//! What differs between commitment formats, and nothing else does: versions, anchors, fees, weights, trimming.

use bitcoin::transaction::Version;
use bitcoin::{Amount, EcdsaSighashType, Sequence, Weight};
use serde::{Deserialize, Serialize};

use crate::amount::Msat;
use crate::commitment::HtlcDirection;
use crate::limits::ANCHOR;

/// How a channel's commitment and HTLC transactions are built (BOLT 3). New formats are added at the end: the position
/// is what is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum CommitmentFormat {
    /// `option_static_remotekey`: fees in every transaction, no anchors. Built for the specification's vectors only.
    StaticRemoteKey,
    /// `option_anchors_zero_fee_htlc_tx`: a fee in the commitment, none in HTLC transactions, an anchor each.
    AnchorsZeroFeeHtlc,
    /// `option_zero_fee_commitments`: version 3, no fee anywhere, one shared pay-to-anchor output.
    ZeroFeeCommitments,
}

impl CommitmentFormat {
    /// Every format the builder knows.
    pub const ALL: [Self; 3] = [Self::StaticRemoteKey, Self::AnchorsZeroFeeHtlc, Self::ZeroFeeCommitments];
    /// What may be proposed and accepted for a new channel, best first.
    pub const NEGOTIABLE: [Self; 2] = [Self::ZeroFeeCommitments, Self::AnchorsZeroFeeHtlc];

    /// The name under which the format is negotiated (BOLT 9).
    pub const fn name(self) -> &'static str {
        match self {
            Self::StaticRemoteKey => "option_static_remotekey",
            Self::AnchorsZeroFeeHtlc => "option_anchors_zero_fee_htlc_tx",
            Self::ZeroFeeCommitments => "option_zero_fee_commitments",
        }
    }

    /// The negotiable format of that name.
    pub fn from_negotiated_name(name: &str) -> Option<Self> {
        Self::NEGOTIABLE.into_iter().find(|format| format.name() == name)
    }

    /// The version of commitment and HTLC transactions.
    pub fn transaction_version(self) -> Version {
        match self {
            Self::StaticRemoteKey | Self::AnchorsZeroFeeHtlc => Version::TWO,
            Self::ZeroFeeCommitments => Version::non_standard(3),
        }
    }

    /// How the countersignatory signs HTLC transactions: where they pay no fee of their own, the broadcaster must be able
    /// to add inputs and outputs that do.
    pub const fn htlc_sighash_type(self) -> EcdsaSighashType {
        match self {
            Self::StaticRemoteKey => EcdsaSighashType::All,
            Self::AnchorsZeroFeeHtlc | Self::ZeroFeeCommitments => EcdsaSighashType::SinglePlusAnyoneCanPay,
        }
    }

    /// The sequence of an HTLC transaction's input: with anchors every script path waits for one block, so that only
    /// an anchor can be spent before the commitment confirms.
    pub const fn htlc_sequence(self) -> Sequence {
        match self {
            Self::StaticRemoteKey | Self::ZeroFeeCommitments => Sequence::ZERO,
            Self::AnchorsZeroFeeHtlc => Sequence(1),
        }
    }

    /// Whether scripts of HTLC and `to_remote` outputs demand one confirmation.
    pub const fn waits_one_block(self) -> bool {
        match self {
            Self::StaticRemoteKey | Self::ZeroFeeCommitments => false,
            Self::AnchorsZeroFeeHtlc => true,
        }
    }

    /// What the opener pays for anchors, whether or not both have an output.
    pub fn anchors_cost(self) -> Amount {
        match self {
            Self::StaticRemoteKey | Self::ZeroFeeCommitments => Amount::ZERO,
            Self::AnchorsZeroFeeHtlc => ANCHOR * 2,
        }
    }

    /// Expected weight of a signed commitment without HTLC outputs (BOLT 3, "Fee Calculation" and Appendix A): both
    /// balances, all anchors, signatures of 73 bytes.
    pub const fn commitment_base_weight(self) -> Weight {
        match self {
            Self::StaticRemoteKey => Weight::from_wu(724),
            Self::AnchorsZeroFeeHtlc => Weight::from_wu(1_124),
            // The 724 without anchors, and one output of 13 bytes.
            Self::ZeroFeeCommitments => Weight::from_wu(776),
        }
    }

    /// Weight of each HTLC output: 43 bytes.
    pub const fn htlc_output_weight(self) -> Weight {
        Weight::from_wu(172)
    }

    /// Expected weight of a signed commitment.
    pub fn commitment_weight(self, htlc_outputs: usize) -> Weight {
        let count = u64::try_from(htlc_outputs).unwrap_or(u64::MAX);
        let outputs = self.htlc_output_weight().to_wu().saturating_mul(count);
        Weight::from_wu(self.commitment_base_weight().to_wu().saturating_add(outputs))
    }

    /// Expected weight of a signed HTLC transaction (BOLT 3, "Fee Calculation").
    pub const fn htlc_transaction_weight(self, direction: HtlcDirection) -> Weight {
        match (self, direction) {
            (Self::StaticRemoteKey | Self::ZeroFeeCommitments, HtlcDirection::Offered) => {
                Weight::from_wu(663)
            }
            (Self::StaticRemoteKey | Self::ZeroFeeCommitments, HtlcDirection::Received) => {
                Weight::from_wu(703)
            }
            (Self::AnchorsZeroFeeHtlc, HtlcDirection::Offered) => Weight::from_wu(666),
            (Self::AnchorsZeroFeeHtlc, HtlcDirection::Received) => Weight::from_wu(706),
        }
    }

    /// The fee the commitment itself pays, from the opener's balance.
    pub fn commitment_fee(self, feerate_sat_per_kw: u32, htlc_outputs: usize) -> Amount {
        match self {
            Self::StaticRemoteKey | Self::AnchorsZeroFeeHtlc => {
                fee(feerate_sat_per_kw, self.commitment_weight(htlc_outputs))
            }
            Self::ZeroFeeCommitments => Amount::ZERO,
        }
    }

    /// The fee an HTLC transaction pays from the HTLC.
    pub fn htlc_transaction_fee(self, feerate_sat_per_kw: u32, direction: HtlcDirection) -> Amount {
        match self {
            Self::StaticRemoteKey => fee(feerate_sat_per_kw, self.htlc_transaction_weight(direction)),
            Self::AnchorsZeroFeeHtlc | Self::ZeroFeeCommitments => Amount::ZERO,
        }
    }

    /// Whether an HTLC is too small for an output (BOLT 3, "Trimmed Outputs"): what would be left of it after its own
    /// transaction's fee is below the dust limit.
    pub fn is_trimmed(
        self,
        dust_limit: Amount,
        feerate_sat_per_kw: u32,
        direction: HtlcDirection,
        amount: Msat,
    ) -> bool {
        match amount.to_sat_floor().checked_sub(self.htlc_transaction_fee(feerate_sat_per_kw, direction)) {
            Some(left) => left < dust_limit,
            None => true,
        }
    }
}

/// Fee for a weight, rounded down. A feerate of at most 2^32 and a weight far below 2^31 cannot overflow 64 bits.
fn fee(feerate_sat_per_kw: u32, weight: Weight) -> Amount {
    Amount::from_sat(weight.to_wu().saturating_mul(u64::from(feerate_sat_per_kw)) / 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{MAX_COMMITMENT_WEIGHT, MAX_HTLCS_WITH_OUTPUT};

    #[test]
    fn only_two_formats_are_negotiable_and_by_their_names() {
        for format in CommitmentFormat::ALL {
            let negotiable = CommitmentFormat::NEGOTIABLE.contains(&format).then_some(format);
            assert_eq!(CommitmentFormat::from_negotiated_name(format.name()), negotiable);
        }
        assert_eq!(CommitmentFormat::from_negotiated_name("option_simple_taproot"), None);
    }

    #[test]
    fn the_most_htlcs_with_outputs_fit_the_greatest_weight() {
        let format = CommitmentFormat::ZeroFeeCommitments;
        assert!(format.commitment_weight(2 * MAX_HTLCS_WITH_OUTPUT) <= MAX_COMMITMENT_WEIGHT);
        assert!(format.commitment_weight(2 * MAX_HTLCS_WITH_OUTPUT + 1) > MAX_COMMITMENT_WEIGHT);
    }
}
