//! The store keeps what it is told, per standby, bytes and all.

use super::*;
use crate::safety::{Missed, Reason, Verdict};
use crate::tree::Bases;

fn base(ino: u64, kind: Kind) -> Base {
    let source = Entry {
        kind,
        mode: 0o640,
        nlink: 1,
        size: u64::from(kind == Kind::File) << 40,
        mtime_ns: -5,
        ctime_ns: i64::MAX,
        btime_ns: 7,
        ino,
        target: if kind == Kind::Link { b"\xff\n".to_vec().into() } else { Box::default() },
    };
    Base { remote: source.seen(), source }
}

struct Fixture {
    _folder: tempfile::TempDir,
    file: std::path::PathBuf,
    store: Store,
}

fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("filesync.db");
    Fixture { store: Store::open(&file, "one:22").unwrap(), file, _folder: folder }
}

fn path(text: &str) -> Path {
    text.as_bytes().to_vec()
}

/// All that was agreed on, read two rows at a time.
fn all_bases(store: &Store) -> Bases {
    let mut bases = Bases::new();
    loop {
        let last = bases.last_key_value().map(|(path, _)| path.clone()).unwrap_or_default();
        let rows = store.bases_after(&last, 2).unwrap();
        if rows.is_empty() {
            return bases;
        }
        bases.extend(rows);
    }
}

#[test]
fn what_is_agreed_reads_back_for_that_standby_only() {
    let mut it = fixture();
    let records: Vec<_> = [Kind::File, Kind::Folder, Kind::Link]
        .into_iter()
        .zip([&b"a\xff\nb"[..], b"a", b"l"])
        .map(|(kind, path)| Record::Agree(path.to_vec(), base(u64::MAX, kind)))
        .collect();
    it.store.record(&records, 0).unwrap();
    let memory = it.store.begin_pass(0, 5).unwrap();
    let bases = all_bases(&it.store);
    assert_eq!(bases.len(), 3);
    for record in records {
        let Record::Agree(path, base) = record else { continue };
        assert_eq!(bases[&path], base);
    }
    assert_eq!((memory.pass, memory.verified), (1, false));
    assert!(all_bases(&Store::open(&it.file, "two:22").unwrap()).is_empty());
}

#[test]
fn a_move_takes_all_below_along_and_replaces_what_was_there() {
    let mut it = fixture();
    let agree = |name: &str, ino| Record::Agree(path(name), base(ino, Kind::File));
    let records = [agree("a", 1), agree("a/x\u{fffd}", 2), agree("a.b", 3), agree("z", 4), agree("z/old", 5)];
    it.store.record(&records, 0).unwrap();
    it.store.record(&[Record::Move(path("a"), path("z"))], 0).unwrap();
    let found: Vec<_> =
        all_bases(&it.store).iter().map(|(path, base)| (crate::tree::shown(path), base.source.ino)).collect();
    assert_eq!(found, [("a.b".into(), 3), ("z".into(), 1), ("z/x\u{fffd}".into(), 2)]);
    it.store.record(&[Record::Forget(path("z")), Record::Move(path("a.b"), path(".pair/stage/m"))], 0).unwrap();
    it.store.begin_pass(0, 5).unwrap();
    assert!(all_bases(&it.store).is_empty(), "what was parked is forgotten");
}

#[test]
fn removals_count_for_an_hour() {
    let mut it = fixture();
    it.store.record(&[Record::Removed(30)], 1000).unwrap();
    it.store.record(&[Record::Removed(40)], 3000).unwrap();
    assert_eq!(it.store.begin_pass(3000, 5).unwrap().removed_last_hour, 70);
    assert_eq!(it.store.begin_pass(4700, 5).unwrap().removed_last_hour, 40);
}

/// filesync writes all the time, and a person approves meanwhile.
#[test]
fn an_approval_waits_for_who_writes() {
    let mut it = fixture();
    let held = [(path("a"), (500, Reason::Budget))].into();
    let verdict = Verdict { held, ..Verdict::default() };
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                it.store.keep_verdict(&verdict, 9).unwrap();
            }
        });
        let approved: Vec<_> = (0..200).map(|_| approve(&it.file, None)).collect();
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(approved.iter().all(Result::is_ok), "{approved:?}");
    });
}

#[test]
fn an_approval_lasts_until_the_thing_is_gone() {
    let mut it = fixture();
    let missed = |name: &str| (path(name), Missed { pass: 1, parent_ino: 2 });
    let verdict = Verdict {
        held: [(path("a"), (500, Reason::Budget)), (path("b"), (2, Reason::Emptied))].into(),
        missed: [missed("a"), missed("b")].into(),
        ..Verdict::default()
    };
    it.store.keep_verdict(&verdict, 9).unwrap();
    assert_eq!(it.store.held().unwrap()[0].entries, 500);
    assert_eq!(approve(&it.file, Some("one:22")).unwrap(), (2, 502));
    assert_eq!(approve(&it.file, None).unwrap(), (0, 0));
    assert_eq!(pair::exit::code(&approve(&it.file, Some("nobody")).unwrap_err()), 2);
    let memory = it.store.begin_pass(10, 5).unwrap();
    assert_eq!(memory.held, [(path("a"), true), (path("b"), true)].into());
    assert_eq!(memory.missed.len(), 2);
    let left = Verdict { missed: [missed("a")].into(), ..Verdict::default() };
    it.store.keep_verdict(&left, 11).unwrap();
    assert_eq!(it.store.begin_pass(12, 5).unwrap().held, [(path("a"), true)].into());
}

