//! A whole hub in this process, on loopback and TLS, with a wallet written by hand. bitcoind is not there.

use std::path::Path;
use std::sync::Arc;

use channel::keys::Point;
use channel::seed_signer::SeedSigner;
use daemon::world::World;
use proto::error::ErrorCode;
use proto::handshake::{ClientHandshake, EXPORTER_BYTES, EXPORTER_LABEL};
use proto::hub::v1 as pb;
use proto::hub::v1::frame::Kind;
use proto::hub::v1::hub_client::HubClient;
use proto::hub::v1::operator_client::OperatorClient;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Streaming};

use super::*;
use crate::config::{Layers, load};
use crate::recover::recover;
use crate::seed;

fn config(root: &Path) -> Config {
    let flag = |key: &str, value: &str| ("--set".to_owned(), key.to_owned(), value.to_owned());
    load(&Layers {
        flags: vec![
            flag("data_dir", &format!("{:?}", root.display().to_string())),
            flag("wallets.listen", "\"127.0.0.1:0\""),
            flag("operator.listen", "\"127.0.0.1:0\""),
            // A port nobody listens on: the hub waits for its bitcoind.
            flag("bitcoind.url", "\"http://127.0.0.1:1\""),
            flag("shards.threads", "2"),
            flag("journal.headroom_mib", "1"),
        ],
        ..Layers::default()
    })
    .unwrap()
}

struct Running {
    hub: Hub,
    node: Point,
    _chain: ChainSide,
    data_dir: DataDir,
}

async fn start(root: &Path) -> Running {
    let config = config(root);
    let data_dir = DataDir::open(&config.data_dir).unwrap();
    let (seed, _) = seed::load_or_create(data_dir.layout()).unwrap();
    let signer = Arc::new(SeedSigner::new(&seed.bytes()));
    let node = signer.node_id();
    let (ends_sender, ends) = mpsc::unbounded_channel();
    let sender = ends_sender.clone();
    let (recovered, config, data_dir) = tokio::task::spawn_blocking(move || {
        (recover_when_free(&config, &data_dir, &signer, &sender), config, data_dir)
    })
    .await
    .unwrap();
    let (mut hub, chain, _) = Hub::start(&config, &data_dir, recovered, ends_sender, ends).await.unwrap();
    hub.open_for_wallets(&config).unwrap();
    Running { hub, node, _chain: chain, data_dir }
}

/// A hub that stopped in this very process holds its journal until its last connection's task is gone.
fn recover_when_free(
    config: &Config,
    data_dir: &DataDir,
    signer: &Arc<SeedSigner>,
    ends: &mpsc::UnboundedSender<Ended>,
) -> Recovered {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    loop {
        match recover(config, data_dir, signer.clone(), World::real(), ends) {
            Ok((recovered, _)) => return recovered,
            Err(failed) if failed.message.contains("locked") && std::time::Instant::now() < deadline => {
                std::thread::yield_now();
            }
            Err(failed) => panic!("{failed}"),
        }
    }
}

/// Wallets do not look at the certificate: the node key is what they know.
#[derive(Debug)]
struct AnyCertificate;

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// A gRPC channel over TLS, and the session's exporter.
async fn tls_channel(address: std::net::SocketAddr) -> (Channel, [u8; EXPORTER_BYTES]) {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate))
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = tokio_rustls::TlsConnector::from(Arc::new(tls)).connect(name, stream).await.unwrap();
    let exporter = stream.get_ref().1.export_keying_material([0u8; 32], EXPORTER_LABEL, None).unwrap();
    let mut stream = Some(hyper_util::rt::TokioIo::new(stream));
    let connector = tower::service_fn(move |_| {
        let stream = stream.take().ok_or_else(|| std::io::Error::other("one connection only"));
        async move { stream }
    });
    let channel = Endpoint::from_static("http://hub").connect_with_connector(connector).await.unwrap();
    (channel, exporter)
}

struct Wallet {
    frames: mpsc::Sender<pb::Frame>,
    answers: Streaming<pb::Frame>,
}

impl Wallet {
    async fn connect(running: &Running, seed: u8, spoil: bool) -> Wallet {
        let signer = SeedSigner::new(&[seed; 64]);
        let (channel, exporter) = tls_channel(running.hub.listeners.wallets_address()).await;
        let (frames, outgoing) = mpsc::channel(4);
        let (handshake, hello) = ClientHandshake::start(&signer, running.node, [seed; 32], exporter);
        frames.send(pb::Frame { kind: Some(Kind::ClientHello(hello)) }).await.unwrap();
        let mut client = HubClient::new(channel);
        let mut answers = client.connect(ReceiverStream::new(outgoing)).await.unwrap().into_inner();
        let Some(Kind::HubHello(answer)) = answers.message().await.unwrap().unwrap().kind else { panic!() };
        let mut proof = handshake.prove(&signer, &answer).unwrap();
        if spoil {
            proof.signature = answer.signature;
        }
        frames.send(pb::Frame { kind: Some(Kind::ClientProof(proof)) }).await.unwrap();
        Wallet { frames, answers }
    }

    async fn next(&mut self) -> Kind {
        self.answers.message().await.unwrap().unwrap().kind.unwrap()
    }
}

