//! The connection to the hub: made, proven, kept, and made again.
//!
//! One at a time. A connection that ends for whatever reason is tried again, sooner at first and later after many failures;
//! after "superseded" much later, since another process with this wallet's seed is at work.

pub mod tls;

use std::sync::Arc;
use std::time::Duration;

use channel::ids::SessionId;
use channel::keys::Point;
use channel::signer::Signer;
use hyper_util::rt::TokioIo;
use proto::error::ErrorCode;
use proto::frame::{self, FrameBuilder, Incoming};
use proto::handshake::{ClientHandshake, HandshakeError, frame_name};
use proto::hub::v1 as pb;
use proto::hub::v1::frame::Kind;
use proto::hub::v1::hub_client::HubClient;
use rand::{Rng, RngCore};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;
use tower::service_fn;

use crate::core::{CoreHandle, Stopped};
use crate::limits::FRAMES_OUT;

use tls::TlsError;

/// Frames taken from the hub and not yet handled: enough to keep the core busy, few enough to slow the hub down.
const FRAMES_IN_HAND: usize = 64;
/// Time for connection and handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection over which nothing came for so long is asked for a sign of life, and given up after twice that.
const SILENCE: Duration = Duration::from_secs(20);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const SUPERSEDED_PAUSE: Duration = Duration::from_secs(30);
/// HTTP/2 windows: two frames of the largest size.
const WINDOW_BYTES: u32 = 2 * 1024 * 1024;

/// How the connection stands.
#[derive(Clone, Debug, Default)]
pub struct Status {
    pub connected: bool,
    /// Why not connected; for people.
    pub trouble: String,
}

