//! One look at this machine: sftpd over its control socket, filesync's reports in its store, the samples of before.
//!
//! Each has a limit of time. What hangs on a disk goes on in its own thread, and nothing new is begun there until it is over.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use filesync::status::Report;
use filesync::store::{Held, Known, known_in_short};
use filesync::tree::shown;
use pair::control::{Answer, Ban, Order, Status, ask};
use tokio::task::JoinHandle;

use super::{Lines, Mirror, PATHS_MAX, Situation, Waiting, days_until_full};
use crate::safety;
use crate::store::samples::{KEPT_MS, Sample, Samples};

/// How long each may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// From one sample to the next, in milliseconds.
const SAMPLE_INTERVAL_MS: i64 = 10_000;
/// From one letting go of old samples to the next, in samples.
const SAMPLES_UNTIL_LETTING_GO: u64 = 360;

const HOUR_MS: i64 = 3_600_000;

/// Looks again and again.
pub struct Looker {
    state: PathBuf,
    reading: Pending<Result<Local, String>>,
    sampling: Pending<Option<(Samples, Arc<Lines>)>>,
    samples: Option<Samples>,
    sampled_ms: i64,
    count: u64,
}

/// What lies in the state folder.
struct Local {
    is_pair: bool,
    mirrors: Vec<Mirror>,
}

/// Work on a thread of its own that may hang.
struct Pending<T>(Option<JoinHandle<T>>);

impl<T: Send + 'static> Pending<T> {
    /// What the work says, begun now unless it is still under way; none where it is late or broke off.
    async fn ask(&mut self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let mut task = self.0.take().unwrap_or_else(|| tokio::task::spawn_blocking(work));
        match tokio::time::timeout(ANSWER_MAX, &mut task).await {
            Ok(done) => done.ok(),
            Err(_) => {
                self.0 = Some(task);
                None
            }
        }
    }
}

impl Looker {
    /// One that looks at the machine with this state folder.
    pub fn new(state: PathBuf) -> Looker {
        let (reading, sampling) = (Pending(None), Pending(None));
        Looker { state, reading, sampling, samples: None, sampled_ms: 0, count: 0 }
    }

    /// How it is now.
    pub async fn look(&mut self, before: &Situation) -> Situation {
        let state = self.state.clone();
        let (status, bans, local) = tokio::join!(
            status(&self.state),
            bans(&self.state),
            self.reading.ask(move || read(&state).map_err(|error| format!("{error:#}")))
        );
        let now_ms = jiff::Timestamp::now().as_millisecond();
        let local = local.unwrap_or_else(|| Err("the state folder does not answer: does its disk hang?".to_owned()));
        let (status, status_fault) = told(status, before.status.clone());
        let (local, mirrors_fault) = match local {
            Ok(local) => (local, None),
            Err(sentence) => (Local { is_pair: before.is_pair, mirrors: before.mirrors.clone() }, Some(sentence)),
        };
        let mut now = Situation {
            looked_ms: Some(now_ms),
            is_pair: local.is_pair,
            status,
            status_fault,
            bans: bans.unwrap_or_default(),
            mirrors: local.mirrors,
            mirrors_fault,
            since: before.since.clone(),
            lines: before.lines.clone(),
        };
        now.since = safety::since(&now, now_ms);
        if let Some(lines) = self.sample(&now, now_ms).await {
            now.lines = lines;
        }
        now
    }

    /// Keeps how it is, where it is time for that, and gives the lines with it.
    async fn sample(&mut self, now: &Situation, now_ms: i64) -> Option<Arc<Lines>> {
        if now_ms.abs_diff(self.sampled_ms) < SAMPLE_INTERVAL_MS.unsigned_abs() {
            return None;
        }
        (self.sampled_ms, self.count) = (now_ms, self.count + 1);
        let (state, seen, lines, count) = (self.state.clone(), samples_of(now), now.lines.clone(), self.count);
        let samples = self.samples.take();
        let work = move || {
            let kept = keep(samples, &state, now_ms, &seen, &lines, count);
            kept.map_err(|error| tracing::debug!("no sample is kept: {error:#}")).ok()
        };
        let (samples, lines) = self.sampling.ask(work).await.flatten()?;
        self.samples = Some(samples);
        Some(lines)
    }
}

/// What was said, or what was said before with the reason why nothing is said now.
fn told(asked: Result<Status, String>, before: Option<Arc<Status>>) -> (Option<Arc<Status>>, Option<String>) {
    match asked {
        Ok(status) => (Some(Arc::new(status)), None),
        Err(sentence) => (before, Some(sentence)),
    }
}

