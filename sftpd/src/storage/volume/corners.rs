//! Unfinished uploads where something comes in between: a cut, a power failure, another connection, a full disk, a
//! folder that is not the one of before.

use std::time::Duration;

use rustix::io::Errno;

use super::tests::{Fixture, begin, close, opening, put};
use super::*;
use crate::storage::{Closing, Writer};

pub(in crate::storage) fn seen(volume: &Volume, connection: u64, name: &str) -> Option<u64> {
    let place = volume.root("alice").unwrap().place(name.as_bytes()).unwrap();
    volume.unfinished_at("alice", connection, &place).map(|found| found.size)
}

pub(in crate::storage) fn content(fixture: &Fixture, name: &str) -> Option<Vec<u8>> {
    std::fs::read(fixture.data().join("alice").join(name)).ok()
}

pub(in crate::storage) fn sized(size: u64) -> NewAttributes {
    NewAttributes { size: Some(size), ..NewAttributes::default() }
}

fn db(fixture: &Fixture) -> rusqlite::Connection {
    rusqlite::Connection::open(fixture.state().join("sftpd.db")).unwrap()
}

/// The next start takes the time before for another boot: only what was flushed is on the disk for certain.
fn forget_boot(fixture: &Fixture) {
    db(fixture).execute("UPDATE meta SET value = 'another boot' WHERE key = 'boot'", []).unwrap();
}

fn stages(fixture: &Fixture) -> usize {
    std::fs::read_dir(fixture.data().join(".pair/stage")).unwrap().count()
}

/// An upload of which the journal knows that 32 MiB are on the disk.
fn flushed_upload(fixture: &Fixture, volume: &Volume) -> Writer {
    let writer = begin(volume, &opening(volume, "alice", 1, "report"));
    let part = vec![7; 1024 * 1024];
    (0..33_u64).for_each(|number| writer.write(Some(number << 20), &part).unwrap());
    let db = db(fixture);
    let since = std::time::Instant::now();
    while db.query_row("SELECT durable_bytes FROM unfinished", [], |row| row.get::<_, u64>(0)).unwrap() == 0 {
        assert!(since.elapsed() < Duration::from_secs(30), "it was never flushed");
        futures::executor::block_on(volume.settle()).unwrap();
    }
    writer
}

#[test]
fn what_was_flushed_before_an_upload_was_begun_anew_never_comes_back() {
    for connection in [1, 2] {
        let mut fixture = Fixture::new();
        let volume = fixture.open();
        let first = flushed_upload(&fixture, &volume);
        let again = begin(&volume, &opening(&volume, "alice", connection, "report"));
        assert!(again.must_settle(), "its OPEN waits until the journal has it");
        again.write(Some(0), b"new").unwrap();
        futures::executor::block_on(volume.settle()).unwrap();
        drop((first, again));
        drop(volume);
        forget_boot(&fixture);
        let volume = fixture.open();
        assert_eq!((seen(&volume, 9, "report"), stages(&fixture)), (Some(0), 1));
    }
}

#[test]
fn what_was_flushed_before_an_upload_was_cut_never_comes_back() {
    let mut fixture = Fixture::new();
    let volume = fixture.open();
    let writer = flushed_upload(&fixture, &volume);
    assert!(writer.set_attributes(&sized(5)).unwrap(), "its answer waits until the journal has it");
    assert!(!writer.set_attributes(&sized(5)).unwrap());
    writer.write(Some(5), &[8; 100]).unwrap();
    futures::executor::block_on(volume.settle()).unwrap();
    drop(writer);
    drop(volume);
    forget_boot(&fixture);
    assert_eq!(seen(&fixture.open(), 9, "report"), Some(4));
}

#[test]
fn a_flush_from_before_a_cut_says_nothing_about_what_came_after_it() {
    let mut fixture = Fixture::new();
    let volume = fixture.open();
    let writer = begin(&volume, &opening(&volume, "alice", 1, "report"));
    let (stage, notes) = (writer.stage().unwrap(), &volume.unfinished.keeping().notes);
    let cuts = stage.cuts();
    stage.note_durable(notes.rows(), 100, cuts);
    stage.note_cut(notes, 5);
    stage.note_durable(notes.rows(), 100, cuts);
    futures::executor::block_on(volume.settle()).unwrap();
    let durable = db(&fixture).query_row("SELECT durable_bytes FROM unfinished", [], |row| row.get::<_, u64>(0));
    assert_eq!(durable.unwrap(), 5);
}

