//! Claims: which are out, which must be made again, which are new.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::{Amount, OutPoint, Script, Txid};
use channel::claim::{Claim, OnchainPlan};
use channel::ids::OwnerId;

use super::attempt::{Attempt, Draft, Paid, Refused, at_most, bid};
use super::{ClaimState, Purse};
use crate::claim::{
    Bid, BuildError, Built, ClaimRequest, FeeTarget, Group, OwnedClaim, build, group, target_blocks,
};
use crate::desk::{Broadcast, Desk, DeskReport, Moment, Outcome};
use crate::fees::Unconfirmed;
use crate::verify::{CloseJob, Verified};

/// A transaction that is not wanted any more but may still be in nodes' mempools.
pub(super) struct Stale {
    pub txid: Txid,
    spends: BTreeSet<OutPoint>,
    outbid: Unconfirmed,
}

/// Where an attempt stands.
enum Standing {
    /// Nothing speaks against it.
    Waits,
    InChain,
    /// It may still confirm, but something else is wanted now.
    Unwanted,
    /// It cannot confirm any more.
    Impossible,
}

impl Desk {
    /// Lets go of claims that are not wanted any more, or cannot confirm. Those that others must outbid are returned.
    pub(super) fn review_claims(&mut self, purse: &Purse, outcome: &mut Outcome) -> Vec<Stale> {
        let mut stale = Vec::new();
        for (txid, mut attempt) in std::mem::take(&mut self.settling.claims) {
            match self.standing(&mut attempt, purse) {
                Standing::Waits | Standing::InChain => {
                    self.settling.claims.insert(txid, attempt);
                }
                Standing::Impossible => self.unlist(txid, outcome),
                Standing::Unwanted => {
                    let claimed = attempt.claims.iter().map(|owned| owned.claim.outpoint);
                    let spends = claimed.chain(attempt.paid.coins.iter().copied()).collect();
                    stale.push(Stale { txid, spends, outbid: attempt.paid.as_unconfirmed() });
                }
            }
        }
        stale
    }

    fn standing(&self, attempt: &mut Attempt, purse: &Purse) -> Standing {
        let mut unwanted = false;
        for owned in &mut attempt.claims {
            let watch =
                self.watches.get(owned.owner).and_then(|watch| watch.outputs.get(&owned.claim.outpoint));
            match watch.map(|watch| watch.spend) {
                Some(Some(found)) if found.txid == attempt.txid => return Standing::InChain,
                Some(Some(_)) | None => return Standing::Impossible,
                Some(None) => {}
            }
            match self.planned(owned.owner, owned.claim.outpoint) {
                Some(claim) if claim.path == owned.claim.path && claim.key == owned.claim.key => {
                    unwanted |= !self.is_due(claim);
                    // Deadlines and contests may be seen otherwise by now.
                    owned.claim = claim.clone();
                }
                Some(_) | None => unwanted = true,
            }
        }
        if matches!(attempt.paid.refused, Some((Refused::Missing, _))) {
            return Standing::Impossible;
        }
        let coins_are_there = self.has_coins(&attempt.paid.coins, attempt.txid, purse);
        if unwanted || !coins_are_there { Standing::Unwanted } else { Standing::Waits }
    }

    /// Whether an attempt's coins are in blocks still. Those of one that a block held before a reorganisation count as
    /// spent by it.
    pub(super) fn has_coins(&self, coins: &[OutPoint], payer: Txid, purse: &Purse) -> bool {
        coins.iter().all(|coin| purse.has(coin)) || self.wallet.transaction(payer).is_some()
    }

    fn planned(&self, owner: OwnerId, outpoint: OutPoint) -> Option<&Claim> {
        let plan = self.settling.plans.get(&owner)?;
        plan.claims.iter().find(|claim| claim.outpoint == outpoint)
    }

    fn is_due(&self, claim: &Claim) -> bool {
        claim.earliest_height <= self.memory.tip().height.saturating_add(1)
    }

    /// Raises what is out, and builds what is not under way yet.
    pub(super) fn draft_claims(
        &mut self,
        now: &Moment,
        stale: &[Stale],
        purse: &mut Purse,
        drafts: &mut Vec<(Draft, CloseJob)>,
    ) {
        let tip = self.memory.tip().height;
        let waiting: Vec<Attempt> =
            self.settling.claims.values().filter(|attempt| !self.is_in_chain(attempt)).cloned().collect();
        for attempt in waiting {
            let groups = group(&attempt.claims, tip);
            // What can be contested by now leaves the company of what cannot.
            let splits = groups.len() > 1;
            let before = (purse.clone(), drafts.len());
            let mut lacks_coins = false;
            for group in groups {
                let old = Old { txid: attempt.txid, paid: &attempt.paid, splits };
                let drafted = self.draft_group(&group, Some(old), now, stale, purse, drafts);
                lacks_coins |= drafted == Drafted::LacksCoins;
            }
            if splits && lacks_coins {
                // Together they have the coin that one of them would be left without.
                *purse = before.0;
                drafts.truncate(before.1);
            }
        }
        let (alone, together): (Vec<OwnedClaim>, Vec<OwnedClaim>) = self
            .free_claims()
            .into_iter()
            .partition(|owned| self.settling.alone.contains(&owned.claim.outpoint));
        let singles = alone.iter().flat_map(|owned| group(std::slice::from_ref(owned), tip));
        for group in group(&together, tip).into_iter().chain(singles) {
            self.draft_group(&group, None, now, stale, purse, drafts);
        }
    }

