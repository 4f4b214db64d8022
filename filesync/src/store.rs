//! `/state/filesync.db`: what is known of each standby. SQLite, one writer connection per standby.
//!
//! It holds observations, not work: losing it, or its last moments, costs hashing and never data. That is why
//! `synchronous=NORMAL` is enough: after a power loss the database is whole but may lack its latest records, and a path
//! without its record is compared by hash in the next pass. A record that outlives what it speaks of does no harm either,
//! because every pass compares it with what the standby shows.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use pair::record::Position;
use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};

use crate::alarm::Told;
use crate::tree::{Base, Entry, Kind, Path, Seen};

mod evidence;
mod people;

pub use people::{Known, Verified, approve, known, known_in_short};

/// How long one standby's writer waits for another's.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS setting (key TEXT PRIMARY KEY, value TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS standby (
        id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, host_key TEXT, verified INTEGER NOT NULL DEFAULT 0,
        pass INTEGER NOT NULL DEFAULT 0, report TEXT);
    CREATE TABLE IF NOT EXISTS base (
        standby INTEGER NOT NULL, path BLOB NOT NULL, kind INTEGER NOT NULL, mode INTEGER NOT NULL,
        nlink INTEGER NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, ctime_ns INTEGER NOT NULL,
        btime_ns INTEGER NOT NULL, ino INTEGER NOT NULL, target BLOB NOT NULL,
        remote_mode INTEGER NOT NULL, remote_size INTEGER NOT NULL, remote_mtime_s INTEGER NOT NULL,
        PRIMARY KEY (standby, path)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS missed (
        standby INTEGER NOT NULL, path BLOB NOT NULL, pass INTEGER NOT NULL, parent_ino INTEGER NOT NULL,
        PRIMARY KEY (standby, path)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS held (
        standby INTEGER NOT NULL, path BLOB NOT NULL, entries INTEGER NOT NULL, reason TEXT NOT NULL,
        since_s INTEGER NOT NULL, approved INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (standby, path)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS removed (standby INTEGER NOT NULL, at_s INTEGER NOT NULL, entries INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS problem (
        standby INTEGER NOT NULL, path BLOB NOT NULL, sentence TEXT NOT NULL, first_s INTEGER NOT NULL,
        last_s INTEGER NOT NULL, attempts INTEGER NOT NULL, PRIMARY KEY (standby, path)) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS problem_age ON problem (standby, first_s);
    CREATE TABLE IF NOT EXISTS gone (standby INTEGER NOT NULL, path BLOB NOT NULL, PRIMARY KEY (standby, path)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS epoch (standby INTEGER PRIMARY KEY, id TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS housekept (standby INTEGER PRIMARY KEY, at_s INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS alarm (standby INTEGER PRIMARY KEY, is_alarm INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS verified (
        standby INTEGER PRIMARY KEY, at_s INTEGER NOT NULL, entries INTEGER NOT NULL, files INTEGER NOT NULL,
        bytes INTEGER NOT NULL, differences INTEGER NOT NULL, took_ms INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS position (standby INTEGER PRIMARY KEY, epoch TEXT NOT NULL, seq INTEGER NOT NULL);
    PRAGMA user_version = 1;";

/// Something proven, to be remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// Both sides agree on a path.
    Agree(Path, Base),
    /// The standby renamed something, with all below it.
    Move(Path, Path),
    /// The standby no longer has something, with all below it.
    Forget(Path),
    /// Entries were removed without approval.
    Removed(u64),
}

/// Removals that wait for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The topmost path.
    pub path: Path,
    /// How many entries would go.
    pub entries: u64,
    /// Why they wait.
    pub reason: String,
    /// Since when, in seconds since 1970.
    pub since_s: i64,
    /// Whether a person let them go.
    pub approved: bool,
}

/// Something that could not be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What is wrong.
    pub sentence: String,
    /// When it was first met, in seconds since 1970.
    pub first_s: i64,
    /// When it was last met.
    pub last_s: i64,
    /// How often it was tried.
    pub attempts: u64,
}

/// The store as one standby's task sees it.
pub struct Store {
    db: Connection,
    standby: i64,
}

impl Store {
    /// Opens the store, making it where it is new, for one standby.
    pub fn open(file: &std::path::Path, standby: &str) -> anyhow::Result<Store> {
        let open = || -> rusqlite::Result<Store> {
            let mut db = Connection::open(file)?;
            db.busy_timeout(BUSY_TIMEOUT)?;
            // One that reads before it writes would fail where another has written in between, instead of waiting.
            db.set_transaction_behavior(TransactionBehavior::Immediate);
            db.pragma_update(None, "journal_mode", "wal")?;
            db.pragma_update(None, "synchronous", "normal")?;
            db.execute_batch(SCHEMA)?;
            db.execute("INSERT OR IGNORE INTO standby (name) VALUES (?)", [standby])?;
            let standby = db.query_row("SELECT id FROM standby WHERE name = ?", [standby], |row| row.get(0))?;
            Ok(Store { db, standby })
        };
        open().with_context(|| format!("cannot open {}", file.display()))
    }

    /// Keeps a setting at its first value, and tells that value.
    pub fn pin(&self, key: &str, value: &str) -> rusqlite::Result<String> {
        self.db.execute("INSERT OR IGNORE INTO setting (key, value) VALUES (?, ?)", [key, value])?;
        self.db.query_row("SELECT value FROM setting WHERE key = ?", [key], |row| row.get(0))
    }

    /// The host key that the standby showed at first contact.
    pub fn host_key(&self) -> rusqlite::Result<Option<String>> {
        self.db.query_row("SELECT host_key FROM standby WHERE id = ?", [self.standby], |row| row.get(0))
    }

    /// Keeps the host key of the first contact.
    pub fn pin_host_key(&self, key: &str) -> rusqlite::Result<()> {
        self.db.execute("UPDATE standby SET host_key = ? WHERE id = ?", params![key, self.standby]).map(drop)
    }

    /// Remembers what is proven, in one transaction.
    pub fn record(&mut self, records: &[Record], now_s: i64) -> rusqlite::Result<()> {
        let id = self.standby;
        let tx = self.db.transaction()?;
        for record in records {
            match record {
                Record::Agree(path, base) => agree(&tx, id, path, base)?,
                Record::Forget(path) => forget(&tx, id, path)?,
                Record::Move(from, to) => {
                    forget(&tx, id, to)?;
                    evidence::move_gone(&tx, id, from, to)?;
                    let mut inside = tx.prepare_cached(
                        "SELECT path FROM base WHERE standby = ?1 AND (path = ?2 OR (path > ?3 AND path < ?4))",
                    )?;
                    let (low, high) = below(from);
                    let paths = inside.query_map(params![id, from, low, high], |row| row.get(0))?;
                    for path in paths.collect::<rusqlite::Result<Vec<Path>>>()? {
                        let new = [to, path.get(from.len()..).unwrap_or_default()].concat();
                        let sql = "UPDATE base SET path = ? WHERE standby = ? AND path = ?";
                        tx.prepare_cached(sql)?.execute(params![new, id, path])?;
                    }
                }
                Record::Removed(entries) => {
                    let sql = "INSERT INTO removed (standby, at_s, entries) VALUES (?, ?, ?)";
                    tx.execute(sql, params![id, now_s, *entries as i64])?;
                }
            }
        }
        tx.commit()
    }

    /// What both sides agreed on for one path.
    pub fn base(&self, path: &[u8]) -> rusqlite::Result<Option<Base>> {
        let mut query = self.db.prepare_cached("SELECT * FROM base WHERE standby = ? AND path = ?")?;
        query.query_row(params![self.standby, path], base_of).optional()
    }

    /// What both sides agreed on, for the paths that come after this one in the order of their bytes, so many at most.
    pub fn bases_after(&self, path: &[u8], rows_max: usize) -> rusqlite::Result<Vec<(Path, Base)>> {
        let sql = "SELECT * FROM base WHERE standby = ? AND path > ? ORDER BY path LIMIT ?";
        let mut query = self.db.prepare_cached(sql)?;
        let rows =
            query.query_map(params![self.standby, path, rows_max as i64], |row| Ok((row.get(1)?, base_of(row)?)))?;
        rows.collect()
    }

    /// How far the standby is in the feed.
    pub fn position(&self) -> rusqlite::Result<Option<Position>> {
        let mut query = self.db.prepare_cached("SELECT epoch, seq FROM position WHERE standby = ?")?;
        let row = |row: &Row| Ok(Position { epoch: row.get(0)?, seq: row.get::<_, i64>(1)? as u64 });
        query.query_row([self.standby], row).optional()
    }

    /// Keeps how far the standby is in the feed.
    pub fn keep_position(&self, position: &Position) -> rusqlite::Result<()> {
        let mut keep = self.db.prepare_cached("INSERT OR REPLACE INTO position VALUES (?, ?, ?)")?;
        keep.execute(params![self.standby, position.epoch, position.seq as i64]).map(drop)
    }

    /// Adds something that could not be done to what the last pass has found; tells whether it is new.
    pub fn add_trouble(&self, path: &[u8], sentence: &str, now_s: i64) -> rusqlite::Result<bool> {
        let mut before = self.db.prepare_cached("SELECT 1 FROM problem WHERE standby = ? AND path = ?")?;
        let before: Option<()> = before.query_row(params![self.standby, path], |_| Ok(())).optional()?;
        let mut add = self.db.prepare_cached(
            "INSERT INTO problem VALUES (?1, ?2, ?3, ?4, ?4, 1)
             ON CONFLICT DO UPDATE SET sentence = ?3, last_s = ?4, attempts = attempts + 1",
        )?;
        add.execute(params![self.standby, path, sentence, now_s])?;
        Ok(before.is_none())
    }

    /// How many things could not be done, and since when the oldest of them is so, in seconds since 1970.
    pub fn troubles_count(&self) -> rusqlite::Result<(u64, Option<i64>)> {
        let mut count = self.db.prepare_cached("SELECT count(*), min(first_s) FROM problem WHERE standby = ?")?;
        count.query_row([self.standby], |row| Ok((row.get::<_, i64>(0)? as u64, row.get(1)?)))
    }

    /// What could not be done as of the last pass.
    pub fn troubles(&self) -> rusqlite::Result<BTreeMap<Path, Trouble>> {
        self.oldest_troubles(usize::MAX)
    }

    /// The same, so many at most: those that are there longest.
    pub fn oldest_troubles(&self, troubles_max: usize) -> rusqlite::Result<BTreeMap<Path, Trouble>> {
        let mut query = self.db.prepare(
            "SELECT path, sentence, first_s, last_s, attempts FROM problem WHERE standby = ? ORDER BY first_s LIMIT ?",
        )?;
        let troubles_max = i64::try_from(troubles_max).unwrap_or(i64::MAX);
        let rows = query.query_map([self.standby, troubles_max], |row| {
            let trouble = Trouble {
                sentence: row.get(1)?,
                first_s: row.get(2)?,
                last_s: row.get(3)?,
                attempts: row.get::<_, i64>(4)? as u64,
            };
            Ok((row.get(0)?, trouble))
        })?;
        rows.collect()
    }

    /// Replaces what could not be done.
    pub fn keep_troubles(&mut self, troubles: &BTreeMap<Path, Trouble>) -> rusqlite::Result<()> {
        let tx = self.db.transaction()?;
        tx.execute("DELETE FROM problem WHERE standby = ?", [self.standby])?;
        for (path, trouble) in troubles {
            tx.prepare_cached("INSERT INTO problem VALUES (?, ?, ?, ?, ?, ?)")?.execute(params![
                self.standby,
                path,
                trouble.sentence,
                trouble.first_s,
                trouble.last_s,
                trouble.attempts as i64
            ])?;
        }
        tx.commit()
    }

    /// What was told last of the standby.
    pub fn told(&self) -> rusqlite::Result<Told> {
        let sql = "SELECT is_alarm FROM alarm WHERE standby = ?";
        let is_alarm: Option<i64> = self.db.query_row(sql, [self.standby], |row| row.get(0)).optional()?;
        Ok(match is_alarm {
            None | Some(0) => Told::Well,
            Some(1) => Told::Alarm,
            Some(_) => Told::Unsure,
        })
    }

    /// Keeps what was told.
    pub fn keep_told(&self, told: Told) -> rusqlite::Result<()> {
        let is_alarm = match told {
            Told::Well => 0,
            Told::Alarm => 1,
            Told::Unsure => 2,
        };
        self.db.execute("INSERT OR REPLACE INTO alarm VALUES (?, ?)", params![self.standby, is_alarm]).map(drop)
    }

    /// When the trash was looked through last, in seconds since 1970.
    pub fn housekept_s(&self) -> rusqlite::Result<Option<i64>> {
        let sql = "SELECT at_s FROM housekept WHERE standby = ?";
        self.db.query_row(sql, [self.standby], |row| row.get(0)).optional()
    }

    /// Keeps when that was.
    pub fn keep_housekept_s(&self, at_s: i64) -> rusqlite::Result<()> {
        self.db.execute("INSERT OR REPLACE INTO housekept VALUES (?, ?)", params![self.standby, at_s]).map(drop)
    }

    /// Keeps the report that `filesync status` shows, as JSON.
    pub fn keep_report(&self, report: &str) -> rusqlite::Result<()> {
        self.db.execute("UPDATE standby SET report = ? WHERE id = ?", params![report, self.standby]).map(drop)
    }
}

fn below(path: &[u8]) -> (Path, Path) {
    ([path, b"/"].concat(), [path, b"0"].concat())
}

fn forget(db: &Connection, standby: i64, path: &[u8]) -> rusqlite::Result<()> {
    let (low, high) = below(path);
    db.prepare_cached("DELETE FROM base WHERE standby = ?1 AND (path = ?2 OR (path > ?3 AND path < ?4))")?
        .execute(params![standby, path, low, high])
        .map(drop)
}

fn agree(db: &Connection, standby: i64, path: &[u8], base: &Base) -> rusqlite::Result<()> {
    let (source, remote) = (&base.source, &base.remote);
    db.prepare_cached("INSERT OR REPLACE INTO base VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")?
        .execute(params![
            standby,
            path,
            kind_number(source.kind),
            source.mode,
            source.nlink,
            source.size as i64,
            source.mtime_ns,
            source.ctime_ns,
            source.btime_ns,
            source.ino as i64,
            &*source.target,
            remote.mode,
            remote.size as i64,
            remote.mtime_s
        ])
        .map(drop)
}

fn kind_number(kind: Kind) -> u8 {
    match kind {
        Kind::File => 1,
        Kind::Folder => 2,
        Kind::Link => 3,
    }
}

fn base_of(row: &Row) -> rusqlite::Result<Base> {
    let kind = match row.get::<_, u8>(2)? {
        1 => Kind::File,
        2 => Kind::Folder,
        _ => Kind::Link,
    };
    let target: Box<[u8]> = row.get::<_, Vec<u8>>(10)?.into();
    let remote = Seen {
        kind,
        mode: row.get(11)?,
        size: row.get::<_, i64>(12)? as u64,
        mtime_s: row.get(13)?,
        target: target.clone(),
    };
    let source = Entry {
        kind,
        mode: row.get(3)?,
        nlink: row.get(4)?,
        size: row.get::<_, i64>(5)? as u64,
        mtime_ns: row.get(6)?,
        ctime_ns: row.get(7)?,
        btime_ns: row.get(8)?,
        ino: row.get::<_, i64>(9)? as u64,
        target,
    };
    Ok(Base { source, remote })
}

#[cfg(test)]
mod tests;
