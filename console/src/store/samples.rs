//! How far each standby was behind, and how much room there was, every few seconds for a week: what lines over time are drawn of.
//!
//! It has a connection of its own beside the follower's, writes a few rows at a time and never holds anybody up. Samples are no records:
//! losing some costs a gap in a line.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use rusqlite::{Connection, params};

use super::DATABASE;

/// How long samples are kept.
pub const KEPT_MS: i64 = 8 * 24 * 3_600_000;
/// The most points of a line.
pub const POINTS_MAX: i64 = 300;

/// How long one waits for the follower, which may be at a long batch. Past it the sample is lost.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How things were at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// The standby; empty for this machine itself.
    pub standby: String,
    /// The age of the oldest change that it had not got, in milliseconds.
    pub lag_ms: u64,
    /// Changes that it had not got.
    pub changes_behind: u64,
    /// Files among them.
    pub files_behind: u64,
    /// Their bytes.
    pub bytes_behind: u64,
    /// Room on the volume of this machine; only where the sample is of itself.
    pub free_bytes: Option<u64>,
}

/// One part of a line: the worst of all samples in a span.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Point {
    /// The span's number, from 0.
    pub place: usize,
    /// The largest lag in it, in milliseconds.
    pub lag_ms: u64,
    /// The least room in it.
    pub free_bytes: Option<u64>,
}

/// A standby's line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Course {
    /// The standby; empty for this machine itself.
    pub standby: String,
    /// Its points, the oldest first. Spans without a sample have none.
    pub points: Vec<Point>,
}

/// Some lines over one span of time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Courses {
    /// When the first span begins, in milliseconds since 1970.
    pub from_ms: i64,
    /// How long each span is.
    pub span_ms: i64,
    /// How many spans there are.
    pub spans: usize,
    /// The lines.
    pub courses: Vec<Course>,
}

/// The samples of a state folder.
pub struct Samples {
    db: Connection,
}

impl Samples {
    /// Opens them. The store must be there: the follower makes it.
    pub fn open(state: &Path) -> anyhow::Result<Samples> {
        let path = state.join(DATABASE);
        let open = || -> rusqlite::Result<Samples> {
            let db = Connection::open(&path)?;
            db.busy_timeout(BUSY_TIMEOUT)?;
            db.pragma_update(None, "synchronous", "normal")?;
            Ok(Samples { db })
        };
        open().with_context(|| format!("cannot open {}", path.display()))
    }

    /// Keeps what was seen at a moment, and lets go what is too old.
    pub fn keep(&mut self, at_ms: i64, seen: &[Sample]) -> rusqlite::Result<()> {
        let tx = self.db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        for one in seen {
            let sql = "INSERT OR REPLACE INTO sample VALUES (?, ?, ?, ?, ?, ?, ?)";
            let numbers = (one.lag_ms, one.changes_behind, one.files_behind, one.bytes_behind, one.free_bytes);
            tx.prepare_cached(sql)?.execute(params![
                one.standby,
                at_ms,
                bounded(numbers.0),
                bounded(numbers.1),
                bounded(numbers.2),
                bounded(numbers.3),
                numbers.4.map(bounded)
            ])?;
            let old = "DELETE FROM sample WHERE standby = ? AND at_ms < ?";
            tx.prepare_cached(old)?.execute(params![one.standby, at_ms - KEPT_MS])?;
        }
        tx.commit()
    }

    /// Forgets standbys that nothing was heard of for as long as samples are kept. Looks at all of them: once in a while.
    pub fn let_go(&self, now_ms: i64) -> rusqlite::Result<usize> {
        self.db.execute("DELETE FROM sample WHERE at_ms < ?", [now_ms - KEPT_MS])
    }

