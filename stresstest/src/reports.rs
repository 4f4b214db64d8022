//! The reports that are kept in the state folder: one file of JSON and one of CSV for each run.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use pair::node::replace_file;

use crate::identity::RunId;
use crate::report::Report;

/// The reports that are kept. A clone is the same ones.
#[derive(Clone, Debug)]
pub struct Reports {
    folder: PathBuf,
    /// How many are kept.
    count_max: usize,
}

/// A table: what is in its first line, and the other lines.
pub struct Table {
    /// The names of the columns.
    pub columns: Vec<String>,
    /// The rows, made one after another.
    pub rows: Box<dyn Iterator<Item = Vec<String>> + Send>,
}

impl Table {
    /// As CSV.
    pub fn write(self, out: &mut impl Write) -> std::io::Result<()> {
        for row in std::iter::once(self.columns).chain(self.rows) {
            let fields: Vec<String> = row.iter().map(|field| csv_field(field)).collect();
            writeln!(out, "{}", fields.join(","))?;
        }
        Ok(())
    }
}

/// A field as RFC 4180 has it.
fn csv_field(text: &str) -> String {
    match text.contains(['"', ',', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}

impl Reports {
    /// Those in a state folder, of which `count_max` are kept.
    pub fn open(state: &Path, count_max: usize) -> anyhow::Result<Reports> {
        let folder = state.join("reports");
        std::fs::create_dir_all(&folder)
            .map_err(|error| pair::folder::not_writable("folder of reports", &folder, &error))?;
        Ok(Reports { folder, count_max: count_max.max(1) })
    }

    /// All runs, the newest first. Reports that cannot be read are left out.
    pub fn list(&self) -> Vec<Report> {
        self.runs().into_iter().rev().filter_map(|run| self.read(&run).ok().flatten()).collect()
    }

    /// One report; none where there is none.
    pub fn read(&self, run: &RunId) -> anyhow::Result<Option<Report>> {
        let path = self.path(run, "json");
        let Some(text) = read(&path)? else { return Ok(None) };
        serde_json::from_slice(&text).map(Some).with_context(|| format!("{} is no report", path.display()))
    }

    /// Its files, one a line, as CSV; none where there is none.
    pub fn csv(&self, run: &RunId) -> anyhow::Result<Option<Vec<u8>>> {
        read(&self.path(run, "csv"))
    }

    /// Keeps a report, and lets the oldest go.
    pub fn keep(&self, report: &Report, table: Table) -> anyhow::Result<()> {
        let path = self.path(&report.run, "csv");
        let write = || -> std::io::Result<()> {
            let mut file = BufWriter::new(std::fs::File::create(&path)?);
            table.write(&mut file)?;
            file.into_inner()?.sync_all()
        };
        write().with_context(|| format!("cannot write {}", path.display()))?;
        replace_file(&self.path(&report.run, "json"), &serde_json::to_vec(report)?, 0o644)?;
        let runs = self.runs();
        for run in runs.iter().take(runs.len().saturating_sub(self.count_max)) {
            for form in ["json", "csv"] {
                // One that is gone already is as good as one that goes now.
                let _ = std::fs::remove_file(self.path(run, form));
            }
        }
        Ok(())
    }

    fn path(&self, run: &RunId, form: &str) -> PathBuf {
        self.folder.join(format!("{run}.{form}"))
    }

    /// The runs that have a report, the oldest first.
    fn runs(&self) -> Vec<RunId> {
        let names = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let run_of = |name: std::ffi::OsString| name.to_str()?.strip_suffix(".json")?.parse().ok();
        let mut runs: Vec<RunId> = names.filter_map(|entry| run_of(entry.file_name())).collect();
        runs.sort();
        runs
    }
}

fn read(path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;

    fn table() -> Table {
        let row = vec!["7".to_owned(), "a \"quoted\", b".to_owned()];
        Table { columns: vec!["number".into(), "path".into()], rows: Box::new(std::iter::once(row)) }
    }

    #[test]
    fn reports_are_kept_up_to_a_number_and_the_newest_comes_first() {
        let state = tempfile::tempdir().unwrap();
        let reports = Reports::open(state.path(), 3).unwrap();
        let mut report = report();
        for second in 10..15 {
            report.run = format!("20261122-0215{second}-9f3c1a").parse().unwrap();
            reports.keep(&report, table()).unwrap();
        }
        std::fs::write(state.path().join("reports/20261122-021600-9f3c1a.json"), "{").unwrap();
        let runs: Vec<String> = reports.list().into_iter().map(|report| report.run.to_string()).collect();
        assert_eq!(runs, ["20261122-021514-9f3c1a", "20261122-021513-9f3c1a", "20261122-021512-9f3c1a"]);
        let gone = "20261122-021510-9f3c1a".parse().unwrap();
        assert_eq!((reports.read(&gone).unwrap(), reports.csv(&gone).unwrap()), (None, None));
        let csv = reports.csv(&report.run).unwrap().unwrap();
        assert_eq!(String::from_utf8(csv).unwrap(), "number,path\n7,\"a \"\"quoted\"\", b\"\n");
    }
}
