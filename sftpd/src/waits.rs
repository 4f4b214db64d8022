//! Whether requests have to wait for the disk. Most find what they need in memory, and are served right on the runtime's threads; a thread that may block
//! costs two switches for each burst. Once one had to wait, others are likely to, and for a while all are served where blocking harms nobody.
//!
//! It promises nothing about a single request: the first that waits holds up its thread, of which there are more than cores.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What is served from memory takes less, also where many threads have to share a core.
const WAIT: Duration = Duration::from_millis(20);

/// For so long after a wait more are expected.
const AFTER: Duration = Duration::from_secs(1);

/// What is known of waits.
#[derive(Debug)]
pub struct Waits {
    since: Instant,
    /// Until when waits are expected, in milliseconds after `since`.
    until_ms: AtomicU64,
}

impl Default for Waits {
    fn default() -> Waits {
        Waits { since: Instant::now(), until_ms: AtomicU64::new(0) }
    }
}

impl Waits {
    /// Whether requests may have to wait now.
    pub fn are_expected(&self, now: Instant) -> bool {
        self.ms(now) < self.until_ms.load(Ordering::Relaxed)
    }

    /// A request took so long.
    pub fn note(&self, took: Duration, now: Instant) {
        if took >= WAIT {
            self.until_ms.fetch_max(self.ms(now + AFTER), Ordering::Relaxed);
        }
    }

    fn ms(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.since).as_millis() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_expected_for_a_while_after_one() {
        let (waits, now) = (Waits::default(), Instant::now());
        assert!(!waits.are_expected(now));
        waits.note(WAIT - Duration::from_nanos(1), now);
        assert!(!waits.are_expected(now));
        waits.note(WAIT, now);
        assert!(waits.are_expected(now) && waits.are_expected(now + AFTER / 2));
        // A clock that was read earlier takes nothing back.
        waits.note(WAIT, now - Duration::from_millis(100));
        assert!(waits.are_expected(now + AFTER - Duration::from_millis(10)));
        assert!(!waits.are_expected(now + AFTER + Duration::from_millis(10)));
    }
}
