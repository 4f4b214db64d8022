//! What is under each chart: a table, which is a CSV as well. Pure.
//!
//! Always holds: every chart has one, with the same numbers. Rows come as they are to be shown and as they are exactly.

use jiff::tz::TimeZone;
use web::figures;

use super::super::records::{cell, line, local_time, rfc3339, shown};
use super::answers::Answers;
use crate::questions::{HourFigures, Totals};

/// A table.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// Its columns.
    pub columns: Vec<Column>,
    /// Its rows.
    pub rows: Vec<Vec<Cell>>,
}

/// A column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// What it is headed with.
    pub name: &'static str,
    /// Whether it has numbers.
    pub is_number: bool,
}

/// A cell.
#[derive(Clone, Debug)]
pub struct Cell {
    /// As it is shown; not escaped.
    pub shown: String,
    /// As it stands in a CSV.
    pub exact: String,
    /// Whether it is a number.
    pub is_number: bool,
}

/// What each table is made with.
pub type Make = fn(&Answers, &TimeZone) -> Table;

const WEEKDAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

impl Table {
    fn new(names: &[&'static str], numbers_from: usize) -> Table {
        let column = |(at, name): (usize, &&'static str)| Column { name, is_number: at >= numbers_from };
        Table { columns: names.iter().enumerate().map(column).collect(), rows: Vec::new() }
    }

    fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// As a CSV.
    pub fn csv(&self) -> String {
        let head = line(self.columns.iter().map(|column| cell(column.name)));
        let rows = self.rows.iter().map(|row| line(row.iter().map(|cell| cell.exact.clone())));
        std::iter::once(head).chain(rows).collect()
    }
}

/// A text from a log.
fn text(text: &str) -> Cell {
    Cell { shown: shown(text), exact: cell(text), is_number: false }
}

fn account(name: &str) -> Cell {
    if name.is_empty() { Cell { shown: "(nobody)".into(), exact: String::new(), is_number: false } } else { text(name) }
}

fn count(number: u64) -> Cell {
    Cell { shown: figures::count(number), exact: number.to_string(), is_number: true }
}

fn bytes(number: u64) -> Cell {
    Cell { shown: figures::bytes(number), exact: number.to_string(), is_number: true }
}

fn moment(ms: i64, zone: &TimeZone) -> Cell {
    Cell { shown: local_time(ms, zone), exact: rfc3339(ms, zone), is_number: false }
}

fn transfers_of(totals: &Totals) -> u64 {
    totals.uploads + totals.downloads + totals.failed_transfers
}

/// Transfers by account, the most first.
pub fn transfers(answers: &Answers, _: &TimeZone) -> Table {
    let mut table = Table::new(&["Account", "Uploads", "Downloads", "Failed", "Transfers"], 1);
    let mut accounts: Vec<_> = answers.moved.accounts.iter().filter(|one| transfers_of(&one.totals) > 0).collect();
    accounts.sort_by_key(|one| std::cmp::Reverse(transfers_of(&one.totals)));
    for one in accounts {
        let all = &one.totals;
        let counts = [all.uploads, all.downloads, all.failed_transfers, transfers_of(all)].map(count);
        table.row(std::iter::once(account(&one.account)).chain(counts).collect());
    }
    table
}

/// Bytes by account, the most first.
pub fn bytes_of(answers: &Answers, _: &TimeZone) -> Table {
    let mut table = Table::new(&["Account", "Uploaded bytes", "Downloaded bytes", "Bytes"], 1);
    for one in answers.moved.accounts.iter().filter(|one| one.totals.uploaded_bytes + one.totals.downloaded_bytes > 0) {
        let (up, down) = (one.totals.uploaded_bytes, one.totals.downloaded_bytes);
        let sums = [up, down, up + down].map(bytes);
        table.row(std::iter::once(account(&one.account)).chain(sums).collect());
    }
    table
}

/// Bytes of a transfer on the average by account, the most first.
pub fn average(answers: &Answers, _: &TimeZone) -> Table {
    let mut table = Table::new(&["Account", "Average bytes", "Transfers"], 1);
    let mut accounts: Vec<_> = answers.moved.accounts.iter().filter(|one| transfers_of(&one.totals) > 0).collect();
    accounts.sort_by_key(|one| std::cmp::Reverse(one.average_bytes));
    for one in accounts {
        table.row(vec![account(&one.account), bytes(one.average_bytes), count(transfers_of(&one.totals))]);
    }
    table
}

/// Records by day.
pub fn days(answers: &Answers, _: &TimeZone) -> Table {
    let names = ["Day", "Uploads", "Downloads", "Failed transfers", "Logins", "Failed logins"];
    let mut table = Table::new(&names, 1);
    for day in &answers.moved.days {
        let all = &day.totals;
        let counts = [all.uploads, all.downloads, all.failed_transfers, all.logins, all.failed_logins].map(count);
        table.row(std::iter::once(text(&day.date.to_string())).chain(counts).collect());
    }
    table
}

/// Bytes by day.
pub fn bytes_by_day(answers: &Answers, _: &TimeZone) -> Table {
    let mut table = Table::new(&["Day", "Uploaded bytes", "Downloaded bytes"], 1);
    for day in &answers.moved.days {
        let sums = [day.totals.uploaded_bytes, day.totals.downloaded_bytes].map(bytes);
        table.row(std::iter::once(text(&day.date.to_string())).chain(sums).collect());
    }
    table
}

/// What fails, the most frequent first.
pub fn failures(answers: &Answers, zone: &TimeZone) -> Table {
    let mut table = Table::new(&["Cause", "What", "How", "Last", "Accounts", "Times"], 4);
    for one in &answers.failures {
        let cause = if one.cause.is_empty() { "(nothing was said)" } else { &one.cause };
        let (what, how) = (text(one.operation.name()), text(one.outcome.name()));
        table.row(vec![text(cause), what, how, moment(one.last_ms, zone), count(one.accounts), count(one.records)]);
    }
    table
}

fn week(answers: &Answers, names: [&'static str; 4], of: fn(&HourFigures) -> (u64, u64)) -> Table {
    let mut table = Table::new(&names, 2);
    for (day, hours) in WEEKDAYS.iter().zip(&answers.moved.week) {
        for (hour, figures) in hours.iter().enumerate() {
            let (records, sum) = of(figures);
            if records > 0 {
                table.row(vec![text(day), text(&format!("{hour:02}:00")), count(records), bytes(sum)]);
            }
        }
    }
    table
}

/// Uploads over the hours of the week.
pub fn upload_hours(answers: &Answers, _: &TimeZone) -> Table {
    week(answers, ["Weekday", "Hour", "Uploads", "Bytes"], |hour| (hour.uploads, hour.uploaded_bytes))
}

/// Downloads over the hours of the week.
pub fn download_hours(answers: &Answers, _: &TimeZone) -> Table {
    week(answers, ["Weekday", "Hour", "Downloads", "Bytes"], |hour| (hour.downloads, hour.downloaded_bytes))
}

/// Who is slow, the slowest first.
pub fn slowest(answers: &Answers, _: &TimeZone) -> Table {
    let mut table = Table::new(&["Account", "Bytes per second", "Transfers", "Bytes", "Milliseconds"], 1);
    for one in &answers.moved.slowest {
        let speed =
            Cell { shown: figures::rate(one.bytes_per_s as f64), exact: one.bytes_per_s.to_string(), is_number: true };
        let elapsed = Cell {
            shown: figures::milliseconds(one.elapsed_ms as f64),
            exact: one.elapsed_ms.to_string(),
            is_number: true,
        };
        table.row(vec![account(&one.account), speed, count(one.transfers), bytes(one.bytes), elapsed]);
    }
    table
}

/// Programs with which people come.
pub fn clients(answers: &Answers, zone: &TimeZone) -> Table {
    let mut table = Table::new(&["Client", "Ciphers and other algorithms", "Whose", "Last", "Accounts", "Logins"], 4);
    for one in &answers.clients {
        let client = if one.client.is_empty() { "(not said)" } else { &one.client };
        let more = (one.accounts as usize).saturating_sub(one.names.len());
        let mut names = one.names.join(", ");
        if more > 0 {
            names.push_str(&format!(" and {more} more"));
        }
        let who = [text(client), text(&one.algorithms), text(&names), moment(one.last_ms, zone)];
        table.row(who.into_iter().chain([count(one.accounts), count(one.logins)]).collect());
    }
    table
}

/// Who fails to log in, the most frequent first.
pub fn failed_logins(answers: &Answers, zone: &TimeZone) -> Table {
    let mut table = Table::new(&["Name that was tried", "From", "Last", "Times"], 3);
    for one in &answers.failed_logins {
        let name = if one.account.is_empty() { account("") } else { text(&one.account) };
        table.row(vec![name, text(&one.address), moment(one.last_ms, zone), count(one.records)]);
    }
    table
}
