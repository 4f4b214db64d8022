//! Making contents and intents durable, at the same time, before a group of changes happens.

use std::os::fd::OwnedFd;

use rustix::io::Errno;

use super::change::Change;
use super::committer::{FLUSH_EACH_MAX, Failure, fail};
use super::disk::Disk;
use super::journal::{self, Intent, Journal, RowChange};
use super::reserve::Reserve;
use super::{Result, StorageError};

/// Flushes contents beside the journal's own flush.
pub(super) struct ContentFlush<'a> {
    pub volume: &'a OwnedFd,
    pub disk: &'a Disk,
    pub failed: &'a Failure,
    pub is_wanted: bool,
}

impl ContentFlush<'_> {
    /// Gives those that found no room: they fail alone, as nobody was promised them yet.
    pub(super) fn run(&self, contents: &[(usize, &Change)]) -> Vec<(usize, Errno)> {
        if contents.len() > FLUSH_EACH_MAX {
            if let Err(error) = self.disk.flush_all(self.volume) {
                fail(self.failed, error);
            }
            return Vec::new();
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

/// Writes intents. A full disk gives up the reserved room where that lets something be removed.
pub(super) fn write_intents(
    journal: &mut Journal,
    reserve: &mut Reserve,
    intents: &[Intent],
    rows: &[RowChange],
    must_settle: bool,
    frees_room: bool,
) -> Result<()> {
    if intents.is_empty() && rows.is_empty() && !must_settle {
        return Ok(());
    }
    let is_lazy = intents.is_empty() && !must_settle;
    let mut write = || if is_lazy { journal.decide(&[], rows) } else { journal.write(intents, rows) };
    let written = match write() {
        Err(error) if journal::is_full(&error) && frees_room && reserve.give_up() => write(),
        written => written,
    };
    written.map_err(from_journal)
}

/// What a failure of the journal is to a client.
pub(super) fn from_journal(error: rusqlite::Error) -> StorageError {
    if journal::is_full(&error) {
        return Errno::NOSPC.into();
    }
    StorageError::Refused(error.to_string())
}