    fn is_in_chain(&self, attempt: &Attempt) -> bool {
        attempt.claims.iter().any(|owned| {
            let watch = self.watches.get(owned.owner);
            watch.and_then(|watch| watch.outputs.get(&owned.claim.outpoint)?.spend).is_some()
        })
    }

    /// Every claim that a block could hold and that no attempt takes.
    fn free_claims(&mut self) -> Vec<OwnedClaim> {
        let attempts = self.settling.claims.values();
        let taken: BTreeSet<OutPoint> =
            attempts.flat_map(|attempt| attempt.claims.iter().map(|owned| owned.claim.outpoint)).collect();
        let mut free = Vec::new();
        let mut states = BTreeMap::new();
        for (owner, plan) in &self.settling.plans {
            let Some(watch) = self.watches.get(*owner) else { continue };
            for claim in &plan.claims {
                let unspent = watch.outputs.get(&claim.outpoint).is_some_and(|output| output.spend.is_none());
                if !unspent || taken.contains(&claim.outpoint) {
                    continue;
                }
                if self.is_due(claim) {
                    free.push(OwnedClaim { owner: *owner, key_id: plan.key_id, claim: claim.clone() });
                } else {
                    states.insert(claim.outpoint, ClaimState::Waits { height: claim.earliest_height });
                }
            }
        }
        self.settling.claim_states.extend(states);
        free
    }

    /// Builds a group; what costs more than half of its value at these fees, at the lowest.
    fn draft_group(
        &mut self,
        group: &Group,
        old: Option<Old<'_>>,
        now: &Moment,
        stale: &[Stale],
        purse: &mut Purse,
        drafts: &mut Vec<(Draft, CloseJob)>,
    ) -> Drafted {
        let script = self.wallet.change_script();
        let look = Look { now, stale, script: &script };
        let mut built = self.build_group(group, old.as_ref(), &look, purse);
        if old.is_none() && built.as_ref().is_err_and(|why| *why != Unbuilt::Kept) {
            let last = group.as_last_resort(self.config.fees.floor());
            if let Ok(cheapest) = self.build_group(&last, None, &look, purse) {
                built = Ok(cheapest);
            }
        }
        let built = match built {
            Ok(built) => built,
            Err(Unbuilt::Kept) => return Drafted::Done,
            // What is out stays out.
            Err(Unbuilt::Failed(BuildError::NotEnoughCoins { .. })) if old.is_some() => {
                return Drafted::LacksCoins;
            }
            Err(_) if old.is_some() => return Drafted::Done,
            Err(why) => {
                let state = why.state();
                let states = group.outpoints().map(|outpoint| (outpoint, state.clone()));
                self.settling.claim_states.extend(states);
                return Drafted::Done;
            }
        };
        purse.take(&built.coins);
        let CloseJob::Claim(job) = &built.job else { return Drafted::Done };
        let (claims, left_out): (Vec<OwnedClaim>, Vec<OwnedClaim>) =
            group.claims().iter().cloned().partition(|owned| built.claimed.contains(&owned.claim.outpoint));
        let attempt = Attempt {
            txid: job.transaction.compute_txid(),
            claims,
            paid: Paid {
                coins: built.coins.clone(),
                fee: built.fee,
                weight: built.weight,
                parent: bitcoin::Weight::ZERO,
                refused: None,
                tries: old.as_ref().map_or(0, |old| old.paid.tries),
            },
        };
        let replaces = old.iter().map(|old| old.txid).collect();
        drafts.push((Draft::Claims { attempt, replaces }, built.job));
        let left = left_out.iter().map(|owned| (owned.claim.outpoint, ClaimState::Uneconomic));
        self.settling.claim_states.extend(left);
        if old.is_none() {
            // Among themselves they may be worth a lower feerate. They are fewer each time.
            for group in crate::claim::group(&left_out, self.memory.tip().height) {
                self.draft_group(&group, None, now, stale, purse, drafts);
            }
        }
        Drafted::Done
    }

