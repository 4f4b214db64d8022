//! The activity log: who did what, in `activity.log` and on standard output.
//!
//! Always holds: nobody who does something waits for the log. Records go through a bounded queue to a thread that gives
//! them their numbers and writes them; a full queue or disk loses records, never transfers, and what is lost is counted
//! and said in the log itself as soon as there is room. What is recorded is decided where it happens.

mod file;

use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pair::activity::{Activity, Level, Outcome, id_of, sender};
use prometheus_client::metrics::counter::Counter;

pub use file::{Keep, LogFile};

/// Records that wait to be written.
const QUEUE_RECORDS_MAX: usize = 64 * 1024;

/// The same in bytes, roughly.
const QUEUE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Written at a time, in bytes.
const BATCH_BYTES: usize = 256 * 1024;

/// Batches that wait for whoever reads standard output.
const OUTPUT_BATCHES_MAX: usize = 32;

/// How long the end of the daemon waits for what is in the queue.
const GOODBYE: Duration = Duration::from_secs(3);

/// How long the file is left alone after it could not be written.
const REST: Duration = Duration::from_secs(1);

/// Refusals of one session that are recorded, and in what time.
const REFUSALS_MAX: u32 = 1000;
const REFUSALS_PER: Duration = Duration::from_secs(60);

enum Job {
    Record(Box<Activity>),
    /// Answers when all before it is written.
    Flush(SyncSender<()>),
}

/// The log. Copies of it are the same one.
#[derive(Clone)]
pub struct ActivityLog {
    queue: SyncSender<Job>,
    queued_bytes: Arc<AtomicUsize>,
    /// Records that found no room since the last one that did.
    lost: Arc<AtomicU64>,
    lost_in_all: Counter,
}

impl ActivityLog {
    /// Starts the log in a folder. A folder that cannot be written is no reason not to start.
    pub fn start(folder: &Path, keep: Keep, on_stdout: bool, lost_in_all: Counter) -> std::io::Result<ActivityLog> {
        let (queue, jobs) = sync_channel(QUEUE_RECORDS_MAX);
        let log = ActivityLog { queue, queued_bytes: Arc::default(), lost: Arc::default(), lost_in_all };
        let mut file = LogFile::new(folder.to_owned(), keep);
        // Opened now, so that a folder that cannot be written is known at the start. It is tried again with each record.
        let next_id = match file.last_id() {
            Ok(last) => last.map_or(0, |last| last + 1),
            Err(error) => {
                tracing::warn!(%error, folder = %folder.display(), "activity.log cannot be written; transfers go on");
                0
            }
        };
        let mut writer = Writer {
            file,
            output: on_stdout.then(start_output).transpose()?,
            next_id,
            queued_bytes: log.queued_bytes.clone(),
            lost: log.lost.clone(),
            lost_in_all: log.lost_in_all.clone(),
            failed: None,
        };
        std::thread::Builder::new().name("activity".into()).spawn(move || writer.run(&jobs))?;
        Ok(log)
    }

    /// Puts a record in. It never waits; where there is no room the record is lost, and counted.
    pub fn put(&self, mut activity: Activity) {
        activity.time = now();
        activity.cap();
        let bytes = weight(&activity);
        let has_room = self.queued_bytes.fetch_add(bytes, Ordering::Relaxed) < QUEUE_BYTES_MAX;
        if !has_room || self.queue.try_send(Job::Record(Box::new(activity))).is_err() {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.lost.fetch_add(1, Ordering::Relaxed);
            self.lost_in_all.inc();
        }
    }

    /// Waits, for a while, until all that was put in is written. Blocks.
    pub fn flush(&self) {
        let (done, is_done) = sync_channel(1);
        let end = Instant::now() + GOODBYE;
        let mut job = Job::Flush(done);
        while let Err(std::sync::mpsc::TrySendError::Full(again)) = self.queue.try_send(job) {
            if Instant::now() > end {
                return;
            }
            job = again;
            std::thread::yield_now();
        }
        let _ = is_done.recv_timeout(end.saturating_duration_since(Instant::now()));
    }
}

fn now() -> String {
    format!("{:.3}", jiff::Timestamp::now())
}

/// What a record takes in memory, roughly, in bytes.
fn weight(activity: &Activity) -> usize {
    size_of::<Activity>() + activity.text_bytes()
}

/// Standard output by a thread of its own: whoever reads it slowly holds up nothing else.
fn start_output() -> std::io::Result<SyncSender<Vec<u8>>> {
    let (output, batches) = sync_channel::<Vec<u8>>(OUTPUT_BATCHES_MAX);
    let write = move || {
        for batch in batches {
            // Nobody may be listening any more, which is no reason to fail.
            let _ = std::io::stdout().lock().write_all(&batch);
        }
    };
    std::thread::Builder::new().name("activity-output".into()).spawn(write)?;
    Ok(output)
}

/// How long records wait for others at most.
const GATHER: Duration = Duration::from_millis(5);

/// The thread that writes.
struct Writer {
    file: LogFile,
    output: Option<SyncSender<Vec<u8>>>,
    next_id: u64,
    queued_bytes: Arc<AtomicUsize>,
    lost: Arc<AtomicU64>,
    lost_in_all: Counter,
    /// Since when the file cannot be written.
    failed: Option<Instant>,
}

