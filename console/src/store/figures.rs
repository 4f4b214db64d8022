//! What records come to, by hour, day, account, cause and client: added up for many records, then written at once. What those below a
//! folder come to is [`super::folders`]' business.
//!
//! Always holds: the figures are those of the records that are kept; they change in the same transaction.

use std::collections::{BTreeSet, HashMap};

use rusqlite::{Connection, Row, params};

use super::folders::{FolderFigures, Folders};
use super::words::Words;
use crate::calendar::Calendar;
use crate::cause::cause_of;
use crate::record::{Kind, Operation};

/// Files that are smaller say more about round trips than about a partner's line, in bytes.
const TIMED_BYTES_MIN: i64 = 256 * 1024;

/// What some records come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "they are the columns of the tables")]
pub struct Sum {
    pub records: i64,
    pub bytes: i64,
    pub elapsed_ms: i64,
    /// Transfers that were large enough to tell how fast they were.
    pub timed: i64,
    pub timed_bytes: i64,
    pub timed_ms: i64,
}

impl Sum {
    /// Of one record.
    pub fn of(kind: Kind, bytes: i64, elapsed_ms: i64) -> Sum {
        let is_timed = kind.operation().is_transfer() && bytes >= TIMED_BYTES_MIN && elapsed_ms > 0;
        let (timed, timed_bytes, timed_ms) = if is_timed { (1, bytes, elapsed_ms) } else { (0, 0, 0) };
        Sum { records: 1, bytes, elapsed_ms, timed, timed_bytes, timed_ms }
    }

    /// Adds another.
    pub fn add(&mut self, other: Sum) {
        self.records += other.records;
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.elapsed_ms = self.elapsed_ms.saturating_add(other.elapsed_ms);
        self.timed += other.timed;
        self.timed_bytes = self.timed_bytes.saturating_add(other.timed_bytes);
        self.timed_ms = self.timed_ms.saturating_add(other.timed_ms);
    }
}

/// How often something was, and when last.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// How often.
    pub records: i64,
    /// When last, in milliseconds since 1970.
    pub last_ms: i64,
}

impl Seen {
    /// Once more.
    pub fn add(&mut self, at_ms: i64) {
        self.last_ms = if self.records == 0 { at_ms } else { self.last_ms.max(at_ms) };
        self.records += 1;
    }
}

/// A record, as far as figures are concerned.
#[derive(Clone, Copy, Debug)]
pub struct Counted<'a> {
    /// When, in milliseconds since 1970.
    pub time_ms: i64,
    /// What, and what came of it.
    pub kind: Kind,
    /// The account's number.
    pub account: i64,
    /// Its path.
    pub path: Option<&'a str>,
    /// Bytes that were moved.
    pub bytes: i64,
    /// How long it took.
    pub elapsed_ms: i64,
    /// What was said.
    pub error: Option<&'a str>,
    /// The client's address.
    pub address: &'a str,
    /// The number of what the client calls itself.
    pub client: Option<i64>,
    /// The number of its algorithms.
    pub algorithms: Option<i64>,
}

/// Figures that are not written yet.
#[derive(Debug, Default)]
pub struct Figures {
    hour: HashMap<(i64, u16), Sum>,
    account_hour: HashMap<(i64, i64, u16), Sum>,
    day: HashMap<(i32, i64, u16), Sum>,
    below: FolderFigures,
    failure: HashMap<(i32, String, u16, i64), Seen>,
    client: HashMap<(i32, i64, i64, i64), Seen>,
    failed_login: HashMap<(i32, i64, String), Seen>,
}

impl Figures {
    /// Adds a record.
    pub fn add(&mut self, counted: Counted<'_>, calendar: &mut Calendar, folders: &Folders) {
        let Counted { time_ms, kind, account, .. } = counted;
        let (hour, day) = (calendar.hour(time_ms), calendar.day(time_ms));
        let sum = Sum::of(kind, counted.bytes, counted.elapsed_ms);
        self.hour.entry((hour, kind.0)).or_default().add(sum);
        self.account_hour.entry((account, hour, kind.0)).or_default().add(sum);
        self.day.entry((day, account, kind.0)).or_default().add(sum);
        let cause = kind.outcome().is_failure().then(|| cause_of(counted.error.unwrap_or_default()));
        self.below.add(&counted, sum, cause.as_deref(), calendar, folders);
        if let Some(cause) = cause {
            self.failure.entry((day, cause, kind.0, account)).or_default().add(time_ms);
        }
        match kind.operation() {
            Operation::Login => {
                let key = (day, counted.client.unwrap_or(0), counted.algorithms.unwrap_or(0), account);
                self.client.entry(key).or_default().add(time_ms);
            }
            Operation::ConnectionFailed => {
                let key = (day, account, counted.address.to_owned());
                self.failed_login.entry(key).or_default().add(time_ms);
            }
            _ => {}
        }
    }

