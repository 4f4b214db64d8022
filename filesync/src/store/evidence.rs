//! What passes remember of each other: what was missing, what is held, what is known to be gone.

use rusqlite::{Connection, OptionalExtension, params};

use super::{Held, Store, below};
use crate::safety::{Memory, Missed, Reason, Verdict};
use crate::tree::Path;

/// The span over which removals are counted, in seconds.
const BUDGET_SPAN_S: i64 = 3600;

impl Store {
    /// Notes the epoch in which this machine is the master. What was missing, held or told in another is no evidence in this one: the standby may
    /// have been the master meanwhile.
    pub fn begin_epoch(&mut self, epoch: &str) -> rusqlite::Result<()> {
        let id = self.standby;
        let tx = self.db.transaction()?;
        let known: Option<String> =
            tx.query_row("SELECT id FROM epoch WHERE standby = ?", [id], |row| row.get(0)).optional()?;
        let is_other = known.as_ref().is_some_and(|known| known != epoch);
        if is_other {
            for table in ["missed", "held", "gone", "problem"] {
                tx.execute(&format!("DELETE FROM {table} WHERE standby = ?"), [id])?;
            }
            tx.execute("UPDATE standby SET verified = 0 WHERE id = ?", [id])?;
        }
        tx.execute("INSERT OR REPLACE INTO epoch VALUES (?, ?)", params![id, epoch])?;
        tx.commit()
    }

    /// Begins a pass: gives it a number, and recalls what earlier ones left.
    pub fn begin_pass(&mut self, now_s: i64, budget_percent: u64) -> rusqlite::Result<Memory> {
        let id = self.standby;
        let tx = self.db.transaction()?;
        tx.execute("UPDATE standby SET pass = pass + 1 WHERE id = ?", [id])?;
        tx.execute("DELETE FROM removed WHERE standby = ? AND at_s <= ?", [id, now_s - BUDGET_SPAN_S])?;
        // Left over from a rename that stopped half way: the object is nowhere in the tree any more.
        tx.execute(
            "DELETE FROM base WHERE standby = ? AND path >= CAST('.pair' AS BLOB) AND path < CAST('.pair0' AS BLOB)",
            [id],
        )?;
        let (pass, verified): (i64, bool) =
            tx.query_row("SELECT pass, verified FROM standby WHERE id = ?", [id], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
        let removed: i64 =
            tx.query_row("SELECT coalesce(sum(entries), 0) FROM removed WHERE standby = ?", [id], |row| row.get(0))?;
        let mut memory = Memory {
            pass: pass as u64,
            verified,
            removed_last_hour: removed as u64,
            budget_percent,
            ..Memory::default()
        };
        let mut missed = tx.prepare("SELECT path, pass, parent_ino FROM missed WHERE standby = ?")?;
        for row in missed.query_map([id], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)))? {
            let (path, pass, ino) = row?;
            memory.missed.insert(path, Missed { pass: pass as u64, parent_ino: ino as u64 });
        }
        let mut held = tx.prepare("SELECT path, approved FROM held WHERE standby = ?")?;
        for row in held.query_map([id], |row| Ok((row.get(0)?, row.get(1)?)))? {
            let (path, approved) = row?;
            memory.held.insert(path, approved);
        }
        let mut gone = tx.prepare("SELECT path FROM gone WHERE standby = ?")?;
        memory.told = gone.query_map([id], |row| Ok((row.get(0)?, ())))?.collect::<rusqlite::Result<_>>()?;
        drop((gone, held, missed));
        tx.commit()?;
        Ok(memory)
    }

    /// Keeps a verdict for the next pass. Approvals stay as long as what they approve is missing.
    pub fn keep_verdict(&mut self, verdict: &Verdict, now_s: i64) -> rusqlite::Result<()> {
        let id = self.standby;
        let tx = self.db.transaction()?;
        tx.execute("DELETE FROM missed WHERE standby = ?", [id])?;
        for (path, missed) in &verdict.missed {
            tx.prepare_cached("INSERT INTO missed (standby, path, pass, parent_ino) VALUES (?, ?, ?, ?)")?
                .execute(params![id, path, missed.pass as i64, missed.parent_ino as i64])?;
        }
        let known: Vec<Path> = {
            let mut held = tx.prepare("SELECT path FROM held WHERE standby = ?")?;
            held.query_map([id], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?
        };
        for path in known.iter().filter(|path| !verdict.missed.contains_key(*path)) {
            tx.prepare_cached("DELETE FROM held WHERE standby = ? AND path = ?")?.execute(params![id, path])?;
        }
        for (path, (entries, reason)) in &verdict.held {
            let reason: &Reason = reason;
            tx.prepare_cached(
                "INSERT INTO held (standby, path, entries, reason, since_s) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT DO UPDATE SET entries = ?3, reason = ?4",
            )?
            .execute(params![id, path, *entries as i64, reason.text(), now_s])?;
        }
        tx.commit()
    }

    /// Notes that both sides were listed whole and compared: from now on evidence counts.
    pub fn set_verified(&self) -> rusqlite::Result<()> {
        self.db.execute("UPDATE standby SET verified = 1 WHERE id = ?", [self.standby]).map(drop)
    }

    /// Notes that a change has told of a path to be gone, which could not be made to go.
    pub fn add_gone(&self, path: &[u8]) -> rusqlite::Result<()> {
        let mut add = self.db.prepare_cached("INSERT OR IGNORE INTO gone VALUES (?, ?)")?;
        add.execute(params![self.standby, path]).map(drop)
    }

    /// A folder was renamed: what is known to be gone of it would appear under its new name.
    pub fn move_gone(&self, from: &[u8], to: &[u8]) -> rusqlite::Result<()> {
        move_gone(&self.db, self.standby, from, to)
    }

    /// Forgets what was known to be gone when a pass began, but for what is still missing.
    pub fn settle_gone(&mut self, over: &[Path]) -> rusqlite::Result<()> {
        let tx = self.db.transaction()?;
        for path in over {
            let mut forget = tx.prepare_cached("DELETE FROM gone WHERE standby = ? AND path = ?")?;
            forget.execute(params![self.standby, path])?;
        }
        tx.commit()
    }

    /// What waits for a person.
    pub fn held(&self) -> rusqlite::Result<Vec<Held>> {
        let sql = "SELECT path, entries, reason, since_s, approved FROM held WHERE standby = ? ORDER BY path";
        let mut query = self.db.prepare(sql)?;
        let held = query.query_map([self.standby], |row| {
            let entries = row.get::<_, i64>(1)? as u64;
            Ok(Held { path: row.get(0)?, entries, reason: row.get(2)?, since_s: row.get(3)?, approved: row.get(4)? })
        })?;
        held.collect()
    }
}

/// As [`Store::move_gone`], within a transaction.
pub(super) fn move_gone(db: &Connection, standby: i64, from: &[u8], to: &[u8]) -> rusqlite::Result<()> {
    let (low, high) = below(from);
    let sql = "SELECT path FROM gone WHERE standby = ? AND path > ? AND path < ?";
    let mut inside = db.prepare_cached(sql)?;
    let moved: Vec<Path> =
        inside.query_map(params![standby, low, high], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    for path in moved {
        let new = [to, path.get(from.len()..).unwrap_or_default()].concat();
        let sql = "UPDATE OR REPLACE gone SET path = ? WHERE standby = ? AND path = ?";
        db.prepare_cached(sql)?.execute(params![new, standby, path])?;
    }
    Ok(())
}
