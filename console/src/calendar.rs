//! Days and hours of the zone in which dates are shown. Pure.
//!
//! Always holds: every moment is in one hour and in one day, and an hour is in one day, also where clocks are changed. Hours are counted
//! in UTC, but begin where the zone's own hours begin, so that a zone that is half an hour off has hours of its own. (Lord Howe Island
//! changes its clocks by half an hour: there hours begin as they do now.)

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

const HOUR_MS: i64 = 3_600_000;

/// Far more than any time that a log has: days are counted within it.
const TIME_MS_MAX: i64 = 250_000_000_000_000;

/// The calendar of a zone.
#[derive(Clone, Debug)]
pub struct Calendar {
    zone: TimeZone,
    phase_ms: i64,
    /// The day that was asked for last: when it begins and ends, and its number.
    last: (i64, i64, i32),
}

impl Calendar {
    /// The calendar of a zone.
    pub fn new(zone: TimeZone) -> Calendar {
        let offset_ms = i64::from(zone.to_offset(Timestamp::now()).seconds()) * 1000;
        Calendar { zone, phase_ms: (-offset_ms).rem_euclid(HOUR_MS), last: (0, 0, 0) }
    }

    /// The zone.
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// What the figures by day and hour rest on, as text: where it differs they have to be counted anew.
    pub fn identity(&self) -> String {
        format!("{}+{}", self.zone.iana_name().unwrap_or("system"), self.phase_ms / 1000)
    }

    /// The number of the hour in which a moment is.
    pub fn hour(&self, time_ms: i64) -> i64 {
        (clamped(time_ms) - self.phase_ms).div_euclid(HOUR_MS)
    }

    /// When an hour begins, in milliseconds since 1970.
    pub fn hour_start_ms(&self, hour: i64) -> i64 {
        hour * HOUR_MS + self.phase_ms
    }

    /// The number of the day in which a moment is: days since 1970-01-01.
    pub fn day(&mut self, time_ms: i64) -> i32 {
        let time_ms = clamped(time_ms);
        let (start, end, day) = self.last;
        if (start..end).contains(&time_ms) {
            return day;
        }
        let Ok(time) = Timestamp::from_millisecond(time_ms) else { return 0 };
        let date = self.zone.to_datetime(time).date();
        let day = day_number(date);
        self.last = (self.start_ms(date), date.tomorrow().map_or(i64::MAX, |next| self.start_ms(next)), day);
        day
    }

    /// The hour of a moment, counted from its day's first one: where clocks are put back a day has 25.
    pub fn hour_of_day(&mut self, time_ms: i64) -> u8 {
        // Asking for the day leaves its beginning behind.
        self.day(time_ms);
        u8::try_from(self.hour(time_ms) - self.hour(self.last.0)).unwrap_or(0)
    }

    /// When a date begins, in milliseconds since 1970.
    pub fn start_ms(&self, date: Date) -> i64 {
        // Where clocks are put forward at midnight the day begins later.
        let midnight = self.zone.to_ambiguous_timestamp(date.at(0, 0, 0, 0)).compatible();
        midnight.map_or(i64::from(day_number(date)) * 24 * HOUR_MS, |time| time.as_millisecond())
    }

    /// The date on which a moment is.
    pub fn date(&self, time_ms: i64) -> Date {
        let time = Timestamp::from_millisecond(clamped(time_ms)).unwrap_or(Timestamp::UNIX_EPOCH);
        self.zone.to_datetime(time).date()
    }

    /// Weekday (Monday is 0) and hour of the day of an hour.
    pub fn weekday_and_hour(&self, hour: i64) -> (usize, usize) {
        let time = Timestamp::from_millisecond(clamped(self.hour_start_ms(hour))).unwrap_or(Timestamp::UNIX_EPOCH);
        let there = self.zone.to_datetime(time);
        let weekday = there.weekday().to_monday_zero_offset();
        (usize::from(weekday.unsigned_abs()), usize::from(there.hour().unsigned_abs()))
    }
}

fn clamped(time_ms: i64) -> i64 {
    time_ms.clamp(-TIME_MS_MAX / 10, TIME_MS_MAX)
}

/// Days since 1970-01-01.
pub fn day_number(date: Date) -> i32 {
    let epoch = Date::constant(1970, 1, 1);
    date.since(epoch).map_or(0, |span| span.get_days())
}

/// The date with a number.
pub fn date_of(day: i32) -> Date {
    let epoch = Date::constant(1970, 1, 1);
    jiff::Span::new().try_days(day).and_then(|days| epoch.checked_add(days)).unwrap_or(epoch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_day_is_the_zones_own_also_when_clocks_are_changed() {
        let mut berlin = Calendar::new(TimeZone::get("Europe/Berlin").unwrap());
        let at = |text: &str| text.parse::<Timestamp>().unwrap().as_millisecond();
        assert_eq!(berlin.date(at("2026-03-28T23:30:00Z")).to_string(), "2026-03-29");
        let long = Date::constant(2026, 10, 25);
        assert_eq!(berlin.start_ms(long.tomorrow().unwrap()) - berlin.start_ms(long), 25 * HOUR_MS);
        assert_eq!(date_of(berlin.day(at("2026-10-25T22:59:59.999Z"))), long);
        assert_eq!(date_of(berlin.day(at("2026-10-25T23:00:00Z"))), long.tomorrow().unwrap());
        assert_eq!(berlin.weekday_and_hour(berlin.hour(at("2026-11-22T23:30:00Z"))), (0, 0), "Monday, just begun");
    }

    #[test]
    fn hours_begin_where_the_zones_own_do() {
        let india = Calendar::new(TimeZone::get("Asia/Kolkata").unwrap());
        let noon = "2026-11-22T06:30:00Z".parse::<Timestamp>().unwrap().as_millisecond();
        assert_eq!(india.hour(noon), india.hour(noon - 1) + 1);
        assert_eq!(india.weekday_and_hour(india.hour(noon)), (6, 12));
    }

    proptest! {
        #[test]
        fn every_moment_is_in_its_hour_and_day(time_ms in -TIME_MS_MAX / 20..TIME_MS_MAX, zone in 0..4_usize) {
            let names = ["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/Sao_Paulo"];
            let mut calendar = Calendar::new(TimeZone::get(names[zone]).unwrap());
            let hour = calendar.hour(time_ms);
            prop_assert!((calendar.hour_start_ms(hour)..calendar.hour_start_ms(hour + 1)).contains(&time_ms));
            let day = calendar.day(time_ms);
            prop_assert_eq!(date_of(day), calendar.date(time_ms));
            prop_assert_eq!(calendar.day(time_ms), day, "also when it is remembered");
            let first = calendar.hour(calendar.start_ms(date_of(day)));
            prop_assert_eq!(first + i64::from(calendar.hour_of_day(time_ms)), hour);
        }

        #[test]
        fn no_time_is_too_odd(time_ms: i64) {
            let mut calendar = Calendar::new(TimeZone::get("Europe/Berlin").unwrap());
            let _ = (calendar.day(time_ms), calendar.hour(time_ms), calendar.weekday_and_hour(calendar.hour(time_ms)));
        }
    }
}
