//! A program under test: its process, and every line that it has printed.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};

use crate::wait::eventually;

/// The path of one of our programs: beside the test's own, where cargo puts them.
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the test knows its own path");
    let folder = test.ancestors().find(|folder| folder.join(name).is_file());
    folder.unwrap_or_else(|| panic!("{name} is not built: cargo build --workspace")).join(name)
}

/// Whether a program is installed; says so where it is not, because a test is skipped by it.
pub fn has_program(name: &str) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(name).is_file()))
        || PathBuf::from("/usr/sbin").join(name).is_file();
    if !found {
        println!("SKIPPED: {name} is not installed");
        assert!(std::env::var_os("CI").is_none(), "{name} must be installed where CI runs");
    }
    found
}

/// Runs a command to its end and gives everything it printed, both streams together.
pub fn run(command: &mut Command) -> (ExitStatus, String) {
    let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().expect("the command starts");
    (status, format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)))
}

/// A running program. It is killed when this is dropped.
pub struct Program {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    /// Files that it needs while it runs.
    _folder: Option<tempfile::TempDir>,
}

impl Program {
    /// Starts a program and gathers its lines.
    pub fn start(command: &mut Command) -> Program {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let lines = Arc::new(Mutex::new(Vec::new()));
        gather(child.stdout.take().expect("piped"), lines.clone());
        gather(child.stderr.take().expect("piped"), lines.clone());
        Program { child, lines, _folder: None }
    }

    /// Keeps a folder for as long as the program.
    pub fn with_folder(mut self, folder: tempfile::TempDir) -> Program {
        self._folder = Some(folder);
        self
    }

    /// Waits for a line that holds `text` and gives what follows it there.
    #[track_caller]
    pub fn wait_for_line(&mut self, text: &str) -> String {
        let mut found = None;
        eventually(&format!("the program says {text:?}"), || {
            let ended = self.child.try_wait().expect("the process can be asked");
            found = self.lines().iter().find_map(|line| line.split_once(text).map(|(_, rest)| rest.to_owned()));
            if let (None, Some(status)) = (&found, ended) {
                panic!("ended with {status} before it said {text:?}:\n{}", self.lines().join("\n"));
            }
            found.is_some()
        });
        found.unwrap_or_default()
    }

    /// All lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().expect("not poisoned").clone()
    }

    /// The process's id.
    pub fn id(&self) -> i32 {
        self.child.id() as i32
    }

    /// The most memory that it has held.
    #[track_caller]
    pub fn peak_memory_kib(&self) -> u64 {
        let peak_bytes = crate::bench::cost::peak_bytes(self.child.id());
        assert!(peak_bytes > 0, "it runs");
        peak_bytes / 1024
    }

    /// Sends a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let process = rustix::process::Pid::from_raw(self.id()).expect("a process has an id");
        rustix::process::kill_process(process, signal).expect("the process can be signalled");
    }

    /// Ends it as an init system would, and gives its exit status.
    pub fn terminate(mut self) -> ExitStatus {
        self.signal(rustix::process::Signal::TERM);
        let mut status = None;
        eventually("the program ends after SIGTERM", || {
            status = self.child.try_wait().expect("the process can be asked");
            status.is_some()
        });
        status.expect("it has ended")
    }

    /// Kills it as a power failure would, but for what the kernel still writes.
    pub fn kill(mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it can be waited for");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            println!("---- program {} said:\n{}", self.child.id(), self.lines().join("\n"));
        }
    }
}

fn gather(stream: impl Read + Send + 'static, lines: Arc<Mutex<Vec<String>>>) {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            lines.lock().expect("not poisoned").push(line);
        }
    });
}
