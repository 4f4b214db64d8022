//! How each standby is doing: what the followers report, what metrics and `filesync status` show.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::remote::Grade;
use crate::stream::Behind;
use crate::tree::shown;

/// Seconds since 1970, for people and for the store; spans are measured on the monotonic clock.
pub fn now_s() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// What is told of one standby.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// Its name: the address as configured.
    pub standby: String,
    /// When this was written, in seconds since 1970: a running filesync does so every few seconds.
    pub at_s: i64,
    /// What its server can promise; none before the first contact.
    pub grade: Option<Grade>,
    /// Whether it is connected.
    pub connected: bool,
    /// Since when it is connected or not, in seconds since 1970.
    pub since_s: i64,
    /// What is wrong, if something is.
    pub sentence: Option<String>,
    /// Passes that came to their end.
    pub passes: u64,
    /// Whether the last pass saw both sides whole.
    pub complete: bool,
    /// When the last complete pass ended.
    pub complete_at_s: Option<i64>,
    /// When the last pass began that left nothing to do: the standby has all that was there then.
    pub settled_at_s: Option<i64>,
    /// How long the last pass took, in milliseconds.
    pub pass_ms: u64,
    /// Entries on the standby.
    pub entries: u64,
    /// Files that are still to be sent.
    pub files_pending: u64,
    /// Their bytes.
    pub bytes_pending: u64,
    /// Files sent since filesync started.
    pub files_sent: u64,
    /// Their bytes.
    pub bytes_sent: u64,
    /// Entries whose removal waits for a person.
    pub deletes_held: u64,
    /// Paths with problems.
    pub problems: u64,
    /// Since when the oldest of them is there, in seconds since 1970.
    pub problems_since_s: Option<i64>,
    /// Whether the feed is followed, and has told everything since the last pass.
    pub followed: bool,
    /// Why it is not.
    pub feed_sentence: Option<String>,
    /// How far the standby is behind, in milliseconds: the age of the oldest change that it has not got.
    pub lag_ms: u64,
    /// Where the oldest change is that the standby has not got, as people read it; none where it has all, or that is not known.
    pub oldest_path: Option<String>,
    /// Changes that are on their way from the feed.
    pub changes_behind: u64,
    /// Files among them.
    pub files_behind: u64,
    /// Their bytes.
    pub bytes_behind: u64,
    /// Differences that passes have found and of which the feed had not told, since filesync started.
    pub missed_events: u64,
}

/// A report older than this is that of a filesync that does not run any more, in seconds.
const REPORT_AGE_MAX_S: i64 = 30;

impl Report {
    /// How long ago the filesync that wrote this was seen last, if it does not run any more, in seconds.
    pub fn silent_s(&self) -> Option<i64> {
        Some(now_s().saturating_sub(self.at_s)).filter(|age_s| *age_s > REPORT_AGE_MAX_S)
    }

    /// What is wrong with the standby, in a sentence: it is gone, or lags by more than it may.
    pub fn alarm(&self, lag_max: Duration) -> Option<String> {
        let name = &self.standby;
        if let Some(silent_s) = self.silent_s() {
            return Some(format!("{name}: filesync does not run; it was seen {silent_s} s ago"));
        }
        if !self.connected {
            let sentence = self.sentence.clone().unwrap_or_else(|| "not reached yet".into());
            return Some(format!("{name}: not connected: {sentence}"));
        }
        let (lag, limit_s) = (Duration::from_millis(self.lag_ms), lag_max.as_secs());
        if lag > lag_max {
            return Some(format!("{name}: lags by {} s, more than {limit_s} s", lag.as_secs()));
        }
        let open_s = self.problems_since_s.map_or(0, |since_s| now_s().saturating_sub(since_s));
        let is_open = self.problems > 0 && open_s.unsigned_abs() > limit_s && open_s > 0;
        is_open.then(|| {
            format!(
                "{name}: {} paths have problems, the oldest for {open_s} s; filesync status shows them",
                self.problems
            )
        })
    }
}

/// The report of a running follower.
pub struct Board {
    interval: Duration,
    started: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    report: Report,
    complete_at: Option<Instant>,
    settled_at: Option<Instant>,
    /// When the last pass began that saw everything and left no large file behind.
    covered_since: Option<Instant>,
    /// Since when the feed is followed without anything missing.
    followed_since: Option<Instant>,
    /// Since when the oldest change waits that the standby has not got.
    oldest: Option<Instant>,
    /// Up to when the standby was known to have everything, by the feed.
    current_until: Option<Instant>,
}

