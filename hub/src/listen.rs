//! The wallets' listener: TCP, then TLS in a task of its own with a deadline, then HTTP/2.
//!
//! One slow or hostile client holds up nobody: accepting never waits for a handshake.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use proto::handshake::{EXPORTER_BYTES, EXPORTER_LABEL};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;
use tracing::{debug, warn};

use crate::limits::TLS_HANDSHAKES;

/// Connections ready for HTTP/2 that the server has not taken yet.
const READY: usize = 64;

/// Pause after the system refused a connection (no file descriptors left, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A TLS connection of a wallet.
pub struct WalletConnection {
    stream: TlsStream<TcpStream>,
    facts: ConnectionFacts,
}

/// What the handshake must know of the connection.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionFacts {
    pub address: SocketAddr,
    /// Bound to this TLS session: a proof for it is worth nothing in another.
    pub exporter: [u8; EXPORTER_BYTES],
}

impl Connected for WalletConnection {
    type ConnectInfo = ConnectionFacts;

    fn connect_info(&self) -> ConnectionFacts {
        self.facts
    }
}

/// Accepts until cancelled; connections come out once their TLS handshake is done.
pub fn accept(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    timeout: Duration,
    cancel: CancellationToken,
) -> mpsc::Receiver<Result<WalletConnection, std::io::Error>> {
    let (ready, connections) = mpsc::channel(READY);
    let acceptor = TlsAcceptor::from(tls);
    let room = Arc::new(Semaphore::new(TLS_HANDSHAKES));
    tokio::spawn(async move {
        loop {
            let accepted = tokio::select! {
                () = cancel.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(permit) = room.clone().try_acquire_owned() else {
                debug!(%address, "too many TLS handshakes at once: connection dropped");
                continue;
            };
            let (acceptor, ready) = (acceptor.clone(), ready.clone());
            tokio::spawn(async move {
                let shaken = tokio::time::timeout(timeout, shake(acceptor, stream, address)).await;
                drop(permit);
                match shaken {
                    Ok(Ok(connection)) => {
                        let _ = ready.send(Ok(connection)).await;
                    }
                    Ok(Err(error)) => debug!(%address, %error, "TLS failed"),
                    Err(_) => debug!(%address, "TLS took too long"),
                }
            });
        }
    });
    connections
}

async fn shake(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    address: SocketAddr,
) -> Result<WalletConnection, std::io::Error> {
    // Small frames must leave at once: a payment waits for each.
    stream.set_nodelay(true)?;
    let stream = acceptor.accept(stream).await?;
    let exporter = stream
        .get_ref()
        .1
        .export_keying_material([0u8; EXPORTER_BYTES], EXPORTER_LABEL, None)
        .map_err(std::io::Error::other)?;
    Ok(WalletConnection { stream, facts: ConnectionFacts { address, exporter } })
}

impl AsyncRead for WalletConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for WalletConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
