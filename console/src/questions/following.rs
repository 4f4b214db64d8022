//! How the logs are followed: which files, how far, and what could not be read in them.

use serde::Serialize;

use super::Reader;

/// A log that is followed, or was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Followed {
    /// The folder in which it was last.
    pub folder: String,
    /// Its file's name there.
    pub name: String,
    /// Bytes of its text that were read.
    pub read_bytes: u64,
    /// Lines that were read.
    pub lines: u64,
    /// Records that were kept of it.
    pub records: u64,
    /// Records that were here already, from another file.
    pub repeated: u64,
    /// Lines that are not meant to be records.
    pub passed_over: u64,
    /// Lines that are no records.
    pub problems: u64,
    /// When something of it was read last, in milliseconds since 1970.
    pub seen_ms: i64,
}

/// Something in a log that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trouble {
    /// When it was met, in milliseconds since 1970.
    pub at_ms: i64,
    /// The file.
    pub file: String,
    /// Where in its text, in bytes.
    pub position: u64,
    /// What is wrong.
    pub sentence: String,
}

impl Reader {
    /// The logs that were read last, so many at most.
    pub fn followed(&self, logs_max: usize) -> anyhow::Result<Vec<Followed>> {
        let sql = "SELECT folder, name, consumed, lines, records, repeated, passed_over, problems, seen_ms FROM stream
                   ORDER BY seen_ms DESC, id DESC LIMIT ?";
        let mut query = self.db.prepare_cached(sql)?;
        let rows = query.query_map([logs_max as i64], |row| {
            Ok(Followed {
                folder: row.get(0)?,
                name: row.get(1)?,
                read_bytes: row.get(2)?,
                lines: row.get(3)?,
                records: row.get(4)?,
                repeated: row.get(5)?,
                passed_over: row.get(6)?,
                problems: row.get(7)?,
                seen_ms: row.get(8)?,
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// What could not be read, the newest first, so many at most: the last thousand are kept.
    pub fn troubles(&self, troubles_max: usize) -> anyhow::Result<Vec<Trouble>> {
        let sql = "SELECT at_ms, file, position, sentence FROM problem ORDER BY id DESC LIMIT ?";
        let mut query = self.db.prepare_cached(sql)?;
        let rows = query.query_map([troubles_max as i64], |row| {
            Ok(Trouble { at_ms: row.get(0)?, file: row.get(1)?, position: row.get(2)?, sentence: row.get(3)? })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}
