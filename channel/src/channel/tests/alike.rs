//! HTLCs with one payment hash: each output pays one of them, whatever else its preimage opens.

use super::chain::*;
use super::onchain::{TIMED_OUT, funded, publish, results};
use super::pair::*;
use crate::claim::ClaimKind;
use crate::event::{ChainEvent, Command};

#[test]
fn two_htlcs_with_one_script_are_both_claimed() {
    for publisher in Who::BOTH {
        let mut world = funded();
        for number in [1, 2] {
            let mut offer = offer(number, 10_000_000);
            offer.payment_hash = hash(1);
            world.pair.hub.command(Command::Offer(offer)).unwrap();
        }
        world.pair.run();
        publish(&mut world, publisher);
        for id in [1, 2] {
            world.pair.resolve(Who::Wallet, id, fulfilled(1));
        }
        let claims = world.due_claims(Who::Wallet);
        let success = claims.iter().filter(|claim| matches!(claim.kind, ClaimKind::HtlcSuccess { .. }));
        assert_eq!(success.count(), 2);
        world.run_to_the_end(&Who::BOTH);
        assert_eq!(world.owned(Who::Wallet), 420_000);
        assert_eq!(results(&mut world, Who::Hub), [(key(1), fulfilled(1)), (key(2), fulfilled(1))]);
    }
}

/// Two pay one invoice. With the same amount and expiry, their outputs are alike.
fn paid_by_two(second_amount_msat: u64, second_expiry: u32) -> World {
    let mut world = funded();
    for number in [1, 2] {
        let mut offer = offer(number, if number == 1 { 10_000_000 } else { second_amount_msat });
        offer.payment_hash = hash(1);
        offer.cltv_expiry += if number == 1 { 0 } else { second_expiry };
        world.pair.hub.command(Command::Offer(offer)).unwrap();
    }
    world.pair.run();
    world
}

#[test]
fn of_two_payers_of_one_invoice_only_the_one_whose_htlc_the_chain_shows_taken_has_paid() {
    for publisher in Who::BOTH {
        for (second_amount_msat, second_expiry) in
            [(10_000_000, 0), (10_000_000, 5), (11_000_000, 0), (100_000, 0)]
        {
            let mut world = paid_by_two(second_amount_msat, second_expiry);
            publish(&mut world, publisher);
            world.pair.resolve(Who::Wallet, 1, fulfilled(1));
            let claims = world.due_claims(Who::Wallet);
            let success: Vec<_> = claims
                .into_iter()
                .filter(|claim| matches!(claim.kind, ClaimKind::HtlcSuccess { .. }))
                .collect();
            assert_eq!(success.len(), 1);
            let transaction = world.take(Who::Wallet, &success);
            world.pair.hub.chain(ChainEvent::SeenInMempool { transaction: transaction.clone() }).unwrap();
            assert_eq!(world.mine([transaction.clone()]), 1);
            world.pair.hub.chain(ChainEvent::SeenInMempool { transaction }).unwrap();
            world.run_to_the_end(&Who::BOTH);
            let told = results(&mut world, Who::Hub);
            assert_eq!(
                told,
                [(key(1), fulfilled(1)), (key(2), TIMED_OUT)],
                "{second_amount_msat} {second_expiry}"
            );
        }
    }
}

/// The payee fulfilled the first in a message, and takes either output or both: which is which nobody can tell. `late`: the second
/// when nothing can turn around the first any more.
#[test]
fn of_outputs_that_are_alike_as_many_htlcs_are_paid_as_were_taken_and_those_fulfilled_before_come_first() {
    for (taken, late) in [(vec![1], 0), (vec![2], 0), (vec![1, 2], 0), (vec![1, 2], 10), (vec![2, 1], 10)] {
        let mut world = paid_by_two(10_000_000, 0);
        world.pair.resolve(Who::Wallet, 1, fulfilled(1));
        world.pair.wallet.command(Command::SignNow).unwrap();
        assert!(world.pair.deliver(Who::Hub));
        assert_eq!(results(&mut world, Who::Hub), [(key(1), fulfilled(1))]);
        publish(&mut world, Who::Wallet);
        world.pair.resolve(Who::Wallet, 2, fulfilled(1));
        let claims = world.due_claims(Who::Wallet);
        for id in &taken {
            let kind = ClaimKind::HtlcSuccess { id: *id };
            let claim: Vec<_> = claims.iter().filter(|claim| claim.kind == kind).cloned().collect();
            let taking = world.take(Who::Wallet, &claim);
            assert_eq!(world.mine([taking]), 1);
            world.mine_empty(late);
        }
        world.run_to_the_end(&[Who::Hub]);
        let second = if taken.len() == 2 { fulfilled(1) } else { TIMED_OUT };
        assert_eq!(
            results(&mut world, Who::Hub),
            [(key(1), fulfilled(1)), (key(2), second)],
            "{taken:?} {late}"
        );
    }
}

