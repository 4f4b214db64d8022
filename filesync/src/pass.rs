//! One pass: list both sides, plan, do the steps, remember.
//!
//! A step that fails is a problem of its own path and holds up nothing else, except what lies below it. Only a lost
//! connection ends a pass early; what was done until then is recorded, and the next pass goes on from there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use futures::stream::{FuturesUnordered, StreamExt};

use crate::courier::{Courier, LARGE_BYTES, Renamed};
use crate::fault::{Fault, blocking};
use crate::follower::Follower;
use crate::lane::{Job, Lane};
use crate::listing::Problem;
use crate::plan::{Comparison, Plan, Step, Trees, plan};
use crate::remote::Grade;
use crate::safety;
use crate::status::now_s;
use crate::store::Record;
use crate::stream::Claims;
use crate::trash::Trash;
use crate::tree::{Entry, Kind, Path, Tree, below, shown, upwards};

mod problems;
mod survey;

use survey::Survey;

/// Steps at once; most are files in flight.
const STEPS_MAX: usize = 128;

/// What a pass needs while it does its steps.
struct Pass<'p> {
    courier: &'p Courier,
    tree: &'p Tree,
    plan: &'p Plan,
    trash: Trash,
    found: Mutex<Found>,
    claims: &'p Arc<Claims>,
    /// Whether the feed has told of all that was listed, and is not known to have failed anywhere.
    is_told: bool,
}

#[derive(Default)]
struct Found {
    problems: Vec<Problem>,
    /// Paths whose step was not done: it failed, the file changed while it was read, or the path is the feed's. Nothing
    /// below them is tried, nor is a folder above them removed.
    undone: BTreeMap<Path, Undone>,
    /// Differences of which the feed has not told.
    missed: u64,
}

/// Why a step was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Undone {
    /// It is shown as a problem.
    Shown,
    /// The feed brings the very thing.
    Fed,
    /// It changed meanwhile.
    Changed,
    /// Something else stands in the way for now.
    Open,
}

