//! One machine: an sftpd with a data, state and log folder of its own.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use pair::activity::{Activity, LIVE_NAME};
use pair::control::{Move, Status};
use tempfile::TempDir;

use crate::client::Sftp;
use crate::clock::Clock;
use crate::program::{Program, binary};
use crate::wait::eventually;

/// How a machine is to be.
pub struct MachineBuilder {
    role: &'static str,
    secret: String,
    users: String,
    data: Option<PathBuf>,
    settings: Vec<(String, String)>,
    boot: Option<PathBuf>,
    address: Option<SocketAddr>,
    within: Option<PathBuf>,
}

impl MachineBuilder {
    /// Has it say no more than it does for users.
    pub fn quiet(mut self) -> MachineBuilder {
        self.settings.push(("LOG_LEVEL".into(), "info".into()));
        self
    }

    /// Where its folders are, instead of the system's folder for temporary files.
    pub fn within(mut self, folder: &Path) -> MachineBuilder {
        self.within = Some(folder.to_owned());
        self
    }

    /// Where it listens, for machines that must know each other before they start.
    pub fn address(mut self, address: SocketAddr) -> MachineBuilder {
        self.address = Some(address);
        self
    }

    /// Has the program take what is in `file` for the id of the system's boot, as after a power cut. Only for root.
    pub fn boot(mut self, file: &Path) -> MachineBuilder {
        self.boot = Some(file.to_owned());
        self
    }

    /// The accounts of its first start.
    pub fn users(mut self, users: &str) -> MachineBuilder {
        self.users = users.to_owned();
        self
    }

    /// A setting, by its environment name without the program's.
    pub fn setting(mut self, key: &str, value: &str) -> MachineBuilder {
        self.settings.push((format!("SFTPD_{key}"), value.to_owned()));
        self
    }

    /// The pair it belongs to.
    pub fn secret(mut self, secret: &str) -> MachineBuilder {
        self.secret = secret.to_owned();
        self
    }

    /// Makes it a standby.
    pub fn standby(mut self) -> MachineBuilder {
        self.role = "standby";
        self
    }

    /// A data folder of the test's own.
    pub fn data(mut self, data: &Path) -> MachineBuilder {
        self.data = Some(data.to_owned());
        self
    }

    /// Starts it and waits until it listens.
    pub fn start(self) -> Machine {
        let mut machine = self.prepare();
        machine.start();
        machine
    }

    /// Makes its folders, but does not start it.
    pub fn prepare(self) -> Machine {
        let within = self.within.unwrap_or_else(std::env::temp_dir);
        let folder = tempfile::tempdir_in(within).expect("a temporary folder");
        let data = self.data.unwrap_or_else(|| folder.path().join("data"));
        for path in [&data, &folder.path().join("state"), &folder.path().join("logs")] {
            std::fs::create_dir_all(path).expect("a folder");
        }
        std::fs::write(folder.path().join("users.yaml"), &self.users).expect("the users file");
        let settings = [("SFTPD_ROLE".to_owned(), self.role.to_owned()), ("PAIR_SECRET".to_owned(), self.secret)];
        Machine {
            folder,
            data,
            settings: settings.into_iter().chain(self.settings).collect(),
            boot: self.boot,
            program: None,
            address: self.address,
            health: None,
        }
    }
}

/// The records in a log folder's live file.
pub fn read_activity(logs: &Path) -> Vec<Activity> {
    let text = std::fs::read_to_string(logs.join(LIVE_NAME)).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| text.get(..end).unwrap_or_default());
    whole.lines().map(|line| serde_json::from_str(line).expect("a record")).collect()
}

/// One machine.
pub struct Machine {
    folder: TempDir,
    data: PathBuf,
    settings: Vec<(String, String)>,
    boot: Option<PathBuf>,
    program: Option<Program>,
    address: Option<SocketAddr>,
    health: Option<SocketAddr>,
}

impl Machine {
    /// A master with the seed's accounts and a pair of its own.
    pub fn master() -> MachineBuilder {
        MachineBuilder {
            role: "master",
            secret: new_secret(),
            users: crate::SEED.to_owned(),
            data: None,
            settings: Vec::new(),
            boot: None,
            address: None,
            within: None,
        }
    }

    /// The command that starts its daemon; addresses stay the same over restarts.
    pub fn command(&self) -> Command {
        let folder = self.folder.path();
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut command = match &self.boot {
            None => Command::new(binary("sftpd")),
            Some(file) => in_boot(file),
        };
        command
            .env("SFTPD_LISTEN", self.address.unwrap_or(loopback).to_string())
            .env("SFTPD_HEALTH_LISTEN", self.health.unwrap_or(loopback).to_string())
            .env("SFTPD_DATA", &self.data)
            .env("SFTPD_STATE", folder.join("state"))
            .env("SFTPD_LOGS", folder.join("logs"))
            .env("SFTPD_USERS", folder.join("users.yaml"))
            .env("LOG_LEVEL", "debug")
            // For curl of Debian 12. What is offered without it is tested by itself.
            .env("SFTPD_ALGORITHMS", "compatible")
            .envs(self.settings.iter().cloned());
        command
    }

    /// Has it go by a clock of its own; for the next start.
    pub fn go_by(&mut self, clock: &Clock) {
        self.settings.extend(clock.environment());
    }

    /// Starts the daemon and waits until it listens.
    #[track_caller]
    pub fn start(&mut self) {
        let mut program = Program::start(&mut self.command());
        self.health = Some(program.wait_for_line("health on ").trim().parse().expect("an address"));
        self.address = Some(program.wait_for_line("listening on ").trim().parse().expect("an address"));
        self.program = Some(program);
    }

