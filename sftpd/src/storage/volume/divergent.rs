//! The doors to what was set aside, and to what is needed to decide that: what stands at a path, what it holds, what the journal says of it.
//!
//! It decides nothing.

use rustix::fs::AtFlags;
use rustix::io::Errno;

use pair::record::Record;

use super::super::change::note_stat;
use super::super::divergent::{Aside, Divergent, Held};
use super::super::incoming::Incoming;
use super::super::journal::empty_record;
use super::super::recovery::hash_of;
use super::{Attributes, Result, StorageError, Volume};
use crate::storage::FileKind;

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// What it is.
    pub kind: FileKind,
    /// Its size in bytes.
    pub size: u64,
    /// Its mode as in `st_mode`.
    pub mode: u32,
    /// When its content last changed, in nanoseconds since 1970.
    pub mtime_ns: i64,
    /// When the file system last changed it, in nanoseconds since 1970.
    pub ctime_ns: i64,
    /// Its inode's number.
    pub inode: u64,
    /// What it says, if it is a link.
    pub target: Option<Vec<u8>>,
}

impl Volume {
    /// What was set aside here.
    pub fn divergent(&self) -> Result<Divergent> {
        let volume = self.folder.try_clone().map_err(|_| Errno::MFILE)?;
        let (disk, failed, shared) = (self.disk.clone(), self.committer.failed(), self.aside.clone());
        Ok(Divergent { disk, volume, failed, shared })
    }

    /// The right to change something of that. Refused while somebody else has it.
    pub fn aside(&self) -> Result<Aside> {
        if let Some(sentence) = self.failure() {
            return Err(StorageError::Refused(sentence));
        }
        let busy = |_| StorageError::Refused("what was set aside is being changed just now: try again later".into());
        let turn = self.aside.turn.clone().try_lock_owned().map_err(busy)?;
        Ok(Aside::new(self.divergent()?, turn))
    }

    /// How many things are offered to the master, or wanted back, and not answered yet. At most a few seconds old.
    pub fn offers(&self) -> u64 {
        let count = || self.divergent().and_then(|divergent| divergent.open_count());
        self.aside.count(|| {
            count().unwrap_or_else(|error| {
                tracing::warn!(%error, "what was set aside cannot be counted");
                0
            })
        })
    }

    /// Has the journal keep its records, also those that all standbys have: they prove which paths are untouched.
    pub fn hold_records(&self) -> Held {
        self.aside.clone().hold()
    }

    /// What stands at a path from the volume on; links are not followed, and lead nowhere. None for nothing.
    pub fn look_at(&self, path: &[u8]) -> Result<Option<Seen>> {
        let place = match self.whole()?.place(path) {
            Ok(place) => place,
            Err(StorageError::System(Errno::NOENT | Errno::NOTDIR | Errno::LOOP)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let stat = match rustix::fs::statat(&*place.folder, place.name(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let Attributes { kind, size, mode, identity, .. } = Attributes::of(&stat);
        let mut noted = empty_record(0, 0, pair::record::Operation::Mark);
        note_stat(&mut noted, &stat);
        let (mtime_ns, ctime_ns) = (noted.mtime_ns.unwrap_or_default(), noted.ctime_ns.unwrap_or_default());
        let target = match kind {
            FileKind::Link => Some(rustix::fs::readlinkat(&*place.folder, place.name(), Vec::new())?.into_bytes()),
            _ => None,
        };
        Ok(Some(Seen { kind, size, mode, mtime_ns, ctime_ns, inode: identity.1, target }))
    }

    /// The names in a folder, in order.
    pub fn names_in(&self, path: &[u8]) -> Result<Vec<Vec<u8>>> {
        let mut names = self.whole()?.open_folder(path)?.names()?;
        names.sort_unstable();
        Ok(names)
    }

    /// BLAKE3 of a file. Reads all of it: not for an async thread.
    pub fn hash_at(&self, path: &[u8]) -> Result<blake3::Hash> {
        Ok(hash_of(&self.whole()?.open_file(path)?.0)?)
    }

    /// Begins to take in a file that comes from the other machine.
    pub fn receive(&self, mode: u32) -> Result<Incoming> {
        Ok(Incoming::new(self.new_stage(mode)?))
    }

    /// Changes behind a number and in order, also those that are not decided yet. Reads the journal: not for an async thread.
    pub fn records_that_may_be(&self, seq: u64, at_most: usize) -> anyhow::Result<Vec<Record>> {
        Ok(self.reader.records_that_may_be(seq, at_most)?)
    }

    /// The change with a number. Reads the journal: not for an async thread.
    pub fn record(&self, seq: u64) -> anyhow::Result<Option<Record>> {
        Ok(self.reader.record(seq)?)
    }
}
