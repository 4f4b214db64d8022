//! A folder being listed: entries with attributes, each exactly once, read on as the client asks for more.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Dir};
use rustix::io::Errno;

use super::{Attributes, Result};

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

    /// Device and inode of the folder.
    pub fn identity(&self) -> Result<(u64, u64)> {
        Ok(Attributes::of(&rustix::fs::fstat(&self.folder)?).identity)
    }

    /// Attributes of the folder itself.
    pub fn attributes(&self) -> Result<Attributes> {
        Ok(Attributes::of(&rustix::fs::fstat(&self.folder)?))
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
