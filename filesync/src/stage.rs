//! Names in a standby's stage, where content lies until it is whole.
//!
//! Always holds: no two transfers have one name at the same time; a large file has the same name again when a broken
//! transfer is tried anew, as long as the file is the same.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::courier::LARGE_BYTES;
use crate::plan::STAGE_PREFIX;
use crate::tree::{Entry, Kind, Path, join};

const FOLDER: &[u8] = b".pair/stage";

/// The names of one connection.
pub struct Stages {
    /// When it began, in nanoseconds: tells its names from those of others.
    began_ns: i128,
    given: AtomicU64,
}

impl Stages {
    /// Names that no earlier connection has given.
    pub fn new() -> Stages {
        Stages { began_ns: jiff::Timestamp::now().as_nanosecond(), given: AtomicU64::new(0) }
    }

    /// A path in the stage: for a large file one that the next try finds again, for others a new one.
    pub fn path(&self, path: &[u8], entry: &Entry) -> Path {
        if entry.kind == Kind::File && entry.size > LARGE_BYTES {
            return join(FOLDER, &large(path, entry));
        }
        let number = self.given.fetch_add(1, Ordering::Relaxed);
        join(FOLDER, format!("{STAGE_PREFIX}{:x}-{number}", self.began_ns).as_bytes())
    }

    /// Whether a name is one of an earlier connection that nobody goes on with.
    pub fn is_left_over(&self, name: &[u8]) -> bool {
        let name = std::str::from_utf8(name).ok().and_then(|name| name.strip_prefix(STAGE_PREFIX)?.split_once('-'));
        name.and_then(|(began, _)| i128::from_str_radix(began, 16).ok())
            .is_some_and(|began_ns| began_ns < self.began_ns)
    }
}

/// The name of a large file.
pub fn large(path: &[u8], entry: &Entry) -> Path {
    let mut hasher = blake3::Hasher::new();
    hasher.update(path);
    for number in [entry.ino, entry.size, entry.mtime_ns as u64] {
        hasher.update(&number.to_be_bytes());
    }
    format!("{STAGE_PREFIX}{}", hasher.finalize().to_hex()).into_bytes()
}

/// Whether a name is that of a large file.
pub fn is_large(name: &[u8]) -> bool {
    let hash = name.strip_prefix(STAGE_PREFIX.as_bytes());
    hash.is_some_and(|hash| hash.len() == 2 * blake3::OUT_LEN && hash.iter().all(u8::is_ascii_hexdigit))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(size: u64) -> Entry {
        Entry {
            kind: Kind::File,
            mode: 0o644,
            nlink: 1,
            size,
            mtime_ns: 1,
            ctime_ns: 1,
            btime_ns: 1,
            ino: 7,
            target: Box::default(),
        }
    }

    #[test]
    fn a_large_file_keeps_its_name_and_a_small_one_of_an_earlier_connection_is_left_over() {
        let name = |path: Path| crate::tree::name(&path).to_vec();
        let (before, now) = (Stages::new(), Stages { began_ns: i128::MAX, given: AtomicU64::new(0) });
        let (small, large_entry) = (entry(1), entry(LARGE_BYTES + 1));
        let one = name(before.path(b"a", &small));
        assert!(one != name(before.path(b"a", &small)) && !is_large(&one));
        assert!(now.is_left_over(&one) && !before.is_left_over(&one));
        let large_one = name(before.path(b"a", &large_entry));
        assert!(large_one == name(now.path(b"a", &large_entry)) && is_large(&large_one));
        assert!(large_one != name(now.path(b"b", &large_entry)) && !now.is_left_over(&large_one));
        assert!(!now.is_left_over(b"other") && !now.is_left_over(format!("{STAGE_PREFIX}moved-1").as_bytes()));
    }
}
