//! Taking what is ours on the chain: which claims share a transaction, what it pays, and the transaction itself.
//!
//! The channels say what is ours, from when on and until when ([`channel::claim::Claim`]); this module says how it is
//! taken. Everything is pure: the same claims, coins and feerate give the same transaction. The order of use:
//!
//! 1. [`group`] puts what can be spent in the next block into groups, each for one transaction.
//! 2. [`feerate`] bids for a group (or a commitment's package): the nearer the deadline, the nearer to the budget.
//! 3. [`build`] makes and signs the transaction of a group, [`build_child`] the child of a commitment. Each gives what
//!    [`crate::verify::CloseJob`] verifies; nothing is published before that.
//!
//! Invariants: no output is in two groups; what the counterparty can contest never shares a transaction with what it
//! cannot; a fee never exceeds its budget; a replacement pays what BIP 125 asks.

mod balance;
mod build;
mod child;
mod fee;
mod group;
mod worth;

use channel::bytes::KeyId;
use channel::claim::Claim;
use channel::ids::OwnerId;

pub use build::{BuildError, Built, ClaimRequest, build};
pub use child::{BuiltChild, ChildRequest, anchor_of, build_child, package_weight};
pub use fee::{
    Bid, FeeTarget, claim_budget, commitment_budget, feerate, pressing_budget, raised, target_blocks,
};
pub use group::{ContestClass, Group, group};
pub use worth::is_small;

pub(crate) use balance::COIN_SEQUENCE;
pub(crate) use group::{lock_time_of, version_of};

/// A claim and who signs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedClaim {
    /// The channel that it is for.
    pub owner: OwnerId,
    /// Names the channel's keys to the signer.
    pub key_id: KeyId,
    /// The output and how it is spent.
    pub claim: Claim,
}
