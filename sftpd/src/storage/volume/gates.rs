//! The gate, and what a change of the epoch does to the journal.

use std::time::Duration;

use pair::epoch::Epoch;

use super::tests::{Fixture, begin, close, opening, put};
use super::*;
use crate::storage::Way;

fn closed(sentence: &str) -> Gate {
    Gate { clients: Way::Closed(sentence.into()), replication: Way::Open }
}

#[tokio::test]
async fn a_closed_gate_refuses_what_is_told_and_lets_replication_through() {
    let mut fixture = Fixture::new();
    let volume = fixture.open();
    put(&volume, "before", b"x").await.unwrap();
    volume.set_gate(closed("this is the standby")).await.unwrap();
    let refused = put(&volume, "after", b"x").await.unwrap_err();
    assert!(refused.to_string().contains("this is the standby"), "{refused}");
    let place = volume.whole().unwrap().place(b"replicated").unwrap();
    volume.commit(Change::MakeFolder(place, 0o755), None).await.unwrap();
    volume.set_gate(Gate { clients: Way::Open, replication: Way::Closed("a master".into()) }).await.unwrap();
    put(&volume, "again", b"x").await.unwrap();
    let place = volume.whole().unwrap().place(b"late").unwrap();
    let refused = volume.commit(Change::MakeFolder(place, 0o755), None).await.unwrap_err();
    assert!(refused.to_string().contains("a master"), "{refused}");
}

#[tokio::test]
async fn what_a_gate_holds_nobody_hears_of_until_it_opens_or_closes() {
    let mut fixture = Fixture::new();
    let volume = fixture.open();
    volume.root("alice").unwrap();
    for (gate, is_done) in [(Gate::default(), true), (closed("no"), false)] {
        volume.set_gate(Gate { clients: Way::Held, replication: Way::Open }).await.unwrap();
        let writer = begin(&volume, &opening(&volume, "alice", 1, "held"));
        writer.write(Some(0), b"content").unwrap();
        let last = *volume.decided().borrow();
        let mut answer = std::pin::pin!(close(&volume, writer));
        let waits = tokio::time::timeout(Duration::from_millis(50), &mut answer).await;
        assert!(waits.is_err(), "it is neither done nor refused");
        assert_eq!(volume.decide_all().await.unwrap(), last, "and takes no number");
        volume.set_gate(gate).await.unwrap();
        assert_eq!(answer.await.is_ok(), is_done);
        volume.set_gate(Gate::default()).await.unwrap();
    }
}

#[tokio::test]
async fn a_new_epoch_goes_on_with_the_numbers_and_forgets_what_standbys_had_of_the_old_one() {
    let mut fixture = Fixture::new();
    let volume = fixture.open();
    put(&volume, "one", b"x").await.unwrap();
    let last = volume.decide_all().await.unwrap();
    let acknowledging = volume.clone();
    tokio::task::spawn_blocking(move || acknowledging.acknowledge("b", last)).await.unwrap().unwrap();
    let before = volume.chapter();
    let next = before.epoch.follow("0123456789abcdef".into(), None).unwrap();
    volume.begin_epoch(next.clone()).await.unwrap();
    let chapter = volume.chapter();
    assert_eq!((&chapter.epoch, chapter.began_after), (&next, last));
    assert!(chapter.lineage.has(before.lineage.run(), last, last) && chapter.lineage.run() != before.lineage.run());
    assert!(volume.acknowledgements().unwrap().is_empty());
    put(&volume, "two", b"x").await.unwrap();
    assert!(volume.decide_all().await.unwrap() > last);
}

#[tokio::test]
async fn numbers_whose_records_are_gone_are_not_given_again() {
    let mut fixture = Fixture::new();
    let last = {
        let volume = fixture.open();
        put(&volume, "one", b"x").await.unwrap();
        volume.decide_all().await.unwrap()
    };
    let db = rusqlite::Connection::open(fixture.state().join("sftpd.db")).unwrap();
    // As after a power failure, when all standbys had everything.
    db.execute_batch(&format!(
        "DELETE FROM journal; INSERT OR REPLACE INTO meta VALUES ('dropped', '{}'), ('clean', '0'); DELETE FROM meta WHERE key = 'seq';",
        last + 7
    ))
    .unwrap();
    drop(db);
    let volume = fixture.open();
    put(&volume, "two", b"x").await.unwrap();
    assert!(volume.decide_all().await.unwrap() > last + 7);
    let Epoch { counter, .. } = volume.chapter().epoch;
    assert_eq!(counter, 1);
}

#[tokio::test]
async fn who_takes_over_shows_nothing_arrived_of_what_was_begun_elsewhere_and_the_old_file_to_all_others() {
    let mut fixture = Fixture::new();
    let volume = fixture.open();
    put(&volume, "x", b"complete").await.unwrap();
    put(&volume, "stale", b"complete").await.unwrap();
    let stale = begin(&volume, &opening(&volume, "alice", 1, "stale"));
    stale.write(Some(0), b"of another time").unwrap();
    assert_eq!(volume.begun().len(), 1, "its own are told of");
    drop(stale);
    let path = pair::record::VolumePath(b"alice/x".to_vec());
    let missing = pair::record::VolumePath(b"alice/missing".to_vec());
    let begun = [("alice".to_owned(), path), ("alice".to_owned(), missing)];
    volume.take_over_uploads(&begun, 99);
    let at = |name: &str| volume.root("alice").unwrap().place(name.as_bytes()).unwrap();
    let seen = |account: &str, name: &str| volume.unfinished_at(account, 5, &at(name)).map(|found| found.size);
    assert_eq!((seen("alice", "x"), seen("bob", "x")), (Some(0), None));
    assert_eq!((seen("alice", "stale"), seen("alice", "missing")), (None, None));
    let continued = volume.resume_upload(&opening(&volume, "alice", 7, "x")).unwrap().unwrap();
    continued.write(Some(0), b"new").unwrap();
    close(&volume, continued).await.unwrap();
    assert_eq!(std::fs::read(fixture.data().join("alice/x")).unwrap(), b"new");
}
