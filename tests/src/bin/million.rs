//! `make million`: how long a pass takes over a million unchanged files, and how much memory; beside rsync.
//!
//! Both sides get the same tree, as from a copied disk. The first pass compares everything by hash; then filesync starts anew,
//! and what is measured is that it finds nothing to do. `MILLION_FILES` makes it another number.
#![allow(clippy::print_stdout, reason = "the table is all it is for")]
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a bench may stop at the first trouble"
)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tests::measure::{folder_on_disk, median};
use tests::{Machine, Mirror, OpenSsh, has_program, make_key, new_secret, run, within};

const ROUNDS: usize = 3;
const PASS_MAX: Duration = Duration::from_secs(3600);

/// The same files twice, so and so many in a folder.
fn make_trees(trees: &[PathBuf], files: usize, files_per_folder: usize) {
    for number in 0..files {
        for tree in trees {
            let inside = tree.join(format!("d{}", number / files_per_folder));
            if number % files_per_folder == 0 {
                std::fs::create_dir_all(&inside).expect("a folder");
            }
            let file = std::fs::File::create(inside.join(format!("file-{number:08}.dat"))).expect("a file");
            std::io::Write::write_all(&mut &file, format!("content of file {number}\n").as_bytes())
                .expect("its content");
            let time = std::time::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + number as u64);
            file.set_modified(time).expect("its time");
        }
    }
}

/// Seconds from the start of filesync to the end of its first pass, and the most memory it had by then, in MB.
fn pass(mirror: &mut Mirror) -> (f64, f64) {
    let began = Instant::now();
    mirror.start();
    within(PASS_MAX, "a pass", || mirror.metric("filesync_passes") >= 1.0);
    let seconds = began.elapsed().as_secs_f64();
    let status = std::fs::read_to_string(format!("/proc/{}/status", mirror.program().id())).expect("it runs");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its peak");
    let kibibytes: f64 = peak.trim().trim_end_matches(" kB").parse().expect("a number");
    assert!(mirror.page("/readyz").0 == 200, "{}", mirror.page("/readyz").1);
    mirror.stop();
    (seconds, kibibytes * 1024.0 / 1e6)
}

/// Seconds that rsync needs to find nothing to do.
fn rsync(openssh: &OpenSsh, key: &Path, from: &Path, to: &Path) -> f64 {
    let mut command = tests::rsync(&openssh.ssh(key, ""), from, to);
    let began = Instant::now();
    let (status, text) = run(&mut command);
    assert!(status.success(), "{text}");
    began.elapsed().as_secs_f64()
}

fn measure(folder: &Path, files: usize, files_per_folder: usize) {
    let (here, there, secret) = (folder.join("master"), folder.join("standby"), new_secret());
    make_trees(&[here.join("bench"), there.join("bench")], files, files_per_folder);
    let key = make_key(folder);
    let openssh = OpenSsh::start(folder, &key);
    let master = Machine::master().secret(&secret).data(&here).start();
    let standby = Machine::master().secret(&secret).standby().data(&there).start();
    let mut mirror = Mirror::of(&master, &secret, &standby.address().to_string());
    let row = |what: &str, seconds: f64, megabytes: f64| {
        println!("| {files} files, {files_per_folder} in a folder | {what} | {seconds:.1} | {megabytes:.0} |");
    };
    let (seconds, megabytes) = pass(&mut mirror);
    row("filesync, the first pass over a copied disk: all by hash", seconds, megabytes);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(pass(&mut mirror));
        if has_program("rsync") {
            theirs.push(rsync(&openssh, &key.0, &here.join("bench"), &there.join("bench")));
        }
    }
    let (seconds, megabytes): (Vec<f64>, Vec<f64>) = ours.into_iter().unzip();
    row("filesync, nothing has changed", median(seconds), megabytes.into_iter().fold(0.0, f64::max));
    if !theirs.is_empty() {
        row("rsync -a, nothing has changed", median(theirs), f64::NAN);
    }
    drop((master, standby, openssh));
    std::fs::remove_dir_all(here).expect("it can go");
    std::fs::remove_dir_all(there).expect("it can go");
}

fn main() {
    let files = std::env::var("MILLION_FILES").ok().and_then(|files| files.parse().ok()).unwrap_or(1_000_000);
    println!("| tree | what | s (median) | MB at the peak |\n|---|---|---|---|");
    for files_per_folder in [1000, files] {
        let folder = folder_on_disk("million-");
        measure(folder.path(), files, files_per_folder);
    }
}
