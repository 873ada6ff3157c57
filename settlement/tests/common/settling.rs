//! Channels of the hub's on a desk's chain, and what the desk sends for them.

use bitcoin::{Amount, FeeRate, OutPoint, Transaction, Txid};
use channel::claim::{Claim, OnchainPlan};
use settlement::desk::{Broadcast, ClaimState, CommitmentState, DeskRequest, Estimates, Moment};
use settlement::verify::VerifiedPackage;

use super::pair::{Pair, funding_output};
use super::rig::{Rig, Told, moment, strangers_payment};

/// Somebody's transaction that funds channel `number`.
pub fn funding(number: u32) -> Transaction {
    let mut funding = strangers_payment(funding_output(number));
    funding.input[0].previous_output.vout = 10_000 + number;
    funding
}

/// A confirmed channel of the hub's.
pub fn channel(rig: &mut Rig, number: u32) -> Pair {
    let funding = funding(number);
    let outpoint = OutPoint { txid: funding.compute_txid(), vout: 0 };
    let pair = Pair::new(number, outpoint);
    let request = DeskRequest::WatchFunding { outpoint, output: funding_output(number), minimum_depth: 1 };
    rig.ask(pair.owner(), request);
    rig.mine(vec![funding]);
    pair
}

pub fn give(rig: &mut Rig, plan: OnchainPlan) -> Told {
    let owner = plan.owner;
    rig.ask(owner, DeskRequest::Plan(Box::new(plan)))
}

pub fn at_feerate(sat_per_kwu: u64) -> Moment {
    let feerate = FeeRate::from_sat_per_kwu(sat_per_kwu);
    Moment { feerate, estimates: Estimates::flat(feerate), ..moment() }
}

pub fn settle(rig: &mut Rig) -> Told {
    settle_at(rig, &moment())
}

pub fn settle_at(rig: &mut Rig, moment: &Moment) -> Told {
    let outcome = rig.desk.settle(moment);
    rig.perform(outcome)
}

pub fn packages(told: &Told) -> Vec<&VerifiedPackage> {
    let packages = told.broadcasts.iter().filter_map(|broadcast| match broadcast {
        Broadcast::Package(package) => Some(package),
        _ => None,
    });
    packages.collect()
}

pub fn package(told: &Told) -> (Transaction, Transaction) {
    let [package] = packages(told)[..] else { panic!("{told:?}") };
    (package.parent().clone(), package.child().unwrap().clone())
}

/// The transactions that take claims.
pub fn claims(told: &Told) -> Vec<Transaction> {
    let claims = told.broadcasts.iter().filter_map(|broadcast| match broadcast {
        Broadcast::Close(verified) => Some(verified.transaction().clone()),
        _ => None,
    });
    claims.collect()
}

pub fn forgotten(told: &Told) -> Vec<Txid> {
    let forgotten = told.broadcasts.iter().filter_map(|broadcast| match broadcast {
        Broadcast::Forget(txid) => Some(*txid),
        _ => None,
    });
    forgotten.collect()
}

pub fn spends(transaction: &Transaction, claim: &Claim) -> bool {
    transaction.input.iter().any(|input| input.previous_output == claim.outpoint)
}

pub fn commitment_state(rig: &Rig, pair: &Pair) -> CommitmentState {
    rig.desk.onchain_status(pair.owner()).unwrap().commitment.unwrap().state
}

pub fn claim_state(rig: &Rig, pair: &Pair, claim: &Claim) -> ClaimState {
    let status = rig.desk.onchain_status(pair.owner()).unwrap();
    status.claims.into_iter().find(|status| status.outpoint == claim.outpoint).unwrap().state
}

/// The fee of a package: the child's, since the parent pays none.
pub fn child_fee(rig: &Rig, pair: &Pair) -> Amount {
    match commitment_state(rig, pair) {
        CommitmentState::Sent { fee, .. } => fee,
        other => panic!("{other:?}"),
    }
}