async fn operator(running: &Running) -> (OperatorClient<Channel>, String) {
    let address = std::fs::read_to_string(running.data_dir.layout().operator_address()).unwrap();
    let token = Token::load(&running.data_dir.layout().operator_token(), &PROGRAM).unwrap().unwrap();
    let channel =
        Endpoint::from_shared(format!("http://{}", address.trim())).unwrap().connect().await.unwrap();
    (OperatorClient::new(channel), token.header())
}

fn with_token<T>(message: T, header: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", header.parse().unwrap());
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_proves_its_key_over_tls_and_the_operator_sees_it() {
    let folder = tempfile::tempdir().unwrap();
    let running = start(&folder.path().join("hub")).await;
    let mut wallet = Wallet::connect(&running, 7, false).await;
    let Kind::Welcome(welcome) = wallet.next().await else { panic!("no Welcome") };
    assert_eq!(welcome.network, "regtest");
    let (mut client, header) = operator(&running).await;
    let peers = client.list_peers(with_token(pb::ListPeersRequest::default(), &header)).await.unwrap();
    let peers = peers.into_inner().peers;
    assert_eq!(peers.len(), 1);
    assert!(peers[0].connected);
    let info =
        client.get_info(with_token(pb::OperatorGetInfoRequest {}, &header)).await.unwrap().into_inner();
    assert!(!info.chain_ok);
    assert_eq!((info.peers, info.shards.len()), (1, 2));
    let refused = client.get_info(pb::OperatorGetInfoRequest {}).await.unwrap_err();
    assert_eq!(proto::error::parse(&refused).unwrap().code(), ErrorCode::BadToken);

    // The event of its coming is durable, and its going ends the subscription's wait.
    let from_first = pb::SubscribeEventsRequest { from_index: 1 };
    let mut events = client.subscribe_events(with_token(from_first, &header)).await.unwrap().into_inner();
    let came = events.message().await.unwrap().unwrap();
    drop(wallet);
    let went = events.message().await.unwrap().unwrap();
    let connected = |event: &pb::Event| match &event.kind {
        Some(pb::event::Kind::Peer(peer)) => peer.connected,
        other => panic!("{other:?}"),
    };
    assert_eq!((came.index, connected(&came)), (1, true));
    assert_eq!((went.index, connected(&went)), (2, false));
    running.hub.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_proof_is_refused_by_name_over_the_wire() {
    let folder = tempfile::tempdir().unwrap();
    let running = start(&folder.path().join("hub")).await;
    let mut wallet = Wallet::connect(&running, 7, true).await;
    let Kind::Goodbye(goodbye) = wallet.next().await else { panic!("no Goodbye") };
    assert_eq!(goodbye.code(), ErrorCode::HandshakeFailed);
    let status = wallet.answers.message().await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unauthenticated);
    assert_eq!(proto::error::parse(&status).unwrap().code(), ErrorCode::HandshakeFailed);
    running.hub.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_above_grpcs_limit_is_answered_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let running = start(&folder.path().join("hub")).await;
    let mut wallet = Wallet::connect(&running, 7, false).await;
    assert!(matches!(wallet.next().await, Kind::Welcome(_)));
    let text = "x".repeat(proto::limits::MAX_GRPC_MESSAGE_BYTES + 1);
    let goodbye = pb::Goodbye { code: 0, text };
    wallet.frames.send(pb::Frame { kind: Some(Kind::Goodbye(goodbye)) }).await.unwrap();
    let Kind::Goodbye(goodbye) = wallet.next().await else { panic!("no Goodbye") };
    assert_eq!(goodbye.code(), ErrorCode::FrameTooLarge);
    running.hub.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_stop_says_goodbye_and_leaves_snapshots_only_for_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("hub");
    for _ in 0..2 {
        let running = start(&root).await;
        let mut wallet = Wallet::connect(&running, 7, false).await;
        assert!(matches!(wallet.next().await, Kind::Welcome(_)));
        let (told, goodbye) = oneshot::channel();
        tokio::spawn(async move {
            let _ = told.send(wallet.next().await);
        });
        running.hub.stop().await.unwrap();
        let Kind::Goodbye(goodbye) = goodbye.await.unwrap() else { panic!("no Goodbye") };
        assert_eq!(goodbye.code(), ErrorCode::Stopping);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_close_of_an_unknown_channel_and_a_bad_request_id_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let running = start(&folder.path().join("hub")).await;
    let (mut client, header) = operator(&running).await;
    let now = World::real().now_ms();
    let id = |time| proto::request_id::RequestId::new(time, [1; 10]).to_string();
    let rows = [
        (vec![1; 31], id(now), ErrorCode::BadField),
        (vec![1; 32], "one".to_owned(), ErrorCode::RequestIdMalformed),
        (vec![1; 32], id(now), ErrorCode::NotFound),
    ];
    for (channel_id, request_id, expected) in rows {
        let request = pb::CloseChannelRequest { channel_id: channel_id.into(), request_id, force: false };
        let refused = client.close_channel(with_token(request, &header)).await.unwrap_err();
        assert_eq!(proto::error::parse(&refused).unwrap().code(), expected);
    }
    running.hub.stop().await.unwrap();
}
