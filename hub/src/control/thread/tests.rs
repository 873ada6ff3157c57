//! The control thread by turns, over a journal on disk whose commits the test makes.

use std::path::Path;

use bitcoin::Amount;
use channel::amount::Msat;
use channel::ids::{ChannelId, SessionId};
use channel::keys::Point;
use journal::{Committer, Header, Headroom, Journal, Opened, Options};
use proto::error::ErrorCode;
use proto::frame::InboundRequest;
use proto::hub::v1::StreamRefusal;
use proto::relay::{Relay, RelayKind, StreamTerms};
use proto::request_id::RequestId;
use shard::{Credit, Refused};

use super::*;
use crate::directory::Place;
use crate::placement::Placement;
use crate::session::{Writer, channel as outgoing_queue};

const NOW: u64 = 1_700_000_000_000;
const PAYER: Point = Point::from_bytes([2; 33]);
const PAYEE: Point = Point::from_bytes([3; 33]);
const THIRD: Point = Point::from_bytes([4; 33]);
const STREAM: StreamId = StreamId([9; 16]);

struct Fixture {
    control: Control,
    committer: Committer,
    shard: Receiver<Mail>,
    sessions: Arc<Sessions>,
    directory: Arc<Directory>,
    gate: Arc<Gate>,
    chain: mpsc::UnboundedReceiver<ToDesk>,
    /// What the desk says the coins allow.
    spendable: Option<Amount>,
}

/// Enough for the largest channel and a coin.
const MAX_FEE_SAT: u64 = 500 + 1_000 + 10_000;

/// A control thread over the journal in the folder, with what an earlier run left there.
fn fixture(folder: &Path) -> Fixture {
    let header = Header { logic_version: 1, network: "regtest".into(), owner: b"test".to_vec() };
    let Opened { log, committer, recovery, .. } =
        Journal::open(&folder.join("journal.redb"), &header, Options::small()).unwrap();
    let (shard_sender, shard) = crossbeam_channel::unbounded();
    let (control_sender, _) = crossbeam_channel::unbounded();
    let mailboxes = Mailboxes::new(vec![shard_sender], control_sender, Arc::new(Placement::new(1, 1)));
    let sessions = Arc::new(Sessions::new(mailboxes.clone(), 9, 99));
    let (directory, gate) = (Arc::<Directory>::default(), Arc::<Gate>::default());
    let (chain_sender, chain) = mpsc::unbounded_channel();
    let config = crate::config::load(&crate::config::Layers::default()).unwrap();
    let setup = ControlSetup {
        log,
        mailboxes,
        sessions: sessions.clone(),
        directory: directory.clone(),
        gate: gate.clone(),
        chain: chain_sender,
        inbound: config::Inbound {
            max_channel_sat: 1_000_000,
            max_sat_per_wallet: 1_500_000,
            max_channels_per_wallet: 2,
            reserve_sat: 10_000,
            fee_base_sat: 500,
            fee_ppm: 1_000,
        },
        streams: config::Streams { max_per_wallet: 1, idle_seconds: 100 },
        max_channels_per_wallet: 9,
        min_capacity_sat: config.policy.min_capacity_sat,
        room: Room::on_file_system(folder.to_owned(), Headroom { minimum: 1 }),
        world: World::real(),
    };
    let control = Control::recover(setup, &recovery).unwrap();
    let spendable = Some(Amount::from_sat(10_000_000));
    Fixture { control, committer, shard, sessions, directory, gate, chain, spendable }
}

impl Fixture {
    fn turn(&mut self, mails: impl IntoIterator<Item = ControlMail>) {
        self.control.turn(NOW, Instant::now(), mails.into_iter()).unwrap();
    }

    /// The disk catches up.
    fn commit(&mut self) {
        if let Some(commit) = self.committer.turn().unwrap() {
            self.turn([ControlMail::Durable(commit.durable)]);
        }
    }

    /// Connects a node that has a channel; what it is told comes out of the writer.
    fn connect(&self, node: Point) -> (SessionId, Writer) {
        let place = Place { owner: OwnerId(6000 + u64::from(node.as_bytes()[0])), node, hosted: true };
        let _ = self.directory.reserve(channel_of(&node), place, 9);
        let (outgoing, writer) = outgoing_queue();
        // Connected to the end of the test.
        let sessions: &'static Sessions = Box::leak(Box::new(self.sessions.clone()));
        let session = Box::leak(Box::new(sessions.begin(node, outgoing, None, NOW).unwrap()));
        (session.id, writer)
    }

