//! The order in which both sides are walked: that of the bytes of whole paths, as the store keeps them.
//!
//! A folder's entries come sorted, and what lies in a subfolder comes where its slash sorts: `a`, `a.txt`, `a/x`, `a0`. So two
//! sides and the store are read side by side, and none has to be held whole. There is no I/O here: who walks says what is
//! in a folder when its turn comes.

use std::collections::BTreeSet;
use std::iter::Peekable;
use std::vec::IntoIter;

use crate::tree::{Path, join};

/// The names in a folder, with what is known of each.
pub type Names<T> = Vec<(Vec<u8>, T)>;

/// What comes next on a walk.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn<T> {
    /// Something in a folder. If it is a folder to be entered, [`Walk::descend`] says so now.
    Entry(Path, T),
    /// What lies in this folder: [`Walk::enter`] it, or leave it out.
    Folder(Path),
}

/// A walk that is under way.
#[derive(Debug)]
pub struct Walk<T> {
    top: Option<Path>,
    frames: Vec<Frame<T>>,
}

#[derive(Debug)]
struct Frame<T> {
    folder: Path,
    names: Peekable<IntoIter<(Vec<u8>, T)>>,
    /// Subfolders whose turn is still to come: their names, with the slash that gives them their place.
    subfolders: BTreeSet<Vec<u8>>,
}

impl<T> Walk<T> {
    /// A walk through all that is below a folder.
    pub fn below(top: &[u8]) -> Walk<T> {
        Walk { top: Some(top.to_vec()), frames: Vec::new() }
    }

    /// Says what is in the folder that has just had its turn. A name that a file system tells twice counts once: no path
    /// has two turns.
    pub fn enter(&mut self, folder: Path, mut names: Names<T>) {
        names.sort_by(|(one, _), (other, _)| one.cmp(other));
        names.dedup_by(|(later, _), (first, _)| later == first);
        self.frames.push(Frame { folder, names: names.into_iter().peekable(), subfolders: BTreeSet::new() });
    }

    /// Gives a turn to what lies in the folder that was the last entry.
    pub fn descend(&mut self, name: &[u8]) {
        if let Some(frame) = self.frames.last_mut() {
            frame.subfolders.insert([name, b"/"].concat());
        }
    }

    /// Leaves out what is left of the folder that the last entry was in, but for subfolders that have been met.
    pub fn leave(&mut self) {
        if let Some(frame) = self.frames.last_mut() {
            frame.names = Vec::new().into_iter().peekable();
        }
    }
}

impl<T> Iterator for Walk<T> {
    type Item = Turn<T>;

    fn next(&mut self) -> Option<Turn<T>> {
        if let Some(top) = self.top.take() {
            return Some(Turn::Folder(top));
        }
        loop {
            let frame = self.frames.last_mut()?;
            let is_subfolder = match (frame.subfolders.first(), frame.names.peek()) {
                (Some(subfolder), Some((name, _))) => subfolder < name,
                (subfolder, _) => subfolder.is_some(),
            };
            if is_subfolder && let Some(mut subfolder) = frame.subfolders.pop_first() {
                subfolder.pop();
                return Some(Turn::Folder(join(&frame.folder, &subfolder)));
            }
            match frame.names.next() {
                Some((name, value)) => return Some(Turn::Entry(join(&frame.folder, &name), value)),
                None => drop(self.frames.pop()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::tree::{name, parent, upwards};

    fn walked(paths: &BTreeMap<Path, ()>) -> Vec<Path> {
        let (mut walk, mut found) = (Walk::below(b""), Vec::new());
        while let Some(turn) = walk.next() {
            match turn {
                Turn::Folder(folder) => {
                    // From the last to the first: the walk sorts.
                    let inside = paths.keys().rev().filter(|path| parent(path) == folder);
                    let names = inside.map(|path| (name(path).to_vec(), ())).collect();
                    walk.enter(folder, names);
                }
                Turn::Entry(path, ()) => {
                    walk.descend(name(&path));
                    found.push(path);
                }
            }
        }
        found
    }

    proptest! {
        #[test]
        fn a_walk_goes_by_the_bytes_of_whole_paths(
            parts in proptest::collection::vec(proptest::collection::vec("[a!.0~]{1,3}", 1..4), 0..40),
        ) {
            let mut paths = BTreeMap::new();
            for parts in parts {
                let path = parts.join("/").into_bytes();
                paths.extend(upwards(&path).map(|path| (path.to_vec(), ())));
            }
            prop_assert_eq!(walked(&paths), paths.into_keys().collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_is_left_of_a_folder_can_be_left_out() {
        let mut walk = Walk::below(b"top");
        assert_eq!(walk.next(), Some(Turn::Folder(b"top".to_vec())));
        walk.enter(b"top".to_vec(), vec![(b"a".to_vec(), 1), (b"b".to_vec(), 2), (b"a".to_vec(), 3)]);
        // Told twice, met once.
        assert_eq!(walk.next(), Some(Turn::Entry(b"top/a".to_vec(), 1)));
        walk.descend(b"a");
        walk.leave();
        assert_eq!(walk.next(), Some(Turn::Folder(b"top/a".to_vec())));
        assert_eq!(walk.next(), None);
    }
}
