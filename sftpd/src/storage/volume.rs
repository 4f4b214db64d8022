//! The volume as a whole: what is checked before it is used, and the doors into it.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use pair::exit::usage;
use pair::node::Node;
use pair::volume::{Marker, PRIVATE_FOLDER, file_system_id, read_marker, write_marker};
use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags};
use serde::Deserialize;

use super::committer::Committer;
use super::file_content::write_at;
use super::{Attributes, Change, Result, Root, Stage, StorageError};

/// Whether an answer of OK waits until the disk has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// It does.
    #[default]
    Fsync,
    /// It does not: a power failure loses what was acknowledged last. For scratch data and measurements.
    None,
}

/// The name of every unpublished upload begins so; other names in the stage folder belong to the peer.
const STAGE_PREFIX: &str = "upload-";

/// The data volume of this machine. There is one per process, and one process per volume.
#[derive(Debug)]
pub struct Volume {
    path: PathBuf,
    folder: OwnedFd,
    stage: Arc<OwnedFd>,
    committer: Committer,
    uploads: AtomicU64,
    marker: Marker,
    /// Held while the process lives; the kernel lets go of it even after `kill -9`.
    _lock: OwnedFd,
}

impl Volume {
    /// Opens the volume: the right one, whole, and ours alone. `node` learns which one belongs here.
    pub fn open(path: &Path, pair_id: &str, node: &mut Node, durability: Durability) -> anyhow::Result<Arc<Volume>> {
        let folder = open_folder(path)?;
        refuse_mounts_inside(path)?;
        let lock = lock(path, &folder)?;
        let marker = check_marker(path, pair_id, node)?;
        let stage = rustix::fs::openat(&folder, format!("{PRIVATE_FOLDER}/stage"), FOLDER_FLAGS, Mode::empty())?;
        let committer = Committer::start(folder.try_clone()?, durability)?;
        let volume = Volume {
            path: path.to_owned(),
            folder,
            stage: Arc::new(stage),
            committer,
            uploads: AtomicU64::new(0),
            marker,
            _lock: lock,
        };
        volume.forget_unpublished_uploads()?;
        Ok(Arc::new(volume))
    }

