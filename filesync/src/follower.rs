//! Keeps one standby up to date, for ever: connect, pass after pass, reconnect.
//!
//! Each standby has a follower of its own, with its own connections, store rows and patience: none ever waits for another.
//! That a standby is away is said once, and once more when it is back.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pair::record::Position;
use pair::volume::{file_system_id, read_marker};
use tokio::sync::{Notify, watch};

use crate::alarm::{Alarm, Memory, Told};
use crate::beside::Beside;
use crate::config::Config;
use crate::courier::Courier;
use crate::fault::blocking;
use crate::housekeeping::{self, Calendar};
use crate::lane::{Lane, UNSTEADY, UNSTEADY_MAX, WORKERS_BYTES_MAX};
use crate::ledger::Ledger;
use crate::listing::Problem;
use crate::pass;
use crate::remote::Remote;
use crate::source::Source;
use crate::standby::{Address, Failure, Identity, Standby};
use crate::status::{Board, now_s};
use crate::store::Store;
use crate::stream::{self, Claims, Left};
use crate::throttle::Throttle;
use crate::tree::{Path, Seen, shown};

/// The first wait after a failure.
const BACKOFF_MIN: Duration = Duration::from_secs(1);
/// The longest wait after failures.
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// The longest wait while a machine of the pair is away: from its return on it is to follow soon, and its sftpd is asked each second anyway.
const BACKOFF_AWAY_MAX: Duration = Duration::from_secs(2);
/// How often the report for `filesync status` is written.
const REPORT_INTERVAL: Duration = Duration::from_secs(2);
/// How often the standby's trash and stage are looked through.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(3600);

/// One standby's follower.
pub struct Follower {
    /// How it is doing.
    pub board: Arc<Board>,
    standby: Standby,
    store: Arc<Mutex<Store>>,
    ledger: Ledger,
    interval: Duration,
    budget_percent: u64,
    trash_days: u32,
    throttle: Arc<Throttle>,
    alarm: Alarm,
    data: PathBuf,
    follow: bool,
    state: PathBuf,
    beside: Beside,
    /// Who is at work where.
    pub claims: Arc<Claims>,
    /// Asks for a pass before its time.
    pub pass_wanted: Notify,
    /// What the feed has left to passes.
    pub left: Left,
    /// In how many passes in a row a file has changed while it was sent.
    unsteady: Mutex<BTreeMap<Path, u32>>,
    /// Whether the date can be believed; over all connections.
    calendar: Mutex<Option<Calendar>>,
    /// Up to where the feed has told.
    pub heard: watch::Sender<Option<Position>>,
}

/// The least time between two passes, unless the interval is shorter.
const PASSES_APART_MIN: Duration = Duration::from_secs(1);
/// How long a pass waits for the feed to tell of all that it has listed.
const HEARING_MAX: Duration = Duration::from_secs(10);

impl Follower {
    /// A follower for a standby.
    pub fn new(
        config: &Config,
        address: Address,
        identity: Arc<Identity>,
        board: Arc<Board>,
    ) -> anyhow::Result<Follower> {
        // The ledger's thread and the passes write through one connection each, and never at the same time for long.
        let open = || Store::open(&config.store(), &address.name);
        let (mut store, ledger_store) = (open()?, Arc::new(Mutex::new(open()?)));
        if let Some(epoch) = identity.epoch() {
            store.begin_epoch(&epoch.id)?;
        }
        let store = Arc::new(Mutex::new(store));
        Ok(Follower {
            throttle: Arc::new(Throttle::new(&config.windows()?)),
            alarm: Alarm::new(config, board.clone()),
            board,
            standby: Standby { address, identity, store: store.clone(), stream: Arc::default() },
            store,
            ledger: Ledger::start(ledger_store),
            interval: config.interval.get(),
            budget_percent: config.delete_budget_percent,
            trash_days: config.trash_days,
            data: config.data.clone(),
            follow: config.follow,
            state: config.state.clone(),
            beside: Beside::new(config),
            claims: Arc::default(),
            pass_wanted: Notify::new(),
            left: Left::default(),
            unsteady: Mutex::default(),
            calendar: Mutex::default(),
            heard: watch::Sender::new(None),
        })
    }

