//! How a program's own `healthcheck` asks its running pages, by http or https.
//!
//! By https it looks at no certificate: it asks its own machine, sends no secret, and a certificate bears another name than that of
//! loopback. What a browser thinks of the certificate, only a browser can tell.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Asks the pages at an address of this machine whether they are ready.
///
/// # Errors
/// The sentence that they answered, or why there was no answer.
pub async fn check(address: SocketAddr, https: bool) -> anyhow::Result<()> {
    if !https {
        return pair::health::check(address).await;
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let config = config.dangerous().with_custom_certificate_verifier(Arc::new(OwnMachine(provider)));
    let connector = TlsConnector::from(Arc::new(config.with_no_client_auth()));
    let connect = async {
        let stream = TcpStream::connect(address).await?;
        connector.connect(ServerName::IpAddress(address.ip().into()), stream).await
    };
    pair::health::check_over(address, connect).await
}

/// Takes every certificate whose key the other side has.
#[derive(Debug)]
struct OwnMachine(Arc<CryptoProvider>);

impl ServerCertVerifier for OwnMachine {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