impl Board {
    /// An empty report.
    pub fn new(standby: &str, interval: Duration) -> Board {
        let report = Report { standby: standby.to_owned(), since_s: now_s(), ..Report::default() };
        let state = Mutex::new(State { report, ..State::default() });
        Board { interval, started: Instant::now(), state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The report as it is now.
    pub fn report(&self) -> Report {
        let lag_ms = self.lag().as_millis() as u64;
        Report { lag_ms, at_s: now_s(), ..self.state().report.clone() }
    }

    /// Changes the report.
    pub fn update(&self, change: impl FnOnce(&mut Report)) {
        change(&mut self.state().report);
    }

    /// Notes that a connection is there.
    pub fn connected(&self, grade: Grade) {
        self.update(|report| {
            *report =
                Report { grade: Some(grade), connected: true, since_s: now_s(), sentence: None, ..report.clone() };
        });
    }

    /// Notes that there is none, and why.
    pub fn disconnected(&self, sentence: &str) {
        let state = &mut *self.state();
        let report = &mut state.report;
        if report.connected {
            (report.connected, report.since_s) = (false, now_s());
        }
        report.sentence = Some(sentence.to_owned());
        report.followed = false;
        report.oldest_path = None;
        (state.followed_since, state.oldest) = (None, None);
    }

    /// Notes what the feed has told that is not on the standby yet. `is_current` says that nothing before it is missing.
    pub fn feed(&self, behind: Behind, is_current: bool) {
        let state = &mut *self.state();
        state.followed_since = if is_current { state.followed_since.or_else(|| Some(Instant::now())) } else { None };
        state.oldest = behind.oldest;
        if is_current {
            state.current_until = Some(behind.oldest.unwrap_or_else(Instant::now));
        }
        let report = &mut state.report;
        (report.followed, report.feed_sentence) = (is_current, None);
        report.oldest_path = behind.oldest_path.map(|path| shown(&path));
        (report.changes_behind, report.files_behind, report.bytes_behind) =
            (behind.changes, behind.files, behind.bytes);
    }

    /// Notes that the feed is not followed, and why.
    pub fn feed_lost(&self, sentence: &str) {
        let state = &mut *self.state();
        (state.followed_since, state.oldest) = (None, None);
        (state.report.followed, state.report.feed_sentence) = (false, Some(sentence.to_owned()));
        state.report.oldest_path = None;
        (state.report.changes_behind, state.report.files_behind, state.report.bytes_behind) = (0, 0, 0);
    }

    /// Since when the feed is followed without anything missing.
    pub fn followed_since(&self) -> Option<Instant> {
        self.state().followed_since
    }

    /// Notes a pass that saw everything and left no large file behind.
    pub fn covered(&self, began: Instant) {
        self.state().covered_since = Some(began);
    }

    /// When the last such pass began.
    pub fn covered_since(&self) -> Option<Instant> {
        self.state().covered_since
    }

    /// Notes differences of which the feed had not told.
    pub fn missed(&self, count: u64) {
        self.state().report.missed_events += count;
    }

    /// Notes a file on its way out.
    pub fn sent(&self, bytes: u64) {
        self.update(|report| {
            report.files_sent += 1;
            report.bytes_sent += bytes;
            report.files_pending = report.files_pending.saturating_sub(1);
            report.bytes_pending = report.bytes_pending.saturating_sub(bytes);
        });
    }

    /// Notes a pass that came to its end.
    pub fn passed(&self, began: Instant, began_s: i64, complete: bool, settled: bool) {
        let mut state = self.state();
        state.report.passes += 1;
        state.report.complete = complete;
        state.report.pass_ms = began.elapsed().as_millis() as u64;
        if complete {
            state.complete_at = Some(Instant::now());
            state.report.complete_at_s = Some(now_s());
        }
        if settled {
            state.settled_at = Some(began);
            state.report.settled_at_s = Some(began_s);
        }
    }

    /// How far the standby is behind: where the feed is followed, the age of the oldest change that it has not got; else
    /// that of the last pass that left nothing to do.
    pub fn lag(&self) -> Duration {
        let state = self.state();
        if state.report.connected && state.followed_since.is_some() {
            return state.oldest.map_or(Duration::ZERO, |oldest| oldest.elapsed());
        }
        state.settled_at.max(state.current_until).unwrap_or(self.started).elapsed()
    }

    /// Whether the standby follows; else a sentence.
    pub fn ready(&self) -> Result<(), String> {
        let state = self.state();
        let name = &state.report.standby;
        if !state.report.connected {
            let reason = state.report.sentence.clone();
            return Err(reason.unwrap_or_else(|| format!("standby {name} was not reached yet")));
        }
        let Some(complete_at) = state.complete_at else {
            return Err(format!("standby {name}: no pass is complete yet"));
        };
        if !state.report.complete {
            return Err(format!("standby {name}: the last pass could not see everything; filesync status shows why"));
        }
        let age = complete_at.elapsed();
        if age > self.interval * 3 {
            return Err(format!("standby {name}: the last complete pass was {} s ago", age.as_secs()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_means_reached_complete_and_recent() {
        let board = Board::new("s:1", Duration::from_secs(100));
        assert!(board.ready().unwrap_err().contains("not reached"));
        board.disconnected("standby s:1 cannot be reached: x");
        assert!(board.ready().unwrap_err().contains("cannot be reached: x"));
        board.connected(Grade::Pair);
        assert!(board.ready().unwrap_err().contains("no pass"));
        board.passed(Instant::now(), 0, true, true);
        assert_eq!(board.ready(), Ok(()));
        board.passed(Instant::now(), 0, false, false);
        assert!(board.ready().unwrap_err().contains("could not see everything"));
        board.disconnected("gone");
        assert_eq!(board.ready(), Err("gone".into()));
    }

    #[test]
    fn a_stale_pass_is_not_ready_and_lag_grows() {
        let board = Board::new("s:1", Duration::from_nanos(1));
        board.connected(Grade::Pair);
        board.passed(Instant::now(), 0, true, true);
        assert!(board.ready().unwrap_err().contains("s ago"));
        let before = board.lag();
        assert!(board.lag() > before);
    }

    #[test]
    fn an_alarm_says_what_is_wrong() {
        let limit = Duration::from_secs(60);
        let report =
            Report { standby: "s:1".into(), at_s: now_s(), connected: true, lag_ms: 5000, ..Report::default() };
        assert_eq!(report.alarm(limit), None);
        let late = Report { lag_ms: 61_000, ..report.clone() };
        assert_eq!(late.alarm(limit).unwrap(), "s:1: lags by 61 s, more than 60 s");
        let away = Report { connected: false, sentence: Some("no route".into()), ..report.clone() };
        assert!(away.alarm(limit).unwrap().contains("not connected: no route"));
        let dead = Report { at_s: now_s() - 100, ..report };
        assert!(dead.alarm(limit).unwrap().contains("filesync does not run"));
    }

    #[test]
    fn while_the_feed_is_followed_the_lag_is_the_age_of_the_oldest_change() {
        let board = Board::new("s:1", Duration::from_secs(100));
        board.connected(Grade::Pair);
        board.feed(Behind::default(), true);
        assert_eq!((board.lag(), board.report().followed), (Duration::ZERO, true));
        let oldest = Instant::now().checked_sub(Duration::from_secs(5));
        board.feed(Behind { oldest, oldest_path: Some(b"a\nb".to_vec()), changes: 2, files: 1, bytes: 10 }, true);
        assert!(board.lag() >= Duration::from_secs(5));
        assert_eq!(board.report().oldest_path.as_deref(), Some("a\\nb"));
        board.feed(Behind::default(), false);
        let before = board.lag();
        assert!(board.lag() > before, "nothing is proven by a feed that misses something");
        board.feed_lost("sftpd is away");
        let report = board.report();
        assert_eq!((report.followed, report.feed_sentence.as_deref()), (false, Some("sftpd is away")));
    }

    #[test]
    fn a_report_survives_json_and_older_ones_are_read() {
        let report = Report { grade: Some(Grade::Plain), ..Report::default() };
        let json = serde_json::to_string(&report).unwrap();
        assert!(json.contains("not durable"));
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
        assert_eq!(serde_json::from_str::<Report>("{}").unwrap(), Report::default());
    }
}
