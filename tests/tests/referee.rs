//! OpenSSH's own server is the referee: hand-made cases, random histories, and the differences that are wanted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

use pair::wire::open_flag as flag;
use tests::step::Step::*;
use tests::step::{Bench, NEW, Step};
use tests::{Machine, Raw, USER};

/// Random histories in a usual run, and the requests of each; `HISTORIES` asks for more.
const HISTORIES: u64 = 150;
const REQUESTS: usize = 40;

/// Both servers, each with a stream.
struct Court {
    theirs: Raw,
    ours: Raw,
    _machine: Machine,
    _folder: tempfile::TempDir,
}

impl Court {
    fn new() -> Court {
        let (machine, folder) = (Machine::master().start(), tempfile::tempdir().unwrap());
        let (theirs, ours) = (Raw::referee(folder.path()), Raw::greeted(&machine, USER));
        Court { theirs, ours, _machine: machine, _folder: folder }
    }

    /// Asks both for the same; gives OpenSSH's answers and ours. What `is_apart` is not asked.
    fn hear(
        &mut self,
        folder: &str,
        steps: &[Step],
        is_apart: impl Fn(&Step, &mut Bench<'_>) -> bool,
    ) -> Vec<(String, String)> {
        let (mut theirs, mut ours) = (Bench::new(&mut self.theirs, folder), Bench::new(&mut self.ours, folder));
        let mut ask = |step: &Step| match is_apart(step, &mut theirs) {
            true => Default::default(),
            false => (theirs.ask(step), ours.ask(step)),
        };
        steps.iter().map(&mut ask).collect()
    }

    #[track_caller]
    fn agree(&mut self, folder: &str, steps: &[Step]) {
        let answers = self.hear(folder, steps, is_a_known_difference);
        for (number, (theirs, ours)) in answers.iter().enumerate() {
            let before = &steps[..number];
            assert_eq!(theirs, ours, "OpenSSH's answer is on the left: {:?}\nafter {before:?}", steps[number]);
        }
    }
}

/// Of the differences below: RENAME onto a dangling link, folders that are opened as files, and files that are copied onto
/// themselves.
fn is_a_known_difference(step: &Step, theirs: &mut Bench<'_>) -> bool {
    match step {
        Step::Rename(_, to) => theirs.ask(&Step::Lstat(to)).starts_with("mode 12"),
        Step::Copy(from, _, _, to, ..) if theirs.ask(&Step::Realpath(from)) == theirs.ask(&Step::Realpath(to)) => true,
        Step::Get(path) | Step::Copy(path, ..) => theirs.ask(&Step::Stat(path)).starts_with("mode 4"),
        _ => false,
    }
}

/// Cases by hand: each is made in a folder of its own.
const CASES: &[(&str, &[Step])] = &[
    (
        "copying",
        &[
            Put("a", NEW, 0, "0123456789"),
            Copy("a", 0, 0, "b", NEW, 0),
            Get("b"),
            Copy("a", 2, 3, "b", NEW, 4),
            Get("b"),
            Copy("a", 8, 2, "b", flag::WRITE, 0),
            Get("b"),
            Copy("a", 50, 0, "b", NEW, 0),
            Get("b"),
            Copy("a", 0, 0, "b", flag::WRITE | flag::APPEND, 0),
            Get("b"),
            Copy("missing", 0, 0, "b", NEW, 0),
            Copy("a", 0, 0, "no/b", NEW, 0),
            Get("b"),
        ],
    ),
    (
        "paths",
        &[
            Mkdir("d", 0o755),
            Put("d/f", NEW, 0, "x"),
            Symlink("d", "l"),
            Symlink("f", "d/l"),
            Realpath("."),
            Realpath(""),
            Realpath("d/../d/./f"),
            Realpath("l/f"),
            Realpath("d/l"),
            Realpath("new"),
            Realpath("l/new"),
            Realpath("missing/new"),
            Realpath("d/f/x"),
            Realpath("//d//f"),
            Realpath("d/"),
            ExpandPath("d/../d"),
            ExpandPath("missing"),
            Stat("d/f/"),
            Stat("d/"),
            Lstat("l"),
            Lstat("l/"),
            Stat("l/../d/f"),
            List("l"),
        ],
    ),
    (
        "flags",
        &[
            Put("a", flag::READ | flag::WRITE | flag::CREAT, 0, "new"),
            Get("a"),
            Put("a", flag::WRITE | flag::TRUNC, 0, "x"),
            Get("a"),
            Put("b", flag::WRITE | flag::TRUNC, 0, "x"),
            Put("b", flag::WRITE | flag::EXCL, 0, "x"),
            Put("a", flag::WRITE | flag::CREAT | flag::EXCL, 0, "x"),
            Put("a", flag::WRITE | flag::CREAT | flag::APPEND, 0, "+end"),
            Get("a"),
            Put("a", flag::WRITE | flag::CREAT | flag::APPEND, 1, "+end"),
            Get("a"),
            Put(".", NEW, 0, "x"),
        ],
    ),
    (
        "extensions",
        &[
            Put("a", NEW, 0, "x"),
            Unknown,
            Statvfs("a"),
            Statvfs("missing"),
            Hardlink("a", "b"),
            Hardlink("a", "b"),
            Hardlink("missing", "c"),
            Lsetstat("a", (1, 2)),
            Lstat("a"),
            Lsetstat("missing", (1, 2)),
            Fstat("a"),
            Setstat("a", None, Some((0, 0)), None),
            Stat("a"),
            List("."),
        ],
    ),
    (
        "what random histories have found",
        &[
            Symlink("nowhere", "l"),
            Put("l", NEW | flag::EXCL, 0, "x"),
            Lstat("nowhere"),
            Realpath("l"),
            Put("a", NEW, 0, "x"),
            Setstat("a", None, Some((5, 7)), None),
            Fsetstat("a", Some(0o600), None, None),
            Stat("a"),
            Rename("missing", "a"),
            Hardlink("missing", "a"),
            Remove("a/"),
            Realpath("a/"),
            Put("new/", NEW, 0, "x"),
            Symlink("x", "new/"),
            Mkdir("d/", 0o755),
            Rename("a", "new/"),
            Rmdir("d/"),
            List("."),
        ],
    ),
    (
        "odd modes",
        &[
            Mkdir("d", 0o700),
            Mkdir("e", 0o777),
            Mkdir("f", 0),
            Put("a", NEW, 0, "x"),
            Setstat("a", Some(0o100_640), None, None),
            Setstat("d", Some(0o755), Some((9, 9)), None),
            Setstat("d", None, None, Some(3)),
            Fsetstat("a", Some(0o600), Some((7, 7)), Some(0)),
            Fsetstat("a", None, Some((7, 7)), Some(10)),
            Lstat("a"),
            List("."),
            Fsetstat("d", None, Some((7, 7)), None),
        ],
    ),
];

#[test]
fn the_same_requests_get_the_same_answers() {
    let mut court = Court::new();
    for (name, steps) in CASES {
        println!("{name}");
        court.agree(name, steps);
    }
}

/// A difference from OpenSSH that is wanted. `docs/openssh.md` gives the reason for each under the same heading.
struct Difference {
    heading: &'static str,
    before: &'static [Step],
    step: Step,
    theirs: &'static str,
    ours: &'static str,
}

impl Difference {
    const fn of(
        heading: &'static str,
        before: &'static [Step],
        step: Step,
        theirs: &'static str,
        ours: &'static str,
    ) -> Difference {
        Difference { heading, before, step, theirs, ours }
    }
}

const DIFFERENCES: &[Difference] = &[
    Difference::of(
        "An empty path is the login folder",
        &[],
        Stat(""),
        "NoSuchFile",
        "mode 40755 size None modified None",
    ),
    Difference::of(
        "A handle for reading does not write",
        &[Put("a", NEW, 0, "x")],
        WriteToReader("a"),
        "NoSuchFile, closed Ok",
        "PermissionDenied, closed Ok",
    ),
    Difference::of(
        "A folder is not opened as a file",
        &[Mkdir("d", 0o755)],
        Get("d"),
        "Failure, closed Ok",
        "OPEN Failure",
    ),
    Difference::of("One's own home needs no name", &[], Home, "Failure", "1 name"),
    Difference::of("A handle that nobody gave", &[], WrongHandle, "Failure NoSuchFile", "Failure"),
    Difference::of(
        "A change of attributes is made whole or not at all",
        &[Mkdir("d", 0o755), Setstat("d", Some(0o700), None, Some(3))],
        Lstat("d"),
        "mode 40700 size None modified None",
        "mode 40755 size None modified None",
    ),
    Difference::of("A change of nothing", &[], Setstat("missing", None, None, None), "Ok", "NoSuchFile"),
    Difference::of(
        "RENAME replaces nothing",
        &[Symlink("x", "l"), Symlink("nowhere", "dangling")],
        Rename("l", "dangling"),
        "Ok",
        "Failure",
    ),
    Difference::of(
        "A file may be copied onto itself",
        &[Put("a", NEW, 0, "0123456789")],
        Copy("a", 2, 0, "a", NEW, 0),
        "Failure, target Ok, closed Ok",
        "Ok, target Ok, closed Ok",
    ),
    Difference::of(
        "A copy tells when there was less",
        &[Put("a", NEW, 0, "0123456789")],
        Copy("a", 8, 5, "b", NEW, 0),
        "Ok, target Ok, closed Ok",
        "Eof, target Failure, closed Ok",
    ),
    Difference::of(
        "An upload replaces what has the name",
        &[Put("a", NEW, 0, "old"), Hardlink("a", "b"), Put("a", NEW, 0, "new")],
        Get("b"),
        "new, closed Ok",
        "old, closed Ok",
    ),
    Difference::of(
        "Dots behind a file lead nowhere",
        &[Put("a", NEW, 0, "x")],
        Realpath("a/../b"),
        "in it /b",
        "NoSuchFile",
    ),
];

#[test]
fn every_difference_from_openssh_is_wanted_and_written_down() {
    let page = include_str!("../../docs/openssh.md");
    let mut court = Court::new();
    for (number, Difference { heading, before, step, theirs, ours }) in DIFFERENCES.iter().enumerate() {
        let steps: Vec<_> = before.iter().chain([step]).cloned().collect();
        let (expected, found) = court.hear(&format!("case{number}"), &steps, |_, _| false).pop().unwrap();
        assert_eq!((expected.as_str(), found.as_str()), (*theirs, *ours), "{heading}: OpenSSH's answer is on the left");
        assert!(page.contains(&format!("### {heading}\n")), "docs/openssh.md has no heading {heading:?}");
    }
}

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % sides
    }

    fn one_of<T: std::marker::Copy>(&mut self, of: &[T]) -> T {
        of[self.roll(of.len())]
    }

    fn path(&mut self) -> &'static str {
        self.one_of(&[
            "a", "a", "b", "c", "d", "d", "e", "d/a", "d/b", "d/e", "e/a", "d/e/a", "l", "l/a", "l/d", "a/b", "x/y",
            "./a", "d/../b", "d/", "d//a", "e/../d/a", "l/../a",
        ])
    }

    /// A random request. Hard links are left out: an upload replaces the name and not what other names share with it.
    fn step(&mut self) -> Step {
        let (one, other) = (self.path(), self.path());
        let content = self.one_of(&["", "x", "content", "more content than that"]);
        let flags = self.one_of(&[
            NEW,
            NEW,
            NEW | flag::EXCL,
            flag::WRITE,
            flag::WRITE | flag::CREAT,
            flag::WRITE | flag::APPEND,
            flag::WRITE | flag::CREAT | flag::APPEND | flag::READ,
            flag::WRITE | flag::TRUNC,
        ]);
        let times = Some((self.roll(1000) as u32, self.roll(1000) as u32)).filter(|_| self.roll(2) == 0);
        let mode = Some(self.one_of(&[0o644, 0o600, 0o755, 0o640])).filter(|_| self.roll(2) == 0);
        let size = Some(self.roll(30) as u64).filter(|_| self.roll(3) == 0);
        // Ours does all of it or nothing.
        let (mode, times) = if size.is_some() { (None, None) } else { (mode, times) };
        // Where nothing is asked for OpenSSH does not look whether the path is there.
        let mode = mode.or_else(|| (times.is_none() && size.is_none()).then_some(0o644));
        match self.roll(20) {
            0..=3 => Step::Put(one, flags, self.one_of(&[0, 0, 0, 3, 40]), content),
            4 => Step::Get(one),
            5 => Step::Stat(one),
            6 => Step::Lstat(one),
            7 => Step::List(one),
            8..=9 => Step::Mkdir(one, self.one_of(&[0o755, 0o700, 0o777])),
            10 => Step::Rmdir(one),
            11 => Step::Remove(one),
            // Which of several reasons is told first for `link/` is nobody's concern.
            12 => Step::Rename(one.trim_end_matches('/'), other.trim_end_matches('/')),
            13 => Step::PosixRename(one, other),
            14 => Step::Symlink(self.one_of(&["a", "d", "nowhere", "l", "e/a", "."]), one),
            15 => Step::Readlink(one),
            // OpenSSH passes `..` behind a file, too.
            16 if !one.contains("..") => Step::Realpath(one),
            16 => Step::Realpath("d/b"),
            17 => Step::Setstat(one, mode, times, size),
            18 => Step::Fsetstat(one, mode, times, size),
            _ => Step::Copy(one, self.one_of(&[0, 0, 2]), 0, other, flags, self.one_of(&[0, 0, 2])),
        }
    }
}

#[test]
fn random_histories_get_the_same_answers() {
    let histories = std::env::var("HISTORIES").map_or(HISTORIES, |text| text.parse().expect("a number"));
    let first = std::env::var("HISTORY").map_or(1, |text| text.parse().expect("a number"));
    let mut court = Court::new();
    for seed in first..first + histories {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut steps: Vec<_> = (0..REQUESTS).map(|_| dice.step()).collect();
        steps.push(Step::List("."));
        println!("history {seed}");
        court.agree(&format!("history{seed}"), &steps);
    }
}
