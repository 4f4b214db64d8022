//! What reaches the committer without being waited for: what is known of unfinished uploads, and flushes of long ones
//! while they arrive.
//!
//! A note is written with a group, a few milliseconds after it came: of a small upload that has its name by then nothing
//! needs to be written at all. Losing the latest notes by a crash costs a client a resumption at most: what must not be
//! lost is settled before it is answered.

use std::collections::HashSet;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::Stage;
use super::committer::{Job, QUEUE_CHANGES_MAX};
use super::failure::{Failure, fail};
use super::journal::RowChange;

/// Long uploads that wait for a flush while they arrive; past it CLOSE has more to do.
const FLUSHES_MAX: usize = 64;

/// How long a note waits: for a group to go with, and for what makes it void.
const WAIT: Duration = Duration::from_millis(5);

/// Notes that are not written yet, in the order in which they came, and when that was.
#[derive(Debug, Default)]
pub(super) struct Rows {
    // Held to put one in or to take some out.
    waiting: Mutex<Vec<(Instant, RowChange)>>,
}

impl Rows {
    fn lock(&self) -> MutexGuard<'_, Vec<(Instant, RowChange)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts one in, and tells whether it is the first that waits.
    pub(super) fn push(&self, row: RowChange) -> bool {
        let mut waiting = self.lock();
        waiting.push((Instant::now(), row));
        waiting.len() == 1
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
    queue: SyncSender<Job>,
    rows: Arc<Rows>,
    flusher: SyncSender<Errand>,
}

impl Notes {
    /// Notes a change of what is remembered of unfinished uploads. It is written with the next group, or soon without one.
    pub(super) fn note(&self, row: RowChange) {
        if !self.rows.push(row) {
            // Whoever takes the first takes this one, too.
            return;
        }
        // A full queue is a committer at work, which looks here before its next group.
        let _: std::result::Result<(), TrySendError<Job>> = self.queue.try_send(Job::Wake);
    }

    /// Puts back what could not be written. While that goes on there is no more than the last word on each upload.
    pub(super) fn note_again(&self, rows: Vec<RowChange>) {
        let mut waiting = self.rows.lock();
        let newer = waiting.drain(..).map(|(_, row)| row);
        let rows = last_words(rows.into_iter().chain(newer).collect());
        let now = Instant::now();
        waiting.extend(rows.into_iter().map(|row| (now, row)));
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

    /// How long the first note has still to wait; none where there is none.
    pub(super) fn wait(&self) -> Option<Duration> {
        let (since, _) = *self.rows.lock().first()?;
        Some(WAIT.saturating_sub(since.elapsed()))
    }

    /// The notes that have waited long enough.
    pub(super) fn take_due(&self) -> Vec<RowChange> {
        let (mut waiting, now) = (self.rows.lock(), Instant::now());
        let due = waiting.partition_point(|(since, _)| now.saturating_duration_since(*since) >= WAIT);
        waiting.drain(..due).map(|(_, row)| row).collect()
    }

    /// All notes.
    pub(super) fn take(&self) -> Vec<RowChange> {
        self.rows.lock().drain(..).map(|(_, row)| row).collect()
    }

    /// Uploads have their names. Notes on those that were not written yet need not be, of the others it must be written that they are gone.
    pub(super) fn conclude(&self, published: Vec<u64>) -> Vec<RowChange> {
        let mut begun_now = HashSet::new();
        let mut waiting = self.rows.lock();
        let is_published: HashSet<u64> = published.iter().copied().collect();
        waiting.retain(|(_, row)| {
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
pub(super) fn queue(failed: Failure, is_durable: bool) -> std::io::Result<(SyncSender<Job>, Receiver<Job>, Notes)> {
    let (queue, jobs) = std::sync::mpsc::sync_channel(QUEUE_CHANGES_MAX);
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
