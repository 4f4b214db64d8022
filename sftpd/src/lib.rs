//! sftpd: the SFTP daemon of a pair.
//!
//! The modules stand in the order in which a byte meets them. `run` is the whole program but for its command line, so
//! that a test can hold several in one process.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod cli;
pub mod config;
mod operator;

mod daemon;
mod health;
mod metrics;

mod activity;
mod connection;
mod doors;

mod chores;
mod gateway;
mod guard;
mod listener;
mod pace;
mod proxy;
mod socket;

mod algorithms;
mod login;
mod overheard;
mod session;

mod channel;
mod dispatch;
mod recording;

mod access;
mod pending;

mod fault;
mod handles;
mod modes;
mod requests;
mod rooms;
mod sftp;
mod transfer;
mod volume_room;
mod waits;

pub mod accounts;
mod admin_folder;
mod import;
mod standbys;
mod streams;
mod users_watch;

mod storage;

mod archive;

mod control;
mod feed;
mod local_socket;

mod peers;
mod role;

#[cfg(any(test, fuzzing))]
pub mod fuzzing;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use pair::exit::usage;
use pair::keys::{fingerprint, host_keys};
use pair::node::{self, Node, Role};
use pair::secret::PairSecret;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::accounts::Accounts;
use crate::config::Config;
use crate::daemon::Daemon;
use crate::storage::{Location, Volume};

/// Runs a daemon until `shutdown`, then lets running transfers end.
pub async fn run(config: Config, secret: PairSecret, shutdown: CancellationToken) -> anyhow::Result<()> {
    start(config, secret, shutdown).await?.wait().await
}

/// A daemon that serves.
pub struct Running {
    /// Where it listens for clients.
    pub listen: SocketAddr,
    /// Where it answers health checks.
    pub health_listen: SocketAddr,
    daemon: Arc<Daemon>,
    tasks: tokio::task::JoinSet<anyhow::Result<()>>,
    shutdown: CancellationToken,
}

impl Running {
    /// Waits until the daemon has ended. The first task that fails ends the others.
    pub async fn wait(mut self) -> anyhow::Result<()> {
        let mut result = Ok(());
        while let Some(ended) = self.tasks.join_next().await {
            let ended = ended.context("a task of the daemon panicked").and_then(|ended| ended);
            if ended.is_err() && result.is_ok() {
                result = ended;
            }
            self.shutdown.cancel();
        }
        self.daemon.volume.close().await;
        let log = self.daemon.activity.clone();
        let _ = tokio::task::spawn_blocking(move || log.flush()).await;
        result
    }
}

/// Checks everything, opens the volume, binds the addresses and serves. Says where on standard output.
pub async fn start(config: Config, secret: PairSecret, shutdown: CancellationToken) -> anyhow::Result<Running> {
    config.check()?;
    pair::folder::claim_state(&config.state)?;
    let keys = host_keys(&config.state, &secret)?;
    let mut node = match node::read(&config.state)? {
        Some(node) => node,
        None => Node::new(config.role)?,
    };
    let pair_id = secret.pair_id();
    let location = Location { data: &config.data, state: &config.state, pair_id: &pair_id };
    let volume = Volume::open(&location, &mut node, config.durability)?;
    node::write(&config.state, &node)?;
    let ledger = Arc::new(archive::ledger::Ledger::open(&config.state)?);
    // Until the archive has looked, it needs all that the journal has.
    volume.keep_records_behind(0);
    let (sftp, health) = (bind(config.listen, "listen").await?, bind(config.health_listen, "health_listen").await?);
    let (listen, health_listen) = (sftp.local_addr()?, health.local_addr()?);
    let (feed, orders) = (feed::bind(&config.state)?, control::bind(&config.state)?);
    let pair = pair::peer::Identity::new(&secret, &config.state)?;
    let kept = Accounts::load(&config.state)?;
    // A first start that broke off has kept accounts, but none in them.
    let knows_nobody = kept.as_ref().is_none_or(|kept| kept.iter().next().is_none());
    let is_first_start = knows_nobody && node.role == Role::Master;
    let shown: Vec<_> = keys.iter().map(|key| key.public_key().clone()).collect();
    let daemon = Arc::new(Daemon::new(config, volume, node, pair, keys, kept.unwrap_or_default())?);
    if is_first_start {
        daemon.admin_folder.seed(&daemon, &daemon.config.users).await?;
    }
    daemon.take_place().await?;
    daemon.announce(&format!("{} of pair {}", daemon.roles.now().phase().text(), daemon.volume.marker().pair));
    for key in &shown {
        daemon.announce(&format!("host key {} ({})", fingerprint(key), key.algorithm()));
    }
    daemon.announce(&format!("health on {health_listen}"));
    daemon.announce(&format!("listening on {listen}"));
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(users_watch::watch(daemon.clone(), shutdown.clone()));
    tasks.spawn(health::serve(daemon.clone(), health, shutdown.clone()));
    tasks.spawn(look_after_uploads(daemon.clone(), shutdown.clone()));
    tasks.spawn(archive::keep(daemon.clone(), ledger, shutdown.clone()));
    tasks.spawn(peers::keep_company(daemon.clone(), shutdown.clone()));
    tasks.spawn(role::asking::ask(daemon.clone(), shutdown.clone()));
    let (source, feed_shutdown) = (daemon.clone(), shutdown.clone());
    tasks.spawn(async move {
        feed::serve(source, feed, feed_shutdown).await;
        Ok(())
    });
    let (source, control_shutdown) = (daemon.clone(), shutdown.clone());
    tasks.spawn(async move {
        control::serve(source, orders, control_shutdown).await;
        Ok(())
    });
    let sessions = listener::listen(daemon.clone(), sftp, shutdown.clone());
    tasks.spawn(async move {
        sessions.await;
        Ok(())
    });
    Ok(Running { listen, health_listen, daemon, tasks, shutdown })
}

