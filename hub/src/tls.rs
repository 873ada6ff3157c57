//! TLS for the wallets' listener: a certificate made on the first start, and each connection's exporter.
//!
//! Nobody trusts the certificate: wallets know the hub by its node key, which signs the handshake together with
//! the session's exporter (DESIGN section 6). So the certificate signs itself and never needs renewal.

use std::sync::Arc;

use daemon::data_dir::{FolderError, read_secret, write_public, write_secret};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::data_dir::Layout;

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error("the names of wallets.tls_names cannot be put into a certificate: {0}")]
    Names(rcgen::Error),
    #[error("{0} and {1} are not a certificate and its key: {2}; remove both for new ones")]
    Unusable(String, String, String),
}

/// The server's configuration, with the certificate of the data folder.
pub fn server_config(layout: &Layout, names: &[String]) -> Result<Arc<rustls::ServerConfig>, TlsError> {
    let (certificate, key) = load_or_create(layout, names)?;
    let unusable = |reason: String| {
        TlsError::Unusable(
            layout.certificate().display().to_string(),
            layout.certificate_key().display().to_string(),
            reason,
        )
    };
    let chain = CertificateDer::pem_slice_iter(&certificate)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unusable(error.to_string()))?;
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|error| unusable(error.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(error.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| unusable(error.to_string()))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

fn load_or_create(layout: &Layout, names: &[String]) -> Result<(Vec<u8>, Vec<u8>), TlsError> {
    let key_path = layout.certificate_key();
    let certificate = std::fs::read(layout.certificate()).ok();
    if let (Some(certificate), Some(key)) = (certificate, read_secret(&key_path)?) {
        return Ok((certificate, key));
    }
    let mut all = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    all.extend_from_slice(names);
    let made = rcgen::generate_simple_self_signed(all).map_err(TlsError::Names)?;
    let certificate = made.cert.pem().into_bytes();
    let key = made.signing_key.serialize_pem().into_bytes();
    // The key goes first: a certificate without its key is made anew at the next start.
    write_secret(&key_path, &key)?;
    write_public(&layout.certificate(), &certificate)?;
    Ok((certificate, key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_certificate_is_made_once_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        server_config(&layout, &["hub.example.org".into()]).unwrap();
        let first = std::fs::read(layout.certificate()).unwrap();
        server_config(&layout, &[]).unwrap();
        assert_eq!(std::fs::read(layout.certificate()).unwrap(), first);
    }

    #[test]
    fn a_broken_certificate_is_named_and_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        server_config(&layout, &[]).unwrap();
        std::fs::write(layout.certificate(), b"nothing").unwrap();
        let text = server_config(&layout, &[]).unwrap_err().to_string();
        assert!(text.contains("are not a certificate and its key"), "{text}");
    }
}
