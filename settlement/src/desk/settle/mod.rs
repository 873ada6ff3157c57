//! Commitments and claims on their way into the chain.
//!
//! Channels give plans; [`Desk::settle`] does what they want as the chain and the fees are now. It runs after each block
//! once the desk stands at its node's tip, and after each new plan. Each time it
//!
//! 1. lets go of what cannot confirm any more, or is not wanted any more (its coins and claims are free again),
//! 2. raises what waits too long for its deadline,
//! 3. builds what is wanted and not yet under way: claims first, since an HTLC's time runs, then commitments.
//!
//! Everything here is in memory only: after a restart the channels give their plans again and everything is built anew. What
//! was sent before the restart is then outbid, or found in a block. Only what a person decided is journaled
//! ([`gate`]), and what a reorganisation took out of the chain ([`undone`]).
//!
//! Invariants: an output is in at most one attempt; a coin pays for at most one; nothing leaves that the verifier did not
//! pass; no replacement is made while what is out pays enough.

mod attempt;
mod claims;
mod commitments;
pub(super) mod gate;
mod give_up;
mod mempool;
mod ready;
mod status;
pub(super) mod undone;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bitcoin::{FeeRate, OutPoint, Transaction, Txid};
use channel::claim::OnchainPlan;
use channel::ids::OwnerId;
use channel::keys::Point;
use channel::signer::Signer;

use self::attempt::{Attempt, Draft, Refused};
use super::bump::BumpError;
use super::{Broadcast, Desk, DeskReport, Moment, Outcome, Watches};
use crate::broadcast::{PublishError, Published};
use crate::limits;
use crate::onchain::CoinState;
use crate::pool::VerifyPool;
use crate::verify::{BatchCoin, CloseJob, VerifiedClose, VerifiedPackage};

pub(super) use attempt::Package;
pub use gate::Breaker;
pub use status::{ClaimState, ClaimStatus, CommitmentState, CommitmentStatus, OnchainStatus};

/// What is wanted and what is under way.
pub(super) struct Settling {
    signer: Arc<dyn Signer>,
    pool: Arc<VerifyPool>,
    plans: BTreeMap<OwnerId, OnchainPlan>,
    /// Our own commitments with their children.
    commitments: BTreeMap<OwnerId, Package>,
    /// What a person bid for our own commitments, sent or not.
    words: BTreeMap<OwnerId, FeeRate>,
    /// Our own commitments as the verifier passed them, with a child or without.
    ready: BTreeMap<OwnerId, VerifiedPackage>,
    /// Claims, by their transaction.
    claims: BTreeMap<Txid, Attempt>,
    /// Others' commitments that people had us pay for, by the commitment.
    pub(super) bumps: BTreeMap<Txid, Package>,
    /// Why what is wanted is not under way, as of the last look.
    commitment_states: BTreeMap<OwnerId, CommitmentState>,
    claim_states: BTreeMap<OutPoint, ClaimState>,
    /// Claims that were in a transaction which broke a rule: each is built alone, so that one of them keeps nobody
    /// else's waiting.
    alone: BTreeSet<OutPoint>,
    /// Claims that cannot be taken by themselves and that nothing takes, by the tip at which that was first so.
    hopeless: BTreeMap<OutPoint, u32>,
    /// Transactions of the mempool that channels were told of.
    told: BTreeMap<OwnerId, BTreeSet<Txid>>,
    /// Something changed since the last look.
    wanted: bool,
    /// When the desk first looked at its node's tip in this process's life, in seconds since 1970.
    first_look: Option<u64>,
    /// The tip at the last look.
    pub(super) settled_height: Option<u32>,
    pub(super) reserve_was_short: bool,
}

/// The confirmed coins of one look, each given out once.
#[derive(Clone)]
struct Purse {
    free: BTreeMap<OutPoint, BatchCoin>,
    /// Those that pay for what is under way.
    reserved: BTreeMap<OutPoint, BatchCoin>,
}

impl Purse {
    /// What a new attempt may spend, or one that takes the place of another that spends `own`, while `others` wait for a
    /// coin each. The largest: this one comes first because it is urgent.
    fn for_attempt(&self, own: &[OutPoint], others: usize) -> Vec<BatchCoin> {
        let mut free: Vec<&BatchCoin> = self.free.values().collect();
        free.sort_by_key(|coin| std::cmp::Reverse((coin.output.value, coin.outpoint)));
        free.truncate(free.len().saturating_sub(others).max(1));
        let own = own.iter().filter_map(|outpoint| self.reserved.get(outpoint));
        free.into_iter().chain(own).cloned().collect()
    }

