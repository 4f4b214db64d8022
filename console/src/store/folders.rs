//! Large folders, whose records are counted by day, account and hour while they come. Of the others records are few enough to be looked at
//! when somebody asks.
//!
//! Always holds: of a folder that is counted the figures are those of all records that are kept and lie below it, however deep; of one that
//! is not there are none. A folder is counted from the moment on at which so many have come that looking at each would take long; then all
//! that are there already are counted, once.

use std::collections::{BTreeMap, HashMap};

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

use super::figures::{Counted, Seen, Sum};
use super::words::Words;
use crate::calendar::Calendar;
use crate::cause::cause_of;
use crate::record::Kind;

/// Records from which on a folder is counted; in tests few. A look at as many takes some 20 ms.
const COUNTED_FROM: i64 = if cfg!(test) { 200 } else { 10_000 };

/// Folders above a file that may be counted, from the uppermost on, and the longest name of one, in bytes: paths are what strangers send.
const DEPTH_MAX: usize = 32;
const NAME_BYTES_MAX: usize = 1024;

/// Bytes of an hour in a row's `hours`: its number in the day, its records, their bytes.
const HOUR_BYTES: usize = 1 + 8 + 8;

/// The folders in which a path lies, the uppermost first, each without a `/` at its end: so the one above all is empty.
fn above(path: &str) -> impl Iterator<Item = &str> {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let parts = folder.match_indices('/').filter(|(at, _)| *at > 0).filter_map(|(at, _)| folder.get(..at));
    let own = (!folder.is_empty()).then_some(folder);
    let named = parts.chain(own).filter(|name| name.len() <= NAME_BYTES_MAX);
    std::iter::once("").chain(named).take(DEPTH_MAX)
}

/// What lies below a folder, of records: a condition on `path` and what its question marks stand for.
pub fn range(folder: &str) -> (&'static str, Vec<String>) {
    if folder.is_empty() {
        return ("path IS NOT NULL", Vec::new());
    }
    // `0` is what follows `/`.
    ("path >= ? AND path < ?", vec![format!("{folder}/"), format!("{folder}0")])
}

/// Whether a folder is counted.
pub fn is_counted(db: &Connection, folder: &str) -> rusqlite::Result<bool> {
    let mut find = db.prepare_cached("SELECT is_counted FROM folder WHERE name = ?")?;
    Ok(find.query_row([folder], |row| row.get(0)).optional()?.unwrap_or(false))
}

/// The folders that are counted.
#[derive(Debug, Default)]
pub struct Folders {
    is_loaded: bool,
    counted: HashMap<String, usize>,
    names: Vec<String>,
}

impl Folders {
    /// Learns them, where they are not known.
    pub fn load(&mut self, db: &Connection) -> rusqlite::Result<()> {
        if self.is_loaded {
            return Ok(());
        }
        let mut query = db.prepare_cached("SELECT name FROM folder WHERE is_counted")?;
        self.names = query.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        self.counted = self.names.iter().enumerate().map(|(at, name)| (name.clone(), at)).collect();
        self.is_loaded = true;
        Ok(())
    }

    /// Forgets them.
    pub fn forget(&mut self) {
        *self = Folders::default();
    }
}

/// Records of an hour of the day, and their bytes.
type Hours = BTreeMap<u8, (i64, i64)>;

/// Folder, day, account and kind.
type Key = (String, i32, i64, u16);

/// What has come to a folder itself.
#[derive(Debug)]
struct Arrived {
    records: i64,
    last_day: i32,
    /// The counted ones in which it lies, by their place in [`FolderFigures::names`].
    counted: Vec<usize>,
}

/// Figures of folders that are not written yet.
#[derive(Debug, Default)]
pub struct FolderFigures {
    arrived: HashMap<String, Arrived>,
    names: Vec<String>,
    day: HashMap<(usize, i32, i64, u16), (Sum, Hours)>,
    failure: HashMap<(usize, i32, String, u16, i64), Seen>,
}

