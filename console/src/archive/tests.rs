//! The archive over real folders: what agents and others may have put there, and grep as the referee of the search.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{Config as Cases, TestRunner};
use rustix::fs::{CWD, FileType, mknodat};
use tokio_util::sync::CancellationToken;

use super::*;

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// A data volume with the folder of an agent, and something beside it that nobody may see.
struct Disk {
    folder: tempfile::TempDir,
}

impl Disk {
    fn new() -> Disk {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("data/agent01")).unwrap();
        std::fs::create_dir_all(folder.path().join("data/EPuser")).unwrap();
        std::fs::write(folder.path().join("data/EPuser/secret.txt"), "secret\n").unwrap();
        Disk { folder }
    }

    fn path(&self, name: impl AsRef<[u8]>) -> PathBuf {
        self.folder.path().join("data/agent01").join(OsStr::from_bytes(name.as_ref()))
    }

    fn put(&self, name: impl AsRef<[u8]>, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    fn volume(&self) -> Volume {
        Volume::new(self.folder.path().join("data"))
    }

    fn home(&self) -> Home {
        self.volume().home(b"agent01").unwrap()
    }

    fn content(&self, name: &str) -> Content {
        Content::of(self.home().file(name.as_bytes()).unwrap()).unwrap()
    }

    fn walked(&self, sieve: &Sieve) -> Walked {
        let mut walked = Walked::default();
        walk(&self.home(), &Place::of("agent01"), sieve, &|| false, &mut walked).unwrap();
        walked.files.sort_by(|one, other| one.place.cmp(&other.place));
        walked
    }

    /// What a search tells: `path:number:line` for each hit.
    fn search(&self, search: &Search) -> (Vec<String>, Done) {
        let (home, mut told, mut file) = (Arc::new(self.home()), Vec::new(), String::new());
        let done = search.run(&self.walked(&Sieve::default()).files, &|_| Ok(home.clone()), &mut |event| {
            match event {
                Event::File(found, _) => file = String::from_utf8_lossy(&found.place.path).into_owned(),
                Event::Line { number, bytes, is_hit: true, .. } => {
                    told.push(format!("{file}:{number}:{}", String::from_utf8_lossy(bytes)));
                }
                Event::Trouble(found, sentence) => told.push(format!("{}: {sentence}", found.place.text())),
                _ => {}
            }
            true
        });
        (told, done)
    }
}

fn bounds() -> Bounds {
    Bounds { over: CancellationToken::new(), until: Instant::now() + PATIENCE, bytes_max: UNPACKED_BYTES_MAX }
}

fn search(pattern: Pattern) -> Search {
    Search { pattern, context: 0, last: None, hits_max: u64::MAX, bounds: bounds(), counts: Arc::default() }
}

fn text(text: &str) -> Pattern {
    Pattern::new(text, How::Text, false).unwrap()
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(content).unwrap();
    packer.finish().unwrap()
}

fn zstd(content: &[u8]) -> Vec<u8> {
    zstd::encode_all(content, 1).unwrap()
}

fn lines(window: &Window) -> Vec<String> {
    window.lines.iter().map(|line| String::from_utf8_lossy(&line.bytes).into_owned()).collect()
}

