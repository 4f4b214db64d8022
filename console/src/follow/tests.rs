//! What is written is kept once, whatever is done to the files meanwhile.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;

use pair::activity::Activity;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::questions::{Filter, Reader};
use jiff::tz::TimeZone;

const LIVE: &str = "activity.log";

/// A folder of logs, and the console that follows it.
struct World {
    _folder: TempDir,
    logs: PathBuf,
    state: PathBuf,
    follower: Option<Follower>,
}

impl World {
    fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        let (logs, state) = (folder.path().join("logs"), folder.path().join("state"));
        std::fs::create_dir(&logs).unwrap();
        World { _folder: folder, logs, state, follower: None }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.logs.join(name)
    }

    fn append(&self, name: &str, text: &[u8]) {
        File::options().create(true).append(true).open(self.path(name)).unwrap().write_all(text).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        std::fs::rename(self.path(from), self.path(to)).unwrap();
    }

    fn follower(&mut self) -> &mut Follower {
        let config = Config {
            logs: vec![self.logs.to_str().unwrap().into()],
            state: self.state.clone(),
            time_zone: "UTC".into(),
            ..Config::default()
        };
        self.follower.get_or_insert_with(|| Follower::new(&config).unwrap())
    }

    fn look(&mut self) -> Look {
        self.follower().look(&|| false).unwrap()
    }

    /// Ends after so many batches, as a crash would, and begins anew.
    fn crash_after(&mut self, batches: usize) {
        let left = Cell::new(batches);
        let is_over = || left.replace(left.get().saturating_sub(1)) == 0;
        self.follower().look(&is_over).unwrap();
        self.follower = None;
    }

    /// How often each path is there.
    fn paths(&self) -> BTreeMap<String, usize> {
        let reader = Reader::open(&self.state, TimeZone::UTC).unwrap();
        let mut paths = BTreeMap::new();
        for record in reader.newest(&Filter::default(), None, 1000).unwrap().records {
            *paths.entry(record.path.unwrap_or_default()).or_default() += 1;
        }
        paths
    }

    fn names(&self) -> Vec<String> {
        self.paths().into_iter().flat_map(|(path, count)| std::iter::repeat_n(path, count)).collect()
    }
}

/// A line of SFTPGo's: nothing in it tells it from one that is equal.
fn line(path: &str) -> Vec<u8> {
    let line = serde_json::json!({
        "level": "info", "time": "2026-10-01T16:53:57.751", "sender": "Upload", "username": "p", "file_path": path, "size_bytes": 7,
    });
    format!("{line}\n").into_bytes()
}

fn own_line(id: u64) -> Vec<u8> {
    let time = "2026-11-21T22:48:11.030Z".into();
    let mut activity = Activity { id, time, sender: "Upload".into(), ..Activity::default() };
    activity.set_path(format!("/{id}").as_bytes());
    activity.line()
}

fn lines(paths: &[&str]) -> Vec<u8> {
    paths.iter().flat_map(|path| line(path)).collect()
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(text).unwrap();
    packed.finish().unwrap()
}

#[test]
fn a_log_is_read_once_over_its_rotations_and_restarts() {
    let mut world = World::new();
    world.append(LIVE, &lines(&["a", "b"]));
    assert_eq!(world.look(), Look { lines: 2, records: 2, ..Look::default() });
    assert_eq!(world.look(), Look::default());
    world.append(LIVE, &lines(&["c"]));
    world.rename(LIVE, "activity-2026-11-22T12-00-00.000Z.log");
    world.append(LIVE, &lines(&["d"]));
    world.follower = None;
    assert_eq!(world.look().records, 2);
    assert_eq!(world.names(), ["a", "b", "c", "d"]);
}

#[test]
fn equal_records_count_each_and_half_a_line_waits() {
    let mut world = World::new();
    let (whole, half) = (lines(&["a", "a", "a"]), line("b"));
    world.append(LIVE, &whole);
    world.append(LIVE, &half[..20]);
    assert_eq!(world.look().records, 3);
    assert_eq!(world.look(), Look::default());
    world.append(LIVE, &half[20..]);
    assert_eq!(world.look().records, 1);
    assert_eq!(world.names(), ["a", "a", "a", "b"]);
}

