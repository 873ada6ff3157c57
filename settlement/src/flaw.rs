//! Why a close must not be published: one variant a rule, with what was found and what was expected.
//!
//! `tests/mutations/` has a case for each variant and each kind of close that the rule is for: one valid close, one thing
//! changed, exactly this flaw. In a package the rules of transactions are about the child, unless they name the parent.

use bitcoin::absolute::LockTime;
use bitcoin::transaction::Version;
use bitcoin::{Amount, EcdsaSighashType, OutPoint, ScriptBuf, Sequence, TxOut, Txid, Weight};
use channel::claim::ClaimError;
use channel::closing::TicketFlaw;

use crate::claim::ContestClass;
use crate::verify::{CoinFlaw, FundingWitnessFlaw};

/// Whose signature in a 2-of-2 witness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Party {
    /// The wallet, which signed the ticket.
    Wallet,
    /// The hub, which signs the whole batch.
    Hub,
}

/// A rule that a close breaks. The first broken one in the order of the checks is reported: the transaction's form, the
/// tickets or claims, inputs, outputs, amounts, then witnesses input by input. A package's parent comes before its child.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// Tickets sign version 2 and HTLC transactions theirs; a commitment's child is TRUC too.
    #[error("version {}, {} is needed", .found.0, .expected.0)]
    Version {
        /// The transaction's version.
        found: Version,
        /// The version needed.
        expected: Version,
    },
    /// Tickets sign lock time 0 and HTLC transactions theirs; other claims need the highest of theirs.
    #[error("lock time {found}, {expected} is needed")]
    LockTime {
        /// The transaction's lock time.
        found: LockTime,
        /// The lock time needed.
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
    /// Inputs are the tickets', the claims' or the anchor's, then our own coins, and no others.
    #[error("{found} inputs, {expected} expected")]
    InputCount {
        /// Inputs of the transaction.
        found: usize,
        /// Tickets, claims or the anchor, and coins.
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
    /// An input is not that of the ticket, claim or coin at its index.
    #[error("input {index} spends {found}, {expected} expected")]
    Input {
        /// The input.
        index: usize,
        /// What it spends.
        found: OutPoint,
        /// What the ticket, claim or coin at its index names.
        expected: OutPoint,
    },
    /// Tickets sign the sequence, claims need it for their delays, and every transaction must stay replaceable.
    #[error("input {index} has sequence {found}, {expected} expected")]
    Sequence {
        /// The input.
        index: usize,
        /// Its sequence.
        found: Sequence,
        /// The sequence needed.
        expected: Sequence,
    },
    /// Segwit inputs have an empty script.
    #[error("input {index} has a script")]
    ScriptSig {
        /// The input.
        index: usize,
    },
    /// A transaction without outputs is invalid.
    #[error("the transaction has no output")]
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
    /// An output beyond those agreed that pays somebody else than us.
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
        /// The limit for its kind.
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
    /// The witness of a coin that we added is wrong.
    #[error("input {index}: {flaw}")]
    Coin {
        /// The input.
        index: usize,
        /// What is wrong.
        flaw: CoinFlaw,
    },
    /// A fee above what is at stake allows.
    #[error("fee {found}, at most {budget} may be spent")]
    Budget {
        /// The fee.
        found: Amount,
        /// The most that may be spent.
        budget: Amount,
    },
    /// A transaction without claims takes nothing.
    #[error("the transaction takes no claim")]
    NoClaims,
    /// Claims by HTLC transaction share a transaction only with those of the same version and lock time.
    #[error("claim {index} asks for another version or lock time than the first")]
    MixedForms {
        /// The claim that differs from the first.
        index: usize,
    },
    /// What the counterparty can contest would take down what it cannot.
    #[error("claim {index} is contested {found:?}, the first {expected:?}")]
    MixedContests {
        /// The claim that differs from the first.
        index: usize,
        /// Its class.
        found: ContestClass,
        /// The first claim's.
        expected: ContestClass,
    },
    /// A claim that no next block may hold yet.
    #[error("claim {index} can be in a block from height {earliest} on, the tip is at {tip}")]
    TooEarly {
        /// The claim.
        index: usize,
        /// The lowest height of its block.
        earliest: u32,
        /// The chain's tip.
        tip: u32,
    },
    /// A lock time that the next block does not reach.
    #[error("lock time {lock_time} is not reached, the tip is at {tip}")]
    NotFinal {
        /// The transaction's lock time.
        lock_time: LockTime,
        /// The chain's tip.
        tip: u32,
    },
    /// The output beside an HTLC transaction's input is not what the counterparty signed.
    #[error("output {index} is not the one that the counterparty signed")]
    Pair {
        /// Of input and output.
        index: usize,
        /// The output there, if there is one.
        found: Option<TxOut>,
        /// The output signed.
        expected: TxOut,
    },
    /// The script, the keys, the witness or a signature of a claim is wrong.
    #[error("claim {index}: {flaw}")]
    Claim {
        /// The claim.
        index: usize,
        /// What is wrong.
        flaw: ClaimError,
    },
    /// The parent is not our latest commitment.
    #[error("the parent is {found}, our commitment {expected}")]
    Parent {
        /// The parent's id.
        found: Txid,
        /// Our commitment's.
        expected: Txid,
    },
    /// Only version-3 parents may have a child that pays for them.
    #[error("the parent has version {}, 3 is needed", .found.0)]
    ParentVersion {
        /// Its version.
        found: Version,
    },
    /// Heavier than nodes relay.
    #[error("the parent weighs {found}, at most {maximum} is relayed")]
    ParentWeight {
        /// Its weight.
        found: Weight,
        /// The limit of version 3.
        maximum: Weight,
    },
    /// A commitment spends its channel's funding output and nothing else.
    #[error("the parent has {found} inputs, 1 is expected")]
    ParentInputs {
        /// Its inputs.
        found: usize,
    },
    /// Nodes accept an output of dust only in a transaction without a fee, so an anchor below 240 sat allows none; and a fee
    /// beyond what trimmed HTLCs leave would be taken out of balances.
    #[error("the parent's outputs sum up to {outputs}, its channel holds {funding}")]
    ParentFee {
        /// Sum of its outputs.
        outputs: Amount,
        /// The channel's capacity.
        funding: Amount,
    },
    /// The parent has no anchor, or more than one.
    #[error("the parent has {found} anchors, 1 is expected")]
    Anchors {
        /// Pay-to-anchor outputs.
        found: usize,
    },
    /// More than an anchor ever holds.
    #[error("the anchor holds {found}, at most {maximum} is allowed")]
    AnchorValue {
        /// Its value.
        found: Amount,
        /// The most.
        maximum: Amount,
    },
    /// The parent is not signed by both parties.
    #[error("the parent's witness: {flaw}")]
    FundingWitness {
        /// What is wrong.
        flaw: FundingWitnessFlaw,
    },
    /// An anchor is spent without a witness.
    #[error("the anchor's input has a witness")]
    AnchorWitness,
    /// A spend of a channel of ours that no node has, which could be a revoked commitment, is not bumped on request.
    #[error("the parent spends our channel {funding} and is in no mempool")]
    OwnChannel {
        /// The channel's funding output.
        funding: OutPoint,
    },
}
