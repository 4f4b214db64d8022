//! `/state/sftpd.db`: the journal of all changes, and the uploads that are not finished. SQLite, one writer.
//!
//! Always holds: the intent of a change is durable before the change happens, and the outcomes of a group of changes are
//! written before the intents of the next, so that after any crash at most one group is undecided. `seq` only grows. It
//! does not know how a change is made, and touches nothing on the volume.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use pair::record::{Operation, Record, VolumePath};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::disk::Disk;

mod chapter;
mod reader;
mod uploads;

pub use chapter::Chapter;
pub(super) use reader::Reader;
use uploads::change_row;
pub(super) use uploads::{RowChange, UploadRow};

/// How far `seq` jumps after an unclean stop.
const GAP: u64 = 1000;

/// How long a reader waits for the writer, and the writer for a reader.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS journal (
        seq INTEGER PRIMARY KEY, time_ms INTEGER NOT NULL, account TEXT NOT NULL, op TEXT NOT NULL, path BLOB NOT NULL,
        target BLOB, inode INTEGER, size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER, mode INTEGER, hash TEXT,
        stage INTEGER, replaces INTEGER NOT NULL DEFAULT 0, outcome TEXT);
    CREATE INDEX IF NOT EXISTS undecided ON journal (seq) WHERE outcome IS NULL;
    CREATE TABLE IF NOT EXISTS unfinished (
        number INTEGER PRIMARY KEY, account TEXT NOT NULL, folder INTEGER NOT NULL, folder_born_ns INTEGER NOT NULL,
        name BLOB NOT NULL, arrived_bytes INTEGER, durable_bytes INTEGER NOT NULL DEFAULT 0);
    CREATE TABLE IF NOT EXISTS acknowledged (
        standby TEXT PRIMARY KEY, seq INTEGER NOT NULL, time_ms INTEGER NOT NULL) WITHOUT ROWID;
    PRAGMA user_version = 1;";

/// Where the journal is.
pub(super) fn path(state: &Path) -> PathBuf {
    state.join("sftpd.db")
}

/// A change that is about to happen.
#[derive(Clone, Debug)]
pub(super) struct Intent {
    /// What will be told of it.
    pub record: Record,
    /// The stage that is published.
    pub stage: Option<u64>,
    /// Whether what has the new name is replaced.
    pub replaces: bool,
}

/// How an intended change went.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    /// It happened; the record as it is now.
    Done(Record),
    /// It did not.
    Aborted(u64),
}

/// The journal.
pub(super) struct Journal {
    db: Connection,
    next: u64,
    /// The last change of the run before.
    before: u64,
    is_durable: bool,
    /// Whether SQLite waits for the disk now.
    waits: Option<bool>,
    /// Whether something was written for which SQLite has not waited: an empty transaction would not do so either.
    is_owed_a_flush: bool,
    /// Records behind this number are needed by the log archive; all of them may go where it needs none.
    needed_behind: Arc<AtomicU64>,
    disk: Disk,
}

/// What the journal's file said when it was opened.
pub(super) struct Opened {
    pub journal: Journal,
    /// The epoch that its records belong to; none in a new journal.
    pub epoch: Option<String>,
    /// Whether the run before ended well; a new journal counts as such.
    pub was_clean: bool,
    /// The system's boot in which it was written last.
    pub boot: Option<String>,
}

