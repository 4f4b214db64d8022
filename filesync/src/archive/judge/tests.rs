//! The judge and the record over real files that are rotated, copied, emptied and replaced, with an archive in memory: whatever happens, each
//! line arrives once.

use std::collections::BTreeMap;
use std::io::Write as _;

use proptest::prelude::*;

use super::*;
use crate::archive::config::{Config, Packing};
use crate::archive::folders::Folder;
use crate::archive::parcel::{self, Order};
use crate::archive::record::Intent;
use crate::archive::sight::Proof;
use crate::archive::survey::look;

struct World {
    folder: tempfile::TempDir,
    selections: Vec<Selection>,
    record: Record,
    rest: Rest,
    archive: BTreeMap<Vec<u8>, Vec<u8>>,
    lines: u32,
    aside: u32,
}

#[derive(Clone, Debug)]
enum Act {
    Write(u8, usize),
    Rotate(u8),
    CopyAndTruncate(u8),
    Link(u8),
    /// Only after a look: what is not in the archive when it goes is lost to everybody.
    Truncate(u8),
    Reuse(u8),
    Look,
    /// The agent dies when so many parts have been sent, one of them without a word.
    LookAndDie(usize),
}

fn any_act() -> impl Strategy<Value = Act> {
    let file = 0..3_u8;
    prop_oneof![
        4 => (file.clone(), 1..6_usize).prop_map(|(file, lines)| Act::Write(file, lines)),
        2 => file.clone().prop_map(Act::Rotate),
        2 => file.clone().prop_map(Act::CopyAndTruncate),
        1 => file.clone().prop_map(Act::Link),
        1 => file.clone().prop_map(Act::Truncate),
        1 => file.prop_map(Act::Reuse),
        4 => Just(Act::Look),
        2 => (0..3_usize).prop_map(Act::LookAndDie),
    ]
}

impl World {
    fn new(tail: bool) -> World {
        let folder = tempfile::tempdir().unwrap();
        let logs = folder.path().join("logs");
        std::fs::create_dir(&logs).unwrap();
        let selections = Config { folders: vec![Folder::at(&logs)], tail, ..Config::default() }.selections().unwrap();
        let record = Record::open(&folder.path().join("archive.db")).unwrap();
        World { folder, selections, record, rest: Rest::default(), archive: BTreeMap::new(), lines: 0, aside: 0 }
    }

    fn path(&self, file: u8) -> std::path::PathBuf {
        self.folder.path().join("logs").join(format!("{file}.log"))
    }

    fn aside(&mut self, file: u8) -> std::path::PathBuf {
        self.aside += 1;
        self.folder.path().join("logs").join(format!("{file}.log.{}", self.aside))
    }

    fn line(&mut self) -> String {
        self.lines += 1;
        format!("{:06}", self.lines)
    }

    fn act(&mut self, act: &Act) {
        match *act {
            Act::Write(file, count) => {
                let text: String = (0..count).map(|_| self.line() + "\n").collect();
                let mut out = std::fs::File::options().append(true).create(true).open(self.path(file)).unwrap();
                out.write_all(text.as_bytes()).unwrap();
            }
            Act::Rotate(file) => drop(std::fs::rename(self.path(file), self.aside(file))),
            Act::CopyAndTruncate(file) => {
                let copy = self.aside(file);
                if std::fs::copy(self.path(file), copy).is_ok() {
                    std::fs::File::options().write(true).open(self.path(file)).unwrap().set_len(0).unwrap();
                }
            }
            Act::Link(file) => drop(std::fs::hard_link(self.path(file), self.aside(file))),
            Act::Truncate(file) if self.path(file).exists() => {
                self.settle();
                std::fs::File::options().write(true).open(self.path(file)).unwrap().set_len(0).unwrap();
            }
            Act::Reuse(file) if self.path(file).exists() => {
                self.settle();
                let size = std::fs::metadata(self.path(file)).unwrap().len() as usize;
                std::fs::remove_file(self.path(file)).unwrap();
                // Of the same size, and often under the same inode.
                let text: String = (0..size / 7).map(|_| self.line() + "\n").collect();
                std::fs::write(self.path(file), text).unwrap();
            }
            Act::Truncate(_) | Act::Reuse(_) => {}
            Act::Look => drop(self.look(usize::MAX)),
            Act::LookAndDie(after) => drop(self.look(after)),
        }
    }

    /// One look, and the sending of what it has found, as the agent does it; tells how much there was to do.
    fn look(&mut self, die_after: usize) -> usize {
        let survey = look(&self.selections);
        let now = Instant::now();
        self.rest.note(&survey.sights, now);
        let (busy, on_the_way) = (HashSet::new(), HashSet::new());
        let judge = Judge {
            selections: &self.selections,
            record: &self.record,
            rest: &self.rest,
            quiet: Duration::ZERO,
            continues: true,
            busy: &busy,
            on_the_way: &on_the_way,
        };
        let Judgement { jobs, notes, problems, .. } = judge.judge(&survey, now).unwrap();
        assert!(problems.is_empty(), "{problems:?}");
        self.note(&notes);
        let left = self.record.intents().unwrap();
        let count = jobs.len() + left.len();
        for intent in left {
            self.go_on(intent, &survey);
        }
        for (number, (sight, text)) in jobs.into_iter().enumerate() {
            if number > die_after {
                return count;
            }
            self.send(&sight, text, number == die_after);
        }
        count
    }

    fn note(&mut self, notes: &[Note]) -> Vec<i64> {
        self.record.write_for_tests(notes)
    }

