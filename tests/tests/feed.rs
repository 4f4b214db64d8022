//! The feed as a subscriber on the same machine sees it: every change, in order, over restarts and kills.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::Duration;

use pair::feed::{Event, Subscription, path};
use pair::record::{Operation, Position, Record};
use tests::{Machine, USER};

async fn subscribe(machine: &Machine, from: Option<Position>) -> Subscription {
    Subscription::connect(&path(&machine.state()), "standby", from).await.unwrap()
}

/// The next thing that is told, but for heartbeats.
async fn next(subscription: &mut Subscription) -> Event {
    loop {
        let event = tokio::time::timeout(Duration::from_secs(60), subscription.next()).await.expect("in time").unwrap();
        match event {
            Event::Heartbeat { .. } => {}
            Event::Record(record) if record.op == Operation::Heartbeat => {}
            other => return other,
        }
    }
}

/// The next record of this operation.
async fn record(subscription: &mut Subscription, op: Operation) -> Record {
    loop {
        match next(subscription).await {
            Event::Record(record) if record.op == op => return *record,
            Event::Record(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_hears_of_every_upload_with_its_hash_and_goes_on_where_it_was() {
    let mut master = Machine::master().start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    let put = |master: &Machine, content: &str, name: &str| {
        std::fs::write(&file, content).unwrap();
        master.sftp(USER).run(&format!("put {} {name}\n", file.display())).expect_ok();
    };
    put(&master, "first", "one");
    let mut subscription = subscribe(&master, None).await;
    let epoch = subscription.hello().epoch.clone();
    let mut told = record(&mut subscription, Operation::Put).await;
    while told.account != USER.0 {
        told = record(&mut subscription, Operation::Put).await;
    }
    assert_eq!((told.path.0.as_slice(), told.size), (b"EPuser/one".as_slice(), Some(5)));
    assert_eq!(told.hash.as_deref(), Some(blake3::hash(b"first").to_hex().as_str()));
    subscription.acknowledge(told.seq).await.unwrap();

    // While it is gone, and over a clean restart, nothing is lost and nothing is told twice.
    drop(subscription);
    put(&master, "second", "two");
    master.restart();
    put(&master, "third", "three");
    let at = |seq| Some(Position { epoch: epoch.id.clone(), seq });
    let mut subscription = subscribe(&master, at(told.seq)).await;
    assert_eq!(record(&mut subscription, Operation::Put).await.path.0, b"EPuser/two");
    let third = record(&mut subscription, Operation::Put).await;
    assert_eq!(third.path.0, b"EPuser/three");

    // After a kill it is told to reconcile, and then of what came since.
    drop(subscription);
    master.kill();
    master.start();
    put(&master, "fourth", "four");
    let mut subscription = subscribe(&master, at(third.seq)).await;
    assert!(matches!(next(&mut subscription).await, Event::Record(mark) if mark.op == Operation::Mark));
    assert_eq!(record(&mut subscription, Operation::Put).await.path.0, b"EPuser/four");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_of_another_epoch_is_told_to_reconcile() {
    let master = Machine::master().start();
    let from = Some(Position { epoch: "0123456789abcdef".into(), seq: 1 });
    let mut subscription = subscribe(&master, from).await;
    assert!(matches!(next(&mut subscription).await, Event::Reconcile { .. }));
}