    /// Ends the daemon by SIGTERM.
    pub fn stop(&mut self) -> ExitStatus {
        self.program.take().expect("it runs").terminate()
    }

    /// Ends the daemon by SIGKILL.
    pub fn kill(&mut self) {
        self.program.take().expect("it runs").kill();
    }

    /// Ends the daemon by SIGTERM and starts it again at the same address.
    pub fn restart(&mut self) {
        self.stop();
        self.start();
    }

    /// The running daemon.
    pub fn program(&self) -> &Program {
        self.program.as_ref().expect("it runs")
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address.expect("it was started")
    }

    /// Where its health pages are.
    pub fn health(&self) -> SocketAddr {
        self.health.expect("it was started")
    }

    /// The data folder.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The state folder.
    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// Its logs' folder.
    pub fn logs(&self) -> PathBuf {
        self.folder.path().join("logs")
    }

    /// Its activity log, as far as it is written.
    pub fn activity(&self) -> Vec<Activity> {
        read_activity(&self.logs())
    }

    /// Waits until the activity log has a record.
    #[track_caller]
    pub fn wait_for_activity(&self, what: &str, mut is_it: impl FnMut(&Activity) -> bool) -> Activity {
        let mut found = None;
        eventually(&format!("the activity log has {what}"), || {
            found = self.activity().into_iter().find(&mut is_it);
            found.is_some()
        });
        found.expect("it was found")
    }

    /// Gives its running daemon an order on the command line: whether it was done, and what was said.
    pub fn order(&self, arguments: &[&str]) -> (bool, String) {
        let mut command = Command::new(binary("sftpd"));
        let (status, text) = crate::program::run(command.args(arguments).arg("--state").arg(self.state()));
        (status.success(), text)
    }

    /// Gives it an order to move the master's place, which must be done.
    #[track_caller]
    pub fn moved(&self, order: &[&str]) -> Move {
        let (done, text) = self.order(&[order, &["--json"]].concat());
        assert!(done, "{order:?}: {text}");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Uploads a file by OpenSSH's client and gives whether it said that it arrived.
    pub fn put(&self, login: (&str, &str), name: &str, content: &str) -> bool {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), content).expect("its content");
        self.sftp(login).run(&format!("put {} {name}\n", file.path().display())).ok
    }

    /// How its daemon is; none while it does not run.
    pub fn status(&self) -> Option<Status> {
        // One that refuses uploads says so by its exit code, and its status all the same.
        let (_, text) = self.order(&["status", "--json"]);
        let end = text.rfind("\n}").map(|end| end + 2)?;
        serde_json::from_str(text.get(..end)?).ok()
    }

    /// A path of an account's, as it lies on the volume.
    pub fn path(&self, account: &str, path: &str) -> PathBuf {
        self.data.join(account).join(path)
    }

    /// An OpenSSH client for a login.
    pub fn sftp(&self, login: (&str, &str)) -> Sftp {
        Sftp::new(self.address(), login)
    }

    /// What users.yaml.result says.
    pub fn result(&self) -> String {
        std::fs::read_to_string(self.path("admin", "users.yaml.result")).unwrap_or_default()
    }

    /// A connection to the health port.
    pub fn connect_to_health(&self) -> TcpStream {
        TcpStream::connect(self.health.expect("it was started")).expect("the health port answers")
    }

    /// The fingerprint of the ed25519 key, as it has printed it.
    pub fn host_key(&self) -> String {
        let lines = self.program().lines();
        let line = lines.iter().find(|line| line.contains("(ssh-ed25519)")).expect("it prints its keys");
        line.split(' ').find(|word| word.starts_with("SHA256:")).expect("a fingerprint").to_owned()
    }

    /// How much it has open, connections among it.
    pub fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.program().id())).expect("it runs").count()
    }

    /// The same once all is open that it holds while nobody is there: it listens before it watches users.yaml.
    #[track_caller]
    pub fn open_files_at_rest(&self) -> usize {
        eventually("it watches users.yaml", || self.has_open("anon_inode:inotify"));
        self.open_files()
    }

    /// Whether its daemon holds something open, by the name that the kernel shows.
    pub fn has_open(&self, name: &str) -> bool {
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.program().id())).expect("it runs").flatten();
        open.map(|entry| std::fs::read_link(entry.path())).any(|link| link.is_ok_and(|link| link == Path::new(name)))
    }

    /// A health page: status code and text.
    pub fn page(&self, path: &str) -> (u16, String) {
        page(self.health.expect("it was started"), path)
    }
}

/// A health page of any of our programs.
pub fn page(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("the health port answers");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("it can be asked");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status code");
    (code, answer.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned()))
}

/// The daemon in a mount namespace of its own, in which the kernel's id of the boot is hidden behind a file. The
/// process stays the same one all the way, so that signals reach the daemon.
fn in_boot(file: &Path) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "slave", "sh", "-c"]);
    command.arg("mount --bind \"$0\" /proc/sys/kernel/random/boot_id && exec \"$1\"");
    command.arg(file).arg(binary("sftpd"));
    command
}

/// A pair secret that no other test has.
pub fn new_secret() -> String {
    pair::secret::PairSecret::generate().expect("random numbers").to_hex()
}

impl Drop for Machine {
    fn drop(&mut self) {
        // A test that failed because a port was not released would tell the wrong story.
        if let Some(program) = self.program.take() {
            drop(program);
            if let Some(address) = self.address {
                eventually("the port is free again", || TcpStream::connect(address).is_err());
            }
        }
    }
}
