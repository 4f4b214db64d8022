//! How the pair is now: what this machine's sftpd and filesync say of themselves and of the other machines.
//!
//! Always holds: a snapshot is swapped whole, and nobody who looks at one waits for anything. Whoever is asked may be away, hang, or never
//! have been here: then the snapshot says so, and keeps what was said last. Nothing is judged here ([`crate::safety`]).

mod forecast;
mod look;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use filesync::status::Report;
use filesync::store::{Held, Verified};
use pair::control::{Ban, Status};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::store::samples::Courses;

pub use forecast::days_until_full;

/// From one look to the next.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// Paths of each list that a snapshot names; it counts all.
pub const PATHS_MAX: usize = 50;

/// How the pair is, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Situation {
    /// When this was seen, in milliseconds since 1970; none before the first look.
    pub looked_ms: Option<i64>,
    /// Whether this machine belongs to a pair: it has a `node.yaml`.
    pub is_pair: bool,
    /// What sftpd says of this machine and of others, as of the last time when it answered.
    pub status: Option<Arc<Status>>,
    /// Why sftpd does not answer now.
    pub status_fault: Option<String>,
    /// Who is banned.
    pub bans: Vec<Ban>,
    /// What filesync reports of each standby.
    pub mirrors: Vec<Mirror>,
    /// Why that cannot be read.
    pub mirrors_fault: Option<String>,
    /// Since when each condition is there, by its key, in milliseconds since 1970.
    pub since: BTreeMap<String, i64>,
    /// Lines over time.
    pub lines: Arc<Lines>,
}

/// What filesync reports of a standby.
#[derive(Clone, Debug, Default)]
pub struct Mirror {
    /// Its name: the address as configured.
    pub name: String,
    /// The last report; none where it has never been followed.
    pub report: Option<Report>,
    /// Removals that wait for a person, the largest first, [`PATHS_MAX`] at most.
    pub held: Vec<Held>,
    /// How many of them there are.
    pub held_paths: u64,
    /// How many entries would go with them.
    pub held_entries: u64,
    /// What could not be brought, the oldest first, [`PATHS_MAX`] at most.
    pub troubles: Vec<Waiting>,
    /// How many of them there are.
    pub troubles_count: u64,
    /// How the last `filesync verify` has ended.
    pub verified: Option<Verified>,
}

/// Something that could not be brought to a standby.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// The path, as people read it.
    pub path: String,
    /// What is wrong.
    pub sentence: String,
    /// How often it was tried.
    pub tries: u64,
    /// Since when, in seconds since 1970.
    pub since_s: i64,
}

/// How far each standby was behind, over three spans of time.
#[derive(Clone, Debug, Default)]
pub struct Lines {
    /// The last hour.
    pub hour: Courses,
    /// The last day.
    pub day: Courses,
    /// The last seven days.
    pub week: Courses,
    /// In how many days the disk of this machine will be full; none where that cannot be told.
    pub full_in_days: Option<f64>,
}

/// Asks again and again until `shutdown`.
pub fn watch(config: &Config, shutdown: CancellationToken) -> watch::Receiver<Arc<Situation>> {
    let (sender, receiver) = watch::channel(Arc::new(Situation::default()));
    let mut looker = look::Looker::new(config.state.clone());
    let looking = async move {
        loop {
            let before = sender.borrow().clone();
            let now = looker.look(&before).await;
            sender.send_replace(Arc::new(now));
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    };
    tokio::spawn(async move { shutdown.run_until_cancelled_owned(looking).await });
    receiver
}

#[cfg(test)]
mod tests;
