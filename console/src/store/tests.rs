//! Records and how far their log was read go together, and figures follow them.

use super::*;
use crate::record::{Entry, Operation, Outcome};

fn entry(number: i64) -> Entry {
    Entry {
        time_ms: 1_795_301_291_000 + number,
        operation: Some(Operation::Upload),
        outcome: Outcome::Complete,
        account: format!("account {}", number % 3),
        path: Some(format!("/in/{number}")),
        moved_bytes: Some(10),
        ..Entry::default()
    }
}

fn batch(numbers: std::ops::Range<i64>, consumed: u64) -> Batch {
    let lines = numbers.end.unsigned_abs() - numbers.start.unsigned_abs();
    Batch { entries: numbers.map(entry).collect(), lines, consumed, ..Batch::default() }
}

fn count(store: &Store, table: &str) -> i64 {
    store.db.query_row(&format!("SELECT total(records) FROM {table}"), [], |row| row.get::<_, f64>(0)).unwrap() as i64
}

#[test]
fn what_was_read_further_by_somebody_else_is_not_taken_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(folder.path(), TimeZone::UTC).unwrap();
    let mut stream = Stream::default();
    store.take(&mut stream, &batch(0..5, 100), 0).unwrap();
    let mut behind = Stream { consumed: 50, ..stream.clone() };
    let error = store.take(&mut behind, &batch(0..5, 120), 0).unwrap_err();
    assert!(format!("{error:#}").contains("somebody else"), "{error:#}");
    assert_eq!(count(&store, "day"), 5);
    assert_eq!(behind.consumed, 50, "nothing is said to be read that is not");
    store.take(&mut stream, &batch(5..8, 160), 0).unwrap();
    assert_eq!((count(&store, "day"), stream.consumed), (8, 160));
}

#[test]
fn names_of_a_transaction_that_was_taken_back_are_nobodys() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(folder.path(), TimeZone::UTC).unwrap();
    let mut stream = Stream::default();
    store.take(&mut stream, &batch(0..1, 10), 0).unwrap();
    let mut behind = Stream { consumed: 5, ..stream.clone() };
    assert!(store.take(&mut behind, &batch(1..3, 20), 0).is_err());
    store.take(&mut stream, &batch(1..3, 20), 0).unwrap();
    let orphans =
        "SELECT count(*) FROM record LEFT JOIN account ON account.id = record.account WHERE account.id IS NULL";
    assert_eq!(store.db.query_row(orphans, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
}

#[test]
fn figures_are_those_of_the_records_also_after_another_zone() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(folder.path(), TimeZone::UTC).unwrap();
    store.take(&mut Stream::default(), &batch(0..100, 100), 0).unwrap();
    let tables = ["hour", "account_hour", "day"];
    tables.iter().for_each(|table| assert_eq!(count(&store, table), 100, "{table}"));
    let day = |store: &Store| store.db.query_row("SELECT max(day) FROM day", [], |row| row.get::<_, i32>(0)).unwrap();
    let before = day(&store);
    drop(store);
    let store = Store::open(folder.path(), TimeZone::get("Asia/Kolkata").unwrap()).unwrap();
    tables.iter().for_each(|table| assert_eq!(count(&store, table), 100, "{table}"));
    assert_eq!(day(&store), before + 1, "22:48 in UTC is the next day there");
}

#[test]
fn the_oldest_days_go_where_there_are_too_many_records_and_names_go_with_them() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(folder.path(), TimeZone::UTC).unwrap();
    let day_ms = 86_400_000;
    let now_ms = 20_000 * day_ms + 1000;
    let on = |day: i64, account: &str| Entry { time_ms: now_ms - day * day_ms, account: account.into(), ..entry(day) };
    let entries = vec![on(2, "gone"), on(2, "gone"), on(1, "stays"), on(1, "stays"), on(0, "stays")];
    let mut stream = Stream::default();
    store.take(&mut stream, &Batch { entries, consumed: 1, ..Batch::default() }, 0).unwrap();
    while store.let_go(400, 3, now_ms).unwrap() {}
    assert_eq!(count(&store, "day"), 3);
    let names: Vec<String> = {
        let mut query = store.db.prepare("SELECT name FROM account").unwrap();
        query.query_map([], |row| row.get(0)).unwrap().collect::<rusqlite::Result<_>>().unwrap()
    };
    assert_eq!(names, ["stays"]);
    while store.let_go(1, 1, now_ms).unwrap() {}
    assert_eq!(count(&store, "day"), 1, "today stays");
    let records: i64 = store.db.query_row("SELECT count(*) FROM record", [], |row| row.get(0)).unwrap();
    assert_eq!(records, 1);
}

#[test]
fn a_folder_is_counted_once_it_is_large_and_its_figures_are_those_of_all_that_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(folder.path(), TimeZone::UTC).unwrap();
    let mut stream = Stream::default();
    let in_folder = |store: &Store, name: &str| {
        let sql = "SELECT total(records) FROM folder_day WHERE folder = ?";
        store.db.query_row(sql, [name], |row| row.get::<_, f64>(0)).unwrap() as i64
    };
    store.take(&mut stream, &batch(0..199, 1), 0).unwrap();
    assert_eq!((in_folder(&store, "/in"), in_folder(&store, "")), (0, 0), "few are looked at one by one");
    store.take(&mut stream, &batch(199..250, 2), 0).unwrap();
    assert_eq!((in_folder(&store, "/in"), in_folder(&store, "")), (250, 250));
    store.take(&mut stream, &batch(250..260, 3), 0).unwrap();
    assert_eq!(in_folder(&store, "/in"), 260);
    drop(store);
    let store = Store::open(folder.path(), TimeZone::get("Asia/Kolkata").unwrap()).unwrap();
    assert_eq!((in_folder(&store, "/in"), in_folder(&store, "")), (260, 260), "counted anew");
}

#[test]
fn a_store_of_version_1_is_counted_anew() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(folder.path(), TimeZone::UTC).unwrap();
    store.take(&mut Stream::default(), &batch(0..300, 1), 0).unwrap();
    let before = "DELETE FROM folder; DELETE FROM folder_day; DELETE FROM folder_failure_day; PRAGMA user_version = 1;
                  CREATE TABLE folder_hour (folder TEXT PRIMARY KEY)";
    store.db.execute_batch(before).unwrap();
    drop(store);
    let store = Store::open(folder.path(), TimeZone::UTC).unwrap();
    assert_eq!(
        (count(&store, "day"), count(&store, "folder_day")),
        (300, 600),
        "of the folder and of the one above all"
    );
    assert!(store.db.prepare("SELECT * FROM folder_hour").is_err());
}

#[test]
fn what_was_gathered_is_kept_together_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(folder.path(), TimeZone::UTC).unwrap();
    let mut stream = Stream::default();
    store.take(&mut stream, &batch(0..2, 10), 0).unwrap();
    let before = stream.clone();
    store.gather(&mut stream, &batch(2..4, 20), 0).unwrap();
    let mut wrong = Stream { consumed: 1, ..stream.clone() };
    assert!(store.gather(&mut wrong, &batch(4..5, 30), 0).is_err());
    assert_eq!(count(&store, "day"), 2, "what came before it in the same transaction is taken back, too");
    let mut stream = before;
    store.gather(&mut stream, &batch(2..4, 20), 0).unwrap();
    store.gather(&mut stream, &batch(4..6, 30), 0).unwrap();
    store.settle().unwrap();
    store.settle().unwrap();
    assert_eq!(count(&store, "day"), 6);
}
