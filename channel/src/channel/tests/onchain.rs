//! Closes by commitment (BOLT 5), one sentence a test: whose commitment, in which state its HTLCs, who is faster.

use bitcoin::Amount;

use super::chain::*;
use super::pair::*;
use crate::channel::htlc::HtlcState;
use crate::channel::{Awaiting, Channel, CommitmentOwner, OutputPart, OutputState, PhaseView};
use crate::claim::ClaimKind;
use crate::effect::{Effect, Report};
use crate::error::FailureCause;
use crate::event::{ChainEvent, Command, FailRequest};
use crate::failure::FailureReason;
use crate::forward::{ForwardKey, ForwardResult};
use crate::limits::CLAIM_MARGIN_BLOCKS;

pub(super) const TIMED_OUT: ForwardResult = ForwardResult::Failed { reason: FailureReason::TimedOut };

/// An open channel in which both have something to spend.
pub(super) fn funded() -> World {
    let mut pair = Pair::open(Who::Hub);
    pair.offer(Who::Hub, 0, 400_000_000);
    pair.run();
    pair.resolve(Who::Wallet, 0, fulfilled(0));
    pair.run();
    pair.hub.command(Command::Ack { key: key(0) }).unwrap();
    for who in Who::BOTH {
        pair.end(who).internals.clear();
        pair.end(who).effects.clear();
        pair.end(who).reports.clear();
    }
    World::new(pair)
}

/// The same with HTLCs both ways: from each end one with an output and one without.
fn busy() -> World {
    let mut world = funded();
    for (from, number) in [(Who::Hub, 1), (Who::Wallet, 11)] {
        world.pair.offer(from, number, 10_000_000);
        world.pair.offer(from, number + 1, 100_000);
    }
    world.pair.run();
    world
}

pub(super) fn results(world: &mut World, who: Who) -> Vec<(ForwardKey, ForwardResult)> {
    let mut results = world.pair.end(who).results();
    results.sort_by_key(|(key, _)| *key);
    results
}

pub(super) fn publish(world: &mut World, who: Who) {
    let commitment = world.commitment(who);
    assert_eq!(world.mine([commitment]), 1);
}

#[test]
fn a_close_by_either_end_pays_both_their_balances_and_finishes() {
    for who in Who::BOTH {
        let mut world = funded();
        publish(&mut world, who);
        let ours = world.pair.end(who).channel().onchain().unwrap();
        assert_eq!(ours.whose, CommitmentOwner::Ours);
        let theirs = world.pair.end(who.other()).channel().onchain().unwrap();
        assert_eq!(theirs.whose, CommitmentOwner::Theirs);
        let PhaseView::Failed { cause } = world.pair.end(who.other()).channel().phase() else { panic!() };
        assert_eq!(cause, FailureCause::CounterpartyClosed { txid: theirs.txid });
        assert_eq!(world.pair.end(who).channel().awaiting(), Some(Awaiting::Finality { height: HEIGHT + 1 }));
        world.run_to_the_end(&Who::BOTH);
        assert_eq!(world.owned(Who::Hub), 600_000);
        assert_eq!(world.owned(Who::Wallet), 400_000);
        for who in Who::BOTH {
            assert!(world.is_finished(who));
            let paid = world.pair.end(who).channel().view().paid_sat;
            assert_eq!(paid, world.owned(who));
        }
    }
}

#[test]
fn our_balance_in_our_own_commitment_waits_for_the_delay_and_in_theirs_for_nothing() {
    let mut world = funded();
    publish(&mut world, Who::Hub);
    let height = world.tip();
    let hub = world.open_claims(Who::Hub);
    assert_eq!(hub.len(), 1);
    assert_eq!((hub[0].kind, hub[0].earliest_height), (ClaimKind::ToLocal, height + 144));
    let wallet = world.open_claims(Who::Wallet);
    assert_eq!(wallet.len(), 1);
    assert_eq!((wallet[0].kind, wallet[0].earliest_height), (ClaimKind::ToRemote, height));
    let early = world.take(Who::Hub, &hub);
    assert!(!world.is_minable(&early));
    world.mine_empty(143);
    assert!(world.is_minable(&early));
}

