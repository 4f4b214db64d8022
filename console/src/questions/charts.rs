//! Figures for charts: by account, by day, by hour of the week, and who is slow, all in one pass. They come from the tables of figures;
//! those of a folder that is too small to be counted from its records.

use std::collections::{BTreeMap, HashMap};

use anyhow::Context;
use jiff::civil::Date;
use rusqlite::types::Value;
use rusqlite::{Row, params_from_iter};
use serde::Serialize;

use super::pages::{path_range, times};
use super::scope::{Condition, Scope, numbers, shown_day};
use super::{Filter, Reader};
use crate::calendar::date_of;
use crate::record::{Kind, Operation, Outcome};
use crate::store::Sum;
use crate::store::folders::{hours_of, is_counted};

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

    fn add(&mut self, (operation, is_failure): (Operation, bool), sum: Sum) {
        let (records, bytes) = (sum.records.unsigned_abs(), sum.bytes.unsigned_abs());
        self.records += records;
        match operation {
            Operation::Upload => self.uploaded_bytes += bytes,
            Operation::Download => self.downloaded_bytes += bytes,
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
        *counter += records;
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

/// The charts' figures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// What all of it comes to.
    pub totals: Totals,
    /// The same by account, most bytes first. Who only failed to log in is no account.
    pub accounts: Vec<AccountFigures>,
    /// And by day, in order; days without any are left out.
    pub days: Vec<DayFigures>,
    /// Transfers by weekday (Monday first) and hour of the day.
    pub week: [[HourFigures; 24]; 7],
    /// Accounts by how fast their transfers were, the slowest first.
    pub slowest: Vec<Speed>,
}

/// What has been added up of them.
#[derive(Default)]
struct Pass {
    days: BTreeMap<i32, Totals>,
    accounts: HashMap<i64, (Totals, Sum)>,
    week: [[HourFigures; 24]; 7],
    /// Operations and failures of the kinds that were met: finding them costs more than adding up.
    kinds: HashMap<u16, (Operation, bool)>,
}

impl Pass {
    fn add(&mut self, day: i32, account: i64, kind: Kind, sum: Sum) {
        let known = || (kind.operation(), kind.outcome().is_failure());
        let meaning = *self.kinds.entry(kind.0).or_insert_with(known);
        self.days.entry(day).or_default().add(meaning, sum);
        let (totals, timed) = self.accounts.entry(account).or_default();
        totals.add(meaning, sum);
        timed.add(sum);
    }

    fn add_hour(&mut self, (weekday, hour): (usize, usize), kind: Kind, records: i64, bytes: i64) {
        let Some(figures) = self.week.get_mut(weekday).and_then(|day| day.get_mut(hour)) else { return };
        let (count, all) = match kind.operation() {
            Operation::Upload => (&mut figures.uploads, &mut figures.uploaded_bytes),
            Operation::Download => (&mut figures.downloads, &mut figures.downloaded_bytes),
            _ => return,
        };
        *count += records.unsigned_abs();
        *all += bytes.unsigned_abs();
    }
}

impl Reader {
    /// What was moved: so many accounts of each list at most.
    pub fn moved(&self, filter: &Filter, accounts_max: usize) -> anyhow::Result<Moved> {
        let scope = self.scope(filter)?;
        let mut pass = Pass::default();
        match scope.folder.as_deref() {
            None => {
                self.pass_days(&scope, &mut pass)?;
                self.pass_hours(&scope, &mut pass)?;
            }
            Some(folder) if is_counted(&self.db, folder)? => self.pass_folder(&scope, folder, &mut pass)?,
            Some(folder) => self.pass_records(&scope, folder, &mut pass)?,
        }
        let Pass { days, accounts, week, .. } = pass;
        let days: Vec<_> = days.into_iter().map(|(day, totals)| DayFigures { date: shown_day(day), totals }).collect();
        Ok(Moved {
            totals: days.iter().fold(Totals::default(), |totals, day| totals.and(&day.totals)),
            slowest: self.slowest(&accounts, accounts_max)?,
            accounts: self.largest(accounts, accounts_max)?,
            days,
            week,
        })
    }

    fn pass_days(&self, scope: &Scope, pass: &mut Pass) -> rusqlite::Result<()> {
        let condition = scope.who_and_what().with(scope.days());
        self.each("day, account, kind, records, bytes, timed, timed_bytes, timed_ms", "day", condition, |row| {
            pass.add(row.get(0)?, row.get(1)?, Kind(row.get(2)?), sum_of(row)?);
            Ok(())
        })
    }

    fn pass_hours(&self, scope: &Scope, pass: &mut Pass) -> rusqlite::Result<()> {
        let transfers: Vec<Kind> = Kind::all().filter(|kind| kind.operation().is_transfer()).collect();
        let table = if scope.account.is_some() { "account_hour" } else { "hour" };
        let only = Condition::default().and(&format!("kind IN ({})", numbers(&transfers)), []);
        let condition = only.with(scope.who_and_what()).with(scope.hours());
        self.each("hour, kind, records, bytes", table, condition, |row| {
            let place = self.calendar.weekday_and_hour(row.get(0)?);
            pass.add_hour(place, Kind(row.get(1)?), row.get(2)?, row.get(3)?);
            Ok(())
        })
    }

    fn pass_folder(&self, scope: &Scope, folder: &str, pass: &mut Pass) -> rusqlite::Result<()> {
        let own = Condition::default().and("folder = ?", [Value::Text(folder.to_owned())]);
        let condition = own.with(scope.who_and_what()).with(scope.days());
        let columns = "day, account, kind, records, bytes, timed, timed_bytes, timed_ms, hours";
        // Days come in order: what hours of the week theirs are is found once.
        let mut of_day: (i32, Vec<(usize, usize)>) = (i32::MIN, Vec::new());
        self.each(columns, "folder_day", condition, |row| {
            let (day, kind) = (row.get(0)?, Kind(row.get(2)?));
            pass.add(day, row.get(1)?, kind, sum_of(row)?);
            if of_day.0 != day {
                let first = self.calendar.hour(self.calendar.start_ms(date_of(day)));
                // Where clocks are put back a day has 25 hours.
                of_day = (day, (0..26).map(|hour| self.calendar.weekday_and_hour(first + hour)).collect());
            }
            for (hour, records, bytes) in hours_of(row.get_ref(8)?.as_blob()?) {
                let place = of_day.1.get(usize::from(hour)).copied().unwrap_or_default();
                pass.add_hour(place, kind, records, bytes);
            }
            Ok(())
        })
    }

    fn pass_records(&self, scope: &Scope, folder: &str, pass: &mut Pass) -> rusqlite::Result<()> {
        let condition = path_range(folder).with(scope.who_and_what()).with(times(scope, None));
        let mut calendar = self.calendar.clone();
        let columns = "time_ms, account, kind, moved_bytes, elapsed_ms";
        self.each(columns, "record INDEXED BY record_path", condition, |row| {
            let (time_ms, kind) = (row.get(0)?, Kind(row.get(2)?));
            let (bytes, elapsed_ms): (Option<i64>, Option<i64>) = (row.get(3)?, row.get(4)?);
            let sum = Sum::of(kind, bytes.unwrap_or(0), elapsed_ms.unwrap_or(0));
            pass.add(calendar.day(time_ms), row.get(1)?, kind, sum);
            pass.add_hour(calendar.weekday_and_hour(calendar.hour(time_ms)), kind, sum.records, sum.bytes);
            Ok(())
        })
    }

    fn each(
        &self,
        columns: &str,
        table: &str,
        condition: Condition,
        mut take: impl FnMut(&Row) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<()> {
        let sql = format!("SELECT {columns} FROM {table} WHERE 1 {}", condition.sql);
        let mut query = self.db.prepare_cached(&sql)?;
        let mut rows = query.query(params_from_iter(condition.values))?;
        while let Some(row) = rows.next()? {
            take(row)?;
        }
        Ok(())
    }

    fn largest(
        &self,
        mut accounts: HashMap<i64, (Totals, Sum)>,
        accounts_max: usize,
    ) -> anyhow::Result<Vec<AccountFigures>> {
        accounts.retain(|_, (totals, _)| totals.records > totals.failed_logins);
        let mut sorted: Vec<(i64, Totals)> = accounts.into_iter().map(|(id, (totals, _))| (id, totals)).collect();
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

    fn slowest(&self, accounts: &HashMap<i64, (Totals, Sum)>, accounts_max: usize) -> anyhow::Result<Vec<Speed>> {
        let per_s = |sum: &Sum| (sum.timed_bytes as f64 * 1000.0 / sum.timed_ms as f64) as u64;
        let timed = accounts.iter().filter(|(_, (_, sum))| sum.timed_ms > 0);
        let mut timed: Vec<(i64, Sum)> = timed.map(|(account, (_, sum))| (*account, *sum)).collect();
        timed.sort_by_key(|(account, sum)| (per_s(sum), *account));
        timed.truncate(accounts_max);
        let named = |(account, sum): (i64, Sum)| {
            Ok(Speed {
                account: self.account_name(account)?,
                transfers: sum.timed.unsigned_abs(),
                bytes: sum.timed_bytes.unsigned_abs(),
                elapsed_ms: sum.timed_ms.unsigned_abs(),
                bytes_per_s: per_s(&sum),
            })
        };
        timed.into_iter().map(named).collect()
    }

    /// The names of accounts that have done something, in order: those that have moved most, so many at most.
    pub fn accounts(&self, accounts_max: usize) -> anyhow::Result<Vec<String>> {
        let failed: Vec<Kind> = Outcome::all().map(|outcome| Kind::new(Operation::ConnectionFailed, outcome)).collect();
        let sql = format!(
            "SELECT name FROM account JOIN (
                 SELECT account, sum(bytes) AS bytes FROM day WHERE day >= ? AND kind NOT IN ({}) GROUP BY account) moved
             ON moved.account = account.id WHERE name <> '' ORDER BY moved.bytes DESC, account.id LIMIT ?",
            numbers(&failed)
        );
        let first_day = self.scope(&Filter::default())?.first_day;
        let mut query = self.db.prepare_cached(&sql)?;
        let found = query.query_map(rusqlite::params![first_day, accounts_max as i64], |row| row.get(0))?;
        let mut names: Vec<String> = found.collect::<rusqlite::Result<_>>()?;
        names.sort();
        Ok(names)
    }

    pub(super) fn account_name(&self, account: i64) -> anyhow::Result<String> {
        let mut find = self.db.prepare_cached("SELECT name FROM account WHERE id = ?")?;
        find.query_row([account], |row| row.get(0)).context("console.db names no account where it should")
    }
}

/// The columns that all tables by day have, behind day, account and kind.
fn sum_of(row: &Row) -> rusqlite::Result<Sum> {
    let (records, bytes) = (row.get(3)?, row.get(4)?);
    let (timed, timed_bytes, timed_ms) = (row.get(5)?, row.get(6)?, row.get(7)?);
    Ok(Sum { records, bytes, elapsed_ms: 0, timed, timed_bytes, timed_ms })
}
