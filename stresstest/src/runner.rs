//! Runs, one at a time: started, watched, stopped, and what stays of them.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pair::client::{Client, ConnectError, Login};
use tokio::sync::watch;

use crate::config::Config;
use crate::course::{Course, Stops};
use crate::host_keys::HostKeys;
use crate::identity::RunId;
use crate::leftovers::{self, Leftover, Leftovers};
use crate::plan::{Plan, Target};
use crate::progress::{Phase, Progress};
use crate::reports::Reports;
use crate::server::Server;

/// How often those who watch are told.
const TELL_EVERY: Duration = Duration::from_millis(250);

/// Another run is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Busy {
    /// It.
    pub run: RunId,
}

impl std::fmt::Display for Busy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "run {} is under way: wait for its end, or stop it", self.run)
    }
}

impl std::error::Error for Busy {}

/// Runs, one at a time. A clone is the same runner.
#[derive(Clone)]
pub struct Runner {
    inner: Arc<Inner>,
}

struct Inner {
    answer_timeout: Duration,
    arrival_timeout: Duration,
    reports: Reports,
    leftovers: Arc<Leftovers>,
    host_keys: Arc<HostKeys>,
    current: Mutex<Option<Current>>,
    progress: watch::Sender<Arc<Progress>>,
    /// Held as long as the runner lives: two would not know of each other's runs.
    _lock: std::fs::File,
}

/// The run that is under way.
struct Current {
    run: RunId,
    stops: Stops,
}

impl Runner {
    /// Makes the state folder, and reads what it holds. With `host_key`, no server with another fingerprint is spoken to.
    pub fn new(config: &Config, host_key: Option<String>) -> anyhow::Result<Runner> {
        config.check()?;
        pair::folder::claim_state(&config.state)?;
        let lock = lock(config)?;
        let (progress, _) = watch::channel(Arc::default());
        let inner = Inner {
            answer_timeout: config.answer_timeout.get(),
            arrival_timeout: config.arrival_timeout.get(),
            reports: Reports::open(&config.state, config.reports_max)?,
            leftovers: Arc::new(Leftovers::open(&config.state)?),
            host_keys: Arc::new(HostKeys::open(&config.state, host_key)?),
            current: Mutex::new(None),
            progress,
            _lock: lock,
        };
        Ok(Runner { inner: Arc::new(inner) })
    }

    /// Starts a run. What comes of it is seen by [`Runner::watch`] and, at the end, in [`Runner::reports`].
    pub fn start(&self, plan: Plan, login: Login) -> Result<RunId, Busy> {
        let (run, stops) = (RunId::draw(), Stops::default());
        {
            let mut current = self.inner.current.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(current) = current.as_ref() {
                return Err(Busy { run: current.run.clone() });
            }
            *current = Some(Current { run: run.clone(), stops: stops.clone() });
        }
        let standbys = plan.standbys.iter().map(|standby| self.server(standby, login.clone())).collect();
        let servers = (self.server(&plan.target, login), standbys);
        let (leftovers, timeout) = (self.inner.leftovers.clone(), self.inner.arrival_timeout);
        let course = Arc::new(Course::new(run.clone(), plan, servers, leftovers, timeout, stops));
        self.inner.progress.send_replace(Arc::new(course.tally().progress()));
        tokio::spawn(self.clone().accompany(course));
        Ok(run)
    }

