//! What a client holds open, under handles that are short ASCII texts (some clients take handles for text).
//!
//! The limit is checked before anything is opened: a refused OPEN must not have cut a file.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use rustix::io::Errno;

use crate::activity::Actor;
use crate::fault::Fault;
use crate::storage::{Attributes, Folder, InPlace, Opening, StorageError, Writer, attributes_of, file_content};
use crate::transfer::{Direction, Transfer};

/// An open thing.
#[derive(Debug)]
pub enum Handle {
    /// A file, for reading.
    Reading(Reading),
    /// An upload that CLOSE will publish.
    Upload(Upload),
    /// A file that is written in place.
    Direct(Direct),
    /// A folder being listed.
    Listing(Listing),
    /// A users.yaml on its way, in memory only.
    Draft(Draft),
    /// A waiting users.yaml being read.
    DraftReading(Bytes),
}

/// A file that is being read.
#[derive(Debug)]
pub struct Reading {
    /// The file.
    pub file: Arc<OwnedFd>,
    /// How far the client is.
    pub transfer: Transfer,
}

/// An upload that CLOSE will publish.
#[derive(Debug)]
pub struct Upload {
    /// Writes it.
    pub writer: Writer,
    /// What OPEN asked for.
    pub opening: Opening,
    /// How far the client is, and under which path: requests on that must wait for the publication.
    pub transfer: Transfer,
    /// What it has read by the same handle.
    pub read: Transfer,
    /// Whether writes go to the end.
    pub append: bool,
    /// Why the handle can do no more, since another one has published the upload.
    pub broken: Option<Fault>,
}

/// A file that is written in place.
#[derive(Debug)]
pub struct Direct {
    /// Writes it.
    pub file: Arc<InPlace>,
    /// How far the client is, and under which path.
    pub transfer: Transfer,
    /// What it has read by the same handle.
    pub read: Transfer,
    /// Whether writes go to the end.
    pub append: bool,
}

/// A folder being listed.
#[derive(Debug)]
pub struct Listing {
    /// The folder.
    pub folder: Folder,
    /// Entries by name that are not in the folder, or not as this account sees them: still to be told.
    pub others: BTreeMap<Vec<u8>, Attributes>,
    /// The names that this account sees; none: all.
    pub shown: Option<BTreeSet<Vec<u8>>>,
}

/// A users.yaml on its way.
#[derive(Debug)]
pub struct Draft {
    /// Its name in the admin folder.
    pub name: Vec<u8>,
    /// What has arrived.
    pub content: Vec<u8>,
    /// Whether anything was written or cut.
    pub is_touched: bool,
    /// The first failure of a WRITE.
    pub failed: Option<Fault>,
}

/// What can be read from an open thing.
#[derive(Clone, Debug)]
pub enum Source {
    /// A file.
    File(Arc<OwnedFd>),
    /// A users.yaml in memory.
    Memory(Bytes),
}

/// What a content has from an offset on, `length` bytes at most.
fn rest(content: &[u8], offset: u64, length: usize) -> &[u8] {
    let rest = usize::try_from(offset).ok().and_then(|offset| content.get(offset..)).unwrap_or_default();
    rest.get(..length).unwrap_or(rest)
}

impl Source {
    /// Reads until the buffer is full or the content ends, and tells how much that was.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> rustix::io::Result<usize> {
        let content = match self {
            Source::File(file) => return file_content::read_at(file.as_fd(), buffer, offset),
            Source::Memory(content) => rest(content, offset, buffer.len()),
        };
        if let Some(space) = buffer.get_mut(..content.len()) {
            space.copy_from_slice(content);
        }
        Ok(content.len())
    }

    /// Reads behind what is in the buffer until it has no room or the content ends, and tells how much that was.
    pub fn read_onto(&self, buffer: &mut Vec<u8>, offset: u64) -> rustix::io::Result<usize> {
        let content = match self {
            Source::File(file) => return file_content::read_onto(file.as_fd(), buffer, offset),
            Source::Memory(content) => rest(content, offset, buffer.capacity() - buffer.len()),
        };
        buffer.extend_from_slice(content);
        Ok(content.len())
    }

    /// Its size now, in bytes.
    pub fn size(&self) -> Result<u64, StorageError> {
        match self {
            Source::File(file) => Ok(attributes_of(file.as_fd())?.size),
            Source::Memory(content) => Ok(content.len() as u64),
        }
    }

    /// Device and inode of a file.
    pub fn identity(&self) -> Result<Option<(u64, u64)>, StorageError> {
        match self {
            Source::File(file) => Ok(Some(attributes_of(file.as_fd())?.identity)),
            Source::Memory(_) => Ok(None),
        }
    }
}

impl Reading {
    /// Records how far it came; `is_lost` where the client has not closed it.
    pub fn record(&self, actor: &Actor, is_lost: bool) {
        let size = attributes_of(self.file.as_fd()).map_or(0, |attributes| attributes.size);
        self.transfer.record_download(actor, size, is_lost);
    }
}

impl Handle {
    fn transfer(&self) -> Option<&Transfer> {
        match self {
            Handle::Reading(reading) => Some(&reading.transfer),
            Handle::Upload(upload) => Some(&upload.transfer),
            Handle::Direct(direct) => Some(&direct.transfer),
            Handle::Listing(_) | Handle::Draft(_) | Handle::DraftReading(_) => None,
        }
    }

