//! Checking transactions before they are published.
//!
//! A [`CloseJob`] says what is to be published and what was agreed; [`CloseJob::verify`] is a pure function of it. Only
//! it makes a [`Verified`] or a [`VerifiedPackage`], [`FundingTransaction::verify`] a [`FundingTransaction`], and [`HandedOver::verify`] a [`HandedOver`]: the types
//! that the broadcaster takes. None is ever stored: after a restart the job is verified again.

mod batch;
mod claim;
mod coin;
mod funding;
mod funding_witness;
mod handed_over;
mod package;
mod returned;
mod transaction;

use bitcoin::{Amount, Transaction, Txid};

pub use batch::{BatchCoin, BatchJob};
pub use claim::ClaimJob;
pub use coin::CoinFlaw;
pub use funding::{FundingFlaw, FundingRules, FundingTransaction};
pub use funding_witness::FundingWitnessFlaw;
pub use handed_over::{HandedOver, HandedOverFlaw};
pub use package::{BumpJob, ChildJob, ParentSource, UnilateralJob};
pub use returned::Returned;

use crate::flaw::Flaw;

/// Something that closes channels or takes what a close left, with all that it must agree with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloseJob {
    /// Cooperative closes by ticket, merged into one transaction.
    Batch(BatchJob),
    /// Our latest commitment, with a child that pays for it.
    Unilateral(Box<UnilateralJob>),
    /// Outputs of ours, penalties included.
    Claim(ClaimJob),
    /// A child for anybody's commitment.
    Bump(BumpJob),
}

/// Who paid how much of a fee.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeeShares {
    /// What goes to miners.
    pub total: Amount,
    /// What the wallets' payouts are short of their balances: agreed fees, and balances too small for an output.
    pub from_wallets: Amount,
    /// What we added; all of it for a claim, zero for a batch if the wallets' part sufficed.
    pub from_hub: Amount,
    /// What the wallets' part left over for the hub's output; zero if the hub added something.
    pub to_hub: Amount,
}

/// A close that kept every rule. Its fields are private and nothing but the verifier makes one, so nothing else can
/// be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    transaction: Transaction,
    txid: Txid,
    fees: FeeShares,
}

impl Verified {
    /// The transaction to publish.
    pub fn transaction(&self) -> &Transaction {
        &self.transaction
    }

    /// Its id.
    pub fn txid(&self) -> Txid {
        self.txid
    }

    /// Its fee and who paid it.
    pub fn fees(&self) -> FeeShares {
        self.fees
    }
}

/// A commitment and the child that pays for it, which kept every rule. Its fields are private and nothing but the verifier
/// makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedPackage {
    parent: Transaction,
    parent_txid: Txid,
    child: Option<Transaction>,
    child_txid: Option<Txid>,
    fee: Amount,
}

impl VerifiedPackage {
    /// The commitment.
    pub fn parent(&self) -> &Transaction {
        &self.parent
    }

    /// Its id.
    pub fn parent_txid(&self) -> Txid {
        self.parent_txid
    }

    /// The child; none where there was no coin for one.
    pub fn child(&self) -> Option<&Transaction> {
        self.child.as_ref()
    }

    /// Its id.
    pub fn child_txid(&self) -> Option<Txid> {
        self.child_txid
    }

    /// What the child pays for both.
    pub fn fee(&self) -> Amount {
        self.fee
    }
}

/// What came of a [`CloseJob`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VerifiedClose {
    /// Of [`CloseJob::Batch`] and [`CloseJob::Claim`].
    Single(Verified),
    /// Of [`CloseJob::Unilateral`] and [`CloseJob::Bump`].
    Package(Box<VerifiedPackage>),
}

impl VerifiedClose {
    /// The transaction, if it is a single one.
    pub fn single(self) -> Option<Verified> {
        match self {
            Self::Single(verified) => Some(verified),
            Self::Package(_) => None,
        }
    }

