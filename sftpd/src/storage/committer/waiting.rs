//! The jobs that wait for the committer's thread, in the order in which they came.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use super::Job;

/// What waits.
pub(in crate::storage) struct Waiting {
    jobs: Receiver<Job>,
    /// What was taken from there already.
    first: VecDeque<Job>,
}

/// Nobody is there any more who could ask for something.
pub(super) struct Deserted;

impl Waiting {
    pub(super) fn new(jobs: Receiver<Job>) -> Waiting {
        Waiting { jobs, first: VecDeque::new() }
    }

    /// Comes back when something waits, or after so long.
    pub(super) fn look(&mut self, wait: Duration) -> Result<(), Deserted> {
        if self.first.is_empty() {
            match self.jobs.recv_timeout(wait) {
                Ok(job) => self.first.push_back(job),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(Deserted),
            }
        }
        Ok(())
    }

    /// The next one, if it is there.
    pub(in crate::storage) fn next(&mut self) -> Option<Job> {
        loop {
            match self.first.pop_front().or_else(|| self.jobs.try_recv().ok())? {
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

    /// It is the next one again.
    pub(in crate::storage) fn give_back(&mut self, job: Job) {
        self.first.push_front(job);
    }
}
