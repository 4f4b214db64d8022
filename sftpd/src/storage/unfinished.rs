//! The unfinished uploads of all accounts: one per account and path, found by what tells its folder from every other,
//! and the name.
//!
//! Always holds: only the account that began an upload finds it; it stays when its connection dies and when the daemon
//! does, until it is finished, removed, replaced, or old. An upload that nobody writes holds no descriptor. Whatever
//! finds an upload in order to change it does so under one lock.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use super::journal::RowChange;
use super::upload::{Beginning, Keeping, Opening, Phase, State, Upload, size_is_not_settable};
use super::writer::Writer;
use super::{Attributes, FolderId, NewAttributes, Place, Result, StorageError};

mod entry;
mod left;

use entry::{Entry, Found, Key, Left, key_of};

/// Unfinished uploads that one account may leave behind; past it the first by folder and name goes.
const LEFT_MAX: usize = 10_000;

/// Who may continue an upload.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ByWhom {
    /// Every connection of its account.
    Anybody,
    /// The connection that writes it.
    ItsConnection,
}

/// All unfinished uploads.
#[derive(Debug)]
pub(super) struct Unfinished {
    keeping: Keeping,
    // Held for a few system calls on one file, never across an await. Before any upload's own lock.
    entries: Mutex<HashMap<Arc<str>, BTreeMap<Key, Entry>>>,
}

impl Unfinished {
    pub(super) fn new(keeping: Keeping) -> Arc<Unfinished> {
        Arc::new(Unfinished { keeping, entries: Mutex::default() })
    }

