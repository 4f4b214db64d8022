//! Setting aside with crashes and faults at every step; what is said of things, and releasing them.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use pair::record::VolumePath;

use super::*;
use crate::storage::journal::Journal;
use crate::storage::volume::tests::{Fixture, put};
use crate::storage::{Change, FileKind, NewAttributes, Volume};

const EPOCH: &str = "00000000000000aa";

/// What stands at a path, as it is to be set aside.
fn thing(volume: &Volume, path: &[u8]) -> Option<Entry> {
    let seen = volume.look_at(path).unwrap()?;
    let kind = match seen.kind {
        FileKind::File => EntryKind::File,
        FileKind::Folder => EntryKind::Folder,
        _ => EntryKind::Link,
    };
    let (path, target) = (VolumePath(path.to_vec()), seen.target.map(VolumePath));
    let (size, mtime_ns, mode) = (seen.size, seen.mtime_ns, seen.mode);
    let (hash, account, seq, time_ms) = (None, "alice".into(), Some(7), Some(8));
    Some(Entry {
        successor: None,
        number: 0,
        epoch: String::new(),
        path,
        kind,
        size,
        mtime_ns,
        mode,
        hash,
        account,
        seq,
        time_ms,
        target,
    })
}

const PATHS: [&[u8]; 8] = [b"d", b"d/e", b"d/e/x", b"d/y", b"link", b"name\xff\n", b"one", b"two"];

/// Folders, files, a link, a name of any bytes, and a file with two names.
fn fill(data: &Path) {
    std::fs::create_dir_all(data.join("d/e")).unwrap();
    for path in [&b"d/e/x"[..], b"d/y", b"name\xff\n", b"one"] {
        std::fs::write(data.join(std::ffi::OsStr::from_bytes(path)), path).unwrap();
    }
    std::fs::hard_link(data.join("one"), data.join("two")).unwrap();
    std::os::unix::fs::symlink("one", data.join("link")).unwrap();
}

/// Sets aside all that is left of it.
fn keep_all(volume: &Volume) -> Result<u64> {
    let mut folder = volume.aside()?.begin(EPOCH)?;
    let mut kept = 0;
    for paths in PATHS.chunks(3) {
        kept += folder.keep(paths.iter().filter_map(|path| thing(volume, path)).collect())?;
    }
    folder.remove_empty(&[b"d/e".to_vec(), b"d".to_vec()])?;
    Ok(kept)
}

fn entries(volume: &Volume) -> Vec<Entry> {
    let divergent = volume.divergent().unwrap();
    let parts = divergent.parts(EPOCH).unwrap();
    parts.iter().filter_map(|(number, parts)| divergent.entry(EPOCH, *number, parts).unwrap()).collect()
}

