//! Times as people read them. Pure.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// What time it is, and where.
#[derive(Clone, Debug)]
pub struct Clock {
    zone: TimeZone,
    /// Now, in milliseconds since 1970.
    pub now_ms: i64,
}

impl Clock {
    /// It is now.
    pub fn now(zone: TimeZone) -> Clock {
        Clock { zone, now_ms: Timestamp::now().as_millisecond() }
    }

    /// A moment: `2026-11-22 14:05`.
    pub fn moment(&self, at_ms: i64) -> String {
        self.format(at_ms, "%Y-%m-%d %H:%M")
    }

    /// A moment of today: `14:05:03`.
    pub fn time(&self, at_ms: i64) -> String {
        self.format(at_ms, "%H:%M:%S")
    }

    /// A moment as the label of an axis.
    pub fn format(&self, at_ms: i64, format: &str) -> String {
        let at = Timestamp::from_millisecond(at_ms).unwrap_or(Timestamp::UNIX_EPOCH);
        at.to_zoned(self.zone.clone()).strftime(format).to_string()
    }

    /// How long ago something was; nothing finer than what a person wants to know.
    pub fn ago(&self, at_ms: i64) -> String {
        match self.now_ms.saturating_sub(at_ms) {
            age_ms if age_ms < 10_000 => "just now".to_owned(),
            age_ms => format!("{} ago", span(age_ms)),
        }
    }

    /// The same for what is known in seconds, if at all.
    pub fn ago_s(&self, at_s: Option<i64>) -> String {
        at_s.map_or("never".to_owned(), |at_s| self.ago(at_s.saturating_mul(1000)))
    }

    /// `since 2026-11-22 14:05, for 12 min`; nothing where it is not known.
    pub fn since(&self, at_ms: Option<i64>) -> String {
        let Some(at_ms) = at_ms else { return String::new() };
        let age_ms = self.now_ms.saturating_sub(at_ms);
        if age_ms < 10_000 {
            return format!("since {}", self.moment(at_ms));
        }
        format!("since {}, for {}", self.moment(at_ms), span(age_ms))
    }
}

/// A span of time, roughly.
pub fn span(span_ms: i64) -> String {
    let span_s = span_ms.max(0) / 1000;
    match span_s {
        0..60 => format!("{span_s} s"),
        60..3600 => format!("{} min", span_s / 60),
        3600..172_800 => format!("{} h", span_s / 3600),
        _ => format!("{} days", span_s / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_zone_and_no_finer_than_wanted() {
        let clock = Clock { zone: TimeZone::get("Europe/Berlin").unwrap(), now_ms: 1_795_301_300_000 };
        assert_eq!(clock.moment(clock.now_ms), "2026-11-21 23:48");
        assert_eq!((clock.ago(clock.now_ms - 9_000).as_str(), clock.ago_s(None).as_str()), ("just now", "never"));
        assert_eq!(clock.ago(clock.now_ms - 7_300_000), "2 h ago");
        assert_eq!(clock.since(Some(clock.now_ms - 720_000)), "since 2026-11-21 23:36, for 12 min");
        assert_eq!(clock.since(None), "");
        assert_eq!(span(3 * 86_400_000), "3 days");
    }
}
