//! What a client holds open, under handles that are short ASCII texts (some clients take handles for text).
//!
//! The limit is checked before anything is opened: a refused OPEN must not have cut a file.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use crate::fault::Fault;
use crate::storage::{Attributes, Folder, InPlace, Opening, Writer};

/// An open thing.
#[derive(Debug)]
pub enum Handle {
    /// A complete file, for reading.
    Reading(Arc<OwnedFd>),
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

/// An upload that CLOSE will publish.
#[derive(Debug)]
pub struct Upload {
    /// Writes it.
    pub writer: Writer,
    /// What OPEN asked for.
    pub opening: Opening,
    /// The path the client gave, for messages and for requests that must wait for the publication.
    pub path: Vec<u8>,
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
    /// The path the client gave.
    pub path: Vec<u8>,
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
