//! What stays of a run: its report, and its files as a table.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Course, Outcome};
use crate::files::{FOLDER_FILES, State};
use crate::report::{Asked, Report, Totals, VERSION, Verdict};
use crate::reports::Table;

impl Course {
    /// The report of the run that has come to this outcome.
    pub fn report(&self, outcome: Outcome) -> Report {
        let progress = self.tally.progress();
        let (faults, faults_by_kind) = self.tally.faults();
        let load_s = outcome.load.as_secs_f64();
        let per_s = |amount: u64| if load_s > 0.0 { amount as f64 / load_s } else { 0.0 };
        let acknowledged = self.files.acknowledged();
        // Without a share for uploads they were all made before the load.
        let uploads = |amount: u64| if self.plan.mix.upload == 0 { 0.0 } else { per_s(amount) };
        let totals = Totals {
            load_s,
            run_s: self.tally.elapsed().as_secs_f64(),
            done: progress.done,
            acknowledged,
            bytes_up: progress.bytes_up,
            bytes_down: progress.bytes_down,
            files_per_s: uploads(acknowledged),
            up_bytes_per_s: uploads(progress.bytes_up),
            down_bytes_per_s: per_s(progress.bytes_down),
            right: outcome.right,
            verify_s: outcome.verify.as_secs_f64(),
            cleaned: self.tally.cleaned.load(Ordering::Relaxed),
            is_clean: outcome.is_clean,
        };
        let mut report = Report {
            version: VERSION,
            run: self.run.clone(),
            began: self.began.to_string(),
            ended: jiff::Timestamp::now().to_string(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
            plan: Asked::from(&self.plan),
            verdict: Verdict { ok: false, safe: false, sentence: String::new() },
            totals,
            latencies: self.tally.latencies(),
            errors: progress.errors,
            faults,
            faults_by_kind,
            // Where nothing was uploaded nothing was to arrive.
            arrivals: self
                .standbys
                .iter()
                .filter(|_| acknowledged > 0)
                .map(|standby| (standby.name().to_owned(), standby.arrivals()))
                .collect(),
            points: progress.points,
            notes: outcome.notes,
        };
        report.verdict = Verdict::of(&report, &outcome.ending);
        report
    }

    /// The files that were begun, one a row.
    pub fn table(self: &Arc<Course>) -> Table {
        let fixed = ["number", "path", "bytes", "state", "closed_s", "upload_ms"];
        let mut columns: Vec<String> = fixed.map(str::to_owned).into();
        columns.extend(self.standbys.iter().map(|standby| format!("arrived on {} after ms", standby.name())));
        let (course, begun) = (self.clone(), self.files.begun());
        let rows = (0..begun.div_ceil(FOLDER_FILES)).flat_map(move |folder| {
            let rows: Vec<Vec<String>> = course.rows(folder);
            rows
        });
        Table { columns, rows: Box::new(rows) }
    }

    fn rows(&self, folder: u64) -> Vec<Vec<String>> {
        let files = self.files.of_folder(folder).into_iter().filter(|(_, file)| file.state != State::Untouched);
        let row = |(number, file): (u64, crate::files::File)| {
            let is_acknowledged = file.state == State::Acknowledged;
            let shown = |text: String| if is_acknowledged { text } else { String::new() };
            let mut row = vec![
                number.to_string(),
                self.files.path(number, file.renames),
                self.contents.size(number).to_string(),
                if is_acknowledged { "acknowledged" } else { "not acknowledged" }.to_owned(),
                shown(format!("{:.6}", file.closed_us as f64 / 1e6)),
                shown(format!("{:.3}", f64::from(file.took_us) / 1e3)),
            ];
            row.extend(self.standbys.iter().map(|standby| {
                let after_us = standby.arrived_us(number).map(|at| at.saturating_sub(file.closed_us));
                after_us.map_or_else(String::new, |after| format!("{:.3}", after as f64 / 1e3))
            }));
            row
        };
        files.map(row).collect()
    }
}
