//! What the committer does beside changes: notes of standbys and hashes, old records, reserved room, the end of the run.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pair::record::{Operation, Record};

use super::super::change::Change;
use super::super::flush::from_journal;
use super::super::group::Group;
use super::super::journal::{Intent, Outcome, empty_record};
use super::super::{Result, StorageError};
use super::{Committer, Failure, Item, Job, Worker};

/// Records that are kept for a standby that does not come.
const RECORDS_MAX: u64 = 1_000_000;

/// Records removed at once, and for how long one batch follows another: changes wait meanwhile.
const FORGET_AT_ONCE: u64 = 2000;
const FORGET_TIME: Duration = Duration::from_millis(200);

impl Committer {
    /// What says why the volume is read-only, for others who flush.
    pub(in crate::storage) fn failed(&self) -> Failure {
        self.failed.clone()
    }
}

impl Worker {
    pub(super) fn other(&mut self, job: Job) {
        match job {
            Job::Acknowledge(standby, seq, answer) => {
                let now_ms = jiff::Timestamp::now().as_millisecond();
                let noted = self.journal.acknowledge(&standby, seq, now_ms).map_err(from_journal);
                let _ = answer.send(noted);
            }
            Job::Hash(seq, hash) => {
                if let Err(error) = self.journal.set_hash(seq, hash.to_hex().as_str()) {
                    tracing::debug!(%error, seq, "a file's hash could not be noted");
                }
            }
            Job::Gate(gate, answer) => {
                self.gate = gate;
                // What was held comes before what comes next. One by one, because they may concern the same things.
                for arrived in std::mem::take(&mut self.held) {
                    let mut group = Group::default();
                    group.items.push(arrived);
                    self.commit(group);
                }
                let _ = answer.send(Ok(()));
            }
            Job::Epoch(epoch, answer) => {
                let begun = self.pay().and_then(|()| self.journal.begin_epoch(&epoch).map_err(from_journal));
                if begun.is_ok() {
                    self.decided.send_replace(self.journal.last_seq());
                }
                let _ = answer.send(begun);
            }
            // The others are not put here.
            _ => {}
        }
    }

    /// Whether the folder still shows the volume that was opened. A disk that was unmounted below us would take every
    /// upload and show none.
    pub(super) fn presence(&self) -> Result<()> {
        let identity = |stat: rustix::fs::Stat| (stat.st_dev, stat.st_ino);
        let shown = rustix::fs::stat(self.path.as_slice()).map(identity);
        let held = rustix::fs::fstat(&self.volume).map(identity);
        if shown.is_ok() && shown == held {
            return Ok(());
        }
        let path = String::from_utf8_lossy(&self.path);
        Err(StorageError::Refused(format!(
            "{path} no longer shows the data volume: was it unmounted? Nothing is taken"
        )))
    }

    /// What folders with a quota hold now. Before the answers: who has heard one may ask for room at once.
    pub(super) fn count(&self, items: &[Item]) {
        if !self.usages.are_counted() {
            return;
        }
        for Item { change, gone_bytes, intent, .. } in items.iter().filter(|item| item.result.is_ok()) {
            if let Some(intent) = intent {
                let path = &intent.record.path.0;
                self.usages.moved(path, *gone_bytes, change.bytes_that_come(), change.take_charge());
            }
        }
    }

    /// What is done now and then: a heartbeat, old records, reserved room.
    pub(super) fn chores(&mut self) {
        if self.failed.get().is_some() {
            return;
        }
        self.reserve.restore();
        self.tell_clean();
        // What is owed comes first: behind a heartbeat nobody would look for it.
        let looked_after = self.pay().and_then(|()| {
            // One receiver is the volume itself.
            let beat = if self.decided.receiver_count() > 1 { self.beat() } else { Ok(()) };
            beat.and_then(|()| self.forget()).map_err(from_journal)
        });
        if let Err(error) = looked_after {
            tracing::warn!(%error, "the journal could not be looked after");
        }
    }

    /// What is no longer written in place must be told as clean, now or later, unless it is written again.
    pub(super) fn remember_unclean(&mut self, change: &Change, author: Option<Arc<str>>, is_done: bool) {
        let (Change::Dirty(file, _) | Change::Clean(file)) = change else { return };
        let identity = |file: &OwnedFd| rustix::fs::fstat(file).map(|stat| (stat.st_dev, stat.st_ino));
        let this = identity(file);
        self.unclean.retain(|(other, _)| identity(other) != this);
        if let (Change::Clean(file), Some(author), false) = (change, author, is_done) {
            self.unclean.push((file.clone(), author));
        }
    }

    /// Tries again to tell what is clean.
    fn tell_clean(&mut self) {
        for (file, author) in std::mem::take(&mut self.unclean) {
            let mut group = Group::default();
            // Nobody waits for the answer.
            group.items.push((Change::Clean(file), Some(author), tokio::sync::oneshot::channel().0));
            self.commit(group);
        }
    }

    fn forget(&mut self) -> rusqlite::Result<()> {
        let since = Instant::now();
        let is_held = self.aside.is_held();
        let mut forget = || match is_held {
            true => self.journal.forget_past(RECORDS_MAX, FORGET_AT_ONCE),
            false => self.journal.forget_old(RECORDS_MAX, FORGET_AT_ONCE),
        };
        while forget()? == FORGET_AT_ONCE && since.elapsed() < FORGET_TIME {}
        Ok(())
    }

    /// A record that says that time has passed, for those who follow.
    fn beat(&mut self) -> rusqlite::Result<()> {
        let now_ms = jiff::Timestamp::now().as_millisecond();
        let beat: Record = empty_record(self.journal.take_seq(), now_ms, Operation::Heartbeat);
        // Durable, like every number that is told: a standby remembers it, and a master that has lost it would look like one from a backup.
        self.journal.write(&[Intent { record: beat.clone(), stage: None, replaces: false }], &[], &[])?;
        self.journal.decide(&[Outcome::Done(beat)], &[])?;
        self.decided.send_replace(self.journal.last_seq());
        Ok(())
    }

    /// The run ends well: everything is decided.
    pub(super) fn end(&mut self) {
        let rows = self.notes.take();
        let ended = self
            .pay()
            .and_then(|()| self.journal.decide(&[], &rows).and_then(|()| self.journal.end_run()).map_err(from_journal));
        if let (Err(error), None) = (ended, self.failed.get()) {
            tracing::warn!(%error, "the journal could not be closed: the next start takes this for an unclean stop");
        }
    }
}
