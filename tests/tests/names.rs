//! Names, trees and links as strange as they come: what the file system takes works, and nothing outside is reached.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::BufMut;
use pair::wire::{Attrs, Code, kind, open_flag as flag, put_bytes};
use tests::raw::{Answer, packet};
use tests::step::NEW;
use tests::{Machine, Pair, Raw, Snapshot, USER, eventually};

fn machine() -> (Machine, Raw) {
    let machine = Machine::master().setting("DURABILITY", "none").start();
    let raw = Raw::greeted(&machine, USER);
    (machine, raw)
}

fn mkdir(raw: &mut Raw, path: &[u8]) -> Answer {
    raw.ask(kind::MKDIR, |out| {
        put_bytes(out, path);
        Attrs::default().put(out);
    })
}

fn put(raw: &mut Raw, path: &[u8], content: &[u8]) -> Answer {
    match raw.open(path, NEW, None) {
        Answer::Handle(handle) => {
            assert_eq!(raw.write(&handle, 0, content), Answer::Status(Code::Ok));
            raw.on(kind::CLOSE, &handle)
        }
        refused => refused,
    }
}

fn get(raw: &mut Raw, path: &[u8]) -> Answer {
    match raw.open(path, flag::READ, None) {
        Answer::Handle(handle) => {
            let read = raw.read(&handle, 0, 1000);
            raw.on(kind::CLOSE, &handle);
            read
        }
        refused => refused,
    }
}

const OK: Answer = Answer::Status(Code::Ok);

#[test]
fn a_hundred_thousand_entries_are_told_once_each_and_in_one_order() {
    let (machine, mut raw) = machine();
    let folder = machine.path(USER.0, "wide");
    std::fs::create_dir(&folder).unwrap();
    for number in 0..100_000 {
        std::fs::File::create(folder.join(format!("entry-{number}"))).unwrap();
    }
    let names =
        |raw: &mut Raw| -> Vec<Vec<u8>> { raw.list(b"wide").unwrap().into_iter().map(|entry| entry.name).collect() };
    let first = names(&mut raw);
    assert_eq!(first.len(), 100_002, "with `.` and `..`");
    assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), first.len());
    assert!(first == names(&mut raw), "the order stays");
}

#[test]
fn a_thousand_levels_are_made_used_mirrored_and_removed() {
    let pair = Pair::start();
    let mut raw = Raw::greeted(&pair.master, USER);
    let path_of = |levels: usize| "d/".repeat(levels);
    for levels in 1..=1000 {
        assert_eq!(mkdir(&mut raw, path_of(levels).as_bytes()), OK, "level {levels}");
    }
    let bottom = format!("{}bottom", path_of(1000));
    assert_eq!(put(&mut raw, bottom.as_bytes(), b"deep"), OK);
    assert_eq!(get(&mut raw, bottom.as_bytes()), Answer::Data(b"deep".to_vec()));
    let Answer::Names(names) = raw.on(kind::REALPATH, bottom.as_bytes()) else { panic!("no path") };
    assert_eq!(names[0].name, format!("/{bottom}").into_bytes());
    let arrived = pair.standby.path(USER.0, &bottom);
    eventually("it is on the standby", || std::fs::read(&arrived).is_ok_and(|content| content == b"deep"));
    assert_eq!(raw.on(kind::REMOVE, bottom.as_bytes()), OK);
    for levels in (1..=1000).rev() {
        assert_eq!(raw.on(kind::RMDIR, path_of(levels).as_bytes()), OK, "level {levels}");
    }
    eventually("it is gone from the standby", || !pair.standby.path(USER.0, "d").exists());
}