    /// The standby's name.
    pub fn name(&self) -> &str {
        &self.standby.address.name
    }

    /// The folder of this machine's own state.
    pub fn state(&self) -> &std::path::Path {
        &self.state
    }

    /// What is remembered of the standby.
    pub fn store(&self) -> Arc<Mutex<Store>> {
        self.store.clone()
    }

    /// Notes which files have changed while the pass sent them; those that do so in every pass are problems.
    pub fn unsteady(&self, changed: &BTreeSet<Path>) -> Vec<Problem> {
        let mut unsteady = self.unsteady.lock().unwrap_or_else(PoisonError::into_inner);
        unsteady.retain(|path, _| changed.contains(path));
        for path in changed {
            *unsteady.entry(path.clone()).or_default() += 1;
        }
        let often = unsteady.iter().filter(|(_, times)| **times >= UNSTEADY_MAX);
        often.map(|(path, _)| Problem { path: path.clone(), sentence: UNSTEADY.into() }).collect()
    }

    /// Shows what could not be done, and says it once.
    pub async fn show_problem(&self, Problem { path, sentence }: Problem) {
        let (at, told) = (path.clone(), sentence.clone());
        let added = self.stored(move |store, _| Ok((store.add_trouble(&at, &told, now_s())?, store.troubles_count()?)));
        match added.await {
            Ok((is_new, count)) => {
                self.board.update(|report| (report.problems, report.problems_since_s) = count);
                if is_new {
                    tracing::warn!("standby {}: {}: {sentence}", self.name(), shown(&path));
                }
            }
            Err(error) => tracing::warn!("standby {}: {error}", self.name()),
        }
    }

    /// Waits until the feed has told of all that has happened by now; false where it does not come to that.
    pub async fn hears_of_all(&self) -> bool {
        let heard = async {
            let last = pair::feed::last_seq(&pair::feed::path(&self.state)).await.ok()?;
            let is_past = |heard: &Position| heard.epoch == last.epoch && heard.seq >= last.seq;
            self.heard.subscribe().wait_for(|heard| heard.as_ref().is_some_and(is_past)).await.ok().map(drop)
        };
        matches!(tokio::time::timeout(HEARING_MAX, heard).await, Ok(Some(())))
    }

    /// Follows until it is dropped.
    pub async fn run(&self) {
        futures::future::join3(self.connect_for_ever(), self.report_for_ever(), self.alarm.watch(self)).await;
    }

    /// Whoever asks for the status sees by it that filesync runs.
    async fn report_for_ever(&self) {
        loop {
            self.keep_report().await;
            self.beside.tell_unbrought(&self.standby, self.board.report().problems).await;
            tokio::time::sleep(REPORT_INTERVAL).await;
        }
    }

    async fn connect_for_ever(&self) {
        let mut backoff = BACKOFF_MIN;
        // What was said, and since when. It is taken back only once that very thing works again, so that a standby which
        // lets us in and then fails does not fill the log.
        let mut said: Option<(Instant, Failure)> = None;
        let mut first = true;
        loop {
            let passes = self.board.report().passes;
            let failure = match self.begin().await {
                Ok(remote) => {
                    let grade = remote.grade.text();
                    self.board.connected(remote.grade);
                    self.keep_report().await;
                    if std::mem::take(&mut first) && said.is_none() {
                        tracing::info!("standby {}: connected ({grade})", self.name());
                    }
                    self.session(remote, &mut said).await
                }
                Err(failure) => failure,
            };
            if self.board.report().passes > passes {
                backoff = BACKOFF_MIN;
            }
            self.board.disconnected(failure.sentence());
            self.beside.tell_away(&self.standby, failure.sentence()).await;
            self.keep_report().await;
            // A stranger's server may take many tries for an attack.
            let is_awaited = self.standby.address.plain.is_none() && matches!(failure, Failure::Away(_));
            let backoff_max = if is_awaited { BACKOFF_AWAY_MAX } else { BACKOFF_MAX };
            let is_news = match (&said, &failure) {
                (None, _) => true,
                // Away in other words is still away.
                (Some(_), Failure::Away(_)) => false,
                (Some((_, before)), failure) => before != failure,
            };
            if is_news {
                tracing::warn!("{}; trying again until it works", failure.sentence());
                let since = said.map_or_else(Instant::now, |(since, _)| since);
                said = Some((since, failure));
            }
            tokio::time::sleep(jittered(backoff)).await;
            backoff = (backoff * 2).min(backoff_max);
        }
    }

