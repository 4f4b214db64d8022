//! What was changed on this machine since it became the master: the proof that a path is untouched.
//!
//! Where the journal does not prove it, nothing is untouched. What is restored here is no change of anybody's: it counts only against a
//! second version of the same path.

use std::collections::{BTreeSet, HashSet};
use std::ops::Bound;

use pair::record::{Operation, Record, VolumePath};

use crate::storage::Volume;

/// Changes that are looked at, at most.
const RECORDS_MAX: usize = 200_000;

/// Records that are read from the journal at once.
const BATCH: usize = 5000;

/// What was changed.
#[derive(Debug, Default)]
pub struct Touched {
    /// The last record that was looked at.
    seen: u64,
    count: usize,
    /// The paths and targets of all changes.
    paths: BTreeSet<Vec<u8>>,
    /// Those of them that were moved or removed, with all that was in them.
    moved: HashSet<Vec<u8>>,
    restored: HashSet<Vec<u8>>,
    /// Why nothing is known to be untouched.
    unproven: Option<&'static str>,
}

impl Touched {
    /// Looks at the journal. Reads it: not for an async thread.
    pub fn begin(volume: &Volume) -> anyhow::Result<Touched> {
        let seen = volume.chapter().began_after;
        let mut touched = Touched { seen, ..Touched::default() };
        touched.look_again(volume)?;
        Ok(touched)
    }

    /// Looks at what has come since.
    pub fn look_again(&mut self, volume: &Volume) -> anyhow::Result<()> {
        // Of what is decided by now all is seen afterwards, heartbeats too, which are not told.
        let (before, decided) = (self.seen, *volume.decided().borrow());
        while self.unproven.is_none() {
            let records = volume.records_that_may_be(self.seen, BATCH)?;
            let Some(last) = records.last() else { break };
            self.seen = last.seq;
            records.iter().for_each(|record| self.note(record));
        }
        self.seen = self.seen.max(decided);
        // After they were read: what was dropped before that was not among them.
        if volume.first_seq()? > before.saturating_add(1) {
            self.give_up("the journal no longer has all changes since this machine became the master");
        }
        Ok(())
    }

    fn note(&mut self, record: &Record) {
        if record.op == Operation::Mark || self.restored.contains(&record.path.0) {
            return;
        }
        self.count += 1;
        if self.count > RECORDS_MAX {
            return self.give_up("too much was changed here since this machine became the master");
        }
        // What a symbolic link says is no path of a change.
        let target = record.target.as_ref().filter(|_| record.op != Operation::Symlink);
        for VolumePath(path) in [Some(&record.path), target].into_iter().flatten() {
            if matches!(record.op, Operation::Rename | Operation::Remove | Operation::Rmdir) {
                self.moved.insert(path.clone());
            }
            self.paths.insert(path.clone());
        }
    }

    fn give_up(&mut self, reason: &'static str) {
        let restored = std::mem::take(&mut self.restored);
        *self = Touched { unproven: Some(self.unproven.unwrap_or(reason)), restored, ..Touched::default() };
    }

    /// A path is about to be restored.
    pub fn restores(&mut self, path: &[u8]) {
        self.restored.insert(path.to_vec());
    }

    /// Why a path is not known to be untouched; none: it is. `is_tree`: with all that is in it.
    pub fn reason(&self, path: &[u8], is_tree: bool) -> Option<String> {
        if let Some(reason) = self.unproven {
            return Some(reason.into());
        }
        if self.restored.contains(path) {
            return Some("another version of it has just been restored".into());
        }
        if self.paths.contains(path) {
            return Some("it was changed here since this machine became the master".into());
        }
        let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        let mut above = slashes.filter_map(|(slash, _)| path.get(..slash));
        if let Some(folder) = above.find(|folder| self.moved.contains(*folder)) {
            let folder = VolumePath(folder.to_vec());
            return Some(format!("the folder {folder} was moved or removed here since this machine became the master"));
        }
        let inside = [path, b"/"].concat();
        let mut behind = self.paths.range((Bound::Included(inside.clone()), Bound::Unbounded));
        let is_inside = is_tree && behind.next().is_some_and(|first| first.starts_with(&inside));
        is_inside.then(|| "something in it was changed here since this machine became the master".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(touched: &mut Touched, op: Operation, path: &str, target: Option<&str>) {
        let path = VolumePath(path.as_bytes().to_vec());
        let target = target.map(|target| VolumePath(target.as_bytes().to_vec()));
        let text = serde_json::json!({"seq": 1, "time_ms": 0, "account": "", "op": op, "path": path, "target": target});
        touched.note(&serde_json::from_value(text).unwrap());
    }

    #[test]
    fn a_path_is_untouched_where_nothing_happened_at_it_above_it_or_in_it() {
        let mut touched = Touched::default();
        note(&mut touched, Operation::Put, "a/put", None);
        note(&mut touched, Operation::Mkdir, "made", None);
        note(&mut touched, Operation::Rename, "from", Some("to"));
        note(&mut touched, Operation::Rmdir, "gone", None);
        note(&mut touched, Operation::Symlink, "link", Some("said"));
        let is_untouched = |path: &str, is_tree| touched.reason(path.as_bytes(), is_tree).is_none();
        for path in ["a", "a/pu", "a/put-x", "made/x", "said", "said/x", "link/x", "gon"] {
            assert!(is_untouched(path, false), "{path}");
        }
        for path in ["a/put", "made", "from", "from/x/y", "to", "to/x", "gone/x", "link"] {
            assert!(!is_untouched(path, false), "{path}");
        }
        assert!(!is_untouched("a", true) && is_untouched("a/pu", true));
    }

    #[test]
    fn what_is_restored_counts_against_a_second_version_alone() {
        let mut touched = Touched::default();
        touched.restores(b"a/x");
        note(&mut touched, Operation::Put, "a/x", None);
        assert!(touched.reason(b"a/x", false).unwrap().contains("another version"));
        assert!(touched.reason(b"a", true).is_none());
        assert_eq!(touched.count, 0);
    }

    #[test]
    fn past_so_many_changes_nothing_is_known_to_be_untouched() {
        let mut touched = Touched::default();
        (0..=RECORDS_MAX).for_each(|number| note(&mut touched, Operation::Put, &number.to_string(), None));
        assert!(touched.reason(b"elsewhere", false).unwrap().contains("too much"));
    }
}
