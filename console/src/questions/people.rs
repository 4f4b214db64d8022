//! What failed and why, with which programs people come, and who fails to log in.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rusqlite::params_from_iter;
use rusqlite::types::Value;
use serde::Serialize;

use super::pages::{path_range, times};
use super::scope::{Condition, Scope};
use super::{Filter, Reader};
use crate::cause::cause_of;
use crate::record::{Kind, Operation, Outcome};
use crate::store::folders::is_counted;

/// Names of accounts that stand with an answer at most.
const NAMES_MAX: usize = 20;

/// Failures that are looked at one by one, where a folder is asked about that is not counted.
const FAILURES_MAX: usize = 50_000;

/// Something that fails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// Why, without names and numbers; empty where nothing was said.
    pub cause: String,
    /// What failed.
    pub operation: Operation,
    /// How.
    pub outcome: Outcome,
    /// How often.
    pub records: u64,
    /// To how many accounts; nobody counts as one.
    pub accounts: u64,
    /// When last, in milliseconds since 1970.
    pub last_ms: i64,
}

/// A program with which people come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClientUse {
    /// What it calls itself.
    pub client: String,
    /// Ciphers and other algorithms, as far as the log has them.
    pub algorithms: String,
    /// Logins.
    pub logins: u64,
    /// How many accounts use it.
    pub accounts: u64,
    /// Their names, some of them.
    pub names: Vec<String>,
    /// When last, in milliseconds since 1970.
    pub last_ms: i64,
}

/// Somebody who fails to log in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FailedLogin {
    /// The name that was tried; empty where none was.
    pub account: String,
    /// From where.
    pub address: String,
    /// How often.
    pub records: u64,
    /// When last, in milliseconds since 1970.
    pub last_ms: i64,
}

