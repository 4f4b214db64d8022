//! A folder being listed: entries with attributes, each exactly once, read on as the client asks for more.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, StatxFlags};
use rustix::io::Errno;

use super::{Attributes, Result};

/// What tells a folder, or a file, from every other, also from a later one: the system gives the inode number of what was
/// removed to the next that is made, but never with the same time of birth. Where the file system does not know
/// that time it is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FolderId {
    pub(super) inode: u64,
    pub(super) born_ns: i64,
}

impl FolderId {
    /// That of an open thing.
    pub fn of(folder: BorrowedFd<'_>) -> Result<FolderId> {
        FolderId::look(folder, b"", AtFlags::EMPTY_PATH)
    }

    /// That of a folder in another one.
    pub(super) fn at(folder: BorrowedFd<'_>, name: &[u8]) -> Result<FolderId> {
        FolderId::look(folder, name, AtFlags::SYMLINK_NOFOLLOW)
    }

    fn look(folder: BorrowedFd<'_>, name: &[u8], flags: AtFlags) -> Result<FolderId> {
        let found = rustix::fs::statx(folder, name, flags, StatxFlags::INO | StatxFlags::BTIME)?;
        let born = Some(found.stx_btime).filter(|_| found.stx_mask & StatxFlags::BTIME.bits() != 0);
        let born_ns = born.map_or(0, |time| time.tv_sec.saturating_mul(1_000_000_000) + i64::from(time.tv_nsec));
        Ok(FolderId { inode: found.stx_ino, born_ns })
    }
}

/// One entry of a folder.
#[derive(Clone, Debug)]
pub struct FolderEntry {
    /// The name, as bytes.
    pub name: Vec<u8>,
    /// Attributes; a link's are its own.
    pub attributes: Attributes,
}

/// An open folder.
#[derive(Debug)]
pub struct Folder {
    folder: OwnedFd,
    entries: Dir,
}

impl Folder {
    pub(super) fn new(folder: OwnedFd) -> Result<Folder> {
        let entries = Dir::read_from(&folder)?;
        Ok(Folder { folder, entries })
    }

    /// The folder itself.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }

    /// Device and inode of the folder.
    pub fn identity(&self) -> Result<(u64, u64)> {
        Ok(Attributes::of(&rustix::fs::fstat(&self.folder)?).identity)
    }

    /// What tells it from every other folder, also from a later one.
    pub fn id(&self) -> Result<FolderId> {
        FolderId::of(self.folder.as_fd())
    }

    /// Attributes of the folder itself.
    pub fn attributes(&self) -> Result<Attributes> {
        Ok(Attributes::of(&rustix::fs::fstat(&self.folder)?))
    }

    /// The names in it that are left to be read, `.` and `..` not among them.
    pub(super) fn names(self) -> Result<Vec<Vec<u8>>> {
        let mut names = Vec::new();
        for entry in self.entries {
            names.push(entry?.file_name().to_bytes().to_vec());
        }
        names.retain(|name| !matches!(name.as_slice(), b"." | b".."));
        Ok(names)
    }

    /// The next entry, `.` and `..` among them; `None` at the end. An entry that vanishes meanwhile is passed over.
    pub fn next_entry(&mut self) -> Result<Option<FolderEntry>> {
        while let Some(entry) = self.entries.next() {
            let name = entry?.file_name().to_bytes().to_vec();
            match rustix::fs::statat(&self.folder, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW) {
                // The root's parent is outside: it shows as the folder itself does.
                Ok(_) if name == b".." => {
                    return Ok(Some(FolderEntry { name, attributes: self.attributes()? }));
                }
                Ok(stat) => return Ok(Some(FolderEntry { name, attributes: Attributes::of(&stat) })),
                Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }
}
