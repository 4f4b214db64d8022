//! The store for people: what `filesync status` reads and `filesync approve-deletes` writes, beside a running service or
//! without one.

use std::collections::BTreeMap;

use anyhow::Context;
use rusqlite::{Connection, OpenFlags, OptionalExtension};

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
    /// What could not be done.
    pub troubles: BTreeMap<Path, Trouble>,
}

/// What is known of all standbys, read only; empty where there is no store yet.
pub fn known(file: &std::path::Path) -> anyhow::Result<Vec<Known>> {
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
            found.push(Known { name, report, held: store.held()?, troubles: store.troubles()? });
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
        let tx = db.transaction()?;
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
