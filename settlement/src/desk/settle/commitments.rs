//! Our own commitments, each a package with a child that pays for it.

use bitcoin::{OutPoint, Txid};
use channel::channel::PublishJob;
use channel::ids::OwnerId;

use super::attempt::{Draft, Package, Refused, at_most, bid};
use super::{CommitmentState, Purse};
use crate::claim::{
    Bid, BuildError, ChildRequest, FeeTarget, build_child, commitment_budget, package_weight,
    pressing_budget, target_blocks,
};
use crate::desk::{Broadcast, Desk, DeskReport, Moment, Outcome};
use crate::limits;
use crate::verify::{CloseJob, UnilateralJob, VerifiedPackage};

impl Desk {
    /// Lets go of commitments that cannot confirm any more, or are not wanted.
    pub(super) fn review_commitments(&mut self, purse: &Purse, outcome: &mut Outcome) {
        for (owner, package) in std::mem::take(&mut self.settling.commitments) {
            let spend = self.watches.funding(owner).and_then(|funding| funding.spend);
            let wanted = self.publish_job(owner).is_some_and(|job| job.commitment.txid() == package.parent);
            let keep = match spend {
                Some(found) => found.txid == package.parent,
                None => {
                    let missing = matches!(package.paid.refused, Some((Refused::Missing, _)));
                    wanted && !missing && self.has_coins(&package.paid.coins, package.child, purse)
                }
            };
            if keep {
                self.settling.commitments.insert(owner, package);
            } else {
                self.unlist(package.parent, outcome);
            }
        }
    }

    /// Others' commitments: done with once they are in a block, and not tried for ever.
    pub(super) fn review_bumps(&mut self, outcome: &mut Outcome) {
        let tip = self.memory.tip().height;
        let ended: Vec<Txid> = self
            .settling
            .bumps
            .iter()
            .filter(|(txid, bump)| {
                let in_chain = matches!(self.listed.get(*txid), Some(Some(_)) | None);
                in_chain || tip.saturating_sub(bump.made_at) >= limits::BUMP_PATIENCE_BLOCKS
            })
            .map(|(txid, _)| *txid)
            .collect();
        for txid in ended {
            self.settling.bumps.remove(&txid);
            self.unlist(txid, outcome);
        }
    }

    fn publish_job(&self, owner: OwnerId) -> Option<&PublishJob> {
        self.settling.plans.get(&owner)?.publish.as_ref()
    }

    /// Every commitment that is to be published, the most urgent first.
    pub(super) fn draft_commitments(
        &mut self,
        now: &Moment,
        purse: &mut Purse,
        drafts: &mut Vec<(Draft, CloseJob)>,
        outcome: &mut Outcome,
    ) {
        let plans = self.settling.plans.iter();
        let mut wanted: Vec<(u32, OwnerId)> = plans
            .filter_map(|(owner, plan)| Some((plan.publish.as_ref()?.deadline.unwrap_or(u32::MAX), *owner)))
            .collect();
        wanted.sort_unstable();
        let without_coin = |owner: &OwnerId| !self.settling.commitments.contains_key(owner);
        let mut others = wanted.iter().filter(|(_, owner)| without_coin(owner)).count();
        for (_, owner) in wanted {
            if !self.settling.commitments.contains_key(&owner) {
                others = others.saturating_sub(1);
            }
            let Some(job) = self.publish_job(owner).cloned() else { continue };
            let Some(funding) = self.watches.funding(owner) else { continue };
            if funding.spend.is_some() {
                continue;
            }
            let drafted = match funding.confirmed {
                None => Err(CommitmentState::AwaitsFunding),
                Some(_) => self
                    .may_publish(owner, &job, outcome)
                    .and_then(|()| self.leaves_no_room(owner, &job, outcome))
                    .and_then(|()| self.draft_commitment(owner, &job, now, purse, others)),
            };
            match drafted {
                Ok(Some(draft)) => drafts.push(draft),
                Ok(None) => {}
                Err(state) => {
                    // Whoever may not publish withdraws what is out.
                    if matches!(state, CommitmentState::Suspended | CommitmentState::Held)
                        && let Some(package) = self.settling.commitments.remove(&owner)
                    {
                        self.unlist(package.parent, outcome);
                    }
                    self.settling.commitment_states.insert(owner, state);
                }
            }
        }
    }