    /// A group's transaction at the feerate that is right now.
    fn build_group(
        &self,
        group: &Group,
        old: Option<&Old<'_>>,
        look: &Look<'_>,
        purse: &Purse,
    ) -> Result<Built, Unbuilt> {
        let (tip, bounds) = (self.memory.tip().height, self.config.fees);
        // At the lowest feerate time changes nothing.
        let deadline = group.deadline().filter(|_| group.last_resort().is_none());
        let estimate = look.now.estimates.within(target_blocks(deadline, tip));
        let target = FeeTarget {
            deadline,
            tip,
            estimate: group.last_resort().unwrap_or(estimate),
            last: None,
            bounds,
            budget: group.budget(),
            pressing: group.budget(),
            weight: group.weight(look.script),
        };
        let (wanted, budget) = bid(target, old.map(|old| old.paid), None);
        let feerate = match (wanted, old) {
            (Bid::Publish(feerate) | Bid::Replace(feerate), _) => feerate,
            (Bid::Keep, Some(old)) if old.splits => old.paid.feerate(),
            (Bid::Keep, _) | (Bid::TooDear { .. }, Some(_)) => return Err(Unbuilt::Kept),
            (Bid::TooDear { lowest, budget }, None) => return Err(Unbuilt::TooDear { lowest, budget }),
        };
        let spends: BTreeSet<OutPoint> = group.outpoints().collect();
        let conflicts = look.stale.iter().filter(|old| !old.spends.is_disjoint(&spends));
        let own = old.filter(|old| old.paid.refused.is_none());
        let replaces: Vec<Unconfirmed> =
            conflicts.map(|old| old.outbid).chain(own.map(|old| old.paid.as_unconfirmed())).collect();
        let own_coins: &[OutPoint] = old.map_or(&[], |old| &old.paid.coins);
        let coins = if group.may_need_coins() {
            purse.for_attempt(own_coins, 0)
        } else {
            purse.to_spare(own_coins, self.coins_kept())
        };
        let built = at_most(feerate, bounds.floor(), |feerate| {
            let request = ClaimRequest {
                group,
                tip,
                coins: &coins,
                script: look.script,
                feerate,
                budget,
                bounds,
                replaces: &replaces,
            };
            build(&request, self.settling.signer.as_ref(), &self.wallet)
        });
        built.map_err(Unbuilt::Failed)
    }

    /// Coins that small claims leave: one for each channel that may have to be closed, and for each that is closed and
    /// has a commitment or HTLCs to pay for.
    fn coins_kept(&self) -> usize {
        let open = usize::try_from(self.reserve().needed_coins).unwrap_or(usize::MAX);
        let needs = |plan: &&OnchainPlan| {
            plan.publish.is_some() || plan.claims.iter().any(|claim| claim.paired_output().is_some())
        };
        open.saturating_add(self.settling.plans.values().filter(needs).count())
    }

    pub(super) fn take_claim_attempt(
        &mut self,
        attempt: Attempt,
        replaces: &[Txid],
        verified: Verified,
        outcome: &mut Outcome,
    ) {
        let txid = verified.txid();
        for old in replaces.iter().filter(|old| **old != txid) {
            self.settling.claims.remove(old);
            self.unlist(*old, outcome);
        }
        outcome.reports.push(DeskReport::ClaimSent {
            txid,
            outputs: attempt.claims.len(),
            fee: attempt.paid.fee,
            replaces: replaces.first().copied(),
        });
        self.settling.claims.insert(txid, attempt);
        self.listed.entry(txid).or_insert(None);
        outcome.broadcasts.push(Broadcast::Close(verified));
    }

    pub(super) fn faulty_claims(&mut self, attempt: &Attempt, why: &str, outcome: &mut Outcome) {
        let settling = &mut self.settling;
        let mut news = false;
        for owned in &attempt.claims {
            let state = ClaimState::Faulty { why: why.to_owned() };
            settling.claim_states.insert(owned.claim.outpoint, state);
            news |= settling.alone.insert(owned.claim.outpoint);
        }
        if news {
            // Those that are not to blame need not wait for a block.
            settling.wanted = true;
            let what = format!("the claim {} must not be published: {why}", attempt.txid);
            outcome.reports.push(DeskReport::Trouble { what });
        }
    }
}

/// What became of a group at one look.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Drafted {
    /// Built, or what is out stays out.
    Done,
    /// No coin is left for what would take the place of an attempt.
    LacksCoins,
}

/// What one look at the claims goes by.
struct Look<'a> {
    now: &'a Moment,
    stale: &'a [Stale],
    script: &'a Script,
}

/// Why a group has no transaction, or no other one.
#[derive(Debug, PartialEq, Eq)]
enum Unbuilt {
    /// What is out pays enough.
    Kept,
    /// Its claims are not worth the lowest feerate.
    TooDear {
        lowest: Amount,
        budget: Amount,
    },
    Failed(BuildError),
}

impl Unbuilt {
    /// As people see it.
    fn state(self) -> ClaimState {
        match self {
            Self::Kept => ClaimState::Pending,
            Self::TooDear { lowest, budget } => ClaimState::TooDear { lowest, budget },
            Self::Failed(error) => match error {
                BuildError::Uneconomic => ClaimState::Uneconomic,
                BuildError::NotEnoughCoins { missing } => ClaimState::NoCoin { missing },
                BuildError::OverBudget { needed, allowed } => {
                    ClaimState::TooDear { lowest: needed, budget: allowed }
                }
                BuildError::NoAnchor
                | BuildError::ImpossibleSum
                | BuildError::Signer(_)
                | BuildError::Signature(_)
                | BuildError::Coin(_) => ClaimState::Faulty { why: error.to_string() },
            },
        }
    }
}

/// The attempt that a draft takes the place of.
struct Old<'a> {
    txid: Txid,
    paid: &'a Paid,
    /// Its claims must part.
    splits: bool,
}
