//! `archive.db`: what is in the archive, what is on its way, and what waits. SQLite in the agent's state folder.
//!
//! Always holds: a send is noted, durably, before its first byte leaves, and its outcome when the server has confirmed it. So after a
//! crash the record names every file of which the archive may have a part. A lost record costs looks at the server, never a log.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use super::sight::{Hash, Proof, Stamp};
use super::status::Report;

mod notes;
mod scribe;

pub use scribe::Scribe;

/// How long one program waits for another's transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);
/// Texts with one beginning that are tried, at most.
const CANDIDATES_MAX: usize = 64;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS setting (key TEXT PRIMARY KEY, value TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS text (
        id INTEGER PRIMARY KEY, ino INTEGER NOT NULL, btime_ns INTEGER NOT NULL, sent INTEGER NOT NULL,
        start BLOB NOT NULL, hash BLOB NOT NULL, hash_bytes INTEGER NOT NULL, tail BLOB NOT NULL,
        remote BLOB NOT NULL, base INTEGER NOT NULL, stored INTEGER NOT NULL, last_s INTEGER NOT NULL);
    CREATE INDEX IF NOT EXISTS text_of_file ON text (ino, btime_ns);
    CREATE INDEX IF NOT EXISTS text_of_start ON text (start, sent);
    CREATE INDEX IF NOT EXISTS text_of_remote ON text (remote);
    CREATE TABLE IF NOT EXISTS file (
        folder TEXT NOT NULL, path BLOB NOT NULL, text INTEGER NOT NULL, ino INTEGER NOT NULL, btime_ns INTEGER NOT NULL,
        size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, ctime_ns INTEGER NOT NULL, at_s INTEGER NOT NULL,
        missing_s INTEGER, PRIMARY KEY (folder, path)) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS file_of_text ON file (text);
    CREATE TABLE IF NOT EXISTS intent (text INTEGER PRIMARY KEY, begun INTEGER NOT NULL, body TEXT NOT NULL);
    PRAGMA user_version = 1;";

/// A text that was shipped, as far as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// Its number.
    pub id: i64,
    /// The file that held it last: inode and time of birth.
    pub file: (u64, i64),
    /// By what it is known again.
    pub proof: Proof,
    /// The file in the archive in which its last part is.
    pub remote: Vec<u8>,
    /// Where in the text that file begins, in bytes.
    pub base: u64,
    /// How long that file is, in bytes.
    pub stored: u64,
}

/// A part of a text that is on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// The text; 0 for one that is not in the record yet.
    pub text: i64,
    /// The folder's name and the path of the file that is read.
    pub folder: String,
    /// See `folder`.
    pub path: Vec<u8>,
    /// What the file showed.
    pub stamp: Stamp,
    /// Its permissions.
    pub mode: u32,
    /// Which part of the text it is, in bytes.
    pub from: u64,
    /// See `from`.
    pub to: u64,
    /// The hash of that part as it is sent: packed, where it is packed.
    pub hash: Hash,
    /// The text's proof once it has arrived.
    pub proof: Proof,
    /// Where it goes.
    pub remote: Vec<u8>,
    /// How often its name was taken.
    pub number: u32,
    /// How long the file there was before, and will be, in bytes.
    pub stored_from: u64,
    /// See `stored_from`.
    pub stored_to: u64,
    /// The file in the state folder that holds it packed; empty where it is not packed.
    pub packed: String,
    /// Whether the file there was begun by this agent.
    #[serde(skip)]
    pub begun: bool,
}

/// Something that is written down.
#[derive(Clone, Debug)]
pub enum Note {
    /// All of a file is in the archive as this text. With `carries` the text is that file's from now on.
    Known {
        /// The folder's name.
        folder: String,
        /// The path there.
        path: Vec<u8>,
        /// What the file showed.
        stamp: Stamp,
        /// The text.
        text: i64,
        /// Whether the text's last file is this one now.
        carries: bool,
    },
    /// A part is about to be sent, or goes elsewhere than was noted before. Gives the text's number.
    Intent(Box<Intent>),
    /// The file in the archive was begun.
    Begun(i64),
    /// It has arrived. `whole`: what the file showed, where that was all of it.
    Done(Box<Intent>, Option<Stamp>),
    /// It will not be sent.
    Dropped(i64),
    /// The archive has less of a text than was noted: this much.
    Back(i64, Option<(Proof, u64)>),
    /// A file is gone; none: it is there again.
    Missing(String, Vec<u8>, bool),
    /// A setting.
    Setting(&'static str, String),
}

/// The record.
pub struct Record {
    db: Connection,
}

/// What is known of a file that was shipped whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noted {
    /// Its path in its folder.
    pub path: Vec<u8>,
    /// What it showed.
    pub stamp: Stamp,
    /// The text.
    pub text: i64,
    /// When that was noted, in seconds since 1970.
    pub at_s: i64,
    /// Since when it is gone.
    pub missing_s: Option<i64>,
}

