//! What to do so that a standby becomes what the source is. Pure: trees in, steps out.
//!
//! Always holds: a step's parent folder is there when its turn comes; nothing is removed that [`crate::safety`] did not
//! allow; nothing is planned inside a folder that could not be listed; equal content is proven by hash wherever stat alone
//! does not prove it; planning again after all steps were done gives nothing.

use std::collections::BTreeMap;

use crate::safety::{Absence, EMPTIED_ENTRIES_MIN, Scene, Verdict};
use crate::tree::{Base, Bases, Entry, Image, Kind, Path, Seen, Tree, below, is_below, parent, top, upwards};

mod comparison;
mod structure;
#[cfg(test)]
mod tests;

pub use comparison::{Alike, Comparison};
use structure::Model;

/// Where filesync keeps its own things on a standby; never mirrored.
pub const PRIVATE: &[u8] = b".pair";

/// What filesync's own names in the stage begin with; everything else there belongs to sftpd.
pub const STAGE_PREFIX: &str = "filesync-";

/// One thing to do on the standby.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Give the owner the rights that changes inside this folder need; its own mode comes back at the end.
    Loosen {
        /// The folder.
        path: Path,
        /// The mode to set meanwhile.
        mode: u32,
    },
    /// Rename on the standby, because the inode proves that the source did.
    Rename {
        /// The old path.
        from: Path,
        /// The new path.
        to: Path,
        /// A file is there that must be kept in the trash.
        replaces: bool,
    },
    /// Make a folder.
    Mkdir {
        /// The folder.
        path: Path,
    },
    /// Move to the trash.
    Trash {
        /// The topmost path.
        path: Path,
        /// How many entries go with it.
        entries: u64,
    },
    /// Send a file.
    Put {
        /// The file.
        path: Path,
        /// Something is there that must be kept in the trash.
        replaces: bool,
    },
    /// Make a symbolic link.
    Link {
        /// The link.
        path: Path,
        /// Something is there that must be kept in the trash.
        replaces: bool,
    },
    /// Compare the content by hash; send it where it differs, only its new end where it has grown; set the attributes where they
    /// do.
    Verify {
        /// The file.
        path: Path,
    },
    /// Set mode and time.
    SetAttr {
        /// The file, folder or link.
        path: Path,
    },
    /// Nothing to do on the standby: both agree already, which is to be remembered.
    Adopt {
        /// The folder or link.
        path: Path,
        /// What the standby shows.
        remote: Seen,
    },
}

/// The steps of one pass, in their order: what is in one inner list may run at the same time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Renames, new folders, and removals that make room; wave after wave.
    pub structure: Vec<Vec<Step>>,
    /// Files and links, all at once.
    pub content: Vec<Step>,
    /// Removals.
    pub removals: Vec<Step>,
    /// Attributes of folders, the deepest first.
    pub folders: Vec<Vec<Step>>,
    /// What was judged of everything that is missing in the source.
    pub verdict: Verdict,
    /// Paths that wait: for evidence, for a person, or for a folder of the standby that cannot be listed.
    pub waiting: Vec<Path>,
    /// How many entries the standby has.
    pub entries: u64,
}

impl Plan {
    /// All steps in their order.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        let waves = self.structure.iter().flatten();
        waves.chain(&self.content).chain(&self.removals).chain(self.folders.iter().flatten())
    }
}

/// The trees to compare. `blind` are folders that could not be listed whole: absence below them means nothing.
///
/// The source's are borrowed, because the steps are done with them; the others are used up, because a tree of a million
/// entries is not copied for nothing.
#[derive(Clone, Debug)]
pub struct Trees<'t> {
    /// What the source has.
    pub observed: &'t Tree,
    /// Folders of the source that could not be listed whole.
    pub observed_blind: &'t [Path],
    /// What the standby has.
    pub remote: Image,
    /// Folders of the standby that could not be listed whole.
    pub remote_blind: &'t [Path],
    /// What both agreed on.
    pub base: Bases,
    /// What was left out of all three.
    pub alike: &'t Alike,
}

