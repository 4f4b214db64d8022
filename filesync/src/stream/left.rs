//! Paths at which the feed's changes could not be made: the next pass sees to them.
//!
//! Always holds: a path stays noted until a pass that began after it was left has come to its end, and one that is gone
//! until the standby has it no more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::tree::Path;

/// What the feed has left to passes.
#[derive(Default)]
pub struct Left {
    // Held for a lookup.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// How often something was left.
    count: u64,
    /// When, in that count, each path was left last, and whether it is gone.
    paths: BTreeMap<Path, (u64, bool)>,
}

/// What was left when a pass began.
#[derive(Clone, Debug, Default)]
pub struct AtBegin(BTreeMap<Path, (u64, bool)>);

impl AtBegin {
    /// The paths that the feed has told to be gone.
    pub fn gone(&self) -> BTreeSet<Path> {
        self.0.iter().filter(|(_, (_, is_gone))| *is_gone).map(|(path, _)| path.clone()).collect()
    }

    /// Whether nothing was left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Left {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves paths to the next pass; of the first it is told whether it is gone.
    pub fn add(&self, paths: &[Path], is_gone: bool) {
        let state = &mut *self.state();
        state.count += 1;
        let left = paths.iter().enumerate();
        state.paths.extend(left.map(|(number, path)| (path.clone(), (state.count, is_gone && number == 0))));
    }

    /// What is left to the pass that begins.
    pub fn at_begin(&self) -> AtBegin {
        AtBegin(self.state().paths.clone())
    }

    /// The pass has come to its end: what was left to it is over, but for what is gone and `is_missing` still says to be on
    /// the standby: a removal takes more than one pass.
    pub fn settle(&self, before: &AtBegin, is_missing: impl Fn(&[u8]) -> bool) {
        let is_over =
            |path: &Path, when: &(u64, bool)| before.0.get(path) == Some(when) && !(when.1 && is_missing(path));
        self.state().paths.retain(|path, when| !is_over(path, when));
    }

    /// What was left since a pass began.
    pub fn since(&self, before: &AtBegin) -> BTreeSet<Path> {
        let state = self.state();
        let is_new = |(path, when): &(&Path, &(u64, bool))| before.0.get(*path) != Some(when);
        state.paths.iter().filter(is_new).map(|(path, _)| path.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_during_a_pass_is_for_the_next_one_also_if_it_was_left_before() {
        let left = Left::default();
        left.add(&[b"a".to_vec(), b"b".to_vec()], true);
        let pass = left.at_begin();
        assert_eq!(pass.gone(), [b"a".to_vec()].into());
        left.add(&[b"b".to_vec(), b"c".to_vec()], false);
        assert_eq!(left.since(&pass), [b"b".to_vec(), b"c".to_vec()].into());
        left.settle(&pass, |path| path == b"a");
        assert_eq!(left.at_begin().gone(), [b"a".to_vec()].into(), "it is still to be removed");
        left.settle(&pass, |_| false);
        let next = left.at_begin();
        assert!(next.gone().is_empty() && !next.is_empty());
        left.settle(&next, |_| false);
        assert!(left.at_begin().is_empty());
    }
}
