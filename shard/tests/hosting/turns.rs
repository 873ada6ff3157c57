//! The shard's own rules, one by one: what waits for the disk, who is refused and how, sessions, snapshots, the clean
//! stop, channels that do not fold, channels that fail, channels that end.

use std::sync::{Arc, Mutex};

use bitcoin::ScriptBuf;
use channel::amount::Msat;
use channel::bytes::PaymentHash;
use channel::channel::{Channel, ChannelView, ConnectionView, PhaseView};
use channel::commitment::CommitmentSignatures;
use channel::error::{Refusal, Rejection};
use channel::event::{AbortReason, Command, FailRequest};
use channel::failure::FailureReason;
use channel::forward::{ForwardKey, ForwardResult, Internal, Offer};
use channel::ids::{ChannelId, OwnerId, SessionId};
use channel::keys::CompactSignature;
use channel::message::{CommitmentSigned, Message, Recipient};
use journal::{Batch, Content, MachineId};
use shard::{Answer, ChainRequest, Credit, EventRecord, Happening, Mail, PeerRefusal, Query, Refused, Reply};

use crate::world::ledger::LEDGER;
use crate::world::{HUB, Kind, World};

const ANNA: usize = 1;
const BEN: usize = 2;

/// Anna and Ben connected, each with a channel that both ends use, in the hub's shard 0 and 1.
fn connected() -> World {
    let mut world = World::new(2);
    for link in 0..2 {
        world.connect(link);
    }
    world.settle();
    world.open(ANNA, 0, 0, 200_000);
    world.open(HUB, 1, 1, 200_000);
    world.settle();
    world
}

fn channel_of(world: &mut World, process: usize) -> ChannelView {
    world.channels(process).into_iter().next().unwrap()
}

/// Anna's channel as the hub sees it, and the session she is connected by there.
fn annas(world: &mut World) -> (OwnerId, ChannelId, SessionId) {
    let channel_id = channel_of(world, ANNA).channel_id;
    let at_hub = world.channels(HUB).into_iter().find(|view| view.channel_id == channel_id).unwrap();
    (at_hub.owner, channel_id, world.links[0].up.unwrap().0)
}

fn from_anna(world: &mut World, channel: ChannelId, messages: Vec<Message>) {
    let session = world.links[0].up.unwrap().0;
    let node = world.processes[ANNA].node();
    world.run(HUB).mail[0].push_back(Mail::Peer { session, node, channel, messages, credit: Credit::none() });
}

fn error() -> Message {
    Message::ChannelError { text: "no".to_owned(), cannot_publish: false }
}

fn forged_commitment() -> Message {
    let commitment = CompactSignature::from_bytes([3; 64]);
    let signatures = CommitmentSignatures { commitment, htlcs: Vec::new() };
    Message::CommitmentSigned(CommitmentSigned { number: 1, signatures, sealed: Vec::new() })
}

fn refused(reply: &Arc<Mutex<Option<Reply>>>) -> Refused {
    match reply.lock().unwrap().take() {
        Some(Reply::Refused(refused)) => refused,
        other => panic!("not refused: {other:?}"),
    }
}

/// The number of records in the hub's journal so far.
fn records(world: &mut World) -> u64 {
    world.commit(HUB);
    world.run(HUB).log.stats().records
}