/// Plans a pass. `judge` says which absences may be removed; `link_times` whether the standby can set a link's time.
pub fn plan(trees: Trees, link_times: bool, judge: impl FnOnce(&Scene) -> Verdict) -> Plan {
    let Trees { observed, observed_blind, remote, remote_blind, base, alike } = trees;
    let mut model = Model::new(observed, remote_blind, remote, base);
    model.arrange();
    let scene = scene(&model, observed, observed_blind, remote_blind, alike);
    let verdict = judge(&scene);
    let mut plan = Plan { entries: scene.entries, ..Plan::default() };
    for path in scene.absences.keys() {
        if !verdict.allowed.contains(path) {
            plan.waiting.push(path.clone());
        } else if observed.contains_key(path) {
            // A folder gives way to a file or link of its name.
            model.trash(path);
        }
    }
    for (path, entry) in observed.iter().filter(|(_, entry)| entry.kind != Kind::Folder) {
        let remote = model.remote.get(path);
        if remote.is_some_and(|remote| remote.kind == Kind::Folder) || is_blind(remote_blind, path) {
            plan.waiting.push(path.clone());
            continue;
        }
        let step = match entry.kind {
            Kind::Link => link_step(path, entry, remote, model.base.get(path), link_times),
            _ => file_step(path, entry, remote, model.base.get(path)),
        };
        if matches!(step, Some(Step::Put { .. } | Step::Link { .. } | Step::Verify { .. })) {
            model.change_inside(parent(path));
        }
        plan.content.extend(step);
    }
    for (path, absence) in &scene.absences {
        if verdict.allowed.contains(path) && !observed.contains_key(path) {
            model.change_inside(parent(path));
            plan.removals.push(Step::Trash { path: path.clone(), entries: absence.entries });
        }
    }
    plan.removals.extend(model.parked());
    plan.folders = folder_steps(&model, observed, remote_blind);
    plan.structure = model.waves;
    plan.verdict = verdict;
    plan
}

/// What the standby has and the source has not, once all renames are done: topmost paths only.
fn scene(model: &Model, observed: &Tree, observed_blind: &[Path], remote_blind: &[Path], alike: &Alike) -> Scene {
    let is_folder = |path: &[u8]| path.is_empty() || observed.get(path).is_some_and(|entry| entry.kind == Kind::Folder);
    let mut scene = Scene { entries: alike.entries, ..Scene::default() };
    for (path, seen) in model.remote.iter().filter(|(path, _)| top(path) != PRIVATE) {
        scene.entries += 1;
        let gone = observed.get(path).is_none_or(|entry| seen.kind == Kind::Folder && entry.kind != Kind::Folder);
        // Below a folder that is missing too, only the folder counts.
        if !gone || !is_folder(parent(path)) {
            continue;
        }
        let hidden = is_blind(observed_blind, path)
            || observed_blind.iter().any(|folder| is_below(folder, path))
            || remote_blind.iter().any(|folder| folder == path || is_below(folder, path));
        if !hidden {
            let parent_ino = observed.get(parent(path)).map_or(0, |folder| folder.ino);
            let entries = 1 + below(&model.remote, path).count() as u64;
            scene.absences.insert(path.clone(), Absence { parent_ino, entries });
        }
    }
    for path in scene.absences.keys() {
        let top = top(path);
        let enough = if observed.contains_key(top) { EMPTIED_ENTRIES_MIN } else { 1 };
        let had_enough = below(&model.remote, top).nth(enough - 1).is_some();
        if had_enough && below(observed, top).next().is_none() && !alike.tops.contains(top) {
            scene.emptied.insert(top.to_vec());
        }
    }
    scene
}

/// Whether a path lies in a folder that could not be listed whole.
fn is_blind(blind: &[Path], path: &[u8]) -> bool {
    !blind.is_empty() && blind.iter().any(|folder| is_below(path, folder))
}

