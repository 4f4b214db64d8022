//! The other machines of the pair, as this sftpd speaks to them: a hello each second, and what comes of it.
//!
//! Always holds: what another machine says is judged by [`crate::role`] before it is shown to anybody. Whoever is away is tried again
//! for ever; that is said once, and once more when it is back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::future::join_all;
use pair::client::Client;
use pair::exit::usage;
use pair::extension::Hello;
use pair::node::{Phase, Role};
use pair::peer::{Failure, Identity, connect, say_hello};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::daemon::Daemon;
use crate::storage::Held;

mod errands;

use errands::Errands;
pub use errands::{ask_about_offer, has_our_host_keys};

/// From one hello to the next.
const HELLO_INTERVAL: Duration = Duration::from_secs(1);

/// Uploads that begin are told together, so long after the first.
const BEGUN_REST: Duration = Duration::from_millis(50);

/// How long a machine may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(3);

/// How long one may take when a machine is to be promoted because another is dead: an answer takes milliseconds, and who was promoted beside a
/// master that was only slow is heard of a second later.
const HASTY_ANSWER_MAX: Duration = Duration::from_millis(700);

/// What is known of another machine.
#[derive(Clone, Default)]
pub struct Seen {
    /// What it said last, and when.
    pub hello: Option<(Hello, Instant)>,
    /// Why it cannot be spoken to now.
    pub problem: Option<String>,
    /// Whether it has answered since the start.
    has_answered: bool,
    client: Option<Arc<Client>>,
}

/// The other machines.
pub struct Peers {
    identity: Identity,
    /// By their addresses.
    seen: watch::Sender<BTreeMap<String, Seen>>,
    // Held for a few lines, never across an await.
    errands: Mutex<BTreeMap<String, Errands>>,
    /// As long as a master of before may still offer something, the journal keeps what proves that nobody has touched its path.
    records: Mutex<Option<Held>>,
}

impl Peers {
    /// Those of the settings.
    pub fn new(identity: Identity, addresses: &[String]) -> Peers {
        let seen = addresses.iter().map(|address| (address.clone(), Seen::default())).collect();
        Peers { identity, seen: watch::Sender::new(seen), errands: Mutex::default(), records: Mutex::default() }
    }

    /// What is known of them.
    pub fn seen(&self) -> BTreeMap<String, Seen> {
        self.seen.borrow().clone()
    }

    /// Comes back when each has answered since the start.
    pub async fn all_have_answered(&self) {
        // The sender lives as long as this.
        let _ = self.seen.subscribe().wait_for(|seen| seen.values().all(|one| one.has_answered)).await;
    }

    /// The connection to a machine, if there is one.
    pub fn client(&self, address: &str) -> Option<Arc<Client>> {
        self.seen.borrow().get(address)?.client.clone().filter(|client| !client.is_lost())
    }

    /// Has the journal keep its records while they may be needed.
    pub fn hold_records(&self, daemon: &Daemon) {
        let standing = daemon.roles.now();
        let own = standing.node.epoch.as_ref().filter(|own| standing.node.role == Role::Master && own.parent.is_some());
        let is_settled = |seen: &Seen| {
            let settled =
                |hello: &Hello| hello.phase == Some(Phase::Standby) && hello.epoch.as_ref() == own && hello.offers == 0;
            seen.hello.as_ref().is_some_and(|(hello, _)| settled(hello))
        };
        let is_needed = own.is_some() && !self.seen.borrow().values().all(is_settled);
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        if is_needed != records.is_some() {
            *records = is_needed.then(|| daemon.volume.hold_records());
        }
    }

    fn errands(&self) -> MutexGuard<'_, BTreeMap<String, Errands>> {
        self.errands.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, address: &str, change: impl FnOnce(&mut Seen)) {
        self.seen.send_modify(|seen| change(seen.entry(address.to_owned()).or_default()));
    }
}

/// The addresses of the settings, without plain SFTP servers, which are no machines of the pair.
pub fn addresses(peers: &[String]) -> anyhow::Result<Vec<String>> {
    let ours: Vec<String> = peers.iter().filter(|address| !address.contains('@')).cloned().collect();
    for address in &ours {
        let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok()).filter(|port| *port > 0);
        if port.is_none() {
            return Err(usage(format!("peers: \"{address}\" has no port: write host:port")));
        }
    }
    Ok(ours)
}

