//! What came of a run, in words: the first thing that people read, and often the only one. Pure.

use indicatif::{BinaryBytes, HumanCount};

use super::{Arrivals, FaultKind, Report, Verdict};
use crate::plan::Operation;

/// How a run came to its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    /// It did all that was asked for.
    #[default]
    Complete,
    /// Somebody ended the load.
    Stopped,
    /// Somebody ended it before everything was looked at.
    Abandoned,
    /// It could not begin, for this reason.
    NotBegun(String),
}

impl Verdict {
    /// Of a report that is complete but for it.
    pub fn of(report: &Report, ending: &Ending) -> Verdict {
        if let Ending::NotBegun(sentence) = ending {
            return Verdict { ok: false, safe: false, sentence: format!("The run could not begin: {sentence}") };
        }
        let faults: u64 = report.faults_by_kind.values().sum();
        let is_looked_at = *ending != Ending::Abandoned && report.plan.verify != "nothing";
        let unseen = if is_looked_at { unseen(report) } else { 0 };
        let safe = faults == 0 && is_looked_at && unseen == 0 && report.totals.acknowledged > 0;
        let stopped = if *ending == Ending::Complete { "" } else { "Stopped by hand. " };
        let (ok, sentence) = if faults > 0 {
            (false, faulty(report, faults))
        } else if report.totals.acknowledged == 0 {
            (false, format!("No file was uploaded: {}.", errors(report)))
        } else if unseen > 0 {
            (
                false,
                format!(
                    "NOT SAFE: {} files could not be looked at, and nothing else is known of them",
                    HumanCount(unseen)
                ),
            )
        } else if !report.errors.is_empty() {
            let safe = if is_looked_at { "Nothing that was acknowledged is lost or wrong" } else { NOT_LOOKED_AT };
            (false, format!("{safe}, but operations failed: {}. {}.", errors(report), speed(report)))
        } else if !is_looked_at {
            (*ending != Ending::Abandoned, format!("{}. {NOT_LOOKED_AT}.", speed(report)))
        } else {
            (true, format!("{}. Every one was read back and is right{}.", speed(report), arrivals(report)))
        };
        let is_left = !report.totals.is_clean && !report.plan.keep;
        let left = if is_left { " Not everything could be removed again." } else { "" };
        Verdict { ok, safe, sentence: format!("{stopped}{sentence}{left}") }
    }
}

/// Files that were found neither right nor wrong, on the server where these are the most. There should be none.
fn unseen(report: &Report) -> u64 {
    let Report { totals, arrivals, .. } = report;
    let on_standbys = arrivals.values().map(|arrivals| arrivals.expected.saturating_sub(arrivals.right));
    totals.acknowledged.saturating_sub(totals.right).max(on_standbys.max().unwrap_or(0))
}

const NOT_LOOKED_AT: &str = "Whether the files are right was not looked at";

fn faulty(report: &Report, faults: u64) -> String {
    let kinds =
        report.faults_by_kind.iter().map(|(kind, count)| format!("{} {}", HumanCount(*count), words(*kind, *count)));
    let first = report
        .faults
        .first()
        .map_or_else(String::new, |first| format!(" The first: {} on {}: {}.", first.file, first.server, first.detail));
    format!(
        "NOT SAFE: of {} files that {} had acknowledged, {} faults were found: {}.{first}",
        HumanCount(report.totals.acknowledged),
        report.plan.target,
        HumanCount(faults),
        joined(kinds.collect())
    )
    .replace("1 faults were", "1 fault was")
}

fn words(kind: FaultKind, count: u64) -> String {
    format!("{} {}", if count == 1 { "is" } else { "are" }, kind.text())
}

fn errors(report: &Report) -> String {
    if report.errors.is_empty() {
        return "nothing was asked of the server".to_owned();
    }
    joined(report.errors.iter().map(|(kind, count)| format!("{} times {kind}", HumanCount(*count))).collect())
}

fn speed(report: &Report) -> String {
    let totals = &report.totals;
    if totals.files_per_s == 0.0 {
        let operations = totals.done.iter().filter(|(kind, _)| !matches!(kind, Operation::Upload | Operation::Connect));
        let done: u64 = operations.map(|(_, counts)| counts.ok).sum();
        return format!("{} operations were done in {}", HumanCount(done), time(totals.load_s * 1000.0));
    }
    let upload = report.latencies.get(&Operation::Upload).copied().unwrap_or_default();
    format!(
        "{} files ({}) were uploaded in {}: {} files/s, {}/s; half of them took {}, 99 of 100 no longer than {}",
        HumanCount(totals.acknowledged),
        BinaryBytes(totals.bytes_up),
        time(totals.load_s * 1000.0),
        rate(totals.files_per_s),
        BinaryBytes(totals.up_bytes_per_s as u64),
        time(upload.p50_ms),
        time(upload.p99_ms)
    )
}

