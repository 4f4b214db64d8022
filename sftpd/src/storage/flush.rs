//! Making contents and intents durable, at the same time, before a group of changes happens.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::Errno;

use super::change::Change;
use super::disk::Disk;
use super::failure::{Failure, fail};
use super::journal;
use super::{Stage, StorageError};

/// From this many things to flush on, one flush of the whole file system is cheaper than one of each.
const FLUSH_EACH_MAX: usize = 8;

/// Flushes contents beside the journal's own flush.
pub(super) struct ContentFlush<'a> {
    pub volume: &'a OwnedFd,
    pub disk: &'a Disk,
    pub failed: &'a Failure,
}

fn lost(change: &Change) -> Option<Errno> {
    change.stage().and_then(Stage::lost)
}

impl ContentFlush<'_> {
    /// Flushes while something else is written. Gives those that found no room, and what the other has come to.
    pub(super) fn run_beside<T>(
        &self,
        contents: &[(usize, &Change)],
        write: impl FnOnce() -> T,
    ) -> (Vec<(usize, Errno)>, T) {
        std::thread::scope(|scope| {
            let builder = std::thread::Builder::new().name("contents".into());
            // A system that gives no thread more gets the two one after the other.
            let Ok(flushing) = builder.spawn_scoped(scope, || self.run(contents)) else {
                return (self.run(contents), write());
            };
            let written = write();
            let lost = flushing.join().unwrap_or_else(|_| {
                fail(self.failed, "the flush itself failed by a bug");
                Vec::new()
            });
            (lost, written)
        })
    }

    /// Gives those that found no room: they fail alone, as nobody was promised them yet.
    fn run(&self, contents: &[(usize, &Change)]) -> Vec<(usize, Errno)> {
        if contents.len() > FLUSH_EACH_MAX && self.disk.can_flush_all() {
            match self.disk.flush_all(self.volume) {
                // What an earlier flush has told of a stage is not told again.
                Ok(()) => return contents.iter().filter_map(|(index, change)| Some((*index, lost(change)?))).collect(),
                // Some file had no room, perhaps none of these: each is asked.
                Err(Errno::NOSPC | Errno::DQUOT) => {}
                Err(error) => {
                    fail(self.failed, error);
                    return Vec::new();
                }
            }
        }
        let mut lost = Vec::new();
        for (index, change) in contents {
            match change.flush_content(self.disk) {
                Ok(()) => {}
                Err(error @ (Errno::NOSPC | Errno::DQUOT)) => lost.push((*index, error)),
                Err(error) => fail(self.failed, error),
            }
        }
        lost
    }
}

/// Flushes folders and things whose attributes were set.
pub(super) fn flush_things(disk: &Disk, volume: &OwnedFd, things: &[BorrowedFd<'_>]) -> rustix::io::Result<()> {
    let each = || things.iter().try_for_each(|thing| disk.flush(*thing));
    let are_many = things.len() > FLUSH_EACH_MAX && disk.can_flush_all();
    let flushed = match if are_many { disk.flush_all(volume) } else { each() } {
        // Some file had no room, which its own flush tells; these are no files.
        Err(Errno::NOSPC | Errno::DQUOT) if are_many => each(),
        flushed => flushed,
    };
    // Among them was a thing that cannot be flushed alone.
    if flushed == Err(Errno::BADF) { disk.flush_all(volume) } else { flushed }
}

/// What a failure of the journal is to a client.
pub(super) fn from_journal(error: rusqlite::Error) -> StorageError {
    if journal::is_full(&error) {
        return Errno::NOSPC.into();
    }
    StorageError::Refused(error.to_string())
}

#[cfg(test)]
mod tests;
