//! Which changes may be brought to the standby now, and up to which one it has them all. Pure.
//!
//! Always holds: of two changes of which one concerns a path of the other, or a folder above it, the earlier is over
//! before the later begins; only what comes to a folder itself does not wait for what is in it. All others go at once. The position that is acknowledged is behind no change that is still
//! under way.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use pair::record::{Operation, Record};

use crate::tree::{Path, below, upwards};

/// The paths that a change concerns.
pub fn paths_of(record: &Record) -> Vec<Path> {
    let target = match record.op {
        // A link's text is no path of ours.
        Operation::Symlink => None,
        _ => record.target.as_ref(),
    };
    std::iter::once(&record.path).chain(target).map(|path| path.0.clone()).filter(|path| !path.is_empty()).collect()
}

/// A change that is not over.
struct Waiting {
    record: Record,
    /// When it happened, on this machine's monotonic clock.
    happened: Instant,
    /// How many earlier changes must be over first.
    blockers: usize,
    /// Later ones that wait for it.
    blocked: Vec<u64>,
}

/// Changes in the order of the feed.
pub struct Queue {
    waiting: BTreeMap<u64, Waiting>,
    /// The changes under way by the paths that they concern.
    paths: BTreeMap<Path, BTreeSet<u64>>,
    ready: BTreeSet<u64>,
    /// The last change that was taken in, or that the feed has passed.
    last: u64,
    /// Files under way, and their bytes.
    files: u64,
    bytes: u64,
}

/// What the standby has not got yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Behind {
    /// Since when the oldest of it is there.
    pub oldest: Option<Instant>,
    /// Where that is.
    pub oldest_path: Option<Path>,
    /// How many changes.
    pub changes: u64,
    /// How many of them bring content.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Queue {
    /// An empty queue behind a position.
    pub fn new(last: u64) -> Queue {
        Queue { waiting: BTreeMap::new(), paths: BTreeMap::new(), ready: BTreeSet::new(), last, files: 0, bytes: 0 }
    }

    /// How many changes are under way.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Takes a change in that happened so long ago; tells those that are over by that: one that brings a file as it is now
    /// makes void what was to be done to this very file before and is not under way. A file that is written all the time
    /// then never fills the queue.
    pub fn admit(&mut self, record: Record, age: Duration) -> Vec<u64> {
        let (seq, paths) = (record.seq, paths_of(&record));
        self.last = self.last.max(seq);
        // A huge file that is on its way into a folder must not hold up a new mode of the folder, and all that comes after.
        let waits_for_what_is_inside = !matches!(record.op, Operation::Mkdir | Operation::Setattr);
        let concerning = |path| self.concerning(path, waits_for_what_is_inside);
        let mut earlier: BTreeSet<u64> = paths.iter().flat_map(concerning).collect();
        let (mut void, now) = (Vec::new(), Instant::now());
        let mut happened = now.checked_sub(age).unwrap_or(now);
        while let Some(last) = earlier.last().copied().filter(|last| self.is_void(*last, &record)) {
            happened = self.waiting.get(&last).map_or(happened, |waiting| happened.min(waiting.happened));
            earlier.remove(&last);
            self.ready.remove(&last);
            self.finish(last);
            void.push(last);
        }
        for earlier in &earlier {
            if let Some(waiting) = self.waiting.get_mut(earlier) {
                waiting.blocked.push(seq);
            }
        }
        for path in paths {
            self.paths.entry(path).or_default().insert(seq);
        }
        if earlier.is_empty() {
            self.ready.insert(seq);
        }
        let (files, bytes) = content_of(&record);
        (self.files, self.bytes) = (self.files + files, self.bytes.saturating_add(bytes));
        self.waiting.insert(seq, Waiting { record, happened, blockers: earlier.len(), blocked: Vec::new() });
        void
    }

    /// Whether a change that waits need not be made because of a later one.
    fn is_void(&self, earlier: u64, later: &Record) -> bool {
        let brings = matches!(later.op, Operation::Put | Operation::Clean);
        let Some(waiting) = self.waiting.get(&earlier) else { return false };
        let is_under_way = waiting.blockers == 0 && !self.ready.contains(&earlier);
        let Record { op, path, .. } = &waiting.record;
        let is_of_content = matches!(op, Operation::Put | Operation::Dirty | Operation::Clean | Operation::Setattr);
        brings && is_of_content && !is_under_way && *path == later.path
    }

    /// The changes under way that concern a path, a folder above it, or something in it if that matters.
    fn concerning<'a>(&'a self, path: &'a Path, inside_too: bool) -> impl Iterator<Item = u64> + 'a {
        let above = upwards(path).filter_map(|path| self.paths.get(path));
        let inside = inside_too.then(|| below(&self.paths, path)).into_iter().flatten();
        above.chain(inside.map(|(_, changes)| changes)).flatten().copied()
    }

    /// The earliest change that may be made now.
    pub fn take(&mut self) -> Option<Record> {
        let seq = self.ready.pop_first()?;
        Some(self.waiting.get(&seq)?.record.clone())
    }

    /// A change is over.
    pub fn finish(&mut self, seq: u64) {
        let Some(done) = self.waiting.remove(&seq) else { return };
        let (files, bytes) = content_of(&done.record);
        (self.files, self.bytes) = (self.files - files, self.bytes.saturating_sub(bytes));
        for path in paths_of(&done.record) {
            if let Some(changes) = self.paths.get_mut(&path) {
                changes.remove(&seq);
                if changes.is_empty() {
                    self.paths.remove(&path);
                }
            }
        }
        for later in done.blocked {
            let Some(waiting) = self.waiting.get_mut(&later) else { continue };
            waiting.blockers -= 1;
            if waiting.blockers == 0 {
                self.ready.insert(later);
            }
        }
    }

    /// The feed has passed a number without a change of it.
    pub fn pass(&mut self, seq: u64) {
        self.last = self.last.max(seq);
    }

    /// The last number that was taken in, or that the feed has passed.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// The last number up to which everything is over.
    pub fn done(&self) -> u64 {
        self.waiting.first_key_value().map_or(self.last, |(seq, _)| seq - 1)
    }

    /// What the standby has not got yet.
    pub fn behind(&self) -> Behind {
        let first = self.waiting.first_key_value().map(|(_, waiting)| waiting);
        let (oldest, oldest_path) = (first.map(|first| first.happened), first.map(|first| first.record.path.0.clone()));
        Behind { oldest, oldest_path, changes: self.waiting.len() as u64, files: self.files, bytes: self.bytes }
    }
}

