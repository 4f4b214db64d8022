//! Subscribers of all kinds, over the real socket, with a journal in memory.

use std::collections::BTreeMap;
use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pair::epoch::{Epoch, Lineage};
use pair::feed::{Event, MESSAGE_BYTES_MAX, Subscription};
use pair::record::{Operation, VolumePath};
use tokio::io::AsyncReadExt;
use tokio::task::JoinHandle;

use super::*;

/// A journal of which each record's `seq` is its place.
struct Memory {
    epoch: Epoch,
    chapters: watch::Sender<Arc<Chapter>>,
    decided: watch::Sender<u64>,
    records: Mutex<Vec<Record>>,
    first: AtomicU64,
    acknowledged: Mutex<BTreeMap<String, u64>>,
    reads: AtomicU64,
    is_broken: AtomicBool,
    /// Changes that have happened and are not decided yet.
    undecided: AtomicU64,
}

impl Memory {
    fn new(epoch: Epoch) -> Arc<Memory> {
        let chapter = Chapter { epoch: epoch.clone(), began_after: 0, lineage: Lineage::default() };
        Arc::new(Memory {
            epoch,
            chapters: watch::Sender::new(Arc::new(chapter)),
            decided: watch::Sender::new(0),
            records: Mutex::default(),
            first: AtomicU64::new(1),
            acknowledged: Mutex::default(),
            reads: AtomicU64::new(0),
            is_broken: AtomicBool::new(false),
            undecided: AtomicU64::new(0),
        })
    }

    /// So many changes more were done.
    fn done(&self, count: u64) {
        let from = *self.decided.borrow() + 1;
        self.records.lock().unwrap().extend((from..from + count).map(record));
        self.decided.send_modify(|decided| *decided += count);
    }

    /// So many changes more came to nothing.
    fn aborted(&self, count: u64) {
        self.decided.send_modify(|decided| *decided += count);
    }

    /// All before `first` is not kept any more.
    fn keep_from(&self, first: u64) {
        self.first.store(first, Ordering::SeqCst);
        self.records.lock().unwrap().retain(|record| record.seq >= first);
    }

    fn at(&self, seq: u64) -> Option<Position> {
        Some(Position { epoch: self.epoch.id.clone(), seq })
    }
}

fn record(seq: u64) -> Record {
    Record {
        seq,
        time_ms: 1,
        account: "alice".into(),
        op: Operation::Put,
        path: VolumePath(format!("alice/a file with a rather long name {seq}").into_bytes()),
        target: None,
        inode: Some(seq),
        size: Some(3),
        mtime_ns: Some(1),
        ctime_ns: None,
        mode: Some(0o644),
        hash: None,
    }
}

impl Source for Memory {
    fn chapters(&self) -> watch::Receiver<Arc<Chapter>> {
        self.chapters.subscribe()
    }

    fn node(&self) -> String {
        "a".into()
    }

    fn decided(&self) -> watch::Receiver<u64> {
        self.decided.subscribe()
    }

    fn settle(&self) {
        self.done(self.undecided.swap(0, Ordering::SeqCst));
    }

    fn first_seq(&self) -> anyhow::Result<u64> {
        Ok(self.first.load(Ordering::SeqCst))
    }

    fn records_after(&self, seq: u64, max: usize) -> anyhow::Result<Vec<Record>> {
        anyhow::ensure!(!self.is_broken.load(Ordering::SeqCst), "the disk is gone");
        self.reads.fetch_add(1, Ordering::SeqCst);
        let records = self.records.lock().unwrap();
        Ok(records.iter().filter(|record| record.seq > seq).take(max).cloned().collect())
    }

    fn acknowledge(&self, standby: &str, seq: u64) -> anyhow::Result<()> {
        self.acknowledged.lock().unwrap().insert(standby.into(), seq);
        Ok(())
    }

    fn acknowledgements(&self) -> anyhow::Result<Vec<(String, u64, i64)>> {
        Ok(self.acknowledged.lock().unwrap().iter().map(|(name, seq)| (name.clone(), *seq, 7)).collect())
    }
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), work).await.expect("did not happen within 30 s")
}

/// A served journal.
struct Served {
    state: tempfile::TempDir,
    journal: Arc<Memory>,
    shutdown: CancellationToken,
    serving: JoinHandle<()>,
}

fn served_in(epoch: Epoch) -> Served {
    let (state, journal, shutdown) = (tempfile::tempdir().unwrap(), Memory::new(epoch), CancellationToken::new());
    let serving = tokio::spawn(serve(journal.clone(), bind(state.path()).unwrap(), shutdown.clone()));
    Served { state, journal, shutdown, serving }
}

