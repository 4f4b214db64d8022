//! What arrives on a standby: watched while the load goes on, waited for after it, and then read whole.
//!
//! An arrival is seen by listing the folders in which something is missing. It is known as exactly as the time between two looks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pair::client::{Client, Name};
use tokio_util::sync::CancellationToken;

use crate::content::Contents;
use crate::files::{FOLDER_FILES, Files, name, parse_name};
use crate::inspection::{Findings, Inspection};
use crate::report::{Arrivals, FaultKind, Finding};
use crate::server::Server;
use crate::tally::{Tally, Times};

/// From one look to the next.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Folders that are listed in one look; the others have their turn in the next ones.
const FOLDERS_MAX: usize = 16;
/// From one reading of what was wrong to the next.
const READ_AGAIN_EVERY: Duration = Duration::from_millis(500);
/// How long a lost connection waits.
const RETURN_AFTER: Duration = Duration::from_millis(500);

/// One standby of a run.
pub struct Standby {
    server: Server,
    files: Arc<Files>,
    contents: Arc<Contents>,
    tally: Arc<Tally>,
    arrived: Mutex<Arrived>,
    /// Files read here and found right.
    right: AtomicU64,
}

#[derive(Default)]
struct Arrived {
    /// When each was first seen whole, from the beginning of the run, in microseconds; 0 for those that were not.
    at_us: Vec<u64>,
    times: Times,
    count: u64,
    longest_look: Duration,
}

/// Files that are missing, by folder: their numbers, and when they were acknowledged in microseconds.
type Missing = BTreeMap<u64, BTreeMap<u64, u64>>;

impl Standby {
    /// A standby on which nothing has arrived yet.
    pub fn new(server: Server, files: Arc<Files>, contents: Arc<Contents>, tally: Arc<Tally>) -> Standby {
        let arrived = Arrived { at_us: vec![0; files.count() as usize], ..Arrived::default() };
        Standby { server, files, contents, tally, arrived: Mutex::new(arrived), right: AtomicU64::new(0) }
    }

    /// What people call it.
    pub fn name(&self) -> &str {
        self.server.name()
    }

    /// The server.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// A few lines run under this lock and none of them panics.
    fn arrived(&self) -> MutexGuard<'_, Arrived> {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When a file was first seen whole, from the beginning of the run, in microseconds.
    pub fn arrived_us(&self, number: u64) -> Option<u64> {
        self.arrived().at_us.get(number as usize).copied().filter(|at| *at > 0)
    }

    /// Watches until, after `load_over`, everything has arrived or `late` is said.
    pub async fn watch(&self, load_over: &CancellationToken, late: &CancellationToken) {
        let (mut missing, mut known, mut next) = (Missing::new(), 0, 0);
        let mut client: Option<Client> = None;
        let mut last_look = Instant::now();
        while !late.is_cancelled() {
            let is_load_over = load_over.is_cancelled();
            for (number, closed_us) in self.files.acknowledged_after(known) {
                known += 1;
                missing.entry(number / FOLDER_FILES).or_default().insert(number, closed_us);
            }
            if missing.is_empty() {
                self.tally.lag(self.name(), Duration::ZERO);
                last_look = Instant::now();
                if is_load_over {
                    return;
                }
            } else if let Some(connected) = client.take().filter(|client| !client.is_lost()) {
                let arrived_lag = self.look(&connected, &mut missing, &mut next).await;
                client = Some(connected);
                self.note_look(&mut last_look);
                self.tally.lag(self.name(), self.oldest(&missing).max(arrived_lag));
            } else {
                tokio::select! {
                    connected = self.server.connect() => client = connected.ok(),
                    () = late.cancelled() => return,
                }
                if client.is_none() {
                    self.tally.lag(self.name(), self.oldest(&missing));
                    pause(RETURN_AFTER, late).await;
                }
                continue;
            }
            pause(LOOK_EVERY, late).await;
        }
    }

    fn note_look(&self, last_look: &mut Instant) {
        let mut arrived = self.arrived();
        arrived.longest_look = arrived.longest_look.max(last_look.elapsed());
        *last_look = Instant::now();
    }

    /// The age of the oldest file that is missing.
    fn oldest(&self, missing: &Missing) -> Duration {
        let oldest = missing.values().flat_map(|files| files.values()).min();
        let age = |closed_us: &u64| self.tally.elapsed().saturating_sub(Duration::from_micros(*closed_us));
        oldest.map_or(Duration::ZERO, age)
    }

