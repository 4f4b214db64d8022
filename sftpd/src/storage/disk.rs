//! The system calls that change the volume, one function each. In tests a fault can be put before any of them.
//!
//! Nothing in [`crate::storage`] changes the volume by another way, so a test that fails or stops every step in turn has
//! seen every crash that this program can suffer. It decides nothing.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, Timespec, Timestamps};
use rustix::io::{Errno, Result};

use super::Attributes;
use super::attributes::{NewAttributes, set_attributes};
use super::file_content;
use super::root::proc_path;

/// Of a new folder's mode mkdir takes these bits, whatever the process's own mask; others must be set afterwards.
const BITS_OF_MKDIR: u32 = 0o1755;

/// The way to the disk. Copies of it are the same one.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    /// Whether a flush of everything has met a full disk. Whose bytes those were it does not tell, and it tells it once:
    /// from then on each file is asked.
    is_short: Arc<AtomicBool>,
    #[cfg(test)]
    pub(super) faults: Arc<super::faults::Faults>,
}

impl Disk {
    /// Before every step.
    #[cfg(test)]
    pub(super) fn step(&self, name: &'static str) -> Result<()> {
        self.faults.step(name)
    }

    /// Before every step: nothing stands in the way outside tests.
    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "tests look at it")]
    pub(super) fn step(&self, _: &'static str) -> Result<()> {
        Ok(())
    }

    /// Whether the process of a test has "died".
    #[cfg(test)]
    pub(super) fn has_crashed(&self) -> bool {
        self.faults.has_crashed()
    }

    /// Whether the process of a test has "died".
    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "tests look at it")]
    pub(super) fn has_crashed(&self) -> bool {
        false
    }

    /// Makes a file that must not be there yet.
    pub(super) fn create(&self, folder: &OwnedFd, name: &[u8], mode: u32) -> Result<OwnedFd> {
        self.step("create")?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = rustix::fs::openat(folder, name, flags, Mode::from_raw_mode(0o600))?;
        // The mode is the published file's. The open descriptor stays writable whatever it says.
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode & 0o7777))?;
        Ok(file)
    }

    /// Writes all of the data.
    pub(super) fn write(&self, file: BorrowedFd<'_>, data: &[u8], offset: u64) -> Result<()> {
        self.step("write")?;
        file_content::write_at(file, data, offset)
    }

    /// Writes all of the data at the end, wherever that is by then.
    pub(super) fn append(&self, file: BorrowedFd<'_>, data: &[u8]) -> Result<()> {
        self.step("write")?;
        file_content::append(file, data)
    }

    /// Cuts or grows a file.
    pub(super) fn truncate(&self, file: BorrowedFd<'_>, size: u64) -> Result<()> {
        self.step("truncate")?;
        rustix::fs::ftruncate(file, size)
    }

    /// Renames; `replace` says whether an existing target is replaced.
    pub(super) fn rename(
        &self,
        (from, name): (&OwnedFd, &[u8]),
        (to, new_name): (&OwnedFd, &[u8]),
        replace: bool,
    ) -> Result<()> {
        self.step("rename")?;
        let flags = if replace { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
        rustix::fs::renameat_with(from, name, to, new_name, flags)
    }

    /// Removes a file or link. Where the disk is so full that even that fails, the caller gives up reserved room.
    pub(super) fn unlink(&self, folder: &OwnedFd, name: &[u8]) -> Result<()> {
        self.step("unlink")?;
        rustix::fs::unlinkat(folder, name, AtFlags::empty())
    }

    /// Makes a folder.
    pub(super) fn make_folder(&self, folder: &OwnedFd, name: &[u8], mode: u32) -> Result<()> {
        self.step("mkdir")?;
        rustix::fs::mkdirat(folder, name, Mode::from_raw_mode(mode & 0o7777))?;
        if mode & !BITS_OF_MKDIR == 0 {
            return Ok(());
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::openat(folder, name, flags, Mode::empty());
        let set = made.and_then(|made| rustix::fs::fchmod(&made, Mode::from_raw_mode(mode & 0o7777)));
        // Who is told that it failed must not find it there.
        set.inspect_err(|_| {
            let _ = rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR);
        })
    }

    /// Removes an empty folder.
    pub(super) fn remove_folder(&self, folder: &OwnedFd, name: &[u8]) -> Result<()> {
        self.step("rmdir")?;
        rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR)
    }

    /// Makes a link that says `text`.
    pub(super) fn make_link(&self, folder: &OwnedFd, name: &[u8], text: &[u8]) -> Result<()> {
        self.step("symlink")?;
        rustix::fs::symlinkat(text, folder, name)
    }

    /// Gives a file a second name.
    pub(super) fn hard_link(&self, (from, name): (&OwnedFd, &[u8]), (to, second): (&OwnedFd, &[u8])) -> Result<()> {
        self.step("link")?;
        rustix::fs::linkat(from, name, to, second, AtFlags::empty())
    }

    /// Sets attributes of an open thing.
    pub(super) fn set_attributes(&self, thing: BorrowedFd<'_>, new: &NewAttributes) -> super::Result<()> {
        self.step("setattr")?;
        set_attributes(thing, new)
    }

    /// Gives one open file the times of another.
    pub(super) fn copy_times(&self, from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
        self.step("setattr")?;
        let found = rustix::fs::fstat(from)?;
        let time = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
        let last_access = time(found.st_atime, found.st_atime_nsec as i64);
        let last_modification = time(found.st_mtime, found.st_mtime_nsec as i64);
        rustix::fs::futimens(to, &Timestamps { last_access, last_modification })
    }

    /// Flushes the whole file system.
    pub(super) fn flush_all(&self, volume: &OwnedFd) -> Result<()> {
        let flushed = self.step("syncfs").and_then(|()| rustix::fs::syncfs(volume));
        if matches!(flushed, Err(Errno::NOSPC | Errno::DQUOT)) {
            self.is_short.store(true, Ordering::Relaxed);
        }
        flushed
    }

    /// Whether a flush of everything tells all that must be known.
    pub(super) fn can_flush_all(&self) -> bool {
        !self.is_short.load(Ordering::Relaxed)
    }

    /// Flushes one thing. A thing opened only as a path is flushed by way of another descriptor; where there can be none
    /// (a link, a file without read permission) that is `EBADF`, and only a flush of everything helps.
    pub(super) fn flush(&self, thing: BorrowedFd<'_>) -> Result<()> {
        self.step("fsync")?;
        match rustix::fs::fsync(thing) {
            Err(Errno::BADF) => {
                let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
                match rustix::fs::openat(rustix::fs::CWD, proc_path(thing), flags, Mode::empty()) {
                    Ok(file) => rustix::fs::fsync(&file),
                    Err(_) => Err(Errno::BADF),
                }
            }
            result => result,
        }
    }
}

/// What stands under a name; links are not followed.
pub(super) fn look(folder: &OwnedFd, name: &[u8]) -> Result<Attributes> {
    Ok(Attributes::of(&rustix::fs::statat(folder.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW)?))
}
