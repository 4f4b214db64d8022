//! The way from an agent's folder to what is in it.
//!
//! Always holds: the kernel confines (`openat2`: beneath the folder, through no link, however names are swapped meanwhile), no path is
//! compared as text to decide that, and only files and folders are opened: a pipe would wait, a device would do worse. Nothing is written.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// How often a path is looked up again when the kernel saw a rename in between and gave up.
const LOOKUPS_MAX: usize = 8;

/// The data volume.
pub struct Volume {
    data: PathBuf,
}

/// An agent's folder.
pub struct Home {
    folder: OwnedFd,
}

impl Volume {
    /// The one that is mounted here.
    pub fn new(data: PathBuf) -> Volume {
        Volume { data }
    }

    /// Why nothing can be read, in a sentence; none where it can.
    pub fn fault(&self) -> Option<String> {
        let shown = self.data.display();
        match self.root() {
            Ok(_) => None,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Some(format!(
                "There is no folder {shown}: where the data volume is mounted elsewhere, name it in the setting data; in containers, mount it there, read-only."
            )),
            Err(error) => Some(format!("{shown} cannot be read: {error}")),
        }
    }

    /// A folder of it.
    pub fn home(&self, path: &[u8]) -> io::Result<Home> {
        let root = self.root()?;
        Ok(Home { folder: beneath(&root, path, OFlags::PATH | OFlags::DIRECTORY)? })
    }

    fn root(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(CWD, &self.data, flags, Mode::empty())?)
    }
}

impl Home {
    /// A file. What is no plain file is as if it were not there.
    pub fn file(&self, path: &[u8]) -> io::Result<File> {
        let file = beneath(&self.folder, path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        match FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) {
            FileType::RegularFile => Ok(file.into()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// A folder, to be listed; itself where the path is empty.
    pub fn folder(&self, path: &[u8]) -> io::Result<OwnedFd> {
        beneath(&self.folder, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK)
    }
}

fn beneath(folder: &OwnedFd, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    let path = if path.is_empty() { b".".as_slice() } else { path };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut result = Err(Errno::AGAIN);
    for _ in 0..LOOKUPS_MAX {
        result = rustix::fs::openat2(folder, path, flags, Mode::empty(), resolve);
        if !matches!(result, Err(Errno::AGAIN | Errno::INTR)) {
            break;
        }
    }
    result.map_err(|errno| match errno {
        // Links, ways out and names that nothing can have: nothing is there.
        Errno::LOOP | Errno::XDEV | Errno::NOTDIR | Errno::INVAL | Errno::NAMETOOLONG | Errno::NXIO | Errno::NODEV => {
            io::ErrorKind::NotFound.into()
        }
        errno => errno.into(),
    })
}
