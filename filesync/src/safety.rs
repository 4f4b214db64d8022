//! Whether something may be removed from a standby. Pure: it judges, it does not act.
//!
//! Nothing is removed because it was missing once. It must be missing in two passes in a row whose listings were whole
//! there, under a parent that stayed the same folder; this holds also for what the feed has told of. And many removals at once, or an account's folder that empties, are
//! held until a person approves them: an unmounted disk and a wrong script look just like that. Renames are no removals.

use std::collections::{BTreeMap, BTreeSet};

use crate::tree::{Path, below, is_below, top};

/// Removals per hour that are always within the budget.
pub const BUDGET_ENTRIES_MIN: u64 = 100;

/// A top folder that had fewer entries may empty (not vanish) without asking: partners who fetch and delete their few files do it
/// every day. A lost disk or a wrong script empties more than that.
pub const EMPTIED_ENTRIES_MIN: usize = 10;

/// Something that the standby has and the source has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Absence {
    /// The inode of the folder that it is missing in.
    pub parent_ino: u64,
    /// How many entries would go: itself and all below it.
    pub entries: u64,
}

/// What a pass found missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scene {
    /// The topmost missing paths.
    pub absences: BTreeMap<Path, Absence>,
    /// How many entries the standby has.
    pub entries: u64,
    /// Top folders whose entries are all gone from the source: [`EMPTIED_ENTRIES_MIN`] or more, or with the folder itself.
    pub emptied: BTreeSet<Path>,
}

/// When something was first missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missed {
    /// The pass.
    pub pass: u64,
    /// The inode of the folder that it was missing in.
    pub parent_ino: u64,
}

/// What is remembered of earlier passes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// The number of the running pass.
    pub pass: u64,
    /// Whether both sides were ever listed whole and compared. Until then (a new or lost store) nothing is removed.
    pub verified: bool,
    /// What was missing in the pass before this one.
    pub missed: BTreeMap<Path, Missed>,
    /// What is held, and whether a person approved it.
    pub held: BTreeMap<Path, bool>,
    /// Paths of which the feed has told that they went, and could not make them go.
    pub told: BTreeMap<Path, ()>,
    /// Entries that were removed in the last hour without approval.
    pub removed_last_hour: u64,
    /// Removals per hour that are within the budget, in percent of all entries.
    pub budget_percent: u64,
}

/// Why removals are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// More than the budget in an hour.
    Budget,
    /// An account's folder would be empty or gone.
    Emptied,
}

impl Reason {
    /// The reason for people, and for the store.
    pub fn text(self) -> &'static str {
        match self {
            Reason::Budget => "more removals in an hour than the budget allows",
            Reason::Emptied => "a top folder is empty or gone",
        }
    }
}

/// What may go, what waits for evidence, what waits for a person.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// May be removed now.
    pub allowed: BTreeSet<Path>,
    /// Removed by approval, thus outside the budget; all of it is in `allowed` too.
    pub approved: BTreeSet<Path>,
    /// Waits for a person.
    pub held: BTreeMap<Path, (u64, Reason)>,
    /// What to remember as missed for the next pass.
    pub missed: BTreeMap<Path, Missed>,
}

