//! `make copying`: how long a mirror takes to bring a tree to an empty standby, beside rsync, rclone and sftp.
//!
//! In turns, from the start of the program until all is there; ours and `rsync --fsync` have it on the disk by then. It prints
//! a table of medians and ratios. Only ratios mean anything on a shared machine.
#![allow(clippy::print_stdout, reason = "the table is all it is for")]
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a bench may stop at the first trouble"
)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tests::measure::{content, folder_on_disk, median};
use tests::{Machine, Mirror, OpenSsh, Sftp, has_program, make_key, new_secret, run, within};

const ROUNDS: usize = 3;
const CIPHER: &str = "aes128-gcm@openssh.com";

/// A tree: its name, its files, and their size in bytes.
const TREES: [(&str, usize, usize); 2] = [("10,000 files of 4 KiB", 10_000, 4096), ("one file of 1 GiB", 1, 1 << 30)];
/// Files in one folder.
const FILES_PER_FOLDER: usize = 100;

fn make_tree(folder: &Path, files: usize, bytes: usize) {
    let content = content(bytes);
    for number in 0..files {
        let inside = folder.join(format!("d{}", number / FILES_PER_FOLDER));
        std::fs::create_dir_all(&inside).expect("a folder");
        std::fs::write(inside.join(format!("f{number}")), &content).expect("a file");
    }
}

/// Makes the command that copies a folder into another on the server.
type Copy = Box<dyn Fn(&Path, &Path) -> Command>;

/// A peer.
struct Peer {
    name: &'static str,
    command: Copy,
}

fn peers(openssh: &OpenSsh, key: &Path) -> Vec<Peer> {
    let (port, key) = (openssh.address().port(), key.to_owned());
    let ssh = openssh.ssh(&key, &format!("-c {CIPHER}"));
    let rsync = move |fsync: bool| {
        let ssh = ssh.clone();
        move |from: &Path, to: &Path| {
            let mut command = tests::rsync(&ssh, from, to);
            command.args(fsync.then_some("--fsync"));
            command
        }
    };
    let address = openssh.address();
    let sftp_key = key.clone();
    let sftp = move |from: &Path, to: &Path| {
        let client = Sftp::new(address, ("root", "")).with_key(&sftp_key).option(&format!("Ciphers={CIPHER}"));
        let batch = from.with_extension("batch");
        std::fs::write(&batch, format!("put -R {}/* {}\n", from.display(), to.display())).expect("a batch");
        let mut command = client.command("sftp");
        command.arg("-b").arg(batch).arg(client.target());
        command
    };
    let rclone = move |from: &Path, to: &Path| {
        let mut command = Command::new("rclone");
        let options = format!("host=127.0.0.1,port={port},user=root,key_file={},shell_type=none", key.display());
        command.args(["copy", "--transfers", "16"]).arg(from).arg(format!(":sftp,{options}:{}", to.display()));
        command
    };
    let peers = [
        ("rsync --fsync", "rsync", Box::new(rsync(true)) as Copy),
        ("rsync, not flushed", "rsync", Box::new(rsync(false))),
        ("rclone, 16 transfers, not flushed", "rclone", Box::new(rclone)),
        ("sftp put -R, not flushed", "sftp", Box::new(sftp)),
    ];
    let here = peers.into_iter().filter(|(_, program, _)| has_program(program));
    here.map(|(name, _, command)| Peer { name, command }).collect()
}

/// Seconds from the start of filesync until the standby has all files on its disk.
fn ours(folder: &Path, tree: &Path, files: usize) -> f64 {
    let (data, secret) = (folder.join("master"), new_secret());
    std::fs::create_dir_all(&data).expect("a folder");
    std::fs::rename(tree, data.join("bench")).expect("the tree");
    let master = Machine::master().secret(&secret).data(&data).start();
    let standby = Machine::master().secret(&secret).standby().data(&folder.join("standby")).start();
    let mut mirror = Mirror::of(&master, &secret, &standby.address().to_string());
    rustix::fs::sync();
    let began = Instant::now();
    mirror.start();
    // A pass ends when all small files are there; large ones go beside it, and get their name when they are whole.
    let last = standby.path("bench", &format!("d{}/f{}", (files - 1) / FILES_PER_FOLDER, files - 1));
    let has_all = || mirror.metric("filesync_passes") >= 1.0 && last.exists();
    within(Duration::from_secs(600), "all is there", has_all);
    let seconds = began.elapsed().as_secs_f64();
    mirror.stop();
    drop((master, standby));
    std::fs::rename(data.join("bench"), tree).expect("the tree");
    std::fs::remove_dir_all(&data).expect("it can go");
    std::fs::remove_dir_all(folder.join("standby")).expect("it can go");
    seconds
}

fn theirs(peer: &Peer, tree: &Path, to: &Path) -> f64 {
    std::fs::create_dir_all(to).expect("a folder");
    let mut command = (peer.command)(tree, to);
    rustix::fs::sync();
    let began = Instant::now();
    let (status, text) = run(&mut command);
    let seconds = began.elapsed().as_secs_f64();
    assert!(status.success(), "{}: {text}", peer.name);
    std::fs::remove_dir_all(to).expect("it can go");
    seconds
}

fn main() {
    let folder = folder_on_disk("copying-");
    let key = make_key(folder.path());
    let openssh = OpenSsh::start(folder.path(), &key);
    let peers = peers(&openssh, &key.0);
    println!("| tree | program | median s | speed, ours = 1 |\n|---|---|---|---|");
    for (name, files, bytes) in TREES {
        let tree: PathBuf = folder.path().join(format!("tree-{files}"));
        make_tree(&tree, files, bytes);
        let mut seconds = vec![Vec::new(); peers.len() + 1];
        for _ in 0..ROUNDS {
            seconds[0].push(ours(folder.path(), &tree, files));
            for (peer, seconds) in peers.iter().zip(&mut seconds[1..]) {
                seconds.push(theirs(peer, &tree, &openssh.home().join("to")));
            }
        }
        let medians: Vec<f64> = seconds.into_iter().map(median).collect();
        let names = std::iter::once("filesync").chain(peers.iter().map(|peer| peer.name));
        for (program, median) in names.zip(&medians) {
            println!("| {name} | {program} | {median:.2} | {:.2} |", medians[0] / median);
        }
        std::fs::remove_dir_all(tree).expect("it can go");
    }
}
