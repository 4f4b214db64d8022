//! What a master of before has and the new one has not: set aside in `.pair/divergent/<epoch>`, by a rename, and kept until a person
//! releases it.
//!
//! Always holds: what a thing was is durable before the thing moves, and both are before that is said. So an entry whose thing is missing
//! is one that broke off (or a release that did): it goes, and the thing, if it is still at its place, gets another entry at the next try.
//! No content is ever copied, and none is removed but by a release. It does not decide what is set aside, and asks no other machine.

use std::collections::{BTreeMap, HashSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use pair::volume::PRIVATE_FOLDER;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use tokio::sync::OwnedMutexGuard;

use super::disk::Disk;
use super::failure::{Failure, fail};
use super::file_content::read_whole;
use super::flush::flush_things;
use super::mounted::FOLDER_FLAGS;
use super::{Folder, Result, Root, StorageError};

mod entry;
mod shared;

pub use entry::{Entry, EntryKind, Mark, Parts, State, Wanted, content_name, entry_name, is_epoch, parts_of};

pub use shared::Held;
pub(super) use shared::Shared;

/// Where all of it is, from the volume on.
pub const DIVERGENT_FOLDER: &str = ".pair/divergent";

/// All that was set aside on this machine.
#[derive(Debug)]
pub struct Divergent {
    pub(super) disk: Disk,
    pub(super) volume: OwnedFd,
    pub(super) failed: Failure,
    pub(super) shared: Arc<Shared>,
}

impl Divergent {
    fn top(&self) -> Result<OwnedFd> {
        Ok(rustix::fs::openat(&self.volume, DIVERGENT_FOLDER, FOLDER_FLAGS | OFlags::NOFOLLOW, Mode::empty())?)
    }

    fn folder(&self, epoch: &str) -> Result<OwnedFd> {
        if !is_epoch(epoch.as_bytes()) {
            return Err(StorageError::Refused(format!("{} is no epoch", epoch.escape_debug())));
        }
        Ok(rustix::fs::openat(self.top()?, epoch, FOLDER_FLAGS | OFlags::NOFOLLOW, Mode::empty())?)
    }

    /// The epochs of which something was set aside, in the order of their names.
    pub fn epochs(&self) -> Result<Vec<String>> {
        let names = names_in(self.top()?)?.into_iter().filter(|name| is_epoch(name));
        let mut epochs: Vec<String> = names.filter_map(|name| String::from_utf8(name).ok()).collect();
        epochs.sort_unstable();
        Ok(epochs)
    }

    /// What there is of each number of an epoch.
    pub fn parts(&self, epoch: &str) -> Result<BTreeMap<u64, Parts>> {
        Ok(parts_of(names_in(self.folder(epoch)?)?.iter().map(Vec::as_slice)))
    }

    /// What a thing was; none where it is not whole: it is being set aside, or was released.
    pub fn entry(&self, epoch: &str, number: u64, parts: &Parts) -> Result<Option<Entry>> {
        let entry = read_entry(&self.folder(epoch)?, number)?;
        Ok(entry.filter(|entry| parts.content || entry.kind == EntryKind::Folder))
    }

    /// What has become of a thing.
    pub fn state(&self, epoch: &str, number: u64, parts: &Parts) -> Result<State> {
        let Some(mark) = parts.mark() else { return Ok(State::Offered) };
        let text = read_small(&self.folder(epoch)?, &mark.name(number))?.unwrap_or_default();
        Ok(match mark {
            Mark::Restored => State::Restored,
            Mark::Kept => State::Kept(String::from_utf8_lossy(&text).into_owned()),
            Mark::Wanted => serde_json::from_slice(&text)
                .map_or_else(|_| State::Kept("what was asked for cannot be read".into()), State::Wanted),
        })
    }

    /// How many things a master is to say something to.
    pub fn open_count(&self) -> Result<u64> {
        self.count(Parts::is_open)
    }

    /// How many things of some kind there are.
    pub fn count(&self, is_meant: impl Fn(&Parts) -> bool) -> Result<u64> {
        let mut open = 0;
        for epoch in self.epochs()? {
            open += self.parts(&epoch)?.values().filter(|parts| is_meant(parts)).count() as u64;
        }
        Ok(open)
    }

    /// Makes things durable. A flush that fails makes the volume read-only.
    fn flush(&self, things: &[BorrowedFd<'_>]) -> Result<()> {
        flush_things(&self.disk, &self.volume, things).map_err(|error| match error {
            Errno::NOSPC | Errno::DQUOT => error.into(),
            error => {
                fail(&self.failed, error);
                StorageError::Refused(format!("a flush of the data volume failed: {error}"))
            }
        })
    }
}

/// The right to change something of it, which one has at a time.
#[derive(Debug)]
pub struct Aside {
    divergent: Divergent,
    _turn: OwnedMutexGuard<()>,
}

impl Aside {
    pub(super) fn new(divergent: Divergent, turn: OwnedMutexGuard<()>) -> Aside {
        Aside { divergent, _turn: turn }
    }

    /// What there is, for looking at it.
    pub fn all(&self) -> &Divergent {
        &self.divergent
    }

    /// Begins to set things of an epoch aside, or goes on with it.
    pub fn begin(self, epoch: &str) -> Result<EpochFolder> {
        let top = self.divergent.top()?;
        let folder = match self.divergent.folder(epoch) {
            Err(StorageError::System(Errno::NOENT)) => {
                self.divergent.disk.make_folder(&top, epoch.as_bytes(), 0o700)?;
                self.divergent.folder(epoch)?
            }
            folder => folder?,
        };
        // Also where it was there: its name may not have been flushed.
        self.divergent.flush(&[top.as_fd()])?;
        let volume = self.divergent.volume.try_clone().map_err(|_| Errno::MFILE)?;
        let mut begun = EpochFolder {
            epoch: epoch.to_owned(),
            root: Root::without_links(volume),
            folder,
            next: 1,
            folders: HashSet::new(),
            aside: self,
        };
        begun.recover()?;
        Ok(begun)
    }

    /// Says that a person wants a thing back, whatever has become of it before. Durable.
    pub fn want(&self, epoch: &str, number: u64, wanted: &Wanted) -> Result<()> {
        let text = serde_json::to_vec(wanted).map_err(|error| StorageError::Refused(error.to_string()))?;
        self.mark(epoch, number, Mark::Wanted, &text)
    }

    /// Says what has become of a thing, in place of what was said before. Durable.
    pub fn mark(&self, epoch: &str, number: u64, mark: Mark, text: &[u8]) -> Result<()> {
        let Divergent { disk, shared, .. } = &self.divergent;
        let folder = self.divergent.folder(epoch)?;
        let new = entry::new_name(number);
        unlink_if_there(disk, &folder, &new)?;
        let file = disk.create(&folder, new.as_bytes(), 0o600)?;
        disk.write(file.as_fd(), text, 0)?;
        self.divergent.flush(&[file.as_fd()])?;
        let name = mark.name(number);
        disk.rename((&folder, new.as_bytes()), (&folder, name.as_bytes()), true)?;
        // The one that counts before the others goes last: until then it is what was said before.
        for other in Mark::ALL.into_iter().rev().filter(|other| *other != mark) {
            unlink_if_there(disk, &folder, &other.name(number))?;
        }
        shared.forget_count();
        self.divergent.flush(&[folder.as_fd()])
    }

    /// Removes things and all that is said of them, for ever. Gives their number.
    pub fn release(&self, epoch: &str, numbers: &[u64]) -> Result<u64> {
        let Divergent { disk, shared, .. } = &self.divergent;
        let (folder, parts) = (self.divergent.folder(epoch)?, self.divergent.parts(epoch)?);
        let mut released = 0;
        for (number, parts) in numbers.iter().filter_map(|number| Some((*number, parts.get(number)?))) {
            // In this order: what breaks off leaves an entry without its thing, which is none.
            if parts.content {
                disk.unlink(&folder, content_name(number).as_bytes())?;
            }
            remove_words(disk, &folder, number)?;
            released += 1;
        }
        shared.forget_count();
        self.divergent.flush(&[folder.as_fd()])?;
        let top = self.divergent.top()?;
        match disk.remove_folder(&top, epoch.as_bytes()) {
            Ok(()) => self.divergent.flush(&[top.as_fd()])?,
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(released)
    }
}

/// The folder into which things of one epoch are set aside.
#[derive(Debug)]
pub struct EpochFolder {
    aside: Aside,
    epoch: String,
    root: Root,
    folder: OwnedFd,
    next: u64,
    /// The paths of the folders that have an entry.
    folders: HashSet<Vec<u8>>,
}

impl EpochFolder {
    /// Drops what broke off. What has an entry already is known from then on.
    fn recover(&mut self) -> Result<()> {
        let parts = self.divergent().parts(&self.epoch)?;
        let disk = self.divergent().disk.clone();
        for (number, parts) in parts {
            self.next = self.next.max(number.saturating_add(1));
            if parts.new {
                unlink_if_there(&disk, &self.folder, &entry::new_name(number))?;
            }
            if parts.content {
                continue;
            }
            match read_entry(&self.folder, number)? {
                Some(entry) if entry.kind == EntryKind::Folder => drop(self.folders.insert(entry.path.0)),
                Some(_) | None => remove_words(&disk, &self.folder, number)?,
            }
        }
        self.divergent().shared.forget_count();
        self.divergent().flush(&[self.folder.as_fd()])
    }

    fn divergent(&self) -> &Divergent {
        &self.aside.divergent
    }

    /// Sets things aside, in their order; number and epoch are given to them here. Folders stay where they are, and get one
    /// entry whoever asks how often. Gives how many entries were made. Durable.
    pub fn keep(&mut self, things: Vec<Entry>) -> Result<u64> {
        if let Some(sentence) = self.divergent().failed.get() {
            return Err(StorageError::Refused(sentence.clone()));
        }
        let mut entries = Vec::new();
        for thing in things {
            if thing.kind == EntryKind::Folder && !self.folders.insert(thing.path.0.clone()) {
                continue;
            }
            entries.push(Entry { number: self.next, epoch: self.epoch.clone(), ..thing });
            self.next = self.next.saturating_add(1);
        }
        self.write_down(&entries)?;
        let kept = self.move_all(&entries)?;
        self.divergent().shared.forget_count();
        Ok(kept)
    }

    fn write_down(&self, entries: &[Entry]) -> Result<()> {
        let disk = &self.divergent().disk;
        let mut files = Vec::new();
        for entry in entries {
            let text = serde_json::to_vec(entry).map_err(|error| StorageError::Refused(error.to_string()))?;
            let file = disk.create(&self.folder, entry::new_name(entry.number).as_bytes(), 0o600)?;
            disk.write(file.as_fd(), &text, 0)?;
            files.push(file);
        }
        let files: Vec<_> = files.iter().map(AsFd::as_fd).collect();
        self.divergent().flush(&files)?;
        for Entry { number, .. } in entries {
            let (new, name) = (entry::new_name(*number), entry_name(*number));
            disk.rename((&self.folder, new.as_bytes()), (&self.folder, name.as_bytes()), false)?;
        }
        self.divergent().flush(&[self.folder.as_fd()])
    }

    fn move_all(&self, entries: &[Entry]) -> Result<u64> {
        let disk = &self.divergent().disk;
        let (mut left, mut kept) = (Vec::new(), 0);
        for entry in entries {
            kept += 1;
            if entry.kind == EntryKind::Folder {
                continue;
            }
            let moved = self.root.place(&entry.path.0).and_then(|place| {
                let to = content_name(entry.number);
                disk.rename((&place.folder, place.name()), (&self.folder, to.as_bytes()), false)?;
                left.push(place.folder);
                Ok(())
            });
            match moved {
                // It has gone since it was looked at.
                Err(StorageError::System(Errno::NOENT)) => {
                    remove_words(disk, &self.folder, entry.number)?;
                    kept -= 1;
                }
                moved => moved.map_err(|error| refused_at(&entry.path.0, &error))?,
            }
        }
        let things: Vec<_> = left.iter().map(|folder| folder.as_fd()).chain([self.folder.as_fd()]).collect();
        self.divergent().flush(&things)?;
        Ok(kept)
    }

    /// Removes folders that are empty, in the order given. Those that are not stay.
    pub fn remove_empty(&self, folders: &[Vec<u8>]) -> Result<()> {
        let mut left = Vec::new();
        for path in folders {
            let removed = self.root.place(path).and_then(|place| {
                self.divergent().disk.remove_folder(&place.folder, place.name())?;
                left.push(place.folder);
                Ok(())
            });
            match removed {
                Err(StorageError::System(
                    Errno::NOTEMPTY | Errno::EXIST | Errno::NOENT | Errno::NOTDIR | Errno::ACCESS | Errno::PERM,
                )) => {}
                removed => removed.map_err(|error| refused_at(path, &error))?,
            }
        }
        // Some of them went with their own parent, which is then flushed without a name: no harm in that.
        let things: Vec<_> = left.iter().map(|folder| folder.as_fd()).collect();
        self.divergent().flush(&things)
    }
}

fn refused_at(path: &[u8], error: &StorageError) -> StorageError {
    let path = pair::record::VolumePath(path.to_vec());
    StorageError::Refused(format!("{path} cannot be set aside: {error}"))
}

/// Removes what is said of a thing. Before that the thing itself must be gone.
fn remove_words(disk: &Disk, folder: &OwnedFd, number: u64) -> Result<()> {
    unlink_if_there(disk, folder, &entry_name(number))?;
    Mark::ALL.into_iter().try_for_each(|mark| unlink_if_there(disk, folder, &mark.name(number)))
}

fn unlink_if_there(disk: &Disk, folder: &OwnedFd, name: &str) -> Result<()> {
    match rustix::fs::accessat(folder, name, rustix::fs::Access::EXISTS, rustix::fs::AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        _ => Ok(disk.unlink(folder, name.as_bytes())?),
    }
}

fn read_entry(folder: &OwnedFd, number: u64) -> Result<Option<Entry>> {
    let Some(text) = read_small(folder, &entry_name(number))? else { return Ok(None) };
    serde_json::from_slice(&text).map(Some).map_err(|error| {
        StorageError::Refused(format!("{} in {PRIVATE_FOLDER}/divergent cannot be read: {error}", entry_name(number)))
    })
}

fn read_small(folder: &OwnedFd, name: &str) -> Result<Option<Vec<u8>>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(folder, name, flags, Mode::empty()) {
        Ok(file) => Ok(Some(read_whole(&file)?)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn names_in(folder: OwnedFd) -> Result<Vec<Vec<u8>>> {
    Folder::new(folder)?.names()
}

#[cfg(test)]
mod tests;