    /// The package, if it is one.
    pub fn package(self) -> Option<VerifiedPackage> {
        match self {
            Self::Single(_) => None,
            Self::Package(verified) => Some(*verified),
        }
    }
}

impl CloseJob {
    /// Checks every rule on this thread.
    ///
    /// # Errors
    ///
    /// The first [`Flaw`] in the order of the checks.
    pub fn verify(self) -> Result<VerifiedClose, Flaw> {
        let prepared = self.prepare()?;
        (0..prepared.len()).try_for_each(|index| prepared.check_signatures(index))?;
        let fees = prepared.finish()?;
        Ok(self.verified(fees))
    }

    /// Units of work: up to two signatures to check each.
    pub fn work(&self) -> usize {
        let child = |child: &ChildJob| child.coins.len();
        match self {
            Self::Batch(job) => job.tickets.len(),
            Self::Unilateral(job) => 1 + job.child.as_ref().map_or(0, child),
            Self::Claim(job) => job.claims.len() + job.coins.len(),
            Self::Bump(job) => child(&job.child),
        }
    }

    /// Everything but the signatures of channels and claims, which [`Prepared`] checks in any order and on any thread.
    pub(crate) fn prepare(&self) -> Result<Prepared<'_>, Flaw> {
        Ok(match self {
            Self::Batch(job) => Prepared::Batch(batch::PreparedBatch::new(job)?),
            Self::Unilateral(job) => Prepared::Package(package::PreparedPackage::unilateral(job)?),
            Self::Claim(job) => Prepared::Claim(claim::PreparedClaim::new(job)?),
            Self::Bump(job) => Prepared::Package(package::PreparedPackage::bump(job)?),
        })
    }

    /// After every check of its [`Prepared`] passed.
    pub(crate) fn verified(self, fees: FeeShares) -> VerifiedClose {
        let single = |transaction: Transaction| {
            let txid = transaction.compute_txid();
            VerifiedClose::Single(Verified { transaction, txid, fees })
        };
        let package = |parent: Transaction, child: Option<ChildJob>| {
            let child = child.map(|child| child.transaction);
            VerifiedClose::Package(Box::new(VerifiedPackage {
                parent_txid: parent.compute_txid(),
                parent,
                child_txid: child.as_ref().map(Transaction::compute_txid),
                child,
                fee: fees.total,
            }))
        };
        match self {
            Self::Batch(job) => single(job.transaction),
            Self::Claim(job) => single(job.transaction),
            Self::Unilateral(job) => package(job.transaction, job.child),
            Self::Bump(job) => package(job.parent, Some(job.child)),
        }
    }
}

/// A job that kept all rules but those of its witnesses.
pub(crate) enum Prepared<'a> {
    Batch(batch::PreparedBatch<'a>),
    Claim(claim::PreparedClaim<'a>),
    Package(package::PreparedPackage<'a>),
}

impl Prepared<'_> {
    /// Parts whose signatures are to be checked.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Batch(batch) => batch.len(),
            Self::Claim(claim) => claim.len(),
            Self::Package(package) => package.len(),
        }
    }

    /// The signatures of one part: a ticket's input, a claim's, or the commitment's.
    pub(crate) fn check_signatures(&self, index: usize) -> Result<(), Flaw> {
        match self {
            Self::Batch(batch) => batch.check_signatures(index),
            Self::Claim(claim) => claim.check_signatures(index),
            Self::Package(package) => package.check_signatures(),
        }
    }

    /// Our own coins, after everything else.
    pub(crate) fn finish(&self) -> Result<FeeShares, Flaw> {
        match self {
            Self::Batch(batch) => batch.finish(),
            Self::Claim(claim) => Ok(FeeShares::ours(claim.finish()?)),
            Self::Package(package) => Ok(FeeShares::ours(package.finish()?)),
        }
    }
}

impl FeeShares {
    /// A fee that is ours alone.
    fn ours(total: Amount) -> Self {
        Self { total, from_wallets: Amount::ZERO, from_hub: total, to_hub: Amount::ZERO }
    }
}