#[test]
fn nothing_outside_an_agents_folder_is_reached() {
    let disk = Disk::new();
    disk.put("logs/a.log", "mine\n");
    symlink("../EPuser/secret.txt", disk.path("link.log")).unwrap();
    symlink("/etc", disk.path("etc")).unwrap();
    symlink("../EPuser", disk.path("logs/up")).unwrap();
    symlink("a.log", disk.path("logs/inside.log")).unwrap();
    mknodat(CWD, disk.path("pipe.log"), FileType::Fifo, 0o600.into(), 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(disk.path("socket.log")).unwrap();
    let home = disk.home();
    assert!(home.file(b"logs/a.log").is_ok());
    let closed: [&[u8]; 16] = [
        b"link.log",
        b"etc/passwd",
        b"logs/up/secret.txt",
        b"logs/inside.log",
        b"pipe.log",
        b"socket.log",
        b"logs",
        b"../EPuser/secret.txt",
        b"logs/../../EPuser/secret.txt",
        b"/etc/passwd",
        b"logs/a.log/x",
        b"",
        b".",
        b"..",
        b"a\0b",
        &[b'x'; 5000],
    ];
    for path in closed {
        let error = home.file(path).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{}: {error}", String::from_utf8_lossy(path));
    }
    for path in [b"etc".as_slice(), b"logs/up", b"..", b"../EPuser", b"/", b"pipe.log"] {
        let error = home.folder(path).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{}", String::from_utf8_lossy(path));
    }
    let found: Vec<String> = disk.walked(&Sieve::default()).files.iter().map(|file| file.place.text()).collect();
    assert_eq!(found, ["agent01/logs/a.log"]);
    let listing = list(&home.folder(b"").unwrap()).unwrap();
    assert_eq!((listing.entries.len(), listing.others), (1, 4));
}

#[test]
fn a_folder_that_is_swapped_for_a_link_while_it_is_read_leads_nowhere() {
    let disk = Disk::new();
    disk.put("d/secret.txt", "mine\n");
    symlink("../EPuser", disk.path("link")).unwrap();
    let over = CancellationToken::new();
    std::thread::scope(|scope| {
        let (one, other, ended) = (disk.path("d"), disk.path("link"), over.clone());
        scope.spawn(move || {
            while !ended.is_cancelled() {
                rustix::fs::renameat_with(CWD, &one, CWD, &other, rustix::fs::RenameFlags::EXCHANGE).unwrap();
            }
        });
        let home = disk.home();
        for _ in 0..5000 {
            if let Ok(mut file) = home.file(b"d/secret.txt") {
                let mut read = String::new();
                std::io::Read::read_to_string(&mut file, &mut read).unwrap();
                assert_eq!(read, "mine\n");
            }
        }
        over.cancel();
    });
}

#[test]
fn names_are_bytes_and_come_back_by_their_text() {
    let disk = Disk::new();
    let names: [&[u8]; 8] = [
        b"a\xff\xfe.log",
        b"<script>.log",
        b"a\r\nb.log",
        b"%41.log",
        b" ",
        b"a b&c=d#e?.log",
        b"\xe2\x80\xae.log",
        b"-rf",
    ];
    names.iter().for_each(|name| disk.put(name, "x"));
    let mut listing = list(&disk.home().folder(b"").unwrap()).unwrap();
    assert_eq!(listing.entries.len(), names.len());
    sort(&mut listing.entries, By::Name, false);
    for entry in listing.entries {
        let place = Place::parse(&Place::of("agent01").child(&entry.name).text()).unwrap();
        assert_eq!(place.path, entry.name);
        assert!(disk.home().file(&place.path).is_ok());
    }
}

#[test]
fn a_folder_of_a_hundred_thousand_files_is_listed_and_sorted() {
    let disk = Disk::new();
    for number in 0..100_000 {
        std::fs::File::create(disk.path(format!("{number:06}.log"))).unwrap();
    }
    let mut listing = list(&disk.home().folder(b"").unwrap()).unwrap();
    assert!(listing.entries.len() == 100_000 && !listing.is_cut);
    sort(&mut listing.entries, By::Name, true);
    assert_eq!(listing.entries[0].name, b"099999.log");
    assert_eq!(disk.walked(&Sieve::of_names("*7.log").unwrap()).files.len(), 10_000);
}

#[test]
fn windows_follow_each_other_and_leave_nothing_out_plain_or_packed() {
    let disk = Disk::new();
    let all: Vec<String> = (1..=5000).map(|number| format!("line {number} {}", "x".repeat(number % 300))).collect();
    let whole = all.join("\n") + "\nhalf";
    disk.put("plain", &whole);
    disk.put("gz", [gzip(&whole.as_bytes()[..9999]), gzip(&whole.as_bytes()[9999..])].concat());
    disk.put("zst", zstd(whole.as_bytes()));
    for name in ["plain", "gz", "zst"] {
        let content = disk.content(name);
        let (mut at, mut seen) = (0, Vec::new());
        loop {
            let window = after(&content, at, &bounds()).unwrap();
            assert!(window.lines.len() <= 200 && window.start == at, "{name}");
            seen.extend(lines(&window));
            at = window.end;
            if window.is_last {
                break;
            }
        }
        assert_eq!(seen, whole.split('\n').collect::<Vec<_>>(), "{name}");
        let last = tail(&content, &bounds()).unwrap();
        assert_eq!(lines(&last).last().unwrap(), "half");
        assert!(!last.lines.last().unwrap().is_ended && last.end == whole.len() as u64);
        let (mut end, mut back) = (last.start, lines(&last));
        while end > 0 {
            let window = before(&content, end, &bounds()).unwrap();
            back.splice(0..0, lines(&window));
            assert_eq!(window.end, end);
            end = window.start;
        }
        assert_eq!(back, seen, "{name}");
        let place = whole.find("line 2500 ").unwrap() as u64;
        let beside = around(&content, place, &bounds()).unwrap();
        assert_eq!(beside.lines.iter().position(|line| line.offset == place), Some(20), "{name}");
    }
}

#[test]
fn lines_without_an_end_and_files_that_are_no_text_are_shown_in_bounded_parts() {
    let disk = Disk::new();
    let long = vec![0_u8; 3_000_000];
    disk.put("zeros", &long);
    let window = tail(&disk.content("zeros"), &bounds()).unwrap();
    assert_eq!(window.lines.len(), 1);
    assert!(window.lines[0].bytes.len() <= LINE_BYTES_MAX && window.lines[0].length < 300_000);
    let (mut at, mut parts) = (0, 0);
    while at < long.len() as u64 {
        at = after(&disk.content("zeros"), at, &bounds()).unwrap().end;
        parts += 1;
    }
    assert!((10..=13).contains(&parts), "{parts}");
    disk.put("empty", "");
    assert_eq!(tail(&disk.content("empty"), &bounds()).unwrap().lines, []);
    assert!(after(&disk.content("empty"), 99, &bounds()).unwrap().lines.is_empty());
}

#[test]
fn utf_16_is_read_as_text() {
    let disk = Disk::new();
    let bytes: Vec<u8> = "\u{feff}one\r\nt\u{fc}rk error\r\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    disk.put("windows.log", &bytes);
    disk.put("windows.log.gz", gzip(&bytes));
    assert_eq!(lines(&tail(&disk.content("windows.log"), &bounds()).unwrap()), ["one", "t\u{fc}rk error"]);
    let (told, _) = disk.search(&search(text("rk err")));
    assert_eq!(told, ["windows.log:2:t\u{fc}rk error", "windows.log.gz:2:t\u{fc}rk error"]);
}

#[test]
fn a_damaged_packed_file_shows_what_is_whole_of_it_and_says_so() {
    let disk = Disk::new();
    let whole: Vec<u8> = (0..100_000)
        .flat_map(|number: u32| format!("{number} {}\n", number.wrapping_mul(2_654_435_761)).into_bytes())
        .collect();
    for (name, packed) in [("cut.gz", gzip(&whole)), ("cut.zst", zstd(&whole))] {
        disk.put(name, &packed[..packed.len() / 2]);
        let window = tail(&disk.content(name), &bounds()).unwrap();
        assert!(window.damage.is_some() && window.lines.len() > 10, "{name}");
        let (told, done) = disk.search(&search(text("7 ")));
        assert!(told.len() > 1000 && told.last().unwrap().starts_with(&format!("agent01/{name}: ")), "{name}");
        assert_eq!(done.end, End::All);
        std::fs::remove_file(disk.path(name)).unwrap();
    }
    disk.put("garbage.gz", [&[0x1f, 0x8b], [0x55; 500].as_slice()].concat());
    assert!(tail(&disk.content("garbage.gz"), &bounds()).unwrap().damage.is_some());
}

#[test]
fn what_grows_is_told_in_whole_lines_and_what_was_replaced_ends_it() {
    let disk = Disk::new();
    let volume = disk.volume();
    disk.put("a.log", "one\ntwo\nha");
    let growth = || Growth::new(b"agent01".to_vec(), Place::parse("agent01/a.log").unwrap(), 4);
    let told = |growth: &mut Growth| match growth.look(&volume, &bounds()).unwrap() {
        Grown::Lines(lines) => {
            Ok(lines.iter().map(|line| String::from_utf8_lossy(&line.bytes).into_owned()).collect::<Vec<_>>())
        }
        Grown::Ended(why) => Err(why),
    };
    let mut watched = growth();
    assert_eq!(told(&mut watched), Ok(vec!["two".to_owned()]));
    assert_eq!(told(&mut watched), Ok(vec![]));
    let mut file = std::fs::File::options().append(true).open(disk.path("a.log")).unwrap();
    file.write_all(b"lf\nthree\nmore").unwrap();
    assert_eq!(told(&mut watched), Ok(vec!["half".to_owned(), "three".to_owned()]));
    // A longer version of itself takes its name.
    disk.put("new", "one\ntwo\nhalf\nthree\nmore\nfour\n");
    std::fs::rename(disk.path("new"), disk.path("a.log")).unwrap();
    assert_eq!(told(&mut watched), Ok(vec!["more".to_owned(), "four".to_owned()]));
    // A line longer than a window comes in parts.
    let long = format!("{}end\n", "x".repeat(600_000));
    std::fs::File::options().append(true).open(disk.path("a.log")).unwrap().write_all(long.as_bytes()).unwrap();
    let parts: Vec<String> = (0..3).flat_map(|_| told(&mut watched).unwrap()).collect();
    assert_eq!(parts.len(), 3);
    assert_eq!(told(&mut watched), Ok(vec![]), "each part once");
    // Another one does.
    disk.put("a.log", "something else\n".repeat(100_000));
    assert!(told(&mut watched).unwrap_err().contains("replaced"));
    disk.put("a.log", "1\n2\n3\n");
    let mut watched = growth();
    told(&mut watched).unwrap();
    disk.put("a.log", "");
    assert!(told(&mut watched).unwrap_err().contains("shorter"));
    std::fs::rename(disk.path("a.log"), disk.path("a.log.1")).unwrap();
    assert!(told(&mut growth()).unwrap_err().contains("not there any more"));
}

/// Lines of random words, some of them without an end, with carriage returns, or no UTF-8.
fn content() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        8 => "[a-c]{1,4}",
        2 => "ERROR|error|x\\.y|a\\+b|\\(z\\)",
        1 => "[ \\t]{1,3}",
    ];
    let line = prop::collection::vec(word, 0..6).prop_map(|words| words.join(" ").into_bytes());
    let odd = prop::collection::vec(prop_oneof![Just(0xff_u8), Just(0x80), Just(b'a'), Just(b'\r')], 0..5);
    let lines = prop::collection::vec(prop_oneof![9 => line.boxed(), 1 => odd.boxed()], 0..60);
    (lines, any::<bool>()).prop_map(|(lines, is_ended)| {
        let mut whole = lines.join(&b'\n');
        if is_ended {
            whole.push(b'\n');
        }
        whole
    })
}