/// How many files a change brings, and bytes.
fn content_of(record: &Record) -> (u64, u64) {
    match record.op {
        Operation::Put | Operation::Clean => (1, record.size.unwrap_or(0)),
        _ => (0, 0),
    }
}

#[cfg(test)]
mod tests {
    use pair::record::VolumePath;

    use super::*;

    fn record(seq: u64, op: Operation, path: &str, target: Option<&str>) -> Record {
        Record {
            seq,
            time_ms: 0,
            account: "alice".into(),
            op,
            path: VolumePath(path.into()),
            target: target.map(|target| VolumePath(target.into())),
            inode: None,
            size: Some(10),
            mtime_ns: None,
            ctime_ns: None,
            mode: None,
            hash: None,
        }
    }

    fn queue(records: &[(Operation, &str, Option<&str>)]) -> Queue {
        let mut queue = Queue::new(0);
        for (index, (op, path, target)) in records.iter().enumerate() {
            queue.admit(record(index as u64 + 1, *op, path, *target), Duration::ZERO);
        }
        queue
    }

    fn taken(queue: &mut Queue) -> Vec<u64> {
        std::iter::from_fn(|| queue.take()).map(|record| record.seq).collect()
    }

    #[test]
    fn what_concerns_other_paths_goes_at_once_and_the_same_path_in_order() {
        use Operation::{Put, Remove};
        let mut queue = queue(&[(Put, "a/x", None), (Put, "a/y", None), (Remove, "a/x", None), (Put, "a.b", None)]);
        assert_eq!(taken(&mut queue), [1, 2, 4]);
        queue.finish(2);
        assert_eq!((queue.done(), taken(&mut queue)), (0, vec![]));
        queue.finish(1);
        assert_eq!((queue.done(), taken(&mut queue)), (2, vec![3]));
        queue.finish(3);
        queue.finish(4);
        assert_eq!((queue.done(), queue.len(), queue.behind()), (4, 0, Behind::default()));
    }

    #[test]
    fn a_file_that_is_written_all_the_time_waits_once() {
        use Operation::{Clean, Dirty, Put, Rename};
        let mut queue = queue(&[(Put, "a", None), (Dirty, "a", None)]);
        assert_eq!(taken(&mut queue), [1]);
        assert_eq!(queue.admit(record(3, Clean, "a", None), Duration::ZERO), [2]);
        assert!(queue.admit(record(4, Dirty, "a", None), Duration::ZERO).is_empty());
        assert_eq!(queue.admit(record(5, Clean, "a", None), Duration::ZERO), [4, 3]);
        assert!(queue.admit(record(6, Rename, "a", Some("b")), Duration::ZERO).is_empty());
        assert!(queue.admit(record(7, Put, "a", None), Duration::ZERO).is_empty(), "the rename stands in between");
        assert_eq!((queue.len(), queue.done()), (4, 0));
        for expected in [5, 6, 7] {
            queue.finish(expected - 1 - u64::from(expected == 5) * 3);
            assert_eq!(taken(&mut queue), [expected]);
        }
        queue.finish(7);
        assert_eq!((queue.done(), queue.len()), (7, 0));
    }

