//! A handle that writes an unfinished upload, and what its CLOSE leads to.
//!
//! Always holds: a handle whose upload was taken over, removed or published by another writes nothing more to it, and one
//! whose WRITE has failed publishes nothing.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, MutexGuard};

use tokio::sync::watch;

use super::attributes::attributes_of;
use super::unfinished::Unfinished;
use super::upload::{Phase, State, Upload};
use super::{Attributes, FolderId, NewAttributes, Place, Result, Stage, StorageError};

/// Why a write did not happen.
#[derive(Debug)]
pub enum NotWritten {
    /// It failed, or may not be done.
    Failed(StorageError),
    /// A handle beside this one has published the upload: a change must begin from what stands there now.
    Published,
    /// A handle beside this one is publishing it.
    Publishing,
}

impl<E: Into<StorageError>> From<E> for NotWritten {
    fn from(error: E) -> NotWritten {
        NotWritten::Failed(error.into())
    }
}

/// A handle that writes an upload.
#[derive(Debug)]
pub struct Writer {
    upload: Arc<Upload>,
    takeovers: u64,
    unfinished: Arc<Unfinished>,
    is_closed: bool,
    /// Whether OPEN must wait until the journal has what was noted. After a power failure the client would be shown the
    /// size of an older file or upload, to which it would join the rest of this one.
    pub(super) must_settle: bool,
}

/// What CLOSE leads to.
pub enum Closing {
    /// The upload is complete and must be published.
    Publish(Publication),
    /// A handle beside this one publishes it, or has done so: the answer to that is the answer to this.
    Behind(watch::Receiver<Option<Result<()>>>),
    /// There is nothing to publish: the upload was removed on purpose, or it is a copy of the complete file that nobody
    /// has touched.
    Nothing,
}

/// A complete upload on its way to its name.
#[derive(Debug)]
pub struct Publication {
    pub(super) stage: Arc<Stage>,
    pub(super) place: Place,
    pub(super) exclusive: bool,
    /// How long it is, in bytes.
    pub(super) size: u64,
    /// BLAKE3, if it came in order.
    pub(super) hash: Option<blake3::Hash>,
    pub(super) upload: Option<Arc<Upload>>,
}

impl Publication {
    /// The file that takes the name.
    pub fn id(&self) -> Result<FolderId> {
        FolderId::of(self.stage.file().as_fd())
    }

    /// A small file of the daemon's own.
    pub(super) fn of_file(stage: Stage, place: Place, content: &[u8]) -> Publication {
        let (size, hash) = (content.len() as u64, Some(blake3::hash(content)));
        Publication { stage: Arc::new(stage), place, exclusive: false, size, hash, upload: None }
    }
}

impl Writer {
    pub(super) fn new(upload: Arc<Upload>, takeovers: u64, unfinished: Arc<Unfinished>, must_settle: bool) -> Writer {
        Writer { upload, takeovers, unfinished, is_closed: false, must_settle }
    }

    /// Whether [`super::Volume::settle`] must come before OPEN is answered.
    pub fn must_settle(&self) -> bool {
        self.must_settle
    }

