//! The running service: a follower per standby while this machine is the master, nothing while it is a standby.

use std::fs::File;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use pair::exit::usage;
use pair::node::{self, Node, Role};
use pair::secret::PairSecret;
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::follower::Follower;
use crate::health::Health;
use crate::standby::{Address, Identity};
use crate::status::Board;

/// How often node.yaml is looked at. It is a few lines, and after a promotion nothing is mirrored until it was.
const ROLE_INTERVAL: Duration = Duration::from_millis(250);

/// filesync with its settings checked and its health port bound.
pub struct Service {
    config: Config,
    addresses: Vec<Address>,
    secret: PairSecret,
    listener: TcpListener,
    health: Arc<Health>,
    /// Held as long as the service lives: two would send into each other's stages.
    _lock: File,
}

/// Runs filesync until `shutdown`.
pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let service = Service::bind(config).await?;
    say(&format!("health on {}", service.health_address()?));
    service.run(shutdown).await
}

#[allow(clippy::print_stdout, reason = "addresses go to standard output, whatever the log's level")]
fn say(line: &str) {
    println!("filesync: {line}");
}

impl Service {
    /// Checks the settings and binds the health port.
    pub async fn bind(config: Config) -> anyhow::Result<Service> {
        config.check()?;
        pair::folder::claim_state(&config.state)?;
        let (addresses, secret) = (config.addresses()?, config.secret()?);
        let listener = TcpListener::bind(&config.health_listen)
            .await
            .map_err(|error| usage(format!("health_listen: cannot listen on {}: {error}", config.health_listen)))?;
        let lock = lock(&config)?;
        Ok(Service { config, addresses, secret, listener, health: Arc::default(), _lock: lock })
    }

    /// Where health and metrics are served.
    pub fn health_address(&self) -> anyhow::Result<SocketAddr> {
        self.listener.local_addr().context("the health port has no address")
    }

    /// Runs until `shutdown`. A transfer that is cut off is resumed next time.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let Service { config, addresses, secret, listener, health, _lock } = self;
        let pages = pair::health::serve(listener, health.clone(), shutdown.clone());
        let work = async {
            loop {
                tokio::select! {
                    outcome = follow(&config, &addresses, &secret, &health) => outcome?,
                    () = shutdown.cancelled() => return Ok(()),
                }
            }
        };
        let (pages, work) = tokio::join!(pages, async {
            let outcome: anyhow::Result<()> = work.await;
            shutdown.cancel();
            outcome
        });
        pages.context("the health port failed")?;
        work
    }
}

/// Makes sure that no other filesync works with this state.
fn lock(config: &Config) -> anyhow::Result<File> {
    let path = config.state.join("filesync.lock");
    let cannot = |error: &dyn std::fmt::Display| usage(format!("state: cannot lock {}: {error}", path.display()));
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(|error| cannot(&error))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => {
            Err(usage(format!("another filesync is running on {}: only one may", config.state.display())))
        }
        Err(error) => Err(cannot(&error)),
    }
}

/// Does what this machine's role asks for, until the role changes.
async fn follow(config: &Config, addresses: &[Address], secret: &PairSecret, health: &Health) -> anyhow::Result<()> {
    let node = read_node(config).await?;
    match &node {
        None => {
            tracing::info!("{} is not there yet: waiting for sftpd's first start", node::path(&config.state).display());
            health.idle(Err("waiting for sftpd's first start".into()));
        }
        Some(node) if node.role == Role::Standby => {
            tracing::info!("this machine is a standby: nothing to mirror from here");
            health.idle(Ok(()));
        }
        Some(_) if addresses.is_empty() => {
            let sentence =
                "no standby is configured, nothing is mirrored: set standbys (FILESYNC_STANDBYS) to host:port";
            tracing::warn!("{sentence}");
            health.idle(Err(sentence.into()));
        }
        Some(node) => {
            let identity = Arc::new(Identity::new(secret, &config.state, node.clone())?);
            let followers = addresses
                .iter()
                .map(|address| {
                    let board = Arc::new(Board::new(&address.name, config.interval.get()));
                    Follower::new(config, address.clone(), identity.clone(), board)
                })
                .collect::<anyhow::Result<Vec<_>>>()?;
            health.follow(followers.iter().map(|follower| follower.board.clone()).collect());
            // A task for each; all of them end when this set is dropped.
            let mut following = JoinSet::new();
            for follower in followers {
                following.spawn(async move { follower.run().await });
            }
            tokio::select! {
                Some(ended) = following.join_next() => ended.context("a standby's follower ended")?,
                outcome = role_changes(config, Some(node)) => outcome?,
            }
            return Ok(());
        }
    }
    role_changes(config, node.as_ref()).await
}

/// Waits until `node.yaml` says something else.
async fn role_changes(config: &Config, before: Option<&Node>) -> anyhow::Result<()> {
    let of = |node: Option<&Node>| {
        node.map(|node| (node.node.clone(), node.role, node.epoch.as_ref().map(|epoch| epoch.id.clone())))
    };
    loop {
        tokio::time::sleep(ROLE_INTERVAL).await;
        let now = read_node(config).await?;
        if of(now.as_ref()) != of(before) {
            return Ok(());
        }
    }
}

async fn read_node(config: &Config) -> anyhow::Result<Option<Node>> {
    let state = config.state.clone();
    tokio::task::spawn_blocking(move || node::read(&state)).await.context("reading node.yaml broke off")?
}
