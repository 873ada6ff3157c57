//! The wallets' listener: TCP, then TLS in a task of its own with a deadline, then HTTP/2.
//!
//! One slow or hostile client holds up nobody: accepting never waits for a handshake.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use proto::handshake::{EXPORTER_BYTES, EXPORTER_LABEL};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Sleep;
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
    /// Until a wallet has proven itself: when that must have happened.
    unproven: Option<Pin<Box<Sleep>>>,
}

/// What the handshake must know of the connection.
#[derive(Debug, Clone)]
pub struct ConnectionFacts {
    pub address: SocketAddr,
    /// Bound to this TLS session: a proof for it is worth nothing in another.
    pub exporter: [u8; EXPORTER_BYTES],
    /// Set once a wallet has proven itself on this connection.
    pub proven: Arc<AtomicBool>,
}

impl Connected for WalletConnection {
    type ConnectInfo = ConnectionFacts;

    fn connect_info(&self) -> ConnectionFacts {
        self.facts.clone()
    }
}

/// Accepts until cancelled; connections come out once their TLS handshake is done, which must be within `timeout`. One on which
/// no wallet has proven itself within `patience` after that breaks.
pub fn accept(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    timeout: Duration,
    patience: Duration,
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
                let shaken = tokio::time::timeout(timeout, shake(acceptor, stream, address, patience)).await;
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
    patience: Duration,
) -> Result<WalletConnection, std::io::Error> {
    // Small frames must leave at once: a payment waits for each.
    stream.set_nodelay(true)?;
    let stream = acceptor.accept(stream).await?;
    let exporter = stream
        .get_ref()
        .1
        .export_keying_material([0u8; EXPORTER_BYTES], EXPORTER_LABEL, None)
        .map_err(std::io::Error::other)?;
    let facts = ConnectionFacts { address, exporter, proven: Arc::default() };
    Ok(WalletConnection { stream, facts, unproven: Some(Box::pin(tokio::time::sleep(patience))) })
}

impl WalletConnection {
    /// Whether the time to prove oneself is over.
    fn poll_overdue(&mut self, context: &mut Context<'_>) -> bool {
        let Some(deadline) = &mut self.unproven else { return false };
        if self.facts.proven.load(Ordering::Acquire) {
            self.unproven = None;
            return false;
        }
        deadline.as_mut().poll(context).is_ready()
    }
}

impl AsyncRead for WalletConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.poll_overdue(context) {
            let text = "no wallet has proven itself on this connection in time";
            return Poll::Ready(Err(std::io::Error::new(std::io::ErrorKind::TimedOut, text)));
        }
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

#[cfg(test)]
mod tests {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, ServerName};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_rustls::TlsConnector;

    use super::*;
    use crate::data_dir::Layout;

    /// Both ends of a connection that has the patience given.
    async fn connected(patience: Duration) -> (tokio_rustls::client::TlsStream<TcpStream>, WalletConnection) {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        let tls = crate::tls::server_config(&layout, &[]).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut accepted = accept(listener, tls, Duration::from_secs(60), patience, CancellationToken::new());
        let mut roots = rustls::RootCertStore::empty();
        let pem = std::fs::read(layout.certificate()).unwrap();
        roots.add(CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
        let client =
            rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
        let tcp = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let client = TlsConnector::from(Arc::new(client)).connect(name, tcp).await.unwrap();
        (client, accepted.recv().await.unwrap().unwrap())
    }

    #[tokio::test]
    async fn a_connection_on_which_nobody_proves_anything_breaks() {
        let (_client, mut connection) = connected(Duration::from_millis(1)).await;
        let error = connection.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_connection_of_a_proven_wallet_stays() {
        let (mut client, mut connection) = connected(Duration::ZERO).await;
        connection.connect_info().proven.store(true, Ordering::Release);
        client.write_u8(7).await.unwrap();
        client.flush().await.unwrap();
        assert_eq!(connection.read_u8().await.unwrap(), 7);
    }
}