#[test]
fn paths_work_up_to_the_systems_limit_and_fail_with_a_sentence_behind_it() {
    let (_machine, mut raw) = machine();
    let mut path = Vec::new();
    for _ in 0..16 {
        path.extend([b'n'; 249]);
        assert_eq!(mkdir(&mut raw, &path), OK, "{} bytes", path.len());
        path.push(b'/');
    }
    // The system takes 4,095 bytes in one go.
    path.extend(vec![b'f'; 4095 - path.len()]);
    assert_eq!(put(&mut raw, &path, b"far"), OK);
    assert_eq!(get(&mut raw, &path), Answer::Data(b"far".to_vec()));
    assert_eq!(raw.on(kind::STAT, &[&path[..], b"x"].concat()), Answer::Status(Code::Failure));
    assert_eq!(put(&mut raw, &[&path[..], b"x"].concat(), b"too far"), Answer::Status(Code::Failure));
    assert_eq!(put(&mut raw, &[b'n'; 256], b"too long"), Answer::Status(Code::Failure));
    assert_eq!(raw.on(kind::STAT, &vec![b'/'; 200_000]), Answer::Status(Code::Failure));
}

#[test]
fn files_past_4_gib_and_times_from_1970_to_2100_are_as_they_were_set() {
    let (machine, mut raw) = machine();
    const GIB: u64 = 1 << 30;
    let handle = raw.open(b"sparse", NEW | flag::READ, None).handle();
    for offset in [0, 4 * GIB - 3, 5 * GIB] {
        assert_eq!(raw.write(&handle, offset, b"marked"), OK);
    }
    assert_eq!(raw.on(kind::CLOSE, &handle), OK);
    let handle = raw.open(b"sparse", flag::READ, None).handle();
    assert_eq!(raw.read(&handle, 4 * GIB - 3, 6), Answer::Data(b"marked".to_vec()));
    assert_eq!(raw.read(&handle, 3 * GIB, 2), Answer::Data(vec![0; 2]));
    assert_eq!(raw.read(&handle, 5 * GIB + 6, 1), Answer::Status(Code::Eof));
    for modified in [0, 1, i32::MAX as u32, i32::MAX as u32 + 1, 4_102_444_800, u32::MAX] {
        let attrs = Attrs { times: Some((modified, modified)), ..Attrs::default() };
        let set = raw.ask(kind::SETSTAT, |out| {
            put_bytes(out, b"sparse");
            attrs.put(out);
        });
        assert_eq!(set, OK);
        let Answer::Attrs(found) = raw.on(kind::STAT, b"sparse") else { panic!("no attributes") };
        assert_eq!((found.size, found.times), (Some(5 * GIB + 6), Some((modified, modified))));
    }
    let entries = raw.list(b".").unwrap();
    let line = entries.iter().find(|entry| entry.name == b"sparse").map(|entry| entry.longname.clone()).unwrap();
    assert!(String::from_utf8_lossy(&line).contains(" Feb  7  2106 sparse"), "{}", String::from_utf8_lossy(&line));
    // Earlier than the protocol can say: shown as its first second, and left alone.
    let before_1970 = std::time::UNIX_EPOCH - std::time::Duration::from_secs(1000);
    std::fs::File::open(machine.path(USER.0, "sparse")).unwrap().set_modified(before_1970).unwrap();
    let Answer::Attrs(found) = raw.on(kind::STAT, b"sparse") else { panic!("no attributes") };
    assert_eq!(found.times.unwrap().1, 0);
}

