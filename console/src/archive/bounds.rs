//! How far a reading may go: until it is called off, for so long, and for so many bytes.

use std::io::{self, Read};
use std::time::Instant;

use tokio_util::sync::CancellationToken;

/// Why a reading was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Nobody waits for it any more.
    CalledOff,
    /// Its time is over.
    Time,
    /// The file gives more than it may.
    Bytes,
}

impl Stop {
    /// The stop behind a reader's error.
    pub fn of(error: &io::Error) -> Option<Stop> {
        error.get_ref()?.downcast_ref().copied()
    }
}

impl std::fmt::Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Stop::CalledOff => "it was called off",
            Stop::Time => "it took too long",
            Stop::Bytes => "it unpacks to more than is looked at",
        })
    }
}

impl std::error::Error for Stop {}

/// How far a reading may go.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Ends it at once.
    pub over: CancellationToken,
    /// Until when.
    pub until: Instant,
    /// Plain bytes of a file at most.
    pub bytes_max: u64,
}

/// A reader within bounds: past them each read is an error with a [`Stop`].
pub struct Bounded<R> {
    reader: R,
    bounds: Bounds,
    left: u64,
}

impl<R: Read> Bounded<R> {
    /// Nothing read yet.
    pub fn new(reader: R, bounds: Bounds) -> Bounded<R> {
        let left = bounds.bytes_max;
        Bounded { reader, bounds, left }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        let stop = match () {
            () if self.bounds.over.is_cancelled() => Some(Stop::CalledOff),
            () if Instant::now() >= self.bounds.until => Some(Stop::Time),
            () => None,
        };
        if let Some(stop) = stop {
            return Err(io::Error::other(stop));
        }
        let count = self.reader.read(space)? as u64;
        if count > self.left {
            return Err(io::Error::other(Stop::Bytes));
        }
        self.left -= count;
        Ok(count as usize)
    }
}