    /// Writes all of them. Gives folders that are large by now and not counted.
    pub fn write(&self, db: &Connection, words: &mut Words) -> rusqlite::Result<Vec<String>> {
        self.write_hours(db)?;
        self.write_days(db)?;
        let mut add = db.prepare_cached(
            "INSERT INTO failure_day VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE
             SET records = records + excluded.records, last_ms = max(last_ms, excluded.last_ms)",
        )?;
        for ((day, cause, kind, account), seen) in &self.failure {
            let cause = words.word(db, cause)?.unwrap_or(0);
            add.execute(params![day, cause, kind, account, seen.records, seen.last_ms])?;
        }
        let mut add = db.prepare_cached(
            "INSERT INTO client_day VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE
             SET records = records + excluded.records, last_ms = max(last_ms, excluded.last_ms)",
        )?;
        for ((day, client, algorithms, account), seen) in &self.client {
            add.execute(params![day, client, algorithms, account, seen.records, seen.last_ms])?;
        }
        let mut add = db.prepare_cached(
            "INSERT INTO failed_login_day VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE
             SET records = records + excluded.records, last_ms = max(last_ms, excluded.last_ms)",
        )?;
        for ((day, account, address), seen) in &self.failed_login {
            add.execute(params![day, account, address, seen.records, seen.last_ms])?;
        }
        self.below.write(db, words)
    }

    fn write_hours(&self, db: &Connection) -> rusqlite::Result<()> {
        let mut add = db.prepare_cached(
            "INSERT INTO hour VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE
             SET records = records + excluded.records, bytes = bytes + excluded.bytes",
        )?;
        for ((hour, kind), sum) in &self.hour {
            add.execute(params![hour, kind, sum.records, sum.bytes])?;
        }
        let mut add = db.prepare_cached(
            "INSERT INTO account_hour VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE
             SET records = records + excluded.records, bytes = bytes + excluded.bytes",
        )?;
        let mut sums: Vec<_> = self.account_hour.iter().collect();
        sums.sort_unstable_by_key(|(key, _)| **key);
        for ((account, hour, kind), sum) in sums {
            add.execute(params![account, hour, kind, sum.records, sum.bytes])?;
        }
        Ok(())
    }

    fn write_days(&self, db: &Connection) -> rusqlite::Result<()> {
        let mut add = db.prepare_cached(
            "INSERT INTO day VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE
             SET records = records + excluded.records, bytes = bytes + excluded.bytes, elapsed_ms = elapsed_ms + excluded.elapsed_ms,
                 timed = timed + excluded.timed, timed_bytes = timed_bytes + excluded.timed_bytes,
                 timed_ms = timed_ms + excluded.timed_ms",
        )?;
        for ((day, account, kind), sum) in &self.day {
            let Sum { records, bytes, elapsed_ms, timed, timed_bytes, timed_ms } = sum;
            add.execute(params![day, account, kind, records, bytes, elapsed_ms, timed, timed_bytes, timed_ms])?;
        }
        Ok(())
    }
}

/// Tables that are figures.
pub const TABLES_BY_DAY: [&str; 6] =
    ["day", "failure_day", "client_day", "failed_login_day", "folder_day", "folder_failure_day"];
/// And those by hour.
pub const TABLES_BY_HOUR: [&str; 2] = ["hour", "account_hour"];

/// Records that are added up before they are written, so that memory is bounded.
const COUNTED_AT_ONCE: usize = 50_000;

/// Counts all figures from the records. Gives the folders that are large: none is counted yet.
pub fn count_anew(db: &Connection, calendar: &mut Calendar, words: &mut Words) -> rusqlite::Result<BTreeSet<String>> {
    db.execute("DELETE FROM folder", [])?;
    // None is counted while all are: which are large shows in the end.
    let (none, mut large) = (Folders::default(), BTreeSet::new());
    for table in TABLES_BY_DAY.iter().chain(&TABLES_BY_HOUR) {
        db.execute(&format!("DELETE FROM {table}"), [])?;
    }
    let mut last = 0;
    loop {
        let (mut figures, mut count) = (Figures::default(), 0);
        let before = last;
        each_record_after(db, before, |row| {
            let path: Option<String> = row.get(4)?;
            let (error, address): (Option<String>, Option<String>) = (row.get(7)?, row.get(8)?);
            last = row.get(0)?;
            count += 1;
            let counted = Counted {
                time_ms: row.get(1)?,
                kind: Kind(row.get(2)?),
                account: row.get(3)?,
                path: path.as_deref(),
                bytes: row.get::<_, Option<i64>>(5)?.unwrap_or(0),
                elapsed_ms: row.get::<_, Option<i64>>(6)?.unwrap_or(0),
                error: error.as_deref(),
                address: address.as_deref().unwrap_or_default(),
                client: row.get(9)?,
                algorithms: row.get(10)?,
            };
            figures.add(counted, calendar, &none);
            Ok(())
        })?;
        large.extend(figures.write(db, words)?);
        if count < COUNTED_AT_ONCE {
            return Ok(large);
        }
    }
}

fn each_record_after(
    db: &Connection,
    id: i64,
    mut take: impl FnMut(&Row) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let mut query = db.prepare_cached(
        "SELECT id, time_ms, kind, account, path, moved_bytes, elapsed_ms, error, address, client, algorithms FROM record
         WHERE id > ? ORDER BY id LIMIT ?",
    )?;
    let mut rows = query.query(params![id, COUNTED_AT_ONCE as i64])?;
    while let Some(row) = rows.next()? {
        take(row)?;
    }
    Ok(())
}
