//! The committer: one thread, or a session's own where nobody else waits, by which every change of the volume is made, in groups.
//!
//! A group is whatever has come in while the one before was being committed. Its order: contents and intents durable,
//! changes applied in the order of their `seq`, folders durable, answers, outcomes (with the next group's intents where
//! one waits). So an answer of OK survives a power failure, many small files share their flushes, and after a crash at
//! most one group is undecided. A flush that fails makes the volume read-only until a person has looked: the kernel may
//! have dropped what it could not write, and asking again would be told "fine".

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pair::epoch::Epoch;
use pair::record::Record;
use rustix::io::Errno;
use tokio::sync::{oneshot, watch};

use super::change::{Change, Paths};
use super::disk::Disk;
use super::failure::{Failure, fail};
use super::flush::{ContentFlush, flush_things};
use super::gate::{Arrived, Gate};
use super::group::{Group, gather};
use super::journal::{Chapter, Intent, Journal};
use super::notes::Notes;
use super::reserve::Reserve;
use super::unfinished::Unfinished;
use super::usage::Usages;
use super::{Durability, Result, Stage, StorageError};

mod here;
mod owed;
mod upkeep;
mod waiting;

pub(super) use here::Queue;
use here::Shared;
pub(super) use owed::Owed;
pub(super) use waiting::Waiting;

/// Changes that wait for the committer at most; past it their sessions wait.
pub(super) const QUEUE_CHANGES_MAX: usize = 4096;

/// How often old records are removed, and a heartbeat is written.
const CHORES: Duration = Duration::from_secs(10);

/// Why nothing is taken after a panic.
const BUG: &str = "the volume is read-only since a bug in the server: start it again";

/// Where an answer goes.
pub(super) type Answer = oneshot::Sender<Result<()>>;

/// What the thread is asked for.
#[derive(Debug)]
pub(super) enum Job {
    /// A change, and whose it is. A change of nobody's is not told to anybody.
    Change(Change, Option<Arc<str>>, Answer),
    /// Several that came together.
    Many(Vec<Job>),
    /// All notes so far are made durable.
    Settle(Answer),
    /// Notes are waiting.
    Wake,
    /// A standby has everything up to a number.
    Acknowledge(String, u64, Answer),
    /// The hash of what was recorded under a number.
    Hash(u64, blake3::Hash),
    /// Other changes are taken from now on.
    Gate(Gate, Answer),
    /// Changes belong to another epoch from now on.
    Epoch(Epoch, oneshot::Sender<Result<Chapter>>),
    /// The end of the run.
    Stop(Answer),
    /// What is behind it waits until a test lets go, and is one group then.
    #[cfg(test)]
    Hold(Receiver<()>),
}

/// The way to the committer's thread, which ends with [`Job::Stop`] or when the last sender is dropped.
#[derive(Debug)]
pub(super) struct Committer {
    queue: Queue,
    /// What the thread works with. It has it only while it works.
    worker: Shared,
    /// What is asked for together with what comes next.
    // Held while it is handed over, so that what a session asks for keeps its order.
    gathered: Mutex<Vec<Job>>,
    failed: Failure,
}

/// A published file whose hash is not known yet, as it was recorded.
pub(super) struct Unhashed {
    pub(super) record: Record,
    pub(super) stage: Arc<Stage>,
}

/// What the committer works with.
pub(super) struct Worker {
    pub(super) volume: OwnedFd,
    /// As the system shows it.
    pub(super) path: Vec<u8>,
    pub(super) durability: Durability,
    pub(super) disk: Disk,
    pub(super) journal: Journal,
    pub(super) reserve: Reserve,
    pub(super) notes: Notes,
    pub(super) unfinished: Arc<Unfinished>,
    pub(super) usages: Arc<Usages>,
    pub(super) aside: Arc<super::divergent::Shared>,
    pub(super) decided: watch::Sender<u64>,
    pub(super) failed: Failure,
    /// Outcomes that are not written yet.
    pub(super) owed: Owed,
    /// Files that nobody writes in place any more, of which that could not be told yet.
    pub(super) unclean: Vec<(Arc<OwnedFd>, Arc<str>)>,
    /// Files whose hash is to be read afterwards.
    pub(super) hashing: SyncSender<Unhashed>,
    /// Whose changes are taken.
    pub(super) gate: Gate,
    /// Changes that wait for the gate.
    pub(super) held: Vec<Arrived>,
}