    fn send(&mut self, sight: &Sight, text: Option<Text>, dies: bool) {
        let known = text.clone();
        let remote = known
            .as_ref()
            .map_or_else(|| format!("/{}", self.lines_and_files()).into_bytes(), |text| text.remote.clone());
        let intent = Intent {
            text: known.as_ref().map_or(0, |text| text.id),
            folder: self.selections[0].name.clone(),
            path: sight.path.clone(),
            stamp: sight.stamp,
            mode: sight.mode,
            from: known.as_ref().map_or(0, |text| text.proof.sent),
            to: 0,
            hash: [0; 32],
            proof: Proof::default(),
            remote,
            number: 0,
            stored_from: known.as_ref().map_or(0, |text| text.stored),
            stored_to: 0,
            packed: String::new(),
            begun: false,
        };
        let (root, state) = (self.selections[0].root.clone(), self.folder.path().to_owned());
        let (earlier, tail) = (known.as_ref().map(|text| &text.proof), self.selections[0].tail);
        let order = Order { root: &root, sight, intent, earlier, tail, packing: Packing::None, state: &state };
        let mut parcel = parcel::prepare(order).unwrap().expect("nobody writes meanwhile");
        parcel.intent.text = self.note(&[Note::Intent(Box::new(parcel.intent.clone()))])[0];
        let content = std::fs::read(root.join(shown(&sight.path))).unwrap();
        let part = &content[parcel.intent.from as usize..parcel.intent.to as usize];
        let there = self.archive.entry(parcel.intent.remote.clone()).or_default();
        assert_eq!(there.len() as u64, parcel.intent.stored_from);
        if dies {
            // Some of it, and no word of that.
            there.extend_from_slice(&part[..part.len() / 2]);
            self.rest = Rest::default();
            return;
        }
        there.extend_from_slice(part);
        self.note(&[Note::Done(Box::new(parcel.intent), parcel.whole)]);
    }

    /// What is found out from the server after a crash: how much of it is there. The rest is sent.
    fn go_on(&mut self, intent: Intent, survey: &Survey) {
        let root = self.selections[0].root.clone();
        let files: Vec<_> = survey.sights.iter().map(|sight| (root.clone(), sight.clone())).collect();
        let parcel = parcel::recover(&intent, &files, self.folder.path()).unwrap().expect("a file still holds it");
        let there = self.archive.entry(intent.remote.clone()).or_default();
        let known = there.len() - intent.stored_from as usize;
        there.extend_from_slice(&parcel.content()[known..]);
        self.note(&[Note::Done(Box::new(intent), parcel.whole)]);
    }

    fn lines_and_files(&self) -> usize {
        self.archive.len()
    }

    fn settle(&mut self) {
        for _ in 0..20 {
            if self.look(usize::MAX) == 0 {
                return;
            }
        }
        panic!("it never comes to rest");
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let mut count: BTreeMap<&str, u32> = BTreeMap::new();
        let texts: Vec<String> = self.archive.values().map(|text| String::from_utf8(text.clone()).unwrap()).collect();
        for line in texts.iter().flat_map(|text| text.lines()) {
            *count.entry(line).or_default() += 1;
        }
        prop_assert!(count.values().all(|count| *count == 1), "twice: {count:?}");
        prop_assert_eq!(count.len() as u32, self.lines, "missing");
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_to_logs_each_line_arrives_once(acts in prop::collection::vec(any_act(), 1..40), tail in any::<bool>()) {
        let mut world = World::new(tail);
        for act in &acts {
            world.act(act);
        }
        world.settle();
        world.check()?;
        let before = world.archive.len();
        world.settle();
        prop_assert_eq!(world.archive.len(), before);
    }
}

#[test]
fn a_folder_that_is_away_loses_nothing_of_what_is_known() {
    let mut world = World::new(false);
    world.act(&Act::Write(0, 5));
    world.settle();
    let (logs, away) = (world.folder.path().join("logs"), world.folder.path().join("away"));
    std::fs::rename(&logs, &away).unwrap();
    assert_eq!(world.look(usize::MAX), 0);
    // What an unmounted folder leaves is an empty one.
    std::fs::create_dir(&logs).unwrap();
    assert_eq!(world.look(usize::MAX), 0);
    std::fs::remove_dir(&logs).unwrap();
    std::fs::rename(&away, &logs).unwrap();
    assert_eq!(world.look(usize::MAX), 0, "it is all in the archive");
    world.check().unwrap();
}

#[test]
fn two_logs_that_say_the_same_are_both_kept() {
    let mut world = World::new(false);
    for file in [0, 1] {
        std::fs::write(world.path(file), "started\n").unwrap();
        world.settle();
    }
    assert_eq!(world.archive.len(), 2);
    assert_eq!(world.record.totals().unwrap().0, 2);
}

#[test]
fn what_cannot_be_read_is_named_and_the_rest_goes_on() {
    use std::os::unix::fs::PermissionsExt;
    if rustix::process::geteuid().is_root() {
        // Root reads everything.
        return;
    }
    let world = World::new(false);
    std::fs::write(world.path(0), "secret\n").unwrap();
    std::fs::set_permissions(world.path(0), std::fs::Permissions::from_mode(0o000)).unwrap();
    let survey = look(&world.selections);
    let (busy, on_the_way) = (HashSet::new(), HashSet::new());
    let mut rest = Rest::default();
    rest.note(&survey.sights, Instant::now());
    let judge = Judge {
        selections: &world.selections,
        record: &world.record,
        rest: &rest,
        quiet: Duration::ZERO,
        continues: true,
        busy: &busy,
        on_the_way: &on_the_way,
    };
    let judgement = judge.judge(&survey, Instant::now()).unwrap();
    assert!(judgement.problems[0].1.contains("cannot be read"), "{:?}", judgement.problems);
}
