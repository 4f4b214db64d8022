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

use std::path::Path;
use std::time::Instant;

use tests::measure::{folder_on_disk, make_equal_trees, median, timed_pass};
use tests::{Machine, Mirror, OpenSsh, has_program, make_key, new_secret, run};

const ROUNDS: usize = 3;

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
    make_equal_trees(&[here.join("bench"), there.join("bench")], files, files_per_folder);
    let key = make_key(folder);
    let openssh = OpenSsh::start(folder, &key);
    let master = Machine::master().secret(&secret).data(&here).start();
    let standby = Machine::master().secret(&secret).standby().data(&there).start();
    let mut mirror = Mirror::of(&master, &secret, &standby.address().to_string());
    let row = |what: &str, seconds: f64, peak_bytes: f64| {
        let megabytes = peak_bytes / 1e6;
        println!("| {files} files, {files_per_folder} in a folder | {what} | {seconds:.1} | {megabytes:.0} |");
    };
    let (seconds, peak_bytes) = timed_pass(&mut mirror);
    row("filesync, the first pass over a copied disk: all by hash", seconds, peak_bytes);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(timed_pass(&mut mirror));
        if has_program("rsync") {
            theirs.push(rsync(&openssh, &key.0, &here.join("bench"), &there.join("bench")));
        }
    }
    let (seconds, peaks_bytes): (Vec<f64>, Vec<f64>) = ours.into_iter().unzip();
    row("filesync, nothing has changed", median(seconds), peaks_bytes.into_iter().fold(0.0, f64::max));
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
