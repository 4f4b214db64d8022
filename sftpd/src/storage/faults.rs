//! Faults for tests: an error at a step, or the end of everything, as `kill -9` would have it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;

/// What a step hears when the process has "died" before it: nothing more reaches the disk.
pub(crate) const CRASHED: Errno = Errno::CANCELED;

/// Counts steps, and stops or fails them as told.
#[derive(Debug)]
pub(crate) struct Faults {
    steps: AtomicU64,
    crash_at: AtomicU64,
    failing: Mutex<Vec<(&'static str, u64, Errno)>>,
}

impl Default for Faults {
    fn default() -> Faults {
        Faults { steps: AtomicU64::new(0), crash_at: AtomicU64::new(u64::MAX), failing: Mutex::default() }
    }
}

impl Faults {
    /// Lets so many more steps happen and none after them.
    pub(crate) fn crash_after(&self, steps: u64) {
        self.crash_at.store(self.steps.load(Ordering::SeqCst).saturating_add(steps), Ordering::SeqCst);
    }

    /// Whether the process is "dead".
    pub(crate) fn has_crashed(&self) -> bool {
        self.steps.load(Ordering::SeqCst) > self.crash_at.load(Ordering::SeqCst)
    }

    /// Fails the next `times` steps of this name with an error.
    pub(crate) fn fail(&self, name: &'static str, times: u64, error: Errno) {
        self.failing.lock().unwrap().push((name, times, error));
    }

    /// Fails nothing any more.
    pub(crate) fn heal(&self) {
        self.failing.lock().unwrap().clear();
    }

    pub(super) fn step(&self, name: &'static str) -> rustix::io::Result<()> {
        if self.steps.fetch_add(1, Ordering::SeqCst) >= self.crash_at.load(Ordering::SeqCst) {
            return Err(CRASHED);
        }
        let mut failing = self.failing.lock().unwrap();
        match failing.iter_mut().find(|(step, times, _)| *step == name && *times > 0) {
            Some((_, times, error)) => {
                *times -= 1;
                Err(*error)
            }
            None => Ok(()),
        }
    }
}
