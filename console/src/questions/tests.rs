//! Every answer is the one that counting all records by hand gives.

use std::collections::BTreeMap;

use jiff::civil::Date;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::record::{Entry, Operation, Outcome};
use crate::store::{Batch, Store, Stream};

const OPERATIONS: [Operation; 6] = [
    Operation::Upload,
    Operation::Download,
    Operation::Remove,
    Operation::Login,
    Operation::ConnectionFailed,
    Operation::Rename,
];

fn zone() -> TimeZone {
    TimeZone::get("Europe/Berlin").unwrap()
}

/// A record that follows from its number; 60 days have some, at times of which several are the same.
fn entry(number: u64) -> Entry {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    let operation = OPERATIONS[(mixed % 6) as usize];
    let has_failed = (mixed >> 8).is_multiple_of(5) || operation == Operation::ConnectionFailed;
    let outcome = match operation {
        Operation::Login => Outcome::Unsaid,
        _ if has_failed => {
            if operation.is_transfer() {
                Outcome::Aborted
            } else {
                Outcome::Refused
            }
        }
        _ => Outcome::Complete,
    };
    let has_path = !operation.is_login();
    let folder = ["", "/in", "/in/deep", "/inner", "/out"][(mixed >> 12) as usize % 5];
    Entry {
        time_ms: 1_790_000_000_000 + (mixed >> 4) as i64 % (60 * 24 * 60) * 60_000,
        operation: Some(operation),
        outcome,
        account: ["anna", "bob", "", "O'Hara <b>"][(mixed >> 16) as usize % 4].into(),
        address: format!("10.0.0.{}", (mixed >> 18) % 3),
        path: has_path.then(|| format!("{folder}/File-{}.csv", (mixed >> 3) % 40)),
        moved_bytes: operation.is_transfer().then_some((mixed % 1_000_000) as i64),
        elapsed_ms: Some((mixed % 5000) as i64),
        error: has_failed.then(|| format!("quota exceeded: {} of 10 GiB used", mixed % 10)),
        client: if operation == Operation::Login { "SSH-2.0-x".into() } else { String::new() },
        ..Entry::default()
    }
}

struct World {
    _folder: TempDir,
    entries: Vec<Entry>,
    reader: Reader,
}

fn world(count: u64) -> World {
    let folder = tempfile::tempdir().unwrap();
    let entries: Vec<Entry> = (0..count).map(entry).collect();
    let mut store = Store::open(folder.path(), zone()).unwrap();
    // In several transactions, between which some folders become large.
    let mut stream = Stream::default();
    for (number, entries) in entries.chunks(150).enumerate() {
        let batch = Batch { entries: entries.to_vec(), consumed: number as u64 + 1, ..Batch::default() };
        store.take(&mut stream, &batch, 0).unwrap();
    }
    let reader = Reader::open(folder.path(), zone()).unwrap();
    World { _folder: folder, entries, reader }
}

impl World {
    fn meant(&self, filter: &Filter) -> Vec<&Entry> {
        let calendar = crate::calendar::Calendar::new(zone());
        let is_meant = |entry: &&Entry| {
            let date = calendar.date(entry.time_ms);
            let is_below = |folder: &String| {
                let folder = folder.trim_end_matches('/');
                entry.path.as_ref().is_some_and(|path| path.starts_with(&format!("{folder}/")))
            };
            filter.from.is_none_or(|from| date >= from)
                && filter.to.is_none_or(|to| date <= to)
                && filter.account.as_ref().is_none_or(|account| *account == entry.account)
                && filter.folder.as_ref().is_none_or(is_below)
                && filter.kinds().is_none_or(|kinds| kinds.contains(&entry.kind()))
        };
        self.entries.iter().filter(is_meant).collect()
    }

    fn all_pages(&self, filter: &Filter, search: Option<&Search>, records_max: usize) -> Vec<Record> {
        let (mut records, mut before) = (Vec::new(), None);
        loop {
            let page = match search {
                None => self.reader.newest(filter, before, records_max).unwrap(),
                Some(search) => self.reader.find(filter, search, before, records_max).unwrap(),
            };
            assert!(page.records.len() <= records_max);
            records.extend(page.records);
            match page.next {
                Some(next) => before = Some(next),
                None => return records,
            }
        }
    }
}

