//! The ends of a channel as the shard hosts them: a close by ticket with deaths at every step, a deadline that passes.

use bitcoin::absolute::LockTime;
use bitcoin::transaction::Version;
use bitcoin::{ScriptBuf, Transaction, TxOut, WPubkeyHash, hashes::Hash};
use channel::channel::{PhaseView, ReadyTicket};
use channel::error::FailureCause;
use channel::event::{ChainEvent, Command, FailRequest, RecoverRequest, Role};
use channel::ids::{ChannelId, OwnerId};
use channel::message::Message;
use journal::{Batch, Retained};
use shard::{ChainRequest, Mail, revoked};

use crate::world::disk::Disk;
use crate::world::process::ENDED;
use crate::world::{HUB, Kind, World};

const ANNA: usize = 1;
const BEN: usize = 2;

/// Anna has a channel she funded and paid Ben from.
fn paid() -> World {
    let mut world = World::new(2);
    for link in 0..2 {
        world.connect(link);
    }
    world.settle();
    world.open(ANNA, 0, 0, 200_000);
    world.open(HUB, 1, 1, 200_000);
    world.settle();
    assert!(world.pay(ANNA, BEN, 20_000_000, Kind::Invoice));
    world.settle();
    world
}

/// Anna's channel at a process.
fn annas(world: &mut World, process: usize) -> (OwnerId, ChannelId, PhaseView) {
    let channel_id = world.channels(ANNA)[0].channel_id;
    let view = world.channels(process).into_iter().find(|view| view.channel_id == channel_id).unwrap();
    (view.owner, view.channel_id, view.phase)
}

fn shut_down(world: &mut World) {
    let (owner, _, phase) = annas(world, ANNA);
    if phase == PhaseView::Open {
        let script = ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array([7; 20]));
        world.command(ANNA, owner, Command::Shutdown { script });
    }
}

fn ticket(world: &World) -> Option<ReadyTicket> {
    world.requests.iter().rev().find_map(|(process, _, request)| match request {
        ChainRequest::TicketReady(ticket) if *process == HUB => Some((**ticket).clone()),
        _ => None,
    })
}

/// The batch of one ticket: the wallet's output, then the hub's.
fn batch(ticket: &ReadyTicket) -> Transaction {
    let payout = ticket.spec.payout().unwrap();
    let rest = ticket.spec.funding_amount - payout.value - ticket.spec.fee;
    let hub =
        TxOut { value: rest, script_pubkey: ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array([8; 20])) };
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![ticket.spec.input()],
        output: vec![payout, hub],
    }
}

/// Small steps in turn, as many as asked for. False when the world came to rest before.
fn steps(world: &mut World, count: usize) -> bool {
    let mut left = count;
    while left > 0 {
        let mut did = false;
        for action in 0..9 {
            if left == 0 {
                return true;
            }
            let moved = match action {
                0 => world.turn(HUB, 0, 1),
                1 => world.deliver(0, false),
                2 => world.turn(ANNA, 0, 1),
                3 => world.deliver(0, true),
                4 => world.commit(HUB),
                5 => world.commit(ANNA),
                6 => world.turn(HUB, 1, 1),
                7 => world.turn(BEN, 0, 1),
                _ => world.commit(BEN),
            };
            did |= moved;
            left -= usize::from(moved);
        }
        if !did {
            return false;
        }
    }
    true
}

#[test]
fn a_close_by_ticket_survives_any_death_and_is_never_unfrozen() {
    for victim in [HUB, ANNA] {
        let mut count = 0;
        loop {
            let mut world = paid();
            shut_down(&mut world);
            let more = steps(&mut world, count);
            let frozen =
                |world: &mut World, process| matches!(annas(world, process).2, PhaseView::Frozen { .. });
            world.kill(victim);
            world.recover_all();
            shut_down(&mut world);
            world.settle();
            assert!(frozen(&mut world, HUB) && frozen(&mut world, ANNA), "both agree on the close");
            let first = ticket(&world).expect("the ticket is ready");
            // Whoever comes back is frozen still, under the same terms, and the hub's ticket is ready again.
            world.requests.clear();
            world.kill(HUB);
            world.kill(ANNA);
            world.recover_all();
            assert_eq!(ticket(&world), Some(first));
            assert!(frozen(&mut world, HUB) && frozen(&mut world, ANNA));
            if !more {
                break;
            }
            count += 1;
        }
        assert!(count > 15, "a close takes many steps");
    }
}

