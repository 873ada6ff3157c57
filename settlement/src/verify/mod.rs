//! Checking transactions before they are published.
//!
//! A [`CloseJob`] says what is to be published and what was agreed; [`CloseJob::verify`] is a pure function of it. Only
//! it makes a [`Verified`], [`FundingTransaction::verify`] a [`FundingTransaction`], and [`HandedOver::verify`] a [`HandedOver`]: the types
//! that the broadcaster takes. None is ever stored: after a restart the job is verified again.

mod batch;
mod coin;
mod funding;
mod handed_over;

use bitcoin::{Amount, Transaction, Txid};

pub use batch::{BatchCoin, BatchJob};
pub use coin::CoinFlaw;
pub use funding::{FundingFlaw, FundingRules, FundingTransaction};
pub use handed_over::{HandedOver, HandedOverFlaw};

use crate::flaw::Flaw;

/// Something that closes channels, with all that it must agree with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloseJob {
    /// Cooperative closes by ticket, merged into one transaction.
    Batch(BatchJob),
}

/// Who paid how much of a fee.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeeShares {
    /// What goes to miners.
    pub total: Amount,
    /// What the wallets' payouts are short of their balances: agreed fees, and balances too small for an output.
    pub from_wallets: Amount,
    /// What the hub added; zero if the wallets' part sufficed.
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

impl CloseJob {
    /// Checks every rule on this thread.
    ///
    /// # Errors
    ///
    /// The first [`Flaw`] in the order of the checks.
    pub fn verify(self) -> Result<Verified, Flaw> {
        let prepared = self.prepare()?;
        (0..prepared.len()).try_for_each(|index| prepared.check_signatures(index))?;
        let fees = prepared.finish()?;
        Ok(self.verified(fees))
    }

    /// Units of work: pairs of signatures to check.
    pub fn work(&self) -> usize {
        match self {
            CloseJob::Batch(job) => job.tickets.len(),
        }
    }

    /// Everything but the channels' signatures, which [`Prepared`] checks in any order and on any thread.
    pub(crate) fn prepare(&self) -> Result<Prepared<'_>, Flaw> {
        match self {
            CloseJob::Batch(job) => Prepared::new(job),
        }
    }

    /// After every check of its [`Prepared`] passed.
    pub(crate) fn verified(self, fees: FeeShares) -> Verified {
        let transaction = match self {
            CloseJob::Batch(job) => job.transaction,
        };
        let txid = transaction.compute_txid();
        Verified { transaction, txid, fees }
    }
}

pub(crate) use batch::Prepared;
