//! How much room the data volume has, for those who may not wait for it: other machines that say hello.
//!
//! A disk that hangs holds up one thread and no answer: what is told is what was seen last, about a second ago.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::storage::Volume;

/// What was seen last.
#[derive(Default)]
pub struct VolumeRoom {
    known: Mutex<Option<(u64, u64)>>,
    is_looking: AtomicBool,
}

impl VolumeRoom {
    /// All bytes and those that are free, as of the last look; begins the next one.
    pub fn told(self: &Arc<Self>, volume: &Arc<Volume>) -> Option<(u64, u64)> {
        if !self.is_looking.swap(true, Ordering::AcqRel) {
            let (room, volume) = (self.clone(), volume.clone());
            tokio::task::spawn_blocking(move || room.look(&volume));
        }
        *self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self, volume: &Volume) {
        let seen = volume.room_bytes();
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = seen;
        self.is_looking.store(false, Ordering::Release);
    }
}
