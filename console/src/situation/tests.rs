//! The looking, at folders in which nobody answers, or somebody who hangs.

use std::time::Duration;

use filesync::store::{Store, Verified};
use jiff::tz::TimeZone;
use pair::control::{Answer, Order};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixListener;

use super::*;

/// Far more than a look takes, but for one that hangs.
const PATIENCE: Duration = Duration::from_secs(30);

fn config() -> (tempfile::TempDir, Config) {
    let folder = tempfile::tempdir().unwrap();
    drop(crate::store::Store::open(folder.path(), TimeZone::UTC).unwrap());
    let config = Config { state: folder.path().into(), ..Config::default() };
    (folder, config)
}

async fn first(config: &Config, is_meant: impl Fn(&Situation) -> bool) -> Arc<Situation> {
    let shutdown = CancellationToken::new();
    let mut watch = watch(config, shutdown.clone());
    let found = tokio::time::timeout(PATIENCE, watch.wait_for(|now| now.looked_ms.is_some() && is_meant(now)));
    let found = found.await.unwrap().unwrap().clone();
    shutdown.cancel();
    found
}

#[tokio::test]
async fn where_there_is_no_pair_the_snapshot_says_that_nobody_answers() {
    let (_folder, config) = config();
    let now = first(&config, |_| true).await;
    assert!(!now.is_pair && now.status.is_none() && now.mirrors.is_empty());
    assert!(now.status_fault.as_ref().unwrap().contains("no sftpd answers"), "{:?}", now.status_fault);
    assert_eq!(now.mirrors_fault, None);
    assert!(now.since.contains_key("sftpd"));
}

#[tokio::test]
async fn what_filesync_has_written_is_in_the_snapshot_and_garbled_stores_are_a_sentence() {
    let (folder, config) = config();
    let file = folder.path().join("filesync.db");
    let mut store = Store::open(&file, "b:22").unwrap();
    let now_s = jiff::Timestamp::now().as_second();
    let report = Report { at_s: now_s, connected: true, lag_ms: 70, changes_behind: 2, ..Report::default() };
    store.keep_report(&serde_json::to_string(&report).unwrap()).unwrap();
    store.keep_verified(&Verified { at_s: 9, files: 3, ..Verified::default() }).unwrap();
    let trouble = filesync::store::Trouble { sentence: "x".into(), first_s: 5, last_s: 6, attempts: 2 };
    store.keep_troubles(&[(b"a\nb".to_vec(), trouble)].into()).unwrap();
    let now = first(&config, |now| !now.lines.hour.courses.is_empty()).await;
    let [mirror] = &now.mirrors[..] else { panic!("{now:?}") };
    assert_eq!((mirror.name.as_str(), mirror.troubles_count), ("b:22", 1));
    assert_eq!((mirror.troubles[0].path.as_str(), mirror.troubles[0].tries), ("a\\nb", 2));
    assert_eq!(mirror.verified.as_ref().unwrap().files, 3);
    let course = &now.lines.hour.courses[0];
    assert_eq!((course.standby.as_str(), course.points[0].lag_ms), ("b:22", 70));
    drop(store);
    for end in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(folder.path().join(format!("filesync.db{end}")));
    }
    std::fs::write(&file, "no database, but long enough to be read as one ".repeat(40)).unwrap();
    let now = first(&config, |_| true).await;
    assert!(now.mirrors_fault.as_ref().unwrap().contains("filesync.db"), "{:?}", now.mirrors_fault);
}

#[tokio::test]
async fn a_sftpd_that_refuses_or_hangs_is_a_sentence_and_what_it_said_stays() {
    let (folder, config) = config();
    std::fs::write(pair::node::path(folder.path()), "x").unwrap();
    let listener = UnixListener::bind(pair::control::path(folder.path())).unwrap();
    let serving = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let (read, mut write) = stream.into_split();
                let line = BufReader::new(read).lines().next_line().await.unwrap().unwrap();
                let answer = match serde_json::from_str(&line).unwrap() {
                    Order::Bans {} => Answer::Bans(Vec::new()),
                    // It hangs.
                    _ => return std::future::pending().await,
                };
                let answer = serde_json::to_string(&answer).unwrap() + "\n";
                write.write_all(answer.as_bytes()).await.unwrap();
            });
        }
    });
    let now = first(&config, |_| true).await;
    assert!(now.is_pair);
    assert!(now.status_fault.as_ref().unwrap().contains("does it hang"), "{:?}", now.status_fault);
    serving.abort();
}
