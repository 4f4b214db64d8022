//! What a start after a crash does: decides the changes that were intended and not concluded, and looks through the
//! uploads that were not finished.
//!
//! At most one group is undecided, and none of it was acknowledged unless it had happened. A change is made only if the
//! object it names is still at its source, so doing this twice does no more than doing it once.

use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use pair::record::{Operation, Record, VolumePath};
use pair::volume::PRIVATE_FOLDER;
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, SeekFrom, Stat};
use rustix::io::Errno;

use super::arrival::to_be_shown;
use super::change::note_stat;
use super::disk::Disk;
use super::file_content::{quietly, read_at};
use super::journal::{Intent, Journal, Outcome, RowChange, UploadRow};
use super::stage::{Stages, is_ours, name_of, number_of};
use super::{Durability, Folder, Result};

/// The folders that recovery works in.
pub(super) struct Recovery<'a> {
    pub volume: &'a OwnedFd,
    pub stages: &'a Arc<Stages>,
    pub disk: &'a Disk,
    pub durability: Durability,
    /// Whether the system itself has stopped since: then only what was flushed is on the disk for certain.
    pub is_new_boot: bool,
}

/// A folder and a name in it.
type Named = (OwnedFd, Vec<u8>);

impl Recovery<'_> {
    /// Whether there is anything on the volume but the pair's own folder.
    pub(super) fn has_files(&self) -> Result<bool> {
        let mut folder = Folder::new(self.volume.try_clone().map_err(|_| Errno::MFILE)?)?;
        while let Some(entry) = folder.next_entry()? {
            if ![b".".as_slice(), b"..", PRIVATE_FOLDER.as_bytes()].contains(&entry.name.as_slice()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Decides what is undecided, in order. Gives the number of changes.
    pub(super) fn decide(&self, journal: &mut Journal) -> anyhow::Result<usize> {
        let undecided = journal.undecided()?;
        for intent in &undecided {
            let mut record = intent.record.clone();
            let has_happened = self.make_happen(intent, &mut record)?;
            if self.durability == Durability::Fsync && has_happened {
                self.disk.flush_all(self.volume)?;
            }
            let rows: Vec<_> = intent.stage.filter(|_| has_happened).map(RowChange::Gone).into_iter().collect();
            let outcome = if has_happened { Outcome::Done(record) } else { Outcome::Aborted(record.seq) };
            journal.decide(&[outcome], &rows)?;
        }
        Ok(undecided.len())
    }

    /// Makes a change happen if it can still; tells whether it has, then or now.
    fn make_happen(&self, intent: &Intent, record: &mut Record) -> rustix::io::Result<bool> {
        match self.try_to(intent, record) {
            Ok(happened) => Ok(happened),
            // The process of a test has "died".
            #[cfg(test)]
            Err(error) if self.disk.has_crashed() => Err(error),
            // Its folder is gone, or something else has the name: it cannot happen any more.
            Err(_) => Ok(false),
        }
    }

    fn try_to(&self, intent: &Intent, record: &mut Record) -> rustix::io::Result<bool> {
        let disk = self.disk;
        let (folder, name) = self.place(&record.path)?;
        let here = stat_of(&folder, &name)?;
        let is_it = |stat: &Option<Stat>| stat.as_ref().is_some_and(|stat| Some(stat.st_ino) == record.inode);
        let happened = match record.op {
            Operation::Put => {
                is_it(&here)
                    || (self.is_whole(intent)? && {
                        let stage = name_of(intent.stage.unwrap_or_default());
                        disk.rename((self.stages.folder(), stage.as_bytes()), (&folder, &name), intent.replaces)?;
                        true
                    })
            }
            Operation::Rename | Operation::Link => {
                let (to, new_name) = self.place(record.target.as_ref().ok_or(Errno::INVAL)?)?;
                let there = stat_of(&to, &new_name)?;
                let is_rename = record.op == Operation::Rename;
                let happened = is_it(&there) && !(is_rename && is_it(&here));
                if !happened && is_it(&here) {
                    let (from, to) = ((&folder, name.as_slice()), (&to, new_name.as_slice()));
                    if is_rename { disk.rename(from, to, intent.replaces)? } else { disk.hard_link(from, to)? }
                } else if !happened {
                    return Ok(false);
                }
                stat_of(&to, &new_name)?.inspect(|stat| note_stat(record, stat));
                return Ok(true);
            }
            Operation::Remove | Operation::Rmdir => {
                match (is_it(&here), record.op) {
                    (true, Operation::Remove) => disk.unlink(&folder, &name)?,
                    (true, _) => disk.remove_folder(&folder, &name)?,
                    // It was removed, whatever has the name now.
                    (false, _) => {}
                }
                return Ok(true);
            }
            Operation::Mkdir => {
                let is_folder = here.is_some_and(|stat| stat.st_mode & 0o170_000 == 0o040_000);
                if here.is_none() {
                    disk.make_folder(&folder, &name, record.mode.unwrap_or(0o755))?;
                }
                is_folder || here.is_none()
            }
            Operation::Symlink => {
                let text = record.target.clone().unwrap_or_default().0;
                if here.is_none() {
                    disk.make_link(&folder, &name, &text)?;
                }
                here.is_none() || rustix::fs::readlinkat(&folder, &*name, Vec::new())?.as_bytes() == text
            }
            // What stands there now is what is told; a part of the attributes may be missing, which nobody was promised.
            Operation::Setattr | Operation::Dirty | Operation::Clean => is_it(&here),
            Operation::Heartbeat | Operation::Mark => return Ok(true),
        };
        if happened {
            stat_of(&folder, &name)?.inspect(|stat| note_stat(record, stat));
        }
        Ok(happened)
    }

    /// The folder and name of a path, without following any link on the way.
    fn place(&self, path: &VolumePath) -> rustix::io::Result<Named> {
        let VolumePath(path) = path;
        let (parent, name) = match path.iter().rposition(|&byte| byte == b'/') {
            Some(slash) => (path.get(..slash).unwrap_or_default(), path.get(slash + 1..).unwrap_or_default()),
            None => (b".".as_slice(), path.as_slice()),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let folder = rustix::fs::openat2(self.volume, parent, flags, Mode::empty(), resolve)?;
        Ok((folder, name.to_vec()))
    }

    /// Whether the stage of a publication holds all that was meant: its length and, which alone proves it, its hash.
    fn is_whole(&self, intent: &Intent) -> rustix::io::Result<bool> {
        let (Some(stage), Some(hash)) = (intent.stage, &intent.record.hash) else {
            return Ok(false);
        };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(self.stages.folder(), name_of(stage), flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&file)?;
        if Some(stat.st_ino) != intent.record.inode || Some(stat.st_size as u64) != intent.record.size {
            return Ok(false);
        }
        Ok(hash_of(&file)?.to_hex().as_str() == hash)
    }

    /// The uploads that can be continued. Stages that nobody remembers go.
    pub(super) fn uploads(&self, journal: &mut Journal) -> anyhow::Result<Vec<UploadRow>> {
        let (mut kept, mut known, mut changes) = (Vec::new(), HashSet::new(), Vec::new());
        for row in journal.uploads()? {
            let number = row.number;
            let Some(bytes) = self.cut_to_what_is_certain(&row)? else {
                changes.push(RowChange::Gone(number));
                continue;
            };
            changes.push(RowChange::Arrived { number, bytes: Some(bytes) });
            // No later start may believe more.
            changes.push(RowChange::Durable { number, bytes: row.durable_bytes.min(bytes) });
            known.insert(number);
            kept.push(row);
        }
        journal.decide(&[], &changes)?;
        let mut folder = Folder::new(self.stages.folder().try_clone()?)?;
        while let Some(entry) = folder.next_entry()? {
            let is_known = number_of(&entry.name).is_some_and(|number| known.contains(&number));
            if is_ours(&entry.name) && !is_known {
                self.disk.unlink(self.stages.folder(), &entry.name)?;
            }
        }
        Ok(kept)
    }

    /// Cuts an upload to what is there for certain, and says how much that is; none where it cannot be gone on with.
    fn cut_to_what_is_certain(&self, row: &UploadRow) -> Result<Option<u64>> {
        let name = name_of(row.number);
        let Some(stat) = stat_of(self.stages.folder(), name.as_bytes())? else {
            if !self.is_new_boot {
                return Ok(None);
            }
            // Its bytes are lost, but its client must not be shown the size of a file that it was to replace.
            self.disk.create(self.stages.folder(), name.as_bytes(), 0o644)?;
            return Ok(Some(0));
        };
        let size = stat.st_size as u64;
        let known = match row.arrived_bytes {
            _ if self.is_new_boot => to_be_shown(row.durable_bytes),
            Some(arrived) => arrived,
            None => to_be_shown(self.size_before_a_hole(row.number, size)?),
        };
        if known < size {
            self.disk.truncate(self.stages.open(row.number)?.file(), known)?;
        }
        Ok(Some(known.min(size)))
    }

    /// The size of a stage as far as it has no hole: of a gap that has just come nothing may be noted yet. In its last
    /// block before the hole it is unknown where the gap began.
    fn size_before_a_hole(&self, number: u64, size: u64) -> Result<u64> {
        let stage = self.stages.open(number)?;
        let hole = match rustix::fs::seek(stage.file(), SeekFrom::Hole(0)) {
            Ok(hole) => hole,
            // An empty file has no place for one, and some file systems know of none.
            Err(_) => size,
        };
        let block = rustix::fs::fstat(stage.file())?.st_blksize.max(0) as u64;
        Ok(if hole < size { hole.saturating_sub(block) } else { size })
    }
}

fn stat_of(folder: &OwnedFd, name: &[u8]) -> rustix::io::Result<Option<Stat>> {
    match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// BLAKE3 of a whole file. Nobody asked for it to be read, so its time of last access stays.
pub(super) fn hash_of(file: &impl AsFd) -> rustix::io::Result<blake3::Hash> {
    let quiet = quietly(file.as_fd());
    let file = quiet.as_ref().map_or(file.as_fd(), AsFd::as_fd);
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1024 * 1024];
    let mut offset = 0;
    loop {
        let count = read_at(file, &mut buffer, offset)?;
        if count == 0 {
            return Ok(hasher.finalize());
        }
        hasher.update(buffer.get(..count).unwrap_or_default());
        offset += count as u64;
    }
}
