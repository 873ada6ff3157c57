//! Merging tickets: what comes out is always publishable, pays what it must, and cheats nobody.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use bitcoin::hashes::Hash;
use bitcoin::{Amount, FeeRate, ScriptBuf, Txid};
use common::{
    KeyCoins, Shape, batch_job, hub, hub_script, interpreter_accepts, request, sat, spent_outputs, ticket,
};
use proptest::prelude::*;
use settlement::batch::{Batch, BatchError, BatchTicket, Unconfirmed, merge};
use settlement::fees::{FeeBounds, fee_for};
use settlement::limits;
use settlement::pool::VerifyPool;
use settlement::verify::CloseJob;

fn plain(number: u32) -> BatchTicket {
    ticket(number, Shape { funding_sat: 100_000, balance_msat: 60_000_000, fee_sat: 300 })
}

fn none() -> BTreeMap<Txid, Unconfirmed> {
    BTreeMap::new()
}

fn sign(batch: Batch) -> CloseJob {
    batch.sign(&hub(), &KeyCoins::new()).unwrap()
}

#[test]
fn one_ticket_closes_one_channel() {
    let tickets = [plain(1)];
    let (script, none) = (hub_script(), none());
    let batch = merge(&request(&tickets, &[], &none, &script)).unwrap().batch;
    let verified = sign(batch.clone()).verify().unwrap().single().unwrap();
    assert_eq!(verified.txid(), batch.txid());
    let outputs = &verified.transaction().output;
    assert_eq!(outputs.len(), 2);
    assert_eq!(outputs[0], tickets[0].spec.payout().unwrap());
    assert_eq!(outputs[1].value, sat(100_000 - 59_700) - verified.fees().total);
    let fees = verified.fees();
    assert_eq!(fees.from_wallets, sat(300));
    assert_eq!(fees.from_hub.to_sat() + 300, fees.total.to_sat() + fees.to_hub.to_sat());
}

#[test]
fn tickets_without_a_payout_follow_the_others() {
    let lone = |number| ticket(number, Shape { funding_sat: 50_000, balance_msat: 353_999, fee_sat: 300 });
    let tickets = [lone(1), plain(2), lone(3), plain(4)];
    let (script, none) = (hub_script(), none());
    let job = sign(merge(&request(&tickets, &[], &none, &script)).unwrap().batch);
    let order: Vec<_> = batch_job(&job).tickets.iter().map(|ticket| ticket.funding_outpoint).collect();
    assert_eq!(order, [2, 4, 1, 3].map(common::outpoint));
    assert!(interpreter_accepts(&batch_job(&job).transaction, &spent_outputs(batch_job(&job))));
    let verified = job.verify().unwrap().single().unwrap();
    assert_eq!(verified.transaction().output.len(), 3);
    assert_eq!(
        verified.fees().from_wallets,
        sat(2 * 300 + 2 * 353),
        "what is too small for an output is a fee"
    );
}

#[test]
fn only_tickets_without_a_payout_still_need_an_output_for_the_hub() {
    let rich = ticket(1, Shape { funding_sat: 50_000, balance_msat: 0, fee_sat: 0 });
    let poor = ticket(2, Shape { funding_sat: 600, balance_msat: 0, fee_sat: 0 });
    let (script, none) = (hub_script(), none());
    let batch = merge(&request(&[rich], &[], &none, &script)).unwrap().batch;
    assert_eq!(sign(batch).verify().unwrap().single().unwrap().transaction().output.len(), 1);
    let error = merge(&request(&[poor], &[], &none, &script)).unwrap_err();
    assert!(matches!(error, BatchError::NotEnoughCoins { .. }), "{error}");
}

#[test]
fn a_surplus_too_small_for_an_output_goes_to_the_fee() {
    let full = |fee_sat| ticket(1, Shape { funding_sat: 100_000, balance_msat: 100_000_000, fee_sat });
    let (script, none) = (hub_script(), none());
    let batch = merge(&request(&[full(500)], &[], &none, &script)).unwrap().batch;
    let verified = sign(batch).verify().unwrap().single().unwrap();
    assert_eq!(verified.transaction().output.len(), 1);
    assert_eq!(verified.fees().total, sat(500));
}

