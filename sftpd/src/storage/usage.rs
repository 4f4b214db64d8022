//! How much the folders with a quota hold: what is published in them, and what unfinished uploads add to it.
//!
//! Always holds: room is asked for before it is used, so a quota is never passed by what goes through here. What other
//! hands do on the volume is seen when the folder is counted again. Folders without a quota are not counted at all.

mod count;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(super) use count::Names;

use super::unfinished::Unfinished;
use super::{Result, Root, StorageError};

/// How often a folder is counted in which something changes meanwhile.
const COUNTS_MAX: usize = 3;

/// What one folder holds.
#[derive(Debug, Default)]
pub(super) struct Home {
    // Held for a few additions.
    bytes: Mutex<Bytes>,
    // Held while the folder is counted for the first time: whoever needs the number waits. Before `bytes`.
    is_counted: Mutex<bool>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Bytes {
    published: u64,
    staged: u64,
    /// Counts what changes `published`.
    changes: u64,
}

impl Bytes {
    fn moved(&mut self, gone: u64, come: u64) {
        self.published = self.published.saturating_add(come).saturating_sub(gone);
        self.changes += 1;
    }
}

impl Home {
    fn lock(&self) -> MutexGuard<'_, Bytes> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the folder. A count is believed if nothing changed meanwhile; where something always does, `is_first` says
    /// that there is no other number, and what came meanwhile is added to be safe.
    fn count(
        &self,
        root: impl Fn() -> Result<Root>,
        unfinished: &Unfinished,
        is_first: bool,
    ) -> Result<count::Counted> {
        let names = unfinished.uncounted();
        let mut attempts = 1;
        loop {
            let before = *self.lock();
            let counted = count::count(root()?, &names)?;
            let mut held = self.lock();
            if held.changes == before.changes {
                held.published = counted.bytes;
            } else if attempts < COUNTS_MAX {
                attempts += 1;
                continue;
            } else if is_first {
                held.published = counted.bytes.saturating_add(held.published.saturating_sub(before.published));
            }
            return Ok(counted);
        }
    }
}

/// A folder's quota, as one session knows it.
#[derive(Clone, Debug)]
pub struct Quota {
    home: Arc<Home>,
    bytes_max: u64,
}

impl Quota {
    fn check(&self, held: Bytes, more: u64) -> Result<()> {
        let all = held.published.saturating_add(held.staged);
        if more == 0 || all.saturating_add(more) <= self.bytes_max {
            return Ok(());
        }
        Err(StorageError::QuotaExceeded { used_bytes: all, quota_bytes: self.bytes_max })
    }

    /// Bytes of complete files, and what unfinished uploads add.
    #[cfg(test)]
    pub(super) fn held_for_tests(&self) -> (u64, u64) {
        let held = self.home.lock();
        (held.published, held.staged)
    }

    /// A file that is written in place gets another size. Less is never refused.
    pub fn resize_in_place(&self, size: u64, new_size: u64) -> Result<()> {
        let mut held = self.home.lock();
        self.check(*held, new_size.saturating_sub(size))?;
        held.moved(size, new_size);
        Ok(())
    }

    /// Room in which a file can grow; it is given back when the answer is dropped, because then the file counts.
    pub fn room_to_grow(&self, size: u64, new_size: u64) -> Result<Charge> {
        let mut charge = Charge::of(self.clone(), size, size);
        charge.set_size(new_size)?;
        Ok(charge)
    }
}

/// What one unfinished upload adds to a folder. Dropping it gives the room back.
#[derive(Debug)]
pub struct Charge {
    quota: Quota,
    /// The size of the file that it is to replace: so much comes back when it is published.
    credit: u64,
    size: u64,
    charged: u64,
}

impl Charge {
    /// Counts an upload that is there, whether it fits or not.
    pub(super) fn of(quota: Quota, credit: u64, size: u64) -> Charge {
        let charged = size.saturating_sub(credit);
        let mut held = quota.home.lock();
        held.staged = held.staged.saturating_add(charged);
        drop(held);
        Charge { quota, credit, size, charged }
    }

    /// The upload will have this size; refused where there is no room for it.
    pub(super) fn set_size(&mut self, size: u64) -> Result<()> {
        let wanted = size.saturating_sub(self.credit);
        let mut held = self.quota.home.lock();
        self.quota.check(*held, wanted.saturating_sub(self.charged))?;
        held.staged = held.staged.saturating_add(wanted).saturating_sub(self.charged);
        drop(held);
        (self.size, self.charged) = (size, wanted);
        Ok(())
    }

