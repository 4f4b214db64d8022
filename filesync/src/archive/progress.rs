//! What somebody sees who watches: a bar on a terminal, lines in a log.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{BinaryBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::status::Board;

/// How often the bar moves by itself.
const TICK: Duration = Duration::from_millis(200);

/// What is shown.
pub struct Progress {
    bar: Option<ProgressBar>,
}

impl Progress {
    /// A bar where standard error is a terminal.
    pub fn new() -> Progress {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{spinner} {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.enable_steady_tick(TICK);
            bar
        });
        Progress { bar }
    }

    /// Shows how far it is; `waiting` files are still to be sent.
    pub fn show(&self, board: &Board, waiting: usize) {
        let Some(bar) = &self.bar else { return };
        let report = board.report();
        let server = report.connected_to.unwrap_or_else(|| "not connected".into());
        let sent = BinaryBytes(board.moved_bytes());
        bar.set_message(format!(
            "{server}: {} shipped, {sent}; {waiting} waiting, {} still written to",
            report.files_sent, report.files_resting
        ));
    }

    /// Says something once.
    pub fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => tracing::info!("{line}"),
        }
    }

    /// Takes the bar away.
    pub fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