#[test]
fn an_offered_htlc_fails_upstream_only_when_its_timeout_is_final() {
    for publisher in Who::BOTH {
        let mut world = busy();
        publish(&mut world, publisher);
        world.mine_empty(98);
        assert_eq!(world.due_claims(Who::Hub).iter().filter(|claim| is_timeout(claim.kind)).count(), 0);
        world.mine_empty(2);
        let due: Vec<_> =
            world.due_claims(Who::Hub).into_iter().filter(|claim| is_timeout(claim.kind)).collect();
        assert_eq!(due.len(), 1);
        let timeout = world.take_each(Who::Hub, &due);
        assert_eq!(world.mine(timeout), 1);
        world.mine_empty(FINAL_DEPTH - 2);
        assert!(!results(&mut world, Who::Hub).iter().any(|(which, _)| *which == key(1)));
        world.mine_empty(1);
        assert!(results(&mut world, Who::Hub).contains(&(key(1), TIMED_OUT)));
    }
}

fn is_timeout(kind: ClaimKind) -> bool {
    matches!(kind, ClaimKind::HtlcTimeout { .. })
}

#[test]
fn a_trimmed_htlc_fails_upstream_when_the_commitment_is_final() {
    for publisher in Who::BOTH {
        let mut world = busy();
        publish(&mut world, publisher);
        world.mine_empty(FINAL_DEPTH - 2);
        assert_eq!(results(&mut world, Who::Hub), []);
        world.mine_empty(1);
        assert_eq!(results(&mut world, Who::Hub), [(key(2), TIMED_OUT)]);
        assert_eq!(results(&mut world, Who::Wallet), [(key(12), TIMED_OUT)]);
    }
}

#[test]
fn a_preimage_learned_after_the_close_gives_a_claim_whose_witness_tells_it_upstream() {
    for publisher in Who::BOTH {
        let mut world = busy();
        publish(&mut world, publisher);
        let before = world.open_claims(Who::Wallet).len();
        world.pair.wallet.effects.clear();
        world.pair.resolve(Who::Wallet, 1, fulfilled(1));
        assert!(world.pair.wallet.effects.contains(&Effect::PlanChanged));
        let claims = world.open_claims(Who::Wallet);
        assert_eq!(claims.len(), before + 1);
        let success: Vec<_> =
            claims.into_iter().filter(|claim| claim.kind == ClaimKind::HtlcSuccess { id: 1 }).collect();
        let spends = world.take_each(Who::Wallet, &success);
        assert_eq!(world.mine(spends), 1);
        assert_eq!(results(&mut world, Who::Hub), [(key(1), fulfilled(1))]);
        assert!(world.pair.hub.reports.iter().any(|report| matches!(report, Report::PreimageFound { .. })));
        world.run_to_the_end(&Who::BOTH);
        assert_eq!(results(&mut world, Who::Hub), [(key(1), fulfilled(1)), (key(2), TIMED_OUT)]);
    }
}

/// A wallet that once owned more: its state with the HTLCs of `busy`, revoked since.
fn cheated(by: Who) -> (World, Channel) {
    let mut world = busy();
    let old = world.pair.end(by).channel().clone();
    for (at, id, number) in [(Who::Wallet, 1, 1), (Who::Wallet, 2, 2), (Who::Hub, 0, 11), (Who::Hub, 1, 12)] {
        world.pair.resolve(at, id, fulfilled(number));
    }
    world.pair.run();
    // Revocations of the emptied states too.
    world.pair.offer(by.other(), 21, 5_000_000);
    world.pair.run();
    (world, old)
}

#[test]
fn a_revoked_commitment_pays_everything_to_the_victim() {
    for cheater in Who::BOTH {
        let victim = cheater.other();
        let (mut world, old) = cheated(cheater);
        world.turn_back(cheater, &old);
        publish(&mut world, cheater);
        let view = world.pair.end(victim).channel().onchain().unwrap();
        assert_eq!(view.whose, CommitmentOwner::Revoked);
        let PhaseView::Failed { cause } = world.pair.end(victim).channel().phase() else { panic!() };
        assert_eq!(cause, FailureCause::Cheated { txid: view.txid, number: view.number });
        assert_eq!(view.outputs.len(), 4, "both balances and two HTLCs");
        world.pair.end(victim).restart();
        let claims = world.due_claims(victim);
        assert_eq!(claims.len(), 4);
        let spend = world.take_together(victim, &claims);
        assert_eq!(spend.len(), 1, "nothing of a revoked commitment waits");
        assert_eq!(world.mine(spend), 1);
        world.run_to_the_end(&[victim]);
        assert_eq!((world.owned(victim), world.owned(cheater)), (CAPACITY_SAT - 200, 0));
        let last = world.pair.end(victim).results().pop();
        assert_eq!(last, Some((key(21), TIMED_OUT)), "it was in no commitment that counts any more");
    }
}

