//! The rules of a commitment with a child that pays its fee, in the order in which they are checked.

use std::collections::BTreeSet;

use bitcoin::absolute::LockTime;
use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, TxOut, Weight};
use channel::channel::PublishJob;
use channel::commitment::CommitmentTransaction;
use channel::scripts;

use super::batch::BatchCoin;
use super::funding_witness::check_funding_witness;
use super::transaction::{Expected, FeeRules, check_amounts, check_coins, check_inputs, check_outputs, sum};
use crate::claim::COIN_SEQUENCE;
use crate::fees::FeeBounds;
use crate::flaw::Flaw;
use crate::limits;

/// A child that pays for a commitment at its shared anchor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildJob {
    /// The child, signed.
    pub transaction: Transaction,
    /// Confirmed coins of ours, whose inputs follow the anchor's.
    pub coins: Vec<BatchCoin>,
    /// Scripts of our on-chain wallet, to which every output pays.
    pub own_scripts: Vec<ScriptBuf>,
    /// The most that its fee may be.
    pub budget: Amount,
    /// Lowest and highest feerate of parent and child together.
    pub fees: FeeBounds,
}

/// Our latest commitment, with the child that pays for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnilateralJob {
    /// The commitment, signed by both. It is doubted, and must be `commitment`.
    pub transaction: Transaction,
    /// Our latest commitment, from the channel's state.
    pub commitment: CommitmentTransaction,
    /// What the channel holds.
    pub funding_amount: Amount,
    /// The funding output's witness script.
    pub funding_script: ScriptBuf,
    /// None while there is no coin for it: nodes then take the commitment only if another's child pays for it.
    pub child: Option<ChildJob>,
}

impl UnilateralJob {
    /// What the channel asks to publish, with a child.
    pub fn new(publish: &PublishJob, child: Option<ChildJob>) -> Self {
        Self {
            transaction: publish.transaction.clone(),
            commitment: publish.commitment.clone(),
            funding_amount: publish.funding_amount,
            funding_script: publish.funding_script.clone(),
            child,
        }
    }
}

/// How the parent of a [`BumpJob`] is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParentSource {
    /// A node has it in its mempool: it is public whatever we do.
    Mempool,
    /// Somebody handed it over.
    Given,
}

/// A child for anybody's commitment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BumpJob {
    /// The commitment. Its witness cannot be checked, since its funding output is unknown; nodes do.
    pub parent: Transaction,
    /// Where it is from.
    pub source: ParentSource,
    /// Funding outputs of our own channels. A commitment of these that no node has is not published on request: it could
    /// be a revoked one.
    pub own_fundings: BTreeSet<OutPoint>,
    /// The child.
    pub child: ChildJob,
}

/// A package that kept all rules but those of its witnesses.
pub(crate) struct PreparedPackage<'a> {
    parent: Parent<'a>,
    /// The anchor's, the child, and the fee.
    child: Option<(TxOut, &'a ChildJob, Amount)>,
}

enum Parent<'a> {
    Own(&'a UnilateralJob),
    Others,
}

impl<'a> PreparedPackage<'a> {
    pub(crate) fn unilateral(job: &'a UnilateralJob) -> Result<Self, Flaw> {
        let (found, expected) = (job.transaction.compute_txid(), job.commitment.txid());
        if found != expected {
            return Err(Flaw::Parent { found, expected });
        }
        let (outpoint, anchor) = check_parent(&job.transaction)?;
        let outputs = sum(job.transaction.output.iter().map(|output| output.value))?;
        // What trimmed HTLCs leave goes to the anchor first, and to miners only what the anchor does not hold.
        let is_full = anchor.value == channel::limits::MAX_SHARED_ANCHOR;
        if outputs > job.funding_amount || outputs < job.funding_amount && !is_full {
            return Err(Flaw::ParentFee { outputs, funding: job.funding_amount });
        }
        let child = match &job.child {
            None => None,
            Some(child) => {
                let fee = check_child(child, outpoint, &anchor, job.transaction.weight())?;
                Some((anchor, child, fee))
            }
        };
        Ok(Self { parent: Parent::Own(job), child })
    }

