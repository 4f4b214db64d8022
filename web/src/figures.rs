//! Figures as people read them.

use indicatif::{BinaryBytes, HumanCount};
use jiff::Timestamp;

/// A number of things: `12,345`.
pub fn count(number: u64) -> String {
    HumanCount(number).to_string()
}

/// `1 file`, `12,345 files`.
pub fn of(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// Bytes: `1.50 MiB`.
pub fn bytes(number: u64) -> String {
    BinaryBytes(number).to_string()
}

/// Bytes per second.
pub fn rate(bytes_per_s: f64) -> String {
    format!("{}/s", BinaryBytes(bytes_per_s.max(0.0) as u64))
}

/// Things per second, without the unit.
pub fn pace(number: f64) -> String {
    if number < 10.0 { format!("{number:.1}") } else { count(number.round() as u64) }
}

/// Milliseconds, in the unit that reads best.
pub fn milliseconds(ms: f64) -> String {
    match ms {
        ms if ms < 9.95 => format!("{ms:.1} ms"),
        ms if ms < 999.5 => format!("{ms:.0} ms"),
        ms if ms < 9_950.0 => format!("{:.2} s", ms / 1000.0),
        ms => seconds(ms / 1000.0),
    }
}

/// Seconds, in the unit that reads best.
pub fn seconds(span_s: f64) -> String {
    let whole_s = span_s.round() as u64;
    match whole_s {
        0..10 => format!("{span_s:.1} s"),
        10..60 => format!("{whole_s} s"),
        60..3600 if whole_s.is_multiple_of(60) => format!("{} min", whole_s / 60),
        60..3600 => format!("{} min {:02} s", whole_s / 60, whole_s % 60),
        _ if whole_s % 3600 < 60 => format!("{} h", whole_s / 3600),
        _ => format!("{} h {:02} min", whole_s / 3600, whole_s % 3600 / 60),
    }
}

/// A moment in UTC, to the second; the text itself where it is none.
pub fn moment(rfc3339: &str) -> String {
    let parsed: Result<Timestamp, _> = rfc3339.parse();
    parsed.map_or_else(|_| rfc3339.to_owned(), |at| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
}

/// How much `other` is more or less than `one`: `+12 %`; nothing where there is nothing to compare with.
pub fn change(one: f64, other: f64) -> String {
    if one <= 0.0 || !other.is_finite() {
        return String::new();
    }
    match ((other / one - 1.0) * 100.0).round() {
        percent if percent.abs() < 0.5 => "equal".to_owned(),
        percent if percent > 0.0 => format!("+{percent:.0} %"),
        percent => format!("−{:.0} %", -percent),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_as_people_write_them() {
        assert_eq!(of(1, "file", "files"), "1 file");
        assert_eq!(of(12_345, "file", "files"), "12,345 files");
        assert_eq!(rate(1.5 * 1_048_576.0), "1.50 MiB/s");
        assert_eq!((pace(3.25).as_str(), pace(1234.6).as_str()), ("3.2", "1,235"));
        let times =
            [(0.04, "0.0 ms"), (3.24, "3.2 ms"), (250.4, "250 ms"), (1234.0, "1.23 s"), (75_000.0, "1 min 15 s")];
        for (ms, expected) in times {
            assert_eq!(milliseconds(ms), expected);
        }
        for (span_s, expected) in [(300.0, "5 min"), (3600.0, "1 h"), (7322.0, "2 h 02 min")] {
            assert_eq!(seconds(span_s), expected);
        }
        assert_eq!(moment("2026-11-22T02:15:30.5Z"), "2026-11-22 02:15:30 UTC");
        assert_eq!(moment("soon"), "soon");
        let changes = [(100.0, 112.0, "+12 %"), (100.0, 50.0, "−50 %"), (100.0, 100.1, "equal"), (0.0, 5.0, "")];
        for (one, other, expected) in changes {
            assert_eq!(change(one, other), expected);
        }
    }
}
