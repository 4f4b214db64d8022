//! The small HTTP server for health checks and metrics, the same in every program. Loopback unless the admin says
//! otherwise.
//!
//! It only ever reads: `/healthz` (alive), `/readyz` (would do its work now), `/primary` (200 only on a master that may
//! write), `/metrics` (Prometheus text).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::exit::usage;

/// How long an answer may take once the program is to end.
const ANSWER_TIME: std::time::Duration = std::time::Duration::from_secs(1);

/// What a program has to tell.
pub trait Pages: Send + Sync + 'static {
    /// Whether the program would do its work now; else a sentence that says why not. May try it: it is called off the
    /// async threads.
    fn ready(&self) -> Result<(), String>;

    /// The metrics in Prometheus text.
    fn metrics(&self) -> String;

    /// Whether this machine is a master that may write.
    fn primary(&self) -> bool {
        false
    }
}

/// Serves the pages until `shutdown`.
pub async fn serve(listener: TcpListener, pages: Arc<dyn Pages>, shutdown: CancellationToken) -> std::io::Result<()> {
    let routes = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/primary", get(primary))
        .route("/metrics", get(metrics))
        .with_state(pages);
    let serving =
        axum::serve(listener, routes).with_graceful_shutdown(shutdown.clone().cancelled_owned()).into_future();
    let late = async {
        shutdown.cancelled().await;
        tokio::time::sleep(ANSWER_TIME).await;
        Ok(())
    };
    tokio::select! {
        served = serving => served,
        // Somebody has sent half a request and nothing more.
        late = late => late,
    }
}

async fn ready(State(pages): State<Arc<dyn Pages>>) -> (StatusCode, String) {
    match tokio::task::spawn_blocking(move || pages.ready()).await {
        Ok(Ok(())) => (StatusCode::OK, "ready\n".into()),
        Ok(Err(reason)) => (StatusCode::SERVICE_UNAVAILABLE, reason + "\n"),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "the readiness check panicked\n".into()),
    }
}

async fn primary(State(pages): State<Arc<dyn Pages>>) -> (StatusCode, &'static str) {
    if pages.primary() { (StatusCode::OK, "primary\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "not primary\n") }
}

async fn metrics(State(pages): State<Arc<dyn Pages>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], pages.metrics())
}

/// Where a program that listens on an address is reached on its own machine.
///
/// # Errors
/// Where the setting `listen` is no address.
pub fn own_address(listen: &str) -> anyhow::Result<SocketAddr> {
    let mut address: SocketAddr = listen
        .parse()
        .map_err(|_| usage(format!("listen: {listen} is no address with a port, such as 127.0.0.1:2224")))?;
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    Ok(address)
}

/// Asks a program's `/readyz` over loopback, for the `healthcheck` subcommands. The error is the sentence it answered.
pub async fn check(address: SocketAddr) -> anyhow::Result<()> {
    check_over(address, TcpStream::connect(address)).await
}

/// As [`check`], over a connection that `connect` makes to `address`.
///
/// # Errors
/// The sentence that it answered, or why there was no answer.
pub async fn check_over<S: AsyncRead + AsyncWrite + Unpin>(
    address: SocketAddr,
    connect: impl Future<Output = std::io::Result<S>>,
) -> anyhow::Result<()> {
    let ask = async {
        let mut stream = connect.await?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
        let mut answer = Vec::new();
        stream.take(64 * 1024).read_to_end(&mut answer).await?;
        anyhow::Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = tokio::time::timeout(std::time::Duration::from_secs(10), ask)
        .await
        .map_err(|_| anyhow::anyhow!("{address} did not answer within 10 s"))?
        .map_err(|error| anyhow::anyhow!("{address}: {error}"))?;
    if answer.starts_with("HTTP/1.1 200") {
        return Ok(());
    }
    let reason = answer.split_once("\r\n\r\n").map_or("no answer", |(_, body)| body);
    anyhow::bail!("{}", reason.trim())
}
