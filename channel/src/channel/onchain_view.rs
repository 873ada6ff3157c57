//! What a channel that ends on the chain shows to people: whose commitment, which outputs, what is awaited.

use bitcoin::{Amount, OutPoint, Txid};
use serde::{Deserialize, Serialize};

use super::Channel;
use super::htlc::Removal;
use super::onchain::{OnChain, Output, Part, Whose};
use super::state::{Phase, State};
use crate::error::FailureCause;
use crate::parameters::Side;

/// The spend of the funding that is in a block and is not the agreed close.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnchainView {
    pub txid: Txid,
    /// Of its block.
    pub height: u32,
    /// The commitment's number; 0 of [`CommitmentOwner::Unknown`].
    pub number: u64,
    pub whose: CommitmentOwner,
    pub is_final: bool,
    /// Outputs that concern this side, those of HTLC transactions included, by outpoint.
    pub outputs: Vec<OutputView>,
}

/// Whose commitment the chain holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum CommitmentOwner {
    Ours,
    /// The counterparty's: its latest, or the one before that it had not revoked yet.
    Theirs,
    /// The counterparty's, revoked: a cheat.
    Revoked,
    /// The counterparty's, newer than any this side knows: this side lost data.
    Newer,
    /// Not a commitment of this channel as far as this side knows.
    Unknown,
}

/// One output that concerns this side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputView {
    pub outpoint: OutPoint,
    pub value: Amount,
    pub kind: OutputPart,
    pub state: OutputState,
}

/// What an output is to this side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum OutputPart {
    /// This side's balance in its own commitment.
    ToLocal,
    /// This side's balance in the counterparty's.
    ToRemote,
    /// An HTLC that this side offered.
    HtlcOffered { id: u64 },
    /// An HTLC that this side received.
    HtlcReceived { id: u64 },
    /// What this side's HTLC transaction moved, delayed.
    SecondStage { id: u64 },
    /// The cheater's balance.
    PenaltyToLocal,
    /// An HTLC of a revoked commitment, whoever offered it.
    PenaltyHtlc { id: u64 },
    /// What the cheater's HTLC transaction moved.
    PenaltySecondStage { id: u64 },
}

/// How far an output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputState {
    /// This side may spend it in blocks from this height on: it waits until then, and is claimable after.
    Claimable {
        from_height: u32,
    },
    /// A received HTLC whose preimage is not known: not ours to take, at least not yet.
    AwaitsPreimage {
        expiry: u32,
    },
    Spent {
        txid: Txid,
        height: u32,
        by_us: bool,
        is_final: bool,
    },
}

/// What a channel that ends on the chain waits for next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaiting {
    /// A commitment in a block: our own is being published. With HTLCs, needed by this height.
    Commitment { by_height: Option<u32> },
    /// The counterparty's commitment: this side must not publish its own.
    TheirCommitment,
    /// The final depth of the commitment.
    Finality { height: u32 },
    /// Outputs to become claimable, spent and final.
    Outputs,
    /// The final depth of the agreed close.
    Close { height: u32 },
    /// Other owners, to acknowledge the results of forwards.
    Acknowledgements,
}

impl Channel {
    /// The commitment that the chain holds; none while the funding is unspent, or spent by the agreed close.
    pub fn onchain(&self) -> Option<OnchainView> {
        let onchain = self.state.onchain.as_ref()?;
        Some(OnchainView {
            txid: onchain.txid,
            height: onchain.height,
            number: onchain.number,
            whose: onchain.owner(),
            is_final: onchain.is_final,
            outputs: onchain
                .outputs
                .iter()
                .filter_map(|(outpoint, output)| {
                    Some(OutputView {
                        outpoint: *outpoint,
                        value: output.output.value,
                        kind: onchain.kind(&output.part)?,
                        state: self.state.output_state(onchain, output),
                    })
                })
                .collect(),
        })
    }

