//! Figures for charts: by account, by day, by hour of the week, and who is slow. They come from the tables of figures alone.

use std::collections::{BTreeMap, HashMap};

use anyhow::Context;
use jiff::civil::Date;
use rusqlite::params_from_iter;
use serde::Serialize;

use super::scope::{Condition, Scope, shown_day};
use super::{Filter, Reader};
use crate::record::{Kind, Operation};

/// What all of it comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Uploads that did not fail.
    pub uploads: u64,
    /// Their bytes, and those of failed ones as far as they came.
    pub uploaded_bytes: u64,
    /// Downloads that did not fail.
    pub downloads: u64,
    /// Their bytes, and those of failed ones as far as they came.
    pub downloaded_bytes: u64,
    /// Transfers that failed.
    pub failed_transfers: u64,
    /// Changes of names, folders and attributes that were done.
    pub changes: u64,
    /// Changes that were refused.
    pub refused_changes: u64,
    /// Logins.
    pub logins: u64,
    /// Logins that failed.
    pub failed_logins: u64,
    /// Everything, with what is in none of the above.
    pub records: u64,
}

impl Totals {
    /// Bytes of a transfer on the average, of those that did not fail or came to something; 0 where there was none.
    pub fn average_bytes(&self) -> u64 {
        (self.uploaded_bytes + self.downloaded_bytes) / (self.uploads + self.downloads + self.failed_transfers).max(1)
    }

    /// Both together.
    pub fn and(self, other: &Totals) -> Totals {
        Totals {
            uploads: self.uploads + other.uploads,
            uploaded_bytes: self.uploaded_bytes + other.uploaded_bytes,
            downloads: self.downloads + other.downloads,
            downloaded_bytes: self.downloaded_bytes + other.downloaded_bytes,
            failed_transfers: self.failed_transfers + other.failed_transfers,
            changes: self.changes + other.changes,
            refused_changes: self.refused_changes + other.refused_changes,
            logins: self.logins + other.logins,
            failed_logins: self.failed_logins + other.failed_logins,
            records: self.records + other.records,
        }
    }

    fn add(&mut self, sum: Sum) {
        let (operation, is_failure) = (sum.kind.operation(), sum.kind.outcome().is_failure());
        self.records += sum.records;
        match operation {
            Operation::Upload => self.uploaded_bytes += sum.bytes,
            Operation::Download => self.downloaded_bytes += sum.bytes,
            _ => {}
        }
        let counter = match operation {
            _ if operation.is_transfer() && is_failure => &mut self.failed_transfers,
            Operation::Upload => &mut self.uploads,
            Operation::Download => &mut self.downloads,
            Operation::Login => &mut self.logins,
            Operation::ConnectionFailed => &mut self.failed_logins,
            _ if operation.is_change() && is_failure => &mut self.refused_changes,
            _ if operation.is_change() => &mut self.changes,
            _ => return,
        };
        *counter += sum.records;
    }
}

/// What an account's records come to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AccountFigures {
    /// The account.
    pub account: String,
    /// What they come to.
    #[serde(flatten)]
    pub totals: Totals,
    /// Bytes of a transfer on the average.
    pub average_bytes: u64,
}

/// What a day's records come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct DayFigures {
    /// The day.
    pub date: Date,
    /// What they come to.
    #[serde(flatten)]
    pub totals: Totals,
}

/// What the transfers in one hour of the week come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HourFigures {
    /// Uploads, also failed ones.
    pub uploads: u64,
    /// Their bytes.
    pub uploaded_bytes: u64,
    /// Downloads, also failed ones.
    pub downloads: u64,
    /// Their bytes.
    pub downloaded_bytes: u64,
}

/// How fast an account's transfers were.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Speed {
    /// The account.
    pub account: String,
    /// Transfers of 256 KiB and more: smaller ones say more about round trips.
    pub transfers: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How long they took, all together.
    pub elapsed_ms: u64,
    /// Bytes in a second.
    pub bytes_per_s: u64,
}

/// Records of one kind.
#[derive(Clone, Copy, Debug)]
struct Sum {
    /// A day, an hour, an account; the kind itself where none of them is asked for.
    key: i64,
    kind: Kind,
    records: u64,
    bytes: u64,
}

impl Reader {
    /// What all of it comes to.
    pub fn totals(&self, filter: &Filter) -> anyhow::Result<Totals> {
        let scope = self.scope(filter)?;
        let mut totals = Totals::default();
        self.sums(&scope, "kind")?.into_iter().for_each(|sum| totals.add(sum));
        Ok(totals)
    }

    /// What each account's records come to: most bytes first, so many accounts at most. Who only failed to log in is no account.
    pub fn by_account(&self, filter: &Filter, accounts_max: usize) -> anyhow::Result<Vec<AccountFigures>> {
        let scope = self.scope(filter)?;
        let mut by_account: HashMap<i64, Totals> = HashMap::new();
        for sum in self.sums(&scope, "account")? {
            by_account.entry(sum.key).or_default().add(sum);
        }
        by_account.retain(|_, totals| totals.records > totals.failed_logins);
        let mut sorted: Vec<_> = by_account.into_iter().collect();
        sorted.sort_by_key(|(account, totals)| {
            let bytes = totals.uploaded_bytes + totals.downloaded_bytes;
            (std::cmp::Reverse((bytes, totals.records)), *account)
        });
        sorted.truncate(accounts_max);
        let named = |(account, totals): (i64, Totals)| {
            Ok(AccountFigures { account: self.account_name(account)?, totals, average_bytes: totals.average_bytes() })
        };
        sorted.into_iter().map(named).collect()
    }

