//! What changes the size of an upload, and how much of it may be believed afterwards.
//!
//! Always holds: no byte that was cut away comes back, neither after a kill nor after a power failure.

use std::sync::Arc;

use super::{Arrival, Phase, Result, RowChange, State, StorageError, Upload, attributes_of};

impl Upload {
    /// Gives it another size. Tells whether the journal must know of it before anybody is told: after a power failure it
    /// would show what was flushed before.
    pub(super) fn resize(&self, state: &mut State, size: u64) -> Result<bool> {
        if let Some(charge) = &mut state.charge {
            charge.set_size(size)?;
        }
        state.is_untouched_copy = false;
        if size == 0 && state.phase == Phase::Open {
            return self.begin_anew(state);
        }
        let must_settle = self.cut(state, size)?;
        state.arrival.resized(size);
        if state.has_noted_gap {
            // What was noted may be more than there is now.
            let bytes = state.arrival.has_gap().then(|| state.arrival.to_be_shown());
            self.keeping.notes.note(RowChange::Arrived { number: state.stage.number(), bytes });
            state.has_noted_gap = bytes.is_some();
        }
        Ok(must_settle)
    }

    fn cut(&self, state: &mut State, size: u64) -> Result<bool> {
        let is_less_than_flushed = size < state.flushing_to;
        if is_less_than_flushed {
            state.stage.note_cut(&self.keeping.notes, size);
            state.flushing_to = size;
        }
        state.stage.disk().truncate(state.stage.file(), size)?;
        Ok(is_less_than_flushed)
    }

    /// Cut to nothing: other bytes begin, in a stage of their own, so that those of before can never be taken for them.
    fn begin_anew(&self, state: &mut State) -> Result<bool> {
        let attributes = attributes_of(state.stage.file())?;
        if attributes.size == 0 && !state.may_be_durable && state.stage.lost().is_none() {
            state.arrival = Arrival::empty();
            return Ok(false);
        }
        let stage = self.keeping.stages.create(attributes.mode)?;
        stage.keep();
        let before = std::mem::replace(&mut state.stage, Arc::new(stage));
        self.note_begun(state)?;
        self.keeping.notes.note(RowChange::Gone(before.number()));
        before.let_go();
        self.keeping.notes.forget(before);
        state.arrival = Arrival::empty();
        (state.flushing_to, state.has_noted_gap, state.may_be_durable) = (0, false, false);
        Ok(true)
    }

    /// Nobody writes it any more, so its size must say what has arrived. One that found no room gives its own back: it
    /// must not keep the disk full for everybody else, and its client begins again.
    pub(in super::super) fn cut_to_what_arrived(&self, state: &mut State) -> Result<()> {
        if state.stage.lost().is_some() && state.phase == Phase::Open {
            // Some of it did not reach the disk, and nobody knows what: no byte of it is gone on with.
            self.begin_anew(state)?;
        }
        let found_no_room = state.failed.as_ref().is_some_and(StorageError::is_for_want_of_room);
        let arrived = if found_no_room { 0 } else { state.arrival.to_be_shown() };
        if attributes_of(state.stage.file())?.size != arrived {
            self.cut(state, arrived)?;
        }
        if let Some(charge) = &mut state.charge {
            charge.set_size(arrived)?;
        }
        state.arrival.resized(arrived);
        state.failed = None;
        let number = state.stage.number();
        self.keeping.notes.note(RowChange::Arrived { number, bytes: Some(arrived) });
        (state.has_noted_gap, state.cut_to) = (true, Some(arrived));
        Ok(())
    }

    /// From now on the size on the disk tells too much: after a kill it must not be believed.
    pub(super) fn note_gap(&self, state: &mut State, is_there: bool) {
        if is_there && !state.has_noted_gap {
            state.has_noted_gap = true;
            let bytes = Some(state.arrival.to_be_shown());
            self.keeping.notes.note(RowChange::Arrived { number: state.stage.number(), bytes });
        }
    }
}
