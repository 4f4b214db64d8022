//! Which waiting changes are committed together: no two that concern the same thing.
//!
//! So what an intent names stays what it was until that very change happens, and after a crash each change of a group
//! is judged by itself: has it happened, or can it still? Changes keep the order in which they came.

use std::collections::HashSet;
use std::sync::Arc;

use super::Place;
use super::change::Change;
use super::committer::{Answer, Job, Waiting};
use super::disk::look;
use super::gate::Arrived;

/// Changes in one group at most.
const CHANGES_MAX: usize = 512;

/// What is to be done together.
#[derive(Default)]
pub(super) struct Group {
    /// Changes, and whose they are.
    pub items: Vec<Arrived>,
    /// Who waits for what was noted.
    pub settles: Vec<Answer>,
    /// Small things that are done afterwards.
    pub others: Vec<Job>,
    /// Who waits for the end of the run.
    pub stop: Option<Answer>,
    concerned: Footprint,
    /// Whether a folder moves: with everything in it, however deep.
    moves_a_folder: bool,
}

/// What a change concerns.
#[derive(Default)]
struct Footprint {
    /// Names, by the inode of their folder.
    names: HashSet<(u64, Vec<u8>)>,
    /// The things that have them now.
    inodes: HashSet<u64>,
    /// The folders in which they are.
    folders: HashSet<u64>,
}

impl Footprint {
    fn of(change: &Change) -> Footprint {
        let mut footprint = Footprint::default();
        let places: Vec<&Place> = match change {
            Change::Publish(publication) => vec![&publication.place],
            Change::Remove(place)
            | Change::MakeFolder(place, _)
            | Change::RemoveFolder(place)
            | Change::MakeLink(place, _) => vec![place],
            Change::Rename { from, to, .. } | Change::HardLink { from, to } => vec![from, to],
            Change::SetAttributes(thing, _) | Change::Dirty(thing, _) | Change::Clean(thing) => {
                footprint.inodes.extend(rustix::fs::fstat(thing).ok().map(|stat| stat.st_ino));
                Vec::new()
            }
            Change::Flush(_) | Change::FlushStage(_) => Vec::new(),
        };
        for place in places {
            let Ok(folder) = place.folder_id() else { continue };
            footprint.folders.insert(folder.inode);
            footprint.names.insert((folder.inode, place.name.clone()));
            footprint.inodes.extend(look(&place.folder, place.name()).ok().map(|found| found.identity.1));
        }
        footprint
    }

    fn meets(&self, other: &Footprint) -> bool {
        !self.names.is_disjoint(&other.names)
            || !self.inodes.is_disjoint(&other.inodes)
            || !self.inodes.is_disjoint(&other.folders)
            || !self.folders.is_disjoint(&other.inodes)
    }

    fn add(&mut self, other: Footprint) {
        self.names.extend(other.names);
        self.inodes.extend(other.inodes);
        self.folders.extend(other.folders);
    }
}

/// Takes in what is waiting, up to a change that must come in a group of its own or a later one.
pub(super) fn gather(waiting: &mut Waiting) -> Group {
    let mut group = Group::default();
    while let Some(job) = waiting.next() {
        match job {
            Job::Change(change, author, answer) => {
                if let Some(job) = group.take_in(change, author, answer) {
                    waiting.give_back(job);
                    break;
                }
                if group.items.len() >= CHANGES_MAX {
                    break;
                }
            }
            Job::Settle(answer) => group.settles.push(answer),
            Job::Stop(answer) => {
                group.stop = Some(answer);
                break;
            }
            Job::Wake => {}
            #[cfg(test)]
            Job::Hold(let_go) => drop(let_go.recv()),
            other => group.others.push(other),
        }
    }
    group
}

impl Group {
    /// Whether nobody waits for anything.
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty() && self.settles.is_empty() && self.others.is_empty() && self.stop.is_none()
    }

    /// Takes a change in, or gives it back.
    fn take_in(&mut self, change: Change, author: Option<Arc<str>>, answer: Answer) -> Option<Job> {
        let footprint = Footprint::of(&change);
        let moves_a_folder = change.moves_a_folder();
        let must_be_alone = moves_a_folder || self.moves_a_folder;
        if !self.items.is_empty() && (must_be_alone || footprint.meets(&self.concerned)) {
            return Some(Job::Change(change, author, answer));
        }
        self.moves_a_folder = moves_a_folder;
        self.concerned.add(footprint);
        self.items.push((change, author, answer));
        None
    }
}
