//! Counting what a folder holds, by walking it.
//!
//! Always holds: no link is followed and nothing outside the folder is seen; a file with several names counts once; only
//! a few descriptors are open at a time, however many folders there are. It remembers nothing.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use rustix::io::Errno;

use super::super::{FileKind, FolderEntry, FolderId, Result, Root, StorageError};

/// Paths are opened in one piece up to this many bytes; the system takes 4096.
const PATH_BYTES_MAX: usize = 2048;

/// Names in folders.
pub(in super::super) type Names = HashMap<FolderId, Vec<Vec<u8>>>;

/// What a folder holds.
#[derive(Debug, Default)]
pub(in super::super) struct Counted {
    /// Bytes of all files.
    pub bytes: u64,
    /// What stands under the names that were looked for, in bytes; 0 where nothing does. Only names in folders that the
    /// walk came to.
    pub found: HashMap<(FolderId, Vec<u8>), u64>,
}

/// A folder that was not looked into yet.
struct Pending {
    base: Arc<Root>,
    path: Vec<u8>,
}

/// Walks a folder. What vanishes meanwhile, or may not be read, holds nothing that could be counted.
pub(super) fn count(home: Root, names: &Names) -> Result<Counted> {
    let mut counted = Counted::default();
    let mut seen = HashSet::new();
    let mut pending = vec![Pending { base: Arc::new(home), path: Vec::new() }];
    while let Some(folder) = pending.pop() {
        match look_into(folder, names, &mut seen, &mut counted, &mut pending) {
            Err(StorageError::System(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS)) => {}
            looked => looked?,
        }
    }
    Ok(counted)
}

fn look_into(
    Pending { mut base, mut path }: Pending,
    names: &Names,
    seen: &mut HashSet<(u64, u64)>,
    counted: &mut Counted,
    pending: &mut Vec<Pending>,
) -> Result<()> {
    if path.len() > PATH_BYTES_MAX {
        base = Arc::new(base.inner(&path)?);
        path.clear();
    }
    let mut folder = base.open_folder(&path)?;
    let id = folder.id()?;
    let wanted = names.get(&id).map_or(&[][..], Vec::as_slice);
    counted.found.extend(wanted.iter().map(|name| ((id, name.clone()), 0)));
    while let Some(FolderEntry { name, attributes }) = folder.next_entry()? {
        match attributes.kind {
            FileKind::File => {
                if wanted.contains(&name) {
                    counted.found.insert((id, name), attributes.bytes_that_go_with_a_name());
                }
                if attributes.links < 2 || seen.insert(attributes.identity) {
                    counted.bytes = counted.bytes.saturating_add(attributes.size);
                }
            }
            FileKind::Folder if name != b"." && name != b".." => {
                let path = if path.is_empty() { name } else { [path.as_slice(), &name].join(&b'/') };
                pending.push(Pending { base: base.clone(), path });
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    fn counted(folder: &std::path::Path, names: &Names) -> Counted {
        let flags = super::super::super::mounted::FOLDER_FLAGS;
        let folder = rustix::fs::openat(rustix::fs::CWD, folder, flags, rustix::fs::Mode::empty()).unwrap();
        count(Root::without_links(folder), names).unwrap()
    }

    #[test]
    fn every_file_counts_once_and_nothing_behind_a_link_does() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("home");
        std::fs::create_dir_all(home.join("in/deep")).unwrap();
        std::fs::write(folder.path().join("outside"), [1; 1000]).unwrap();
        std::fs::write(home.join("x"), [1; 10]).unwrap();
        std::fs::write(home.join("in/deep/y"), [1; 7]).unwrap();
        std::fs::hard_link(home.join("x"), home.join("in/second")).unwrap();
        std::os::unix::fs::symlink("../outside", home.join("link")).unwrap();
        std::os::unix::fs::symlink("..", home.join("in/up")).unwrap();
        assert_eq!(counted(&home, &Names::new()).bytes, 17);
    }

    #[test]
    fn what_is_looked_for_is_found_with_what_its_name_holds() {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in [("x", 10), ("linked", 5)] {
            std::fs::write(folder.path().join(name), vec![1; bytes]).unwrap();
        }
        std::fs::hard_link(folder.path().join("linked"), folder.path().join("second")).unwrap();
        let flags = super::super::super::mounted::FOLDER_FLAGS;
        let opened = rustix::fs::openat(rustix::fs::CWD, folder.path(), flags, rustix::fs::Mode::empty()).unwrap();
        let id = FolderId::of(opened.as_fd()).unwrap();
        let elsewhere = FolderId { born_ns: id.born_ns + 1, ..id };
        let name = |name: &str| name.as_bytes().to_vec();
        let names = Names::from([(id, vec![name("x"), name("linked"), name("new")]), (elsewhere, vec![name("y")])]);
        let found = counted(folder.path(), &names).found;
        let expected = [("x", 10), ("linked", 0), ("new", 0)].map(|(text, bytes)| ((id, name(text)), bytes));
        assert_eq!(found, HashMap::from(expected));
    }

    #[test]
    fn a_tree_deeper_than_any_path_is_counted_whole() {
        let folder = tempfile::tempdir().unwrap();
        let (name, flags) = ("n".repeat(250), super::super::super::mounted::FOLDER_FLAGS);
        let mut inner = rustix::fs::openat(rustix::fs::CWD, folder.path(), flags, rustix::fs::Mode::empty()).unwrap();
        for _ in 0..40 {
            rustix::fs::mkdirat(&inner, name.as_str(), rustix::fs::Mode::from_raw_mode(0o755)).unwrap();
            inner = rustix::fs::openat(&inner, name.as_str(), flags, rustix::fs::Mode::empty()).unwrap();
            let create = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY;
            let mode = rustix::fs::Mode::from_raw_mode(0o644);
            let file = rustix::fs::openat(&inner, "file", create, mode).unwrap();
            rustix::io::write(&file, &[1; 10]).unwrap();
        }
        assert_eq!(counted(folder.path(), &Names::new()).bytes, 400);
    }

    #[test]
    fn many_folders_beside_each_other_take_few_descriptors() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..500 {
            let inner = folder.path().join(number.to_string());
            std::fs::create_dir(&inner).unwrap();
            std::fs::write(inner.join("file"), [1; 2]).unwrap();
        }
        assert_eq!(counted(folder.path(), &Names::new()).bytes, 1000);
    }
}
