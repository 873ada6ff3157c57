//! Whole connections over channels in memory: handshake, frames, endings.

use std::sync::Arc;
use std::time::Duration;

use channel::ids::ChannelId;
use channel::keys::Point;
use channel::seed_signer::SeedSigner;
use channel::signer::Signer;
use crossbeam_channel::Receiver;
use daemon::world::World;
use proto::handshake::ClientHandshake;
use proto::hub::v1 as pb;
use proto::hub::v1::frame::Kind;
use shard::Mail;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;

use super::*;
use crate::mailboxes::Mailboxes;
use crate::placement::Placement;
use crate::session::Sessions;

const EXPORTER: [u8; EXPORTER_BYTES] = [9; EXPORTER_BYTES];

struct Hub {
    serving: Arc<Serving>,
    node: Point,
    shard: Receiver<Mail>,
}

fn signer(byte: u8) -> SeedSigner {
    SeedSigner::new(&[byte; 64])
}

fn hub_with(timeout: Duration) -> Hub {
    let (shard_sender, shard) = crossbeam_channel::unbounded();
    let (control, _) = crossbeam_channel::unbounded();
    let mailboxes = Mailboxes::new(vec![shard_sender], control, Arc::new(Placement::new(1, 1)));
    let sessions = Arc::new(Sessions::new(mailboxes.clone(), 9, 9));
    let inbox = InboxSetup {
        mailboxes,
        directory: Arc::default(),
        sessions,
        gate: Arc::default(),
        max_channels_per_wallet: 9,
        world: World::real(),
    };
    let serving = Serving {
        handshake: HandshakeSetup { signer: Arc::new(signer(1)), timeout, world: World::real() },
        inbox,
        messages_per_second: 1_000_000,
        welcome: Box::new(|| Welcome { height: 7, ..Welcome::default() }),
    };
    Hub { serving: Arc::new(serving), node: signer(1).node_id(), shard }
}

fn hub() -> Hub {
    hub_with(Duration::from_secs(60))
}

/// A wallet's end of a connection.
struct Wallet {
    signer: SeedSigner,
    frames: mpsc::Sender<Result<Frame, Status>>,
    answers: mpsc::Receiver<Result<Frame, Status>>,
    served: JoinHandle<()>,
}

impl Wallet {
    fn connect(hub: &Hub, seed: u8) -> Wallet {
        let (frames, incoming) = mpsc::channel(16);
        let (outgoing, answers) = mpsc::channel(16);
        let incoming = ReceiverStream::new(incoming);
        let served = tokio::spawn(serve(hub.serving.clone(), EXPORTER, None, incoming, outgoing, || {}));
        Wallet { signer: signer(seed), frames, answers, served }
    }

    async fn send(&self, kind: Kind) {
        let _ = self.frames.send(Ok(Frame { kind: Some(kind) })).await;
    }

    async fn next(&mut self) -> Kind {
        self.answers.recv().await.expect("an answer").expect("a frame").kind.expect("a kind")
    }

    /// The goodbye and the status that end the connection.
    async fn ending(&mut self) -> (ErrorCode, String) {
        loop {
            if let Kind::Goodbye(goodbye) = self.next().await {
                let status = self.answers.recv().await.expect("a status").expect_err("a status");
                assert_eq!(proto::error::parse(&status).expect("a detail").code(), goodbye.code());
                return (goodbye.code(), goodbye.text);
            }
        }
    }

    /// The handshake up to the proof, which `change` may spoil.
    async fn shake(
        &mut self,
        hub: &Hub,
        exporter: [u8; EXPORTER_BYTES],
        change: impl FnOnce(&mut pb::ClientProof),
    ) {
        let (handshake, hello) = ClientHandshake::start(&self.signer, hub.node, [4; 32], exporter);
        self.send(Kind::ClientHello(hello)).await;
        let Kind::HubHello(answer) = self.next().await else { panic!("no HubHello") };
        let mut proof = match handshake.prove(&self.signer, &answer) {
            Ok(proof) => proof,
            // A wallet in another TLS session sees that the hub's signature is for this one; it goes on anyway.
            Err(_) => pb::ClientProof { signature: answer.signature },
        };
        change(&mut proof);
        self.send(Kind::ClientProof(proof)).await;
    }

    async fn connected(hub: &Hub, seed: u8) -> Wallet {
        let mut wallet = Wallet::connect(hub, seed);
        wallet.shake(hub, EXPORTER, |_| {}).await;
        let Kind::Welcome(welcome) = wallet.next().await else { panic!("no Welcome") };
        assert_eq!(welcome.height, 7);
        wallet
    }
}

fn batch(channels: Vec<pb::ChannelMessages>) -> Kind {
    Kind::Batch(pb::Batch { channels, ..pb::Batch::default() })
}

fn fail_message(id: u64) -> pb::ChannelMessage {
    let fail = pb::UpdateFailHtlc { id, reason: pb::FailureReason::NoLiquidity.into() };
    pb::ChannelMessage { kind: Some(pb::channel_message::Kind::UpdateFailHtlc(fail)) }
}

