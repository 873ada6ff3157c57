//! A hub alone with its node and one wallet written by hand.

use std::future::Future;

use prost::Message;
use proto::error::ErrorCode;
use proto::handshake::ClientHandshake;
use proto::hub::v1 as pb;
use proto::hub::v1::frame::Kind;
use proto::hub::v1::operator_server::Operator;
use redb::StorageBackend;
use tonic::Request;

use super::*;
use crate::clock::Clock;
use crate::disk::Cut;
use crate::process::{HubEnd, hub_line};
use crate::seed::{Chance, Seed};

const EXPORTER: [u8; 32] = [7; 32];

/// A hub's surroundings, which outlive it.
struct Place {
    setup: HubSetup,
    disk: SimDisk,
    node: SimNode,
    world: World,
    chance: Chance,
}

fn place(seed: u64) -> Place {
    let (seed, clock) = (Seed(seed), Clock::default());
    Place {
        setup: HubSetup::new(seed.stream("hub seed").bytes()),
        disk: SimDisk::new(),
        node: SimNode::new(seed, clock.clone()),
        world: clock.world(seed, "hub"),
        chance: seed.stream("test"),
    }
}

impl Place {
    fn start(&self) -> HubProcess {
        HubProcess::start(&self.setup, &self.disk, &self.node, self.world.clone()).unwrap()
    }

    fn start_and_settle(&self) -> HubProcess {
        let mut hub = self.start();
        hub.settle().unwrap();
        hub
    }

    fn kill(&mut self, hub: HubProcess, cut: Cut) {
        self.disk.cut(cut, &mut self.chance);
        drop(hub);
    }
}

fn ask<T, F>(hub: &mut HubProcess, call: impl FnOnce(OperatorService) -> F) -> T
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let mut call = hub.call(call);
    hub.settle().unwrap();
    call.answer().expect("nothing it waits for takes time").unwrap()
}

fn info(hub: &mut HubProcess) -> pb::OperatorGetInfoResponse {
    let asked = ask(hub, |operator| async move {
        operator.get_info(Request::new(pb::OperatorGetInfoRequest::default())).await
    });
    asked.unwrap().into_inner()
}

#[test]
fn a_hub_follows_the_chain_to_its_tip_and_serves_then_also_after_it_was_killed() {
    let mut place = place(1);
    place.node.mine_blocks(3);
    let mut hub = place.start();
    assert!(!hub.ready());
    hub.settle().unwrap();
    assert!(hub.ready());
    assert_eq!(info(&mut hub).height, place.node.height());
    for cut in [Cut::Kill, Cut::Power] {
        place.kill(hub, cut);
        place.node.mine_blocks(2);
        hub = place.start_and_settle();
        assert!(hub.ready());
        assert_eq!(info(&mut hub).height, place.node.height());
    }
    place.node.mine_blocks(1);
    hub.settle().unwrap();
    assert_eq!(info(&mut hub).height, place.node.height());
}

#[test]
fn a_hub_that_was_stopped_leaves_snapshots_only_and_starts_again() {
    let place = place(2);
    let mut hub = place.start_and_settle();
    place.node.mine_blocks(1);
    hub.settle().unwrap();
    hub.stop().unwrap();
    let hub = place.start_and_settle();
    assert!(hub.ready());
    hub.stop().unwrap();
}

#[test]
fn a_hub_that_was_killed_is_written_down_as_snapshots_before_an_upgrade_and_starts_again() {
    let mut place = place(2);
    let mut hub = place.start_and_settle();
    place.node.mine_blocks(1);
    hub.settle().unwrap();
    place.kill(hub, Cut::Kill);
    HubProcess::checkpoint(&place.setup, &place.disk, place.world.clone()).unwrap();
    place.disk.cut(Cut::Kill, &mut place.chance);
    place.node.set_down(NAME, true);
    let hub = place.start_and_settle();
    assert_eq!(hub.height(), place.node.height(), "it knows what it knew");
    hub.stop().unwrap();
    place.node.set_down(NAME, false);
    let mut hub = place.start_and_settle();
    assert!(hub.ready());
    assert_eq!(info(&mut hub).height, place.node.height());
    hub.stop().unwrap();
}

#[test]
fn a_hub_whose_node_is_away_starts_and_serves_nobody() {
    let place = place(3);
    place.node.set_all_down(true);
    let mut hub = place.start_and_settle();
    assert!(!hub.ready());
    let (line, mut end) = hub_line(EXPORTER);
    hub.connect(line);
    hub.settle().unwrap();
    assert!(end.from_hub.try_recv().is_err());
    place.node.set_all_down(false);
    hub.advance_ms(60_000);
    hub.settle().unwrap();
    assert!(hub.ready());
}

