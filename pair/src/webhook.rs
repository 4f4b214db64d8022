//! Tells somebody else's program something: JSON in the body of a POST, as chat programs and monitoring take it.
//!
//! It waits for the answer, on a thread that may block, and tries nothing again: that is up to who tells.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ureq::tls::{RootCerts, TlsConfig};

/// How long a receiver may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Sends a message. Whoever answers with success has it.
///
/// # Errors
/// Why it was not delivered.
pub fn post(url: &str, json: &str) -> Result<(), String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = TlsConfig::builder().root_certs(roots()).unversioned_rustls_crypto_provider(provider);
    let config = ureq::Agent::config_builder().tls_config(tls.build()).timeout_global(Some(TIMEOUT)).build();
    let request = ureq::Agent::new_with_config(config).post(url).header("Content-Type", "application/json");
    request.send(json).map(drop).map_err(|error| error.to_string())
}

/// The machine's own certificates, so that a site's own authority counts; where it has none, those that browsers trust.
fn roots() -> RootCerts {
    const USUAL: [&str; 3] =
        ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
    let has_own = std::env::var_os("SSL_CERT_FILE").is_some() || USUAL.iter().any(|file| Path::new(file).exists());
    if has_own { RootCerts::PlatformVerifier } else { RootCerts::WebPki }
}