    /// Runs to the end, tells those who watch, and keeps the report.
    async fn accompany(self, course: Arc<Course>) {
        let running = tokio::spawn({
            let course = course.clone();
            async move { course.run().await }
        });
        let mut running = std::pin::pin!(running);
        let mut tell = tokio::time::interval(TELL_EVERY);
        let outcome = loop {
            tokio::select! {
                outcome = &mut running => break outcome,
                _ = tell.tick() => { self.inner.progress.send_replace(Arc::new(course.tally().progress())); }
            }
        };
        let sentence = match outcome {
            Ok(outcome) => {
                let report = course.report(outcome);
                let (reports, sentence) = (self.inner.reports.clone(), report.verdict.sentence.clone());
                let table = course.table();
                let kept = tokio::task::spawn_blocking(move || reports.keep(&report, table)).await;
                match kept {
                    Ok(Ok(())) => sentence,
                    Ok(Err(error)) => format!("{sentence} The report could not be kept: {error:#}"),
                    Err(error) => format!("{sentence} The report could not be kept: {error}"),
                }
            }
            Err(error) => format!("the run ended by a bug of this program: {error}"),
        };
        tracing::info!(sentence, "a run is over");
        course.tally().enter(Phase::Done, Some(sentence));
        // Whoever sees that it is over may start the next one.
        *self.inner.current.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.inner.progress.send_replace(Arc::new(course.tally().progress()));
    }

    /// Ends the load of the run that is under way; what it has made is verified and removed. A second call leaves out the
    /// verification.
    pub fn stop(&self) {
        let current = self.inner.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Current { stops, .. }) = current.as_ref() {
            if stops.enough.is_cancelled() {
                stops.abandoned.cancel();
            }
            stops.enough.cancel();
        }
    }

    /// Ends what is under way for the end of the program: without verification, and for `patience` at most. What is not removed
    /// by then is remembered.
    pub async fn close(&self, patience: Duration) {
        self.stop();
        self.stop();
        let mut watch = self.watch();
        let _in_time = tokio::time::timeout(patience, watch.wait_for(|progress| !progress.is_running())).await;
    }

    /// How the run is doing; the last one's end where none is under way.
    pub fn watch(&self) -> watch::Receiver<Arc<Progress>> {
        self.inner.progress.subscribe()
    }

    /// The reports of the runs that are over.
    pub fn reports(&self) -> &Reports {
        &self.inner.reports
    }

    /// Run folders that are still on a server, as far as is known.
    pub fn leftovers(&self) -> Vec<Leftover> {
        self.inner.leftovers.list()
    }

    /// Removes what earlier runs of an account have left at a target; tells how many files. Kept ones go, too, if `kept` says so.
    /// The folder of the run that is under way stays.
    pub async fn clean(&self, target: &Target, login: Login, kept: bool) -> anyhow::Result<u64> {
        let removed = AtomicU64::new(0);
        let running = {
            let current = self.inner.current.lock().unwrap_or_else(PoisonError::into_inner);
            current.as_ref().map(|current| current.run.clone())
        };
        let left: Vec<Leftover> = self.inner.leftovers.of(&target.address, &login.user);
        let wanted = |left: &&Leftover| (kept || !left.kept) && Some(&left.run) != running.as_ref();
        let server = self.server(target, login.clone());
        let mut client = None;
        for leftover in left.iter().filter(wanted) {
            let client = match &mut client {
                Some(client) => client,
                none => none.insert(server.connect().await?),
            };
            leftovers::remove(&server, client, &leftover.run, &removed).await?;
            self.inner.leftovers.forget(leftover)?;
        }
        Ok(removed.into_inner())
    }

    /// Connects to a server and looks at its host key: remembered at the first time, refused where it has changed.
    pub async fn connect(&self, target: &Target, login: Login) -> Result<Client, ConnectError> {
        pair::client::connect(&target.address, login, self.inner.host_keys.check(&target.address)).await
    }

    fn server(&self, target: &Target, login: Login) -> Server {
        Server::new(target.clone(), login, self.inner.host_keys.check(&target.address), self.inner.answer_timeout)
    }
}

/// Makes sure that nobody else works with this state.
fn lock(config: &Config) -> anyhow::Result<std::fs::File> {
    let path = config.state.join("stresstest.lock");
    let cannot =
        |error: &dyn std::fmt::Display| pair::exit::usage(format!("state: cannot lock {}: {error}", path.display()));
    let file = std::fs::File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|error| cannot(&error))?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(cannot(&"another stresstest works with this state folder")),
        Err(error) => Err(cannot(&error)),
    }
}
