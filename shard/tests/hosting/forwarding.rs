//! The proof of the hub's forwarding: payments through a hub of two shards, with any process killed at any point.
//!
//! What is checked at the end of every schedule: each payment has one outcome, the payer pays exactly when the payee is
//! paid and once, money is conserved in every channel and over all, both ends of each channel agree, no HTLC, result or
//! message between owners is left. A premature effect would show as a broken channel: after a crash the peer would know more
//! than the journal.

use std::sync::{LazyLock, Mutex};

use channel::channel::{ChannelView, ForwardEnd, ForwardPlace};
use channel::effect::Report;
use shard::{EventRecord, Happening, Mail};

use crate::world::{HUB, Kind, Random, World};

const ANNA: usize = 1;
const BEN: usize = 2;

/// Where the hub hosts the two channels that a payment from Anna to Ben takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Path {
    WithinAShard,
    BetweenShards,
}

/// Anna and Ben, each with one channel they funded and one the hub funded, in both shards.
fn two_wallets(path: Path) -> World {
    static WITHIN: LazyLock<Mutex<World>> = LazyLock::new(|| Mutex::new(with_channels(0)));
    static BETWEEN: LazyLock<Mutex<World>> = LazyLock::new(|| Mutex::new(with_channels(1)));
    let made = match path {
        Path::WithinAShard => &WITHIN,
        Path::BetweenShards => &BETWEEN,
    };
    let mut world = made.lock().unwrap().copy();
    world.recover_all();
    world
}

fn with_channels(funded_for_ben: u64) -> World {
    let mut world = World::new(2);
    for link in 0..2 {
        world.connect(link);
    }
    world.settle();
    world.open(ANNA, 0, 0, 300_000);
    world.open(BEN, 1, 1 - funded_for_ben, 300_000);
    world.open(HUB, 0, 1, 200_000);
    world.open(HUB, 1, funded_for_ben, 200_000);
    world.settle();
    assert_eq!(world.audit().settled, 0);
    world
}

#[test]
fn payments_cross_the_hub_within_a_shard_and_between_shards() {
    let mut world = two_wallets(Path::BetweenShards);
    let before = world.audit();
    let internals = |world: &World| {
        let hub = world.running[HUB].as_ref().unwrap();
        hub.shards.iter().map(|shard| shard.load().internals).collect::<Vec<_>>()
    };
    assert_eq!(internals(&world), [0, 0]);
    assert!(world.pay(ANNA, BEN, 10_000_000, Kind::Invoice));
    assert!(world.pay(ANNA, BEN, 100_000, Kind::Invoice));
    assert!(world.pay(BEN, ANNA, 1_000, Kind::Tick));
    assert!(world.pay(BEN, ANNA, 5_000_000, Kind::Unknown));
    world.settle();
    assert!(internals(&world).iter().all(|handled| *handled > 0), "both shards took part");
    let after = world.audit();
    assert_eq!((after.settled, after.failed), (3, 1));
    assert_eq!(after.holdings, before.holdings);
    world.audit_silence();
}

/// One payment is signed and overdue, another waits for an answer to that signature until it may not be signed any more.
#[test]
fn all_of_a_channel_that_is_due_at_a_height_is_done_at_that_height() {
    let mut world = two_wallets(Path::WithinAShard);
    assert!(world.pay(ANNA, BEN, 100_000, Kind::Invoice));
    while world.ledger_turn(ANNA, 10) | world.turn(ANNA, 0, 10) | world.commit(ANNA) {}
    assert!(world.pay(ANNA, BEN, 200_000, Kind::Invoice));
    while world.ledger_turn(ANNA, 10) | world.turn(ANNA, 0, 10) | world.commit(ANNA) {}
    let told = |world: &World| {
        let shard = &world.running[ANNA].as_ref().unwrap().shards[0];
        let asked = shard.forwards().flat_map(|(_, forwards)| forwards.asked_for);
        asked
            .map(|asked| (matches!(asked.place, ForwardPlace::Queued { .. }), asked.told))
            .collect::<Vec<_>>()
    };
    let mut before = told(&world);
    before.sort_by_key(|(queued, _)| *queued);
    assert_eq!(before, [(false, None), (true, None)]);
    world.run(ANNA).mail[0].push_back(Mail::Height(10_000));
    world.turn(ANNA, 0, 1);
    assert_eq!(told(&world), [(false, Some(ForwardEnd::Failed)); 2]);
}

