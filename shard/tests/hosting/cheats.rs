//! A counterparty publishes what it revoked: the shard finds what the penalty needs, on the disk or on its way there.

use bitcoin::Transaction;
use channel::claim::{Claim, ClaimKind};
use channel::event::{ChainEvent, Command, FailRequest};
use channel::ids::OwnerId;
use shard::{ChainRequest, revoked};

use crate::world::{HUB, Kind, World};

const ANNA: usize = 1;
const BEN: usize = 2;

/// Anna pays Ben, whose wallet has the HTLC and does not answer yet. With it Anna's latest commitment, which has an output
/// for the HTLC, signed by both, and her channel's number at the hub.
pub fn in_flight() -> (World, OwnerId, Transaction) {
    let mut world = World::new(2);
    for link in 0..2 {
        world.connect(link);
    }
    world.settle();
    world.open(ANNA, 0, 0, 200_000);
    world.open(HUB, 1, 1, 200_000);
    world.settle();
    let id = world.channels(ANNA)[0].channel_id;
    let at_hub = world.channels(HUB).iter().find(|view| view.channel_id == id).unwrap().owner;
    assert!(world.pay(ANNA, BEN, 20_000_000, Kind::Invoice));
    while world.run(BEN).ledger_mail.is_empty() {
        assert!(step(&mut world, false), "the HTLC reaches Ben");
    }
    while step(&mut world, false) {}
    let mut twin = world.copy();
    let owner = twin.channels(ANNA)[0].owner;
    twin.command(ANNA, owner, Command::Fail { reason: FailRequest::Operator });
    twin.settle();
    let published = twin.requests.iter().rev().find_map(|(process, _, request)| match request {
        ChainRequest::Plan(plan) if *process == ANNA => {
            plan.publish.as_ref().map(|job| job.transaction.clone())
        }
        _ => None,
    });
    (world, at_hub, published.expect("a failed channel is to be published"))
}

/// The next small thing that can happen. Ben's ledger answers only if it may.
fn step(world: &mut World, ben_answers: bool) -> bool {
    for process in [HUB, ANNA, BEN] {
        for shard in 0..world.processes[process].shards as usize {
            if !world.run(process).mail[shard].is_empty() && world.turn(process, shard, 1) {
                return true;
            }
        }
        if (process != BEN || ben_answers) && world.ledger_turn(process, 1) {
            return true;
        }
        if world.commit(process) {
            return true;
        }
    }
    (0..2).any(|link| world.deliver(link, true) || world.deliver(link, false))
}

/// What the hub claims of Anna's channel once her commitment is in a block.
fn claims(world: &mut World, owner: OwnerId, transaction: &Transaction) -> Vec<Claim> {
    let height = world.chain.height;
    let spent = ChainEvent::FundingSpent { height, transaction: transaction.clone(), revoked_htlcs: None };
    world.command(HUB, owner, Command::Chain(spent));
    // One turn takes what lies in the mailbox and the block: a row may be in the batch that is being collected.
    world.turn(HUB, 0, usize::MAX);
    while step(world, false) {}
    let plan = world.requests.iter().rev().find_map(|(process, of, request)| match request {
        ChainRequest::Plan(plan) if (*process, *of) == (HUB, owner) => Some(plan.claims.clone()),
        _ => None,
    });
    plan.expect("something is ours on the chain")
}

fn rows_on_disk(world: &mut World, owner: OwnerId) -> usize {
    world.run(HUB).reader.range(revoked::TABLE, &revoked::prefix(owner), None, 1_000).unwrap().len()
}

/// Whether the claims are those of a penalty, which is whole or none.
fn is_penalty(claims: &[Claim]) -> bool {
    let count = |kind: ClaimKind| claims.iter().filter(|claim| claim.kind == kind).count();
    let cheated = count(ClaimKind::PenaltyToLocal) == 1;
    assert_eq!(count(ClaimKind::PenaltyHtlc), usize::from(cheated), "the HTLC is taken with the balance");
    cheated
}

#[test]
fn what_a_cheater_publishes_is_taken_whole_however_young_its_revocation_is() {
    let (mut younger, mut count) = (0, 0);
    loop {
        let (mut world, owner, transaction) = in_flight();
        let more = (0..count).all(|_| step(&mut world, true));
        let before = rows_on_disk(&mut world, owner);
        let cheated = is_penalty(&claims(&mut world, owner, &transaction));
        let fresh = rows_on_disk(&mut world, owner) > before;
        younger += usize::from(cheated && fresh);
        if !more {
            assert!(cheated, "in the end the commitment is revoked");
            break;
        }
        count += 1;
    }
    assert!(younger > 0, "at some step the row was not on the disk yet");
}

#[test]
fn a_hub_that_died_on_the_way_still_takes_everything_or_the_commitment_was_never_revoked() {
    let (mut revoked, mut unrevoked, mut count) = (0, 0, 0);
    loop {
        let (mut world, owner, transaction) = in_flight();
        let more = (0..count).all(|_| step(&mut world, true));
        world.kill(HUB);
        world.start(HUB);
        let cheated = is_penalty(&claims(&mut world, owner, &transaction));
        // The same block again, after another death: a penalty stays one.
        world.kill(HUB);
        world.start(HUB);
        assert_eq!(is_penalty(&claims(&mut world, owner, &transaction)), cheated);
        *(if cheated { &mut revoked } else { &mut unrevoked }) += 1;
        if !more {
            break;
        }
        count += 1;
    }
    assert!(revoked > 0 && unrevoked > 0, "{revoked} {unrevoked}");
}
