//! What a run has measured so far. Everybody who does something tells it; snapshots of it are what people see.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::identity::RunId;
use crate::plan::{Operation, Plan};
use crate::progress::{Counts, POINTS_MAX, Phase, Point, Progress};
use crate::report::{FAULTS_MAX, FaultKind, Finding, Latency};

/// Kinds of errors that are told apart; past it they are "other".
const KINDS_MAX: usize = 40;
/// The longest time that is told, in microseconds.
const LONGEST_US: u64 = 3_600_000_000;

/// Times of one kind.
pub struct Times(Option<Histogram<u64>>);

impl Default for Times {
    fn default() -> Times {
        // It has room for an hour at three digits, and these bounds are none that it refuses.
        Times(Histogram::new_with_bounds(1, LONGEST_US, 3).ok())
    }
}

impl Times {
    /// One more.
    pub fn add(&mut self, took: Duration) {
        if let Some(times) = &mut self.0 {
            times.saturating_record(took.as_micros().min(u128::from(LONGEST_US)).max(1) as u64);
        }
    }

    /// So many of 100 took no longer, in milliseconds.
    pub fn percentile_ms(&self, percent: f64) -> f64 {
        self.0.as_ref().map_or(0.0, |times| times.value_at_percentile(percent) as f64 / 1000.0)
    }

    /// All of it, in figures.
    pub fn latency(&self) -> Latency {
        let Some(times) = self.0.as_ref().filter(|times| !times.is_empty()) else { return Latency::default() };
        Latency {
            count: times.len(),
            min_ms: times.min() as f64 / 1000.0,
            mean_ms: times.mean() / 1000.0,
            p50_ms: self.percentile_ms(50.0),
            p90_ms: self.percentile_ms(90.0),
            p95_ms: self.percentile_ms(95.0),
            p99_ms: self.percentile_ms(99.0),
            p999_ms: self.percentile_ms(99.9),
            max_ms: times.max() as f64 / 1000.0,
        }
    }

    fn clear(&mut self) {
        if let Some(times) = &mut self.0 {
            times.reset();
        }
    }
}

/// What a run has measured.
pub struct Tally {
    run: RunId,
    planned_files: u64,
    planned_bytes: u64,
    planned_ms: Option<u64>,
    began: Instant,
    /// Bytes uploaded, as far as they were answered.
    pub bytes_up: AtomicU64,
    /// Bytes downloaded in the load.
    pub bytes_down: AtomicU64,
    /// Clients at work.
    pub clients: AtomicUsize,
    /// Files acknowledged by the target.
    pub acknowledged: AtomicU64,
    /// Files read back and found right.
    pub verified: AtomicU64,
    /// Files seen on standbys.
    pub arrived: AtomicU64,
    /// How many that must become.
    pub arrived_expected: AtomicU64,
    /// Files read on standbys and found right.
    pub arrived_verified: AtomicU64,
    /// Files removed again.
    pub cleaned: AtomicU64,
    inner: Mutex<Inner>,
}

struct Inner {
    phase: Phase,
    sentence: Option<String>,
    done: BTreeMap<Operation, Counts>,
    times: BTreeMap<Operation, Times>,
    errors: BTreeMap<String, u64>,
    /// Since the last point.
    moment: Moment,
    points: Vec<Point>,
    /// Moments that make a point by now.
    moments_per_point: u32,
    moments: u32,
    /// How far each standby is behind, in milliseconds.
    lags: BTreeMap<String, f64>,
    faults: Vec<Finding>,
    faults_by_kind: BTreeMap<FaultKind, u64>,
    known_faults: HashSet<(String, String, FaultKind)>,
}

struct Moment {
    times: Times,
    began: Instant,
    operations: u64,
    errors: u64,
    bytes_up: u64,
    bytes_down: u64,
}

