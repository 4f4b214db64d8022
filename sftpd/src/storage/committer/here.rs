//! Where the committer's work is done: by its thread, or by the thread of a session that finds nobody else waiting.
//!
//! Always holds: whoever works has the worker to himself; what was asked for earlier by the same session is done before. A
//! session's thread never flushes, and never waits for the worker: where it is taken the thread does the work.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::super::Durability;
use super::super::group::gather;
use super::super::notes::Notes;
use super::{CHORES, Job, Waiting, Worker};

/// The way to the committer's thread, and how much of what went there is not done yet.
#[derive(Clone, Debug)]
pub(in crate::storage) struct Queue {
    jobs: SyncSender<Job>,
    ahead: Arc<AtomicUsize>,
}

impl Queue {
    pub(in crate::storage) fn new(jobs: SyncSender<Job>) -> Queue {
        Queue { jobs, ahead: Arc::default() }
    }

    /// Hands a job over. A committer that is gone drops it, and its answer with it, which the receiver sees.
    pub(in crate::storage) fn send(&self, job: Job) {
        self.ahead.fetch_add(1, Ordering::AcqRel);
        let _ = self.jobs.send(job);
    }

    /// Wakes the thread. One that has much to do needs no waking.
    pub(in crate::storage) fn wake(&self) {
        let _: Result<(), TrySendError<Job>> = self.jobs.try_send(Job::Wake);
    }

    /// Whether the thread has done all that it was asked for.
    pub(super) fn is_idle(&self) -> bool {
        self.ahead.load(Ordering::Acquire) == 0
    }

    /// So many jobs are done.
    pub(super) fn worked_off(&self, jobs: usize) {
        self.ahead.fetch_sub(jobs, Ordering::AcqRel);
    }
}

/// The worker, for whoever may work; none after the end.
#[derive(Clone)]
pub(super) struct Shared(Arc<Mutex<Option<Worker>>>);

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

/// The worker in the hands of a session.
pub(super) struct Borrowed<'a>(MutexGuard<'a, Option<Worker>>);

impl Shared {
    pub(super) fn new(worker: Worker) -> Shared {
        Shared(Arc::new(Mutex::new(Some(worker))))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Worker>> {
        // After a panic the volume is read-only, which the worker itself looks at.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The worker, if nobody works and it has nothing to flush.
    pub(super) fn borrow(&self) -> Option<Borrowed<'_>> {
        let worker = self.0.try_lock().ok()?;
        worker.as_ref().is_some_and(|worker| worker.durability == Durability::None).then_some(Borrowed(worker))
    }

    /// What the thread does until it is told to stop.
    pub(super) fn work(&self, mut waiting: Waiting, notes: &Notes) {
        let mut last_chores = Instant::now();
        loop {
            let is_deserted = waiting.look(notes.wait().unwrap_or(CHORES)).is_err();
            let has_work = !waiting.is_empty() || notes.must_look() || last_chores.elapsed() >= CHORES;
            if !has_work && !is_deserted {
                continue;
            }
            let mut guard = self.lock();
            let Some(worker) = guard.as_mut() else { return };
            if is_deserted {
                return worker.end();
            }
            if !worker.turn(&mut waiting) {
                return;
            }
            worker.do_chores(&mut last_chores);
        }
    }

    /// Nobody works any more.
    pub(super) fn end(&self) {
        let worker = self.lock().take();
        drop(worker);
    }
}

impl Borrowed<'_> {
    /// Makes changes. How they went is written with the next ones, or by the thread a few milliseconds later. Fails where there is a bug.
    pub(super) fn commit_here(mut self, jobs: Vec<Job>) -> std::thread::Result<()> {
        let mut waiting = Waiting::only(jobs);
        let guard = &mut self.0;
        let has_crashed = catch_unwind(AssertUnwindSafe(|| {
            let Some(worker) = guard.as_mut() else { return false };
            while !waiting.are_none() && !worker.disk.has_crashed() {
                let group = gather(&mut waiting);
                worker.commit(group);
            }
            worker.notes.look_soon();
            worker.disk.has_crashed()
        }))?;
        if has_crashed {
            // As after the power has failed: what is not answered by now never is.
            drop(guard.take());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
