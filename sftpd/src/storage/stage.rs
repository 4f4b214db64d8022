//! An upload that is not published yet: a file in `.pair/stage`, seen by nobody but its handle.
//!
//! A stage that is dropped without having been published is removed; the file under its name, if any, stays as it was.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::{Attributes, Result, StorageError};

/// Files up to this size are copied when one opens them for writing without truncation and the file system has no
/// reflinks; larger ones are refused until in-place writing is journaled.
const COPY_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// An unpublished upload.
#[derive(Debug)]
pub struct Stage {
    pub(super) folder: Arc<OwnedFd>,
    pub(super) name: String,
    pub(super) file: OwnedFd,
    pub(super) published: bool,
}

impl Stage {
    pub(super) fn create(folder: Arc<OwnedFd>, name: String, mode: u32) -> Result<Stage> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&*folder, name.as_str(), flags, Mode::from_raw_mode(0o600))?;
        let stage = Stage { folder, name, file, published: false };
        // The mode is the published file's. The open descriptor stays writable whatever it says.
        rustix::fs::fchmod(&stage.file, Mode::from_raw_mode(mode & 0o7777))?;
        Ok(stage)
    }

    /// Fills the stage with a file's content: by reflink where the file system can, else by copying.
    pub(super) fn fill_from(&self, source: BorrowedFd<'_>, attributes: &Attributes) -> Result<()> {
        if attributes.size == 0 || rustix::fs::ioctl_ficlone(&self.file, source).is_ok() {
            return Ok(());
        }
        if attributes.size > COPY_BYTES_MAX {
            return Err(StorageError::Refused(format!(
                "a file of {} bytes cannot be changed in the middle here (limit {COPY_BYTES_MAX}): upload it whole",
                attributes.size
            )));
        }
        let mut offset = 0;
        loop {
            let mut target = offset;
            let left = (attributes.size - offset.min(attributes.size)) as usize;
            let copied = rustix::fs::copy_file_range(source, Some(&mut offset), &self.file, Some(&mut target), left)?;
            if copied == 0 {
                return Ok(());
            }
        }
    }

    /// The open file.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if !self.published {
            // Nothing can be done about a failure here; the next start removes what is left.
            let _: std::result::Result<(), Errno> =
                rustix::fs::unlinkat(&*self.folder, self.name.as_str(), AtFlags::empty());
        }
    }
}