    async fn begin(&self) -> Result<Remote, Failure> {
        // Before the standby is bothered: there is nothing to do for it with the wrong volume.
        let refused = |sentence| format!("standby {}: {sentence}", self.name());
        self.check_volume().await.map_err(refused)?;
        self.standby.connect_anew().await
    }

    /// Works over a connection until it is lost, or until a pass is refused. Tells why it ended.
    async fn session(&self, remote: Remote, said: &mut Option<(Instant, Failure)>) -> Failure {
        let (lane, connected) = (Lane::default(), Instant::now());
        let courier = match self.courier(remote) {
            Ok(courier) => courier,
            Err(sentence) => return format!("standby {}: {sentence}", self.name()).into(),
        };
        let [merely_large, any] = WORKERS_BYTES_MAX;
        let large = futures::future::join(lane.work(merely_large, self), lane.work(any, self));
        let reason = tokio::select! {
            reason = self.passes(&courier, &lane, said) => reason,
            reason = stream::follow(self, &courier, &lane, connected), if self.follow => reason,
            _ = large => "the lane for large files ended".into(),
            () = self.beside.run(&self.standby) => "pushing accounts ended".into(),
        };
        let sentence = format!("standby {}: {reason}", self.name());
        if courier.remote.client.is_lost() { Failure::Away(sentence) } else { Failure::Wrong(sentence) }
    }

    /// One more connection to the same standby.
    pub async fn connect_again(&self) -> Result<Courier, String> {
        let remote = self.standby.connect().await.map_err(|failure| failure.sentence().to_owned())?;
        self.courier(remote)
    }

    /// Whether both sides agree on a path, and are as they were then.
    pub async fn has(&self, courier: &Courier, path: &[u8]) -> bool {
        let (source, at) = (courier.source.clone(), path.to_vec());
        let Ok(now) = blocking(move || Ok(source.look(&at)?)).await else { return false };
        let at = path.to_vec();
        let base = self.stored(move |store, _| store.base(&at)).await.ok().flatten();
        let Some(base) = base.filter(|base| base.source == now) else { return false };
        matches!(courier.remote.look(path).await, Ok(Some(seen)) if Seen { target: base.remote.target.clone(), ..seen } == base.remote)
    }

    fn courier(&self, remote: Remote) -> Result<Courier, String> {
        let source = Source::open(&self.data).map_err(|error| format!("{error:#}"))?;
        Ok(Courier::new(remote, Arc::new(source), self.ledger.clone(), self.board.clone(), self.throttle.clone()))
    }

    async fn passes(&self, courier: &Courier, lane: &Lane, said: &mut Option<(Instant, Failure)>) -> String {
        let mut housekept: Option<Instant> = None;
        loop {
            let began = Instant::now();
            if let Err(sentence) = pass::run(self, courier, lane).await {
                return sentence;
            }
            if let Some((since, _)) = said.take() {
                tracing::info!("standby {}: follows again after {} s", self.name(), since.elapsed().as_secs());
            }
            if housekept.is_none_or(|at| at.elapsed() > HOUSEKEEPING_INTERVAL) {
                housekept = Some(Instant::now());
                let is_date_sure = match self.is_date_sure().await {
                    Ok(is_date_sure) => is_date_sure,
                    Err(sentence) => return sentence,
                };
                if let Err(error) = housekeeping::run(courier, self.trash_days, is_date_sure, lane).await {
                    return error.to_string();
                }
            }
            if let Err(error) = housekeeping::make_room(courier, lane).await {
                return error.to_string();
            }
            let rest = self.interval.saturating_sub(began.elapsed());
            // One that takes long must not follow the other only because something cannot be done.
            let soon = rest.min(PASSES_APART_MIN.max(began.elapsed() * 3));
            tokio::select! {
                () = tokio::time::sleep(rest) => {}
                // Soon, but not at once: what is missing in two passes must have been missing for a while.
                () = lane.idle.notified() => tokio::time::sleep(soon).await,
                () = self.pass_wanted.notified() => tokio::time::sleep(soon).await,
            }
            if courier.remote.client.is_lost() {
                return "the connection was lost".into();
            }
        }
    }