    /// The upload's state, if this handle still has a say in it.
    fn lock(&self) -> Result<MutexGuard<'_, State>> {
        let state = self.upload.lock();
        if state.takeovers != self.takeovers {
            let sentence = "a newer connection of this account has taken this upload over";
            return Err(StorageError::Refused(sentence.into()));
        }
        Ok(state)
    }

    fn lock_to_write(&self) -> std::result::Result<MutexGuard<'_, State>, NotWritten> {
        let state = self.lock()?;
        match (&state.failed, state.phase) {
            (Some(error), _) => Err(NotWritten::Failed(error.clone())),
            (None, Phase::Publishing) => Err(NotWritten::Publishing),
            (None, Phase::Published) => Err(NotWritten::Published),
            // As on every Unix: what has no name any more can still be written, and is gone at the end.
            (None, Phase::Open | Phase::Removed(_)) => Ok(state),
        }
    }

    /// Writes at an offset, or at the end where there is none.
    pub fn write(&self, offset: Option<u64>, data: &[u8]) -> std::result::Result<(), NotWritten> {
        let mut state = self.lock_to_write()?;
        let offset = match offset {
            Some(offset) => offset,
            None => attributes_of(state.stage.file())?.size,
        };
        Ok(self.upload.write(&mut state, offset, data)?)
    }

    /// Sets attributes of the file that the upload becomes. Tells whether [`super::Volume::settle`] must come before the answer.
    pub fn set_attributes(&self, new: &NewAttributes) -> std::result::Result<bool, NotWritten> {
        let mut state = self.lock_to_write()?;
        Ok(self.upload.set_attributes_locked(&mut state, new)?)
    }

    /// Whether a WRITE has failed.
    pub fn has_failed(&self) -> bool {
        self.upload.lock().failed.is_some()
    }

    /// Where it will be published.
    pub fn place(&self) -> Result<Place> {
        Ok(self.lock()?.place.clone())
    }

    /// From here on it takes no name that something has.
    pub fn replace_nothing(&self) -> Result<()> {
        self.lock()?.exclusive = true;
        Ok(())
    }

    /// What has been written so far.
    pub fn attributes(&self) -> Result<Attributes> {
        let state = self.lock()?;
        attributes_of(state.stage.file())
    }

    /// What has arrived, to be made durable.
    pub fn stage(&self) -> Result<Arc<Stage>> {
        Ok(self.lock()?.stage.clone())
    }

    /// The file itself, for reading.
    pub fn file(&self) -> Result<Arc<OwnedFd>> {
        Ok(self.lock()?.stage.share_file())
    }

    /// CLOSE. An error leaves what has arrived for the client to continue.
    pub fn close(mut self) -> Result<Closing> {
        if self.unfinished.abandon(&self.upload, |state| self.is_alone(state) && state.is_untouched_copy) {
            self.is_closed = true;
            return Ok(Closing::Nothing);
        }
        let (stage, place, exclusive, size, hash) = {
            let mut state = self.lock()?;
            if let Some(error) = &state.failed {
                return Err(StorageError::Refused(format!("the upload is incomplete: {error}")));
            }
            match state.phase {
                Phase::Open => {}
                Phase::Removed(by) if by != state.connection => {
                    return Err(StorageError::Refused("the upload was removed by another connection".into()));
                }
                Phase::Publishing | Phase::Published => return Ok(Closing::Behind(state.answered.subscribe())),
                Phase::Removed(_) => return Ok(Closing::Nothing),
            }
            let size = attributes_of(state.stage.file())?.size;
            state.phase = Phase::Publishing;
            state.answered.send_replace(None);
            state.writers -= 1;
            (state.stage.clone(), state.place.clone(), state.exclusive, size, state.arrival.hash(size))
        };
        self.is_closed = true;
        let upload = Some(self.upload.clone());
        Ok(Closing::Publish(Publication { stage, place, exclusive, size, hash, upload }))
    }

    /// Whether no other handle writes the upload.
    fn is_alone(&self, state: &State) -> bool {
        state.takeovers == self.takeovers && state.writers == 1
    }

    /// The client was never told of this handle, so what it began goes: to its account the file behind it would look
    /// cut. What others write with it stays.
    pub fn forget(mut self) {
        self.is_closed = self.unfinished.abandon(&self.upload, |state| self.is_alone(state));
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.is_closed {
            return;
        }
        let is_untouched_copy = {
            let mut state = self.upload.lock();
            if state.takeovers != self.takeovers {
                return;
            }
            state.writers -= 1;
            if state.writers > 0 || state.phase != Phase::Open {
                return;
            }
            // A size that could not be cut is not believed after a restart either: the journal knows of the gap.
            if !state.is_untouched_copy
                && let Err(error) = self.upload.cut_to_what_arrived(&mut state)
            {
                tracing::debug!(%error, "an unfinished upload could not be cut to what has arrived");
            }
            state.is_untouched_copy
        };
        let is_so = |state: &State| state.writers == 0 && state.is_untouched_copy;
        if !(is_untouched_copy && self.unfinished.abandon(&self.upload, is_so)) {
            self.unfinished.leave(&self.upload);
        }
    }
}