    fn relay(&mut self, (session, node): (SessionId, Point), kind: RelayKind) {
        let relay = Relay { stream: STREAM, kind };
        self.turn([ControlMail::Relay { session, node, relay, credit: Credit::none() }]);
    }

    fn inbound(&mut self, session: SessionId, request_id: [u8; 16], amount_sat: u64) {
        self.inbound_at(session, request_id, amount_sat, MAX_FEE_SAT);
    }

    fn inbound_at(&mut self, session: SessionId, request_id: [u8; 16], amount_sat: u64, max_fee_sat: u64) {
        let request = InboundRequest { request_id, amount_sat, max_fee_sat };
        self.turn([ControlMail::Inbound { session, node: PAYER, request, credit: Credit::none() }]);
        self.funds();
    }

    /// The desk answers everything it was asked.
    fn funds(&mut self) {
        while let Ok(asked) = self.chain.try_recv() {
            let ToDesk::Funds { session, node, request } = asked else { panic!("{asked:?}") };
            let spendable = self.spendable;
            self.turn([ControlMail::Funds { session, node, request, spendable }]);
        }
    }

    /// The opening that the shard is asked for.
    fn opening(&self) -> Option<ChannelId> {
        self.shard.try_iter().find_map(|mail| match mail {
            Mail::Open { request, .. } => Some(request.channel_id),
            _ => None,
        })
    }
}

/// The channel that a connected node has.
fn channel_of(node: &Point) -> ChannelId {
    ChannelId([node.as_bytes()[0]; 32])
}

/// The relays a wallet was told.
fn relays(writer: &mut Writer) -> Vec<RelayKind> {
    let relay = |what| match what {
        ToWallet::Relay(relay) => Some(relay.kind),
        _ => None,
    };
    writer.queued().into_iter().filter_map(relay).collect()
}

/// The answers to requests for channels a wallet was told: the channel, or why not.
fn answers(writer: &mut Writer) -> Vec<Result<ChannelId, ErrorCode>> {
    let answer = |what| match what {
        ToWallet::InboundReply(reply) => Some(reply.result.map_err(|detail| detail.code())),
        _ => None,
    };
    writer.queued().into_iter().filter_map(answer).collect()
}

fn id(number: u8) -> [u8; 16] {
    RequestId::new(NOW, [number; 10]).0
}

fn terms() -> StreamTerms {
    StreamTerms {
        payee: PAYEE,
        payer: PAYER,
        fresh_key: PAYER,
        amount_msat: Msat::from_u32(1),
        ticks: 10,
        ticks_per_second: 0,
        max_in_flight: 1,
        authenticator: [0; 32],
    }
}

#[test]
fn a_stream_is_proposed_to_the_payee_only_once_it_is_durable() {
    let folder = tempfile::tempdir().unwrap();
    let mut hub = fixture(folder.path());
    let (payer, mut to_payer) = hub.connect(PAYER);
    let (payee, mut to_payee) = hub.connect(PAYEE);
    hub.relay((payer, PAYER), RelayKind::Open(terms()));
    assert!(relays(&mut to_payee).is_empty());
    hub.commit();
    assert_eq!(relays(&mut to_payee), [RelayKind::Open(terms())]);
    assert_eq!(hub.directory.payee(&STREAM), Some(PAYEE));

    // Only the payee accepts.
    hub.relay((payer, PAYER), RelayKind::Accept);
    hub.commit();
    assert!(relays(&mut to_payer).is_empty());
    hub.relay((payee, PAYEE), RelayKind::Accept);
    hub.commit();
    assert_eq!(relays(&mut to_payer), [RelayKind::Accept]);

    let end = RelayKind::End { text: "done".into() };
    hub.relay((payer, PAYER), end.clone());
    hub.commit();
    assert_eq!(relays(&mut to_payee), [end]);
    assert_eq!(hub.directory.payee(&STREAM), None);
}

