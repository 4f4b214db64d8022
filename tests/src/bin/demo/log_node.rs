//! An invented machine that writes logs, so that the demo's archive has something to find: files of yesterday, and lines that go on.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use jiff::{Span, Timestamp};

/// From one line of each log to the next.
const LINE_EVERY: Duration = Duration::from_millis(700);
/// Lines after which a log is rotated.
const LINES_MAX: usize = 300;
/// Lines of each file of yesterday.
const LINES_YESTERDAY: usize = 400;
/// One line in so many is an error.
const ERROR_EVERY: usize = 17;

/// What the invented program was doing: a level, and words.
const EVENTS: [(&str, &str); 6] = [
    ("INFO", "order taken from the queue"),
    ("INFO", "report written"),
    ("DEBUG", "cache refreshed"),
    ("INFO", "connection from the controller"),
    ("WARN", "the controller answered late"),
    ("INFO", "batch finished"),
];
const ERRORS: [&str; 3] =
    ["valve 7 does not answer", "the recipe could not be read", "the database refused the connection"];

/// Its logs.
pub struct LogNode {
    name: &'static str,
    folder: PathBuf,
    lines: usize,
}

impl LogNode {
    /// A machine with two logs of yesterday.
    pub fn with_a_past(name: &'static str, folder: &Path) -> anyhow::Result<LogNode> {
        std::fs::create_dir_all(folder.join("web"))?;
        let mut node = LogNode { name, folder: folder.to_owned(), lines: 0 };
        let began = Timestamp::now().checked_sub(Span::new().hours(24))?;
        let day = began.strftime("%Y-%m-%d").to_string();
        for file in [format!("app-{day}.log"), format!("web/access-{day}.log")] {
            let mut out = File::create(folder.join(&file))?;
            let mut at = began;
            for _ in 0..LINES_YESTERDAY {
                at = at.checked_add(Span::new().seconds(11))?;
                writeln!(out, "{}", node.line(at))?;
            }
            out.set_modified(at.into())?;
        }
        Ok(node)
    }

    fn line(&mut self, at: Timestamp) -> String {
        self.lines += 1;
        let number = self.lines;
        let (level, words) = if number.is_multiple_of(ERROR_EVERY) {
            ("ERROR", ERRORS.get(number / ERROR_EVERY % ERRORS.len()).copied().unwrap_or_default())
        } else {
            EVENTS.get(number % EVENTS.len()).copied().unwrap_or_default()
        };
        format!("{} {level:<5} {} job={number:06} {words}", at.strftime("%Y-%m-%dT%H:%M:%SZ"), self.name)
    }

    /// Adds a line to the live log, and rotates it in its time.
    fn go_on(&mut self) -> std::io::Result<()> {
        let live = self.folder.join("app.log");
        let line = self.line(Timestamp::now());
        writeln!(File::options().create(true).append(true).open(&live)?, "{line}")?;
        if self.lines.is_multiple_of(LINES_MAX) {
            for number in (1..5).rev() {
                let name = |number: usize| self.folder.join(format!("app.log.{number}"));
                if name(number).exists() {
                    std::fs::rename(name(number), name(number + 1))?;
                }
            }
            std::fs::rename(&live, self.folder.join("app.log.1"))?;
        }
        Ok(())
    }
}

/// Has the machines write on, until the program ends or their folders are gone.
pub fn write_logs(mut nodes: Vec<LogNode>) {
    std::thread::spawn(move || {
        let (_open, never) = channel::<()>();
        // Nothing ever comes: it is a clock.
        while never.recv_timeout(LINE_EVERY) == Err(RecvTimeoutError::Timeout) {
            if nodes.iter_mut().any(|node| node.go_on().is_err()) {
                return;
            }
        }
    });
}
