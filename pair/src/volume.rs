//! The marker of a data volume: the proof that the right disk is mounted.
//!
//! An unmounted disk looks like an empty folder, and a mirror that believes it deletes everything. So nothing is
//! deleted, and sftpd does not even start, unless `/data/.pair/marker` is there and is the one this machine knows.

use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::exit::usage;
use crate::node::{read_yaml, replace_file};
use crate::secret::hex;

/// The folder at the top of a volume that belongs to the pair. No client can name or reach it.
pub const PRIVATE_FOLDER: &str = ".pair";

/// What the marker says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// The pair that the volume belongs to ([`crate::secret::PairSecret::pair_id`]).
    pub pair: String,
    /// Drawn when the volume was first used: tells it from every other volume of the pair.
    pub volume: String,
    /// The file system it was made on, as [`file_system_id`] told then. A marker on another file system was copied.
    pub file_system: String,
}

impl Marker {
    /// A marker for a volume that has none yet.
    pub fn new(data: &Path, pair: String) -> anyhow::Result<Marker> {
        let mut id = [0; 8];
        getrandom::fill(&mut id).context("the system has no random numbers")?;
        Ok(Marker { pair, volume: hex(&id), file_system: file_system_id(data)? })
    }
}

/// Reads a volume's marker; `None` where there is none.
pub fn read_marker(data: &Path) -> anyhow::Result<Option<Marker>> {
    read_yaml(&data.join(PRIVATE_FOLDER).join("marker"))
}

/// Writes a volume's marker, durably. Its folder must be there.
pub fn write_marker(data: &Path, marker: &Marker) -> anyhow::Result<()> {
    let text = format!(
        "# Proof that this disk is the pair's. Without it sftpd does not start and nothing is deleted.\n{}",
        serde_yaml::to_string(marker)?
    );
    replace_file(&data.join(PRIVATE_FOLDER).join("marker"), text.as_bytes(), 0o644)
}

/// The id that the kernel gives to the file system below a path (`f_fsid` of statfs), in hexadecimal digits.
pub fn file_system_id(path: &Path) -> anyhow::Result<String> {
    let stat =
        rustix::fs::statvfs(path).map_err(|error| usage(format!("cannot look at {}: {error}", path.display())))?;
    Ok(format!("{:016x}", stat.f_fsid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_reads_back_and_names_its_file_system() {
        let data = tempfile::tempdir().unwrap();
        assert_eq!(read_marker(data.path()).unwrap(), None);
        std::fs::create_dir(data.path().join(PRIVATE_FOLDER)).unwrap();
        let marker = Marker::new(data.path(), "pair".into()).unwrap();
        write_marker(data.path(), &marker).unwrap();
        assert_eq!(read_marker(data.path()).unwrap(), Some(marker.clone()));
        assert_eq!(marker.file_system, file_system_id(data.path()).unwrap());
    }
}
