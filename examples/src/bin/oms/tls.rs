//! Addresses and certificates of the one address that is served.

use anyhow::{Context, Result, bail};
use oms_core::http::{Accepted, PeerCertificate, Stream, Upgrade};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

/// Refuses clear text on an address that other machines can reach, unless it is asked for.
pub(crate) fn check_clear_text(address: SocketAddr, is_tls: bool, insecure: bool) -> Result<()> {
    if is_tls || insecure || address.ip().is_loopback() {
        return Ok(());
    }
    bail!(
        "clear text is served on loopback only: give --tls-cert and --tls-key, or --insecure-http. \
         address=`{address}`"
    )
}

/// TLS 1.2 and 1.3 with a certificate chain and its key, both in PEM. A client's certificate is
/// asked for and passed on, not verified: services know their clients by thumbprint.
pub(crate) fn acceptor(certificate: &Path, key: &Path) -> Result<Upgrade> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|error| anyhow::anyhow!("{error}"))
        .with_context(|| format!("certificate {}", certificate.display()))?;
    if chain.is_empty() {
        bail!("no certificate in the file. path=`{}`", certificate.display());
    }
    let key = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| anyhow::anyhow!("{error}"))
        .with_context(|| format!("private key {}", key.display()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(Arc::new(AnyClient { provider }))
        .with_single_cert(chain, key)
        .context("certificate and key do not belong together")?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    Ok(Arc::new(move |stream| {
        let acceptor = acceptor.clone();
        Box::pin(async move {
            let stream = acceptor.accept(stream).await?;
            let peer = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
            let peer = peer.map(|leaf| PeerCertificate(Arc::from(leaf.as_ref())));
            let accepted: Accepted = (Box::new(stream) as Box<dyn Stream>, peer);
            Ok(accepted)
        })
    }))
}

/// Asks for a client's certificate and takes any or none. The handshake still proves that the
/// client holds its key; which certificate may do what is for the services, by thumbprint.
#[derive(Debug)]
struct AnyClient {
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for AnyClient {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, leaf, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, leaf, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clear_text_stays_on_loopback_unless_asked_for() {
        let check = |address: &str, tls, insecure| {
            check_clear_text(address.parse().expect("an address"), tls, insecure).is_ok()
        };
        assert!(check("127.0.0.1:80", false, false));
        assert!(check("[::1]:80", false, false));
        assert!(!check("0.0.0.0:80", false, false));
        assert!(check("0.0.0.0:80", true, false));
        assert!(check("0.0.0.0:80", false, true));
    }

    #[test]
    fn a_file_without_a_certificate_is_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("cert.pem");
        std::fs::write(&path, "nothing here").expect("write");
        let error = acceptor(&path, &path).err().expect("no certificate");
        assert!(format!("{error:#}").contains("cert.pem"), "{error:#}");
    }
}
