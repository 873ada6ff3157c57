//! What a connection is made of. A process holds a line (frames that come, frames that go, and what binds the handshake to the
//! connection); the net holds the end of it and carries frames between two ends, as late and as far as it likes.
//!
//! Both directions hold few frames: a net that delivers to a process that does not read, or a process that writes to a net
//! that does not carry, must wait, as over HTTP/2.

use proto::handshake::EXPORTER_BYTES;
use proto::hub::v1::Frame;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// Frames that wait in one direction of one line: what HTTP/2's windows and buffers hold.
const FRAMES_WAITING: usize = 4;

/// The hub's side: what `hub::session::serve` takes.
pub struct HubLine {
    /// An `Err` is a connection that broke; the end of the stream is one that was closed.
    pub incoming: ReceiverStream<Result<Frame, Status>>,
    pub outgoing: mpsc::Sender<Result<Frame, Status>>,
    pub exporter: [u8; EXPORTER_BYTES],
}

/// The net's end towards a hub. Dropping `to_hub` closes the connection for the hub; dropping `from_hub` makes what the hub
/// sends vanish, and shows it that the line is dead.
pub struct HubEnd {
    pub to_hub: mpsc::Sender<Result<Frame, Status>>,
    /// An `Err` is the status the stream ends with.
    pub from_hub: mpsc::Receiver<Result<Frame, Status>>,
}

/// The wallet's side: what its dialer takes for an open stream.
pub struct WalletLine {
    /// As the hub's.
    pub incoming: ReceiverStream<Result<Frame, Status>>,
    pub outgoing: mpsc::Sender<Frame>,
    pub exporter: [u8; EXPORTER_BYTES],
}

/// The net's end towards a wallet. Dropping `to_wallet` closes the connection for the wallet.
pub struct WalletEnd {
    pub to_wallet: mpsc::Sender<Result<Frame, Status>>,
    pub from_wallet: mpsc::Receiver<Frame>,
}

/// A line for a hub. The wallet's line of the same connection must have the same exporter, or the handshake fails.
pub fn hub_line(exporter: [u8; EXPORTER_BYTES]) -> (HubLine, HubEnd) {
    let (to_hub, incoming) = mpsc::channel(FRAMES_WAITING);
    let (outgoing, from_hub) = mpsc::channel(hub::limits::SESSION_FRAMES_READY);
    let line = HubLine { incoming: ReceiverStream::new(incoming), outgoing, exporter };
    (line, HubEnd { to_hub, from_hub })
}

/// A line for a wallet whose dialer keeps `frames_out` frames ready.
pub fn wallet_line(exporter: [u8; EXPORTER_BYTES], frames_out: usize) -> (WalletLine, WalletEnd) {
    let (to_wallet, incoming) = mpsc::channel(FRAMES_WAITING);
    let (outgoing, from_wallet) = mpsc::channel(frames_out);
    let line = WalletLine { incoming: ReceiverStream::new(incoming), outgoing, exporter };
    (line, WalletEnd { to_wallet, from_wallet })
}