#[test]
fn messages_and_answers_wait_for_the_disk() {
    let mut world = World::new(1);
    world.connect(0);
    world.settle();
    let session = world.links[0].up.unwrap().0;
    let node = world.processes[ANNA].node();
    let request = world.processes[HUB].open_request(node, session, 0, 200_000);
    let (owner, channel_id) = (request.owner, request.channel_id);
    let hub = world.run(HUB);
    let opened = hub.ask(0, |reply| Mail::Open { request, reply: Some(reply) });
    let read = hub.ask(0, |reply| Mail::Read { query: Query::ChannelById(channel_id), reply });
    for _ in 0..3 {
        hub.turn(0, 10);
    }
    assert!(hub.outputs.is_empty(), "nothing is visible before it is durable");
    assert!(opened.lock().unwrap().is_none() && read.lock().unwrap().is_none());
    assert!(hub.shards[0].load().waiting > 0);

    // The disk is done, but the shard was not told yet; then it was.
    assert!(hub.committer.turn().unwrap().is_some());
    hub.turn(0, 10);
    assert!(hub.outputs.is_empty() && opened.lock().unwrap().is_none());
    let durable = hub.log.durable();
    hub.mail[0].push_back(Mail::Durable(durable));
    hub.turn(0, 10);
    let opened = opened.lock().unwrap().take();
    assert!(
        matches!(opened, Some(Reply::Opened { owner: o, channel_id: c }) if (o, c) == (owner, channel_id))
    );
    let read = read.lock().unwrap().take();
    let Some(Reply::Answer(Answer::Channel(Some(view)))) = read else { panic!("no view: {read:?}") };
    assert_eq!((view.owner, view.phase), (owner, PhaseView::Opening));
    assert_eq!(hub.shards[0].load().waiting, 0);
}

#[test]
fn what_was_refused_leaves_nothing_in_the_journal() {
    let mut world = connected();
    let (owner, channel_id, _) = annas(&mut world);
    let before = records(&mut world);
    let node = world.processes[ANNA].node();
    let mut taken_id = world.processes[HUB].open_request(node, world.links[0].up.unwrap().0, 0, 200_000);
    taken_id.channel_id = channel_id;
    let mut nobody = world.processes[HUB].open_request(node, SessionId(9_999), 0, 200_000);
    let mut taken_number = nobody.clone();
    taken_number.owner = owner;
    taken_number.session = world.links[0].up.unwrap().0;
    nobody.channel_id = ChannelId([8; 32]);
    let hub = world.run(HUB);
    let command = |command: Command| move |reply| Mail::Command { owner, command, reply: Some(reply) };
    let abort = hub.ask(0, command(Command::AbortOpening { why: AbortReason::Cancelled }));
    let sign = hub.ask(0, command(Command::SignNow));
    let connect = hub.ask(0, command(Command::Connected { session: SessionId(1) }));
    let unknown = OwnerId(4_242);
    let gone = hub.ask(0, |reply| Mail::Command {
        owner: unknown,
        command: Command::Fail { reason: FailRequest::Operator },
        reply: Some(reply),
    });
    let same_id = hub.ask(0, |reply| Mail::Open { request: taken_id, reply: Some(reply) });
    let same_number = hub.ask(0, |reply| Mail::Open { request: taken_number, reply: Some(reply) });
    let offline = hub.ask(0, |reply| Mail::Open { request: nobody, reply: Some(reply) });
    world.settle();
    let too_late = Refused::Rejected(Rejection::Refusal(Refusal::FundingReleased));
    assert_eq!(refused(&abort), too_late);
    assert_eq!(refused(&sign), Refused::NotForHosts);
    assert_eq!(refused(&connect), Refused::NotForHosts);
    assert_eq!(refused(&gone), Refused::UnknownOwner(unknown));
    assert_eq!(refused(&same_id), Refused::ChannelExists(channel_id));
    assert_eq!(refused(&same_number), Refused::OwnerExists(owner));
    assert_eq!(refused(&offline), Refused::NotConnected(SessionId(9_999)));
    assert_eq!(records(&mut world), before);
}

#[test]
fn an_unknown_channel_is_named_and_an_error_is_not_answered_by_an_error() {
    let mut world = connected();
    let before = records(&mut world);
    let session = world.links[0].up.unwrap().0;
    let unknown = ChannelId([5; 32]);
    from_anna(&mut world, unknown, vec![Message::ChannelReady]);
    let hub = world.run(HUB);
    hub.turn(0, 10);
    let [(to, channel, messages)] = &hub.outputs.sends[..] else { panic!("{:?}", hub.outputs.sends) };
    assert_eq!((*to, *channel), (session, unknown));
    assert!(matches!(&messages[..], [Message::ChannelError { text, .. }] if text.contains("no channel")));
    assert_eq!(hub.outputs.refused, [(session, unknown, PeerRefusal::UnknownChannel)]);
    hub.outputs = Default::default();

    from_anna(&mut world, unknown, vec![error()]);
    let hub = world.run(HUB);
    hub.turn(0, 10);
    assert!(hub.outputs.is_empty());
    assert_eq!(records(&mut world), before);
}

