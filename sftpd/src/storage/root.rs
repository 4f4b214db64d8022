//! A folder that a session takes for `/`, and the way from a client's path to something beneath it.
//!
//! The kernel confines: every path goes through `openat2` with RESOLVE_IN_ROOT, which treats `..` and absolute links as
//! a chroot does, also while somebody swaps a folder for a link. No path is ever compared as text to decide that.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::Result;
use super::attributes::{Attributes, FileKind};
use super::folder::{Folder, FolderId};

/// Links that one path may lead through, as in Linux itself.
const LINKS_MAX: usize = 40;

/// How often a path is looked up again when the kernel saw a rename in between and gave up.
const LOOKUPS_MAX: usize = 8;

/// The system's limit for a path, in bytes, with the NUL that it ends in.
pub const PATH_BYTES_MAX: usize = 4096;

/// A name in a folder that is held open: what a change happens to. Renaming the folder carries it along.
#[derive(Clone, Debug)]
pub struct Place {
    pub(super) folder: Arc<OwnedFd>,
    pub(super) name: Vec<u8>,
    /// What must stand there, for a change that was allowed on the strength of it.
    pub(super) expected: Option<FolderId>,
    /// How long it must be as well, in bytes.
    expected_bytes: Option<u64>,
    /// What tells the folder from every other, once somebody has asked: it stays the same while the folder is open.
    folder_id: OnceLock<FolderId>,
}

impl Place {
    pub(super) fn new(folder: Arc<OwnedFd>, name: &[u8]) -> Place {
        Place { folder, name: name.to_vec(), expected: None, expected_bytes: None, folder_id: OnceLock::new() }
    }

    /// What tells its folder from every other.
    pub(super) fn folder_id(&self) -> Result<FolderId> {
        if let Some(id) = self.folder_id.get() {
            return Ok(*id);
        }
        let id = FolderId::of(self.folder.as_fd())?;
        Ok(*self.folder_id.get_or_init(|| id))
    }

    /// The name, without any folder.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// The same place, for a change of nothing but what stands there now: whatever takes the name meanwhile is left alone.
    pub fn only_as_it_is(self) -> Result<Place> {
        Ok(Place { expected: Some(self.id()?), ..self })
    }

    /// As [`Place::only_as_it_is`], and only while it is so long: what has grown meanwhile is left alone, with `EBUSY`.
    pub fn only_so_long(self, bytes: u64) -> Result<Place> {
        Ok(Place { expected_bytes: Some(bytes), ..self.only_as_it_is()? })
    }

    /// Whether it is for a change of what stands there.
    pub fn is_expected(&self) -> bool {
        self.expected.is_some()
    }