/// Removes unfinished uploads that nobody has continued for too long, and counts anew what quotas are for.
async fn look_after_uploads(daemon: Arc<Daemon>, shutdown: CancellationToken) -> anyhow::Result<()> {
    let age = daemon.config.limits.unfinished_expiry.get();
    let mut look = tokio::time::interval((age / 4).clamp(Duration::from_secs(1), Duration::from_secs(600)));
    while shutdown.run_until_cancelled(look.tick()).await.is_some() {
        let daemon = daemon.clone();
        let forgotten = tokio::task::spawn_blocking(move || {
            daemon.volume.recount();
            daemon.volume.expire_unfinished(age)
        });
        let forgotten = forgotten.await?;
        if forgotten > 0 {
            tracing::info!(forgotten, "unfinished uploads that nobody continued were removed");
        }
    }
    Ok(())
}

async fn bind(address: SocketAddr, key: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .map_err(|error| usage(format!("cannot listen on {address} (key `{key}`): {error}: is another program there?")))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use pair::client::{Client, Login, connect};
    use pair::extension::{HELLO, Hello};
    use pair::keys::peer_key;

    struct Fixture {
        _folder: tempfile::TempDir,
        secret: PairSecret,
        running: Running,
    }

    /// Settings for a machine in a folder, which is filled with what a first start needs.
    pub(crate) fn config_in(folder: &std::path::Path, role: Role) -> Config {
        let at = |name: &str| folder.join(name);
        std::fs::create_dir_all(at("data")).unwrap();
        std::fs::write(at("users.yaml"), "users: {A: {name: admin, password: secret, admin: true}}").unwrap();
        Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            health_listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            data: at("data"),
            state: at("state"),
            logs: at("logs"),
            users: at("users.yaml"),
            role,
            ..Config::default()
        }
    }

    async fn daemon() -> Fixture {
        daemon_as(Role::Master).await
    }

    async fn daemon_as(role: Role) -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let config = config_in(folder.path(), role);
        let secret = PairSecret::generate().unwrap();
        let running = start(config, secret.clone(), CancellationToken::new()).await.unwrap();
        Fixture { _folder: folder, secret, running }
    }

    impl Fixture {
        async fn peer(&self) -> Client {
            let key = Arc::new(peer_key(&self.secret).unwrap());
            let login = Login::with_key(pair::keys::PEER_USER, key);
            connect(&self.running.listen.to_string(), login, Arc::new(|_| Ok(()))).await.unwrap()
        }

        /// The peer, once it has said that it is the master.
        async fn master(&self) -> Client {
            let peer = self.peer().await;
            let epoch = Some(pair::epoch::Epoch::first().unwrap());
            let hello = Hello { pair: self.secret.pair_id(), node: "b".into(), epoch, ..Hello::default() };
            pair::peer::say_hello(&peer, &hello).await.unwrap();
            peer
        }

        async fn metrics(&self) -> String {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let mut stream = tokio::net::TcpStream::connect(self.running.health_listen).await.unwrap();
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            text
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_panic_in_one_session_ends_that_session_and_no_other() {
        let fixture = daemon().await;
        let (other, broken) = (fixture.peer().await, fixture.peer().await);
        assert!(broken.extended("panic@sftp-ha", b"").await.is_err_and(|error| error.is_lost()));
        assert!(other.lstat(b"/admin").await.is_ok());
        // Counted when the session's task has been taken apart, a moment after the client sees its end.
        let counted = async {
            while !fixture.metrics().await.contains("sftpd_session_panics_total 1") {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(30), counted).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_panic_in_work_that_answers_later_is_answered() {
        let fixture = daemon().await;
        let peer = fixture.peer().await;
        assert!(peer.extended("panic-later@sftp-ha", b"").await.is_err_and(|error| !error.is_lost()));
        assert!(peer.lstat(b"/admin").await.is_ok(), "requests on the path no longer wait");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_master_lets_the_peer_look_and_not_write() {
        let fixture = daemon().await;
        let peer = fixture.peer().await;
        assert!(peer.lstat(b"/.pair/marker").await.is_ok());
        assert!(peer.mkdir(b"/folder", 0o755).await.is_err_and(|error| error.to_string().contains("is a master")));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_standby_takes_a_small_file_in_one_request_where_nothing_is() {
        let fixture = daemon_as(Role::Standby).await;
        let attrs = pair::wire::Attrs::default();
        let unknown = fixture.peer().await.put(b"/file", attrs, b"").await;
        assert!(unknown.is_err_and(|error| error.to_string().contains("has not said hello")));
        let peer = fixture.master().await;
        let attrs = pair::wire::Attrs { mode: Some(0o640), times: Some((7, 7)), ..Default::default() };
        peer.mkdir(b"/home", 0o755).await.unwrap();
        peer.put(b"/home/file", attrs, b"content").await.unwrap();
        let file = fixture._folder.path().join("data/home/file");
        let found = peer.lstat(b"/home/file").await.unwrap();
        assert_eq!((found.mode, found.times.map(|times| times.1)), (Some(0o100_640), Some(7)));
        for taken in [&b"/home/file"[..], b"/home"] {
            assert!(peer.put(taken, attrs, b"other").await.is_err_and(|error| !error.is_missing() && !error.is_lost()));
        }
        assert_eq!(std::fs::read(file).unwrap(), b"content");
        assert!(peer.put(b"/nowhere/file", attrs, b"").await.is_err_and(|error| error.is_missing()));
        assert!(peer.list(b"/.pair/stage").await.unwrap().is_empty(), "what was refused leaves nothing");
        let master = daemon().await;
        let refused = master.peer().await.put(b"/file", attrs, b"").await;
        assert!(refused.is_err_and(|error| error.to_string().contains("is a master")));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_logs_in_to_a_machine_that_has_just_left_the_masters_place_is_cut_off_and_comes_again() {
        let fixture = daemon().await;
        let log_in = || {
            let login = Login::with_password("admin", "secret");
            async { connect(&fixture.running.listen.to_string(), login, Arc::new(|_| Ok(()))).await }
        };
        assert!(log_in().await.is_ok());
        let newer = fixture.running.daemon.volume.chapter().epoch.next().unwrap();
        let (pair, phase) = (fixture.secret.pair_id(), Some(pair::node::Phase::Master));
        let master =
            Hello { pair, node: "b".into(), role: Role::Master, phase, epoch: Some(newer), ..Hello::default() };
        fixture.running.daemon.hear(&master).await.unwrap();
        assert!(fixture.running.daemon.is_standby() && log_in().await.is_err());
        assert!(fixture.peer().await.lstat(b"/.pair/marker").await.is_ok(), "the other machine is let in");
        assert!(log_in().await.is_ok(), "it was held until readers are let in again");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_peer_hears_who_this_is() {
        let fixture = daemon().await;
        let ours = Hello { pair: "p".into(), node: "n".into(), role: Role::Master, ..Hello::default() };
        let answer = fixture.peer().await.extended(HELLO, &serde_json::to_vec(&ours).unwrap()).await.unwrap();
        let theirs: Hello = serde_json::from_slice(&answer).unwrap();
        assert_eq!((theirs.role, theirs.pair), (Role::Master, fixture.secret.pair_id()));
    }
}
