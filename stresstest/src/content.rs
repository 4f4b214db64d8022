//! What the files of a run hold. Pure.
//!
//! A file tells who it is: its first [`HEADER_BYTES`] name the run, its number and its size, and carry the BLAKE3 hash of all that
//! follows. The rest is made from the seed and the number alone. So a reader needs no memory of what was sent to say that a file is
//! right, which byte is wrong, or which other file it is. A file too small for a header is a beginning of its own numbers.

use std::sync::atomic::{AtomicU64, Ordering};

use blake3::{Hash, Hasher};
use chacha20::ChaCha8Rng;
use chacha20::rand_core::{Rng, SeedableRng};
use pair::wire::Reader;

use crate::identity::{RUN_ID_BYTES, RunId};
use crate::plan::Plan;

mod judge;

pub use judge::{Judge, Wrong};

const MAGIC: &[u8; 8] = b"sftp-ha\n";
/// The header: magic, run (22 bytes and two of nothing), number, size, hash.
pub const HEADER_BYTES: usize = 80;
/// Where the hash begins in it.
const HASH_PLACE: usize = HEADER_BYTES - 32;
/// Numbers are made in blocks of this size, in bytes.
const BLOCK_BYTES: usize = 8 * 1024;
/// From this size on making a content takes long enough to be done elsewhere, in bytes.
pub const LARGE_BYTES: u64 = 1024 * 1024;

/// Makes the contents of one run.
#[derive(Debug)]
pub struct Contents {
    run: RunId,
    plan: Plan,
    /// Contents made so far in search of whose a wrong one is.
    searched: AtomicU64,
}

/// Contents that are made in such searches at most: a server on which everything is wrong gets its report, too.
const SEARCHED_MAX: u64 = 500_000;

impl Contents {
    /// Those of a run.
    pub fn new(run: RunId, plan: Plan) -> Contents {
        Contents { run, plan, searched: AtomicU64::new(0) }
    }

    /// Whether a file without a header has this content, as far as searching goes.
    fn may_be(&self, number: u64, found: &[u8]) -> bool {
        self.searched.fetch_add(1, Ordering::Relaxed) < SEARCHED_MAX && self.tiny(number) == found
    }

    /// How many files there are.
    pub fn files(&self) -> u64 {
        self.plan.files
    }

    /// The size of a file, in bytes.
    pub fn size(&self, number: u64) -> u64 {
        self.plan.size(number)
    }

    /// The content of a file, to be taken piece by piece. All of it is made once to get its hash: for [`LARGE_BYTES`] and more that
    /// takes long.
    pub fn content(&self, number: u64) -> Content {
        let size = self.size(number);
        let mut numbers = Numbers::of(self.plan.seed, number);
        let Some(body_bytes) = size.checked_sub(HEADER_BYTES as u64) else {
            return Content { header: Vec::new(), numbers, left: size, made: Vec::new(), made_used: 0 };
        };
        let (mut hasher, mut made) = (Hasher::new(), Vec::new());
        if size < LARGE_BYTES {
            made.resize(body_bytes as usize, 0);
            numbers.fill(&mut made);
            hasher.update(&made);
        } else {
            let (mut block, mut left) = (vec![0; BLOCK_BYTES], body_bytes as usize);
            while left > 0 {
                block.truncate(left);
                numbers.fill(&mut block);
                hasher.update(&block);
                left -= block.len();
            }
            numbers = Numbers::of(self.plan.seed, number);
        }
        let header = Header { run: self.run.clone(), number, size, hash: hasher.finalize() }.to_bytes();
        Content { header, numbers, left: size, made, made_used: 0 }
    }

    /// What is to be told of a file that is read.
    pub fn judge(&self, number: u64) -> Judge<'_> {
        Judge::new(self, number)
    }

    /// The whole content of a file that has no header.
    fn tiny(&self, number: u64) -> Vec<u8> {
        let mut content = vec![0; self.size(number).min(HEADER_BYTES as u64) as usize];
        Numbers::of(self.plan.seed, number).fill(&mut content);
        content
    }
}

/// A content that is being sent.
pub struct Content {
    header: Vec<u8>,
    numbers: Numbers,
    left: u64,
    /// The body, where it is small, and how much of it was taken.
    made: Vec<u8>,
    made_used: usize,
}

impl Content {
    /// The next piece, of `bytes_max` bytes but for the last one.
    pub fn next(&mut self, bytes_max: usize) -> Option<Vec<u8>> {
        if self.left == 0 {
            return None;
        }
        let bytes = self.left.min(bytes_max.max(HEADER_BYTES) as u64) as usize;
        self.left -= bytes as u64;
        let mut piece = std::mem::take(&mut self.header);
        let header_bytes = piece.len();
        match self.made.get(self.made_used..self.made_used + bytes - header_bytes) {
            Some(made) => {
                piece.extend_from_slice(made);
                self.made_used += made.len();
            }
            None => {
                piece.resize(bytes, 0);
                self.numbers.fill(piece.get_mut(header_bytes..).unwrap_or_default());
            }
        }
        Some(piece)
    }
}

/// What a file says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Header {
    run: RunId,
    number: u64,
    size: u64,
    hash: Hash,
}

impl Header {
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(self.run.as_str().as_bytes());
        bytes.extend_from_slice(&[0; 2]);
        bytes.extend_from_slice(&self.number.to_be_bytes());
        bytes.extend_from_slice(&self.size.to_be_bytes());
        bytes.extend_from_slice(self.hash.as_bytes());
        bytes
    }

    fn parse(bytes: &[u8]) -> Option<Header> {
        let rest = bytes.strip_prefix(MAGIC)?;
        let (run, rest) = rest.split_at_checked(RUN_ID_BYTES)?;
        let run = std::str::from_utf8(run).ok()?.parse().ok()?;
        let mut fields = Reader(rest.get(2..)?);
        let (number, size) = (fields.u64().ok()?, fields.u64().ok()?);
        let hash = Hash::from_bytes(fields.0.first_chunk::<32>().copied()?);
        Some(Header { run, number, size, hash })
    }
}

/// Bytes that follow from a seed and a number.
struct Numbers {
    source: ChaCha8Rng,
    block: Box<[u8; BLOCK_BYTES]>,
    used: usize,
}

impl Numbers {
    fn of(seed: u64, number: u64) -> Numbers {
        let mut key = [0; 32];
        let parts = [*b"sftp-ha content ", (u128::from(seed) << 64 | u128::from(number)).to_be_bytes()];
        key.copy_from_slice(parts.as_flattened());
        let source = ChaCha8Rng::from_seed(*blake3::hash(&key).as_bytes());
        Numbers { source, block: Box::new([0; BLOCK_BYTES]), used: BLOCK_BYTES }
    }

    /// The next bytes that are made already, at least one and at most `bytes_max`.
    fn ready(&mut self, bytes_max: usize) -> &[u8] {
        if self.used == BLOCK_BYTES {
            self.source.fill_bytes(self.block.as_mut_slice());
            self.used = 0;
        }
        let begin = self.used;
        self.used += bytes_max.min(BLOCK_BYTES - begin);
        self.block.get(begin..self.used).unwrap_or_default()
    }

    fn fill(&mut self, mut out: &mut [u8]) {
        while !out.is_empty() {
            let ready = self.ready(out.len());
            let Some((now, later)) = out.split_at_mut_checked(ready.len()) else { return };
            now.copy_from_slice(ready);
            out = later;
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
