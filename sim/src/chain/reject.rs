//! Why a node refuses a transaction, in bitcoind's words.

use bitcoin::{Amount, Txid};

/// A rule that a transaction breaks, one variant a rule. [`Reject::reason`] is bitcoind's word for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reject {
    /// It has no inputs.
    NoInputs,
    /// It has no outputs.
    NoOutputs,
    /// It does not fit into any block.
    Oversize,
    /// An output, or their sum, is more than all coins there will ever be.
    OutputsTooLarge,
    /// It spends an output twice.
    DuplicateInputs,
    /// An input names no output.
    NullPrevout,
    /// A coinbase stands at the head of a block or nowhere.
    Coinbase,
    /// Its version is not 1, 2 or 3.
    Version,
    /// It weighs more than 400,000 units.
    Weight,
    /// It has fewer than 65 bytes without its witness.
    TooSmall,
    /// An input's script is too long.
    ScriptSigSize,
    /// An input's script does more than push.
    ScriptSigNotPushOnly,
    /// An output's script is of no standard form.
    OutputScript,
    /// It carries too much data.
    DataCarrier,
    /// More than one output is dust.
    Dust,
    /// An output is dust although it pays a fee of its own.
    DustWithFee,
    /// Its lock time is not reached.
    NotFinal,
    /// An input's relative lock is not reached.
    SequenceLock,
    /// The mempool holds it.
    AlreadyInMempool,
    /// The mempool holds it with another witness.
    SameNonWitnessData,
    /// It conflicts with the mempool, where replacements are not looked at.
    ReplacementDisallowed,
    /// It is in the chain.
    AlreadyKnown,
    /// An input is spent in the chain, or its transaction is unknown.
    MissingInputs,
    /// It spends a coinbase of fewer than 100 blocks.
    ImmatureCoinbase,
    /// It pays out more than it takes in.
    BelowOut,
    /// An input spends a script of no standard form.
    NonstandardInputs,
    /// A witness where none belongs, or one that is too large.
    WitnessNonstandard,
    /// Too many signature operations.
    TooManySigops,
    /// It pays less than the mempool asks now.
    MempoolMinFee {
        /// What it pays.
        fee: Amount,
        /// What it had to pay.
        needed: Amount,
    },
    /// It pays less than any mempool asks.
    MinRelayFee {
        /// What it pays.
        fee: Amount,
        /// What it had to pay.
        needed: Amount,
    },
    /// It breaks a rule for version 3 (BIP 431).
    Truc(Truc),
    /// It would replace transactions of more than 100 clusters.
    TooManyReplacements,
    /// It pays too little for what it replaces.
    InsufficientFee {
        /// What it pays.
        fee: Amount,
        /// What it had to pay.
        needed: Amount,
    },
    /// Miners would earn less from it than from what it replaces.
    ReplacementFailed,
    /// Its cluster of unconfirmed transactions would become too large.
    TooLargeCluster,
    /// It spends an output of what it replaces.
    SpendsConflicting,
    /// It pays more than the caller's ceiling.
    MaxFeerate,
    /// It leaves its parent's dust unspent.
    MissingEphemeralSpends,
    /// A script or signature fails.
    Script {
        /// Which input.
        input: usize,
    },
    /// A signature is not in its low form.
    HighS {
        /// Which input.
        input: usize,
    },
    /// It was dropped at once, since the mempool is full of what pays more.
    MempoolFull,
}

/// The rules for version 3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Truc {
    /// Version 3 spends unconfirmed outputs of another version.
    ParentOtherVersion(Txid),
    /// Another version spends unconfirmed outputs of version 3.
    ChildOtherVersion(Txid),
    /// More than 10,000 virtual bytes.
    TooBig(u64),
    /// A child of more than 1,000 virtual bytes.
    ChildTooBig(u64),
    /// More than one unconfirmed ancestor.
    TooManyAncestors,
    /// The parent, named here, has a child already.
    TooManyDescendants(Txid),
}

/// What a refusal means for what is sent along with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// An input is not there: a parent may bring it.
    MissingInputs,
    /// It pays too little: a child may pay for it.
    Reconsiderable,
    /// Nothing that is sent along helps.
    Final,
}

