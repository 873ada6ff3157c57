//! The connection to the hub: made, proven, kept, and made again.
//!
//! One at a time. A connection that ends for whatever reason is tried again, sooner at first and later after many failures;
//! after "superseded" much later, since another process with this wallet's seed is at work.

mod handshake;
mod line;
pub mod tls;

use std::sync::Arc;
use std::time::Duration;

use channel::ids::SessionId;
use channel::keys::Point;
use channel::signer::Signer;
use daemon::world::World;
use proto::error::ErrorCode;
use proto::frame::{self, FrameBuilder, Incoming};
use proto::handshake::HandshakeError;
use proto::hub::v1 as pb;
use settlement::desk::service::DeskHandle;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_stream::StreamExt;

use crate::config::Checked;
use crate::core::assemble::Handles;
use crate::core::{CoreHandle, Stopped};

use handshake::{Proven, shake};
pub use line::{Connect, FramesIn, Line};
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
pub struct Dialer<C> {
    connect: C,
    hub: Point,
    network: String,
    signer: Arc<dyn Signer>,
    core: CoreHandle,
    status: watch::Sender<Status>,
    world: World,
}

impl<C: Connect> Dialer<C> {
    /// For a wallet that was assembled. `status` is told how the connection stands.
    pub fn new(handles: &Handles, checked: &Checked, connect: C, status: watch::Sender<Status>) -> Self {
        Dialer {
            connect,
            hub: checked.hub,
            network: checked.config.network.clone(),
            signer: handles.signer.clone(),
            core: handles.core.clone(),
            status,
            world: handles.world.clone(),
        }
    }

    /// Waits until `desk` has followed the chain to its tip once, since payments go on only from there; then connects again
    /// and again until the core stops.
    pub async fn run_from_tip(self, desk: DeskHandle) {
        self.status.send_modify(|status: &mut Status| {
            status.trouble = "waiting for bitcoind before calling the hub".to_owned();
        });
        if desk.synced().await.is_ok() && self.core.resume().await.is_ok() {
            self.run().await;
        }
    }

    /// Connects again and again until the core stops.
    async fn run(self) {
        let mut pause = FIRST_PAUSE;
        let mut number = 0;
        loop {
            number += 1;
            let session = SessionId(number);
            let began = Instant::now();
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
            tokio::time::sleep(pause.mul_f64(jitter(self.world.random()))).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn connection(&self, session: SessionId) -> Result<(), ConnectionError> {
        let opened = tokio::time::timeout(HANDSHAKE_TIMEOUT, self.open());
        let Proven { incoming, outgoing, welcome } = opened.await.map_err(|_| ConnectionError::Slow)??;
        let policy = welcome.policy.unwrap_or_default();
        let (hold, dropped) = oneshot::channel();
        self.core.session_up(session, outgoing.clone(), hold, policy).await?;
        self.status.send_replace(Status { connected: true, trouble: String::new() });
        tracing::info!(height = welcome.height, "connected to the hub");
        self.converse(session, incoming, outgoing, dropped).await
    }

    async fn open(&self) -> Result<Proven, ConnectionError> {
        let line = self.connect.connect().await?;
        shake(line, self.signer.as_ref(), self.hub, &self.network, self.world.random()).await
    }

    /// Hands what comes to the core, until the connection ends or the core lets it go.
    async fn converse(
        &self,
        session: SessionId,
        mut incoming: FramesIn,
        outgoing: mpsc::Sender<pb::Frame>,
        mut dropped: oneshot::Receiver<()>,
    ) -> Result<(), ConnectionError> {
        let room = Arc::new(Semaphore::new(FRAMES_IN_HAND));
        let mut silent = 0;
        loop {
            let next = tokio::select! {
                biased;
                _ = &mut dropped => return Err(ConnectionError::Refused),
                next = tokio::time::timeout(SILENCE, incoming.next()) => next,
            };
            let frame = match next {
                Ok(Some(Ok(frame))) => frame,
                Ok(None) => return Ok(()),
                Ok(Some(Err(status))) => return Err(ConnectionError::Broken(status.message().to_owned())),
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
}

/// A part of a pause, from one half to the whole.
fn jitter(chance: [u8; 4]) -> f64 {
    0.5 + f64::from(u32::from_be_bytes(chance)) / f64::from(u32::MAX) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_between_its_half_and_its_whole() {
        assert!((jitter([0; 4]) - 0.5).abs() < f64::EPSILON);
        assert!((jitter([0xff; 4]) - 1.0).abs() < f64::EPSILON);
        assert!((jitter([0x80, 0, 0, 0]) - 0.75).abs() < 1e-6);
    }
}
