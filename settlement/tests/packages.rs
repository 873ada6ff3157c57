//! Commitments with a child at their anchor: built, verified, and accepted by Bitcoin's own interpreter.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeSet;

use bitcoin::transaction::Version;
use bitcoin::{Amount, FeeRate, ScriptBuf, Transaction, TxOut};
use channel::commitment::HtlcDirection::{Offered, Received};
use common::onchain::{channel, htlc, two_htlcs};
use common::{KeyCoins, hub_script, interpreter_accepts, sat};
use settlement::claim::{BuildError, BuiltChild, ChildRequest, anchor_of, build_child, package_weight};
use settlement::fees::{FeeBounds, Unconfirmed, fee_for};
use settlement::limits;
use settlement::verify::{BatchCoin, BumpJob, CloseJob, ParentSource, UnilateralJob, VerifiedPackage};

fn request<'a>(parent: &'a Transaction, coins: &'a [BatchCoin], script: &'a ScriptBuf) -> ChildRequest<'a> {
    ChildRequest {
        parent,
        coins,
        script,
        feerate: FeeRate::from_sat_per_kwu(2_500),
        budget: sat(500_000),
        bounds: FeeBounds::default(),
        replaces: &[],
    }
}

fn interpreted(parent: &Transaction, child: &BuiltChild) {
    let (_, anchor) = anchor_of(parent).unwrap();
    let coins = child.child.coins.iter().map(|coin| coin.output.clone());
    let spent: Vec<TxOut> = std::iter::once(anchor).chain(coins).collect();
    assert!(interpreter_accepts(&child.child.transaction, &spent));
}

fn verified(job: UnilateralJob) -> VerifiedPackage {
    CloseJob::Unilateral(Box::new(job)).verify().unwrap().package().unwrap()
}

#[test]
fn a_commitment_and_its_child_are_built_verified_and_accepted_by_the_interpreter() {
    let many = (0..100).map(|id| htlc(if id < 50 { Offered } else { Received }, id, 9_000)).collect();
    let (keys, script) = (KeyCoins::new(), hub_script());
    // More than the anchor holds, so that the rest is the commitment's own fee.
    let trimmed = vec![htlc(Offered, 0, 300), htlc(Received, 1, 300)];
    for htlcs in [vec![], two_htlcs(), many, trimmed] {
        let channel = channel(0);
        let publish = channel.publish(htlcs);
        assert!(interpreter_accepts(&publish.transaction, &[channel.hub.funding_output()]));
        for coin in [keys.p2wpkh(1, 900_000), keys.p2tr(2, 900_000)] {
            let coins = [coin];
            let request = request(&publish.transaction, &coins, &script);
            let built = build_child(&request, &keys).unwrap();
            interpreted(&publish.transaction, &built);
            let (child, parent) = (&built.child.transaction, &publish.transaction);
            assert_eq!(child.version, Version::non_standard(3));
            assert!(child.weight() <= built.weight);
            let package = parent.weight() + built.weight;
            assert!(package <= package_weight(parent, &script));
            assert_eq!(built.fee, fee_for(request.feerate, package));
            let verified = verified(UnilateralJob::new(&publish, Some(built.child.clone())));
            assert_eq!((verified.parent(), verified.child()), (parent, Some(child)));
            assert_eq!((verified.parent_txid(), verified.fee()), (parent.compute_txid(), built.fee));
            assert_eq!(verified.child_txid(), Some(child.compute_txid()));
        }
    }
}

#[test]
fn without_a_coin_the_commitment_is_verified_alone() {
    let publish = channel(0).publish(two_htlcs());
    let script = hub_script();
    let without = build_child(&request(&publish.transaction, &[], &script), &KeyCoins::new());
    assert!(matches!(without, Err(BuildError::NotEnoughCoins { .. })));
    let verified = verified(UnilateralJob::new(&publish, None));
    assert_eq!((verified.child(), verified.child_txid(), verified.fee()), (None, None, Amount::ZERO));
}

