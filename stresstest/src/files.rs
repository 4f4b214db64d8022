//! The files of a run, and what is known of each: a few bytes, whatever the size. Nothing here touches a wire.
//!
//! A file is *acknowledged* once CLOSE was answered with OK. Only such a file can be lost, is read or renamed.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::identity::RunId;

/// Files of one folder: so many are listed at a time.
pub const FOLDER_FILES: u64 = 250;
/// How often a file is looked for that nobody else is at.
const TRIES_MAX: usize = 16;

/// How far a file is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Nobody has asked for it.
    #[default]
    Untouched,
    /// It was begun, and its end is not known: it may be there, whole, in part, or not at all.
    Unsure,
    /// The target has promised that it is there.
    Acknowledged,
}

/// What is known of a file.
#[derive(Clone, Copy, Debug, Default)]
pub struct File {
    /// How far it is.
    pub state: State,
    /// How often it was renamed.
    pub renames: u16,
    /// Whether a further rename was asked for and not answered: either name is right.
    pub either_name: bool,
    /// How many are reading it.
    readers: u8,
    /// Whether somebody renames it.
    is_renamed: bool,
    /// How long it took from OPEN to the answer to CLOSE, in microseconds.
    pub took_us: u32,
    /// When CLOSE was answered, from the beginning of the run, in microseconds.
    pub closed_us: u64,
}

/// The files of a run.
pub struct Files {
    run: RunId,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    files: Vec<File>,
    /// Those that were asked for: the first so many.
    begun: usize,
    /// In the order in which they were acknowledged.
    acknowledged: Vec<u32>,
}

/// A file and the name it has now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The file.
    pub number: u64,
    /// How often it was renamed.
    pub renames: u16,
}

/// What came of a rename.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renamed {
    /// It has the new name.
    Done,
    /// It was refused.
    Refused,
    /// Nobody has answered.
    Unknown,
}

impl Files {
    /// Those of a run, untouched.
    pub fn new(run: RunId, count: u64) -> Files {
        let inner = Inner { files: vec![File::default(); count as usize], ..Inner::default() };
        Files { run, inner: Mutex::new(inner) }
    }

    /// A few lines run under this lock and none of them panics.
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there are to be.
    pub fn count(&self) -> u64 {
        self.inner().files.len() as u64
    }

    /// How many folders they lie in.
    pub fn folders(&self) -> u64 {
        self.count().div_ceil(FOLDER_FILES)
    }

    /// The path of a folder.
    pub fn folder(&self, folder: u64) -> String {
        format!("{}/{folder:04}", self.run.folder())
    }

    /// The path of a file that was renamed so often.
    pub fn path(&self, number: u64, renames: u16) -> String {
        let name = name(number, renames);
        format!("{}/{name}", self.folder(number / FOLDER_FILES))
    }

    /// The next file to be uploaded; none once all were asked for.
    pub fn begin(&self) -> Option<u64> {
        let mut inner = self.inner();
        let number = inner.begun;
        inner.files.get_mut(number)?.state = State::Unsure;
        inner.begun += 1;
        Some(number as u64)
    }

    /// How many were asked for.
    pub fn begun(&self) -> u64 {
        self.inner().begun as u64
    }

    /// The target has promised that a file is there.
    pub fn acknowledge(&self, number: u64, closed: Duration, took: Duration) {
        let mut inner = self.inner();
        if let Some(file) = inner.files.get_mut(number as usize) {
            file.state = State::Acknowledged;
            file.closed_us = closed.as_micros() as u64;
            file.took_us = took.as_micros().try_into().unwrap_or(u32::MAX);
            inner.acknowledged.push(number as u32);
        }
    }

    /// How many the target has promised.
    pub fn acknowledged(&self) -> u64 {
        self.inner().acknowledged.len() as u64
    }

    /// Those that were acknowledged from the `after`-th on, in that order, with when.
    pub fn acknowledged_after(&self, after: usize) -> Vec<(u64, u64)> {
        let inner = self.inner();
        let new = inner.acknowledged.get(after..).unwrap_or_default().iter();
        new.filter_map(|number| Some((u64::from(*number), inner.files.get(*number as usize)?.closed_us))).collect()
    }

    /// A file to read, chosen by `chance`. It keeps its name until it is given back.
    pub fn claim_to_read(&self, chance: u64) -> Option<Claim> {
        self.claim(chance, |file| !file.is_renamed && file.readers < u8::MAX, |file| file.readers += 1)
    }

    /// The file is not read any more.
    pub fn give_back(&self, claim: Claim) {
        if let Some(file) = self.inner().files.get_mut(claim.number as usize) {
            file.readers = file.readers.saturating_sub(1);
        }
    }