/// Why a connection ended, or never began.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error("the hub did not complete the handshake within {} seconds", HANDSHAKE_TIMEOUT.as_secs())]
    Slow,
    #[error("the hub is on {hub}; this wallet is on {ours}")]
    WrongNetwork { hub: String, ours: String },
    #[error("the hub sent what cannot be understood: {0}")]
    Wire(#[from] proto::WireError),
    #[error("the hub ended the connection: {text}")]
    Goodbye { code: ErrorCode, text: String },
    #[error("the connection broke: {0}")]
    Broken(String),
    #[error("a message of the hub's was refused; a new connection starts from what both sides have")]
    Refused,
    #[error("the hub fell silent")]
    Silent,
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// What a connection needs.
#[derive(Clone)]
pub struct Dialer {
    pub address: String,
    pub hub: Point,
    pub network: String,
    pub signer: Arc<dyn Signer>,
    pub core: CoreHandle,
    pub status: watch::Sender<Status>,
}

impl Dialer {
    /// Connects again and again until the core stops.
    pub async fn run(self) {
        let mut pause = FIRST_PAUSE;
        let mut number = 0;
        loop {
            number += 1;
            let session = SessionId(number);
            let began = std::time::Instant::now();
            let error = match self.connection(session).await {
                Ok(()) => ConnectionError::Broken("the stream ended".to_owned()),
                Err(ConnectionError::Stopped(Stopped)) => return,
                Err(error) => error,
            };
            self.core.session_down(session);
            self.status.send_modify(|status| {
                status.connected = false;
                status.trouble = error.to_string();
            });
            tracing::info!(%error, "not connected to the hub");
            if let ConnectionError::Goodbye { code: ErrorCode::Superseded, .. } = error {
                pause = SUPERSEDED_PAUSE;
            } else if began.elapsed() > LONGEST_PAUSE {
                pause = FIRST_PAUSE;
            }
            // Many wallets lose a hub at the same moment; they should not all come back at the same moment.
            let jitter = rand::thread_rng().gen_range(0.5..1.0);
            tokio::time::sleep(pause.mul_f64(jitter)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn connection(&self, session: SessionId) -> Result<(), ConnectionError> {
        let opened = tokio::time::timeout(HANDSHAKE_TIMEOUT, self.open());
        let Proven { mut incoming, outgoing, welcome } =
            opened.await.map_err(|_| ConnectionError::Slow)??;
        let policy = welcome.policy.unwrap_or_default();
        let (hold, mut dropped) = oneshot::channel();
        self.core.session_up(session, outgoing.clone(), hold, policy).await?;
        self.status.send_replace(Status { connected: true, trouble: String::new() });
        tracing::info!(height = welcome.height, "connected to the hub");
        let room = Arc::new(Semaphore::new(FRAMES_IN_HAND));
        let mut silent = 0;
        loop {
            let next = tokio::select! {
                next = tokio::time::timeout(SILENCE, incoming.message()) => next,
                _ = &mut dropped => return Err(ConnectionError::Refused),
            };
            let frame = match next {
                Ok(Ok(Some(frame))) => frame,
                Ok(Ok(None)) => return Ok(()),
                Ok(Err(status)) => return Err(ConnectionError::Broken(status.message().to_owned())),
                Err(_) if silent > 0 => return Err(ConnectionError::Silent),
                Err(_) => {
                    silent += 1;
                    let mut ping = FrameBuilder::default();
                    ping.ping(silent);
                    ping.take().into_iter().for_each(|frame| drop(outgoing.try_send(frame)));
                    continue;
                }
            };
            silent = 0;
            match frame::open(frame) {
                Ok(Incoming::Contents(contents)) => {
                    let permit = Arc::clone(&room).acquire_owned().await;
                    let permit = permit.map_err(|error| ConnectionError::Broken(error.to_string()))?;
                    self.core.frame(session, contents, permit);
                }
                Ok(Incoming::Goodbye { code, text }) => return Err(ConnectionError::Goodbye { code, text }),
                Err(error) => {
                    let _ = outgoing.try_send(frame::goodbye(error.code(), &error.to_string()));
                    return Err(error.into());
                }
            }
        }
    }

    /// TLS, HTTP/2, and the four frames of the handshake.
    async fn open(&self) -> Result<Proven, ConnectionError> {
        let (stream, exporter) = tls::connect(&self.address).await?;
        let mut client = HubClient::new(one_connection(stream).await?)
            .max_decoding_message_size(proto::limits::MAX_GRPC_MESSAGE_BYTES)
            .max_encoding_message_size(proto::limits::MAX_GRPC_MESSAGE_BYTES);
        let mut nonce = [0; 32];
        rand::rngs::OsRng.fill_bytes(&mut nonce);
        let signer = self.signer.as_ref();
        let (handshake, hello) = ClientHandshake::start(signer, self.hub, nonce, exporter);
        let (outgoing, frames) = mpsc::channel(FRAMES_OUT);
        let _ = outgoing.try_send(pb::Frame { kind: Some(Kind::ClientHello(hello)) });
        let mut incoming = client
            .connect(ReceiverStream::new(frames))
            .await
            .map_err(|status| ConnectionError::Broken(status.message().to_owned()))?
            .into_inner();
        let Kind::HubHello(hello) = next(&mut incoming, "HubHello").await? else {
            return Err(out_of_order("another frame", "HubHello"));
        };
        let proof = handshake.prove(signer, &hello)?;
        let _ = outgoing.try_send(pb::Frame { kind: Some(Kind::ClientProof(proof)) });
        let Kind::Welcome(welcome) = next(&mut incoming, "Welcome").await? else {
            return Err(out_of_order("another frame", "Welcome"));
        };
        if welcome.network != self.network {
            let (hub, ours) = (welcome.network, self.network.clone());
            return Err(ConnectionError::WrongNetwork { hub, ours });
        }
        Ok(Proven { incoming, outgoing, welcome })
    }
}

/// A connection whose both ends are proven.
struct Proven {
    incoming: tonic::Streaming<pb::Frame>,
    outgoing: mpsc::Sender<pb::Frame>,
    welcome: pb::Welcome,
}

fn out_of_order(got: &'static str, expected: &'static str) -> ConnectionError {
    HandshakeError::OutOfOrder { got, expected }.into()
}

async fn next(
    incoming: &mut tonic::Streaming<pb::Frame>,
    expected: &'static str,
) -> Result<Kind, ConnectionError> {
    let frame = match incoming.message().await {
        Ok(Some(frame)) => frame,
        Ok(None) => return Err(out_of_order("the end of the connection", expected)),
        Err(status) => return Err(ConnectionError::Broken(status.message().to_owned())),
    };
    let got = frame_name(&frame);
    match frame.kind {
        Some(Kind::Goodbye(goodbye)) => {
            Err(ConnectionError::Goodbye { code: goodbye.code(), text: goodbye.text })
        }
        Some(kind) if got == expected => Ok(kind),
        Some(_) | None => Err(out_of_order(got, expected)),
    }
}

/// HTTP/2 over exactly this stream: the handshake is bound to it, so another must never take its place.
async fn one_connection(
    stream: tokio_rustls::client::TlsStream<tokio::net::TcpStream>,
) -> Result<tonic::transport::Channel, ConnectionError> {
    let stream = std::sync::Mutex::new(Some(TokioIo::new(stream)));
    Endpoint::from_static("http://hub")
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .connect_with_connector(service_fn(move |_: tonic::transport::Uri| {
            let taken = stream.lock().ok().and_then(|mut stream| stream.take());
            async move { taken.ok_or_else(|| std::io::Error::other("the connection is over")) }
        }))
        .await
        .map_err(|error| ConnectionError::Broken(error.to_string()))
}
