//! Accepts connections and looks after each until it ends: login grace, accounts that go, shutdown, panics.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use russh::server::Config;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::accounts::{Account, Accounts};
use crate::daemon::Daemon;
use crate::session::{SessionError, SshSession, Watched};
use crate::sftp::Identity;
use crate::socket::Socket;

/// How often a draining connection is asked whether it still writes.
const DRAIN_LOOK: Duration = Duration::from_millis(20);

/// How long a connection may take to say goodbye before it is cut.
const GOODBYE: Duration = Duration::from_secs(2);

/// Accepts until `shutdown`, then lets running transfers end.
pub async fn listen(daemon: Arc<Daemon>, listener: TcpListener, ssh: Arc<Config>, shutdown: CancellationToken) {
    let connections = TaskTracker::new();
    let doors = Arc::new(Doors::default());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let Some(door) = doors.enter(peer.ip(), &daemon) else {
                    tracing::warn!(%peer, "connection refused: too many have not logged in");
                    continue;
                };
                let (daemon, ssh, shutdown) = (daemon.clone(), ssh.clone(), shutdown.clone());
                connections.spawn(async move { serve(daemon, stream, peer, ssh, door, shutdown).await });
            }
            // Out of descriptors, or a client that was gone at once. The next one may do better; a short rest keeps
            // this from turning in circles.
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn serve(
    daemon: Arc<Daemon>,
    stream: TcpStream,
    peer: SocketAddr,
    ssh: Arc<Config>,
    door: Door,
    shutdown: CancellationToken,
) {
    let _open = daemon.metrics.connection();
    // Without it small answers wait for the client's acknowledgements; nothing breaks where it cannot be set.
    let _ = stream.set_nodelay(true);
    let login_deadline = Instant::now() + daemon.config.limits.login_grace.get();
    let (watched, logged_in, cut) = (Arc::new(Watched::default()), Arc::new(Notify::new()), CancellationToken::new());
    let session = SshSession::new(daemon.clone(), peer, watched.clone(), logged_in.clone());
    let socket = Socket::new(stream, cut.clone().cancelled_owned());
    let Ok(started) = tokio::time::timeout_at(login_deadline, russh::server::run_stream(ssh, socket, session)).await
    else {
        tracing::debug!(%peer, "connection ended: no greeting in time");
        return;
    };
    let mut running = match started {
        Ok(running) => running,
        Err(error) => {
            tracing::debug!(%peer, %error, "connection ended before the greeting");
            return;
        }
    };
    let handle = running.handle();
    let watch = Watch { daemon: &daemon, watched: &watched, logged_in: &logged_in, shutdown: &shutdown };
    let reason = tokio::select! {
        ended = &mut running => return report(&daemon, peer, ended),
        reason = watch.until_it_must_end(door, login_deadline) => reason,
    };
    tracing::info!(%peer, reason, "connection ended");
    let goodbye = async {
        let _ = handle.disconnect(russh::Disconnect::ByApplication, reason.to_owned(), String::new()).await;
        let _ = (&mut running).await;
    };
    let _ = tokio::time::timeout(GOODBYE, goodbye).await;
    // A client that reads nothing does not get the goodbye either: its socket goes all the same.
    cut.cancel();
}

fn report(daemon: &Daemon, peer: SocketAddr, ended: Result<(), SessionError>) {
    match ended {
        Ok(()) => tracing::debug!(%peer, "connection closed"),
        // russh gives a task that panicked no other name.
        Err(SessionError::Transport(russh::Error::Join(_))) => {
            daemon.metrics.panic();
            tracing::error!(%peer, "a bug ended this session; the others go on");
        }
        Err(SessionError::Channel(broken)) => tracing::warn!(%peer, reason = %broken, "connection ended"),
        Err(SessionError::Transport(error)) => tracing::debug!(%peer, %error, "connection lost"),
    }
}

/// What a connection is watched for.
struct Watch<'a> {
    daemon: &'a Daemon,
    watched: &'a Watched,
    logged_in: &'a Notify,
    shutdown: &'a CancellationToken,
}

impl Watch<'_> {
    /// Comes back with the reason when the connection must end.
    async fn until_it_must_end(&self, door: Door, login_deadline: Instant) -> &'static str {
        tokio::select! {
            () = self.logged_in.notified() => drop(door),
            () = tokio::time::sleep_until(login_deadline) => return "nobody logged in in time",
            () = self.shutdown.cancelled() => return "the server is shutting down",
        }
        let mut accounts = self.daemon.watch_accounts();
        let quota = self.quota(&accounts.borrow());
        while self.is_welcome(&accounts.borrow_and_update(), quota) {
            tokio::select! {
                _ = accounts.changed() => {}
                () = self.shutdown.cancelled() => {
                    self.until_nothing_is_written().await;
                    return "the server is shutting down";
                }
            }
        }
        "the account was removed, disabled or given other rights"
    }

    /// How much the account's folder may hold; whoever shares it has a say in that.
    fn quota(&self, accounts: &Accounts) -> Option<u64> {
        match self.watched.identity() {
            Some(Identity::Account(account)) => accounts.quota_of(&account.home),
            Some(Identity::Peer) | None => None,
        }
    }

    fn is_welcome(&self, accounts: &Accounts, quota: Option<u64>) -> bool {
        match self.watched.identity() {
            // What a session may do is settled at its login, so it ends when that changes. A new password does not end it.
            Some(Identity::Account(account)) => accounts.enabled(&account.name).is_some_and(|now| {
                let rights = |of: &Account| (of.admin, of.read_only, of.home.clone(), of.upload);
                rights(now) == rights(&account) && self.quota(accounts) == quota
            }),
            Some(Identity::Peer) | None => true,
        }
    }

    async fn until_nothing_is_written(&self) {
        let deadline = Instant::now() + self.daemon.config.limits.drain.get();
        while self.watched.is_busy() && Instant::now() < deadline {
            tokio::time::sleep(DRAIN_LOOK).await;
        }
    }
}

/// Counts the connections that have not logged in, in all and by address.
#[derive(Default)]
struct Doors {
    // Held for a few lines, never across an await.
    waiting: Mutex<HashMap<IpAddr, usize>>,
}

/// A connection that has not logged in.
struct Door {
    doors: Arc<Doors>,
    address: IpAddr,
}

impl Doors {
    fn enter(self: &Arc<Self>, address: IpAddr, daemon: &Daemon) -> Option<Door> {
        let limits = &daemon.config.limits;
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let total: usize = waiting.values().sum();
        let from_here = waiting.get(&address).copied().unwrap_or(0);
        if total >= limits.unauthenticated || from_here >= limits.unauthenticated_per_address {
            return None;
        }
        waiting.insert(address, from_here + 1);
        Some(Door { doors: self.clone(), address })
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        let mut waiting = self.doors.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = waiting.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(&self.address);
            }
        }
    }
}
