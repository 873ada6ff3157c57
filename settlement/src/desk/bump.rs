//! Paying for a commitment by a person's word: ours, or anybody's, whose shared anchor is anybody's to spend.

use bitcoin::{Amount, FeeRate, Transaction, Txid};
use channel::ids::OwnerId;

use super::settle::Package;
use super::{Broadcast, Desk, Moment, Outcome};
use crate::claim::{BuildError, ChildRequest, build_child, package_weight};
use crate::fees::fee_for;
use crate::flaw::Flaw;
use crate::pool::PoolError;
use crate::rpc::RpcError;
use crate::verify::{BumpJob, CloseJob, ParentSource};

/// What was sent for a commitment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bumped {
    /// The commitment.
    pub parent: Txid,
    /// The child that pays for both.
    pub child: Txid,
    pub fee: Amount,
}

/// Why nothing was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BumpError {
    #[error(
        "{txid} is in no mempool that this node knows, and no commitment of ours: give the whole transaction"
    )]
    Unknown { txid: Txid },
    #[error("the transaction has no anchor to pay its fee at: it is no commitment of a channel without fees")]
    NoAnchor,
    #[error("it pays {current} sat/vB by now: bid at least {needed}", current = current.to_sat_per_vb_floor(), needed = needed.to_sat_per_vb_ceil())]
    TooLow { current: FeeRate, needed: FeeRate },
    #[error("the configured ceiling is {ceiling} sat/vB", ceiling = ceiling.to_sat_per_vb_floor())]
    TooHigh { ceiling: FeeRate },
    #[error(
        "no confirmed coin pays the fee: {missing} is missing; send coins to this wallet and wait for a block"
    )]
    NoCoin { missing: Amount },
    #[error("our commitment is not sent yet: {why}")]
    NotSent { why: String },
    #[error("it must not be published: {0}")]
    Flaw(Flaw),
    #[error("the child could not be built: {0}")]
    Build(BuildError),
    #[error(transparent)]
    Pool(#[from] PoolError),
    #[error(transparent)]
    Node(#[from] RpcError),
    #[error("the process is stopping")]
    Stopping,
}

impl Desk {
    /// The transaction of our own commitment with this id, if it is to be published.
    pub fn own_commitment_of(&self, txid: Txid) -> Option<Transaction> {
        self.own_commitment(txid).map(|(_, transaction)| transaction.clone())
    }

    /// Pays for `parent` at `feerate` (parent and child together; at least what nodes ask of a replacement).
    pub fn bump(
        &mut self,
        parent: Transaction,
        source: ParentSource,
        feerate: FeeRate,
        now: &Moment,
    ) -> (Result<Bumped, BumpError>, Outcome) {
        if feerate > self.config.fees.ceiling() {
            let ceiling = self.config.fees.ceiling();
            return (Err(BumpError::TooHigh { ceiling }), Outcome::default());
        }
        let txid = parent.compute_txid();
        if let Some((owner, _)) = self.own_commitment(txid) {
            return self.bump_own(owner, txid, feerate, now);
        }
        let mut outcome = Outcome::default();
        let bumped = self.bump_other(parent, source, feerate, now, &mut outcome);
        (bumped, outcome)
    }

    fn bump_own(
        &mut self,
        owner: OwnerId,
        parent: Txid,
        feerate: FeeRate,
        now: &Moment,
    ) -> (Result<Bumped, BumpError>, Outcome) {
        let was_sent = self.package_of(owner).is_some();
        let before = match self.force(owner, feerate) {
            Ok(before) => before,
            Err(error) => return (Err(error), Outcome::default()),
        };
        let outcome = self.settle(now);
        let bumped = match self.package_of(owner) {
            // What was not out before is sent for as much as the coins pay.
            Some(package) if package.feerate() >= feerate || !was_sent => {
                Ok(Bumped { parent, child: package.child, fee: package.fee() })
            }
            Some(_) => Err(BumpError::NoCoin { missing: fee_for(feerate, bitcoin::Weight::from_wu(1_400)) }),
            None => Err(BumpError::NotSent { why: self.commitment_state(owner).to_string() }),
        };
        if bumped.is_err() {
            self.force_no_more(owner, before);
        }
        (bumped, outcome)
    }

    fn bump_other(
        &mut self,
        parent: Transaction,
        source: ParentSource,
        feerate: FeeRate,
        now: &Moment,
        outcome: &mut Outcome,
    ) -> Result<Bumped, BumpError> {
        self.now = self.now.max(now.unix_seconds);
        let txid = parent.compute_txid();
        let script = self.wallet.change_script();
        self.stage_wallet(outcome);
        let old = self.settling.bumps.get(&txid);
        if let Some(old) = old
            && old.feerate() >= feerate
        {
            let needed = crate::claim::raised(old.feerate());
            return Err(BumpError::TooLow { current: old.feerate(), needed });
        }
        let replaces: Vec<_> = old.into_iter().map(Package::as_unconfirmed).collect();
        let coins = self.coins_for(old);
        let request = ChildRequest {
            parent: &parent,
            coins: &coins,
            script: &script,
            feerate,
            // A person named the feerate: a handful of coins may make the child heavier than usual, not more.
            budget: fee_for(feerate, package_weight(&parent, &script) * 4),
            bounds: self.config.fees,
            replaces: &replaces,
        };
        let built = build_child(&request, &self.wallet).map_err(|error| match error {
            BuildError::NoAnchor => BumpError::NoAnchor,
            BuildError::NotEnoughCoins { missing } => BumpError::NoCoin { missing },
            other => BumpError::Build(other),
        })?;
        let package = Package::new(&parent, &built, self.memory.tip().height);
        let fundings = self.watches.all().values().filter_map(|watch| watch.funding.as_ref());
        let job = CloseJob::Bump(BumpJob {
            own_fundings: fundings.map(|funding| funding.outpoint).collect(),
            parent,
            source,
            child: built.child,
        });
        let mut results = self.settling.verify(vec![job])?;
        let verified = results.pop().expect("the pool answers each job").map_err(BumpError::Flaw)?;
        let verified = verified.package().expect("a bump is verified as a package");
        let bumped = Bumped { parent: txid, child: package.child, fee: package.fee() };
        self.settling.bumps.insert(txid, package);
        self.reserve_coins();
        self.listed.entry(txid).or_insert(None);
        outcome.broadcasts.push(Broadcast::Package(verified));
        Ok(bumped)
    }
}
