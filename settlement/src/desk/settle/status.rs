//! What people see of a close: what is out, at what fee, and what the rest waits for.

use std::fmt;

use bitcoin::{Amount, FeeRate, OutPoint, Transaction, Txid};
use channel::ids::OwnerId;

use super::attempt::Paid;
use crate::desk::Desk;

/// What the desk does for one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnchainStatus {
    pub owner: OwnerId,
    /// None while there is nothing to publish.
    pub commitment: Option<CommitmentStatus>,
    /// What the channel wants taken, in the order of its plan.
    pub claims: Vec<ClaimStatus>,
}

/// Our commitment of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitmentStatus {
    pub txid: Txid,
    pub state: CommitmentState,
    /// The commitment itself, signed by both, for whoever may pay for it. None while this party would not send it.
    pub transaction: Option<Transaction>,
}

/// Where our commitment is, or what it waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommitmentState {
    /// The funding is in no block: nodes take no commitment before that.
    AwaitsFunding,
    /// No peer has confirmed it since this process began: one that connects may prove it old. It goes out soon.
    AwaitsProof,
    /// This process may be behind: a person must say that it is not (`resume_publishing`).
    Suspended,
    /// Too many closes at once: a person must release it (`release_held`).
    Held,
    /// A block that is undone held another commitment, which is likely to be in one again: ours waits until this height.
    LeavesRoom { txid: Txid, until: u32 },
    /// Closing costs more than half of what would be lost without it. It is tried again as fees fall.
    TooDear { lowest: Amount, budget: Amount },
    /// No confirmed coin pays the fee.
    NoCoin { missing: Amount },
    /// A fault of ours.
    Faulty { why: String },
    /// Not looked at yet.
    Pending,
    /// On its way. `refused`: what bitcoind said when it last refused it.
    Sent { child: Txid, fee: Amount, feerate: FeeRate, refused: Option<String> },
}

impl fmt::Display for CommitmentState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AwaitsFunding => f.write_str("the funding is in no block yet"),
            Self::AwaitsProof => f.write_str("it waits a moment for a peer that may know better"),
            Self::Suspended => f.write_str("publishing is suspended until a person resumes it"),
            Self::Held => f.write_str("too many closes at once, a person must release it"),
            Self::LeavesRoom { txid, until } => {
                write!(
                    f,
                    "until height {until} it leaves room for {txid}, which was in a block that is undone"
                )
            }
            Self::TooDear { lowest, budget } => write!(f, "it costs {lowest}, at most {budget} is worth it"),
            Self::NoCoin { missing } => write!(f, "no confirmed coin pays the fee, {missing} is missing"),
            Self::Faulty { why } => f.write_str(why),
            Self::Pending => f.write_str("it was not looked at yet"),
            Self::Sent { child, .. } => write!(f, "it is sent with child {child}"),
        }
    }
}

/// One output that a channel wants taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimStatus {
    pub outpoint: OutPoint,
    pub value: Amount,
    pub state: ClaimState,
}

/// Where a claim is, or what it waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimState {
    /// No block below this height may hold it.
    Waits { height: u32 },
    /// It costs more than half of what it brings. It is tried again as fees fall.
    Uneconomic,
    /// The lowest fee that nodes take is above what may be spent.
    TooDear { lowest: Amount, budget: Amount },
    /// No confirmed coin pays the fee.
    NoCoin { missing: Amount },
    /// A fault of ours.
    Faulty { why: String },
    /// Not looked at yet.
    Pending,
    /// On its way. `refused`: what bitcoind said when it last refused it.
    Sent { txid: Txid, fee: Amount, feerate: FeeRate, refused: Option<String> },
    /// A block spends the output: by this transaction, ours or not, at this height.
    Spent { txid: Txid, height: u32 },
}

impl fmt::Display for ClaimState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waits { height } => write!(f, "no block below {height} may hold it"),
            Self::Uneconomic => f.write_str("it costs more than half of what it brings"),
            Self::TooDear { lowest, budget } => write!(f, "it costs {lowest}, at most {budget} is worth it"),
            Self::NoCoin { missing } => write!(f, "no confirmed coin pays the fee, {missing} is missing"),
            Self::Faulty { why } => f.write_str(why),
            Self::Pending => f.write_str("it was not looked at yet"),
            Self::Sent { txid, .. } => write!(f, "it is sent with {txid}"),
            Self::Spent { txid, height } => write!(f, "it was taken by {txid} at height {height}"),
        }
    }
}

impl Desk {
    /// What the desk does for a channel; `None` if the channel wants nothing of the chain.
    pub fn onchain_status(&self, owner: OwnerId) -> Option<OnchainStatus> {
        let plan = self.settling.plans.get(&owner)?;
        let commitment = plan.publish.as_ref().map(|job| {
            let state = self.commitment_state(owner);
            let transaction = self.for_others(owner, job, &state);
            CommitmentStatus { txid: job.commitment.txid(), state, transaction }
        });
        let claims = plan.claims.iter().map(|claim| ClaimStatus {
            outpoint: claim.outpoint,
            value: claim.output.value,
            state: self.claim_state(owner, claim.outpoint),
        });
        Some(OnchainStatus { owner, commitment, claims: claims.collect() })
    }

    /// The same of every channel that wants something.
    pub fn onchain_statuses(&self) -> Vec<OnchainStatus> {
        self.settling.plans.keys().filter_map(|owner| self.onchain_status(*owner)).collect()
    }

    pub(in crate::desk) fn commitment_state(&self, owner: OwnerId) -> CommitmentState {
        if let Some(package) = self.settling.commitments.get(&owner) {
            let (child, paid) = (package.child, &package.paid);
            return CommitmentState::Sent {
                child,
                fee: paid.fee,
                feerate: paid.feerate(),
                refused: refusal(paid),
            };
        }
        self.settling.commitment_states.get(&owner).cloned().unwrap_or(CommitmentState::Pending)
    }

    fn claim_state(&self, owner: OwnerId, outpoint: OutPoint) -> ClaimState {
        let watch = self.watches.get(owner).and_then(|watch| watch.outputs.get(&outpoint));
        if let Some(found) = watch.and_then(|watch| watch.spend) {
            return ClaimState::Spent { txid: found.txid, height: found.height };
        }
        let attempts = self.settling.claims.values();
        let takes =
            |claims: &[crate::claim::OwnedClaim]| claims.iter().any(|owned| owned.claim.outpoint == outpoint);
        if let Some(attempt) = attempts.into_iter().find(|attempt| takes(&attempt.claims)) {
            let (txid, paid) = (attempt.txid, &attempt.paid);
            return ClaimState::Sent { txid, fee: paid.fee, feerate: paid.feerate(), refused: refusal(paid) };
        }
        self.settling.claim_states.get(&outpoint).cloned().unwrap_or(ClaimState::Pending)
    }
}

fn refusal(paid: &Paid) -> Option<String> {
    paid.refused.as_ref().map(|(_, why)| why.clone())
}