    /// It takes its name from a file of this size. All that it adds must fit now: what it holds may have been counted
    /// without being asked for, when it was opened again or was there before the quota.
    pub(super) fn set_credit(&mut self, credit: u64) -> Result<()> {
        let wanted = self.size.saturating_sub(credit);
        let mut held = self.quota.home.lock();
        let others = Bytes { staged: held.staged.saturating_sub(self.charged), ..*held };
        self.quota.check(others, wanted)?;
        held.staged = others.staged.saturating_add(wanted);
        drop(held);
        (self.credit, self.charged) = (credit, wanted);
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
    pub(super) fn quota(
        &self,
        name: &str,
        bytes_max: u64,
        root: impl Fn(&str) -> Result<Root>,
        unfinished: &Unfinished,
    ) -> Result<Quota> {
        let home = self.lock().entry(name.to_owned()).or_default().clone();
        let quota = Quota { home: home.clone(), bytes_max };
        let mut is_counted = home.is_counted.lock().unwrap_or_else(PoisonError::into_inner);
        if !*is_counted {
            let counted = home.count(|| root(name), unfinished, true)?;
            unfinished.count_in(&quota, &counted.found);
            *is_counted = true;
        }
        drop(is_counted);
        Ok(quota)
    }

    /// Counts every folder anew, because other hands may have been there.
    pub(super) fn recount(&self, root: impl Fn(&str) -> Result<Root>, unfinished: &Unfinished) {
        let homes: Vec<_> = self.lock().iter().map(|(name, home)| (name.clone(), home.clone())).collect();
        for (name, home) in homes {
            // One that is just being counted for the first time needs no second count.
            if !home.is_counted.try_lock().is_ok_and(|is_counted| *is_counted) {
                continue;
            }
            // A folder that cannot be read keeps its last count.
            if let Ok(counted) = home.count(|| root(&name), unfinished, false) {
                // An upload that is there is counted whatever the quota is.
                unfinished.count_in(&Quota { home, bytes_max: u64::MAX }, &counted.found);
            }
        }
    }

    /// A change has moved what a path's folder holds. An upload that has its name counts with it from now on: in the
    /// same moment, so that it counts once at any time.
    pub(super) fn moved(&self, path: &[u8], gone: u64, come: u64, charge: Option<Charge>) {
        let Some(home) = self.home_of(path) else { return };
        let mut held = home.lock();
        held.moved(gone, come);
        if let Some(mut charge) = charge {
            let is_here = Arc::ptr_eq(&charge.quota.home, &home);
            if is_here {
                held.staged = held.staged.saturating_sub(std::mem::take(&mut charge.charged));
            }
            // Its end asks for the lock.
            drop(held);
        }
    }

    /// The folder in which a path is. None is inside another.
    fn home_of(&self, path: &[u8]) -> Option<Arc<Home>> {
        let homes = self.lock();
        let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        slashes
            .filter_map(|(at, _)| std::str::from_utf8(path.get(..at)?).ok())
            .find_map(|name| homes.get(name))
            .cloned()
    }
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

    fn folder(published: u64, bytes_max: u64) -> (Arc<Home>, Quota) {
        let home = Arc::new(Home { bytes: Mutex::new(Bytes { published, ..Bytes::default() }), ..Home::default() });
        (home.clone(), Quota { home, bytes_max })
    }

    #[test]
    fn an_upload_counts_beyond_what_it_replaces_and_gives_back_what_it_took() {
        let (home, quota) = folder(80, 100);
        let mut charge = Charge::of(quota.clone(), 50, 0);
        charge.set_size(50).unwrap();
        assert_eq!(held(&home), (80, 0), "a file of the same size always fits");
        charge.set_size(70).unwrap();
        assert_eq!(held(&home), (80, 20));
        assert_eq!(charge.set_size(71).unwrap_err().to_string(), "quota exceeded: 100 bytes of 100 bytes used");
        assert!(quota.resize_in_place(0, 1).is_err());
        charge.set_size(60).unwrap();
        quota.resize_in_place(0, 10).unwrap();
        drop(charge);
        assert_eq!(held(&home), (90, 0));
        quota.resize_in_place(60, 0).unwrap();
        assert_eq!(held(&home), (30, 0));
    }

    #[test]
    fn an_upload_whose_old_file_is_gone_must_fit_beside_what_came_meanwhile() {
        let (home, quota) = folder(100, 100);
        let mut charge = Charge::of(quota.clone(), 60, 0);
        charge.set_size(60).unwrap();
        quota.resize_in_place(60, 0).unwrap();
        charge.set_credit(0).unwrap();
        assert_eq!(held(&home), (40, 60));
        charge.set_credit(60).unwrap();
        quota.resize_in_place(0, 60).unwrap();
        assert!(charge.set_credit(0).is_err(), "somebody has taken the room");
        assert_eq!(held(&home), (100, 0));
    }

    #[test]
    fn what_was_counted_without_being_asked_for_must_fit_when_it_takes_its_name() {
        let (home, quota) = folder(60, 100);
        let mut charge = Charge::of(quota, 0, 60);
        assert!(charge.set_credit(0).is_err());
        assert_eq!(held(&home), (60, 60), "it is still there");
        charge.set_credit(30).unwrap();
        assert_eq!(held(&home), (60, 30));
        charge.set_credit(70).unwrap();
        assert_eq!(held(&home), (60, 0));
    }

    #[test]
    fn a_folder_that_is_too_full_refuses_growth_and_nothing_else() {
        let (home, quota) = folder(150, 100);
        let mut charge = Charge::of(quota.clone(), 0, 20);
        assert_eq!(held(&home), (150, 20));
        assert!(charge.set_size(21).is_err());
        charge.set_size(20).unwrap();
        charge.set_size(5).unwrap();
        drop(charge);
        quota.resize_in_place(150, 120).unwrap();
        assert_eq!(held(&home), (120, 0));
    }

    #[test]
    fn a_published_upload_counts_once_at_any_time() {
        let (home, quota) = folder(80, 100);
        let usages = Usages::default();
        usages.lock().insert("homes/alice".into(), home.clone());
        let mut charge = Charge::of(quota, 0, 0);
        charge.set_size(20).unwrap();
        usages.moved(b"homes/alice/in/x", 0, 20, Some(charge));
        assert_eq!(held(&home), (100, 0));
        usages.moved(b"homes/alice2/x", 0, 20, None);
        usages.moved(b"homes/alice", 0, 20, None);
        usages.moved(b"homes/alice/x", 30, 0, None);
        assert_eq!(held(&home), (70, 0));
    }

    #[test]
    fn bytes_are_shown_as_people_read_them() {
        let cases = [(10 << 30, "10 GiB"), (999, "999 bytes"), (3 << 19, "1.5 MiB"), (1 << 10, "1 KiB")];
        for (bytes, expected) in cases {
            assert_eq!(shown(bytes), expected);
        }
    }
}
