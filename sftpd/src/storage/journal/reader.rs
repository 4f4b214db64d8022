//! Reads the journal beside its writer, for the feed.

use std::path::Path;

use pair::record::Record;
use rusqlite::{Connection, OptionalExtension, params};

use super::{BUSY_TIMEOUT, meta, path, record};

/// A reader of the journal.
#[derive(Debug)]
pub(in crate::storage) struct Reader {
    // Held for one query, never across an await.
    db: std::sync::Mutex<Connection>,
}

impl Reader {
    pub(in crate::storage) fn open(state: &Path) -> rusqlite::Result<Reader> {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY | rusqlite::OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(path(state), flags)?;
        db.busy_timeout(BUSY_TIMEOUT)?;
        Ok(Reader { db: std::sync::Mutex::new(db) })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Connection> {
        self.db.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The number from which on nothing was dropped.
    pub(in crate::storage) fn first_seq(&self) -> rusqlite::Result<u64> {
        let dropped = meta(&self.lock(), "dropped")?.and_then(|text| text.parse::<u64>().ok());
        Ok(dropped.unwrap_or(0) + 1)
    }

    /// Done records behind `seq` and up to `last`, in order.
    pub(in crate::storage) fn records(&self, seq: u64, last: u64, at_most: usize) -> rusqlite::Result<Vec<Record>> {
        let db = self.lock();
        let mut statement = db.prepare_cached(
            "SELECT * FROM journal WHERE seq > ? AND seq <= ? AND outcome = 'done' ORDER BY seq LIMIT ?",
        )?;
        statement.query_map(params![seq, last, at_most as u64], record)?.collect()
    }

    /// Records behind `seq`, in order: those that are done and those that are not decided yet. Heartbeats are none.
    pub(in crate::storage) fn records_that_may_be(&self, seq: u64, at_most: usize) -> rusqlite::Result<Vec<Record>> {
        let db = self.lock();
        let mut statement = db.prepare_cached(
            "SELECT * FROM journal WHERE seq > ? AND (outcome IS NULL OR outcome = 'done') AND op != 'heartbeat'
             ORDER BY seq LIMIT ?",
        )?;
        statement.query_map(params![seq, at_most as u64], record)?.collect()
    }

    /// The record with a number.
    pub(in crate::storage) fn record(&self, seq: u64) -> rusqlite::Result<Option<Record>> {
        let db = self.lock();
        let mut statement = db.prepare_cached("SELECT * FROM journal WHERE seq = ?")?;
        statement.query_row([seq], record).optional()
    }

    /// What each standby has: name, number, when.
    pub(in crate::storage) fn acknowledgements(&self) -> rusqlite::Result<Vec<(String, u64, i64)>> {
        let db = self.lock();
        let mut statement = db.prepare_cached("SELECT standby, seq, time_ms FROM acknowledged ORDER BY standby")?;
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect()
    }
}
