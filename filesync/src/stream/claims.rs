//! Who is at work where on a standby: the feed's changes come before a pass, which saw the volume some time ago.
//!
//! Always holds: a pass does nothing to a path that the feed has told of since the pass began, nor in it or above it; the
//! feed's change waits for a step of a pass that is under way there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::tree::{Path, below, meets, upwards};

/// Paths that are remembered at most; past it a pass leaves everything to the feed.
const TOLD_MAX: usize = 200_000;

/// Shared by a standby's passes and its feed.
#[derive(Default)]
pub struct Claims {
    // Held for a lookup.
    state: Mutex<State>,
    stepped: Notify,
}

#[derive(Default)]
struct State {
    /// Paths of the feed's changes that are not over, and how many concern each.
    under_way: BTreeMap<Path, usize>,
    /// Paths that the feed has told of since the last pass began, and whether what is in them is concerned too.
    told: BTreeMap<Path, bool>,
    /// Whether there were too many of them.
    is_all_told: bool,
    /// Paths of the pass's steps that are under way.
    steps: BTreeMap<Path, usize>,
}

/// A pass may work at a path until this is dropped.
pub struct Step {
    claims: Arc<Claims>,
    path: Path,
}

/// A change of the feed is under way until this is dropped.
pub struct Told {
    claims: Arc<Claims>,
    paths: Vec<Path>,
}

fn release(paths: &mut BTreeMap<Path, usize>, path: &[u8]) {
    if let Some(count) = paths.get_mut(path) {
        *count -= 1;
        if *count == 0 {
            paths.remove(path);
        }
    }
}

/// Whether the feed has told of a path, or of a folder above it with what is in it.
fn is_told(told: &BTreeMap<Path, bool>, path: &[u8]) -> bool {
    told.contains_key(path) || upwards(path).any(|above| told.get(above) == Some(&true))
}

impl Claims {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A pass begins: what it is about to list may lack only what is not over yet.
    pub fn begin_pass(&self) {
        let mut state = self.state();
        state.told = state.under_way.keys().map(|path| (path.clone(), true)).collect();
        state.is_all_told = false;
    }

    /// Lets a pass do a step at a path, unless that is the feed's.
    pub fn step(self: &Arc<Self>, path: &[u8]) -> Option<Step> {
        self.begin(path, |state| {
            state.is_all_told || is_told(&state.told, path) || below(&state.told, path).next().is_some()
        })
    }

    /// Lets a pass do something to a folder that does nothing to what is in it: then what the feed has told of in there does
    /// not matter. Else no pass could make a folder into which somebody writes all the time.
    pub fn step_at_folder(self: &Arc<Self>, path: &[u8]) -> Option<Step> {
        self.begin(path, |state| state.is_all_told || is_told(&state.told, path))
    }

    fn begin(self: &Arc<Self>, path: &[u8], is_refused: impl FnOnce(&State) -> bool) -> Option<Step> {
        let mut state = self.state();
        if is_refused(&state) {
            return None;
        }
        *state.steps.entry(path.to_vec()).or_default() += 1;
        Some(Step { claims: self.clone(), path: path.to_vec() })
    }

    /// Whether the feed has told of this very path since the last pass began.
    pub fn has_told_exactly(&self, path: &[u8]) -> bool {
        self.state().told.contains_key(path)
    }

    /// Whether the feed has told of a path since the last pass began, or of a folder above it with what is in it.
    pub fn has_told(&self, path: &[u8]) -> bool {
        is_told(&self.state().told, path)
    }

    /// Lets somebody work at a path unless a change of the feed is under way there: for what looks itself whether the volume
    /// is still as it was.
    pub fn quiet(self: &Arc<Self>, path: &[u8]) -> Option<Step> {
        self.begin(path, |state| meets(&state.under_way, path))
    }

    /// The feed has told of a change: from now on its paths are no pass's, nor is what is in them, unless the change is one of
    /// a folder alone.
    pub fn tell(self: &Arc<Self>, paths: Vec<Path>, is_alone: bool) -> Told {
        let mut state = self.state();
        if state.told.len() > TOLD_MAX {
            state.told.clear();
            state.is_all_told = true;
        }
        for path in &paths {
            let concerns_inside = state.told.entry(path.clone()).or_default();
            *concerns_inside |= !is_alone;
            *state.under_way.entry(path.clone()).or_default() += 1;
        }
        Told { claims: self.clone(), paths }
    }
}