    /// How far it is in one direction.
    fn transfer_mut(&mut self, direction: Direction) -> Option<&mut Transfer> {
        match (self, direction) {
            (Handle::Reading(reading), Direction::Down) => Some(&mut reading.transfer),
            (Handle::Upload(upload), Direction::Up) => Some(&mut upload.transfer),
            (Handle::Upload(upload), Direction::Down) => Some(&mut upload.read),
            (Handle::Direct(direct), Direction::Up) => Some(&mut direct.transfer),
            (Handle::Direct(direct), Direction::Down) => Some(&mut direct.read),
            _ => None,
        }
    }

    /// What was read by a handle that writes.
    fn read_beside(&self) -> Option<&Transfer> {
        match self {
            Handle::Upload(upload) => Some(&upload.read),
            Handle::Direct(direct) => Some(&direct.read),
            _ => None,
        }
    }

    /// What reading this gives. An upload is read as far as it has come.
    pub fn source(&self) -> Result<Source, Fault> {
        Ok(match self {
            Handle::Reading(reading) => Source::File(reading.file.clone()),
            Handle::Upload(upload) => Source::File(upload.writer.file()?),
            Handle::Direct(direct) => Source::File(direct.file.file()),
            Handle::DraftReading(content) => Source::Memory(content.clone()),
            Handle::Draft(_) => return Err(Errno::INVAL.into()),
            Handle::Listing(_) => return Err(Errno::ISDIR.into()),
        })
    }
}

/// Everything that one session holds open.
#[derive(Debug)]
pub struct Handles {
    open: HashMap<u32, Handle>,
    next: u32,
    max: usize,
    /// What all channels of the connection hold open together; the limit is for all of them.
    in_connection: Arc<AtomicUsize>,
}

impl Handles {
    /// None yet; `max` at once in the whole connection.
    pub fn new(max: usize, in_connection: Arc<AtomicUsize>) -> Handles {
        Handles { open: HashMap::new(), next: 0, max, in_connection }
    }

    /// To be asked before anything is opened.
    pub fn check_room(&self) -> Result<(), Fault> {
        if self.in_connection.load(Ordering::Relaxed) < self.max {
            Ok(())
        } else {
            Err(Fault::failure(format!("{} files and folders are open, the most a session can have", self.max)))
        }
    }

    /// Takes an open thing in and gives its handle.
    pub fn insert(&mut self, handle: Handle) -> String {
        while self.open.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        self.open.insert(number, handle);
        self.in_connection.fetch_add(1, Ordering::Relaxed);
        number.to_string()
    }

    /// The thing under a handle.
    pub fn get(&mut self, handle: &[u8]) -> Result<&mut Handle, Fault> {
        number(handle).and_then(|number| self.open.get_mut(&number)).ok_or_else(unknown)
    }

    /// The thing under a handle, which ends.
    pub fn take(&mut self, handle: &[u8]) -> Result<Handle, Fault> {
        let taken = number(handle).and_then(|number| self.open.remove(&number)).ok_or_else(unknown)?;
        self.in_connection.fetch_sub(1, Ordering::Relaxed);
        Ok(taken)
    }

    /// Bytes have gone by a handle.
    pub fn moved(&mut self, direction: Direction, handle: &[u8], offset: u64, bytes: u64) {
        let transfer = number(handle).and_then(|number| self.open.get_mut(&number)?.transfer_mut(direction));
        transfer.into_iter().for_each(|transfer| transfer.moved(offset, bytes));
    }

    /// What is being transferred.
    pub fn transfers(&self) -> impl Iterator<Item = &Transfer> {
        self.open.values().filter_map(Handle::transfer).filter(|transfer| transfer.is_begun)
    }

    /// Records what was being transferred when the session ended.
    pub fn record_lost(&self, actor: &Actor) {
        for handle in self.open.values() {
            handle.read_beside().into_iter().for_each(|read| read.record_read(actor));
            match handle {
                Handle::Reading(reading) => reading.record(actor, true),
                _ => handle.transfer().into_iter().for_each(|transfer| transfer.record_lost_upload(actor)),
            }
        }
    }

    /// Whether a file is written in place.
    pub fn write_in_place(&self) -> bool {
        self.open.values().any(|handle| matches!(handle, Handle::Direct(_)))
    }

    /// Whether something is being written.
    pub fn are_writing(&self) -> bool {
        self.open.values().any(|handle| matches!(handle, Handle::Upload(_) | Handle::Direct(_) | Handle::Draft(_)))
    }
}

impl Drop for Handles {
    fn drop(&mut self) {
        self.in_connection.fetch_sub(self.open.len(), Ordering::Relaxed);
    }
}

fn number(handle: &[u8]) -> Option<u32> {
    // The text must be the very one that was given: `07` or `+7` are no handles.
    let text = std::str::from_utf8(handle).ok()?;
    text.parse().ok().filter(|number: &u32| number.to_string() == text)
}

fn unknown() -> Fault {
    Fault::failure("no such handle")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_text_that_was_given_is_a_handle_and_the_limit_holds() {
        let mut handles = Handles::new(2, Arc::default());
        let first = handles.insert(Handle::DraftReading(Bytes::new()));
        let second = handles.insert(Handle::DraftReading(Bytes::new()));
        assert!(handles.check_room().is_err());
        for wrong in ["", "00", "+0", "7", "4294967296", "0 "] {
            assert!(handles.get(wrong.as_bytes()).is_err(), "{wrong}");
        }
        handles.take(first.as_bytes()).unwrap();
        assert!(handles.take(first.as_bytes()).is_err());
        assert!(handles.check_room().is_ok() && handles.get(second.as_bytes()).is_ok());
    }
}