impl FolderFigures {
    /// Adds a record, where it lies in any folder.
    pub fn add(
        &mut self,
        counted: &Counted<'_>,
        sum: Sum,
        cause: Option<&str>,
        calendar: &mut Calendar,
        folders: &Folders,
    ) {
        let Some(path) = counted.path else { return };
        let day = calendar.day(counted.time_ms);
        if self.names.is_empty() {
            self.names.clone_from(&folders.names);
        }
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let arrived = match self.arrived.get_mut(folder) {
            Some(arrived) => arrived,
            None => {
                let counted = above(path).filter_map(|name| folders.counted.get(name).copied()).collect();
                let new = Arrived { records: 0, last_day: day, counted };
                self.arrived.entry(folder.to_owned()).or_insert(new)
            }
        };
        arrived.records += 1;
        arrived.last_day = arrived.last_day.max(day);
        let hour = calendar.hour_of_day(counted.time_ms);
        for place in &arrived.counted {
            add_to(&mut self.day, (*place, day, counted.account, counted.kind.0), sum, hour);
            if let Some(cause) = cause {
                let key = (*place, day, cause.to_owned(), counted.kind.0, counted.account);
                self.failure.entry(key).or_default().add(counted.time_ms);
            }
        }
    }

    /// Writes all of them, and how many have come to each folder. Gives those that are large by now and not counted.
    pub fn write(&self, db: &Connection, words: &mut Words) -> rusqlite::Result<Vec<String>> {
        let mut come: BTreeMap<&str, (i64, i32)> = BTreeMap::new();
        for (folder, arrived) in &self.arrived {
            let below = format!("{folder}/");
            // The names are parts of the folder's own, which outlives this.
            for length in above(&below).map(str::len) {
                let entry = come.entry(folder.get(..length).unwrap_or_default()).or_insert((0, arrived.last_day));
                *entry = (entry.0 + arrived.records, entry.1.max(arrived.last_day));
            }
        }
        let mut add = db.prepare_cached(
            "INSERT INTO folder VALUES (?, ?, ?, 0) ON CONFLICT DO UPDATE
             SET records = records + excluded.records, last_day = max(last_day, excluded.last_day)
             RETURNING NOT is_counted AND records >= ?",
        )?;
        let mut large = Vec::new();
        for (name, (records, last_day)) in come {
            let is_large: bool = add.query_row(params![name, records, last_day, COUNTED_FROM], |row| row.get(0))?;
            if is_large {
                large.push(name.to_owned());
            }
        }
        self.write_counted(db, words)?;
        Ok(large)
    }

    fn write_counted(&self, db: &Connection, words: &mut Words) -> rusqlite::Result<()> {
        let name = |place: &usize| self.names.get(*place).map(String::as_str).unwrap_or_default();
        let mut days: Vec<_> = self.day.iter().collect();
        days.sort_unstable_by_key(|(key, _)| **key);
        for ((place, day, account, kind), (sum, hours)) in days {
            write_day(db, &(name(place).to_owned(), *day, *account, *kind), *sum, hours)?;
        }
        let mut add = db.prepare_cached(
            "INSERT INTO folder_failure_day VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE
             SET records = records + excluded.records, last_ms = max(last_ms, excluded.last_ms)",
        )?;
        for ((place, day, cause, kind, account), seen) in &self.failure {
            let cause = words.word(db, cause)?.unwrap_or(0);
            add.execute(params![name(place), day, cause, kind, account, seen.records, seen.last_ms])?;
        }
        Ok(())
    }
}

fn add_to(days: &mut HashMap<(usize, i32, i64, u16), (Sum, Hours)>, key: (usize, i32, i64, u16), sum: Sum, hour: u8) {
    let (all, hours) = days.entry(key).or_default();
    all.add(sum);
    let of_hour = hours.entry(hour).or_default();
    *of_hour = (of_hour.0 + sum.records, of_hour.1.saturating_add(sum.bytes));
}

fn write_day(db: &Connection, key: &Key, sum: Sum, hours: &Hours) -> rusqlite::Result<()> {
    let (folder, day, account, kind) = key;
    let mut find =
        db.prepare_cached("SELECT hours FROM folder_day WHERE folder = ? AND day = ? AND account = ? AND kind = ?")?;
    let before: Option<Vec<u8>> = find.query_row(params![folder, day, account, kind], |row| row.get(0)).optional()?;
    let mut all = hours.clone();
    for (hour, records, bytes) in hours_of(&before.unwrap_or_default()) {
        let of_hour = all.entry(hour).or_default();
        *of_hour = (of_hour.0 + records, of_hour.1.saturating_add(bytes));
    }
    let mut packed = Vec::with_capacity(all.len() * HOUR_BYTES);
    for (hour, (records, bytes)) in all {
        packed.push(hour);
        packed.extend_from_slice(&records.to_le_bytes());
        packed.extend_from_slice(&bytes.to_le_bytes());
    }
    let mut add = db.prepare_cached(
        "INSERT INTO folder_day VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE
         SET records = records + excluded.records, bytes = bytes + excluded.bytes, timed = timed + excluded.timed,
             timed_bytes = timed_bytes + excluded.timed_bytes, timed_ms = timed_ms + excluded.timed_ms, hours = excluded.hours",
    )?;
    let Sum { records, bytes, timed, timed_bytes, timed_ms, .. } = sum;
    add.execute(params![folder, day, account, kind, records, bytes, timed, timed_bytes, timed_ms, packed]).map(drop)
}

