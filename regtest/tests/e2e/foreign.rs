//! A client written by hand that breaks the protocol. Each breach ends its own connection, by name, and touches nothing else.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use channel::ids::ChannelId;
use channel::seed_signer::SeedSigner;
use hyper_util::rt::TokioIo;
use proto::error::ErrorCode;
use proto::frame::{FrameBuilder, InboundRequest};
use proto::handshake::{ClientHandshake, EXPORTER_BYTES, EXPORTER_LABEL};
use proto::hub::v1 as pb;
use proto::hub::v1::frame::Kind;
use proto::hub::v1::hub_client::HubClient;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;

/// Whoever is at the other end; the handshake proves it, not the certificate.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
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
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// A connection on which any frame can be sent.
pub struct Foreigner {
    signer: SeedSigner,
    exporter: [u8; EXPORTER_BYTES],
    hub_key: channel::keys::Point,
    send: mpsc::Sender<pb::Frame>,
    receive: tonic::Streaming<pb::Frame>,
}

/// How the hub ended a connection.
#[derive(Debug, PartialEq, Eq)]
pub struct End {
    pub code: ErrorCode,
    pub text: String,
}

/// A gRPC channel over TLS, for calls that need no handshake.
pub async fn channel_over_tls(address: SocketAddr) -> tonic::transport::Channel {
    let connector =
        tower::service_fn(move |_| async move { Ok::<_, std::io::Error>(TokioIo::new(tls(address).await?)) });
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    endpoint.connect_with_connector(connector).await.expect("the hub takes TLS connections")
}

impl Foreigner {
    /// TLS and the stream; nothing is said yet.
    pub async fn connect(address: SocketAddr, hub_key: &[u8], seed: u8) -> Foreigner {
        let exporter = Arc::new(Mutex::new([0; EXPORTER_BYTES]));
        let exported = Arc::clone(&exporter);
        let connector = tower::service_fn(move |_| {
            let exported = Arc::clone(&exported);
            async move {
                let stream = tls(address).await?;
                let mut bytes = [0; EXPORTER_BYTES];
                let session = stream.get_ref().1;
                session.export_keying_material(&mut bytes, EXPORTER_LABEL, None).expect("TLS is up");
                *exported.lock().unwrap() = bytes;
                Ok::<_, std::io::Error>(TokioIo::new(stream))
            }
        });
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        let channel =
            endpoint.connect_with_connector(connector).await.expect("the hub takes TLS connections");
        let mut client = HubClient::new(channel).max_encoding_message_size(64 * 1024 * 1024);
        let (send, frames) = mpsc::channel(16);
        let receive =
            client.connect(ReceiverStream::new(frames)).await.expect("the stream opens").into_inner();
        let exporter = *exporter.lock().unwrap();
        let hub_key = channel::keys::Point::from_slice(hub_key).expect("the hub's key is a point");
        Foreigner { signer: SeedSigner::new(&[seed; 64]), exporter, hub_key, send, receive }
    }

    pub async fn say(&self, kind: Kind) {
        self.say_frame(pb::Frame { kind: Some(kind) }).await;
    }

    pub async fn say_frame(&self, frame: pb::Frame) {
        // A hub that ended the connection already does not listen any more.
        let _ = self.send.send(frame).await;
    }

    /// The next frame, if it is no goodbye.
    async fn hear(&mut self) -> Kind {
        let frame = self.receive.message().await.expect("the hub answers").expect("the stream goes on");
        frame.kind.expect("the hub's frames have a kind")
    }

    /// The whole handshake, as it should be.
    pub async fn shake(&mut self) {
        let (client, hello) = ClientHandshake::start(&self.signer, self.hub_key, [7; 32], self.exporter);
        self.say(Kind::ClientHello(hello)).await;
        let Kind::HubHello(answer) = self.hear().await else { panic!("the hub says hello") };
        let proof = client.prove(&self.signer, &answer).expect("the hub proves its key");
        self.say(Kind::ClientProof(proof)).await;
        let Kind::Welcome(welcome) = self.hear().await else { panic!("the hub says welcome") };
        assert_eq!(welcome.network, "regtest");
    }

    /// What the hub says in the end, whatever came before.
    pub async fn end(&mut self) -> End {
        loop {
            match self.receive.message().await {
                Ok(Some(pb::Frame { kind: Some(Kind::Goodbye(goodbye)) })) => {
                    return End { code: goodbye.code(), text: goodbye.text };
                }
                Ok(Some(_)) => (),
                Ok(None) => panic!("the hub ended the connection without a word"),
                Err(status) => {
                    let detail =
                        proto::error::parse(&status).unwrap_or_else(|| panic!("no detail in {status}"));
                    return End { code: detail.code(), text: detail.text };
                }
            }
        }
    }
}

async fn tls(address: SocketAddr) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has them")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let tcp = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").expect("a name");
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await
}

/// What a foreigner does wrong, as one row.
async fn breach(lab: &regtest::lab::Lab, expected: ErrorCode, act: impl AsyncFnOnce(&mut Foreigner)) {
    let hub_key = lab.hub().info().await.unwrap().node_key;
    let mut foreigner = Foreigner::connect(lab.hub().address(), &hub_key, 9).await;
    act(&mut foreigner).await;
    let end = tokio::time::timeout(crate::support::SOON, foreigner.end()).await.expect("the hub ends it");
    assert_eq!(end.code, expected, "{}", end.text);
    assert!(!end.text.is_empty());
}

