//! How programs and operators on the same machine speak to a running sftpd: one order, one answer, each a line of JSON on
//! a socket in the state folder that only sftpd's own user may open.
//!
//! What an order does is sftpd's business (`sftpd/src/control.rs`).

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;

use crate::exit::usage;
use crate::extension::Hello;
use crate::feed::{Lines, send};
use crate::node::{Phase, Role};
use crate::record::VolumePath;

mod archive;

pub use archive::{Agent, Archive, Chain, EXPIRING_SHOWN_MAX, Expiring, ExpiringFile, Expiry, Segment};

/// The longest line, in bytes: a users.yaml, every letter of it escaped.
pub const LINE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// How long an answer may take. Passwords are hashed by the hundred before users.yaml is answered.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(600);

/// The same for orders that only look. Who is asked may be at a long request.
const LOOK_TIMEOUT: Duration = Duration::from_secs(15);

/// Where a state folder has the socket.
pub fn path(state: &Path) -> PathBuf {
    state.join("control.sock")
}

/// What sftpd is asked to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Who is connected? Takes a second, in which speeds are measured.
    Who {},
    /// How is it?
    Status {},
    /// What does it say of itself to other machines?
    Hello {},
    /// Become the master.
    Promote {
        /// The machine that is given up, by its address or id, where it still answers as master.
        force: Option<String>,
    },
    /// Hand over to a standby, or have the master hand over to this machine.
    Switchover {
        /// To whom, by its address or id; none: the only one.
        to: Option<String>,
    },
    /// Hand over and back.
    Drill {},
    /// End all connections of an account, from an address, or with an id.
    Kick {
        /// Whose.
        whom: String,
    },
    /// Which addresses are banned, and which accounts' passwords shut?
    Bans {},
    /// Lift bans.
    Unban {
        /// An address, a network, an account, or `all`.
        whom: String,
    },
    /// Take a users.yaml, or only say what would come of it.
    ApplyUsers {
        /// The file.
        content: String,
        /// Whether it is only tried.
        only_try: bool,
    },
    /// Draw a new password for an account.
    ResetPassword {
        /// Its login name.
        name: String,
    },
    /// filesync tells which accounts a standby has.
    StandbyHas {
        /// The standby's name.
        standby: String,
        /// The generation that it has taken; none while that is not known.
        generation: Option<u64>,
        /// Why it does not get the newest, if so.
        problem: Option<String>,
    },
    /// filesync tells how many files cannot be brought to a standby.
    Unbrought {
        /// The standby's name.
        standby: String,
        /// How many.
        files: u64,
    },
    /// What was set aside here because the new master has not got it? So many at once, behind an id.
    Divergent {
        /// The last one that is known; none: from the first on.
        #[serde(default)]
        behind: Option<String>,
    },
    /// Have the master take something that was set aside.
    DivergentRestore {
        /// Its id.
        id: String,
        /// Under which path, from the volume on; none: its own.
        to: Option<VolumePath>,
        /// Whether what has that path is replaced.
        replace: bool,
    },
    /// Remove what was set aside, for ever.
    DivergentRelease {
        /// Which of it.
        which: Release,
        /// Whether what was not restored goes as well.
        is_sure: bool,
    },
    /// How is the log archive, and what will retention remove?
    Archive {},
}

/// What is released of what was set aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Release {
    /// The one with an id.
    One(String),
    /// What the master has.
    Restored,
    /// All of it.
    All,
}

/// What sftpd answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Who is connected, the oldest connection first.
    Who(Vec<Session>),
    /// How it is.
    Status(Box<Status>),
    /// What it says of itself to other machines.
    Hello(Box<Hello>),
    /// Another machine is the master now, or this one is.
    Moved(Box<Move>),
    /// What is banned.
    Bans(Vec<Ban>),
    /// What was set aside, in the order of the ids; nothing at the end.
    Divergent(Vec<Divergent>),
    /// The log archive.
    Archive(Box<Archive>),
    /// It was done.
    Done {
        /// What there is to say about it.
        text: String,
    },
    /// It was not done.
    Refused {
        /// Why.
        text: String,
    },
}

/// How the master's place has moved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// `promote`, `switchover` or `drill`.
    pub what: String,
    /// When it began, in RFC 3339.
    pub time: String,
    /// The machine that is the master now, by its id.
    pub master: String,
    /// The number of its epoch.
    pub epoch: u64,
    /// From the order to its end.
    pub elapsed_ms: u64,
    /// For how long no machine took changes; none where that cannot be told.
    pub gap_ms: Option<u64>,
    /// What was done, and how long each step took.
    pub steps: Vec<Step>,
    /// What a person should know.
    pub remarks: Vec<String>,
}

/// A step of a move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What was done.
    pub name: String,
    /// How long it took.
    pub elapsed_ms: u64,
}