#[test]
fn a_closed_channel_is_forgotten_at_both_ends_once_that_is_durable() {
    let mut world = paid();
    let (at_hub, _, _) = annas(&mut world, HUB);
    let (at_anna, channel_id, _) = annas(&mut world, ANNA);
    shut_down(&mut world);
    world.settle();
    let transaction = batch(&ticket(&world).unwrap());
    let txid = transaction.compute_txid();
    world.command(HUB, at_hub, Command::ClosingPublished { transaction: transaction.clone() });
    world.settle();
    let handed_over = world.requests.iter().any(|(process, owner, request)| {
        matches!(request, ChainRequest::ClosingHandedOver { transaction: t, .. } if *t == transaction)
            && (*process, *owner) == (ANNA, at_anna)
    });
    assert!(handed_over, "the wallet can publish the close by itself");
    for (process, owner) in [(HUB, at_hub), (ANNA, at_anna)] {
        let height = world.chain.height;
        let spent =
            ChainEvent::FundingSpent { height, transaction: transaction.clone(), revoked_htlcs: None };
        world.command(process, owner, Command::Chain(spent));
        world.settle();
        assert_eq!(annas(&mut world, process).2, PhaseView::Closing { txid, height });
    }
    let paid_sat = transaction.output[0].value.to_sat();
    let kept = |world: &mut World, process, owner: OwnerId| {
        world.run(process).reader.get(ENDED, &owner.0.to_be_bytes()).unwrap()
    };
    for (process, owner) in [(ANNA, at_anna), (HUB, at_hub)] {
        let height = world.chain.height + 6;
        world.command(process, owner, Command::Chain(ChainEvent::SpendFinal { height, txid }));
        world.turn(process, 0, 10);
        assert!(!world.finished.contains(&(process, owner)), "its end is not durable yet");
        assert_eq!(kept(&mut world, process, owner), None);
        world.settle();
        assert!(world.finished.contains(&(process, owner)));
        assert_eq!(kept(&mut world, process, owner), Some(paid_sat.to_be_bytes().to_vec()));
    }
    for round in 0..2 {
        assert!(world.channels(ANNA).is_empty());
        assert!(world.channels(HUB).iter().all(|view| view.channel_id != channel_id));
        if round == 0 {
            world.kill(HUB);
            world.kill(ANNA);
            world.recover_all();
        }
    }
}

/// The keys of a channel's rows in the hub's revocation log.
fn revocation_rows(world: &mut World, owner: OwnerId) -> usize {
    let reader = &world.run(HUB).reader;
    let mut count = 0;
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = reader.range(revoked::TABLE, &revoked::prefix(owner), after.as_deref(), 1_000).unwrap();
        let Some((last, _)) = page.last() else { return count };
        after = Some(last.clone());
        count += page.len();
    }
}

/// Anna's channel at the hub, closed on the chain and about to be final there.
fn about_to_end(world: &mut World) -> (OwnerId, ChainEvent) {
    let (owner, ..) = annas(world, HUB);
    shut_down(world);
    world.settle();
    let transaction = batch(&ticket(world).unwrap());
    let (height, txid) = (world.chain.height, transaction.compute_txid());
    let spent = ChainEvent::FundingSpent { height, transaction, revoked_htlcs: None };
    world.command(HUB, owner, Command::Chain(spent));
    world.settle();
    (owner, ChainEvent::SpendFinal { height: height + 6, txid })
}

#[test]
fn the_revocation_log_of_a_channel_goes_in_the_row_of_its_end() {
    let mut world = paid();
    let (owner, ended) = about_to_end(&mut world);
    let others: Vec<OwnerId> =
        world.channels(HUB).iter().map(|view| view.owner).filter(|other| *other != owner).collect();
    let kept: Vec<usize> = others.iter().map(|other| revocation_rows(&mut world, *other)).collect();
    assert!(revocation_rows(&mut world, owner) > 0, "a payment with an output leaves rows");
    world.command(HUB, owner, Command::Chain(ended));
    world.turn(HUB, 0, 10);
    assert!(world.commit(HUB));
    assert_eq!(revocation_rows(&mut world, owner), 0);
    let swept = world.run(HUB).reader.range(revoked::SWEEP_TABLE, &[], None, 10).unwrap();
    assert_eq!(swept, [], "nothing is left for later");
    for (other, count) in others.into_iter().zip(kept) {
        assert!(count > 0 && revocation_rows(&mut world, other) == count, "other channels keep theirs");
    }
}

