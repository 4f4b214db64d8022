//! An upload that is not finished: who writes it, what has arrived, and what became of it.
//!
//! Always holds: only one connection writes it at a time; a handle whose upload was taken over, removed or published
//! writes nothing more to it; after a failed write it takes no further ones and is never published. Which uploads there
//! are, and who may find them, is [`super::unfinished`]'s business.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::arrival::Arrival;
use super::journal::RowChange;
use super::notes::Notes;
use super::root::attributes_of;
use super::unfinished::Unfinished;
use super::usage::{Charge, Quota};
use super::writer::Writer;
use super::{Attributes, NewAttributes, Place, Result, Stage, StorageError};

/// From so many new bytes on they are flushed while more arrive, so that CLOSE of a large file has little left to do.
const FLUSH_BYTES: u64 = 32 * 1024 * 1024;

/// What has become of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    Publishing,
    Published,
    /// Its account removed it, by this connection.
    Removed(u64),
}

/// An unfinished upload.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) account: Arc<str>,
    pub(super) stage: Arc<Stage>,
    notes: Notes,
    // Held while a request writes; requests of one connection come one by one anyway.
    state: Mutex<State>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) place: Place,
    pub(super) exclusive: bool,
    /// The connection that writes it, and how often it was taken over.
    pub(super) connection: u64,
    pub(super) takeovers: u64,
    pub(super) writers: usize,
    pub(super) phase: Phase,
    pub(super) arrival: Arrival,
    pub(super) failed: Option<StorageError>,
    /// What it adds to a folder with a quota.
    charge: Option<Charge>,
    /// Up to here a flush was asked for.
    flushing_to: u64,
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

