//! TLS and HTTP/2 to the hub. The certificate proves nothing (the handshake does, bound to this very session), so any is
//! taken; that the server holds its key is still checked.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use hyper_util::rt::TokioIo;
use proto::handshake::{EXPORTER_BYTES, EXPORTER_LABEL};
use proto::hub::v1 as pb;
use proto::hub::v1::hub_client::HubClient;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;
use tonic::{Status, Streaming};
use tower::service_fn;

use super::ConnectionError;
use super::line::{Connect, Line};
use crate::limits::FRAMES_OUT;

/// HTTP/2 windows: two frames of the largest size.
const WINDOW_BYTES: u32 = 2 * 1024 * 1024;

/// Why there is no TLS session.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{address} cannot be reached: {source}")]
    Unreachable { address: String, source: std::io::Error },
    #[error("{address} does not speak TLS as expected: {source}")]
    Handshake { address: String, source: std::io::Error },
    #[error("{address} is not host:port")]
    Address { address: String },
    #[error("TLS: {0}")]
    Rustls(#[from] rustls::Error),
}

/// The hub at an address, `host:port`.
#[derive(Clone, Debug)]
pub struct TlsConnect {
    pub address: String,
}

impl Connect for TlsConnect {
    async fn connect(&self) -> Result<Line, ConnectionError> {
        let (stream, exporter) = connect(&self.address).await?;
        let mut client = HubClient::new(one_connection(stream).await?)
            .max_decoding_message_size(proto::limits::MAX_GRPC_MESSAGE_BYTES)
            .max_encoding_message_size(proto::limits::MAX_GRPC_MESSAGE_BYTES);
        let (outgoing, frames) = mpsc::channel(FRAMES_OUT);
        let call = async move {
            let answer = client.connect(ReceiverStream::new(frames)).await?;
            Ok(answer.into_inner())
        };
        Ok(Line { exporter, outgoing, incoming: Box::pin(Called::Calling(Box::pin(call))) })
    }
}

/// The answer to a streaming call: the call is made when its first message is asked for, so that the caller's own first
/// message, put in before, leaves with it and not after the answer's head.
enum Called<F> {
    Calling(Pin<Box<F>>),
    Streaming(Box<Streaming<pb::Frame>>),
    Over,
}

impl<F: Future<Output = Result<Streaming<pb::Frame>, Status>>> Stream for Called<F> {
    type Item = Result<pb::Frame, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match &mut *self {
                Called::Calling(call) => match ready!(call.as_mut().poll(context)) {
                    Ok(stream) => *self = Called::Streaming(Box::new(stream)),
                    Err(status) => {
                        *self = Called::Over;
                        return Poll::Ready(Some(Err(status)));
                    }
                },
                Called::Streaming(stream) => return Pin::new(stream.as_mut()).poll_next(context),
                Called::Over => return Poll::Ready(None),
            }
        }
    }
}

/// HTTP/2 over exactly this stream: the handshake is bound to it, so another must never take its place.
async fn one_connection(stream: TlsStream<TcpStream>) -> Result<tonic::transport::Channel, ConnectionError> {
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

/// Connects, and takes the session's exporter.
pub async fn connect(address: &str) -> Result<(TlsStream<TcpStream>, [u8; EXPORTER_BYTES]), TlsError> {
    let bad_address = || TlsError::Address { address: address.to_owned() };
    let (host, _) = address.rsplit_once(':').ok_or_else(bad_address)?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(host).map_err(|_| bad_address())?;
    let named = |source| TlsError::Unreachable { address: address.to_owned(), source };
    let tcp = TcpStream::connect(address).await.map_err(named)?;
    tcp.set_nodelay(true).map_err(named)?;
    let tls = TlsConnector::from(Arc::new(config()?))
        .connect(name, tcp)
        .await
        .map_err(|source| TlsError::Handshake { address: address.to_owned(), source })?;
    let exporter = tls.get_ref().1.export_keying_material([0; EXPORTER_BYTES], EXPORTER_LABEL, None)?;
    Ok((tls, exporter))
}

fn config() -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// Takes any certificate whose key the server proves to hold.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
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
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::ServerConfig;
    use rustls::pki_types::PrivateKeyDer;
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    #[tokio::test]
    async fn both_ends_have_the_same_exporter_and_another_connection_has_another() {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        server.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(server));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut exporters = Vec::new();
        for _ in 0..2 {
            let accept = async {
                let (tcp, _) = listener.accept().await.unwrap();
                let tls = acceptor.accept(tcp).await.unwrap();
                let exported = [0; EXPORTER_BYTES];
                tls.get_ref().1.export_keying_material(exported, EXPORTER_LABEL, None).unwrap()
            };
            let (there, here) = tokio::join!(accept, connect(&address));
            assert_eq!(here.unwrap().1, there);
            exporters.push(there);
        }
        assert_ne!(exporters[0], exporters[1]);
    }

    #[tokio::test]
    async fn an_address_that_cannot_be_used_is_named() {
        assert!(matches!(connect("nowhere").await, Err(TlsError::Address { .. })));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        assert!(matches!(connect(&address).await, Err(TlsError::Unreachable { .. })));
    }
}