impl Record {
    /// Opens the record, making it where it is new.
    pub fn open(file: &Path) -> anyhow::Result<Record> {
        let open = || -> rusqlite::Result<Record> {
            let db = Connection::open(file)?;
            db.busy_timeout(BUSY_TIMEOUT)?;
            db.pragma_update(None, "journal_mode", "wal")?;
            // What was told to have arrived must not be sent again after a power failure.
            db.pragma_update(None, "synchronous", "full")?;
            db.execute_batch(SCHEMA)?;
            Ok(Record { db })
        };
        open().with_context(|| format!("cannot open {}", file.display()))
    }

    /// What is known of a file.
    pub fn noted(&self, folder: &str, path: &[u8]) -> rusqlite::Result<Option<Noted>> {
        let mut query = self.db.prepare_cached(&format!("{NOTED} WHERE folder = ? AND path = ?"))?;
        query.query_row(params![folder, path], noted_of).optional()
    }

    /// Everything that is known of a folder's files.
    pub fn all_noted(&self, folder: &str) -> rusqlite::Result<Vec<Noted>> {
        let mut query = self.db.prepare_cached(&format!("{NOTED} WHERE folder = ?"))?;
        query.query_map([folder], noted_of)?.collect()
    }

    /// The texts that a file held.
    pub fn texts_of_file(&self, ino: u64, btime_ns: i64) -> rusqlite::Result<Vec<Text>> {
        let mut query =
            self.db.prepare_cached(&format!("{TEXT} WHERE ino = ? AND btime_ns = ? ORDER BY id DESC LIMIT 64"))?;
        query.query_map(params![ino as i64, btime_ns], text_of)?.collect()
    }

    /// Texts that begin alike and may stand in a file of this size: those of just this length, and the last of others.
    pub fn texts_of_start(&self, start: &Hash, size: u64) -> rusqlite::Result<Vec<Text>> {
        let sql = format!("{TEXT} WHERE start = ? ORDER BY sent = ? DESC, id DESC LIMIT {CANDIDATES_MAX}");
        let mut query = self.db.prepare_cached(&sql)?;
        query.query_map(params![start.as_slice(), size as i64], text_of)?.collect()
    }

    /// A text by its number.
    pub fn text(&self, id: i64) -> rusqlite::Result<Option<Text>> {
        self.db.prepare_cached(&format!("{TEXT} WHERE id = ?"))?.query_row([id], text_of).optional()
    }

    /// Texts of which something has arrived within so many seconds before the last arrival of all.
    pub fn last_texts(&self, within_s: i64) -> rusqlite::Result<Vec<Text>> {
        let sql = format!("{TEXT} WHERE sent > 0 AND last_s >= (SELECT max(last_s) FROM text) - ?");
        self.db.prepare_cached(&sql)?.query_map([within_s], text_of)?.collect()
    }

    /// The files that hold a text whole.
    pub fn files_of_text(&self, text: i64) -> rusqlite::Result<Vec<(String, Noted)>> {
        let sql = "SELECT path, text, ino, btime_ns, size, mtime_ns, ctime_ns, at_s, missing_s, folder FROM file WHERE text = ?";
        let mut query = self.db.prepare_cached(sql)?;
        query.query_map([text], |row| Ok((row.get(9)?, noted_of(row)?)))?.collect()
    }

    /// Whether a file in the archive is one of the record's.
    pub fn has_remote(&self, remote: &[u8]) -> rusqlite::Result<bool> {
        self.db.prepare_cached("SELECT 1 FROM text WHERE remote = ?")?.exists([remote])
    }

