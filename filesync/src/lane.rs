//! The way for large files, beside the passes and on connections of its own: a file of 100 GB never delays one of 1 KB, nor
//! the next pass.
//!
//! Passes offer what is to be sent; workers take the smallest first. One worker takes nothing above 1 GiB, so that a huge
//! file does not hold up the merely large ones either.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pair::client::ClientError;
use tokio::sync::{Notify, oneshot};

use crate::courier::Courier;
use crate::fault::Fault;
use crate::follower::Follower;
use crate::listing::Problem;
use crate::trash::Trash;
use crate::tree::{Path, is_below};

/// What each worker takes at most, in bytes.
pub const WORKERS_BYTES_MAX: [u64; 2] = [1 << 30, u64::MAX];
/// How often a file may change while it is sent before that is a problem.
pub const UNSTEADY_MAX: u32 = 3;
/// That problem.
pub const UNSTEADY: &str = "it changes faster than it can be sent";
/// How long a worker waits after its connection failed.
const PAUSE: Duration = Duration::from_secs(2);

/// A large file to be brought up to date.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Its size in bytes.
    pub bytes: u64,
    /// Compare first, and send only what differs.
    pub verify: bool,
    /// Something is there that must be kept in the trash.
    pub replaces: bool,
}

/// The jobs of one standby.
#[derive(Default)]
pub struct Lane {
    jobs: Mutex<Jobs>,
    offered: Notify,
    /// Told when the last job of passes is done: another can settle what is left, such as times of folders.
    pub idle: Notify,
}

#[derive(Default)]
struct Jobs {
    waiting: BTreeMap<Path, Job>,
    running: BTreeSet<Path>,
    /// When a path was last done with.
    finished: BTreeMap<Path, Instant>,
    problems: Vec<Problem>,
    /// How often in a row a file has changed while it was sent.
    unsteady: BTreeMap<Path, u32>,
    /// Whether something that a pass has offered went without having arrived or being shown, since the last offer.
    is_dropped: bool,
    /// Paths that run, and are gone from there.
    forgotten: BTreeSet<Path>,
    /// Who waits for a path: changes that the feed has told of.
    told: BTreeMap<Path, Vec<oneshot::Sender<Result<(), Fault>>>>,
}

impl Jobs {
    fn is_told(&self, path: &[u8]) -> bool {
        // Who waited is gone when the feed is: then it is a file like any other.
        self.told.get(path).is_some_and(|waiters| waiters.iter().any(|waiter| !waiter.is_closed()))
    }
}

impl Lane {
    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces what waits by what a pass found; what runs goes on. What was finished after the pass began may have been
    /// listed before, and must not be sent once more for that.
    pub fn offer(&self, found: BTreeMap<Path, Job>, began: Instant) {
        let mut jobs = self.jobs();
        jobs.is_dropped = false;
        jobs.unsteady.retain(|path, _| found.contains_key(path));
        let Jobs { waiting, running, finished, told, .. } = &mut *jobs;
        told.retain(|_, waiters| waiters.iter().any(|waiter| !waiter.is_closed()));
        waiting.retain(|path, _| told.contains_key(path));
        for (path, job) in found {
            waiting.entry(path).or_insert(job);
        }
        finished.retain(|_, at| *at >= began);
        let is_told = |path: &Path| told.contains_key(path);
        waiting.retain(|path, _| is_told(path) || !(running.contains(path) || finished.contains_key(path)));
        self.offered.notify_waiters();
    }

    /// Brings a file that the feed has told of. Comes back when it is done, or why not.
    pub async fn bring(&self, path: Path, job: Job) -> Result<(), Fault> {
        let (done, wait) = oneshot::channel();
        {
            let mut jobs = self.jobs();
            jobs.told.entry(path.clone()).or_default().push(done);
            jobs.waiting.insert(path, job);
        }
        self.offered.notify_waiters();
        wait.await.unwrap_or(Err(Fault::Changed))
    }

    /// Lets go of what waits at a path, or below it too: it is gone from there, or will be.
    pub fn forget(&self, path: &[u8], below_too: bool) {
        let mut jobs = self.jobs();
        let is_it = |at: &Path| at == path || below_too && is_below(at, path);
        let Jobs { waiting, running, told, is_dropped, forgotten, .. } = &mut *jobs;
        let is_gone = |at: &Path| is_it(at) && !running.contains(at);
        *is_dropped |= waiting.keys().any(|at| is_gone(at) && !told.contains_key(at));
        waiting.retain(|at, _| !is_gone(at));
        // Who waited hears by its being dropped, and looks again.
        told.retain(|at, _| !is_gone(at));
        // What runs looks itself now and then, unless it has no connection.
        forgotten.extend(running.iter().filter(|at| is_it(at)).cloned());
    }

    /// Whether there is something to do that a pass has offered, and that is no problem that is shown.
    pub fn works_for_passes(&self) -> bool {
        let jobs = self.jobs();
        let is_shown = |path: &Path| jobs.unsteady.get(path).is_some_and(|times| *times >= UNSTEADY_MAX);
        jobs.is_dropped || jobs.waiting.keys().chain(&jobs.running).any(|path| !jobs.is_told(path) && !is_shown(path))
    }

