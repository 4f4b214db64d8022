//! What is looked at before a volume is used: is it mounted, the right one, ours to write, and ours alone.
//!
//! Every refusal is a sentence that says what to do. Nothing here is a client's business.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::Context;
use pair::exit::usage;
use pair::node::Node;
use pair::volume::{Marker, PRIVATE_FOLDER, file_system_id, read_marker, write_marker};
use rustix::fs::{CWD, FlockOperation, Mode, OFlags};

pub(super) const FOLDER_FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

pub(super) fn open_folder(path: &Path) -> anyhow::Result<OwnedFd> {
    rustix::fs::openat(CWD, path, FOLDER_FLAGS, Mode::empty()).map_err(|error| {
        usage(format!("the data folder {} cannot be opened ({error}): is the volume mounted there?", path.display()))
    })
}

/// A mount beneath the volume would make a rename cross file systems: uploads there could not be published whole.
pub(super) fn refuse_mounts_inside(path: &Path) -> anyhow::Result<()> {
    let path = path.canonicalize().with_context(|| format!("cannot look at {}", path.display()))?;
    let mut table = String::new();
    std::fs::File::open("/proc/self/mountinfo")?.read_to_string(&mut table)?;
    let inside = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|mount| mount.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\"))
        .find(|mount| Path::new(mount) != path && Path::new(mount).starts_with(&path));
    match inside {
        None => Ok(()),
        Some(mount) => Err(usage(format!(
            "{mount} is a mount of its own inside the data folder {}: a rename cannot cross it. Mount one volume at {} \
             and keep all accounts on it",
            path.display(),
            path.display()
        ))),
    }
}

pub(super) fn lock(path: &Path, folder: &OwnedFd) -> anyhow::Result<OwnedFd> {
    let private = path.join(PRIVATE_FOLDER);
    for folder in [private.clone(), private.join("stage"), private.join("trash"), private.join("divergent")] {
        match rustix::fs::mkdirat(CWD, &folder, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(not_writable(path, error)),
        }
    }
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
    let lock = rustix::fs::openat(folder, format!("{PRIVATE_FOLDER}/lock"), flags, Mode::from_raw_mode(0o600))
        .map_err(|error| not_writable(path, error))?;
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            Err(usage(format!("another sftpd is running on the data folder {}: stop it first", path.display())))
        }
        Err(error) => Err(anyhow::anyhow!("cannot lock {}: {error}", path.display())),
    }
}

fn not_writable(path: &Path, error: rustix::io::Errno) -> anyhow::Error {
    pair::folder::not_writable("data folder", path, &std::io::Error::from(error))
}

pub(super) fn check_marker(path: &Path, pair_id: &str, node: &mut Node) -> anyhow::Result<Marker> {
    let shown = path.display();
    let marker = match (read_marker(path)?, &node.volume) {
        (Some(marker), _) if marker.pair != pair_id => {
            return Err(usage(format!(
                "{shown} belongs to pair {} and this machine's PAIR_SECRET to pair {pair_id}: mount the right volume or \
                 set the right secret (after a change of the secret on purpose: remove {shown}/{PRIVATE_FOLDER}/marker \
                 and the line `volume:` in node.yaml)",
                marker.pair
            )));
        }
        (Some(marker), Some(volume)) if marker.volume != *volume => {
            return Err(usage(format!(
                "{shown} holds volume {} and volume {volume} belongs to this machine: mount the right one (for a new \
                 volume on purpose: remove the line `volume:` in node.yaml)",
                marker.volume
            )));
        }
        (None, Some(volume)) => {
            return Err(usage(format!(
                "{shown} has no marker and volume {volume} belongs to this machine: is the disk mounted? (for an empty \
                 volume on purpose: remove the line `volume:` in node.yaml)"
            )));
        }
        (Some(marker), _) => marker,
        (None, None) => {
            let marker = Marker::new(path, pair_id.to_owned())?;
            write_marker(path, &marker)?;
            marker
        }
    };
    let file_system = file_system_id(path)?;
    if marker.file_system != file_system {
        tracing::warn!(
            "the marker of {shown} was made on another file system: was the disk copied? filesync does nothing until \
             {shown}/{PRIVATE_FOLDER}/marker says `file_system: {file_system}`"
        );
    }
    node.volume = Some(marker.volume.clone());
    Ok(marker)
}
