//! The committer against a model: random histories of changes by several sessions, with a crash at any step, also in
//! the recovery from it. What the journal says was done, in its order, must be what is on the disk; what was acknowledged
//! must have been done; what was refused must not.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::mpsc::SyncSender;

use tokio::sync::oneshot;

use super::*;
use crate::storage::volume::Volume;
use crate::storage::volume::tests::{Fixture, opening};
use crate::storage::{Closing, Durability, NewAttributes, Opening, Place, Writer};

/// Histories of one test; four of them make more than five thousand. `HISTORIES` asks for more.
const HISTORIES: u64 = 1300;

/// Numbers that look random and are the same every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % sides
    }

    fn pick<'a, T>(&mut self, things: &'a [T]) -> &'a T {
        &things[self.roll(things.len())]
    }
}

/// What stands under a path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Thing {
    File(Vec<u8>),
    /// A file that was written in place: what it holds is nobody's promise until it is clean.
    InPlace,
    Folder,
    Link(Vec<u8>),
}

/// The model of an account's tree.
type Tree = BTreeMap<String, Thing>;

/// One history: what it has asked for, and what it was told.
struct History {
    dice: Dice,
    volume: Option<Arc<Volume>>,
    disk: Disk,
    hold: Option<SyncSender<()>>,
    open: Vec<(usize, Writer, Vec<u8>)>,
    asked: Vec<(String, oneshot::Receiver<Result<()>>)>,
    told: Vec<(String, Option<bool>)>,
    /// What every stage that was closed holds.
    contents: HashMap<u64, Vec<u8>>,
    count: usize,
    /// Whether changes are made by who asks for them, where nothing else is done.
    works_here: bool,
}

const ACCOUNTS: [&str; 2] = ["alice", "bob"];
const NAMES: [&str; 6] = ["a", "b", "d", "d/a", "d/e", "d/e/b"];

impl History {
    fn begin(fixture: &mut Fixture, seed: u64) -> History {
        let disk = Disk::default();
        let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let works_here = dice.roll(3) == 0;
        fixture.durability = if works_here { Durability::None } else { Durability::Fsync };
        let volume = fixture.open_by(disk.clone());
        for account in ACCOUNTS {
            volume.root(account).unwrap();
        }
        let (open, asked, told) = (Vec::new(), Vec::new(), Vec::new());
        let contents = HashMap::new();
        History { dice, volume: Some(volume), disk, hold: None, open, asked, told, contents, count: 0, works_here }
    }

    fn volume(&self) -> &Volume {
        self.volume.as_ref().unwrap()
    }

    fn place(&mut self, account: &str) -> Option<Place> {
        let name = *self.dice.pick(&NAMES);
        self.volume().root(account).ok()?.place(name.as_bytes()).ok()
    }

    /// Hands a change over, under a name by which its record is found again.
    fn ask(&mut self, change: Change) {
        self.count += 1;
        // What has no name any more is changed without a record, and so is a name that moves onto another of its thing.
        let may_be_untold = matches!(change, Change::SetAttributes(..) | Change::Rename { .. });
        let kind = if may_be_untold { "perhaps-untold" } else { "op" };
        let author = format!("{kind}{}", self.count);
        if self.hold.is_none() && (!self.works_here || self.dice.roll(4) == 0) {
            self.hold = Some(self.volume().committer_for_tests().hold());
        }
        let is_sent = self.dice.roll(3) == 0;
        let committer = self.volume().committer_for_tests();
        let job = |answer| Job::Change(change, Some(author.as_str().into()), answer);
        let answered = if self.works_here { committer.gather(job) } else { committer.submit(job) };
        if self.works_here && is_sent {
            committer.send_gathered(|| true);
        }
        self.asked.push((author, answered));
    }

    /// Lets what was asked for be committed, as one group or as few as may be, and hears how it went.
    fn settle(&mut self) {
        self.volume().committer_for_tests().send_gathered(|| self.works_here);
        if let Some(let_go) = self.hold.take() {
            let _ = let_go.send(());
        }
        for (author, answered) in std::mem::take(&mut self.asked) {
            let told = futures::executor::block_on(answered).ok().map(|result| result.is_ok());
            self.told.push((author, told));
        }
    }

