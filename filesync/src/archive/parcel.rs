//! A part of a text as it is sent: read, packed where that is asked for, and hashed before the first byte leaves. Blocks.
//!
//! Always holds: what is sent is what was hashed, and what was hashed stood in one file at one time but for what was added behind it.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

use super::config::Packing;
use super::record::Intent;
use super::sight::{Hash, Proof, Sight, Stamp, hash_of};
use crate::source::{Source, entry_of_file, read_at};

/// Parts up to this size are read once and kept, in bytes.
pub const SMALL_BYTES: u64 = 255 * 1024;
/// The folder in the state folder in which packed files wait.
const PACKED: &str = "packed";
/// As zstd's own program.
const ZSTD_LEVEL: i32 = 3;

/// A part of a text, ready to go.
pub struct Parcel {
    /// What is noted of it.
    pub intent: Intent,
    /// What the file showed when it was read, where the part ends with it.
    pub whole: Option<Stamp>,
    content: Content,
}

#[derive(Clone)]
enum Content {
    Memory(Arc<Vec<u8>>),
    File(Arc<File>, u64),
}

/// What is to be made a parcel.
pub struct Order<'a> {
    /// The folder.
    pub root: &'a Path,
    /// The file.
    pub sight: &'a Sight,
    /// What is noted of it so far: text, names, how much is in the archive. The rest is filled in.
    pub intent: Intent,
    /// The text's proof so far.
    pub earlier: Option<&'a Proof>,
    /// Whether it is shipped as it grows.
    pub tail: bool,
    /// How it is packed.
    pub packing: Packing,
    /// The agent's state folder.
    pub state: &'a Path,
}

/// Makes a parcel; none where the file changed otherwise than by growing.
pub fn prepare(order: Order) -> io::Result<Option<Parcel>> {
    let Some((file, found)) = open(order.root, order.sight)? else { return Ok(None) };
    let (from, to) = (order.intent.from, order.sight.stamp.size);
    if found.size < to || from >= to {
        return Ok(None);
    }
    let mut read = |at: u64, length: usize| read_at(&file, at, length);
    let small = if to - from <= SMALL_BYTES { Some(read_at(&file, from, (to - from) as usize)?) } else { None };
    let plain = match &small {
        Some(content) if content.len() as u64 == to - from => Some(*blake3::hash(content).as_bytes()),
        Some(_) => None,
        None => hash_of(from, to, &mut read)?,
    };
    let Some(plain) = plain else { return Ok(None) };
    let earlier = order.earlier.filter(|_| order.tail);
    let whole_hash = Proof { hash: plain, hash_bytes: to, ..Proof::default() };
    let Some(proof) = Proof::of(to, if from == 0 { Some(&whole_hash) } else { earlier }, &mut read)? else {
        return Ok(None);
    };
    let mut intent = Intent { to, proof, hash: plain, ..order.intent };
    let content = match order.packing {
        Packing::None => {
            intent.stored_to = intent.stored_from + (to - from);
            small.map_or_else(|| Content::File(file.clone(), from), |content| Content::Memory(Arc::new(content)))
        }
        packing => {
            let (name, packed) = pack(&file, &intent, packing, order.state)?;
            let length = packed.metadata()?.len();
            let hash = hash_of(0, length, &mut |at, length| read_at(&packed, at, length))?;
            (intent.hash, intent.packed) = (hash.unwrap_or_default(), name);
            intent.stored_to = intent.stored_from + length;
            Content::File(Arc::new(packed), 0)
        }
    };
    let now = Stamp::of(&entry_of_file(&file)?);
    // Something was written meanwhile: only if what was read still stands there it was no more than added.
    if now != found && (now.size < to || hash_of(from, to, &mut read)? != Some(plain)) {
        return Ok(None);
    }
    Ok(Some(Parcel { intent, whole: Some(now).filter(|now| now.size == to), content }))
}

