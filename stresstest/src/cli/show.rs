//! A run as a terminal shows it: a bar that moves, or a line now and then where nobody looks.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::time::{Duration, Instant};

use indicatif::{BinaryBytes, HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio_util::sync::CancellationToken;

use crate::plan::Operation;
use crate::progress::{Phase, Progress};
use crate::report::{Latency, Report};
use crate::runner::Runner;

/// From one line to the next, where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// Faults that are shown one by one.
const FAULTS_SHOWN: usize = 10;

/// Shows a run until it is over.
pub async fn until_done(runner: &Runner, shutdown: &CancellationToken) -> anyhow::Result<()> {
    let (mut watch, mut shown) = (runner.watch(), Shown::new());
    let mut is_ending = false;
    loop {
        let progress = watch.borrow_and_update().clone();
        shown.show(&progress);
        if !progress.is_running() {
            return Ok(());
        }
        if shutdown.is_cancelled() && !is_ending {
            is_ending = true;
            shown.say("ending: what was made is verified and removed; once more leaves out the verification");
        }
        watch.changed().await?;
    }
}

/// What is on the terminal.
struct Shown {
    bar: ProgressBar,
    is_terminal: bool,
    phase: Option<(Phase, Option<String>)>,
    last_line: Instant,
}

impl Shown {
    fn new() -> Shown {
        let is_terminal = std::io::stderr().is_terminal();
        let target = if is_terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(0), target);
        let style = ProgressStyle::with_template("{prefix:>24} {wide_bar} {human_pos}/{human_len} {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Shown { bar, is_terminal, phase: None, last_line: Instant::now() }
    }

    fn show(&mut self, progress: &Progress) {
        let (position, length) = place(progress);
        self.bar.set_length(length);
        self.bar.set_position(position);
        self.bar.set_prefix(progress.phase.text());
        self.bar.set_message(state(progress));
        let at = (progress.phase, progress.sentence.clone());
        if progress.phase == Phase::Done {
            self.bar.finish_and_clear();
        } else if !self.is_terminal && (self.phase.as_ref() != Some(&at) || self.last_line.elapsed() > LINE_EVERY) {
            self.last_line = Instant::now();
            let sentence = at.1.as_ref().map_or_else(String::new, |sentence| format!(" ({sentence})"));
            self.say(&format!("{}{sentence}: {position} of {length}; {}", progress.phase.text(), state(progress)));
        }
        self.phase = Some(at);
    }

    fn say(&self, line: &str) {
        // A terminal that went away is no reason to end the run.
        self.bar.suspend(|| {
            let _ = writeln!(std::io::stderr(), "stresstest: {line}");
        });
    }
}

/// How far the phase is.
fn place(progress: &Progress) -> (u64, u64) {
    let uploads = progress.done.get(&Operation::Upload).copied().unwrap_or_default();
    match progress.phase {
        Phase::Preparing | Phase::Loading => (uploads.ok + uploads.failed, progress.planned_files),
        Phase::Verifying => (progress.verified, progress.acknowledged),
        Phase::CheckingStandby => (progress.arrived_verified, progress.arrived_expected),
        Phase::Cleaning | Phase::Done => (progress.cleaned, progress.acknowledged),
    }
}

fn state(progress: &Progress) -> String {
    let mut text = String::new();
    if progress.phase == Phase::Loading
        && let Some(point) = progress.points.last()
    {
        let _ = write!(
            text,
            "{}/s up, {}/s down, {:.0} operations/s, p50 {:.1} ms, p99 {:.1} ms",
            BinaryBytes(point.up_bytes_per_s as u64),
            BinaryBytes(point.down_bytes_per_s as u64),
            point.operations_per_s,
            point.p50_ms,
            point.p99_ms
        );
        if let Some(lag_ms) = point.standby_lag_ms {
            let _ = write!(text, ", standby behind {lag_ms:.0} ms");
        }
    }
    let errors: u64 = progress.errors.values().sum();
    for (count, what) in [(errors, "errors"), (progress.faults, "FAULTS")] {
        if count > 0 {
            let _ = write!(text, "{}{} {what}", if text.is_empty() { "" } else { ", " }, HumanCount(count));
        }
    }
    text
}

/// A report in a few lines. The verdict is the last of them.
pub fn summary(report: &Report) -> String {
    let mut text = String::new();
    // Writing into a text does not fail.
    let _ = write_summary(report, &mut text);
    text
}

fn write_summary(report: &Report, text: &mut String) -> std::fmt::Result {
    let totals = &report.totals;
    writeln!(text, "run {}, seed {}", report.run, report.plan.seed)?;
    if !report.latencies.is_empty() {
        writeln!(
            text,
            "{:<12}{:>10}{:>8}{:>11}{:>11}{:>11}{:>11}",
            "", "done", "failed", "p50 ms", "p95 ms", "p99 ms", "max ms"
        )?;
    }
    for operation in Operation::ALL {
        let Some(counts) = totals.done.get(&operation) else { continue };
        let latency = report.latencies.get(&operation).copied().unwrap_or_default();
        row(text, operation.text(), counts.ok, counts.failed, &latency)?;
    }
    for (name, arrivals) in &report.arrivals {
        row(text, "arrival", arrivals.arrived, arrivals.expected.saturating_sub(arrivals.arrived), &arrivals.latency)?;
        writeln!(text, "  on {name}, known to {:.0} ms", arrivals.exact_to_ms)?;
    }
    for (kind, count) in &report.errors {
        writeln!(text, "error: {} times {kind}", HumanCount(*count))?;
    }
    for finding in report.faults.iter().take(FAULTS_SHOWN) {
        writeln!(text, "FAULT ({}): {} on {}: {}", finding.kind.text(), finding.file, finding.server, finding.detail)?;
    }
    let faults: u64 = report.faults_by_kind.values().sum();
    if faults > FAULTS_SHOWN as u64 {
        writeln!(text, "and {} faults more: --json has them", HumanCount(faults - FAULTS_SHOWN as u64))?;
    }
    for note in &report.notes {
        writeln!(text, "note: {note}")?;
    }
    // Where it is bad it is the last word, on standard error.
    if report.verdict.ok { writeln!(text, "{}", report.verdict.sentence) } else { Ok(()) }
}

fn row(text: &mut String, name: &str, ok: u64, failed: u64, latency: &Latency) -> std::fmt::Result {
    let Latency { p50_ms, p95_ms, p99_ms, max_ms, .. } = latency;
    writeln!(text, "{name:<12}{ok:>10}{failed:>8}{p50_ms:>11.2}{p95_ms:>11.2}{p99_ms:>11.2}{max_ms:>11.2}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{FaultKind, Finding, Verdict, tests::report};

    #[test]
    fn a_summary_shows_what_was_done_and_what_is_wrong() {
        let mut report = report();
        report.latencies.insert(Operation::Upload, Latency { p50_ms: 12.4, ..Latency::default() });
        report.totals.done.insert(Operation::Upload, crate::progress::Counts { ok: 9999, failed: 1 });
        assert!(summary(&report).ends_with("all right\n"), "{}", summary(&report));
        for number in 0..12 {
            report.faults.push(Finding {
                file: format!("/{number}"),
                server: "master".into(),
                kind: FaultKind::Lost,
                detail: "it is not there".into(),
            });
        }
        report.faults_by_kind.insert(FaultKind::Lost, 12);
        report.verdict = Verdict { ok: false, safe: false, sentence: "NOT SAFE".into() };
        let text = summary(&report);
        for part in [
            "upload            9999       1      12.40",
            "FAULT (lost): /9 on master: it is not there",
            "and 2 faults more",
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert!(!text.contains("FAULT (lost): /10 ") && !text.contains("NOT SAFE"), "{text}");
    }
}
