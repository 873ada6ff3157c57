//! Payments that are decided on the chain: the payer's ledger hears of each once, through any death and any repeat.

use bitcoin::absolute::LockTime;
use bitcoin::transaction::Version;
use bitcoin::{OutPoint, ScriptBuf, Transaction, TxIn, TxOut, Witness};
use channel::bytes::PaymentPreimage;
use channel::claim::{Claim, ClaimKind, SpendPath};
use channel::event::{ChainEvent, Command};
use channel::forward::ForwardResult;
use channel::ids::OwnerId;
use shard::ChainRequest;

use crate::cheats::in_flight;
use crate::world::{World, preimage};

const ANNA: usize = 1;

/// Anna's channel at her own process, and her claim of the payment's HTLC once her own commitment is in a block.
fn on_the_chain() -> (World, OwnerId, Transaction, Claim) {
    let (mut world, _, commitment) = in_flight();
    // From here on nobody answers her.
    world.disconnect(0);
    let owner = world.channels(ANNA)[0].owner;
    let height = world.chain.height;
    tell(
        &mut world,
        owner,
        &ChainEvent::FundingSpent { height, transaction: commitment.clone(), revoked_htlcs: None },
    );
    let claim = claim(&world, owner).expect("the HTLC can be taken back");
    (world, owner, commitment, claim)
}

fn claim(world: &World, owner: OwnerId) -> Option<Claim> {
    let plan = world.requests.iter().rev().find_map(|(process, of, request)| match request {
        ChainRequest::Plan(plan) if (*process, *of) == (ANNA, owner) => Some(plan),
        _ => None,
    });
    plan?.claims.iter().find(|claim| matches!(claim.kind, ClaimKind::HtlcTimeout { .. })).cloned()
}

fn tell(world: &mut World, owner: OwnerId, event: &ChainEvent) {
    world.command(ANNA, owner, Command::Chain(event.clone()));
    world.settle();
}

/// What became of Anna's second payment, the one in flight.
fn outcome(world: &mut World) -> Option<ForwardResult> {
    let books = &world.run(ANNA).ledger.as_ref().unwrap().books;
    books.payments.last_key_value().unwrap().1.result
}

/// Tells Anna every event, with her death before or after each of them, and all of them again at the end.
fn tell_through_death(events: &[ChainEvent], expected: impl Fn(Option<ForwardResult>) -> bool, from: usize) {
    for death in 0..=events.len() {
        let (mut world, owner, ..) = on_the_chain();
        for (number, event) in events.iter().enumerate() {
            if number == death {
                world.kill(ANNA);
                world.start(ANNA);
            }
            tell(&mut world, owner, event);
            let decided = outcome(&mut world);
            assert_eq!(decided.is_some(), number >= from, "after event {number}: {decided:?}");
        }
        world.kill(ANNA);
        world.start(ANNA);
        // The ledger's books refuse a second outcome; the desk tells everything again when it starts from before.
        for event in events {
            tell(&mut world, owner, event);
        }
        let decided = outcome(&mut world);
        assert!(expected(decided), "{decided:?}");
    }
}

fn spend(previous_output: OutPoint, witness: Witness, output: TxOut, lock_time: LockTime) -> Transaction {
    let input = TxIn { previous_output, witness, ..TxIn::default() };
    Transaction { version: Version(3), lock_time, input: vec![input], output: vec![output] }
}

#[test]
fn a_payment_that_the_hub_takes_on_the_chain_settles_once() {
    let (world, _, commitment, claim) = on_the_chain();
    let known: PaymentPreimage = preimage(world.next_payment - 1);
    // BOLT 5: the hub shows the preimage in the witness of its spend.
    let witness = Witness::from_slice(&[vec![1; 64], known.as_bytes().to_vec(), vec![0x51]]);
    let output = TxOut { value: claim.output.value, script_pubkey: ScriptBuf::new_p2a() };
    let transaction = spend(claim.outpoint, witness, output, LockTime::ZERO);
    let (height, txid) = (world.chain.height + 1, transaction.compute_txid());
    let outpoint = claim.outpoint;
    let events = [
        ChainEvent::SeenInMempool { transaction: transaction.clone() },
        ChainEvent::OutputSpent { outpoint, height, transaction },
        ChainEvent::SpendFinal { height: height + 6, txid: commitment.compute_txid() },
        ChainEvent::OutputSpendFinal { outpoint, height: height + 6, txid },
    ];
    tell_through_death(&events, |result| result == Some(ForwardResult::Fulfilled { preimage: known }), 0);
}

#[test]
fn a_payment_that_the_payer_takes_back_on_the_chain_fails_once_and_only_when_that_is_final() {
    let (_, _, commitment, claim) = on_the_chain();
    let SpendPath::HtlcTransaction { output, lock_time, .. } = &claim.path else {
        panic!("our own commitment's HTLC is taken back by its HTLC transaction")
    };
    let witness = Witness::from_slice(&[vec![], vec![1; 64], vec![1; 64], vec![], vec![0x51]]);
    let transaction = spend(claim.outpoint, witness, output.clone(), *lock_time);
    let (height, txid) = (claim.earliest_height, transaction.compute_txid());
    let outpoint = claim.outpoint;
    let events = [
        ChainEvent::SpendFinal { height: height - 1, txid: commitment.compute_txid() },
        ChainEvent::OutputSpent { outpoint, height, transaction },
        ChainEvent::OutputSpendFinal { outpoint, height: height + 6, txid },
    ];
    tell_through_death(&events, |result| matches!(result, Some(ForwardResult::Failed { .. })), 2);
}