impl Journal {
    /// Opens the journal, making it where it is missing. `is_durable` says whether intents wait for the disk.
    pub(super) fn open(state: &Path, is_durable: bool, disk: Disk) -> anyhow::Result<Opened> {
        let path = path(state);
        only_for_us(&path).with_context(|| format!("the journal {} cannot be used", path.display()))?;
        let open = || -> rusqlite::Result<Opened> {
            let db = Connection::open(&path)?;
            db.busy_timeout(BUSY_TIMEOUT)?;
            db.pragma_update(None, "journal_mode", "WAL")?;
            db.execute_batch(SCHEMA)?;
            db.set_prepared_statement_cache_capacity(32);
            let next = meta(&db, "seq")?.and_then(|text| text.parse().ok()).unwrap_or(0);
            let newest: u64 = db.query_row("SELECT coalesce(max(seq), 0) FROM journal", [], |row| row.get(0))?;
            let (epoch, boot) = (meta(&db, "epoch")?, meta(&db, "boot")?);
            let was_clean = epoch.is_none() || meta(&db, "clean")?.as_deref() == Some("1");
            // Rows that all standbys have are gone, and their numbers are not given again.
            let dropped = meta(&db, "dropped")?.and_then(|text| text.parse().ok()).unwrap_or(0);
            let next = next.max(newest).max(dropped) + 1;
            let (before, needed_behind) = (next - 1, Arc::new(AtomicU64::new(u64::MAX)));
            let journal =
                Journal { db, next, before, is_durable, waits: None, is_owed_a_flush: true, needed_behind, disk };
            Ok(Opened { journal, epoch, was_clean, boot })
        };
        let opened = open().with_context(|| format!("the journal {} cannot be used", path.display()))?;
        // The names of its files must outlive a power failure as well.
        rustix::fs::fsync(std::fs::File::open(state)?).with_context(|| format!("cannot flush {}", state.display()))?;
        Ok(opened)
    }

    /// Notes that the run has ended well. Durable.
    pub(super) fn end_run(&mut self) -> rusqlite::Result<()> {
        self.synchronous(true)?;
        let transaction = self.db.transaction()?;
        set_meta(&transaction, "seq", &(self.next - 1).to_string())?;
        set_meta(&transaction, "clean", "1")?;
        transaction.commit()
    }

    /// Leaves a gap in `seq` and a mark that says that changes before it may be missing.
    pub(super) fn mark(&mut self, time_ms: i64) -> rusqlite::Result<()> {
        self.next += GAP;
        let seq = self.take_seq();
        let mark = empty_record(seq, time_ms, Operation::Mark);
        self.write(&[Intent { record: mark.clone(), stage: None, replaces: false }], &[], &[])?;
        self.decide(&[Outcome::Done(mark)], &[])
    }

    /// The next number.
    pub(super) fn take_seq(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    /// The number that would be the next.
    pub(super) fn next_seq(&self) -> u64 {
        self.next
    }

    /// The last number that was given.
    pub(super) fn last_seq(&self) -> u64 {
        self.next - 1
    }

    /// Writes intents, what changes of unfinished uploads, and the outcomes of the changes before, in one transaction.
    /// Durable when it comes back.
    pub(super) fn write<'a>(
        &mut self,
        intents: &[Intent],
        outcomes: &[Outcome],
        rows: impl IntoIterator<Item = &'a RowChange>,
    ) -> rusqlite::Result<()> {
        self.step("journal")?;
        if !outcomes.is_empty() {
            self.step("outcome")?;
        }
        let mut rows = rows.into_iter().peekable();
        self.synchronous(self.is_durable)?;
        let is_owed_a_flush = std::mem::replace(&mut self.is_owed_a_flush, true);
        let transaction = self.db.transaction()?;
        if intents.is_empty() && (is_owed_a_flush || rows.peek().is_some()) {
            // Rows may change nothing, and a transaction that changes nothing makes nothing durable.
            transaction.execute("INSERT OR REPLACE INTO meta VALUES ('settled', random())", [])?;
        }
        put_outcomes(&transaction, outcomes)?;
        for intent in intents {
            insert(&transaction, intent)?;
        }
        for row in rows {
            change_row(&transaction, row)?;
        }
        transaction.commit()?;
        self.is_owed_a_flush = !self.is_durable;
        self.step("journal")
    }