#[test]
fn a_node_cannot_touch_the_channel_of_another() {
    let mut world = connected();
    let bens = channel_of(&mut world, BEN).channel_id;
    let before = records(&mut world);
    let session = world.links[0].up.unwrap().0;
    let node = world.processes[ANNA].node();
    let messages = vec![error(), forged_commitment()];
    let hub = world.run(HUB);
    // Ben's channel lives in shard 1.
    hub.mail[1].push_back(Mail::Peer { session, node, channel: bens, messages, credit: Credit::none() });
    hub.turn(1, 10);
    assert_eq!(hub.outputs.refused, [(session, bens, PeerRefusal::NotYours)]);
    hub.outputs = Default::default();
    assert_eq!(records(&mut world), before);
    world.audit();
}

#[test]
fn a_newer_session_supersedes_and_messages_of_the_older_are_dropped() {
    let mut world = connected();
    let (_, channel_id, old) = annas(&mut world);
    let node = world.processes[ANNA].node();
    world.supersede(0);
    world.settle();
    let new = world.links[0].up.unwrap().0;
    assert!(new > old);
    let before = records(&mut world);
    let hub = world.run(HUB);
    let messages = vec![error(), forged_commitment()];
    // Nobody is told of a channel that a late message does not find, either.
    for channel in [channel_id, ChannelId([6; 32])] {
        let (messages, credit) = (messages.clone(), Credit::none());
        hub.mail[0].push_back(Mail::Peer { session: old, node, channel, messages, credit });
    }
    // Neither the end nor a repeat of an older session touches the newer one.
    hub.mail[0].push_back(Mail::SessionDown { session: old });
    hub.mail[0].push_back(Mail::SessionUp { node, session: old });
    world.settle();
    assert_eq!(world.run(HUB).shards[0].load().late_messages, 4);
    assert_eq!(records(&mut world), before);
    assert!(world.pay(ANNA, BEN, 1_000_000, Kind::Invoice));
    world.settle();
    assert_eq!(world.audit().settled, 1);
}

#[test]
fn credit_is_given_back_when_the_mail_was_handled() {
    let mut world = connected();
    let guard = Arc::new(());
    let credit = Credit::new(guard.clone());
    let (node, session) = (world.processes[ANNA].node(), SessionId(1));
    let hub = world.run(HUB);
    hub.mail[0].push_back(Mail::Peer {
        session,
        node,
        channel: ChannelId([1; 32]),
        messages: vec![],
        credit,
    });
    assert_eq!(Arc::strong_count(&guard), 2);
    hub.turn(0, 10);
    assert_eq!(Arc::strong_count(&guard), 1);
}

#[test]
fn a_counterparty_that_breaks_the_protocol_fails_only_its_channel() {
    let mut world = connected();
    let (owner, channel_id, session) = annas(&mut world);
    from_anna(&mut world, channel_id, vec![forged_commitment()]);
    let hub = world.run(HUB);
    hub.turn(0, 10);
    assert!(hub.outputs.is_empty(), "the failure is durable before anybody learns of it");
    assert!(hub.commit());
    hub.turn(0, 10);
    let told = hub.outputs.sends.iter().any(|(to, channel, messages)| {
        (*to, *channel) == (session, channel_id)
            && matches!(messages.last(), Some(Message::ChannelError { .. }))
    });
    assert!(told, "{:?}", hub.outputs.sends);
    let job = hub.outputs.chain.iter().find_map(|(of, request)| match request {
        ChainRequest::Plan(plan) if *of == owner => Some(plan.publish.clone()),
        _ => None,
    });
    assert!(job.expect("a job is kept").is_some(), "the latest commitment may be published");
    assert_eq!(hub.shards[0].load().violations, 1);
    hub.outputs = Default::default();

    // It stays failed after a restart, and Ben's channel is untouched.
    world.kill(HUB);
    world.start(HUB);
    let views = world.channels(HUB);
    let failed: Vec<_> = views.iter().filter(|v| matches!(v.phase, PhaseView::Failed { .. })).collect();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].owner, owner);
}