/// What grep and its like say: `path:number:line`.
fn referee(program: &str, arguments: &[&str], pattern: &str, folder: &Path, files: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for name in files {
        let mut command = Command::new(program);
        command.env("LC_ALL", "C").args(arguments).args(["-a", "-h", "-n", "-e", pattern, "--"]).arg(folder.join(name));
        let said = command.output().unwrap();
        assert!(said.status.code().is_some_and(|code| code < 2), "{}", String::from_utf8_lossy(&said.stderr));
        let lines = said.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        found.extend(lines.map(|line| {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            format!("{name}:{}", String::from_utf8_lossy(line))
        }));
    }
    found
}

/// What a packed file's name ends with, what looks into it, and what packs it.
type Kind = (&'static str, &'static str, fn(&[u8]) -> Vec<u8>);

#[test]
fn what_is_found_is_what_grep_zgrep_and_zstdgrep_find() {
    let patterns = [
        ("a", How::Text, false),
        ("error", How::Text, true),
        ("x.y", How::Text, false),
        ("(z)", How::Text, false),
        ("a+b", How::Regex, false),
        ("^a|b$", How::Regex, false),
        ("[bc]{2,3} (error|x.y)", How::Regex, true),
        ("^$", How::Regex, false),
        ("\\bab", How::Regex, false),
    ];
    let kinds: [Kind; 3] = [("log", "grep", <[u8]>::to_vec), ("gz", "zgrep", gzip), ("zst", "zstdgrep", zstd)];
    let mut runner = TestRunner::new(Cases { cases: 8, failure_persistence: None, ..Cases::default() });
    let contents = prop::collection::vec((content(), 0..3_usize), 1..4);
    let checked = runner.run(&contents, |contents| {
        let disk = Disk::new();
        let mut names: [Vec<String>; 3] = Default::default();
        for (number, (content, kind)) in contents.iter().enumerate() {
            let (ending, _, pack) = kinds[*kind];
            let name = format!("{number}.{ending}");
            // Two members, where it is packed.
            let (one, other) = content.split_at(content.len() / 2);
            disk.put(&name, [pack(one), pack(other)].concat());
            names[*kind].push(name);
        }
        for (pattern, how, ignores_case) in patterns {
            let mut arguments = vec![if how == How::Text { "-F" } else { "-E" }];
            arguments.extend(ignores_case.then_some("-i"));
            let mut expected = Vec::new();
            for ((_, program, _), names) in kinds.iter().zip(&names) {
                expected.extend(referee(program, &arguments, pattern, &disk.path(""), names));
            }
            let (mut told, done) = disk.search(&search(Pattern::new(pattern, how, ignores_case).unwrap()));
            told.sort();
            expected.sort();
            prop_assert_eq!(told, expected, "{}", pattern);
            prop_assert_eq!(done.end, End::All);
        }
        Ok(())
    });
    checked.unwrap();
}

