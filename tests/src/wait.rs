//! Waiting for a condition, with a bound. Tests never sleep for a fixed time.

use std::time::{Duration, Instant};

/// How long a condition may take. Generous: the machines are small and shared.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `condition` holds; panics with `what` when it takes too long.
#[track_caller]
pub fn eventually(what: &str, condition: impl FnMut() -> bool) {
    within(PATIENCE, what, condition);
}

/// As [`eventually`], with a bound of its own.
#[track_caller]
#[allow(clippy::disallowed_methods, reason = "this is the one place that waits, and it waits for a condition")]
pub fn within(bound: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + bound;
    while !condition() {
        assert!(Instant::now() < deadline, "did not happen within {bound:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
