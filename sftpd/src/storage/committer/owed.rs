//! Outcomes that are not written yet: they go with the next group's intents where one waits already, else by themselves.
//!
//! Always holds: nothing is intended before the outcomes of the group before are written, or by the same transaction; a
//! follower is told of nothing that is not decided.

use rustix::io::Errno;

use super::super::change::Change;
use super::super::flush::from_journal;
use super::super::journal::{self, Intent, Journal, Outcome, RowChange};
use super::super::reserve::Reserve;
use super::super::{Publication, Result, StorageError};
use super::{Item, Unhashed, Worker, fail};

/// What is to be written of changes that are done.
#[derive(Default)]
pub(in crate::storage) struct Owed {
    outcomes: Vec<Outcome>,
    /// What the outcomes change of unfinished uploads.
    rows: Vec<RowChange>,
    /// Files whose hash is to be read once their outcome is written.
    unhashed: Vec<Unhashed>,
    /// The last number of a change among them.
    last_seq: u64,
}

impl Owed {
    fn is_empty(&self) -> bool {
        self.outcomes.is_empty() && self.rows.is_empty()
    }

    /// Writes it down with intents, durable, and with notes. A full disk gives up the reserved room where that lets
    /// something be removed.
    pub(super) fn write_with(
        &self,
        (journal, reserve): (&mut Journal, &mut Reserve),
        (intents, notes): (&[Intent], &[RowChange]),
        must_settle: bool,
        frees_room: bool,
    ) -> Result<()> {
        if intents.is_empty() && notes.is_empty() && !must_settle && self.is_empty() {
            return Ok(());
        }
        let is_lazy = intents.is_empty() && !must_settle;
        let mut write = || {
            let rows = self.rows.iter().chain(notes);
            if is_lazy { journal.decide(&self.outcomes, rows) } else { journal.write(intents, &self.outcomes, rows) }
        };
        let may_give_up = frees_room || !self.is_empty();
        let written = match write() {
            Err(error) if journal::is_full(&error) && may_give_up && reserve.give_up() => write(),
            written => written,
        };
        written.map_err(from_journal)
    }
}

impl Worker {
    /// The changes are done and answered: how they went is to be written.
    pub(super) fn owe(&mut self, items: Vec<Item>) {
        let mut published = Vec::new();
        for Item { change, author, intent, result, .. } in items {
            self.remember_unclean(&change, author, result.is_ok());
            if let (Ok(()), Change::Publish(Publication { stage, upload: Some(_), .. })) = (&result, &change) {
                published.push(stage.number());
            }
            let Some(Intent { mut record, .. }) = intent else { continue };
            self.owed.outcomes.push(match result {
                Ok(()) => {
                    change.observe(&mut record);
                    if let Change::Publish(Publication { hash: None, stage, .. }) = &change {
                        self.owed.unhashed.push(Unhashed { record: record.clone(), stage: stage.clone() });
                    }
                    Outcome::Done(record)
                }
                Err(_) => Outcome::Aborted(record.seq),
            });
        }
        if !published.is_empty() {
            self.owed.rows.append(&mut self.notes.conclude(published));
        }
        self.owed.last_seq = self.journal.last_seq();
    }

    /// Writes the outcomes down, as nothing comes with which they could go.
    pub(super) fn conclude(&mut self) {
        match self.pay() {
            Ok(()) => {}
            Err(StorageError::System(Errno::NOSPC)) => tracing::warn!("the journal's disk is full: nothing is taken"),
            // Going on would leave more than one group undecided.
            Err(error) if !self.disk.has_crashed() => {
                fail(&self.failed, format!("the journal cannot be written: {error}"));
            }
            Err(_) => {}
        }
    }

    /// Writes the outcomes that are not written yet.
    pub(super) fn pay(&mut self) -> Result<()> {
        self.owed.write_with((&mut self.journal, &mut self.reserve), (&[], &[]), false, false)?;
        self.paid();
        Ok(())
    }

    /// What was owed is written.
    pub(super) fn paid(&mut self) {
        let owed = std::mem::take(&mut self.owed);
        if owed.is_empty() {
            return;
        }
        self.decided.send_replace(owed.last_seq);
        // One that finds no room to wait stays without hash, which its readers expect.
        owed.unhashed.into_iter().for_each(|file| drop(self.hashing.try_send(file)));
    }
}