fn arrivals(report: &Report) -> String {
    let one = |(name, arrivals): (&String, &Arrivals)| {
        let Arrivals { latency, .. } = arrivals;
        format!(
            "on {name}, too, where half arrived within {} and the last after {}",
            time(latency.p50_ms),
            time(latency.max_ms)
        )
    };
    match report.arrivals.is_empty() {
        true => String::new(),
        false => format!(", {}", joined(report.arrivals.iter().map(one).collect())),
    }
}

fn joined(parts: Vec<String>) -> String {
    match parts.as_slice() {
        [] => String::new(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

fn rate(per_s: f64) -> String {
    if per_s < 10.0 { format!("{per_s:.1}") } else { HumanCount(per_s as u64).to_string() }
}

/// A time as people say it.
fn time(ms: f64) -> String {
    match ms {
        ..1.0 => format!("{ms:.2} ms"),
        1.0..10.0 => format!("{ms:.1} ms"),
        10.0..1000.0 => format!("{ms:.0} ms"),
        1000.0..60_000.0 => format!("{:.1} s", ms / 1000.0),
        _ => format!("{:.0} min {:.0} s", (ms / 60_000.0).floor(), (ms % 60_000.0 / 1000.0).floor()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Finding, Latency, Totals, tests::report};

    #[track_caller]
    fn says(report: &Report, ending: &Ending, ok: bool, safe: bool, parts: &[&str]) {
        let verdict = Verdict::of(report, ending);
        assert_eq!((verdict.ok, verdict.safe), (ok, safe), "{}", verdict.sentence);
        parts.iter().for_each(|part| assert!(verdict.sentence.contains(part), "{}", verdict.sentence));
    }

    #[test]
    fn a_run_without_trouble_is_told_with_its_speed_and_its_arrivals() {
        let mut good = report();
        let upload = Latency { count: 10_000, p50_ms: 12.4, p99_ms: 120.0, ..Latency::default() };
        good.latencies.insert(Operation::Upload, upload);
        let latency = Latency { count: 10_000, p50_ms: 200.0, max_ms: 1100.0, ..Latency::default() };
        let arrivals = Arrivals { expected: 10_000, right: 10_000, latency, ..Arrivals::default() };
        good.arrivals.insert("standby".into(), arrivals);
        let parts = [
            "10,000 files",
            "158 files/s",
            "half of them took 12 ms",
            "is right, on standby, too",
            "within 200 ms",
            "1.1 s",
        ];
        says(&good, &Ending::Complete, true, true, &parts);
        says(&good, &Ending::Stopped, true, true, &["Stopped by hand. 10,000"]);
        says(&good, &Ending::Abandoned, false, false, &[NOT_LOOKED_AT]);
        good.plan.verify = "nothing".into();
        says(&good, &Ending::Complete, true, false, &[NOT_LOOKED_AT]);
    }

    #[test]
    fn what_is_lost_or_wrong_is_said_first() {
        let mut bad = report();
        bad.errors.insert("timeout".into(), 3);
        bad.faults_by_kind = [(FaultKind::Lost, 1), (FaultKind::Corrupted, 2)].into();
        bad.faults.push(Finding {
            file: "/stress-x/0000/00000007".into(),
            server: "master".into(),
            kind: FaultKind::Lost,
            detail: "it is not there".into(),
        });
        let parts = ["NOT SAFE", "1 is lost and 2 are corrupted", "/stress-x/0000/00000007 on master: it is not there"];
        says(&bad, &Ending::Complete, false, false, &parts);
    }

    #[test]
    fn what_was_not_looked_at_is_not_taken_for_right() {
        let mut blind = report();
        blind.totals.right = 9_990;
        says(&blind, &Ending::Complete, false, false, &["NOT SAFE: 10 files could not be looked at"]);
        let mut far = report();
        far.arrivals.insert("b".into(), Arrivals { expected: 10_000, right: 9_999, ..Arrivals::default() });
        says(&far, &Ending::Complete, false, false, &["NOT SAFE: 1 files could not be looked at"]);
        let mut left = report();
        left.totals.is_clean = false;
        says(&left, &Ending::Complete, true, true, &["Not everything could be removed again."]);
    }

    #[test]
    fn what_failed_is_told_apart_from_what_is_lost() {
        let mut failed = report();
        failed.errors = [("connection lost".to_owned(), 10), ("timeout".to_owned(), 2)].into();
        let parts = ["Nothing that was acknowledged is lost or wrong", "10 times connection lost and 2 times timeout"];
        says(&failed, &Ending::Complete, false, true, &parts);
        failed.totals = Totals::default();
        says(&failed, &Ending::Complete, false, false, &["No file was uploaded: 10 times connection lost"]);
        says(&failed, &Ending::NotBegun("no room".into()), false, false, &["could not begin: no room"]);
    }
}
