//! What the chain says of every file of the agents that is kept, looked up fast: `/state/archive.db`.
//!
//! It is a copy of what the segments on the volume say, and can be made again from them at any time. With it stands how far the journal was
//! read: all behind that place which concerns agents is in a segment. It is this machine's own.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use pair::chain::{Event, What, home_of};
use pair::record::{Position, VolumePath};
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

use super::moment::from_text;

/// How long it waits for who reads it, and the other way round.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS files (
        path BLOB PRIMARY KEY, home BLOB NOT NULL, size INTEGER NOT NULL, time_ms INTEGER NOT NULL,
        expired_ms INTEGER) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS by_age ON files (home, time_ms, path, size) WHERE expired_ms IS NULL;
    CREATE INDEX IF NOT EXISTS leaving ON files (expired_ms) WHERE expired_ms IS NOT NULL;
    PRAGMA user_version = 1;";

/// The newest segment that is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Its number.
    pub number: u64,
    /// Its digest.
    pub digest: String,
    /// When it was written.
    pub time: String,
    /// All that came before is in the chain.
    pub until: String,
    /// The folder that it lies in.
    pub day: String,
    /// The epoch in which it was written, by its id.
    pub epoch: String,
    /// The agents of its time.
    pub agents: Vec<VolumePath>,
}

/// A file that the chain knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// From the volume on.
    pub path: Vec<u8>,
    /// How long it is, as the chain says.
    pub size: u64,
    /// When its last byte came.
    pub time_ms: i64,
    /// Since when it is on its way out.
    pub expired_ms: Option<i64>,
}

/// What an agent has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Files that are kept.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// When the last byte of any of them came.
    pub last_ms: Option<i64>,
}

/// The ledger.
#[derive(Debug)]
pub struct Ledger {
    // Held for one query or one transaction.
    db: Mutex<Connection>,
}

fn path(state: &Path) -> PathBuf {
    state.join("archive.db")
}

impl Ledger {
    /// Opens it, and begins a new one where it cannot be read: it says nothing that the chain does not say.
    pub fn open(state: &Path) -> anyhow::Result<Ledger> {
        let path = path(state);
        let open = || -> rusqlite::Result<Connection> {
            let db = Connection::open(&path)?;
            db.busy_timeout(BUSY_TIMEOUT)?;
            db.pragma_update(None, "journal_mode", "WAL")?;
            db.pragma_update(None, "synchronous", "NORMAL")?;
            db.execute_batch(SCHEMA)?;
            Ok(db)
        };
        let db = open().or_else(|error| {
            tracing::warn!(%error, "the archive's ledger {} cannot be used: it is made again from the chain", path.display());
            for end in ["", "-wal", "-shm"] {
                let _ = std::fs::remove_file(format!("{}{end}", path.display()));
            }
            open()
        });
        Ok(Ledger { db: Mutex::new(db.with_context(|| format!("{} cannot be used", path.display()))?) })
    }

