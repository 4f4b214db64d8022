//! A file that comes from the other machine, from its beginning to its end, before it has its name.
//!
//! Always holds: it is hashed as it arrives and flushed on the way, and what is dropped before it is published leaves nothing. It does not
//! know where the bytes come from.

use std::sync::Arc;

use super::{NewAttributes, Place, Publication, Result, Stage};

/// After so much that has arrived it is flushed, so that the end of a long one is not waited for, in bytes.
const FLUSH_BYTES: u64 = 32 * 1024 * 1024;

/// A file that is arriving.
#[derive(Debug)]
pub struct Incoming {
    stage: Stage,
    hasher: blake3::Hasher,
    bytes: u64,
    flushed: u64,
}

impl Incoming {
    pub(super) fn new(stage: Stage) -> Incoming {
        Incoming { stage, hasher: blake3::Hasher::new(), bytes: 0, flushed: 0 }
    }

    /// Adds what has arrived.
    pub fn write(&mut self, data: &[u8]) -> Result<()> {
        self.stage.disk().write(self.stage.file(), data, self.bytes)?;
        self.hasher.update(data);
        self.bytes += data.len() as u64;
        if self.bytes - self.flushed >= FLUSH_BYTES {
            self.stage.flush()?;
            self.flushed = self.bytes;
        }
        Ok(())
    }

    /// What has arrived so far, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// BLAKE3 of it.
    pub fn hash(&self) -> blake3::Hash {
        self.hasher.finalize()
    }

    /// All of it is there: it is ready to be published. What a place expects is what it replaces; where nothing is, nothing is replaced.
    pub fn publication(self, attributes: &NewAttributes, place: Place) -> Result<Publication> {
        self.stage.disk().set_attributes(self.stage.file(), attributes)?;
        let (size, hash, exclusive) = (self.bytes, Some(self.hash()), place.expected.is_none());
        Ok(Publication { stage: Arc::new(self.stage), place, exclusive, size, hash, upload: None })
    }
}
