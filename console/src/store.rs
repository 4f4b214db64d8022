//! `/state/console.db`: the records, what they come to by day and hour, and how far each log was read. SQLite; one writer, many readers.
//!
//! Always holds: records, their figures and how far their file was read change in one transaction. So a crash at any moment neither
//! loses a record nor has one twice. `synchronous=NORMAL` is enough: a power failure may take the last transactions back, and then what
//! they had is read again.

mod figures;
pub(crate) mod folders;
mod keep;
mod problems;
mod retention;
pub mod samples;
mod streams;
mod words;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use jiff::tz::TimeZone;
use pair::exit::usage;
use rusqlite::{Connection, OpenFlags, OptionalExtension};
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::calendar::Calendar;
use folders::Folders;
use keep::Gathered;
use words::Words;

pub(crate) use figures::Sum;
pub use keep::{Batch, Taken};
pub use problems::{Problem, keep_problem};
pub use streams::{Stream, TAIL_BYTES, hash_of, packed_is_known, remember_packed, streams_that_begin};

/// The database's name in the state folder.
const DATABASE: &str = "console.db";
/// How long one waits for another that writes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);
/// What the writer keeps in memory, in KiB: the ends of the indexes that it adds to.
const WRITER_CACHE_KIB: i64 = 128 * 1024;
/// What a reader keeps in memory, in KiB.
const READER_CACHE_KIB: i64 = 16 * 1024;
/// What of the file readers see as memory, in bytes.
const READER_MAP_BYTES: i64 = 1 << 30;
/// The largest journal that stays, in bytes.
const JOURNAL_BYTES_MAX: i64 = 64 << 20;

/// Pages that wait in the journal before they go into the database: names lie all over their indexes, and a page that is written again
/// meanwhile goes there once. 64 MiB of them.
const CHECKPOINT_PAGES: i64 = 8_192;