    /// Lists some folders in which files are missing, from `next` on; gives the longest time that any of what came took.
    async fn look(&self, client: &Client, missing: &mut Missing, next: &mut u64) -> Duration {
        let around = missing.range(*next..).chain(missing.range(..*next)).map(|(folder, _)| *folder);
        let folders: Vec<u64> = around.take(FOLDERS_MAX).collect();
        let mut longest = Duration::ZERO;
        for folder in folders {
            *next = folder + 1;
            // What cannot be listed holds nothing that has arrived.
            let Ok(entries) = self.server.list(client, &self.files.folder(folder)).await else { continue };
            let seen = self.tally.elapsed();
            let Some(files) = missing.get_mut(&folder) else { continue };
            longest = longest.max(self.note(files, &entries, seen));
            if files.is_empty() {
                missing.remove(&folder);
            }
        }
        longest
    }

    /// Notes what has arrived and takes it from what is missing.
    fn note(&self, files: &mut BTreeMap<u64, u64>, entries: &[Name], seen: Duration) -> Duration {
        let (mut longest, mut arrived) = (Duration::ZERO, self.arrived());
        for entry in entries {
            let Some((number, _)) = parse_name(&entry.name) else { continue };
            if entry.attrs.size != Some(self.contents.size(number)) {
                continue;
            }
            let Some(closed_us) = files.remove(&number) else { continue };
            let took = seen.saturating_sub(Duration::from_micros(closed_us));
            longest = longest.max(took);
            arrived.times.add(took);
            arrived.count += 1;
            if let Some(at) = arrived.at_us.get_mut(number as usize) {
                *at = (seen.as_micros() as u64).max(1);
            }
            self.tally.arrived.fetch_add(1, Ordering::Relaxed);
        }
        longest
    }

    /// Reads everything; what is missing or wrong is read again until `late` is said. Tells what is wrong then.
    pub async fn inspect(self: &Arc<Standby>, late: &CancellationToken, abandoned: &CancellationToken) -> Findings {
        let tally = self.tally.clone();
        let inspection =
            Arc::new(Inspection::new(self.server.clone(), self.files.clone(), self.contents.clone(), move || {
                tally.arrived_verified.fetch_add(1, Ordering::Relaxed);
            }));
        let mut found = inspection.look(0..self.files.folders(), abandoned).await;
        loop {
            found.retain(|_, findings| !findings.is_empty());
            self.right.store(inspection.right(), Ordering::Relaxed);
            if found.is_empty() || late.is_cancelled() || abandoned.is_cancelled() {
                let wrong = found.into_values().flatten().map(as_seen_from_standby).collect();
                return if abandoned.is_cancelled() { wrong } else { self.with_late(wrong) };
            }
            pause(READ_AGAIN_EVERY, late).await;
            let again = inspection.look(found.keys().copied().collect::<Vec<_>>(), abandoned).await;
            found.extend(again);
        }
    }

    /// Adds the files that are right by now and were not seen in time.
    fn with_late(&self, mut found: Findings) -> Findings {
        let named: BTreeSet<String> = found.iter().map(|(name, _)| name.clone()).collect();
        for (number, _) in self.files.acknowledged_after(0) {
            let name = name(number, 0);
            if self.arrived_us(number).is_none() && !named.contains(&name) {
                let (file, server) = (self.files.path(number, 0), self.name().to_owned());
                let detail = "it is there now, and did not arrive in time".to_owned();
                found.push((name, Finding { file, server, kind: FaultKind::NotOnStandby, detail }));
            }
        }
        found
    }

    /// All of it, in figures.
    pub fn arrivals(&self) -> Arrivals {
        let arrived = self.arrived();
        Arrivals {
            expected: self.files.acknowledged(),
            arrived: arrived.count,
            right: self.right.load(Ordering::Relaxed),
            latency: arrived.times.latency(),
            exact_to_ms: arrived.longest_look.as_secs_f64() * 1000.0,
        }
    }
}

/// What is wrong on a standby is told as that, and what it is in the words behind it.
fn as_seen_from_standby((name, mut finding): (String, crate::report::Finding)) -> (String, crate::report::Finding) {
    let kind = match finding.kind {
        FaultKind::Lost => {
            finding.detail = "the target has acknowledged it, and it did not arrive in time".to_owned();
            FaultKind::NotOnStandby
        }
        FaultKind::Corrupted | FaultKind::Truncated | FaultKind::Swapped | FaultKind::Stale | FaultKind::WrongSize => {
            finding.detail = format!("{}: {}", finding.kind.text(), finding.detail);
            FaultKind::DiffersOnStandby
        }
        other => other,
    };
    finding.kind = kind;
    (name, finding)
}

async fn pause(span: Duration, unless: &CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep(span) => {}
        () = unless.cancelled() => {}
    }
}