#[test]
fn a_long_revocation_log_is_deleted_page_by_page_through_any_death() {
    let many = 2 * shard::limits::MAX_SWEPT_A_TURN as u64 + 500;
    for turns_until_death in 0..6 {
        let mut world = paid();
        let (owner, ended) = about_to_end(&mut world);
        let row = |number: u64| Retained {
            table: revoked::TABLE,
            key: revoked::key(owner, 1_000 + number).to_vec(),
            value: Some(vec![1, 0]),
        };
        let retained = (0..many).map(row).collect();
        world.run(HUB).log.append(Batch { retained, ..Batch::default() }).unwrap();
        world.settle();
        assert!(revocation_rows(&mut world, owner) > many as usize);
        world.command(HUB, owner, Command::Chain(ended.clone()));
        for _ in 0..turns_until_death {
            world.turn(HUB, 0, 10);
            world.commit(HUB);
        }
        world.kill(HUB);
        world.start(HUB);
        if turns_until_death == 0 {
            world.command(HUB, owner, Command::Chain(ended));
        }
        // A turn that deleted a page asks for the next.
        while world.turn(HUB, 0, 10) | world.commit(HUB) {}
        assert_eq!(revocation_rows(&mut world, owner), 0);
        let left = world.run(HUB).reader.range(revoked::SWEEP_TABLE, &[], None, 10).unwrap();
        assert_eq!(left, [], "it is not looked at again");
    }
}

#[test]
fn only_what_the_peer_confirmed_since_the_start_counts_as_proven_current() {
    let proven = |world: &mut World| {
        let (owner, ..) = annas(world, HUB);
        world.requests.clear();
        world.command(HUB, owner, Command::Fail { reason: FailRequest::Operator });
        world.settle();
        let job = world.requests.iter().rev().find_map(|(process, of, request)| match request {
            ChainRequest::Plan(plan) if (*process, *of) == (HUB, owner) => plan.publish.clone(),
            _ => None,
        });
        job.expect("a failed channel is to be published").proven_current
    };
    let world = paid();
    let mut opened_in_this_life = paid();
    assert!(proven(&mut opened_in_this_life));
    let mut restarted = world.copy();
    assert!(!proven(&mut restarted), "nobody said yet that this is the latest state");
    let mut reestablished = world.copy();
    reestablished.recover_all();
    assert!(proven(&mut reestablished));
    // What was proven before the failure stays so; a failed channel is not proven by a later connection.
    restarted.recover_all();
    restarted.requests.clear();
    restarted.kill(HUB);
    restarted.start_all();
    restarted.settle();
    let published = restarted.requests.iter().find_map(|(process, _, request)| match request {
        ChainRequest::Plan(plan) if *process == HUB => plan.publish.clone(),
        _ => None,
    });
    assert!(!published.expect("given again at the start").proven_current);
}

#[test]
fn a_hub_that_runs_from_old_data_says_so_at_once_and_at_every_start_before_any_plan() {
    let mut world = paid();
    let old = world.processes[HUB].disk.copy();
    assert!(world.pay(ANNA, BEN, 20_000_000, Kind::Invoice));
    world.settle();
    world.kill(HUB);
    world.processes[HUB].disk = old;
    world.recover_all();
    let behind = |world: &World| -> Vec<OwnerId> {
        let of_hub = world.requests.iter().filter(|(process, ..)| *process == HUB);
        let said = of_hub.filter(|(_, _, request)| *request == ChainRequest::ProvenBehind);
        said.map(|(_, owner, _)| *owner).collect()
    };
    let (annas_owner, _, phase) = annas(&mut world, HUB);
    assert!(matches!(phase, PhaseView::Failed { cause: FailureCause::Behind { .. } }), "{phase:?}");
    assert!(behind(&world).contains(&annas_owner));
    world.kill(HUB);
    world.requests.clear();
    world.start(HUB);
    world.settle();
    assert!(behind(&world).contains(&annas_owner));
    let plans = world.requests.iter().position(|(_, _, request)| matches!(request, ChainRequest::Plan(_)));
    let said = world.requests.iter().position(|(_, _, request)| *request == ChainRequest::ProvenBehind);
    assert!(said < plans, "a plan that followed it could have been published: {said:?} {plans:?}");
}

