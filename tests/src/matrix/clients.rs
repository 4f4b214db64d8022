//! The clients themselves: each is a name, its version, and one function that turns an act into a command line.
//!
//! `None` where a client has no such act. Commands end with exit code 0 only when the client says that all went well.

use std::path::Path;
use std::process::Command;

use super::commands::{curl, filezilla, interpreter, lftp, openssh_sftp, pscp, psftp, python, rclone, scp, sshfs};
use super::{Act, Desk};
use crate::run;

/// A client.
pub struct Client {
    /// How it is known.
    pub name: &'static str,
    /// What must be installed for it.
    pub needs: &'static str,
    /// Tells its version.
    version: &'static [&'static str],
    /// The command for an act.
    pub command: fn(&Desk, &Act<'_>) -> Option<Command>,
    /// Odd names that the client itself cannot handle, as told by `docs/clients.md`.
    pub cannot: &'static [&'static [u8]],
    /// Whether it says so when an upload is refused at CLOSE.
    pub tells_of_a_refusal: bool,
}

impl Client {
    /// The number in the first line of what it says about its version.
    pub fn version(&self) -> String {
        let Some((program, arguments)) = self.version.split_first() else { return String::new() };
        let (_, text) = match *program {
            "python" => run(interpreter().arg("-c").args(arguments)),
            program => run(Command::new(program).args(arguments)),
        };
        let is_number = |word: &&str| word.chars().any(|c| c.is_ascii_digit()) && word.contains(['.', '_']);
        let word = text.split([' ', '\n', ',', '-', 'v']).find(is_number).unwrap_or("?");
        word.trim_start_matches("OpenSSH_").to_owned()
    }

    /// Whether it is installed.
    pub fn is_there(&self) -> bool {
        match self.needs.strip_prefix("python3-") {
            Some(module) => {
                let import = format!("import {module}");
                let output = interpreter().args(["-c", &import]).output();
                let is_there = output.is_ok_and(|output| output.status.success());
                assert!(is_there || std::env::var_os("CI").is_none(), "{} must be installed where CI runs", self.needs);
                is_there
            }
            // A desktop program: tried where there is one, and always by `make clients`.
            None if self.needs == "filezilla" => has_filezilla(),
            None => crate::has_program(self.needs),
        }
    }
}

/// Whether FileZilla can be driven here: the program, a screen, and hands for its keys.
pub fn has_filezilla() -> bool {
    ["filezilla", "Xvfb", "xdotool"].iter().all(|name| Path::new("/usr/bin").join(name).is_file())
}

/// All of them.
pub const CLIENTS: [Client; 11] = [
    Client {
        name: "OpenSSH sftp",
        needs: "sftp",
        version: &["ssh", "-V"],
        command: openssh_sftp,
        cannot: &[],
        tells_of_a_refusal: true,
    },
    Client {
        name: "OpenSSH scp",
        needs: "scp",
        version: &["ssh", "-V"],
        command: scp,
        cannot: &[],
        tells_of_a_refusal: true,
    },
    Client {
        name: "PuTTY psftp",
        needs: "psftp",
        version: &["psftp", "-V"],
        command: psftp,
        cannot: &[b"new\nline"],
        tells_of_a_refusal: true,
    },
    Client {
        name: "PuTTY pscp",
        needs: "pscp",
        version: &["pscp", "-V"],
        command: pscp,
        cannot: &[b"back\\slash"],
        tells_of_a_refusal: false,
    },
    Client {
        name: "lftp",
        needs: "lftp",
        version: &["lftp", "--version"],
        command: lftp,
        cannot: &[],
        tells_of_a_refusal: true,
    },
    Client {
        name: "rclone",
        needs: "rclone",
        version: &["rclone", "version"],
        command: rclone,
        cannot: &[b"new\nline", b"not utf-8 \xff\xfe"],
        tells_of_a_refusal: true,
    },
    Client {
        name: "curl (libssh2)",
        needs: "curl",
        version: &["curl", "--version"],
        command: curl,
        cannot: &[],
        tells_of_a_refusal: false,
    },
    Client {
        name: "paramiko",
        needs: "python3-paramiko",
        version: &["python", "import paramiko; print(paramiko.__version__)"],
        command: |desk, act| python("paramiko_client", desk, act),
        cannot: &[b"not utf-8 \xff\xfe"],
        tells_of_a_refusal: true,
    },
    Client {
        name: "asyncssh",
        needs: "python3-asyncssh",
        version: &["python", "import asyncssh; print(asyncssh.__version__)"],
        command: |desk, act| python("asyncssh_client", desk, act),
        cannot: &[b"back\\slash"],
        tells_of_a_refusal: true,
    },
    Client {
        name: "sshfs",
        needs: "sshfs",
        version: &["dpkg-query", "-W", "-f", "${Version}", "sshfs"],
        command: sshfs,
        cannot: &[],
        tells_of_a_refusal: false,
    },
    Client {
        name: "FileZilla",
        needs: "filezilla",
        version: &["dpkg-query", "-W", "-f", "${Version}", "filezilla"],
        command: filezilla,
        cannot: &[b"new\nline", b"not utf-8 \xff\xfe"],
        tells_of_a_refusal: true,
    },
];