/// A page of a new database, in bytes: twice the usual, for fewer levels of indexes whose entries are paths.
const PAGE_BYTES: i64 = 8_192;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS setting (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS word (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
    CREATE TABLE IF NOT EXISTS account (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
    CREATE TABLE IF NOT EXISTS record (
        id INTEGER PRIMARY KEY AUTOINCREMENT, time_ms INTEGER NOT NULL, kind INTEGER NOT NULL, account INTEGER NOT NULL,
        stream INTEGER NOT NULL, log_id INTEGER, address TEXT, port INTEGER, connection TEXT, protocol INTEGER,
        path TEXT, name TEXT, target TEXT, moved_bytes INTEGER, file_bytes INTEGER, elapsed_ms INTEGER, error TEXT,
        method INTEGER, client INTEGER, algorithms INTEGER, sender TEXT, path_escaped TEXT, key_fingerprint TEXT, certificate TEXT);
    CREATE INDEX IF NOT EXISTS record_time ON record (time_ms);
    CREATE INDEX IF NOT EXISTS record_kind ON record (kind, time_ms);
    CREATE INDEX IF NOT EXISTS record_account ON record (account, kind, time_ms);
    CREATE INDEX IF NOT EXISTS record_path ON record (path, time_ms, kind, account) WHERE path IS NOT NULL;
    CREATE INDEX IF NOT EXISTS record_name ON record (name, time_ms, kind, account) WHERE name IS NOT NULL;
    CREATE INDEX IF NOT EXISTS record_target ON record (target, time_ms, kind, account) WHERE target IS NOT NULL;
    CREATE INDEX IF NOT EXISTS record_target_name ON record (
        substr(target, length(rtrim(target, replace(target, '/', ''))) + 1), time_ms, kind, account) WHERE target IS NOT NULL;
    CREATE TABLE IF NOT EXISTS hour (
        hour INTEGER NOT NULL, kind INTEGER NOT NULL, records INTEGER NOT NULL, bytes INTEGER NOT NULL,
        PRIMARY KEY (hour, kind)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS account_hour (
        account INTEGER NOT NULL, hour INTEGER NOT NULL, kind INTEGER NOT NULL, records INTEGER NOT NULL, bytes INTEGER NOT NULL,
        PRIMARY KEY (account, hour, kind)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS day (
        day INTEGER NOT NULL, account INTEGER NOT NULL, kind INTEGER NOT NULL, records INTEGER NOT NULL, bytes INTEGER NOT NULL,
        elapsed_ms INTEGER NOT NULL, timed INTEGER NOT NULL, timed_bytes INTEGER NOT NULL, timed_ms INTEGER NOT NULL,
        PRIMARY KEY (day, account, kind)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS folder (
        name TEXT PRIMARY KEY, records INTEGER NOT NULL, last_day INTEGER NOT NULL, is_counted INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS folder_day (
        folder TEXT NOT NULL, day INTEGER NOT NULL, account INTEGER NOT NULL, kind INTEGER NOT NULL, records INTEGER NOT NULL,
        bytes INTEGER NOT NULL, timed INTEGER NOT NULL, timed_bytes INTEGER NOT NULL, timed_ms INTEGER NOT NULL, hours BLOB NOT NULL,
        PRIMARY KEY (folder, day, account, kind)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS folder_failure_day (
        folder TEXT NOT NULL, day INTEGER NOT NULL, cause INTEGER NOT NULL, kind INTEGER NOT NULL, account INTEGER NOT NULL,
        records INTEGER NOT NULL, last_ms INTEGER NOT NULL, PRIMARY KEY (folder, day, cause, kind, account)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS failure_day (
        day INTEGER NOT NULL, cause INTEGER NOT NULL, kind INTEGER NOT NULL, account INTEGER NOT NULL, records INTEGER NOT NULL,
        last_ms INTEGER NOT NULL, PRIMARY KEY (day, cause, kind, account)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS client_day (
        day INTEGER NOT NULL, client INTEGER NOT NULL, algorithms INTEGER NOT NULL, account INTEGER NOT NULL, records INTEGER NOT NULL,
        last_ms INTEGER NOT NULL, PRIMARY KEY (day, client, algorithms, account)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS failed_login_day (
        day INTEGER NOT NULL, account INTEGER NOT NULL, address TEXT NOT NULL, records INTEGER NOT NULL,
        last_ms INTEGER NOT NULL, PRIMARY KEY (day, account, address)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS stream (
        id INTEGER PRIMARY KEY AUTOINCREMENT, start BLOB NOT NULL, head BLOB NOT NULL, consumed INTEGER NOT NULL, tail BLOB NOT NULL,
        is_skipping INTEGER NOT NULL, folder TEXT NOT NULL, name TEXT NOT NULL, device INTEGER NOT NULL, inode INTEGER NOT NULL,
        first_id INTEGER, last_id INTEGER, lines INTEGER NOT NULL, records INTEGER NOT NULL, repeated INTEGER NOT NULL,
        passed_over INTEGER NOT NULL, problems INTEGER NOT NULL, seen_ms INTEGER NOT NULL);
    CREATE INDEX IF NOT EXISTS stream_start ON stream (start);
    CREATE TABLE IF NOT EXISTS packed (
        device INTEGER NOT NULL, inode INTEGER NOT NULL, bytes INTEGER NOT NULL, changed_ns INTEGER NOT NULL, seen_ms INTEGER NOT NULL,
        PRIMARY KEY (device, inode, bytes, changed_ns)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS problem (
        id INTEGER PRIMARY KEY AUTOINCREMENT, at_ms INTEGER NOT NULL, file TEXT NOT NULL, position INTEGER NOT NULL, sentence TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS sample (
        standby TEXT NOT NULL, at_ms INTEGER NOT NULL, lag_ms INTEGER NOT NULL, changes_behind INTEGER NOT NULL,
        files_behind INTEGER NOT NULL, bytes_behind INTEGER NOT NULL, free_bytes INTEGER,
        PRIMARY KEY (standby, at_ms)) WITHOUT ROWID;
    PRAGMA user_version = 2;";

/// What the store's tables look like; a larger number is a newer program's.
const VERSION: i64 = 2;

/// Takes version 1, which had figures of every folder by hour, to this one: they are counted anew.
const FROM_1: &str = "DROP TABLE IF EXISTS folder_hour; DELETE FROM setting WHERE key = 'calendar';";

/// The store, as the one sees it who writes.
pub struct Store {
    db: Connection,
    calendar: Calendar,
    words: Words,
    folders: Folders,
    /// The transaction that is open.
    gathered: Option<Gathered>,
    /// Nothing before this is kept, in milliseconds since 1970.
    kept_from_ms: i64,
    path: PathBuf,
    _lock: File,
}

impl Store {
    /// Opens the store of a state folder, making it where it is new. Figures of another zone are counted anew, which takes some seconds
    /// for a million records. Only one may have it open: for another that is an error that a person must mend.
    pub fn open(state: &Path, zone: TimeZone) -> anyhow::Result<Store> {
        std::fs::create_dir_all(state)
            .map_err(|error| usage(format!("state: cannot make {}: {error}", state.display())))?;
        let lock = lock(state)?;
        let path = state.join(DATABASE);
        let open = || -> rusqlite::Result<Connection> {
            let db = Connection::open(&path)?;
            db.busy_timeout(BUSY_TIMEOUT)?;
            db.set_prepared_statement_cache_capacity(64);
            db.pragma_update(None, "page_size", PAGE_BYTES)?;
            db.pragma_update(None, "journal_mode", "wal")?;
            db.pragma_update(None, "synchronous", "normal")?;
            db.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
            db.pragma_update(None, "journal_size_limit", JOURNAL_BYTES_MAX)?;
            db.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
            Ok(db)
        };
        let db = open().with_context(|| format!("cannot open {}", path.display()))?;
        let found: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if found > VERSION {
            let advice = "remove it, and all logs are read again";
            return Err(usage(format!("{} was written by a newer console: {advice}", path.display())));
        }
        if found == 1 {
            tracing::info!("figures of folders are kept in another way than before: they are counted anew");
            db.execute_batch(FROM_1).with_context(|| format!("cannot write {}", path.display()))?;
        }
        db.execute_batch(SCHEMA).with_context(|| format!("cannot write {}", path.display()))?;
        let kept_from_ms = setting(&db, "kept_from_ms")?.and_then(|text| text.parse().ok()).unwrap_or(i64::MIN);
        let (words, folders, gathered) = (Words::default(), Folders::default(), None);
        let mut store =
            Store { db, calendar: Calendar::new(zone), words, folders, kept_from_ms, gathered, path, _lock: lock };
        store.count_anew_where_the_zone_is_another()?;
        Ok(store)
    }

    /// The database's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The zone of dates.
    pub fn zone(&self) -> &TimeZone {
        self.calendar.zone()
    }

    /// The connection, for those in this crate who only look.
    pub(crate) fn connection(&self) -> &Connection {
        &self.db
    }

    fn count_anew_where_the_zone_is_another(&mut self) -> anyhow::Result<()> {
        let identity = self.calendar.identity();
        let before = setting(&self.db, "calendar")?;
        if before.as_ref() == Some(&identity) {
            return Ok(());
        }
        if before.is_some() {
            tracing::info!(zone = identity, "dates are of another zone than before: all figures are counted anew");
        }
        let cannot = || format!("cannot write {}", self.path.display());
        let tx = self.db.transaction()?;
        let large = figures::count_anew(&tx, &mut self.calendar, &mut self.words).with_context(cannot)?;
        let large: Vec<String> = large.into_iter().collect();
        folders::promote(&tx, &large, &mut self.calendar, &mut self.words, self.kept_from_ms).with_context(cannot)?;
        set(&tx, "calendar", &identity).with_context(cannot)?;
        tx.commit().with_context(cannot)
    }
}

/// A connection that only reads, for questions.
pub(crate) fn open_to_read(state: &Path) -> anyhow::Result<Connection> {
    let path = state.join(DATABASE);
    let open = || -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(&path, flags)?;
        db.busy_timeout(BUSY_TIMEOUT)?;
        db.set_prepared_statement_cache_capacity(64);
        db.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
        db.pragma_update(None, "mmap_size", READER_MAP_BYTES)?;
        Ok(db)
    };
    open().with_context(|| format!("cannot open {}", path.display()))
}

/// Makes sure that no other console writes to this state.
fn lock(state: &Path) -> anyhow::Result<File> {
    let path = state.join("console.lock");
    let cannot = |error: &dyn std::fmt::Display| usage(format!("state: cannot lock {}: {error}", path.display()));
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(|error| cannot(&error))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => {
            Err(usage(format!("another console is running on {}: only one may", state.display())))
        }
        Err(error) => Err(cannot(&error)),
    }
}

fn setting(db: &Connection, key: &str) -> rusqlite::Result<Option<String>> {
    db.query_row("SELECT value FROM setting WHERE key = ?", [key], |row| row.get(0)).optional()
}

fn set(db: &Connection, key: &str, value: &str) -> rusqlite::Result<()> {
    db.execute("INSERT OR REPLACE INTO setting (key, value) VALUES (?, ?)", [key, value]).map(drop)
}

#[cfg(test)]
mod tests;