    pub(crate) fn bump(job: &'a BumpJob) -> Result<Self, Flaw> {
        let (outpoint, anchor) = check_parent(&job.parent)?;
        match job.source {
            ParentSource::Mempool => {}
            ParentSource::Given => {
                let spent = job.parent.input.iter().map(|input| input.previous_output);
                if let Some(funding) = spent.into_iter().find(|spent| job.own_fundings.contains(spent)) {
                    return Err(Flaw::OwnChannel { funding });
                }
            }
        }
        let fee = check_child(&job.child, outpoint, &anchor, job.parent.weight())?;
        Ok(Self { parent: Parent::Others, child: Some((anchor, &job.child, fee)) })
    }

    /// Commitments whose signatures are to be checked.
    pub(crate) fn len(&self) -> usize {
        match self.parent {
            Parent::Own(_) => 1,
            Parent::Others => 0,
        }
    }

    /// Both signatures of the commitment.
    pub(crate) fn check_signatures(&self) -> Result<(), Flaw> {
        match self.parent {
            Parent::Own(job) => {
                check_funding_witness(&job.transaction, &job.funding_script, job.funding_amount)
                    .map_err(|flaw| Flaw::FundingWitness { flaw })
            }
            Parent::Others => Ok(()),
        }
    }

    /// The child's coins. Returns the fee.
    pub(crate) fn finish(&self) -> Result<Amount, Flaw> {
        let Some((anchor, child, fee)) = &self.child else { return Ok(Amount::ZERO) };
        if !child.transaction.input[0].witness.is_empty() {
            return Err(Flaw::AnchorWitness);
        }
        check_coins(&child.transaction, std::iter::once(anchor.clone()), &child.coins)?;
        Ok(*fee)
    }
}

/// The rules of every commitment in the zero-fee format. Returns its anchor.
fn check_parent(parent: &Transaction) -> Result<(OutPoint, TxOut), Flaw> {
    if parent.version != limits::TRUC_VERSION {
        return Err(Flaw::ParentVersion { found: parent.version });
    }
    let (found, maximum) = (parent.weight(), limits::MAX_TRUC_WEIGHT);
    if found > maximum {
        return Err(Flaw::ParentWeight { found, maximum });
    }
    if parent.input.len() != 1 {
        return Err(Flaw::ParentInputs { found: parent.input.len() });
    }
    let shared_anchor = scripts::shared_anchor();
    let anchors = || (0u32..).zip(&parent.output).filter(|(_, output)| output.script_pubkey == shared_anchor);
    let found = anchors().count();
    let (vout, anchor) = anchors().next().filter(|_| found == 1).ok_or(Flaw::Anchors { found })?;
    let maximum = channel::limits::MAX_SHARED_ANCHOR;
    if anchor.value > maximum {
        return Err(Flaw::AnchorValue { found: anchor.value, maximum });
    }
    Ok((OutPoint { txid: parent.compute_txid(), vout }, anchor.clone()))
}

/// Everything but the child's witnesses. Returns its fee.
fn check_child(child: &ChildJob, outpoint: OutPoint, anchor: &TxOut, parent: Weight) -> Result<Amount, Flaw> {
    let transaction = &child.transaction;
    let (found, expected) = (transaction.version, limits::TRUC_VERSION);
    if found != expected {
        return Err(Flaw::Version { found, expected });
    }
    let (found, expected) = (transaction.lock_time, LockTime::ZERO);
    if found != expected {
        return Err(Flaw::LockTime { found, expected });
    }
    let outpoints = std::iter::once(outpoint).chain(child.coins.iter().map(|coin| coin.outpoint));
    let expected: Vec<Expected> =
        outpoints.map(|outpoint| Expected { outpoint, sequence: COIN_SEQUENCE }).collect();
    check_inputs(transaction, &expected)?;
    check_outputs(transaction, 0, &child.own_scripts)?;
    let coins = child.coins.iter().map(|coin| coin.output.value);
    let rules = FeeRules {
        fees: child.fees,
        budget: child.budget,
        maximum_weight: limits::MAX_TRUC_CHILD_WEIGHT,
        parent,
    };
    check_amounts(transaction, std::iter::once(anchor.value).chain(coins), &rules)
}
