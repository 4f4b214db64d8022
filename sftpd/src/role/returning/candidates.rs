//! Which paths may hold what only this machine has: those that its journal names behind the last change that the new master got, or all.
//!
//! It looks at the journal alone; what stands at the paths is looked at by the walk.

use std::collections::{BTreeSet, HashMap};

use pair::record::{Operation, Record};

use crate::storage::Volume;

/// Records that are read from the journal at once.
const BATCH: usize = 5000;

/// Where to look.
#[derive(Debug, Default)]
pub struct Candidates {
    /// Whether that is everywhere.
    pub everything: bool,
    /// The last change of each path.
    last: HashMap<Vec<u8>, u64>,
    /// What came under these paths came with all that was in it.
    moved: HashMap<Vec<u8>, u64>,
    /// Whether changes may have happened that the journal has lost.
    has_mark: bool,
}

impl Candidates {
    /// Reads the journal. `is_certain` says whether it has every change, also after a power failure.
    /// What is in `direct` may have been written in place long after its last record.
    pub fn load(
        volume: &Volume,
        after: Option<u64>,
        is_certain: bool,
        direct: &[Vec<u8>],
    ) -> anyhow::Result<Candidates> {
        let first = volume.first_seq()?;
        // A journal that was lost begins anew, below what the new master has.
        let last = *volume.decided().borrow();
        let known = after.filter(|after| first <= after.saturating_add(1) && *after <= last);
        let mut candidates = Candidates { everything: known.is_none(), ..Candidates::default() };
        for home in direct {
            candidates.last.insert(home.clone(), 0);
            candidates.moved.insert(home.clone(), 0);
        }
        let mut seen = known.unwrap_or(0);
        loop {
            let records = volume.records_that_may_be(seen, BATCH)?;
            let Some(last) = records.last() else { break };
            seen = last.seq;
            records.iter().for_each(|record| candidates.note(record));
        }
        // It may have dropped some while it was read.
        candidates.everything |= candidates.has_mark && !is_certain;
        candidates.everything |= known.is_some_and(|after| volume.first_seq().is_ok_and(|first| first > after + 1));
        Ok(candidates)
    }

    fn note(&mut self, record: &Record) {
        let path = || record.path.0.clone();
        match (record.op, &record.target) {
            (Operation::Rename, Some(target)) => {
                self.last.insert(path(), record.seq);
                self.last.insert(target.0.clone(), record.seq);
                self.moved.insert(target.0.clone(), record.seq);
            }
            (Operation::Link, Some(target)) => drop(self.last.insert(target.0.clone(), record.seq)),
            (Operation::Mark, _) => self.has_mark = true,
            // A removal is not done over; what came under the name later has a record of its own.
            (Operation::Remove | Operation::Rmdir | Operation::Heartbeat, _) => {}
            _ => drop(self.last.insert(path(), record.seq)),
        }
    }

    /// The last change of a path, or of the folder with which it came.
    pub fn seq(&self, path: &[u8]) -> Option<u64> {
        let moved = above(path).find_map(|folder| self.moved.get(folder));
        self.last.get(path).max(moved).copied()
    }

    /// Whether all below a path is to be looked at.
    pub fn goes_below(&self, path: &[u8]) -> bool {
        self.everything || self.moved.contains_key(path)
    }

    /// Where to begin, in the order of paths: parents come first, and nothing is met twice.
    pub fn starts(&self) -> Vec<Vec<u8>> {
        let is_met = |path: &[u8]| above(path).any(|folder| self.moved.contains_key(folder));
        let paths: BTreeSet<Vec<&[u8]>> = self
            .last
            .keys()
            .filter(|path| !is_met(path))
            .map(|path| path.split(|byte| *byte == b'/').collect())
            .collect();
        paths.into_iter().map(|components| components.join(&b'/')).collect()
    }
}

/// The folders in which a path lies, the innermost first.
fn above(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let slashes = path.iter().enumerate().rev().filter(|(_, byte)| **byte == b'/');
    slashes.filter_map(|(slash, _)| path.get(..slash))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pair::record::VolumePath;

    fn noted(records: &[(u64, Operation, &str, Option<&str>)]) -> Candidates {
        let mut candidates = Candidates::default();
        for (seq, op, path, target) in records {
            let path = VolumePath(path.as_bytes().to_vec());
            let target = target.map(|target| VolumePath(target.as_bytes().to_vec()));
            let text =
                serde_json::json!({"seq": seq, "time_ms": 0, "account": "", "op": op, "path": path, "target": target});
            candidates.note(&serde_json::from_value(text).unwrap());
        }
        candidates
    }

    #[test]
    fn parents_come_first_and_what_is_in_a_moved_folder_is_met_once() {
        use Operation::*;
        let candidates = noted(&[
            (1, Put, "a/in/x", None),
            (2, Put, "a-b", None),
            (3, Mkdir, "a", None),
            (4, Rename, "old", Some("a/in")),
            (5, Remove, "gone", None),
            (6, Link, "a/y", Some("z")),
            (7, Symlink, "link", Some("what it says")),
            (8, Put, "a/in/x", None),
        ]);
        let starts: Vec<_> = candidates.starts().into_iter().map(|path| String::from_utf8(path).unwrap()).collect();
        assert_eq!(starts, ["a", "a/in", "a-b", "link", "old", "z"]);
        assert!(candidates.goes_below(b"a/in") && !candidates.goes_below(b"a"));
        assert_eq!(candidates.seq(b"a/in/deep/er"), Some(4));
        assert_eq!((candidates.seq(b"a/in/x"), candidates.seq(b"a/y")), (Some(8), None));
    }
}
