//! Many files as one archive, written as it is read.
//!
//! Always holds: the archive is well-formed whatever happens to a file meanwhile. A file is in it with the size that it had when its turn
//! came: what is written to it later is left out, what is missing is filled with zeros, and a note at the end of the archive names it.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use tar::{Builder, EntryType, Header};
use tokio_util::sync::CancellationToken;

use super::content::Content;
use super::place::Place;
use super::volume::Home;

/// The note's name.
const NOTE: &str = "NOT-COMPLETE.txt";
/// Files that the note names.
const NOTED_MAX: usize = 1000;
/// How hard gzip and zstd try.
const GZIP_LEVEL: u32 = 3;
const ZSTD_LEVEL: i32 = 3;

/// How the archive is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pack {
    /// Not at all.
    Tar,
    /// By gzip.
    Gzip,
    /// By zstd.
    Zstd,
}

impl Pack {
    /// What the file's name ends with.
    pub fn ending(self) -> &'static str {
        match self {
            Pack::Tar => "tar",
            Pack::Gzip => "tar.gz",
            Pack::Zstd => "tar.zst",
        }
    }
}

/// A file that goes into the archive.
pub struct Item {
    /// Its agent's folder.
    pub home: Arc<Home>,
    /// Where it is.
    pub place: Place,
}

/// What was packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bundled {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What is not there, or not whole: as much as the note names.
    pub incomplete: u64,
}

/// Writes the archive. What is known to be missing before it begins, a sentence each, comes first in its note.
///
/// # Errors
/// Where it cannot be written, or was called off.
pub fn bundle(
    items: &[Item],
    known: &[String],
    pack: Pack,
    over: &CancellationToken,
    out: impl Write,
) -> io::Result<Bundled> {
    match pack {
        Pack::Tar => {
            let (bundled, mut out) = write(items, known, over, out)?;
            out.flush().map(|()| bundled)
        }
        Pack::Gzip => {
            let (bundled, packer) =
                write(items, known, over, flate2::write::GzEncoder::new(out, flate2::Compression::new(GZIP_LEVEL)))?;
            packer.finish()?.flush().map(|()| bundled)
        }
        Pack::Zstd => {
            let (bundled, packer) = write(items, known, over, zstd::Encoder::new(out, ZSTD_LEVEL)?)?;
            packer.finish()?.flush().map(|()| bundled)
        }
    }
}

fn write<W: Write>(items: &[Item], known: &[String], over: &CancellationToken, out: W) -> io::Result<(Bundled, W)> {
    let (mut tar, mut bundled) = (Builder::new(out), Bundled::default());
    let mut notes: Vec<String> = known.iter().map(|sentence| format!("{sentence}\n")).collect();
    for item in items {
        let opened = item.home.file(&item.place.path).and_then(Content::of);
        let content = match opened {
            Ok(content) => content,
            Err(error) => {
                notes.push(format!("{}: it is not here: {error}\n", item.place.text()));
                continue;
            }
        };
        let mut exactly = Exactly { reader: content.raw(), left: content.size, over, fault: None };
        let name = item.place.whole();
        let path = Path::new(OsStr::from_bytes(&name));
        tar.append_data(&mut header(content.size, content.modified_s), path, &mut exactly)?;
        if let Some(fault) = exactly.fault {
            notes.push(format!("{}: its end is missing: {fault}\n", item.place.text()));
        }
        bundled.files += 1;
        bundled.bytes += content.size;
    }
    bundled.incomplete = notes.len() as u64;
    if !notes.is_empty() {
        let left = notes.len().saturating_sub(NOTED_MAX);
        notes.truncate(NOTED_MAX);
        if left > 0 {
            notes.push(format!("and {left} more\n"));
        }
        let text = notes.concat();
        let now_s = jiff::Timestamp::now().as_second();
        tar.append_data(&mut header(text.len() as u64, now_s), NOTE, text.as_bytes())?;
    }
    Ok((bundled, tar.into_inner()?))
}

fn header(size: u64, modified_s: i64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(u64::try_from(modified_s).unwrap_or(0));
    header
}

/// So many bytes of a file, whatever becomes of it.
struct Exactly<'a, R> {
    reader: R,
    left: u64,
    over: &'a CancellationToken,
    /// Why zeros are given instead.
    fault: Option<String>,
}

impl<R: Read> Read for Exactly<'_, R> {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        if self.over.is_cancelled() {
            return Err(io::Error::other("it was called off"));
        }
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(space.len());
        let Some(space) = space.get_mut(..wanted).filter(|space| !space.is_empty()) else { return Ok(0) };
        if self.fault.is_none() {
            match self.reader.read(space) {
                Ok(0) => self.fault = Some("it became shorter while it was read".to_owned()),
                Ok(count) => {
                    self.left -= count as u64;
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
                Err(error) => self.fault = Some(error.to_string()),
            }
        }
        space.fill(0);
        self.left -= space.len() as u64;
        Ok(space.len())
    }
}
