//! What is known of a thing on the volume, and what may be set of it.
//!
//! Things are reached by open descriptors only, never by a path of a client's.

use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, Stat, Timespec, Timestamps};
use rustix::io::Errno;

use super::Result;
use super::root::proc_path;

/// What kind of thing a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Link,
    /// A socket, device or pipe: listed, but never opened.
    Other,
}

/// What is known of a thing on the volume.
#[derive(Clone, Copy, Debug)]
pub struct Attributes {
    /// What it is.
    pub kind: FileKind,
    /// Size in bytes.
    pub size: u64,
    /// Mode with type bits.
    pub mode: u32,
    /// Owner's number.
    pub user: u32,
    /// Group's number.
    pub group: u32,
    /// Last read, in seconds since 1970.
    pub accessed_s: i64,
    /// Last change of content, in seconds since 1970.
    pub modified_s: i64,
    /// Names that stand for it.
    pub links: u64,
    /// Device and inode: the thing's identity while it lives.
    pub identity: (u64, u64),
}

impl Attributes {
    pub(super) fn of(stat: &Stat) -> Attributes {
        let kind = match rustix::fs::FileType::from_raw_mode(stat.st_mode) {
            rustix::fs::FileType::RegularFile => FileKind::File,
            rustix::fs::FileType::Directory => FileKind::Folder,
            rustix::fs::FileType::Symlink => FileKind::Link,
            _ => FileKind::Other,
        };
        Attributes {
            kind,
            size: stat.st_size as u64,
            mode: stat.st_mode,
            user: stat.st_uid,
            group: stat.st_gid,
            accessed_s: stat.st_atime,
            modified_s: stat.st_mtime,
            links: stat.st_nlink,
            identity: (stat.st_dev, stat.st_ino),
        }
    }

    /// Bytes that are gone when one name of the thing is: none where it has another.
    pub(super) fn bytes_that_go_with_a_name(&self) -> u64 {
        if self.kind == FileKind::File && self.links < 2 { self.size } else { 0 }
    }
}

/// Attributes to set; what is `None` stays.
#[derive(Clone, Copy, Debug, Default)]
pub struct NewAttributes {
    /// Size in bytes: cut, or grown with zeros.
    pub size: Option<u64>,
    /// Owner and group.
    pub owner: Option<(u32, u32)>,
    /// Mode without type bits.
    pub mode: Option<u32>,
    /// Access and modification time in seconds.
    pub times: Option<(u32, u32)>,
}

/// Attributes of an open thing.
pub fn attributes_of(thing: BorrowedFd<'_>) -> Result<Attributes> {
    Ok(Attributes::of(&rustix::fs::fstat(thing)?))
}

/// Sets attributes of an open thing at once, also of one opened only as a path.
pub(super) fn set_attributes(thing: BorrowedFd<'_>, new: &NewAttributes) -> Result<()> {
    let kind = Attributes::of(&rustix::fs::fstat(thing)?).kind;
    if kind == FileKind::Other {
        return Err(Errno::PERM.into());
    }
    let path = proc_path(thing);
    if let Some(size) = new.size {
        if kind != FileKind::File {
            return Err(if kind == FileKind::Folder { Errno::ISDIR } else { Errno::INVAL }.into());
        }
        let file = rustix::fs::openat(CWD, &path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        rustix::fs::ftruncate(&file, size)?;
    }
    if let Some((user, group)) = new.owner {
        // The highest number stands for nobody: it leaves an owner as it is, for the system as for OpenSSH.
        let user = Some(user).filter(|user| *user != u32::MAX).map(rustix::fs::Uid::from_raw);
        let group = Some(group).filter(|group| *group != u32::MAX).map(rustix::fs::Gid::from_raw);
        rustix::fs::chownat(thing, "", user, group, AtFlags::EMPTY_PATH)?;
    }
    if let Some(mode) = new.mode {
        // A link has no mode of its own on Linux; asking for one is answered, as by OpenSSH, with an error.
        if kind == FileKind::Link {
            return Err(Errno::OPNOTSUPP.into());
        }
        rustix::fs::chmodat(CWD, &path, Mode::from_raw_mode(mode & 0o7777), AtFlags::empty())?;
    }
    if let Some((accessed, modified)) = new.times {
        let at = |seconds: u32| Timespec { tv_sec: i64::from(seconds), tv_nsec: 0 };
        let times = Timestamps { last_access: at(accessed), last_modification: at(modified) };
        if kind == FileKind::Link {
            rustix::fs::utimensat(thing, "", &times, AtFlags::EMPTY_PATH)?;
        } else {
            rustix::fs::utimensat(CWD, &path, &times, AtFlags::empty())?;
        }
    }
    Ok(())
}
