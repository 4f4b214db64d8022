//! A record as the console keeps it, whichever server has written it.
//!
//! Always holds: the numbers of operations and outcomes never change, because they are what the store has.

use serde::{Deserialize, Serialize};

/// What somebody did, or what was done to him.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "they are named as in the log")]
#[repr(u8)]
pub enum Operation {
    Upload = 1,
    Download = 2,
    Rename = 3,
    Remove = 4,
    Mkdir = 5,
    Rmdir = 6,
    Symlink = 7,
    Link = 8,
    Chmod = 9,
    Chown = 10,
    Chtimes = 11,
    Truncate = 12,
    Copy = 13,
    Setstat = 14,
    /// A command over SSH that is no SFTP; SFTPGo's.
    SshCommand = 15,
    Login = 20,
    Logout = 21,
    ConnectionFailed = 22,
    Ban = 23,
    Accounts = 24,
    Command = 25,
    Role = 26,
    /// Records could not be written down.
    Lost = 27,
    /// What this version knows no name for.
    Other = 31,
}

/// Each operation, as `sender` has it, and as an address has it.
const OPERATIONS: [(Operation, &str, &str); 24] = [
    (Operation::Upload, "Upload", "upload"),
    (Operation::Download, "Download", "download"),
    (Operation::Rename, "Rename", "rename"),
    (Operation::Remove, "Remove", "remove"),
    (Operation::Mkdir, "Mkdir", "mkdir"),
    (Operation::Rmdir, "Rmdir", "rmdir"),
    (Operation::Symlink, "Symlink", "symlink"),
    (Operation::Link, "Link", "link"),
    (Operation::Chmod, "Chmod", "chmod"),
    (Operation::Chown, "Chown", "chown"),
    (Operation::Chtimes, "Chtimes", "chtimes"),
    (Operation::Truncate, "Truncate", "truncate"),
    (Operation::Copy, "Copy", "copy"),
    (Operation::Setstat, "SetStat", "setstat"),
    (Operation::SshCommand, "SSHCommand", "ssh_command"),
    (Operation::Login, "login", "login"),
    (Operation::Logout, "logout", "logout"),
    (Operation::ConnectionFailed, "connection_failed", "connection_failed"),
    (Operation::Ban, "Ban", "ban"),
    (Operation::Accounts, "Accounts", "accounts"),
    (Operation::Command, "Command", "command"),
    (Operation::Role, "Role", "role"),
    (Operation::Lost, "Lost", "lost"),
    (Operation::Other, "", "other"),
];

impl Operation {
    /// The operation that a log calls so.
    pub fn of_sender(sender: &str) -> Option<Operation> {
        OPERATIONS.iter().find(|(_, name, _)| *name == sender && !sender.is_empty()).map(|(operation, ..)| *operation)
    }

    /// The operation with a name as [`Operation::name`] gives it.
    pub fn of_name(name: &str) -> Option<Operation> {
        OPERATIONS.iter().find(|(_, _, known)| *known == name).map(|(operation, ..)| *operation)
    }

    /// Its name, in lower case.
    pub fn name(self) -> &'static str {
        OPERATIONS.iter().find(|(operation, ..)| *operation == self).map_or("other", |(.., name)| name)
    }

    /// All of them.
    pub fn all() -> impl Iterator<Item = Operation> {
        OPERATIONS.iter().map(|(operation, ..)| *operation)
    }

    /// Whether a file was sent.
    pub fn is_transfer(self) -> bool {
        matches!(self, Operation::Upload | Operation::Download)
    }

    /// Whether something was changed that is no transfer.
    pub fn is_change(self) -> bool {
        (Operation::Rename as u8..=Operation::SshCommand as u8).contains(&(self as u8))
    }

    /// Whether it is about a connection.
    pub fn is_login(self) -> bool {
        matches!(self, Operation::Login | Operation::Logout | Operation::ConnectionFailed | Operation::Ban)
    }

    fn of_number(number: u8) -> Operation {
        OPERATIONS.iter().find(|(operation, ..)| *operation as u8 == number).map_or(Operation::Other, |found| found.0)
    }
}

/// What became of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Outcome {
    /// Nothing is said of it, as of a login.
    #[default]
    Unsaid = 0,
    /// All of it, under a name that was free; for a change: done.
    Complete = 1,
    /// All of it, in place of a file of that name.
    Replaced = 2,
    /// The rest of what an earlier connection had begun.
    Resumed = 3,
    /// The client closed the file before its end, having what it wanted.
    Partial = 4,
    /// It ended before its end.
    Aborted = 5,
    /// It was not done at all.
    Refused = 6,
}

/// Each outcome under its name.
const OUTCOMES: [(Outcome, &str); 7] = [
    (Outcome::Unsaid, "unsaid"),
    (Outcome::Complete, "complete"),
    (Outcome::Replaced, "replaced"),
    (Outcome::Resumed, "resumed"),
    (Outcome::Partial, "partial"),
    (Outcome::Aborted, "aborted"),
    (Outcome::Refused, "refused"),
];

