//! What reaches the committer without being waited for: what is known of unfinished uploads, and flushes of long ones
//! while they arrive.
//!
//! A note is written with a group, a few milliseconds after it came: of a small upload that has its name by then nothing
//! needs to be written at all. Losing the latest notes by a crash costs a client a resumption at most: what must not be
//! lost is settled before it is answered.

use std::collections::HashSet;
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::Stage;
use super::committer::{Job, QUEUE_CHANGES_MAX, Queue};
use super::failure::{Failure, fail};
use super::journal::RowChange;

/// Long uploads that wait for a flush while they arrive; past it CLOSE has more to do.
const FLUSHES_MAX: usize = 64;

/// How long a note waits: for a group to go with, and for what makes it void.
const WAIT: Duration = Duration::from_millis(5);

/// Notes that are not written yet, and when somebody looks after them.
#[derive(Debug, Default)]
pub(super) struct Rows {
    // Held to put one in or to take some out.
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// In the order in which they came, and when that was.
    rows: Vec<(Instant, RowChange)>,
    /// When the committer's thread looks; none where it has no reason to.
    look_at: Option<Instant>,
}

impl Rows {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts one in that is written whenever something is.
    pub(super) fn push(&self, row: RowChange) {
        self.lock().rows.push((Instant::now(), row));
    }
}

impl Waiting {
    /// The thread is to look soon: whether it must be woken for that.
    fn must_wake(&mut self, now: Instant) -> bool {
        let is_new = self.look_at.is_none();
        self.look_at.get_or_insert(now + WAIT);
        is_new
    }
}

/// What takes its time and is not waited for.
enum Errand {
    /// An upload is flushed while it arrives.
    Flush {
        stage: Arc<Stage>,
        /// So many bytes had arrived when it was asked for,
        bytes: u64,
        /// and so often it had been cut.
        cuts: u64,
    },
    /// A large file goes.
    Forget(Arc<Stage>),
}

/// The way to the committer for what is only noted: unfinished uploads, and flushes while they arrive.
#[derive(Clone, Debug)]
pub(super) struct Notes {
    queue: Queue,
    rows: Arc<Rows>,
    flusher: SyncSender<Errand>,
}

impl Notes {
    /// Notes a change of what is remembered of unfinished uploads. It is written with the next group, or soon without one.
    pub(super) fn note(&self, row: RowChange) {
        let (mut waiting, now) = (self.rows.lock(), Instant::now());
        waiting.rows.push((now, row));
        if waiting.must_wake(now) {
            self.queue.wake();
        }
    }

    /// Has the thread look in a few milliseconds, if it would not anyway.
    pub(super) fn look_soon(&self) {
        if self.rows.lock().must_wake(Instant::now()) {
            self.queue.wake();
        }
    }

    /// Puts back what could not be written. While that goes on there is no more than the last word on each upload.
    pub(super) fn note_again(&self, rows: Vec<RowChange>) {
        let mut waiting = self.rows.lock();
        let newer = waiting.rows.drain(..).map(|(_, row)| row);
        let rows = last_words(rows.into_iter().chain(newer).collect());
        let now = Instant::now();
        waiting.rows.extend(rows.into_iter().map(|row| (now, row)));
        if !waiting.rows.is_empty() && waiting.must_wake(now) {
            self.queue.wake();
        }
    }

    /// Asks for a flush of an upload whose first `bytes` have arrived; tells whether there was room to ask.
    pub(super) fn flush(&self, stage: Arc<Stage>, bytes: u64) -> bool {
        let cuts = stage.cuts();
        self.flusher.try_send(Errand::Flush { stage, bytes, cuts }).is_ok()
    }

    /// Lets go of a stage that is not kept: removing a large file takes its time. Without room to ask it is done here.
    pub(super) fn forget(&self, stage: Arc<Stage>) {
        drop(self.flusher.try_send(Errand::Forget(stage)));
    }

    #[cfg(test)]
    pub(super) fn rows(&self) -> &Rows {
        &self.rows
    }

    /// How long it is until the thread looks; none where it need not.
    pub(super) fn wait(&self) -> Option<Duration> {
        Some(self.rows.lock().look_at?.saturating_duration_since(Instant::now()))
    }

    /// Whether the time has come at which the thread looks.
    pub(super) fn must_look(&self) -> bool {
        self.wait().is_some_and(|wait| wait.is_zero())
    }