#[test]
fn a_commitment_in_the_chain_that_is_newer_than_known_proves_old_data_too() {
    let mut world = paid();
    let old = world.processes[HUB].disk.copy();
    assert!(world.pay(ANNA, BEN, 20_000_000, Kind::Invoice));
    world.settle();
    let (annas_owner, ..) = annas(&mut world, HUB);
    let (at_anna, ..) = annas(&mut world, ANNA);
    world.kill(HUB);
    world.command(ANNA, at_anna, Command::Fail { reason: FailRequest::Operator });
    world.settle();
    let published = world.requests.iter().rev().find_map(|(process, _, request)| match request {
        ChainRequest::Plan(plan) if *process == ANNA => {
            plan.publish.as_ref().map(|job| job.transaction.clone())
        }
        _ => None,
    });
    // The hub comes back with what it had before, and no wallet is connected: the chain alone tells it.
    world.processes[HUB].disk = old;
    world.start(HUB);
    world.requests.clear();
    let (height, transaction) = (world.chain.height, published.expect("a failed channel is to be published"));
    let spent = ChainEvent::FundingSpent { height, transaction, revoked_htlcs: None };
    world.command(HUB, annas_owner, Command::Chain(spent));
    world.settle();
    let said = |world: &World| {
        let position = |wanted: fn(&ChainRequest) -> bool| {
            world.requests.iter().position(|(process, _, request)| *process == HUB && wanted(request))
        };
        let behind = position(|request| *request == ChainRequest::ProvenBehind);
        (behind, position(|request| matches!(request, ChainRequest::Plan(_))))
    };
    assert!(said(&world).0.is_some(), "other channels' commitments may be old as well");
    world.kill(HUB);
    world.requests.clear();
    world.start(HUB);
    world.settle();
    let (behind, plan) = said(&world);
    assert!(behind.is_some() && behind < plan, "{behind:?} {plan:?}");
}

#[test]
fn an_htlc_past_its_deadline_fails_its_own_channel_and_no_other() {
    let mut world = paid();
    let (annas_owner, ..) = annas(&mut world, HUB);
    assert!(world.pay(ANNA, BEN, 20_000_000, Kind::Invoice));
    // Ben's wallet takes the HTLC and never answers.
    let irrevocable = |world: &mut World| {
        let ben = world.run(BEN);
        !ben.ledger_mail.is_empty()
    };
    while !irrevocable(&mut world) {
        let moved = steps(&mut world, 1)
            | world.ledger_turn(ANNA, 1)
            | world.deliver(1, true)
            | world.deliver(1, false);
        assert!(moved);
    }
    world.kill(BEN);
    world.settle();
    let expiry = world.chain.height + 1_000;
    while world.chain.height <= expiry {
        world.block();
    }
    world.settle();
    let views = world.channels(HUB);
    let (anna, ben): (Vec<_>, Vec<_>) = views.iter().partition(|view| view.owner == annas_owner);
    assert_eq!(anna[0].phase, PhaseView::Open, "its HTLC waits for what the chain says about the other");
    assert_eq!(anna[0].htlcs, 1);
    let PhaseView::Failed { cause: FailureCause::HtlcDeadline { .. } } = &ben[0].phase else {
        panic!("{:?}", ben[0].phase)
    };
    let job = world.requests.iter().find_map(|(process, owner, request)| match request {
        ChainRequest::Plan(plan) if (*process, *owner) == (HUB, ben[0].owner) => Some(plan.publish.clone()),
        _ => None,
    });
    assert!(job.expect("a job is kept").is_some());
}

#[test]
fn a_channel_that_only_the_hub_remembers_is_made_again_and_is_for_the_hub_to_close() {
    let mut world = paid();
    let (_, channel_id, _) = annas(&mut world, ANNA);
    world.kill(ANNA);
    world.processes[ANNA].disk = Disk::default();
    world.start(ANNA);
    assert!(world.channels(ANNA).is_empty());
    world.connect(0);
    let theirs = loop {
        for shard in 0..2 {
            world.turn(HUB, shard, usize::MAX);
        }
        world.commit(HUB);
        let told = world.links[0].to_wallet.pop_front();
        match told.map(|(channel, mut messages)| (channel, messages.remove(0))) {
            Some((channel, Message::Reestablish(theirs))) if channel == channel_id => break theirs,
            Some(other) => panic!("{other:?}"),
            None => {}
        }
    };
    let request = RecoverRequest {
        owner: OwnerId(1 << 30),
        channel_id,
        role: Role::Wallet,
        counterparty_node: world.processes[HUB].node(),
        session: world.links[0].up.unwrap().1,
    };
    let essentials = Box::new(theirs.essentials.unwrap());
    world.run(ANNA).mail[0].push_back(Mail::Recover { request, essentials });
    world.settle();
    let lost = PhaseView::Failed { cause: FailureCause::DataLost };
    assert_eq!(annas(&mut world, ANNA).2, lost);
    let at_hub = world.channels(HUB).into_iter().find(|view| view.channel_id == channel_id).unwrap();
    assert_eq!(at_hub.phase, PhaseView::Failed { cause: FailureCause::CounterpartyLostData });
    world.kill(ANNA);
    world.start(ANNA);
    assert_eq!(annas(&mut world, ANNA).2, lost);
}
