//! Openings that come to nothing.

use channel::event::{AbortReason, Command, OpenRequest};
use shard::{Mail, Reply};

use crate::world::{HUB, World};

const ANNA: usize = 1;

/// The hub and a wallet that is there; and what the hub is to open with it.
fn about_to_open() -> (World, OpenRequest) {
    let mut world = World::new(1);
    world.connect(0);
    world.settle();
    let session = world.links[0].up.unwrap().0;
    let node = world.processes[ANNA].node();
    let request = world.processes[HUB].open_request(node, session, 0, 200_000);
    (world, request)
}

#[test]
fn a_channel_that_never_came_to_be_is_forgotten_for_good() {
    let (mut world, request) = about_to_open();
    let (owner, channel_id) = (request.owner, request.channel_id);
    let hub = world.run(HUB);
    hub.mail[0].push_back(Mail::Open { request, reply: None });
    let why = AbortReason::Cancelled;
    let done = hub.ask(0, |reply| Mail::Command {
        owner,
        command: Command::AbortOpening { why },
        reply: Some(reply),
    });
    hub.turn(0, 10);
    assert_eq!(hub.outputs.finished, [], "its end is not durable yet");
    hub.commit();
    hub.turn(0, 10);
    assert!(matches!(done.lock().unwrap().take(), Some(Reply::Done)));
    assert_eq!(hub.outputs.finished, [owner]);
    assert_eq!(hub.shards[0].load().channels, 0);
    world.kill(HUB);
    world.recover_all();
    assert!(world.channels(HUB).iter().all(|view| view.channel_id != channel_id));
}

/// A peer that stays and says nothing holds the funder's coins no longer than this.
#[test]
fn an_opening_that_the_peer_does_not_go_on_with_is_given_up() {
    let (mut world, request) = about_to_open();
    let owner = request.owner;
    let hub = world.run(HUB);
    let height = hub.shards[0].known_height();
    let last = height + shard::limits::OPENING_PATIENCE_BLOCKS;
    hub.mail[0].push_back(Mail::Open { request, reply: None });
    hub.turn(0, 10);
    hub.mail[0].push_back(Mail::Height(last - 1));
    hub.turn(0, 10);
    hub.commit();
    hub.turn(0, 10);
    assert_eq!((hub.outputs.finished.len(), hub.shards[0].load().channels), (0, 1));
    hub.mail[0].push_back(Mail::Height(last));
    hub.turn(0, 10);
    hub.commit();
    hub.turn(0, 10);
    assert_eq!(hub.outputs.finished, [owner]);
    assert_eq!(hub.shards[0].load().channels, 0);
}
