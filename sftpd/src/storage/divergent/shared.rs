//! What all share who look at what was set aside: whose turn it is to change something, how many offers there are, and whether the journal
//! must keep what proves that a path is untouched.
//!
//! It lives as long as the process: after a restart it begins anew.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How old the number of offers may be, and how many times longer than counting them took nobody counts them again.
const COUNT_REST: Duration = Duration::from_secs(3);
const COUNT_REST_FACTOR: u32 = 50;

/// What all share.
#[derive(Debug, Default)]
pub(in crate::storage) struct Shared {
    /// Held by whoever changes something.
    pub(in crate::storage) turn: Arc<tokio::sync::Mutex<()>>,
    /// The number of offers, and until when it counts.
    // Held while they are counted: whoever asks beside it waits for the same number.
    count: Mutex<Option<(Instant, u64)>>,
    /// How many need the journal's records, whether or not the standbys have them.
    holds: AtomicUsize,
}

impl Shared {
    /// The number of offers, by `count` where the one that is known is too old.
    pub(in crate::storage) fn count(&self, count: impl FnOnce() -> u64) -> u64 {
        let mut known = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if let Some((until, number)) = *known
            && now < until
        {
            return number;
        }
        let number = count();
        let rest = COUNT_REST.max(now.elapsed().saturating_mul(COUNT_REST_FACTOR));
        *known = Some((Instant::now() + rest, number));
        number
    }

    pub(super) fn forget_count(&self) {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Keeps the journal's records until this is dropped.
    pub(in crate::storage) fn hold(self: Arc<Shared>) -> Held {
        self.holds.fetch_add(1, Ordering::SeqCst);
        Held(self)
    }

    /// Whether anybody needs them.
    pub(in crate::storage) fn is_held(&self) -> bool {
        self.holds.load(Ordering::SeqCst) > 0
    }
}

/// As long as it lives the journal keeps its records also where all standbys have them; past its limit they go all the same.
#[derive(Debug)]
pub struct Held(Arc<Shared>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.holds.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offers_are_counted_anew_when_something_has_changed() {
        let shared = Shared::default();
        assert_eq!((shared.count(|| 1), shared.count(|| 2)), (1, 1));
        shared.forget_count();
        assert_eq!(shared.count(|| 3), 3);
    }

    #[test]
    fn records_are_held_as_long_as_anybody_holds_them() {
        let shared = Arc::<Shared>::default();
        let (one, other) = (shared.clone().hold(), shared.clone().hold());
        drop(one);
        assert!(shared.is_held());
        drop(other);
        assert!(!shared.is_held());
    }
}
