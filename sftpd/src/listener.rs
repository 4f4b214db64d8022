//! Accepts connections and looks after each until it ends: login grace, accounts that go, shutdown, panics.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use russh::keys::ssh_key::public::KeyData;
use russh::server::Config;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::accounts::{Account, Accounts};
use crate::connection::{Connection, OpenConnection};
use crate::daemon::Daemon;
use crate::guard::Offence;
use crate::session::{SessionError, SshSession};
use crate::sftp::Identity;
use crate::socket::Socket;

/// How often a draining connection is asked whether it still writes.
const DRAIN_LOOK: Duration = Duration::from_millis(20);

/// How often the clock is looked at for an account that expires.
const EXPIRY_LOOK: Duration = Duration::from_secs(1);

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
                if let Err(reason) = daemon.guard.admit(peer.ip(), std::time::Instant::now()) {
                    daemon.metrics.refused("guard");
                    tracing::debug!(%peer, reason, "connection refused");
                    continue;
                }
                let open = daemon.connections.enter(peer);
                let Some(door) = doors.enter(&open.connection, &daemon) else {
                    daemon.metrics.refused("waiting");
                    tracing::warn!(%peer, "connection refused: too many from there have not logged in");
                    continue;
                };
                let (daemon, ssh, shutdown) = (daemon.clone(), ssh.clone(), shutdown.clone());
                connections.spawn(async move { serve(daemon, stream, open, ssh, door, shutdown).await });
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
    open: OpenConnection,
    ssh: Arc<Config>,
    door: Door,
    shutdown: CancellationToken,
) {
    let _counted = daemon.metrics.connection();
    // Without it small answers wait for the client's acknowledgements; nothing breaks where it cannot be set.
    let _ = stream.set_nodelay(true);
    let login_deadline = Instant::now() + daemon.config.limits.login_grace.get();
    let (connection, peer, cut) = (&open.connection, open.connection.peer, CancellationToken::new());
    let session = SshSession::new(daemon.clone(), connection.clone());
    let socket = Socket::new(stream, cut.clone().cancelled_owned(), &connection.slot, connection.clock.clone());
    let greeted = tokio::time::timeout_at(login_deadline, russh::server::run_stream(ssh, socket, session));
    let started = tokio::select! {
        greeted = greeted => greeted,
        reason = connection.ended() => return tracing::debug!(%peer, %reason, "connection ended before the greeting"),
    };
    let mut running = match started {
        Ok(Ok(running)) => running,
        Ok(Err(error)) => {
            // Who only looks whether the port is open says nothing.
            if connection.clock.received.load(Ordering::Relaxed) > 0 {
                daemon.offend(peer.ip(), Offence::Hostile);
            }
            return tracing::debug!(%peer, %error, "connection ended before the greeting");
        }
        Err(_) => {
            daemon.offend(peer.ip(), Offence::GraceExceeded);
            return tracing::debug!(%peer, "connection ended: no greeting in time");
        }
    };
    connection.has_greeted.store(true, Ordering::Relaxed);
    let handle = running.handle();
    let watch = Watch { daemon: &daemon, connection, shutdown: &shutdown };
    let reason = tokio::select! {
        ended = &mut running => return report(&daemon, connection, ended),
        reason = watch.until_it_must_end(door, login_deadline) => reason,
    };
    tracing::info!(%peer, %reason, "connection ended");
    connection.end(reason.clone());
    connection.slot.release();
    let goodbye = async {
        let _ = handle.disconnect(russh::Disconnect::ByApplication, reason.into_owned(), String::new()).await;
        let _ = (&mut running).await;
    };
    let _ = tokio::time::timeout(GOODBYE, goodbye).await;
    // A client that reads nothing does not get the goodbye either: its socket goes all the same.
    cut.cancel();
}

fn report(daemon: &Daemon, connection: &Connection, ended: Result<(), SessionError>) {
    let peer = connection.peer;
    match ended {
        Ok(()) => tracing::debug!(%peer, "connection closed"),
        // russh gives a task that panicked no other name.
        Err(SessionError::Transport(russh::Error::Join(_))) => {
            daemon.metrics.panic();
            tracing::error!(%peer, "a bug ended this session; the others go on");
        }
        Err(SessionError::Channel(broken)) => tracing::warn!(%peer, reason = %broken, "connection ended"),
        Err(SessionError::Transport(error)) => {
            let is_gone = matches!(error, russh::Error::IO(_) | russh::Error::Disconnect | russh::Error::HUP);
            if connection.identity().is_none() && !is_gone {
                daemon.offend(peer.ip(), Offence::Hostile);
            }
            tracing::debug!(%peer, %error, "connection lost");
        }
    }
}

/// What a connection is watched for.
struct Watch<'a> {
    daemon: &'a Daemon,
    connection: &'a Connection,
    shutdown: &'a CancellationToken,
}

