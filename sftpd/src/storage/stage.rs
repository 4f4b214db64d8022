//! An upload's bytes before they have a name: a file in `.pair/stage`, seen by nobody but its handles.
//!
//! A stage that is dropped without having been published or kept is removed; the file under its name, if any, stays as
//! it was. Who may continue a kept one is [`super::unfinished`]'s business.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::disk::{self, Disk};
use super::journal::RowChange;
use super::notes::{Notes, Rows};
use super::{Attributes, Result, StorageError};

/// Files up to this size are copied when one opens them for writing without truncation and the file system has no
/// reflinks; larger ones are written in place.
pub(super) const COPY_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The name of every stage of this daemon begins so; other names in the folder belong to the peer.
const PREFIX: &str = "upload-";

/// The name of the stage with this number.
pub(super) fn name_of(number: u64) -> String {
    format!("{PREFIX}{number}")
}

/// The number of the stage with this name, if it is one.
pub(super) fn number_of(name: &[u8]) -> Option<u64> {
    std::str::from_utf8(name).ok()?.strip_prefix(PREFIX)?.parse().ok()
}

/// Whether a name belongs to this daemon.
pub(super) fn is_ours(name: &[u8]) -> bool {
    name.starts_with(PREFIX.as_bytes())
}

/// The folder of all stages, `.pair/stage`.
#[derive(Debug)]
pub(super) struct Stages {
    disk: Disk,
    folder: OwnedFd,
    next: AtomicU64,
    /// What is known of each stage for as long as it is one, whether somebody has it open or not.
    // Held to look one up.
    facts: Mutex<HashMap<u64, Arc<Facts>>>,
}

/// What is known of a stage beside what its file tells.
#[derive(Debug, Default)]
struct Facts {
    /// The error of a flush: the system tells it once, and this remembers it for everybody who flushes later.
    // Held while the file is flushed, so that nobody is told "fine" beside a flush that fails.
    lost: Mutex<Option<Errno>>,
    /// How often it was cut: a flush from before says nothing about what has come since.
    // Held while what a flush or a cut means is noted, so that the notes come in the order in which it is true.
    cuts: Mutex<u64>,
}

impl Stages {
    pub(super) fn new(disk: Disk, folder: OwnedFd) -> Stages {
        // Numbers are never used again, also not after a restart.
        let next = AtomicU64::new(jiff::Timestamp::now().as_microsecond() as u64);
        Stages { disk, folder, next, facts: Mutex::default() }
    }

    pub(super) fn folder(&self) -> &OwnedFd {
        &self.folder
    }

    /// A new stage, with a new number.
    pub(super) fn create(self: &Arc<Self>, mode: u32) -> Result<Stage> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let file = self.disk.create(&self.folder, name_of(number).as_bytes(), mode)?;
        self.stage(number, file, false)
    }

    /// A stage that is there already.
    pub(super) fn open(self: &Arc<Self>, number: u64) -> Result<Stage> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.folder, name_of(number), flags, Mode::empty()) {
            // The upload's own mode forbids it; it is nobody's file yet, so the mode is lifted for a moment.
            Err(Errno::ACCESS) => open_whatever_its_mode(&self.folder, number)?,
            file => file?,
        };
        self.stage(number, file, true)
    }

    fn stage(self: &Arc<Self>, number: u64, file: OwnedFd, is_kept: bool) -> Result<Stage> {
        let inode = rustix::fs::fstat(&file)?.st_ino;
        let (file, is_kept) = (Arc::new(file), AtomicBool::new(is_kept));
        let facts = self.facts().entry(number).or_default().clone();
        Ok(Stage { stages: self.clone(), number, file, inode, is_kept, facts })
    }

    fn facts(&self) -> MutexGuard<'_, HashMap<u64, Arc<Facts>>> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Attributes of a stage that nobody has open.
    pub(super) fn look(&self, number: u64) -> rustix::io::Result<Attributes> {
        disk::look(&self.folder, name_of(number).as_bytes())
    }

    /// When a stage was last changed in any way, in seconds since 1970: clients set the other times themselves.
    pub(super) fn changed_s(&self, number: u64) -> rustix::io::Result<i64> {
        Ok(rustix::fs::statat(&self.folder, name_of(number), AtFlags::SYMLINK_NOFOLLOW)?.st_ctime)
    }

    /// Removes a stage that nobody has open.
    pub(super) fn remove(&self, number: u64) -> rustix::io::Result<()> {
        self.facts().remove(&number);
        self.disk.unlink(&self.folder, name_of(number).as_bytes())
    }
}