/// Does one pass. The error is the sentence why there was none, or why it broke off.
pub async fn run(follower: &Follower, courier: &Courier, lane: &Lane) -> Result<(), String> {
    let (began, began_s) = (Instant::now(), now_s());
    follower.claims.begin_pass();
    let left = follower.left.at_begin();
    let Survey { comparison, ours, theirs } = survey::run(follower, courier).await?;
    // A folder that came and went meanwhile is the feed's, if it has told of it.
    let is_told = |path: &Path| follower.claims.has_told(path);
    let complete = ours.blind.iter().chain(&theirs.blind).all(is_told);
    // What cannot be listed is shown, and holds up nothing else.
    let shown_blind =
        ours.problems.iter().chain(&theirs.problems).map(|problem| &problem.path).collect::<BTreeSet<_>>();
    let is_known = ours.blind.iter().chain(&theirs.blind).all(|path| is_told(path) || shown_blind.contains(path));
    let mut memory = follower.stored(move |store, percent| store.begin_pass(began_s, percent)).await?;
    let gone = memory.told.clone();
    let (pass_number, link_times) = (memory.pass, courier.remote.lsetstat);
    let seen_problems = [ours.problems, theirs.problems].concat();
    let (tree, plan, still_there) = blocking(move || {
        let Comparison { observed: tree, remote, base, alike, .. } = comparison;
        // Only what the standby has and this machine has not: then their number says whether it is all that would go.
        memory.told.retain(|path, ()| remote.contains_key(path) && !tree.contains_key(path));
        let still_there: BTreeSet<Path> = memory.told.keys().cloned().collect();
        let (observed_blind, remote_blind) = (&ours.blind, &theirs.blind);
        let trees = Trees { observed: &tree, observed_blind, remote, remote_blind, base, alike: &alike };
        let plan = plan(trees, link_times, |scene| safety::judge(scene, &memory));
        Ok((tree, plan, still_there))
    })
    .await
    .map_err(|_| "planning broke off".to_owned())?;
    let large = announce(follower, courier, &tree, &plan);
    lane.offer(large, began);
    let verdict = plan.verdict.clone();
    follower.stored(move |store, _| store.keep_verdict(&verdict, now_s())).await?;

    let found = Mutex::new(Found { problems: seen_problems, ..Found::default() });
    // Only a feed that was followed since before the pass began could have told. What was listed may still be on its way.
    let is_followed = follower.board.followed_since().is_some_and(|since| since < began);
    let is_told = is_followed
        && plan.steps().any(is_change)
        && follower.hears_of_all().await
        && follower.left.at_begin().is_empty()
        && follower.board.report().problems == 0;
    let claims = &follower.claims;
    let trash = Trash::new(pass_number);
    let pass = Pass { courier, tree: &tree, plan: &plan, trash, found, claims, is_told };
    let done = pass.all_steps().await;
    courier.ledger.flush().await?;
    let found = pass.found.into_inner().unwrap_or_else(PoisonError::into_inner);
    follower.board.missed(found.missed);
    let changed = found.undone_by(Undone::Changed);
    let unsteady = follower.unsteady(&changed);
    // What never holds still is shown, and holds up nothing else.
    let is_open = !found.undone_by(Undone::Open).is_empty() || changed.len() > unsteady.len();
    let problems = [found.problems.clone(), unsteady].concat();
    problems::keep(follower, problems, found.undone.keys().chain(&plan.waiting), &left, lane).await?;
    done.map_err(|fault| fault.in_words())?;
    let covered = is_known && !is_open && !lane.works_for_passes();
    // A socket in the data folder is a problem to be told, but nothing that is still to come.
    let settled = complete && found.undone.is_empty() && plan.waiting.is_empty() && lane.paths().is_empty();
    follower.board.passed(began, began_s, complete, settled);
    if covered {
        follower.board.covered(began);
    }
    // What is missing must be missing twice.
    let is_judged = |path: &Path| plan.verdict.allowed.contains(path) || plan.verdict.held.contains_key(path);
    if is_open || complete && !plan.verdict.missed.keys().all(is_judged) {
        follower.pass_wanted.notify_one();
    }
    let (pass_ms, entries) = (began.elapsed().as_millis() as u64, plan.entries);
    tracing::debug!(pass_ms, entries, complete, settled, "standby {}: pass done", follower.name());
    // A removal takes more than one pass, and what is not there may appear until all is done.
    let over: Vec<Path> = gone.into_keys().filter(|path| covered && !still_there.contains(path)).collect();
    follower.left.settle(&left);
    follower
        .stored(move |store, _| {
            store.settle_gone(&over)?;
            if complete { store.set_verified() } else { Ok(()) }
        })
        .await
}

/// Shows what is to be done, and says once what is held. Tells the large files.
fn announce(follower: &Follower, courier: &Courier, tree: &Tree, plan: &Plan) -> BTreeMap<Path, Job> {
    let (mut files, mut bytes, mut large) = (0, 0, BTreeMap::new());
    for step in &plan.content {
        let (path, verify, replaces) = match step {
            Step::Put { path, replaces } => (path, false, *replaces),
            Step::Verify { path } => (path, true, true),
            _ => continue,
        };
        let size = tree.get(path).map_or(0, |entry| entry.size);
        if !verify {
            (files, bytes) = (files + 1, bytes + size);
        }
        if size > LARGE_BYTES {
            large.insert(path.clone(), Job { bytes: size, verify, replaces });
        }
    }
    let held: u64 = plan.verdict.held.values().map(|(entries, _)| entries).sum();
    let before = courier.board.report().deletes_held;
    courier.board.update(|report| {
        (report.files_pending, report.bytes_pending) = (files, bytes);
        (report.deletes_held, report.entries) = (held, plan.entries);
    });
    if held > before
        && let Some((path, (_, reason))) = plan.verdict.held.iter().next()
    {
        tracing::warn!(
            "standby {}: the removal of {held} entries is held ({}), {} among them; look at filesync status, then let them go \
             with filesync approve-deletes",
            follower.name(),
            reason.text(),
            shown(path)
        );
    }
    large
}

