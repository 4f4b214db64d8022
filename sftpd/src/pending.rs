//! Which changes of a session are on their way, by the paths that they concern.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Changes of one session that are on their way at once. A client that does not take its answers starts no more.
const PENDING_MAX: usize = 512;

/// Changes that are on their way or not answered yet. Whoever answers them does not wait for who serves requests: all copies are the same.
#[derive(Clone, Debug, Default)]
pub struct Pending {
    // Held for a look.
    changes: Arc<Mutex<Changes>>,
}

#[derive(Debug, Default)]
struct Changes {
    paths: HashMap<u64, Vec<Vec<u8>>>,
    last: u64,
}

impl Pending {
    /// Notes that paths, in the form of [`plain`], are changing; the number ends it.
    pub fn begin(&self, paths: Vec<Vec<u8>>) -> u64 {
        let mut changes = self.lock();
        changes.last += 1;
        let number = changes.last;
        changes.paths.insert(number, paths);
        number
    }

    /// The change is done: its paths are free.
    pub fn conclude(&self, number: u64) {
        self.lock().paths.entry(number).or_default().clear();
    }

    /// The change is done and answered.
    pub fn forget(&self, number: u64) {
        self.lock().paths.remove(&number);
    }

    /// Whether a change concerns a path, something in it, or a folder above it.
    pub fn concern(&self, path: &[u8]) -> bool {
        let changes = self.lock();
        if changes.paths.is_empty() {
            return false;
        }
        let path = plain(path);
        changes.paths.values().flatten().any(|changing| is_in(&path, changing) || is_in(changing, &path))
    }

    /// Whether there are so many that the next request must wait.
    pub fn are_full(&self) -> bool {
        self.lock().paths.len() >= PENDING_MAX
    }

    /// Whether there are none.
    pub fn are_none(&self) -> bool {
        self.lock().paths.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A path without dots and doubled slashes, by text alone. Good enough to tell which requests of one session concern
/// the same thing; never used to find or confine anything.
pub fn plain(path: &[u8]) -> Vec<u8> {
    let mut components: Vec<&[u8]> = Vec::new();
    for component in path.split(|&byte| byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => {
                components.pop();
            }
            _ => components.push(component),
        }
    }
    let mut plain = Vec::with_capacity(path.len() + 1);
    for component in components {
        plain.push(b'/');
        plain.extend_from_slice(component);
    }
    plain
}

/// Whether a plain path is another one or lies in it.
pub fn is_in(path: &[u8], folder: &[u8]) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.first() == Some(&b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_compared_in_their_plain_form() {
        let cases = [("a", "/a"), ("/a/./b//c/", "/a/b/c"), ("/a/../b", "/b"), ("/../..", ""), (".", "")];
        for (path, expected) in cases {
            assert_eq!(plain(path.as_bytes()), expected.as_bytes(), "{path}");
        }
        assert!(is_in(b"/a/b", b"/a") && is_in(b"/a", b"/a") && is_in(b"/a", b""));
        assert!(!is_in(b"/ab", b"/a") && !is_in(b"/a", b"/a/b"));
    }
}
