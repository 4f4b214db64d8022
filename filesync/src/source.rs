//! The data volume of this machine, read only.
//!
//! Every path is opened beneath the data folder by the kernel's own rules: no symbolic link is followed anywhere in it, no
//! other file system is entered. Nothing here writes.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;

use anyhow::Context;
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Statx, StatxFlags, StatxTimestamp};
use rustix::io::Errno;

use crate::tree::{Entry, Kind, PERMISSIONS};

/// How often an open is tried again that a rename elsewhere in the tree disturbed.
const DISTURBED_MAX: usize = 16;

/// How much is read at a time for a hash, in bytes.
const HASHED_BYTES: u64 = 1 << 20;

/// The data folder.
#[derive(Debug)]
pub struct Source {
    root: OwnedFd,
}

impl Source {
    /// Opens the data folder.
    pub fn open(data: &std::path::Path) -> anyhow::Result<Source> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(data, flags, Mode::empty());
        Ok(Source { root: root.with_context(|| format!("cannot open the data folder {}", data.display()))? })
    }

    /// Opens a folder for listing; the empty path is the data folder itself.
    pub fn open_folder(&self, path: &[u8]) -> rustix::io::Result<OwnedFd> {
        let path = if path.is_empty() { b"." } else { path };
        self.open_beneath(path, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// Opens a file for reading.
    pub fn open_file(&self, path: &[u8]) -> io::Result<File> {
        // Without NONBLOCK a pipe that took the file's name would hold us up for ever.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        // The mirror is no reader that anybody asks after; only a file's owner may read it so.
        let file = match self.open_beneath(path, flags | OFlags::NOATIME) {
            Err(Errno::PERM) => self.open_beneath(path, flags)?,
            opened => opened?,
        };
        Ok(File::from(file))
    }

    fn open_beneath(&self, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
        let mut tries = 0;
        loop {
            match rustix::fs::openat2(&self.root, OsStr::from_bytes(path), flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN) if tries < DISTURBED_MAX => tries += 1,
                outcome => return outcome,
            }
        }
    }

    /// What is at a path now.
    pub fn look(&self, path: &[u8]) -> io::Result<Entry> {
        let (folder, name) = (crate::tree::parent(path), crate::tree::name(path));
        let folder = self.open_folder(folder)?;
        entry_at(&folder, name)?.ok_or_else(|| io::Error::other("neither file, folder nor link"))
    }
}

/// The entry of a name in a folder; `None` for what is neither file, folder nor link.
pub fn entry_at(folder: &OwnedFd, name: &[u8]) -> rustix::io::Result<Option<Entry>> {
    let stat = statx(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let Some(mut entry) = entry_of(&stat) else { return Ok(None) };
    if entry.kind == Kind::Link {
        entry.target = rustix::fs::readlinkat(folder, OsStr::from_bytes(name), Vec::new())?.into_bytes().into();
    }
    Ok(Some(entry))
}

/// The entry of an open file.
pub fn entry_of_file(file: &File) -> io::Result<Entry> {
    let stat = statx(file, b"", AtFlags::EMPTY_PATH)?;
    entry_of(&stat).filter(|entry| entry.kind == Kind::File).ok_or_else(|| io::Error::other("it is no file any more"))
}

/// The inode of an open folder.
pub fn ino_of(folder: &OwnedFd) -> rustix::io::Result<u64> {
    Ok(statx(folder, b"", AtFlags::EMPTY_PATH)?.stx_ino)
}

fn statx(at: impl std::os::fd::AsFd, name: &[u8], flags: AtFlags) -> rustix::io::Result<Statx> {
    rustix::fs::statx(at, OsStr::from_bytes(name), flags, StatxFlags::BASIC_STATS | StatxFlags::BTIME)
}

fn entry_of(stat: &Statx) -> Option<Entry> {
    let mode = u32::from(stat.stx_mode);
    let kind = Kind::of_mode(mode)?;
    let ns = |time: &StatxTimestamp| time.tv_sec.saturating_mul(1_000_000_000).saturating_add(i64::from(time.tv_nsec));
    Some(Entry {
        kind,
        mode: mode & PERMISSIONS,
        nlink: stat.stx_nlink,
        size: if kind == Kind::File { stat.stx_size } else { 0 },
        mtime_ns: ns(&stat.stx_mtime),
        ctime_ns: ns(&stat.stx_ctime),
        btime_ns: if stat.stx_mask & StatxFlags::BTIME.bits() != 0 { ns(&stat.stx_btime) } else { 0 },
        ino: stat.stx_ino,
        target: Box::default(),
    })
}

/// The hash of the first `length` bytes of a file, and how many there were.
pub fn hash_of_file(file: &File, length: u64) -> io::Result<(blake3::Hash, u64)> {
    let (mut hasher, mut count) = (blake3::Hasher::new(), 0);
    while count < length {
        let part = read_at(file, count, HASHED_BYTES.min(length - count) as usize)?;
        if part.is_empty() {
            break;
        }
        hasher.update(&part);
        count += part.len() as u64;
    }
    Ok((hasher.finalize(), count))
}

/// Reads up to `length` bytes at an offset; fewer only at the end of the file.
pub fn read_at(file: &File, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut data = vec![0; length];
    let mut filled = 0;
    while let Some(room) = data.get_mut(filled..).filter(|room| !room.is_empty()) {
        match file.read_at(room, offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    data.truncate(filled);
    Ok(data)
}