impl Reject {
    /// bitcoind's word for the rule, as `testmempoolaccept` gives it.
    pub fn reason(&self) -> &'static str {
        match self {
            Reject::NoInputs => "bad-txns-vin-empty",
            Reject::NoOutputs => "bad-txns-vout-empty",
            Reject::Oversize => "bad-txns-oversize",
            Reject::OutputsTooLarge => "bad-txns-txouttotal-toolarge",
            Reject::DuplicateInputs => "bad-txns-inputs-duplicate",
            Reject::NullPrevout => "bad-txns-prevout-null",
            Reject::Coinbase => "coinbase",
            Reject::Version => "version",
            Reject::Weight => "tx-size",
            Reject::TooSmall => "tx-size-small",
            Reject::ScriptSigSize => "scriptsig-size",
            Reject::ScriptSigNotPushOnly => "scriptsig-not-pushonly",
            Reject::OutputScript => "scriptpubkey",
            Reject::DataCarrier => "datacarrier",
            Reject::Dust | Reject::DustWithFee => "dust",
            Reject::NotFinal => "non-final",
            Reject::SequenceLock => "non-BIP68-final",
            Reject::AlreadyInMempool => "txn-already-in-mempool",
            Reject::SameNonWitnessData => "txn-same-nonwitness-data-in-mempool",
            Reject::ReplacementDisallowed => "bip125-replacement-disallowed",
            Reject::AlreadyKnown => "txn-already-known",
            Reject::MissingInputs => "bad-txns-inputs-missingorspent",
            Reject::ImmatureCoinbase => "bad-txns-premature-spend-of-coinbase",
            Reject::BelowOut => "bad-txns-in-belowout",
            Reject::NonstandardInputs => "bad-txns-nonstandard-inputs",
            Reject::WitnessNonstandard => "bad-witness-nonstandard",
            Reject::TooManySigops => "bad-txns-too-many-sigops",
            Reject::MempoolMinFee { .. } => "mempool min fee not met",
            Reject::MinRelayFee { .. } => "min relay fee not met",
            Reject::Truc(_) => "TRUC-violation",
            Reject::TooManyReplacements => "too many potential replacements",
            Reject::InsufficientFee { .. } => "insufficient fee",
            Reject::ReplacementFailed => "replacement-failed",
            Reject::TooLargeCluster => "too-large-cluster",
            Reject::SpendsConflicting => "bad-txns-spends-conflicting-tx",
            Reject::MaxFeerate => "max feerate exceeded",
            Reject::MissingEphemeralSpends => "missing-ephemeral-spends",
            Reject::Script { .. } => "mempool-script-verify-flag-failed",
            Reject::HighS { .. } => {
                "mempool-script-verify-flag-failed (Non-canonical signature: S value is unnecessarily high)"
            }
            Reject::MempoolFull => "mempool full",
        }
    }

    /// The word and what is known beside it, as `sendrawtransaction` and `submitpackage` give it.
    pub fn words(&self) -> String {
        let reason = self.reason();
        match self {
            Reject::MempoolMinFee { fee, needed } | Reject::MinRelayFee { fee, needed } => {
                format!("{reason}, {} < {}", fee.to_sat(), needed.to_sat())
            }
            Reject::InsufficientFee { fee, needed } => {
                format!("{reason}, rejecting replacement, {fee} < {needed}")
            }
            Reject::ReplacementFailed => {
                format!("{reason}, insufficient feerate: does not improve feerate diagram")
            }
            Reject::Truc(rule) => format!("{reason}, {}", rule.words()),
            Reject::Script { input } | Reject::HighS { input } => format!("{reason}, input {input}"),
            Reject::DustWithFee => format!("{reason}, tx with dust output must be 0-fee"),
            Reject::NoInputs
            | Reject::NoOutputs
            | Reject::Oversize
            | Reject::OutputsTooLarge
            | Reject::DuplicateInputs
            | Reject::NullPrevout
            | Reject::Coinbase
            | Reject::Version
            | Reject::Weight
            | Reject::TooSmall
            | Reject::ScriptSigSize
            | Reject::ScriptSigNotPushOnly
            | Reject::OutputScript
            | Reject::DataCarrier
            | Reject::Dust
            | Reject::NotFinal
            | Reject::SequenceLock
            | Reject::AlreadyInMempool
            | Reject::SameNonWitnessData
            | Reject::ReplacementDisallowed
            | Reject::AlreadyKnown
            | Reject::MissingInputs
            | Reject::ImmatureCoinbase
            | Reject::BelowOut
            | Reject::NonstandardInputs
            | Reject::WitnessNonstandard
            | Reject::TooManySigops
            | Reject::TooManyReplacements
            | Reject::TooLargeCluster
            | Reject::SpendsConflicting
            | Reject::MaxFeerate
            | Reject::MissingEphemeralSpends
            | Reject::MempoolFull => reason.to_owned(),
        }
    }

    pub(super) fn class(&self) -> Class {
        match self {
            Reject::MissingInputs => Class::MissingInputs,
            Reject::MempoolMinFee { .. }
            | Reject::MinRelayFee { .. }
            | Reject::InsufficientFee { .. }
            | Reject::ReplacementFailed
            | Reject::MempoolFull => Class::Reconsiderable,
            Reject::NoInputs
            | Reject::NoOutputs
            | Reject::Oversize
            | Reject::OutputsTooLarge
            | Reject::DuplicateInputs
            | Reject::NullPrevout
            | Reject::Coinbase
            | Reject::Version
            | Reject::Weight
            | Reject::TooSmall
            | Reject::ScriptSigSize
            | Reject::ScriptSigNotPushOnly
            | Reject::OutputScript
            | Reject::DataCarrier
            | Reject::Dust
            | Reject::DustWithFee
            | Reject::NotFinal
            | Reject::SequenceLock
            | Reject::AlreadyInMempool
            | Reject::SameNonWitnessData
            | Reject::ReplacementDisallowed
            | Reject::AlreadyKnown
            | Reject::ImmatureCoinbase
            | Reject::BelowOut
            | Reject::NonstandardInputs
            | Reject::WitnessNonstandard
            | Reject::TooManySigops
            | Reject::Truc(_)
            | Reject::TooManyReplacements
            | Reject::TooLargeCluster
            | Reject::SpendsConflicting
            | Reject::MaxFeerate
            | Reject::MissingEphemeralSpends
            | Reject::Script { .. }
            | Reject::HighS { .. } => Class::Final,
        }
    }
}

impl Truc {
    fn words(&self) -> String {
        match self {
            Truc::ParentOtherVersion(parent) => {
                format!("version=3 tx cannot spend from non-version=3 tx {parent}")
            }
            Truc::ChildOtherVersion(parent) => {
                format!("non-version=3 tx cannot spend from version=3 tx {parent}")
            }
            Truc::TooBig(vsize) => format!("version=3 tx is too big: {vsize} virtual bytes"),
            Truc::ChildTooBig(vsize) => format!("version=3 child tx is too big: {vsize} virtual bytes"),
            Truc::TooManyAncestors => "tx would have too many ancestors".to_owned(),
            Truc::TooManyDescendants(parent) => {
                format!("tx {parent} would exceed descendant count limit")
            }
        }
    }
}