    fn step(&mut self) {
        let account = *self.dice.pick(&ACCOUNTS);
        match self.dice.roll(20) {
            0..=3 => self.open_upload(account),
            4..=6 => self.write(),
            7..=8 => self.close(),
            9 => {
                if !self.open.is_empty() {
                    let at = self.dice.roll(self.open.len());
                    drop(self.open.remove(at));
                }
            }
            10 => self.settle(),
            16..=18 => self.change_unfinished(account),
            19 => self.write_in_place(account),
            kind => {
                if let Some(change) = self.change(account, kind) {
                    self.ask(change);
                }
            }
        }
    }

    fn change(&mut self, account: &str, kind: usize) -> Option<Change> {
        let place = self.place(account)?;
        Some(match kind {
            11 => Change::Remove(place),
            12 => Change::MakeFolder(place, 0o755),
            13 if self.dice.roll(2) == 0 => Change::RemoveFolder(place),
            13 => Change::MakeLink(place, b"somewhere".to_vec()),
            14 => Change::Rename { from: place, to: self.place(account)?, replace: self.dice.roll(2) == 0 },
            _ if self.dice.roll(2) == 0 => Change::HardLink { from: place, to: self.place(account)? },
            _ => {
                let root = self.volume().root(account).ok()?;
                let name = *self.dice.pick(&NAMES);
                let thing = Arc::new(root.handle_for_attributes(name.as_bytes(), false).ok()?);
                Change::SetAttributes(thing, NewAttributes { times: Some((7, 8)), ..NewAttributes::default() })
            }
        })
    }

    fn open_upload(&mut self, account: &str) {
        let name = *self.dice.pick(&NAMES);
        let connection = 1 + self.dice.roll(3);
        let Ok(root) = self.volume().root(account) else { return };
        let Ok(place) = root.place(name.as_bytes()) else { return };
        if place.attributes().is_ok_and(|found| found.kind != crate::storage::FileKind::File) {
            return;
        }
        drop(place);
        let truncate = self.dice.roll(3) > 0;
        let opening = Opening { truncate, ..opening(self.volume(), account, connection as u64, name) };
        if self.disk.has_crashed() {
            return;
        }
        if let Ok(Some(writer)) = self.volume().resume_upload(&opening) {
            self.open.push((connection, writer, Vec::new()));
        } else if let Ok(writer) = self.volume().begin_upload(&opening, None) {
            self.open.push((connection, writer, Vec::new()));
        }
    }

    /// REMOVE, RENAME and SETSTAT of what is not finished, by any connection.
    fn change_unfinished(&mut self, account: &str) {
        let connection = 1 + self.dice.roll(3) as u64;
        let Some(place) = self.place(account) else { return };
        // Refusals and faults are answers like any other here.
        match self.dice.roll(3) {
            0 => drop(self.volume().discard_unfinished(account, connection, &place)),
            1 => {
                let Some(to) = self.place(account) else { return };
                drop(self.volume().rename_unfinished(account, connection, &place, &to));
            }
            _ => {
                let size = (self.dice.roll(2) == 0).then(|| self.dice.roll(30) as u64);
                let new = NewAttributes { size, times: Some((7, 8)), ..NewAttributes::default() };
                drop(self.volume().set_unfinished(account, connection, &place, &new));
            }
        }
    }

    /// As an account with `upload: direct` does, and at random its connection dies before CLOSE.
    fn write_in_place(&mut self, account: &str) {
        self.settle();
        let name = *self.dice.pick(&NAMES);
        let Ok(root) = self.volume().root(account) else { return };
        let Ok((file, found)) = root.open_in_place(name.as_bytes(), None, false) else { return };
        // The model knows a file by each of its names.
        if found.links > 1 {
            return;
        }
        self.count += 1;
        let author = format!("op{}", self.count);
        let begun = self.volume().write_in_place(file, None, None, Some(author.as_str().into()));
        let Ok((file, Some(told))) = begun else { return };
        let told = futures::executor::block_on(told);
        self.told.push((author, Some(told.is_ok()).filter(|_| !self.disk.has_crashed())));
        if told.is_ok() && file.begin(false).is_ok() {
            let data = vec![self.dice.roll(256) as u8; 1 + self.dice.roll(20)];
            let _ = file.write(Some(self.dice.roll(20) as u64), &data);
        }
        if self.dice.roll(2) == 0 {
            let _ = futures::executor::block_on(file.close());
        }
    }