/// An unpublished upload's bytes.
#[derive(Debug)]
pub struct Stage {
    stages: Arc<Stages>,
    number: u64,
    file: Arc<OwnedFd>,
    inode: u64,
    /// Whether dropping it leaves the file alone: it was published, or somebody may continue it.
    is_kept: AtomicBool,
    facts: Arc<Facts>,
}

impl Stage {
    /// Fills the stage with a file's content, and gives it its times, which only a WRITE or a cut changes.
    pub(super) fn fill_from(&self, source: BorrowedFd<'_>, attributes: &Attributes) -> Result<()> {
        self.copy_content(source, attributes)?;
        self.stages.disk.copy_times(source, self.file())?;
        Ok(())
    }

    /// By reflink where the file system can, else by copying.
    fn copy_content(&self, source: BorrowedFd<'_>, attributes: &Attributes) -> Result<()> {
        if attributes.size == 0 || rustix::fs::ioctl_ficlone(&*self.file, source).is_ok() {
            return Ok(());
        }
        if attributes.size > COPY_BYTES_MAX {
            return Err(StorageError::TooLargeToCopy);
        }
        let mut offset = 0;
        loop {
            let mut target = offset;
            let left = (attributes.size - offset.min(attributes.size)) as usize;
            let copied = rustix::fs::copy_file_range(source, Some(&mut offset), &*self.file, Some(&mut target), left)?;
            if copied == 0 {
                return Ok(());
            }
        }
    }

    /// The open file.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// The open file, to be held for longer.
    pub(super) fn share_file(&self) -> Arc<OwnedFd> {
        self.file.clone()
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn inode(&self) -> u64 {
        self.inode
    }

    pub(super) fn disk(&self) -> &Disk {
        &self.stages.disk
    }

    pub(super) fn folder(&self) -> &OwnedFd {
        &self.stages.folder
    }

    fn cuts_lock(&self) -> MutexGuard<'_, u64> {
        self.facts.cuts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often it was cut.
    pub(super) fn cuts(&self) -> u64 {
        *self.cuts_lock()
    }

    /// It is about to be cut: nothing that was flushed before counts for more than `bytes`.
    pub(super) fn note_cut(&self, notes: &Notes, bytes: u64) {
        let mut cuts = self.cuts_lock();
        *cuts += 1;
        notes.note(RowChange::Durable { number: self.number, bytes });
    }

    /// Its first `bytes` are on the disk, if it was not cut since `cuts` were counted.
    pub(super) fn note_durable(&self, notes: &Rows, bytes: u64, cuts: u64) {
        let now = self.cuts_lock();
        if *now == cuts {
            notes.push(RowChange::Durable { number: self.number, bytes });
        }
    }

    /// Makes what has arrived durable. Once that has failed it fails for ever.
    pub(super) fn flush(&self) -> rustix::io::Result<()> {
        let mut lost = self.facts.lost.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = *lost {
            return Err(error);
        }
        self.disk().flush(self.file()).inspect_err(|error| *lost = Some(*error))
    }

    /// The error that a flush has met, by whichever way it was flushed.
    pub(super) fn lost(&self) -> Option<Errno> {
        *self.facts.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It has its name: it is no stage any more.
    pub(super) fn published(&self) {
        self.keep();
        self.stages.facts().remove(&self.number);
    }

    /// Leaves the file alone from now on.
    pub(super) fn keep(&self) {
        self.is_kept.store(true, Ordering::Relaxed);
    }

    /// Removes the file when the last handle is gone.
    pub(super) fn let_go(&self) {
        self.is_kept.store(false, Ordering::Relaxed);
    }
}

fn open_whatever_its_mode(folder: &OwnedFd, number: u64) -> Result<OwnedFd> {
    let name = name_of(number);
    let mode = rustix::fs::statat(folder, name.as_str(), AtFlags::SYMLINK_NOFOLLOW)?.st_mode;
    let no_flags = AtFlags::empty();
    rustix::fs::chmodat(folder, name.as_str(), Mode::from_raw_mode(0o600), no_flags)?;
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, name.as_str(), flags, Mode::empty())?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode & 0o7777))?;
    Ok(file)
}

impl Drop for Stage {
    fn drop(&mut self) {
        if !self.is_kept.load(Ordering::Relaxed) {
            // Nothing can be done about a failure here; the next start removes what is left.
            let _: rustix::io::Result<()> = self.stages.remove(self.number);
        }
    }
}