#[tokio::test]
async fn a_proven_wallet_is_welcomed_and_its_messages_reach_the_shard() {
    let hub = hub();
    let wallet = Wallet::connected(&hub, 2).await;
    let messages = pb::ChannelMessages { channel_id: vec![5; 32].into(), messages: vec![fail_message(1)] };
    wallet.send(batch(vec![messages])).await;
    drop(wallet.frames);
    wallet.served.await.unwrap();
    let mails: Vec<Mail> = hub.shard.try_iter().collect();
    let [Mail::SessionUp { node, .. }, Mail::Peer { channel, messages, .. }, Mail::SessionDown { .. }] =
        &mails[..]
    else {
        panic!("{mails:?}")
    };
    assert_eq!(*node, signer(2).node_id());
    assert_eq!((*channel, messages.len()), (ChannelId([5; 32]), 1));
}

#[tokio::test]
async fn each_wrong_handshake_is_named() {
    let hub = hub();
    // Nothing at all, and a frame that is not a hello.
    let mut wallet = Wallet::connect(&hub, 2);
    wallet.send(batch(Vec::new())).await;
    let (code, text) = wallet.ending().await;
    assert_eq!(code, ErrorCode::HandshakeFailed);
    assert!(text.contains("Batch") && text.contains("ClientHello"), "{text}");

    let mut wallet = Wallet::connect(&hub, 2);
    let (_, mut hello) = ClientHandshake::start(&wallet.signer, hub.node, [4; 32], EXPORTER);
    hello.version = 99;
    wallet.send(Kind::ClientHello(hello)).await;
    assert_eq!(wallet.ending().await.0, ErrorCode::UnsupportedVersion);

    let mut wallet = Wallet::connect(&hub, 2);
    wallet.shake(&hub, EXPORTER, |proof| proof.signature = vec![1; 64].into()).await;
    let (code, text) = wallet.ending().await;
    assert_eq!(code, ErrorCode::HandshakeFailed);
    assert!(text.contains("wallet's signature"), "{text}");

    // A proof for another TLS session: what a man in the middle has.
    let mut wallet = Wallet::connect(&hub, 2);
    wallet.shake(&hub, [8; EXPORTER_BYTES], |_| {}).await;
    assert_eq!(wallet.ending().await.0, ErrorCode::HandshakeFailed);
    assert!(hub.shard.is_empty());
}

#[tokio::test]
async fn a_proof_of_an_earlier_connection_is_worth_nothing() {
    let hub = hub();
    let mut seen = pb::ClientProof::default();
    let mut first = Wallet::connect(&hub, 2);
    first.shake(&hub, EXPORTER, |proof| seen = proof.clone()).await;
    assert!(matches!(first.next().await, Kind::Welcome(_)));
    let mut replay = Wallet::connect(&hub, 2);
    replay.shake(&hub, EXPORTER, |proof| *proof = seen).await;
    assert_eq!(replay.ending().await.0, ErrorCode::HandshakeFailed);
}

