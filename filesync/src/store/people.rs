//! The store for people: what `filesync status` reads and `filesync approve-deletes` writes, beside a running service or
//! without one.

use std::collections::BTreeMap;

use anyhow::Context;
use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior, params};

use super::{BUSY_TIMEOUT, Held, Store, Trouble};
use crate::tree::Path;

/// What the store knows of a standby, for people.
#[derive(Debug)]
pub struct Known {
    /// Its name.
    pub name: String,
    /// The last report, as JSON.
    pub report: Option<String>,
    /// What waits for a person.
    pub held: Vec<Held>,
    /// What could not be done: of all of it, or of what is there longest.
    pub troubles: BTreeMap<Path, Trouble>,
    /// How much that is in all.
    pub troubles_count: u64,
    /// How `filesync verify` has ended last; none where it was never run.
    pub verified: Option<Verified>,
}

/// How a comparison of both trees by content has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// When it ended, in seconds since 1970.
    pub at_s: i64,
    /// Paths on both sides together.
    pub entries: u64,
    /// Files whose contents were compared.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Paths that differed, or could not be compared.
    pub differences: u64,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

impl Store {
    /// Keeps how a comparison has ended, in place of the one before.
    pub fn keep_verified(&self, found: &Verified) -> rusqlite::Result<()> {
        let Verified { at_s, entries, files, bytes, differences, took_ms } = found;
        let sql = "INSERT OR REPLACE INTO verified VALUES (?, ?, ?, ?, ?, ?, ?)";
        self.db.execute(sql, params![self.standby, at_s, entries, files, bytes, differences, took_ms]).map(drop)
    }

    /// How the last comparison has ended; none also where the store is of a filesync that did not remember it.
    fn verified(&self) -> rusqlite::Result<Option<Verified>> {
        let is_there = "SELECT 1 FROM sqlite_master WHERE name = 'verified'";
        if self.db.query_row(is_there, [], |_| Ok(())).optional()?.is_none() {
            return Ok(None);
        }
        let sql = "SELECT at_s, entries, files, bytes, differences, took_ms FROM verified WHERE standby = ?";
        let read = |row: &rusqlite::Row| {
            let (at_s, entries, files) = (row.get(0)?, row.get(1)?, row.get(2)?);
            Ok(Verified { at_s, entries, files, bytes: row.get(3)?, differences: row.get(4)?, took_ms: row.get(5)? })
        };
        self.db.query_row(sql, [self.standby], read).optional()
    }
}

/// What is known of all standbys, read only; empty where there is no store yet.
pub fn known(file: &std::path::Path) -> anyhow::Result<Vec<Known>> {
    known_in_short(file, usize::MAX)
}

/// The same, with so many troubles of each standby at most, and their count: for who asks every few seconds.
pub fn known_in_short(file: &std::path::Path, troubles_max: usize) -> anyhow::Result<Vec<Known>> {
    if !file.exists() {
        return Ok(Vec::new());
    }
    let read = || -> rusqlite::Result<_> {
        let db = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        db.busy_timeout(BUSY_TIMEOUT)?;
        // The service may be making it at this moment.
        if db.query_row("SELECT count(*) FROM sqlite_master WHERE name = 'problem'", [], |row| row.get::<_, i64>(0))?
            == 0
        {
            return Ok(Vec::new());
        }
        let standbys: Vec<(i64, String, Option<String>)> = {
            let mut query = db.prepare("SELECT id, name, report FROM standby ORDER BY id")?;
            query.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect::<rusqlite::Result<_>>()?
        };
        let mut store = Store { db, standby: 0 };
        let mut found = Vec::new();
        for (id, name, report) in standbys {
            store.standby = id;
            let (held, verified) = (store.held()?, store.verified()?);
            let (troubles, (troubles_count, _)) = (store.oldest_troubles(troubles_max)?, store.troubles_count()?);
            found.push(Known { name, report, held, troubles, troubles_count, verified });
        }
        Ok(found)
    };
    read().with_context(|| format!("cannot read {}", file.display()))
}

/// Approves all that is held, of one standby or of all; tells how many paths and entries.
pub fn approve(file: &std::path::Path, standby: Option<&str>) -> anyhow::Result<(u64, u64)> {
    let approve = || -> rusqlite::Result<Option<(u64, u64)>> {
        let mut db = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        db.busy_timeout(BUSY_TIMEOUT)?;
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if let Some(name) = standby {
            let known =
                tx.query_row("SELECT id FROM standby WHERE name = ?", [name], |row| row.get::<_, i64>(0)).optional()?;
            if known.is_none() {
                return Ok(None);
            }
        }
        let which = "approved = 0 AND standby IN (SELECT id FROM standby WHERE ?1 IS NULL OR name = ?1)";
        let sql = format!("SELECT count(*), coalesce(sum(entries), 0) FROM held WHERE {which}");
        let counts =
            tx.query_row(&sql, [standby], |row| Ok((row.get::<_, i64>(0)? as u64, row.get::<_, i64>(1)? as u64)))?;
        tx.execute(&format!("UPDATE held SET approved = 1 WHERE {which}"), [standby])?;
        tx.commit()?;
        Ok(Some(counts))
    };
    approve().with_context(|| format!("cannot approve in {}", file.display()))?.ok_or_else(|| {
        pair::exit::usage(format!(
            "no standby \"{}\" is known; filesync status shows the names",
            standby.unwrap_or_default()
        ))
    })
}
