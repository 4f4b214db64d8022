//! What sftpd tells of the log archive: who sends logs, how long they are kept, and how far the chain over them has come.
//!
//! Times are in RFC 3339, in UTC.

use serde::{Deserialize, Serialize};

use crate::record::VolumePath;

/// The log archive at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Archive {
    /// Everybody in `agents:` of users.yaml, by name.
    pub agents: Vec<Agent>,
    /// When retention acts next; none: not on this machine, because it is no master.
    pub retention_at: Option<String>,
    /// The chain of what came in.
    pub chain: Chain,
}

/// An agent, and what it has brought.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// Its login.
    pub name: String,
    /// Its folder, from the volume on.
    pub home: VolumePath,
    /// Whether it is kept out; what it has brought stays, and is kept as long as before.
    pub is_disabled: bool,
    /// How long a file is kept after its last byte came; none: for ever.
    pub keep_s: Option<u64>,
    /// How much its folder may hold before the oldest go; none: anything.
    pub keep_bytes: Option<u64>,
    /// Files that the chain knows of and that are kept; none: not known on this machine.
    pub files: Option<u64>,
    /// Their bytes.
    pub bytes: Option<u64>,
    /// Files that came or grew and are in no segment of the chain yet; on a standby 0.
    #[serde(default)]
    pub unsealed_files: u64,
    /// When the last of all these came or grew.
    pub last_arrival: Option<String>,
    /// What retention removes at `retention_at`, as things are now; none: not known on this machine.
    pub expiring: Option<Expiring>,
}

/// What retention is going to remove.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expiring {
    /// How many files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Which go first, at most [`EXPIRING_SHOWN_MAX`].
    pub first: Vec<ExpiringFile>,
}

/// So many files that go are told one by one, for each agent.
pub const EXPIRING_SHOWN_MAX: usize = 50;

/// A file that retention is going to remove.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpiringFile {
    /// From the volume on.
    pub path: VolumePath,
    /// In bytes.
    pub size: u64,
    /// When its last byte came.
    pub arrived: String,
    /// Why it goes.
    pub why: Expiry,
}

/// Why retention removes a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Expiry {
    /// It is older than `keep`.
    Age,
    /// The folder holds more than `keep_size`, and it is among the oldest.
    Size,
}

/// How far the chain has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// Its newest segment; none: nothing has come yet, or it was not read yet.
    pub last: Option<Segment>,
    /// Files that came or grew and are in no segment yet; on a standby 0, because only the master knows.
    pub unsealed_files: u64,
    /// Since when the oldest of them waits.
    pub unsealed_since: Option<String>,
    /// Why nothing is sealed now, if so.
    pub problem: Option<String>,
}

/// A segment of the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Its number, from 1 on, over all days.
    pub number: u64,
    /// From the volume on.
    pub path: VolumePath,
    /// BLAKE3 of its bytes, 64 hexadecimal digits.
    pub digest: String,
    /// When it was written.
    pub time: String,
}
