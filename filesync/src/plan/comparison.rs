//! Keeps of three sides what the planner must see, and counts the rest: a path that is alike on both sides and as it was
//! agreed on needs no step and is in the way of none. So a million unchanged files take no memory.
//!
//! Always holds: a plan made of what is kept is the plan that would be made of everything. That is why all folders are kept,
//! and all that lies in a folder which is not in its place: it might be moved along with it.

use std::collections::{BTreeSet, HashSet};

use super::{PRIVATE, file_step, link_step};
use crate::tree::{Base, Bases, Entry, Image, Kind, Path, Seen, Tree, parent, top};

/// What was left out of the trees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alike {
    /// How many entries.
    pub entries: u64,
    /// The top folders that hold any of them.
    pub tops: BTreeSet<Path>,
}

/// What differs, or may have to do with what does.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    /// What the source has.
    pub observed: Tree,
    /// What the standby has.
    pub remote: Image,
    /// What both agreed on.
    pub base: Bases,
    /// What was left out.
    pub alike: Alike,
    link_times: bool,
    /// Folders that are the same ones as when they were agreed on, on both sides, with all folders above them.
    in_place: HashSet<Path>,
}

impl Comparison {
    /// `link_times`: whether the standby can set a link's time.
    pub fn new(link_times: bool) -> Comparison {
        Comparison { link_times, ..Comparison::default() }
    }

    /// Takes what the three sides have at a path. A folder comes before what is in it.
    pub fn add(&mut self, path: Path, ours: Option<Entry>, theirs: Option<Seen>, base: Option<Base>) {
        if let (Some(ours), Some(theirs), Some(base)) = (&ours, &theirs, &base)
            && ours.identity() == base.source.identity()
            && (parent(&path).is_empty() || self.in_place.contains(parent(&path)))
        {
            if ours.kind == Kind::Folder && theirs.kind == Kind::Folder {
                self.in_place.insert(path.clone());
            } else if self.needs_nothing(&path, ours, theirs, base) {
                self.alike.entries += 1;
                if !parent(&path).is_empty() && !self.alike.tops.contains(top(&path)) {
                    self.alike.tops.insert(top(&path).to_vec());
                }
                return;
            }
        }
        if let Some(ours) = ours {
            self.observed.insert(path.clone(), ours);
        }
        if let Some(theirs) = theirs {
            self.remote.insert(path.clone(), theirs);
        }
        // What is agreed on for a temporary name is left over from a rename that stopped half way.
        if let Some(base) = base.filter(|_| top(&path) != PRIVATE) {
            self.base.insert(path, base);
        }
    }

    fn needs_nothing(&self, path: &[u8], ours: &Entry, theirs: &Seen, base: &Base) -> bool {
        match ours.kind {
            Kind::Folder => false,
            Kind::File => file_step(path, ours, Some(theirs), Some(base)).is_none(),
            Kind::Link => link_step(path, ours, Some(theirs), Some(base), self.link_times).is_none(),
        }
    }
}
