//! Uploads that nobody writes: restored at a start, counted for a quota, gone when they are old.
//!
//! Always holds: no stage is looked at or removed while the entries are held, but to count it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use super::super::journal::UploadRow;
use super::super::usage::{Charge, Names, Quota};
use super::{Entry, Key, Left, Unfinished};

impl Unfinished {
    /// Takes in what an earlier run has left, in the order of numbers: of two under one name the later one replaced the
    /// other, which it could not note any more.
    pub(in super::super) fn restore(&self, rows: Vec<UploadRow>) {
        let mut replaced = Vec::new();
        let mut entries = self.lock();
        for UploadRow { account, folder, name, number, .. } in rows {
            let own = entries.entry(account.into()).or_default();
            replaced
                .extend(own.insert((folder, name), Entry::Left(Left { number, charge: None, bytes_max: u64::MAX })));
        }
        drop(entries);
        replaced.into_iter().for_each(|entry| self.forget(entry, 0));
    }

    /// The names of those that are counted nowhere yet: an earlier run, or a session without a quota, has left them.
    pub(in super::super) fn uncounted(&self) -> Names {
        let mut names = Names::new();
        for ((folder, name), entry) in self.lock().values().flatten() {
            if matches!(entry, Entry::Left(Left { charge: None, .. })) {
                names.entry(*folder).or_default().push(name.clone());
            }
        }
        names
    }

    /// Counts what is under these names; each will replace a file of so many bytes.
    pub(in super::super) fn count_in(&self, quota: &Quota, names: &HashMap<Key, u64>) {
        let mut entries = self.lock();
        for own in entries.values_mut() {
            for (key, replaced) in names {
                if let Some(Entry::Left(Left { number, charge: charge @ None, .. })) = own.get_mut(key)
                    && let Ok(found) = self.keeping.stages.look(*number)
                {
                    *charge = Some(Charge::of(quota.clone(), *replaced, found.size));
                }
            }
        }
    }

    /// Removes what nobody has written for so long. Gives their number.
    pub(in super::super) fn expire(&self, age: Duration) -> usize {
        let now_s = jiff::Timestamp::now().as_second();
        let is_old = |number: u64| {
            let changed_s = self.keeping.stages.changed_s(number);
            changed_s.is_ok_and(|changed_s| now_s.saturating_sub(changed_s) >= age.as_secs() as i64)
        };
        let left = |entry: &Entry| match entry {
            Entry::Left(Left { number, .. }) => Some(*number),
            Entry::Live(_) => None,
        };
        let waiting: Vec<u64> = self.lock().values().flat_map(BTreeMap::values).filter_map(left).collect();
        let old: HashSet<u64> = waiting.into_iter().filter(|number| is_old(*number)).collect();
        let mut entries = self.lock();
        let mut expired = Vec::new();
        for own in entries.values_mut() {
            let is_expired =
                |_: &Key, entry: &mut Entry| left(entry).is_some_and(|number| old.contains(&number) && is_old(number));
            expired.extend(own.extract_if(.., is_expired));
        }
        entries.retain(|_, own| !own.is_empty());
        drop(entries);
        let count = expired.len();
        expired.into_iter().for_each(|(_, entry)| self.forget(entry, 0));
        count
    }
}
