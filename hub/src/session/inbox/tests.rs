use std::collections::BTreeMap;

use channel::failure::FailureReason;
use crossbeam_channel::Receiver;
use proto::frame::{InboundReply, InboundRequest};
use proto::relay::{Relay, RelayKind};

use super::*;
use crate::placement::Placement;
use crate::session::channel as outgoing_queue;

const NODE: Point = Point::from_bytes([2; 33]);
const OTHER: Point = Point::from_bytes([3; 33]);
const SESSION: SessionId = SessionId(1);

struct Hub {
    setup: InboxSetup,
    shards: Vec<Receiver<Mail>>,
    control: Receiver<ControlMail>,
}

fn hub(max_channels_per_wallet: usize) -> Hub {
    let (senders, shards): (Vec<_>, Vec<_>) = (0..2).map(|_| crossbeam_channel::unbounded()).unzip();
    let (control_sender, control) = crossbeam_channel::unbounded();
    let mailboxes = Mailboxes::new(senders, control_sender, Arc::new(Placement::new(2, 1)));
    let sessions = Arc::new(Sessions::new(mailboxes.clone(), 9, 3));
    let setup = InboxSetup {
        mailboxes,
        directory: Arc::default(),
        sessions,
        gate: Arc::default(),
        max_channels_per_wallet,
        world: World::real(),
    };
    Hub { setup, shards, control }
}

impl Hub {
    /// What each shard was told, in order.
    fn heard(&self) -> Vec<Vec<String>> {
        let tell = |mail: Mail| match mail {
            Mail::Peer { channel, messages, .. } => format!("peer {} x{}", channel.0[0], messages.len()),
            Mail::Accept { request, .. } => format!("accept {}", request.channel_id.0[0]),
            other => format!("{other:?}"),
        };
        self.shards.iter().map(|shard| shard.try_iter().map(tell).collect()).collect()
    }

    fn reserve(&self, id: u8, owner: u64, node: Point) {
        let place = Place { owner: OwnerId(owner), node, hosted: true };
        self.setup.directory.reserve(ChannelId([id; 32]), place, 99).unwrap();
    }
}

fn fails(count: u64) -> Vec<Message> {
    (0..count).map(|id| Message::UpdateFailHtlc { id, reason: FailureReason::NoLiquidity }).collect()
}

/// A proposal; its contents are the channel's business.
fn proposal() -> Message {
    use channel::amount::Msat;
    use channel::keys::Basepoints;
    use channel::message::{OpenChannel, SideParameters};
    let point = Point::from_bytes([2; 33]);
    let basepoints =
        Basepoints { funding: point, revocation: point, payment: point, delayed_payment: point, htlc: point };
    let opener = SideParameters {
        basepoints,
        first_point: point,
        second_point: point,
        to_self_delay_blocks: 6,
        htlc_minimum_msat: Msat::ZERO,
        max_htlc_value_in_flight_msat: Msat::ZERO,
        max_accepted_htlcs: 1,
        max_accepted_dust_htlcs: 1,
    };
    Message::OpenChannel(Box::new(OpenChannel {
        format: "option_zero_fee_commitments".into(),
        capacity_sat: 100_000,
        dust_limit_sat: 354,
        minimum_depth: 1,
        opener,
        price_msat: Msat::ZERO,
        reserve_sat: 0,
        reserve_price_msat: Msat::ZERO,
    }))
}

fn channels(channels: &[(u8, Vec<Message>)]) -> Contents {
    let channels = channels.iter().map(|(id, messages)| (ChannelId([*id; 32]), messages.clone())).collect();
    Contents { channels, ..Contents::default() }
}

#[test]
fn messages_go_in_order_to_the_shard_that_owns_the_channel() {
    let hub = hub(9);
    hub.reserve(1, 5000, NODE);
    hub.reserve(2, 5001, NODE);
    let (outgoing, _writer) = outgoing_queue();
    let mut inbox = Inbox::new(&hub.setup, SESSION, NODE, outgoing);
    let mut credits = BTreeMap::new();
    let contents = channels(&[(1, fails(3)), (2, fails(1)), (1, fails(2))]);
    inbox
        .deliver(contents, |count| {
            *credits.entry(count).or_insert(0) += 1;
            Credit::none()
        })
        .unwrap();
    assert_eq!(hub.heard(), [vec!["peer 1 x3", "peer 1 x2"], vec!["peer 2 x1"]]);
    assert_eq!(credits, BTreeMap::from([(1, 1), (2, 1), (3, 1)]));
}

#[test]
fn a_channel_of_another_wallet_ends_the_session_by_name() {
    let hub = hub(9);
    hub.reserve(1, 5000, OTHER);
    let (outgoing, _writer) = outgoing_queue();
    let mut inbox = Inbox::new(&hub.setup, SESSION, NODE, outgoing);
    let ending = inbox.deliver(channels(&[(1, fails(1))]), |_| Credit::none()).unwrap_err();
    assert_eq!(ending.code, ErrorCode::NotYourChannel);
    let ending = inbox.deliver(channels(&[(1, vec![proposal()])]), |_| Credit::none()).unwrap_err();
    assert_eq!(ending.code, ErrorCode::NotYourChannel);
    assert_eq!(hub.heard(), [Vec::<String>::new(), Vec::new()]);
}

