//! The unfinished uploads of all accounts: one per account and path, found by the folder's inode and the name.
//!
//! Always holds: only the account that began an upload finds it; it stays when its connection dies and when the daemon
//! does, until it is finished, removed, replaced, or old. An upload that nobody writes holds no descriptor.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::arrival::Arrival;
use super::disk::{self, Disk};
use super::journal::{RowChange, UploadRow};
use super::notes::Notes;
use super::stage::{Stage, name_of};
use super::upload::{Opening, Upload, key_of};
use super::usage::{Charge, Names, Quota};
use super::writer::Writer;
use super::{Attributes, NewAttributes, Place, Result, StorageError};

/// Unfinished uploads that one account may leave behind; past it the first by folder and name goes.
const LEFT_MAX: usize = 10_000;

type Key = (u64, Vec<u8>);

/// An unfinished upload.
#[derive(Clone, Debug)]
enum Entry {
    /// Somebody writes it.
    Live(Arc<Upload>),
    /// Nobody does: the number of its stage, and what it adds to a folder with a quota.
    Left(u64, Option<Arc<Mutex<Option<Charge>>>>),
}

/// The entry of an upload that nobody writes any more.
fn left(upload: &Upload) -> Entry {
    let charge = upload.take_charge().map(|charge| Arc::new(Mutex::new(Some(charge))));
    Entry::Left(upload.stage.number(), charge)
}

fn take(charge: &Arc<Mutex<Option<Charge>>>) -> Option<Charge> {
    charge.lock().unwrap_or_else(PoisonError::into_inner).take()
}

impl Entry {
    fn is_publishing(&self) -> bool {
        matches!(self, Entry::Live(upload) if upload.is_publishing())
    }
}

/// All unfinished uploads.
#[derive(Debug)]
pub(super) struct Unfinished {
    disk: Disk,
    stages: Arc<OwnedFd>,
    notes: Notes,
    // Held for a few system calls on one file, never across an await. Before any upload's own lock.
    entries: Mutex<HashMap<Arc<str>, BTreeMap<Key, Entry>>>,
}

