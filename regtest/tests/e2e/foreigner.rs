//! A client written by hand, on which any frame can be sent.

use std::net::SocketAddr;

use channel::seed_signer::SeedSigner;
use hyper_util::rt::TokioIo;
use proto::error::ErrorCode;
use proto::handshake::{ClientHandshake, EXPORTER_BYTES};
use proto::hub::v1 as pb;
use proto::hub::v1::frame::Kind;
use proto::hub::v1::hub_client::HubClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;

/// A connection on which any frame can be sent.
pub struct Foreigner {
    pub signer: SeedSigner,
    pub exporter: [u8; EXPORTER_BYTES],
    pub hub_key: channel::keys::Point,
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
    connect(address).await.0
}

/// The same, with the session's exporter.
async fn connect(address: SocketAddr) -> (tonic::transport::Channel, [u8; EXPORTER_BYTES]) {
    let (stream, exporter) =
        wallet::connection::tls::connect(&address.to_string()).await.expect("the hub takes TLS connections");
    let mut stream = Some(TokioIo::new(stream));
    let connector = tower::service_fn(move |_| {
        let stream = stream.take().ok_or_else(|| std::io::Error::other("one connection only"));
        async move { stream }
    });
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    (endpoint.connect_with_connector(connector).await.expect("the stream is there"), exporter)
}

impl Foreigner {
    /// TLS and the stream; nothing is said yet.
    pub async fn connect(address: SocketAddr, hub_key: &[u8], seed: u8) -> Foreigner {
        let (channel, exporter) = connect(address).await;
        let mut client = HubClient::new(channel).max_encoding_message_size(64 * 1024 * 1024);
        let (send, frames) = mpsc::channel(16);
        let receive =
            client.connect(ReceiverStream::new(frames)).await.expect("the stream opens").into_inner();
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
    pub async fn hear(&mut self) -> Kind {
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
