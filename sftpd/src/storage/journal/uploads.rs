//! The unfinished uploads, as the journal's file remembers them over restarts.

use rusqlite::{Connection, params};

use super::super::FolderId;
use super::Journal;

/// An unfinished upload, as it is remembered over restarts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::storage) struct UploadRow {
    pub number: u64,
    pub account: String,
    pub folder: FolderId,
    pub name: Vec<u8>,
    /// How much had arrived when its size stopped telling that.
    pub arrived_bytes: Option<u64>,
    /// How much is on the disk for certain.
    pub durable_bytes: u64,
}

/// A change of what is remembered of unfinished uploads.
#[derive(Clone, Debug)]
pub(in crate::storage) enum RowChange {
    Begun(UploadRow),
    Moved { number: u64, folder: FolderId, name: Vec<u8> },
    Arrived { number: u64, bytes: Option<u64> },
    Durable { number: u64, bytes: u64 },
    Gone(u64),
}

impl RowChange {
    /// The number of the upload's stage.
    pub(in crate::storage) fn number(&self) -> u64 {
        match self {
            RowChange::Begun(row) => row.number,
            RowChange::Moved { number, .. } | RowChange::Arrived { number, .. } | RowChange::Durable { number, .. } => {
                *number
            }
            RowChange::Gone(number) => *number,
        }
    }
}

impl Journal {
    /// The unfinished uploads.
    pub(in crate::storage) fn uploads(&self) -> rusqlite::Result<Vec<UploadRow>> {
        let mut statement = self.db.prepare("SELECT * FROM unfinished ORDER BY number")?;
        let rows = statement.query_map([], |row| {
            Ok(UploadRow {
                number: row.get("number")?,
                account: row.get("account")?,
                folder: FolderId { inode: row.get::<_, i64>("folder")? as u64, born_ns: row.get("folder_born_ns")? },
                name: row.get("name")?,
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
            let mut statement = db.prepare_cached("INSERT OR REPLACE INTO unfinished VALUES (?, ?, ?, ?, ?, ?, ?)")?;
            let (folder, born_ns) = (row.folder.inode as i64, row.folder.born_ns);
            let (number, account, name, arrived) = (row.number, &row.account, &row.name, row.arrived_bytes);
            statement.execute(params![number, account, folder, born_ns, name, arrived, row.durable_bytes])
        }
        RowChange::Moved { number, folder, name } => {
            let mut statement =
                db.prepare_cached("UPDATE unfinished SET folder = ?, folder_born_ns = ?, name = ? WHERE number = ?")?;
            statement.execute(params![folder.inode as i64, folder.born_ns, name, number])
        }
        RowChange::Arrived { number, bytes } => {
            let mut statement = db.prepare_cached("UPDATE unfinished SET arrived_bytes = ? WHERE number = ?")?;
            statement.execute(params![bytes, number])
        }
        RowChange::Durable { number, bytes } => {
            db.prepare_cached("UPDATE unfinished SET durable_bytes = ? WHERE number = ?")?.execute([bytes, number])
        }
        RowChange::Gone(number) => db.prepare_cached("DELETE FROM unfinished WHERE number = ?")?.execute([number]),
    }
    .map(drop)
}
