//! Several connections of one account at once on the same unfinished uploads: whatever they do, nothing hangs, nothing
//! is left over, and all that is counted and remembered is what is there.

use std::collections::BTreeSet;
use std::time::Duration;

use super::tests::{Fixture, opening};
use super::*;
use crate::storage::{Closing, NotWritten, Writer};

/// What each connection does, and how often all of it is done anew. `RACES` asks for more.
const STEPS: usize = 150;
const RACES: u64 = 12;

const NAMES: [&str; 3] = ["report", "other", "in/report"];

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % sides
    }
}

/// One connection: what it has open, and what it has written there.
struct Connection<'a> {
    volume: &'a Volume,
    quota: Quota,
    number: u64,
    dice: Dice,
    open: Vec<(Writer, u8)>,
}

impl Connection<'_> {
    fn place(&mut self) -> Place {
        let name = NAMES[self.dice.roll(NAMES.len())];
        self.volume.root("alice").unwrap().place(name.as_bytes()).unwrap()
    }

    fn step(&mut self) {
        let place = self.place();
        match self.dice.roll(12) {
            0..=2 => self.open(place),
            3..=5 => self.write(),
            6..=7 => self.close(),
            8 => drop(self.volume.discard_unfinished("alice", self.number, &place)),
            9 => {
                let to = self.place();
                let _ = self.volume.rename_unfinished("alice", self.number, &place, &to);
            }
            10 => {
                let size = (self.dice.roll(3) == 0).then_some(0);
                let new = NewAttributes { size, times: Some((7, 8)), ..NewAttributes::default() };
                let _ = self.volume.set_unfinished("alice", self.number, &place, &new);
            }
            _ if !self.open.is_empty() => {
                let at = self.dice.roll(self.open.len());
                let (writer, _) = self.open.swap_remove(at);
                if self.dice.roll(2) == 0 { writer.forget() } else { drop(writer) }
            }
            _ => {}
        }
    }

    fn open(&mut self, place: Place) {
        let truncate = self.dice.roll(3) > 0;
        let opening = Opening {
            truncate,
            connection: self.number,
            place,
            quota: Some(self.quota.clone()),
            ..opening(self.volume, "alice", self.number, "report")
        };
        let writer = match self.volume.resume_upload(&opening) {
            Ok(Some(writer)) => writer,
            Ok(None) => self.volume.begin_upload(&opening, None).unwrap(),
            Err(_) => return,
        };
        let mark = self.dice.roll(256) as u8;
        self.open.push((writer, mark));
    }

    fn write(&mut self) {
        let Some((writer, mark)) = self.open.last() else { return };
        match writer.write(None, &[*mark; 10]) {
            Ok(()) | Err(NotWritten::Failed(_) | NotWritten::Published | NotWritten::Publishing) => {}
        }
    }

    fn close(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let at = self.dice.roll(self.open.len());
        let (writer, _) = self.open.swap_remove(at);
        if let Ok(Closing::Publish(publication)) = writer.close() {
            let published = self.volume.commit(Change::Publish(publication), Some("alice".into()));
            if self.dice.roll(2) == 0 {
                // Nobody does anything to it that would make this fail.
                futures::executor::block_on(published).unwrap();
            }
        }
    }
}

/// The stages on the disk, and those in the journal.
fn kept(fixture: &Fixture) -> (BTreeSet<String>, BTreeSet<String>) {
    let stages = std::fs::read_dir(fixture.data().join(".pair/stage")).unwrap();
    let stages = stages.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let db = rusqlite::Connection::open(fixture.state().join("sftpd.db")).unwrap();
    let mut statement = db.prepare("SELECT number FROM unfinished").unwrap();
    let rows = statement.query_map([], |row| Ok(format!("upload-{}", row.get::<_, u64>(0)?))).unwrap();
    (stages, rows.map(|row| row.unwrap()).collect())
}

/// The same, once bytes that were begun anew are removed: nobody waits for that.
fn kept_in_the_end(fixture: &Fixture) -> (BTreeSet<String>, BTreeSet<String>) {
    let since = std::time::Instant::now();
    loop {
        let (stages, rows) = kept(fixture);
        if stages == rows || since.elapsed() > Duration::from_secs(30) {
            return (stages, rows);
        }
        std::thread::yield_now();
    }
}

fn race(seed: u64) {
    let mut fixture = Fixture::new();
    let volume = fixture.open();
    volume.root("alice").unwrap();
    std::fs::create_dir(fixture.data().join("alice/in")).unwrap();
    let quota = volume.quota("alice", 1 << 40).unwrap();
    std::thread::scope(|scope| {
        for number in 1..=4 {
            let dice = Dice((seed * 8 + number).wrapping_mul(0x9E37_79B9_7F4A_7C15));
            let mut connection = Connection { volume: &volume, quota: quota.clone(), number, dice, open: Vec::new() };
            scope.spawn(move || (0..STEPS).for_each(|_| connection.step()));
        }
    });
    futures::executor::block_on(volume.settle()).unwrap();
    futures::executor::block_on(volume.settle()).unwrap();
    let root = volume.root("alice").unwrap();
    let found = |name: &&str| volume.unfinished_at("alice", 9, &root.place(name.as_bytes()).unwrap());
    let unfinished: Vec<_> = NAMES.iter().filter_map(found).collect();
    let (stages, rows) = kept_in_the_end(&fixture);
    assert_eq!(stages, rows, "seed {seed}: what is on the disk and what is remembered");
    assert_eq!(stages.len(), unfinished.len(), "seed {seed}: what is found");
    let size = |name: &&str| root.stat(name.as_bytes()).map_or(0, |found| found.size);
    let (published, left) = (NAMES.iter().map(size).sum(), unfinished.iter().map(|found| found.size).sum::<u64>());
    let (counted, staged) = quota.held_for_tests();
    assert_eq!(counted, published, "seed {seed}: bytes of complete files");
    assert!(staged <= left, "seed {seed}: {staged} bytes charged for {left}");
    assert_eq!(volume.expire_unfinished(Duration::ZERO), unfinished.len(), "seed {seed}: nobody writes any more");
    assert_eq!(quota.held_for_tests(), (published, 0), "seed {seed}: nothing is charged for nothing");
    futures::executor::block_on(volume.settle()).unwrap();
    assert_eq!(kept_in_the_end(&fixture), Default::default(), "seed {seed}");
}

#[test]
fn whatever_several_connections_do_at_once_nothing_hangs_and_nothing_is_left_over() {
    let count = std::env::var("RACES").ok().and_then(|text| text.parse().ok()).unwrap_or(RACES);
    (0..count).for_each(race);
}