#[test]
fn lines_beside_a_hit_come_with_it_and_places_lead_to_it() {
    let disk = Disk::new();
    let whole: String = (1..=100).map(|number| format!("line {number}\n")).collect();
    disk.put("a.log", &whole);
    let (home, mut told) = (Arc::new(disk.home()), Vec::new());
    let wanted = Search { context: 2, ..search(Pattern::new("line (10|50)$", How::Regex, false).unwrap()) };
    wanted.run(&disk.walked(&Sieve::default()).files, &|_| Ok(home.clone()), &mut |event| {
        match event {
            Event::Line { number, offset, is_hit, .. } => {
                let window = after(&disk.content("a.log"), offset, &bounds()).unwrap();
                assert_eq!(lines(&window)[0], format!("line {number}"));
                told.push(if is_hit { format!("{number}!") } else { number.to_string() });
            }
            Event::Gap => told.push("-".into()),
            _ => {}
        }
        true
    });
    assert_eq!(told, ["8", "9", "10!", "11", "12", "-", "48", "49", "50!", "51", "52"]);
}

#[test]
fn the_last_hits_of_each_file_are_told_where_only_they_are_wanted() {
    let disk = Disk::new();
    let whole: String = (1..=500).map(|number| format!("line {number}\n")).collect();
    disk.put("a.log", &whole);
    disk.put("b.log.zst", zstd(whole.as_bytes()));
    let (told, done) = disk.search(&Search { last: Some(2), ..search(text("line")) });
    assert_eq!(told, ["a.log:499:line 499", "a.log:500:line 500", "b.log.zst:499:line 499", "b.log.zst:500:line 500"]);
    assert_eq!(done, Done { end: End::All, files: 2 });
    let (home, mut numbers) = (Arc::new(disk.home()), Vec::new());
    let wanted = Search { last: Some(2), context: 2, ..search(Pattern::new("[57]$", How::Regex, false).unwrap()) };
    wanted.run(&disk.walked(&Sieve::default()).files[..1], &|_| Ok(home.clone()), &mut |event| {
        match event {
            Event::Line { number, is_hit, .. } => {
                numbers.push(if is_hit { format!("{number}!") } else { number.to_string() })
            }
            Event::Gap => numbers.push("-".into()),
            _ => {}
        }
        true
    });
    assert_eq!(numbers, ["493", "494", "495!", "496", "497!", "498", "499"], "and what stands beside them");
    let (told, done) = disk.search(&Search { last: Some(2), hits_max: 3, context: 1, ..search(text("line 5")) });
    assert_eq!((told.len(), done.end), (3, End::Hits));
}