async fn status(state: &Path) -> Result<Status, String> {
    match in_time(ask(state, &Order::Status {})).await? {
        Answer::Status(status) => Ok(*status),
        Answer::Refused { text } => Err(text),
        _ => Err("sftpd answered something else: is it of another version?".to_owned()),
    }
}

async fn bans(state: &Path) -> Result<Vec<Ban>, String> {
    match in_time(ask(state, &Order::Bans {})).await? {
        Answer::Bans(bans) => Ok(bans),
        _ => Err("sftpd does not say who is banned".to_owned()),
    }
}

async fn in_time(asking: impl Future<Output = anyhow::Result<Answer>>) -> Result<Answer, String> {
    let late = |_| format!("sftpd does not answer within {} s: does it hang?", ANSWER_MAX.as_secs());
    tokio::time::timeout(ANSWER_MAX, asking).await.map_err(late)?.map_err(|error| format!("{error:#}"))
}

fn read(state: &Path) -> anyhow::Result<Local> {
    let is_pair = pair::node::path(state).exists();
    let mirrors = known_in_short(&state.join("filesync.db"), PATHS_MAX)?.into_iter().map(mirror).collect();
    Ok(Local { is_pair, mirrors })
}

fn mirror(known: Known) -> Mirror {
    // A report of another version is as none.
    let report = known.report.and_then(|report| serde_json::from_str::<Report>(&report).ok());
    let mut held: Vec<Held> = known.held.into_iter().filter(|held| !held.approved).collect();
    held.sort_by_key(|held| std::cmp::Reverse(held.entries));
    let (held_paths, held_entries) = (held.len() as u64, held.iter().map(|held| held.entries).sum());
    held.truncate(PATHS_MAX);
    let troubles_count = known.troubles_count;
    let mut troubles: Vec<_> = known.troubles.into_iter().collect();
    troubles.sort_by_key(|(_, trouble)| trouble.first_s);
    let waiting = troubles.into_iter().map(|(path, trouble)| Waiting {
        path: shown(&path),
        sentence: trouble.sentence,
        tries: trouble.attempts,
        since_s: trouble.first_s,
    });
    let report = report.map(|report| Report { standby: known.name.clone(), ..report });
    let (troubles, verified) = (waiting.collect(), known.verified);
    Mirror { name: known.name, report, held, held_paths, held_entries, troubles, troubles_count, verified }
}

/// What a sample keeps of a snapshot. What is not known now leaves a gap.
fn samples_of(now: &Situation) -> Vec<Sample> {
    let reports = now.mirrors.iter().filter_map(|mirror| mirror.report.as_ref());
    let living = reports.filter(|report| report.silent_s().is_none() && now.mirrors_fault.is_none());
    let of_standby = living.map(|report| Sample {
        standby: report.standby.clone(),
        lag_ms: report.lag_ms,
        changes_behind: report.changes_behind,
        files_behind: report.files_behind.max(report.files_pending),
        bytes_behind: report.bytes_behind.max(report.bytes_pending),
        free_bytes: None,
    });
    let own = now.status.as_ref().filter(|status| now.status_fault.is_none() && status.volume_bytes > 0);
    let own = own.map(|status| Sample { free_bytes: Some(status.volume_free_bytes), ..Sample::default() });
    own.into_iter().chain(of_standby).collect()
}

/// Keeps a sample and reads the lines: the longer ones less often.
fn keep(
    samples: Option<Samples>,
    state: &Path,
    now_ms: i64,
    seen: &[Sample],
    before: &Lines,
    count: u64,
) -> anyhow::Result<(Samples, Arc<Lines>)> {
    let mut samples = samples.map_or_else(|| Samples::open(state), Ok)?;
    if !seen.is_empty() {
        samples.keep(now_ms, seen)?;
    }
    if count % SAMPLES_UNTIL_LETTING_GO == 1 {
        samples.let_go(now_ms)?;
    }
    let mut lines = Lines { hour: samples.courses(now_ms, HOUR_MS)?, ..before.clone() };
    if count % 6 == 1 {
        lines.day = samples.courses(now_ms, 24 * HOUR_MS)?;
        lines.week = samples.courses(now_ms, (7 * 24 * HOUR_MS).min(KEPT_MS))?;
        // A week tells most; where there is none yet, the day does.
        lines.full_in_days = days_until_full(&lines.week).or_else(|| days_until_full(&lines.day));
    }
    Ok((samples, Arc::new(lines)))
}