/// Every request that takes a path, on one path; the answers with their words.
fn everything_on(raw: &mut Raw, path: &[u8]) -> Vec<Vec<u8>> {
    let mut answers = Vec::new();
    let mut ask = |kind: u8, body: &dyn Fn(&mut bytes::BytesMut)| {
        raw.send(&packet(kind, |out| {
            out.put_u32(7);
            body(out);
        }));
        answers.push(raw.receive());
    };
    let with_attrs = |out: &mut bytes::BytesMut, attrs: Attrs| {
        put_bytes(out, path);
        attrs.put(out);
    };
    let extended = |out: &mut bytes::BytesMut, name: &str, more: &[u8]| {
        put_bytes(out, name.as_bytes());
        put_bytes(out, path);
        out.put_slice(more);
    };
    for kind in [kind::STAT, kind::OPENDIR] {
        ask(kind, &|out| put_bytes(out, path));
    }
    for flags in [flag::READ, flag::WRITE, flag::WRITE | flag::APPEND, flag::READ | flag::WRITE | flag::TRUNC] {
        ask(kind::OPEN, &|out| {
            put_bytes(out, path);
            out.put_u32(flags);
            Attrs::default().put(out);
        });
    }
    for attrs in [Attrs { mode: Some(0o777), ..Attrs::default() }, Attrs { size: Some(0), ..Attrs::default() }] {
        ask(kind::SETSTAT, &|out| with_attrs(out, attrs));
    }
    ask(kind::EXTENDED, &|out| extended(out, "statvfs@openssh.com", b""));
    let hash = [&6_u32.to_be_bytes()[..], b"sha256", &[0; 20]].concat();
    ask(kind::EXTENDED, &|out| extended(out, "check-file-name", &hash));
    answers
}

#[test]
fn what_is_outside_cannot_be_told_from_what_is_not_there() {
    let (machine, mut raw) = machine();
    std::fs::create_dir_all(machine.path(USER.0, "in")).unwrap();
    std::fs::create_dir_all(machine.data().join("other/folder")).unwrap();
    std::fs::write(machine.data().join("other/file"), "nobody's").unwrap();
    let other = Snapshot::of(&machine.data().join("other"));
    let data = machine.data().display().to_string();
    let outside = ["other/file", "other", "admin/users.yaml", ".pair/marker"];
    for (number, inside) in outside.iter().enumerate() {
        for (kind, there, missing) in [
            ("relative", format!("../../{inside}"), "../../missing/thing".to_owned()),
            ("absolute", format!("{data}/{inside}"), format!("{data}/missing/thing")),
            ("by a magic link", format!("/proc/self/cwd/../{inside}"), "/proc/self/cwd/missing".to_owned()),
        ] {
            let names = [format!("there {number} {kind}"), format!("missing {number} {kind}")];
            symlink(&there, machine.path(USER.0, "in").join(&names[0])).unwrap();
            symlink(&missing, machine.path(USER.0, "in").join(&names[1])).unwrap();
            let [found, expected] =
                [&names[0], &names[1]].map(|name| everything_on(&mut raw, format!("in/{name}").as_bytes()));
            assert!(found == expected, "{kind} {inside}: {found:?} {expected:?}");
        }
    }
    for path in
        ["../other/file", "/../../other/file", "in/../../other/file", ".pair/marker", "../.pair/marker", "other"]
    {
        let [found, expected] = [path, "../missing/thing"].map(|path| everything_on(&mut raw, path.as_bytes()));
        assert!(found == expected, "{path}: {found:?} {expected:?}");
    }
    assert_eq!(other.differences(&Snapshot::of(&machine.data().join("other"))), Vec::<String>::new());
}