    fn write(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let at = self.dice.roll(self.open.len());
        let data = vec![self.dice.roll(256) as u8; 1 + self.dice.roll(20)];
        let (_, writer, content) = &mut self.open[at];
        // At random not in order: such a file has no hash when it is published.
        let backwards = data.len().is_multiple_of(5);
        let offset = if backwards { 0 } else { content.len() };
        if writer.write(Some(offset as u64), &data).is_ok() {
            let end = content.len().max(offset + data.len());
            content.resize(end, 0);
            content[offset..offset + data.len()].copy_from_slice(&data);
        }
    }

    fn close(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let at = self.dice.roll(self.open.len());
        let (_, writer, _) = self.open.remove(at);
        if let Ok(Closing::Publish(publication)) = writer.close() {
            // Read from the stage itself: handles of one connection share what they write.
            let mut content = vec![0; 4096];
            let count = crate::storage::file_content::read_at(publication.stage.file(), &mut content, 0).unwrap();
            content.truncate(count);
            self.contents.insert(publication.stage.number(), content);
            self.ask(Change::Publish(publication));
        }
    }

    /// The process "dies", here if not before.
    fn die(&mut self) {
        self.volume().committer_for_tests().send_gathered(|| self.works_here);
        if let Some(let_go) = self.hold.take() {
            let _ = let_go.send(());
        }
        for (author, answered) in std::mem::take(&mut self.asked) {
            let told = futures::executor::block_on(answered).ok().map(|result| result.is_ok());
            self.told.push((author, told));
        }
        if !self.disk.has_crashed() {
            self.disk.faults.crash_after(0);
            // The counter must be past the end for everybody to see that it is over.
            let _ = self.disk.step("end");
        }
        self.open.clear();
        self.volume = None;
    }
}

/// What the journal says: author, operation, path, target, stage, outcome.
type Line = (String, String, String, Option<Vec<u8>>, Option<u64>, Option<String>);

fn journal_lines(state: &Path) -> Vec<Line> {
    let db = rusqlite::Connection::open(state.join("sftpd.db")).unwrap();
    let mut statement =
        db.prepare("SELECT account, op, path, target, stage, outcome FROM journal ORDER BY seq").unwrap();
    let rows = statement
        .query_map([], |row| {
            let path = String::from_utf8(row.get(2)?).unwrap();
            Ok((row.get(0)?, row.get(1)?, path, row.get(3)?, row.get(4)?, row.get(5)?))
        })
        .unwrap();
    rows.map(|row| row.unwrap()).collect()
}

/// Does to the model what the journal says was done to the disk.
fn replay(lines: &[Line], contents: &HashMap<u64, Vec<u8>>) -> Tree {
    let mut tree = Tree::new();
    for (author, op, path, target, stage, outcome) in lines {
        if outcome.as_deref() != Some("done") {
            continue;
        }
        let text = |bytes: &Option<Vec<u8>>| String::from_utf8(bytes.clone().unwrap()).unwrap();
        match op.as_str() {
            "put" => {
                tree.insert(path.clone(), Thing::File(contents[&stage.unwrap()].clone()));
            }
            "remove" | "rmdir" => assert!(tree.remove(path).is_some(), "{author}: {path} was not there"),
            "mkdir" => assert!(tree.insert(path.clone(), Thing::Folder).is_none(), "{author}: {path} was there"),
            "symlink" => {
                tree.insert(path.clone(), Thing::Link(target.clone().unwrap()));
            }
            "link" => {
                let thing = tree.get(path).unwrap_or_else(|| panic!("{author}: {path} was not there")).clone();
                tree.insert(text(target), thing);
            }
            "dirty" => {
                tree.insert(path.clone(), Thing::InPlace);
            }
            "rename" => rename(&mut tree, path, &text(target), author),
            _ => {}
        }
    }
    tree
}

fn rename(tree: &mut Tree, from: &str, to: &str, author: &str) {
    let inside = format!("{from}/");
    let moved: Vec<_> = tree.keys().filter(|path| *path == from || path.starts_with(&inside)).cloned().collect();
    assert!(!moved.is_empty(), "{author}: {from} was not there");
    for path in moved {
        let thing = tree.remove(&path).unwrap();
        tree.insert(format!("{to}{}", &path[from.len()..]), thing);
    }
}