fn file_step(path: &[u8], entry: &Entry, remote: Option<&Seen>, base: Option<&Base>) -> Option<Step> {
    let path = path.to_vec();
    let Some(remote) = remote else {
        return Some(Step::Put { path, replaces: false });
    };
    let put = Step::Put { path: path.clone(), replaces: true };
    if remote.kind == Kind::File && base.is_some_and(|base| has_grown_in_place(entry, &base.source)) {
        // Perhaps only its new end is to be brought.
        return Some(Step::Verify { path });
    }
    if remote.kind != Kind::File || remote.size != entry.size {
        return Some(put);
    }
    let Some(base) = base else {
        // A new or lost store, or a disk that was copied by hand: what looks equal is compared, not sent.
        return Some(if remote.mtime_s == entry.mtime_s() { Step::Verify { path } } else { put });
    };
    if entry.same_content(&base.source) {
        let drifted =
            (remote.kind, remote.size, remote.mtime_s) != (base.remote.kind, base.remote.size, base.remote.mtime_s);
        return match (drifted, remote.mode == base.remote.mode) {
            (true, _) => Some(put),
            (false, false) => Some(Step::SetAttr { path }),
            (false, true) => None,
        };
    }
    // A new ctime alone is a new mode, a rename, or an edit that put the old time back: only the content can tell. Fractions of a second
    // are lost where the time was set by SFTP, as on a machine that was the standby meanwhile.
    let looks_equal =
        (entry.kind, entry.size, entry.mtime_s()) == (base.source.kind, base.source.size, base.source.mtime_s());
    Some(if looks_equal { Step::Verify { path } } else { put })
}

/// Whether the very same file has become larger: written in place, as a log is, not replaced by another.
fn has_grown_in_place(entry: &Entry, before: &Entry) -> bool {
    entry.identity() == before.identity() && entry.size > before.size && before.size > 0
}

fn link_step(path: &[u8], entry: &Entry, remote: Option<&Seen>, base: Option<&Base>, times: bool) -> Option<Step> {
    let path = path.to_vec();
    let remote = match remote {
        None => return Some(Step::Link { path, replaces: false }),
        Some(remote) if remote.kind != Kind::Link || remote.target != entry.target => {
            return Some(Step::Link { path, replaces: true });
        }
        Some(remote) if times && is_time_off(entry, remote, base) => return Some(Step::SetAttr { path }),
        Some(remote) => remote.clone(),
    };
    base.is_none_or(|base| base.source != *entry).then_some(Step::Adopt { path, remote })
}

/// Whether the standby's time is neither the source's nor what the standby made of it before.
fn is_time_off(entry: &Entry, remote: &Seen, base: Option<&Base>) -> bool {
    match base {
        Some(base) => entry.mtime_s() != base.source.mtime_s() || remote.mtime_s != base.remote.mtime_s,
        None => remote.mtime_s != entry.mtime_s(),
    }
}

/// Final modes and times of folders. Changes inside moved the times, so these come last, the deepest first: a folder that
/// gets a mode without rights for its owner must not be in the way of those inside it.
fn folder_steps(model: &Model, observed: &Tree, remote_blind: &[Path]) -> Vec<Vec<Step>> {
    let mut by_depth: BTreeMap<std::cmp::Reverse<usize>, Vec<Step>> = BTreeMap::new();
    for (path, entry) in observed.iter().filter(|(_, entry)| entry.kind == Kind::Folder) {
        let Some(remote) = model.remote.get(path).filter(|remote| remote.kind == Kind::Folder) else { continue };
        if is_blind(remote_blind, path) {
            continue;
        }
        let base = model.base.get(path);
        let off = is_time_off(entry, remote, base)
            || base.map_or(remote.mode != entry.mode, |base| {
                remote.mode != base.remote.mode || entry.mode != base.source.mode
            });
        let path = path.clone();
        let depth = std::cmp::Reverse(upwards(&path).count());
        let steps = by_depth.entry(depth).or_default();
        if off || model.changed.contains(&path) {
            steps.push(Step::SetAttr { path });
        } else if base.is_none_or(|base| base.source != *entry) {
            steps.push(Step::Adopt { path, remote: remote.clone() });
        }
    }
    by_depth.into_values().filter(|steps| !steps.is_empty()).collect()
}
