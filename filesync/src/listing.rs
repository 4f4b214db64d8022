//! Walks the data folder.
//!
//! What could not be listed is never taken for absent: each such folder is named as blind, with the reason. `.pair` at the
//! top is left out and never entered. The walk takes no lock and no snapshot: what moves meanwhile may be missed, which is
//! why one listing alone never removes anything.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::Dir;
use rustix::io::Errno;

use crate::order::{self, Names, Turn};
use crate::plan::PRIVATE;
use crate::source::{Source, entry_at, ino_of};
use crate::tree::{Entry, Kind, Path, Tree, name, parent};

/// Something that could not be done, for the path it concerns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The path.
    pub path: Path,
    /// What is wrong and, where known, what to do.
    pub sentence: String,
}

/// What of one side could not be seen.
#[derive(Debug, Default)]
pub struct Unseen {
    /// Folders that could not be listed whole.
    pub blind: Vec<Path>,
    /// What a person should know.
    pub problems: Vec<Problem>,
}

impl Unseen {
    /// A folder could not be listed whole; without a sentence that is nothing but a change under our eyes.
    pub fn is_blind(&mut self, folder: Path, sentence: Option<String>) {
        self.blind.push(folder.clone());
        self.problems.extend(sentence.map(|sentence| Problem { path: folder, sentence }));
    }
}

/// What the walk found.
#[derive(Debug, Default)]
pub struct Listing {
    /// All entries.
    pub tree: Tree,
    /// Folders that could not be listed whole.
    pub blind: Vec<Path>,
    /// What a person should know.
    pub problems: Vec<Problem>,
}

/// Lists the data folder.
pub fn list(source: &Source) -> Listing {
    let mut walk = Walk::new(source);
    let tree = walk.by_ref().collect();
    let Unseen { blind, problems } = walk.unseen;
    Listing { tree, blind, problems }
}

/// A walk through the data folder, in the order of whole paths. It has one folder open at a time, however deep it is.
pub struct Walk<'s> {
    source: &'s Source,
    order: order::Walk<()>,
    /// The folder that is open.
    open: Option<(Path, OwnedFd)>,
    /// The inodes of the folders that were met.
    inos: HashMap<Path, u64>,
    /// What could not be seen so far.
    pub unseen: Unseen,
}

/// Why a folder is blind; nothing where that is but a change under our eyes.
type Reason = Option<String>;

