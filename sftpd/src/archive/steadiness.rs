//! Whether the clock on the wall can be believed: by it retention removes files for ever. Pure.

use std::time::Duration;

/// How far the wall's clock may run away from the one that only counts, between two looks.
const LEAP_MAX: Duration = Duration::from_secs(600);

/// For how long nothing is removed after it has leapt: until a person can have seen it.
const DISTRUST: Duration = Duration::from_secs(24 * 3600);

/// For how long a machine may be off before its clock counts as having leapt.
const OFF_MAX_MS: i64 = 30 * super::moment::DAY_MS;

/// Both clocks at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// What the wall's shows, in milliseconds since 1970.
    pub wall_ms: i64,
    /// What the other has counted since some moment of this run.
    pub counted: Duration,
}

/// What is known of the clock.
#[derive(Debug, Default)]
pub struct Steadiness {
    last: Option<Clocks>,
    distrusted_until: Option<Duration>,
}

impl Steadiness {
    /// When this machine begins as the master: `before_ms` is the newest moment that is known from before, by this machine's clock or by
    /// that of the master before it. Whether the wall's clock is too far away from it.
    pub fn begin(&mut self, now: Clocks, before_ms: Option<i64>) -> bool {
        let away_ms = before_ms.map_or(0, |before_ms| now.wall_ms.saturating_sub(before_ms));
        let is_far = away_ms > OFF_MAX_MS || away_ms < -(LEAP_MAX.as_millis() as i64);
        if is_far {
            self.distrusted_until = Some(now.counted + DISTRUST);
        }
        is_far
    }

    /// Looks at the clocks; whether the wall's is believed. Tells `true` with it where it has leapt just now.
    pub fn look(&mut self, now: Clocks) -> (bool, bool) {
        let last = self.last.replace(now).unwrap_or(now);
        let (wall_ms, counted) = (now.wall_ms.saturating_sub(last.wall_ms), now.counted.saturating_sub(last.counted));
        let has_leapt = wall_ms.abs_diff(counted.as_millis() as i64) > LEAP_MAX.as_millis() as u64;
        if has_leapt {
            self.distrusted_until = Some(now.counted + DISTRUST);
        }
        self.distrusted_until = self.distrusted_until.filter(|until| now.counted < *until);
        (self.distrusted_until.is_none(), has_leapt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(wall_s: i64, counted_s: u64) -> Clocks {
        Clocks { wall_ms: wall_s * 1000, counted: Duration::from_secs(counted_s) }
    }

    #[test]
    fn a_clock_that_runs_is_believed_and_one_that_leaps_is_not_for_a_day() {
        let mut steadiness = Steadiness::default();
        assert!(!steadiness.begin(at(1_000_000, 0), Some(999_000_000)));
        assert_eq!(steadiness.look(at(1_000_000, 0)), (true, false));
        assert_eq!(steadiness.look(at(1_000_005, 5)), (true, false));
        assert_eq!(steadiness.look(at(90_000_000, 10)), (false, true));
        assert_eq!(steadiness.look(at(90_000_005, 15)), (false, false));
        assert_eq!(steadiness.look(at(1_000_020, 20)), (false, true), "back again");
        let (later, day) = (1_000_020, 24 * 3600);
        assert_eq!(steadiness.look(at(later + day, 20 + day as u64)), (true, false));
    }

    #[test]
    fn a_clock_that_was_another_before_the_start_is_not_believed() {
        let day_s = 24 * 3600;
        for (before_s, is_believed) in
            [(Some(40 * day_s), true), (Some(5 * day_s), false), (Some(60 * day_s), false), (None, true)]
        {
            let mut steadiness = Steadiness::default();
            steadiness.begin(at(50 * day_s, 0), before_s.map(|s: i64| s * 1000));
            assert_eq!(steadiness.look(at(50 * day_s + 1, 1)).0, is_believed, "{before_s:?}");
        }
    }
}