    /// Refuses what is no longer what it was to be.
    pub(super) fn check_expected(&self) -> Result<()> {
        match self.expected {
            Some(expected) if self.id()? != expected => return Err(Errno::NOENT.into()),
            _ => {}
        }
        match self.expected_bytes {
            Some(bytes) if self.attributes()?.size != bytes => Err(Errno::BUSY.into()),
            _ => Ok(()),
        }
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

    /// One of the fuzzers' own.
    #[cfg(any(test, fuzzing))]
    pub fn of(folder: OwnedFd) -> Root {
        Root::new(folder)
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
    #[cfg(any(test, fuzzing))]
    pub fn stat(&self, path: &[u8]) -> Result<Attributes> {
        let thing = self.lookup(path, OFlags::PATH, Mode::empty())?;
        Ok(Attributes::of(&rustix::fs::fstat(&thing)?))
    }

    /// Attributes of a path; a link at its end is not followed.
    #[cfg(any(test, fuzzing))]
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
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOCTTY;
        let Some(mode) = create.map(|mode| Mode::from_raw_mode(mode & 0o7777)) else {
            return only_files(self.lookup(path, flags, Mode::empty())?);
        };
        match self.lookup(path, flags | OFlags::CREATE | OFlags::EXCL, mode) {
            Err(super::StorageError::System(Errno::EXIST)) if !exclusive => {}
            made => {
                let made = made?;
                // The process's own mask has taken bits away that were asked for.
                rustix::fs::fchmod(&made, mode)?;
                return only_files(made);
            }
        }
        // A link that leads nowhere yet is there too: what it leads to is made.
        only_files(self.lookup(path, flags | OFlags::CREATE, mode)?)
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

    /// The folder and name that a path ends in. What stands there may be missing or a link, but only a folder goes by a
    /// path with a slash at its end, as everywhere on Unix.
    pub fn place(&self, path: &[u8]) -> Result<Place> {
        let place = self.place_for_folder(path)?;
        if path.ends_with(b"/") && place.attributes().is_ok_and(|found| found.kind != FileKind::Folder) {
            return Err(Errno::NOTDIR.into());
        }
        Ok(place)
    }

    /// The same, with what stands there.
    pub fn look(&self, path: &[u8]) -> Result<(Place, Result<Attributes>)> {
        let place = self.place(path)?;
        let found = place.attributes();
        Ok((place, found))
    }

    /// The folder and name for a new folder: a slash at the end says nothing there.
    pub fn place_for_folder(&self, path: &[u8]) -> Result<Place> {
        if path.len() >= PATH_BYTES_MAX {
            // The kernel would see the parts only, and what it made could be asked for by no path.
            return Err(Errno::NAMETOOLONG.into());
        }
        let (parent, name) = split(path);
        if name.is_empty() || name == b"." || name == b".." {
            // The root itself, or a path that ends in dots: nothing can be made, renamed or removed there.
            return Err(Errno::BUSY.into());
        }
        let folder = self.lookup(parent, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
        Ok(Place::new(Arc::new(folder), name))
    }

    /// The folder and name for something new that is no folder.
    pub fn place_for_thing(&self, path: &[u8]) -> Result<Place> {
        let place = self.place_for_folder(path)?;
        if path.ends_with(b"/") && place.attributes().is_err() {
            return Err(Errno::NOENT.into());
        }
        Ok(place)
    }

    /// As [`Root::place`], but a link at the end is followed to where it leads, which may be missing.
    pub fn place_behind_links(&self, path: &[u8]) -> Result<Place> {
        Ok(self.look_behind_links(path)?.0)
    }

    /// The same, with what stands there.
    pub fn look_behind_links(&self, path: &[u8]) -> Result<(Place, Result<Attributes>)> {
        if path.ends_with(b"/") {
            // Nothing but a folder, or a link to one, goes by that.
            self.lookup(path, OFlags::PATH, Mode::empty())?;
        }
        let mut path = path.to_vec();
        for _ in 0..LINKS_MAX {
            let place = self.place_for_folder(&path)?;
            match place.attributes() {
                Ok(attributes) if attributes.kind == FileKind::Link => {
                    let text = rustix::fs::readlinkat(&*place.folder, place.name.as_slice(), Vec::new())?;
                    path = behind(&path, text.as_bytes());
                }
                found => return Ok((place, found)),
            }
        }
        Err(Errno::LOOP.into())
    }

    /// The canonical form of a path: absolute, without links or dots. Its last component may be missing.
    pub fn canonical(&self, path: &[u8]) -> Result<Vec<u8>> {
        // OpenSSH does not mind a slash here behind a file that is there.
        let is_bare = !path.ends_with(b"/");
        let end = path.iter().rposition(|byte| *byte != b'/').map_or(path.len().min(1), |last| last + 1);
        let path = path.get(..end).unwrap_or_default();
        match self.lookup(path, OFlags::PATH, Mode::empty()) {
            Ok(thing) => self.path_of(thing.as_fd()),
            Err(super::StorageError::System(Errno::NOENT)) if is_bare => {
                // A link that leads nowhere yet stands for where it leads to, as it does for OPEN.
                let place = self.place_behind_links(path)?;
                self.path_of_place(&place)
            }
            Err(error) => Err(error),
        }
    }

    /// The path of a place as it is now, whatever the folders on the way were called.
    pub fn path_of_place(&self, place: &Place) -> Result<Vec<u8>> {
        let mut path = self.path_of(place.folder.as_fd())?;
        if path != b"/" {
            path.push(b'/');
        }
        path.extend_from_slice(&place.name);
        Ok(path)
    }

    /// The path of an open thing as it is now.
    pub fn path_of(&self, open: BorrowedFd<'_>) -> Result<Vec<u8>> {
        let (root, thing) = (path_of_fd(self.folder.as_fd())?, path_of_fd(open)?);
        // The kernel found the thing beneath the root, so this only fails while the root itself is being renamed.
        let inside = thing.strip_prefix(root.as_slice()).ok_or(Errno::NOENT)?;
        // So the system calls what has no name any more, and perhaps what somebody has called so.
        if inside.ends_with(b" (deleted)") {
            let named = self.lookup(inside, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty())?;
            if Attributes::of(&rustix::fs::fstat(&named)?).identity
                != Attributes::of(&rustix::fs::fstat(open)?).identity
            {
                return Err(Errno::NOENT.into());
            }
        }
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

/// The text of an open link.
pub fn read_link(link: &OwnedFd) -> Result<Vec<u8>> {
    Ok(rustix::fs::readlinkat(link, "", Vec::new())?.into_bytes())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::attributes::{NewAttributes, set_attributes};

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
