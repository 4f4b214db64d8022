//! An upload that is not finished: who writes it, what has arrived, and what became of it.
//!
//! Always holds: only one connection writes it at a time; a handle whose upload was taken over, removed or published
//! writes nothing more to it; after a failed write it takes no further ones and is never published; only an open one is
//! changed, which is looked at under the same lock. Which uploads there are, and who may find them, is
//! [`super::unfinished`]'s business.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::arrival::Arrival;
use super::attributes::attributes_of;
use super::journal::{RowChange, UploadRow};
use super::notes::Notes;
use super::stage::Stages;
use super::unfinished::Unfinished;
use super::usage::{Charge, Quota};
use super::writer::Writer;
use super::{Attributes, FolderId, NewAttributes, Place, Result, Stage, StorageError};

/// From so many new bytes on they are flushed while more arrive, so that CLOSE of a large file has little left to do.
const FLUSH_BYTES: u64 = 32 * 1024 * 1024;

mod size;

/// What has become of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    Publishing,
    Published,
    /// Its account removed it, by this connection.
    Removed(u64),
}

/// Where unfinished uploads are kept: their bytes, and what is remembered of them.
#[derive(Clone, Debug)]
pub(super) struct Keeping {
    pub stages: Arc<Stages>,
    pub notes: Notes,
}

/// An unfinished upload.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) account: Arc<str>,
    keeping: Keeping,
    // Held while a request writes; requests of one connection come one by one anyway.
    state: Mutex<State>,
}

#[derive(Debug)]
pub(super) struct State {
    /// Its bytes: others after it was begun anew.
    pub(super) stage: Arc<Stage>,
    pub(super) place: Place,
    pub(super) exclusive: bool,
    /// The connection that writes it, and how often it was taken over.
    pub(super) connection: u64,
    pub(super) takeovers: u64,
    pub(super) writers: usize,
    pub(super) phase: Phase,
    pub(super) arrival: Arrival,
    pub(super) failed: Option<StorageError>,
    /// Whether it is a copy of the complete file to which nothing was done yet.
    pub(super) is_untouched_copy: bool,
    /// What it adds to a folder with a quota.
    charge: Option<Charge>,
    /// Up to here a flush was asked for.
    flushing_to: u64,
    /// The size to which it was cut when its last handle was gone, if it could be.
    cut_to: Option<u64>,
    /// Whether the journal may have heard that something of the stage is on the disk.
    may_be_durable: bool,
    /// How its publication was answered.
    pub(super) answered: watch::Sender<Option<Result<()>>>,
    /// Whether the journal knows that the size tells too much.
    has_noted_gap: bool,
}

/// What OPEN asked for.
#[derive(Clone, Debug)]
pub struct Opening {
    /// Whose upload it is.
    pub account: Arc<str>,
    /// The connection that it comes from.
    pub connection: u64,
    /// Where it will be published.
    pub place: Place,
    /// Mode of a new file.
    pub mode: u32,
    /// Whether it begins anew.
    pub truncate: bool,
    /// Refuse at CLOSE where something has come under the name.
    pub exclusive: bool,
    /// How much the folder may hold.
    pub quota: Option<Quota>,
}

/// What an upload begins with.
pub(super) enum Beginning {
    /// Nothing.
    Empty,
    /// The content of the complete file, of so many bytes.
    Copy(u64),
    /// What an earlier connection or run has left, of so many bytes. The journal has it.
    Left(u64),
}

impl Upload {
    pub(super) fn new(opening: &Opening, stage: Stage, beginning: &Beginning, keeping: Keeping) -> Arc<Upload> {
        // It outlives its handles, and the daemon.
        stage.keep();
        let arrival = match beginning {
            Beginning::Empty => Arrival::empty(),
            Beginning::Copy(bytes) | Beginning::Left(bytes) => Arrival::with(*bytes),
        };
        let state = State {
            stage: Arc::new(stage),
            place: opening.place.clone(),
            exclusive: opening.exclusive,
            connection: opening.connection,
            takeovers: 0,
            writers: 0,
            phase: Phase::Open,
            is_untouched_copy: matches!(beginning, Beginning::Copy(_)),
            flushing_to: arrival.contiguous(),
            may_be_durable: matches!(beginning, Beginning::Left(_)),
            answered: watch::Sender::new(None),
            cut_to: if let Beginning::Left(bytes) = beginning { Some(*bytes) } else { None },
            charge: None,
            arrival,
            failed: None,
            has_noted_gap: matches!(beginning, Beginning::Left(_)),
        };
        Arc::new(Upload { account: opening.account.clone(), keeping, state: Mutex::new(state) })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same, if it is still open: neither on its way to its name nor removed.
    fn lock_if_open(&self) -> Option<MutexGuard<'_, State>> {
        Some(self.lock()).filter(|state| state.phase == Phase::Open)
    }

