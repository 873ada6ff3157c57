//! What the chain's side does for channels that were given up: commitments and claims get into blocks and become final.
//!
//! Transactions are real and signed; each claim's witness is checked. Blocks are fair: what may be mined is mined before
//! the next of the heights that count.

use bitcoin::transaction::Version;
use bitcoin::{OutPoint, Transaction, TxOut};
use channel::claim::{Claim, ClaimKind};
use channel::event::ChainEvent;
use channel::signer::Signer;

use super::lab::{Lab, StateId, Stimulus};
use super::world::{Action, Row, Who, World};
use super::{Bounds, Slip};
use crate::model::limits::LAST_HEIGHT;
use crate::model::pair::payout_script;

impl World {
    pub(super) fn chain_actions(&self, link: usize, works: bool, lab: &mut Lab, actions: &mut Vec<Action>) {
        let far = &self.links[link];
        for who in [Who::Hub, Who::Wallet] {
            let state = self.publisher(link, who);
            if far.chain.is_empty() {
                if lab.facts(state).failed && lab.plan(state).commitment.is_some() {
                    actions.push(Action::Publish(link, who));
                }
            } else if self.has_claim(link, who, lab) {
                actions.push(Action::Claim(link, who));
            }
        }
        if works && far.told < far.chain.len() {
            actions.push(Action::Tell(link));
        }
    }

    /// The state whose wishes reach the chain: the hub's must be on the disk.
    fn publisher(&self, link: usize, who: Who) -> StateId {
        match who {
            Who::Hub => self.durable[link],
            Who::Wallet => self.links[link].wallet,
        }
    }

    fn is_spent(&self, link: usize, outpoint: OutPoint, lab: &Lab) -> bool {
        self.links[link].chain.iter().any(|fact| match lab.chain_event(*fact) {
            ChainEvent::OutputSpent { outpoint: spent, .. } => *spent == outpoint,
            _ => false,
        })
    }

    /// The first claim that the next block may hold. What only its owner can take waits for the last height.
    fn due_claim(&self, link: usize, who: Who, lab: &mut Lab) -> Option<Claim> {
        let plan = lab.plan(self.publisher(link, who));
        let last = self.height == LAST_HEIGHT;
        let due = |claim: &&Claim| claim.earliest_height <= self.height + 1 && (last || is_htlc(claim));
        plan.claims.iter().filter(due).find(|claim| !self.is_spent(link, claim.outpoint, lab)).cloned()
    }

    pub(super) fn has_claim(&self, link: usize, who: Who, lab: &mut Lab) -> bool {
        lab.facts(self.publisher(link, who)).failed
            && !self.links[link].chain.is_empty()
            && self.due_claim(link, who, lab).is_some()
    }

    pub(super) fn publish(&mut self, link: usize, who: Who, lab: &mut Lab) -> Result<(), String> {
        let (state, height) = (self.publisher(link, who), self.height);
        let facts = lab.spend((state, None, height), |lab| {
            let transaction = lab.plan(state).commitment.clone().ok_or("nothing to publish")?;
            let buried = ChainEvent::SpendFinal { height, txid: transaction.compute_txid() };
            Ok([ChainEvent::FundingSpent { height, transaction, revoked_htlcs: None }, buried])
        })?;
        self.happen(link, facts, lab)
    }

    pub(super) fn claim(&mut self, link: usize, who: Who, lab: &mut Lab) -> Result<(), String> {
        let Some(claim) = self.due_claim(link, who, lab) else { return Ok(()) };
        let (state, outpoint, height) = (self.publisher(link, who), claim.outpoint, self.height);
        let facts = lab.spend((state, Some(outpoint), height), |lab| {
            let transaction = take(&claim, state, lab)?;
            let buried = ChainEvent::OutputSpendFinal { outpoint, height, txid: transaction.compute_txid() };
            Ok([ChainEvent::OutputSpent { outpoint, height, transaction }, buried])
        })?;
        self.happen(link, facts, lab)
    }

    /// A spend, and then that it is final. The wallet sees both at once, the hub when it is told of each.
    fn happen(&mut self, link: usize, facts: [u32; 2], lab: &mut Lab) -> Result<(), String> {
        for fact in facts {
            self.links[link].chain.push(fact);
            self.wallet(link, Stimulus::Chain(fact), lab)?;
        }
        Ok(())
    }

    /// What a block means for the channel is in the log before the row that moves the tip.
    pub(super) fn tell(&mut self, link: usize, lab: &mut Lab, bounds: &Bounds) -> Result<(), String> {
        let Some(fact) = self.links[link].chain.get(self.links[link].told).copied() else { return Ok(()) };
        self.links[link].told += 1;
        let told = self.links[link].told;
        if bounds.slip == Some(Slip::TipFirst) {
            self.rows.push_back(Row::Tip { link, told });
        }
        self.host(link, Stimulus::Chain(fact), lab, bounds)?;
        // Without crashes to come nobody reads that row.
        if bounds.slip != Some(Slip::TipFirst) && self.crashes > 0 {
            self.rows.push_back(Row::Tip { link, told });
        }
        Ok(())
    }
}

fn is_htlc(claim: &Claim) -> bool {
    match claim.kind {
        ClaimKind::HtlcSuccess { .. } | ClaimKind::HtlcTimeout { .. } => true,
        ClaimKind::ToLocal
        | ClaimKind::ToRemote
        | ClaimKind::SecondStage { .. }
        | ClaimKind::PenaltyToLocal
        | ClaimKind::PenaltyHtlc
        | ClaimKind::PenaltySecondStage => false,
    }
}

/// A transaction that takes the claim, signed and checked.
fn take(claim: &Claim, state: StateId, lab: &Lab) -> Result<Transaction, String> {
    let (party, key_id) = (lab.party(state), lab.channel(state).key_id());
    let output = match claim.paired_output() {
        Some(output) => output.clone(),
        None => TxOut { value: claim.output.value, script_pubkey: payout_script(8) },
    };
    let mut transaction = Transaction {
        version: claim.fixed_version().unwrap_or(Version::TWO),
        lock_time: claim.lock_time(),
        input: vec![claim.unsigned_input()],
        output: vec![output],
    };
    let wrong = |error: &dyn std::fmt::Display| format!("a claim that cannot be taken: {error}: {claim:?}");
    let signature =
        party.signer.sign_claim(&key_id, claim, &transaction, 0).map_err(|error| wrong(&error))?;
    transaction.input[0].witness = claim.witness(&signature).map_err(|error| wrong(&error))?;
    claim.check_witness(&transaction, 0).map_err(|error| wrong(&error))?;
    Ok(transaction)
}