/// The first was fulfilled in a message; the payee can claim whatever is left of both. A third, of another invoice, decides nothing
/// about them, but makes the channel look again.
fn first_paid_by_message() -> World {
    let mut world = paid_by_two(10_000_000, 0);
    world.pair.offer(Who::Hub, 3, 20_000_000);
    world.pair.run();
    world.pair.resolve(Who::Wallet, 1, fulfilled(1));
    world.pair.wallet.command(Command::SignNow).unwrap();
    assert!(world.pair.deliver(Who::Hub));
    assert_eq!(results(&mut world, Who::Hub), [(key(1), fulfilled(1))]);
    publish(&mut world, Who::Wallet);
    for id in [2, 3] {
        world.pair.resolve(Who::Wallet, id, fulfilled(if id == 2 { 1 } else { 3 }));
    }
    world
}

fn claim(world: &mut World, who: Who, kind: ClaimKind) -> bitcoin::Transaction {
    let due: Vec<_> = world.due_claims(who).into_iter().filter(|claim| claim.kind == kind).collect();
    assert_eq!(due.len(), 1, "{kind:?}");
    world.take(who, &due)
}

#[test]
fn an_htlc_fulfilled_by_message_is_not_forgotten_when_the_other_of_its_kind_is_taken_for_good() {
    let mut world = first_paid_by_message();
    for id in [2, 3, 1] {
        let taking = claim(&mut world, Who::Wallet, ClaimKind::HtlcSuccess { id });
        assert_eq!(world.mine([taking.clone()]), 1);
        world.mine_empty(FINAL_DEPTH);
        // Old news charge nobody.
        world.pair.hub.chain(ChainEvent::SeenInMempool { transaction: taking }).unwrap();
        let told = results(&mut world, Who::Hub);
        let second = told.iter().find(|(which, _)| *which == key(2));
        assert_eq!(second, (id == 1).then_some(&(key(2), fulfilled(1))), "after {id}");
    }
    world.run_to_the_end(&[Who::Hub]);
    assert_eq!(
        results(&mut world, Who::Hub),
        [(key(1), fulfilled(1)), (key(2), fulfilled(1)), (key(3), fulfilled(3))]
    );
}

#[test]
fn of_two_alike_one_of_which_was_paid_by_message_the_other_is_free_once_one_output_is_ours_for_good() {
    for (back, taken) in [(1, 2), (2, 1)] {
        let mut world = first_paid_by_message();
        world.mine_empty(100);
        let timeout = claim(&mut world, Who::Hub, ClaimKind::HtlcTimeout { id: back });
        assert_eq!(world.mine([timeout]), 1);
        let before = results(&mut world, Who::Hub);
        assert!(!before.iter().any(|(which, _)| *which == key(2)), "not before it is final");
        world.mine_empty(FINAL_DEPTH);
        let told = results(&mut world, Who::Hub);
        assert!(told.contains(&(key(2), TIMED_OUT)), "{told:?}");
        let taking = claim(&mut world, Who::Wallet, ClaimKind::HtlcSuccess { id: taken });
        assert_eq!(world.mine([taking]), 1);
        world.run_to_the_end(&[Who::Hub]);
        let told = results(&mut world, Who::Hub);
        assert_eq!(told, [(key(1), fulfilled(1)), (key(2), TIMED_OUT), (key(3), TIMED_OUT)], "{back}");
    }
}
