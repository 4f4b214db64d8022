//! The SFTP extensions by which the machines of a pair speak to each other, and what they carry.
//!
//! Only a session of the pair's own key may use them; to everybody else they are unknown, but for [`WHOAMI`].

use serde::{Deserialize, Serialize};

use crate::node::Role;

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
}

/// What a machine says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The pair's public name.
    pub pair: String,
    /// The machine's id.
    pub node: String,
    /// What it is for.
    pub role: Role,
    /// The program's version.
    pub version: String,
}