    #[test]
    fn a_folder_is_a_barrier_for_what_is_in_it_in_both_directions() {
        use Operation::{Mkdir, Put, Rename};
        let mut queue = queue(&[
            (Mkdir, "a", None),
            (Put, "a/b/x", None),
            (Rename, "a", Some("c")),
            (Put, "c/b/y", None),
            (Put, "d", None),
        ]);
        for expected in [vec![1, 5], vec![2], vec![3], vec![4]] {
            let now = taken(&mut queue);
            assert_eq!(now, expected);
            now.into_iter().for_each(|seq| queue.finish(seq));
        }
    }

    #[test]
    fn a_folder_gets_its_mode_while_a_file_is_on_its_way_into_it_and_what_comes_later_waits_for_the_mode_alone() {
        use Operation::{Put, Rename, Setattr};
        let mut queue = queue(&[(Put, "a/huge", None), (Setattr, "a", None), (Put, "a/x", None)]);
        assert_eq!(taken(&mut queue), [1, 2]);
        queue.finish(2);
        assert_eq!(taken(&mut queue), [3]);
        queue.admit(record(4, Rename, "a", Some("b")), Duration::ZERO);
        queue.finish(3);
        assert!(queue.take().is_none(), "the file inside moves along");
        queue.finish(1);
        assert_eq!(taken(&mut queue), [4]);
    }

    #[test]
    fn the_text_of_a_link_is_no_path() {
        use Operation::{Put, Symlink};
        let mut queue = queue(&[(Put, "a", None), (Symlink, "b", Some("a"))]);
        assert_eq!(taken(&mut queue), [1, 2]);
    }

    #[test]
    fn what_is_behind_is_counted_and_the_feed_passes_what_is_nobodys() {
        let mut queue = Queue::new(7);
        assert_eq!(queue.done(), 7);
        queue.pass(9);
        queue.admit(record(12, Operation::Put, "a", None), Duration::from_secs(5));
        queue.admit(record(13, Operation::Setattr, "b", None), Duration::ZERO);
        let behind = queue.behind();
        assert_eq!((queue.done(), behind.changes, behind.files, behind.bytes), (11, 2, 1, 10));
        assert!(behind.oldest.unwrap().elapsed() >= Duration::from_secs(5));
        assert_eq!(behind.oldest_path, Some(b"a".to_vec()));
    }

    /// Random changes on few names, in random orders of becoming ready: every pair that concerns the same thing keeps its
    /// order, everything ends, and the position never passes what is not over.
    #[test]
    fn any_changes_come_to_their_end_in_an_order_that_keeps_what_matters() {
        const NAMES: [&str; 7] = ["a", "a/b", "a/b/c", "a/d", "e", "e/f", "a.b"];
        let mut seed = 1u64;
        let mut roll = |sides: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((seed >> 33) as usize) % sides
        };
        for _ in 0..3000 {
            let count = 2 + roll(12);
            let changes: Vec<_> = (0..count)
                .map(|_| {
                    let target = (roll(3) == 0).then(|| NAMES[roll(NAMES.len())]);
                    let op = if target.is_some() { Operation::Rename } else { Operation::Put };
                    (op, NAMES[roll(NAMES.len())], target)
                })
                .collect();
            let mut queue = queue(&changes);
            let mut running: Vec<u64> = Vec::new();
            let is_void = |seq: u64| !queue.waiting.contains_key(&seq);
            let mut order: Vec<u64> = (1..=count as u64).filter(|seq| is_void(*seq)).collect();
            let voided = order.len();
            while queue.len() > 0 {
                running.extend(taken(&mut queue));
                assert!(!running.is_empty(), "stuck: {changes:?}");
                let seq = running.swap_remove(roll(running.len()));
                queue.finish(seq);
                order.push(seq);
                assert!((1..=queue.done()).all(|seq| order.contains(&seq)), "{changes:?}");
            }
            let paths = |seq: u64| {
                let (op, path, target) = changes[seq as usize - 1];
                paths_of(&record(seq, op, path, target))
            };
            let is_related = |one: &Path, other: &Path| {
                one == other || crate::tree::is_below(one, other) || crate::tree::is_below(other, one)
            };
            let order = &order[voided..];
            for (at, later) in order.iter().enumerate() {
                for earlier in order[at + 1..].iter().filter(|seq| *seq < later) {
                    let meets = paths(*earlier).iter().any(|one| paths(*later).iter().any(|two| is_related(one, two)));
                    assert!(!meets, "{later} was over before {earlier}: {changes:?}");
                }
            }
        }
    }
}