#[test]
fn an_upload_is_not_found_in_a_folder_that_has_only_the_number_of_its_own() {
    let mut fixture = Fixture::new();
    let volume = fixture.open();
    volume.root("alice").unwrap();
    std::fs::create_dir(fixture.data().join("alice/in")).unwrap();
    let writer = begin(&volume, &opening(&volume, "alice", 1, "in/report"));
    writer.write(Some(0), b"content").unwrap();
    drop(writer);
    drop(volume);
    // What a removed folder leaves when the next one gets its inode.
    db(&fixture).execute("UPDATE unfinished SET folder_born_ns = folder_born_ns - 1", []).unwrap();
    let volume = fixture.open();
    assert_eq!(seen(&volume, 2, "in/report"), None);
    let folder = volume.root("alice").unwrap().place(b"in").unwrap().id().unwrap();
    assert!(volume.unfinished_in("alice", 2, folder).is_empty());
}

#[test]
fn after_a_kill_nothing_behind_a_hole_is_believed_of_which_nothing_was_noted() {
    let mut fixture = Fixture::new();
    let volume = fixture.open();
    let writer = begin(&volume, &opening(&volume, "alice", 1, "report"));
    writer.write(Some(0), &[1; 65_536]).unwrap();
    writer.write(Some(1 << 20), &[2; 65_536]).unwrap();
    let stage = writer.stage().unwrap();
    futures::executor::block_on(volume.settle()).unwrap();
    drop(volume);
    // As if the kill had come before the note. The file itself is as it was.
    stage.disk().write(stage.file(), &[2; 65_536], 1 << 20).unwrap();
    stage.keep();
    db(&fixture).execute("UPDATE unfinished SET arrived_bytes = NULL", []).unwrap();
    let volume = fixture.open();
    let size = seen(&volume, 2, "report").unwrap();
    assert!((60_000..65_536).contains(&size), "{size}");
    drop(writer);
}

pub(in crate::storage) fn close_later(volume: &Volume, writer: Writer) -> impl Future<Output = Result<()>> {
    match writer.close().unwrap() {
        Closing::Publish(publication) => volume.commit(Change::Publish(publication), Some("alice".into())),
        Closing::Behind(_) | Closing::Nothing => panic!("there is something to publish"),
    }
}

#[test]
fn of_two_uploads_remembered_under_one_name_the_later_one_stays() {
    let mut fixture = Fixture::new();
    let volume = fixture.open();
    drop(begin(&volume, &opening(&volume, "alice", 1, "report")));
    drop(volume);
    let copy = "INSERT INTO unfinished SELECT number + 1, account, folder, folder_born_ns, name, 3, 0 FROM unfinished";
    db(&fixture).execute(copy, []).unwrap();
    let number: u64 = db(&fixture).query_row("SELECT max(number) FROM unfinished", [], |row| row.get(0)).unwrap();
    std::fs::write(fixture.data().join(format!(".pair/stage/upload-{number}")), "new").unwrap();
    let volume = fixture.open();
    futures::executor::block_on(volume.settle()).unwrap();
    let rows: u64 = db(&fixture).query_row("SELECT count(*) FROM unfinished", [], |row| row.get(0)).unwrap();
    assert_eq!((seen(&volume, 2, "report"), stages(&fixture), rows), (Some(3), 1, 1));
}

#[test]
fn an_upload_that_could_not_be_opened_again_still_waits() {
    let mut fixture = Fixture::new();
    let disk = Disk::default();
    let volume = fixture.open_by(disk.clone());
    for is_live in [false, true] {
        let first = opening(&volume, "alice", 1, "report");
        let writer = begin(&volume, &first);
        writer.write(Some(0), b"content").unwrap();
        let kept = is_live.then_some(writer);
        disk.faults.fail("create", 1, Errno::NOSPC);
        let again = Opening { connection: 2, ..first.clone() };
        assert!(volume.resume_upload(&again).is_err());
        drop(kept);
        assert_eq!(seen(&volume, 3, "report"), Some(6), "live: {is_live}");
        assert_eq!(volume.expire_unfinished(Duration::ZERO), 1, "live: {is_live}");
    }
}

#[test]
fn an_open_that_failed_takes_nothing_from_who_has_taken_the_upload_over() {
    let mut fixture = Fixture::new();
    let volume = fixture.open();
    let first = begin(&volume, &opening(&volume, "alice", 1, "report"));
    let second = begin(&volume, &opening(&volume, "alice", 2, "report"));
    second.write(Some(0), b"content").unwrap();
    first.forget();
    assert_eq!(seen(&volume, 2, "report"), Some(7));
    second.forget();
    futures::executor::block_on(volume.settle()).unwrap();
    assert_eq!((seen(&volume, 2, "report"), stages(&fixture)), (None, 0));
}