#[test]
fn a_restart_is_a_disconnect_and_journaled_before_anything_else() {
    let mut world = connected();
    world.kill(HUB);
    world.start(HUB);
    let hub = world.run(HUB);
    assert!(
        hub.directory.lock().unwrap().entries.values().all(|entry| entry.session.is_none() && !entry.usable)
    );
    // The first turn appended it, so it is durable with whatever comes next.
    assert!(hub.commit());
    world.kill(HUB);
    world.start(HUB);
    assert!(!world.run(HUB).commit(), "there is nothing left to disconnect");
    assert!(world.channels(HUB).iter().all(|view| view.connection == ConnectionView::Offline));
}

#[test]
fn snapshots_taken_while_running_replace_the_records_before_them() {
    let mut world = connected();
    for _ in 0..5 {
        assert!(world.pay(ANNA, BEN, 1_000_000, Kind::Invoice));
    }
    world.settle();
    let before = world.audit();
    for view in world.channels(HUB) {
        let hub = world.run(HUB);
        let shard = hub.shard_of(view.owner);
        hub.mail[shard].push_back(Mail::SnapshotNow(view.owner));
        // A second wish while the first waits costs nothing.
        hub.mail[shard].push_back(Mail::SnapshotNow(view.owner));
    }
    world.settle();
    world.kill(HUB);
    world.recover_all();
    assert_eq!(world.audit(), before);
    assert!(world.pay(ANNA, BEN, 1_000_000, Kind::Invoice));
    world.settle();
    assert_eq!(world.audit().settled, 6);
}

#[test]
fn a_clean_stop_leaves_snapshots_only_and_refuses_what_comes_later() {
    let mut world = connected();
    assert!(world.pay(ANNA, BEN, 1_000_000, Kind::Invoice));
    world.settle();
    let before = world.audit();
    let (owner, ..) = annas(&mut world);
    let hub = world.run(HUB);
    hub.tell_all(|| Mail::Stop);
    let read = hub.ask(0, |reply| Mail::Read { query: Query::Channel(owner), reply });
    for shard in 0..2 {
        hub.turn(shard, 10);
    }
    assert!(!hub.shards[0].stopped(), "its snapshots are not durable yet");
    hub.commit();
    for shard in 0..2 {
        hub.turn(shard, 10);
    }
    assert!(hub.shards.iter().all(shard::Shard::stopped));
    assert_eq!(refused(&read), Refused::Stopping);
    world.stop(HUB);
    world.recover_all();
    assert_eq!(world.audit(), before);
}

#[test]
fn snapshots_that_an_older_version_wrote_are_read() {
    let mut world = connected();
    let before = world.audit();
    world.stop(HUB);
    let opened = world.processes[HUB].open_journal();
    let mut batch = Batch::default();
    for mut snapshot in opened.recovery.snapshots().unwrap().map(Result::unwrap) {
        if let Content::State { payload, hash } = &mut snapshot.content {
            // The kind of payload, then the channel's bytes: a version, and a last field that version 2 did not have.
            assert_eq!(payload.pop(), Some(0), "no price");
            payload[1] = 2;
            *hash = Channel::snapshot_hash(&payload[1..]);
        }
        batch.snapshots.push(snapshot);
    }
    assert_eq!(batch.snapshots.len(), 2);
    opened.log.append(batch).unwrap();
    let mut committer = opened.committer;
    committer.turn().unwrap();
    drop(committer);
    world.recover_all();
    let set_aside = world.run(HUB).shards.iter().flat_map(shard::Shard::quarantined).count();
    assert_eq!((set_aside, world.audit()), (0, before));
}

