//! All files beneath a place that a sieve takes.

use std::io;

use super::listing::{Entry, list};
use super::place::{Place, joined};
use super::sieve::Sieve;
use super::volume::Home;

/// Files that one question may find; past it, what was found says that it is cut.
pub const FILES_MAX: usize = 200_000;
/// Bytes of the paths that one question may keep, of files and of folders that wait; past it, what was found says that it is cut.
pub(super) const PATH_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Folders that wait to be looked into; more are not looked into.
const FOLDERS_MAX: usize = 100_000;

/// A file that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where it is.
    pub place: Place,
    /// Its size in bytes, as it lies there.
    pub size: u64,
    /// When it was changed last, in seconds since 1970.
    pub modified_s: i64,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Walked {
    /// The files.
    pub files: Vec<Found>,
    /// Whether there are more.
    pub is_cut: bool,
    /// Folders that could not be looked into.
    pub unreadable: u64,
    /// Bytes of the files' paths.
    pub path_bytes: usize,
}

impl Walked {
    fn has_room(&self, waiting: &Waiting) -> bool {
        self.files.len() < FILES_MAX && self.path_bytes + waiting.path_bytes < PATH_BYTES_MAX
    }

    fn keep(&mut self, file: Found) {
        self.path_bytes += file.place.agent.len() + file.place.path.len();
        self.files.push(file);
    }
}

/// Folders that wait to be looked into.
#[derive(Default)]
struct Waiting {
    paths: Vec<Vec<u8>>,
    path_bytes: usize,
}

impl Waiting {
    fn push(&mut self, path: Vec<u8>) {
        self.path_bytes += path.len();
        self.paths.push(path);
    }

    fn pop(&mut self) -> Option<Vec<u8>> {
        let path = self.paths.pop()?;
        self.path_bytes -= path.len();
        Some(path)
    }
}

/// Looks for files at a place of an agent's folder, and adds what it finds. A file's own place finds it alone.
///
/// # Errors
/// Where the place itself cannot be looked at. What is removed while it is looked at is left out.
pub fn walk(home: &Home, at: &Place, sieve: &Sieve, is_over: &dyn Fn() -> bool, walked: &mut Walked) -> io::Result<()> {
    let first = match home.folder(&at.path) {
        Ok(folder) => list(&folder)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            walked.keep(single(home, at)?);
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let mut waiting = Waiting::default();
    let mut listing = Some((at.path.clone(), first));
    while let Some((path, found)) = listing.take() {
        walked.is_cut |= found.is_cut;
        for entry in found.entries {
            take(at, joined(&path, &entry.name), &entry, sieve, &mut waiting, walked);
        }
        while let Some(path) = waiting.pop() {
            if is_over() || !walked.has_room(&Waiting::default()) {
                walked.is_cut = true;
                return Ok(());
            }
            match home.folder(&path).and_then(|folder| list(&folder)) {
                Ok(found) => {
                    listing = Some((path, found));
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(_) => walked.unreadable += 1,
            }
        }
    }
    Ok(())
}

fn take(at: &Place, path: Vec<u8>, entry: &Entry, sieve: &Sieve, waiting: &mut Waiting, walked: &mut Walked) {
    if entry.is_folder {
        match waiting.paths.len() < FOLDERS_MAX && walked.has_room(waiting) {
            true => waiting.push(path),
            false => walked.is_cut = true,
        }
    } else if sieve.takes(&path, entry.modified_s) {
        match walked.has_room(waiting) {
            true => {
                let place = Place { agent: at.agent.clone(), path };
                walked.keep(Found { place, size: entry.size, modified_s: entry.modified_s });
            }
            false => walked.is_cut = true,
        }
    }
}

fn single(home: &Home, at: &Place) -> io::Result<Found> {
    let stat = rustix::fs::fstat(home.file(&at.path)?)?;
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    Ok(Found { place: at.clone(), size, modified_s: stat.st_mtime })
}
