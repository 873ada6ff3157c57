//! Faults made on purpose, to test whoever should find them: the simulator's auditor must catch each by itself.
//!
//! Nothing of this is in a program that anybody runs. Without the feature `deliberate-bugs`, which the simulator alone may
//! ask for, [`is`] is a constant "no", and the programs do not compile with it. It is the one exception to this crate's rule
//! that no logic stands behind build flags.

/// True in a build whose faults can be turned on.
pub const COMPILED_IN: bool = cfg!(feature = "deliberate-bugs");

/// A fault. One rule is left out or broken, at one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bug {
    /// The outgoing owner never hears that its result was taken.
    AcknowledgementForgotten,
    /// After a restart a forward goes to another of the recipient's channels than the one that was journaled.
    ChoiceNotJournaled,
    /// A failure counts for whatever attempt it comes from.
    AttemptsNotNumbered,
    /// A failure is told upstream before the HTLC's removal is irrevocable.
    FailedBeforeIrrevocable,
    /// An offer is signed after the height by which it had to be.
    SignedTooLate,
    /// Nothing is asked again after a restart.
    NotReemitted,
    /// A signed add is sent again after its expiry.
    ExpiredAddSentAgain,
    /// What waits for the disk leaves at once.
    EffectsBeforeFsync,
    /// Answers and receipts of a wallet leave before they are durable.
    AnswersBeforeFsync,
    /// Two commitments get the same number.
    CommitmentNumberReused,
    /// An HTLC of exactly the dust limit has no output.
    TrimmedAtWrongBound,
    /// A cheater keeps the delayed outputs of its HTLC transactions.
    SecondStageNotPunished,
    /// A cheater keeps its balance.
    BalanceNotPunished,
    /// A cheater keeps its HTLCs.
    HtlcsNotPunished,
    /// The revocation log has no rows.
    RevocationsNotLogged,
    /// Tickets and outputs of a batch do not lie at the same index.
    TicketAtWrongIndex,
    /// A preimage that a spend shows on the chain is not read.
    ChainPreimageIgnored,
    /// No deadline ever closes a channel.
    DeadlinesIgnored,
    /// What a reorganisation undid still counts.
    ReorganisationIgnored,
    /// One block makes everything final.
    FinalAtOnce,
    /// What is not in a block is never sent again.
    NotResubmitted,
    /// A restart thaws a channel that is frozen for its close.
    FreezeForgotten,
    /// Any 32 bytes pass for a preimage.
    WrongPreimageTaken,
    /// A commitment's signatures are not checked.
    SignaturesNotChecked,
    /// Any 32 bytes pass for a revocation's secret.
    SecretsNotChecked,
    /// An invoice can be paid twice.
    InvoicePaidTwice,
}

impl Bug {
    /// Every one.
    pub const ALL: [Bug; 26] = [
        Bug::AcknowledgementForgotten,
        Bug::ChoiceNotJournaled,
        Bug::AttemptsNotNumbered,
        Bug::FailedBeforeIrrevocable,
        Bug::SignedTooLate,
        Bug::NotReemitted,
        Bug::ExpiredAddSentAgain,
        Bug::EffectsBeforeFsync,
        Bug::AnswersBeforeFsync,
        Bug::CommitmentNumberReused,
        Bug::TrimmedAtWrongBound,
        Bug::SecondStageNotPunished,
        Bug::BalanceNotPunished,
        Bug::HtlcsNotPunished,
        Bug::RevocationsNotLogged,
        Bug::TicketAtWrongIndex,
        Bug::ChainPreimageIgnored,
        Bug::DeadlinesIgnored,
        Bug::ReorganisationIgnored,
        Bug::FinalAtOnce,
        Bug::NotResubmitted,
        Bug::FreezeForgotten,
        Bug::WrongPreimageTaken,
        Bug::SignaturesNotChecked,
        Bug::SecretsNotChecked,
        Bug::InvoicePaidTwice,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Bug::AcknowledgementForgotten => "acknowledgement-forgotten",
            Bug::ChoiceNotJournaled => "choice-not-journaled",
            Bug::AttemptsNotNumbered => "attempts-not-numbered",
            Bug::FailedBeforeIrrevocable => "failed-before-irrevocable",
            Bug::SignedTooLate => "signed-too-late",
            Bug::NotReemitted => "not-reemitted",
            Bug::ExpiredAddSentAgain => "expired-add-sent-again",
            Bug::EffectsBeforeFsync => "effects-before-fsync",
            Bug::AnswersBeforeFsync => "answers-before-fsync",
            Bug::CommitmentNumberReused => "commitment-number-reused",
            Bug::TrimmedAtWrongBound => "trimmed-at-wrong-bound",
            Bug::SecondStageNotPunished => "second-stage-not-punished",
            Bug::BalanceNotPunished => "balance-not-punished",
            Bug::HtlcsNotPunished => "htlcs-not-punished",
            Bug::RevocationsNotLogged => "revocations-not-logged",
            Bug::TicketAtWrongIndex => "ticket-at-wrong-index",
            Bug::ChainPreimageIgnored => "chain-preimage-ignored",
            Bug::DeadlinesIgnored => "deadlines-ignored",
            Bug::ReorganisationIgnored => "reorganisation-ignored",
            Bug::FinalAtOnce => "final-at-once",
            Bug::NotResubmitted => "not-resubmitted",
            Bug::FreezeForgotten => "freeze-forgotten",
            Bug::WrongPreimageTaken => "wrong-preimage-taken",
            Bug::SignaturesNotChecked => "signatures-not-checked",
            Bug::SecretsNotChecked => "secrets-not-checked",
            Bug::InvoicePaidTwice => "invoice-paid-twice",
        }
    }
}

/// Whether this fault is on, on this thread.
#[cfg(not(feature = "deliberate-bugs"))]
#[inline(always)]
pub const fn is(_: Bug) -> bool {
    false
}

#[cfg(feature = "deliberate-bugs")]
pub use on::{is, set};

#[cfg(feature = "deliberate-bugs")]
mod on {
    use std::cell::Cell;

    use super::Bug;

    thread_local! {
        static ON: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Whether this fault is on, on this thread.
    pub fn is(bug: Bug) -> bool {
        ON.get() == Some(bug)
    }

    /// Turns this fault on for this thread, and any other off.
    pub fn set(bug: Option<Bug>) {
        ON.set(bug);
    }
}