    /// Whether the clock can be believed, which is remembered as long as it can.
    async fn is_date_sure(&self) -> Result<bool, String> {
        let last_s = self.stored(|store, _| store.housekept_s()).await?;
        let is_sure = {
            let mut calendar = self.calendar.lock().unwrap_or_else(PoisonError::into_inner);
            calendar.get_or_insert_with(|| Calendar::new(last_s)).is_sure(now_s(), Instant::now())
        };
        if is_sure {
            self.stored(|store, _| store.keep_housekept_s(now_s())).await?;
        }
        Ok(is_sure)
    }

    /// Makes sure that the data folder is the right one, or says why there is no pass. Tells the file system's id.
    pub async fn check_volume(&self) -> Result<String, String> {
        let (data, pair) = (self.data.clone(), self.standby.identity.pair());
        let file_system = self
            .stored(move |store, _| Ok(check_volume(&data, &pair, store)))
            .await?
            .map_err(|sentence| format!("no pass, nothing is copied or removed: {sentence}"))?;
        Ok(file_system)
    }

    /// Works with the store off the async threads. The closure is given the delete budget in percent too.
    pub async fn stored<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Store, u64) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, String> {
        let (store, percent) = (self.store.clone(), self.budget_percent);
        let run = move || work(&mut store.lock().unwrap_or_else(PoisonError::into_inner), percent);
        match tokio::task::spawn_blocking(run).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(format!("the store does not work: {error}")),
            Err(error) => Err(format!("the store's work broke off: {error}")),
        }
    }

    async fn keep_report(&self) {
        let report = serde_json::to_string(&self.board.report()).unwrap_or_default();
        if let Err(sentence) = self.stored(move |store, _| store.keep_report(&report)).await {
            tracing::warn!("standby {}: {sentence}", self.name());
        }
    }
}

impl Memory for Follower {
    async fn told(&self) -> Result<Told, String> {
        self.stored(|store, _| store.told()).await
    }

    async fn keep_told(&self, told: Told) -> Result<(), String> {
        self.stored(move |store, _| store.keep_told(told)).await
    }
}

fn check_volume(data: &std::path::Path, pair: &str, store: &Store) -> Result<String, String> {
    let shown = data.display();
    let file_system = file_system_id(data).map_err(|error| error.to_string())?;
    let marker = read_marker(data).map_err(|error| error.to_string())?.ok_or_else(|| {
        format!("{shown} has no .pair/marker: the disk is not mounted, or sftpd was not started on it yet")
    })?;
    if marker.pair != pair {
        return Err(format!("{shown}/.pair/marker names pair {}, and PAIR_SECRET makes this pair {pair}", marker.pair));
    }
    let moved = |was: &str| {
        format!(
            "{shown} is on file system {file_system}, and was on {was}: another disk is mounted there. If it was moved on \
             purpose, write `file_system: {file_system}` into {shown}/.pair/marker and remove filesync.db; nothing is removed then \
             until both sides were compared"
        )
    };
    if marker.file_system != file_system {
        return Err(moved(&marker.file_system));
    }
    let volume = format!("{file_system} {}", marker.volume);
    let pinned = store.pin("volume", &volume).map_err(|error| format!("the store does not work: {error}"))?;
    if pinned != volume { Err(moved(&pinned)) } else { Ok(file_system) }
}

/// A wait that differs from standby to standby, so that two that fail together do not try together for ever.
fn jittered(wait: Duration) -> Duration {
    let fraction = (now_ns() % 1000) as f64 / 1000.0;
    wait.mul_f64(0.75 + fraction / 2.0)
}

fn now_ns() -> u32 {
    (jiff::Timestamp::now().subsec_nanosecond().unsigned_abs() / 1000).wrapping_add(now_s() as u32)
}