    /// A second one that only reads; none where there is none.
    pub fn reader(state: &Path) -> Option<Ledger> {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY | rusqlite::OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(path(state), flags).ok()?;
        db.busy_timeout(BUSY_TIMEOUT).ok()?;
        Some(Ledger { db: Mutex::new(db) })
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.db.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn value<T: for<'a> Deserialize<'a>>(&self, key: &str) -> rusqlite::Result<Option<T>> {
        let text: Option<String> =
            self.lock().query_row("SELECT value FROM meta WHERE key = ?", [key], |row| row.get(0)).optional()?;
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
    }

    /// The newest segment that was taken in.
    pub fn head(&self) -> rusqlite::Result<Option<Head>> {
        self.value("head")
    }

    /// How far the journal was read.
    pub fn cursor(&self) -> rusqlite::Result<Option<Position>> {
        self.value("cursor")
    }

    /// Notes how far the journal was read.
    pub fn set_cursor(&self, cursor: &Position) -> rusqlite::Result<()> {
        set(&self.lock(), "cursor", cursor)
    }

    /// Where the journal was left is not known any more: who begins next compares all.
    pub fn forget_cursor(&self) -> rusqlite::Result<()> {
        self.lock().execute("DELETE FROM meta WHERE key = 'cursor'", []).map(drop)
    }

    /// When it was looked at last, by the clock on the wall.
    pub fn looked_ms(&self) -> rusqlite::Result<Option<i64>> {
        self.value("looked")
    }

    /// Notes that.
    pub fn set_looked(&self, now_ms: i64) -> rusqlite::Result<()> {
        set(&self.lock(), "looked", &now_ms)
    }

    /// Forgets all: the chain is read from its beginning.
    pub fn clear(&self) -> rusqlite::Result<()> {
        self.lock().execute_batch("DELETE FROM files; DELETE FROM meta WHERE key IN ('head', 'cursor');")
    }

    /// Takes a segment in: what it tells, and that it is the newest.
    pub fn take_in(&self, head: &Head, events: &[Event]) -> rusqlite::Result<()> {
        let mut db = self.lock();
        let transaction = db.transaction()?;
        for event in events {
            let (path, time_ms) = (&event.path.0, from_text(&event.time));
            match event.event {
                What::Expired => transaction
                    .prepare_cached("UPDATE files SET expired_ms = ? WHERE path = ?")?
                    .execute(params![time_ms, path])?,
                What::Arrived | What::Grown | What::Found => transaction
                    .prepare_cached("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, NULL)")?
                    .execute(params![path, home_of(path), event.size as i64, time_ms])?,
            };
        }
        set(&transaction, "head", head)?;
        transaction.commit()
    }

    /// What the chain says of a path.
    pub fn known(&self, path: &[u8]) -> rusqlite::Result<Option<Known>> {
        let db = self.lock();
        let mut statement = db.prepare_cached("SELECT path, size, time_ms, expired_ms FROM files WHERE path = ?")?;
        statement.query_row([path], known).optional()
    }

    /// A file is gone for good.
    pub fn forget(&self, path: &[u8]) -> rusqlite::Result<()> {
        self.lock().prepare_cached("DELETE FROM files WHERE path = ?")?.execute([path]).map(drop)
    }

    /// Files that are on their way out, so many at most.
    pub fn leaving(&self, at_most: usize) -> rusqlite::Result<Vec<Known>> {
        let db = self.lock();
        let mut statement = db.prepare_cached(
            "SELECT path, size, time_ms, expired_ms FROM files WHERE expired_ms IS NOT NULL ORDER BY expired_ms LIMIT ?",
        )?;
        statement.query_map([at_most as i64], known)?.collect()
    }

    /// What is kept in a folder.
    pub fn totals(&self, home: &[u8]) -> rusqlite::Result<Totals> {
        let db = self.lock();
        let mut statement = db.prepare_cached(
            "SELECT count(*), coalesce(sum(size), 0), max(time_ms) FROM files WHERE home = ? AND expired_ms IS NULL",
        )?;
        statement.query_row([home], |row| {
            Ok(Totals {
                files: row.get::<_, i64>(0)? as u64,
                bytes: row.get::<_, i64>(1)? as u64,
                last_ms: row.get(2)?,
            })
        })
    }

    /// Tells of the files that are kept in a folder, the oldest first, as long as it is wanted.
    pub fn oldest_first(&self, home: &[u8], tell: &mut dyn FnMut(Known) -> bool) -> rusqlite::Result<()> {
        let db = self.lock();
        let mut statement = db.prepare_cached(
            "SELECT path, size, time_ms, expired_ms FROM files WHERE home = ? AND expired_ms IS NULL
             ORDER BY time_ms, path",
        )?;
        let mut rows = statement.query([home])?;
        while let Some(row) = rows.next()? {
            if !tell(known(row)?) {
                break;
            }
        }
        Ok(())
    }
}

fn set<T: Serialize>(db: &Connection, key: &str, value: &T) -> rusqlite::Result<()> {
    let text = serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", [key, &text]).map(drop)
}

fn known(row: &rusqlite::Row<'_>) -> rusqlite::Result<Known> {
    Ok(Known { path: row.get(0)?, size: row.get::<_, i64>(1)? as u64, time_ms: row.get(2)?, expired_ms: row.get(3)? })
}