#[test]
fn a_line_of_many_megabytes_is_searched_in_parts_and_what_follows_keeps_its_number() {
    let disk = Disk::new();
    let long = [b"first\n".to_vec(), vec![b'x'; 5 << 20], b" needle\nthird needle\n".to_vec()].concat();
    disk.put("a.log", &long);
    let (told, _) = disk.search(&search(text("needle")));
    let numbers: Vec<&str> = told.iter().map(|line| line.split(':').nth(1).unwrap()).collect();
    assert_eq!(numbers, ["2", "3"]);
}

#[test]
fn a_bomb_is_left_at_its_bound_and_the_rest_is_looked_through() {
    let disk = Disk::new();
    let zeros = vec![b'0'; 50 << 20];
    disk.put("0-bomb.gz", gzip(&zeros));
    disk.put("1-bomb.zst", zstd(&zeros));
    disk.put("2.log", "needle\n");
    let wanted = Search { bounds: Bounds { bytes_max: 8 << 20, ..bounds() }, ..search(text("needle")) };
    let (told, done) = disk.search(&wanted);
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(
        told[0].contains("unpacks to more")
            && told[1].contains("unpacks to more")
            && told[2].contains("2.log:1:needle")
    );
    assert_eq!(done.end, End::All);
    assert!(wanted.counts.bytes.load(Ordering::Relaxed) <= 17 << 20);
    let far = Bounds { bytes_max: 8 << 20, ..bounds() };
    let refused = tail(&disk.content("0-bomb.gz"), &far).unwrap_err();
    assert_eq!(Stop::of(&refused), Some(Stop::Bytes));
}