    /// The paths that wait or run.
    pub fn paths(&self) -> BTreeSet<Path> {
        let jobs = self.jobs();
        jobs.waiting.keys().chain(&jobs.running).cloned().collect()
    }

    /// What went wrong since the last call.
    pub fn take_problems(&self) -> Vec<Problem> {
        std::mem::take(&mut self.jobs().problems)
    }

    fn take(&self, bytes_max: u64) -> Option<(Path, Job)> {
        let mut jobs = self.jobs();
        let is_free = |path: &Path| !jobs.running.contains(path);
        let fitting = jobs.waiting.iter().filter(|(path, job)| job.bytes <= bytes_max && is_free(path));
        let path = fitting.min_by_key(|(_, job)| job.bytes)?.0.clone();
        let job = jobs.waiting.remove(&path)?;
        jobs.running.insert(path.clone());
        Some((path, job))
    }

    /// Whether the feed has told of a path: then no pass may claim it.
    fn is_told(&self, path: &[u8]) -> bool {
        self.jobs().is_told(path)
    }

    /// What broke off is tried again, if somebody waits for it; else the next pass offers it.
    fn retry(&self, path: Path, job: Job) {
        let mut jobs = self.jobs();
        jobs.running.remove(&path);
        if jobs.forgotten.remove(&path) {
            jobs.told.remove(&path);
        }
        if jobs.is_told(&path) {
            jobs.waiting.entry(path).or_insert(job);
        } else {
            jobs.is_dropped = true;
        }
        self.offered.notify_waiters();
    }

    fn finish(&self, path: Path, done: Result<(), Fault>) {
        let mut jobs = self.jobs();
        jobs.running.remove(&path);
        jobs.forgotten.remove(&path);
        let is_pass_s = !jobs.is_told(&path);
        // One that came while this was under way is for a newer file.
        if !jobs.waiting.contains_key(&path) {
            for waiter in jobs.told.remove(&path).unwrap_or_default() {
                let _gone = waiter.send(done.clone());
            }
        }
        self.offered.notify_waiters();
        match done {
            Ok(()) => {
                jobs.unsteady.remove(&path);
                // Only what has arrived: what has not must be found again by a pass that is under way.
                jobs.finished.insert(path, Instant::now());
            }
            Err(Fault::Changed) => {
                let times = jobs.unsteady.entry(path.clone()).or_default();
                *times += 1;
                if *times >= UNSTEADY_MAX {
                    jobs.problems.push(Problem { path, sentence: UNSTEADY.into() });
                } else if is_pass_s {
                    jobs.is_dropped = true;
                }
            }
            Err(fault) => jobs.problems.push(Problem { path, sentence: fault.in_words() }),
        }
        drop(jobs);
        if is_pass_s && !self.works_for_passes() {
            self.idle.notify_one();
        }
    }

    /// Does jobs up to a size, for ever, on a connection of its own once there is something to do.
    pub async fn work(&self, bytes_max: u64, follower: &Follower) {
        let mut courier: Option<Courier> = None;
        loop {
            let offered = self.offered.notified();
            tokio::pin!(offered);
            // Asked to be told before looking, so that nothing offered in between is overlooked.
            offered.as_mut().enable();
            let Some((path, job)) = self.take(bytes_max) else {
                offered.await;
                continue;
            };
            match self.bring_over(&mut courier, follower, &path, &job).await {
                Err(Fault::Lost(error)) => {
                    tracing::debug!(%error, "a large transfer broke off");
                    tokio::time::sleep(PAUSE).await;
                    self.retry(path, job);
                }
                done => self.finish(path, done),
            }
        }
    }