#[test]
fn the_hubs_coin_pays_what_the_tickets_do_not() {
    let coins = KeyCoins::new();
    let tickets = [ticket(1, Shape { funding_sat: 100_000, balance_msat: 100_000_000, fee_sat: 10 })];
    let (script, none) = (hub_script(), none());
    let error = merge(&request(&tickets, &[], &none, &script)).unwrap_err();
    assert!(matches!(error, BatchError::NotEnoughCoins { missing } if missing > sat(0)), "{error}");
    for coin in [coins.p2tr(1, 20_000), coins.p2wpkh(1, 20_000)] {
        let available = [coins.p2tr(7, 600), coin.clone()];
        let batch = merge(&request(&tickets, &available, &none, &script)).unwrap().batch;
        assert_eq!(batch.coins(), [coin], "the largest coin first, and no more than needed");
        let job = sign(batch);
        assert!(interpreter_accepts(&batch_job(&job).transaction, &spent_outputs(batch_job(&job))));
        let verified = job.verify().unwrap().single().unwrap();
        assert_eq!(verified.fees().from_hub.to_sat() + 10, verified.fees().total.to_sat());
    }
}

#[test]
fn the_hub_pays_no_more_than_it_agreed_to() {
    let tickets = [plain(1)];
    let (script, none) = (hub_script(), none());
    let mut request = request(&tickets, &[], &none, &script);
    request.max_hub_fee = sat(10);
    request.feerate = FeeRate::from_sat_per_kwu(5_000);
    assert!(matches!(merge(&request), Err(BatchError::HubFee { maximum, .. }) if maximum == sat(10)));
}

#[test]
fn a_replacement_pays_what_bip_125_asks_and_no_wallet_signs_again() {
    let tickets: Vec<BatchTicket> = (0..5).map(plain).collect();
    let (script, none) = (hub_script(), none());
    let first = merge(&request(&tickets, &[], &none, &script)).unwrap().batch;
    let old = first.as_unconfirmed();
    let unconfirmed = BTreeMap::from([(first.txid(), old)]);
    // Two leave, one joins, the order is another, and the feerate asked for is even lower.
    let mut again: Vec<BatchTicket> = tickets[1..4].iter().rev().cloned().collect();
    again.iter_mut().for_each(|ticket| ticket.spent_by = Some(first.txid()));
    again.push(plain(9));
    let mut lower = request(&again, &[], &unconfirmed, &script);
    lower.feerate = FeeRate::from_sat_per_kwu(300);
    let second = merge(&lower).unwrap().batch;
    let new = second.as_unconfirmed();
    assert!(new.fee >= old.fee + fee_for(lower.incremental, new.weight));
    assert!(new.fee.to_sat() * old.weight.to_wu() > old.fee.to_sat() * new.weight.to_wu(), "feerate");
    sign(second).verify().unwrap().single().unwrap();
    again[0].spent_by = Some(Txid::all_zeros());
    let error = merge(&request(&again, &[], &unconfirmed, &script)).unwrap_err();
    assert_eq!(error, BatchError::UnknownConflict { txid: Txid::all_zeros() });
}

#[test]
fn no_more_than_a_hundred_transactions_are_replaced_at_once() {
    let mut tickets: Vec<BatchTicket> = (0..103).map(plain).collect();
    let mut unconfirmed = BTreeMap::new();
    for (number, ticket) in (0u8..).zip(&mut tickets) {
        let txid = Txid::from_byte_array([number.min(101); 32]);
        unconfirmed.insert(txid, Unconfirmed { fee: sat(200), weight: bitcoin::Weight::from_wu(600) });
        ticket.spent_by = Some(txid);
    }
    tickets[102].spent_by = tickets[0].spent_by;
    let script = hub_script();
    let mut request = request(&tickets, &[], &unconfirmed, &script);
    request.max_hub_fee = Amount::MAX_MONEY;
    let merged = merge(&request).unwrap();
    let left: Vec<_> = merged.left.iter().map(|ticket| ticket.spec.funding_outpoint).collect();
    assert_eq!(left, [100, 101].map(common::outpoint));
    assert_eq!(merged.batch.tickets().len(), limits::MAX_REPLACEMENTS + 1);
}

#[test]
fn a_fee_above_the_ceiling_is_refused() {
    let mut tickets = [plain(1)];
    let txid = Txid::all_zeros();
    tickets[0].spent_by = Some(txid);
    let old = Unconfirmed { fee: sat(5_000), weight: bitcoin::Weight::from_wu(600) };
    let unconfirmed = BTreeMap::from([(txid, old)]);
    let script = hub_script();
    let mut request = request(&tickets, &[], &unconfirmed, &script);
    request.fees = FeeBounds::new(FeeRate::from_sat_per_kwu(250), FeeRate::from_sat_per_kwu(1_000)).unwrap();
    assert!(matches!(merge(&request), Err(BatchError::FeeCeiling { .. })));
}

