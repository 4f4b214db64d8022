//! How long to wait before the next try. Pure.

use std::time::Duration;

/// Waits that grow, with chance in them: a hundred agents that lost one server do not come back at once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backoff {
    failures: u32,
}

/// The first wait after the network failed, and the longest.
const AWAY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(120));
/// After a refused login: a person must do something, and sftpd bans who tries too often.
const REFUSED: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(1800));

impl Backoff {
    /// A try has failed: how long to wait. `chance` is from 0 to 1.
    pub fn after_failure(&mut self, is_refused: bool, chance: f64) -> Duration {
        let (first, longest) = if is_refused { REFUSED } else { AWAY };
        let doubled = first.saturating_mul(1 << self.failures.min(16)).min(longest);
        self.failures = self.failures.saturating_add(1);
        doubled.mul_f64(0.5 + 0.5 * chance.clamp(0.0, 1.0)).max(first / 2)
    }

    /// A try has worked.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_chance_spreads_them() {
        let mut backoff = Backoff::default();
        let waits: Vec<Duration> = (0..40).map(|_| backoff.after_failure(false, 1.0)).collect();
        assert!(waits.is_sorted() && waits[0] == AWAY.0 && waits[39] == AWAY.1, "{waits:?}");
        assert_eq!(backoff.after_failure(false, 0.0), AWAY.1 / 2);
        backoff.reset();
        assert_eq!(backoff.after_failure(false, 1.0), AWAY.0);
        // Of sftpd's guard nobody is banned who fails once in half a minute.
        assert!(Backoff::default().after_failure(true, 0.0) >= Duration::from_secs(30));
    }
}
