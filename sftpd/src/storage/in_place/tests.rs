//! Files written in place: what is told of them, and what of a failure.

use std::time::Duration;

use rustix::io::Errno;

use super::super::volume::Volume;
use super::super::volume::corners::content;
use super::super::volume::tests::{Fixture, opening};
use super::*;

/// The operations on a path that were told, without the folder's.
fn told(volume: &Volume, name: &str) -> Vec<&'static str> {
    // What nobody waited for may share its group with the first of these, and outcomes are written after the answers.
    for _ in 0..2 {
        futures::executor::block_on(volume.settle()).unwrap();
    }
    let records = volume.records_after(0, 1000).unwrap();
    records.iter().filter(|record| record.path.0.ends_with(name.as_bytes())).map(|record| record.op.name()).collect()
}

/// OPEN of an account with `upload: direct`.
async fn direct(volume: &Volume, name: &str) -> Result<InPlace> {
    let root = volume.root("alice").unwrap();
    let (file, _) = root.open_in_place(name.as_bytes(), Some(0o644), false).unwrap();
    let place = root.place(name.as_bytes()).unwrap();
    let (in_place, told) = volume.write_in_place(file, Some(&place), None, Some("alice".into())).unwrap();
    told.unwrap().await?;
    in_place.begin(false).map(|()| in_place)
}

#[tokio::test]
async fn a_file_that_is_written_in_place_is_clean_when_its_last_writer_is_gone() {
    let mut fixture = Fixture::new();
    let volume = fixture.open();
    let (first, second) = (direct(&volume, "log").await.unwrap(), direct(&volume, "log").await.unwrap());
    first.write(None, b"first ").unwrap();
    second.write(None, b"second ").unwrap();
    first.write(None, b"third").unwrap();
    first.close().await.unwrap();
    drop(first);
    assert_eq!(told(&volume, "log"), ["dirty", "dirty"]);
    // Its connection dies.
    drop(second);
    assert_eq!(told(&volume, "log"), ["dirty", "dirty", "clean"]);
    assert_eq!(content(&fixture, "log").unwrap(), b"first second third");
}

#[tokio::test]
async fn a_write_in_place_that_failed_is_told_at_close_and_the_file_is_clean_all_the_same() {
    let mut fixture = Fixture::new();
    let disk = Disk::default();
    let volume = fixture.open_by(disk.clone());
    let file = direct(&volume, "log").await.unwrap();
    disk.faults.fail("write", 1, Errno::NOSPC);
    assert!(file.write(Some(0), b"lost").is_err());
    let incomplete = file.close().await.unwrap_err().to_string();
    assert!(incomplete.contains("incomplete"), "{incomplete}");
    assert_eq!(told(&volume, "log"), ["dirty", "clean"]);
}

#[tokio::test]
async fn the_name_of_a_new_file_that_is_written_in_place_is_durable_before_its_open_is_answered() {
    let mut fixture = Fixture::new();
    let disk = Disk::default();
    let volume = fixture.open_by(disk.clone());
    volume.root("alice").unwrap();
    let other = direct(&volume, "other").await.unwrap();
    disk.faults.fail("fsync", 1, Errno::IO);
    assert!(direct(&volume, "log").await.is_err());
    assert!(other.write(Some(0), b"x").is_err(), "the volume is read-only by now");
    assert!(volume.begin_upload(&opening(&volume, "alice", 1, "report"), None).is_err());
}

#[tokio::test]
async fn a_file_written_in_place_of_which_clean_could_not_be_told_is_told_later() {
    let mut fixture = Fixture::new();
    let disk = Disk::default();
    let volume = fixture.open_by(disk.clone());
    let file = direct(&volume, "log").await.unwrap();
    file.write(Some(0), b"content").unwrap();
    disk.faults.fail("journal", u64::MAX, Errno::NOSPC);
    assert!(file.close().await.is_err());
    disk.faults.heal();
    assert_eq!(told(&volume, "log"), ["dirty"]);
    let told_later = async {
        while told(&volume, "log") != ["dirty", "clean"] {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), told_later).await.unwrap();
}

#[tokio::test]
async fn a_flush_in_place_that_found_no_room_is_not_forgotten_at_close() {
    let mut fixture = Fixture::new();
    let disk = Disk::default();
    let volume = fixture.open_by(disk.clone());
    let file = direct(&volume, "log").await.unwrap();
    file.write(Some(0), b"content").unwrap();
    disk.faults.fail("fsync", 1, Errno::NOSPC);
    assert!(file.flush().await.is_err());
    assert!(file.close().await.is_err());
}

#[tokio::test]
async fn nothing_is_written_in_place_before_dirty_is_told_or_after_close() {
    let mut fixture = Fixture::new();
    let volume = fixture.open();
    let root = volume.root("alice").unwrap();
    let (opened, _) = root.open_in_place(b"log", Some(0o644), false).unwrap();
    let (file, told) = volume.write_in_place(opened, None, None, Some("alice".into())).unwrap();
    assert!(file.write(Some(0), b"early").is_err());
    told.unwrap().await.unwrap();
    file.begin(false).unwrap();
    file.write(Some(0), b"content").unwrap();
    assert!(file.close().await.is_err(), "a WRITE has failed");
    assert!(file.write(Some(0), b"late").is_err() && file.begin(true).is_err());
    assert_eq!(content(&fixture, "log").unwrap(), b"content");
}