/// What a row's `hours` say: the hour, from its day's first one on, its records, and their bytes.
pub fn hours_of(packed: &[u8]) -> impl Iterator<Item = (u8, i64, i64)> {
    packed.chunks_exact(HOUR_BYTES).filter_map(|hour| {
        let (place, rest) = hour.split_first()?;
        let (records, rest) = rest.split_first_chunk()?;
        Some((*place, i64::from_le_bytes(*records), i64::from_le_bytes(*rest.first_chunk()?)))
    })
}

/// Counts folders that have become large, in the transaction that is open, at its end: all their records are there.
pub fn promote(
    db: &Connection,
    large: &[String],
    calendar: &mut Calendar,
    words: &mut Words,
    kept_from_ms: i64,
) -> rusqlite::Result<()> {
    for name in large {
        let mark = "UPDATE folder SET is_counted = 1 WHERE name = ? AND NOT is_counted";
        if db.execute(mark, [name])? > 0 {
            count(db, name, calendar, kept_from_ms)?.write_counted(db, words)?;
        }
    }
    Ok(())
}

/// What all records below a folder come to.
fn count(db: &Connection, name: &str, calendar: &mut Calendar, kept_from_ms: i64) -> rusqlite::Result<FolderFigures> {
    let (condition, names) = range(name);
    let values = names.into_iter().map(Value::Text).chain([Value::Integer(kept_from_ms)]);
    let sql = format!(
        "SELECT time_ms, kind, account, moved_bytes, elapsed_ms, error FROM record INDEXED BY record_path
         WHERE {condition} AND time_ms >= ?"
    );
    let mut figures = FolderFigures { names: vec![name.to_owned()], ..FolderFigures::default() };
    let mut query = db.prepare(&sql)?;
    let mut rows = query.query(params_from_iter(values))?;
    while let Some(row) = rows.next()? {
        figures.add_row(row, calendar)?;
    }
    Ok(figures)
}

impl FolderFigures {
    fn add_row(&mut self, row: &Row, calendar: &mut Calendar) -> rusqlite::Result<()> {
        let (time_ms, kind, account) = (row.get(0)?, Kind(row.get(1)?), row.get(2)?);
        let (bytes, elapsed_ms): (Option<i64>, Option<i64>) = (row.get(3)?, row.get(4)?);
        let day = calendar.day(time_ms);
        let sum = Sum::of(kind, bytes.unwrap_or(0), elapsed_ms.unwrap_or(0));
        add_to(&mut self.day, (0, day, account, kind.0), sum, calendar.hour_of_day(time_ms));
        if kind.outcome().is_failure() {
            let error: Option<String> = row.get(5)?;
            let key = (0, day, cause_of(&error.unwrap_or_default()), kind.0, account);
            self.failure.entry(key).or_default().add(time_ms);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_lies_in_all_folders_above_it_and_in_no_more_than_are_meant() {
        let of = |path: &'static str| above(path).collect::<Vec<_>>();
        assert_eq!(of("/a/b/c.txt"), ["", "/a", "/a/b"]);
        assert_eq!(of("/c.txt"), [""]);
        assert_eq!(of("c.txt"), [""]);
        assert_eq!(of("a/c.txt"), ["", "a"]);
        assert_eq!(of("/a//c"), ["", "/a", "/a/"]);
        let deep = "/x".repeat(5000);
        assert_eq!(above(&deep).count(), DEPTH_MAX);
        let long = format!("/{}/x", "y".repeat(5000));
        assert_eq!(above(&long).collect::<Vec<_>>(), [""]);
    }

    #[test]
    fn hours_are_read_back_and_rubbish_is_not() {
        assert_eq!(hours_of(&[1; 2 * HOUR_BYTES + 3]).count(), 2);
        assert_eq!(hours_of(&[]).count(), 0);
    }
}
