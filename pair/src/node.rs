//! `/state/node.yaml`: who this machine is. Never copied to another machine, never shared by two.
//!
//! The role in this file counts; the `role` setting only matters while there is no file yet. sftpd alone writes it, and what it says is
//! what this machine has promised to others: it is durable before anybody hears of it.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::epoch::{Epoch, Reached, draw};
use crate::exit::usage;

/// What a machine is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Takes writes.
    #[default]
    Master,
    /// Serves reads; only replication writes.
    Standby,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Role::Master => "master",
            Role::Standby => "standby",
        })
    }
}

/// This machine's identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Drawn once: 16 hexadecimal digits.
    pub node: String,
    /// What the machine is for.
    pub role: Role,
    /// The volume that belongs here (see [`crate::volume::Marker`]). Without it the next start takes the one it finds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<String>,
    /// This machine's last time as master, which goes on while it is one; none before it has been one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
    /// The master that a standby follows, and how far it has come; none before it has heard of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follows: Option<Follows>,
    /// The epoch that this master has offered to another machine, and does not know yet whether it was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handing: Option<Handing>,
    /// A master of before that has not yet set aside what only it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub returning: Option<Returning>,
    /// Why nothing is written here until a person has chosen which machine is the master.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
}

/// What a master has offered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Handing {
    /// The epoch that is to be the other's.
    pub epoch: Epoch,
    /// The other machine, by its id.
    pub to: String,
}

/// The epoch that a standby follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Follows {
    /// The newest that it knows. An older one is refused.
    pub epoch: Epoch,
    /// All of the master's changes up to this place are on this machine's disk; none before its master has said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reached: Option<Reached>,
}

/// What is still to be set aside by a master of before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Returning {
    /// The epoch that was its own.
    pub epoch: String,
    /// The last of its changes that the new master has; none where that is not known, and everything is compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
}

/// What a machine does now, in its role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// A master that has just started and asks whether there is a newer one.
    Asking,
    /// A master that takes writes.
    Master,
    /// A master that holds writes back, so that a standby can have everything.
    Draining,
    /// A master that has offered its place to another machine and waits for the answer.
    Handing,
    /// Serves reads and takes what the master sends.
    Standby,
    /// A master of before that sets aside what only it has.
    Returning,
    /// Nothing is written until a person has chosen.
    Stopped,
}

impl Phase {
    /// All of them.
    pub const ALL: [Phase; 7] = [
        Phase::Asking,
        Phase::Master,
        Phase::Draining,
        Phase::Handing,
        Phase::Standby,
        Phase::Returning,
        Phase::Stopped,
    ];

    /// Its name for programs.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Asking => "asking",
            Phase::Master => "master",
            Phase::Draining => "draining",
            Phase::Handing => "handing",
            Phase::Standby => "standby",
            Phase::Returning => "returning",
            Phase::Stopped => "stopped",
        }
    }

    /// For people.
    pub fn text(self) -> &'static str {
        match self {
            Phase::Asking => "master, asking whether there is a newer one",
            Phase::Master => "master",
            Phase::Draining => "master, holding writes back for a switchover",
            Phase::Handing => "master, handing over",
            Phase::Standby => "standby",
            Phase::Returning => "standby, setting aside what only it has",
            Phase::Stopped => "stopped",
        }
    }
}

impl Node {
    /// A new identity.
    pub fn new(role: Role) -> anyhow::Result<Node> {
        let (node, volume, epoch, follows) = (draw()?, None, None, None);
        Ok(Node { node, role, volume, epoch, follows, handing: None, returning: None, stopped: None })
    }

    /// The newest epoch that this machine knows: its own, the one it follows, or the one that it has offered.
    pub fn newest(&self) -> Option<&Epoch> {
        let follows = self.follows.as_ref().map(|follows| &follows.epoch);
        let known = [self.epoch.as_ref(), follows, self.handing.as_ref().map(|handing| &handing.epoch)];
        known.into_iter().flatten().max_by_key(|epoch| epoch.counter)
    }
}

/// Where a state folder keeps the identity.
pub fn path(state: &Path) -> PathBuf {
    state.join("node.yaml")
}

/// Reads the identity; `None` before the first start.
pub fn read(state: &Path) -> anyhow::Result<Option<Node>> {
    read_yaml(&path(state))
}

/// Replaces the identity, durably.
pub fn write(state: &Path, node: &Node) -> anyhow::Result<()> {
    let text = format!(
        "# This machine's identity, written by sftpd. Do not copy it to another machine.\n{}",
        serde_yaml::to_string(node)?
    );
    replace_file(&path(state), text.as_bytes(), 0o600)
}

/// Reads a small YAML file; `None` where there is none.
pub fn read_yaml<T: serde::de::DeserializeOwned>(path: &Path) -> anyhow::Result<Option<T>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(usage(format!("cannot read {}: {error}", path.display()))),
    };
    serde_yaml::from_str(&text).map(Some).map_err(|error| usage(format!("{}: {error}", path.display())))
}

/// Replaces a small file whole: temporary name, fsync, rename, fsync of the folder.
pub fn replace_file(path: &Path, content: &[u8], mode: u32) -> anyhow::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;
    let write = || -> anyhow::Result<()> {
        let folder = path.parent().context("has no folder")?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(content)?;
        file.as_file().set_permissions(std::fs::Permissions::from_mode(mode))?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(std::fs::File::open(folder)?.sync_all()?)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_reads_back() {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(read(state.path()).unwrap(), None);
        let node = Node { volume: Some("v".into()), ..Node::new(Role::Standby).unwrap() };
        write(state.path(), &node).unwrap();
        assert_eq!(read(state.path()).unwrap(), Some(node));
    }

    #[test]
    fn a_garbled_identity_is_refused_with_its_path_and_line() {
        let state = tempfile::tempdir().unwrap();
        std::fs::write(path(state.path()), "node: x\nrole: boss\n").unwrap();
        let error = read(state.path()).unwrap_err().to_string();
        assert!(error.contains("node.yaml") && error.contains("line 2"), "{error}");
    }
}