/// Speaks to all of them until `shutdown`.
pub async fn keep_company(daemon: Arc<Daemon>, shutdown: CancellationToken) -> anyhow::Result<()> {
    let addresses: Vec<String> = daemon.peers.seen().into_keys().collect();
    let all = join_all(addresses.iter().map(|address| keep_company_with(&daemon, address)));
    shutdown.run_until_cancelled(all).await;
    // Who knows no other machine has nothing to do until then.
    shutdown.cancelled().await;
    daemon.peers.errands().clear();
    Ok(())
}

async fn keep_company_with(daemon: &Arc<Daemon>, address: &str) {
    let (mut changes, mut begun) = (daemon.roles.watch(), daemon.volume.watch_begun());
    loop {
        changes.mark_unchanged();
        begun.mark_unchanged();
        // Its outcome is noted, and shown where somebody looks.
        let _ = meet(daemon, address, ANSWER_MAX).await;
        tokio::select! {
            () = tokio::time::sleep(HELLO_INTERVAL) => {}
            // What has changed here concerns the others at once.
            _ = changes.changed() => {}
            _ = begun.changed() => tokio::time::sleep(BEGUN_REST).await,
        }
    }
}

/// Says hello to a machine and does what comes of it. Gives what it said.
pub async fn meet(daemon: &Arc<Daemon>, address: &str, longest: Duration) -> Result<Hello, Failure> {
    let late = |_| Failure::Away(format!("does not answer within {} ms", longest.as_millis()));
    let met = tokio::time::timeout(longest, exchange(daemon, address)).await.map_err(late).flatten();
    let before = daemon.peers.seen().remove(address).unwrap_or_default();
    match &met {
        Ok((hello, client)) => {
            daemon.peers.note(address, |seen| {
                let (hello, client) = (Some((hello.clone(), Instant::now())), Some(client.clone()));
                *seen = Seen { hello, client, problem: None, has_answered: true };
            });
            if before.problem.is_some() {
                tracing::info!("{address} answers again: {}", hello.phase.map_or("", pair::node::Phase::text));
            }
            let mut errands = daemon.peers.errands();
            errands.entry(address.to_owned()).or_default().send(daemon, client, hello);
        }
        Err(failure) => {
            let sentence = failure.sentence().to_owned();
            if before.problem.is_none() {
                tracing::warn!("{address} {sentence}; trying again until it works");
            }
            daemon.peers.note(address, |seen| {
                (seen.problem, seen.client) = (Some(sentence), None);
            });
        }
    }
    daemon.peers.hold_records(daemon);
    met.map(|(hello, _)| hello)
}

async fn exchange(daemon: &Arc<Daemon>, address: &str) -> Result<(Hello, Arc<Client>), Failure> {
    let client = match daemon.peers.client(address) {
        Some(client) => client,
        None => Arc::new(connect(&daemon.peers.identity, address).await?),
    };
    let theirs = say_hello(&client, &daemon.hello()).await?;
    daemon.hear(&theirs).await.map_err(Failure::Wrong)?;
    Ok((theirs, client))
}

/// Asks all machines now: what each says, or why it does not. For orders while all is well: nobody loses anything by waiting.
pub async fn ask_all(daemon: &Arc<Daemon>) -> Vec<(String, Result<Hello, Failure>)> {
    ask_all_within(daemon, ANSWER_MAX).await
}

/// The same in haste, while uploads wait for a new master.
pub async fn ask_all_in_haste(daemon: &Arc<Daemon>) -> Vec<(String, Result<Hello, Failure>)> {
    ask_all_within(daemon, HASTY_ANSWER_MAX).await
}

async fn ask_all_within(daemon: &Arc<Daemon>, longest: Duration) -> Vec<(String, Result<Hello, Failure>)> {
    let ask = |address: String| async move {
        let answer = meet(daemon, &address, longest).await;
        (address, answer)
    };
    join_all(daemon.peers.seen().into_keys().map(ask)).await
}
