//! The first four frames of a connection: who the wallet is, proven for this TLS session.

use std::sync::Arc;
use std::time::Duration;

use channel::keys::Point;
use channel::signer::Signer;
use daemon::world::World;
use proto::error::ErrorCode;
use proto::handshake::{EXPORTER_BYTES, HandshakeError, HubHandshake, frame_name};
use proto::hub::v1::frame::Kind;
use proto::hub::v1::{Frame, Welcome};
use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt};
use tonic::Status;

use super::outgoing::Ending;

/// What the hub's side of every handshake needs.
#[derive(Clone)]
pub struct HandshakeSetup {
    pub signer: Arc<dyn Signer>,
    pub timeout: Duration,
    pub world: World,
}

impl From<HandshakeError> for Ending {
    fn from(error: HandshakeError) -> Self {
        Ending::new(error.code(), error.to_string())
    }
}

/// Runs the handshake; answers the wallet's proven node key. `welcome` is made only once the key is proven.
pub async fn shake(
    setup: &HandshakeSetup,
    exporter: [u8; EXPORTER_BYTES],
    incoming: &mut (impl Stream<Item = Result<Frame, Status>> + Unpin),
    frames: &mpsc::Sender<Result<Frame, Status>>,
    welcome: impl FnOnce() -> Welcome,
) -> Result<Point, Ending> {
    let all = async {
        let Kind::ClientHello(hello) = next(incoming, "ClientHello").await? else {
            return Err(out_of_order("another frame", "ClientHello"));
        };
        let nonce = setup.world.random();
        let (handshake, answer) = HubHandshake::answer(&hello, setup.signer.as_ref(), nonce, exporter)?;
        send(frames, Kind::HubHello(answer)).await?;
        let Kind::ClientProof(proof) = next(incoming, "ClientProof").await? else {
            return Err(out_of_order("another frame", "ClientProof"));
        };
        let node = handshake.verify(&proof)?;
        send(frames, Kind::Welcome(welcome())).await?;
        Ok(node)
    };
    match tokio::time::timeout(setup.timeout, all).await {
        Ok(result) => result,
        Err(_) => {
            let text = format!("the handshake took longer than {} ms", setup.timeout.as_millis());
            Err(Ending::new(ErrorCode::HandshakeFailed, text))
        }
    }
}

async fn next(
    incoming: &mut (impl Stream<Item = Result<Frame, Status>> + Unpin),
    expected: &'static str,
) -> Result<Kind, Ending> {
    let frame = match incoming.next().await {
        Some(Ok(frame)) => frame,
        Some(Err(_)) | None => return Err(out_of_order("the end of the connection", expected)),
    };
    let got = frame_name(&frame);
    match frame.kind {
        Some(kind) if got == expected => Ok(kind),
        Some(_) | None => Err(out_of_order(got, expected)),
    }
}

fn out_of_order(got: &'static str, expected: &'static str) -> Ending {
    HandshakeError::OutOfOrder { got, expected }.into()
}

async fn send(frames: &mpsc::Sender<Result<Frame, Status>>, kind: Kind) -> Result<(), Ending> {
    let gone = |_| Ending::new(ErrorCode::HandshakeFailed, "the wallet left during the handshake");
    frames.send(Ok(Frame { kind: Some(kind) })).await.map_err(gone)
}