    /// The same for what can wait: the largest coins stay.
    fn to_spare(&self, own: &[OutPoint], kept: usize) -> Vec<BatchCoin> {
        let mut free: Vec<&BatchCoin> = self.free.values().collect();
        free.sort_by_key(|coin| (coin.output.value, coin.outpoint));
        free.truncate(free.len().saturating_sub(kept));
        let own = own.iter().filter_map(|outpoint| self.reserved.get(outpoint));
        free.into_iter().chain(own).cloned().collect()
    }

    /// Given out: nothing else built at this look may spend them, not even what takes the place of the same attempt.
    fn take(&mut self, spent: &[OutPoint]) {
        for outpoint in spent {
            self.free.remove(outpoint);
            self.reserved.remove(outpoint);
        }
    }

    fn has(&self, outpoint: &OutPoint) -> bool {
        self.free.contains_key(outpoint) || self.reserved.contains_key(outpoint)
    }
}

impl Settling {
    pub fn new(signer: Arc<dyn Signer>, pool: Arc<VerifyPool>) -> Self {
        Self {
            signer,
            pool,
            plans: BTreeMap::new(),
            commitments: BTreeMap::new(),
            words: BTreeMap::new(),
            ready: BTreeMap::new(),
            claims: BTreeMap::new(),
            bumps: BTreeMap::new(),
            commitment_states: BTreeMap::new(),
            claim_states: BTreeMap::new(),
            alone: BTreeSet::new(),
            hopeless: BTreeMap::new(),
            told: BTreeMap::new(),
            wanted: false,
            first_look: None,
            settled_height: None,
            reserve_was_short: false,
        }
    }

    /// The keys that counterparties' commitments pay our balances to.
    pub(super) fn payment_keys(&self) -> &[Point] {
        self.signer.payment_keys()
    }

    /// Whether a channel wants this output taken.
    pub(super) fn is_planned(&self, outpoint: OutPoint) -> bool {
        let mut claims = self.plans.values().flat_map(|plan| &plan.claims);
        claims.any(|claim| claim.outpoint == outpoint)
    }

    /// The coins that pay for what is under way. A commitment in a block needs its child no more: if the block held another
    /// one in its place, the coin must not stay with it.
    fn coins(&self, watches: &Watches) -> BTreeSet<OutPoint> {
        let in_chain = |owner| watches.funding(owner).is_some_and(|funding| funding.spend.is_some());
        let commitments = self.commitments.iter().filter(|(owner, _)| !in_chain(**owner));
        let packages = commitments.map(|(_, package)| package).chain(self.bumps.values());
        let packages = packages.map(|package| &package.paid);
        let claims = self.claims.values().map(|attempt| &attempt.paid);
        packages.chain(claims).flat_map(|paid| paid.coins.iter().copied()).collect()
    }

    pub(super) fn verify(
        &self,
        jobs: Vec<CloseJob>,
    ) -> Result<Vec<crate::pool::Outcome>, crate::pool::PoolError> {
        self.pool.verify_all(jobs)
    }
}

impl Desk {
    /// True while a plan, a refusal or a person's word waits for [`Desk::settle`].
    pub fn settle_wanted(&self) -> bool {
        self.settling.wanted
    }

    /// A channel's plan replaces its older one.
    pub(super) fn take_plan(&mut self, owner: OwnerId, plan: OnchainPlan, outcome: &mut Outcome) {
        if self.watches.add_outputs(owner, plan.claims.iter().map(|claim| claim.outpoint)) {
            self.record_watch(owner, outcome);
        }
        if plan.publish.is_none() && plan.claims.is_empty() {
            self.settling.plans.remove(&owner);
        } else {
            self.settling.plans.insert(owner, plan);
        }
        self.settling.wanted = true;
    }

    /// The channel ended.
    pub(super) fn forget_plan(&mut self, owner: OwnerId, outcome: &mut Outcome) {
        self.settling.plans.remove(&owner);
        self.settling.told.remove(&owner);
        self.settling.words.remove(&owner);
        self.settling.ready.remove(&owner);
        self.undone.remove(&owner);
        if let Some(package) = self.settling.commitments.remove(&owner) {
            self.unlist(package.parent, outcome);
        }
        self.reserve_coins();
    }

