//! What a look at a file shows, and the proof by which a text that was shipped is known again. Pure: who proves hands in what stands
//! in the file.
//!
//! A *text* is what a program has written, whatever file holds it now: logs are renamed, copied and emptied, and neither a name nor an
//! inode says which text a file holds. Its bytes do.

use std::io;

use serde::{Deserialize, Serialize};

use crate::tree::{Entry, Path};

/// How much of a text's end, and at most of its beginning, is looked at, in bytes.
pub const END_BYTES: u64 = 4096;
/// How much is read at a time, in bytes.
const PART_BYTES: u64 = 1 << 20;

/// A hash of bytes.
pub type Hash = [u8; 32];

/// All by which a change of a file shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Its inode.
    pub ino: u64,
    /// When the inode was made; 0 where the file system does not say.
    pub btime_ns: i64,
    /// Its length in bytes.
    pub size: u64,
    /// Last change of the content, as the file says.
    pub mtime_ns: i64,
    /// Last change of anything, as the kernel says.
    pub ctime_ns: i64,
}

impl Stamp {
    /// Of a file that was looked at.
    pub fn of(entry: &Entry) -> Stamp {
        let Entry { ino, btime_ns, size, mtime_ns, ctime_ns, .. } = *entry;
        Stamp { ino, btime_ns, size, mtime_ns, ctime_ns }
    }

    /// Whether both are of one inode.
    pub fn is_same_file(&self, other: &Stamp) -> bool {
        (self.ino, self.btime_ns) == (other.ino, other.btime_ns)
    }

    /// The time that the archive shows, in seconds since 1970.
    pub fn mtime_s(&self) -> u32 {
        u32::try_from(self.mtime_ns.div_euclid(1_000_000_000).max(0)).unwrap_or(u32::MAX)
    }
}

/// A file as it was met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    /// Which folder of the settings it is in.
    pub folder: usize,
    /// Its path there.
    pub path: Path,
    /// What a look showed.
    pub stamp: Stamp,
    /// Its permissions.
    pub mode: u32,
}

/// By what a text is known again, as far as it was shipped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// How much of the text was shipped, in bytes.
    pub sent: u64,
    /// The hash of its first line, or of as much of it as is looked at.
    pub start: Hash,
    /// The hash of its first `hash_bytes`.
    pub hash: Hash,
    /// How much `hash` covers: all, unless the text was shipped as it grew.
    pub hash_bytes: u64,
    /// The hash of the last [`END_BYTES`] before `sent`.
    pub tail: Hash,
}

/// Reads so many bytes at an offset; fewer only at the end.
pub type ReadAt<'a> = dyn FnMut(u64, usize) -> io::Result<Vec<u8>> + 'a;

impl Proof {
    /// The proof of a text's first `sent` bytes; none where there are not so many. What `earlier` covers is not read again unless it
    /// has become less than half of the text: a growing file is read a few times, not once for each line.
    pub fn of(sent: u64, earlier: Option<&Proof>, read_at: &mut ReadAt) -> io::Result<Option<Proof>> {
        let head = read_at(0, END_BYTES.min(sent) as usize)?;
        let (hash, hash_bytes) = match earlier {
            Some(earlier) if earlier.hash_bytes <= sent && sent / 2 < earlier.hash_bytes => {
                (earlier.hash, earlier.hash_bytes)
            }
            _ => match hash_of(0, sent, read_at)? {
                Some(hash) => (hash, sent),
                None => return Ok(None),
            },
        };
        let Some(tail) = tail_of(sent, read_at)? else { return Ok(None) };
        Ok(Some(Proof { sent, start: start_of(&head), hash, hash_bytes, tail }))
    }

    /// Whether what was shipped stands at the beginning of a file.
    pub fn holds(&self, size: u64, read_at: &mut ReadAt) -> io::Result<bool> {
        if size < self.sent {
            return Ok(false);
        }
        Ok(tail_of(self.sent, read_at)? == Some(self.tail) && hash_of(0, self.hash_bytes, read_at)? == Some(self.hash))
    }

    /// The same for a file that is the very one it was, and was only written to: the end is looked at alone.
    pub fn holds_at_its_end(&self, size: u64, read_at: &mut ReadAt) -> io::Result<bool> {
        let head = read_at(0, END_BYTES.min(self.sent) as usize)?;
        Ok(size >= self.sent && start_of(&head) == self.start && tail_of(self.sent, read_at)? == Some(self.tail))
    }
}

/// The hash by which a text is looked up: of its first line, or of as much as is looked at.
pub fn start_of(head: &[u8]) -> Hash {
    let line = head.iter().position(|byte| *byte == b'\n').map_or(head.len(), |end| end + 1);
    *blake3::hash(head.get(..line).unwrap_or(head)).as_bytes()
}

fn tail_of(end: u64, read_at: &mut ReadAt) -> io::Result<Option<Hash>> {
    hash_of(end - END_BYTES.min(end), end, read_at)
}

/// The hash of the bytes from one offset to another; none where there are not so many.
pub fn hash_of(from: u64, to: u64, read_at: &mut ReadAt) -> io::Result<Option<Hash>> {
    let (mut hasher, mut at) = (blake3::Hasher::new(), from);
    while at < to {
        let part = read_at(at, PART_BYTES.min(to - at) as usize)?;
        if part.is_empty() {
            return Ok(None);
        }
        hasher.update(&part);
        at += part.len() as u64;
    }
    Ok(Some(*hasher.finalize().as_bytes()))
}