impl Committer {
    pub(super) fn start(worker: Worker, queue: Queue, jobs: Receiver<Job>) -> std::io::Result<Committer> {
        let (failed, bug) = (worker.failed.clone(), worker.failed.clone());
        let (waiting, notes) = (Waiting::of(jobs, queue.clone()), worker.notes.clone());
        let worker = Shared::new(worker);
        let shared = worker.clone();
        let run = move || {
            let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| shared.work(waiting, &notes)));
            shared.end();
            if ended.is_err() {
                let _ = bug.set(BUG.into());
            }
        };
        std::thread::Builder::new().name("committer".into()).spawn(run)?;
        Ok(Committer { queue, worker, gathered: Mutex::default(), failed })
    }

    /// Hands a job over. The answer comes when it is done.
    pub(super) fn submit(&self, job: impl FnOnce(Answer) -> Job) -> oneshot::Receiver<Result<()>> {
        self.submit_for(job)
    }

    /// The same for a job whose answer says more.
    pub(super) fn submit_for<T>(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<T>>) -> Job,
    ) -> oneshot::Receiver<Result<T>> {
        let (answer, answered) = oneshot::channel();
        let mut gathered = self.gathered();
        gathered.push(job(answer));
        self.hand_over(gathered);
        answered
    }

    /// The same, but the job waits for others that come at once: until [`Committer::send_gathered`], or a job that does not wait.
    pub(super) fn gather(&self, job: impl FnOnce(Answer) -> Job) -> oneshot::Receiver<Result<()>> {
        let (answer, answered) = oneshot::channel();
        self.gathered().push(job(answer));
        answered
    }

    /// Begins with what was gathered: right here where `may_work_here`, nothing has to be flushed and nobody else waits, else by the thread. Whoever
    /// hands something to another thread waits for the kernel to run that one, twice, and long where the cores are busy.
    pub(super) fn send_gathered(&self, may_work_here: impl FnOnce() -> bool) {
        let mut gathered = self.gathered();
        if gathered.is_empty() {
            return;
        }
        match self.worker.borrow().filter(|_| self.queue.is_idle() && may_work_here()) {
            Some(worker) => {
                let jobs = std::mem::take(&mut *gathered);
                drop(gathered);
                if worker.commit_here(jobs).is_err() {
                    let _ = self.failed.set(BUG.into());
                }
            }
            None => self.hand_over(gathered),
        }
    }

    fn gathered(&self) -> MutexGuard<'_, Vec<Job>> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hand_over(&self, mut gathered: MutexGuard<'_, Vec<Job>>) {
        // A committer that is gone drops the answers, which their receivers see.
        self.queue.send(Job::Many(std::mem::take(&mut gathered)));
    }

    /// Holds everything back until the sender is used; what comes meanwhile is one group, or as few as may be.
    #[cfg(test)]
    pub(super) fn hold(&self) -> SyncSender<()> {
        let (let_go, held) = std::sync::mpsc::sync_channel(1);
        self.gathered().push(Job::Hold(held));
        self.send_gathered(|| false);
        let_go
    }

    /// The sentence that says why the volume is read-only, if it is.
    pub(super) fn failure(&self) -> Option<&str> {
        self.failed.get().map(String::as_str)
    }
}

/// A change in a group.
struct Item {
    change: Change,
    /// Bytes that go by it, where somebody counts them.
    gone_bytes: u64,
    author: Option<Arc<str>>,
    intent: Option<Intent>,
    result: Result<()>,
    answer: Option<Answer>,
}

impl Worker {
    /// Commits one group of what waits, and tells whether there may be more.
    fn turn(&mut self, waiting: &mut Waiting) -> bool {
        let mut group = gather(waiting);
        if group.is_empty() && !self.notes.are_due() {
            waiting.worked_off();
            return true;
        }
        let stop = group.stop.take();
        self.commit(group);
        if self.disk.has_crashed() {
            return false;
        }
        if let Some(answer) = stop {
            self.end();
            let _ = answer.send(Ok(()));
            return false;
        }
        if waiting.are_none() {
            self.conclude();
            waiting.worked_off();
        }
        true
    }

    fn do_chores(&mut self, last: &mut Instant) {
        if last.elapsed() >= CHORES {
            self.chores();
            *last = Instant::now();
        }
    }

    /// Commits one group.
    fn commit(&mut self, group: Group) {
        let (taken, held) = self.gate.part(group.items);
        self.held.extend(held);
        let mut items = self.intend(taken);
        let written = self.secure(&mut items, !group.settles.is_empty());
        for item in items.iter_mut().filter(|item| item.result.is_ok()) {
            item.result = self.refusal().and_then(|()| self.apply(&item.change));
        }
        let mut touched: Vec<_> =
            items.iter().filter(|item| item.result.is_ok()).flat_map(|item| item.change.touched()).collect();
        touched.sort_by_key(Arc::as_ptr);
        touched.dedup_by_key(|folder| Arc::as_ptr(folder));
        let touched: Vec<_> = touched.iter().map(|folder| folder.as_fd()).collect();
        self.flush_all(&touched);
        if self.disk.has_crashed() {
            return;
        }
        self.count(&items);
        self.answer(&mut items);
        for answer in group.settles {
            let _ = answer.send(written.clone().and_then(|()| self.refusal()));
        }
        self.owe(items);
        if !group.others.is_empty() {
            self.conclude();
        }
        group.others.into_iter().for_each(|job| self.other(job));
    }

