//! Accepts connections and looks after each until it ends: login grace, accounts that go, shutdown, panics.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use russh::AlgorithmKind;
use russh::keys::ssh_key::public::KeyData;
use russh::server::Config;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::accounts::Accounts;
use crate::connection::{Connection, OpenConnection};
use crate::daemon::Daemon;
use crate::doors::{Door, Doors};
use crate::guard::Offence;
use crate::login::record_stranger;
use crate::proxy::{self, Refusal};
use crate::session::{SessionError, SshSession};
use crate::sftp::Identity;
use crate::socket::Socket;

/// How often a draining connection is asked whether it still writes.
const DRAIN_LOOK: Duration = Duration::from_millis(20);

/// How often the clock is looked at for an account that expires.
const EXPIRY_LOOK: Duration = Duration::from_secs(1);

/// How long a connection may take to say goodbye before it is cut.
const GOODBYE: Duration = Duration::from_secs(2);

/// Of the names of algorithms that a client knows, so much is shown, in bytes: of each, and of all.
const NAME_SHOWN_MAX: usize = 64;
const NAMES_SHOWN_MAX: usize = 300;

/// Accepts until `shutdown`, then lets running transfers end.
pub async fn listen(daemon: Arc<Daemon>, listener: TcpListener, shutdown: CancellationToken) {
    let connections = TaskTracker::new();
    let hall = Arc::new(Hall { daemon: daemon.clone(), doors: Arc::default(), unproxied: Mutex::default() });
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => break,
        };
        match accepted.map(|(stream, peer)| (stream, plain(peer))) {
            Ok((stream, peer)) if is_proxy(&daemon, peer) => {
                let (hall, shutdown) = (hall.clone(), shutdown.clone());
                connections.spawn(async move { hall.receive_for(peer, stream, shutdown).await });
            }
            Ok((stream, peer)) => {
                if let Some((open, door)) = hall.admit(peer) {
                    let (hall, shutdown) = (hall.clone(), shutdown.clone());
                    connections.spawn(async move { hall.serve(stream, open, door, shutdown).await });
                }
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

/// Whether a connection comes from a load balancer in front, which says for whom it is.
fn is_proxy(daemon: &Daemon, peer: SocketAddr) -> bool {
    daemon.config.proxies.iter().any(|proxies| proxies.contains(&peer.ip()))
}

/// An address of before IPv6 may come in its form for IPv6.
fn plain(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
}

/// Where connections come in.
struct Hall {
    daemon: Arc<Daemon>,
    doors: Arc<Doors>,
    /// Connections from each load balancer that have not said for whom they are.
    unproxied: Mutex<HashMap<IpAddr, usize>>,
}

/// A connection from a load balancer that has not said for whom it is.
struct Unproxied<'a>(&'a Hall, IpAddr);

impl Drop for Unproxied<'_> {
    fn drop(&mut self) {
        let mut waiting = self.0.unproxied.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = waiting.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(&self.1);
            }
        }
    }
}

impl Hall {
    /// Takes a connection that a load balancer hands on, for the client it comes from.
    async fn receive_for(&self, proxy: SocketAddr, mut stream: TcpStream, shutdown: CancellationToken) {
        let Some(place) = self.unproxied(proxy.ip()) else {
            self.daemon.metrics.refused("waiting");
            return tracing::debug!(%proxy, "connection refused: too many from this load balancer do not say for whom they are");
        };
        let client = tokio::select! {
            client = proxy::client(&mut stream, proxy) => client,
            () = shutdown.cancelled() => return,
        };
        drop(place);
        match client.map(plain) {
            Ok(peer) => {
                if let Some((open, door)) = self.admit(peer) {
                    self.serve(stream, open, door, shutdown).await;
                }
            }
            Err(Refusal::Silent) => {}
            Err(Refusal::Sentence(sentence)) => {
                self.daemon.metrics.refused("proxy");
                self.daemon.say_now_and_then(&sentence);
            }
        }
    }