/// The parcel of what was on its way when the agent died: out of the packed file, or of a file that holds it now, be it the one that it was or
/// a copy of that. None where nothing holds it any more.
pub fn recover(intent: &Intent, files: &[(PathBuf, Sight)], state: &Path) -> io::Result<Option<Parcel>> {
    let length = intent.stored_to - intent.stored_from;
    if !intent.packed.is_empty() {
        return match File::open(state.join(PACKED).join(&intent.packed)) {
            Ok(file) => of_content(intent, Content::File(Arc::new(file), 0), length, None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
    }
    for (root, sight) in files.iter().filter(|(_, sight)| sight.stamp.size >= intent.to) {
        let Some((file, found)) = open(root, sight)? else { continue };
        if !intent.proof.holds(found.size, &mut |at, length| read_at(&file, at, length))? {
            continue;
        }
        let whole = Some(sight.stamp).filter(|stamp| stamp.is_same_file(&intent.stamp) && stamp.size == intent.to);
        return of_content(intent, Content::File(file, intent.from), length, whole);
    }
    Ok(None)
}

fn of_content(intent: &Intent, content: Content, length: u64, whole: Option<Stamp>) -> io::Result<Option<Parcel>> {
    let found = hash_of(0, length, &mut |at, length| content.read(at, length))?;
    Ok((found == Some(intent.hash)).then(|| Parcel { intent: intent.clone(), whole, content }))
}

/// Opens a file if it is still the one that was met.
fn open(root: &Path, sight: &Sight) -> io::Result<Option<(Arc<File>, Stamp)>> {
    let source = Source::open(root).map_err(io::Error::other)?;
    let file = match source.open_file(&sight.path) {
        Ok(file) => file,
        Err(error) if is_gone(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let found = Stamp::of(&entry_of_file(&file)?);
    Ok(found.is_same_file(&sight.stamp).then(|| (Arc::new(file), found)))
}

/// Whether an error says that a file went away, or became something else, after it was met.
pub fn is_gone(error: &io::Error) -> bool {
    let became_a_link = rustix::io::Errno::from_io_error(error) == Some(rustix::io::Errno::LOOP);
    became_a_link || matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn pack(file: &Arc<File>, intent: &Intent, packing: Packing, state: &Path) -> io::Result<(String, File)> {
    let folder = state.join(PACKED);
    std::fs::create_dir_all(&folder)?;
    let name = format!("{}-{}-{}", intent.stamp.ino, intent.stamp.btime_ns, intent.from);
    let path: PathBuf = folder.join(&name);
    let packed = File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
    let plain = Plain { file: file.clone(), at: intent.from, end: intent.to };
    let mut plain = BufReader::with_capacity(1 << 20, plain);
    let out = BufWriter::with_capacity(1 << 20, packed.try_clone()?);
    let done = match packing {
        Packing::Gzip => {
            let mut encoder = GzEncoder::new(out, Compression::default());
            io::copy(&mut plain, &mut encoder)?;
            encoder.finish()?
        }
        _ => {
            let mut encoder = zstd::Encoder::new(out, ZSTD_LEVEL)?;
            encoder.include_checksum(true)?;
            io::copy(&mut plain, &mut encoder)?;
            encoder.finish()?
        }
    };
    done.into_inner().map_err(io::IntoInnerError::into_error)?.flush()?;
    // After a power failure it must be what its hash says, or be seen not to be.
    packed.sync_all()?;
    Ok((name, packed))
}

/// Removes packed files that no note names.
pub fn clean(state: &Path, intents: &[Intent]) -> io::Result<()> {
    let entries = match std::fs::read_dir(state.join(PACKED)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if intents.iter().all(|intent| *intent.packed != *entry.file_name()) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

struct Plain {
    file: Arc<File>,
    at: u64,
    end: u64,
}

impl Read for Plain {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.end - self.at).unwrap_or(usize::MAX).min(room.len());
        let count =
            std::os::unix::fs::FileExt::read_at(&*self.file, room.get_mut(..wanted).unwrap_or_default(), self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Content {
    fn read(&self, at: u64, length: usize) -> io::Result<Vec<u8>> {
        match self {
            Content::Memory(content) => {
                let rest = content.get(at as usize..).unwrap_or_default();
                Ok(rest.get(..length).unwrap_or(rest).to_vec())
            }
            Content::File(file, base) => read_at(file, base + at, length),
        }
    }
}

impl Parcel {
    /// How long it is, in bytes.
    pub fn length(&self) -> u64 {
        self.intent.stored_to - self.intent.stored_from
    }

    /// Reads a part of it, off the async threads.
    pub async fn read(&self, at: u64, length: usize) -> io::Result<Vec<u8>> {
        let content = self.content.clone();
        tokio::task::spawn_blocking(move || content.read(at, length)).await.map_err(io::Error::other)?
    }

    /// Its SHA-256, which servers can be asked for, too. Blocks.
    pub fn sha256(&self) -> io::Result<Hash> {
        let (mut hasher, mut at) = (Sha256::new(), 0);
        while at < self.length() {
            let part = self.content.read(at, (1 << 20).min(self.length() - at) as usize)?;
            if part.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            hasher.update(&part);
            at += part.len() as u64;
        }
        Ok(hasher.finalize().into())
    }

    /// All of it.
    #[cfg(test)]
    pub fn content(&self) -> Vec<u8> {
        self.content.read(0, self.length() as usize).unwrap()
    }

    /// Removes the packed file, once it is not needed any more.
    pub fn forget(&self, state: &Path) {
        if !self.intent.packed.is_empty() {
            // One that stays is removed at the next start.
            let _left = std::fs::remove_file(state.join(PACKED).join(&self.intent.packed));
        }
    }
}

#[cfg(test)]
mod tests;