#[test]
fn the_cheaters_second_stages_are_punished_even_several_in_one_transaction() {
    for cheater in Who::BOTH {
        let victim = cheater.other();
        let (mut world, old) = cheated(cheater);
        world.turn_back(cheater, &old);
        let (id, number) = if cheater == Who::Hub { (0, 11) } else { (1, 1) };
        world.pair.resolve(cheater, id, fulfilled(number));
        publish(&mut world, cheater);
        world.mine_empty(100);
        let htlcs: Vec<_> = world
            .due_claims(cheater)
            .into_iter()
            .filter(|claim| {
                matches!(claim.kind, ClaimKind::HtlcTimeout { .. } | ClaimKind::HtlcSuccess { .. })
            })
            .collect();
        assert_eq!(htlcs.len(), 2);
        let moved = world.take_together(cheater, &htlcs);
        assert_eq!(world.mine(moved), 2);
        let claims = world.due_claims(victim);
        let second = claims.iter().filter(|claim| claim.kind == ClaimKind::PenaltySecondStage);
        assert_eq!((claims.len(), second.count()), (4, 2));
        // Undone and mined again, the victim restarted in between.
        let undone = world.undo();
        assert_eq!(world.pair.end(victim).channel().onchain().unwrap().outputs.len(), 4);
        world.pair.end(victim).restart();
        assert_eq!(world.mine(undone), 2);
        let spend = world.due_claims(victim);
        let spend = world.take_together(victim, &spend);
        assert_eq!(world.mine(spend), 1);
        world.run_to_the_end(&[victim]);
        assert_eq!((world.owned(victim), world.owned(cheater)), (CAPACITY_SAT - 200, 0));
    }
}

#[test]
fn a_revoked_commitment_without_its_row_still_pays_both_balances() {
    let (mut world, old) = cheated(Who::Wallet);
    world.turn_back(Who::Wallet, &old);
    world.pair.hub.revoked.clear();
    publish(&mut world, Who::Wallet);
    let kinds: Vec<_> = world.open_claims(Who::Hub).into_iter().map(|claim| claim.kind).collect();
    assert_eq!(kinds.len(), 2);
    assert!(kinds.contains(&ClaimKind::PenaltyToLocal) && kinds.contains(&ClaimKind::ToRemote));
}

/// Whoever asks is told to be there for it (`online_again_by_height`).
#[test]
fn an_htlc_whose_preimage_is_known_wants_its_receiver_there_until_it_is_claimed_for_good() {
    for publisher in Who::BOTH {
        let mut world = funded();
        world.pair.offer(Who::Hub, 1, 10_000_000);
        world.pair.run();
        let by = |world: &World| world.pair.wallet.channel().view().next_deadline;
        let commitment = world.commitment(publisher);
        world.pair.wallet.command(Command::Fail { reason: FailRequest::Operator }).ok();
        assert_eq!(by(&world), None, "it may fail as well as be fulfilled");
        world.pair.resolve(Who::Wallet, 1, fulfilled(1));
        let last = Some(HEIGHT + 100 - CLAIM_MARGIN_BLOCKS);
        assert_eq!(by(&world), last);
        assert_eq!(world.mine([commitment]), 1);
        assert_eq!(by(&world), last);
        let claims = world.open_claims(Who::Wallet).into_iter();
        let success: Vec<_> = claims.filter(|claim| claim.kind == ClaimKind::HtlcSuccess { id: 1 }).collect();
        let spends = world.take_each(Who::Wallet, &success);
        assert_eq!(world.mine(spends), 1);
        assert_eq!(by(&world), last, "blocks may be undone");
        world.mine_empty(FINAL_DEPTH);
        assert_eq!(by(&world), None);
    }
}

#[test]
fn a_preimage_in_the_mempool_counts_at_once_and_stays() {
    let mut world = busy();
    publish(&mut world, Who::Wallet);
    world.pair.resolve(Who::Wallet, 1, fulfilled(1));
    let due = world.due_claims(Who::Wallet);
    let success: Vec<_> =
        due.into_iter().filter(|claim| matches!(claim.kind, ClaimKind::HtlcSuccess { .. })).collect();
    let transaction = world.take(Who::Wallet, &success);
    let hub = &mut world.pair.hub;
    hub.chain(ChainEvent::SeenInMempool { transaction: transaction.clone() }).unwrap();
    assert_eq!(hub.results(), [(key(1), fulfilled(1))]);
    // It never gets into a block, and the timeout does: what was told upstream stays.
    hub.chain(ChainEvent::SeenInMempool { transaction }).unwrap();
    world.mine_empty(100);
    let due = world.due_claims(Who::Hub);
    let timeouts: Vec<_> = due.into_iter().filter(|claim| is_timeout(claim.kind)).collect();
    let timeouts = world.take_each(Who::Hub, &timeouts);
    assert_eq!(world.mine(timeouts), 1);
    world.mine_empty(FINAL_DEPTH);
    assert_eq!(results(&mut world, Who::Hub), [(key(1), fulfilled(1)), (key(2), TIMED_OUT)]);
}

