//! Penalties: time that is added for what goes wrong and passes by itself. Pure.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// What adding a penalty has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is counted; nothing happens yet, or what happens has begun before.
    Counted,
    /// A ban begins; for how long.
    Banned(Duration),
}

/// Penalties by whom they are for.
#[derive(Debug)]
pub struct Penalties<K> {
    by_whom: HashMap<K, Penalty>,
}

impl<K> Default for Penalties<K> {
    fn default() -> Penalties<K> {
        Penalties { by_whom: HashMap::new() }
    }
}

#[derive(Clone, Copy, Debug)]
struct Penalty {
    /// When all of it has passed.
    until: Instant,
    /// Whether it has once reached the threshold: it holds then until all of it has passed.
    is_ban: bool,
}

impl<K: Hash + Eq> Penalties<K> {
    /// Adds a penalty. `limits` are from when on it bans, the longest it can become, and for how many there is room.
    pub fn add(
        &mut self,
        whom: K,
        penalty: Duration,
        (threshold, longest, room): (Duration, Duration, usize),
        now: Instant,
    ) -> Verdict {
        if self.by_whom.len() >= room {
            self.by_whom.retain(|_, penalty| penalty.until > now);
        }
        if self.by_whom.len() >= room && !self.by_whom.contains_key(&whom) {
            return Verdict::Counted;
        }
        let entry = self.by_whom.entry(whom).or_insert(Penalty { until: now, is_ban: false });
        if entry.until <= now {
            *entry = Penalty { until: now, is_ban: false };
        }
        entry.until = (entry.until + penalty).min(now + longest);
        let left = entry.until - now;
        if entry.is_ban || left < threshold || penalty.is_zero() {
            return Verdict::Counted;
        }
        entry.is_ban = true;
        Verdict::Banned(left)
    }

    /// A ban that was decided elsewhere holds here, too, as long as there is room.
    pub fn adopt(&mut self, whom: K, left: Duration, room: usize, now: Instant) {
        if self.by_whom.len() < room || self.by_whom.contains_key(&whom) {
            let entry = self.by_whom.entry(whom).or_insert(Penalty { until: now, is_ban: true });
            *entry = Penalty { until: entry.until.max(now + left), is_ban: true };
        }
    }

    /// Whether a ban holds.
    pub fn is_banned<Q: Hash + Eq + ?Sized>(&self, whom: &Q, now: Instant) -> bool
    where
        K: Borrow<Q>,
    {
        self.by_whom.get(whom).is_some_and(|penalty| penalty.is_ban && penalty.until > now)
    }

    /// All bans that hold, and for how long.
    pub fn banned(&self, now: Instant) -> impl Iterator<Item = (&K, Duration)> {
        let bans = self.by_whom.iter().filter(move |(_, penalty)| penalty.is_ban && penalty.until > now);
        bans.map(move |(whom, penalty)| (whom, penalty.until - now))
    }

    /// Forgets all penalties of those that are meant; tells how many bans were among them.
    pub fn forget(&mut self, is_meant: impl Fn(&K) -> bool) -> usize {
        let mut bans = 0;
        self.by_whom.retain(|whom, penalty| {
            let is_meant = is_meant(whom);
            bans += usize::from(is_meant && penalty.is_ban);
            !is_meant
        });
        bans
    }
}