impl Watch<'_> {
    /// Comes back with the reason when the connection must end.
    async fn until_it_must_end(&self, door: Door, login_deadline: Instant) -> Cow<'static, str> {
        tokio::select! {
            () = self.connection.logged_in.notified() => drop(door),
            reason = self.connection.ended() => return reason,
            () = tokio::time::sleep_until(login_deadline) => {
                self.daemon.offend(self.connection.peer.ip(), Offence::GraceExceeded);
                return "nobody logged in in time".into();
            }
            () = self.shutdown.cancelled() => return "the server is shutting down".into(),
        }
        let mut accounts = self.daemon.watch_accounts();
        let quota = self.quota(&accounts.borrow());
        while self.is_welcome(&accounts.borrow_and_update(), quota) {
            let expired = self.until_it_expires(&accounts.borrow());
            tokio::select! {
                _ = accounts.changed() => {}
                reason = self.connection.ended() => return reason,
                () = self.until_it_is_idle() => return "nothing has happened for too long".into(),
                () = expired => return "the account has expired".into(),
                () = self.shutdown.cancelled() => {
                    self.until_nothing_is_written().await;
                    return "the server is shutting down".into();
                }
            }
        }
        "the account was removed, disabled or given other rights".into()
    }

    /// Nothing has moved for as long as may be, and nothing is being done. A slow transfer is not idle.
    async fn until_it_is_idle(&self) {
        let idle_timeout = self.daemon.config.limits.idle_timeout.get();
        loop {
            let rest = self.connection.clock.rest();
            if rest < idle_timeout {
                tokio::time::sleep(idle_timeout - rest).await;
            } else if self.connection.is_working() {
                self.connection.clock.moved();
            } else {
                return;
            }
        }
    }

    /// When the account is over by itself. Looked at by the clock, which may be set meanwhile.
    fn until_it_expires(&self, accounts: &Accounts) -> impl Future<Output = ()> + use<> {
        let name = self.connection.identity().map(|identity| identity.name().to_owned());
        let expires = name.and_then(|name| accounts.get(&name)?.expires);
        async move {
            let Some(expires) = expires else { return std::future::pending().await };
            while jiff::Timestamp::now() < expires {
                tokio::time::sleep(EXPIRY_LOOK).await;
            }
        }
    }

    /// How much the account's folder may hold; whoever shares it has a say in that.
    fn quota(&self, accounts: &Accounts) -> Option<u64> {
        match self.connection.identity() {
            Some(Identity::Account(account)) => accounts.quota_of(&account.home),
            Some(Identity::Peer) | None => None,
        }
    }

    fn is_welcome(&self, accounts: &Accounts, quota: Option<u64>) -> bool {
        match self.connection.identity() {
            // What a session may do is settled at its login, so it ends when that changes. A new password does not end it.
            Some(Identity::Account(account)) => accounts.get(&account.name).is_some_and(|now| {
                let rights = |of: &Account| {
                    (of.admin, of.read_only, of.upload_only, of.permissions.clone(), of.home.clone(), of.upload)
                };
                let is_trusted = |by: KeyData| accounts.trusted_ca.iter().any(|known| *known.key_data() == by);
                now.admits(self.connection.peer.ip(), jiff::Timestamp::now())
                    && rights(now) == rights(&account)
                    && self.connection.authority().is_none_or(is_trusted)
                    && self.quota(accounts) == quota
            }),
            Some(Identity::Peer) | None => true,
        }
    }

    async fn until_nothing_is_written(&self) {
        let deadline = Instant::now() + self.daemon.config.limits.drain.get();
        while self.connection.is_busy() && Instant::now() < deadline {
            tokio::time::sleep(DRAIN_LOOK).await;
        }
    }
}

/// The connections that have not logged in, by address, the oldest first.
#[derive(Default)]
struct Doors {
    // Held for a few lines, never across an await.
    waiting: Mutex<HashMap<IpAddr, VecDeque<Arc<Connection>>>>,
}

/// A connection that has not logged in.
struct Door {
    doors: Arc<Doors>,
    connection: Arc<Connection>,
}

impl Doors {
    /// Takes a connection in. Where all places are taken the oldest from the address with the most goes: so many idle ones from
    /// a few addresses keep nobody else out.
    fn enter(self: &Arc<Self>, connection: &Arc<Connection>, daemon: &Daemon) -> Option<Door> {
        let (limits, address) = (&daemon.config.limits, connection.peer.ip());
        let mut waiting = self.lock();
        if waiting.get(&address).map_or(0, VecDeque::len) >= limits.unauthenticated_per_address {
            return None;
        }
        if waiting.values().map(VecDeque::len).sum::<usize>() >= limits.unauthenticated {
            let most = waiting.values_mut().max_by_key(|from_there| from_there.len());
            if let Some(oldest) = most.and_then(VecDeque::pop_front) {
                daemon.metrics.refused("crowded out");
                oldest.end("too many connections wait to log in");
            }
        }
        waiting.entry(address).or_default().push_back(connection.clone());
        Some(Door { doors: self.clone(), connection: connection.clone() })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<IpAddr, VecDeque<Arc<Connection>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        let address = self.connection.peer.ip();
        let mut waiting = self.doors.lock();
        if let Some(from_there) = waiting.get_mut(&address) {
            from_there.retain(|waiting| waiting.number != self.connection.number);
            if from_there.is_empty() {
                waiting.remove(&address);
            }
        }
    }
}
