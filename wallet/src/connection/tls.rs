//! TLS to the hub. The certificate proves nothing (the handshake does, bound to this very session), so any is taken; that the
//! server holds its key is still checked.

use std::sync::Arc;

use proto::handshake::{EXPORTER_BYTES, EXPORTER_LABEL};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

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
