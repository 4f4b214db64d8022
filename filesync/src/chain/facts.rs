//! What the chain says of each file, in a database of SQLite's that has no name and goes with its connection.

use pair::chain::{Event, home_of};
use rusqlite::{Connection, OptionalExtension, params};

use super::has_content;

const SCHEMA: &str = "
    CREATE TABLE files (
        path BLOB PRIMARY KEY, home BLOB NOT NULL, size INTEGER NOT NULL, day TEXT NOT NULL,
        is_expired INTEGER NOT NULL, is_seen INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
    CREATE TABLE parts (
        path BLOB NOT NULL, start INTEGER NOT NULL, end INTEGER NOT NULL, segment INTEGER NOT NULL, hash TEXT NOT NULL,
        PRIMARY KEY (path, start, segment)) WITHOUT ROWID;";

/// Facts.
pub struct Facts {
    db: Connection,
}

/// What the chain says of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// How long it is.
    pub size: u64,
    /// The day of the newest segment that tells of it.
    pub day: String,
    /// Whether retention has removed it.
    pub is_expired: bool,
}

/// A part of a file whose digest is in the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its first byte.
    pub from: u64,
    /// The byte behind its last.
    pub to: u64,
    /// Its digest.
    pub hash: String,
    /// The segment that says so.
    pub segment: u64,
}

impl Facts {
    /// None yet.
    pub fn new() -> rusqlite::Result<Facts> {
        // Without a name it is a file that SQLite removes, of which it keeps a few megabytes in memory.
        let db = Connection::open("")?;
        db.pragma_update(None, "journal_mode", "OFF")?;
        db.pragma_update(None, "synchronous", "OFF")?;
        db.execute_batch(SCHEMA)?;
        Ok(Facts { db })
    }

    /// Takes in what a segment says.
    pub fn take(&mut self, segment: u64, day: &str, events: &[Event]) -> rusqlite::Result<()> {
        let transaction = self.db.transaction()?;
        for event in events {
            let path = &event.path.0;
            if !has_content(event.event) {
                transaction
                    .prepare_cached("UPDATE files SET is_expired = 1, day = ? WHERE path = ?")?
                    .execute(params![day, path])?;
                continue;
            }
            // What comes under the name of what has gone is another file.
            let mut gone = transaction.prepare_cached("SELECT 1 FROM files WHERE path = ? AND is_expired = 1")?;
            if gone.exists([path])? {
                transaction.prepare_cached("DELETE FROM parts WHERE path = ?")?.execute([path])?;
            }
            transaction
                .prepare_cached(
                    "INSERT INTO files (path, home, size, day, is_expired) VALUES (?, ?, ?, ?, 0)
                     ON CONFLICT (path) DO UPDATE SET size = max(excluded.size, iif(is_expired, 0, size)), day = excluded.day,
                     is_expired = 0",
                )?
                .execute(params![path, home_of(path), event.size as i64, day])?;
            transaction.prepare_cached("INSERT OR IGNORE INTO parts VALUES (?, ?, ?, ?, ?)")?.execute(params![
                path,
                event.from as i64,
                event.size as i64,
                segment as i64,
                event.blake3
            ])?;
        }
        transaction.commit()
    }

    /// What the chain says of a path.
    pub fn fact(&self, path: &[u8]) -> rusqlite::Result<Option<Fact>> {
        let mut statement = self.db.prepare_cached("SELECT size, day, is_expired FROM files WHERE path = ?")?;
        let fact = |row: &rusqlite::Row<'_>| {
            Ok(Fact { size: row.get::<_, i64>(0)? as u64, day: row.get(1)?, is_expired: row.get(2)? })
        };
        statement.query_row([path], fact).optional()
    }

    /// The parts of a file, in order.
    pub fn parts(&self, path: &[u8]) -> rusqlite::Result<Vec<Part>> {
        let mut statement = self
            .db
            .prepare_cached("SELECT start, end, hash, segment FROM parts WHERE path = ? ORDER BY start, segment")?;
        let part = |row: &rusqlite::Row<'_>| {
            let number = |column| row.get::<_, i64>(column).map(|number| number as u64);
            Ok(Part { from: number(0)?, to: number(1)?, hash: row.get(2)?, segment: number(3)? })
        };
        statement.query_map([path], part)?.collect()
    }

    /// Something stands at a path.
    pub fn saw(&self, path: &[u8]) -> rusqlite::Result<()> {
        self.db.prepare_cached("UPDATE files SET is_seen = 1 WHERE path = ?")?.execute([path]).map(drop)
    }

    /// Tells of all that should be there and was not seen.
    pub fn unseen(&self, tell: &mut dyn FnMut(&[u8], Fact)) -> anyhow::Result<()> {
        let mut statement =
            self.db.prepare("SELECT path, size, day FROM files WHERE is_seen = 0 AND is_expired = 0 ORDER BY path")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let path: Vec<u8> = row.get(0)?;
            tell(&path, Fact { size: row.get::<_, i64>(1)? as u64, day: row.get(2)?, is_expired: false });
        }
        Ok(())
    }
}
