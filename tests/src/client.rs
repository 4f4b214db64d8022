//! OpenSSH's sftp as a client: batches of commands, with a password or a key.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::program::Program;

/// How a command ended.
#[derive(Debug)]
pub struct Outcome {
    /// Whether its exit code was 0.
    pub ok: bool,
    /// Everything it printed.
    pub text: String,
}

impl Outcome {
    /// Panics unless it went well.
    #[track_caller]
    pub fn expect_ok(self) -> String {
        assert!(self.ok, "{}", self.text);
        self.text
    }

    /// Panics unless it failed and said this.
    #[track_caller]
    pub fn expect_failure(self, text: &str) {
        assert!(!self.ok, "it went well:\n{}", self.text);
        assert!(self.text.contains(text), "it does not say {text:?}:\n{}", self.text);
    }
}

/// A path on a server on loopback, as rclone wants it written.
pub fn rclone_remote(address: SocketAddr, (user, password): (&str, &str), path: &str) -> String {
    let (_, hidden) = crate::program::run(Command::new("rclone").args(["obscure", password]));
    format!(":sftp,host=127.0.0.1,port={},user={user},pass={}:{path}", address.port(), hidden.trim())
}

/// OpenSSH's sftp, logged in as somebody.
pub struct Sftp {
    folder: TempDir,
    address: SocketAddr,
    user: String,
    key: Option<PathBuf>,
    known_hosts: Option<PathBuf>,
    options: Vec<String>,
}

impl Sftp {
    /// A client for a login.
    pub fn new(address: SocketAddr, (user, password): (&str, &str)) -> Sftp {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let helper = folder.path().join("askpass");
        std::fs::write(folder.path().join("password"), format!("{password}\n")).expect("the password");
        let script = format!("#!/bin/sh\ncat '{}'\n", folder.path().join("password").display());
        std::fs::write(&helper, script).expect("the helper");
        std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o700)).expect("it can be run");
        Sftp { folder, address, user: user.to_owned(), key: None, known_hosts: None, options: Vec::new() }
    }

    /// Logs in with a private key instead.
    pub fn with_key(mut self, key: &Path) -> Sftp {
        self.key = Some(key.to_owned());
        self
    }

    /// Takes no host key but those of a file.
    pub fn knowing(mut self, known_hosts: &Path) -> Sftp {
        self.known_hosts = Some(known_hosts.to_owned());
        self
    }

    /// The same login with files of its own, so that both can be used at the same time.
    pub fn copy(&self) -> Sftp {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in ["askpass", "password"] {
            std::fs::copy(self.folder.path().join(name), folder.path().join(name)).expect("a copy");
        }
        let (user, key, options) = (self.user.clone(), self.key.clone(), self.options.clone());
        Sftp { folder, address: self.address, user, key, known_hosts: self.known_hosts.clone(), options }
    }

    /// Adds an option of `ssh_config`.
    pub fn option(mut self, option: &str) -> Sftp {
        self.options.push(option.to_owned());
        self
    }

    /// A command of OpenSSH's family (sftp, scp, ssh) with the login set up.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let (is_strict, known) = match &self.known_hosts {
            Some(file) => ("yes", file.as_path()),
            None => ("no", Path::new("/dev/null")),
        };
        let hosts = [format!("StrictHostKeyChecking={is_strict}"), format!("UserKnownHostsFile={}", known.display())];
        let fixed = ["LogLevel=ERROR", "BatchMode=no"].map(str::to_owned);
        let login = match &self.key {
            Some(key) => vec![
                format!("IdentityFile={}", key.display()),
                "IdentitiesOnly=yes".into(),
                "PreferredAuthentications=publickey".into(),
            ],
            None => vec!["PreferredAuthentications=password".into(), "NumberOfPasswordPrompts=1".into()],
        };
        let options = hosts.into_iter().chain(fixed).chain(login).chain(self.options.clone());
        for option in options.chain([format!("Port={}", self.address.port())]) {
            command.arg("-o").arg(option);
        }
        command.args(["-F", "/dev/null"]);
        command.env("SSH_ASKPASS", self.folder.path().join("askpass")).env("SSH_ASKPASS_REQUIRE", "force");
        command.env_remove("SSH_AUTH_SOCK").stdin(Stdio::null());
        command
    }

    /// Where the commands go: user and host.
    pub fn target(&self) -> String {
        format!("{}@{}", self.user, self.address.ip())
    }

    /// Runs commands, one a line; ends at the first that fails.
    pub fn run(&self, batch: &str) -> Outcome {
        let (status, text) = crate::program::run(&mut self.batch(batch, &[]));
        Outcome { ok: status.success(), text }
    }

    /// Starts commands and does not wait for them.
    pub fn start_batch(self, batch: &str) -> Program {
        let mut command = self.batch(batch, &[]);
        Program::start(&mut command).with_folder(self.folder)
    }

    /// Starts an upload under a name that goes on for longer than any test.
    pub fn start_endless_upload(self, name: &str) -> Program {
        let file = self.folder.path().join("endless");
        std::fs::File::create(&file).and_then(|file| file.set_len(1 << 30)).expect("a file of holes");
        self.start_upload(&file, name, 50_000)
    }

    /// Starts an upload of a file at a limited speed and does not wait for it.
    pub fn start_upload(self, file: &Path, name: &str, limit_kbit_s: u32) -> Program {
        let batch = format!("put {} {name}\n", file.display());
        let mut command = self.batch(&batch, &["-l", &limit_kbit_s.to_string()]);
        Program::start(&mut command).with_folder(self.folder)
    }

    fn batch(&self, batch: &str, options: &[&str]) -> Command {
        let file = self.folder.path().join("batch");
        std::fs::write(&file, batch).expect("the batch");
        let mut command = self.command("sftp");
        command.args(options).arg("-b").arg(&file).arg(self.target());
        command
    }

    /// Whether the login works.
    pub fn can_log_in(&self) -> bool {
        self.run("pwd\n").ok
    }
}