    pub(super) fn keeping(&self) -> &Keeping {
        &self.keeping
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, BTreeMap<Key, Entry>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an account has any: most have none, and then no path is looked up twice.
    pub(super) fn has_any(&self, account: &str) -> bool {
        self.lock().get(account).is_some_and(|own| !own.is_empty())
    }

    fn find(&self, account: &str, place: &Place) -> Option<Found> {
        if !self.has_any(account) {
            return None;
        }
        let key = key_of(place).ok()?;
        Some(self.lock().get(account)?.get(&key)?.found())
    }

    /// What an account sees in place of what stands there.
    pub(super) fn attributes(&self, account: &str, connection: u64, place: &Place) -> Option<Attributes> {
        let found = self.find(account, place)?;
        self.attributes_of(&found, connection)
    }

    fn attributes_of(&self, found: &Found, connection: u64) -> Option<Attributes> {
        match found {
            Found::Live(upload) => upload.attributes(connection).ok(),
            Found::Left { number, bytes_max } => {
                let found = self.keeping.stages.look(*number).ok()?;
                Some(Attributes { size: found.size.min(*bytes_max), ..found })
            }
        }
    }

    /// Whether an account has an unfinished upload there. Refused as by [`Unfinished::discard`].
    pub(super) fn is_there(&self, account: &str, place: &Place) -> Result<bool> {
        match self.find(account, place) {
            Some(Found::Live(upload)) if upload.lock().phase != Phase::Open => Err(is_being_completed()),
            found => Ok(found.is_some()),
        }
    }

    /// The unfinished uploads in a folder, as its account sees them.
    pub(super) fn in_folder(&self, account: &str, connection: u64, folder: FolderId) -> BTreeMap<Vec<u8>, Attributes> {
        let found: Vec<(Vec<u8>, Found)> = match self.lock().get(account) {
            None => return BTreeMap::new(),
            Some(own) => own
                .range((folder, Vec::new())..)
                .take_while(|((other, _), _)| *other == folder)
                .map(|((_, name), entry)| (name.clone(), entry.found()))
                .collect(),
        };
        let shown = |(name, found)| Some((name, self.attributes_of(&found, connection)?));
        found.into_iter().filter_map(shown).collect()
    }

    /// The file of an upload that this very connection writes, for reading.
    pub(super) fn reader(&self, account: &str, connection: u64, place: &Place) -> Option<Arc<OwnedFd>> {
        match self.find(account, place)? {
            Found::Live(upload) => upload.reader(connection),
            Found::Left { .. } => None,
        }
    }

    /// Continues an upload, if there is one. `by_whom` says who may: a handle that was opened long ago must not take over
    /// what a newer connection has begun.
    pub(super) fn resume(self: &Arc<Self>, opening: &Opening, by_whom: ByWhom) -> Result<Option<Writer>> {
        let key = key_of(&opening.place)?;
        let mut entries = self.lock();
        let Some(own) = entries.get_mut(&opening.account) else { return Ok(None) };
        let Some(entry) = own.get_mut(&key) else { return Ok(None) };
        let is_shared = matches!(entry, Entry::Live(upload) if upload.is_written_by(opening.connection));
        if by_whom == ByWhom::ItsConnection && !is_shared {
            let sentence = "a newer connection of this account has taken this upload over";
            return Err(StorageError::Refused(sentence.into()));
        }
        let was_left = matches!(entry, Entry::Left(_));
        let upload = match entry {
            Entry::Live(upload) => upload.clone(),
            Entry::Left(left) => match self.wake(opening, left) {
                Err(StorageError::System(Errno::NOENT)) => {
                    self.keeping.notes.note(RowChange::Gone(left.number));
                    own.remove(&key);
                    return Ok(None);
                }
                upload => upload?,
            },
        };
        match upload.admit(opening, self) {
            Ok(Some(mut writer)) => {
                // What was noted when it was left may not be on the disk yet.
                writer.must_settle |= was_left;
                *entry = Entry::Live(upload);
                Ok(Some(writer))
            }
            // A new upload comes behind it; one that would go on with it comes too early.
            Ok(None) if opening.truncate => Ok(None),
            Ok(None) => Err(is_being_completed()),
            Err(error) => {
                if !upload.is_live() {
                    *entry = Entry::left(&upload);
                }
                Err(error)
            }
        }
    }

    /// Opens an upload that nobody writes.
    fn wake(&self, opening: &Opening, left: &mut Left) -> Result<Arc<Upload>> {
        let stage = self.keeping.stages.open(left.number)?;
        let size = super::attributes_of(stage.file())?.size;
        if size > left.bytes_max {
            stage.disk().truncate(stage.file(), left.bytes_max)?;
        }
        let beginning = Beginning::Left(size.min(left.bytes_max));
        let upload = Upload::new(opening, stage, &beginning, self.keeping.clone());
        upload.give_charge(left.charge.take());
        Ok(upload)
    }

    /// Takes a new upload in. One that began meanwhile under the same key is replaced, as by a newer connection; if it is
    /// of the same connection the two handles share it, and the new one goes.
    pub(super) fn begin(self: &Arc<Self>, opening: &Opening, upload: &Arc<Upload>) -> Result<Writer> {
        let key = key_of(&opening.place)?;
        let mut entries = self.lock();
        let own = entries.entry(opening.account.clone()).or_default();
        if let Some(Entry::Live(shared)) = own.get(&key)
            && shared.is_written_by(opening.connection)
            && let Some(writer) = shared.admit(opening, self)?
        {
            upload.remove(opening.connection);
            return Ok(writer);
        }
        let admitted = upload.admit(&Opening { truncate: false, ..opening.clone() }, self)?;
        let mut writer = admitted.ok_or_else(is_being_completed)?;
        let mut replaced = Vec::new();
        if own.len() >= LEFT_MAX {
            let left = own.iter().find(|(_, entry)| matches!(entry, Entry::Left(_))).map(|(key, _)| key.clone());
            replaced.extend(left.and_then(|key| own.remove(&key)));
        }
        replaced.extend(own.insert(key, Entry::Live(upload.clone())));
        drop(entries);
        writer.must_settle |= !replaced.is_empty();
        replaced.into_iter().for_each(|entry| self.forget(entry, opening.connection));
        Ok(writer)
    }

    /// Removes an unfinished upload; tells whether there was one. One that is on its way to its name is not removed, nor
    /// may the caller go on: were it not to get there, the complete file would go.
    pub(super) fn discard(&self, account: &str, connection: u64, place: &Place) -> Result<bool> {
        let key = key_of(place)?;
        let mut entries = self.lock();
        let Some(own) = entries.get_mut(account) else { return Ok(false) };
        if matches!(own.get(&key), Some(Entry::Live(upload)) if !upload.remove(connection)) {
            return Err(is_being_completed());
        }
        let removed = own.remove(&key);
        if own.is_empty() {
            entries.remove(account);
        }
        drop(entries);
        Ok(removed.map(|entry| self.forget(entry, connection)).is_some())
    }

    /// What an entry led to is nobody's any more. What is on its way to its name goes there.
    fn forget(&self, entry: Entry, connection: u64) {
        match entry {
            Entry::Live(upload) => {
                upload.remove(connection);
            }
            Entry::Left(Left { number, .. }) => {
                // What cannot be removed now is nobody's at the next start, and goes then.
                let _ = self.keeping.stages.remove(number);
                self.keeping.notes.note(RowChange::Gone(number));
            }
        }
    }

    /// The account gives its unfinished upload another name; tells whether there was one. What it has unfinished under
    /// the new name is replaced. Refused as by [`Unfinished::discard`].
    pub(super) fn rename(&self, account: &str, connection: u64, from: &Place, to: &Place) -> Result<bool> {
        let (key, (folder, name)) = (key_of(from)?, key_of(to)?);
        let mut entries = self.lock();
        let Some(own) = entries.get_mut(account) else { return Ok(false) };
        match own.get(&key) {
            None => return Ok(false),
            Some(_) if key == (folder, name.clone()) => return Ok(true),
            Some(Entry::Live(upload)) if !upload.move_to(to, (folder, name.clone())) => {
                return Err(is_being_completed());
            }
            Some(Entry::Live(_)) => {}
            Some(Entry::Left(Left { number, .. })) => {
                self.keeping.notes.note(RowChange::Moved { number: *number, folder, name: name.clone() });
            }
        }
        let moved = own.remove(&key);
        let replaced = moved.and_then(|entry| own.insert((folder, name), entry));
        drop(entries);
        replaced.into_iter().for_each(|entry| self.forget(entry, connection));
        Ok(true)
    }

    /// Sets attributes of an unfinished upload; tells whether there is one. Refused as by [`Unfinished::discard`].
    pub(super) fn set_attributes(
        &self,
        account: &str,
        connection: u64,
        place: &Place,
        new: &NewAttributes,
    ) -> Result<bool> {
        let key = key_of(place)?;
        let entries = self.lock();
        match entries.get(account).and_then(|own| own.get(&key)) {
            None => Ok(false),
            Some(Entry::Live(upload)) if !upload.set_attributes(connection, new)? => Err(is_being_completed()),
            Some(Entry::Live(_)) => Ok(true),
            Some(Entry::Left(_)) if new.size.is_some() => Err(size_is_not_settable()),
            Some(Entry::Left(Left { number, .. })) => {
                let stage = self.keeping.stages.open(*number)?;
                stage.disk().set_attributes(stage.file(), new)?;
                Ok(true)
            }
        }
    }

    /// An upload has its name: it is found no more. Its publication is answered so.
    pub(super) fn finish(&self, upload: &Arc<Upload>, answer: Result<()>) {
        let mut entries = self.lock();
        upload.published(&Ok(()), answer);
        take_out(&mut entries, upload);
    }

    /// Its last handle is gone: it waits for somebody who continues it. A newer connection may have come in between.
    pub(super) fn leave(&self, upload: &Arc<Upload>) {
        let mut entries = self.lock();
        if !upload.is_live()
            && let Some(entry) = entry_of(&mut entries, upload)
        {
            *entry = Entry::left(upload);
        }
    }

    /// Removes an upload, but only while it is as `is_so` says.
    pub(super) fn abandon(&self, upload: &Arc<Upload>, is_so: impl FnOnce(&State) -> bool) -> bool {
        let mut entries = self.lock();
        let mut state = upload.lock();
        if state.phase != Phase::Open || !is_so(&state) {
            return false;
        }
        let connection = state.connection;
        upload.remove_locked(&mut state, connection);
        drop(state);
        take_out(&mut entries, upload);
        true
    }

    /// A publication failed: what has arrived can be continued, unless a newer upload has the place.
    pub(super) fn take_back(&self, upload: &Arc<Upload>, error: &StorageError) {
        let Ok(key) = key_of(&upload.lock().place) else { return };
        let mut entries = self.lock();
        let own = entries.entry(upload.account.clone()).or_default();
        upload.published(&Err(error.clone()), Err(error.clone()));
        match own.get(&key) {
            Some(entry) if !entry.is(upload) => {
                upload.remove(0);
            }
            _ if upload.is_live() => {
                own.insert(key, Entry::Live(upload.clone()));
            }
            _ => {
                own.insert(key, Entry::left(upload));
            }
        }
    }
}

fn is_being_completed() -> StorageError {
    StorageError::Refused("the upload of this file is just being completed: try again".into())
}

/// An upload's entry, if it still has one.
fn entry_of<'a>(
    entries: &'a mut HashMap<Arc<str>, BTreeMap<Key, Entry>>,
    upload: &Arc<Upload>,
) -> Option<&'a mut Entry> {
    let key = key_of(&upload.lock().place).ok()?;
    entries.get_mut(&upload.account)?.get_mut(&key).filter(|entry| entry.is(upload))
}

/// Takes an upload's entry out, if it still has one.
fn take_out(entries: &mut HashMap<Arc<str>, BTreeMap<Key, Entry>>, upload: &Arc<Upload>) {
    if entry_of(entries, upload).is_none() {
        return;
    }
    let Ok(key) = key_of(&upload.lock().place) else { return };
    let Some(own) = entries.get_mut(&upload.account) else { return };
    own.remove(&key);
    if own.is_empty() {
        entries.remove(&upload.account);
    }
}