#[test]
fn an_unknown_channel_is_left_to_a_shard_to_answer() {
    let hub = hub(9);
    let (outgoing, _writer) = outgoing_queue();
    let mut inbox = Inbox::new(&hub.setup, SESSION, NODE, outgoing);
    inbox.deliver(channels(&[(7, fails(1))]), |_| Credit::none()).unwrap();
    assert_eq!(hub.heard(), [vec!["peer 7 x1".to_owned()], Vec::new()]);
}

#[test]
fn a_proposal_is_placed_once_and_what_follows_goes_the_same_way() {
    let hub = hub(9);
    let (outgoing, _writer) = outgoing_queue();
    let mut inbox = Inbox::new(&hub.setup, SESSION, NODE, outgoing);
    inbox.deliver(channels(&[(1, vec![proposal()])]), |_| Credit::none()).unwrap();
    inbox.deliver(channels(&[(1, fails(1))]), |_| Credit::none()).unwrap();
    // A second proposal under the same id is the channel's to judge.
    inbox.deliver(channels(&[(1, vec![proposal()])]), |_| Credit::none()).unwrap();
    let mut heard = hub.heard();
    heard.sort_by_key(Vec::len);
    assert_eq!(heard, [vec![], vec!["accept 1", "peer 1 x1", "peer 1 x1"]]);
    assert!(!hub.setup.directory.place(&ChannelId([1; 32])).unwrap().hosted);
}

#[test]
fn one_opening_too_many_is_refused_and_the_session_goes_on() {
    let hub = hub(1);
    let (outgoing, _writer) = outgoing_queue();
    let mut inbox = Inbox::new(&hub.setup, SESSION, NODE, outgoing.clone());
    inbox.deliver(channels(&[(1, vec![proposal()]), (2, vec![proposal()])]), |_| Credit::none()).unwrap();
    assert_eq!(hub.heard().concat(), ["accept 1"]);
    assert_eq!(hub.setup.directory.place(&ChannelId([2; 32])), None);
    assert!(!outgoing.is_ended());
    // While the disk is nearly full none is taken at all.
    hub.setup
        .directory
        .remove(&ChannelId([1; 32]), hub.setup.directory.place(&ChannelId([1; 32])).unwrap().owner);
    hub.setup.gate.set_shut(true);
    inbox.deliver(channels(&[(3, vec![proposal()])]), |_| Credit::none()).unwrap();
    assert!(hub.heard().concat().is_empty());
}

#[test]
fn proposals_of_fresh_keys_do_not_fill_the_hub_without_bound() {
    let hub = hub(9);
    for stranger in 0..u32::try_from(crate::limits::MAX_UNFUNDED).unwrap() {
        let mut name = [0x55; 33];
        name[..4].copy_from_slice(&stranger.to_be_bytes());
        let id = ChannelId(*name.first_chunk().unwrap());
        let (owner, node) = (OwnerId(5_000 + u64::from(stranger)), Point::from_bytes(name));
        hub.setup.directory.reserve(id, Place { owner, node, hosted: false }, 9).unwrap();
    }
    let (outgoing, mut writer) = outgoing_queue();
    let mut inbox = Inbox::new(&hub.setup, SESSION, NODE, outgoing);
    inbox.deliver(channels(&[(1, vec![proposal()])]), |_| Credit::none()).unwrap();
    assert!(hub.heard().concat().is_empty());
    let told = writer.queued();
    let text =
        "16384 channels wait for their funding, which is the most for wallets that have no other channel";
    assert!(told.iter().any(|item| format!("{item:?}").contains(text)), "{told:?}");
    assert_eq!(hub.setup.directory.place(&ChannelId([1; 32])), None);
}

#[test]
fn everything_else_goes_to_the_control_thread() {
    let hub = hub(9);
    let (outgoing, _writer) = outgoing_queue();
    let mut inbox = Inbox::new(&hub.setup, SESSION, NODE, outgoing);
    let relay = Relay { stream: channel::ids::StreamId([1; 16]), kind: RelayKind::Accept };
    let request = InboundRequest { request_id: [1; 16], amount_sat: 5, max_fee_sat: 0 };
    let contents = Contents { relays: vec![relay], inbound_requests: vec![request], ..Contents::default() };
    let mut credits = 0;
    let counted = |count| {
        credits += count;
        Credit::none()
    };
    inbox.deliver(contents, counted).unwrap();
    assert_eq!(credits, 2, "the control thread's mailbox is bounded by the session's window like a shard's");
    let mails: Vec<ControlMail> = hub.control.try_iter().collect();
    assert!(matches!(mails[..], [ControlMail::Relay { .. }, ControlMail::Inbound { .. }]), "{mails:?}");
}

#[test]
fn an_answer_that_only_the_hub_gives_is_malformed_from_a_wallet() {
    let hub = hub(9);
    let (outgoing, _writer) = outgoing_queue();
    let mut inbox = Inbox::new(&hub.setup, SESSION, NODE, outgoing);
    let reply = InboundReply { request_id: [1; 16], result: Ok(ChannelId([1; 32])) };
    let contents = Contents { inbound_replies: vec![reply], ..Contents::default() };
    let ending = inbox.deliver(contents, |_| Credit::none()).unwrap_err();
    assert_eq!(ending.code, ErrorCode::FrameMalformed);
}