    /// What each change will do. A change that cannot be told of, because its folder is gone, fails here.
    fn intend(&mut self, changes: Vec<Arrived>) -> Vec<Item> {
        let refusal = self.refusal().and_then(|()| self.presence());
        let path = self.path.clone();
        let mut paths = Paths::new(&path);
        let intend = |(change, author, answer): Arrived| {
            let answer = Some(answer);
            let gone_bytes = if self.usages.are_counted() { change.bytes_that_go() } else { 0 };
            let permitted = refusal.clone().and_then(|()| self.gate.permit(&change, author.as_ref()));
            let intent = match (permitted.and_then(|()| change.claim_room(gone_bytes)), &author) {
                (Err(error), _) => Err(error),
                (Ok(()), None) => Ok(None),
                (Ok(()), Some(author)) => {
                    let intent = change.intent(&mut paths, author, self.journal.next_seq());
                    // A number without a row would be told, and forgotten by a crash.
                    if matches!(intent, Ok(Some(_))) {
                        self.journal.take_seq();
                    }
                    intent
                }
            };
            let (intent, result) = match intent {
                Ok(intent) => (intent, Ok(())),
                Err(error) => (None, Err(error)),
            };
            Item { change, gone_bytes, author, intent, result, answer }
        };
        changes.into_iter().map(intend).collect()
    }

    /// Makes contents and intents durable, at the same time. What cannot be is refused, and so are all if need be.
    fn secure(&mut self, items: &mut [Item], must_settle: bool) -> Result<()> {
        let intents: Vec<Intent> = items.iter().filter_map(|item| item.intent.clone()).collect();
        let rows = if must_settle { self.notes.take() } else { self.notes.take_due() };
        let contents: Vec<(usize, &Change)> = items
            .iter()
            .enumerate()
            .filter(|(_, item)| item.result.is_ok() && item.change.has_content())
            .map(|(index, item)| (index, &item.change))
            .collect();
        let flush = ContentFlush { volume: &self.volume, disk: &self.disk, failed: &self.failed };
        let (log, owed) = ((&mut self.journal, &mut self.reserve), &self.owed);
        let frees_room = items.iter().any(|item| matches!(item.change, Change::Remove(_) | Change::RemoveFolder(_)));
        let write = || owed.write_with(log, (&intents, &rows), must_settle, frees_room);
        let (lost, written) = if contents.is_empty() || self.durability == Durability::None {
            (Vec::new(), write())
        } else {
            flush.run_beside(&contents, write)
        };
        if written.is_ok() {
            self.paid();
        }
        if let Err(error) = &written {
            if !matches!(error, StorageError::System(Errno::NOSPC)) {
                fail(&self.failed, format!("the journal cannot be written: {error}"));
            }
            items.iter_mut().filter(|item| item.result.is_ok()).for_each(|item| item.result = Err(error.clone()));
            items.iter_mut().for_each(|item| item.intent = None);
            // What unfinished uploads were to be remembered is tried again with the next group.
            self.notes.note_again(rows);
        }
        for (index, error) in lost {
            if let Some(item) = items.get_mut(index) {
                item.result = Err(error.into());
            }
        }
        written
    }

    fn apply(&mut self, change: &Change) -> Result<()> {
        match change.apply(&self.disk) {
            // Some file systems need room to remove something.
            Err(StorageError::System(Errno::NOSPC)) if self.reserve.give_up() => change.apply(&self.disk),
            result => result,
        }
    }

    fn refusal(&self) -> Result<()> {
        match self.failed.get() {
            None => Ok(()),
            Some(sentence) => Err(StorageError::Refused(sentence.clone())),
        }
    }

    fn flush_all(&self, things: &[BorrowedFd<'_>]) {
        if self.durability == Durability::None || things.is_empty() {
            return;
        }
        let flushed = flush_things(&self.disk, &self.volume, things);
        if let Err(error) = flushed {
            fail(&self.failed, error);
        }
    }

    /// Tells everybody how it went. An upload that could not be published can be continued from here on.
    fn answer(&self, items: &mut [Item]) {
        let failed = self.refusal();
        for item in items {
            // It may have happened, but nobody can promise that it stays.
            let result = item.result.clone().and_then(|()| failed.clone());
            if let Change::Publish(publication) = &item.change
                && let Some(upload) = &publication.upload
            {
                match &item.result {
                    Ok(()) => self.unfinished.finish(upload, result.clone()),
                    Err(error) => self.unfinished.take_back(upload, error),
                }
            }
            if let Some(answer) = item.answer.take() {
                // A session that is gone no longer wants to know.
                let _ = answer.send(result);
            }
        }
    }
}

#[cfg(test)]
mod tests;
