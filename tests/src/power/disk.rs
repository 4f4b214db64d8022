//! A disk that remembers in which order writes and flushes reached it: one file of a FUSE file system.
//!
//! Always holds: a write is in the log before it is answered, and requests are served one at a time. So a flush in the
//! log covers every write before it, and an answer that somebody got because of a write comes after it. Nothing is held
//! back by a cache: the kernel's write-back for FUSE stays off. It never loses anything itself; `crash` does.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, Generation, INodeNo, LockOwner, MountOption, OpenFlags,
    ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyWrite, Request, WriteFlags,
};

use super::mount::unmount;

const NAME: &str = "disk";
const DISK: INodeNo = INodeNo(2);
const FOREVER: Duration = Duration::from_secs(1 << 30);

/// What reached the disk.
#[derive(Clone, Debug)]
pub enum Event {
    /// Bytes came.
    Write {
        /// Where.
        offset: usize,
        /// What.
        bytes: Arc<[u8]>,
    },
    /// What came before is to be durable.
    Flush,
}

#[derive(Default)]
struct Content {
    now: Vec<u8>,
    log: Vec<Event>,
}

/// The disk. Unmount what is on it before it is dropped.
pub struct LoggedDisk {
    folder: PathBuf,
    first: Vec<u8>,
    content: Arc<Mutex<Content>>,
    session: Option<fuser::BackgroundSession>,
}

impl LoggedDisk {
    /// Serves a disk that holds `first` as a file in `folder`.
    pub fn serve(first: Vec<u8>, folder: &Path) -> std::io::Result<LoggedDisk> {
        let content = Arc::new(Mutex::new(Content { now: first.clone(), log: Vec::new() }));
        let mut config = fuser::Config::default();
        config.mount_options = vec![MountOption::FSName("sftp-ha-power".into()), MountOption::NoAtime];
        let session = fuser::Session::new(Served(content.clone()), folder, &config)?.spawn()?;
        Ok(LoggedDisk { folder: folder.to_owned(), first, content, session: Some(session) })
    }

    /// Its file.
    pub fn path(&self) -> PathBuf {
        self.folder.join(NAME)
    }

    /// How many events there were so far.
    pub fn position(&self) -> usize {
        lock(&self.content).log.len()
    }

    /// What it held at first.
    pub fn first(&self) -> &[u8] {
        &self.first
    }

    /// All events so far.
    pub fn log(&self) -> Vec<Event> {
        lock(&self.content).log.clone()
    }
}

impl Drop for LoggedDisk {
    fn drop(&mut self) {
        unmount(&self.folder);
        drop(self.session.take());
    }
}

fn lock(content: &Mutex<Content>) -> MutexGuard<'_, Content> {
    content.lock().expect("not poisoned")
}

/// The file system: a folder with one file in it.
struct Served(Arc<Mutex<Content>>);

impl Served {
    fn attributes(&self, inode: INodeNo) -> FileAttr {
        let is_disk = inode == DISK;
        let size = if is_disk { lock(&self.0).now.len() as u64 } else { 0 };
        FileAttr {
            ino: inode,
            size,
            blocks: size / 512,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: if is_disk { FileType::RegularFile } else { FileType::Directory },
            perm: if is_disk { 0o600 } else { 0o700 },
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }

    fn write_at(&self, offset: u64, bytes: Arc<[u8]>) -> Result<(), Errno> {
        let (mut content, offset) = (lock(&self.0), offset as usize);
        let place = content.now.get_mut(offset..offset + bytes.len()).ok_or(Errno::ENOSPC)?;
        place.copy_from_slice(&bytes);
        content.log.push(Event::Write { offset, bytes });
        Ok(())
    }
}

impl Filesystem for Served {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match name == NAME {
            true => reply.entry(&FOREVER, &self.attributes(DISK), Generation(0)),
            false => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&FOREVER, &self.attributes(inode));
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let content = lock(&self.0);
        let from = content.now.len().min(offset as usize);
        let to = content.now.len().min(from + size as usize);
        reply.data(&content.now[from..to]);
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.write_at(offset, data.into()) {
            Ok(()) => reply.written(data.len() as u32),
            Err(error) => reply.error(error),
        }
    }

    /// The end of a descriptor, which no disk hears of.
    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        lock(&self.0).log.push(Event::Flush);
        reply.ok();
    }

    /// The loop driver discards and zeroes by it. A disk may do either late, so both are writes of zeros.
    fn fallocate(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        const EXTEND_ONLY: i32 = 0;
        match mode {
            EXTEND_ONLY => reply.error(Errno::EOPNOTSUPP),
            _ => match self.write_at(offset, vec![0; length as usize].into()) {
                Ok(()) => reply.ok(),
                Err(error) => reply.error(error),
            },
        }
    }
}
