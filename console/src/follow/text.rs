//! The text of a file, plain or packed, from any place on.
//!
//! Always holds: whether a file is packed is told by its first bytes, not by its name; places are those of its plain text. Packed text
//! is read through from its beginning each time, so that no file takes memory.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::folder;
use super::recognise::Sight;
use crate::packing::{At, FIRST_BYTES, Packing, is_damage};
use crate::store::{TAIL_BYTES, hash_of};

/// A file that was changed so lately may be changed again without that being seen by its time.
const LATELY: Duration = Duration::from_secs(2);

/// What tells that a file is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// Where it is.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
    /// Its length as it lies there.
    pub bytes: u64,
    /// When anything of it was changed last, in nanoseconds since 1970.
    pub changed_ns: i64,
}

impl State {
    /// Whether it may change without that being seen here.
    pub fn is_young(&self) -> bool {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let lately_ns = now.saturating_sub(LATELY).as_nanos();
        u128::try_from(self.changed_ns).is_ok_and(|changed_ns| changed_ns > lately_ns)
    }
}

/// A file's text.
pub struct Text {
    file: Arc<File>,
    packing: Packing,
    /// What it was like when it was opened.
    pub state: State,
}

impl Text {
    /// Opens a file; none where it is gone, or no plain file.
    pub fn open(path: &Path) -> io::Result<Option<Text>> {
        let Some(file) = folder::open(path)? else { return Ok(None) };
        let found = file.metadata()?;
        let changed_ns = found.ctime().saturating_mul(1_000_000_000).saturating_add(found.ctime_nsec());
        let state = State { device: found.dev(), inode: found.ino(), bytes: found.len(), changed_ns };
        let file = Arc::new(file);
        let mut first = Vec::new();
        At::new(file.clone(), 0).take(FIRST_BYTES as u64).read_to_end(&mut first)?;
        Ok(Some(Text { file, packing: Packing::of(&first), state }))
    }

    /// Whether it is packed.
    pub fn is_packed(&self) -> bool {
        self.packing != Packing::Plain
    }

    /// What it shows of itself.
    pub fn sight(&self) -> io::Result<Sight> {
        let mut head = Vec::new();
        let read = self.whole_again()?.take(TAIL_BYTES as u64).read_to_end(&mut head);
        match read {
            // As far as it goes: a file that is still being packed ends too early.
            Err(error) if !is_damage(&error) => return Err(error),
            _ => {}
        }
        Ok(Sight { device: self.state.device, inode: self.state.inode, head, is_plain: !self.is_packed() })
    }

    /// The hash of what stands before a place; none where the text ends before it.
    pub fn tail_at(&self, end: u64) -> io::Result<Option<[u8; 16]>> {
        let start = end.saturating_sub(TAIL_BYTES as u64);
        let mut tail = Vec::new();
        let read = self.from(start).and_then(|reader| reader.take(end - start).read_to_end(&mut tail));
        match read {
            Ok(count) if count as u64 == end - start => Ok(Some(hash_of(&tail))),
            Ok(_) => Ok(None),
            Err(error) if is_damage(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Where the last whole line of a plain text ends, as far as that is near its end.
    pub fn whole_lines(&self, near: u64) -> io::Result<u64> {
        let start = self.state.bytes.saturating_sub(near);
        let mut end = Vec::new();
        At::new(self.file.clone(), start).take(near).read_to_end(&mut end)?;
        Ok(end.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| start + last as u64 + 1))
    }

    /// What follows a place. A packed text that ends before it is an error.
    pub fn from(&self, start: u64) -> io::Result<Box<dyn Read + Send>> {
        if !self.is_packed() {
            return Ok(Box::new(At::new(self.file.clone(), start)));
        }
        let mut reader = self.whole_again()?;
        let skipped = io::copy(&mut reader.by_ref().take(start), &mut io::sink())?;
        if skipped < start {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(reader)
    }

    fn whole_again(&self) -> io::Result<Box<dyn Read + Send>> {
        self.packing.text_of(&self.file, None)
    }
}