    /// Looks at everything wanted and under way. The desk must stand at its node's tip: a plan of weeks ago is
    /// no reason to publish anything.
    pub fn settle(&mut self, now: &Moment) -> Outcome {
        self.now = self.now.max(now.unix_seconds);
        let mut outcome = Outcome::default();
        self.settling.first_look.get_or_insert(self.now);
        self.settling.wanted = false;
        self.settling.settled_height = Some(self.memory.tip().height);
        self.settling.commitment_states.clear();
        self.settling.claim_states.clear();
        let purse = self.purse();
        let stale = self.review_claims(&purse, &mut outcome);
        self.review_commitments(&purse, &mut outcome);
        self.review_bumps(&mut outcome);
        // What was let go of has freed its coins.
        self.release_rivals();
        self.reserve_coins();
        let mut purse = self.purse();
        let mut drafts = Vec::new();
        self.draft_claims(now, &stale, &mut purse, &mut drafts);
        self.draft_commitments(now, &mut purse, &mut drafts, &mut outcome);
        self.send(drafts, &mut outcome);
        self.verify_unpaid(&mut outcome);
        self.give_up(&mut outcome);
        let replaced = |txid| !self.settling.claims.contains_key(&txid);
        let gone: Vec<Txid> = stale.into_iter().map(|old| old.txid).filter(|txid| replaced(*txid)).collect();
        for txid in gone {
            self.unlist(txid, &mut outcome);
        }
        self.reserve_coins();
        self.stage_wallet(&mut outcome);
        self.report_reserve(&mut outcome);
        outcome
    }

    /// What became of sending something. A fee that is too low is raised at the next look, at once for a while.
    pub fn note_published(&mut self, txid: Txid, result: &Result<Published, PublishError>) {
        self.note_refused(txid, result.as_ref().err());
        let settling = &mut self.settling;
        let mut packages = settling.commitments.values_mut().chain(settling.bumps.values_mut());
        let paid = match packages.find(|package| package.parent == txid) {
            Some(package) => Some(&mut package.paid),
            None => settling.claims.get_mut(&txid).map(|attempt| &mut attempt.paid),
        };
        let Some(paid) = paid else { return };
        match result {
            Ok(_) => paid.refused = None,
            Err(error) => {
                let refused = Refused::by(error);
                let urgent = refused == Refused::TooLow && paid.tries < limits::FEE_RAISES_PER_BLOCK;
                paid.tries = paid.tries.saturating_add(1);
                paid.refused = Some((refused, error.to_string()));
                settling.wanted |= urgent;
            }
        }
    }

    fn purse(&self) -> Purse {
        let mut purse = Purse { free: BTreeMap::new(), reserved: BTreeMap::new() };
        for coin in self.wallet.coins() {
            let place = match coin.state {
                CoinState::Confirmed { .. } => &mut purse.free,
                CoinState::Reserved { .. } => &mut purse.reserved,
                CoinState::OwnChange | CoinState::Unconfirmed | CoinState::Immature | CoinState::Locked => {
                    continue;
                }
            };
            place.insert(coin.outpoint, BatchCoin { outpoint: coin.outpoint, output: coin.output });
        }
        purse
    }

    /// A transaction of ours that a block held before a reorganisation, perhaps before a restart, still counts as spending
    /// its coins. Where something else takes its place, they are free again.
    fn release_rivals(&mut self) {
        let settling = &self.settling;
        let mut wanted: BTreeSet<OutPoint> = BTreeSet::new();
        for (owner, plan) in &settling.plans {
            let job = plan.publish.as_ref().filter(|_| !settling.commitments.contains_key(owner));
            // Its child, and claims of its outputs.
            wanted.extend(job.into_iter().flat_map(|job| {
                let txid = job.commitment.txid();
                (0u32..).zip(&job.transaction.output).map(move |(vout, _)| OutPoint { txid, vout })
            }));
            wanted.extend(plan.claims.iter().map(|claim| claim.outpoint));
        }
        let own: BTreeSet<OutPoint> = settling
            .claims
            .values()
            .flat_map(|attempt| attempt.claims.iter().map(|owned| owned.claim.outpoint))
            .collect();
        wanted.retain(|outpoint| !own.contains(outpoint));
        if wanted.is_empty() {
            return;
        }
        for rival in self.wallet.unconfirmed_spenders(&wanted) {
            self.wallet.release(&rival, self.now);
        }
    }