/// Judges what a pass found missing.
pub fn judge(scene: &Scene, memory: &Memory) -> Verdict {
    let mut verdict = Verdict::default();
    let mut within_budget: Vec<(&Path, u64)> = Vec::new();
    for (path, absence) in &scene.absences {
        let now = Missed { pass: memory.pass, parent_ino: absence.parent_ino };
        let before = memory.missed.get(path).filter(|before| before.parent_ino == absence.parent_ino);
        verdict.missed.insert(path.clone(), before.copied().unwrap_or(now));
        if !memory.verified || before.is_none_or(|before| before.pass >= memory.pass) {
            continue;
        }
        match memory.held.get(path) {
            // Somebody has removed each entry of it, and it is known who: that needs no approval.
            _ if told_entries(&memory.told, path) >= absence.entries => {
                verdict.approved.insert(path.clone());
                verdict.allowed.insert(path.clone());
            }
            Some(true) => {
                verdict.approved.insert(path.clone());
                verdict.allowed.insert(path.clone());
            }
            _ if is_emptied(scene, path) => {
                verdict.held.insert(path.clone(), (absence.entries, Reason::Emptied));
            }
            // What was held once waits for a person even when the hour is over.
            Some(false) => {
                verdict.held.insert(path.clone(), (absence.entries, Reason::Budget));
            }
            None => within_budget.push((path, absence.entries)),
        }
    }
    let budget = BUDGET_ENTRIES_MIN.max(scene.entries * memory.budget_percent / 100);
    let total: u64 = within_budget.iter().map(|(_, entries)| entries).sum();
    for (path, entries) in within_budget {
        if memory.removed_last_hour + total > budget {
            verdict.held.insert(path.clone(), (entries, Reason::Budget));
        } else {
            verdict.allowed.insert(path.clone());
        }
    }
    verdict
}

/// Of how many entries, at a path and below it, the feed has told that they went.
fn told_entries(told: &BTreeMap<Path, ()>, path: &[u8]) -> u64 {
    u64::from(told.contains_key(path)) + below(told, path).count() as u64
}

