//! Says of a file that is read whether it is the right one, and if not, what it is.

use blake3::Hasher;

use super::{Contents, HASH_PLACE, HEADER_BYTES, Header, Numbers};
use crate::identity::RunId;

/// The least size at which a file without a header is taken for another one that is equal to it, in bytes.
const TELLING_BYTES: u64 = 8;

/// What is wrong with a content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// It ends too early, and is right up to there.
    Truncated {
        /// Bytes that are there.
        found: u64,
        /// Bytes that should be.
        expected: u64,
    },
    /// It goes on after its end, and is right up to there.
    TooLong {
        /// Bytes that are there.
        found: u64,
        /// Bytes that should be.
        expected: u64,
    },
    /// It is another file of this run.
    Swapped {
        /// Whose content it has.
        number: u64,
    },
    /// It is a file of another run.
    Stale {
        /// Of which.
        run: RunId,
    },
    /// Bytes of it are others.
    Corrupted {
        /// The first.
        first: u64,
        /// How many.
        bytes: u64,
    },
}

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Wrong::Truncated { found, expected } => write!(f, "it ends after {found} of {expected} bytes"),
            Wrong::TooLong { found, expected } => write!(f, "it has {found} bytes instead of {expected}"),
            Wrong::Swapped { number } => write!(f, "it holds the content of file {number} of this run"),
            Wrong::Stale { run } => write!(f, "it holds a file of the run {run}"),
            Wrong::Corrupted { first, bytes } => {
                write!(f, "{bytes} of its bytes are others than were sent, the first at offset {first}")
            }
        }
    }
}

/// Takes the bytes of one file, in order.
pub struct Judge<'a> {
    contents: &'a Contents,
    number: u64,
    size: u64,
    /// As far as it was read.
    header: Vec<u8>,
    /// Of what follows the header.
    hasher: Hasher,
    numbers: Numbers,
    read: u64,
    first_wrong: Option<u64>,
    wrong_bytes: u64,
}

impl<'a> Judge<'a> {
    pub(super) fn new(contents: &'a Contents, number: u64) -> Judge<'a> {
        Judge {
            contents,
            number,
            size: contents.size(number),
            header: Vec::with_capacity(HEADER_BYTES),
            hasher: Hasher::new(),
            numbers: Numbers::of(contents.plan.seed, number),
            read: 0,
            first_wrong: None,
            wrong_bytes: 0,
        }
    }

    /// How many bytes it was given.
    pub fn read(&self) -> u64 {
        self.read
    }

    /// The next bytes of the file.
    pub fn take(&mut self, piece: &[u8]) {
        let mut rest = piece;
        if self.header.len() < HEADER_BYTES {
            let of_header = rest.len().min(HEADER_BYTES - self.header.len());
            let (header, body) = rest.split_at(of_header);
            self.header.extend_from_slice(header);
            self.read += of_header as u64;
            rest = body;
        }
        self.hasher.update(rest);
        while !rest.is_empty() {
            let due = self.numbers.ready(rest.len());
            let (now, later) = rest.split_at(due.len().min(rest.len()));
            if now != due {
                let differ = |(one, other): &(&u8, &u8)| one != other;
                let first = now.iter().zip(due).take_while(|pair| !differ(pair)).count() as u64;
                self.first_wrong.get_or_insert(self.read + first);
                self.wrong_bytes += now.iter().zip(due).filter(differ).count() as u64;
            }
            self.read += now.len() as u64;
            rest = later;
        }
    }

    /// Whether the file, now read to its end, is right.
    pub fn finish(self) -> Result<(), Wrong> {
        if self.size < HEADER_BYTES as u64 {
            return self.finish_tiny();
        }
        let found = Header::parse(&self.header);
        if let Some(found) = &found {
            if found.run != self.contents.run {
                return Err(Wrong::Stale { run: found.run.clone() });
            }
            // A header that names another file before a body that is this one's is a wrong header.
            let is_other = found.number != self.number && (self.first_wrong.is_some() || self.is_bodiless());
            if is_other && found.number < self.contents.files() {
                return Err(Wrong::Swapped { number: found.number });
            }
        }
        if let Some(number) = self.tiny_other(&self.header) {
            return Err(Wrong::Swapped { number });
        }
        let hash = self.hasher.finalize();
        let due = Header { run: self.contents.run.clone(), number: self.number, size: self.size, hash }.to_bytes();
        // What the hash must be is known only where the body is whole.
        let is_whole = self.read == self.size && self.first_wrong.is_none();
        let compared = if is_whole { HEADER_BYTES } else { HASH_PLACE };
        let differ = |place: &usize| self.header.get(*place).is_some_and(|byte| Some(byte) != due.get(*place));
        let in_header = (0..compared).filter(differ);
        let first = (0..compared).find(differ).map(|place| place as u64).or(self.first_wrong);
        match first {
            // What comes past the end is not held against the bytes before it.
            Some(first) if first < self.size => {
                let past_end = self.read.saturating_sub(self.size);
                let bytes = (in_header.count() as u64 + self.wrong_bytes).saturating_sub(past_end).max(1);
                Err(Wrong::Corrupted { first, bytes })
            }
            _ => self.of_its_size(),
        }
    }

    fn is_bodiless(&self) -> bool {
        self.read <= HEADER_BYTES as u64
    }

    fn of_its_size(&self) -> Result<(), Wrong> {
        let (found, expected) = (self.read, self.size);
        match found.cmp(&expected) {
            std::cmp::Ordering::Less => Err(Wrong::Truncated { found, expected }),
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Greater => Err(Wrong::TooLong { found, expected }),
        }
    }

    /// A file of this size is compared as a whole: the header's bytes are its content.
    fn finish_tiny(self) -> Result<(), Wrong> {
        let due = self.contents.tiny(self.number);
        let found = self.header.as_slice();
        let differ = |(one, other): &(&u8, &u8)| one != other;
        if found == due && self.read == self.size {
            return Ok(());
        }
        if let Some(header) = Header::parse(found) {
            return Err(match header.run == self.contents.run {
                true => Wrong::Swapped { number: header.number },
                false => Wrong::Stale { run: header.run },
            });
        }
        if let Some(number) = self.tiny_other(found) {
            return Err(Wrong::Swapped { number });
        }
        match found.iter().zip(&due).position(|(one, other)| one != other) {
            None => self.of_its_size(),
            Some(first) => {
                let bytes = found.iter().zip(&due).filter(differ).count() as u64;
                Err(Wrong::Corrupted { first: first as u64, bytes })
            }
        }
    }

    /// The other file of this run without a header that has this content, if there is just one such size as tells.
    fn tiny_other(&self, found: &[u8]) -> Option<u64> {
        let bytes = self.read;
        if !(TELLING_BYTES..HEADER_BYTES as u64).contains(&bytes) {
            return None;
        }
        let others = (0..self.contents.files()).filter(|number| *number != self.number);
        others.filter(|number| self.contents.size(*number) == bytes).find(|number| self.contents.may_be(*number, found))
    }
}
