//! A filter as the store understands it: moments, hours, days, numbers of accounts and kinds. And the conditions that come of it.

use jiff::ToSpan;
use rusqlite::OptionalExtension;
use rusqlite::types::Value;

use super::{Filter, Reader};
use crate::calendar::{date_of, day_number};
use crate::record::Kind;

/// The number of an account that nobody has.
const NOBODY: i64 = -1;

/// The days that are asked about when nobody says which: more than there are, on both sides.
const DAY_MIN: i32 = -100_000;
const DAY_MAX: i32 = 2_000_000;

/// A filter as the store understands it.
#[derive(Clone, Debug)]
pub struct Scope {
    /// The first moment, in milliseconds since 1970.
    pub from_ms: i64,
    /// The first moment that is not meant any more.
    pub until_ms: i64,
    /// The first day.
    pub first_day: i32,
    /// The last day.
    pub last_day: i32,
    /// The first hour.
    pub first_hour: i64,
    /// The first hour that is not meant any more.
    pub end_hour: i64,
    /// The account.
    pub account: Option<i64>,
    /// Kinds of records.
    pub kinds: Option<Vec<Kind>>,
    /// The folder, without a `/` at its end; empty for the one above all.
    pub folder: Option<String>,
}

/// A condition, and what its question marks stand for.
#[derive(Clone, Debug, Default)]
pub struct Condition {
    /// As SQL, beginning with `AND` where it is any.
    pub sql: String,
    /// Values, in order.
    pub values: Vec<Value>,
}

impl Condition {
    /// Adds one.
    pub fn and(mut self, sql: &str, values: impl IntoIterator<Item = Value>) -> Condition {
        self.sql.push_str(" AND ");
        self.sql.push_str(sql);
        self.values.extend(values);
        self
    }
}

impl Reader {
    /// A filter as the store understands it.
    pub(super) fn scope(&self, filter: &Filter) -> anyhow::Result<Scope> {
        let kept_from_ms = self.kept_from_ms()?;
        let mut first_day = filter.from.map_or(DAY_MIN, day_number);
        let mut from_ms = filter.from.map_or(i64::MIN, |date| self.calendar.start_ms(date));
        if kept_from_ms > from_ms {
            (from_ms, first_day) = (kept_from_ms, day_number(self.calendar.date(kept_from_ms)));
        }
        let next = filter.to.and_then(|date| date.checked_add(1.day()).ok());
        let until_ms = next.map_or(i64::MAX, |date| self.calendar.start_ms(date));
        let account = match &filter.account {
            None => None,
            Some(name) => {
                let mut find = self.db.prepare_cached("SELECT id FROM account WHERE name = ?")?;
                Some(find.query_row([name], |row| row.get(0)).optional()?.unwrap_or(NOBODY))
            }
        };
        Ok(Scope {
            from_ms,
            until_ms,
            first_day,
            last_day: filter.to.map_or(DAY_MAX, day_number),
            first_hour: if from_ms == i64::MIN { i64::MIN } else { self.calendar.hour(from_ms) },
            end_hour: if until_ms == i64::MAX { i64::MAX } else { self.calendar.hour(until_ms) },
            account,
            kinds: filter.kinds(),
            folder: filter.folder.as_ref().map(|folder| folder.trim_end_matches('/').to_owned()),
        })
    }

    fn kept_from_ms(&self) -> rusqlite::Result<i64> {
        let mut find = self.db.prepare_cached("SELECT value FROM setting WHERE key = 'kept_from_ms'")?;
        let text: Option<String> = find.query_row([], |row| row.get(0)).optional()?;
        Ok(text.and_then(|text| text.parse().ok()).unwrap_or(i64::MIN))
    }
}

impl Scope {
    /// Kinds and account, for tables of figures and of records alike.
    pub fn who_and_what(&self) -> Condition {
        let mut condition = self.what();
        if let Some(account) = self.account {
            condition = condition.and("account = ?", [Value::Integer(account)]);
        }
        condition
    }

    /// Kinds.
    pub fn what(&self) -> Condition {
        match &self.kinds {
            Some(kinds) => Condition::default().and(&format!("kind IN ({})", numbers(kinds)), []),
            None => Condition::default(),
        }
    }

    /// The days of a table by days.
    pub fn days(&self) -> Condition {
        let days = [Value::Integer(self.first_day.into()), Value::Integer(self.last_day.into())];
        Condition::default().and("day >= ? AND day <= ?", days)
    }

    /// The hours of a table by hours.
    pub fn hours(&self) -> Condition {
        let hours = [Value::Integer(self.first_hour), Value::Integer(self.end_hour)];
        Condition::default().and("hour >= ? AND hour < ?", hours)
    }
}

impl Condition {
    /// Both.
    pub fn with(mut self, other: Condition) -> Condition {
        self.sql.push_str(&other.sql);
        self.values.extend(other.values);
        self
    }
}

/// Kinds as a list in SQL. Of none it has one that nothing is: with an empty list SQLite finds no way to use the index that a question names.
pub fn numbers(kinds: &[Kind]) -> String {
    if kinds.is_empty() {
        return "-1".to_owned();
    }
    kinds.iter().map(|kind| kind.0.to_string()).collect::<Vec<_>>().join(",")
}

/// A day as it is shown.
pub fn shown_day(day: i32) -> jiff::civil::Date {
    date_of(day)
}