    /// Writes outcomes. They become durable with the next intents, which is before anything else changes.
    pub(super) fn decide<'a>(
        &mut self,
        outcomes: &[Outcome],
        rows: impl IntoIterator<Item = &'a RowChange>,
    ) -> rusqlite::Result<()> {
        self.step("outcome")?;
        self.synchronous(false)?;
        let transaction = self.db.transaction()?;
        put_outcomes(&transaction, outcomes)?;
        for row in rows {
            change_row(&transaction, row)?;
        }
        transaction.commit()
    }

    /// Notes what a standby has.
    pub(super) fn acknowledge(&mut self, standby: &str, seq: u64, time_ms: i64) -> rusqlite::Result<()> {
        self.synchronous(false)?;
        let mut statement = self.db.prepare_cached("INSERT OR REPLACE INTO acknowledged VALUES (?, ?, ?)")?;
        statement.execute(params![standby, seq, time_ms]).map(drop)
    }

    /// Fills in the hash of a file that did not come in order.
    pub(super) fn set_hash(&mut self, seq: u64, hash: &str) -> rusqlite::Result<()> {
        self.synchronous(false)?;
        let mut statement = self.db.prepare_cached("UPDATE journal SET hash = ? WHERE seq = ?")?;
        statement.execute(params![hash, seq]).map(drop)
    }

    /// The number behind which records are kept, to be set by who reads them.
    pub(super) fn needed_behind(&self) -> Arc<AtomicU64> {
        self.needed_behind.clone()
    }

    /// Removes records that every standby has, and those past `rows_max`; `at_most` at once, so that nobody waits. Gives
    /// their number.
    pub(super) fn forget_old(&mut self, rows_max: u64, at_most: u64) -> rusqlite::Result<u64> {
        let needed: Option<u64> = self.db.query_row("SELECT min(seq) FROM acknowledged", [], |row| row.get(0))?;
        let by_age = self.last_seq().saturating_sub(rows_max);
        let needed = needed.unwrap_or(0).min(self.needed_behind.load(Ordering::Relaxed));
        self.forget(needed.max(by_age), at_most)
    }

    /// Removes only records past `rows_max`, also where every standby has more.
    pub(super) fn forget_past(&mut self, rows_max: u64, at_most: u64) -> rusqlite::Result<u64> {
        self.forget(self.last_seq().saturating_sub(rows_max), at_most)
    }

    fn forget(&mut self, up_to: u64, at_most: u64) -> rusqlite::Result<u64> {
        self.synchronous(false)?;
        let transaction = self.db.transaction()?;
        let dropped: Option<u64> = transaction.query_row(
            "SELECT max(seq) FROM (SELECT seq FROM journal WHERE seq <= ? ORDER BY seq LIMIT ?)",
            [up_to, at_most],
            |row| row.get(0),
        )?;
        let mut removed = 0;
        if let Some(dropped) = dropped {
            removed = transaction.execute("DELETE FROM journal WHERE seq <= ?", [dropped])? as u64;
            set_meta(&transaction, "dropped", &dropped.to_string())?;
        }
        transaction.commit()?;
        Ok(removed)
    }

    /// Intents without outcome, in order.
    pub(super) fn undecided(&self) -> rusqlite::Result<Vec<Intent>> {
        let mut statement = self.db.prepare("SELECT * FROM journal WHERE outcome IS NULL ORDER BY seq")?;
        let rows = statement.query_map([], |row| {
            Ok(Intent { record: record(row)?, stage: row.get("stage")?, replaces: row.get("replaces")? })
        })?;
        rows.collect()
    }

    fn synchronous(&mut self, is_durable: bool) -> rusqlite::Result<()> {
        self.is_owed_a_flush |= !is_durable;
        if self.waits != Some(is_durable) {
            self.db.pragma_update(None, "synchronous", if is_durable { "FULL" } else { "NORMAL" })?;
            self.waits = Some(is_durable);
        }
        Ok(())
    }

    /// A fault in tests; see [`Disk::step`].
    fn step(&self, name: &'static str) -> rusqlite::Result<()> {
        self.disk.step(name).map_err(|error| {
            let code = if error == rustix::io::Errno::NOSPC {
                rusqlite::ffi::SQLITE_FULL
            } else {
                rusqlite::ffi::SQLITE_IOERR
            };
            rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None)
        })
    }
}

