//! Renames and folders: brings the standby's folders into the source's shape before any content moves.
//!
//! A model of the standby is changed step by step as the steps are planned, so that each question ("what is there by
//! then?") has one answer. Steps that do not touch the same paths share a wave. Content and removals are not decided here,
//! except that a file or link makes room where the source has a folder.

use std::collections::{BTreeSet, HashMap};

use super::{PRIVATE, STAGE_PREFIX, Step, is_blind};
use crate::tree::{
    Bases, Entry, Identity, Image, Kind, Path, Seen, Tree, is_below, move_all, parent, remove_all, upwards,
};

/// How many renames may wait for each other before one goes through a temporary name.
const CHAIN_MAX: usize = 64;

/// The standby as it will be when the steps planned so far are done.
pub(super) struct Model<'t> {
    observed: &'t Tree,
    remote_blind: &'t [Path],
    /// The standby's entries.
    pub remote: Image,
    /// What was agreed on, under the paths of `remote`.
    pub base: Bases,
    /// Where the standby has an object that the source no longer has at that path.
    held_at: HashMap<Identity, Path>,
    /// Where the source has an object that was not agreed on for that path.
    wanted_at: HashMap<Identity, &'t Path>,
    /// The last wave that touched a path.
    touched: HashMap<Path, usize>,
    /// The steps.
    pub waves: Vec<Vec<Step>>,
    /// Folders with changes inside: their times must be set again.
    pub changed: BTreeSet<Path>,
    placing: BTreeSet<Path>,
    parked: usize,
}

