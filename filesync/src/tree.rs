//! Files, folders and links as the planner sees them: what the source has, what a standby shows, what both agreed on.
//!
//! Paths are bytes, relative to the data folder, without a leading slash; the data folder itself is the empty path and
//! never an entry. Every entry's parent is an entry too. There is no I/O here.

use std::collections::BTreeMap;
use std::ops::Bound;

/// A path below the data folder.
pub type Path = Vec<u8>;

/// What something is. Anything else (sockets, devices, pipes) is not mirrored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link; its text is copied, it is never followed.
    Link,
}

impl Kind {
    /// The kind in the type bits of `st_mode`.
    pub fn of_mode(mode: u32) -> Option<Kind> {
        match mode & 0o170000 {
            0o100000 => Some(Kind::File),
            0o040000 => Some(Kind::Folder),
            0o120000 => Some(Kind::Link),
            _ => None,
        }
    }
}

/// The permission bits of a mode, without the type.
pub const PERMISSIONS: u32 = 0o7777;

/// What makes an object the same one under another name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// What it is.
    pub kind: Kind,
    /// Its inode.
    pub ino: u64,
    /// When the inode was made: tells a new object from an old one whose number it got.
    pub btime_ns: i64,
}

/// One thing in the source's listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// Names that the inode has.
    pub nlink: u32,
    /// Content length; 0 for anything but a file.
    pub size: u64,
    /// Last change of the content.
    pub mtime_ns: i64,
    /// Last change of content or attributes; nobody can set it.
    pub ctime_ns: i64,
    /// When the inode was made; 0 where the file system does not tell.
    pub btime_ns: i64,
    /// The inode.
    pub ino: u64,
    /// A link's text.
    pub target: Box<[u8]>,
}

impl Entry {
    /// What makes it the same object under another name.
    pub fn identity(&self) -> Identity {
        Identity { kind: self.kind, ino: self.ino, btime_ns: self.btime_ns }
    }

    /// What a standby shows once it has this.
    pub fn seen(&self) -> Seen {
        Seen {
            kind: self.kind,
            mode: if self.kind == Kind::Link { 0o777 } else { self.mode },
            size: self.size,
            mtime_s: self.mtime_s(),
            target: self.target.clone(),
        }
    }

    /// The modification time as SFTP version 3 carries it: whole seconds from 1970 to 2106.
    pub fn mtime_s(&self) -> u32 {
        self.mtime_ns.div_euclid(1_000_000_000).clamp(0, i64::from(u32::MAX)) as u32
    }

    /// Whether the content can be taken as unchanged. The ctime is part of it: size and mtime are the client's to set.
    pub fn same_content(&self, before: &Entry) -> bool {
        self.same_but_for_ctime(before) && self.ctime_ns == before.ctime_ns
    }

    /// Whether all but the ctime says that the content is unchanged: a change of mode, or an edit that hid itself.
    pub fn same_but_for_ctime(&self, before: &Entry) -> bool {
        let stat = |entry: &Entry| (entry.kind, entry.ino, entry.size, entry.mtime_ns);
        stat(self) == stat(before)
    }
}

/// One thing in a standby's listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// What it is.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// Content length; 0 for anything but a file.
    pub size: u64,
    /// Modification time in seconds.
    pub mtime_s: u32,
    /// A link's text.
    pub target: Box<[u8]>,
}

/// What both sides agreed on for a path, as of the last proven step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// The source then.
    pub source: Entry,
    /// The standby then.
    pub remote: Seen,
}

/// The source's entries by path.
pub type Tree = BTreeMap<Path, Entry>;
/// A standby's entries by path.
pub type Image = BTreeMap<Path, Seen>;
/// What was agreed on, by path.
pub type Bases = BTreeMap<Path, Base>;

/// The folder that a path lies in; the empty path for what lies at the top.
pub fn parent(path: &[u8]) -> &[u8] {
    split(path).0
}

/// The last part of a path.
pub fn name(path: &[u8]) -> &[u8] {
    split(path).1
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (path.get(..slash).unwrap_or_default(), path.get(slash + 1..).unwrap_or_default()),
        None => (&[], path),
    }
}

/// The first part of a path: the folder of an account.
pub fn top(path: &[u8]) -> &[u8] {
    path.split(|byte| *byte == b'/').next().unwrap_or_default()
}

/// The path of a name in a folder.
pub fn join(folder: &[u8], name: &[u8]) -> Path {
    if folder.is_empty() { name.to_vec() } else { [folder, b"/", name].concat() }
}

