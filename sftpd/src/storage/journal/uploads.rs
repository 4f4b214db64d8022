//! The unfinished uploads, as the journal's file remembers them over restarts.

use rusqlite::{Connection, params};

use super::Journal;

/// An unfinished upload, as it is remembered over restarts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::storage) struct UploadRow {
    pub number: u64,
    pub account: String,
    /// The inode of its folder.
    pub folder: u64,
    pub name: Vec<u8>,
    /// Whether a complete file had its name when it began.
    pub overwrites: bool,
    /// How much had arrived when its size stopped telling that.
    pub arrived_bytes: Option<u64>,
    /// How much is on the disk for certain.
    pub durable_bytes: u64,
}

/// A change of what is remembered of unfinished uploads.
#[derive(Clone, Debug)]
pub(in crate::storage) enum RowChange {
    Begun(UploadRow),
    Moved { number: u64, folder: u64, name: Vec<u8> },
    Arrived { number: u64, bytes: Option<u64> },
    Durable { number: u64, bytes: u64 },
    Gone(u64),
}

impl Journal {
    /// The unfinished uploads.
    pub(in crate::storage) fn uploads(&self) -> rusqlite::Result<Vec<UploadRow>> {
        let mut statement = self.db.prepare("SELECT * FROM upload ORDER BY number")?;
        let rows = statement.query_map([], |row| {
            Ok(UploadRow {
                number: row.get("number")?,
                account: row.get("account")?,
                folder: row.get::<_, i64>("folder")? as u64,
                name: row.get("name")?,
                overwrites: row.get("overwrites")?,
                arrived_bytes: row.get("arrived_bytes")?,
                durable_bytes: row.get("durable_bytes")?,
            })
        })?;
        rows.collect()
    }
}

/// Writes a change down.
pub(super) fn change_row(db: &Connection, change: &RowChange) -> rusqlite::Result<()> {
    match change {
        RowChange::Begun(row) => {
            let mut statement = db.prepare_cached("INSERT OR REPLACE INTO upload VALUES (?, ?, ?, ?, ?, ?, ?)")?;
            let (folder, arrived) = (row.folder as i64, row.arrived_bytes);
            let (number, account, name) = (row.number, &row.account, &row.name);
            statement.execute(params![number, account, folder, name, row.overwrites, arrived, row.durable_bytes])
        }
        RowChange::Moved { number, folder, name } => {
            let mut statement = db.prepare_cached("UPDATE upload SET folder = ?, name = ? WHERE number = ?")?;
            statement.execute(params![*folder as i64, name, number])
        }
        RowChange::Arrived { number, bytes } => {
            let mut statement = db.prepare_cached("UPDATE upload SET arrived_bytes = ? WHERE number = ?")?;
            statement.execute(params![bytes, number])
        }
        RowChange::Durable { number, bytes } => {
            db.prepare_cached("UPDATE upload SET durable_bytes = ? WHERE number = ?")?.execute([bytes, number])
        }
        RowChange::Gone(number) => db.prepare_cached("DELETE FROM upload WHERE number = ?")?.execute([number]),
    }
    .map(drop)
}
