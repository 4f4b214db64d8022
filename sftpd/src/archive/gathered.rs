//! What has come into agents' folders and is in no segment yet, as the journal tells it. Pure.

use std::collections::{BTreeMap, BTreeSet};

use pair::chain::home_of;
use pair::record::{Operation, Record};

/// A file that has come, or may have changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Came {
    /// When that began to be so.
    pub since_ms: i64,
    /// When its last byte came, as far as is known.
    pub last_ms: i64,
    /// How long it was when it came, and its digest, where it came as a whole.
    pub whole: Option<(u64, String)>,
    /// Whether nobody has told of it.
    pub is_found: bool,
}

/// What waits for a segment.
#[derive(Debug, Default)]
pub struct Gathered {
    files: BTreeMap<Vec<u8>, Came>,
    /// Files that are being written in place just now.
    growing: BTreeSet<Vec<u8>>,
    /// Folders that must be compared with the chain.
    to_compare: BTreeSet<Vec<u8>>,
}

impl Gathered {
    /// Takes in a change. `homes` are the folders of agents.
    pub fn note(&mut self, record: &Record, homes: &BTreeSet<Vec<u8>>) {
        let is_inside = |path: &[u8]| homes.contains(home_of(path)) && path.contains(&b'/');
        let path = &record.path.0;
        match record.op {
            // What came before may be missing.
            Operation::Mark => self.to_compare.extend(homes.iter().cloned()),
            Operation::Put if is_inside(path) => {
                let whole = record.size.zip(record.hash.clone());
                let known = self.files.entry(path.clone());
                let came = Came { since_ms: record.time_ms, last_ms: record.time_ms, whole, is_found: false };
                // A second one of the same name can only be looked at.
                known.and_modify(|known| (known.last_ms, known.whole) = (record.time_ms, None)).or_insert(came);
            }
            Operation::Dirty if is_inside(path) => {
                self.growing.insert(path.clone());
            }
            Operation::Clean if is_inside(path) => {
                self.growing.remove(path);
                self.touch(path, record.time_ms, false);
            }
            Operation::Setattr if is_inside(path) => self.touch(path, record.time_ms, false),
            // By other accounts, before it was an agent's folder: a whole folder may have come.
            Operation::Rename | Operation::Link => {
                let target = record.target.as_ref().map(|target| home_of(&target.0).to_vec());
                self.to_compare.extend(target.filter(|home| homes.contains(home)));
            }
            _ => {}
        }
    }

    /// A file must be looked at.
    pub fn touch(&mut self, path: &[u8], time_ms: i64, is_found: bool) {
        let came = Came { since_ms: time_ms, last_ms: time_ms, whole: None, is_found };
        self.files.entry(path.to_vec()).and_modify(|known| known.last_ms = known.last_ms.max(time_ms)).or_insert(came);
    }

    /// A folder must be compared with the chain.
    pub fn compare(&mut self, home: &[u8]) {
        self.to_compare.insert(home.to_vec());
    }

    /// The next folder to be compared, if any.
    pub fn next_to_compare(&self) -> Option<Vec<u8>> {
        self.to_compare.first().cloned()
    }

    /// It was.
    pub fn compared(&mut self, home: &[u8]) {
        self.to_compare.remove(home);
    }

    /// Whether folders are still to be compared.
    pub fn must_compare(&self) -> bool {
        !self.to_compare.is_empty()
    }

    /// What is being written in place.
    pub fn growing(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.growing.iter()
    }

    /// Whether a file waits, or is being written: it is not to be removed.
    pub fn concerns(&self, path: &[u8]) -> bool {
        self.files.contains_key(path) || self.growing.contains(path)
    }

    /// Whether a file waits.
    pub fn is_waiting(&self, path: &[u8]) -> bool {
        self.files.contains_key(path)
    }

