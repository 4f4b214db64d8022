//! Lists of records, the newest first, a page at a time; and look-ups by name.
//!
//! Always holds: pages follow each other by the last record that was seen, not by counting, so that new records shift nothing. One call
//! looks at a bounded number of records: where few of many are meant, a page may come back with less than was asked for, or nothing,
//! and still say where to go on.

mod search;

use rusqlite::types::Value;
use rusqlite::{Row, params_from_iter};
use serde::{Deserialize, Serialize};

use super::scope::{Condition, Scope, numbers};
use super::{Filter, Reader};
use crate::record::{Kind, Operation, Outcome};
use crate::store::folders::range;

pub use search::{How, Search};

/// The most records of one page.
pub const PAGE_RECORDS_MAX: usize = 1000;

/// Records that one call looks at, at most, unless more than that are of one hour.
const LOOKED_AT_MAX: i64 = 30_000;

/// As many records in an index are gone through and sorted; where there are more, newest ones are found soon.
const RANGE_MAX: i64 = 20_000;

/// A place in the order of records: the newest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// When, in milliseconds since 1970.
    pub time_ms: i64,
    /// The record's number.
    pub id: i64,
}

/// Some records.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Page {
    /// The newest first.
    pub records: Vec<Record>,
    /// Where the next page begins; none where there is nothing more.
    pub next: Option<Key>,
}

/// A record, as it is shown. Texts are attackers' text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "they are those of the log; see docs/activity.md")]
pub struct Record {
    /// Its number here, in the order of arrival.
    pub id: i64,
    /// When it was over, in milliseconds since 1970.
    pub time_ms: i64,
    pub operation: Operation,
    pub outcome: Outcome,
    /// What an operation that has no name here is called.
    pub sender: Option<String>,
    pub account: String,
    /// Without the port.
    pub address: Option<String>,
    pub port: Option<u16>,
    pub connection: Option<String>,
    pub protocol: Option<String>,
    pub path: Option<String>,
    pub path_escaped: Option<String>,
    pub target: Option<String>,
    pub moved_bytes: Option<u64>,
    pub file_bytes: Option<u64>,
    pub elapsed_ms: Option<u64>,
    pub error: Option<String>,
    pub method: Option<String>,
    pub client: Option<String>,
    pub algorithms: Option<String>,
    pub key_fingerprint: Option<String>,
    pub certificate: Option<String>,
    /// The folder of the log in which it stood: which machine's it is.
    pub log_folder: Option<String>,
    /// Whether sftpd has written it, whose records have numbers: SFTPGo's have none.
    pub is_ours: bool,
}

const RECORD: &str = "
    SELECT record.id, time_ms, kind, sender, account.name, address, port, connection, protocol.text, path, path_escaped, target,
           moved_bytes, file_bytes, elapsed_ms, error, method.text, client.text, algorithms.text, key_fingerprint, certificate,
           stream.folder, record.log_id IS NOT NULL
    FROM record JOIN account ON account.id = record.account LEFT JOIN stream ON stream.id = record.stream
    LEFT JOIN word protocol ON protocol.id = record.protocol LEFT JOIN word method ON method.id = record.method
    LEFT JOIN word client ON client.id = record.client LEFT JOIN word algorithms ON algorithms.id = record.algorithms
    WHERE record.id = ?";

impl Reader {
    /// The newest records, or those that follow a place; [`PAGE_RECORDS_MAX`] at most.
    pub fn newest(&self, filter: &Filter, before: Option<Key>, records_max: usize) -> anyhow::Result<Page> {
        let scope = self.scope(filter)?;
        let records_max = records_max.clamp(1, PAGE_RECORDS_MAX);
        if scope.folder.is_some() {
            return self.searched(&scope, None, before, records_max);
        }
        let mut keys = Vec::new();
        let drivers = match (scope.account, &scope.kinds) {
            (None, None) => vec![("record_time", Condition::default())],
            (account, kinds) => by_kind(account, kinds.clone().unwrap_or_else(|| Kind::all().collect())),
        };
        for (index, condition) in drivers {
            let condition = condition.with(times(&scope, before));
            keys.extend(self.keys(index, &condition, records_max + 1)?);
            // Only what may still come on this page is worth a look in the other kinds' indexes.
            newest_first(&mut keys, records_max + 1);
        }
        self.page(keys, records_max, None)
    }

    /// Records whose path or name is looked for, the newest first; [`PAGE_RECORDS_MAX`] at most.
    pub fn find(
        &self,
        filter: &Filter,
        search: &Search,
        before: Option<Key>,
        records_max: usize,
    ) -> anyhow::Result<Page> {
        let scope = self.scope(filter)?;
        self.searched(&scope, Some(search), before, records_max.clamp(1, PAGE_RECORDS_MAX))
    }

