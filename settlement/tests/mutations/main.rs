//! One valid close, one thing changed, exactly the flaw of the rule broken.
//!
//! [`rule`] matches [`Flaw`] whole: a new variant does not compile until it has a number, and the tests fail until it has
//! a case for each kind of close that [`KINDS`] names.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;

mod batch;
mod claims;
mod packages;

use std::collections::BTreeSet;

use settlement::flaw::Flaw;

/// What a rule is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Batch,
    Claim,
    Unilateral,
    Bump,
}

use Kind::{Batch, Bump, Claim, Unilateral};

const ALL: &[Kind] = &[Batch, Claim, Unilateral, Bump];
const OURS: &[Kind] = &[Claim, Unilateral, Bump];
const PACKAGES: &[Kind] = &[Unilateral, Bump];

/// A number for each rule.
fn rule(flaw: &Flaw) -> usize {
    match flaw {
        Flaw::Version { .. } => 0,
        Flaw::LockTime { .. } => 1,
        Flaw::NoTickets => 2,
        Flaw::TicketOrder { .. } => 3,
        Flaw::Ticket { .. } => 4,
        Flaw::InputCount { .. } => 5,
        Flaw::DuplicateInput { .. } => 6,
        Flaw::Input { .. } => 7,
        Flaw::Sequence { .. } => 8,
        Flaw::ScriptSig { .. } => 9,
        Flaw::NoOutputs => 10,
        Flaw::MissingPayout { .. } => 11,
        Flaw::PayoutAmount { .. } => 12,
        Flaw::PayoutScript { .. } => 13,
        Flaw::ForeignOutput { .. } => 14,
        Flaw::Dust { .. } => 15,
        Flaw::ImpossibleSum => 16,
        Flaw::Overspent { .. } => 17,
        Flaw::Weight { .. } => 18,
        Flaw::FeeTooLow { .. } => 19,
        Flaw::FeeTooHigh { .. } => 20,
        Flaw::HubFee { .. } => 21,
        Flaw::WitnessForm { .. } => 22,
        Flaw::WitnessScript { .. } => 23,
        Flaw::SignatureEncoding { .. } => 24,
        Flaw::SighashType { .. } => 25,
        Flaw::Signature { .. } => 26,
        Flaw::Coin { .. } => 27,
        Flaw::Budget { .. } => 28,
        Flaw::NoClaims => 29,
        Flaw::MixedForms { .. } => 30,
        Flaw::MixedContests { .. } => 31,
        Flaw::TooEarly { .. } => 32,
        Flaw::NotFinal { .. } => 33,
        Flaw::Pair { .. } => 34,
        Flaw::Claim { .. } => 35,
        Flaw::Parent { .. } => 36,
        Flaw::ParentVersion { .. } => 37,
        Flaw::ParentWeight { .. } => 38,
        Flaw::ParentInputs { .. } => 39,
        Flaw::ParentFee { .. } => 40,
        Flaw::Anchors { .. } => 41,
        Flaw::AnchorValue { .. } => 42,
        Flaw::FundingWitness { .. } => 43,
        Flaw::AnchorWitness => 44,
        Flaw::OwnChannel { .. } => 45,
    }
}

/// What each rule is for, by its number in [`rule`]. What our own commitment cannot be, since it must have the id of the one
/// that the channel builds, is a rule for others' only.
const KINDS: [&[Kind]; 46] = [
    ALL,           // Version
    ALL,           // LockTime
    &[Batch],      // NoTickets
    &[Batch],      // TicketOrder
    &[Batch],      // Ticket
    ALL,           // InputCount
    ALL,           // DuplicateInput
    ALL,           // Input
    ALL,           // Sequence
    ALL,           // ScriptSig
    ALL,           // NoOutputs
    &[Batch],      // MissingPayout
    &[Batch],      // PayoutAmount
    &[Batch],      // PayoutScript
    ALL,           // ForeignOutput
    ALL,           // Dust
    ALL,           // ImpossibleSum
    ALL,           // Overspent
    ALL,           // Weight
    ALL,           // FeeTooLow
    ALL,           // FeeTooHigh
    &[Batch],      // HubFee
    &[Batch],      // WitnessForm
    &[Batch],      // WitnessScript
    &[Batch],      // SignatureEncoding
    &[Batch],      // SighashType
    &[Batch],      // Signature
    ALL,           // Coin
    OURS,          // Budget
    &[Claim],      // NoClaims
    &[Claim],      // MixedForms
    &[Claim],      // MixedContests
    &[Claim],      // TooEarly
    &[Claim],      // NotFinal
    &[Claim],      // Pair
    &[Claim],      // Claim
    &[Unilateral], // Parent
    PACKAGES,      // ParentVersion
    PACKAGES,      // ParentWeight
    &[Bump],       // ParentInputs
    &[Unilateral], // ParentFee
    &[Bump],       // Anchors
    &[Bump],       // AnchorValue
    &[Unilateral], // FundingWitness
    PACKAGES,      // AnchorWitness
    &[Bump],       // OwnChannel
];

/// Fails unless every rule for this kind of close is among `found`.
fn assert_each_rule_was_found(kind: Kind, found: impl IntoIterator<Item = Flaw>) {
    let covered: BTreeSet<usize> = found.into_iter().map(|flaw| rule(&flaw)).collect();
    let expected: BTreeSet<usize> =
        (0..KINDS.len()).filter(|number| KINDS[*number].contains(&kind)).collect();
    assert_eq!(covered, expected, "rules of {kind:?} with a case, and rules that need one");
}