/// Makes a file that nobody else may read, where it is missing: it tells what partners do. What SQLite puts beside it
/// gets the same mode.
fn only_for_us(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    let file = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))
}

/// Whether the journal's disk has no room.
pub(super) fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
}

/// A record with nothing in it yet.
pub(super) fn empty_record(seq: u64, time_ms: i64, op: Operation) -> Record {
    Record {
        seq,
        time_ms,
        account: String::new(),
        op,
        path: VolumePath::default(),
        target: None,
        inode: None,
        size: None,
        mtime_ns: None,
        ctime_ns: None,
        mode: None,
        hash: None,
    }
}

fn meta(db: &Connection, key: &str) -> rusqlite::Result<Option<String>> {
    db.query_row("SELECT value FROM meta WHERE key = ?", [key], |row| row.get(0)).optional()
}

fn set_meta(db: &Connection, key: &str, value: &str) -> rusqlite::Result<()> {
    db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", [key, value]).map(drop)
}

fn insert(db: &Connection, intent: &Intent) -> rusqlite::Result<()> {
    let record = &intent.record;
    let mut statement = db.prepare_cached(
        "INSERT INTO journal (seq, time_ms, account, op, path, target, inode, size, mtime_ns, ctime_ns, mode, hash,
         stage, replaces) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?;
    let inserted = statement.execute(params![
        record.seq,
        record.time_ms,
        record.account,
        record.op.name(),
        record.path.0,
        record.target.as_ref().map(|target| &target.0),
        record.inode.map(|inode| inode as i64),
        record.size.map(|size| size as i64),
        record.mtime_ns,
        record.ctime_ns,
        record.mode,
        record.hash,
        intent.stage,
        intent.replaces,
    ]);
    inserted.map(drop)
}

fn put_outcomes(db: &Connection, outcomes: &[Outcome]) -> rusqlite::Result<()> {
    for outcome in outcomes {
        match outcome {
            Outcome::Done(record) => set_done(db, record)?,
            Outcome::Aborted(seq) => {
                db.prepare_cached("UPDATE journal SET outcome = 'aborted' WHERE seq = ?")?.execute([seq])?;
            }
        }
    }
    Ok(())
}

fn set_done(db: &Connection, record: &Record) -> rusqlite::Result<()> {
    let mut statement = db.prepare_cached(
        "UPDATE journal SET outcome = 'done', inode = ?, size = ?, mtime_ns = ?, ctime_ns = ?, mode = ?, hash = ?
         WHERE seq = ?",
    )?;
    let inode = record.inode.map(|inode| inode as i64);
    let size = record.size.map(|size| size as i64);
    let (mtime_ns, ctime_ns) = (record.mtime_ns, record.ctime_ns);
    statement.execute(params![inode, size, mtime_ns, ctime_ns, record.mode, record.hash, record.seq]).map(drop)
}

/// A record of the table.
fn record(row: &Row<'_>) -> rusqlite::Result<Record> {
    let op: String = row.get("op")?;
    let unknown = || rusqlite::Error::InvalidColumnName(format!("op {op}"));
    Ok(Record {
        seq: row.get("seq")?,
        time_ms: row.get("time_ms")?,
        account: row.get("account")?,
        op: Operation::from_name(&op).ok_or_else(unknown)?,
        path: VolumePath(row.get("path")?),
        target: row.get::<_, Option<Vec<u8>>>("target")?.map(VolumePath),
        inode: row.get::<_, Option<i64>>("inode")?.map(|inode| inode as u64),
        size: row.get::<_, Option<i64>>("size")?.map(|size| size as u64),
        mtime_ns: row.get("mtime_ns")?,
        ctime_ns: row.get("ctime_ns")?,
        mode: row.get("mode")?,
        hash: row.get("hash")?,
    })
}