#[test]
fn a_commitment_undone_gives_way_to_the_other_ends() {
    let mut world = busy();
    let hub = world.commitment(Who::Hub);
    let wallet = world.commitment(Who::Wallet);
    assert_eq!(world.mine([hub.clone()]), 1);
    assert_eq!(world.pair.hub.channel().publish_job(&world.pair.hub.signer), None);
    world.mine_empty(2);
    for _ in 0..3 {
        world.undo();
    }
    for who in Who::BOTH {
        let end = world.pair.end(who);
        assert_eq!(end.channel().onchain(), None);
        assert!(end.channel().publish_job(&end.signer).is_some());
        assert!(end.reports.contains(&Report::CommitmentUndone { txid: hub.compute_txid() }));
    }
    assert_eq!(world.mine([wallet]), 1);
    assert_eq!(world.pair.hub.channel().onchain().unwrap().whose, CommitmentOwner::Theirs);
    assert_eq!(world.pair.wallet.channel().onchain().unwrap().whose, CommitmentOwner::Ours);
}

#[test]
fn a_commitment_newer_than_known_pays_our_balance_and_stops_our_own() {
    let mut world = busy();
    let old = world.pair.hub.channel().clone();
    for number in 21..25 {
        world.pair.offer(Who::Wallet, number, 1_000_000);
        world.pair.run();
    }
    world.turn_back(Who::Hub, &old);
    assert!(world.pair.hub.channel().publish_job(&world.pair.hub.signer).is_some());
    publish(&mut world, Who::Wallet);
    let view = world.pair.hub.channel().onchain().unwrap();
    assert_eq!(view.whose, CommitmentOwner::Newer);
    let claims = world.due_claims(Who::Hub);
    assert_eq!(claims.iter().map(|claim| claim.kind).collect::<Vec<_>>(), [ClaimKind::ToRemote]);
    world.undo();
    assert_eq!(world.pair.hub.channel().publish_job(&world.pair.hub.signer), None, "it is proven old");
    let again = world.pair.wallet.channel().publish_job(&world.pair.wallet.signer).unwrap().transaction;
    world.mine([again]);
    world.mine_empty(FINAL_DEPTH);
    // What may be an HTLC of ours is undecided until it is spent.
    assert_eq!(results(&mut world, Who::Hub), [(key(2), TIMED_OUT)]);
    assert!(!world.is_closed(Who::Hub));
    world.pair.resolve(Who::Wallet, 1, fulfilled(1));
    world.run_to_the_end(&Who::BOTH);
    assert_eq!(results(&mut world, Who::Hub), [(key(1), fulfilled(1)), (key(2), TIMED_OUT)]);
}

#[test]
fn an_htlc_that_only_its_receiver_can_decide_is_given_up_when_what_pays_for_it_expires() {
    for (loser, patience) in [(Who::Hub, 34), (Who::Wallet, 2_016)] {
        let mut world = busy();
        let old = world.pair.end(loser).channel().clone();
        for number in 21..25 {
            world.pair.offer(loser.other(), number, 1_000_000);
            world.pair.run();
        }
        world.turn_back(loser, &old);
        publish(&mut world, loser.other());
        world.mine_empty(FINAL_DEPTH);
        let (mine, expiry) = match loser {
            Who::Hub => (1, HEIGHT + 100),
            Who::Wallet => (11, HEIGHT + 100),
        };
        let decided = |world: &mut World| results(world, loser).iter().any(|(which, _)| *which == key(mine));
        let missing = (expiry + patience).checked_sub(world.tip()).unwrap();
        world.mine_empty(missing - 1);
        assert!(!decided(&mut world), "the preimage may come");
        world.mine_empty(1);
        assert!(results(&mut world, loser).contains(&(key(mine), TIMED_OUT)));
        // Nothing more is waited for: only the receiver knows what it could still be.
        world.run_to_the_end(&[loser]);
        assert!(world.is_closed(loser));
    }
}

