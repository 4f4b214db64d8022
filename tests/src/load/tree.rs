//! What a writer's part of the volume is to be: a model of names, and what each change makes of it.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::content::Version;

/// What stands under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Thing {
    /// A folder.
    Folder,
    /// A link with its text.
    Link(String),
    /// A file: its content, and its mode and time where they were set.
    File(Version, Option<(u32, u32)>),
}

/// One change.
#[derive(Clone, Debug)]
pub enum Step {
    /// An upload.
    Put(String, Version),
    /// A folder comes.
    MakeFolder(String),
    /// An empty folder goes.
    RemoveFolder(String),
    /// A file or link goes.
    Remove(String),
    /// A new name where nothing has it.
    Rename(String, String),
    /// A new name in another file's place.
    Replace(String, String),
    /// A link comes, with a text.
    MakeLink(String, String),
    /// A file gets a second name.
    SecondName(String, String),
    /// A file gets a mode and a time.
    Attributes(String, u32, u32),
}

/// Names, and what stands there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree(pub BTreeMap<String, Thing>);

impl Tree {
    /// Does a step.
    pub fn apply(&mut self, step: &Step) {
        match step {
            Step::Put(path, version) => drop(self.0.insert(path.clone(), Thing::File(*version, None))),
            Step::MakeFolder(path) => drop(self.0.insert(path.clone(), Thing::Folder)),
            Step::MakeLink(path, text) => drop(self.0.insert(path.clone(), Thing::Link(text.clone()))),
            Step::RemoveFolder(path) | Step::Remove(path) => drop(self.0.remove(path)),
            Step::Rename(from, to) | Step::Replace(from, to) => self.rename(from, to),
            Step::SecondName(from, to) => {
                let thing = self.0[from].clone();
                self.0.insert(to.clone(), thing);
            }
            Step::Attributes(path, mode, time) => {
                if let Some(Thing::File(_, attributes)) = self.0.get_mut(path) {
                    *attributes = Some((*mode, *time));
                }
            }
        }
    }

    fn rename(&mut self, from: &str, to: &str) {
        let inside = format!("{from}/");
        let moved = |path: &String| path == from || path.starts_with(&inside);
        let paths: Vec<_> = self.0.keys().filter(|path| moved(path)).cloned().collect();
        for path in paths {
            let thing = self.0.remove(&path).expect("it was just found");
            self.0.insert(format!("{to}{}", &path[from.len()..]), thing);
        }
    }

    /// What stands in a folder on a disk; the errors are files that are no version.
    pub fn read(folder: &Path) -> (Tree, Vec<String>) {
        let (mut tree, mut errors) = (Tree::default(), Vec::new());
        tree.gather(folder, "", &mut errors);
        (tree, errors)
    }

    fn gather(&mut self, root: &Path, inside: &str, errors: &mut Vec<String>) {
        for entry in std::fs::read_dir(root.join(inside)).into_iter().flatten() {
            let entry = entry.expect("the folder can be read");
            let name = entry.file_name().into_string().expect("names here are texts");
            let path = if inside.is_empty() { name } else { format!("{inside}/{name}") };
            let metadata = std::fs::symlink_metadata(entry.path()).expect("what is listed is there");
            let thing = if metadata.is_dir() {
                self.gather(root, &path, errors);
                Ok(Thing::Folder)
            } else if metadata.is_symlink() {
                let text = std::fs::read_link(entry.path()).expect("a link has a text");
                Ok(Thing::Link(text.display().to_string()))
            } else {
                let content = std::fs::read(entry.path()).map_err(|error| error.to_string());
                let version = content.and_then(|content| Version::of(&content));
                version.map(|version| Thing::File(version, Some((metadata.mode() & 0o7777, metadata.mtime() as u32))))
            };
            match thing {
                Ok(thing) => drop(self.0.insert(path, thing)),
                Err(error) => errors.push(format!("{path}: {error}")),
            }
        }
    }

    /// How what was found differs from what is to be.
    pub fn differences(&self, found: &Tree) -> Vec<String> {
        let paths: std::collections::BTreeSet<_> = self.0.keys().chain(found.0.keys()).collect();
        let differing = |path: &String| {
            let (wanted, found) = (self.0.get(path), found.0.get(path));
            let equal = match (wanted, found) {
                (Some(Thing::File(wanted, None)), Some(Thing::File(found, _))) => wanted == found,
                (wanted, found) => wanted == found,
            };
            (!equal).then(|| format!("{path}: {found:?} where {wanted:?} should be"))
        };
        paths.into_iter().filter_map(differing).collect()
    }
}
