//! Paths at which the feed's changes could not be made: the next pass sees to them.
//!
//! Always holds: a path stays noted until a pass that began after it was left has come to its end.

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
    /// When, in that count, each path was left last.
    paths: BTreeMap<Path, u64>,
}

/// What was left when a pass began.
#[derive(Clone, Debug, Default)]
pub struct AtBegin(BTreeMap<Path, u64>);

impl AtBegin {
    /// Whether nothing was left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Left {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves paths to the next pass.
    pub fn add(&self, paths: &[Path]) {
        let state = &mut *self.state();
        state.count += 1;
        state.paths.extend(paths.iter().map(|path| (path.clone(), state.count)));
    }

    /// What is left to the pass that begins.
    pub fn at_begin(&self) -> AtBegin {
        AtBegin(self.state().paths.clone())
    }

    /// The pass has come to its end: what was left to it is over.
    pub fn settle(&self, before: &AtBegin) {
        self.state().paths.retain(|path, when| before.0.get(path) != Some(when));
    }

    /// What was left since a pass began.
    pub fn since(&self, before: &AtBegin) -> BTreeSet<Path> {
        let state = self.state();
        let is_new = |(path, when): &(&Path, &u64)| before.0.get(*path) != Some(when);
        state.paths.iter().filter(is_new).map(|(path, _)| path.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_during_a_pass_is_for_the_next_one_also_if_it_was_left_before() {
        let left = Left::default();
        left.add(&[b"a".to_vec(), b"b".to_vec()]);
        let pass = left.at_begin();
        left.add(&[b"b".to_vec(), b"c".to_vec()]);
        assert_eq!(left.since(&pass), [b"b".to_vec(), b"c".to_vec()].into());
        left.settle(&pass);
        let next = left.at_begin();
        assert_eq!((next.0.len(), left.since(&next).len()), (2, 0));
        left.settle(&next);
        assert!(left.at_begin().is_empty());
    }
}