#[test]
fn a_channel_whose_records_do_not_fold_is_set_aside_and_the_others_start() {
    let mut world = connected();
    let (owner, channel_id, _) = annas(&mut world);
    let last = {
        let mut last = 0;
        world.kill(HUB);
        let opened = world.processes[HUB].open_journal();
        let mut records = opened.recovery.records().unwrap();
        while let Some(record) = records.next().unwrap() {
            if record.machine == MachineId(owner.0) {
                last = record.sequence;
            }
        }
        drop(records);
        let mut committer = opened.committer;
        let mut batch = Batch::default();
        batch.records.push(MachineId(owner.0), last + 1, &[0xff; 9]);
        opened.log.append(batch).unwrap();
        committer.turn().unwrap();
        last
    };
    assert!(last > 0);
    world.start(HUB);
    world.connect(0);
    world.connect(1);
    let hub = world.run(HUB);
    let set_aside: Vec<_> = hub.shards[0].quarantined().map(|q| (q.owner, q.channel_id)).collect();
    assert_eq!(set_aside, [(owner, Some(channel_id))]);
    // Whoever asks is told, and nothing is answered for it between owners: money may hang on it.
    let read = hub.ask(0, |reply| Mail::Command {
        owner,
        command: Command::Shutdown { script: ScriptBuf::new() },
        reply: Some(reply),
    });
    hub.mail[0].push_back(Mail::Internal { to: owner, message: Internal::Offer(offer(OwnerId(77))) });
    hub.mail[0].push_back(Mail::SnapshotNow(owner));
    hub.turn(0, 100);
    hub.commit();
    hub.turn(0, 100);
    assert!(matches!(refused(&read), Refused::Quarantined { .. }));
    assert!(hub.mail[0].is_empty(), "no answer for the offer");
    from_anna(&mut world, channel_id, vec![Message::ChannelReady]);
    let hub = world.run(HUB);
    hub.turn(0, 100);
    hub.outputs.refused.retain(|(_, id, why)| {
        assert_eq!(*id, channel_id);
        !matches!(why, PeerRefusal::Refused(Refused::Quarantined { .. }))
    });
    assert_eq!(hub.outputs.refused, []);
    let publish = |message: &Message| matches!(message, Message::ChannelError { cannot_publish: true, .. });
    let asked =
        |(_, id, messages): &(_, ChannelId, Vec<Message>)| *id == channel_id && messages.iter().any(publish);
    assert!(hub.outputs.sends.iter().any(asked), "only the peer can close it: {:?}", hub.outputs.sends);
    hub.outputs = Default::default();

    // Its evidence is a snapshot by now: it pins nothing, and is set aside again.
    world.kill(HUB);
    world.start(HUB);
    assert_eq!(world.run(HUB).shards[0].quarantined().count(), 1);
    let views = world.channels(HUB);
    assert_eq!(views.len(), 1);
}

fn offer(incoming: OwnerId) -> Offer {
    Offer {
        key: ForwardKey { incoming, htlc_id: 3, attempt: 1 },
        amount_msat: Msat::from_u32(1_000),
        payment_hash: PaymentHash::from_bytes([9; 32]),
        cltv_expiry: 1_000,
        recipient: Recipient::Stream { id: channel::ids::StreamId([0; 16]), index: 0 },
        forward: None,
        payload: Vec::new(),
        sign_by_height: 900,
    }
}