#[test]
fn an_old_commitment_of_our_own_is_not_taken_for_a_cheat() {
    let (mut world, old) = cheated(Who::Hub);
    let latest = world.pair.hub.channel().clone();
    world.turn_back(Who::Hub, &old);
    let commitment = world.commitment(Who::Hub);
    world.pair.hub.channel = Some(latest);
    world.pair.hub.take_snapshot();
    world.mine([commitment]);
    assert_eq!(world.pair.hub.channel().onchain().unwrap().whose, CommitmentOwner::Unknown);
    assert_eq!(world.pair.wallet.channel().onchain().unwrap().whose, CommitmentOwner::Revoked);
}

/// Every state that an HTLC can be in when a commitment confirms, offered by the hub, published by either end.
#[test]
fn an_htlc_in_any_state_ends_as_the_commitment_says() {
    for publisher in Who::BOTH {
        for fulfil in [false, true] {
            for steps in 0..24 {
                let mut world = funded();
                world.pair.offer(Who::Hub, 1, 10_000_000);
                for _ in 0..steps {
                    step(&mut world, fulfil);
                }
                check_any_state(world, publisher);
            }
        }
    }
}

/// One message, signature or decision, in the order in which they come.
fn step(world: &mut World, fulfil: bool) {
    let pair = &mut world.pair;
    if pair.deliver(Who::Wallet) || pair.deliver(Who::Hub) {
        return;
    }
    for who in Who::BOTH {
        if pair.end(who).channel().wants_to_sign() {
            return pair.end(who).command(Command::SignNow).unwrap();
        }
    }
    let waiting = pair.wallet.channel().state.htlcs.received.get(&1);
    if waiting.is_some_and(|htlc| htlc.state == HtlcState::Irrevocable) {
        pair.resolve(Who::Wallet, 1, if fulfil { fulfilled(1) } else { REFUSED });
    }
}

fn check_any_state(mut world: World, publisher: Who) {
    let state = world.pair.hub.channel().state.htlcs.offered.get(&1).map(|htlc| htlc.state);
    publish(&mut world, publisher);
    world.run_to_the_end(&Who::BOTH);
    let result = match world.pair.hub.results().as_slice() {
        [(_, result)] => *result,
        results => panic!("{state:?}: {results:?}"),
    };
    let paid = matches!(result, ForwardResult::Fulfilled { .. });
    let wallet = 400_000 + if paid { 10_000 } else { 0 };
    let owned = (world.owned(Who::Hub), world.owned(Who::Wallet));
    assert_eq!(owned, (CAPACITY_SAT - wallet, wallet), "{state:?} {publisher:?} {result:?}");
}

#[test]
fn a_funding_replaced_for_good_ends_an_open_channel_by_name() {
    let mut world = busy();
    for who in Who::BOTH {
        let end = world.pair.end(who);
        end.chain(ChainEvent::FundingNeverConfirms { height: HEIGHT }).unwrap();
        assert_eq!(end.channel().phase(), PhaseView::Open, "it is confirmed");
        end.chain(ChainEvent::FundingUndone).unwrap();
        end.chain(ChainEvent::FundingNeverConfirms { height: HEIGHT }).unwrap();
        let cause = crate::effect::OpeningFailure::FundingReplaced;
        assert_eq!(end.channel().phase(), PhaseView::Aborted { cause });
        assert_eq!(end.results().len(), 2);
        assert!(!end.effects.contains(&Effect::Finished));
        for (key, _) in end.results() {
            end.command(Command::Ack { key }).unwrap();
        }
        assert!(end.effects.contains(&Effect::Finished));
    }
}

#[test]
fn a_channel_that_failed_still_hears_of_its_funding() {
    let mut world = busy();
    let output = world.funding.1.clone();
    let hub = &mut world.pair.hub;
    hub.command(Command::Fail { reason: FailRequest::Operator }).unwrap();
    hub.chain(ChainEvent::FundingNeverConfirms { height: HEIGHT }).unwrap();
    hub.chain(ChainEvent::FundingUndone).unwrap();
    assert_eq!(hub.channel().view().funding_height, None);
    let confirmed = ChainEvent::FundingConfirmed { height: HEIGHT, block_index: 1, output: Some(output) };
    hub.chain(confirmed).unwrap();
    hub.chain(ChainEvent::FundingDeep { height: HEIGHT }).unwrap();
    assert_eq!(hub.channel().view().funding_height, Some(HEIGHT));
    hub.chain(ChainEvent::FundingNeverConfirms { height: HEIGHT }).unwrap();
    assert_eq!(hub.channel().phase(), PhaseView::Failed { cause: FailureCause::Operator });
    hub.chain(ChainEvent::FundingUndone).unwrap();
    hub.chain(ChainEvent::FundingNeverConfirms { height: HEIGHT }).unwrap();
    let cause = crate::effect::OpeningFailure::FundingReplaced;
    assert_eq!(hub.channel().phase(), PhaseView::Aborted { cause });
    assert_eq!(results(&mut world, Who::Hub).len(), 2);
}