fn filters() -> impl Strategy<Value = Filter> {
    let date = prop::option::of(
        (0..70_i8).prop_map(|day| Date::constant(2026, 9, 15).checked_add(jiff::Span::new().days(day)).unwrap()),
    );
    let account = prop::option::of(prop::sample::select(vec!["anna", "bob", "", "nobody", "O'Hara <b>"]));
    let folder = prop::option::of(prop::sample::select(vec!["/", "/in", "/in/", "/in/deep", "/none"]));
    let what = prop::option::of(prop::sample::select(vec!["transfers", "changes", "logins", "upload", "remove"]));
    let came = prop::option::of(prop::sample::select(vec!["done", "failed", "aborted"]));
    (date.clone(), date, account, folder, what, came).prop_map(|(from, to, account, folder, what, came)| Filter {
        from,
        to,
        account: account.map(str::to_owned),
        folder: folder.map(str::to_owned),
        what: what.map(|what| what.parse().unwrap()),
        came: came.map(|came| came.parse().unwrap()),
    })
}

fn is_failure(entry: &Entry) -> bool {
    entry.outcome.is_failure()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, ..ProptestConfig::default() })]
    #[test]
    fn answers_are_what_counting_gives(filters in prop::collection::vec(filters(), 10)) {
        let world = world(1500);
        for filter in &filters {
            figures_are_right(&world, filter);
            lists_are_right(&world, filter);
        }
    }
}

fn figures_are_right(world: &World, filter: &Filter) {
    let meant = world.meant(filter);
    let moved = world.reader.moved(filter, 100).unwrap();
    let totals = moved.totals;
    assert_eq!(totals.records, meant.len() as u64, "{filter:?}");
    let bytes = |operation| {
        meant
            .iter()
            .filter(|entry| entry.operation == Some(operation))
            .filter_map(|entry| entry.moved_bytes)
            .sum::<i64>()
    };
    assert_eq!(totals.uploaded_bytes, bytes(Operation::Upload) as u64);
    assert_eq!(totals.downloaded_bytes, bytes(Operation::Download) as u64);
    let failed = meant.iter().filter(|entry| entry.operation.is_some_and(Operation::is_transfer) && is_failure(entry));
    assert_eq!(totals.failed_transfers, failed.count() as u64);
    for figures in &moved.accounts {
        let of_account = meant.iter().filter(|entry| entry.account == figures.account).count();
        assert_eq!(figures.totals.records, of_account as u64, "{filter:?} {}", figures.account);
    }
    let calendar = crate::calendar::Calendar::new(zone());
    let mut days: BTreeMap<Date, u64> = BTreeMap::new();
    meant.iter().for_each(|entry| *days.entry(calendar.date(entry.time_ms)).or_default() += 1);
    assert_eq!(
        moved.days.iter().map(|day| (day.date, day.totals.records)).collect::<BTreeMap<_, _>>(),
        days,
        "{filter:?}"
    );
    let mut week = [[(0, 0); 24]; 7];
    for entry in meant.iter().filter(|entry| entry.operation.is_some_and(Operation::is_transfer)) {
        let (weekday, hour) = calendar.weekday_and_hour(calendar.hour(entry.time_ms));
        let (records, bytes) = &mut week[weekday][hour];
        (*records, *bytes) = (*records + 1, *bytes + entry.moved_bytes.unwrap_or(0).unsigned_abs());
    }
    let of_hour = |hour: HourFigures| (hour.uploads + hour.downloads, hour.uploaded_bytes + hour.downloaded_bytes);
    assert_eq!(moved.week.map(|day| day.map(of_hour)), week, "{filter:?}");
    let timed = |entry: &&&Entry| {
        entry.operation.is_some_and(Operation::is_transfer)
            && entry.moved_bytes.is_some_and(|bytes| bytes >= 256 * 1024)
            && entry.elapsed_ms.is_some_and(|elapsed_ms| elapsed_ms > 0)
    };
    let of_slow: u64 = moved.slowest.iter().map(|speed| speed.transfers).sum();
    assert_eq!(of_slow, meant.iter().filter(timed).count() as u64, "{filter:?}");
    let failures: u64 = world.reader.failures(filter, 100).unwrap().iter().map(|failure| failure.records).sum();
    assert_eq!(failures, meant.iter().filter(|entry| is_failure(entry)).count() as u64, "{filter:?}");
}

