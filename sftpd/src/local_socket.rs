//! A socket in the state folder for programs of this machine: how it is made, and how whoever connects is served.
//!
//! Only sftpd's own user can open one. What is spoken on it is its owner's affair ([`crate::feed`], [`crate::control`]).

use std::path::Path;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Connections that wait to be taken.
const BACKLOG: i32 = 100;

/// Makes a socket, in place of one that a dead daemon has left. The mode is set before the socket listens, so nobody else gets in
/// between; the rename replaces a stale one.
pub fn bind(path: &Path) -> anyhow::Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt;
    let fresh = path.with_extension("new");
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(&fresh)?)?;
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600))?;
    rustix::net::listen(&socket, BACKLOG)?;
    std::fs::rename(&fresh, path)?;
    Ok(UnixListener::from_std(socket.into())?)
}

/// Serves everybody who connects, up to `connections_max` at once, until `shutdown`; then every connection ends at once.
pub async fn serve<F>(
    listener: UnixListener,
    name: &'static str,
    connections_max: usize,
    shutdown: CancellationToken,
    connection: impl Fn(UnixStream) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => break,
        };
        match accepted {
            Ok(_) if connections.len() >= connections_max => tracing::warn!("too many connections to the {name}"),
            Ok((stream, _)) => {
                let (served, shutdown) = (connection(stream), shutdown.clone());
                connections.spawn(async move { shutdown.run_until_cancelled(served).await });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection to the {name}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}
