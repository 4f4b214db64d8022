//! Optional TLS: a certificate and a key from two files, for pages that are served by https without a proxy.
//!
//! Always holds: the files are looked at before each handshake, so a renewed certificate counts from the next connection on, without a
//! restart. Where the new files are wrong, the certificate of before stays and the log says why. TLS 1.2 and 1.3, nothing older. No
//! certificate is asked of browsers: who may come in is the door's business.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use pair::exit::usage;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How long a handshake may take, with the first byte of it.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// The first byte of every TLS connection.
const HANDSHAKE: u8 = 0x16;
/// For who speaks http here.
const SPEAK_HTTPS: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n\
    This page is served by https: write https:// in front of the address.\n";
/// Bytes of a plain request that are taken before it is answered.
const PLAIN_REQUEST: u64 = 8 * 1024;

/// A certificate and its key.
#[derive(Debug)]
pub struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    // Held while files are read, on threads that may wait.
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    config: Arc<ServerConfig>,
    read: Option<Stamps>,
}

/// By what a changed file is known: when it was written and changed, which one it is, and how long.
type Stamps = [(SystemTime, i64, i64, u64, u64); 2];

impl Tls {
    /// What the settings `tls_certificate` and `tls_key` ask for; empty ones ask for nothing.
    ///
    /// # Errors
    /// A sentence with the key and the file, where one of them is missing or wrong.
    pub fn open(certificate: &str, key: &str) -> anyhow::Result<Option<Arc<Tls>>> {
        if !Tls::is_wanted(certificate, key)? {
            return Ok(None);
        }
        let (certificate, key) = (PathBuf::from(certificate), PathBuf::from(key));
        let read = stamps(&certificate, &key);
        let config = load(&certificate, &key).map_err(usage)?;
        Ok(Some(Arc::new(Tls { certificate, key, held: Mutex::new(Held { config, read }) })))
    }

    /// Whether the settings ask for TLS. The files are not looked at.
    ///
    /// # Errors
    /// Where only one of both is set.
    pub fn is_wanted(certificate: &str, key: &str) -> anyhow::Result<bool> {
        let missing = match (certificate.is_empty(), key.is_empty()) {
            (true, true) => return Ok(false),
            (false, false) => return Ok(true),
            (true, false) => "tls_certificate is missing",
            (false, true) => "tls_key is missing",
        };
        Err(usage(format!("{missing}: tls_certificate and tls_key are set together, or none of them")))
    }

    /// A browser's connection, once it speaks TLS; none for who spoke http and was told so.
    pub(crate) async fn accept(self: Arc<Tls>, stream: TcpStream) -> std::io::Result<Option<TlsStream<TcpStream>>> {
        let late = || std::io::Error::new(std::io::ErrorKind::TimedOut, "the handshake took too long");
        tokio::time::timeout(HANDSHAKE_TIME, self.shake_hands(stream)).await.map_err(|_| late())?
    }

    async fn shake_hands(self: Arc<Tls>, stream: TcpStream) -> std::io::Result<Option<TlsStream<TcpStream>>> {
        let mut first = [0];
        if stream.peek(&mut first).await? == 1 && first != [HANDSHAKE] {
            return refuse(stream).await.map(|()| None);
        }
        // Looking at the files may have to wait for a disk.
        let config = tokio::task::spawn_blocking(move || self.current()).await.map_err(std::io::Error::other)?;
        TlsAcceptor::from(config).accept(stream).await.map(Some)
    }

    /// What counts now.
    fn current(&self) -> Arc<ServerConfig> {
        // Nothing in here panics between two changes that belong together.
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        // Before they are read: a change meanwhile is seen the next time.
        let now = stamps(&self.certificate, &self.key);
        if now != held.read {
            match load(&self.certificate, &self.key) {
                Ok(config) => {
                    held.config = config;
                    tracing::info!("tls_certificate: {} counts from now on", self.certificate.display());
                }
                Err(sentence) => tracing::warn!("{sentence}; the certificate of before stays"),
            }
            held.read = now;
        }
        held.config.clone()
    }
}

/// Says to who speaks http that this is the wrong way, after his request: an answer before it may get lost.
async fn refuse(mut stream: TcpStream) -> std::io::Result<()> {
    let mut taken = Vec::new();
    let mut request = (&mut stream).take(PLAIN_REQUEST);
    while !taken.ends_with(b"\r\n\r\n") && request.read_buf(&mut taken).await? > 0 {}
    stream.write_all(SPEAK_HTTPS).await?;
    stream.shutdown().await
}

fn stamps(certificate: &Path, key: &Path) -> Option<Stamps> {
    let stamp = |path: &Path| {
        let file = std::fs::metadata(path).ok()?;
        Some((file.modified().ok()?, file.ctime(), file.ctime_nsec(), file.ino(), file.len()))
    };
    Some([stamp(certificate)?, stamp(key)?])
}

fn load(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, String> {
    let (chain, private) = (read_chain(certificate)?, read_key(key)?);
    let fits_not = |error: rustls::Error| {
        let (certificate, key) = (certificate.display(), key.display());
        match error {
            rustls::Error::InconsistentKeys(_) => {
                format!("tls_key: {key} is not the key of the certificate in {certificate}")
            }
            error => format!("tls_certificate: {certificate} cannot be used with {key}: {error}"),
        }
    };
    let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(fits_not)?;
    let mut config = builder.with_no_client_auth().with_single_cert(chain, private).map_err(fits_not)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let wrong = |reason: &str| format!("tls_certificate: {} {reason}", path.display());
    let bytes = std::fs::read(path).map_err(|error| wrong(&format!("cannot be read: {error}")))?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err(wrong("holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)")),
        Err(error) => Err(wrong(&format!("is no PEM file: {error}"))),
    }
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let wrong = |reason: &str| format!("tls_key: {} {reason}", path.display());
    let bytes = std::fs::read(path).map_err(|error| wrong(&format!("cannot be read: {error}")))?;
    if String::from_utf8_lossy(&bytes).contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") {
        return Err(wrong("is locked with a passphrase, for which nobody can be asked: use a key without one"));
    }
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| match error {
        PemError::NoItemsFound => wrong("holds no private key in PEM form (-----BEGIN PRIVATE KEY-----)"),
        error => wrong(&format!("is no PEM file: {error}")),
    })
}

#[cfg(test)]
mod tests;
