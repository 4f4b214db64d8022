//! The SFTP extensions by which the machines of a pair speak to each other, and what they carry.
//!
//! Only a session of the pair's own key may use them; to everybody else they are unknown, but for [`WHOAMI`].

use serde::{Deserialize, Serialize};

use crate::epoch::{Epoch, Lineage, Reached};
use crate::node::{Phase, Role};
use crate::record::VolumePath;

/// Who are you? The body is one's own [`Hello`] as JSON; the answer is EXTENDED_REPLY with the other's.
pub const HELLO: &str = "hello@sftp-ha";

/// Take these accounts. The body is the path (a string on the wire) of a file below `/.pair/stage/` that holds the
/// accounts as JSON; the answer is a STATUS. The receiver removes the file.
pub const ACCOUNTS: &str = "accounts@sftp-ha";

/// The BLAKE3 hash of a part of a file. The body is its path, an offset and a length (u64 each; length 0 means: to the
/// end). The answer is EXTENDED_REPLY: 32 bytes of hash and the number of bytes hashed (u64).
pub const DIGEST: &str = "digest@sftp-ha";

/// Take this small file. The body is its path, its attributes (as in SETSTAT: mode and times) and its content (a string). The
/// answer is a STATUS, which says OK when the file is on the disk under its name; a name that is taken is refused.
pub const PUT: &str = "put@sftp-ha";

/// Keep these lines of a machine's activity log. The body is the machine's id and the lines (two strings); no lines only ask.
/// The answer is EXTENDED_REPLY: the number of the last record that is kept (u64), 0 where there is none.
pub const ACTIVITY: &str = "activity@sftp-ha";

/// Who am I here? Everybody may ask. The body is empty, the answer is EXTENDED_REPLY with a [`Whoami`] as JSON. By it the web
/// pages know an administrator without knowing anybody's password.
pub const WHOAMI: &str = "whoami@sftp-ha";

/// Whose session it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whoami {
    /// The account.
    pub account: String,
    /// Whether it administers the pair.
    pub admin: bool,
    /// What the machine is for.
    pub role: Role,
    /// The id of the machine's own last time as master: another one than before means that the place has moved meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<String>,
}

/// What a machine says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The pair's public name.
    pub pair: String,
    /// The machine's id.
    pub node: String,
    /// What it is for.
    pub role: Role,
    /// The program's version.
    pub version: String,
    /// What it does now; none where filesync speaks for a silent sftpd.
    #[serde(default)]
    pub phase: Option<Phase>,
    /// Drawn by each start of sftpd: tells a machine that meets itself from one whose state was copied. Empty where filesync speaks.
    #[serde(default)]
    pub instance: String,
    /// Drawn by filesync each time when it connects anew: what is still on its way on connections of before is refused then. Empty where
    /// sftpd speaks.
    #[serde(default)]
    pub stream: String,
    /// The newest epoch that it knows.
    #[serde(default)]
    pub epoch: Option<Epoch>,
    /// A master: its last change. A standby: up to where it has everything.
    #[serde(default)]
    pub reached: Option<Reached>,
    /// A master: the runs of its journal.
    #[serde(default)]
    pub lineage: Lineage,
    /// Its host keys, as in an `authorized_keys` file.
    #[serde(default)]
    pub host_keys: Vec<String>,
    /// Whether it takes its master's host keys: its own came from the pair secret.
    #[serde(default)]
    pub takes_host_keys: bool,
    /// The number of its accounts.
    #[serde(default)]
    pub accounts_generation: u64,
    /// Why it would take no uploads as a master; none: it would.
    #[serde(default)]
    pub refuses: Option<String>,
    /// Files that it has set aside and offers to the master.
    #[serde(default)]
    pub offers: u64,
    /// A master: uploads that are not finished where a complete file is, and whose they are.
    #[serde(default)]
    pub begun: Vec<(String, VolumePath)>,
    /// Who is banned, and for how many seconds.
    #[serde(default)]
    pub bans: Vec<(String, u64)>,
    /// Room on its data volume, in bytes; none where it has not looked yet, or is of an older version.
    #[serde(default)]
    pub volume_bytes: Option<u64>,
    /// The same, still free.
    #[serde(default)]
    pub volume_free_bytes: Option<u64>,
}

/// Take over (a master asks its standby), or do not (it takes that back). The body is a [`TakeOver`] as JSON, the answer a STATUS.
pub const TAKE_OVER: &str = "take-over@sftp-ha";

/// What a master offers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakeOver {
    /// The epoch that is to be the other's. Its `from` is all that there is.
    pub epoch: Epoch,
    /// Whether the offer is taken back. Then it is never taken, also if it comes later.
    pub is_withdrawn: bool,
    /// As in [`Hello`].
    #[serde(default)]
    pub begun: Vec<(String, VolumePath)>,
}

/// Hand over to me (a standby asks the master). The body is the asker's id, the answer a STATUS, which comes when it is done.
pub const SWITCH_OVER: &str = "switch-over@sftp-ha";

/// All up to here is on your disk. The body is a [`Reached`] as JSON; the answer, a STATUS, comes when that is durable.
pub const REACHED: &str = "reached@sftp-ha";

/// Show these host keys from now on. The body is a list of OpenSSH private keys as JSON, the answer a STATUS.
pub const HOST_KEYS: &str = "host-keys@sftp-ha";