impl Tally {
    /// Nothing yet.
    pub fn new(run: RunId, plan: &Plan) -> Tally {
        let began = Instant::now();
        let moment = Moment { times: Times::default(), began, operations: 0, errors: 0, bytes_up: 0, bytes_down: 0 };
        Tally {
            run,
            planned_files: plan.files,
            planned_bytes: plan.bytes(),
            planned_ms: plan.duration.map(|span| span.as_millis() as u64),
            began,
            bytes_up: AtomicU64::new(0),
            bytes_down: AtomicU64::new(0),
            clients: AtomicUsize::new(0),
            acknowledged: AtomicU64::new(0),
            verified: AtomicU64::new(0),
            arrived: AtomicU64::new(0),
            arrived_expected: AtomicU64::new(0),
            arrived_verified: AtomicU64::new(0),
            cleaned: AtomicU64::new(0),
            inner: Mutex::new(Inner {
                phase: Phase::Preparing,
                sentence: None,
                done: BTreeMap::new(),
                times: BTreeMap::new(),
                errors: BTreeMap::new(),
                moment,
                points: Vec::new(),
                moments_per_point: 1,
                moments: 0,
                lags: BTreeMap::new(),
                faults: Vec::new(),
                faults_by_kind: BTreeMap::new(),
                known_faults: HashSet::new(),
            }),
        }
    }

    /// A few lines run under this lock and none of them panics.
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Since the run began.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// What the run is at, from now on.
    pub fn enter(&self, phase: Phase, sentence: Option<String>) {
        let mut inner = self.inner();
        inner.phase = phase;
        inner.sentence = sentence;
    }

    /// The load begins: points count from here.
    pub fn begin_points(&self) {
        let mut inner = self.inner();
        inner.moment.began = Instant::now();
        inner.moment.times.clear();
    }

    /// An operation was done.
    pub fn done(&self, operation: Operation, took: Duration) {
        let mut inner = self.inner();
        inner.done.entry(operation).or_default().ok += 1;
        inner.times.entry(operation).or_default().add(took);
        if operation != Operation::Connect {
            inner.moment.times.add(took);
            inner.moment.operations += 1;
        }
    }

    /// An operation failed.
    pub fn failed(&self, operation: Operation, kind: String) {
        let mut inner = self.inner();
        inner.done.entry(operation).or_default().failed += 1;
        inner.moment.errors += 1;
        let is_new = !inner.errors.contains_key(&kind);
        let kind = if is_new && inner.errors.len() >= KINDS_MAX { "other".to_owned() } else { kind };
        *inner.errors.entry(kind).or_default() += 1;
    }

    /// A file was found lost or wrong. `name` is what it is called in all its lives; the same fault counts once.
    pub fn fault(&self, name: &str, finding: Finding) {
        let mut inner = self.inner();
        if !inner.known_faults.insert((finding.server.clone(), name.to_owned(), finding.kind)) {
            return;
        }
        *inner.faults_by_kind.entry(finding.kind).or_default() += 1;
        if inner.faults.len() < FAULTS_MAX {
            inner.faults.push(finding);
        }
    }

    /// How far a standby is behind.
    pub fn lag(&self, standby: &str, lag: Duration) {
        self.inner().lags.insert(standby.to_owned(), lag.as_secs_f64() * 1000.0);
    }

    /// Makes a point of what came since the last one.
    pub fn sample(&self) {
        let (up, down) = (self.bytes_up.load(Ordering::Relaxed), self.bytes_down.load(Ordering::Relaxed));
        let t_s = self.began.elapsed().as_secs_f64();
        self.inner().sample(t_s, up, down);
    }

    /// How the run is doing.
    pub fn progress(&self) -> Progress {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let inner = self.inner();
        Progress {
            run: Some(self.run.clone()),
            phase: inner.phase,
            sentence: inner.sentence.clone(),
            elapsed_ms: self.began.elapsed().as_millis() as u64,
            planned_files: self.planned_files,
            planned_bytes: self.planned_bytes,
            planned_ms: self.planned_ms,
            clients: self.clients.load(Ordering::Relaxed),
            done: inner.done.clone(),
            bytes_up: count(&self.bytes_up),
            bytes_down: count(&self.bytes_down),
            errors: inner.errors.clone(),
            points: inner.points.clone(),
            acknowledged: count(&self.acknowledged),
            verified: count(&self.verified),
            arrived: count(&self.arrived),
            arrived_expected: count(&self.arrived_expected),
            arrived_verified: count(&self.arrived_verified),
            faults: inner.faults_by_kind.values().sum(),
            cleaned: count(&self.cleaned),
        }
    }

    /// How long the operations took that were done.
    pub fn latencies(&self) -> BTreeMap<Operation, Latency> {
        self.inner().times.iter().map(|(operation, times)| (*operation, times.latency())).collect()
    }

    /// What was found lost or wrong: the first of it one by one, and all of it by kind.
    pub fn faults(&self) -> (Vec<Finding>, BTreeMap<FaultKind, u64>) {
        let inner = self.inner();
        (inner.faults.clone(), inner.faults_by_kind.clone())
    }
}