impl Upload {
    /// `is_known` says that the journal has it already, with what had arrived.
    pub(super) fn new(opening: &Opening, stage: Stage, arrival: Arrival, notes: Notes, is_known: bool) -> Arc<Upload> {
        // It outlives its handles, and the daemon.
        stage.keep();
        let state = State {
            place: opening.place.clone(),
            exclusive: opening.exclusive,
            connection: opening.connection,
            takeovers: 0,
            writers: 0,
            phase: Phase::Open,
            flushing_to: arrival.contiguous(),
            charge: None,
            arrival,
            failed: None,
            has_noted_gap: is_known,
        };
        Arc::new(Upload { account: opening.account.clone(), stage: Arc::new(stage), notes, state: Mutex::new(state) })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets an OPEN write it: beside the handles of its own connection, instead of those of any other.
    pub(super) fn admit(self: &Arc<Self>, opening: &Opening, unfinished: &Arc<Unfinished>) -> Result<Writer> {
        let mut state = self.lock();
        // Looked at under the same lock as everything below: a CLOSE may have come since the upload was found.
        if state.phase != Phase::Open {
            return Err(StorageError::Refused("the upload of this file is just being completed: try again".into()));
        }
        if state.connection != opening.connection {
            state.connection = opening.connection;
            state.takeovers += 1;
            state.writers = 0;
            self.cut_to_what_arrived(&mut state)?;
        }
        if state.writers == 0 && state.has_noted_gap {
            // From here on its size tells again what has arrived.
            self.notes.note(RowChange::Arrived { number: self.stage.number(), bytes: None });
            state.has_noted_gap = false;
        }
        if opening.truncate {
            self.resize(&mut state, 0)?;
            state.failed = None;
        }
        // Charged anew: the quota may be another one by now. What is there is counted in any case; it may not grow.
        state.charge = None;
        if let Some(quota) = &opening.quota {
            let replaced = opening.place.attributes().map_or(0, |found| found.bytes_that_go_with_a_name());
            let size = attributes_of(self.stage.file())?.size;
            state.charge = Some(Charge::of(quota.clone(), replaced, size));
        }
        state.place = opening.place.clone();
        state.exclusive = opening.exclusive;
        state.writers += 1;
        let takeovers = state.takeovers;
        Ok(Writer::new(self.clone(), takeovers, unfinished.clone()))
    }

    fn resize(&self, state: &mut State, size: u64) -> Result<()> {
        if let Some(charge) = &mut state.charge {
            charge.set_size(size)?;
        }
        self.stage.disk().truncate(self.stage.file(), size)?;
        state.arrival.resized(size);
        state.flushing_to = state.flushing_to.min(size);
        Ok(())
    }

    /// Nobody writes it any more, so its size must say what has arrived. One that found no room gives its own back: it
    /// must not keep the disk full for everybody else, and its client begins again.
    pub(super) fn cut_to_what_arrived(&self, state: &mut State) -> Result<()> {
        let found_no_room = state.failed.as_ref().is_some_and(StorageError::is_for_want_of_room);
        let arrived = if found_no_room { 0 } else { state.arrival.to_be_shown() };
        if attributes_of(self.stage.file())?.size != arrived {
            self.stage.disk().truncate(self.stage.file(), arrived)?;
        }
        if let Some(charge) = &mut state.charge {
            charge.set_size(arrived)?;
        }
        state.arrival.resized(arrived);
        state.failed = None;
        self.notes.note(RowChange::Arrived { number: self.stage.number(), bytes: Some(arrived) });
        state.has_noted_gap = true;
        Ok(())
    }

    /// What its account sees of it: its own connection all that was written, another one what has arrived.
    pub(super) fn attributes(&self, connection: u64) -> Result<Attributes> {
        let state = self.lock();
        let mut attributes = attributes_of(self.stage.file())?;
        if state.connection != connection {
            let shown = if state.phase == Phase::Publishing { attributes.size } else { state.arrival.to_be_shown() };
            attributes.size = attributes.size.min(shown);
        }
        Ok(attributes)
    }

    /// The file, for a reader on the connection that writes it.
    pub(super) fn reader(&self, connection: u64) -> Option<Arc<OwnedFd>> {
        (self.lock().connection == connection).then(|| self.stage.share_file())
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

    /// Its account has removed it. It counts until its last handle is gone, as its bytes are on the disk so long.
    pub(super) fn remove(&self, connection: u64) {
        self.lock().phase = Phase::Removed(connection);
        self.stage.let_go();
    }

    /// It will be published elsewhere.
    pub(super) fn move_to(&self, place: Place) {
        self.lock().place = place;
    }

    /// The publication went so. If it failed, what has arrived is there to be gone on with, but not where there is no
    /// room for it in the folder.
    pub(super) fn published(&self, result: &Result<()>) {
        let mut state = self.lock();
        state.phase = if result.is_ok() { Phase::Published } else { Phase::Open };
        if let Err(error @ StorageError::QuotaExceeded { .. }) = result {
            state.failed = Some(error.clone());
        }
        if result.is_err() && state.writers == 0 {
            // A size that could not be cut is not believed after a restart either.
            let _ = self.cut_to_what_arrived(&mut state);
        }
    }

    /// Whether it is complete and on its way to its name.
    pub(super) fn is_publishing(&self) -> bool {
        self.lock().phase == Phase::Publishing
    }

    /// Whether handles write it, or it is no longer open.
    pub(super) fn is_live(&self) -> bool {
        let state = self.lock();
        state.writers > 0 || state.phase != Phase::Open
    }

    pub(super) fn set_attributes(&self, new: &NewAttributes) -> Result<()> {
        let mut state = self.lock();
        self.set_attributes_locked(&mut state, new)
    }

    pub(super) fn set_attributes_locked(&self, state: &mut State, new: &NewAttributes) -> Result<()> {
        if let Some(size) = new.size {
            self.resize(state, size)?;
            self.note_gap(state, size > state.arrival.contiguous());
        }
        let new = NewAttributes { size: None, ..*new };
        self.stage.disk().set_attributes(self.stage.file(), &new)
    }

    /// From now on the size on the disk tells too much: after a kill it must not be believed.
    fn note_gap(&self, state: &mut State, is_there: bool) {
        if is_there && !state.has_noted_gap {
            state.has_noted_gap = true;
            let bytes = Some(state.arrival.to_be_shown());
            self.notes.note(RowChange::Arrived { number: self.stage.number(), bytes });
        }
    }

    fn write_within_quota(&self, state: &mut State, offset: u64, data: &[u8]) -> Result<()> {
        if let Some(charge) = &mut state.charge {
            let end = offset.saturating_add(data.len() as u64);
            charge.set_size(end.max(attributes_of(self.stage.file())?.size))?;
        }
        Ok(self.stage.disk().write(self.stage.file(), data, offset)?)
    }

    pub(super) fn write(self: &Arc<Self>, state: &mut State, offset: u64, data: &[u8]) -> Result<()> {
        if let Err(error) = self.write_within_quota(state, offset, data) {
            state.failed = Some(error.clone());
            return Err(error);
        }
        state.arrival.wrote(offset, data);
        self.note_gap(state, state.arrival.has_gap());
        let arrived = state.arrival.contiguous();
        if arrived >= state.flushing_to + FLUSH_BYTES && self.notes.flush(self.stage.clone(), arrived) {
            state.flushing_to = arrived;
        }
        Ok(())
    }
}

/// The identity of an upload's place while it is under way: its folder's inode, and its name.
pub(super) fn key_of(place: &Place) -> Result<(u64, Vec<u8>)> {
    Ok((rustix::fs::fstat(place.folder.as_fd())?.st_ino, place.name.clone()))
}
