//! The rules of a transaction that takes claims, in the order in which they are checked.

use bitcoin::{Amount, ScriptBuf, Transaction};
use channel::claim::Claim;

use super::batch::BatchCoin;
use super::transaction::{Expected, FeeRules, check_amounts, check_coins, check_inputs, check_outputs};
use crate::claim::{COIN_SEQUENCE, ContestClass, lock_time_of, version_of};
use crate::fees::FeeBounds;
use crate::flaw::Flaw;
use crate::limits;

/// A signed transaction that takes outputs of ours: balances, HTLCs or penalties. The transaction is what is doubted;
/// claims and coins come from our own state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimJob {
    /// The transaction.
    pub transaction: Transaction,
    /// What it takes, in the order of the inputs.
    pub claims: Vec<Claim>,
    /// Confirmed coins of ours, whose inputs follow the claims'.
    pub coins: Vec<BatchCoin>,
    /// Scripts of our on-chain wallet: every output but those that the counterparty signed pays to one of these.
    pub own_scripts: Vec<ScriptBuf>,
    /// The most that its fee may be.
    pub budget: Amount,
    /// Lowest and highest feerate.
    pub fees: FeeBounds,
    /// The chain's tip.
    pub tip: u32,
}

/// A claim that kept all rules but those of its witnesses.
pub(crate) struct PreparedClaim<'a> {
    job: &'a ClaimJob,
    fee: Amount,
}

impl<'a> PreparedClaim<'a> {
    pub(crate) fn new(job: &'a ClaimJob) -> Result<Self, Flaw> {
        check_form(job)?;
        let claims =
            job.claims.iter().map(|claim| Expected { outpoint: claim.outpoint, sequence: claim.sequence() });
        let coins =
            job.coins.iter().map(|coin| Expected { outpoint: coin.outpoint, sequence: COIN_SEQUENCE });
        check_inputs(&job.transaction, &claims.chain(coins).collect::<Vec<_>>())?;
        let paired = check_pairs(job)?;
        check_outputs(&job.transaction, paired, &job.own_scripts)?;
        let claimed = job.claims.iter().map(|claim| claim.output.value);
        let spent = claimed.chain(job.coins.iter().map(|coin| coin.output.value));
        let rules = FeeRules {
            fees: job.fees,
            budget: job.budget,
            maximum_weight: limits::maximum_weight(job.transaction.version),
            parent: bitcoin::Weight::ZERO,
        };
        let fee = check_amounts(&job.transaction, spent, &rules)?;
        Ok(Self { job, fee })
    }

    /// Claims whose witnesses are to be checked.
    pub(crate) fn len(&self) -> usize {
        self.job.claims.len()
    }

    /// The witness of one claim.
    pub(crate) fn check_signatures(&self, index: usize) -> Result<(), Flaw> {
        self.job.claims[index]
            .check_witness(&self.job.transaction, index)
            .map_err(|flaw| Flaw::Claim { index, flaw })
    }

    /// Our own coins, after the claims. Returns the fee.
    pub(crate) fn finish(&self) -> Result<Amount, Flaw> {
        let job = self.job;
        let claimed = job.claims.iter().map(|claim| claim.output.clone());
        check_coins(&job.transaction, claimed, &job.coins)?;
        Ok(self.fee)
    }
}

/// One form and one class of contest, and nothing before its time.
fn check_form(job: &ClaimJob) -> Result<(), Flaw> {
    let (transaction, tip) = (&job.transaction, job.tip);
    let first = job.claims.first().ok_or(Flaw::NoClaims)?;
    let form = |claim: &Claim| claim.fixed_version().map(|version| (version, claim.lock_time()));
    let expected_class = ContestClass::of(first.contest, tip);
    for (index, claim) in job.claims.iter().enumerate() {
        if form(claim) != form(first) {
            return Err(Flaw::MixedForms { index });
        }
        let found = ContestClass::of(claim.contest, tip);
        if found != expected_class {
            return Err(Flaw::MixedContests { index, found, expected: expected_class });
        }
        let earliest = claim.earliest_height;
        if earliest > tip.saturating_add(1) {
            return Err(Flaw::TooEarly { index, earliest, tip });
        }
    }
    let expected = version_of(job.claims.iter());
    if transaction.version != expected {
        return Err(Flaw::Version { found: transaction.version, expected });
    }
    let (found, expected) = (transaction.lock_time, lock_time_of(job.claims.iter()));
    if found != expected {
        return Err(Flaw::LockTime { found, expected });
    }
    // A block's transactions are final if their lock time is below its height (heights and times do not meet).
    if found.to_consensus_u32() > tip {
        return Err(Flaw::NotFinal { lock_time: found, tip });
    }
    Ok(())
}

/// The outputs that the counterparty signed, each beside its input. Returns how many there are.
fn check_pairs(job: &ClaimJob) -> Result<usize, Flaw> {
    let mut pairs = 0;
    for (index, expected) in job.claims.iter().filter_map(Claim::paired_output).enumerate() {
        let found = job.transaction.output.get(index);
        if found != Some(expected) {
            return Err(Flaw::Pair { index, found: found.cloned(), expected: expected.clone() });
        }
        pairs = index + 1;
    }
    Ok(pairs)
}