impl Reader {
    /// Failures by their cause, the most frequent first, so many at most.
    pub fn failures(&self, filter: &Filter, causes_max: usize) -> anyhow::Result<Vec<Failure>> {
        let scope = self.scope(filter)?;
        let (table, own) = match &scope.folder {
            None => ("failure_day", Condition::default()),
            Some(folder) if is_counted(&self.db, folder)? => {
                let own = Condition::default().and("folder = ?", [Value::Text(folder.clone())]);
                ("folder_failure_day", own)
            }
            Some(folder) => return self.failures_in_folder(&scope, folder, causes_max),
        };
        let condition = own.with(scope.who_and_what()).with(scope.days());
        let sql = format!(
            "SELECT ifnull(word.text, ''), kind, sum(records), count(DISTINCT account), max(last_ms)
             FROM {table} LEFT JOIN word ON word.id = cause WHERE 1 {}
             GROUP BY cause, kind ORDER BY 3 DESC, 5 DESC LIMIT {causes_max}",
            condition.sql
        );
        let mut query = self.db.prepare_cached(&sql)?;
        let rows = query.query_map(params_from_iter(condition.values), |row| {
            let kind = Kind(row.get(1)?);
            Ok(Failure {
                cause: row.get(0)?,
                operation: kind.operation(),
                outcome: kind.outcome(),
                records: row.get(2)?,
                accounts: row.get(3)?,
                last_ms: row.get(4)?,
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Those of a folder that is not counted, one by one: they are few.
    fn failures_in_folder(&self, scope: &Scope, folder: &str, causes_max: usize) -> anyhow::Result<Vec<Failure>> {
        let kinds = scope.kinds.clone().unwrap_or_else(|| Kind::all().collect());
        let kinds: Vec<Kind> = kinds.into_iter().filter(|kind| kind.outcome().is_failure()).collect();
        let failed = Scope { kinds: Some(kinds), ..scope.clone() };
        let condition = path_range(folder).with(failed.who_and_what()).with(times(scope, None));
        let sql = format!(
            "SELECT kind, account, error, time_ms FROM record INDEXED BY record_path WHERE 1 {} LIMIT {FAILURES_MAX}",
            condition.sql
        );
        let mut found: HashMap<(String, u16), (u64, BTreeSet<i64>, i64)> = HashMap::new();
        let mut query = self.db.prepare_cached(&sql)?;
        let mut rows = query.query(params_from_iter(condition.values))?;
        while let Some(row) = rows.next()? {
            let error: Option<String> = row.get(2)?;
            let entry = found.entry((cause_of(&error.unwrap_or_default()), row.get(0)?)).or_default();
            entry.0 += 1;
            entry.1.insert(row.get(1)?);
            entry.2 = entry.2.max(row.get(3)?);
        }
        let failure = |((cause, kind), (records, accounts, last_ms)): ((String, u16), (u64, BTreeSet<i64>, i64))| {
            let (operation, outcome) = (Kind(kind).operation(), Kind(kind).outcome());
            Failure { cause, operation, outcome, records, accounts: accounts.len() as u64, last_ms }
        };
        let mut failures: Vec<Failure> = found.into_iter().map(failure).collect();
        failures.sort_by_key(|failure| std::cmp::Reverse((failure.records, failure.last_ms)));
        failures.truncate(causes_max);
        Ok(failures)
    }

    /// Programs with which people log in, and their algorithms, the most used first, so many at most. Only dates and account count.
    pub fn clients(&self, filter: &Filter, clients_max: usize) -> anyhow::Result<Vec<ClientUse>> {
        let scope = self.scope(&Filter { what: None, came: None, ..filter.clone() })?;
        let condition = scope.who_and_what().with(scope.days());
        let sql = format!(
            "SELECT client, algorithms, account, sum(records), max(last_ms) FROM client_day WHERE 1 {}
             GROUP BY client, algorithms, account",
            condition.sql
        );
        let mut found: BTreeMap<(i64, i64), (u64, i64, Vec<i64>)> = BTreeMap::new();
        let mut query = self.db.prepare_cached(&sql)?;
        let mut rows = query.query(params_from_iter(condition.values))?;
        while let Some(row) = rows.next()? {
            let entry = found.entry((row.get(0)?, row.get(1)?)).or_default();
            entry.0 += row.get::<_, u64>(3)?;
            entry.1 = entry.1.max(row.get(4)?);
            entry.2.push(row.get(2)?);
        }
        let mut sorted: Vec<_> = found.into_iter().collect();
        sorted.sort_by_key(|(_, (logins, last_ms, _))| std::cmp::Reverse((*logins, *last_ms)));
        sorted.truncate(clients_max);
        let mut uses = Vec::new();
        for ((client, algorithms), (logins, last_ms, accounts)) in sorted {
            let names = accounts.iter().take(NAMES_MAX).map(|account| self.account_name(*account));
            let mut names = names.collect::<anyhow::Result<Vec<_>>>()?;
            names.sort();
            let (client, algorithms) = (self.word(client)?, self.word(algorithms)?);
            uses.push(ClientUse { client, algorithms, logins, accounts: accounts.len() as u64, names, last_ms });
        }
        Ok(uses)
    }

    /// Who fails to log in, and from where, the most frequent first, so many at most. Only dates and account count.
    pub fn failed_logins(&self, filter: &Filter, logins_max: usize) -> anyhow::Result<Vec<FailedLogin>> {
        let scope = self.scope(&Filter { what: None, came: None, ..filter.clone() })?;
        let condition = scope.who_and_what().with(scope.days());
        let sql = format!(
            "SELECT account, address, sum(records), max(last_ms) FROM failed_login_day WHERE 1 {}
             GROUP BY account, address ORDER BY 3 DESC, 4 DESC LIMIT {logins_max}",
            condition.sql
        );
        let mut query = self.db.prepare_cached(&sql)?;
        let rows = query.query_map(params_from_iter(condition.values), |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, u64>(2)?, row.get::<_, i64>(3)?))
        })?;
        let mut found = Vec::new();
        for row in rows {
            let (account, address, records, last_ms) = row?;
            found.push(FailedLogin { account: self.account_name(account)?, address, records, last_ms });
        }
        Ok(found)
    }

    fn word(&self, number: i64) -> anyhow::Result<String> {
        use rusqlite::OptionalExtension;
        let mut find = self.db.prepare_cached("SELECT text FROM word WHERE id = ?")?;
        Ok(find.query_row([number], |row| row.get(0)).optional()?.unwrap_or_default())
    }
}