    /// The folder of an account, made where it is missing and `make` says so: a standby's are made by replication only.
    /// `home` was checked with the accounts: it has no dots, no links and does not begin with the pair's own folder.
    pub fn home(&self, home: &str, make: bool) -> Result<Root> {
        let mut folder = self.folder.try_clone().map_err(|_| StorageError::System(rustix::io::Errno::MFILE))?;
        for component in home.split('/') {
            if make {
                match rustix::fs::mkdirat(&folder, component, Mode::from_raw_mode(0o755)) {
                    // Uploads into it will be acknowledged: its own name must be durable as well.
                    Ok(()) => rustix::fs::fsync(&folder)?,
                    Err(rustix::io::Errno::EXIST) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            folder = rustix::fs::openat(&folder, component, FOLDER_FLAGS | OFlags::NOFOLLOW, Mode::empty())?;
        }
        Ok(Root::new(folder))
    }

    /// As [`Volume::home`], made where it is missing.
    pub fn root(&self, home: &str) -> Result<Root> {
        self.home(home, true)
    }

    /// The whole volume, the pair's own folder included: for the other machine only.
    pub fn whole(&self) -> Result<Root> {
        let folder = self.folder.try_clone().map_err(|_| StorageError::System(rustix::io::Errno::MFILE))?;
        Ok(Root::without_links(folder))
    }

    /// Starts an upload. With `existing`, it begins with that file's content.
    pub fn stage(&self, mode: u32, existing: Option<(&OwnedFd, &Attributes)>) -> Result<Stage> {
        if let Some(reason) = self.failure() {
            return Err(StorageError::Refused(reason));
        }
        let name = format!("{STAGE_PREFIX}{}", self.uploads.fetch_add(1, Ordering::Relaxed));
        let stage = Stage::create(self.stage.clone(), name, mode)?;
        if let Some((file, attributes)) = existing {
            stage.fill_from(file.as_fd(), attributes)?;
        }
        Ok(stage)
    }

    /// Makes a change. Comes back when it is durable. Dropping the future does not undo the change.
    pub fn commit(&self, change: Change) -> impl Future<Output = Result<()>> + Send + 'static {
        let answered = self.committer.submit(change);
        async move { answered.await.map_err(|_| stopped())? }
    }

    /// A small file of the daemon's own, ready to be published.
    pub fn stage_file(&self, content: &[u8]) -> Result<Stage> {
        let stage = self.stage(0o644, None)?;
        write_at(stage.file(), content, 0)?;
        Ok(stage)
    }

    /// Why nothing can be written any more, if so.
    pub fn failure(&self) -> Option<String> {
        self.committer.failure().map(str::to_owned)
    }

    /// Tries what an upload would do, short of a name that a client can see.
    pub fn probe(&self) -> std::result::Result<(), String> {
        if let Some(reason) = self.failure() {
            return Err(reason);
        }
        let attempt = || -> Result<()> {
            let stage = self.stage(0o600, None)?;
            write_at(stage.file(), b"?", 0)?;
            let file = stage.file.try_clone().map_err(|_| rustix::io::Errno::MFILE)?;
            // Through the committer: an upload would fail as well if that were gone.
            let flushed = self.committer.submit(Change::Flush(Arc::new(file))).blocking_recv();
            flushed.map_err(|_| stopped())?
        };
        attempt().map_err(|error| format!("{}: an upload would fail now: {error}", self.path.display()))
    }

    /// The volume's marker.
    pub fn marker(&self) -> &Marker {
        &self.marker
    }

    /// Uploads of an earlier run were never acknowledged, so their bytes are nobody's.
    fn forget_unpublished_uploads(&self) -> anyhow::Result<()> {
        let mut folder = super::Folder::new(self.stage.try_clone()?)?;
        while let Some(entry) = folder.next_entry()? {
            if entry.name.starts_with(STAGE_PREFIX.as_bytes()) {
                rustix::fs::unlinkat(&*self.stage, entry.name.as_slice(), AtFlags::empty())?;
            }
        }
        Ok(())
    }
}

/// The committer's thread is gone: whoever waits for its answer hears this.
fn stopped() -> StorageError {
    StorageError::Refused("the daemon's storage has stopped".into())
}

const FOLDER_FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

fn open_folder(path: &Path) -> anyhow::Result<OwnedFd> {
    rustix::fs::openat(CWD, path, FOLDER_FLAGS, Mode::empty()).map_err(|error| {
        usage(format!("the data folder {} cannot be opened ({error}): is the volume mounted there?", path.display()))
    })
}

/// A mount beneath the volume would make a rename cross file systems: uploads there could not be published whole.
fn refuse_mounts_inside(path: &Path) -> anyhow::Result<()> {
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

fn lock(path: &Path, folder: &OwnedFd) -> anyhow::Result<OwnedFd> {
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
    use std::os::unix::fs::MetadataExt;
    let owner = std::fs::metadata(path).map_or_else(|_| "?".into(), |data| format!("{}:{}", data.uid(), data.gid()));
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    usage(format!(
        "cannot write to the data folder {} ({error}): it belongs to {owner} and sftpd runs as {user}:{group}. Let it \
         belong to {user}:{group}, or run sftpd as its owner",
        path.display()
    ))
}

fn check_marker(path: &Path, pair_id: &str, node: &mut Node) -> anyhow::Result<Marker> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Place;
    use pair::node::Role;

    fn open(path: &Path, pair_id: &str, node: &mut Node) -> std::result::Result<Arc<Volume>, String> {
        Volume::open(path, pair_id, node, Durability::Fsync).map_err(|error| {
            assert_eq!(pair::exit::code(&error), 2, "{error:#}");
            error.to_string()
        })
    }

    async fn publish(volume: &Volume, place: Place, content: &[u8]) {
        let stage = volume.stage_file(content).unwrap();
        volume.commit(Change::Publish { stage, place, exclusive: false }).await.unwrap();
    }

    #[test]
    fn a_second_daemon_on_the_volume_is_refused() {
        let data = tempfile::tempdir().unwrap();
        let mut node = Node::new(Role::Master).unwrap();
        let first = open(data.path(), "pair", &mut node).unwrap();
        assert!(open(data.path(), "pair", &mut node).unwrap_err().contains("another sftpd is running"));
        drop(first);
        open(data.path(), "pair", &mut node).unwrap();
    }

    #[test]
    fn a_missing_foreign_or_swapped_volume_is_refused() {
        let (data, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut node = Node::new(Role::Master).unwrap();
        assert!(open(&data.path().join("none"), "pair", &mut node).unwrap_err().contains("is the volume mounted"));
        drop(open(data.path(), "pair", &mut node).unwrap());
        assert!(node.volume.is_some());
        assert!(open(data.path(), "other", &mut node.clone()).unwrap_err().contains("belongs to pair pair"));
        assert!(open(other.path(), "pair", &mut node.clone()).unwrap_err().contains("is the disk mounted"));
        drop(open(other.path(), "pair", &mut Node::new(Role::Master).unwrap()).unwrap());
        assert!(open(other.path(), "pair", &mut node).unwrap_err().contains("mount the right one"));
    }

    #[test]
    fn leftovers_of_unpublished_uploads_go_at_the_next_start_and_the_peers_stay() {
        let data = tempfile::tempdir().unwrap();
        let mut node = Node::new(Role::Master).unwrap();
        drop(open(data.path(), "pair", &mut node).unwrap());
        let stage = data.path().join(".pair/stage");
        std::fs::write(stage.join("upload-7"), "half").unwrap();
        std::fs::write(stage.join("of-the-peer"), "half").unwrap();
        let _volume = open(data.path(), "pair", &mut node).unwrap();
        assert!(!stage.join("upload-7").exists() && stage.join("of-the-peer").exists());
    }

    #[tokio::test]
    async fn an_upload_is_seen_whole_or_not_at_all() {
        let data = tempfile::tempdir().unwrap();
        let volume = open(data.path(), "pair", &mut Node::new(Role::Master).unwrap()).unwrap();
        let root = volume.root("alice").unwrap();
        let file = data.path().join("alice/report");
        publish(&volume, root.place(b"report").unwrap(), b"first").await;
        let stage = volume.stage(0o644, None).unwrap();
        rustix::io::write(stage.file(), b"second, half").unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"first");
        drop(stage);
        assert_eq!(std::fs::read(&file).unwrap(), b"first");
        assert_eq!(std::fs::read_dir(data.path().join(".pair/stage")).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_group_of_many_changes_is_applied_in_order_and_answered_one_by_one() {
        let data = tempfile::tempdir().unwrap();
        let volume = open(data.path(), "pair", &mut Node::new(Role::Master).unwrap()).unwrap();
        let root = volume.root("alice").unwrap();
        let mut answers = Vec::new();
        for number in 0..100 {
            let folder = format!("folder-{number}");
            answers.push(volume.commit(Change::MakeFolder(root.place(folder.as_bytes()).unwrap(), 0o755)));
        }
        let again = volume.commit(Change::MakeFolder(root.place(b"folder-7").unwrap(), 0o755));
        for answer in answers {
            answer.await.unwrap();
        }
        assert!(again.await.is_err());
        assert_eq!(std::fs::read_dir(data.path().join("alice")).unwrap().count(), 100);
    }

    #[tokio::test]
    async fn an_exclusive_upload_does_not_replace_what_came_meanwhile() {
        let data = tempfile::tempdir().unwrap();
        let volume = open(data.path(), "pair", &mut Node::new(Role::Master).unwrap()).unwrap();
        let root = volume.root("alice").unwrap();
        let stage = volume.stage(0o644, None).unwrap();
        publish(&volume, root.place(b"report").unwrap(), b"first").await;
        let place = root.place(b"report").unwrap();
        assert!(volume.commit(Change::Publish { stage, place, exclusive: true }).await.is_err());
        assert_eq!(std::fs::read(data.path().join("alice/report")).unwrap(), b"first");
    }
}