    pub(super) fn reserve_coins(&mut self) {
        self.wallet.reserve(self.settling.coins(&self.watches));
    }

    /// Verifies all drafts on all cores, takes those that passed and has them sent.
    fn send(&mut self, drafts: Vec<(Draft, CloseJob)>, outcome: &mut Outcome) {
        if drafts.is_empty() {
            return;
        }
        let (drafts, jobs): (Vec<Draft>, Vec<CloseJob>) = drafts.into_iter().unzip();
        let results = match self.settling.verify(jobs) {
            Ok(results) => results,
            Err(error) => {
                // The next block brings the next attempt.
                outcome.reports.push(DeskReport::Trouble { what: format!("claims wait: {error}") });
                return;
            }
        };
        for (draft, result) in drafts.into_iter().zip(results) {
            match (draft, result) {
                (Draft::Claims { attempt, replaces }, Ok(VerifiedClose::Single(verified))) => {
                    self.take_claim_attempt(attempt, &replaces, verified, outcome);
                }
                (Draft::Commitment { owner, package }, Ok(VerifiedClose::Package(verified))) => {
                    self.take_commitment(owner, package, *verified, outcome);
                }
                (Draft::Claims { attempt, .. }, Ok(VerifiedClose::Package(_))) => {
                    self.faulty_claims(&attempt, "it was verified as something else", outcome);
                }
                (Draft::Claims { attempt, .. }, Err(flaw)) => {
                    self.faulty_claims(&attempt, &flaw.to_string(), outcome);
                }
                (Draft::Commitment { owner, .. }, Ok(VerifiedClose::Single(_))) => {
                    self.faulty_commitment(owner, "it was verified as something else", outcome);
                }
                (Draft::Commitment { owner, .. }, Err(flaw)) => {
                    self.faulty_commitment(owner, &flaw.to_string(), outcome);
                }
            }
        }
    }

    /// The confirmed coins that may pay for something new, or for what takes the place of `old`.
    pub(super) fn coins_for(&self, old: Option<&Package>) -> Vec<BatchCoin> {
        self.purse().for_attempt(old.map_or(&[], |old| &old.paid.coins), 0)
    }

    pub(super) fn package_of(&self, owner: OwnerId) -> Option<&Package> {
        self.settling.commitments.get(&owner)
    }

    /// A person's feerate for our own commitment, at the next look and from then on, whatever it is worth. Gives the one
    /// before it.
    pub(super) fn force(&mut self, owner: OwnerId, feerate: FeeRate) -> Result<Option<FeeRate>, BumpError> {
        if let Some(package) = self.settling.commitments.get(&owner) {
            let current = package.paid.feerate();
            if feerate <= current {
                return Err(BumpError::TooLow { current, needed: crate::claim::raised(current) });
            }
        }
        Ok(self.settling.words.insert(owner, feerate))
    }

    /// Nothing came of a person's word: the one before it counts again.
    pub(super) fn force_no_more(&mut self, owner: OwnerId, before: Option<FeeRate>) {
        match before {
            Some(feerate) => drop(self.settling.words.insert(owner, feerate)),
            None => drop(self.settling.words.remove(&owner)),
        }
    }

    /// A new block: refusals are counted anew.
    pub(super) fn count_anew(&mut self) {
        let settling = &mut self.settling;
        let packages = settling.commitments.values_mut().chain(settling.bumps.values_mut());
        packages.for_each(|package| package.paid.tries = 0);
        settling.claims.values_mut().for_each(|attempt| attempt.paid.tries = 0);
    }

    /// Takes something off the list of what should be in the chain. What is in a block stays until it is final, in case
    /// the block is undone.
    pub(in crate::desk) fn unlist(&mut self, txid: Txid, outcome: &mut Outcome) {
        if self.listed.get(&txid) == Some(&None) {
            self.listed.remove(&txid);
            outcome.broadcasts.push(Broadcast::Forget(txid));
        }
    }

    /// The transaction of ours with this id that is under way.
    pub(super) fn own_commitment(&self, txid: Txid) -> Option<(OwnerId, &Transaction)> {
        let jobs =
            self.settling.plans.iter().filter_map(|(owner, plan)| Some((*owner, plan.publish.as_ref()?)));
        let found = jobs.into_iter().find(|(_, job)| job.commitment.txid() == txid);
        found.map(|(owner, job)| (owner, &job.transaction))
    }
}