impl Told {
    /// The paths that the change concerns.
    pub fn paths(&self) -> &[Path] {
        &self.paths
    }

    /// Comes back when no step of a pass is under way at these paths. No other begins meanwhile.
    pub async fn alone(&self) {
        loop {
            let stepped = self.claims.stepped.notified();
            tokio::pin!(stepped);
            stepped.as_mut().enable();
            if !self.paths.iter().any(|path| meets(&self.claims.state().steps, path)) {
                return;
            }
            stepped.await;
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        release(&mut self.claims.state().steps, &self.path);
        self.claims.stepped.notify_waiters();
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        let mut state = self.claims.state();
        self.paths.iter().for_each(|path| release(&mut state.under_way, path));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_leaves_to_the_feed_what_was_told_since_it_began() {
        let claims = Arc::new(Claims::default());
        let told = claims.tell(vec![b"a/b".to_vec()], false);
        assert!(["a", "a/b", "a/b/c"].iter().all(|path| claims.step(path.as_bytes()).is_none()));
        assert!(["a/c", "a.b", "b"].iter().all(|path| claims.step(path.as_bytes()).is_some()));
        claims.begin_pass();
        assert!(claims.step(b"a/b").is_none(), "it is not over: the pass may have listed what was before");
        drop(told);
        assert!(claims.step(b"a/b").is_none());
        claims.begin_pass();
        assert!(claims.step(b"a/b").is_some());
    }

    #[tokio::test]
    async fn what_looks_itself_is_refused_only_what_is_under_way() {
        let claims = Arc::new(Claims::default());
        let told = claims.tell(vec![b"a".to_vec()], false);
        assert!(claims.quiet(b"a/b").is_none());
        drop(told);
        let step = claims.quiet(b"a/b").unwrap();
        assert!(claims.step(b"a/b").is_none(), "the pass has seen it as it was before");
        let told = claims.tell(vec![b"a".to_vec()], false);
        let mut alone = Box::pin(told.alone());
        assert!(futures::poll!(&mut alone).is_pending());
        drop(step);
        alone.await;
    }

    #[test]
    fn a_folder_can_be_made_while_the_feed_tells_of_what_comes_into_it() {
        let claims = Arc::new(Claims::default());
        let _told = claims.tell(vec![b"a/b/x".to_vec()], false);
        let _alone = claims.tell(vec![b"d".to_vec()], true);
        assert!(claims.step(b"d/x").is_some() && claims.step(b"d").is_none() && claims.step_at_folder(b"d").is_none());
        assert!(claims.step(b"a/b").is_none());
        assert!(claims.step_at_folder(b"a/b").is_some() && claims.step_at_folder(b"a").is_some());
        assert!(claims.step_at_folder(b"a/b/x").is_none() && claims.step_at_folder(b"a/b/x/y").is_none());
        assert!(claims.has_told_exactly(b"a/b/x") && !claims.has_told_exactly(b"a/b"));
    }

    #[test]
    fn too_many_paths_are_all_the_feeds() {
        let claims = Arc::new(Claims::default());
        for number in 0..TOLD_MAX + 2 {
            drop(claims.tell(vec![number.to_string().into_bytes()], false));
        }
        assert!(claims.step(b"other").is_none() && claims.state().told.len() < 10);
        claims.begin_pass();
        assert!(claims.step(b"other").is_some());
    }

    #[tokio::test]
    async fn the_feed_waits_for_a_step_that_is_under_way() {
        let claims = Arc::new(Claims::default());
        let step = claims.step(b"a/b").unwrap();
        let told = claims.tell(vec![b"a".to_vec()], false);
        let mut alone = Box::pin(told.alone());
        assert!(futures::poll!(&mut alone).is_pending());
        assert!(claims.step(b"a/b").is_none(), "no other begins");
        drop(step);
        alone.await;
    }
}