impl Writer {
    #[allow(clippy::disallowed_methods, reason = "nobody waits for this thread, and what it waits for is more to do")]
    fn run(&mut self, jobs: &Receiver<Job>) {
        while let Ok(job) = jobs.recv() {
            let (mut lines, mut count, mut waiting) = (Vec::new(), 0, Vec::new());
            let mut next = Some(job);
            while let Some(job) = next.take() {
                match job {
                    Job::Record(activity) => {
                        self.queued_bytes.fetch_sub(weight(&activity), Ordering::Relaxed);
                        self.say(*activity, &mut lines);
                        count += 1;
                    }
                    Job::Flush(done) => waiting.push(done),
                }
                next = if lines.len() < BATCH_BYTES { jobs.try_recv().ok() } else { None };
            }
            self.write(lines, count);
            for done in waiting {
                let _ = done.try_send(());
            }
            // What comes meanwhile is written together, and nobody wakes this thread for it.
            std::thread::sleep(GATHER);
        }
    }

    fn say(&mut self, mut activity: Activity, lines: &mut Vec<u8>) {
        activity.id = self.next_id.max(jiff::Timestamp::now().as_microsecond().unsigned_abs());
        self.next_id = activity.id + 1;
        lines.extend_from_slice(&activity.line());
    }

    fn write(&mut self, mut lines: Vec<u8>, count: u64) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let error = Some(format!("{lost} records before this one could not be written"));
            let level = Level::Warn;
            let time = now();
            self.say(Activity { sender: sender::LOST.into(), level, time, error, ..Activity::default() }, &mut lines);
        }
        let is_resting = self.failed.is_some_and(|since| since.elapsed() < REST);
        let written =
            if is_resting { Err(None) } else { self.file.append(&lines, self.next_id.checked_sub(1)).map_err(Some) };
        match written {
            Ok(()) => {
                if self.failed.take().is_some() {
                    tracing::info!("activity.log is written again");
                }
            }
            Err(error) => {
                if let (Some(error), None) = (&error, self.failed) {
                    tracing::warn!(%error, "activity.log cannot be written; transfers go on");
                }
                if error.is_some() {
                    self.failed = Some(Instant::now());
                }
                self.lost.fetch_add(lost + count, Ordering::Relaxed);
                self.lost_in_all.inc_by(count);
            }
        }
        if let Some(output) = &self.output {
            let _ = output.try_send(lines);
        }
    }
}

/// Who does something, on which connection.
pub struct Actor {
    log: ActivityLog,
    username: String,
    remote_addr: String,
    connection_id: String,
    refusals: Mutex<Refusals>,
}

impl Actor {
    /// Somebody who has logged in.
    pub fn new(log: ActivityLog, username: String, remote_addr: String, connection_id: String) -> Actor {
        Actor { log, username, remote_addr, connection_id, refusals: Mutex::default() }
    }

    /// A record of something that this one does.
    pub fn activity(&self, sender: &str) -> Activity {
        Activity {
            sender: sender.into(),
            username: self.username.clone(),
            remote_addr: self.remote_addr.clone(),
            connection_id: self.connection_id.clone(),
            protocol: "SFTP".into(),
            ..Activity::default()
        }
    }

    /// Puts it into the log. Of refusals only so many in a minute: a client that does nothing else would push everybody's
    /// history out. How many more there were is said with the next.
    pub fn put(&self, mut activity: Activity) {
        if activity.outcome == Some(Outcome::Refused) {
            let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(left_out) = refusals.admit(Instant::now()) else { return };
            if left_out > 0 {
                let error = activity.error.unwrap_or_default();
                activity.error =
                    Some(format!("{error} (and {left_out} refusals before this one that are not recorded)"));
            }
        }
        self.log.put(activity);
    }
}

/// Refusals of one session in the current minute.
#[derive(Debug, Default)]
struct Refusals {
    since: Option<Instant>,
    recorded: u32,
    left_out: u64,
}

impl Refusals {
    /// Whether one more is recorded; how many were not since the last that was.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        if self.since.is_none_or(|since| now.duration_since(since) >= REFUSALS_PER) {
            (self.since, self.recorded) = (Some(now), 0);
        }
        if self.recorded >= REFUSALS_MAX {
            self.left_out += 1;
            return None;
        }
        self.recorded += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

/// A record of what did not go well.
pub fn failed(activity: Activity, outcome: Outcome, error: &str) -> Activity {
    Activity { level: Level::Warn, outcome: Some(outcome), error: Some(error.to_owned()), ..activity }
}

/// Logs of other machines of the pair, each in a folder of its own: they outlive those machines' disks.
#[derive(Debug)]
pub struct Received {
    folder: std::path::PathBuf,
    keep: Keep,
    // Held while lines are written, never across an await.
    by_node: Mutex<std::collections::HashMap<String, LogFile>>,
}

impl Received {
    /// Nothing yet; `folder` is that of this machine's own log.
    pub fn new(folder: &Path, keep: Keep) -> Received {
        Received { folder: folder.to_owned(), keep, by_node: Mutex::default() }
    }

    /// Appends lines of a machine that are new, and tells the number of the last record that is here. Blocks.
    ///
    /// `node` must be plain letters and digits: it becomes part of a folder's name.
    pub fn append(&self, node: &str, lines: &[u8]) -> std::io::Result<u64> {
        let mut by_node = self.by_node.lock().unwrap_or_else(PoisonError::into_inner);
        let log = by_node
            .entry(node.to_owned())
            .or_insert_with(|| LogFile::new(self.folder.join(format!("from-{node}")), self.keep));
        let mut last = log.last_id()?.unwrap_or(0);
        let mut fresh = Vec::new();
        for line in lines.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n")) {
            if let Some(id) = id_of(line).filter(|id| *id > last) {
                fresh.extend_from_slice(line);
                last = id;
            }
        }
        if !fresh.is_empty() {
            log.append(&fresh, Some(last))?;
        }
        Ok(last)
    }
}

#[cfg(test)]
mod tests;