impl Inner {
    fn sample(&mut self, t_s: f64, up: u64, down: u64) {
        self.moments += 1;
        if self.moments < self.moments_per_point {
            return;
        }
        self.moments = 0;
        let seconds = self.moment.began.elapsed().as_secs_f64().max(0.001);
        let per_s = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
        let times = &self.moment.times;
        self.points.push(Point {
            t_s,
            up_bytes_per_s: per_s(up, self.moment.bytes_up),
            down_bytes_per_s: per_s(down, self.moment.bytes_down),
            operations_per_s: self.moment.operations as f64 / seconds,
            p50_ms: times.percentile_ms(50.0),
            p95_ms: times.percentile_ms(95.0),
            p99_ms: times.percentile_ms(99.0),
            errors: self.moment.errors,
            standby_lag_ms: self.lags.values().copied().reduce(f64::max),
        });
        self.moment.times.clear();
        self.moment.began = Instant::now();
        (self.moment.operations, self.moment.errors) = (0, 0);
        (self.moment.bytes_up, self.moment.bytes_down) = (up, down);
        if self.points.len() > POINTS_MAX {
            self.points = self.points.chunks(2).filter_map(joined).collect();
            self.moments_per_point *= 2;
        }
    }
}

/// Two neighbours as one: rates in the middle, times and errors of the worse.
fn joined(neighbours: &[Point]) -> Option<Point> {
    let (first, last) = (neighbours.first()?, neighbours.last()?);
    let middle = |one: f64, other: f64| f64::midpoint(one, other);
    let errors = if neighbours.len() == 2 { first.errors + last.errors } else { last.errors };
    Some(Point {
        t_s: last.t_s,
        up_bytes_per_s: middle(first.up_bytes_per_s, last.up_bytes_per_s),
        down_bytes_per_s: middle(first.down_bytes_per_s, last.down_bytes_per_s),
        operations_per_s: middle(first.operations_per_s, last.operations_per_s),
        p50_ms: middle(first.p50_ms, last.p50_ms),
        p95_ms: first.p95_ms.max(last.p95_ms),
        p99_ms: first.p99_ms.max(last.p99_ms),
        errors,
        standby_lag_ms: [first.standby_lag_ms, last.standby_lag_ms].into_iter().flatten().reduce(f64::max),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally() -> Tally {
        Tally::new("20261122-021530-9f3c1a".parse().unwrap(), &crate::content::tests::plan("4KiB", 10, 1))
    }

    #[test]
    fn what_is_done_and_what_fails_is_counted_by_kind() {
        let tally = tally();
        for took in 1..=100 {
            tally.done(Operation::Upload, Duration::from_millis(took));
        }
        tally.failed(Operation::Upload, "timeout".into());
        (0..100).for_each(|kind| tally.failed(Operation::List, format!("kind {kind}")));
        tally.sample();
        let progress = tally.progress();
        assert_eq!(progress.done[&Operation::Upload], Counts { ok: 100, failed: 1 });
        assert_eq!((progress.errors["timeout"], progress.errors["other"]), (1, 61));
        assert_eq!((progress.points.len(), progress.points[0].errors), (1, 101));
        let latency = tally.latencies()[&Operation::Upload];
        assert!((49.0..51.0).contains(&latency.p50_ms) && (99.0..101.0).contains(&latency.max_ms), "{latency:?}");
    }

    #[test]
    fn a_fault_that_is_found_twice_counts_once() {
        let tally = tally();
        let finding = |file: &str, kind| Finding { file: file.into(), server: "t".into(), kind, detail: "".into() };
        tally.fault("7", finding("7", FaultKind::Lost));
        tally.fault("7", finding("7-r1", FaultKind::Lost));
        tally.fault("7", finding("7", FaultKind::NotListed));
        let (faults, by_kind) = tally.faults();
        assert_eq!((faults.len(), by_kind[&FaultKind::Lost], tally.progress().faults), (2, 1, 2));
    }

    #[test]
    fn a_long_run_keeps_a_bounded_course_to_its_end() {
        let tally = tally();
        for second in 0..5000 {
            tally.inner().sample(f64::from(second), 0, 0);
        }
        let points = tally.progress().points;
        assert!((POINTS_MAX / 2..=POINTS_MAX).contains(&points.len()), "{}", points.len());
        assert!(points.windows(2).all(|two| two[0].t_s < two[1].t_s) && points.last().unwrap().t_s > 4900.0);
    }
}