#[test]
fn each_rule_of_proposing_a_stream_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let mut hub = fixture(folder.path());
    let (payer, mut to_payer) = hub.connect(PAYER);
    let mut refused = |hub: &mut Fixture, terms: StreamTerms| {
        hub.relay((payer, PAYER), RelayKind::Open(terms));
        hub.commit();
        match relays(&mut to_payer).pop() {
            Some(RelayKind::Refuse { reason, .. }) => Some(reason),
            _ => None,
        }
    };
    let foreign = StreamTerms { payer: PAYEE, ..terms() };
    assert_eq!(refused(&mut hub, foreign), Some(StreamRefusal::BadTerms));
    let own = StreamTerms { payee: PAYER, ..terms() };
    assert_eq!(refused(&mut hub, own), Some(StreamRefusal::BadTerms));
    assert_eq!(refused(&mut hub, terms()), Some(StreamRefusal::UnknownRecipient));
    let place = Place { owner: OwnerId(5000), node: PAYEE, hosted: true };
    hub.directory.reserve(ChannelId([100; 32]), place, 9).unwrap();
    assert_eq!(refused(&mut hub, terms()), Some(StreamRefusal::RecipientOffline));
    let (_, _to_payee) = hub.connect(PAYEE);
    assert_eq!(refused(&mut hub, terms()), None);
    let (_, _to_third) = hub.connect(THIRD);
    let elsewhere = StreamTerms { payee: THIRD, ..terms() };
    assert_eq!(refused(&mut hub, elsewhere.clone()), Some(StreamRefusal::Duplicate));
    hub.gate.set_shut(true);
    assert_eq!(refused(&mut hub, elsewhere), Some(StreamRefusal::TooMany));
}

#[test]
fn a_repeated_proposal_is_passed_on_again_and_nothing_is_journaled() {
    let folder = tempfile::tempdir().unwrap();
    let mut hub = fixture(folder.path());
    let (payer, mut to_payer) = hub.connect(PAYER);
    let (_, mut to_payee) = hub.connect(PAYEE);
    hub.relay((payer, PAYER), RelayKind::Open(terms()));
    hub.commit();
    assert_eq!(relays(&mut to_payee), [RelayKind::Open(terms())]);
    // The payee's answer was lost, or the payer asks for the last receipt.
    hub.relay((payer, PAYER), RelayKind::Open(terms()));
    assert!(hub.committer.turn().unwrap().is_none());
    assert_eq!(relays(&mut to_payee), [RelayKind::Open(terms())]);
    assert!(relays(&mut to_payer).is_empty());
}

#[test]
fn a_stranger_without_a_channel_opens_no_stream_and_gets_none() {
    let folder = tempfile::tempdir().unwrap();
    let mut hub = fixture(folder.path());
    let (payer, mut to_payer) = hub.connect(PAYER);
    let (_, mut to_payee) = hub.connect(PAYEE);
    for stranger in [PAYER, PAYEE] {
        let place = hub.directory.place(&channel_of(&stranger)).unwrap();
        hub.directory.remove(&channel_of(&stranger), place.owner);
        hub.relay((payer, PAYER), RelayKind::Open(terms()));
        hub.commit();
        assert!(matches!(relays(&mut to_payer)[..], [RelayKind::Refuse { .. }]));
        assert!(relays(&mut to_payee).is_empty());
        assert!(hub.control.registry().streams().is_empty());
        hub.directory.reserve(channel_of(&stranger), place, 9).unwrap();
    }
}

#[test]
fn a_stream_survives_a_restart_and_ends_when_nobody_speaks_of_it() {
    let folder = tempfile::tempdir().unwrap();
    {
        let mut hub = fixture(folder.path());
        let (payer, _to_payer) = hub.connect(PAYER);
        let (_, _to_payee) = hub.connect(PAYEE);
        hub.relay((payer, PAYER), RelayKind::Open(terms()));
        hub.commit();
    }
    let mut hub = fixture(folder.path());
    assert_eq!(hub.directory.payee(&STREAM), Some(PAYEE));
    let (_, mut to_payer) = hub.connect(PAYER);
    // The hub was down for longer than streams may be idle, which is not their fault.
    let later = Instant::now() + 2 * SWEEP_INTERVAL;
    hub.control.turn(NOW + 900_000, later, std::iter::empty()).unwrap();
    assert_eq!(hub.directory.payee(&STREAM), Some(PAYEE));
    hub.control.turn(NOW + 1_000_000, later + 2 * SWEEP_INTERVAL, std::iter::empty()).unwrap();
    assert_eq!(hub.directory.payee(&STREAM), Some(PAYEE));
    hub.control.turn(NOW + 1_000_001, later + 4 * SWEEP_INTERVAL, std::iter::empty()).unwrap();
    assert_eq!(hub.directory.payee(&STREAM), None);
    hub.commit();
    assert!(matches!(relays(&mut to_payer)[..], [RelayKind::End { .. }]));
}