impl<'t> Model<'t> {
    pub fn new(observed: &'t Tree, remote_blind: &'t [Path], remote: Image, base: Bases) -> Model<'t> {
        let mut model = Model {
            observed,
            remote_blind,
            remote,
            base,
            held_at: HashMap::new(),
            wanted_at: HashMap::new(),
            touched: HashMap::new(),
            waves: Vec::new(),
            changed: BTreeSet::new(),
            placing: BTreeSet::new(),
            parked: 0,
        };
        for (path, entry) in observed {
            let before = model.base.get(path).map(|base| &base.source);
            if can_be_followed(entry) && before.is_none_or(|before| before.identity() != entry.identity()) {
                model.wanted_at.insert(entry.identity(), path);
            }
        }
        for (path, base) in &model.base {
            let identity = base.source.identity();
            let stays = observed.get(path).is_some_and(|entry| entry.identity() == identity);
            if model.wanted_at.contains_key(&identity) && !stays && can_be_followed(&base.source) {
                model.held_at.insert(identity, path.clone());
            }
        }
        model
    }

    /// Plans renames and new folders, parents before children.
    pub fn arrange(&mut self) {
        let observed = self.observed;
        for (path, entry) in observed {
            self.settle(path, entry);
        }
    }

    /// Gets the right object to a path, as far as a rename can, or a new folder.
    fn settle(&mut self, path: &[u8], entry: &Entry) {
        if is_blind(self.remote_blind, path) || !self.is_folder(parent(path)) {
            return;
        }
        self.make_way(path, entry);
        self.bring(path, entry);
        if entry.kind == Kind::Folder && !self.is_folder(path) {
            if self.remote.contains_key(path) {
                self.trash(path);
            }
            self.change_inside(parent(path));
            self.emit(Step::Mkdir { path: path.to_vec() }, &[path]);
            // A folder that the standby lost is agreed on no more: the new one must not be taken for it.
            self.forget(path);
            self.remote.insert(path.to_vec(), Seen { mode: entry.mode | 0o700, ..entry.seen() });
            self.changed.insert(path.to_vec());
        }
    }

    /// Moves away what is at a path and lives elsewhere in the source now: to its new place where that can be had, else
    /// to a temporary name, from which it is fetched when its new path has its turn.
    fn make_way(&mut self, path: &[u8], entry: &Entry) {
        let Some(occupant) = self.base.get(path).map(|base| base.source.identity()) else { return };
        let Some(goal) = self.wanted_at.get(&occupant).copied() else { return };
        let is_here = self.held_at.get(&occupant).is_some_and(|held| held == path);
        if occupant == entry.identity() || !is_here || goal == path || !self.is_movable(path, goal) {
            return;
        }
        let free = !is_below(goal, path) && !self.placing.contains(goal) && self.placing.len() < CHAIN_MAX;
        if free && let Some(entry) = self.observed.get(goal) {
            self.placing.insert(path.to_vec());
            self.settle(goal, entry);
            self.placing.remove(path);
        }
        if self.held_at.get(&occupant).is_some_and(|held| held == path) {
            self.parked += 1;
            let name = format!("stage/{STAGE_PREFIX}moved-{}-{}", self.parked, occupant.ino);
            self.rename(path, &[PRIVATE, b"/", name.as_bytes()].concat(), false);
        }
    }

    /// Renames the object that belongs at a path to it, if the standby has it unchanged under another.
    fn bring(&mut self, path: &[u8], entry: &Entry) {
        let Some(from) = self.held_at.get(&entry.identity()).cloned() else { return };
        let is_wanted = self.wanted_at.get(&entry.identity()).is_some_and(|wanted| *wanted == path);
        if !is_wanted || from == path || is_below(path, &from) || !self.is_movable(&from, path) {
            return;
        }
        match self.remote.get(path).map(|remote| remote.kind) {
            // Joined with what is in there now: its entries are brought one by one.
            Some(Kind::Folder) => {}
            Some(_) if entry.kind == Kind::Folder => {
                self.trash(path);
                self.rename(&from, path, false);
            }
            occupant => self.rename(&from, path, occupant.is_some()),
        }
    }

    /// Whether the standby's object is the one that was agreed on, and the source's is that one still.
    fn is_movable(&self, from: &[u8], to: &[u8]) -> bool {
        let (Some(remote), Some(base), Some(entry)) =
            (self.remote.get(from), self.base.get(from), self.observed.get(to))
        else {
            return false;
        };
        let hidden = self.remote_blind.iter().any(|folder| folder == from || is_below(folder, from));
        let unchanged = match entry.kind {
            Kind::Folder => remote.kind == Kind::Folder,
            _ => *remote == base.remote && entry.same_but_for_ctime(&base.source),
        };
        unchanged && !hidden
    }

    fn is_folder(&self, path: &[u8]) -> bool {
        path.is_empty() || self.remote.get(path).is_some_and(|remote| remote.kind == Kind::Folder)
    }

    fn rename(&mut self, from: &[u8], to: &[u8], replaces: bool) {
        self.change_inside(parent(from));
        self.change_inside(parent(to));
        if parent(from) != parent(to) && self.is_folder(from) {
            // Its own ".." changes, which its owner must be allowed to.
            self.loosen(from);
        }
        let step = Step::Rename { from: from.to_vec(), to: to.to_vec(), replaces };
        self.emit(step, &[from, to]);
        // What was agreed on for the new path is no longer there, even if the standby had lost it before.
        self.forget(to);
        move_all(&mut self.remote, from, to);
        for path in move_all(&mut self.base, from, to) {
            let Some(base) = self.base.get(&path) else { continue };
            if let Some(held) = self.held_at.get_mut(&base.source.identity()) {
                *held = path;
            }
        }
        let changed: Vec<Path> =
            self.changed.iter().filter(|path| *path == from || is_below(path, from)).cloned().collect();
        for path in changed {
            self.changed.remove(&path);
            self.changed.insert([to, path.get(from.len()..).unwrap_or_default()].concat());
        }
    }

    /// Makes room at a path.
    pub fn trash(&mut self, path: &[u8]) {
        self.change_inside(parent(path));
        let entries = 1 + crate::tree::below(&self.remote, path).count() as u64;
        self.emit(Step::Trash { path: path.to_vec(), entries }, &[path]);
        self.forget(path);
    }

    fn forget(&mut self, path: &[u8]) {
        let inside = crate::tree::below(&self.base, path).map(|(_, base)| base);
        for base in self.base.get(path).into_iter().chain(inside) {
            self.held_at.remove(&base.source.identity());
        }
        remove_all(&mut self.remote, path);
        remove_all(&mut self.base, path);
    }

    /// Notes that something directly inside a folder changes.
    pub fn change_inside(&mut self, folder: &[u8]) {
        if !folder.is_empty() && !is_below(folder, PRIVATE) {
            self.loosen(folder);
            self.changed.insert(folder.to_vec());
        }
    }

    fn loosen(&mut self, folder: &[u8]) {
        let Some(remote) = self.remote.get_mut(folder).filter(|remote| remote.mode & 0o300 != 0o300) else { return };
        remote.mode |= 0o700;
        let mode = remote.mode;
        self.changed.insert(folder.to_vec());
        self.emit(Step::Loosen { path: folder.to_vec(), mode }, &[folder]);
    }

    /// What went through a temporary name and was not fetched: the source has its content elsewhere.
    pub fn parked(&self) -> Vec<Step> {
        let stage = [PRIVATE, b"/stage"].concat();
        let left = crate::tree::below(&self.remote, PRIVATE).filter(|(path, _)| parent(path) == stage);
        left.map(|(path, _)| Step::Trash { path: path.clone(), entries: 0 }).collect()
    }

    /// Adds a step to the first wave in which all that it rests on is done.
    fn emit(&mut self, step: Step, paths: &[&[u8]]) {
        let moves_inside = matches!(&step, Step::Rename { from, .. } if self.is_folder(from))
            || matches!(&step, Step::Trash { path, .. } if self.is_folder(path));
        let after = if moves_inside {
            self.waves.len()
        } else {
            let touched = paths.iter().flat_map(|path| upwards(path)).filter_map(|path| self.touched.get(path));
            touched.max().map_or(0, |wave| wave + 1)
        };
        for path in paths {
            self.touched.insert(path.to_vec(), after);
        }
        while self.waves.len() <= after {
            self.waves.push(Vec::new());
        }
        if let Some(wave) = self.waves.get_mut(after) {
            wave.push(step);
        }
    }
}

/// Whether an inode is enough to know an object by under another name. Hard links share one; a file system that does not
/// tell when an inode was made may give its number to another file.
fn can_be_followed(entry: &Entry) -> bool {
    entry.btime_ns != 0 && (entry.kind == Kind::Folder || (entry.kind == Kind::File && entry.nlink == 1))
}