fn on_disk(data: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut folders = vec![data.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            if entry.file_name() == pair::volume::PRIVATE_FOLDER {
                continue;
            }
            let path = entry.path();
            let kind = entry.file_type().unwrap();
            let thing = if kind.is_dir() {
                folders.push(path.clone());
                Thing::Folder
            } else if kind.is_symlink() {
                use std::os::unix::ffi::OsStringExt;
                Thing::Link(std::fs::read_link(&path).unwrap().into_os_string().into_vec())
            } else {
                Thing::File(std::fs::read(&path).unwrap())
            };
            tree.insert(path.strip_prefix(data).unwrap().to_str().unwrap().to_owned(), thing);
        }
    }
    tree
}

/// What the journal remembers as unfinished is what is kept of it.
fn check_stages(seed: u64, fixture: &Fixture) {
    let stages = std::fs::read_dir(fixture.data().join(".pair/stage")).unwrap();
    let mut stages: Vec<_> = stages.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    stages.sort();
    let db = rusqlite::Connection::open(fixture.state().join("sftpd.db")).unwrap();
    let mut statement = db.prepare("SELECT number FROM unfinished ORDER BY number").unwrap();
    let rows = statement.query_map([], |row| Ok(format!("upload-{}", row.get::<_, u64>(0)?))).unwrap();
    assert_eq!(stages, rows.map(|row| row.unwrap()).collect::<Vec<_>>(), "seed {seed}: unfinished");
}

/// One history and its end.
fn live_and_die(seed: u64) {
    let mut fixture = Fixture::new();
    let mut history = History::begin(&mut fixture, seed);
    let steps = 10 + history.dice.roll(60);
    if history.dice.roll(8) > 0 {
        let crash_after = history.dice.roll(80) as u64;
        history.disk.faults.crash_after(crash_after);
    }
    for _ in 0..steps {
        if history.disk.has_crashed() {
            break;
        }
        history.step();
    }
    history.die();
    // The recovery may "die" as well, any number of times.
    for _ in 0..history.dice.roll(3) {
        let disk = Disk::default();
        disk.faults.crash_after(history.dice.roll(12) as u64);
        fixture.try_to_open(disk);
    }
    let volume = fixture.open();
    let lines = journal_lines(&fixture.state());
    check(seed, &history, &lines, &fixture.data());
    // And once more: recovering again changes nothing.
    drop(volume);
    let volume = fixture.open();
    check(seed, &history, &journal_lines(&fixture.state()), &fixture.data());
    futures::executor::block_on(volume.settle()).unwrap();
    check_stages(seed, &fixture);
}

fn check(seed: u64, history: &History, lines: &[Line], data: &Path) {
    assert!(lines.iter().all(|line| line.5.is_some()), "seed {seed}: undecided: {lines:#?}");
    for (author, told) in &history.told {
        let outcome = lines.iter().find(|line| line.0 == *author).and_then(|line| line.5.as_deref());
        match told {
            Some(true) if author.starts_with("perhaps-untold") => {
                assert_ne!(outcome, Some("aborted"), "seed {seed}: {author}")
            }
            Some(true) => assert_eq!(outcome, Some("done"), "seed {seed}: {author} was acknowledged"),
            Some(false) => assert_ne!(outcome, Some("done"), "seed {seed}: {author} was refused"),
            None => {}
        }
    }
    let model = replay(lines, &history.contents);
    let mut disk = on_disk(data);
    for (path, thing) in &model {
        if let (Thing::InPlace, Some(there @ Thing::File(_))) = (thing, disk.get_mut(path)) {
            *there = Thing::InPlace;
        }
    }
    if model != disk {
        panic!("seed {seed}:\nmodel {model:#?}\ndisk {disk:#?}\njournal {lines:#?}\ntold {:#?}", history.told);
    }
}

fn histories(part: u64) {
    let count = std::env::var("HISTORIES").ok().and_then(|text| text.parse().ok()).unwrap_or(HISTORIES);
    if let Some(seed) = std::env::var("HISTORY").ok().and_then(|text| text.parse().ok()) {
        return live_and_die(seed);
    }
    (0..count).for_each(|number| live_and_die(number * 4 + part));
}

#[test]
fn what_the_journal_says_is_what_is_on_the_disk_after_any_crash_1() {
    histories(0);
}

#[test]
fn what_the_journal_says_is_what_is_on_the_disk_after_any_crash_2() {
    histories(1);
}

#[test]
fn what_the_journal_says_is_what_is_on_the_disk_after_any_crash_3() {
    histories(2);
}

#[test]
fn what_the_journal_says_is_what_is_on_the_disk_after_any_crash_4() {
    histories(3);
}