/// A ban.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ban {
    /// The address or network; or the account whose password is shut.
    pub whom: String,
    /// Whether it is an account.
    pub is_account: bool,
    /// For how long it still holds.
    pub left_s: u64,
}

/// Something that was set aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Divergent {
    /// By it it is called in orders.
    pub id: String,
    /// Where it was, from the volume on.
    pub path: VolumePath,
    /// `file`, `folder` or `link`.
    pub kind: String,
    /// Its size in bytes.
    pub size: u64,
    /// When it was written, in RFC 3339.
    pub written: String,
    /// By whom; empty where nobody knows.
    pub account: String,
    /// `offered`, `wanted`, `restored` or `kept`.
    pub state: String,
    /// Why the master has not taken it, or under which path it is wanted.
    pub detail: Option<String>,
}

/// A connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// As in the activity log.
    pub connection_id: String,
    /// Who has logged in; none: nobody yet.
    pub username: Option<String>,
    /// Address and port.
    pub remote_addr: String,
    /// What the client calls itself.
    pub client_version: String,
    /// Since when, in RFC 3339.
    pub since: String,
    /// Bytes on the wire from the client.
    pub received_bytes: u64,
    /// Bytes on the wire to the client.
    pub sent_bytes: u64,
    /// The same in the last second.
    pub received_bytes_per_s: u64,
    /// The same in the last second.
    pub sent_bytes_per_s: u64,
    /// What is being transferred.
    pub transfers: Vec<Transfer>,
}

/// A file on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// `Upload` or `Download`.
    pub sender: String,
    /// As the account sees it.
    pub file_path: String,
    /// Bytes that have gone.
    pub size_bytes: u64,
    /// Since its beginning.
    pub elapsed_ms: u64,
}

/// How a daemon is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// What it is for.
    pub role: Role,
    /// The machine's id.
    pub node: String,
    /// The pair's public name.
    pub pair: String,
    /// The program's version.
    pub version: String,
    /// Why it takes no uploads now; none: it would.
    pub refuses_uploads: Option<String>,
    /// Since when it runs, in RFC 3339.
    pub since: String,
    /// Connections that are open, whether or not somebody has logged in.
    pub connections: usize,
    /// Accounts in force.
    pub accounts: usize,
    /// Their number.
    pub accounts_generation: u64,
    /// Room on the data volume, in bytes.
    pub volume_bytes: u64,
    /// The same, still free.
    pub volume_free_bytes: u64,
    /// The last change of the volume.
    pub last_seq: u64,
    /// What the machine does now.
    pub phase: Phase,
    /// The number of the newest epoch that it knows.
    pub epoch: Option<u64>,
    /// Why nothing is written until a person has chosen.
    pub stopped: Option<String>,
    /// A standby: the last of its master's changes that is here.
    pub reached: Option<u64>,
    /// Files that it has set aside and nobody has released.
    pub divergent: u64,
    /// The other machines, as far as they have been heard of.
    pub peers: Vec<Peer>,
    /// The standbys, as far as filesync has told of them.
    pub standbys: Vec<Standby>,
    /// Records that are missing in activity.log since the start.
    pub activity_lost: u64,
    /// Whether changes are answered before they are flushed (`durability: none`).
    #[serde(default)]
    pub is_volatile: bool,
}

/// Another machine of the pair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its address.
    pub name: String,
    /// What it said last.
    pub hello: Option<Hello>,
    /// How long ago that was.
    pub heard_ms: Option<u64>,
    /// Why it cannot be spoken to now.
    pub problem: Option<String>,
    /// Whether its host keys are this machine's. Else clients would take it for another machine, and failover is not armed.
    pub has_our_host_keys: bool,
}

/// A standby, as sftpd knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standby {
    /// Its name.
    pub name: String,
    /// All changes up to this one are there.
    pub seq: Option<u64>,
    /// The accounts that it has.
    pub accounts_generation: Option<u64>,
    /// What stands in the way of newer ones.
    pub problem: Option<String>,
}

/// Asks the sftpd of a state folder.
pub async fn ask(state: &Path, order: &Order) -> anyhow::Result<Answer> {
    let path = path(state);
    let stream = UnixStream::connect(&path).await.map_err(|error| {
        usage(format!("no sftpd answers on {} ({error}): is it running, with this state folder?", path.display()))
    })?;
    let (read, mut write) = stream.into_split();
    let asked = async {
        send(&mut write, order).await?;
        Lines::new(read, LINE_BYTES_MAX).next().await?.context("sftpd has ended before it answered")
    };
    let longest = match order {
        Order::Who {} | Order::Status {} | Order::Hello {} | Order::Bans {} | Order::Archive {} => LOOK_TIMEOUT,
        _ => ANSWER_TIMEOUT,
    };
    let asked = tokio::time::timeout(longest, asked).await;
    asked.with_context(|| format!("sftpd does not answer within {} s: does it hang?", longest.as_secs()))?
}
