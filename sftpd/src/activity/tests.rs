//! The log as its writers and readers see it.

use super::*;
use pair::activity::LIVE_NAME;

const KEEP: Keep = Keep { file_bytes: 1 << 20, files_max: 3, age_max: Duration::from_secs(3600) };

fn upload(path: &str) -> Activity {
    let mut activity = Activity { sender: sender::UPLOAD.into(), ..Activity::default() };
    activity.set_path(path.as_bytes());
    activity
}

fn records(folder: &Path) -> Vec<Activity> {
    let text = std::fs::read_to_string(folder.join(LIVE_NAME)).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn records_are_written_once_in_order_under_growing_numbers_over_restarts() {
    let folder = tempfile::tempdir().unwrap();
    for start in 0..3 {
        let log = ActivityLog::start(folder.path(), KEEP, false, Counter::default()).unwrap();
        (0..100).for_each(|number| log.put(upload(&format!("/{start}/{number}"))));
        log.flush();
    }
    let records = records(folder.path());
    let paths: Vec<_> = records.iter().filter_map(|record| record.file_path.clone()).collect();
    let expected: Vec<_> = (0..3).flat_map(|start| (0..100).map(move |number| format!("/{start}/{number}"))).collect();
    assert_eq!(paths, expected);
    assert!(records.windows(2).all(|two| two[0].id < two[1].id), "numbers grow");
}

#[test]
fn a_clock_that_is_set_back_gives_no_number_twice() {
    let folder = tempfile::tempdir().unwrap();
    let far_ahead = jiff::Timestamp::now().as_microsecond() as u64 + 1_000_000_000_000;
    std::fs::write(folder.path().join(LIVE_NAME), Activity { id: far_ahead, ..Activity::default() }.line()).unwrap();
    let log = ActivityLog::start(folder.path(), KEEP, false, Counter::default()).unwrap();
    log.put(upload("/a"));
    log.flush();
    assert_eq!(records(folder.path()).last().unwrap().id, far_ahead + 1);
}

#[test]
fn a_log_that_cannot_be_written_holds_nobody_up_and_says_later_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let logs = folder.path().join("logs");
    // A file where the folder should be.
    std::fs::write(&logs, "").unwrap();
    let lost = Counter::default();
    let log = ActivityLog::start(&logs, KEEP, false, lost.clone()).unwrap();
    (0..10).for_each(|number| log.put(upload(&format!("/{number}"))));
    log.flush();
    assert_eq!(lost.get(), 10);
    std::fs::remove_file(&logs).unwrap();
    let end = Instant::now() + Duration::from_secs(60);
    while records(&logs).is_empty() {
        assert!(Instant::now() < end, "the log is never written again");
        log.put(upload("/after"));
        log.flush();
    }
    let said = records(&logs).into_iter().find(|record| record.sender == sender::LOST).unwrap();
    let number: u64 = said.error.unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(number >= 10, "{number}");
}

#[test]
fn a_full_queue_loses_records_and_counts_them() {
    let (queue, jobs) = sync_channel(1);
    let log =
        ActivityLog { queue, queued_bytes: Arc::default(), lost: Arc::default(), lost_in_all: Counter::default() };
    (0..3).for_each(|_| log.put(upload("/a")));
    assert_eq!((log.lost.load(Ordering::Relaxed), log.lost_in_all.get()), (2, 2));
    let Ok(Job::Record(kept)) = jobs.recv() else { panic!("a record") };
    assert_eq!(log.queued_bytes.load(Ordering::Relaxed), weight(&kept), "what is lost takes no room");
}

#[test]
fn of_endless_refusals_only_some_are_recorded_and_the_rest_is_counted() {
    let (mut refusals, began) = (Refusals::default(), Instant::now());
    for _ in 0..REFUSALS_MAX {
        assert_eq!(refusals.admit(began), Some(0));
    }
    assert_eq!((refusals.admit(began), refusals.admit(began)), (None, None));
    assert_eq!(refusals.admit(began + REFUSALS_PER), Some(2));
    assert_eq!(refusals.admit(began + REFUSALS_PER), Some(0));
}

#[test]
fn lines_of_another_machine_are_kept_once() {
    let folder = tempfile::tempdir().unwrap();
    let line = |id| Activity { id, ..Activity::default() }.line();
    let received = Received::new(folder.path(), KEEP);
    assert_eq!(received.append("n1", b"").unwrap(), 0);
    assert_eq!(received.append("n1", &[line(1), line(2)].concat()).unwrap(), 2);
    // The answer was lost: the same comes again, with more behind it, and the last line torn.
    let again = [line(1), line(2), line(3), b"{\"id\":4".to_vec()].concat();
    assert_eq!(received.append("n1", &again).unwrap(), 3);
    assert_eq!(Received::new(folder.path(), KEEP).append("n1", b"no record\n").unwrap(), 3, "also after a restart");
    let kept = records(&folder.path().join("from-n1"));
    assert_eq!(kept.iter().map(|record| record.id).collect::<Vec<_>>(), [1, 2, 3]);
}