    /// The thread looks: whether it has to do something now. If so it looks again when the next note is due.
    pub(super) fn are_due(&self) -> bool {
        let (mut waiting, now) = (self.rows.lock(), Instant::now());
        let is_due = waiting.look_at.is_some_and(|look_at| look_at <= now);
        if is_due {
            let next = waiting.rows.iter().map(|(since, _)| *since + WAIT).find(|&due| due > now);
            waiting.look_at = next;
        }
        is_due
    }

    /// The notes that have waited long enough.
    pub(super) fn take_due(&self) -> Vec<RowChange> {
        let (mut waiting, now) = (self.rows.lock(), Instant::now());
        let due = waiting.rows.partition_point(|(since, _)| now.saturating_duration_since(*since) >= WAIT);
        waiting.rows.drain(..due).map(|(_, row)| row).collect()
    }

    /// All notes.
    pub(super) fn take(&self) -> Vec<RowChange> {
        self.rows.lock().rows.drain(..).map(|(_, row)| row).collect()
    }

    /// Uploads have their names. Notes on those that were not written yet need not be, of the others it must be written that they are gone.
    pub(super) fn conclude(&self, published: Vec<u64>) -> Vec<RowChange> {
        let mut begun_now = HashSet::new();
        let mut waiting = self.rows.lock();
        let is_published: HashSet<u64> = published.iter().copied().collect();
        waiting.rows.retain(|(_, row)| {
            let number = row.number();
            if matches!(row, RowChange::Begun(_)) && is_published.contains(&number) {
                begun_now.insert(number);
            }
            !is_published.contains(&number)
        });
        published.into_iter().filter(|number| !begun_now.contains(number)).map(RowChange::Gone).collect()
    }
}

/// Leaves out what a later row makes void: an upload that is gone was nothing else before, and of each kind of row the
/// last one counts.
fn last_words(rows: Vec<RowChange>) -> Vec<RowChange> {
    let (mut gone, mut said) = (HashSet::new(), HashSet::new());
    let mut kept: Vec<_> = rows
        .into_iter()
        .rev()
        .filter(|row| {
            let is_new = !gone.contains(&row.number()) && said.insert((row.number(), std::mem::discriminant(row)));
            if matches!(row, RowChange::Gone(_)) {
                gone.insert(row.number());
            }
            is_new
        })
        .collect();
    kept.reverse();
    kept
}

/// The queue to the thread that is yet to be started, and the notes that go by it.
pub(super) fn queue(failed: Failure, is_durable: bool) -> std::io::Result<(Queue, Receiver<Job>, Notes)> {
    let (queue, jobs) = std::sync::mpsc::sync_channel(QUEUE_CHANGES_MAX);
    let queue = Queue::new(queue);
    let (flusher, flushes) = std::sync::mpsc::sync_channel(FLUSHES_MAX);
    let notes = Notes { queue: queue.clone(), rows: Arc::default(), flusher };
    let rows = Arc::downgrade(&notes.rows);
    let flush = move |errand: Errand| {
        let (stage, bytes, cuts) = match errand {
            Errand::Flush { stage, bytes, cuts } => (stage, bytes, cuts),
            Errand::Forget(stage) => return drop(stage),
        };
        let flushed = if is_durable { stage.flush() } else { Ok(()) };
        match (flushed, rows.upgrade()) {
            // That upload alone fails, at its CLOSE. What was written may not be there: after a kill it begins again.
            (Err(Errno::NOSPC | Errno::DQUOT), Some(rows)) => {
                rows.push(RowChange::Arrived { number: stage.number(), bytes: Some(0) });
            }
            (Err(Errno::NOSPC | Errno::DQUOT), None) => {}
            (Err(error), _) => fail(&failed, error),
            (Ok(()), Some(rows)) => stage.note_durable(&rows, bytes, cuts),
            (Ok(()), None) => {}
        }
    };
    std::thread::Builder::new().name("flusher".into()).spawn(move || flushes.into_iter().for_each(flush))?;
    Ok((queue, jobs, notes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_waits_for_a_full_disk_only_the_last_word_on_each_upload_is_kept() {
        let arrived = |number, bytes| RowChange::Arrived { number, bytes: Some(bytes) };
        let durable = |number, bytes| RowChange::Durable { number, bytes };
        let rows =
            vec![arrived(1, 5), durable(1, 3), RowChange::Gone(2), arrived(1, 7), arrived(3, 1), RowChange::Gone(3)];
        let kept: Vec<_> = last_words(rows).iter().map(|row| format!("{row:?}")).collect();
        let expected = [durable(1, 3), RowChange::Gone(2), arrived(1, 7), RowChange::Gone(3)];
        assert_eq!(kept, expected.map(|row| format!("{row:?}")));
    }
}
