//! Serves a program's pages over http, or over https where it has a certificate.
//!
//! Always holds: a request whose headers do not come ends its connection, and there are never more connections than
//! [`CONNECTIONS_MAX`], nor from one address more than its share: who sends half a request, or half a
//! handshake, and nothing more keeps nobody out.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::caller::OverTls;
use crate::tls::Tls;

/// Connections at once.
pub const CONNECTIONS_MAX: usize = 256;
/// The same from one address.
pub const CONNECTIONS_PER_ADDRESS_MAX: usize = 64;
/// How long the headers of a request may take.
const HEADERS_TIME: Duration = Duration::from_secs(10);
/// How long answers may take once the program is to end.
const ANSWER_TIME: Duration = Duration::from_secs(1);
/// How long it rests where the system gives no connection.
const REST: Duration = Duration::from_millis(100);

/// Serves until `shutdown`, and then for a moment to those who wait for an answer.
pub async fn serve(listener: TcpListener, pages: Router, tls: Option<Arc<Tls>>, shutdown: CancellationToken) {
    let (mut connections, mut from): (JoinSet<IpAddr>, HashMap<IpAddr, usize>) = Default::default();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            Some(ended) = connections.join_next() => leave(&mut from, ended.ok()),
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let of_there = from.entry(peer.ip()).or_default();
                    if connections.len() >= CONNECTIONS_MAX || *of_there >= CONNECTIONS_PER_ADDRESS_MAX {
                        tracing::debug!(%peer, "a connection was refused: there are too many");
                        continue;
                    }
                    *of_there += 1;
                    let (pages, tls, shutdown) = (pages.clone(), tls.clone(), shutdown.clone());
                    connections.spawn(async move {
                        attend(stream, peer, pages, tls, shutdown).await;
                        peer.ip()
                    });
                }
                Err(error) => {
                    tracing::warn!("no connection can be taken: {error}");
                    tokio::time::sleep(REST).await;
                }
            },
        }
    }
    let all = async { while connections.join_next().await.is_some() {} };
    // What has not ended by then is cut as the set goes.
    let _ = tokio::time::timeout(ANSWER_TIME, all).await;
}

/// Counts a connection out. The address of one that has panicked is not known; counting begins anew then.
fn leave(from: &mut HashMap<IpAddr, usize>, address: Option<IpAddr>) {
    match address {
        Some(address) => {
            if let Some(count) = from.get_mut(&address) {
                *count = count.saturating_sub(1);
            }
            from.retain(|_, count| *count > 0);
        }
        None => from.clear(),
    }
}

async fn attend(
    stream: TcpStream,
    peer: SocketAddr,
    pages: Router,
    tls: Option<Arc<Tls>>,
    shutdown: CancellationToken,
) {
    let Some(tls) = tls else { return answer(stream, peer, pages, shutdown).await };
    let accepted = tokio::select! {
        accepted = tls.accept(stream) => accepted,
        () = shutdown.cancelled() => return,
    };
    match accepted {
        Ok(Some(stream)) => answer(stream, peer, pages.layer(Extension(OverTls)), shutdown).await,
        Ok(None) => tracing::debug!(%peer, "somebody spoke http where https is spoken"),
        Err(error) => tracing::debug!(%peer, %error, "a handshake failed"),
    }
}

async fn answer<S>(stream: S, peer: SocketAddr, pages: Router, shutdown: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = TowerToHyperService::new(pages.layer(Extension(ConnectInfo(peer))));
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEADERS_TIME);
    let mut serving = std::pin::pin!(server.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = shutdown.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a connection ended");
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn page() -> (SocketAddr, CancellationToken) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, shutdown) = (listener.local_addr().unwrap(), CancellationToken::new());
        let show = async |ConnectInfo(peer): ConnectInfo<SocketAddr>| format!("hello {}", peer.ip());
        tokio::spawn(serve(listener, Router::new().route("/", get(show)), None, shutdown.clone()));
        (address, shutdown)
    }

    async fn ask(mut stream: TcpStream) -> String {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn connect_from(from: &str, address: SocketAddr) -> TcpStream {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(from.parse().unwrap(), 0)).unwrap();
        socket.connect(address).await.unwrap()
    }

    #[tokio::test]
    async fn half_requests_of_one_address_keep_no_other_out() {
        let (address, _shutdown) = page().await;
        let mut idle = Vec::new();
        for _ in 0..CONNECTIONS_PER_ADDRESS_MAX + 50 {
            let mut stream = connect_from("127.0.0.7", address).await;
            let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nX: ").await;
            idle.push(stream);
        }
        assert!(ask(connect_from("127.0.0.8", address).await).await.ends_with("hello 127.0.0.8"));
        // They are ended too, and their places are given back.
        let first = idle.first_mut().unwrap();
        let mut rest = Vec::new();
        let _ = first.read_to_end(&mut rest).await;
        drop(idle);
        assert!(ask(connect_from("127.0.0.7", address).await).await.ends_with("hello 127.0.0.7"));
    }

    #[tokio::test]
    async fn it_ends_although_somebody_sends_half_a_request() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, shutdown) = (listener.local_addr().unwrap(), CancellationToken::new());
        let serving = tokio::spawn(serve(listener, Router::new(), None, shutdown.clone()));
        let mut half = TcpStream::connect(address).await.unwrap();
        half.write_all(b"GET / HTTP/1.1\r\nHost: ").await.unwrap();
        shutdown.cancel();
        serving.await.unwrap();
    }
}