#[test]
fn what_unpacks_to_nothing_is_called_off_all_the_same() {
    let disk = Disk::new();
    disk.put("gz", gzip(b"").repeat(100_000));
    disk.put("zst", zstd(b"").repeat(100_000));
    let called_off = bounds();
    called_off.over.cancel();
    let late = Bounds { until: Instant::now(), ..bounds() };
    for name in ["gz", "zst"] {
        let content = disk.content(name);
        assert!(content.text(0, &bounds()).is_ok(), "{name}");
        for (bounds, stop) in [(&called_off, Stop::CalledOff), (&late, Stop::Time)] {
            let error = content.text(0, bounds).err().unwrap();
            assert_eq!(Stop::of(&error), Some(stop), "{name}: {error}");
        }
    }
}

#[test]
fn a_search_ends_when_it_is_called_off_at_its_time_and_at_its_hits() {
    let disk = Disk::new();
    // A hole takes no room, and long to be read.
    std::fs::File::create(disk.path("hole.log")).unwrap().set_len(256 << 30).unwrap();
    disk.put("a.log", "hit\n".repeat(50));
    // Hits come first by name.
    let few = Search { hits_max: 7, ..search(text("hit")) };
    let (told, done) = disk.search(&few);
    assert_eq!((told.len(), done.end), (7, End::Hits));
    let late = Search { bounds: Bounds { until: Instant::now(), ..bounds() }, ..search(text("hit")) };
    assert_eq!(disk.search(&late), (vec![], Done { end: End::Time, files: 0 }));
    let called_off = search(text("nothing"));
    let (over, counts) = (called_off.bounds.over.clone(), called_off.counts.clone());
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while counts.bytes.load(Ordering::Relaxed) < 1 << 20 {
                std::thread::yield_now();
            }
            over.cancel();
        });
        let (_, done) = disk.search(&called_off);
        assert_eq!(done.end, End::CalledOff);
    });
    assert!(called_off.counts.bytes.load(Ordering::Relaxed) < 256 << 30, "it was not looked through to its end");
    let home = Arc::new(disk.home());
    let done = search(text("hit")).run(&disk.walked(&Sieve::default()).files, &|_| Ok(home.clone()), &mut |_| false);
    assert_eq!(done.end, End::CalledOff, "nobody listens");
}

#[test]
fn the_first_troubles_are_told_and_the_rest_is_counted() {
    let disk = Disk::new();
    (0..130).for_each(|number| disk.put(format!("{number:03}.gz"), [0x1f_u8, 0x8b, 0x55, 0x55]));
    disk.put("x.log", "hit\n");
    let wanted = search(text("hit"));
    let (told, done) = disk.search(&wanted);
    assert_eq!((told.len() as u64, done.end), (TROUBLES_MAX + 1, End::All));
    assert_eq!(told.last().unwrap(), "x.log:1:hit");
    assert_eq!(wanted.counts.troubles.load(Ordering::Relaxed), 130);
}

#[test]
fn no_more_paths_are_kept_than_there_is_room_for() {
    let disk = Disk::new();
    ["d/1", "d/2", "d/3"].iter().for_each(|name| disk.put(name, "x"));
    // The walk keeps what is begun within the bound: room for one more.
    let mut walked = Walked { path_bytes: walk::PATH_BYTES_MAX - 11, ..Walked::default() };
    walk(&disk.home(), &Place::of("agent01"), &Sieve::default(), &|| false, &mut walked).unwrap();
    assert_eq!((walked.files.len(), walked.is_cut), (2, true));
    let mut walked = Walked { path_bytes: walk::PATH_BYTES_MAX, ..Walked::default() };
    walk(&disk.home(), &Place::of("agent01"), &Sieve::default(), &|| false, &mut walked).unwrap();
    assert_eq!((walked.files.len(), walked.is_cut), (0, true));
}

