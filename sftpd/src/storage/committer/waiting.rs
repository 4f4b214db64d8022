//! The jobs that wait for the committer's thread, in the order in which they came.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use super::{Job, Queue};

/// What waits.
pub(in crate::storage) struct Waiting {
    jobs: Option<(Receiver<Job>, Queue)>,
    /// What was taken from there already.
    first: VecDeque<Job>,
    /// Jobs that were taken from there and are not done yet.
    taken: usize,
}

/// Nobody is there any more who could ask for something.
pub(super) struct Deserted;

impl Waiting {
    /// What comes by a queue.
    pub(super) fn of(jobs: Receiver<Job>, queue: Queue) -> Waiting {
        Waiting { jobs: Some((jobs, queue)), first: VecDeque::new(), taken: 0 }
    }

    /// These, and nothing more.
    pub(super) fn only(jobs: Vec<Job>) -> Waiting {
        Waiting { jobs: None, first: jobs.into(), taken: 0 }
    }

    /// Comes back when something waits, or after so long.
    pub(super) fn look(&mut self, wait: Duration) -> Result<(), Deserted> {
        let Some((jobs, _)) = self.jobs.as_ref().filter(|_| self.first.is_empty()) else { return Ok(()) };
        match jobs.recv_timeout(wait) {
            // Who was woken looks after the notes in any case.
            Ok(Job::Wake) | Err(RecvTimeoutError::Timeout) => Ok(()),
            Ok(job) => {
                self.taken += 1;
                self.first.push_back(job);
                Ok(())
            }
            Err(RecvTimeoutError::Disconnected) => Err(Deserted),
        }
    }

    fn take(&mut self) -> Option<Job> {
        let (jobs, _) = self.jobs.as_ref()?;
        let job = jobs.try_recv().ok()?;
        self.taken += usize::from(!matches!(job, Job::Wake));
        Some(job)
    }

    /// Whether nothing was taken that is not done.
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    /// The next one, if it is there.
    pub(in crate::storage) fn next(&mut self) -> Option<Job> {
        loop {
            match self.first.pop_front().or_else(|| self.take())? {
                Job::Many(jobs) => jobs.into_iter().rev().for_each(|job| self.first.push_front(job)),
                job => return Some(job),
            }
        }
    }

    /// Whether nothing is there.
    pub(super) fn are_none(&mut self) -> bool {
        let Some(job) = self.next() else { return true };
        self.give_back(job);
        false
    }

    /// All that was taken from the queue is done.
    pub(super) fn worked_off(&mut self) {
        let taken = std::mem::take(&mut self.taken);
        self.jobs.iter().for_each(|(_, queue)| queue.worked_off(taken));
    }

    /// It is the next one again.
    pub(in crate::storage) fn give_back(&mut self, job: Job) {
        self.first.push_front(job);
    }
}