#[test]
fn a_trimmed_htlc_of_a_failed_channel_is_given_up_in_time() {
    let mut world = busy();
    let hub = &mut world.pair.hub;
    hub.command(Command::Fail { reason: FailRequest::Operator }).unwrap();
    let due = hub.channel().next_deadline().unwrap();
    hub.height = due;
    hub.chain(ChainEvent::Deadline { height: due }).unwrap();
    assert_eq!(hub.results(), [(key(2), TIMED_OUT)]);
    assert_eq!(hub.channel().next_deadline(), None);
}

#[test]
fn people_see_each_output_from_its_block_to_its_final_spend() {
    let mut world = busy();
    publish(&mut world, Who::Hub);
    let outputs = world.pair.hub.channel().onchain().unwrap().outputs;
    let state = |kind| outputs.iter().find(|output| output.kind == kind).unwrap().state;
    let height = world.tip();
    assert_eq!(state(OutputPart::ToLocal), OutputState::Claimable { from_height: height + 144 });
    let expiry = HEIGHT + 100;
    assert_eq!(state(OutputPart::HtlcOffered { id: 1 }), OutputState::Claimable { from_height: expiry + 1 });
    assert_eq!(state(OutputPart::HtlcReceived { id: 0 }), OutputState::AwaitsPreimage { expiry });
    let value: Amount = outputs.iter().map(|output| output.value).sum();
    assert_eq!(value.to_sat(), 600_000 - 10_100 + 20_000);
}

#[test]
fn an_output_that_is_given_up_keeps_its_channel_no_longer_once_the_commitment_is_final() {
    let mut world = funded();
    publish(&mut world, Who::Hub);
    let outpoint = world.open_claims(Who::Wallet)[0].outpoint;
    let given_up = ChainEvent::OutputGivenUp { outpoint };
    world.pair.wallet.chain(given_up.clone()).unwrap();
    assert_eq!(world.open_claims(Who::Wallet).len(), 1, "the commitment may still be undone");
    world.mine_empty(FINAL_DEPTH);
    assert!(!world.is_closed(Who::Wallet));
    world.pair.wallet.chain(given_up.clone()).unwrap();
    assert!(world.is_closed(Who::Wallet) && world.is_finished(Who::Wallet));
    assert_eq!(world.pair.wallet.channel().view().paid_sat, 0, "nobody took it");
    assert!(world.open_claims(Who::Wallet).is_empty());
    let report = Report::OutputGivenUp { outpoint, kind: OutputPart::ToRemote, value_sat: 400_000 };
    assert!(world.pair.wallet.reports.contains(&report), "and it is named");
    world.pair.wallet.chain(given_up).unwrap();
}

#[test]
fn an_offered_htlc_whose_output_is_given_up_fails_upstream_and_a_spent_output_is_not_given_up() {
    let mut world = busy();
    publish(&mut world, Who::Hub);
    world.mine_empty(FINAL_DEPTH);
    let claims = world.open_claims(Who::Hub);
    let timeout = claims.iter().find(|claim| is_timeout(claim.kind)).unwrap().outpoint;
    assert!(!results(&mut world, Who::Hub).iter().any(|(which, _)| *which == key(1)));
    world.pair.hub.chain(ChainEvent::OutputGivenUp { outpoint: timeout }).unwrap();
    assert!(results(&mut world, Who::Hub).contains(&(key(1), TIMED_OUT)));
    assert!(!world.is_closed(Who::Hub), "its balance is still there");

    world.mine_empty(200);
    let balance = world.due_claims(Who::Hub);
    let taken = world.take_each(Who::Hub, &balance);
    assert_eq!(world.mine(taken), balance.len());
    for claim in balance {
        world.pair.hub.chain(ChainEvent::OutputGivenUp { outpoint: claim.outpoint }).unwrap();
    }
    assert!(world.pair.hub.channel().view().onchain.is_some_and(|onchain| !onchain.outputs.is_empty()));
}