/// The files in an archive, by tar itself: names and contents.
fn unpacked(archive: &Path) -> Vec<(String, Vec<u8>)> {
    let folder = tempfile::tempdir().unwrap();
    let told = Command::new("tar").arg("-C").arg(folder.path()).arg("-xf").arg(archive).output().unwrap();
    assert!(told.status.success() && told.stderr.is_empty(), "{}", String::from_utf8_lossy(&told.stderr));
    let mut found = Vec::new();
    let mut folders = vec![folder.path().to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap().flatten() {
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(entry.path()),
                false => {
                    let name = entry.path().strip_prefix(folder.path()).unwrap().to_string_lossy().into_owned();
                    found.push((name, std::fs::read(entry.path()).unwrap()));
                }
            }
        }
    }
    found.sort();
    found
}

#[test]
fn an_archive_is_what_tar_reads_however_it_is_packed() {
    let disk = Disk::new();
    let long = format!("{}/{}.log", "d".repeat(120), "n".repeat(200));
    disk.put("a.log", "one\n");
    disk.put(&long, vec![7; 3000]);
    disk.put("empty", "");
    let home = Arc::new(disk.home());
    let items: Vec<Item> = disk
        .walked(&Sieve::default())
        .files
        .into_iter()
        .map(|file| Item { home: home.clone(), place: file.place })
        .collect();
    for pack in [Pack::Tar, Pack::Gzip, Pack::Zstd] {
        let path = disk.folder.path().join(format!("x.{}", pack.ending()));
        let out = std::fs::File::create(&path).unwrap();
        let bundled = bundle(&items, &[], pack, &CancellationToken::new(), out).unwrap();
        assert_eq!((bundled.files, bundled.bytes, bundled.incomplete), (3, 3004, 0));
        let expected = [
            ("agent01/a.log".to_owned(), b"one\n".to_vec()),
            (format!("agent01/{long}"), vec![7; 3000]),
            ("agent01/empty".to_owned(), vec![]),
        ];
        let mut expected = expected.to_vec();
        expected.sort();
        assert_eq!(unpacked(&path), expected, "{pack:?}");
    }
}

/// Cuts a file, lets another grow and removes a third as soon as something of the archive is written.
struct Meddler<'a> {
    disk: &'a Disk,
    out: std::fs::File,
    is_done: bool,
}

impl Write for Meddler<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if !std::mem::replace(&mut self.is_done, true) {
            std::fs::File::options().write(true).open(self.disk.path("0.log")).unwrap().set_len(10).unwrap();
            let mut grown = std::fs::File::options().append(true).open(self.disk.path("0.log")).unwrap();
            grown.write_all(b"").unwrap();
            std::fs::remove_file(self.disk.path("1.log")).unwrap();
        }
        self.out.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

#[test]
fn an_archive_stays_well_formed_while_its_files_change() {
    let disk = Disk::new();
    ["0.log", "1.log", "2.log"].iter().for_each(|name| disk.put(name, "x".repeat(1_000_000)));
    let home = Arc::new(disk.home());
    let items: Vec<Item> = disk
        .walked(&Sieve::default())
        .files
        .into_iter()
        .map(|file| Item { home: home.clone(), place: file.place })
        .collect();
    let path = disk.folder.path().join("x.tar");
    let out = Meddler { disk: &disk, out: std::fs::File::create(&path).unwrap(), is_done: false };
    let known = ["1 folder cannot be read.".to_owned()];
    let bundled = bundle(&items, &known, Pack::Tar, &CancellationToken::new(), out).unwrap();
    assert_eq!((bundled.files, bundled.incomplete), (2, 3));
    let files = unpacked(&path);
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["NOT-COMPLETE.txt", "agent01/0.log", "agent01/2.log"]);
    let note = String::from_utf8_lossy(&files[0].1);
    assert!(note.starts_with("1 folder cannot be read.\n"), "{note}");
    assert!(
        note.contains("agent01/0.log: its end is missing") && note.contains("agent01/1.log: it is not here"),
        "{note}"
    );
    assert_eq!(files[1].1.len(), 1_000_000, "what is missing is filled");
    let over = CancellationToken::new();
    over.cancel();
    assert!(bundle(&items[2..], &[], Pack::Tar, &over, std::io::sink()).is_err());
}
