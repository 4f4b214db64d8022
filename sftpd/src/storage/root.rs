//! A folder that a session takes for `/`, and the way from a client's path to something beneath it.
//!
//! The kernel confines: every path goes through `openat2` with RESOLVE_IN_ROOT, which treats `..` and absolute links as
//! a chroot does, also while somebody swaps a folder for a link. No path is ever compared as text to decide that.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps};
use rustix::io::Errno;

use super::Result;
use super::folder::{Folder, FolderId};

/// Links that one path may lead through, as in Linux itself.
const LINKS_MAX: usize = 40;

/// How often a path is looked up again when the kernel saw a rename in between and gave up.
const LOOKUPS_MAX: usize = 8;

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

/// A name in a folder that is held open: what a change happens to. Renaming the folder carries it along.
#[derive(Clone, Debug)]
pub struct Place {
    pub(super) folder: Arc<OwnedFd>,
    pub(super) name: Vec<u8>,
}

impl Place {
    /// The name, without any folder.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// What stands there now; links are not followed.
    pub fn attributes(&self) -> Result<Attributes> {
        Ok(Attributes::of(&rustix::fs::statat(&*self.folder, self.name.as_slice(), AtFlags::SYMLINK_NOFOLLOW)?))
    }

    /// What tells the folder that stands there from every other.
    pub fn id(&self) -> Result<FolderId> {
        FolderId::at(self.folder.as_fd(), &self.name)
    }

    /// Device and inode of the folder.
    pub fn folder_identity(&self) -> Result<(u64, u64)> {
        Ok(Attributes::of(&rustix::fs::fstat(&*self.folder)?).identity)
    }
}

/// A folder that a session takes for `/`.
#[derive(Debug)]
pub struct Root {
    folder: OwnedFd,
    resolve: ResolveFlags,
}

impl Root {
    pub(super) fn new(folder: OwnedFd) -> Root {
        Root { folder, resolve: ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS }
    }

    /// A root in which no link is ever followed: what replication writes through. A folder that was swapped for a link
    /// is an error there, never a way elsewhere.
    pub(super) fn without_links(folder: OwnedFd) -> Root {
        Root { folder, resolve: ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS }
    }

    /// Device and inode of the root itself.
    pub fn identity(&self) -> Result<(u64, u64)> {
        Ok(Attributes::of(&rustix::fs::fstat(&self.folder)?).identity)
    }

    fn lookup(&self, path: &[u8], flags: OFlags, mode: Mode) -> Result<OwnedFd> {
        let path = if path.is_empty() { b".".as_slice() } else { path };
        let mut result = Err(Errno::AGAIN);
        for _ in 0..LOOKUPS_MAX {
            result = rustix::fs::openat2(&self.folder, path, flags | OFlags::CLOEXEC, mode, self.resolve);
            if !matches!(result, Err(Errno::AGAIN | Errno::INTR)) {
                break;
            }
        }
        Ok(result?)
    }

    /// Attributes of a path, links followed.
    pub fn stat(&self, path: &[u8]) -> Result<Attributes> {
        let thing = self.lookup(path, OFlags::PATH, Mode::empty())?;
        Ok(Attributes::of(&rustix::fs::fstat(&thing)?))
    }

    /// Attributes of a path; a link at its end is not followed.
    pub fn lstat(&self, path: &[u8]) -> Result<Attributes> {
        let thing = self.lookup(path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty())?;
        Ok(Attributes::of(&rustix::fs::fstat(&thing)?))
    }

    /// Opens a file for reading. Nothing but a file can be opened: a pipe would block, a device would do worse.
    pub fn open_file(&self, path: &[u8]) -> Result<(OwnedFd, Attributes)> {
        let file = self.lookup(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY, Mode::empty())?;
        only_files(file)
    }

    /// Opens a file in place, for reading and writing, creating it where `create` gives a mode.
    ///
    /// This is how replication and `upload: direct` write: what they write is visible at once.
    pub fn open_in_place(&self, path: &[u8], create: Option<u32>, exclusive: bool) -> Result<(OwnedFd, Attributes)> {
        let mut flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOCTTY;
        if create.is_some() {
            flags |= OFlags::CREATE;
        }
        if exclusive {
            flags |= OFlags::EXCL;
        }
        let mode = Mode::from_raw_mode(create.unwrap_or(0) & 0o7777);
        only_files(self.lookup(path, flags, mode)?)
    }