    /// What is on its way, or was when the agent died.
    pub fn intents(&self) -> rusqlite::Result<Vec<Intent>> {
        let mut query = self.db.prepare_cached("SELECT text, begun, body FROM intent ORDER BY text")?;
        let rows = query.query_map([], |row| {
            let (text, begun, body): (i64, bool, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let intent: serde_json::Result<Intent> = serde_json::from_str(&body);
            let wrong =
                |error| rusqlite::Error::FromSqlConversionFailure(2, rusqlite::types::Type::Text, Box::new(error));
            Ok(Intent { text, begun, ..intent.map_err(wrong)? })
        })?;
        rows.collect()
    }

    /// A setting.
    pub fn setting(&self, key: &str) -> rusqlite::Result<Option<String>> {
        self.db.prepare_cached("SELECT value FROM setting WHERE key = ?")?.query_row([key], |row| row.get(0)).optional()
    }

    /// How many texts and bytes are in the archive.
    pub fn totals(&self) -> rusqlite::Result<(u64, u64)> {
        let sql = "SELECT count(*), coalesce(sum(sent), 0) FROM text WHERE sent > 0";
        self.db.query_row(sql, [], |row| Ok((row.get::<_, i64>(0)? as u64, row.get::<_, i64>(1)? as u64)))
    }

    /// Forgets files that are gone for so long, in one transaction.
    pub fn forget_missing(&self, before_s: i64) -> rusqlite::Result<usize> {
        self.db.execute("DELETE FROM file WHERE missing_s < ?", [before_s])
    }

    /// Writes things down, in one transaction. Gives a text's number for each.
    fn write(&mut self, notes: &[Note], now_s: i64) -> rusqlite::Result<Vec<i64>> {
        let tx = self.db.transaction()?;
        let numbers =
            notes.iter().map(|note| notes::write(&tx, note, now_s)).collect::<rusqlite::Result<Vec<i64>>>()?;
        tx.commit()?;
        Ok(numbers)
    }
}

#[cfg(test)]
impl Record {
    /// Writes things down at once, without a scribe.
    pub fn write_for_tests(&mut self, notes: &[Note]) -> Vec<i64> {
        self.write(notes, crate::status::now_s()).unwrap()
    }
}

/// What the agent told last, for `status`, and how many texts and bytes it has shipped; none where there is no record.
pub fn last_report(file: &Path) -> anyhow::Result<Option<(Report, (u64, u64))>> {
    if !file.is_file() {
        return Ok(None);
    }
    let open = || -> rusqlite::Result<Option<(String, (u64, u64))>> {
        let db = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        db.busy_timeout(BUSY_TIMEOUT)?;
        let record = Record { db };
        let Some(report) = record.setting("report")? else { return Ok(None) };
        Ok(Some((report, record.totals()?)))
    };
    let found = open().with_context(|| format!("cannot read {}", file.display()))?;
    let Some((report, totals)) = found else { return Ok(None) };
    Ok(Some((serde_json::from_str(&report).context("the last report")?, totals)))
}

const NOTED: &str = "SELECT path, text, ino, btime_ns, size, mtime_ns, ctime_ns, at_s, missing_s FROM file";
const TEXT: &str = "SELECT id, ino, btime_ns, sent, start, hash, hash_bytes, tail, remote, base, stored FROM text";

fn noted_of(row: &Row) -> rusqlite::Result<Noted> {
    let stamp = Stamp {
        ino: row.get::<_, i64>(2)? as u64,
        btime_ns: row.get(3)?,
        size: row.get::<_, i64>(4)? as u64,
        mtime_ns: row.get(5)?,
        ctime_ns: row.get(6)?,
    };
    Ok(Noted { path: row.get(0)?, text: row.get(1)?, stamp, at_s: row.get(7)?, missing_s: row.get(8)? })
}

fn text_of(row: &Row) -> rusqlite::Result<Text> {
    let proof = Proof {
        sent: row.get::<_, i64>(3)? as u64,
        start: row.get(4)?,
        hash: row.get(5)?,
        hash_bytes: row.get::<_, i64>(6)? as u64,
        tail: row.get(7)?,
    };
    Ok(Text {
        id: row.get(0)?,
        file: (row.get::<_, i64>(1)? as u64, row.get(2)?),
        proof,
        remote: row.get(8)?,
        base: row.get::<_, i64>(9)? as u64,
        stored: row.get::<_, i64>(10)? as u64,
    })
}

#[cfg(test)]
mod tests;