#[tokio::test]
async fn nobody_changes_an_upload_that_is_just_being_completed() {
    let mut fixture = Fixture::new();
    let volume = fixture.open();
    let place = |name: &str| volume.root("alice").unwrap().place(name.as_bytes()).unwrap();
    let writer = begin(&volume, &opening(&volume, "alice", 1, "report"));
    writer.write(Some(0), b"content").unwrap();
    let let_go = volume.committer.hold();
    let published = close_later(&volume, writer);
    assert!(volume.is_unfinished("alice", &place("report")).is_err());
    assert!(volume.discard_unfinished("alice", 2, &place("report")).is_err());
    assert!(volume.rename_unfinished("alice", 2, &place("report"), &place("other")).is_err());
    let times = NewAttributes { times: Some((1, 2)), ..NewAttributes::default() };
    assert!(volume.set_unfinished("alice", 2, &place("report"), &times).is_err());
    let resumed = Opening { truncate: false, ..opening(&volume, "alice", 2, "report") };
    assert!(volume.resume_upload(&resumed).is_err(), "it would be too early");
    let new = begin(&volume, &opening(&volume, "alice", 2, "report"));
    let_go.send(()).unwrap();
    published.await.unwrap();
    assert_eq!((content(&fixture, "report").unwrap(), seen(&volume, 2, "report")), (b"content".to_vec(), Some(0)));
    drop(new);
}

#[tokio::test]
async fn what_is_set_on_the_file_of_an_unfinished_upload_is_not_told() {
    let mut fixture = Fixture::new();
    let volume = fixture.open();
    let open = opening(&volume, "alice", 1, "report");
    let writer = begin(&volume, &open);
    let file = volume.unfinished_reader("alice", 1, &open.place).unwrap();
    let times = NewAttributes { times: Some((1, 2)), ..NewAttributes::default() };
    volume.commit(Change::SetAttributes(file, times), Some("alice".into())).await.unwrap();
    close(&volume, writer).await.unwrap();
    volume.settle().await.unwrap();
    let paths: Vec<_> = volume.records_after(0, 100).unwrap().into_iter().map(|record| record.path.0).collect();
    assert_eq!(paths, [b"alice".to_vec(), b"alice/report".to_vec()]);
}

#[tokio::test]
async fn a_copy_that_nobody_has_touched_changes_nothing() {
    let mut fixture = Fixture::new();
    let volume = fixture.open();
    put(&volume, "report", b"content").await.unwrap();
    let root = volume.root("alice").unwrap();
    let before = root.stat(b"report").unwrap();
    let open = || {
        let (file, attributes) = root.open_file(b"report").unwrap();
        let opening = Opening { truncate: false, ..opening(&volume, "alice", 1, "report") };
        volume.begin_upload(&opening, Some((&file, &attributes))).unwrap()
    };
    drop(open());
    assert_eq!(seen(&volume, 1, "report"), None, "it is not left behind");
    close(&volume, open()).await.unwrap();
    assert_eq!(root.stat(b"report").unwrap().identity, before.identity);
    let writer = open();
    writer.write(Some(0), b"C").unwrap();
    close(&volume, writer).await.unwrap();
    assert_eq!(content(&fixture, "report").unwrap(), b"Content");
    volume.settle().await.unwrap();
    assert_eq!(stages(&fixture), 0);
}

#[test]
fn only_the_connection_that_writes_an_upload_sets_its_size() {
    let mut fixture = Fixture::new();
    let volume = fixture.open();
    let open = opening(&volume, "alice", 1, "report");
    let writer = begin(&volume, &open);
    writer.write(Some(0), b"content").unwrap();
    assert!(volume.set_unfinished("alice", 2, &open.place, &sized(100)).is_err());
    assert!(volume.set_unfinished("alice", 1, &open.place, &sized(6)).unwrap());
    assert_eq!(seen(&volume, 1, "report"), Some(6));
    drop(writer);
    assert!(volume.set_unfinished("alice", 1, &open.place, &sized(100)).is_err());
    assert_eq!(seen(&volume, 1, "report"), Some(5));
}

#[tokio::test]
async fn what_was_noted_without_waiting_is_on_the_disk_when_it_is_settled() {
    let mut fixture = Fixture::new();
    let volume = fixture.open();
    let writer = begin(&volume, &opening(&volume, "alice", 1, "report"));
    let log = fixture.state().join("sftpd.db-wal");
    let written = || std::fs::metadata(&log).unwrap().len();
    // The row is written by itself, and nobody waits for the disk.
    let rows = || db(&fixture).query_row("SELECT count(*) FROM unfinished", [], |row| row.get::<_, u64>(0)).unwrap();
    let known = async {
        while rows() == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), known).await.unwrap();
    let before = written();
    volume.settle().await.unwrap();
    assert!(written() > before, "an empty transaction makes nothing durable");
    drop(writer);
}