fn is_emptied(scene: &Scene, path: &[u8]) -> bool {
    let top = top(path);
    scene.emptied.contains(top) && (path == top || is_below(path, top))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Case {
        description: &'static str,
        absences: &'static [(&'static str, u64)],
        emptied: &'static [&'static str],
        missed_in: &'static [(&'static str, u64, u64)],
        held: &'static [(&'static str, bool)],
        told: &'static [&'static str],
        verified: bool,
        entries: u64,
        removed_last_hour: u64,
        allowed: &'static [&'static str],
        kept: &'static [&'static str],
    }

    const USUAL: Case = Case {
        description: "",
        absences: &[("a/x", 1)],
        emptied: &[],
        missed_in: &[("a/x", 4, 7)],
        held: &[],
        told: &[],
        verified: true,
        entries: 1000,
        removed_last_hour: 0,
        allowed: &[],
        kept: &[],
    };

    const CASES: &[Case] = &[
        Case { description: "missing twice under the same parent", allowed: &["a/x"], ..USUAL },
        Case { description: "missing for the first time", missed_in: &[], ..USUAL },
        Case {
            description: "missing twice, but the parent is another folder now",
            missed_in: &[("a/x", 4, 8)],
            ..USUAL
        },
        Case { description: "first missed in this very pass", missed_in: &[("a/x", 5, 7)], ..USUAL },
        Case { description: "the store is new: nothing was verified yet", verified: false, ..USUAL },
        Case {
            description: "more than 100 entries of a small tree are held",
            absences: &[("a/x", 101)],
            kept: &["a/x"],
            ..USUAL
        },
        Case { description: "exactly 100 are not", absences: &[("a/x", 100)], allowed: &["a/x"], ..USUAL },
        Case {
            description: "five percent of a large tree are within the budget",
            absences: &[("a/x", 5000)],
            entries: 100_000,
            allowed: &["a/x"],
            ..USUAL
        },
        Case {
            description: "what went in the last hour counts",
            absences: &[("a/x", 50)],
            removed_last_hour: 51,
            kept: &["a/x"],
            ..USUAL
        },
        Case {
            description: "a home with entries that is gone is held however small it is",
            absences: &[("a", 2)],
            missed_in: &[("a", 4, 7)],
            emptied: &["a"],
            kept: &["a"],
            ..USUAL
        },
        Case { description: "a home that was emptied is held", emptied: &["a"], kept: &["a/x"], ..USUAL },
        Case {
            description: "an emptied home holds nothing of another",
            absences: &[("a/x", 1), ("b/x", 1)],
            missed_in: &[("a/x", 4, 7), ("b/x", 4, 7)],
            emptied: &["a"],
            allowed: &["b/x"],
            kept: &["a/x"],
            ..USUAL
        },
        Case {
            description: "approved goes, whatever the budget says",
            absences: &[("a/x", 101)],
            held: &[("a/x", true)],
            removed_last_hour: 500,
            allowed: &["a/x"],
            ..USUAL
        },
        Case {
            description: "approved goes though it empties a home",
            emptied: &["a"],
            held: &[("a/x", true)],
            allowed: &["a/x"],
            ..USUAL
        },
        Case {
            description: "what the feed has told of goes, however much it is, also when it was held",
            absences: &[("a/x", 1), ("a/y", 3)],
            missed_in: &[("a/x", 4, 7), ("a/y", 4, 7)],
            held: &[("a/x", false)],
            removed_last_hour: 500,
            told: &["a/x", "a/y", "a/y/1", "a/y/2"],
            emptied: &["a"],
            allowed: &["a/x", "a/y"],
            ..USUAL
        },
        Case {
            description: "what was in a folder is not gone by the word that the folder is",
            absences: &[("a/x", 101)],
            told: &["a", "a/x", "a/xx", "a/x/y"],
            kept: &["a/x"],
            ..USUAL
        },
        Case { description: "held stays held when the hour is over", held: &[("a/x", false)], kept: &["a/x"], ..USUAL },
        Case {
            description: "what is held uses up nobody else's budget",
            absences: &[("a/x", 101), ("a/y", 1)],
            missed_in: &[("a/x", 4, 7), ("a/y", 4, 7)],
            held: &[("a/x", false)],
            allowed: &["a/y"],
            kept: &["a/x"],
            ..USUAL
        },
        Case {
            description: "an approval is no evidence: missing once is not enough",
            missed_in: &[],
            held: &[("a/x", true)],
            ..USUAL
        },
    ];

    fn judged(case: &Case) -> Verdict {
        let path = |text: &str| text.as_bytes().to_vec();
        let absences = case.absences.iter().map(|(p, entries)| (path(p), Absence { parent_ino: 7, entries: *entries }));
        let scene = Scene {
            absences: absences.collect(),
            entries: case.entries,
            emptied: case.emptied.iter().map(|p| path(p)).collect(),
        };
        let missed = case.missed_in.iter().map(|(p, pass, ino)| (path(p), Missed { pass: *pass, parent_ino: *ino }));
        let memory = Memory {
            pass: 5,
            verified: case.verified,
            missed: missed.collect(),
            held: case.held.iter().map(|(p, approved)| (path(p), *approved)).collect(),
            told: case.told.iter().map(|p| (path(p), ())).collect(),
            removed_last_hour: case.removed_last_hour,
            budget_percent: 5,
        };
        judge(&scene, &memory)
    }

    #[test]
    fn a_removal_needs_evidence_and_a_budget() {
        for case in CASES {
            let verdict = judged(case);
            let names =
                |paths: Vec<&Path>| paths.iter().map(|p| String::from_utf8_lossy(p).into_owned()).collect::<Vec<_>>();
            assert_eq!(names(verdict.allowed.iter().collect()), case.allowed, "allowed: {}", case.description);
            assert_eq!(names(verdict.held.keys().collect()), case.kept, "held: {}", case.description);
            assert_eq!(verdict.missed.len(), case.absences.len(), "remembered: {}", case.description);
        }
    }

    #[test]
    fn evidence_starts_anew_when_a_path_was_back_in_between() {
        let scene =
            Scene { absences: [(b"a/x".to_vec(), Absence { parent_ino: 7, entries: 1 })].into(), ..Scene::default() };
        let mut memory = Memory { verified: true, ..Memory::default() };
        let pass = |memory: &mut Memory, scene: &Scene| {
            memory.pass += 1;
            let verdict = judge(scene, memory);
            memory.missed = verdict.missed;
            verdict.allowed.len()
        };
        assert_eq!(pass(&mut memory, &scene), 0);
        assert_eq!(pass(&mut memory, &Scene::default()), 0);
        assert_eq!(pass(&mut memory, &scene), 0);
        assert_eq!(pass(&mut memory, &scene), 1);
    }
}
