//! `/state/node.yaml`: who this machine is. Never copied to another machine, never shared by two.
//!
//! The role in this file counts; the `role` setting only matters while there is no file yet.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::exit::usage;
use crate::record::Epoch;
use crate::secret::hex;

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
    /// The epoch of this machine's changes while it is the master; none before it has been one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
}

impl Node {
    /// A new identity.
    pub fn new(role: Role) -> anyhow::Result<Node> {
        let mut id = [0; 8];
        getrandom::fill(&mut id).context("the system has no random numbers")?;
        Ok(Node { node: hex(&id), role, volume: None, epoch: None })
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