impl<'s> Walk<'s> {
    /// Begins a walk.
    pub fn new(source: &'s Source) -> Walk<'s> {
        Walk::below(source, b"")
    }

    /// Begins a walk through all that is below a folder.
    pub fn below(source: &'s Source, folder: &[u8]) -> Walk<'s> {
        let (order, unseen) = (order::Walk::below(folder), Unseen::default());
        Walk { source, order, open: None, inos: HashMap::new(), unseen }
    }

    /// Reads the names in a folder, as far as they can be read. The error is why that was not all.
    fn read(&mut self, folder: &[u8], names: &mut Names<()>) -> Result<(), Reason> {
        let list_error = |error| Some(cannot("list", error));
        let opened = self.opened(folder)?;
        for name in Dir::read_from(opened).map_err(list_error)? {
            let name = name.map_err(list_error)?;
            let name = name.file_name().to_bytes();
            if name != b"." && name != b".." && !(folder.is_empty() && name == PRIVATE) {
                names.push((name.to_vec(), ()));
            }
        }
        Ok(())
    }

    /// A folder, open: opened again where another was meanwhile, if it is still the same.
    fn opened(&mut self, folder: &[u8]) -> Result<&OwnedFd, Reason> {
        let open = match self.open.take().filter(|(open, _)| open == folder) {
            Some(open) => open,
            None => {
                let opened = self.source.open_folder(folder).map_err(|error| match error {
                    Errno::NOENT | Errno::LOOP | Errno::NOTDIR => None,
                    Errno::XDEV => Some("another file system is mounted here; it is not mirrored".into()),
                    error => Some(cannot("list", error)),
                })?;
                if self.inos.get(folder).is_some_and(|met| ino_of(&opened) != Ok(*met)) {
                    return Err(None);
                }
                (folder.to_vec(), opened)
            }
        };
        Ok(&self.open.insert(open).1)
    }

    /// Looks at a name in a folder; `None` for what is gone and for what is not mirrored.
    fn look(&mut self, path: &[u8]) -> Result<Option<Entry>, Reason> {
        let name = name(path);
        match entry_at(self.opened(parent(path))?, name) {
            Ok(Some(entry)) => Ok(Some(entry)),
            Ok(None) => {
                let sentence = "a socket, pipe or device: only files, folders and links are mirrored".into();
                self.unseen.problems.push(Problem { path: path.to_vec(), sentence });
                Ok(None)
            }
            // Gone, or no link any more, since its name was read.
            Err(Errno::NOENT | Errno::INVAL) => Ok(None),
            Err(error) => Err(Some(format!("{} ({})", cannot("look at", error), OsStr::from_bytes(name).display()))),
        }
    }
}

impl Iterator for Walk<'_> {
    type Item = (Path, Entry);

    fn next(&mut self) -> Option<(Path, Entry)> {
        loop {
            match self.order.next()? {
                Turn::Folder(folder) => {
                    let mut names = Names::new();
                    if let Err(reason) = self.read(&folder, &mut names) {
                        self.unseen.is_blind(folder.clone(), reason);
                    }
                    self.order.enter(folder, names);
                }
                Turn::Entry(path, ()) => match self.look(&path) {
                    Ok(Some(entry)) => {
                        if entry.kind == Kind::Folder {
                            self.inos.insert(path.clone(), entry.ino);
                            self.order.descend(name(&path));
                        }
                        return Some((path, entry));
                    }
                    Ok(None) => {}
                    Err(reason) => {
                        self.order.leave();
                        self.unseen.is_blind(parent(&path).to_vec(), reason);
                    }
                },
            }
        }
    }
}

fn cannot(what: &str, error: Errno) -> String {
    format!("cannot {what} it: {}", std::io::Error::from(error))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn listed(data: &std::path::Path) -> Listing {
        list(&Source::open(data).unwrap())
    }

    #[test]
    fn names_are_bytes_and_links_are_not_followed() {
        let data = tempfile::tempdir().unwrap();
        let long = [b'x'; 255];
        for name in [&b"new\nline"[..], b"not utf-8 \xff\xfe", b"-rf *", &long] {
            std::fs::write(data.path().join(OsStr::from_bytes(name)), b"1").unwrap();
        }
        std::fs::create_dir_all(data.path().join(".pair/stage")).unwrap();
        std::fs::create_dir_all(data.path().join("a/.pair")).unwrap();
        symlink("/etc", data.path().join("link")).unwrap();
        let listing = listed(data.path());
        assert_eq!(listing.tree.len(), 7, "{:?}", listing.tree.keys());
        assert!(listing.tree.contains_key(&b"a/.pair"[..]) && listing.blind.is_empty() && listing.problems.is_empty());
        let link = &listing.tree[&b"link"[..]];
        assert_eq!((link.kind, &*link.target), (Kind::Link, &b"/etc"[..]));
        let file = &listing.tree[&b"new\nline"[..]];
        assert!(file.size == 1 && file.ino != 0 && file.mtime_ns > 0 && file.nlink == 1);
    }

    #[test]
    fn a_pipe_is_a_problem_and_no_entry() {
        let data = tempfile::tempdir().unwrap();
        let pipe = data.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let listing = listed(data.path());
        assert!(listing.tree.is_empty() && listing.blind.is_empty());
        assert_eq!(listing.problems[0].path, b"pipe");
        let error =
            Source::open(data.path()).unwrap().open_file(b"pipe").map(|file| crate::source::entry_of_file(&file));
        assert!(matches!(error, Ok(Err(_)) | Err(_)), "a pipe is not read");
    }

    #[test]
    fn a_folder_that_cannot_be_listed_is_blind_and_the_rest_is_listed() {
        let data = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(data.path().join("closed/in")).unwrap();
        std::fs::write(data.path().join("open"), b"1").unwrap();
        std::fs::set_permissions(data.path().join("closed"), PermissionsExt::from_mode(0o000)).unwrap();
        if std::fs::read_dir(data.path().join("closed")).is_ok() {
            eprintln!("SKIPPED: root lists every folder");
            return;
        }
        let listing = listed(data.path());
        assert_eq!(listing.blind, [b"closed".to_vec()]);
        assert_eq!(listing.tree.len(), 2);
        assert!(listing.problems[0].sentence.contains("Permission denied"));
    }

    #[test]
    fn a_folder_swapped_for_a_link_is_not_entered() {
        let data = tempfile::tempdir().unwrap();
        std::fs::create_dir(data.path().join("a")).unwrap();
        let source = Source::open(data.path()).unwrap();
        let ino = source.look(b"a").unwrap().ino;
        std::fs::remove_dir(data.path().join("a")).unwrap();
        symlink("/etc", data.path().join("a")).unwrap();
        let mut walk = Walk::new(&source);
        walk.inos.insert(b"a".to_vec(), ino);
        assert_eq!(walk.read(b"a", &mut Names::new()), Err(None));
        assert!(walk.look(b"a/passwd").is_err() && source.open_file(b"a/passwd").is_err());
        std::fs::remove_file(data.path().join("a")).unwrap();
        std::fs::create_dir(data.path().join("a")).unwrap();
        walk.inos.insert(b"a".to_vec(), ino + 1_000_000);
        assert_eq!(walk.read(b"a", &mut Names::new()), Err(None));
    }

    #[test]
    fn a_folder_too_deep_to_be_opened_is_blind_for_every_user() {
        let data = tempfile::tempdir().unwrap();
        std::fs::write(data.path().join("beside"), b"1").unwrap();
        let (name, flags) = ("n".repeat(250), rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY);
        let mut folder = rustix::fs::open(data.path(), flags, rustix::fs::Mode::empty()).unwrap();
        for _ in 0..20 {
            rustix::fs::mkdirat(&folder, &*name, 0o755.into()).unwrap();
            folder = rustix::fs::openat(&folder, &*name, flags, rustix::fs::Mode::empty()).unwrap();
        }
        let listing = listed(data.path());
        assert!(listing.blind.len() == 1 && listing.blind[0].len() > 4000, "{} are blind", listing.blind.len());
        assert!(listing.problems[0].sentence.contains("cannot list it"), "{}", listing.problems[0].sentence);
        assert!(listing.tree.contains_key(&b"beside"[..]) && listing.tree.contains_key(&listing.blind[0]));
    }
}