impl Outcome {
    /// The outcome with a name.
    pub fn of_name(name: &str) -> Option<Outcome> {
        OUTCOMES.iter().find(|(_, known)| *known == name).map(|(outcome, _)| *outcome)
    }

    /// Its name, in lower case.
    pub fn name(self) -> &'static str {
        OUTCOMES.iter().find(|(outcome, _)| *outcome == self).map_or("unsaid", |(_, name)| name)
    }

    /// All of them.
    pub fn all() -> impl Iterator<Item = Outcome> {
        OUTCOMES.iter().map(|(outcome, _)| *outcome)
    }

    /// Whether somebody did not get what he wanted.
    pub fn is_failure(self) -> bool {
        matches!(self, Outcome::Aborted | Outcome::Refused)
    }
}

/// Operation and outcome as one small number, which is what the store's indexes have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kind(pub u16);

impl Kind {
    /// The kind of an operation that came out so.
    pub fn new(operation: Operation, outcome: Outcome) -> Kind {
        Kind(operation as u16 * 8 + outcome as u16)
    }

    /// What was done.
    pub fn operation(self) -> Operation {
        Operation::of_number((self.0 / 8) as u8)
    }

    /// What became of it.
    pub fn outcome(self) -> Outcome {
        OUTCOMES.get(usize::from(self.0 % 8)).map_or(Outcome::Unsaid, |found| found.0)
    }

    /// All of them.
    pub fn all() -> impl Iterator<Item = Kind> {
        Operation::all().flat_map(|operation| Outcome::all().map(move |outcome| Kind::new(operation, outcome)))
    }
}

/// A record. Texts are as the log has them: attackers' text, to be escaped where it is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// When it was over, in milliseconds since 1970.
    pub time_ms: i64,
    /// The number that its writer gave it; none where its writer gives none.
    pub log_id: Option<i64>,
    /// What was done; `None` stands for [`Operation::Other`].
    pub operation: Option<Operation>,
    /// What became of it.
    pub outcome: Outcome,
    /// What an operation that has no name here is called.
    pub sender: Option<String>,
    /// The account; empty where there is none.
    pub account: String,
    /// The client's address without its port; empty where there is none.
    pub address: String,
    /// The client's port.
    pub port: Option<u16>,
    /// The same for all that happens on one connection.
    pub connection: String,
    /// `SFTP` or another.
    pub protocol: String,
    /// The path, as its account sees it where the log says that.
    pub path: Option<String>,
    /// The same with `%XX`, where it is not UTF-8.
    pub path_escaped: Option<String>,
    /// The new name, or what a link says.
    pub target: Option<String>,
    /// Bytes that were moved for it.
    pub moved_bytes: Option<i64>,
    /// The size of the file in the end, in bytes.
    pub file_bytes: Option<i64>,
    /// From its beginning to its end.
    pub elapsed_ms: Option<i64>,
    /// The sentence that was said.
    pub error: Option<String>,
    /// How somebody logged in.
    pub method: String,
    /// What the client calls itself.
    pub client: String,
    /// SHA256 of the key.
    pub key_fingerprint: Option<String>,
    /// A certificate's identity and serial number.
    pub certificate: Option<String>,
    /// Ciphers and other algorithms, as far as the log has them.
    pub algorithms: String,
}

impl Entry {
    /// Operation and outcome as one number.
    pub fn kind(&self) -> Kind {
        Kind::new(self.operation.unwrap_or(Operation::Other), self.outcome)
    }

    /// The last part of its path.
    pub fn name(&self) -> Option<&str> {
        self.path.as_deref().map(|path| path.rsplit_once('/').map_or(path, |(_, name)| name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_lead_back_to_what_they_stand_for() {
        for kind in Kind::all() {
            let again = Kind::new(kind.operation(), kind.outcome());
            assert_eq!(again, kind);
            assert_eq!(Operation::of_name(kind.operation().name()), Some(kind.operation()));
            assert_eq!(Outcome::of_name(kind.outcome().name()), Some(kind.outcome()));
            assert_eq!(serde_json::to_value(kind.operation()).unwrap(), kind.operation().name());
            assert_eq!(serde_json::to_value(kind.outcome()).unwrap(), kind.outcome().name());
        }
        assert_eq!(Operation::of_sender(""), None);
    }

    #[test]
    fn a_path_ends_with_a_name() {
        for (path, name) in [("/a/b.txt", "b.txt"), ("/b", "b"), ("b", "b"), ("/a/", "")] {
            let entry = Entry { path: Some(path.into()), ..Entry::default() };
            assert_eq!(entry.name(), Some(name), "{path}");
        }
        assert_eq!(Entry::default().name(), None);
    }
}