#[test]
fn many_payments_share_their_commitment_rounds() {
    let mut world = two_wallets(Path::BetweenShards);
    let before = world.audit();
    for _ in 0..100 {
        assert!(world.pay(ANNA, BEN, 2_000, Kind::Tick));
    }
    let inputs = |world: &World| world.running[ANNA].as_ref().unwrap().shards[0].load().inputs;
    let sent = inputs(&world);
    world.settle();
    let after = world.audit();
    assert_eq!(after.settled, 100);
    assert_eq!(after.holdings, before.holdings);
    // Each payment needs its add, its fulfilment and an acknowledgement; rounds come on top of that, shared by all.
    let inputs = inputs(&world) - sent;
    assert!(inputs < 100 * 3 + 40, "{inputs} inputs for 100 payments");
}

/// The order in which everybody gets its turn: every `stride`th of the actions below, again and again.
struct Rotation {
    at: usize,
    stride: usize,
}

const ACTIONS: usize = 13;

/// Other orders find other gaps: whether the disk is faster than the network, one shard than the other.
const STRIDES: [usize; 3] = [1, 8, 12];

impl Rotation {
    /// One small step: the next action that has something to do. False when none has.
    fn step(&mut self, world: &mut World) -> bool {
        for _ in 0..ACTIONS {
            self.at += self.stride;
            let did = match self.at % ACTIONS {
                0 => world.turn(HUB, 0, 1),
                1 => world.turn(HUB, 1, 1),
                2 => world.commit(HUB),
                3 => world.turn(ANNA, 0, 1),
                4 => world.ledger_turn(ANNA, 1),
                5 => world.commit(ANNA),
                6 => world.turn(BEN, 0, 1),
                7 => world.ledger_turn(BEN, 1),
                8 => world.commit(BEN),
                9 => world.deliver(0, true),
                10 => world.deliver(0, false),
                11 => world.deliver(1, true),
                _ => world.deliver(1, false),
            };
            if did {
                return true;
            }
        }
        false
    }
}

/// One payment and one death.
#[derive(Clone, Copy, Debug)]
struct Case {
    path: Path,
    kind: Kind,
    victim: usize,
}

impl Case {
    /// Kills the victim after each number of small steps, and lets the others go on for a while before it returns.
    fn kill_after_every_step(self) {
        for stride in STRIDES {
            let mut steps = 0;
            while self.kill_after(steps, stride) {
                steps += 1;
            }
            assert!(steps > 40, "a payment takes many steps");
        }
    }

    /// False when the payment was over before.
    fn kill_after(self, steps: usize, stride: usize) -> bool {
        let mut world = two_wallets(self.path);
        let before = world.audit();
        assert!(world.pay(ANNA, BEN, 1_000_000, self.kind));
        let mut rotation = Rotation { at: 0, stride };
        let moved = (0..steps).take_while(|_| rotation.step(&mut world)).count();
        world.kill(self.victim);
        for _ in 0..steps % 7 {
            rotation.step(&mut world);
        }
        world.recover_all();
        let after = world.audit();
        // A payer killed before its payment was durable never made it.
        assert!(after.settled + after.failed <= 1);
        assert_eq!(after.holdings, before.holdings);
        world.audit_silence();
        moved == steps
    }
}

#[test]
fn the_hub_may_die_after_any_step_of_a_payment_between_shards() {
    Case { path: Path::BetweenShards, kind: Kind::Invoice, victim: HUB }.kill_after_every_step();
}

#[test]
fn the_hub_may_die_after_any_step_of_a_payment_within_a_shard() {
    Case { path: Path::WithinAShard, kind: Kind::Tick, victim: HUB }.kill_after_every_step();
}

#[test]
fn the_payer_may_die_after_any_step_of_a_payment() {
    Case { path: Path::BetweenShards, kind: Kind::Invoice, victim: ANNA }.kill_after_every_step();
}

#[test]
fn the_payee_may_die_after_any_step_of_a_payment() {
    Case { path: Path::BetweenShards, kind: Kind::Tick, victim: BEN }.kill_after_every_step();
}

#[test]
fn the_hub_may_die_after_any_step_of_a_payment_that_fails() {
    Case { path: Path::BetweenShards, kind: Kind::Unknown, victim: HUB }.kill_after_every_step();
}

#[test]
fn the_payee_may_die_after_any_step_of_a_payment_that_fails() {
    Case { path: Path::WithinAShard, kind: Kind::Unknown, victim: BEN }.kill_after_every_step();
}