#[test]
fn links_of_every_kind_lead_where_they_would_in_a_chroot() {
    let (machine, mut raw) = machine();
    std::fs::create_dir_all(machine.path(USER.0, "a/b")).unwrap();
    std::fs::write(machine.path(USER.0, "a/file"), "content").unwrap();
    let link = |raw: &mut Raw, text: &[u8], path: &[u8]| {
        raw.ask(kind::SYMLINK, |out| {
            put_bytes(out, text);
            put_bytes(out, path);
        })
    };
    let cases: [(&[u8], &[u8]); 5] = [
        (b"a/file", b"relative"),
        (b"/a/file", b"absolute"),
        (b"../../../a/file", b"above"),
        (b"above", b"twice"),
        (b"./a//file", b"odd"),
    ];
    for (text, name) in cases {
        assert_eq!(link(&mut raw, text, name), OK);
        assert_eq!(get(&mut raw, name), Answer::Data(b"content".to_vec()), "{}", String::from_utf8_lossy(name));
        let Answer::Names(names) = raw.on(kind::READLINK, name) else { panic!("no text") };
        assert_eq!(names[0].name, text, "the text stays as it was given");
    }
    for (text, name) in
        [(&b"circle"[..], &b"circle"[..]), (b"one", b"other"), (b"other", b"one"), (b"nowhere", b"dangling")]
    {
        assert_eq!(link(&mut raw, text, name), OK);
        assert_eq!(get(&mut raw, name), Answer::Status(Code::NoSuchFile));
        let Answer::Attrs(found) = raw.on(kind::LSTAT, name) else { panic!("the link itself is there") };
        assert_eq!(found.mode.unwrap() & 0o170_000, 0o120_000);
    }
    assert_eq!(put(&mut raw, b"dangling", b"made"), OK);
    assert_eq!(std::fs::read(machine.path(USER.0, "nowhere")).unwrap(), b"made");
    assert_eq!(put(&mut raw, b"absolute", b"written through it"), OK);
    assert_eq!(std::fs::read(machine.path(USER.0, "a/file")).unwrap(), b"written through it");
    assert!(machine.path(USER.0, "absolute").is_symlink());
}

/// Swaps a folder for a link to what is outside and back, as fast as it goes.
fn swap(folder: &Path, link: &Path, is_over: &AtomicBool) {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    while !is_over.load(Ordering::Relaxed) {
        renameat_with(CWD, folder, CWD, link, RenameFlags::EXCHANGE).unwrap();
    }
}

#[test]
fn a_folder_that_is_swapped_for_a_link_while_it_is_used_leads_nowhere() {
    let (machine, mut raw) = machine();
    let outside = machine.data().join("outside");
    std::fs::create_dir(&outside).unwrap();
    for name in ["x", "y"] {
        std::fs::write(outside.join(name), "nobody's").unwrap();
    }
    let before = Snapshot::of(&outside);
    let (folder, link) = (machine.path(USER.0, "d"), machine.path(USER.0, "l"));
    std::fs::create_dir_all(&folder).unwrap();
    symlink("../outside", &link).unwrap();
    let is_over = AtomicBool::new(false);
    let mut done = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| swap(&folder, &link, &is_over));
        let two = |out: &mut bytes::BytesMut, old: &[u8], new: &[u8]| {
            put_bytes(out, old);
            put_bytes(out, new);
        };
        for _ in 0..1500 {
            let mut answers = vec![put(&mut raw, b"d/x", b"ours"), mkdir(&mut raw, b"d/new"), get(&mut raw, b"d/y")];
            assert!(answers[2] != Answer::Data(b"nobody's".to_vec()), "a file outside was read");
            let mode = Attrs { mode: Some(0o600), size: Some(0), ..Attrs::default() };
            answers.push(raw.ask(kind::SETSTAT, |out| {
                put_bytes(out, b"d/x");
                mode.put(out);
            }));
            answers.push(raw.extended("posix-rename@openssh.com", |out| two(out, b"d/x", b"d/y")));
            answers.push(raw.extended("hardlink@openssh.com", |out| two(out, b"d/y", b"d/z")));
            answers.push(raw.ask(kind::SYMLINK, |out| two(out, b"text", b"d/link")));
            answers.extend([b"d/y", b"d/z"].map(|path| raw.on(kind::REMOVE, path)));
            answers.extend([raw.on(kind::REMOVE, b"d/link"), raw.on(kind::RMDIR, b"d/new")]);
            done += answers.iter().filter(|answer| **answer == OK).count();
            if let Ok(entries) = raw.list(b"d") {
                assert!(entries.iter().all(|entry| entry.name != b"x" || entry.attrs.size != Some(8)), "it was listed");
            }
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert!(done > 1000, "only {done} requests found the folder: that tries nothing");
    assert_eq!(before.differences(&Snapshot::of(&outside)), Vec::<String>::new());
}
