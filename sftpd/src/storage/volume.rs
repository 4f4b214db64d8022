//! The volume as a whole: what is checked before it is used, and the doors into it.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use pair::node::Node;
use pair::volume::{Marker, PRIVATE_FOLDER};
use rustix::fs::{CWD, Mode, OFlags};
use serde::Deserialize;
use tokio::sync::{oneshot, watch};

use super::change::Change;
use super::committer::{Committer, Job, Owed, Worker};
use super::disk::Disk;
use super::gate::Gate;
use super::in_place::{InPlace, Writing};
use super::journal::{Chapter, Journal, Reader};
use super::mounted::{FOLDER_FLAGS, check_marker, lock, open_folder, refuse_mounts_inside};
use super::notes;
use super::recovery::Recovery;
use super::reserve::Reserve;
use super::root::proc_path;
use super::stage::Stages;
use super::unfinished::Unfinished;
use super::upload::{Keeping, Opening};
use super::usage::{Quota, Usages};
use super::writer::Publication;
use super::{Attributes, FolderId, NewAttributes, Place, Result, Root, Stage, StorageError};

mod archive;
mod begun;
mod divergent;
mod start;
mod told;
mod uploads;

use begun::Begun;
pub use divergent::Seen;
use start::{boot_is_new, epoch_of, recover, start_hashing};

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

/// Changes by the daemon itself are told of under this name.
const OWN_NAME: &str = "sftpd";

/// The data volume of this machine. There is one per process, and one process per volume.
#[derive(Debug)]
pub struct Volume {
    path: PathBuf,
    folder: OwnedFd,
    stages: Arc<Stages>,
    disk: Disk,
    writing: Arc<Writing>,
    committer: Committer,
    unfinished: Arc<Unfinished>,
    begun: Begun,
    usages: Arc<Usages>,
    marker: Marker,
    chapter: watch::Sender<Arc<Chapter>>,
    reader: Reader,
    decided: watch::Receiver<u64>,
    aside: Arc<super::divergent::Shared>,
    needed_behind: Arc<AtomicU64>,
    /// Held while the process lives; the kernel lets go of it even after `kill -9`.
    _lock: OwnedFd,
}

/// Where the volume and its journal are, and whose they are.
pub struct Location<'a> {
    /// The data folder.
    pub data: &'a Path,
    /// The folder of the journal.
    pub state: &'a Path,
    /// The pair that the volume belongs to.
    pub pair_id: &'a str,
}

impl Volume {
    /// Opens the volume: the right one, whole, and ours alone. Decides what a crash left undecided. `node` learns which
    /// volume belongs here, and the epoch of its changes.
    pub fn open(location: &Location<'_>, node: &mut Node, durability: Durability) -> anyhow::Result<Arc<Volume>> {
        Volume::open_by(location, node, durability, Disk::default())
    }

    pub(super) fn open_by(
        location: &Location<'_>,
        node: &mut Node,
        durability: Durability,
        disk: Disk,
    ) -> anyhow::Result<Arc<Volume>> {
        let Location { data, state, pair_id } = *location;
        let folder = open_folder(data)?;
        refuse_mounts_inside(data)?;
        let lock = lock(data, &folder)?;
        let marker = check_marker(data, pair_id, node)?;
        let stages = rustix::fs::openat(&folder, format!("{PRIVATE_FOLDER}/stage"), FOLDER_FLAGS, Mode::empty())?;
        let stages = Arc::new(Stages::new(disk.clone(), stages));
        let is_durable = durability == Durability::Fsync;
        let mut opened = Journal::open(state, is_durable, disk.clone())?;
        let epoch = epoch_of(node, &opened)?;
        // Before the journal knows of it: else the next start would take its records for the old epoch's.
        pair::node::write(state, node)?;
        let recovery =
            Recovery { volume: &folder, stages: &stages, disk: &disk, durability, is_new_boot: boot_is_new(&opened)? };
        let (left, chapter) = recover(&recovery, &mut opened, &epoch)?;
        let journal = opened.journal;
        let needed_behind = journal.needed_behind();
        let failed = Arc::new(OnceLock::new());
        let (queue, jobs, notes) = notes::queue(failed.clone(), is_durable)?;
        let unfinished = Unfinished::new(Keeping { stages: stages.clone(), notes: notes.clone() });
        unfinished.restore(left);
        let (decided, follow) = watch::channel(journal.last_seq());
        let usages = Arc::new(Usages::default());
        let aside = Arc::<super::divergent::Shared>::default();
        let worker = Worker {
            aside: aside.clone(),
            usages: usages.clone(),
            volume: folder.try_clone()?,
            path: rustix::fs::readlinkat(CWD, proc_path(folder.as_fd()), Vec::new())?.into_bytes(),
            durability,
            disk: disk.clone(),
            journal,
            reserve: Reserve::take(state, data),
            notes: notes.clone(),
            unfinished: unfinished.clone(),
            decided,
            failed: failed.clone(),
            owed: Owed::default(),
            unclean: Vec::new(),
            hashing: start_hashing(queue.clone())?,
            gate: Gate::default(),
            held: Vec::new(),
        };
        let writing = Writing::new(queue.clone(), disk.clone(), failed);
        Ok(Arc::new(Volume {
            path: data.to_owned(),
            folder,
            stages,
            disk,
            writing,
            committer: Committer::start(worker, queue, jobs)?,
            unfinished,
            begun: Begun::default(),
            usages,
            marker,
            chapter: watch::Sender::new(Arc::new(chapter)),
            reader: Reader::open(state)?,
            decided: follow,
            aside,
            needed_behind,
            _lock: lock,
        }))
    }

