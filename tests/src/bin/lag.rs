//! `make lag`: how long after CLOSE was answered a file is on the standby, beside lsyncd where that is installed.
//!
//! In turns, a file each: one is uploaded to our master, one is renamed whole into a folder that lsyncd watches. It prints
//! a table of percentiles. What is timed ends when the file is seen whole under its name on the other side.
#![allow(clippy::print_stdout, reason = "the table is all it is for")]
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a bench may stop at the first trouble, and keeps a pace"
)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pair::client::Client;
use pair::wire::open_flag;
use tests::measure::folder_on_disk;
use tests::{Mirror, User, eventually, has_program, master_with, new_secret};

/// Files per side, their size in bytes, and from one to the next.
const FILES: usize = 300;
const BYTES: usize = 16 * 1024;
const PACE: Duration = Duration::from_millis(100);
/// How long ours may take, half of the files and all but one of a hundred, in milliseconds.
const GOALS_MS: [f64; 2] = [25.0, 100.0];
/// A file that takes longer counts as so long.
const PATIENCE: Duration = Duration::from_secs(20);

/// A peer that mirrors a folder.
struct Lsyncd {
    process: Child,
    source: PathBuf,
    target: PathBuf,
}

impl Lsyncd {
    fn start(folder: &Path) -> Option<Lsyncd> {
        if !has_program("lsyncd") || !has_program("rsync") {
            println!("lsyncd or rsync is not installed: no peer\n");
            return None;
        }
        let (source, target, settings) = (folder.join("source"), folder.join("target"), folder.join("lsyncd.lua"));
        [&source, &target].into_iter().for_each(|folder| std::fs::create_dir(folder).expect("a folder"));
        let text = format!(
            "settings {{ nodaemon = true, inotifyMode = \"CloseWrite or Modify\" }}\nsync {{ default.rsync, source = {source:?}, \
             target = {target:?}, delay = 1 }}\n"
        );
        std::fs::write(&settings, text).expect("a file");
        let process = Command::new("lsyncd").arg(settings).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let lsyncd = Lsyncd { process: process.expect("lsyncd starts"), source, target };
        std::fs::write(lsyncd.source.join("first"), "x").expect("a file");
        eventually("lsyncd mirrors", || lsyncd.target.join("first").exists());
        Some(lsyncd)
    }
}

impl Drop for Lsyncd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Waits until a file is whole, and says how long that took.
fn arrival(path: PathBuf, since: Instant) -> std::thread::JoinHandle<Duration> {
    std::thread::spawn(move || {
        while since.elapsed() < PATIENCE && !std::fs::metadata(&path).is_ok_and(|found| found.len() == BYTES as u64) {
            std::thread::sleep(Duration::from_micros(500));
        }
        since.elapsed()
    })
}

async fn upload(client: &Client, name: &str, content: &[u8]) {
    let flags = open_flag::WRITE | open_flag::CREAT | open_flag::TRUNC;
    let handle = client.open(name.as_bytes(), flags, None).await.expect("OPEN");
    client.write(&handle, 0, content).await.expect("WRITE");
    client.close(handle).await.expect("CLOSE");
}

/// A figure with its goal, where there is one; bold where that is missed.
fn shown(ms: f64, goal_ms: Option<f64>) -> String {
    match goal_ms {
        None => format!("{ms:.1}"),
        Some(goal_ms) if ms <= goal_ms => format!("{ms:.1} (≤ {goal_ms})"),
        Some(goal_ms) => format!("**{ms:.1}** (≤ {goal_ms})"),
    }
}

fn print(name: &str, arrivals: Vec<std::thread::JoinHandle<Duration>>, goals_ms: [Option<f64>; 2]) {
    let mut times: Vec<f64> = arrivals.into_iter().map(|wait| wait.join().unwrap().as_secs_f64() * 1000.0).collect();
    times.sort_by(f64::total_cmp);
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    println!("| {name} | {} | {} | {:.1} |", shown(at(50), goals_ms[0]), shown(at(99), goals_ms[1]), at(100));
}

#[tokio::main]
async fn main() {
    let folder = folder_on_disk("lag-");
    let (user, secret) = (User::new("bench"), new_secret());
    let master = master_with(&[(&user, "")]).secret(&secret).data(&folder.path().join("master")).start();
    let standby = tests::Machine::master().secret(&secret).standby().data(&folder.path().join("standby")).start();
    let mut mirror = Mirror::of(&master, &secret, &standby.address().to_string());
    mirror.set("FILESYNC_INTERVAL", "100s");
    mirror.set("FILESYNC_FOLLOW", "true");
    mirror.start();
    eventually("the feed is followed", || mirror.metric("filesync_followed") >= 1.0);
    let client = user.connect(&master).await;
    let lsyncd = Lsyncd::start(folder.path());
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let content = vec![7; BYTES];
    for number in 0..FILES {
        let (began, name) = (Instant::now(), format!("file-{number}"));
        upload(&client, &name, &content).await;
        ours.push(arrival(standby.path("bench", &name), Instant::now()));
        if let Some(lsyncd) = &lsyncd {
            std::fs::write(lsyncd.source.join(&name), &content).expect("a file");
            theirs.push(arrival(lsyncd.target.join(&name), Instant::now()));
        }
        tokio::time::sleep(PACE.saturating_sub(began.elapsed())).await;
    }
    println!("| mirror | p50 ms | p99 ms | longest ms |\n|---|---|---|---|");
    print("filesync", ours, GOALS_MS.map(Some));
    if lsyncd.is_some() {
        print("lsyncd, delay 1 s", theirs, [None; 2]);
    }
}
