//! Folder trees: made, taken down as snapshots, compared.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// What stands under one path: enough to see any difference that a user would.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Thing {
    mode: u32,
    modified_s: i64,
    content: Vec<u8>,
}

/// Everything in a folder, by path, but for the pair's own folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot(BTreeMap<PathBuf, Thing>);

impl Snapshot {
    /// Takes a folder down. A thing that vanishes meanwhile is left out.
    pub fn of(root: &Path) -> Snapshot {
        let mut things = BTreeMap::new();
        gather(root, Path::new(""), &mut things);
        Snapshot(things)
    }

    /// The number of things.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The paths at which two folders differ, in words; empty where they are equal.
    pub fn differences(&self, other: &Snapshot) -> Vec<String> {
        let paths: std::collections::BTreeSet<_> = self.0.keys().chain(other.0.keys()).collect();
        paths
            .into_iter()
            .filter_map(|path| match (self.0.get(path), other.0.get(path)) {
                (Some(here), Some(there)) if here == there => None,
                (here, there) => Some(format!("{path:?}: {} here, {} there", shown(here), shown(there))),
            })
            .collect()
    }
}

fn shown(thing: Option<&Thing>) -> String {
    match thing {
        None => "nothing".into(),
        Some(thing) => format!(
            "mode {:o} time {} content {}",
            thing.mode,
            thing.modified_s,
            String::from_utf8_lossy(&thing.content[..thing.content.len().min(32)])
        ),
    }
}

fn gather(root: &Path, inside: &Path, things: &mut BTreeMap<PathBuf, Thing>) {
    let Ok(entries) = std::fs::read_dir(root.join(inside)) else {
        return;
    };
    for entry in entries.flatten() {
        let path = inside.join(entry.file_name());
        let full = root.join(&path);
        let Ok(metadata) = std::fs::symlink_metadata(&full) else {
            continue;
        };
        if path == Path::new(".pair") {
            continue;
        }
        let content = if metadata.is_symlink() {
            std::fs::read_link(&full).map(|text| text.as_os_str().as_bytes().to_vec()).unwrap_or_default()
        } else if metadata.is_file() {
            std::fs::read(&full).map(|content| blake3::hash(&content).as_bytes().to_vec()).unwrap_or_default()
        } else {
            Vec::new()
        };
        if metadata.is_dir() {
            gather(root, &path, things);
        }
        things.insert(path, Thing { mode: metadata.mode(), modified_s: metadata.mtime(), content });
    }
}

/// Fills a folder with names and shapes that have broken mirrors before.
pub fn fill_with_nasty_names(root: &Path) {
    let names: [&[u8]; 10] = [
        b"two words",
        b"new\nline",
        b"-rf",
        b"back\\slash",
        "emoji \u{1f600}".as_bytes(),
        b"not utf-8 \xff\xfe",
        b"'quotes\" and `ticks`",
        b"percent %20 $HOME",
        b".hidden",
        &[b'n'; 255],
    ];
    for name in names {
        let folder = root.join(OsStr::from_bytes(name));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(OsStr::from_bytes(name)), name).unwrap();
    }
    std::fs::create_dir_all(root.join("empty/in/empty")).unwrap();
    std::fs::write(root.join("no bytes"), "").unwrap();
    symlink("two words", root.join("link to a folder")).unwrap();
    symlink("/etc/passwd", root.join("link outside")).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
    symlink("circle", root.join("circle")).unwrap();
    let deep = root.join((0..60).map(|level| format!("level{level}")).collect::<PathBuf>());
    std::fs::create_dir_all(&deep).unwrap();
    std::fs::write(deep.join("bottom"), "deep").unwrap();
    for (name, mode) in [("read only", 0o444), ("script", 0o755), ("private", 0o600)] {
        std::fs::write(root.join(name), name).unwrap();
        std::fs::set_permissions(root.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
    }
}

/// Makes a real tree of more than 10,000 files and 500 MB: the toolchain's libraries and the sources of the crates that
/// this project is built from. Hard links where the file system allows, so that it costs no room.
pub fn real_tree(root: &Path) -> usize {
    let sysroot = std::process::Command::new("rustc").args(["--print", "sysroot"]).output().expect("rustc runs");
    let sysroot = PathBuf::from(String::from_utf8_lossy(&sysroot.stdout).trim());
    let cargo = std::env::var_os("CARGO_HOME")
        .map_or_else(|| PathBuf::from(std::env::var_os("HOME").expect("a home")).join(".cargo"), PathBuf::from);
    let sources = cargo.join("registry/src");
    copy_tree(&sysroot.join("lib"), &root.join("lib")) + copy_tree(&sources, &root.join("src"))
}

fn copy_tree(from: &Path, to: &Path) -> usize {
    std::fs::create_dir_all(to).unwrap();
    let mut files = 0;
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let (kind, target) = (entry.file_type().unwrap(), to.join(entry.file_name()));
        if kind.is_dir() {
            files += copy_tree(&entry.path(), &target);
        } else if kind.is_file() {
            if std::fs::hard_link(entry.path(), &target).is_err() {
                std::fs::copy(entry.path(), &target).unwrap();
            }
            files += 1;
        }
    }
    files
}