    /// The folder of an account, made with the mode `make` where it is missing: a standby's are made by replication only.
    /// `home` was checked with the accounts: it has no dots, no links and does not begin with the pair's own folder.
    pub fn home(&self, home: &str, make: Option<u32>) -> Result<Root> {
        let mut folder = self.folder.try_clone().map_err(|_| StorageError::System(rustix::io::Errno::MFILE))?;
        for component in home.split('/') {
            let open = |folder: &OwnedFd| {
                rustix::fs::openat(folder, component, FOLDER_FLAGS | OFlags::NOFOLLOW, Mode::empty())
            };
            folder = match open(&folder) {
                Err(rustix::io::Errno::NOENT) if let Some(mode) = make => {
                    let parent = Arc::new(folder);
                    let place = Place::new(parent.clone(), component.as_bytes());
                    // Two sessions may make it at once; the second finds it there.
                    let _ = futures::executor::block_on(self.commit_own(Change::MakeFolder(place, mode)));
                    open(&parent)?
                }
                folder => folder?,
            };
        }
        Ok(Root::new(folder))
    }

    /// As [`Volume::home`], made where it is missing.
    pub fn root(&self, home: &str) -> Result<Root> {
        self.home(home, Some(0o700))
    }

    /// The whole volume, the pair's own folder included: for the other machine only.
    pub fn whole(&self) -> Result<Root> {
        let folder = self.folder.try_clone().map_err(|_| StorageError::System(rustix::io::Errno::MFILE))?;
        Ok(Root::without_links(folder))
    }

    /// All bytes of the volume and those that are free; none where its disk does not say. May hang with the disk.
    pub fn room_bytes(&self) -> Option<(u64, u64)> {
        let room = self.whole().and_then(|root| root.room(b"/")).ok()?;
        Some((room.f_blocks.saturating_mul(room.f_frsize), room.f_bavail.saturating_mul(room.f_frsize)))
    }

    /// How much an account's folder may hold. The first time the folder is counted: not for an async thread.
    pub fn quota(&self, home: &str, bytes_max: u64) -> Result<Quota> {
        self.usages.quota(home, bytes_max, |home| self.home_root(home), &self.unfinished)
    }

    /// Counts the folders with a quota anew. Takes its time.
    pub fn recount(&self) {
        self.usages.recount(|home| self.home_root(home), &self.unfinished);
    }

    fn home_root(&self, home: &str) -> Result<Root> {
        self.whole()?.inner(home.as_bytes())
    }

    #[cfg(test)]
    pub(super) fn committer_for_tests(&self) -> &Committer {
        &self.committer
    }

    fn new_stage(&self, mode: u32) -> Result<Stage> {
        if let Some(reason) = self.failure() {
            return Err(StorageError::Refused(reason));
        }
        self.stages.create(mode)
    }