    /// `None`: what is out pays enough.
    fn draft_commitment(
        &mut self,
        owner: OwnerId,
        job: &PublishJob,
        now: &Moment,
        purse: &mut Purse,
        others: usize,
    ) -> Result<Option<(Draft, CloseJob)>, CommitmentState> {
        let tip = self.memory.tip().height;
        let script = self.wallet.change_script();
        let old = self.settling.commitments.get(&owner);
        let weight = package_weight(&job.transaction, &script);
        let target = FeeTarget {
            deadline: job.deadline,
            tip,
            estimate: now.estimates.within(target_blocks(job.deadline, tip)),
            last: None,
            bounds: self.config.fees,
            budget: commitment_budget(job, weight, self.config.fees),
            pressing: pressing_budget(job),
            weight,
        };
        let word = self.settling.words.get(&owner).copied();
        let (wanted, budget) = bid(target, old.map(|old| &old.paid), word);
        let feerate = match wanted {
            Bid::Publish(feerate) | Bid::Replace(feerate) => feerate,
            Bid::Keep => return Ok(None),
            Bid::TooDear { .. } if old.is_some() => return Ok(None),
            Bid::TooDear { lowest, budget } => return Err(CommitmentState::TooDear { lowest, budget }),
        };
        let replaces: Vec<_> = old
            .filter(|old| old.paid.refused.is_none())
            .map(|old| old.paid.as_unconfirmed())
            .into_iter()
            .collect();
        let own_coins: &[OutPoint] = old.map_or(&[], |old| &old.paid.coins);
        let coins = purse.for_attempt(own_coins, others);
        let built = at_most(feerate, self.config.fees.floor(), |feerate| {
            let request = ChildRequest {
                parent: &job.transaction,
                coins: &coins,
                script: &script,
                feerate,
                budget,
                bounds: self.config.fees,
                replaces: &replaces,
            };
            build_child(&request, &self.wallet)
        });
        let built = match built {
            Ok(built) => built,
            // What is out stays out.
            Err(_) if old.is_some() => return Ok(None),
            Err(BuildError::NotEnoughCoins { missing }) => return Err(CommitmentState::NoCoin { missing }),
            Err(BuildError::OverBudget { needed, allowed }) => {
                return Err(CommitmentState::TooDear { lowest: needed, budget: allowed });
            }
            Err(
                error @ (BuildError::Uneconomic
                | BuildError::NoAnchor
                | BuildError::ImpossibleSum
                | BuildError::Signer(_)
                | BuildError::Signature(_)
                | BuildError::Coin(_)),
            ) => return Err(CommitmentState::Faulty { why: error.to_string() }),
        };
        let mut package = Package::new(&job.transaction, &built, tip);
        package.paid.tries = old.map_or(0, |old| old.paid.tries);
        purse.take(&package.paid.coins);
        let close = CloseJob::Unilateral(Box::new(UnilateralJob::new(job, Some(built.child))));
        Ok(Some((Draft::Commitment { owner, package }, close)))
    }

    pub(super) fn take_commitment(
        &mut self,
        owner: OwnerId,
        package: Package,
        verified: VerifiedPackage,
        outcome: &mut Outcome,
    ) {
        outcome.reports.push(DeskReport::CommitmentSent {
            owner,
            txid: package.parent,
            child: package.child,
            fee: package.paid.fee,
            replaces: self.settling.commitments.get(&owner).map(|old| old.child),
        });
        self.listed.entry(package.parent).or_insert(None);
        self.settling.commitments.insert(owner, package);
        self.settling.ready.insert(owner, verified.clone());
        outcome.broadcasts.push(Broadcast::Package(verified));
    }

    pub(super) fn faulty_commitment(&mut self, owner: OwnerId, why: &str, outcome: &mut Outcome) {
        self.settling.commitment_states.insert(owner, CommitmentState::Faulty { why: why.to_owned() });
        let what = format!("the commitment of channel {} must not be published: {why}", owner.0);
        outcome.reports.push(DeskReport::Trouble { what });
    }
}