    /// The lines of so many milliseconds up to now, at most [`POINTS_MAX`] points each.
    pub fn courses(&self, now_ms: i64, length_ms: i64) -> rusqlite::Result<Courses> {
        let span_ms = (length_ms / POINTS_MAX).max(1);
        // Spans begin at multiples of their length, so that a point stays what it is while time goes on.
        let end_ms = (now_ms / span_ms + 1) * span_ms;
        let from_ms = end_ms - span_ms * POINTS_MAX;
        let mut standbys = self.db.prepare_cached("SELECT DISTINCT standby FROM sample ORDER BY standby")?;
        let standbys = standbys.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()?;
        let mut courses = Vec::new();
        for standby in standbys {
            let sql = "SELECT (at_ms - ?1) / ?2 AS place, max(lag_ms), min(free_bytes) FROM sample
                       WHERE standby = ?3 AND at_ms >= ?1 AND at_ms < ?4 GROUP BY place ORDER BY place";
            let mut query = self.db.prepare_cached(sql)?;
            let rows = query.query_map(params![from_ms, span_ms, standby, end_ms], |row| {
                Ok(Point { place: row.get(0)?, lag_ms: row.get(1)?, free_bytes: row.get(2)? })
            })?;
            let points = rows.collect::<rusqlite::Result<Vec<_>>>()?;
            courses.push(Course { standby, points });
        }
        Ok(Courses { from_ms, span_ms, spans: POINTS_MAX as usize, courses })
    }
}

/// SQLite's numbers have a sign.
fn bounded(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;
    use crate::store::Store;

    const HOUR_MS: i64 = 3_600_000;

    fn samples() -> (tempfile::TempDir, Samples) {
        let folder = tempfile::tempdir().unwrap();
        drop(Store::open(folder.path(), TimeZone::UTC).unwrap());
        let samples = Samples::open(folder.path()).unwrap();
        (folder, samples)
    }

    fn of(standby: &str, lag_ms: u64) -> Sample {
        Sample { standby: standby.into(), lag_ms, ..Sample::default() }
    }

    #[test]
    fn a_line_has_the_worst_of_each_span_and_gaps_stay_gaps() {
        let (_folder, mut samples) = samples();
        let now_ms = 1_795_301_300_000;
        let begin_ms = now_ms - HOUR_MS / 2;
        for (after_ms, lag_ms) in [(0, 5), (3_000, 70), (6_000, 9), (600_000, 1)] {
            samples.keep(begin_ms / 12_000 * 12_000 + after_ms, &[of("b", lag_ms), of("c", 1)]).unwrap();
        }
        let found = samples.courses(now_ms, HOUR_MS).unwrap();
        assert_eq!((found.span_ms, found.spans), (12_000, 300));
        let names: Vec<_> = found.courses.iter().map(|course| course.standby.as_str()).collect();
        assert_eq!(names, ["b", "c"]);
        let lags: Vec<_> = found.courses[0].points.iter().map(|point| point.lag_ms).collect();
        assert_eq!(lags, [70, 1]);
        let places: Vec<_> = found.courses[0].points.iter().map(|point| point.place).collect();
        assert_eq!(places[1] - places[0], 50);
        assert!(places[1] < 300);
    }

    #[test]
    fn old_samples_go_while_new_ones_come_and_those_of_lost_standbys_at_times() {
        let (_folder, mut samples) = samples();
        samples.keep(1000, &[of("b", 1), of("gone", 1)]).unwrap();
        samples.keep(1001 + KEPT_MS, &[of("b", 2)]).unwrap();
        let left = |samples: &Samples| -> i64 {
            samples.db.query_row("SELECT count(*) FROM sample", [], |row| row.get(0)).unwrap()
        };
        assert_eq!(left(&samples), 2);
        samples.let_go(1001 + KEPT_MS).unwrap();
        assert_eq!(left(&samples), 1);
    }

    #[test]
    fn the_least_room_of_a_span_counts_and_nothing_overflows() {
        let (_folder, mut samples) = samples();
        let own = |free_bytes| Sample { free_bytes: Some(free_bytes), lag_ms: u64::MAX, ..Sample::default() };
        samples.keep(HOUR_MS, &[own(500)]).unwrap();
        samples.keep(HOUR_MS + 1, &[own(300)]).unwrap();
        let found = samples.courses(HOUR_MS + 2, HOUR_MS).unwrap();
        assert_eq!(found.courses[0].points[0].free_bytes, Some(300));
    }

    #[test]
    fn who_writes_records_meanwhile_is_waited_for() {
        let (folder, mut samples) = samples();
        let mut store = Connection::open(folder.path().join(DATABASE)).unwrap();
        let tx = store.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
        let waiting = std::thread::spawn(move || samples.keep(1, &[of("b", 1)]));
        tx.commit().unwrap();
        waiting.join().unwrap().unwrap();
    }
}
