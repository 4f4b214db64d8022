//! Lets go of the oldest days, when they are too old or too many records are kept.
//!
//! Always holds: whole days go. Their figures go first, in one transaction with the word that nothing so old is kept; their records
//! follow in small steps, so that nobody who writes or reads waits long. Questions look at nothing before that moment.

use rusqlite::{Connection, OptionalExtension, params};

use super::figures::{TABLES_BY_DAY, TABLES_BY_HOUR};
use super::{Store, set, streams};
use crate::calendar::{date_of, day_number};

/// Records, or names, that go in one transaction.
const STEP: i64 = 5000;

/// One step of it; tells whether there is more to do.
pub fn step(store: &mut Store, days: u32, records_max: u64, now_ms: i64) -> anyhow::Result<bool> {
    let first_day = first_day(store, days, records_max, now_ms)?;
    let from_ms = store.calendar.start_ms(date_of(first_day));
    if from_ms > store.kept_from_ms {
        forget_days_before(store, first_day, from_ms, now_ms)?;
        return Ok(true);
    }
    let sql = "DELETE FROM record WHERE id IN (SELECT id FROM record WHERE time_ms < ? ORDER BY time_ms LIMIT ?)";
    let gone = store.db.execute(sql, params![store.kept_from_ms, STEP])?;
    if gone > 0 {
        return Ok(true);
    }
    Ok(forget_names(store)?)
}

/// The first day that is kept: not too old, and no more records from it on than may be.
fn first_day(store: &Store, days: u32, records_max: u64, now_ms: i64) -> rusqlite::Result<i32> {
    let today = day_number(store.calendar.date(now_ms));
    let first = today.saturating_sub_unsigned(days.saturating_sub(1));
    let mut query = store.db.prepare_cached("SELECT day, sum(records) FROM day GROUP BY day ORDER BY day DESC")?;
    let mut rows = query.query([])?;
    let mut records = 0_u64;
    while let Some(row) = rows.next()? {
        let day: i32 = row.get(0)?;
        records += row.get::<_, u64>(1)?;
        // The newest day stays, however many they are: what is gone today would be missed today.
        if records > records_max && day < today {
            return Ok(first.max(day + 1));
        }
    }
    Ok(first)
}

fn forget_days_before(store: &mut Store, day: i32, from_ms: i64, now_ms: i64) -> rusqlite::Result<()> {
    let hour = store.calendar.hour(from_ms);
    let tx = store.db.transaction()?;
    for table in TABLES_BY_DAY {
        tx.execute(&format!("DELETE FROM {table} WHERE day < ?"), [day])?;
    }
    for table in TABLES_BY_HOUR {
        tx.execute(&format!("DELETE FROM {table} WHERE hour < ?"), [hour])?;
    }
    tx.execute("DELETE FROM folder WHERE last_day < ?", [day])?;
    set(&tx, "kept_from_ms", &from_ms.to_string())?;
    streams::forget_old(&tx, now_ms)?;
    // Names that nobody has any more are looked for from the first one on.
    set(&tx, "names_looked_at", "0")?;
    tx.commit()?;
    store.kept_from_ms = from_ms;
    store.folders.forget();
    Ok(())
}

/// Removes accounts that no record has any more, so many at a time: strangers' attempts to log in leave their names behind.
fn forget_names(store: &mut Store) -> rusqlite::Result<bool> {
    let Some(from) = super::setting(&store.db, "names_looked_at")?.and_then(|text| text.parse::<i64>().ok()) else {
        return Ok(false);
    };
    let tx = store.db.transaction()?;
    let end = end_of_step(&tx, from)?;
    match end {
        Some(end) => {
            let sql = "DELETE FROM account WHERE id > ? AND id <= ?
                       AND NOT EXISTS (SELECT 1 FROM record WHERE record.account = account.id)";
            tx.execute(sql, [from, end])?;
            set(&tx, "names_looked_at", &end.to_string())?;
        }
        None => {
            tx.execute("DELETE FROM setting WHERE key = 'names_looked_at'", [])?;
        }
    }
    tx.commit()?;
    store.words.forget();
    Ok(end.is_some())
}

fn end_of_step(db: &Connection, from: i64) -> rusqlite::Result<Option<i64>> {
    let sql = "SELECT max(id) FROM (SELECT id FROM account WHERE id > ? ORDER BY id LIMIT ?)";
    db.query_row(sql, [from, STEP], |row| row.get(0)).optional().map(Option::flatten)
}