    /// A file to rename, chosen by `chance`. Nobody else is given it meanwhile.
    pub fn claim_to_rename(&self, chance: u64) -> Option<Claim> {
        let is_free = |file: &File| !file.is_renamed && file.readers == 0 && file.renames < u16::MAX;
        self.claim(chance, is_free, |file| file.is_renamed = true)
    }

    /// The file has its new name, or not.
    pub fn renamed(&self, claim: Claim, outcome: Renamed) {
        if let Some(file) = self.inner().files.get_mut(claim.number as usize) {
            // Where nobody knows its name it is left alone from now on.
            file.is_renamed = outcome == Renamed::Unknown;
            file.either_name = outcome == Renamed::Unknown;
            file.renames += u16::from(outcome == Renamed::Done);
        }
    }

    fn claim(&self, chance: u64, is_free: impl Fn(&File) -> bool, take: impl Fn(&mut File)) -> Option<Claim> {
        let mut guard = self.inner();
        let inner = &mut *guard;
        let count = inner.acknowledged.len();
        let first = ((u128::from(chance) * count as u128) >> 64) as usize;
        let candidates = inner.acknowledged.iter().cycle().skip(first).take(count.min(TRIES_MAX));
        for number in candidates {
            let Some(file) = inner.files.get_mut(*number as usize) else { continue };
            if is_free(file) {
                take(file);
                return Some(Claim { number: u64::from(*number), renames: file.renames });
            }
        }
        None
    }

    /// What is known of the files of a folder, with their numbers.
    pub fn of_folder(&self, folder: u64) -> Vec<(u64, File)> {
        let first = (folder * FOLDER_FILES) as usize;
        let inner = self.inner();
        let files = inner.files.iter().enumerate().skip(first).take(FOLDER_FILES as usize);
        files.map(|(number, file)| (number as u64, *file)).collect()
    }
}

/// The name of a file that was renamed so often.
pub fn name(number: u64, renames: u16) -> String {
    match renames {
        0 => format!("{number:08}"),
        renames => format!("{number:08}-r{renames}"),
    }
}

/// Which file has a name: its number, and how often it was renamed.
pub fn parse_name(name: &[u8]) -> Option<(u64, u16)> {
    let text = std::str::from_utf8(name).ok()?;
    let (number, renames) = text.split_once("-r").unwrap_or((text, "0"));
    let found = (number.parse().ok()?, renames.parse().ok()?);
    (self::name(found.0, found.1) == text).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(count: u64) -> Files {
        Files::new("20261122-021530-9f3c1a".parse().unwrap(), count)
    }

    #[test]
    fn names_read_back_and_others_are_none() {
        for (number, renames) in [(0, 0), (7, 1), (123_456_789_012, 65_535)] {
            assert_eq!(parse_name(name(number, renames).as_bytes()), Some((number, renames)));
        }
        let wrong: [&[u8]; 7] = [b"", b"7", b"00000007-r0", b"00000007-", b"00000007x", b"00000007-r01", b"\xff"];
        wrong.iter().for_each(|name| assert_eq!(parse_name(name), None));
    }

    #[test]
    fn only_what_was_acknowledged_is_read_or_renamed_and_never_both() {
        let files = files(600);
        assert_eq!((files.begin(), files.begin()), (Some(0), Some(1)));
        assert_eq!(files.claim_to_read(u64::MAX), None);
        files.acknowledge(1, Duration::from_secs(1), Duration::from_millis(3));
        let read = files.claim_to_read(u64::MAX).unwrap();
        assert_eq!((read.number, files.claim_to_rename(5)), (1, None));
        assert_eq!(files.claim_to_read(0), Some(read));
        files.give_back(read);
        files.give_back(read);
        let renamed = files.claim_to_rename(0).unwrap();
        assert_eq!(files.claim_to_read(0), None);
        files.renamed(renamed, Renamed::Done);
        assert_eq!(files.claim_to_read(0), Some(Claim { number: 1, renames: 1 }));
        assert_eq!(files.path(599, 2), "/stress-20261122-021530-9f3c1a/0002/00000599-r2");
        assert_eq!((files.folders(), files.of_folder(2).len()), (3, 100));
    }

    #[test]
    fn a_file_whose_name_nobody_knows_is_left_alone() {
        let files = files(1);
        files.begin();
        files.acknowledge(0, Duration::ZERO, Duration::ZERO);
        let claim = files.claim_to_rename(0).unwrap();
        files.renamed(claim, Renamed::Unknown);
        assert!(
            files.of_folder(0)[0].1.either_name
                && files.claim_to_rename(0).is_none()
                && files.claim_to_read(0).is_none()
        );
        assert_eq!(files.begin(), None);
    }
}