fn batch_about(channel_id: ChannelId) -> Kind {
    let mut frames = FrameBuilder::default();
    let message = channel::message::Message::ChannelReady;
    frames.channel(channel_id, &[message]);
    frames.take().remove(0).kind.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_breach_of_the_protocol_ends_that_connection_by_name_and_nothing_else() {
    let (lab, payer, payee) = crate::support::pair().await;
    let theirs = payer.channels().await.unwrap()[0].channel_id.clone();
    let theirs = ChannelId(theirs.as_ref().try_into().unwrap());
    let too_large = || {
        // Larger than the limit of a frame, smaller than gRPC's own.
        let text = "x".repeat(proto::limits::MAX_FRAME_BYTES + 1_000);
        Kind::Goodbye(pb::Goodbye { code: 0, text })
    };

    breach(&lab, ErrorCode::HandshakeFailed, async |one| one.say(batch_about(theirs)).await).await;
    breach(&lab, ErrorCode::HandshakeFailed, async |one| one.say_frame(pb::Frame { kind: None }).await).await;
    breach(&lab, ErrorCode::UnsupportedVersion, async |one| {
        let (_, hello) = ClientHandshake::start(&one.signer, one.hub_key, [7; 32], one.exporter);
        one.say(Kind::ClientHello(pb::ClientHello { version: 99, ..hello })).await;
    })
    .await;
    breach(&lab, ErrorCode::HandshakeFailed, async |one| {
        // The exporter of another session: a handshake passed on by somebody in the middle.
        one.exporter = [1; EXPORTER_BYTES];
        let (_, hello) = ClientHandshake::start(&one.signer, one.hub_key, [7; 32], one.exporter);
        one.say(Kind::ClientHello(hello)).await;
        let signature = vec![1; 64].into();
        one.say(Kind::ClientProof(pb::ClientProof { signature })).await;
    })
    .await;
    breach(&lab, ErrorCode::HandshakeFailed, async |one| {
        let (_, hello) = ClientHandshake::start(&one.signer, one.hub_key, [7; 32], one.exporter);
        one.say(Kind::ClientHello(pb::ClientHello { node_key: vec![2; 32].into(), ..hello })).await;
    })
    .await;
    breach(&lab, ErrorCode::FrameMalformed, async |one| {
        one.shake().await;
        one.say_frame(pb::Frame { kind: None }).await;
    })
    .await;
    breach(&lab, ErrorCode::FrameTooLarge, async |one| {
        one.shake().await;
        one.say(too_large()).await;
    })
    .await;
    breach(&lab, ErrorCode::NotYourChannel, async |one| {
        one.shake().await;
        one.say(batch_about(theirs)).await;
    })
    .await;
    breach(&lab, ErrorCode::FrameMalformed, async |one| {
        one.shake().await;
        let (_, hello) = ClientHandshake::start(&one.signer, one.hub_key, [7; 32], one.exporter);
        // The handshake is over.
        one.say(Kind::ClientHello(hello)).await;
    })
    .await;

    // Nobody else noticed.
    let invoice = payee.invoice(crate::support::LARGE_MSAT, "as before").await.unwrap();
    crate::support::assert_settled(&payer.pay(&invoice).await.unwrap());
    lab.quiet().await.unwrap();
    regtest::lab::audit::channels(&lab).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_connection_of_a_node_supersedes_the_older() {
    let lab = regtest::lab::Lab::start(crate::support::options()).await.unwrap();
    let hub_key = lab.hub().info().await.unwrap().node_key;
    let mut older = Foreigner::connect(lab.hub().address(), &hub_key, 9).await;
    older.shake().await;
    let mut newer = Foreigner::connect(lab.hub().address(), &hub_key, 9).await;
    newer.shake().await;
    assert_eq!(older.end().await.code, ErrorCode::Superseded);
    newer.say(Kind::Batch(pb::Batch { ping: Some(pb::Ping { nonce: 5 }), ..Default::default() })).await;
    let Kind::Batch(answer) = newer.hear().await else { panic!("the newer connection lives") };
    assert_eq!(answer.pong, Some(pb::Pong { nonce: 5 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_for_liquidity_beyond_the_policy_is_refused_by_name() {
    let lab = regtest::lab::Lab::start(crate::support::options()).await.unwrap();
    let hub_key = lab.hub().info().await.unwrap().node_key;
    let mut one = Foreigner::connect(lab.hub().address(), &hub_key, 9).await;
    one.shake().await;
    for amount_sat in [1, 1_000_000_000_000] {
        let mut frames = FrameBuilder::default();
        frames.inbound_request(&InboundRequest { request_id: regtest::lab::request_id().0, amount_sat });
        one.say_frame(frames.take().remove(0)).await;
        let Kind::Batch(answer) = one.hear().await else { panic!("an answer") };
        let reply = answer.inbound_replies.into_iter().next().expect("an answer to the request");
        let Some(pb::inbound_reply::Result::Error(error)) = reply.result else { panic!("{reply:?}") };
        assert!(!error.text.is_empty(), "{error:?}");
        assert_eq!(error.code(), ErrorCode::AgainstPolicy, "{error:?}");
    }
}
