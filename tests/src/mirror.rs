//! A filesync beside a master.

use std::net::SocketAddr;
use std::process::Command;

use crate::clock::Clock;
use crate::machine::{Machine, page};
use crate::program::{Program, binary, run};

/// A filesync that mirrors a machine's data.
pub struct Mirror {
    settings: Vec<(String, String)>,
    program: Option<Program>,
    health: Option<SocketAddr>,
}

impl Mirror {
    /// One beside `master`, with these standbys and an interval of one second.
    pub fn of(master: &Machine, secret: &str, standbys: &str) -> Mirror {
        let text = |path: &std::path::Path| path.to_str().expect("a plain path").to_owned();
        let settings = [
            ("FILESYNC_DATA", text(master.data())),
            ("FILESYNC_STATE", text(&master.state())),
            ("FILESYNC_LOGS", text(&master.logs())),
            ("FILESYNC_STANDBYS", standbys.to_owned()),
            ("FILESYNC_INTERVAL", "1s".to_owned()),
            ("FILESYNC_HEALTH_LISTEN", "127.0.0.1:0".to_owned()),
            ("PAIR_SECRET", secret.to_owned()),
        ];
        let settings = settings.map(|(key, value)| (key.to_owned(), value)).to_vec();
        Mirror { settings, program: None, health: None }
    }

    /// Changes a setting; for the next start.
    pub fn set(&mut self, key: &str, value: &str) {
        self.settings.retain(|(known, _)| known != key);
        self.settings.push((key.to_owned(), value.to_owned()));
    }

    /// Has it go by a clock of its own; for the next start.
    pub fn go_by(&mut self, clock: &Clock) {
        self.settings.extend(clock.environment());
    }

    /// A number from its metrics, of its only standby; not a number while there is none.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.page("/metrics").1;
        let line = text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{')));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(f64::NAN)
    }

    /// A command of filesync's, with the same settings.
    pub fn command(&self) -> Command {
        let mut command = Command::new(binary("filesync"));
        command.env("LOG_LEVEL", "info").envs(self.settings.iter().cloned());
        command
    }

    /// Starts it and waits until it is up.
    #[track_caller]
    pub fn start(&mut self) {
        let mut program = Program::start(&mut self.command());
        self.health = Some(program.wait_for_line("health on ").trim().parse().expect("an address"));
        self.program = Some(program);
    }

    /// Ends it by SIGKILL.
    pub fn kill(&mut self) {
        self.program.take().expect("it runs").kill();
    }

    /// Ends it by SIGTERM.
    pub fn stop(&mut self) {
        self.program.take().expect("it runs").terminate();
    }

    /// The running program.
    pub fn program(&self) -> &Program {
        self.program.as_ref().expect("it runs")
    }

    /// A health page.
    pub fn page(&self, path: &str) -> (u16, String) {
        page(self.health.expect("it was started"), path)
    }

    /// Runs a subcommand and gives what it printed.
    pub fn ask(&self, arguments: &[&str]) -> (bool, String) {
        let (status, text) = run(self.command().args(arguments));
        (status.success(), text)
    }
}