    /// Notes that it has begun.
    pub(super) fn note_begun(&self, state: &State) -> Result<()> {
        self.keeping.notes.note(RowChange::Begun(UploadRow {
            number: state.stage.number(),
            account: self.account.to_string(),
            folder: state.place.folder_id()?,
            name: state.place.name.clone(),
            arrived_bytes: None,
            durable_bytes: 0,
        }));
        Ok(())
    }

    /// Lets an OPEN write it: beside the handles of its own connection, instead of those of any other. None where it is
    /// no longer open.
    pub(super) fn admit(self: &Arc<Self>, opening: &Opening, unfinished: &Arc<Unfinished>) -> Result<Option<Writer>> {
        let Some(mut state) = self.lock_if_open() else { return Ok(None) };
        let mut must_settle = false;
        if state.connection != opening.connection {
            state.connection = opening.connection;
            state.takeovers += 1;
            state.writers = 0;
            self.cut_to_what_arrived(&mut state)?;
            must_settle = true;
        }
        if state.writers == 0 && state.has_noted_gap {
            // From here on its size tells again what has arrived.
            self.keeping.notes.note(RowChange::Arrived { number: state.stage.number(), bytes: None });
            state.has_noted_gap = false;
        }
        if opening.truncate {
            must_settle |= self.resize(&mut state, 0)?;
            state.failed = None;
        }
        // Charged anew: the quota may be another one by now. What is there is counted in any case; it may not grow.
        state.charge = None;
        if let Some(quota) = &opening.quota {
            let replaced = opening.place.attributes().map_or(0, |found| found.bytes_that_go_with_a_name());
            let size = attributes_of(state.stage.file())?.size;
            state.charge = Some(Charge::of(quota.clone(), replaced, size));
        }
        state.place = opening.place.clone();
        state.exclusive = opening.exclusive;
        state.writers += 1;
        state.cut_to = None;
        let takeovers = state.takeovers;
        Ok(Some(Writer::new(self.clone(), takeovers, unfinished.clone(), must_settle)))
    }

    /// What its account sees of it: its own connection all that was written, another one what has arrived.
    pub(super) fn attributes(&self, connection: u64) -> Result<Attributes> {
        let state = self.lock();
        let mut attributes = attributes_of(state.stage.file())?;
        if state.connection != connection {
            let shown = if state.phase == Phase::Publishing { attributes.size } else { state.arrival.to_be_shown() };
            attributes.size = attributes.size.min(shown);
        }
        Ok(attributes)
    }

    /// The file, for a reader on the connection that writes it.
    pub(super) fn reader(&self, connection: u64) -> Option<Arc<OwnedFd>> {
        let state = self.lock();
        (state.connection == connection).then(|| state.stage.share_file())
    }

    /// What it adds to a folder with a quota, for as long as it waits to be gone on with.
    pub(super) fn take_charge(&self) -> Option<Charge> {
        self.lock().charge.take()
    }

    /// So many bytes go when it is published. Refused where it does not fit any more.
    pub(super) fn replaces(&self, bytes: u64) -> Result<()> {
        self.lock().charge.as_mut().map_or(Ok(()), |charge| charge.set_credit(bytes))
    }

    /// The charge of an upload that waited.
    pub(super) fn give_charge(&self, charge: Option<Charge>) {
        self.lock().charge = charge;
    }

    /// Its account removes it; tells whether it was still open. It counts until its last handle is gone, as its bytes
    /// are on the disk so long.
    pub(super) fn remove(&self, connection: u64) -> bool {
        let state = self.lock_if_open();
        state.map(|mut state| self.remove_locked(&mut state, connection)).is_some()
    }

    pub(super) fn remove_locked(&self, state: &mut State, connection: u64) {
        state.phase = Phase::Removed(connection);
        state.stage.let_go();
        self.keeping.notes.note(RowChange::Gone(state.stage.number()));
    }