#[test]
fn a_child_of_many_coins_keeps_to_its_size() {
    let publish = channel(0).publish(two_htlcs());
    let (keys, script) = (KeyCoins::new(), hub_script());
    let coins: Vec<BatchCoin> = (0..40).map(|number| keys.p2wpkh(number, 2_000)).collect();
    let feerate = FeeRate::from_sat_per_kwu(3_000);
    let request = ChildRequest { feerate, ..request(&publish.transaction, &coins, &script) };
    let built = build_child(&request, &keys).unwrap();
    assert!(built.coins.len() > 4, "{}", built.coins.len());
    assert!(built.child.transaction.weight() <= limits::MAX_TRUC_CHILD_WEIGHT);
    interpreted(&publish.transaction, &built);
    verified(UnilateralJob::new(&publish, Some(built.child)));
    let feerate = FeeRate::from_sat_per_kwu(5_000);
    let too_small = build_child(&ChildRequest { feerate, ..request }, &keys);
    assert!(matches!(too_small, Err(BuildError::NotEnoughCoins { .. })), "{too_small:?}");
}

#[test]
fn a_replaced_child_pays_for_the_package_again_within_the_budget() {
    let publish = channel(0).publish(two_htlcs());
    let (keys, script) = (KeyCoins::new(), hub_script());
    let coins = [keys.p2tr(1, 900_000)];
    let request = request(&publish.transaction, &coins, &script);
    let first = build_child(&request, &keys).unwrap();
    let replaces: [Unconfirmed; 1] = [first.as_unconfirmed()];
    let again = build_child(&ChildRequest { replaces: &replaces, ..request }, &keys).unwrap();
    let package = publish.transaction.weight() + again.weight;
    assert_eq!(again.fee, first.fee + Amount::from_sat(package.to_vbytes_ceil()));
    verified(UnilateralJob::new(&publish, Some(again.child)));
    let budget = first.fee;
    let poor = build_child(&ChildRequest { replaces: &replaces, budget, ..request }, &keys);
    assert!(
        matches!(poor, Err(BuildError::OverBudget { needed, allowed }) if needed > budget && allowed == budget)
    );
}

#[test]
fn anybody_can_pay_for_anybodys_commitment() {
    let publish = channel(0).publish(two_htlcs());
    let (keys, script) = (KeyCoins::new(), hub_script());
    let coins = [keys.p2tr(1, 50_000)];
    let built = build_child(&request(&publish.transaction, &coins, &script), &keys).unwrap();
    for source in [ParentSource::Given, ParentSource::Mempool] {
        let job = BumpJob {
            parent: publish.transaction.clone(),
            source,
            own_fundings: BTreeSet::new(),
            child: built.child.clone(),
        };
        let verified = CloseJob::Bump(job).verify().unwrap().package().unwrap();
        assert_eq!(verified.parent(), &publish.transaction);
        assert_eq!(verified.child(), Some(&built.child.transaction));
    }
    // One of ours that somebody hands over could be revoked; in the mempool it is out anyway.
    let own_fundings = BTreeSet::from([publish.transaction.input[0].previous_output]);
    let job = |source| BumpJob {
        parent: publish.transaction.clone(),
        source,
        own_fundings: own_fundings.clone(),
        child: built.child.clone(),
    };
    assert!(CloseJob::Bump(job(ParentSource::Given)).verify().is_err());
    assert!(CloseJob::Bump(job(ParentSource::Mempool)).verify().is_ok());
}

#[test]
fn what_has_no_shared_anchor_has_no_child() {
    let publish = channel(0).publish(two_htlcs());
    let script = hub_script();
    let anchor = publish.transaction.output.iter().position(|output| output.value == Amount::ZERO).unwrap();
    let mut changed = [publish.transaction.clone(), publish.transaction.clone(), publish.transaction];
    changed[0].version = Version::TWO;
    changed[1].output.remove(anchor);
    let second = changed[2].output[anchor].clone();
    changed[2].output.push(second);
    for parent in &changed {
        assert_eq!(build_child(&request(parent, &[], &script), &KeyCoins::new()), Err(BuildError::NoAnchor));
    }
}