    /// Does one job over a connection that is made where there is none.
    async fn bring_over(
        &self,
        courier: &mut Option<Courier>,
        follower: &Follower,
        path: &[u8],
        job: &Job,
    ) -> Result<(), Fault> {
        if courier.as_ref().is_none_or(|courier| courier.remote.client.is_lost()) {
            *courier = match follower.connect_again().await {
                Ok(courier) => Some(courier),
                Err(reason) => {
                    let sentence = format!("it waits: {reason}");
                    follower.show_problem(Problem { path: path.to_vec(), sentence }).await;
                    None
                }
            };
        }
        let Some(courier) = courier else { return Err(Fault::Lost(ClientError::Lost("no connection".into()))) };
        let is_told = self.is_told(path);
        if is_told && !job.verify && follower.has(courier, path).await {
            // It came before the feed or the connection broke off.
            return Ok(());
        }
        // What the feed has told of is kept from others already.
        let claims = (!is_told).then_some(&follower.claims);
        let trash = Trash::new(courier.board.report().passes);
        match job.verify {
            true => courier.verify_beside(path, &trash, claims).await,
            false => courier.put_beside(path, job.replaces, &trash, claims).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(bytes: u64) -> Job {
        Job { bytes, verify: false, replaces: false }
    }

    #[tokio::test]
    async fn who_waits_for_a_file_hears_when_its_newest_version_is_done_and_one_that_is_gone_is_forgotten() {
        let lane = Lane::default();
        let [_, any] = WORKERS_BYTES_MAX;
        let mut first = Box::pin(lane.bring(b"a".to_vec(), job(10)));
        assert!(futures::poll!(&mut first).is_pending() && lane.is_told(b"a"));
        assert_eq!(lane.take(any).unwrap().0, b"a");
        let mut second = Box::pin(lane.bring(b"a".to_vec(), job(20)));
        assert!(futures::poll!(&mut second).is_pending());
        assert_eq!(lane.take(any), None, "one at a time");
        lane.finish(b"a".to_vec(), Ok(()));
        assert!(futures::poll!(&mut first).is_pending(), "a newer version is to come");
        let (path, again) = lane.take(any).unwrap();
        lane.retry(path, again);
        assert_eq!(lane.take(any).unwrap().1, job(20), "what broke off is tried again");
        lane.finish(b"a".to_vec(), Err(Fault::Problem("full".into())));
        for waited in [first.await, second.await] {
            assert!(matches!(waited, Err(Fault::Problem(sentence)) if sentence == "full"));
        }
        drop(lane.bring(b"b".to_vec(), job(10)));
        let mut gone = Box::pin(lane.bring(b"b".to_vec(), job(10)));
        assert!(futures::poll!(&mut gone).is_pending());
        drop(gone);
        lane.offer(BTreeMap::new(), Instant::now());
        assert!(!lane.is_told(b"b") && lane.take(any).is_none());
    }

    #[tokio::test]
    async fn what_waits_and_is_gone_is_forgotten_and_who_waited_looks_again() {
        let lane = Lane::default();
        let [small, _] = WORKERS_BYTES_MAX;
        let mut inside = Box::pin(lane.bring(b"a/x".to_vec(), job(1 << 40)));
        let mut running = Box::pin(lane.bring(b"a/y".to_vec(), job(10)));
        assert!(futures::poll!(&mut inside).is_pending() && futures::poll!(&mut running).is_pending());
        lane.offer([(b"a.b".to_vec(), job(20))].into(), Instant::now());
        assert!(lane.works_for_passes());
        assert_eq!(lane.take(small).unwrap().0, b"a/y");
        lane.forget(b"a", false);
        assert!(futures::poll!(&mut inside).is_pending());
        lane.forget(b"a", true);
        assert!(matches!(inside.await, Err(Fault::Changed)));
        assert!(futures::poll!(&mut running).is_pending(), "it looks itself now and then");
        assert_eq!(lane.paths(), [b"a/y".to_vec(), b"a.b".to_vec()].into());
        lane.finish(b"a/y".to_vec(), Ok(()));
        assert!(running.await.is_ok());
    }

    #[test]
    fn the_smallest_goes_first_and_the_huge_only_by_its_own_worker() {
        let (lane, began) = (Lane::default(), Instant::now());
        lane.offer(
            [(b"huge".to_vec(), job(1 << 40)), (b"a".to_vec(), job(20)), (b"b".to_vec(), job(10))].into(),
            Instant::now(),
        );
        let [small, any] = WORKERS_BYTES_MAX;
        assert_eq!(lane.take(small).unwrap().0, b"b");
        assert_eq!(lane.take(small).unwrap().0, b"a");
        assert_eq!(lane.take(small), None);
        assert_eq!(lane.take(any).unwrap().0, b"huge");
        lane.offer([(b"huge".to_vec(), job(1 << 40))].into(), Instant::now());
        assert_eq!(lane.take(any), None, "what runs is not started twice");
        assert_eq!(lane.paths().len(), 3);
        for path in [b"a".to_vec(), b"b".to_vec()] {
            lane.finish(path, Err(Fault::Problem("s".into())));
        }
        lane.finish(b"huge".to_vec(), Ok(()));
        lane.offer([(b"huge".to_vec(), job(1 << 40))].into(), began);
        assert_eq!(lane.take(any), None, "what was finished during the pass is not sent again");
        lane.offer([(b"huge".to_vec(), job(1 << 40))].into(), Instant::now());
        assert!(lane.take(any).is_some(), "a later pass may ask again");
        lane.retry(b"huge".to_vec(), job(1 << 40));
        assert_eq!(lane.paths().len(), 0, "nobody waits for it");
        lane.offer([(b"huge".to_vec(), job(1 << 40))].into(), Instant::now());
        assert!(lane.take(any).is_some(), "what broke off is asked for again");
        for times in 1..=UNSTEADY_MAX {
            assert!(lane.works_for_passes(), "{times}");
            lane.finish(b"huge".to_vec(), Err(Fault::Changed));
            lane.offer([(b"huge".to_vec(), job(1 << 40))].into(), Instant::now());
        }
        assert!(!lane.works_for_passes(), "what never holds still is shown, and holds up nothing");
        let problems = lane.take_problems();
        let last = problems.last().map(|problem| problem.sentence.as_str());
        assert_eq!((problems.len(), last, lane.take_problems().len()), (3, Some(UNSTEADY), 0));
    }
}