/// Seeds 0 to this; `SHARD_SEEDS=from..to` runs others, and one failing seed is `SHARD_SEEDS=7..8`.
const SEEDS: u64 = 60;

fn seeds() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("SHARD_SEEDS") else { return 0..SEEDS };
    let (from, to) = text.split_once("..").expect("SHARD_SEEDS=from..to");
    from.parse().unwrap()..to.parse().unwrap()
}

#[test]
fn no_schedule_of_kills_and_disconnections_loses_or_doubles_a_payment() {
    let mut settled = 0;
    for seed in seeds() {
        println!("seed {seed}");
        settled += random_schedule(seed);
    }
    assert!(settled > 0, "schedules that settle nothing prove nothing");
}

fn random_schedule(seed: u64) -> usize {
    let mut random = Random(seed);
    let path = if random.below(2) == 0 { Path::WithinAShard } else { Path::BetweenShards };
    let mut world = two_wallets(path);
    let before = world.audit();
    // Some seeds live dangerously, others hardly ever: both find other things.
    let danger = [0, 2, 10, 30][random.below(4)];
    for _ in 0..600 {
        random_step(&mut world, &mut random, danger);
    }
    world.recover_all();
    let after = world.audit();
    assert_eq!(after.holdings, before.holdings);
    world.audit_silence();
    assert_eq!(world.audit(), after);
    after.settled
}

fn random_step(world: &mut World, random: &mut Random, danger: usize) {
    let process = random.below(3);
    let link = random.below(2);
    if random.below(1_000) < danger {
        match random.below(5) {
            0 | 1 => world.kill(process),
            2 => world.disconnect(link),
            3 => world.stop(process),
            _ => world.supersede(link),
        }
        return;
    }
    match random.below(100) {
        0..=7 => random_payment(world, random),
        8..=45 => {
            let shard = if process == HUB { random.below(2) } else { 0 };
            let most = 1 + random.below(6);
            world.turn(process, shard, most);
        }
        46..=55 => {
            let most = 1 + random.below(4);
            world.ledger_turn(process, most);
        }
        56..=69 => {
            world.commit(process);
        }
        70..=94 => {
            let to_hub = random.below(2) == 0;
            world.deliver(link, to_hub);
        }
        95 => world.block(),
        96 => {
            if let Some(running) = &mut world.running[process] {
                let owners: Vec<_> = running.directory.lock().unwrap().entries.keys().copied().collect();
                for owner in owners {
                    let shard = running.shard_of(owner);
                    running.mail[shard].push_back(shard::Mail::SnapshotNow(owner));
                }
            }
        }
        97 => world.start(process),
        _ => world.connect(link),
    }
}

fn random_payment(world: &mut World, random: &mut Random) {
    if world.running[ANNA].is_none() || world.running[BEN].is_none() {
        return;
    }
    let (payer, payee) = if random.below(2) == 0 { (ANNA, BEN) } else { (BEN, ANNA) };
    let amount_msat = [1_000, 50_000, 1_000_000, 20_000_000, 120_000_000][random.below(5)];
    let kind = [Kind::Invoice, Kind::Tick, Kind::Tick, Kind::Unknown][random.below(4)];
    world.pay(payer, payee, amount_msat, kind);
}

#[test]
fn a_payment_that_the_first_channel_refuses_takes_the_second() {
    let mut world = two_wallets(Path::BetweenShards);
    // In one turn the router's picture of the first channel is that of before, so it chooses it for all three.
    world.open(HUB, 1, 0, 200_000);
    let before = world.audit();
    for _ in 0..3 {
        assert!(world.pay(ANNA, BEN, 80_000_000, Kind::Invoice));
    }
    world.settle();
    let after = world.audit();
    assert_eq!((after.settled, after.failed), (3, 0));
    assert_eq!(after.holdings, before.holdings);
    let used = |view: &&ChannelView| view.capacity.to_sat() == 200_000 && !view.holder_msat.is_zero();
    assert_eq!(world.channels(BEN).iter().filter(used).count(), 2, "both channels carried some");
    let reader = world.run(HUB).reader.clone();
    let events = reader.events_from(reader.oldest_event(), 1_000).unwrap();
    let second_attempts = events.iter().filter(|(_, event)| {
        let what = EventRecord::decode(event).unwrap().what;
        matches!(what, Happening::Report(Report::ForwardSettled { key, .. }) if key.attempt == 2)
    });
    assert_eq!(second_attempts.count(), 1);
    world.audit_silence();
}
