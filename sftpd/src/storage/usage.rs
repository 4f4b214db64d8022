//! How much the folders with a quota hold: what is published in them, and what unfinished uploads add to it.
//!
//! Always holds: room is asked for before it is used, so a quota is never passed by what goes through here. What other
//! hands do on the volume is seen when the folder is counted again. Folders without a quota are not counted at all.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{FileKind, Folder, Result, StorageError};

/// What one folder holds.
#[derive(Debug, Default)]
pub(super) struct Home {
    // Held for a few additions.
    bytes: Mutex<Bytes>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Bytes {
    published: u64,
    staged: u64,
}

impl Home {
    fn lock(&self) -> MutexGuard<'_, Bytes> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A folder's quota, as one session knows it.
#[derive(Clone, Debug)]
pub struct Quota {
    pub(super) home: Arc<Home>,
    pub(super) bytes_max: u64,
}

impl Quota {
    fn check(&self, held: Bytes, more: u64) -> Result<()> {
        let all = held.published.saturating_add(held.staged);
        if all.saturating_add(more) <= self.bytes_max {
            return Ok(());
        }
        Err(StorageError::QuotaExceeded { used_bytes: all, quota_bytes: self.bytes_max })
    }

    /// Refuses what the folder has no room for.
    pub fn allow(&self, more: u64) -> Result<()> {
        self.check(*self.home.lock(), more)
    }

    /// A file that is written in place grows.
    pub fn grow_in_place(&self, more: u64) -> Result<()> {
        let mut held = self.home.lock();
        self.check(*held, more)?;
        held.published = held.published.saturating_add(more);
        Ok(())
    }
}

/// What one unfinished upload adds to a folder. Dropping it gives the room back.
#[derive(Debug)]
pub(super) struct Charge {
    quota: Quota,
    /// The size of the file that it is to replace: so much comes back when it is published.
    credit: u64,
    charged: u64,
}

impl Charge {
    pub(super) fn new(quota: Quota, credit: u64) -> Charge {
        Charge { quota, credit, charged: 0 }
    }

    /// The upload will have this size; refused where there is no room for it.
    pub(super) fn set_size(&mut self, size: u64) -> Result<()> {
        let wanted = size.saturating_sub(self.credit);
        let mut held = self.quota.home.lock();
        if wanted > self.charged {
            self.quota.check(*held, wanted - self.charged)?;
        }
        held.staged = (held.staged + wanted).saturating_sub(self.charged);
        self.charged = wanted;
        Ok(())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let mut held = self.quota.home.lock();
        held.staged = held.staged.saturating_sub(self.charged);
    }
}

/// The folders that are counted, by their path from the volume on.
#[derive(Debug, Default)]
pub(super) struct Usages {
    // Held to look one up.
    homes: Mutex<HashMap<String, Arc<Home>>>,
}

impl Usages {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Home>>> {
        self.homes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether any folder is counted.
    pub(super) fn are_counted(&self) -> bool {
        !self.lock().is_empty()
    }

    /// A folder's quota. Counts the folder when it is asked for first: not for an async thread.
    pub(super) fn quota(&self, home: &str, folder: &OwnedFd, bytes_max: u64) -> Result<Quota> {
        if let Some(home) = self.lock().get(home) {
            return Ok(Quota { home: home.clone(), bytes_max });
        }
        let published = count(folder)?;
        let mut homes = self.lock();
        let counted = homes.entry(home.to_owned()).or_default();
        counted.lock().published = published;
        Ok(Quota { home: counted.clone(), bytes_max })
    }

    /// Counts every folder anew, because other hands may have been there.
    pub(super) fn recount(&self, open: impl Fn(&str) -> Result<OwnedFd>) {
        let homes: Vec<_> = self.lock().iter().map(|(name, home)| (name.clone(), home.clone())).collect();
        for (name, home) in homes {
            // A folder that cannot be read keeps its last count.
            if let Ok(published) = open(&name).and_then(|folder| count(&folder)) {
                home.lock().published = published;
            }
        }
    }

    /// A change has moved what a path's folder holds.
    pub(super) fn moved(&self, path: &[u8], gone: u64, come: u64) {
        let homes = self.lock();
        let is_in = |home: &str| path.strip_prefix(home.as_bytes()).is_some_and(|rest| rest.first() == Some(&b'/'));
        if let Some((_, home)) = homes.iter().find(|(name, _)| is_in(name)) {
            let mut held = home.lock();
            held.published = (held.published + come).saturating_sub(gone);
        }
    }
}

/// The bytes of all files in a folder and below it. Links are not followed; a file with several names counts for each.
fn count(folder: &OwnedFd) -> Result<u64> {
    let mut bytes = 0_u64;
    let mut folders = vec![folder.try_clone().map_err(|_| rustix::io::Errno::MFILE)?];
    while let Some(open) = folders.pop() {
        let mut listing = Folder::new(open.try_clone().map_err(|_| rustix::io::Errno::MFILE)?)?;
        while let Some(entry) = listing.next_entry()? {
            match entry.attributes.kind {
                FileKind::File => bytes = bytes.saturating_add(entry.attributes.size),
                FileKind::Folder if entry.name != b"." && entry.name != b".." => {
                    let flags = super::mounted::FOLDER_FLAGS | rustix::fs::OFlags::NOFOLLOW;
                    let inner = rustix::fs::openat(&open, entry.name.as_slice(), flags, rustix::fs::Mode::empty());
                    // One that is gone meanwhile, or may not be read, holds nothing that we could count.
                    folders.extend(inner.ok());
                }
                _ => {}
            }
        }
    }
    Ok(bytes)
}

/// Bytes as people read them.
pub(super) fn shown(bytes: u64) -> String {
    let units = [("TiB", 1_u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.iter().find(|(_, factor)| bytes >= *factor) {
        None => format!("{bytes} bytes"),
        Some((unit, factor)) if bytes.is_multiple_of(*factor) => format!("{} {unit}", bytes / factor),
        Some((unit, factor)) => format!("{:.1} {unit}", bytes as f64 / *factor as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(home: &Home) -> (u64, u64) {
        let held = home.lock();
        (held.published, held.staged)
    }

    #[test]
    fn an_upload_counts_beyond_what_it_replaces_and_gives_back_what_it_took() {
        let home = Arc::new(Home { bytes: Mutex::new(Bytes { published: 80, staged: 0 }) });
        let quota = Quota { home: home.clone(), bytes_max: 100 };
        let mut charge = Charge::new(quota.clone(), 50);
        charge.set_size(50).unwrap();
        assert_eq!(held(&home), (80, 0), "a file of the same size always fits");
        charge.set_size(70).unwrap();
        assert_eq!(held(&home), (80, 20));
        assert_eq!(charge.set_size(71).unwrap_err().to_string(), "quota exceeded: 100 bytes of 100 bytes used");
        assert!(quota.grow_in_place(1).is_err());
        charge.set_size(60).unwrap();
        quota.grow_in_place(10).unwrap();
        drop(charge);
        assert_eq!(held(&home), (90, 0));
    }

    #[test]
    fn bytes_are_shown_as_people_read_them() {
        let cases = [(10 << 30, "10 GiB"), (999, "999 bytes"), (3 << 19, "1.5 MiB"), (1 << 10, "1 KiB")];
        for (bytes, expected) in cases {
            assert_eq!(shown(bytes), expected);
        }
    }
}