fn served() -> Served {
    served_in(Epoch::first().unwrap())
}

impl Served {
    fn socket(&self) -> PathBuf {
        path(self.state.path())
    }

    async fn subscribe(&self, standby: &str, from: Option<Position>) -> Subscription {
        within(Subscription::connect(&self.socket(), standby, from)).await.unwrap()
    }

    /// All that the server says to a text before it ends the connection, its greeting left out.
    async fn answers_to(&self, text: &[u8]) -> Vec<Message> {
        let (read, mut write) = UnixStream::connect(self.socket()).await.unwrap().into_split();
        within(write.write_all(text)).await.unwrap();
        // The other half stays open: it is the server that ends this.
        let mut lines = Lines::new(read, MESSAGE_BYTES_MAX);
        let mut said = Vec::new();
        while let Ok(Some(message)) = within(lines.next::<Message>()).await {
            said.push(message);
        }
        assert!(matches!(said.remove(0), Message::Hello(_)));
        said
    }
}

/// The next event that is no heartbeat.
async fn next(subscription: &mut Subscription) -> Event {
    within(async {
        loop {
            match subscription.next().await.unwrap() {
                Event::Heartbeat { .. } => {}
                event => return event,
            }
        }
    })
    .await
}

async fn assert_records(subscription: &mut Subscription, seqs: impl Iterator<Item = u64>) {
    for seq in seqs {
        assert_eq!(next(subscription).await, Event::Record(Box::new(record(seq))));
    }
}

async fn reconcile_at(subscription: &mut Subscription, last: u64) -> String {
    match next(subscription).await {
        Event::Reconcile { reason, seq } if seq == last => reason,
        other => panic!("{other:?}"),
    }
}

