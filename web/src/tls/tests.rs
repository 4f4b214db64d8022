//! Certificates that are right, wrong and renewed, and connections that speak TLS, or do not.

use axum::Router;
use axum::routing::get;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpListener;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::caller::OverTls;
use crate::health;
use crate::serve::serve;

/// A certificate in a folder of its own.
struct Files {
    folder: tempfile::TempDir,
    /// What a browser would have to trust.
    roots: RootCertStore,
}

impl Files {
    fn new() -> Files {
        let mut files = Files { folder: tempfile::tempdir().unwrap(), roots: RootCertStore::empty() };
        files.renew();
        files
    }

    /// As a program does that renews certificates: each file is put in the place of the one before.
    fn renew(&mut self) {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["console.example.org".into()]).unwrap();
        self.write("key.pem", &signing_key.serialize_pem());
        self.write("certificate.pem", &cert.pem());
        self.roots = RootCertStore::empty();
        self.roots.add(cert.der().clone()).unwrap();
    }

    fn write(&self, name: &str, text: &str) {
        let (new, path) = (self.folder.path().join("new"), self.folder.path().join(name));
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, path).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn open(&self) -> anyhow::Result<Option<Arc<Tls>>> {
        Tls::open(&self.path("certificate.pem"), &self.path("key.pem"))
    }

    fn mistake(&self) -> String {
        let error = self.open().unwrap_err();
        assert_eq!(pair::exit::code(&error), 2);
        error.to_string().replace(&format!("{}/", self.folder.path().display()), "")
    }
}

async fn page(files: &Files) -> (std::net::SocketAddr, CancellationToken) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, shutdown) = (listener.local_addr().unwrap(), CancellationToken::new());
    let show = async |tls: Option<axum::Extension<OverTls>>| if tls.is_some() { "over tls" } else { "plain" };
    let pages = Router::new().route("/", get(show)).route("/readyz", get(async || "ready\n"));
    tokio::spawn(serve(listener, pages, files.open().unwrap(), shutdown.clone()));
    (address, shutdown)
}

/// Asks as a browser does that trusts these.
async fn ask(
    address: std::net::SocketAddr,
    roots: &RootCertStore,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> std::io::Result<String> {
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    let config = config.with_protocol_versions(versions).unwrap().with_root_certificates(roots.clone());
    let connector = TlsConnector::from(Arc::new(config.with_no_client_auth()));
    let name = ServerName::try_from("console.example.org").unwrap();
    let mut stream = connector.connect(name, TcpStream::connect(address).await?).await?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[tokio::test]
async fn pages_are_served_over_tls_1_2_and_1_3_and_know_that_they_are() {
    let files = Files::new();
    let (address, _shutdown) = page(&files).await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let answer = ask(address, &files.roots, &[version]).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("over tls"), "{answer}");
    }
}

#[tokio::test]
async fn a_renewed_certificate_counts_without_a_restart_and_a_broken_one_never() {
    let mut files = Files::new();
    let (address, _shutdown) = page(&files).await;
    let before = files.roots.clone();
    files.renew();
    ask(address, &files.roots, rustls::ALL_VERSIONS).await.unwrap();
    assert!(ask(address, &before, rustls::ALL_VERSIONS).await.is_err(), "that of before is gone");

    files.write("certificate.pem", "half a certifi");
    ask(address, &files.roots, rustls::ALL_VERSIONS).await.expect("the one of before stays");
    std::fs::remove_file(files.path("key.pem")).unwrap();
    ask(address, &files.roots, rustls::ALL_VERSIONS).await.expect("the one of before stays");
    files.renew();
    ask(address, &files.roots, rustls::ALL_VERSIONS).await.expect("it is whole again");
}

#[tokio::test]
async fn who_speaks_http_is_told_so() {
    let files = Files::new();
    let (address, _shutdown) = page(&files).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("https://"), "{answer}");
}

#[tokio::test]
async fn half_handshakes_keep_nobody_out_and_do_not_hold_up_the_end() {
    let files = Files::new();
    let (address, shutdown) = page(&files).await;
    let mut idle = Vec::new();
    for begin in [&b""[..], &[HANDSHAKE], &[HANDSHAKE, 3, 1, 255]] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(begin).await.unwrap();
        idle.push(stream);
    }
    assert!(ask(address, &files.roots, rustls::ALL_VERSIONS).await.is_ok());
    shutdown.cancel();
    for mut stream in idle {
        // They are cut, long before their time is over.
        let cut = tokio::time::timeout(HANDSHAKE_TIME / 2, stream.read(&mut [0; 16])).await.unwrap();
        assert!(!matches!(cut, Ok(1..)), "{cut:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_does_not_come_ends() {
    let files = Files::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let _silent = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let error = files.open().unwrap().unwrap().accept(stream).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn a_health_check_asks_over_tls_whatever_the_certificate_says() {
    let files = Files::new();
    let (address, _shutdown) = page(&files).await;
    health::check(address, true).await.unwrap();
    let error = health::check(address, false).await.unwrap_err().to_string();
    assert!(error.contains("https"), "{error}");
}

#[test]
fn what_is_wrong_with_the_files_is_said_with_its_key_and_the_file() {
    let files = Files::new();
    let (right_key, right_certificate) = (
        std::fs::read_to_string(files.path("key.pem")).unwrap(),
        std::fs::read_to_string(files.path("certificate.pem")).unwrap(),
    );
    let locked = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let half = right_key.get(..right_key.len() / 2).unwrap();
    let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let cases = [
        (
            "key.pem",
            locked,
            "tls_key: key.pem is locked with a passphrase, for which nobody can be asked: use a key without one",
        ),
        ("key.pem", "", "tls_key: key.pem holds no private key in PEM form (-----BEGIN PRIVATE KEY-----)"),
        ("key.pem", half, "tls_key: key.pem is no PEM file: "),
        ("key.pem", &other, "tls_key: key.pem is not the key of the certificate in certificate.pem"),
        (
            "certificate.pem",
            &right_key,
            "tls_certificate: certificate.pem holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)",
        ),
    ];
    for (name, text, expected) in cases {
        files.write("key.pem", &right_key);
        files.write("certificate.pem", &right_certificate);
        files.open().unwrap();
        files.write(name, text);
        let mistake = files.mistake();
        assert!(mistake.starts_with(expected), "{mistake}");
    }
    std::fs::remove_file(files.path("certificate.pem")).unwrap();
    assert!(
        files.mistake().starts_with("tls_certificate: certificate.pem cannot be read: No such file"),
        "{}",
        files.mistake()
    );
}

#[test]
fn both_are_set_or_none() {
    assert!(Tls::open("", "").unwrap().is_none());
    for (certificate, key, missing) in [("/x", "", "tls_key is missing"), ("", "/x", "tls_certificate is missing")] {
        let error = Tls::open(certificate, key).unwrap_err();
        assert!(error.to_string().starts_with(missing) && pair::exit::code(&error) == 2, "{error}");
    }
}