impl Found {
    /// The paths whose step was not done for a reason.
    fn undone_by(&self, reason: Undone) -> BTreeSet<Path> {
        self.undone.iter().filter(|(_, why)| **why == reason).map(|(path, _)| path.clone()).collect()
    }
}

impl Pass<'_> {
    async fn all_steps(&self) -> Result<(), Fault> {
        for wave in &self.plan.structure {
            self.steps(wave).await?;
        }
        self.steps(&self.plan.content).await?;
        self.steps(&self.plan.removals).await?;
        for wave in &self.plan.folders {
            self.steps(wave).await?;
        }
        Ok(())
    }

    async fn steps(&self, steps: &[Step]) -> Result<(), Fault> {
        let (mut waiting, mut running) = (steps.iter(), FuturesUnordered::new());
        loop {
            while running.len() < STEPS_MAX
                && let Some(step) = waiting.next()
            {
                running.push(self.try_step(step));
            }
            let Some(outcome) = running.next().await else { return Ok(()) };
            outcome?;
        }
    }

    /// Does a step and notes how it went. Only a lost connection is an error.
    async fn try_step(&self, step: &Step) -> Result<(), Fault> {
        let path = path_of(step);
        if let Some(why) = self.held_up_by(step) {
            if needs_doing(step) {
                let undone = match why {
                    // It stands for all that it holds up.
                    Undone::Shown => Undone::Shown,
                    _ if self.claims.has_told_exactly(path) => Undone::Fed,
                    _ => Undone::Open,
                };
                let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
                found.undone.entry(path.clone()).or_insert(undone);
            }
            return Ok(());
        }
        let claim = if self.is_at_folder(step) { self.claims.step_at_folder(path) } else { self.claims.step(path) };
        let other = if let Step::Rename { from, .. } = step { self.claims.step(from) } else { None };
        let is_free = claim.is_some() && (other.is_some() || !matches!(step, Step::Rename { .. }));
        let outcome = if is_free { Some(self.step(step).await) } else { None };
        drop((claim, other));
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let undone = match outcome {
            Some(Err(Fault::Lost(error))) => return Err(Fault::Lost(error)),
            Some(Ok(())) => {
                if self.is_missed(step) {
                    tracing::info!("the feed has not told of what made this necessary: {}", shown(path));
                    found.missed += 1;
                }
                return Ok(());
            }
            Some(Err(Fault::Changed)) => Undone::Changed,
            Some(Err(fault)) => {
                found.problems.push(Problem { path: path.clone(), sentence: fault.in_words() });
                Undone::Shown
            }
            None if !needs_doing(step) || self.claims.has_told_exactly(path) => Undone::Fed,
            None => Undone::Open,
        };
        found.undone.insert(path.clone(), undone);
        if let Step::Rename { from, .. } = step {
            found.undone.insert(from.clone(), undone);
        }
        Ok(())
    }

    /// Whether a step concerns a folder itself, and nothing in it.
    fn is_at_folder(&self, step: &Step) -> bool {
        let is_folder = || self.tree.get(path_of(step)).is_some_and(|entry| entry.kind == Kind::Folder);
        match step {
            Step::Loosen { .. } | Step::Mkdir { .. } => true,
            // Other servers are asked what they made of it, which what comes into it meanwhile would falsify.
            Step::SetAttr { .. } | Step::Adopt { .. } => self.courier.remote.grade == Grade::Pair && is_folder(),
            _ => false,
        }
    }

    /// Whether the feed should have told of what a step has put right.
    fn is_missed(&self, step: &Step) -> bool {
        let path = path_of(step);
        let is_large = self.tree.get(path).is_some_and(|entry| entry.size > LARGE_BYTES);
        self.is_told && is_change(step) && !is_large
    }

    /// Why a step that must come before this one was not done, if there is such a step.
    fn held_up_by(&self, step: &Step) -> Option<Undone> {
        let undone = &self.found.lock().unwrap_or_else(PoisonError::into_inner).undone;
        let path = path_of(step);
        if undone.is_empty() {
            return None;
        }
        // Something else may stand under the old name.
        let old_name = if let Step::Rename { from, .. } = step { undone.get(from) } else { None };
        // What was to be renamed out of it is still there.
        let inside = if let Step::Trash { .. } = step { below(undone, path).next().map(|(_, why)| why) } else { None };
        old_name.or(inside).or_else(|| upwards(path).find_map(|above| undone.get(above))).copied()
    }

    async fn step(&self, step: &Step) -> Result<(), Fault> {
        let (courier, remote) = (self.courier, &self.courier.remote);
        match step {
            Step::Loosen { path, mode } => {
                let attrs = pair::wire::Attrs { mode: Some(*mode), ..Default::default() };
                Ok(remote.client.setstat(&remote.at(path), attrs).await?)
            }
            Step::Mkdir { path } => {
                let mode = self.entry(path)?.mode | 0o700;
                Ok(remote.client.mkdir(&remote.at(path), mode).await?)
            }
            Step::Rename { from, to, replaces } => self.rename(from, to, *replaces).await,
            Step::Trash { path, entries } => self.remove(path, *entries).await,
            Step::Put { path, .. } | Step::Verify { path } if self.entry(path)?.size > LARGE_BYTES => Ok(()),
            Step::Put { path, replaces } => courier.put(path, *replaces, &self.trash).await,
            Step::Link { path, replaces } => courier.link(path, self.entry(path)?, *replaces, &self.trash).await,
            Step::Verify { path } => courier.verify(path, &self.trash).await,
            Step::SetAttr { path } => courier.set_attributes(path, self.entry(path)?).await,
            Step::Adopt { path, remote } => {
                let base = crate::tree::Base { source: self.entry(path)?.clone(), remote: remote.clone() };
                courier.ledger.record(Record::Agree(path.clone(), base)).await;
                Ok(())
            }
        }
    }

    fn entry(&self, path: &[u8]) -> Result<&Entry, Fault> {
        self.tree.get(path).ok_or(Fault::Changed)
    }

    async fn rename(&self, from: &[u8], to: &[u8], replaces: bool) -> Result<(), Fault> {
        let remote = &self.courier.remote;
        if replaces && self.entry(to)?.kind == Kind::File {
            self.trash.rename_over(remote, from, to).await?;
        } else {
            if replaces {
                self.trash.take(remote, to).await?;
            }
            match self.courier.rename(from, to).await? {
                Renamed::Done => {}
                // Somebody else has changed the standby since it was listed.
                Renamed::Taken(_) | Renamed::Missing => return Err(Fault::Changed),
            }
        }
        self.courier.ledger.record(Record::Move(from.to_vec(), to.to_vec())).await;
        Ok(())
    }

    async fn remove(&self, path: &[u8], entries: u64) -> Result<(), Fault> {
        self.trash.take(&self.courier.remote, path).await?;
        self.courier.ledger.record(Record::Forget(path.to_vec())).await;
        let verdict = &self.plan.verdict;
        if verdict.allowed.contains(path) && !verdict.approved.contains(path) {
            self.courier.ledger.record(Record::Removed(entries)).await;
        }
        Ok(())
    }
}

/// Whether without a step the standby would lack something, or might.
fn needs_doing(step: &Step) -> bool {
    is_change(step) || matches!(step, Step::Verify { .. })
}

/// Whether a step makes good a change, and not only what a change leaves behind.
fn is_change(step: &Step) -> bool {
    matches!(step, Step::Rename { .. } | Step::Mkdir { .. } | Step::Trash { .. } | Step::Put { .. } | Step::Link { .. })
}

fn path_of(step: &Step) -> &Path {
    match step {
        Step::Rename { to, .. } => to,
        Step::Loosen { path, .. }
        | Step::Mkdir { path }
        | Step::Trash { path, .. }
        | Step::Put { path, .. }
        | Step::Link { path, .. }
        | Step::Verify { path }
        | Step::SetAttr { path }
        | Step::Adopt { path, .. } => path,
    }
}
