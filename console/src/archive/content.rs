//! A file's plain text, from any place on: packed files are unpacked on the way, UTF-16 becomes UTF-8.
//!
//! Always holds: places are those of the plain text; what can be jumped into is jumped into, everything else is read through from its
//! beginning, within bounds, and takes the same memory however much it unpacks to.

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use encoding_rs_io::DecodeReaderBytesBuilder;

use super::bounds::{Bounded, Bounds};
use crate::packing::{At, FIRST_BYTES, Packing};

/// What a packed file may unpack to, in bytes, before the rest of it is left.
pub const UNPACKED_BYTES_MAX: u64 = 16 * 1024 * 1024 * 1024;

/// What zstd may have to remember, as a power of two: 32 MiB, as `zstd -19` and `--ultra -20` write it.
const WINDOW_LOG_MAX: u32 = 25;

/// How a text in UTF-16 begins.
const UTF16: [[u8; 2]; 2] = [[0xff, 0xfe], [0xfe, 0xff]];

/// A file that is open to be read.
pub struct Content {
    file: Arc<File>,
    packing: Packing,
    is_utf16: bool,
    /// Its size as it lies there, in bytes.
    pub size: u64,
    /// When it was changed last, in seconds since 1970.
    pub modified_s: i64,
}

impl Content {
    /// Of an open file.
    pub fn of(file: File) -> io::Result<Content> {
        let found = file.metadata()?;
        let (size, modified_s, file) = (found.len(), found.mtime(), Arc::new(file));
        let mut first = Vec::new();
        At::new(file.clone(), 0).take(FIRST_BYTES as u64).read_to_end(&mut first)?;
        let is_utf16 = UTF16.iter().any(|mark| first.starts_with(mark));
        Ok(Content { file, packing: Packing::of(&first), is_utf16, size, modified_s })
    }

    /// Whether one can jump into it; else its text is longer than what lies there, and read from its beginning.
    pub fn is_plain(&self) -> bool {
        self.packing == Packing::Plain && !self.is_utf16
    }

    /// What has to be done before it can be read; empty where nothing has to.
    pub fn packed_as(&self) -> &'static str {
        match self.packing {
            Packing::Gzip => "packed by gzip",
            Packing::Zstd => "packed by zstd",
            Packing::Plain if self.is_utf16 => "in UTF-16",
            Packing::Plain => "",
        }
    }

    /// The bytes as they lie there.
    pub fn raw(&self) -> impl Read + Send + use<> {
        At::new(self.file.clone(), 0)
    }

    /// The text from a place on; nothing where it ends before it.
    pub fn text(&self, start: u64, bounds: &Bounds) -> io::Result<Box<dyn Read + Send>> {
        let endless = Bounds { bytes_max: u64::MAX, ..bounds.clone() };
        if self.is_plain() {
            return Ok(Box::new(Bounded::new(At::new(self.file.clone(), start), endless)));
        }
        // Beneath the unpacking as well: what unpacks to nothing keeps a single read busy for as long as the file lasts.
        let packed = Bounded::new(At::new(self.file.clone(), 0), endless);
        let mut unpacked = self.packing.text_behind(packed, Some(WINDOW_LOG_MAX))?;
        let mut first = Vec::new();
        unpacked.by_ref().take(2).read_to_end(&mut first)?;
        let is_utf16 = UTF16.iter().any(|mark| first.starts_with(mark));
        let whole = Cursor::new(first).chain(unpacked);
        let text: Box<dyn Read + Send> = match is_utf16 {
            true => Box::new(DecodeReaderBytesBuilder::new().build(whole)),
            false => Box::new(whole),
        };
        let mut text = Bounded::new(text, bounds.clone());
        io::copy(&mut text.by_ref().take(start), &mut io::sink())?;
        Ok(Box::new(text))
    }
}
