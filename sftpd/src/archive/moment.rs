//! Moments as the archive counts and writes them: milliseconds since 1970, and RFC 3339 in UTC.

use jiff::Timestamp;

/// A day, in milliseconds.
pub const DAY_MS: i64 = 24 * 3600 * 1000;

/// A moment as it is written, to the second.
pub fn text(ms: i64) -> String {
    Timestamp::from_millisecond(ms).unwrap_or_default().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The moment that was written; the first one of all where it is none.
pub fn from_text(text: &str) -> i64 {
    text.parse::<Timestamp>().map_or(0, Timestamp::as_millisecond)
}

/// The next time that a clock shows `at_s` seconds of a day, behind a moment.
pub fn next(ms: i64, at_s: u32) -> i64 {
    let today = ms.div_euclid(DAY_MS) * DAY_MS + i64::from(at_s) * 1000;
    if today > ms { today } else { today + DAY_MS }
}

/// How long it is to the end of the day.
pub fn left_of_day(ms: i64) -> i64 {
    DAY_MS - ms.rem_euclid(DAY_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_and_read_and_the_next_time_of_a_day_is_found() {
        let moment = from_text("2026-11-22T01:59:59Z");
        assert_eq!(text(moment), "2026-11-22T01:59:59Z");
        assert_eq!(text(next(moment, 7200)), "2026-11-22T02:00:00Z");
        assert_eq!(text(next(moment + 1000, 7200)), "2026-11-23T02:00:00Z");
        assert_eq!(left_of_day(from_text("2026-11-22T23:59:50Z")), 10_000);
    }
}
