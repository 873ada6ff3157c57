//! What never changes in a channel once its funding is known: the parameters as stored, and the parsed form that all
//! rounds share.

use bitcoin::hashes::{Hash, HashEngine, sha256};
use bitcoin::{Amount, OutPoint, ScriptBuf};
use serde::{Deserialize, Serialize};

use crate::commitment::{CommitmentSpec, HtlcSpec};
use crate::format::CommitmentFormat;
use crate::keys::{Basepoints, HtlcOutputs, InvalidPoint, ParsedBasepoints};
use crate::scripts;

/// One of the two parties, seen from this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Side {
    /// We: the party whose secrets our signer has.
    Holder,
    /// The other party.
    Counterparty,
}

impl Side {
    /// The other of the two.
    pub const fn other(self) -> Self {
        match self {
            Self::Holder => Self::Counterparty,
            Self::Counterparty => Self::Holder,
        }
    }
}

/// What one party brought to the opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartyParameters {
    /// The party's public keys.
    pub basepoints: Basepoints,
    /// Blocks this party's own money is delayed in its own commitments; the *other* party imposed it.
    pub to_self_delay_blocks: u16,
}

/// Everything the transactions of a channel depend on besides their own balances and HTLCs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelParameters {
    pub format: CommitmentFormat,
    pub funding_outpoint: OutPoint,
    #[serde(with = "bitcoin::amount::serde::as_sat")]
    pub funding_amount: Amount,
    /// Who opened the channel: pays fees where the format has any, and comes first in the obscuring factor.
    pub opener: Side,
    pub holder: PartyParameters,
    pub counterparty: PartyParameters,
    /// Outputs below it are trimmed; one value for both sides' commitments.
    #[serde(with = "bitcoin::amount::serde::as_sat")]
    pub dust_limit: Amount,
}

impl ChannelParameters {
    /// One party's part.
    pub const fn party(&self, side: Side) -> &PartyParameters {
        match side {
            Side::Holder => &self.holder,
            Side::Counterparty => &self.counterparty,
        }
    }
}

/// [`ChannelParameters`] with all points parsed and all that rounds share computed once. Never stored: made again
/// from the parameters at the first use after a start (ten points, about 50 microseconds).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelContext {
    parameters: ChannelParameters,
    holder: ParsedBasepoints,
    counterparty: ParsedBasepoints,
    funding_script: ScriptBuf,
    obscuring_factor: u64,
}

impl ChannelContext {
    /// Parses the parameters' points; an error names the first that is not on the curve.
    pub fn new(parameters: ChannelParameters) -> Result<Self, InvalidPoint> {
        let holder = parameters.holder.basepoints.parse()?;
        let counterparty = parameters.counterparty.basepoints.parse()?;
        let funding_script = scripts::funding(&holder.funding, &counterparty.funding);
        let obscuring_factor = obscuring_factor(
            &parameters.party(parameters.opener).basepoints,
            &parameters.party(parameters.opener.other()).basepoints,
        );
        Ok(Self { parameters, holder, counterparty, funding_script, obscuring_factor })
    }

    /// The parameters it was made from.
    pub const fn parameters(&self) -> &ChannelParameters {
        &self.parameters
    }

    /// The format of the channel's transactions.
    pub const fn format(&self) -> CommitmentFormat {
        self.parameters.format
    }

    /// One party's parsed keys.
    pub const fn basepoints(&self, side: Side) -> &ParsedBasepoints {
        match side {
            Side::Holder => &self.holder,
            Side::Counterparty => &self.counterparty,
        }
    }

    /// The witness script of the funding output.
    pub const fn funding_script(&self) -> &ScriptBuf {
        &self.funding_script
    }

    /// XORed with a commitment's number to hide it from everybody else: 48 bits.
    pub const fn obscuring_factor(&self) -> u64 {
        self.obscuring_factor
    }

    /// Whether an HTLC has an output in a commitment with that feerate (0 in the zero-fee format).
    pub fn has_output(&self, htlc: &HtlcSpec, feerate_sat_per_kw: u32) -> bool {
        let ChannelParameters { format, dust_limit, .. } = self.parameters;
        !format.is_trimmed(dust_limit, feerate_sat_per_kw, htlc.direction, htlc.amount)
    }

    /// Whether any HTLC of the specification has an output, and thus whether HTLC keys are needed.
    pub fn htlc_outputs(&self, spec: &CommitmentSpec) -> HtlcOutputs {
        if spec.htlcs.iter().any(|htlc| self.has_output(htlc, spec.feerate_sat_per_kw)) {
            HtlcOutputs::Present
        } else {
            HtlcOutputs::Absent
        }
    }
}

/// The lower 48 bits of `SHA256(opener's payment_basepoint || accepter's payment_basepoint)` (BOLT 3).
pub fn obscuring_factor(opener: &Basepoints, accepter: &Basepoints) -> u64 {
    let mut engine = sha256::Hash::engine();
    engine.input(opener.payment.as_ref());
    engine.input(accepter.payment.as_ref());
    let hash = sha256::Hash::from_engine(engine).to_byte_array();
    hash[26..].iter().fold(0, |factor, byte| factor << 8 | u64::from(*byte))
}