fn lists_are_right(world: &World, filter: &Filter) {
    let in_order = |mut times: Vec<i64>| {
        times.sort_unstable_by(|one, other| other.cmp(one));
        times
    };
    let expected = in_order(world.meant(filter).iter().map(|entry| entry.time_ms).collect());
    let listed = world.all_pages(filter, None, 100);
    assert_eq!(listed.iter().map(|record| record.time_ms).collect::<Vec<_>>(), expected, "{filter:?}");
    let mut ids: Vec<i64> = listed.iter().map(|record| record.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), expected.len(), "none twice");
    let arrived = world.reader.arrived_after(filter, 0, 1000).unwrap().len();
    assert_eq!(arrived, expected.len().min(1000));
    for (text, how) in [
        ("File-7.csv", How::Exact),
        ("/in/File-7.csv", How::Exact),
        ("File-1", How::Prefix),
        ("/in", How::Prefix),
        ("e-3", How::Contains),
        ("FILE-39.c", How::Contains),
    ] {
        let search = Search { text: text.into(), how };
        let is_found = |entry: &&&Entry| {
            let (path, name) = (entry.path.as_deref().unwrap_or_default(), entry.name().unwrap_or_default());
            let place = if text.starts_with('/') { path } else { name };
            match how {
                How::Exact => place == text,
                How::Prefix => place.starts_with(text),
                How::Contains => path.to_lowercase().contains(&text.to_lowercase()),
            }
        };
        let expected = in_order(world.meant(filter).iter().filter(is_found).map(|entry| entry.time_ms).collect());
        let found = world.all_pages(filter, Some(&search), 40);
        assert_eq!(found.iter().map(|record| record.time_ms).collect::<Vec<_>>(), expected, "{search:?} {filter:?}");
    }
}

#[test]
fn a_filter_that_means_no_kind_of_record_is_answered_with_none() {
    let world = world(300);
    let of = |what: Option<&str>, came: &str, folder: Option<&str>| Filter {
        what: what.map(|what| what.parse().unwrap()),
        came: Some(came.parse().unwrap()),
        folder: folder.map(str::to_owned),
        ..Filter::default()
    };
    // No login breaks off; nothing that was done has failed, also where records are looked at one by one.
    for filter in [
        of(Some("logins"), "aborted", None),
        of(Some("logins"), "aborted", Some("/none")),
        of(Some("logins"), "aborted", Some("/")),
        of(None, "done", Some("/none")),
        of(None, "done", Some("/in/deep")),
        of(None, "done", None),
    ] {
        figures_are_right(&world, &filter);
        lists_are_right(&world, &filter);
        assert_eq!(world.reader.failures(&filter, 100).unwrap(), [], "{filter:?}");
    }
}

#[test]
fn people_and_speeds_are_told_apart() {
    let world = world(3000);
    let all = Filter::default();
    let clients = world.reader.clients(&all, 10).unwrap();
    assert_eq!((clients.len(), clients[0].accounts, clients[0].client.as_str()), (1, 4, "SSH-2.0-x"));
    let failed = world.reader.failed_logins(&all, 100).unwrap();
    let count: u64 = failed.iter().map(|login| login.records).sum();
    assert_eq!(
        count,
        world.entries.iter().filter(|entry| entry.operation == Some(Operation::ConnectionFailed)).count() as u64
    );
    assert!(failed.len() == 12 && failed.windows(2).all(|pair| pair[0].records >= pair[1].records));
    let of_anna = Filter { account: Some("anna".into()), ..Filter::default() };
    assert!(world.reader.failed_logins(&of_anna, 100).unwrap().iter().all(|login| login.account == "anna"));
    let slow = world.reader.moved(&all, 10).unwrap().slowest;
    assert!(slow.len() == 4 && slow.windows(2).all(|pair| pair[0].bytes_per_s <= pair[1].bytes_per_s));
    let causes = world.reader.failures(&all, 10).unwrap();
    assert!(causes.iter().all(|failure| failure.cause == "quota exceeded: # of # GiB used"), "{causes:?}");
    assert_eq!(world.reader.accounts(10).unwrap(), ["O'Hara <b>", "anna", "bob"]);
    assert_eq!(world.reader.last_arrived().unwrap(), 3000);
    assert!(world.reader.record(3001).unwrap().is_none());
}

#[test]
fn many_may_ask_at_a_time_and_who_writes_waits_for_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(folder.path(), zone()).unwrap();
    let readers = Readers::new(folder.path().to_owned(), zone());
    let mut stream = Stream::default();
    readers
        .ask(|outer| {
            readers.ask(|inner| {
                let batch = Batch { entries: vec![entry(1)], lines: 1, consumed: 1, ..Batch::default() };
                store.take(&mut stream, &batch, 0)?;
                let of = |reader: &Reader| reader.moved(&Filter::default(), 1).map(|moved| moved.totals.records);
                assert_eq!(of(outer)? + of(inner)?, 2);
                Ok(())
            })
        })
        .unwrap();
    assert!(readers.ask(|_| anyhow::bail!("a question that fails") as anyhow::Result<()>).is_err());
}
