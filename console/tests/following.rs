//! A console that is killed at any moment keeps every record once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use console::questions::{Filter, Reader};
use jiff::tz::TimeZone;

/// Kills in the short form; FOLLOWING_KILLS says another number.
const KILLS: u64 = 20;

/// Numbers that follow from a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// Writes logs of both servers, and does to them what is done to logs.
struct Generator {
    logs: PathBuf,
    random: Random,
    number: u64,
    expected: BTreeMap<String, u64>,
    rotated: Vec<PathBuf>,
}

impl Generator {
    fn write(&mut self) {
        let is_ours = self.random.below(2) == 0;
        let file = self.logs.join(if is_ours { "from-a1b2/activity.log" } else { "sftpgo.log" });
        let mut text = Vec::new();
        for _ in 0..self.random.below(400) {
            self.number += 1;
            let path = format!("/in/<script>'\"{}\u{1}\n", self.number);
            // Our own have numbers; SFTPGo's may be equal in every field.
            let copies = if is_ours { 1 } else { 1 + self.random.below(3) };
            let mut line = if is_ours { own_line(self.number, &path) } else { sftpgo_line(&path) };
            line = line.repeat(copies as usize);
            text.extend_from_slice(&line);
            self.expected.insert(path, copies);
            if self.random.below(100) == 0 {
                text.extend_from_slice(b"this is no record\n");
            }
        }
        let mut file = File::options().create(true).append(true).open(file).unwrap();
        // In two pieces, so that half a line is to be seen.
        let middle = self.random.below(text.len() as u64 + 1) as usize;
        file.write_all(&text[..middle]).unwrap();
        file.write_all(&text[middle..]).unwrap();
    }

    fn rotate(&mut self) {
        self.number += 1;
        let (live, rotated) = match self.random.below(2) {
            0 => ("from-a1b2/activity.log".into(), format!("from-a1b2/activity-{:09}.log", self.number)),
            _ => ("sftpgo.log".to_owned(), format!("sftpgo-{:09}.log", self.number)),
        };
        let (live, rotated) = (self.logs.join(live), self.logs.join(rotated));
        if !live.exists() {
            return;
        }
        if self.random.below(4) == 0 {
            // As logrotate does with copytruncate.
            std::fs::copy(&live, &rotated).unwrap();
            File::options().write(true).open(&live).unwrap().set_len(0).unwrap();
        } else {
            std::fs::rename(&live, &rotated).unwrap();
        }
        self.rotated.push(rotated);
    }

    fn pack(&mut self) {
        let Some(path) = self.rotated.pop() else { return };
        let text = std::fs::read(&path).unwrap();
        let packed = zstd::encode_all(text.as_slice(), 1).unwrap();
        std::fs::write(path.with_extension("log.zst"), packed).unwrap();
        std::fs::remove_file(path).unwrap();
    }

    fn act(&mut self) {
        match self.random.below(12) {
            0 => self.rotate(),
            1 => self.pack(),
            _ => self.write(),
        }
    }
}

fn own_line(id: u64, path: &str) -> Vec<u8> {
    let time = "2026-11-21T22:48:11.030Z".into();
    let activity = pair::activity::Activity { id, time, sender: "Upload".into(), ..Default::default() };
    pair::activity::Activity { file_path: Some(path.into()), ..activity }.line()
}

fn sftpgo_line(path: &str) -> Vec<u8> {
    let line = serde_json::json!({
        "level": "info", "time": "2026-10-01T16:53:57.751", "sender": "Download", "username": "p", "file_path": path, "size_bytes": 7,
    });
    format!("{line}\n").into_bytes()
}

fn console(logs: &Path, state: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_console"));
    command.arg("ingest").arg("--logs").arg(logs).arg("--state").arg(state).env("CONSOLE_TIME_ZONE", "UTC");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// How often each path is there.
fn kept(state: &Path) -> BTreeMap<String, u64> {
    let reader = Reader::open(state, TimeZone::UTC).unwrap();
    let (mut paths, mut before) = (BTreeMap::new(), None);
    loop {
        let page = reader.newest(&Filter::default(), before, 1000).unwrap();
        for record in page.records {
            *paths.entry(record.path.unwrap_or_default()).or_default() += 1;
        }
        match page.next {
            Some(next) => before = Some(next),
            None => return paths,
        }
    }
}

fn number_of(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn killed_at_any_moment_it_keeps_every_record_once() {
    let seed = number_of("FOLLOWING_SEED").unwrap_or_else(|| RandomState::new().hash_one(1) | 1);
    let kills = number_of("FOLLOWING_KILLS").unwrap_or(KILLS);
    println!("seed: FOLLOWING_SEED={seed}, kills: {kills}");
    let folder = tempfile::tempdir().unwrap();
    let (logs, state) = (folder.path().join("logs"), folder.path().join("state"));
    std::fs::create_dir_all(logs.join("from-a1b2")).unwrap();
    let (random, expected) = (Random(seed), BTreeMap::new());
    let mut generator = Generator { logs: logs.clone(), random, number: 0, expected, rotated: Vec::new() };
    for _ in 0..kills {
        let child = console(&logs, &state).spawn().unwrap();
        let end = Instant::now() + Duration::from_millis(generator.random.below(1200));
        let mut deeds = 0;
        while Instant::now() < end {
            if deeds < 20 {
                generator.act();
                deeds += 1;
            }
            std::thread::yield_now();
        }
        kill(child);
    }
    if state.join("console.db").exists() {
        println!("kept before the last kill: {} paths", kept(&state).len());
    }
    let output = console(&logs, &state).arg("--once").stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap();
    println!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "seed {seed}: {}", String::from_utf8_lossy(&output.stderr));
    let (kept, expected) = (kept(&state), generator.expected);
    let wrong: Vec<_> = expected.iter().filter(|(path, count)| kept.get(*path) != Some(*count)).collect();
    assert!(wrong.is_empty(), "seed {seed}: {} of {} are wrong, {:?} …", wrong.len(), expected.len(), wrong.first());
    assert_eq!(kept.len(), expected.len(), "seed {seed}");
}

#[test]
fn wrong_use_is_a_sentence_and_exit_code_2() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = console(folder.path(), folder.path());
    let output = command.env("CONSOLE_TIME_ZONE", "Nowhere").stderr(Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("time_zone") && said.contains("Nowhere"), "{said}");
}
