//! The seam between a conversation with the hub and what carries its frames.

use std::future::Future;
use std::pin::Pin;

use proto::handshake::EXPORTER_BYTES;
use proto::hub::v1 as pb;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tonic::Status;

use super::ConnectionError;

/// What comes from the hub, in order; it ends when the connection does.
pub type FramesIn = Pin<Box<dyn Stream<Item = Result<pb::Frame, Status>> + Send>>;

/// How a wallet reaches its hub: by TLS and HTTP/2 ([`super::tls::TlsConnect`]), or over a network that somebody simulates.
pub trait Connect: Send + Sync + 'static {
    /// A new connection, over which nothing was said yet.
    ///
    /// # Errors
    /// Why there is none.
    fn connect(&self) -> impl Future<Output = Result<Line, ConnectionError>> + Send;
}

/// Both directions of one connection.
pub struct Line {
    /// Bytes that both ends of this connection know and that no other connection has: the handshake is bound to them.
    pub exporter: [u8; EXPORTER_BYTES],
    /// To the hub. The connection ends when this and its clones are dropped, or `incoming` is.
    pub outgoing: mpsc::Sender<pb::Frame>,
    pub incoming: FramesIn,
}