    fn unproxied(&self, proxy: IpAddr) -> Option<Unproxied<'_>> {
        let mut waiting = self.unproxied.lock().unwrap_or_else(PoisonError::into_inner);
        let count = waiting.entry(proxy).or_default();
        let has_place = *count < self.daemon.config.limits.unauthenticated;
        has_place.then(|| {
            *count += 1;
            Unproxied(self, proxy)
        })
    }

    /// Takes a connection in, if the guard and the doors do.
    fn admit(&self, peer: SocketAddr) -> Option<(OpenConnection, Door)> {
        let metrics = &self.daemon.metrics;
        if let Err(reason) = self.daemon.guard.admit(peer.ip(), std::time::Instant::now()) {
            metrics.refused("guard");
            tracing::debug!(%peer, reason, "connection refused");
            return None;
        }
        let open = self.daemon.connections.enter(peer, Some(self.daemon.listener_for(peer.ip())));
        let Some(door) = self.doors.enter(&open.connection, &self.daemon) else {
            metrics.refused("waiting");
            tracing::warn!(%peer, "connection refused: too many from there have not logged in");
            return None;
        };
        Some((open, door))
    }

    async fn serve(&self, stream: TcpStream, open: OpenConnection, door: Door, shutdown: CancellationToken) {
        // Without it small answers wait for the client's acknowledgements; nothing breaks where it cannot be set.
        let _ = stream.set_nodelay(true);
        let overheard = open.connection.overheard.as_ref();
        let exceptions = overheard.map(|overheard| overheard.exceptions.as_slice()).filter(|names| !names.is_empty());
        let ssh = self.daemon.greetings.for_exceptions(exceptions);
        serve(self.daemon.clone(), stream, open, ssh, door, shutdown).await;
    }
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
    let login_deadline = Instant::now() + daemon.config.limits.login_grace.get();
    let (connection, peer, cut) = (&open.connection, open.connection.peer, CancellationToken::new());
    let session = SshSession::new(daemon.clone(), connection.clone());
    let socket = Socket::new(stream, cut.clone().cancelled_owned(), &connection.slot, connection.clock.clone());
    let begins = daemon.clone();
    let socket = socket.overheard_by(connection.overheard.clone()).when_dry(move || begins.begin_changes());
    let socket = socket.with_chores(connection.chores.clone());
    let greeted = tokio::time::timeout_at(login_deadline, russh::server::run_stream(ssh, socket, session));
    let started = tokio::select! {
        greeted = greeted => greeted,
        reason = connection.ended() => return tracing::debug!(%peer, %reason, "connection ended before the greeting"),
    };
    let mut running = match started {
        Ok(Ok(running)) => running,
        Ok(Err(error)) => {
            // Who only looks whether the port is open says nothing.
            if connection.clock.is_proxied.load(Ordering::Relaxed) {
                daemon.offend(peer.ip(), Offence::NoLogin);
                daemon.say_now_and_then(&format!(
                    "{} sends PROXY headers and is not listed under proxies: list it if it is a load balancer of yours",
                    peer.ip()
                ));
            } else if connection.clock.received.load(Ordering::Relaxed) > 0 {
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
        ended = &mut running => {
            let why_not = report(&daemon, connection, ended);
            return record_stranger(&daemon, connection, why_not);
        }
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
    record_stranger(&daemon, connection, None);
}

/// Says how a connection ended. Gives a sentence where the client could not speak with us at all.
fn report(daemon: &Daemon, connection: &Connection, ended: Result<(), SessionError>) -> Option<String> {
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
            if let russh::Error::NoCommonAlgo { kind, theirs, .. } = &error {
                return Some(old_client(peer, kind, theirs));
            }
            let is_gone = matches!(error, russh::Error::IO(_) | russh::Error::Disconnect | russh::Error::HUP);
            if connection.identity().is_none() && !is_gone {
                daemon.offend(peer.ip(), Offence::Hostile);
            }
            tracing::debug!(%peer, %error, "connection lost");
        }
    }
    None
}

/// A client that knows nothing of what it is offered has no ill will: it is told apart, so that somebody can help it.
fn old_client(peer: SocketAddr, kind: &AlgorithmKind, theirs: &[String]) -> String {
    let kind = match kind {
        AlgorithmKind::Kex => "key exchange",
        AlgorithmKind::Key => "host key",
        AlgorithmKind::Cipher => "cipher",
        AlgorithmKind::Compression => "compression",
        AlgorithmKind::Mac => "MAC",
    };
    let sentence = format!(
        "the client knows no {kind} that is offered here: it is out of date, or needs an exception (docs/users-yaml.md, \
         \"Old clients\"). It knows {}",
        shown(theirs)
    );
    tracing::warn!(%peer, "{sentence}");
    sentence
}

/// Names that a stranger sends, as far as a person would read them.
fn shown(names: &[String]) -> String {
    let is_plain = |letter: &char| letter.is_ascii_graphic() && *letter != '"';
    let mut shown = String::new();
    for name in names {
        let name: String = name.chars().filter(is_plain).take(NAME_SHOWN_MAX).collect();
        if shown.len() + name.len() > NAMES_SHOWN_MAX {
            return shown + ", …";
        }
        shown += if shown.is_empty() { "" } else { ", " };
        shown += &name;
    }
    shown
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
                // Whoever stands in our own queue has done what he could.
                if !self.connection.is_checking.load(Ordering::Relaxed) {
                    self.daemon.offend(self.connection.peer.ip(), Offence::GraceExceeded);
                }
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
                let is_trusted = |by: KeyData| accounts.trusted_ca.iter().any(|known| *known.key_data() == by);
                let at = jiff::Timestamp::now();
                let may_use = |algorithm: &str| now.has_exception_for(algorithm, at);
                now.admits(self.connection.peer.ip(), at)
                    && now.has_rights_of(&account)
                    && self.connection.authority().is_none_or(is_trusted)
                    && self.quota(accounts) == quota
                    && self.connection.chosen().is_some_and(|old| old.needed.iter().all(|name| may_use(name)))
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
