//! What is asked for, checked against the limits. Pure.
//!
//! A [`Wish`] is what somebody has typed, on a page or a command line; a [`Plan`] can only come from one, and nothing in it
//! needs to be looked at again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

mod sizes;
mod wish;

pub use sizes::Sizes;
pub(crate) use sizes::scattered;
pub use wish::{Mistake, Wish};

/// A server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// What people call it; its address where nobody has named it.
    pub name: String,
    /// `host:port`.
    pub address: String,
}

impl std::str::FromStr for Target {
    type Err = String;

    /// `[name=]host:port`.
    fn from_str(text: &str) -> Result<Target, String> {
        let (name, address) = text.split_once('=').unwrap_or((text, text));
        let (name, address) = (name.trim(), address.trim());
        let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
        match port {
            Some(Ok(1..)) if !name.is_empty() && !address.contains(char::is_whitespace) => {
                Ok(Target { name: name.to_owned(), address: address.to_owned() })
            }
            _ => Err(format!("{text} is no server: it is written as host:port or name=host:port")),
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

/// What clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// A new file, from OPEN to the answer to CLOSE.
    Upload,
    /// A file of this run read whole, and checked.
    Download,
    /// All entries of a folder.
    List,
    /// A file of this run gets another name.
    Rename,
    /// A connection, from the first packet to the start of SFTP.
    Connect,
}

impl Operation {
    /// All, in the order in which they are shown.
    pub const ALL: [Operation; 5] =
        [Operation::Upload, Operation::Download, Operation::List, Operation::Rename, Operation::Connect];

    /// Its name.
    pub fn text(self) -> &'static str {
        match self {
            Operation::Upload => "upload",
            Operation::Download => "download",
            Operation::List => "list",
            Operation::Rename => "rename",
            Operation::Connect => "connect",
        }
    }
}

/// How often clients do what, in percent; together 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mix {
    /// New files.
    pub upload: u32,
    /// Files of this run read back.
    pub download: u32,
    /// Folders listed.
    pub list: u32,
    /// Files renamed.
    pub rename: u32,
}

impl Default for Mix {
    fn default() -> Mix {
        Mix { upload: 100, download: 0, list: 0, rename: 0 }
    }
}

impl std::str::FromStr for Mix {
    type Err = String;

    /// `upload=70,download=20,list=5,rename=5`, in any order; what is left out is 0.
    fn from_str(text: &str) -> Result<Mix, String> {
        const FORM: &str =
            "a mix is written as upload=70,download=20,list=5,rename=5, and its shares make 100 together";
        let mut mix = Mix { upload: 0, download: 0, list: 0, rename: 0 };
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, share) = part.split_once('=').ok_or_else(|| format!("{part}: {FORM}"))?;
            let share = share.trim().trim_end_matches('%').parse::<u32>().map_err(|_| format!("{part}: {FORM}"))?;
            match name.trim() {
                "upload" => mix.upload = share,
                "download" => mix.download = share,
                "list" => mix.list = share,
                "rename" => mix.rename = share,
                _ => return Err(format!("{part}: {FORM}")),
            }
        }
        let shares = [mix.upload, mix.download, mix.list, mix.rename];
        match shares.iter().map(|share| u64::from(*share)).sum::<u64>() {
            100 => Ok(mix),
            sum => Err(format!("the shares make {sum}: {FORM}")),
        }
    }
}

impl std::fmt::Display for Mix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Mix { upload, download, list, rename } = self;
        write!(f, "upload={upload},download={download},list={list},rename={rename}")
    }
}

/// What is looked at after the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verify {
    /// Nothing: only speed is measured.
    Nothing,
    /// Every file is read back from the target.
    Target,
    /// The same, and from every standby, with the time it took to arrive.
    Standby,
}

impl std::str::FromStr for Verify {
    type Err = String;

    fn from_str(text: &str) -> Result<Verify, String> {
        match text.trim() {
            "nothing" => Ok(Verify::Nothing),
            "target" => Ok(Verify::Target),
            "standby" => Ok(Verify::Standby),
            other => Err(format!("\"{other}\" cannot be verified: it takes nothing, target or standby")),
        }
    }
}

impl std::fmt::Display for Verify {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Verify::Nothing => "nothing",
            Verify::Target => "target",
            Verify::Standby => "standby",
        })
    }
}

/// What a run is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Which server is loaded.
    pub target: Target,
    /// Where files are looked for, too; empty unless `verify` says so.
    pub standbys: Vec<Target>,
    /// Who logs in, everywhere.
    pub account: String,
    /// Files to upload; the load ends with the last of them.
    pub files: u64,
    /// How large they are.
    pub sizes: Sizes,
    /// Connections.
    pub clients: usize,
    /// Files that each connection has under way at a time.
    pub in_flight: usize,
    /// What the clients do.
    pub mix: Mix,
    /// When the load ends although there are files left.
    pub duration: Option<Duration>,
    /// After which time the load ends in any case.
    pub load_max: Duration,
    /// Over which time the clients begin.
    pub ramp: Duration,
    /// What is looked at after the load.
    pub verify: Verify,
    /// Where sizes, contents and the order of operations come from: the same seed makes the same files.
    pub seed: u64,
    /// Whether the files stay.
    pub keep: bool,
}

impl Plan {
    /// The size of a file, in bytes.
    pub fn size(&self, number: u64) -> u64 {
        self.sizes.of(self.seed, number)
    }

    /// The sizes of all files together, in bytes.
    pub fn bytes(&self) -> u64 {
        self.sizes.sum(self.seed, self.files)
    }
}

#[cfg(test)]
mod tests;
