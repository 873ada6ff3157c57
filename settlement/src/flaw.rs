//! Why a close must not be published: one variant a rule, with what was found and what was expected.
//!
//! `tests/mutations.rs` has a case for each variant: one valid batch, one thing changed, exactly this flaw.

use bitcoin::absolute::LockTime;
use bitcoin::transaction::Version;
use bitcoin::{Amount, EcdsaSighashType, OutPoint, ScriptBuf, Sequence, Weight};
use channel::closing::TicketFlaw;

use crate::verify::CoinFlaw;

/// Whose signature in a 2-of-2 witness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Party {
    /// The wallet, which signed the ticket.
    Wallet,
    /// The hub, which signs the whole batch.
    Hub,
}

/// A rule that a close breaks. The first broken one in the order of the checks is reported: the transaction's form, the
/// tickets, inputs, outputs, amounts, then witnesses input by input.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// Every ticket signs version 2.
    #[error("version {}, {} is signed", .found.0, .expected.0)]
    Version {
        /// The transaction's version.
        found: Version,
        /// The version that tickets sign.
        expected: Version,
    },
    /// Every ticket signs lock time 0.
    #[error("lock time {found}, {expected} is signed")]
    LockTime {
        /// The transaction's lock time.
        found: LockTime,
        /// The lock time that tickets sign.
        expected: LockTime,
    },
    /// A batch without tickets closes nothing.
    #[error("the batch has no ticket")]
    NoTickets,
    /// Tickets with a payout come first, so that each finds its output at its own index.
    #[error("ticket {index} has a payout but follows one without")]
    TicketOrder {
        /// The ticket with a payout that is too late.
        index: usize,
    },
    /// A ticket that should never have been accepted.
    #[error("ticket {index}: {flaw}")]
    Ticket {
        /// The ticket.
        index: usize,
        /// The rule of tickets that it breaks.
        flaw: TicketFlaw,
    },
    /// Inputs are the tickets', then the hub's coins, and no others.
    #[error("{found} inputs, {expected} expected")]
    InputCount {
        /// Inputs of the transaction.
        found: usize,
        /// Tickets and coins.
        expected: usize,
    },
    /// An outpoint is spent twice.
    #[error("input {index} spends {outpoint} again")]
    DuplicateInput {
        /// The second input that spends it.
        index: usize,
        /// The outpoint.
        outpoint: OutPoint,
    },
    /// An input is not that of the ticket or coin at its index.
    #[error("input {index} spends {found}, {expected} expected")]
    Input {
        /// The input.
        index: usize,
        /// What it spends.
        found: OutPoint,
        /// What the ticket or coin at its index names.
        expected: OutPoint,
    },
    /// Tickets sign the sequence, and the batch must stay replaceable.
    #[error("input {index} has sequence {found}, {expected} expected")]
    Sequence {
        /// The input.
        index: usize,
        /// Its sequence.
        found: Sequence,
        /// The sequence that tickets sign.
        expected: Sequence,
    },
    /// Segwit inputs have an empty script.
    #[error("input {index} has a script")]
    ScriptSig {
        /// The input.
        index: usize,
    },
    /// A transaction without outputs is invalid.
    #[error("the batch has no output")]
    NoOutputs,
    /// The wallet's output is not there.
    #[error("ticket {index} has no output at its index, {expected} expected")]
    MissingPayout {
        /// The ticket.
        index: usize,
        /// What the wallet is owed.
        expected: Amount,
    },
    /// The wallet gets another amount than agreed.
    #[error("ticket {index} is paid {found}, {expected} agreed")]
    PayoutAmount {
        /// The ticket.
        index: usize,
        /// What the output at its index holds.
        found: Amount,
        /// What was agreed.
        expected: Amount,
    },
    /// The wallet is paid to another script than agreed.
    #[error("ticket {index} is paid to {found}, {expected} agreed")]
    PayoutScript {
        /// The ticket.
        index: usize,
        /// The script of the output at its index.
        found: ScriptBuf,
        /// The script agreed.
        expected: ScriptBuf,
    },
    /// An output beyond the wallets' that pays somebody else than the hub.
    #[error("output {index} pays {value} to a stranger")]
    ForeignOutput {
        /// The output.
        index: usize,
        /// Its amount.
        value: Amount,
    },
    /// An output that nodes do not relay.
    #[error("output {index} of {value} is dust, {minimum} is needed")]
    Dust {
        /// The output.
        index: usize,
        /// Its amount.
        value: Amount,
        /// The least for its script.
        minimum: Amount,
    },
    /// The inputs or the outputs sum up to more than there can be.
    #[error("the amounts sum up to more than 21 million bitcoin")]
    ImpossibleSum,
    /// More out than in.
    #[error("{outputs} out of {inputs}")]
    Overspent {
        /// Sum of the inputs.
        inputs: Amount,
        /// Sum of the outputs.
        outputs: Amount,
    },
    /// Heavier than nodes relay.
    #[error("weight {found}, at most {maximum} is relayed")]
    Weight {
        /// The transaction's weight.
        found: Weight,
        /// The standard limit.
        maximum: Weight,
    },
    /// A fee below the floor.
    #[error("fee {found}, at least {minimum} needed")]
    FeeTooLow {
        /// The fee.
        found: Amount,
        /// The floor for this weight.
        minimum: Amount,
    },
    /// A fee above the ceiling.
    #[error("fee {found}, at most {maximum} allowed")]
    FeeTooHigh {
        /// The fee.
        found: Amount,
        /// The ceiling for this weight.
        maximum: Amount,
    },
    /// The wallets' agreed fees cover less than they should and the hub would pay more than it meant to.
    #[error("the hub would pay {found} of the fee, at most {maximum} allowed")]
    HubFee {
        /// The hub's part of the fee.
        found: Amount,
        /// The most it agreed to add.
        maximum: Amount,
    },
    /// A 2-of-2 witness has four elements, the first one empty.
    #[error("the witness of input {index} has {found} elements or a first one that is not empty")]
    WitnessForm {
        /// The input.
        index: usize,
        /// Elements in its witness.
        found: usize,
    },
    /// The witness script is not that of the channel's two keys.
    #[error("the witness script of input {index} is not the channel's")]
    WitnessScript {
        /// The input.
        index: usize,
    },
    /// A signature that is no DER encoding with a sighash type behind it.
    #[error("the {party:?}'s signature of input {index} is not well encoded")]
    SignatureEncoding {
        /// The input.
        index: usize,
        /// Whose.
        party: Party,
    },
    /// A signature that covers more or less than it must.
    #[error("the {party:?}'s signature of input {index} is {found}, {expected} needed")]
    SighashType {
        /// The input.
        index: usize,
        /// Whose.
        party: Party,
        /// The type found.
        found: EcdsaSighashType,
        /// The type needed.
        expected: EcdsaSighashType,
    },
    /// A signature that does not hold.
    #[error("the {party:?}'s signature of input {index} is wrong")]
    Signature {
        /// The input.
        index: usize,
        /// Whose.
        party: Party,
    },
    /// The witness of a coin that the hub added is wrong.
    #[error("input {index}: {flaw}")]
    Coin {
        /// The input.
        index: usize,
        /// What is wrong.
        flaw: CoinFlaw,
    },
}