    /// Those that wait, by their paths.
    pub fn waiting(&self) -> impl Iterator<Item = (&Vec<u8>, &Came)> {
        self.files.iter()
    }

    /// A file is in a segment, or needs none.
    pub fn done(&mut self, path: &[u8]) {
        self.files.remove(path);
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// For each folder of an agent how many wait, and when the last byte of any of them came.
    pub fn by_home(&self) -> BTreeMap<Vec<u8>, (u64, i64)> {
        let mut homes: BTreeMap<Vec<u8>, (u64, i64)> = BTreeMap::new();
        for (path, came) in &self.files {
            let (files, last_ms) = homes.entry(home_of(path).to_vec()).or_insert((0, came.last_ms));
            (*files, *last_ms) = (*files + 1, came.last_ms.max(*last_ms));
        }
        homes
    }

    /// Since when the one waits that has waited longest.
    pub fn since_ms(&self) -> Option<i64> {
        self.files.values().map(|came| came.since_ms).min()
    }

    /// All is forgotten: this machine is not the master, or begins anew.
    pub fn clear(&mut self) {
        *self = Gathered::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pair::record::VolumePath;

    fn record(op: Operation, path: &str, time_ms: i64) -> Record {
        let text = serde_json::json!({ "seq": 1, "time_ms": time_ms, "account": "a", "op": op, "path": VolumePath(path.into()) });
        serde_json::from_value(text).unwrap()
    }

    fn homes() -> BTreeSet<Vec<u8>> {
        [b"agent01".to_vec()].into()
    }

    #[test]
    fn only_what_lies_in_an_agents_folder_is_gathered() {
        let mut gathered = Gathered::default();
        for path in ["alice/x", "agent01", "agent011/x", "admin/archive-chain/x", "agent01/a/b"] {
            gathered.note(&record(Operation::Put, path, 7), &homes());
        }
        assert_eq!(gathered.waiting().map(|(path, _)| path.as_slice()).collect::<Vec<_>>(), [b"agent01/a/b"]);
        assert_eq!((gathered.len(), gathered.since_ms()), (1, Some(7)));
        gathered.note(&record(Operation::Put, "agent01/c", 5), &homes());
        assert_eq!(gathered.by_home(), [(b"agent01".to_vec(), (2, 7))].into());
    }

    #[test]
    fn what_came_whole_keeps_its_digest_until_it_comes_again() {
        let mut gathered = Gathered::default();
        let put = Record { size: Some(3), hash: Some("h".into()), ..record(Operation::Put, "agent01/x", 5) };
        gathered.note(&put, &homes());
        gathered.note(&record(Operation::Dirty, "agent01/x", 6), &homes());
        assert!(gathered.growing().count() == 1 && gathered.concerns(b"agent01/x"));
        gathered.note(&record(Operation::Clean, "agent01/x", 9), &homes());
        let (_, came) = gathered.waiting().next().unwrap();
        assert_eq!((came.since_ms, came.last_ms, &came.whole), (5, 9, &Some((3, "h".to_owned()))));
        assert_eq!(gathered.growing().count(), 0);
        gathered.note(&put, &homes());
        assert_eq!(gathered.waiting().next().unwrap().1.whole, None);
    }

    #[test]
    fn a_mark_and_a_folder_that_was_moved_in_have_the_folder_compared() {
        let mut gathered = Gathered::default();
        let moved = Record { target: Some(VolumePath(b"alice/y".to_vec())), ..record(Operation::Rename, "bob/x", 1) };
        gathered.note(&moved, &homes());
        assert!(!gathered.must_compare());
        for op in [Operation::Rename, Operation::Mark] {
            let target = Some(VolumePath(b"agent01/y".to_vec()));
            gathered.note(&Record { target, ..record(op, "bob/x", 1) }, &homes());
            assert_eq!(gathered.next_to_compare(), Some(b"agent01".to_vec()));
            gathered.compared(b"agent01");
        }
    }
}