#[test]
fn copies_and_packed_files_are_not_read_again_but_for_what_is_new_in_them() {
    let mut world = World::new();
    world.append(LIVE, &lines(&["a", "b"]));
    world.look();
    std::fs::copy(world.path(LIVE), world.path("copy of activity.log")).unwrap();
    world.append(LIVE, &lines(&["c"]));
    assert_eq!(world.look().records, 1);
    world.append(LIVE, &lines(&["d"]));
    let text = std::fs::read(world.path(LIVE)).unwrap();
    std::fs::write(world.path("activity-1.log.gz"), gzip(&text)).unwrap();
    std::fs::write(world.path("activity-1.log.zst"), zstd::encode_all(text.as_slice(), 1).unwrap()).unwrap();
    std::fs::remove_file(world.path(LIVE)).unwrap();
    assert_eq!(world.look().records, 1, "the last line was never read from the plain file");
    world.follower = None;
    assert_eq!(world.look(), Look::default());
    world.append("other.log.gz", &[gzip(&lines(&["x"])), gzip(&lines(&["y"]))].concat());
    assert_eq!(world.look().records, 2, "two packed texts in one file");
    assert_eq!(world.names(), ["a", "b", "c", "d", "x", "y"]);
}

#[test]
fn a_packed_file_that_is_not_finished_is_read_as_far_as_it_goes_and_then_on() {
    let mut world = World::new();
    let text: Vec<u8> = (0..2000).flat_map(|number| line(&format!("{number}"))).collect();
    let packed = gzip(&text);
    world.append("a.log.gz", &packed[..packed.len() / 2]);
    let first = world.look();
    assert!(first.records > 100 && first.records < 2000, "{first:?}");
    world.append("a.log.gz", &packed[packed.len() / 2..]);
    assert_eq!(world.look().records, 2000 - first.records);
}

#[test]
fn a_file_that_was_emptied_in_place_begins_anew() {
    let mut world = World::new();
    world.append("sftpgo.log", &lines(&["a", "b"]));
    world.look();
    world.append("sftpgo.log", &lines(&["c"]));
    std::fs::copy(world.path("sftpgo.log"), world.path("sftpgo.log.1")).unwrap();
    File::options().write(true).open(world.path("sftpgo.log")).unwrap().set_len(0).unwrap();
    assert_eq!(world.look().records, 1, "what the copy has and nobody had read");
    world.append("sftpgo.log", &lines(&["d", "e", "f", "g"]));
    assert_eq!(world.look().records, 4, "longer than it was before");
    assert_eq!(world.names(), ["a", "b", "c", "d", "e", "f", "g"]);
}

#[test]
fn lines_that_were_taken_back_stay_and_those_that_follow_are_read() {
    let mut world = World::new();
    let all: Vec<u8> = (1..=6).flat_map(own_line).collect();
    world.append(LIVE, &all);
    world.look();
    let shorter = (1..=4).flat_map(own_line).count();
    File::options().write(true).open(world.path(LIVE)).unwrap().set_len(shorter as u64).unwrap();
    assert_eq!(world.look().records, 0);
    world.append(LIVE, &[own_line(7), own_line(8), own_line(9)].concat());
    assert_eq!(world.look().records, 3);
    assert_eq!(world.look(), Look::default());
    assert_eq!(world.paths().values().sum::<usize>(), 9);
}

#[test]
fn a_log_that_was_sent_here_again_cut_into_other_files_is_not_kept_twice() {
    let mut world = World::new();
    std::fs::create_dir(world.path("from-b1")).unwrap();
    world.append("from-b1/activity-1.log", &(1..=5).flat_map(own_line).collect::<Vec<_>>());
    world.append("from-b1/activity.log", &(6..=9).flat_map(own_line).collect::<Vec<_>>());
    assert_eq!(world.look().records, 9);
    std::fs::remove_dir_all(world.path("from-b1")).unwrap();
    world.look();
    std::fs::create_dir(world.path("from-b1")).unwrap();
    world.append("from-b1/activity-1.log", &(3..=7).flat_map(own_line).collect::<Vec<_>>());
    world.append("from-b1/activity.log", &(8..=12).flat_map(own_line).collect::<Vec<_>>());
    let look = world.look();
    assert_eq!((look.records, look.repeated), (3, 7));
    assert_eq!(world.names().len(), 12);
}

#[test]
fn what_is_no_record_is_kept_as_a_problem_with_its_place_and_stops_nothing() {
    let mut world = World::new();
    let garbage: Vec<u8> =
        (0..3_000_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 13) as u8 | 1).collect();
    let no_line_ends: Vec<u8> = garbage.into_iter().map(|byte| if byte == b'\n' { b'x' } else { byte }).collect();
    world.append("garbage.log", &no_line_ends);
    world.append(LIVE, &[line("a"), b"nonsense\n".to_vec(), b"\n".to_vec(), b"{}\n".to_vec(), line("b")].concat());
    let look = world.look();
    assert_eq!((look.records, look.problems, look.passed_over), (2, 3, 1));
    world.append("garbage.log", b"\n");
    world.append("garbage.log", &line("c"));
    assert_eq!(world.look().records, 1, "what follows garbage is read");
    let reader = Reader::open(&world.state, TimeZone::UTC).unwrap();
    let troubles = reader.troubles(10).unwrap();
    let at = line("a").len() as u64;
    assert!(troubles.iter().any(|trouble| trouble.file.ends_with(LIVE) && trouble.position == at), "{troubles:?}");
    assert!(troubles.iter().any(|trouble| trouble.file.ends_with("garbage.log")), "{troubles:?}");
    assert_eq!(troubles.len(), 3);
    assert_eq!(reader.followed(10).unwrap().iter().map(|log| log.problems).sum::<u64>(), 3);
}