fn names(data: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(data.join(".pair/divergent").join(EPOCH)).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

fn check_all_is_there_once(fixture: &Fixture, volume: &Volume) {
    let mut paths: Vec<_> = entries(volume).iter().map(|entry| entry.path.0.clone()).collect();
    paths.sort();
    assert_eq!(paths, PATHS);
    for entry in entries(volume) {
        assert_eq!((entry.epoch.as_str(), entry.account.as_str(), entry.seq), (EPOCH, "alice", Some(7)));
        let content = fixture.data().join(".pair/divergent").join(EPOCH).join(entry.number.to_string());
        match entry.kind {
            EntryKind::File if entry.path.0 == b"two" => assert_eq!(std::fs::read(content).unwrap(), b"one"),
            EntryKind::File => assert_eq!(std::fs::read(content).unwrap(), entry.path.0),
            EntryKind::Link => assert_eq!(std::fs::read_link(content).unwrap(), Path::new("one")),
            EntryKind::Folder => assert!(!content.exists()),
        }
        assert_eq!(volume.look_at(&entry.path.0).unwrap(), None, "{} is at its place no more", entry.path);
    }
    // Eight entries and six things; nothing half done.
    assert_eq!(names(&fixture.data()).len(), 14);
}

#[test]
fn what_is_set_aside_is_moved_with_a_word_of_what_it_was() {
    let mut fixture = Fixture::new();
    let volume = fixture.open();
    fill(&fixture.data());
    assert_eq!(volume.offers(), 0);
    assert_eq!(keep_all(&volume).unwrap(), 8);
    check_all_is_there_once(&fixture, &volume);
    assert_eq!(volume.offers(), 8);
    assert_eq!(keep_all(&volume).unwrap(), 0);
}

#[test]
fn a_crash_at_any_step_loses_nothing_and_doubles_nothing() {
    for steps in 0.. {
        let mut fixture = Fixture::new();
        let disk = Disk::default();
        let volume = fixture.open_by(disk.clone());
        fill(&fixture.data());
        disk.faults.crash_after(steps);
        let is_done = keep_all(&volume).is_ok();
        disk.faults.crash_after(0);
        let _ = disk.step("kill");
        drop(volume);
        let volume = fixture.open();
        keep_all(&volume).unwrap();
        check_all_is_there_once(&fixture, &volume);
        if is_done {
            assert!(steps > 30, "{steps} steps were seen");
            break;
        }
    }
}

#[test]
fn a_fault_at_any_step_is_told_and_gone_on_from() {
    for step in ["create", "write", "rename", "mkdir", "rmdir"] {
        let mut fixture = Fixture::new();
        let disk = Disk::default();
        let volume = fixture.open_by(disk.clone());
        fill(&fixture.data());
        disk.faults.fail(step, 1, Errno::NOSPC);
        assert!(keep_all(&volume).is_err(), "{step}");
        keep_all(&volume).unwrap();
        check_all_is_there_once(&fixture, &volume);
    }
}

#[test]
fn a_flush_that_fails_makes_the_volume_read_only() {
    let mut fixture = Fixture::new();
    let disk = Disk::default();
    let volume = fixture.open_by(disk.clone());
    fill(&fixture.data());
    disk.faults.fail("fsync", 1, Errno::IO);
    assert!(keep_all(&volume).is_err());
    assert!(volume.failure().unwrap().contains("a flush failed"));
    assert!(keep_all(&volume).unwrap_err().to_string().contains("read-only"));
    drop(volume);
    let volume = fixture.open();
    keep_all(&volume).unwrap();
    check_all_is_there_once(&fixture, &volume);
}

#[test]
fn only_one_at_a_time_changes_what_was_set_aside() {
    let mut fixture = Fixture::new();
    let volume = fixture.open();
    let first = volume.aside().unwrap();
    assert!(volume.aside().unwrap_err().to_string().contains("try again later"));
    drop(first);
    for epoch in ["..", "x/y", "", "00000000000000AA"] {
        assert!(volume.aside().unwrap().begin(epoch).is_err(), "{epoch}");
    }
}

fn state(volume: &Volume, number: u64) -> Option<State> {
    let divergent = volume.divergent().unwrap();
    let parts = *divergent.parts(EPOCH).ok()?.get(&number)?;
    divergent.entry(EPOCH, number, &parts).unwrap()?;
    Some(divergent.state(EPOCH, number, &parts).unwrap())
}

#[test]
fn what_was_said_last_of_a_thing_counts_also_after_a_crash_at_any_step() {
    let wanted = Wanted { path: VolumePath(b"else\xffwhere".to_vec()), replace: true };
    let [offered, restored] = [State::Offered, State::Restored];
    let kept = State::Kept("in the way".into());
    for steps in 0.. {
        let mut fixture = Fixture::new();
        let disk = Disk::default();
        let volume = fixture.open_by(disk.clone());
        fill(&fixture.data());
        keep_all(&volume).unwrap();
        assert_eq!(state(&volume, 3), Some(offered.clone()));
        disk.faults.crash_after(steps);
        let says = || -> Result<()> {
            volume.aside()?.mark(EPOCH, 3, Mark::Kept, b"in the way")?;
            volume.aside()?.want(EPOCH, 3, &wanted)?;
            volume.aside()?.mark(EPOCH, 3, Mark::Restored, b"")
        };
        let is_done = says().is_ok();
        drop(volume);
        let volume = fixture.open();
        let found = state(&volume, 3).unwrap();
        assert!([&offered, &kept, &State::Wanted(wanted.clone()), &restored].contains(&&found), "{found:?}");
        volume.aside().unwrap().want(EPOCH, 3, &wanted).unwrap();
        assert_eq!(state(&volume, 3), Some(State::Wanted(wanted.clone())));
        assert_eq!(volume.offers(), 8);
        if is_done {
            break;
        }
    }
}

#[test]
fn a_release_that_breaks_off_at_any_step_is_gone_on_with() {
    for steps in 0.. {
        let mut fixture = Fixture::new();
        let disk = Disk::default();
        let volume = fixture.open_by(disk.clone());
        fill(&fixture.data());
        keep_all(&volume).unwrap();
        volume.aside().unwrap().mark(EPOCH, 3, Mark::Kept, b"in the way").unwrap();
        disk.faults.crash_after(steps);
        let is_done = volume.aside().unwrap().release(EPOCH, &[3, 4, 99]).is_ok();
        drop(volume);
        let volume = fixture.open();
        // What breaks off is no thing any more, or still a whole one.
        assert!(entries(&volume).iter().all(|entry| entry.kind == EntryKind::Folder || {
            fixture.data().join(".pair/divergent").join(EPOCH).join(entry.number.to_string()).symlink_metadata().is_ok()
        }));
        volume.aside().unwrap().release(EPOCH, &[3, 4]).unwrap();
        assert_eq!((names(&fixture.data()).len(), volume.offers()), (10, 6));
        let all: Vec<u64> = volume.divergent().unwrap().parts(EPOCH).unwrap().into_keys().collect();
        assert_eq!(volume.aside().unwrap().release(EPOCH, &all).unwrap(), 6);
        assert_eq!(volume.divergent().unwrap().epochs().unwrap(), Vec::<String>::new());
        if is_done {
            break;
        }
    }
}

#[tokio::test]
async fn a_change_of_what_stood_there_leaves_what_has_come_since() {
    let mut fixture = Fixture::new();
    let volume = fixture.open();
    let root = volume.root("alice").unwrap();
    let place = |name: &str| root.place(name.as_bytes()).unwrap();
    let commit = |change| volume.commit(change, Some("alice".into()));
    let restored = |place| {
        let mut incoming = volume.receive(0o640).unwrap();
        incoming.write(b"restored").unwrap();
        Change::Publish(incoming.publication(&NewAttributes::default(), place).unwrap())
    };
    put(&volume, "report", b"first").await.unwrap();
    let as_it_was = place("report").only_as_it_is().unwrap();
    put(&volume, "report", b"of a client").await.unwrap();
    assert!(commit(restored(as_it_was.clone())).await.is_err());
    assert!(commit(Change::Remove(as_it_was)).await.is_err());
    let nothing = place("new");
    put(&volume, "new", b"of a client").await.unwrap();
    assert!(commit(restored(nothing)).await.is_err());
    for name in ["report", "new"] {
        assert_eq!(std::fs::read(fixture.data().join("alice").join(name)).unwrap(), b"of a client");
        commit(restored(place(name).only_as_it_is().unwrap())).await.unwrap();
        assert_eq!(std::fs::read(fixture.data().join("alice").join(name)).unwrap(), b"restored");
    }
    assert_eq!(volume.names_in(b".pair/stage").unwrap(), Vec::<Vec<u8>>::new());
}

#[tokio::test]
async fn records_that_are_held_go_past_the_journals_limit_only() {
    let mut fixture = Fixture::new();
    let volume = fixture.open();
    for name in ["one", "two", "three"] {
        put(&volume, name, b"x").await.unwrap();
    }
    volume.settle().await.unwrap();
    volume.acknowledge("standby", 3).unwrap();
    drop(volume);
    let mut journal = Journal::open(&fixture.state(), true, Disk::default()).unwrap().journal;
    assert_eq!(journal.forget_past(1_000_000, 2000).unwrap(), 0);
    assert_eq!(journal.forget_past(2, 2000).unwrap(), journal.last_seq() - 2);
    assert_eq!(journal.forget_old(1_000_000, 2000).unwrap(), 1);
}