#[test]
fn a_full_batch_stays_within_the_standard_weight_and_the_rest_waits() {
    let tickets: Vec<BatchTicket> = (0..800).map(plain).collect();
    let coins = [KeyCoins::new().p2tr(1, 20_000)];
    let (script, none) = (hub_script(), none());
    let merged = merge(&request(&tickets, &coins, &none, &script)).unwrap();
    assert!(merged.batch.tickets().len() >= 780, "{}", merged.batch.tickets().len());
    assert_eq!(merged.batch.tickets().len() + merged.left.len(), 800);
    let job = sign(merged.batch);
    let weight = batch_job(&job).transaction.weight();
    assert!(weight <= limits::STANDARD_WEIGHT && weight.to_wu() > 395_000, "{weight}");
    let pool = VerifyPool::new(NonZeroUsize::new(2)).unwrap();
    let rest = sign(merge(&request(&merged.left, &[], &none, &script)).unwrap().batch);
    let mut outcomes = pool.verify_all(vec![job, rest]).unwrap().into_iter();
    let verified = outcomes.next().unwrap().unwrap().single().unwrap();
    let vbytes = verified.transaction().vsize() as f64 / 784.0;
    assert!((125.0..128.0).contains(&vbytes), "{vbytes} vB a channel");
    assert_eq!(
        outcomes.next().unwrap().unwrap().single().unwrap().transaction().input.len(),
        merged.left.len()
    );
}

#[test]
fn a_ticket_given_twice_is_merged_once() {
    let tickets = [plain(1), plain(1)];
    let (script, none) = (hub_script(), none());
    assert_eq!(merge(&request(&tickets, &[], &none, &script)).unwrap().batch.tickets().len(), 1);
    assert_eq!(merge(&request(&[], &[], &none, &script)), Err(BatchError::NoTickets));
}

#[test]
fn a_bad_ticket_is_named() {
    let mut bad = plain(1);
    bad.spec.wallet_script = ScriptBuf::new();
    let (script, none) = (hub_script(), none());
    let error = merge(&request(&[plain(2), bad], &[], &none, &script)).unwrap_err();
    assert!(matches!(error, BatchError::Ticket { outpoint, .. } if outpoint == common::outpoint(1)));
}

fn shape() -> impl Strategy<Value = Shape> {
    (355u64..200_000, 0u64..=1_000, 0u64..2_000).prop_map(|(funding_sat, share, fee_sat)| Shape {
        funding_sat,
        balance_msat: funding_sat * share,
        fee_sat,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_merged_batch_is_valid_conserves_and_pays_the_feerate(
        shapes in prop::collection::vec(shape(), 1..12),
        feerate in 253u64..20_000,
        coin_sat in prop::option::of(400u64..300_000),
    ) {
        let tickets: Vec<BatchTicket> = (0u32..).zip(&shapes).map(|(number, shape)| ticket(number, *shape)).collect();
        let coins: Vec<_> = coin_sat.into_iter().map(|value| KeyCoins::new().p2tr(1, value)).collect();
        let (script, none) = (hub_script(), none());
        let mut request = request(&tickets, &coins, &none, &script);
        request.feerate = FeeRate::from_sat_per_kwu(feerate);
        let batch = match merge(&request) {
            Ok(merged) => merged.batch,
            Err(BatchError::NotEnoughCoins { .. }) => return Ok(()),
            Err(error) => panic!("{error}"),
        };
        let estimate = batch.as_unconfirmed();
        let job = sign(batch);
        let spent = spent_outputs(batch_job(&job));
        prop_assert!(interpreter_accepts(&batch_job(&job).transaction, &spent));
        let verified = job.verify().unwrap().single().unwrap();
        let transaction = verified.transaction();
        prop_assert!(transaction.weight() <= estimate.weight);
        prop_assert!(verified.fees().total >= fee_for(request.feerate, transaction.weight()));
        let inputs: Amount = spent.iter().map(|output| output.value).sum();
        let outputs: Amount = transaction.output.iter().map(|output| output.value).sum();
        prop_assert_eq!(inputs, outputs + verified.fees().total);
        for ticket in &tickets {
            let paid = ticket.spec.payout().is_none_or(|payout| transaction.output.contains(&payout));
            prop_assert!(paid, "every wallet gets exactly what was agreed");
        }
    }
}