async fn heartbeat(subscription: &mut Subscription) -> u64 {
    match within(subscription.next()).await.unwrap() {
        Event::Heartbeat { seq, time_ms } if time_ms > 0 => seq,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn from_the_start_every_record_comes_in_order_and_new_ones_follow() {
    let served = served();
    let count = 2 * BATCH as u64 + 3;
    served.journal.done(count);
    let mut subscription = served.subscribe("b", None).await;
    let hello = Hello {
        epoch: served.journal.epoch.clone(),
        run: String::new(),
        began_after: 0,
        first_seq: 1,
        last_seq: count,
        node: "a".into(),
    };
    assert_eq!(subscription.hello(), &hello);
    assert_records(&mut subscription, 1..=count).await;
    served.journal.done(2);
    assert_records(&mut subscription, count + 1..=count + 2).await;
}

#[tokio::test]
async fn from_a_position_only_what_came_after_it_is_sent() {
    let served = served();
    served.journal.done(10);
    served.journal.keep_from(8);
    for from in [7, 9] {
        assert_records(&mut served.subscribe("b", served.journal.at(from)).await, from + 1..=10).await;
    }
    let mut at_the_end = served.subscribe("b", served.journal.at(10)).await;
    served.journal.done(1);
    assert_records(&mut at_the_end, 11..=11).await;
}

#[tokio::test]
async fn a_position_that_cannot_be_served_is_answered_with_reconcile_and_new_records_follow() {
    let served = served();
    served.journal.done(10);
    served.journal.keep_from(8);
    let elsewhere = Some(Position { epoch: "0123456789abcdef".into(), seq: 9 });
    let cases = [
        (elsewhere, "is not this one"),
        (served.journal.at(6), "the oldest is 8"),
        (served.journal.at(11), "newer"),
        (served.journal.at(u64::MAX), "newer"),
        (None, "the oldest is 8"),
    ];
    let mut subscriptions = Vec::new();
    for (from, why) in cases {
        let mut subscription = served.subscribe("b", from).await;
        let reason = reconcile_at(&mut subscription, 10).await;
        assert!(reason.contains(why), "{reason}");
        subscriptions.push(subscription);
    }
    served.journal.done(1);
    for mut subscription in subscriptions {
        assert_records(&mut subscription, 11..=11).await;
    }
}

#[tokio::test]
async fn one_that_has_nothing_of_an_epoch_that_follows_another_is_told_all_of_that_and_knows_that_it_is_not_all_there_is()
 {
    let served = served_in(Epoch::first().unwrap().next().unwrap());
    served.journal.done(2);
    let mut subscription = served.subscribe("b", None).await;
    assert!(subscription.is_new_epoch());
    assert_records(&mut subscription, 1..=2).await;
}

#[tokio::test]
async fn records_that_are_dropped_before_a_slow_reader_has_them_are_never_left_out_in_silence() {
    let served = served();
    let count = 20_000;
    served.journal.done(count);
    let mut slow = served.subscribe("b", None).await;
    assert_eq!(next(&mut slow).await, Event::Record(Box::new(record(1))));
    served.journal.keep_from(count);
    let mut expected = 2;
    let seq = loop {
        match next(&mut slow).await {
            Event::Record(record) => assert_eq!(record.seq, expected),
            Event::Reconcile { seq, .. } => break seq,
            other => panic!("{other:?}"),
        }
        expected += 1;
    };
    assert!(seq == count && expected < count, "{seq}, {expected}");
    served.journal.done(1);
    assert_records(&mut slow, count + 1..=count + 1).await;
}

#[tokio::test]
async fn a_slow_reader_holds_nobody_and_costs_no_more_than_its_batch() {
    let served = served();
    let (count, batches) = (20_000, 40);
    served.journal.done(count);
    let mut slow = served.subscribe("slow", None).await;
    assert_records(&mut served.subscribe("fast", None).await, 1..=count).await;
    let reads = served.journal.reads.load(Ordering::SeqCst);
    assert!(reads < batches + 10, "{reads}: the slow one was read for as well");
    assert_records(&mut slow, 1..=count).await;
}

#[tokio::test]
async fn many_subscribers_have_each_their_own_position() {
    let served = served();
    served.journal.done(40);
    let mut subscriptions = Vec::new();
    for from in 0..40 {
        subscriptions.push((from, served.subscribe("b", served.journal.at(from)).await));
    }
    served.journal.done(1);
    for (from, mut subscription) in subscriptions {
        assert_records(&mut subscription, from + 1..=41).await;
    }
}

#[tokio::test]
async fn an_idle_feed_sends_heartbeats_and_they_tell_of_changes_that_came_to_nothing() {
    let served = served();
    let mut subscription = served.subscribe("b", None).await;
    assert_eq!(heartbeat(&mut subscription).await, 0);
    served.journal.aborted(3);
    // One of the old state may have been on its way.
    while heartbeat(&mut subscription).await != 3 {}
    served.journal.done(1);
    assert_records(&mut subscription, 4..=4).await;
    assert_eq!(heartbeat(&mut subscription).await, 4);
}

#[tokio::test]
async fn an_acknowledgement_is_noted_and_shown() {
    let served = served();
    served.journal.done(5);
    let mut subscription = served.subscribe("b", None).await;
    assert_records(&mut subscription, 1..=5).await;
    for seq in [3, 3, 6] {
        subscription.acknowledge(seq).await.unwrap();
    }
    assert!(matches!(next(&mut subscription).await, Event::Refused(_)), "all before it was looked at");
    let (read, mut write) = UnixStream::connect(served.socket()).await.unwrap().into_split();
    write.write_all(b"{\"status\":{}}\n").await.unwrap();
    let mut lines = Lines::new(read, MESSAGE_BYTES_MAX);
    assert!(matches!(within(lines.next()).await.unwrap(), Some(Message::Hello(_))));
    let standbys = vec![Standby { name: "b".into(), seq: 3, time_ms: 7 }];
    let status = Message::Status { epoch: served.journal.epoch.clone(), last_seq: 5, standbys };
    assert_eq!(within(lines.next()).await.unwrap(), Some(status));
}

#[tokio::test]
async fn who_asks_for_the_last_change_hears_of_all_that_have_happened() {
    let served = served();
    served.journal.done(5);
    served.journal.undecided.store(2, Ordering::SeqCst);
    let last = within(pair::feed::last_seq(&served.socket())).await.unwrap();
    assert_eq!(Some(last), served.journal.at(7));
}

#[tokio::test]
async fn an_acknowledgement_that_makes_no_sense_is_refused_and_changes_nothing() {
    let served = served();
    served.journal.done(5);
    served.journal.acknowledge("b", 3).unwrap();
    let here = &served.journal.epoch.id;
    let cases = [(here.as_str(), 6, "the last change is 5"), (here, 2, "take that back"), ("x", 4, "its epoch is")];
    for (epoch, seq, why) in cases {
        let at_the_end = Request::Subscribe { standby: "b".into(), from: served.journal.at(5) };
        let acknowledge = Request::Acknowledge { position: Position { epoch: epoch.into(), seq } };
        let mut text = Vec::new();
        for request in [at_the_end, acknowledge, Request::Status {}] {
            send(&mut text, &request).await.unwrap();
        }
        text.extend(b"the end\n");
        let said = served.answers_to(&text).await;
        let [Message::Error { sentence }, Message::Status { standbys, .. }, Message::Error { .. }] = &said[..] else {
            panic!("{said:?}");
        };
        assert!(sentence.contains(why), "{sentence}");
        assert_eq!(standbys, &[Standby { name: "b".into(), seq: 3, time_ms: 7 }]);
    }
}

#[tokio::test]
async fn one_that_acknowledges_without_reading_is_not_waited_for_and_does_not_wait() {
    let served = served();
    served.journal.done(20_000);
    let mut subscription = served.subscribe("b", None).await;
    for seq in 1..=3_000 {
        within(subscription.acknowledge(seq)).await.unwrap();
    }
    assert_records(&mut subscription, 1..=20_000).await;
    within(async {
        while served.journal.acknowledgements().unwrap() != [("b".to_owned(), 3_000, 7)] {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn garbage_is_answered_with_a_sentence_and_the_connection_ends() {
    let served = served();
    let subscribe = r#"{"subscribe":{"standby":"b"}}"#;
    let twice = format!("{subscribe}\n{subscribe}\n");
    let long_name = format!(r#"{{"subscribe":{{"standby":"{}"}}}}"#, "x".repeat(256)) + "\n";
    let long_line = "x".repeat(REQUEST_BYTES_MAX + 1);
    let cases = [
        "GET / HTTP/1.1\r\n",
        "{\"status\":{}\n",
        "{\"record\":{}}\n",
        "{\"acknowledge\":{\"position\":{\"epoch\":\"x\",\"seq\":1}}}\n",
        "{\"subscribe\":{\"standby\":\"\"}}\n",
        "{\"subscribe\":{\"standby\":\"a\\nb\"}}\n",
        &twice,
        &long_name,
        &long_line,
    ];
    for text in cases {
        let said = served.answers_to(text.as_bytes()).await;
        assert!(matches!(&said[..], [Message::Error { sentence }] if !sentence.is_empty()), "{text}: {said:?}");
    }
}

#[tokio::test]
async fn a_journal_that_cannot_be_read_is_said_and_nothing_is_skipped() {
    let served = served();
    let mut subscription = served.subscribe("b", None).await;
    assert_eq!(heartbeat(&mut subscription).await, 0);
    served.journal.is_broken.store(true, Ordering::SeqCst);
    served.journal.done(1);
    assert_eq!(next(&mut subscription).await, Event::Refused("the disk is gone".into()));
    assert!(within(subscription.next()).await.is_err());
}

#[tokio::test]
async fn one_connection_too_many_is_closed_and_the_others_go_on() {
    let served = served();
    let mut subscriptions = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        subscriptions.push(served.subscribe("b", None).await);
    }
    assert!(within(Subscription::connect(&served.socket(), "b", None)).await.is_err());
    served.journal.done(1);
    for subscription in &mut subscriptions {
        assert_records(subscription, 1..=1).await;
    }
}

#[tokio::test]
async fn the_socket_is_the_owners_alone_and_replaces_that_of_a_dead_daemon() {
    let state = tempfile::tempdir().unwrap();
    drop(bind(state.path()).unwrap());
    assert!(path(state.path()).exists(), "what a dead daemon leaves");
    std::fs::write(state.path().join("feed.new"), "what one leaves that died at once").unwrap();
    let _listener = bind(state.path()).unwrap();
    let metadata = std::fs::metadata(path(state.path())).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    assert!(UnixStream::connect(path(state.path())).await.is_ok());
    let names = std::fs::read_dir(state.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names.collect::<Vec<_>>(), ["feed.sock"]);
}

#[tokio::test]
async fn the_socket_of_a_living_daemon_is_left_alone() {
    let served = served();
    let error = bind(served.state.path()).unwrap_err();
    assert_eq!(pair::exit::code(&error), pair::exit::USAGE);
    served.subscribe("b", None).await;
}

#[tokio::test]
async fn shutdown_ends_every_connection_even_of_one_that_does_not_read() {
    let served = served();
    served.journal.done(20_000);
    let mut stuck = UnixStream::connect(served.socket()).await.unwrap();
    stuck.write_all(b"{\"subscribe\":{\"standby\":\"b\"}}\n").await.unwrap();
    let mut idle = served.subscribe("b", served.journal.at(20_000)).await;
    served.shutdown.cancel();
    within(served.serving).await.unwrap();
    within(async { while idle.next().await.is_ok() {} }).await;
    within(stuck.read_to_end(&mut Vec::new())).await.unwrap();
}