#[test]
fn a_damaged_packed_file_and_one_that_may_not_be_opened_hold_nothing_up() {
    let mut world = World::new();
    let mut packed = gzip(&lines(&["a", "b"]));
    packed.truncate(12);
    packed.extend_from_slice(&[0xff; 40]);
    world.append("broken.log.gz", &packed);
    std::fs::create_dir(world.path("a-folder.log")).unwrap();
    world.append(LIVE, &line("c"));
    assert_eq!(world.look().records, 1);
}

#[test]
fn a_folder_may_appear_later_and_go_again() {
    let mut world = World::new();
    std::fs::remove_dir(&world.logs).unwrap();
    assert_eq!(world.look(), Look::default());
    std::fs::create_dir(&world.logs).unwrap();
    world.append(LIVE, &line("a"));
    assert_eq!(world.look().records, 1);
    std::fs::remove_dir_all(&world.logs).unwrap();
    assert_eq!(world.look(), Look::default());
}

#[test]
fn hostile_names_are_kept_as_they_are() {
    let mut world = World::new();
    let long = "\u{1}".repeat(64 * 1024);
    let names = [
        "'; DROP TABLE record; --",
        "\"quoted\"",
        "two\nlines\u{0}\u{1b}[2J",
        "<script>alert(1)</script>",
        "\u{202e}gpj",
        &long,
    ];
    for name in names {
        world.append(LIVE, &line(&format!("/{name}")));
    }
    let mut escaped =
        Activity { id: 1, time: "2026-11-21T22:48:11Z".into(), sender: "Upload".into(), ..Activity::default() };
    escaped.set_path(b"/\xff\n");
    world.append(LIVE, &escaped.line());
    assert_eq!(world.look().records, 7);
    let paths = world.paths();
    assert!(names.iter().all(|name| paths.contains_key(&format!("/{name}"))), "{:?}", paths.keys());
    let reader = Reader::open(&world.state, TimeZone::UTC).unwrap();
    let records = reader.newest(&Filter::default(), None, 10).unwrap().records;
    assert!(records.iter().any(|record| record.path_escaped.as_deref() == Some("/%FF%0A")));
}

#[test]
fn a_full_disk_is_a_sentence_and_loses_nothing() {
    let mut world = World::new();
    let all: Vec<u8> = (1..=500).flat_map(own_line).collect();
    world.append(LIVE, &all);
    let store = world.follower().store.connection();
    let pages: i64 = store.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    store.pragma_update(None, "max_page_count", pages + 8).unwrap();
    let error = format!("{:#}", world.follower().look(&|| false).unwrap_err());
    assert!(error.contains("console.db") && error.contains("full"), "{error}");
    let kept = world.paths().len();
    assert!(kept < 500, "{kept}");
    world.follower().store.connection().pragma_update(None, "max_page_count", 1_000_000).unwrap();
    world.look();
    let paths = world.paths();
    assert!(paths.len() == 500 && paths.values().all(|count| *count == 1));
}

#[test]
fn what_is_too_old_goes_in_steps_and_does_not_come_back() {
    let mut world = World::new();
    let at = |id: u64, time: String| Activity { id, time, sender: "Upload".into(), ..Activity::default() }.line();
    let now = Timestamp::now();
    let old = (now - jiff::SignedDuration::from_hours(24 * 500)).to_string();
    world.append(LIVE, &[at(1, old.clone()), at(2, old), at(3, now.to_string())].concat());
    assert_eq!(world.look().records, 3);
    while world.follower().let_go().unwrap() {}
    let reader = Reader::open(&world.state, TimeZone::UTC).unwrap();
    assert_eq!(reader.moved(&Filter::default(), 1).unwrap().totals.records, 1);
    assert_eq!(reader.newest(&Filter::default(), None, 10).unwrap().records.len(), 1);
    world.append("late.log", &at(9, "2020-01-01T00:00:00Z".into()));
    assert_eq!(world.look().too_old, 1);
    assert!(!world.follower().let_go().unwrap());
}

