//! Flushes that fail: what they fail, and what not.

use std::sync::Arc;

use super::super::volume::corners::{close_later, content, seen};
use super::super::volume::tests::{Fixture, begin, close, opening};
use super::super::{NewAttributes, Opening, Writer};
use super::*;

#[tokio::test]
async fn among_many_uploads_the_one_whose_flush_has_failed_fails_alone() {
    let mut fixture = Fixture::new();
    let disk = Disk::default();
    let volume = fixture.open_by(disk.clone());
    let begin = |number: usize| begin(&volume, &opening(&volume, "alice", 1, &format!("report-{number}")));
    let writers: Vec<Writer> = (0..20).map(begin).collect();
    writers.iter().for_each(|writer| writer.write(Some(0), b"content").unwrap());
    disk.faults.fail("fsync", 1, Errno::NOSPC);
    assert!(volume.commit(Change::FlushStage(writers[7].stage().unwrap()), None).await.is_err());
    let let_go = volume.committer_for_tests().hold();
    let answers: Vec<_> = writers.into_iter().map(|writer| close_later(&volume, writer)).collect();
    let_go.send(()).unwrap();
    for (number, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.await.is_ok(), number != 7, "{number}");
    }
    assert_eq!((volume.failure(), seen(&volume, 2, "report-7")), (None, Some(0)), "no byte of it is gone on with");
}

#[tokio::test]
async fn a_flush_of_everything_that_meets_a_full_disk_asks_each_file() {
    let mut fixture = Fixture::new();
    let disk = Disk::default();
    let volume = fixture.open_by(disk.clone());
    let begin = |number: usize| begin(&volume, &opening(&volume, "alice", 1, &format!("report-{number}")));
    let writers: Vec<Writer> = (0..20).map(begin).collect();
    disk.faults.fail("syncfs", 1, Errno::NOSPC);
    let let_go = volume.committer_for_tests().hold();
    let answers: Vec<_> = writers.into_iter().map(|writer| close_later(&volume, writer)).collect();
    let_go.send(()).unwrap();
    for answer in answers {
        answer.await.unwrap();
    }
    assert_eq!(volume.failure(), None);
}

#[tokio::test]
async fn a_link_is_flushed_with_everything_because_it_cannot_be_alone() {
    let mut fixture = Fixture::new();
    let disk = Disk::default();
    let volume = fixture.open_by(disk.clone());
    let root = volume.root("alice").unwrap();
    let link = Change::MakeLink(root.place(b"link").unwrap(), b"elsewhere".to_vec());
    volume.commit(link, Some("alice".into())).await.unwrap();
    let times = NewAttributes { times: Some((1, 2)), ..NewAttributes::default() };
    let thing = Arc::new(root.handle_for_attributes(b"link", false).unwrap());
    disk.faults.fail("syncfs", 1, Errno::IO);
    assert!(volume.commit(Change::SetAttributes(thing, times), Some("alice".into())).await.is_err());
}

#[tokio::test]
async fn bytes_whose_flush_has_failed_are_not_gone_on_with() {
    let mut fixture = Fixture::new();
    let disk = Disk::default();
    let volume = fixture.open_by(disk.clone());
    let first = begin(&volume, &opening(&volume, "alice", 1, "report"));
    first.write(Some(0), b"lost").unwrap();
    disk.faults.fail("fsync", 1, Errno::NOSPC);
    assert!(volume.commit(Change::FlushStage(first.stage().unwrap()), None).await.is_err());
    drop(first);
    assert_eq!(seen(&volume, 2, "report"), Some(0));
    let again = begin(&volume, &Opening { truncate: false, ..opening(&volume, "alice", 2, "report") });
    again.write(Some(0), b"content").unwrap();
    close(&volume, again).await.unwrap();
    assert_eq!(content(&fixture, "report").unwrap(), b"content");
}

#[tokio::test]
async fn after_a_flush_of_everything_met_a_full_disk_once_each_file_is_asked() {
    let mut fixture = Fixture::new();
    let disk = Disk::default();
    let volume = fixture.open_by(disk.clone());
    let begin = |number: usize| begin(&volume, &opening(&volume, "alice", 1, &format!("report-{number}")));
    for round in 0..2 {
        let writers: Vec<Writer> = (0..20).map(|number| begin(round * 20 + number)).collect();
        // The first round's flush of everything has told of bytes that only the second round's file misses.
        disk.faults.fail(["syncfs", "fsync"][round], 1, Errno::NOSPC);
        let let_go = volume.committer_for_tests().hold();
        let answers: Vec<_> = writers.into_iter().map(|writer| close_later(&volume, writer)).collect();
        let_go.send(()).unwrap();
        let answers = futures::future::join_all(answers).await;
        assert_eq!(answers.iter().filter(|answer| answer.is_err()).count(), round);
    }
    assert_eq!(volume.failure(), None);
}
