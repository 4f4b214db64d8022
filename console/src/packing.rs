//! How a log is packed, told by its first bytes and not by its name, and its plain text.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// How the packings begin.
const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Read from a file at a time, in bytes.
const READ_BYTES: usize = 256 * 1024;

/// The first bytes that tell a packing.
pub const FIRST_BYTES: usize = 4;

/// How a file is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// Not at all.
    Plain,
    /// By gzip, in one or several members.
    Gzip,
    /// By zstd, in one or several frames.
    Zstd,
}

impl Packing {
    /// What a file's first [`FIRST_BYTES`] say.
    pub fn of(first: &[u8]) -> Packing {
        match first {
            first if first.starts_with(&GZIP) => Packing::Gzip,
            first if first.starts_with(&ZSTD) => Packing::Zstd,
            _ => Packing::Plain,
        }
    }

    /// The plain text of a file from its beginning on. What zstd needs to remember of it, as a power of two, may be bounded: it is memory.
    pub fn text_of(self, file: &Arc<File>, window_log_max: Option<u32>) -> io::Result<Box<dyn Read + Send>> {
        self.text_behind(At::new(file.clone(), 0), window_log_max)
    }

    /// The plain text of the bytes that a reader gives; its errors come through as they are.
    pub fn text_behind(
        self,
        bytes: impl Read + Send + 'static,
        window_log_max: Option<u32>,
    ) -> io::Result<Box<dyn Read + Send>> {
        let bytes = BufReader::with_capacity(READ_BYTES, bytes);
        Ok(match self {
            Packing::Plain => Box::new(bytes),
            Packing::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(bytes)),
            Packing::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(bytes)?;
                if let Some(window_log_max) = window_log_max {
                    decoder.window_log_max(window_log_max)?;
                }
                Box::new(decoder)
            }
        })
    }
}

/// Whether a packed text ends too early or is none: what was read of it until then is right.
pub fn is_damage(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput, Other, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | InvalidInput | InvalidData | Other)
}

/// A file from a place on, whoever else reads it.
pub struct At {
    file: Arc<File>,
    offset: u64,
}

impl At {
    /// From this place on.
    pub fn new(file: Arc<File>, offset: u64) -> At {
        At { file, offset }
    }
}

impl Read for At {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(space, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}
