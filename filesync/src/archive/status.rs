//! How the agent is doing: what it counts, the report that `status` shows, and the words for it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::config::Config;
use super::record::last_report;
use crate::status::now_s;

/// A report that is older than this many intervals comes from an agent that does not run.
const SILENT_S: i64 = 120;
/// Problems that are shown to people; JSON has all.
const PROBLEMS_SHOWN: usize = 20;
/// Problems that are kept.
const PROBLEMS_MAX: usize = 1000;

/// What the agent says of itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// When it was written, in seconds since 1970.
    pub at_s: i64,
    /// Its name in the archive.
    pub agent: String,
    /// The machine that takes its files; none while there is no connection.
    pub connected_to: Option<String>,
    /// Why there is no connection.
    pub no_way: Option<String>,
    /// Files that the last look has met.
    pub files_seen: u64,
    /// Files that are in the archive as they are.
    pub files_settled: u64,
    /// Files that are written to, or were met lately.
    pub files_resting: u64,
    /// Files that wait to be sent, or are being sent.
    pub files_pending: u64,
    /// Their bytes.
    pub bytes_pending: u64,
    /// Parts that have arrived since the start.
    pub files_sent: u64,
    /// Their bytes.
    pub bytes_sent: u64,
    /// Files that were gone before they had been sent, since the start.
    pub files_lost: u64,
    /// Files that were removed here after they had arrived, since the start.
    pub files_removed: u64,
    /// When something arrived last, in seconds since 1970.
    pub last_sent_s: Option<i64>,
    /// Since when the oldest of those that wait has waited, in seconds since 1970.
    pub oldest_pending_s: Option<i64>,
    /// What is wrong, by path.
    pub problems: BTreeMap<String, String>,
}

/// What is counted while the agent runs.
#[derive(Debug, Default)]
pub struct Board {
    report: Mutex<Report>,
    moved_bytes: AtomicU64,
}

impl Board {
    /// The report as it is now.
    pub fn report(&self) -> Report {
        Report { at_s: now_s(), ..self.report.lock().unwrap_or_else(PoisonError::into_inner).clone() }
    }

    /// Changes the report.
    pub fn change(&self, change: impl FnOnce(&mut Report)) {
        change(&mut self.report.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// So many bytes are on their way.
    pub fn sent_bytes(&self, bytes: u64) {
        self.moved_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes that have left since the start, arrived or not.
    pub fn moved_bytes(&self) -> u64 {
        self.moved_bytes.load(Ordering::Relaxed)
    }

    /// Something is wrong at a path; tells whether that is new.
    pub fn problem(&self, path: &str, sentence: &str) -> bool {
        let mut is_new = false;
        self.change(|report| {
            let before = report.problems.get(path);
            is_new = before.map(String::as_str) != Some(sentence);
            if before.is_some() || report.problems.len() < PROBLEMS_MAX {
                report.problems.insert(path.to_owned(), sentence.to_owned());
            }
        });
        is_new
    }

    /// Whether it does its work; else the sentence why not.
    pub fn ready(&self) -> Result<(), String> {
        let report = self.report();
        match report.no_way {
            Some(sentence) => Err(sentence),
            None if report.at_s == 0 => Err("the agent is starting".into()),
            None => Ok(()),
        }
    }
}

/// What `status` prints.
pub fn status_text(config: &Config, as_json: bool) -> anyhow::Result<String> {
    let found = last_report(&config.record())?;
    let Some((report, (texts, bytes))) = found else {
        let state = config.state.display();
        return Ok(if as_json { "{}".into() } else { format!("no agent has run yet with the state folder {state}") });
    };
    let silent_s = now_s() - report.at_s;
    if as_json {
        let silent_s = (silent_s > SILENT_S).then_some(silent_s);
        let totals = json!({ "texts": texts, "bytes": bytes });
        return Ok(serde_json::to_string_pretty(
            &json!({ "report": report, "archived": totals, "silent_s": silent_s }),
        )?);
    }
    Ok(in_words(&report, texts, bytes, silent_s))
}

fn in_words(report: &Report, texts: u64, bytes: u64, silent_s: i64) -> String {
    let ago = |at_s: i64| format!("{} s ago", (now_s() - at_s).max(0));
    let state = match (&report.connected_to, &report.no_way) {
        _ if silent_s > SILENT_S => format!("THE AGENT DOES NOT RUN: it was seen {silent_s} s ago"),
        (_, Some(sentence)) => format!("NOT CONNECTED: {sentence}"),
        (Some(server), None) => format!("ships to {server}"),
        (None, None) => "nothing to ship".into(),
    };
    let mut lines = vec![format!("{}: {state}", report.agent)];
    lines.push(format!(
        "  in the archive: {texts} logs, {bytes} bytes; last arrival {}",
        report.last_sent_s.map_or("never".into(), ago)
    ));
    lines.push(format!(
        "  here: {} files, {} of them archived as they are, {} still written to or new; waiting {} files, {} bytes",
        report.files_seen, report.files_settled, report.files_resting, report.files_pending, report.bytes_pending
    ));
    if let Some(since_s) = report.oldest_pending_s {
        lines.push(format!("  the oldest of those that wait was met {}", ago(since_s)));
    }
    if report.files_lost > 0 {
        lines.push(format!("  LOST: {} files were gone before they had been sent", report.files_lost));
    }
    lines.extend(
        report.problems.iter().take(PROBLEMS_SHOWN).map(|(path, sentence)| format!("  problem: {path}: {sentence}")),
    );
    if report.problems.len() > PROBLEMS_SHOWN {
        lines.push(format!("  and {} problems more; --json shows all", report.problems.len() - PROBLEMS_SHOWN));
    }
    lines.join("\n")
}
