//! The severities of DESIGN section 4 that `check` can report. The third, a fault of ours, stops the process.

use crate::amount::Msat;

/// Why an event was not taken. Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// Asked for something not allowed: answer, change nothing.
    #[error(transparent)]
    Refusal(#[from] Refusal),
    /// The counterparty broke the protocol: journal `Channel::violated`, the channel fails on the chain.
    #[error(transparent)]
    Violation(#[from] Violation),
}

/// A rule of ours or a limit that the caller can respect next time. One variant a rule; says what was wrong and expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the amount is zero")]
    ZeroAmount,
    #[error("amount {amount} is below the minimum of {minimum}")]
    BelowMinimum { amount: Msat, minimum: Msat },
    #[error("amount {amount} is above the {available} this side can spend in the channel")]
    InsufficientBalance { amount: Msat, available: Msat },
    // The state machine's author completes this list.
}

/// A rule of BOLT 2 or DESIGN that the counterparty broke.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, thiserror::Error)]
pub enum Violation {
    #[error("the commitment signature does not verify")]
    WrongCommitmentSignature,
    // The state machine's author completes this list.
}