    /// Records that have arrived after this one, in the order of arrival, so many at most: what a page shows while it is looked at.
    pub fn arrived_after(&self, filter: &Filter, id: i64, records_max: usize) -> anyhow::Result<Vec<Record>> {
        let scope = self.scope(filter)?;
        let folder = scope.folder.as_deref().map(path_range).unwrap_or_default();
        let condition = scope.who_and_what().with(times(&scope, None)).with(folder);
        // No other index: what has just arrived is at the end of the table.
        let sql = format!(
            "SELECT id FROM record NOT INDEXED WHERE id > ? {} ORDER BY id LIMIT {}",
            condition.sql,
            records_max.clamp(1, PAGE_RECORDS_MAX)
        );
        let values = std::iter::once(Value::Integer(id)).chain(condition.values);
        let mut query = self.db.prepare_cached(&sql)?;
        let ids: Vec<i64> =
            query.query_map(params_from_iter(values), |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        ids.into_iter().filter_map(|id| self.record(id).transpose()).collect()
    }

    /// The number of the record that has arrived last; 0 where there is none.
    pub fn last_arrived(&self) -> anyhow::Result<i64> {
        let mut query = self.db.prepare_cached("SELECT ifnull(max(id), 0) FROM record")?;
        Ok(query.query_row([], |row| row.get(0))?)
    }

    /// One record; none where it is gone.
    pub fn record(&self, id: i64) -> anyhow::Result<Option<Record>> {
        use rusqlite::OptionalExtension;
        Ok(self.db.prepare_cached(RECORD)?.query_row([id], record_of).optional()?)
    }

    fn searched(
        &self,
        scope: &Scope,
        search: Option<&Search>,
        before: Option<Key>,
        records_max: usize,
    ) -> anyhow::Result<Page> {
        let folder = scope.folder.as_deref().map(path_range).unwrap_or_default();
        let looked_for = search.map(Search::condition).unwrap_or_default();
        let needle = folder.clone().with(looked_for);
        let indexes = search.and_then(Search::indexes);
        let is_indexed = indexes.is_some();
        let ranges = match indexes {
            Some(indexes) => indexes,
            None if scope.folder.as_ref().is_some_and(|name| !name.is_empty()) => vec![("record_path", folder.clone())],
            None => Vec::new(),
        };
        if !ranges.is_empty() && self.are_few(&ranges)? {
            let mut keys = Vec::new();
            for (index, range) in ranges {
                let condition = if is_indexed { folder.clone().with(range) } else { needle.clone() };
                let condition = condition.with(scope.who_and_what()).with(times(scope, before));
                keys.extend(self.keys(index, &condition, records_max + 1)?);
            }
            // A rename from one name that is meant to another is found twice.
            newest_first(&mut keys, usize::MAX);
            keys.dedup();
            return self.page(keys, records_max, None);
        }
        self.searched_by_time(scope, &needle, before, records_max)
    }

    /// Goes back in time until the page is full, or enough was looked at.
    fn searched_by_time(
        &self,
        scope: &Scope,
        needle: &Condition,
        before: Option<Key>,
        records_max: usize,
    ) -> anyhow::Result<Page> {
        let end_hour = match before {
            None => scope.end_hour,
            // Nothing of the moment itself is meant where no number is below: then its hour may be done.
            Some(Key { time_ms, id }) => (self.calendar.hour(time_ms - i64::from(id == 0)) + 1).min(scope.end_hour),
        };
        let Some((first_hour, is_last)) = self.slice(scope, end_hour)? else { return Ok(Page::default()) };
        let start_ms = if is_last { scope.from_ms } else { self.calendar.hour_start_ms(first_hour).max(scope.from_ms) };
        let slice = Scope { from_ms: start_ms, ..scope.clone() };
        let index = match (scope.account, &scope.kinds) {
            (None, None) => "record_time",
            (None, Some(_)) => "record_kind",
            (Some(_), _) => "record_account",
        };
        // The account's index has kinds before times.
        let kinds = match (scope.account, &scope.kinds) {
            (Some(_), None) => {
                Condition::default().and(&format!("kind IN ({})", numbers(&Kind::all().collect::<Vec<_>>())), [])
            }
            _ => Condition::default(),
        };
        let condition = needle.clone().with(scope.who_and_what()).with(kinds).with(times(&slice, before));
        let keys = self.keys(index, &condition, records_max + 1)?;
        let rest = (!is_last).then_some(Key { time_ms: start_ms, id: 0 });
        self.page(keys, records_max, rest)
    }

    /// The hour at which enough is looked at when one goes back from another, and whether there is nothing before it.
    fn slice(&self, scope: &Scope, end_hour: i64) -> anyhow::Result<Option<(i64, bool)>> {
        let table = if scope.account.is_some() { "account_hour" } else { "hour" };
        let condition = scope.who_and_what();
        let sql = format!(
            "SELECT hour, sum(records) FROM {table} WHERE hour < ? AND hour >= ? {} GROUP BY hour ORDER BY hour DESC",
            condition.sql
        );
        let bounds = [Value::Integer(end_hour), Value::Integer(scope.first_hour)];
        let mut query = self.db.prepare_cached(&sql)?;
        let mut rows = query.query(params_from_iter(bounds.into_iter().chain(condition.values)))?;
        let (mut records, mut first_hour) = (0, None);
        while let Some(row) = rows.next()? {
            if records >= LOOKED_AT_MAX {
                return Ok(first_hour.map(|hour| (hour, false)));
            }
            records += row.get::<_, i64>(1)?;
            first_hour = Some(row.get(0)?);
        }
        Ok(first_hour.map(|hour| (hour, true)))
    }

    fn are_few(&self, ranges: &[(&str, Condition)]) -> anyhow::Result<bool> {
        for (index, range) in ranges {
            if self.count(index, range)? > RANGE_MAX {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// How many entries of an index a condition has; one more than [`RANGE_MAX`] where they are too many.
    fn count(&self, index: &str, condition: &Condition) -> anyhow::Result<i64> {
        let sql = format!(
            "SELECT count(*) FROM (SELECT 1 FROM record INDEXED BY {index} WHERE 1 {} LIMIT {})",
            condition.sql,
            RANGE_MAX + 1
        );
        let mut query = self.db.prepare_cached(&sql)?;
        Ok(query.query_row(params_from_iter(&condition.values), |row| row.get(0))?)
    }

    fn keys(&self, index: &str, condition: &Condition, keys_max: usize) -> anyhow::Result<Vec<Key>> {
        let sql = format!(
            "SELECT time_ms, id FROM record INDEXED BY {index} WHERE 1 {} ORDER BY time_ms DESC, id DESC LIMIT {keys_max}",
            condition.sql
        );
        let mut query = self.db.prepare_cached(&sql)?;
        let rows = query
            .query_map(params_from_iter(&condition.values), |row| Ok(Key { time_ms: row.get(0)?, id: row.get(1)? }))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// The page that keys make, of which there is one more than it may have where it is not the last; `rest` is where to go on where
    /// these are all.
    fn page(&self, mut keys: Vec<Key>, records_max: usize, rest: Option<Key>) -> anyhow::Result<Page> {
        newest_first(&mut keys, records_max + 1);
        let has_more = keys.len() > records_max;
        keys.truncate(records_max);
        let next = if has_more { keys.last().copied() } else { rest };
        let records = keys.into_iter().filter_map(|key| self.record(key.id).transpose());
        Ok(Page { records: records.collect::<anyhow::Result<_>>()?, next })
    }
}

/// One index each in which the newest of a kind stand in order.
fn by_kind(account: Option<i64>, kinds: Vec<Kind>) -> Vec<(&'static str, Condition)> {
    let condition = |kind: Kind| {
        let condition = Condition::default();
        match account {
            Some(account) => {
                let values = [Value::Integer(account), Value::Integer(kind.0.into())];
                ("record_account", condition.and("account = ? AND kind = ?", values))
            }
            None => ("record_kind", condition.and("kind = ?", [Value::Integer(kind.0.into())])),
        }
    };
    kinds.into_iter().map(condition).collect()
}

fn newest_first(keys: &mut Vec<Key>, keys_max: usize) {
    keys.sort_unstable_by_key(|key| std::cmp::Reverse((key.time_ms, key.id)));
    keys.truncate(keys_max);
}

/// When.
pub(super) fn times(scope: &Scope, before: Option<Key>) -> Condition {
    let within = [Value::Integer(scope.from_ms), Value::Integer(scope.until_ms)];
    let condition = Condition::default().and("time_ms >= ? AND time_ms < ?", within);
    match before {
        None => condition,
        Some(Key { time_ms, id }) => {
            let place = [Value::Integer(time_ms), Value::Integer(time_ms), Value::Integer(id)];
            condition.and("time_ms <= ? AND (time_ms < ? OR id < ?)", place)
        }
    }
}

/// What lies below a folder; for the one above all whatever has a path.
pub(super) fn path_range(folder: &str) -> Condition {
    let (sql, values) = range(folder);
    Condition::default().and(sql, values.into_iter().map(Value::Text))
}

fn record_of(row: &Row) -> rusqlite::Result<Record> {
    let kind = Kind(row.get(2)?);
    Ok(Record {
        id: row.get(0)?,
        time_ms: row.get(1)?,
        operation: kind.operation(),
        outcome: kind.outcome(),
        sender: row.get(3)?,
        account: row.get(4)?,
        address: row.get(5)?,
        port: row.get(6)?,
        connection: row.get(7)?,
        protocol: row.get(8)?,
        path: row.get(9)?,
        path_escaped: row.get(10)?,
        target: row.get(11)?,
        moved_bytes: row.get(12)?,
        file_bytes: row.get(13)?,
        elapsed_ms: row.get(14)?,
        error: row.get(15)?,
        method: row.get(16)?,
        client: row.get(17)?,
        algorithms: row.get(18)?,
        key_fingerprint: row.get(19)?,
        certificate: row.get(20)?,
        log_folder: row.get(21)?,
        is_ours: row.get(22)?,
    })
}