#[test]
fn pins_keep_their_first_value() {
    let it = fixture();
    assert_eq!(it.store.pin("file_system", "1").unwrap(), "1");
    assert_eq!(it.store.pin("file_system", "2").unwrap(), "1");
    assert_eq!(it.store.host_key().unwrap(), None);
    it.store.pin_host_key("ssh-ed25519 AAAA").unwrap();
    assert_eq!(it.store.host_key().unwrap().as_deref(), Some("ssh-ed25519 AAAA"));
}

#[test]
fn reports_are_read_while_the_service_writes() {
    let mut it = fixture();
    assert!(known(&it.file.with_extension("other")).unwrap().is_empty());
    it.store.keep_report("{}").unwrap();
    let trouble = Trouble { sentence: "s".into(), first_s: 1, last_s: 2, attempts: 3 };
    it.store.keep_troubles(&[(path("p"), trouble.clone())].into()).unwrap();
    let found = known(&it.file).unwrap();
    assert_eq!((found[0].name.as_str(), found[0].report.as_deref()), ("one:22", Some("{}")));
    assert_eq!(found[0].troubles[&path("p")], trouble);
}

#[test]
fn who_asks_often_reads_the_oldest_troubles_and_how_many_there_are() {
    let mut it = fixture();
    let trouble = |first_s| Trouble { sentence: "s".into(), first_s, last_s: 900, attempts: 3 };
    let troubles = (0..100_i64).map(|number| (path(&format!("p{number:03}")), trouble(500 - number))).collect();
    it.store.keep_troubles(&troubles).unwrap();
    let found = known_in_short(&it.file, 3).unwrap();
    let oldest: Vec<Path> = found[0].troubles.keys().cloned().collect();
    assert_eq!((found[0].troubles_count, oldest), (100, ["p097", "p098", "p099"].map(path).to_vec()));
    let none = known_in_short(&it.file, 0).unwrap();
    assert_eq!((none[0].troubles.len(), none[0].troubles_count), (0, 100));
    assert_eq!(known(&it.file).unwrap()[0].troubles, troubles);
    it.store.db.execute("DROP INDEX problem_age", []).unwrap();
    assert_eq!(known_in_short(&it.file, 3).unwrap()[0].troubles.len(), 3, "a store of an older filesync has no index");
}

#[test]
fn what_is_known_to_be_gone_is_remembered_until_it_is_settled() {
    let mut fixture = fixture();
    for path in ["a", "b", "a"] {
        fixture.store.add_gone(path.as_bytes()).unwrap();
    }
    let other = Store::open(&fixture.file, "two:22").unwrap();
    other.add_gone(b"c").unwrap();
    let told = |store: &mut Store| store.begin_pass(1, 5).unwrap().told.into_keys().collect::<Vec<Path>>();
    assert_eq!(told(&mut fixture.store), [b"a".to_vec(), b"b".to_vec()]);
    fixture.store.settle_gone(&[b"a".to_vec(), b"c".to_vec()]).unwrap();
    let mut again = Store::open(&fixture.file, "one:22").unwrap();
    assert_eq!(told(&mut again), [b"b".to_vec()]);
}

#[test]
fn what_is_known_to_be_gone_moves_along_with_its_folder() {
    let mut fixture = fixture();
    for path in ["a", "a/x", "a/deep/y", "a.b", "b"] {
        fixture.store.add_gone(path.as_bytes()).unwrap();
    }
    fixture.store.move_gone(b"a", b"c").unwrap();
    let told = fixture.store.begin_pass(1, 5).unwrap().told;
    let expected = ["a", "a.b", "b", "c/deep/y", "c/x"].map(|path| path.as_bytes().to_vec());
    assert_eq!(told.into_keys().collect::<Vec<Path>>(), expected);
    // A pass renames too.
    fixture.store.record(&[Record::Move(b"c".to_vec(), b"d".to_vec())], 1).unwrap();
    let told = fixture.store.begin_pass(1, 5).unwrap().told;
    assert!(told.contains_key(&b"d/x"[..]) && !told.contains_key(&b"c/x"[..]));
}

#[test]
fn what_was_told_last_is_remembered() {
    let fixture = fixture();
    assert_eq!(fixture.store.told().unwrap(), Told::Well);
    for told in [Told::Unsure, Told::Alarm, Told::Well, Told::Alarm] {
        fixture.store.keep_told(told).unwrap();
        assert_eq!(Store::open(&fixture.file, "one:22").unwrap().told().unwrap(), told);
    }
    assert_eq!(Store::open(&fixture.file, "two:22").unwrap().told().unwrap(), Told::Well);
}

#[test]
fn a_clock_that_is_set_back_forgets_no_removal() {
    let mut it = fixture();
    it.store.record(&[Record::Removed(30)], 10_000).unwrap();
    assert_eq!(it.store.begin_pass(1000, 5).unwrap().removed_last_hour, 30);
    assert_eq!(it.store.begin_pass(10_100, 5).unwrap().removed_last_hour, 30);
}

#[test]
fn the_last_comparison_by_content_is_remembered_and_older_stores_have_none() {
    let it = fixture();
    assert_eq!(known(&it.file).unwrap()[0].verified, None);
    let first = Verified { at_s: 5, entries: 9, files: 7, bytes: 100, differences: 2, took_ms: 30 };
    it.store.keep_verified(&first).unwrap();
    let second = Verified { at_s: 6, differences: 0, ..first };
    it.store.keep_verified(&second).unwrap();
    assert_eq!(known(&it.file).unwrap()[0].verified, Some(second));
    it.store.db.execute("DROP TABLE verified", []).unwrap();
    assert_eq!(known(&it.file).unwrap()[0].verified, None);
}
