//! Who does the committer's work, and that it makes no difference.

use futures::FutureExt;
use rustix::io::Errno;

use super::super::super::change::Change;
use super::super::super::volume::tests::{Fixture, begin, opening};
use super::*;
use crate::storage::disk::Disk;
use crate::storage::{Closing, Volume};

/// A volume on which nothing has to be flushed.
fn volatile() -> (Fixture, Arc<Volume>, Disk) {
    let (mut fixture, disk) = (Fixture::new(), Disk::default());
    fixture.durability = Durability::None;
    let volume = fixture.open_by(disk.clone());
    volume.root("alice").unwrap();
    until_idle(&volume);
    (fixture, volume, disk)
}

/// The thread answers before it has quite done.
fn until_idle(volume: &Volume) {
    let (queue, since) = (&volume.committer_for_tests().queue, Instant::now());
    while !queue.is_idle() {
        assert!(since.elapsed().as_secs() < 30, "the thread has nothing to do, and is not idle");
        std::thread::yield_now();
    }
}

fn upload(volume: &Volume, name: &str) -> Change {
    let writer = begin(volume, &opening(volume, "alice", 1, name));
    writer.write(Some(0), b"content").unwrap();
    match writer.close().unwrap() {
        Closing::Publish(publication) => Change::Publish(publication),
        Closing::Behind(_) | Closing::Nothing => panic!("there is something to publish"),
    }
}

#[test]
fn where_nobody_waits_a_change_is_made_by_who_asks_for_it() {
    let (fixture, volume, _) = volatile();
    let answered = volume.commit_with_next(upload(&volume, "report"), Some("alice".into()));
    volume.begin_changes(|| true);
    assert!(matches!(answered.now_or_never(), Some(Ok(()))), "it is answered at once");
    assert_eq!(std::fs::read(fixture.data().join("alice/report")).unwrap(), b"content");
    // Nobody asks for more: the thread writes how it went all the same.
    let mut decided = volume.decided();
    let has_come = decided.wait_for(|&seq| seq >= 2);
    let has_come = async { tokio::time::timeout(std::time::Duration::from_secs(30), has_come).await.is_ok() };
    assert!(tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(has_come));
    assert!(volume.records_after(1, 10).unwrap().iter().any(|record| record.path.0 == b"alice/report"));
}

#[test]
fn where_the_thread_is_at_work_or_must_flush_or_may_not_be_blocked_it_does_the_work() {
    let (_fixture, volume, _) = volatile();
    let let_go = volume.committer_for_tests().hold();
    let answered = volume.commit_with_next(upload(&volume, "report"), Some("alice".into()));
    volume.begin_changes(|| true);
    let mut answered = Box::pin(answered);
    assert!((&mut answered).now_or_never().is_none(), "what came before is not done");
    let_go.send(()).unwrap();
    futures::executor::block_on(answered).unwrap();
    until_idle(&volume);
    assert!(volume.committer_for_tests().worker.borrow().is_some());
    let mut fixture = Fixture::new();
    let durable = fixture.open();
    until_idle(&durable);
    assert!(durable.committer_for_tests().worker.borrow().is_none(), "a session would wait for the disk");
}

#[test]
fn a_fault_is_answered_and_the_next_change_goes_on() {
    let (fixture, volume, disk) = volatile();
    disk.faults.fail("rename", 1, Errno::IO);
    for (name, is_done) in [("first", false), ("second", true)] {
        let answered = volume.commit_with_next(upload(&volume, name), Some("alice".into()));
        volume.begin_changes(|| true);
        assert_eq!(futures::executor::block_on(answered).is_ok(), is_done, "{name}");
        assert_eq!(fixture.data().join("alice").join(name).exists(), is_done, "{name}");
        until_idle(&volume);
    }
}
