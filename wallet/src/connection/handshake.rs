//! The wallet's side of the first four frames: who is at the other end, proven for this very connection.

use channel::keys::Point;
use channel::signer::Signer;
use proto::handshake::{ClientHandshake, HandshakeError, frame_name};
use proto::hub::v1 as pb;
use proto::hub::v1::frame::Kind;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;

use super::ConnectionError;
use super::line::{FramesIn, Line};

/// A connection whose both ends are proven.
pub struct Proven {
    pub incoming: FramesIn,
    pub outgoing: mpsc::Sender<pb::Frame>,
    pub welcome: pb::Welcome,
}

/// Proves this wallet to `hub`, and takes nobody else at the other end. `nonce` is fresh chance.
pub async fn shake(
    line: Line,
    signer: &dyn Signer,
    hub: Point,
    network: &str,
    nonce: [u8; 32],
) -> Result<Proven, ConnectionError> {
    let Line { exporter, outgoing, mut incoming } = line;
    let (handshake, hello) = ClientHandshake::start(signer, hub, nonce, exporter);
    let _ = outgoing.try_send(pb::Frame { kind: Some(Kind::ClientHello(hello)) });
    let Kind::HubHello(hello) = next(&mut incoming, "HubHello").await? else {
        return Err(out_of_order("another frame", "HubHello"));
    };
    let proof = handshake.prove(signer, &hello)?;
    let _ = outgoing.try_send(pb::Frame { kind: Some(Kind::ClientProof(proof)) });
    let Kind::Welcome(welcome) = next(&mut incoming, "Welcome").await? else {
        return Err(out_of_order("another frame", "Welcome"));
    };
    if welcome.network != network {
        let (hub, ours) = (welcome.network, network.to_owned());
        return Err(ConnectionError::WrongNetwork { hub, ours });
    }
    Ok(Proven { incoming, outgoing, welcome })
}

fn out_of_order(got: &'static str, expected: &'static str) -> ConnectionError {
    HandshakeError::OutOfOrder { got, expected }.into()
}

async fn next(incoming: &mut FramesIn, expected: &'static str) -> Result<Kind, ConnectionError> {
    let frame = match incoming.next().await {
        Some(Ok(frame)) => frame,
        None => return Err(out_of_order("the end of the connection", expected)),
        Some(Err(status)) => return Err(ConnectionError::Broken(status.message().to_owned())),
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