impl Unfinished {
    pub(super) fn new(disk: Disk, stages: Arc<OwnedFd>, notes: Notes) -> Arc<Unfinished> {
        Arc::new(Unfinished { disk, stages, notes, entries: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, BTreeMap<Key, Entry>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what an earlier run has left.
    pub(super) fn restore(&self, rows: Vec<UploadRow>) {
        let mut entries = self.lock();
        for row in rows {
            entries
                .entry(row.account.into())
                .or_default()
                .insert((row.folder, row.name), Entry::Left(row.number, None));
        }
    }

    /// The names of those that are counted nowhere yet: an earlier run, or a session without a quota, has left them.
    pub(super) fn uncounted(&self) -> Names {
        let mut names = Names::new();
        for ((folder, name), entry) in self.lock().values().flatten() {
            if matches!(entry, Entry::Left(_, None)) {
                names.entry(*folder).or_default().push(name.clone());
            }
        }
        names
    }

    /// Counts what is under these names; each will replace a file of so many bytes.
    pub(super) fn count_in(&self, quota: &Quota, names: &HashMap<Key, u64>) {
        let mut entries = self.lock();
        for own in entries.values_mut() {
            for (key, replaced) in names {
                if let Some(Entry::Left(number, charge @ None)) = own.get_mut(key)
                    && let Ok(found) = disk::look(&self.stages, name_of(*number).as_bytes())
                {
                    let counted = Charge::of(quota.clone(), *replaced, found.size);
                    *charge = Some(Arc::new(Mutex::new(Some(counted))));
                }
            }
        }
    }

    /// Whether an account has any: most have none, and then no path is looked up twice.
    pub(super) fn has_any(&self, account: &str) -> bool {
        self.lock().get(account).is_some_and(|own| !own.is_empty())
    }

    fn find(&self, account: &str, place: &Place) -> Option<(Key, Entry)> {
        if !self.has_any(account) {
            return None;
        }
        let key = key_of(place).ok()?;
        let entry = self.lock().get(account)?.get(&key)?.clone();
        Some((key, entry))
    }

    /// What an account sees in place of what stands there.
    pub(super) fn attributes(&self, account: &str, connection: u64, place: &Place) -> Option<Attributes> {
        let (_, entry) = self.find(account, place)?;
        self.attributes_of(&entry, connection)
    }

    fn attributes_of(&self, entry: &Entry, connection: u64) -> Option<Attributes> {
        match entry {
            Entry::Live(upload) => upload.attributes(connection).ok(),
            Entry::Left(number, _) => disk::look(&self.stages, name_of(*number).as_bytes()).ok(),
        }
    }

    /// The unfinished uploads in a folder, as its account sees them.
    pub(super) fn in_folder(&self, account: &str, connection: u64, folder: u64) -> Vec<(Vec<u8>, Attributes)> {
        let found: Vec<(Vec<u8>, Entry)> = match self.lock().get(account) {
            None => return Vec::new(),
            Some(own) => own
                .range((folder, Vec::new())..)
                .take_while(|((inode, _), _)| *inode == folder)
                .map(|((_, name), entry)| (name.clone(), entry.clone()))
                .collect(),
        };
        let shown = |(name, entry)| Some((name, self.attributes_of(&entry, connection)?));
        found.into_iter().filter_map(shown).collect()
    }

    /// The file of an upload that this very connection writes, for reading.
    pub(super) fn reader(&self, account: &str, connection: u64, place: &Place) -> Option<Arc<OwnedFd>> {
        match self.find(account, place)? {
            (_, Entry::Live(upload)) => upload.reader(connection),
            (_, Entry::Left(..)) => None,
        }
    }

    /// Continues an upload, if there is one.
    pub(super) fn resume(self: &Arc<Self>, opening: &Opening) -> Result<Option<Writer>> {
        let key = key_of(&opening.place)?;
        let mut entries = self.lock();
        let Some(entry) = entries.get_mut(&opening.account).and_then(|own| own.get_mut(&key)) else {
            return Ok(None);
        };
        let upload = match entry {
            // A new upload comes behind it; one that would go on with it comes too early.
            Entry::Live(upload) if upload.is_publishing() && opening.truncate => return Ok(None),
            Entry::Live(upload) if upload.is_publishing() => {
                return Err(StorageError::Refused("the upload of this file is just being completed: try again".into()));
            }
            Entry::Live(upload) => upload.clone(),
            Entry::Left(number, charge) => {
                let stage = match Stage::open(self.disk.clone(), self.stages.clone(), *number) {
                    Err(StorageError::System(Errno::NOENT)) => {
                        entries.get_mut(&opening.account).and_then(|own| own.remove(&key));
                        return Ok(None);
                    }
                    stage => stage?,
                };
                let size = super::attributes_of(stage.file())?.size;
                let upload = Upload::new(opening, stage, Arrival::with(size), self.notes.clone(), true);
                upload.give_charge(charge.as_ref().and_then(take));
                upload
            }
        };
        let writer = upload.admit(opening, self)?;
        *entry = Entry::Live(upload);
        Ok(Some(writer))
    }

    /// Takes a new upload in. One that began meanwhile under the same key is replaced, as by a newer connection.
    pub(super) fn begin(self: &Arc<Self>, opening: &Opening, upload: Arc<Upload>) -> Result<Writer> {
        let key = key_of(&opening.place)?;
        let writer = upload.admit(&Opening { truncate: false, ..opening.clone() }, self)?;
        let mut entries = self.lock();
        let own = entries.entry(opening.account.clone()).or_default();
        if own.len() >= LEFT_MAX {
            let left = own.iter().find(|(_, entry)| matches!(entry, Entry::Left(..))).map(|(key, _)| key.clone());
            if let Some(entry) = left.and_then(|key| own.remove(&key)) {
                self.discard_entry(&entry, opening.connection);
            }
        }
        if let Some(replaced) = own.insert(key, Entry::Live(upload)) {
            self.discard_entry(&replaced, opening.connection);
        }
        Ok(writer)
    }

    /// Removes an unfinished upload; tells whether there was one.
    pub(super) fn discard(&self, account: &str, connection: u64, place: &Place) -> bool {
        let Some((key, entry)) = self.find(account, place) else {
            return false;
        };
        if entry.is_publishing() {
            return false;
        }
        let removed = self.lock().get_mut(account).and_then(|own| own.remove(&key));
        removed.is_some_and(|entry| {
            self.discard_entry(&entry, connection);
            true
        })
    }

    fn discard_entry(&self, entry: &Entry, connection: u64) {
        let number = match entry {
            // What is on its way to its name goes there.
            Entry::Live(upload) if upload.is_publishing() => return,
            Entry::Live(upload) => {
                upload.remove(connection);
                upload.stage.number()
            }
            Entry::Left(number, _) => {
                // What cannot be removed now is nobody's at the next start, and goes then.
                let _ = self.disk.unlink(&self.stages, name_of(*number).as_bytes());
                *number
            }
        };
        self.notes.note(RowChange::Gone(number));
    }

    /// The account gives its unfinished upload another name; tells whether there was one. What it has unfinished under
    /// the new name is replaced.
    pub(super) fn rename(&self, account: &str, connection: u64, from: &Place, to: &Place) -> Result<bool> {
        let Some((key, entry)) = self.find(account, from).filter(|(_, entry)| !entry.is_publishing()) else {
            return Ok(false);
        };
        let (folder, name) = key_of(to)?;
        if key == (folder, name.clone()) {
            return Ok(true);
        }
        self.discard(account, connection, to);
        let number = match &entry {
            Entry::Live(upload) => {
                upload.move_to(to.clone());
                upload.stage.number()
            }
            Entry::Left(number, _) => *number,
        };
        if let Some(own) = self.lock().get_mut(account) {
            own.remove(&key);
            own.insert((folder, name.clone()), entry);
        }
        self.notes.note(RowChange::Moved { number, folder, name });
        Ok(true)
    }

    /// Sets attributes of an unfinished upload; tells whether there is one.
    pub(super) fn set_attributes(&self, account: &str, place: &Place, new: &NewAttributes) -> Result<bool> {
        match self.find(account, place) {
            None => return Ok(false),
            Some((_, entry)) if entry.is_publishing() => return Ok(false),
            Some((_, Entry::Live(upload))) => upload.set_attributes(new)?,
            Some((_, Entry::Left(number, charge))) => {
                let stage = Stage::open(self.disk.clone(), self.stages.clone(), number)?;
                if let (Some(size), Some(charge)) = (new.size, &charge) {
                    let mut charge = charge.lock().unwrap_or_else(PoisonError::into_inner);
                    charge.as_mut().map_or(Ok(()), |charge| charge.set_size(size))?;
                }
                self.disk.set_attributes(stage.file(), new)?;
            }
        }
        Ok(true)
    }

    /// An upload has its name: it is found no more.
    pub(super) fn finish(&self, upload: &Arc<Upload>, place: &Place) {
        upload.published(&Ok(()));
        self.change_own(upload, place, |own, key| {
            own.remove(&key);
        });
    }

    /// Its last handle is gone: it waits for somebody who continues it.
    pub(super) fn leave(&self, upload: &Arc<Upload>, place: &Place) {
        self.change_own(upload, place, |own, key| {
            // A newer connection may have come in between.
            if !upload.is_live() {
                own.insert(key, left(upload));
            }
        });
    }

    fn change_own(&self, upload: &Arc<Upload>, place: &Place, change: impl FnOnce(&mut BTreeMap<Key, Entry>, Key)) {
        let Ok(key) = key_of(place) else { return };
        let mut entries = self.lock();
        let Some(own) = entries.get_mut(&upload.account) else { return };
        if matches!(own.get(&key), Some(Entry::Live(other)) if Arc::ptr_eq(other, upload)) {
            change(own, key);
        }
        if own.is_empty() {
            entries.remove(&upload.account);
        }
    }

    /// A publication failed: what has arrived can be continued, unless a newer upload has the place.
    pub(super) fn take_back(&self, upload: &Arc<Upload>, place: &Place, error: &StorageError) {
        upload.published(&Err(error.clone()));
        let Ok(key) = key_of(place) else { return };
        let mut entries = self.lock();
        let own = entries.entry(upload.account.clone()).or_default();
        let number = upload.stage.number();
        let entry = if upload.is_live() { Entry::Live(upload.clone()) } else { left(upload) };
        match own.get(&key) {
            Some(Entry::Live(newer)) if !Arc::ptr_eq(newer, upload) => {
                self.discard_entry(&Entry::Live(upload.clone()), 0);
            }
            Some(Entry::Left(newer, _)) if *newer != number => self.discard_entry(&Entry::Live(upload.clone()), 0),
            _ => drop(own.insert(key, entry)),
        }
    }

    /// Removes what nobody has written for so long. Gives their number.
    pub(super) fn expire(&self, age: Duration) -> usize {
        let now_s = jiff::Timestamp::now().as_second();
        let is_old = |number: &u64| {
            let stat = rustix::fs::statat(&*self.stages, name_of(*number), AtFlags::SYMLINK_NOFOLLOW);
            // The time of the last change of any kind: clients set the other times themselves.
            stat.is_ok_and(|stat| now_s.saturating_sub(stat.st_ctime) >= age.as_secs() as i64)
        };
        let mut entries = self.lock();
        let mut expired = Vec::new();
        for own in entries.values_mut() {
            own.retain(|_, entry| match entry {
                Entry::Left(number, _) if is_old(number) => {
                    expired.push(entry.clone());
                    false
                }
                _ => true,
            });
        }
        entries.retain(|_, own| !own.is_empty());
        drop(entries);
        expired.iter().for_each(|entry| self.discard_entry(entry, 0));
        expired.len()
    }
}