#[test]
fn a_second_console_on_the_same_state_is_refused() {
    let mut world = World::new();
    world.look();
    let config = Config { state: world.state.clone(), ..Config::default() };
    let error = Follower::new(&config).err().unwrap();
    assert!(error.to_string().contains("another console") && pair::exit::code(&error) == 2, "{error}");
}

/// What may be done to logs between two looks.
#[derive(Clone, Debug)]
enum Deed {
    Append { copies: usize },
    Half,
    Rotate,
    CopyAndEmpty,
    CopyLive,
    Pack { is_zstd: bool },
    Rename,
    RemoveWhatIsRead,
    Look,
    Crash { batches: usize },
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        6 => (1..8_usize).prop_map(|copies| Deed::Append { copies }),
        1 => Just(Deed::Half),
        2 => Just(Deed::Rotate),
        1 => Just(Deed::CopyAndEmpty),
        1 => Just(Deed::CopyLive),
        1 => any::<bool>().prop_map(|is_zstd| Deed::Pack { is_zstd }),
        1 => Just(Deed::Rename),
        1 => Just(Deed::RemoveWhatIsRead),
        3 => Just(Deed::Look),
        3 => (0..4_usize).prop_map(|batches| Deed::Crash { batches }),
    ]
}

/// What stands where, as it should be.
#[derive(Default)]
struct Written {
    number: usize,
    expected: BTreeMap<String, usize>,
    rotated: Vec<String>,
    half: Option<Vec<u8>>,
}

impl Written {
    fn name(&mut self) -> String {
        self.number += 1;
        format!("activity-{:06}.log", self.number)
    }

    fn finish_half(&mut self, world: &World) {
        if let Some(rest) = self.half.take() {
            world.append(LIVE, &rest);
        }
    }

    fn append(&mut self, world: &World, copies: usize) {
        self.finish_half(world);
        self.number += 1;
        let path = format!("/{}", self.number);
        world.append(LIVE, &line(&path).repeat(copies));
        *self.expected.entry(path).or_default() += copies;
    }

    fn act(&mut self, world: &mut World, deed: &Deed) {
        let has_live = world.path(LIVE).exists();
        match deed {
            Deed::Append { copies } => self.append(world, *copies),
            Deed::Half => {
                self.finish_half(world);
                self.number += 1;
                let path = format!("/{}", self.number);
                let whole = line(&path);
                world.append(LIVE, &whole[..whole.len() / 2]);
                self.half = Some(whole[whole.len() / 2..].to_vec());
                *self.expected.entry(path).or_default() += 1;
            }
            Deed::Rotate if has_live => {
                self.finish_half(world);
                let name = self.name();
                world.rename(LIVE, &name);
                self.rotated.push(name);
            }
            Deed::CopyAndEmpty if has_live => {
                self.finish_half(world);
                let name = self.name();
                std::fs::copy(world.path(LIVE), world.path(&name)).unwrap();
                File::options().write(true).open(world.path(LIVE)).unwrap().set_len(0).unwrap();
                self.rotated.push(name);
            }
            Deed::CopyLive if has_live => {
                let name = self.name();
                std::fs::copy(world.path(LIVE), world.path(&name)).unwrap();
            }
            Deed::Pack { is_zstd } => {
                let Some(name) = self.rotated.pop() else { return };
                let text = std::fs::read(world.path(&name)).unwrap();
                let (end, packed) = match is_zstd {
                    true => ("zst", zstd::encode_all(text.as_slice(), 1).unwrap()),
                    false => ("gz", gzip(&text)),
                };
                std::fs::write(world.path(&format!("{name}.{end}")), packed).unwrap();
                std::fs::remove_file(world.path(&name)).unwrap();
            }
            Deed::Rename => {
                let Some(name) = self.rotated.pop() else { return };
                let other = self.name();
                world.rename(&name, &other);
                self.rotated.push(other);
            }
            Deed::RemoveWhatIsRead => {
                world.look();
                if let Some(name) = self.rotated.pop() {
                    std::fs::remove_file(world.path(&name)).unwrap();
                }
            }
            Deed::Look => drop(world.look()),
            Deed::Crash { batches } => world.crash_after(*batches),
            Deed::Rotate | Deed::CopyAndEmpty | Deed::CopyLive => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
    #[test]
    fn every_line_is_kept_once_whatever_is_done_to_the_files(deeds in prop::collection::vec(deed(), 1..40)) {
        let (mut world, mut written) = (World::new(), Written::default());
        for deed in &deeds {
            written.act(&mut world, deed);
        }
        written.finish_half(&world);
        world.look();
        prop_assert_eq!(world.paths(), written.expected);
    }
}