#[test]
fn a_request_for_a_channel_opens_one_and_a_repeat_gets_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let mut hub = fixture(folder.path());
    let (session, mut to_wallet) = hub.connect(PAYER);
    hub.inbound(session, id(1), 1_000_000);
    let channel = hub.opening().expect("the shard is asked");
    hub.commit();
    // The shard's answer is still to come: neither request is answered, and nothing opens twice.
    hub.inbound(session, id(1), 1_000_000);
    hub.commit();
    assert_eq!(hub.opening(), None);
    assert!(answers(&mut to_wallet).is_empty());
    let request = RequestId(id(1));
    hub.turn([ControlMail::Opened { node: PAYER, request, result: Ok(()) }]);
    assert!(answers(&mut to_wallet).is_empty());
    hub.commit();
    assert_eq!(answers(&mut to_wallet), [Ok(channel)]);
    hub.inbound(session, id(1), 1_000_000);
    hub.inbound(session, id(1), 999_999);
    hub.commit();
    assert_eq!(answers(&mut to_wallet), [Ok(channel), Err(ErrorCode::RequestIdReused)]);
}

#[test]
fn each_rule_of_the_hubs_own_openings_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let mut hub = fixture(folder.path());
    let (session, mut to_wallet) = hub.connect(PAYER);
    let old = RequestId::new(NOW - proto::limits::REQUEST_ID_MEMORY_MS - 1, [1; 10]).0;
    let rows = [
        (id(1), 1_000_001, ErrorCode::AgainstPolicy),
        (id(1), 1, ErrorCode::AgainstPolicy),
        ([1; 16], 1_000_000, ErrorCode::RequestIdMalformed),
        (old, 1_000_000, ErrorCode::RequestIdTooOld),
    ];
    for (request, amount, expected) in rows {
        hub.inbound(session, request, amount);
        hub.commit();
        assert_eq!(answers(&mut to_wallet), [Err(expected)]);
        assert_eq!(hub.opening(), None);
    }
    hub.inbound(session, id(2), 1_000_000);
    hub.inbound(session, id(3), 500_001);
    hub.commit();
    assert_eq!(answers(&mut to_wallet), [Err(ErrorCode::AgainstPolicy)]);
    hub.gate.set_shut(true);
    hub.inbound(session, id(4), 100_000);
    hub.commit();
    assert_eq!(answers(&mut to_wallet), [Err(ErrorCode::DiskNearlyFull)]);
}

/// The price of the channel, the coin and its price, as the shard is told.
fn told_prices(hub: &Fixture) -> Option<(Msat, u64, Msat)> {
    hub.shard.try_iter().find_map(|mail| match mail {
        Mail::Open { request, .. } => {
            Some((request.price_msat, request.reserve_sat, request.reserve_price_msat))
        }
        _ => None,
    })
}

#[test]
fn a_channel_is_priced_and_no_wallet_pays_more_than_it_allows() {
    let folder = tempfile::tempdir().unwrap();
    let mut hub = fixture(folder.path());
    let (session, mut to_wallet) = hub.connect(PAYER);
    hub.inbound_at(session, id(1), 600_000, 1_099);
    hub.commit();
    assert_eq!(answers(&mut to_wallet), [Err(ErrorCode::FeeAboveLimit)]);
    assert_eq!(told_prices(&hub), None);
    // It is the wallet's first, but what it allows does not cover the coin.
    hub.inbound_at(session, id(2), 600_000, 11_099);
    assert_eq!(told_prices(&hub), Some((Msat::from_sat_u32(1_100), 0, Msat::ZERO)));
    let folder = tempfile::tempdir().unwrap();
    let mut hub = fixture(folder.path());
    let (session, _to_wallet) = hub.connect(PAYER);
    hub.inbound_at(session, id(1), 600_999, 11_100);
    let coin = Msat::from_sat_u32(10_000);
    assert_eq!(told_prices(&hub), Some((Msat::from_sat_u32(1_100), 10_000, coin)), "rounded down");
}

#[test]
fn where_channels_cost_nothing_coins_do_not_either() {
    let folder = tempfile::tempdir().unwrap();
    let mut hub = fixture(folder.path());
    (hub.control.setup.inbound.fee_base_sat, hub.control.setup.inbound.fee_ppm) = (0, 0);
    let (session, _to_wallet) = hub.connect(PAYER);
    hub.inbound_at(session, id(1), 600_000, 0);
    assert_eq!(told_prices(&hub), Some((Msat::ZERO, 10_000, Msat::ZERO)));
}