    /// A folder beneath it, as a root of the same kind.
    pub(super) fn inner(&self, path: &[u8]) -> Result<Root> {
        let folder = self.lookup(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
        Ok(Root { folder, resolve: self.resolve })
    }

    /// Opens a folder for listing.
    pub fn open_folder(&self, path: &[u8]) -> Result<Folder> {
        Folder::new(self.lookup(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?)
    }

    /// The folder and name that a path ends in. The name itself is not looked at, so it may be missing or a link.
    pub fn place(&self, path: &[u8]) -> Result<Place> {
        let (parent, name) = split(path);
        if name.is_empty() || name == b"." || name == b".." {
            // The root itself, or a path that ends in dots: nothing can be made, renamed or removed there.
            return Err(Errno::BUSY.into());
        }
        let folder = self.lookup(parent, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
        Ok(Place { folder: Arc::new(folder), name: name.to_vec() })
    }

    /// As [`Root::place`], but a link at the end is followed to where it leads, which may be missing.
    pub fn place_behind_links(&self, path: &[u8]) -> Result<Place> {
        let mut path = path.to_vec();
        for _ in 0..LINKS_MAX {
            let place = self.place(&path)?;
            match place.attributes() {
                Ok(attributes) if attributes.kind == FileKind::Link => {
                    let text = rustix::fs::readlinkat(&*place.folder, place.name.as_slice(), Vec::new())?;
                    path = behind(&path, text.as_bytes());
                }
                _ => return Ok(place),
            }
        }
        Err(Errno::LOOP.into())
    }

    /// The text of a link.
    pub fn read_link(&self, path: &[u8]) -> Result<Vec<u8>> {
        let link = self.lookup(path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty())?;
        Ok(rustix::fs::readlinkat(&link, "", Vec::new())?.into_bytes())
    }

    /// The canonical form of a path: absolute, without links or dots. Its last component may be missing.
    pub fn canonical(&self, path: &[u8]) -> Result<Vec<u8>> {
        match self.lookup(path, OFlags::PATH, Mode::empty()) {
            Ok(thing) => self.path_of(thing.as_fd()),
            Err(super::StorageError::System(Errno::NOENT)) => {
                let place = self.place(path)?;
                let mut canonical = self.path_of(place.folder.as_fd())?;
                if canonical != b"/" {
                    canonical.push(b'/');
                }
                canonical.extend_from_slice(&place.name);
                Ok(canonical)
            }
            Err(error) => Err(error),
        }
    }

    fn path_of(&self, thing: BorrowedFd<'_>) -> Result<Vec<u8>> {
        let (root, thing) = (path_of_fd(self.folder.as_fd())?, path_of_fd(thing)?);
        // The kernel found the thing beneath the root, so this only fails while the root itself is being renamed.
        let inside = thing.strip_prefix(root.as_slice()).ok_or(Errno::NOENT)?;
        Ok(if inside.is_empty() { b"/".to_vec() } else { inside.to_vec() })
    }

    /// A handle on a thing for [`super::Change::SetAttributes`].
    pub fn handle_for_attributes(&self, path: &[u8], follow: bool) -> Result<OwnedFd> {
        let flags = if follow { OFlags::PATH } else { OFlags::PATH | OFlags::NOFOLLOW };
        self.lookup(path, flags, Mode::empty())
    }

    /// Room on the file system that holds a path.
    pub fn room(&self, path: &[u8]) -> Result<rustix::fs::StatVfs> {
        Ok(rustix::fs::fstatvfs(self.lookup(path, OFlags::PATH, Mode::empty())?)?)
    }
}

fn only_files(file: OwnedFd) -> Result<(OwnedFd, Attributes)> {
    let attributes = Attributes::of(&rustix::fs::fstat(&file)?);
    match attributes.kind {
        FileKind::File => Ok((file, attributes)),
        FileKind::Folder => Err(Errno::ISDIR.into()),
        _ => Err(Errno::PERM.into()),
    }
}

/// Splits a path into its folder and its last component; slashes at the end do not count.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let end = path.iter().rposition(|&byte| byte != b'/').map_or(0, |last| last + 1);
    let path = path.get(..end).unwrap_or_default();
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => path.split_at(slash + 1),
        None => (b"".as_slice(), path),
    }
}

/// Where the link at `path` with this text leads.
fn behind(path: &[u8], text: &[u8]) -> Vec<u8> {
    if text.first() == Some(&b'/') {
        return text.to_vec();
    }
    let (parent, _) = split(path);
    let mut path = parent.to_vec();
    if path.last().is_some_and(|&byte| byte != b'/') {
        path.push(b'/');
    }
    path.extend_from_slice(text);
    path
}

/// The path by which the system knows an open thing, also one that was opened only as a path.
pub(super) fn proc_path(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

fn path_of_fd(fd: BorrowedFd<'_>) -> Result<Vec<u8>> {
    Ok(rustix::fs::readlinkat(CWD, proc_path(fd), Vec::new())?.into_bytes())
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
        let (user, group) = (rustix::fs::Uid::from_raw(user), rustix::fs::Gid::from_raw(group));
        rustix::fs::chownat(thing, "", Some(user), Some(group), AtFlags::EMPTY_PATH)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_split_into_folder_and_name() {
        let cases: [(&str, (&str, &str)); 8] = [
            ("/a/b", ("/a/", "b")),
            ("a", ("", "a")),
            ("/a", ("/", "a")),
            ("/a/b///", ("/a/", "b")),
            ("/", ("", "")),
            ("", ("", "")),
            ("a//b", ("a//", "b")),
            ("/a/..", ("/a/", "..")),
        ];
        for (path, (folder, name)) in cases {
            assert_eq!(split(path.as_bytes()), (folder.as_bytes(), name.as_bytes()), "{path}");
        }
    }

    #[test]
    fn a_link_leads_from_its_own_folder_or_from_the_root() {
        assert_eq!(behind(b"/a/link", b"b/c"), b"/a/b/c");
        assert_eq!(behind(b"link", b"b"), b"b");
        assert_eq!(behind(b"/a/link", b"/x"), b"/x");
    }

    fn root() -> (tempfile::TempDir, Root) {
        let outside = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(outside.path().join("root/inner")).unwrap();
        std::fs::write(outside.path().join("secret"), "outside").unwrap();
        std::fs::write(outside.path().join("root/file"), "inside").unwrap();
        let folder = rustix::fs::openat(CWD, outside.path().join("root"), OFlags::PATH, Mode::empty()).unwrap();
        (outside, Root::new(folder))
    }

    #[test]
    fn nothing_outside_the_root_is_reached_or_told_apart_from_missing() {
        let (outside, root) = root();
        let absolute = outside.path().join("secret");
        std::os::unix::fs::symlink(&absolute, outside.path().join("root/absolute")).unwrap();
        std::os::unix::fs::symlink("../secret", outside.path().join("root/relative")).unwrap();
        std::os::unix::fs::symlink("/proc/self/root/etc/passwd", outside.path().join("root/magic")).unwrap();
        for path in ["../secret", "/../../secret", "absolute", "relative", "magic", "inner/../../secret", "/etc/passwd"]
        {
            let missing =
                matches!(root.open_file(path.as_bytes()), Err(crate::storage::StorageError::System(Errno::NOENT)));
            assert!(missing, "{path}");
            assert!(root.stat(path.as_bytes()).is_err(), "{path}");
        }
        assert!(root.open_file(b"/../file").is_ok(), "`..` of the root is the root");
    }

    #[test]
    fn a_write_through_a_link_lands_where_the_link_leads_inside_the_root() {
        let (outside, root) = root();
        std::os::unix::fs::symlink("/inner/target", outside.path().join("root/link")).unwrap();
        let place = root.place_behind_links(b"link").unwrap();
        assert_eq!(place.name(), b"target");
        assert_eq!(place.folder_identity().unwrap(), root.stat(b"inner").unwrap().identity);
        std::os::unix::fs::symlink("loop", outside.path().join("root/loop")).unwrap();
        assert!(root.place_behind_links(b"loop").is_err());
    }

    #[test]
    fn paths_have_one_canonical_form() {
        let (outside, root) = root();
        std::os::unix::fs::symlink("inner", outside.path().join("root/link")).unwrap();
        let cases = [
            ("", "/"),
            (".", "/"),
            ("/..", "/"),
            ("link", "/inner"),
            ("inner/../file", "/file"),
            ("link/new", "/inner/new"),
        ];
        for (path, canonical) in cases {
            assert_eq!(root.canonical(path.as_bytes()).unwrap(), canonical.as_bytes(), "{path}");
        }
        assert!(root.canonical(b"missing/new").is_err());
    }

    #[test]
    fn a_root_without_links_refuses_a_folder_that_was_swapped_for_one() {
        let (outside, _) = root();
        std::os::unix::fs::symlink("inner", outside.path().join("root/link")).unwrap();
        let folder = rustix::fs::openat(CWD, outside.path().join("root"), OFlags::PATH, Mode::empty()).unwrap();
        let root = Root::without_links(folder);
        assert!(root.place(b"link/new").is_err());
        assert!(root.lstat(b"link").is_ok());
    }

    #[test]
    fn attributes_are_set_on_files_folders_and_links() {
        let (outside, root) = root();
        std::os::unix::fs::symlink("file", outside.path().join("root/link")).unwrap();
        let new = NewAttributes { mode: Some(0o600), times: Some((1, 2)), size: Some(3), ..NewAttributes::default() };
        set_attributes(root.handle_for_attributes(b"file", true).unwrap().as_fd(), &new).unwrap();
        let file = root.stat(b"file").unwrap();
        assert_eq!((file.mode & 0o7777, file.modified_s, file.size), (0o600, 2, 3));
        let times = NewAttributes { times: Some((5, 6)), ..NewAttributes::default() };
        set_attributes(root.handle_for_attributes(b"link", false).unwrap().as_fd(), &times).unwrap();
        assert_eq!(root.lstat(b"link").unwrap().modified_s, 6);
        assert_eq!(root.stat(b"link").unwrap().modified_s, 2);
    }
}
