//! Claims that nobody waits for any more.
//!
//! An output that is worth less than its claim costs by itself waits for company, for a coin to spare and for low fees. If
//! none of that comes, its channel would stay for ever. So it is told to give the output up: only after
//! [`limits::GIVE_UP_BLOCKS`], only of a final commitment, and never while a transaction with it is under way.

use bitcoin::OutPoint;
use channel::claim::Claim;
use channel::event::{ChainEvent, Command};
use channel::ids::OwnerId;

use super::ClaimState;
use super::attempt::{Attempt, Refused};
use crate::claim::is_small;
use crate::desk::{Desk, Outcome};
use crate::limits;

impl Desk {
    /// Tells channels what to give up; told again until their plans are without it.
    pub(super) fn give_up(&mut self, outcome: &mut Outcome) {
        let tip = self.memory.tip().height;
        let known = std::mem::take(&mut self.settling.hopeless);
        for (owner, claim) in self.hopeless_claims() {
            let outpoint = claim.outpoint;
            let since = known.get(&outpoint).copied().unwrap_or(tip).min(tip);
            self.settling.hopeless.insert(outpoint, since);
            let waited = tip.saturating_sub(claim.earliest_height) >= limits::GIVE_UP_BLOCKS;
            if waited && tip - since >= limits::GIVE_UP_LOOK_BLOCKS {
                outcome.then.push((owner, Command::Chain(ChainEvent::OutputGivenUp { outpoint })));
            }
        }
    }

    /// Of final commitments, what the look that was just taken found no way to take.
    fn hopeless_claims(&mut self) -> Vec<(OwnerId, Claim)> {
        let (floor, next) = (self.config.fees.floor(), self.memory.tip().height.saturating_add(1));
        let script = self.wallet.change_script();
        let is_final = |owner: &OwnerId| {
            let spend = self.watches.funding(*owner).and_then(|funding| funding.spend);
            spend.is_some_and(|found| found.is_final)
        };
        let plans = self.settling.plans.iter().filter(|(owner, _)| is_final(owner));
        let claims = plans.flat_map(|(owner, plan)| plan.claims.iter().map(|claim| (*owner, claim)));
        let hopeless = claims.filter(|(owner, claim)| {
            claim.earliest_height <= next
                && is_small(claim, &script, floor)
                && self.is_unspent(*owner, claim.outpoint)
                && self.is_hopeless(claim.outpoint)
        });
        hopeless.map(|(owner, claim)| (owner, claim.clone())).collect()
    }

    fn is_unspent(&self, owner: OwnerId, outpoint: OutPoint) -> bool {
        let watch = self.watches.get(owner).and_then(|watch| watch.outputs.get(&outpoint));
        watch.is_some_and(|watch| watch.spend.is_none())
    }

    /// Whether nothing takes the output: nothing could be built, or nodes ask for more than it is worth.
    fn is_hopeless(&self, outpoint: OutPoint) -> bool {
        let takes = |attempt: &&Attempt| attempt.claims.iter().any(|owned| owned.claim.outpoint == outpoint);
        if let Some(attempt) = self.settling.claims.values().find(takes) {
            return matches!(attempt.paid.refused, Some((Refused::TooLow, _)));
        }
        match self.settling.claim_states.get(&outpoint) {
            Some(ClaimState::Uneconomic | ClaimState::TooDear { .. } | ClaimState::NoCoin { .. }) => true,
            Some(
                ClaimState::Waits { .. }
                | ClaimState::Faulty { .. }
                | ClaimState::Pending
                | ClaimState::Sent { .. }
                | ClaimState::Spent { .. },
            )
            | None => false,
        }
    }
}