    /// It will be published elsewhere; tells whether it was still open.
    pub(super) fn move_to(&self, place: &Place, (folder, name): (FolderId, Vec<u8>)) -> bool {
        let Some(mut state) = self.lock_if_open() else { return false };
        state.place = place.clone();
        self.keeping.notes.note(RowChange::Moved { number: state.stage.number(), folder, name });
        true
    }

    /// The publication went so, and was answered so: it may have happened without anybody being able to promise that it
    /// stays. If it failed, what has arrived is there to be gone on with, but not where there is no room for it.
    pub(super) fn published(&self, result: &Result<()>, answer: Result<()>) {
        let mut state = self.lock();
        state.phase = if result.is_ok() { Phase::Published } else { Phase::Open };
        state.answered.send_replace(Some(answer));
        if let Some(error) = result.as_ref().err().filter(|error| error.is_for_want_of_room()) {
            state.failed = Some(error.clone());
        }
        if result.is_err() && state.writers == 0 {
            // A size that could not be cut is not believed after a restart either.
            let _ = self.cut_to_what_arrived(&mut state);
        }
    }

    /// Whether this connection writes it.
    pub(super) fn is_written_by(&self, connection: u64) -> bool {
        let state = self.lock();
        state.connection == connection && state.writers > 0
    }

    /// What is certain of its size, in bytes.
    pub(super) fn bytes_to_be_shown(&self) -> u64 {
        let state = self.lock();
        state.cut_to.unwrap_or_else(|| state.arrival.to_be_shown())
    }

    /// Whether handles write it, or it is no longer open.
    pub(super) fn is_live(&self) -> bool {
        let state = self.lock();
        state.writers > 0 || state.phase != Phase::Open
    }

    /// Sets attributes by its path; tells whether it was still open. Only its own connection may change its size: to
    /// every other one it must say what has arrived.
    pub(super) fn set_attributes(&self, connection: u64, new: &NewAttributes) -> Result<bool> {
        let Some(mut state) = self.lock_if_open() else { return Ok(false) };
        if new.size.is_some() && state.connection != connection {
            return Err(size_is_not_settable());
        }
        self.set_attributes_locked(&mut state, new)?;
        Ok(true)
    }

    /// Sets attributes. Tells whether the journal must know of it before anybody is told.
    pub(super) fn set_attributes_locked(&self, state: &mut State, new: &NewAttributes) -> Result<bool> {
        let mut must_settle = false;
        if let Some(size) = new.size {
            // One that finds no room to grow is not published: it would replace the old file by less than was meant.
            must_settle = self.resize(state, size).inspect_err(|error| {
                state.failed = Some(error.clone()).filter(StorageError::is_for_want_of_room).or(state.failed.take());
            })?;
            self.note_gap(state, size > state.arrival.contiguous());
        }
        let new = NewAttributes { size: None, ..*new };
        state.is_untouched_copy = false;
        state.stage.disk().set_attributes(state.stage.file(), &new)?;
        Ok(must_settle)
    }

    fn write_within_quota(state: &mut State, offset: u64, data: &[u8]) -> Result<()> {
        if let Some(charge) = &mut state.charge {
            let end = offset.saturating_add(data.len() as u64);
            charge.set_size(end.max(attributes_of(state.stage.file())?.size))?;
        }
        Ok(state.stage.disk().write(state.stage.file(), data, offset)?)
    }

    pub(super) fn write(self: &Arc<Self>, state: &mut State, offset: u64, data: &[u8]) -> Result<()> {
        state.is_untouched_copy = false;
        if let Err(error) = Upload::write_within_quota(state, offset, data) {
            state.failed = Some(error.clone());
            return Err(error);
        }
        state.arrival.wrote(offset, data);
        self.note_gap(state, state.arrival.has_gap());
        let arrived = state.arrival.contiguous();
        if arrived >= state.flushing_to + FLUSH_BYTES && self.keeping.notes.flush(state.stage.clone(), arrived) {
            (state.flushing_to, state.may_be_durable) = (arrived, true);
        }
        Ok(())
    }
}

/// What is said to who sets the size of an upload that it does not write.
pub(super) fn size_is_not_settable() -> StorageError {
    StorageError::Refused("the upload of this file is not finished: open it to change its size".into())
}