/// The path itself, then each folder above it; not the data folder.
pub fn upwards(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(path), |path| Some(parent(path))).take_while(|path| !path.is_empty())
}

/// Whether a path lies somewhere below a folder. Everything lies below the data folder.
pub fn is_below(path: &[u8], folder: &[u8]) -> bool {
    folder.is_empty() || path.strip_prefix(folder).is_some_and(|rest| rest.first() == Some(&b'/'))
}

/// Everything below a folder, the folder itself left out.
pub fn below<'t, T>(tree: &'t BTreeMap<Path, T>, folder: &[u8]) -> impl Iterator<Item = (&'t Path, &'t T)> {
    let (from, to) = below_bounds(folder);
    tree.range::<Path, _>((from, to))
}

/// Whether one of the paths is this one, above it or below it.
pub fn meets<T>(paths: &BTreeMap<Path, T>, path: &[u8]) -> bool {
    !paths.is_empty() && (upwards(path).any(|above| paths.contains_key(above)) || below(paths, path).next().is_some())
}

fn below_bounds(folder: &[u8]) -> (Bound<Path>, Bound<Path>) {
    if folder.is_empty() {
        return (Bound::Unbounded, Bound::Unbounded);
    }
    // All descendants share the prefix "folder/", and '0' is the byte after '/'.
    (Bound::Excluded([folder, b"/"].concat()), Bound::Excluded([folder, b"0"].concat()))
}

/// Moves an entry with everything below it to another path; tells each old and new path.
pub fn move_all<T>(tree: &mut BTreeMap<Path, T>, from: &[u8], to: &[u8]) -> Vec<Path> {
    let moving: Vec<Path> = tree
        .get_key_value(from)
        .map(|(path, _)| path.clone())
        .into_iter()
        .chain(below(tree, from).map(|(path, _)| path.clone()))
        .collect();
    let mut arrived = Vec::with_capacity(moving.len());
    for path in moving {
        let Some(value) = tree.remove(&path) else { continue };
        let new = [to, path.get(from.len()..).unwrap_or_default()].concat();
        tree.insert(new.clone(), value);
        arrived.push(new);
    }
    arrived
}

/// Removes an entry with everything below it.
pub fn remove_all<T>(tree: &mut BTreeMap<Path, T>, path: &[u8]) {
    let inside: Vec<Path> = below(tree, path).map(|(path, _)| path.clone()).collect();
    for path in inside {
        tree.remove(&path);
    }
    tree.remove(path);
}

/// A path for people: what is not printable is escaped, so that one record stays one line.
pub fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path)
        .chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_takes_descendants_and_nothing_else() {
        let tree: BTreeMap<Path, ()> =
            ["a", "a b", "a.txt", "a/x", "a/x/y", "a0", "b/a"].into_iter().map(|path| (path.into(), ())).collect();
        let inside: Vec<_> = below(&tree, b"a").map(|(path, _)| shown(path)).collect();
        assert_eq!(inside, ["a/x", "a/x/y"]);
        assert_eq!(below(&tree, b"").count(), 7);
    }

    #[test]
    fn a_subtree_moves_whole() {
        let mut tree: BTreeMap<Path, u8> =
            [("a", 1), ("a.b", 2), ("a/x", 3)].into_iter().map(|(p, v)| (p.into(), v)).collect();
        move_all(&mut tree, b"a", b"z/q");
        assert_eq!(tree.keys().map(|path| shown(path)).collect::<Vec<_>>(), ["a.b", "z/q", "z/q/x"]);
        remove_all(&mut tree, b"z/q");
        assert_eq!(tree.len(), 1);
    }

    #[test]
    fn parts_of_a_path() {
        assert_eq!((parent(b"a/b/c"), name(b"a/b/c"), top(b"a/b/c")), (&b"a/b"[..], &b"c"[..], &b"a"[..]));
        assert_eq!((parent(b"a"), name(b"a"), top(b"a")), (&b""[..], &b"a"[..], &b"a"[..]));
        assert_eq!(upwards(b"a/b").collect::<Vec<_>>(), [&b"a/b"[..], b"a"]);
        assert!(is_below(b"a/b", b"a") && !is_below(b"ab", b"a") && !is_below(b"a", b"a") && is_below(b"a", b""));
    }

    #[test]
    fn a_name_with_a_newline_stays_on_one_line() {
        assert_eq!(shown(b"a\nb\xff"), "a\\nb\u{fffd}");
    }
}
