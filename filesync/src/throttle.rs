//! How fast content may go to a standby: bytes per second, by windows of the day.
//!
//! All connections to one standby share one limit. Only content counts: what lists, compares and renames is small.

use std::num::NonZeroU32;
use std::str::FromStr;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use jiff::Zoned;
use jiff::civil::Time;
use pair::units;

/// What may go at once, in bytes: one WRITE must fit.
const BURST_BYTES_MIN: u32 = 256 * 1024;

/// A limit, and when it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// From and to when, of each day; always where there is none. The end may be on the next day.
    hours: Option<(Time, Time)>,
    /// Bytes per second; as fast as it goes where there is none.
    bytes_per_s: Option<NonZeroU32>,
}

impl FromStr for Window {
    type Err = String;

    fn from_str(text: &str) -> Result<Window, String> {
        let refused =
            || format!("\"{text}\" is no limit: write 10MiB/s, or 08:00-18:00 10MiB/s, or 18:00-08:00 unlimited");
        let (hours, rate) = match text.trim().split_once(' ') {
            Some((hours, rate)) if hours.contains(':') => (Some(hours), rate.trim()),
            _ => (None, text.trim()),
        };
        let hours = hours.map(|hours| parse_hours(hours).ok_or_else(refused)).transpose()?;
        if rate == "unlimited" {
            return Ok(Window { hours, bytes_per_s: None });
        }
        let bytes = rate.strip_suffix("/s").and_then(units::bytes).ok_or_else(refused)?;
        // Nothing is that fast: it is as good as no limit.
        let bytes_per_s = u32::try_from(bytes).ok().and_then(NonZeroU32::new);
        Ok(Window { hours, bytes_per_s })
    }
}

fn parse_hours(text: &str) -> Option<(Time, Time)> {
    let (from, to) = text.split_once('-')?;
    Some((parse_time(from)?, parse_time(to)?))
}

fn parse_time(text: &str) -> Option<Time> {
    let (hour, minute) = text.split_once(':')?;
    match (hour.parse().ok()?, minute.parse().ok()?) {
        (24, 0) => Some(Time::midnight()),
        (hour, minute) => Time::new(hour, minute, 0, 0).ok(),
    }
}

impl Window {
    fn holds_at(&self, now: Time) -> bool {
        match self.hours {
            None => true,
            Some((from, to)) if from < to => (from..to).contains(&now),
            Some((from, to)) => now >= from || now < to,
        }
    }
}

/// The limits of one standby.
pub struct Throttle(Vec<(Window, Option<DefaultDirectRateLimiter>)>);

impl Throttle {
    /// Limits, of which the first counts whose window it is; outside of all there is none.
    pub fn new(windows: &[Window]) -> Throttle {
        let limiter = |window: &Window| {
            let bytes_per_s = window.bytes_per_s?;
            let burst = NonZeroU32::new(BURST_BYTES_MIN.max(bytes_per_s.get() / 10))?;
            Some(RateLimiter::direct(Quota::per_second(bytes_per_s).allow_burst(burst)))
        };
        Throttle(windows.iter().map(|window| (*window, limiter(window))).collect())
    }

    /// Waits until so many bytes may go.
    pub async fn pass(&self, bytes: usize) {
        if self.0.is_empty() {
            return;
        }
        let now = Zoned::now().time();
        let Some((_, Some(limiter))) = self.0.iter().find(|(window, _)| window.holds_at(now)) else { return };
        let Some(bytes) = u32::try_from(bytes).ok().and_then(NonZeroU32::new) else { return };
        // More than may ever go at once is not sent by anybody; then it would not be held back.
        let _ = limiter.until_n_ready(bytes).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn window(text: &str) -> Window {
        text.parse().unwrap()
    }

    #[test]
    fn limits_are_read_as_people_write_them() {
        let at = |hour, minute| Time::new(hour, minute, 0, 0).unwrap();
        let rate = NonZeroU32::new(10 << 20);
        assert_eq!(window("10MiB/s"), Window { hours: None, bytes_per_s: rate });
        assert_eq!(window("10 MiB/s"), window("10MiB/s"));
        assert_eq!(window("08:00-18:30 10MiB/s"), Window { hours: Some((at(8, 0), at(18, 30))), bytes_per_s: rate });
        assert_eq!(window("22:00-24:00 unlimited").hours, Some((at(22, 0), at(0, 0))));
        for wrong in ["", "fast", "10MiB", "0/s", "08:00 10MiB/s", "8-18 10MiB/s", "25:00-26:00 1MB/s", "08:00-18:00"] {
            let sentence = wrong.parse::<Window>().unwrap_err();
            assert!(sentence.contains("write 10MiB/s"), "{sentence}");
        }
    }

    #[test]
    fn a_window_ends_when_the_next_begins_also_over_midnight() {
        let at = |hour, minute| Time::new(hour, minute, 0, 0).unwrap();
        let (day, night) = (window("08:00-18:00 1MB/s"), window("18:00-08:00 unlimited"));
        for (time, is_day) in [(at(8, 0), true), (at(17, 59), true), (at(18, 0), false), (at(0, 0), false)] {
            assert_eq!((day.holds_at(time), night.holds_at(time)), (is_day, !is_day), "{time}");
        }
        assert!(window("1MB/s").holds_at(at(3, 0)));
    }

    #[tokio::test]
    async fn what_is_beyond_the_limit_waits_and_without_a_limit_nothing_does() {
        let began = Instant::now();
        let slow = Throttle::new(&[window("1MiB/s")]);
        for _ in 0..4 {
            slow.pass(256 * 1024).await;
        }
        // The first part goes at once, the others a quarter of a second each.
        assert!(began.elapsed() >= Duration::from_millis(700));
        let free = Throttle::new(&[window("00:00-24:00 unlimited"), window("1B/s")]);
        free.pass(usize::MAX).await;
        Throttle::new(&[]).pass(usize::MAX).await;
    }
}