#[test]
fn the_operator_asks_for_a_stop_and_the_run_sees_it() {
    let place = place(4);
    let mut hub = place.start_and_settle();
    assert!(!hub.wants_stop());
    let asked =
        ask(&mut hub, |operator| async move { operator.stop(Request::new(pb::StopRequest {})).await });
    asked.unwrap();
    hub.settle().unwrap();
    assert!(hub.wants_stop());
    hub.stop().unwrap();
}

#[test]
fn a_disk_that_fails_is_the_hubs_death() {
    let mut place = place(5);
    let mut hub = place.start_and_settle();
    place.disk.trouble(crate::disk::Trouble::SyncFails { after: 0 });
    place.node.mine_blocks(1);
    let died = hub.settle().unwrap_err();
    assert!(died.who.contains("journal"), "{died}");
    assert!(place.disk.has_failed());
    place.kill(hub, Cut::Kill);
    assert!(place.start_and_settle().ready());
}

/// The wallet's end of a connection to `hub`, shaken; what the hub said is added to `heard`.
fn shake(place: &Place, hub: &mut HubProcess, heard: &mut Vec<Vec<u8>>) -> HubEnd {
    let (line, mut end) = hub_line(EXPORTER);
    hub.connect(line);
    let signer = SeedSigner::new(&[9; 64]);
    let (handshake, hello) = ClientHandshake::start(&signer, place.setup.node_id(), [3; 32], EXPORTER);
    end.to_hub.try_send(Ok(pb::Frame { kind: Some(Kind::ClientHello(hello)) })).unwrap();
    let Kind::HubHello(hello) = hear(hub, &mut end, heard) else { panic!("no HubHello") };
    let proof = handshake.prove(&signer, &hello).unwrap();
    end.to_hub.try_send(Ok(pb::Frame { kind: Some(Kind::ClientProof(proof)) })).unwrap();
    let Kind::Welcome(welcome) = hear(hub, &mut end, heard) else { panic!("no Welcome") };
    assert_eq!(welcome.height, place.node.height());
    end
}

fn hear(hub: &mut HubProcess, end: &mut HubEnd, heard: &mut Vec<Vec<u8>>) -> Kind {
    hub.settle().unwrap();
    let frame = end.from_hub.try_recv().expect("the hub answers").unwrap();
    heard.push(frame.encode_to_vec());
    frame.kind.unwrap()
}

#[test]
fn a_wallet_is_served_until_the_hub_stops() {
    let place = place(6);
    let mut hub = place.start_and_settle();
    let mut end = shake(&place, &mut hub, &mut Vec::new());
    assert_eq!(info(&mut hub).peers, 1);
    hub.stop().unwrap();
    let last = end.from_hub.try_recv().unwrap().unwrap();
    let Some(Kind::Goodbye(goodbye)) = last.kind else { panic!("no goodbye") };
    assert_eq!(goodbye.code(), ErrorCode::Stopping);
}

/// Every byte on the disk.
fn image(disk: &SimDisk) -> Vec<u8> {
    let backend = disk.backend();
    let mut bytes = vec![0; usize::try_from(backend.len().unwrap()).unwrap()];
    backend.read(0, &mut bytes).unwrap();
    bytes
}

/// A day of a hub; everything that leaves it.
fn day(seed: u64) -> (Vec<Vec<u8>>, Vec<u8>) {
    let mut place = place(seed);
    let mut hub = place.start_and_settle();
    let mut heard = Vec::new();
    for round in 0..3 {
        let end = shake(&place, &mut hub, &mut heard);
        let address = ask(&mut hub, |operator| async move {
            operator.new_address(Request::new(pb::NewAddressRequest {})).await
        });
        heard.push(address.unwrap().into_inner().encode_to_vec());
        place.node.mine_blocks(1);
        for step in 0..200u32 {
            let parts = [HubPart::Journal, HubPart::Control, HubPart::Tasks { polls: 1 + step % 3 }];
            let shards = (0..place.setup.shards()).map(HubPart::Shard);
            let parts: Vec<HubPart> = parts.into_iter().chain(shards).collect();
            hub.turn(*place.chance.pick(&parts).unwrap()).unwrap();
            hub.advance_ms(place.chance.within(0, 20));
        }
        drop(end);
        if round == 1 {
            place.kill(hub, Cut::Power);
            hub = place.start_and_settle();
        }
    }
    heard.push(info(&mut hub).encode_to_vec());
    hub.stop().unwrap();
    (heard, image(&place.disk))
}

#[test]
fn two_runs_of_a_seed_are_the_same_to_the_last_byte_on_the_disk() {
    let (first, second) = (day(7), day(7));
    assert_eq!(first.0, second.0);
    assert!(first.1 == second.1, "the disks differ");
    assert_ne!(first.0, day(8).0);
}