    /// What is awaited; none while the channel lives, and where nothing can come.
    pub fn awaiting(&self) -> Option<Awaiting> {
        let state = &self.state;
        match &state.phase {
            // What is at the funding's place can be spent by nobody: there is nothing to wait for.
            Phase::Failed { cause: FailureCause::WrongFunding } => None,
            Phase::Failed { cause } => Some(match &state.onchain {
                None if cause.may_publish() => Awaiting::Commitment { by_height: state.publish_deadline() },
                None => Awaiting::TheirCommitment,
                Some(onchain) if !onchain.is_final => Awaiting::Finality { height: onchain.height },
                Some(_) => Awaiting::Outputs,
            }),
            Phase::Closing { height, .. } => Some(Awaiting::Close { height: *height }),
            Phase::Closed { .. } | Phase::Aborted { .. } => Some(Awaiting::Acknowledgements),
            Phase::Proposed
            | Phase::Building
            | Phase::FundingSent
            | Phase::Accepted
            | Phase::AwaitingConfirmation
            | Phase::Open
            | Phase::Frozen => None,
        }
    }
}

impl OnChain {
    pub(super) fn owner(&self) -> CommitmentOwner {
        match self.whose {
            Whose::Ours => CommitmentOwner::Ours,
            Whose::Theirs { .. } => CommitmentOwner::Theirs,
            Whose::Revoked { .. } => CommitmentOwner::Revoked,
            Whose::Newer => CommitmentOwner::Newer,
            Whose::Foreign => CommitmentOwner::Unknown,
        }
    }

    /// What a part is to us; none of what only may concern us.
    pub(super) fn kind(&self, part: &Part) -> Option<OutputPart> {
        let revoked = matches!(self.whose, Whose::Revoked { .. });
        Some(match part {
            Part::ToLocal if revoked => OutputPart::PenaltyToLocal,
            Part::ToLocal => OutputPart::ToLocal,
            Part::ToRemote => OutputPart::ToRemote,
            Part::Htlc { spec, .. } if revoked => OutputPart::PenaltyHtlc { id: spec.id },
            Part::Htlc { spec, .. } if self.offered_by_us(spec) => OutputPart::HtlcOffered { id: spec.id },
            Part::Htlc { spec, .. } => OutputPart::HtlcReceived { id: spec.id },
            Part::SecondStage { spec, .. } if revoked => OutputPart::PenaltySecondStage { id: spec.id },
            Part::SecondStage { spec, .. } => OutputPart::SecondStage { id: spec.id },
            Part::Candidate => return None,
        })
    }
}

impl State {
    fn output_state(&self, onchain: &OnChain, output: &Output) -> OutputState {
        if let Some(spend) = output.spend {
            let by_us = spend.by == Side::Holder;
            return OutputState::Spent {
                txid: spend.txid,
                height: spend.height,
                by_us,
                is_final: spend.is_final,
            };
        }
        let wait = if self.terms.format.waits_one_block() { 1 } else { 0 };
        let soon = output.height.saturating_add(wait);
        let revoked = matches!(onchain.whose, Whose::Revoked { .. });
        let from_height = match &output.part {
            Part::ToLocal | Part::SecondStage { .. } if !revoked => {
                let delay = self.counterparty_parameters().to_self_delay_blocks;
                output.height.saturating_add(u32::from(delay))
            }
            Part::Htlc { spec, .. } if !revoked && onchain.offered_by_us(spec) => {
                spec.cltv_expiry.saturating_add(1).max(soon)
            }
            Part::Htlc { spec, .. } if !revoked && !self.is_claimable(spec.id) => {
                return OutputState::AwaitsPreimage { expiry: spec.cltv_expiry };
            }
            Part::ToLocal | Part::SecondStage { .. } | Part::Htlc { .. } if revoked => output.height,
            Part::ToLocal
            | Part::ToRemote
            | Part::SecondStage { .. }
            | Part::Htlc { .. }
            | Part::Candidate => soon,
        };
        OutputState::Claimable { from_height }
    }

    fn is_claimable(&self, received: u64) -> bool {
        let removal = self.htlcs.received.get(&received).and_then(|htlc| htlc.removal);
        matches!(removal, Some(Removal::Fulfilled(_)))
    }
}