#[test]
fn an_owner_that_is_gone_is_answered_for() {
    let mut world = connected();
    let gone = OwnerId(2 << 24);
    let anna = world.run(ANNA);
    // The wallet's ledger asks a channel that ended long ago.
    let asked = offer(LEDGER);
    anna.mail[0].push_back(Mail::Internal { to: gone, message: Internal::Offer(asked.clone()) });
    anna.turn(0, 10);
    let answer = anna.ledger_mail.pop_front();
    let reason = FailureReason::ChannelUnavailable;
    let expected = Internal::Result { key: asked.key, from: gone, result: ForwardResult::Failed { reason } };
    assert_eq!(answer, Some(expected));
    // A result for it is acknowledged, an acknowledgement needs no answer.
    let key = ForwardKey { incoming: gone, htlc_id: 1, attempt: 1 };
    let result = ForwardResult::Failed { reason };
    anna.mail[0]
        .push_back(Mail::Internal { to: gone, message: Internal::Result { key, from: LEDGER, result } });
    anna.mail[0].push_back(Mail::Internal { to: gone, message: Internal::Ack { key } });
    anna.turn(0, 10);
    assert_eq!(anna.ledger_mail.pop_front(), Some(Internal::Ack { key }));
    assert!(anna.ledger_mail.is_empty());
}

#[test]
fn ticks_of_a_turn_are_one_event_a_stream() {
    let mut world = connected();
    for _ in 0..50 {
        assert!(world.pay(ANNA, BEN, 2_000, Kind::Tick));
    }
    world.settle();
    let reader = world.run(HUB).reader.clone();
    let events = reader.events_from(reader.oldest_event(), 10_000).unwrap();
    let events: Vec<EventRecord> = events.iter().map(|(_, e)| EventRecord::decode(e).unwrap()).collect();
    let settled: Vec<u64> = events
        .iter()
        .filter_map(|event| match event.what {
            Happening::StreamSettled { ticks, .. } => Some(ticks),
            _ => None,
        })
        .collect();
    assert_eq!(settled.iter().sum::<u64>(), 50);
    assert!(settled.len() < 10, "{settled:?}");
}

#[test]
fn the_same_mail_gives_the_same_log() {
    let run = || {
        let mut world = connected();
        for number in 0..10 {
            world.pay(ANNA, BEN, 1_000 * (number + 1), Kind::Tick);
            world.pay(ANNA, BEN, 1_000_000, Kind::Invoice);
        }
        world.settle();
        world.kill(HUB);
        let opened = world.processes[HUB].open_journal();
        let mut all = Vec::new();
        let mut records = opened.recovery.records().unwrap();
        while let Some(record) = records.next().unwrap() {
            all.push(record.to_record());
        }
        all
    };
    assert_eq!(run(), run());
}

#[test]
fn a_full_turn_leaves_the_rest_of_the_mail_for_the_next() {
    let mut world = connected();
    let hub = world.run(HUB);
    let most = shard::limits::MAX_WORK_A_TURN;
    hub.mail[0].extend((0..most + 10).map(|_| Mail::Height(101)));
    assert!(hub.turn(0, usize::MAX));
    assert_eq!(hub.mail[0].len(), 10);
    hub.turn(0, usize::MAX);
    assert!(hub.mail[0].is_empty());
}

#[test]
fn channels_are_read_by_pages_in_the_order_of_their_numbers() {
    let mut world = connected();
    world.open(HUB, 0, 0, 150_000);
    world.open(HUB, 1, 0, 150_000);
    let all: Vec<OwnerId> =
        world.channels(HUB).iter().map(|view| view.owner).filter(|o| o.0 % 2 == 0).collect();
    assert_eq!(all.len(), 3);
    let anna = world.processes[ANNA].node();
    for (node, expected) in [(None, all.clone()), (Some(anna), vec![all[0], all[1]])] {
        let mut read = Vec::new();
        let mut after = None;
        loop {
            let query = Query::Channels { node, after, max: 1 };
            let page = world.run(HUB).ask(0, |reply| Mail::Read { query, reply });
            world.settle();
            let page = page.lock().unwrap().take();
            let Some(Reply::Answer(Answer::Channels { channels, more })) = page else { panic!("{page:?}") };
            read.extend(channels.iter().map(|view| view.owner));
            after = more;
            if more.is_none() {
                break;
            }
        }
        assert_eq!(read, expected);
    }
}
