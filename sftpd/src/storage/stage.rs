//! An upload's bytes before they have a name: a file in `.pair/stage`, seen by nobody but its handles.
//!
//! A stage that is dropped without having been published or kept is removed; the file under its name, if any, stays as
//! it was. Who may continue a kept one is [`super::unfinished`]'s business.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::disk::Disk;
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

/// An unpublished upload's bytes.
#[derive(Debug)]
pub struct Stage {
    disk: Disk,
    folder: Arc<OwnedFd>,
    number: u64,
    file: Arc<OwnedFd>,
    inode: u64,
    /// Whether dropping it leaves the file alone: it was published, or somebody may continue it.
    is_kept: AtomicBool,
    /// The error of a flush: the system tells it once, and this remembers it for everybody who flushes later.
    // Held while the file is flushed, so that nobody is told "fine" beside a flush that fails.
    lost: Mutex<Option<Errno>>,
}

impl Stage {
    pub(super) fn create(disk: Disk, folder: Arc<OwnedFd>, number: u64, mode: u32) -> Result<Stage> {
        let file = disk.create(&folder, name_of(number).as_bytes(), mode)?;
        Stage::of(disk, folder, number, file)
    }

    /// A stage that is there already.
    pub(super) fn open(disk: Disk, folder: Arc<OwnedFd>, number: u64) -> Result<Stage> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&*folder, name_of(number), flags, Mode::empty()) {
            // The upload's own mode forbids it; it is nobody's file yet, so the mode is lifted for a moment.
            Err(Errno::ACCESS) => open_whatever_its_mode(&folder, number)?,
            file => file?,
        };
        let stage = Stage::of(disk, folder, number, file)?;
        stage.keep();
        Ok(stage)
    }

    fn of(disk: Disk, folder: Arc<OwnedFd>, number: u64, file: OwnedFd) -> Result<Stage> {
        let inode = rustix::fs::fstat(&file)?.st_ino;
        Ok(Stage {
            disk,
            folder,
            number,
            file: Arc::new(file),
            inode,
            is_kept: AtomicBool::new(false),
            lost: Mutex::default(),
        })
    }

    /// Fills the stage with a file's content: by reflink where the file system can, else by copying.
    pub(super) fn fill_from(&self, source: BorrowedFd<'_>, attributes: &Attributes) -> Result<()> {
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
        &self.disk
    }

    pub(super) fn folder(&self) -> &OwnedFd {
        &self.folder
    }

    /// Makes what has arrived durable. Once that has failed it fails for ever.
    pub(super) fn flush(&self) -> rustix::io::Result<()> {
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = *lost {
            return Err(error);
        }
        self.disk.flush(self.file()).inspect_err(|error| *lost = Some(*error))
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
    let mode = rustix::fs::statat(folder, name.as_str(), rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?.st_mode;
    let no_flags = rustix::fs::AtFlags::empty();
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
            let _: rustix::io::Result<()> = self.disk.unlink(&self.folder, name_of(self.number).as_bytes());
        }
    }
}
