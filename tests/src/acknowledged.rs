//! What partners were told had arrived, by writers that go on over every failover, and whether it is still somewhere.
//!
//! Each upload has a content of its own that says which one it is. An upload counts when its CLOSE was answered with OK.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pair::client::{Client, ClientError};
use pair::wire::open_flag;
use tokio::task::JoinSet;

use crate::load::{ACCOUNT, Account, Chance};

/// Names that one writer gives to its files.
const NAMES: usize = 12;

/// How long one request may take: a machine that is paused answers nothing.
const PATIENCE: Duration = Duration::from_secs(5);

/// An upload that was answered with OK.
#[derive(Clone, Debug)]
struct Arrived {
    path: String,
    content: String,
    /// When the answer came.
    at: Instant,
}

/// What was acknowledged so far.
#[derive(Clone, Default)]
pub struct Acknowledged {
    // Held for a few lines.
    all: Arc<Mutex<Vec<Arrived>>>,
    next: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Acknowledged {
    fn add(&self, path: &str, content: &str) {
        let arrived = Arrived { path: path.into(), content: content.into(), at: Instant::now() };
        self.all.lock().unwrap_or_else(PoisonError::into_inner).push(arrived);
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The longest time in which nothing was acknowledged, since a moment.
    pub fn longest_gap(&self, since: Instant) -> Duration {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let times: Vec<Instant> = all.iter().map(|arrived| arrived.at).filter(|at| *at >= since).collect();
        times.windows(2).map(|two| two[1] - two[0]).max().unwrap_or_default()
    }

    /// Ends the writers.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// What is neither at its path on the master, nor replaced by a later one that is, nor kept in a machine's `divergent/`.
    pub fn lost(&self, master: &Path, machines: [&Path; 2]) -> Vec<String> {
        let kept: BTreeSet<String> = machines.iter().flat_map(|data| kept_in(data)).collect();
        let mut by_path: BTreeMap<String, Vec<Arrived>> = BTreeMap::new();
        for arrived in self.all.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            by_path.entry(arrived.path.clone()).or_default().push(arrived.clone());
        }
        let mut lost = Vec::new();
        for (path, versions) in by_path {
            let there = std::fs::read_to_string(master.join(ACCOUNT).join(&path)).unwrap_or_default();
            // What its own client has replaced since is not looked for, whether or not that was answered.
            let Some(last) = versions.last() else { continue };
            let is_there = number_of(&path, &there) >= number_of(&path, &last.content);
            if !is_there && !kept.contains(&last.content) {
                lost.push(format!("{path}: {:?} was acknowledged; there is {there:?}", last.content));
            }
        }
        lost
    }
}

/// Which upload a content was made for; none where it is not whole, or another path's.
fn number_of(path: &str, content: &str) -> Option<u64> {
    content.strip_prefix(path)?.strip_prefix(" version ")?.strip_suffix('.')?.parse().ok()
}

/// The contents of all files that a machine has set aside.
fn kept_in(data: &Path) -> Vec<String> {
    let epochs = std::fs::read_dir(data.join(".pair/divergent")).into_iter().flatten().flatten();
    let files = epochs.flat_map(|epoch| std::fs::read_dir(epoch.path()).into_iter().flatten().flatten());
    let paths: Vec<PathBuf> = files.map(|file| file.path()).collect();
    paths.iter().filter_map(|path| std::fs::read_to_string(path).ok()).collect()
}

/// Starts writers that upload until they are stopped, each to whichever of the machines takes its files.
pub fn write(
    runtime: &tokio::runtime::Runtime,
    account: &Account,
    machines: [SocketAddr; 2],
    writers: usize,
    seed: u64,
) -> (Acknowledged, JoinSet<()>) {
    let acknowledged = Acknowledged::default();
    let mut running = JoinSet::new();
    for number in 0..writers {
        let (acknowledged, account) = (acknowledged.clone(), account.clone());
        let chance = Chance::new(seed).fork(number as u64);
        running.spawn_on(keep_writing(acknowledged, account, machines, number, chance), runtime.handle());
    }
    (acknowledged, running)
}

async fn keep_writing(
    acknowledged: Acknowledged,
    account: Account,
    machines: [SocketAddr; 2],
    number: usize,
    mut chance: Chance,
) {
    let mut at = number;
    while !acknowledged.stop.load(Ordering::Relaxed) {
        at += 1;
        let connected = tokio::time::timeout(PATIENCE, account.try_to_connect(machines[at % 2])).await;
        let Ok(Ok(client)) = connected else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        while !acknowledged.stop.load(Ordering::Relaxed) {
            let path = format!("w{number}-{}", chance.below(NAMES));
            let version = acknowledged.next.fetch_add(1, Ordering::Relaxed);
            let content = format!("{path} version {version}.");
            match tokio::time::timeout(PATIENCE, put(&client, &path, &content)).await {
                Ok(Ok(())) => acknowledged.add(&path, &content),
                // Refused, lost, or no answer: the other machine may be the master.
                _ => break,
            }
        }
    }
}

async fn put(client: &Client, path: &str, content: &str) -> Result<(), ClientError> {
    let flags = open_flag::WRITE | open_flag::CREAT | open_flag::TRUNC;
    let handle = client.open(path.as_bytes(), flags, Some(0o644)).await?;
    client.write(&handle, 0, content.as_bytes()).await?;
    client.close(handle).await
}