    /// What each day's records come to, in order; days without any are left out.
    pub fn by_day(&self, filter: &Filter) -> anyhow::Result<Vec<DayFigures>> {
        let scope = self.scope(filter)?;
        let mut by_day: BTreeMap<i32, Totals> = BTreeMap::new();
        let mut calendar = self.calendar.clone();
        let is_by_hour = scope.folder.is_some();
        for sum in self.sums(&scope, if is_by_hour { "hour" } else { "day" })? {
            let day = if is_by_hour { calendar.day(calendar.hour_start_ms(sum.key)) } else { sum.key as i32 };
            by_day.entry(day).or_default().add(sum);
        }
        Ok(by_day.into_iter().map(|(day, totals)| DayFigures { date: shown_day(day), totals }).collect())
    }

    /// Transfers by weekday (Monday first) and hour of the day.
    pub fn hours_of_week(&self, filter: &Filter) -> anyhow::Result<[[HourFigures; 24]; 7]> {
        let scope = self.scope(filter)?;
        let transfers: Vec<Kind> = Kind::all().filter(|kind| kind.operation().is_transfer()).collect();
        let is_meant = |kind: &Kind| scope.kinds.as_ref().is_none_or(|kinds| kinds.contains(kind));
        let kinds = Some(transfers.into_iter().filter(is_meant).collect());
        let scope = Scope { kinds, ..scope };
        let mut week = [[HourFigures::default(); 24]; 7];
        for sum in self.sums_by_hour(&scope)? {
            let (weekday, hour) = self.calendar.weekday_and_hour(sum.key);
            let Some(figures) = week.get_mut(weekday).and_then(|day| day.get_mut(hour)) else { continue };
            let (count, bytes) = match sum.kind.operation() {
                Operation::Upload => (&mut figures.uploads, &mut figures.uploaded_bytes),
                _ => (&mut figures.downloads, &mut figures.downloaded_bytes),
            };
            *count += sum.records;
            *bytes += sum.bytes;
        }
        Ok(week)
    }

    /// Accounts by how fast their transfers were, the slowest first, so many at most.
    pub fn slowest(&self, filter: &Filter, accounts_max: usize) -> anyhow::Result<Vec<Speed>> {
        let scope = self.scope(filter)?;
        let (table, condition) = source(&scope);
        let sql = format!(
            "SELECT account, total(timed), total(timed_bytes), total(timed_ms) FROM {table} WHERE 1 {} GROUP BY account
             HAVING total(timed_ms) > 0 ORDER BY total(timed_bytes) / total(timed_ms), account LIMIT {accounts_max}",
            condition.sql
        );
        let mut query = self.db.prepare_cached(&sql)?;
        let rows = query.query_map(params_from_iter(condition.values), |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, f64>(1)?, row.get::<_, f64>(2)?, row.get::<_, f64>(3)?))
        })?;
        let mut speeds = Vec::new();
        for row in rows {
            let (account, transfers, bytes, elapsed_ms) = row?;
            speeds.push(Speed {
                account: self.account_name(account)?,
                transfers: transfers as u64,
                bytes: bytes as u64,
                elapsed_ms: elapsed_ms as u64,
                bytes_per_s: (bytes * 1000.0 / elapsed_ms) as u64,
            });
        }
        Ok(speeds)
    }

    /// The names of accounts that have done something, in order, so many at most.
    pub fn accounts(&self, accounts_max: usize) -> anyhow::Result<Vec<String>> {
        let mut found = self.by_account(&Filter::default(), accounts_max)?;
        found.retain(|figures| !figures.account.is_empty());
        let mut names: Vec<String> = found.into_iter().map(|figures| figures.account).collect();
        names.sort();
        Ok(names)
    }

    pub(super) fn account_name(&self, account: i64) -> anyhow::Result<String> {
        let mut find = self.db.prepare_cached("SELECT name FROM account WHERE id = ?")?;
        find.query_row([account], |row| row.get(0)).context("console.db names no account where it should")
    }

    fn sums(&self, scope: &Scope, key: &str) -> anyhow::Result<Vec<Sum>> {
        let (table, condition) = source(scope);
        self.grouped(table, key, condition)
    }

    fn sums_by_hour(&self, scope: &Scope) -> anyhow::Result<Vec<Sum>> {
        let table = match (&scope.folder, scope.account) {
            (Some(_), _) => return self.sums(scope, "hour"),
            (None, Some(_)) => "account_hour",
            (None, None) => "hour",
        };
        self.grouped(table, "hour", scope.who_and_what().with(scope.hours()))
    }

    fn grouped(&self, table: &str, key: &str, condition: Condition) -> anyhow::Result<Vec<Sum>> {
        let sql = format!(
            "SELECT {key}, kind, total(records), total(bytes) FROM {table} WHERE 1 {} GROUP BY {key}, kind",
            condition.sql
        );
        let mut query = self.db.prepare_cached(&sql)?;
        let rows = query.query_map(params_from_iter(condition.values), |row| {
            let (records, bytes): (f64, f64) = (row.get(2)?, row.get(3)?);
            Ok(Sum { key: row.get(0)?, kind: Kind(row.get(1)?), records: records as u64, bytes: bytes as u64 })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}

/// The smallest table that knows of all a scope speaks of.
fn source(scope: &Scope) -> (&'static str, Condition) {
    match scope.folder {
        Some(_) => ("folder_hour", scope.who_and_what().with(scope.below()).with(scope.hours())),
        None => ("day", scope.who_and_what().with(scope.days())),
    }
}
