//! How each standby is doing: what the followers report, what metrics and `filesync status` show.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::remote::Grade;

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
        self.state().report.clone()
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
        let report = &mut self.state().report;
        if report.connected {
            (report.connected, report.since_s) = (false, now_s());
        }
        report.sentence = Some(sentence.to_owned());
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

    /// The age of what the standby has for sure: of the last pass that left nothing to do.
    pub fn lag(&self) -> Duration {
        self.state().settled_at.unwrap_or(self.started).elapsed()
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
    fn a_report_survives_json_and_older_ones_are_read() {
        let report = Report { grade: Some(Grade::Plain), ..Report::default() };
        let json = serde_json::to_string(&report).unwrap();
        assert!(json.contains("not durable"));
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
        assert_eq!(serde_json::from_str::<Report>("{}").unwrap(), Report::default());
    }
}