#[tokio::test]
async fn the_hubs_own_key_is_refused() {
    let hub = hub();
    let mut wallet = Wallet::connect(&hub, 1);
    let (_, hello) = ClientHandshake::start(&wallet.signer, hub.node, [4; 32], EXPORTER);
    wallet.send(Kind::ClientHello(hello)).await;
    assert_eq!(wallet.ending().await.0, ErrorCode::HandshakeFailed);
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_is_ended_in_time() {
    let hub = hub_with(Duration::from_millis(500));
    let mut wallet = Wallet::connect(&hub, 2);
    let (code, text) = wallet.ending().await;
    assert_eq!(code, ErrorCode::HandshakeFailed);
    assert!(text.contains("500 ms"), "{text}");
}

#[tokio::test]
async fn each_wrong_frame_is_named() {
    let hub = hub();
    let too_many = vec![fail_message(1); proto::limits::MAX_MESSAGES_PER_FRAME + 1];
    let text = "x".repeat(proto::limits::MAX_FRAME_BYTES);
    let error = pb::channel_message::Kind::ChannelError(pb::ChannelError { text, cannot_publish: false });
    let large = vec![pb::ChannelMessage { kind: Some(error) }];
    let one = |messages| vec![pb::ChannelMessages { channel_id: vec![5; 32].into(), messages }];
    let rows: Vec<(&str, Option<Kind>, ErrorCode)> = vec![
        ("no kind", None, ErrorCode::FrameMalformed),
        ("a handshake frame", Some(Kind::Welcome(Welcome::default())), ErrorCode::FrameMalformed),
        (
            "a message without kind",
            Some(batch(one(vec![pb::ChannelMessage::default()]))),
            ErrorCode::FrameMalformed,
        ),
        ("too many messages", Some(batch(one(too_many))), ErrorCode::LimitReached),
        ("too many bytes", Some(batch(one(large))), ErrorCode::FrameTooLarge),
        (
            "a short channel id",
            Some(batch(vec![pb::ChannelMessages {
                channel_id: vec![5; 31].into(),
                messages: vec![fail_message(1)],
            }])),
            ErrorCode::BadField,
        ),
    ];
    for (what, kind, expected) in rows {
        let mut wallet = Wallet::connected(&hub, 2).await;
        wallet.frames.send(Ok(Frame { kind })).await.unwrap();
        assert_eq!(wallet.ending().await.0, expected, "{what}");
        wallet.served.await.unwrap();
    }
    let peers = hub.shard.try_iter().filter(|mail| matches!(mail, Mail::Peer { .. })).count();
    assert_eq!(peers, 0);
}

#[tokio::test]
async fn a_message_above_grpcs_own_limit_is_answered_by_name() {
    let hub = hub();
    let mut wallet = Wallet::connected(&hub, 2).await;
    let refused = Status::out_of_range("Error, decoded message length too large");
    wallet.frames.send(Err(refused)).await.unwrap();
    assert_eq!(wallet.ending().await.0, ErrorCode::FrameTooLarge);
}

#[tokio::test]
async fn a_newer_connection_takes_over() {
    let hub = hub();
    let mut old = Wallet::connected(&hub, 2).await;
    let new = Wallet::connected(&hub, 2).await;
    assert_eq!(old.ending().await.0, ErrorCode::Superseded);
    old.served.await.unwrap();
    assert_eq!(hub.serving.inbox.sessions.count(), 1);
    drop(new.frames);
    new.served.await.unwrap();
    assert_eq!(hub.serving.inbox.sessions.count(), 0);
}

#[tokio::test]
async fn a_ping_is_answered() {
    let hub = hub();
    let mut wallet = Wallet::connected(&hub, 2).await;
    let ping = Some(pb::Ping { nonce: 42 });
    wallet.send(Kind::Batch(pb::Batch { ping, ..pb::Batch::default() })).await;
    let Kind::Batch(answer) = wallet.next().await else { panic!("no batch") };
    assert_eq!(answer.pong.unwrap().nonce, 42);
}

#[tokio::test]
async fn a_wallet_that_sends_faster_than_shards_work_is_made_to_wait() {
    let hub = hub();
    let wallet = Wallet::connected(&hub, 2).await;
    let messages = vec![fail_message(1); 16_384];
    let frame =
        || batch(vec![pb::ChannelMessages { channel_id: vec![5; 32].into(), messages: messages.clone() }]);
    // Nobody empties the mailbox: two frames fill the window, and the third is not delivered.
    for _ in 0..3 {
        wallet.send(frame()).await;
    }
    let taken = |mail: &Mail| matches!(mail, Mail::Peer { .. });
    let mut peers = Vec::new();
    while peers.len() < 2 {
        peers.extend(hub.shard.try_iter().filter(taken));
        tokio::task::yield_now().await;
    }
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert!(hub.shard.is_empty());
    // One handled: its credit is dropped, and the third comes.
    peers.pop();
    while !hub.shard.try_iter().any(|mail| taken(&mail)) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_connection_that_ended_leaves_nothing_behind_although_a_shard_remembers_its_queue() {
    let hub = hub();
    let wallet = Wallet::connected(&hub, 2).await;
    let session = hub.serving.inbox.sessions.session_of(&signer(2).node_id()).unwrap();
    // What a shard keeps once it has sent something.
    let kept = hub.serving.inbox.sessions.outgoing(session).unwrap();
    drop(wallet.frames);
    // Ends although the queue has a sender still.
    wallet.served.await.unwrap();
    assert!(kept.is_ended(), "the shard can tell, and forget it");
    assert_eq!(kept.ending(), None, "nobody is told a reason");
}

#[tokio::test]
async fn strangers_that_fill_the_hub_make_room_for_a_wallet_with_a_channel() {
    use crate::directory::Place;
    use channel::ids::OwnerId;

    let hub = hub();
    let mut strangers = Vec::new();
    for seed in 2..11 {
        strangers.push(Wallet::connected(&hub, seed).await);
    }
    // One more stranger is refused by name.
    let mut late = Wallet::connect(&hub, 20);
    late.shake(&hub, EXPORTER, |_| {}).await;
    assert_eq!(late.ending().await.0, ErrorCode::LimitReached);
    let node = signer(21).node_id();
    let place = Place { owner: OwnerId(5000), node, hosted: true };
    hub.serving.inbox.directory.reserve(ChannelId([1; 32]), place, 9).unwrap();
    let _customer = Wallet::connected(&hub, 21).await;
    let sessions = &hub.serving.inbox.sessions;
    while sessions.session_of(&node).is_none() {
        tokio::task::yield_now().await;
    }
    assert_eq!(sessions.count(), 9);
    let gone = strangers.iter().filter(|wallet| sessions.session_of(&wallet.signer.node_id()).is_none());
    assert_eq!(gone.count(), 1);
}