#[test]
fn a_channel_has_the_name_that_its_wallet_can_tell_beforehand() {
    let folder = tempfile::tempdir().unwrap();
    let mut hub = fixture(folder.path());
    let (session, _to_wallet) = hub.connect(PAYER);
    hub.inbound(session, id(1), 600_000);
    assert_eq!(hub.opening(), Some(ChannelId::of_request(&PAYER, &id(1))));
}

#[test]
fn only_a_wallets_first_channel_brings_it_a_coin() {
    let folder = tempfile::tempdir().unwrap();
    let mut hub = fixture(folder.path());
    let (session, _) = hub.connect(PAYER);
    let mut coins = Vec::new();
    for request in [1, 2] {
        hub.inbound(session, id(request), 500_000);
        hub.commit();
        let asked = hub.shard.try_iter().find_map(|mail| match mail {
            Mail::Open { request, .. } => Some(request.reserve_sat),
            _ => None,
        });
        coins.extend(asked);
    }
    assert_eq!(coins, [10_000, 0]);
}

#[test]
fn an_opening_that_the_coins_do_not_allow_is_refused_early_and_may_be_asked_for_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut hub = fixture(folder.path());
    let (session, mut to_wallet) = hub.connect(PAYER);
    // One satoshi short of the channel and the coin for a wallet that has none.
    hub.spendable = Some(Amount::from_sat(1_009_999));
    hub.inbound(session, id(1), 1_000_000);
    assert_eq!(hub.opening(), None);
    assert!(hub.committer.turn().unwrap().is_none(), "a refusal leaves nothing in the journal");
    assert_eq!(answers(&mut to_wallet), [Err(ErrorCode::InsufficientFunds)]);
    hub.spendable = Some(Amount::from_sat(1_010_000));
    hub.inbound(session, id(1), 1_000_000);
    assert!(hub.opening().is_some());
    hub.spendable = None;
    hub.inbound(session, id(2), 100_000);
    hub.commit();
    assert_eq!(answers(&mut to_wallet), [Err(ErrorCode::Stopping)]);
}

#[test]
fn a_request_repeated_before_the_desk_answers_opens_one_channel() {
    let folder = tempfile::tempdir().unwrap();
    let mut hub = fixture(folder.path());
    let (session, _to_wallet) = hub.connect(PAYER);
    let request = InboundRequest { request_id: id(1), amount_sat: 500_000, max_fee_sat: MAX_FEE_SAT };
    for _ in 0..2 {
        let (request, credit) = (request.clone(), Credit::none());
        hub.turn([ControlMail::Inbound { session, node: PAYER, request, credit }]);
    }
    hub.funds();
    assert!(hub.opening().is_some());
    assert_eq!(hub.opening(), None);
    assert_eq!(hub.control.registry().inbound().len(), 1);
}

#[test]
fn a_refused_opening_is_not_remembered_and_one_lost_in_a_crash_may_be_asked_for_again() {
    let folder = tempfile::tempdir().unwrap();
    {
        let mut hub = fixture(folder.path());
        let (session, mut to_wallet) = hub.connect(PAYER);
        hub.inbound(session, id(1), 1_000_000);
        assert!(hub.opening().is_some());
        let result = Err(Refused::NotConnected(session));
        hub.turn([ControlMail::Opened { node: PAYER, request: RequestId(id(1)), result }]);
        hub.commit();
        assert_eq!(answers(&mut to_wallet), [Err(ErrorCode::ChannelRefused)]);
        hub.inbound(session, id(1), 1_000_000);
        assert!(hub.opening().is_some());
        hub.commit();
    }
    // The process died before the shard took it: no channel of that name was published.
    let mut hub = fixture(folder.path());
    hub.turn([ControlMail::Started]);
    hub.commit();
    let (session, _to_wallet) = hub.connect(PAYER);
    hub.inbound(session, id(1), 1_000_000);
    assert!(hub.opening().is_some());
}

#[test]
fn a_clean_stop_leaves_a_snapshot_that_the_next_start_reads() {
    let folder = tempfile::tempdir().unwrap();
    {
        let mut hub = fixture(folder.path());
        let (payer, _to_payer) = hub.connect(PAYER);
        let (_, _to_payee) = hub.connect(PAYEE);
        hub.relay((payer, PAYER), RelayKind::Open(terms()));
        hub.turn([ControlMail::Stop]);
        assert!(!hub.control.stopped());
        hub.commit();
        assert!(hub.control.stopped());
        assert_eq!(hub.committer.finish().unwrap().log_rows, 0);
    }
    let hub = fixture(folder.path());
    assert_eq!(hub.directory.payee(&STREAM), Some(PAYEE));
}