#[tokio::test]
async fn close_of_a_second_handle_is_answered_as_the_publication_by_the_first() {
    for has_failed in [false, true] {
        let mut fixture = Fixture::new();
        let volume = fixture.open();
        let exclusive = Opening { exclusive: true, ..opening(&volume, "alice", 1, "report") };
        let first = begin(&volume, &exclusive);
        let second = begin(&volume, &Opening { truncate: false, ..exclusive.clone() });
        second.write(Some(0), b"content").unwrap();
        if has_failed {
            let other = volume.stage_file(b"first", exclusive.place.clone()).unwrap();
            volume.commit_own(Change::Publish(other)).await.unwrap();
        }
        let let_go = volume.committer.hold();
        let published = close_later(&volume, first);
        let Closing::Behind(mut answered) = second.close().unwrap() else { panic!("it is not over yet") };
        assert!(answered.borrow().is_none());
        let_go.send(()).unwrap();
        let answer = answered.wait_for(Option::is_some).await.unwrap().clone().unwrap();
        assert_eq!((published.await.is_err(), answer.is_err()), (has_failed, has_failed));
    }
}

#[test]
fn an_old_handle_does_not_take_over_what_a_newer_connection_has_begun() {
    let mut fixture = Fixture::new();
    let volume = fixture.open();
    let first = opening(&volume, "alice", 1, "report");
    let writer = begin(&volume, &Opening { connection: 2, ..first.clone() });
    assert!(volume.share_upload(&first).is_err());
    drop(writer);
    assert!(volume.share_upload(&first).is_err(), "also when that is gone: its bytes are not this one's");
    let own = begin(&volume, &first);
    assert!(volume.share_upload(&first).unwrap().is_some());
    drop(own);
}

#[test]
fn an_upload_without_room_that_is_begun_again_settles_what_was_flushed_before() {
    let mut fixture = Fixture::new();
    let disk = Disk::default();
    let volume = fixture.open_by(disk.clone());
    let writer = flushed_upload(&fixture, &volume);
    disk.faults.fail("write", 1, Errno::NOSPC);
    assert!(writer.write(Some(33 << 20), b"no room").is_err());
    drop(writer);
    assert_eq!(seen(&volume, 2, "report"), Some(0));
    let again = begin(&volume, &opening(&volume, "alice", 2, "report"));
    assert!(again.must_settle());
}

#[test]
fn no_later_start_believes_more_than_the_one_before() {
    let mut fixture = Fixture::new();
    let volume = fixture.open();
    drop(flushed_upload(&fixture, &volume));
    drop(volume);
    let number: u64 = db(&fixture).query_row("SELECT number FROM unfinished", [], |row| row.get(0)).unwrap();
    std::fs::remove_file(fixture.data().join(format!(".pair/stage/upload-{number}"))).unwrap();
    forget_boot(&fixture);
    drop(fixture.open());
    let durable: u64 = db(&fixture).query_row("SELECT durable_bytes FROM unfinished", [], |row| row.get(0)).unwrap();
    assert_eq!(durable, 0);
}

#[test]
fn a_flush_that_outlives_its_connection_knows_of_a_cut_by_the_next() {
    let mut fixture = Fixture::new();
    let volume = fixture.open();
    let writer = begin(&volume, &opening(&volume, "alice", 1, "report"));
    writer.write(Some(0), &[7; 100]).unwrap();
    let (stage, notes) = (writer.stage().unwrap(), &volume.unfinished.keeping().notes);
    let cuts = stage.cuts();
    drop(writer);
    let next = begin(&volume, &Opening { truncate: false, ..opening(&volume, "alice", 2, "report") });
    next.set_attributes(&sized(5)).unwrap();
    stage.note_durable(notes.rows(), 100, cuts);
    futures::executor::block_on(volume.settle()).unwrap();
    let durable: u64 = db(&fixture).query_row("SELECT durable_bytes FROM unfinished", [], |row| row.get(0)).unwrap();
    assert!(durable <= 5, "{durable}");
}

#[test]
fn a_gap_that_comes_after_a_cut_is_noted_anew() {
    let mut fixture = Fixture::new();
    let volume = fixture.open();
    let writer = begin(&volume, &opening(&volume, "alice", 1, "report"));
    writer.write(Some(0), &[1; 50]).unwrap();
    writer.write(Some(60), &[1; 10]).unwrap();
    writer.set_attributes(&sized(10)).unwrap();
    writer.write(Some(20), &[2; 10]).unwrap();
    futures::executor::block_on(volume.settle()).unwrap();
    let arrived: u64 = db(&fixture).query_row("SELECT arrived_bytes FROM unfinished", [], |row| row.get(0)).unwrap();
    assert_eq!(arrived, 9);
}
