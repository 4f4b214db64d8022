//! Whether a file that arrived is safe: what its record promises, and what is known of the standbys. Pure.

use filesync::status::Report;
use jiff::tz::TimeZone;

use super::super::records::{local_time, shown};
use crate::questions::Record;
use crate::record::Outcome;
use crate::situation::{Mirror, Situation};

/// A sentence, and how good it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// `good`, `warn` or `bad`.
    pub class: &'static str,
    /// The sentence.
    pub sentence: String,
}

fn line(class: &'static str, sentence: impl Into<String>) -> Line {
    Line { class, sentence: sentence.into() }
}

/// Whether the machine that took it would have it after a power failure.
pub fn durable(outcome: Outcome, is_ours: bool, is_volatile: bool) -> Line {
    match outcome {
        Outcome::Aborted => {
            line("bad", "It ended before its end: this was not acknowledged, and no file took the name.")
        }
        Outcome::Refused => line("bad", "It was refused: nothing was taken."),
        Outcome::Complete | Outcome::Replaced | Outcome::Resumed if is_ours && is_volatile => {
            line("warn", "Acknowledged; durability is none here, so a power failure may have taken it.")
        }
        Outcome::Complete | Outcome::Replaced | Outcome::Resumed if is_ours => line(
            "good",
            "Acknowledged, and durable on the machine that took it: an answer of OK comes after the flush.",
        ),
        _ if is_ours => line("warn", "Its record does not say that all of it was acknowledged."),
        _ => line("warn", "SFTPGo has taken it. Its logs do not say whether it is durable."),
    }
}

/// What is known of each standby.
pub fn standbys(situation: &Situation, last: &Record, path: &str, zone: &TimeZone) -> Vec<Line> {
    if !last.is_ours {
        return vec![line("warn", "It came by SFTPGo: whether a standby has it is not known here.")];
    }
    if situation.mirrors.is_empty() {
        return vec![line(
            "warn",
            "No standby is followed from this machine: ask the console of the machine that took it.",
        )];
    }
    situation.mirrors.iter().map(|mirror| standby(mirror, last.time_ms, path, zone)).collect()
}

fn standby(mirror: &Mirror, time_ms: i64, path: &str, zone: &TimeZone) -> Line {
    let name = shown(&mirror.name);
    // The record has the path as the account sees it, filesync that of the volume.
    if let Some(trouble) = mirror.troubles.iter().find(|trouble| is_of(&trouble.path, path)) {
        let sentence = shown(&trouble.sentence);
        return line("bad", format!("{name}: a file of that path cannot be brought there: {sentence}"));
    }
    let Some(covered_ms) = mirror.report.as_ref().and_then(covered_ms) else {
        return line("warn", format!("{name}: it is not known up to when it has everything."));
    };
    let until = local_time(covered_ms, zone);
    if mirror.troubles_count > mirror.troubles.len() as u64 {
        let count = mirror.troubles_count;
        return line(
            "warn",
            format!("{name}: changes up to {until} are there, but for {count} paths; this may be one of them."),
        );
    }
    match time_ms <= covered_ms {
        true => line("good", format!("{name}: on the standby. All changes up to {until} are there.")),
        false => line("warn", format!("{name}: not known to be there yet. All changes up to {until} are.")),
    }
}

/// Up to when a standby has all that was done, in milliseconds since 1970.
pub fn covered_ms(report: &Report) -> Option<i64> {
    let by_feed = (report.connected && report.followed)
        .then(|| report.at_s.saturating_mul(1000).saturating_sub_unsigned(report.lag_ms));
    let by_pass = report.settled_at_s.map(|at_s| at_s.saturating_mul(1000));
    by_feed.max(by_pass)
}

fn is_of(volume_path: &str, path: &str) -> bool {
    let path = shown(path);
    let path = path.trim_matches('/');
    let volume_path = volume_path.trim_matches('/');
    volume_path == path || volume_path.ends_with(&format!("/{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::situation::Waiting;

    fn mirror(report: Option<Report>) -> Mirror {
        Mirror { name: "b:22".into(), report, ..Mirror::default() }
    }

    fn followed(lag_ms: u64) -> Report {
        Report { connected: true, followed: true, at_s: 1000, lag_ms, ..Report::default() }
    }

    #[test]
    fn what_is_on_a_standby_follows_from_its_report_and_nothing_is_guessed() {
        let at = |time_ms, mirror: &Mirror| standby(mirror, time_ms, "/in/x", &TimeZone::UTC);
        let well = mirror(Some(followed(2000)));
        assert_eq!(at(998_000, &well).class, "good");
        assert!(at(998_000, &well).sentence.contains("up to 1970-01-01 00:16:38"));
        assert_eq!(at(998_001, &well).class, "warn");
        assert_eq!(at(0, &mirror(None)).class, "warn");
        let away = mirror(Some(Report { connected: false, settled_at_s: Some(500), ..followed(0) }));
        assert_eq!((at(500_000, &away).class, at(500_001, &away).class), ("good", "warn"));
        let never = mirror(Some(Report { followed: false, ..followed(0) }));
        assert_eq!(at(1, &never).class, "warn");
    }

    #[test]
    fn what_is_not_flushed_is_not_called_durable() {
        let cases = [
            (Outcome::Complete, true, false, "good"),
            (Outcome::Resumed, true, true, "warn"),
            (Outcome::Complete, false, false, "warn"),
            (Outcome::Partial, true, false, "warn"),
            (Outcome::Aborted, true, false, "bad"),
        ];
        for (outcome, is_ours, is_volatile, class) in cases {
            assert_eq!(durable(outcome, is_ours, is_volatile).class, class, "{outcome:?}");
        }
    }

    #[test]
    fn a_path_with_a_problem_is_not_called_safe() {
        let waiting = |path: &str| Waiting { path: path.into(), sentence: "no room".into(), ..Waiting::default() };
        let with = |path: &str, count| Mirror {
            troubles: vec![waiting(path)],
            troubles_count: count,
            ..mirror(Some(followed(0)))
        };
        let at = |mirror: &Mirror| standby(mirror, 1, "/in/x", &TimeZone::UTC).class;
        assert_eq!(at(&with("alice/in/x", 1)), "bad");
        assert_eq!(at(&with("in/x", 1)), "bad");
        assert_eq!(at(&with("alice/in/xx", 1)), "good");
        assert_eq!(at(&with("alice/main/x", 1)), "good");
        assert_eq!(at(&with("alice/other", 99)), "warn", "not all are named");
    }
}