    /// Begins to write a file in place. Where the future comes with it nothing may be written before that has come back;
    /// `folder` is where the file's name may be new.
    pub fn write_in_place(
        &self,
        file: OwnedFd,
        folder: Option<&Place>,
        quota: Option<Quota>,
        author: Option<Arc<str>>,
    ) -> Result<(InPlace, Option<impl Future<Output = Result<()>> + Send + 'static>)> {
        if let Some(reason) = self.failure() {
            return Err(StorageError::Refused(reason));
        }
        let folder = folder.map(|place| place.folder.clone());
        let (in_place, told) = self.writing.begin(file, folder, quota, author)?;
        Ok((in_place, told.map(when_answered)))
    }

    /// Makes a change. Comes back when it is durable. Dropping the future does not undo the change. `author` is whose it
    /// is in the journal; what replication does has none and is not told.
    pub fn commit(
        &self,
        change: Change,
        author: Option<Arc<str>>,
    ) -> impl Future<Output = Result<()>> + Send + 'static {
        self.submit(|answer| Job::Change(change, author, answer))
    }

    /// The same for a session that may ask for more at once: changes that come together are made together. It begins with
    /// [`Volume::begin_changes`] at the latest, which the session must not forget.
    pub fn commit_with_next(
        &self,
        change: Change,
        author: Option<Arc<str>>,
    ) -> impl Future<Output = Result<()>> + Send + 'static {
        when_answered(self.committer.gather(|answer| Job::Change(change, author, answer)))
    }

    /// Begins with the changes that wait for others: on this thread, if it may and nothing has to be flushed.
    pub fn begin_changes(&self, may_be_here: impl FnOnce() -> bool) {
        self.committer.send_gathered(may_be_here);
    }

    /// Makes a change of the daemon's own.
    pub fn commit_own(&self, change: Change) -> impl Future<Output = Result<()>> + Send + 'static {
        self.commit(change, Some(OWN_NAME.into()))
    }

    /// A small file of the daemon's own, ready to be published.
    pub fn stage_file(&self, content: &[u8], place: Place) -> Result<Publication> {
        Ok(Publication::of_file(self.stage(content)?, place, content))
    }

    /// A small file that replication has brought, ready to be published where nothing is.
    pub fn stage_new(&self, content: &[u8], attributes: &NewAttributes, place: Place) -> Result<Publication> {
        let stage = self.stage(content)?;
        self.disk.set_attributes(stage.file(), attributes)?;
        // Nobody asks for the hash of what replication does.
        let size = content.len() as u64;
        Ok(Publication { stage: Arc::new(stage), place, exclusive: true, size, hash: None, upload: None })
    }

    fn stage(&self, content: &[u8]) -> Result<Stage> {
        // The daemon's own files are users.yaml and what belongs to it.
        let stage = self.new_stage(0o600)?;
        self.disk.write(stage.file(), content, 0)?;
        Ok(stage)
    }

    /// Makes durable what is known of unfinished uploads.
    pub fn settle(&self) -> impl Future<Output = Result<()>> + Send + 'static {
        self.submit(Job::Settle)
    }

    fn submit(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<()>>) -> Job,
    ) -> impl Future<Output = Result<()>> + Send + 'static {
        when_answered(self.committer.submit(job))
    }

    /// Ends the run well: what was asked for before is done, nothing is taken any more.
    pub async fn close(&self) {
        // One that has ended already has nothing more to do.
        let _ = self.submit(Job::Stop).await;
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
            let stage = self.stage(b"?")?;
            // Through the committer: an upload would fail as well if that were gone.
            futures::executor::block_on(self.commit(Change::FlushStage(Arc::new(stage)), None))?;
            futures::executor::block_on(self.settle())
        };
        attempt().map_err(|error| format!("{}: an upload would fail now: {error}", self.path.display()))
    }

    /// The volume's marker.
    pub fn marker(&self) -> &Marker {
        &self.marker
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // The lock must not go before the last change is decided.
        futures::executor::block_on(self.close());
    }
}

/// The committer's answer.
async fn when_answered(answered: oneshot::Receiver<Result<()>>) -> Result<()> {
    answered.await.map_err(|_| stopped())?
}

/// The committer's thread is gone: whoever waits for its answer hears this.
pub(super) fn stopped() -> StorageError {
    StorageError::Refused("the daemon's storage has stopped".into())
}

#[cfg(test)]
pub(crate) mod corners;
#[cfg(test)]
mod gates;
#[cfg(test)]
mod races;
#[cfg(test)]
pub(crate) mod tests;
