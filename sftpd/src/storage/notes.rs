//! What reaches the committer without being waited for: what is known of unfinished uploads, and flushes of long ones
//! while they arrive.
//!
//! A note is written with the next group. Losing the latest notes by a crash costs a client a resumption at most: what
//! must not be lost is settled before it is answered.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::io::Errno;

use super::Stage;
use super::committer::{Failure, Job, QUEUE_CHANGES_MAX, fail};
use super::journal::RowChange;

/// Long uploads that wait for a flush while they arrive; past it CLOSE has more to do.
const FLUSHES_MAX: usize = 64;

/// The way to the committer for what is only noted: unfinished uploads, and flushes while they arrive.
#[derive(Clone, Debug)]
pub(super) struct Notes {
    queue: SyncSender<Job>,
    // Held to put one in or to take all out.
    rows: Arc<Mutex<Vec<RowChange>>>,
    flusher: SyncSender<(Arc<Stage>, u64)>,
}

impl Notes {
    /// Notes a change of what is remembered of unfinished uploads. It is written with the next group, or soon without one.
    pub(super) fn note(&self, row: RowChange) {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).push(row);
        // A full queue is a committer at work, which looks here before its next group.
        let _: std::result::Result<(), TrySendError<Job>> = self.queue.try_send(Job::Wake);
    }

    /// Puts back what could not be written.
    pub(super) fn note_again(&self, mut rows: Vec<RowChange>) {
        let mut waiting = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        rows.append(&mut waiting);
        *waiting = rows;
    }

    /// Asks for a flush of an upload whose first `bytes` have arrived; tells whether there was room to ask.
    pub(super) fn flush(&self, stage: Arc<Stage>, bytes: u64) -> bool {
        self.flusher.try_send((stage, bytes)).is_ok()
    }

    pub(super) fn are_waiting(&self) -> bool {
        !self.rows.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    pub(super) fn take(&self) -> Vec<RowChange> {
        std::mem::take(&mut *self.rows.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The queue to the thread that is yet to be started, and the notes that go by it.
pub(super) fn queue(failed: Failure, is_durable: bool) -> std::io::Result<(SyncSender<Job>, Receiver<Job>, Notes)> {
    let (queue, jobs) = std::sync::mpsc::sync_channel(QUEUE_CHANGES_MAX);
    let (flusher, flushes) = std::sync::mpsc::sync_channel(FLUSHES_MAX);
    let notes = Notes { queue: queue.clone(), rows: Arc::default(), flusher };
    let rows = Arc::downgrade(&notes.rows);
    let flush = move |(stage, bytes): (Arc<Stage>, u64)| {
        let flushed = if is_durable { stage.flush() } else { Ok(()) };
        match (flushed, rows.upgrade()) {
            // That upload alone fails, at its CLOSE.
            (Err(Errno::NOSPC | Errno::DQUOT), _) => {}
            (Err(error), _) => fail(&failed, error),
            (Ok(()), Some(rows)) => {
                let row = RowChange::Durable { number: stage.number(), bytes };
                rows.lock().unwrap_or_else(PoisonError::into_inner).push(row);
            }
            (Ok(()), None) => {}
        }
    };
    std::thread::Builder::new().name("flusher".into()).spawn(move || flushes.into_iter().for_each(flush))?;
    Ok((queue, jobs, notes))
}
