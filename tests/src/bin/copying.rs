//! `make copying`: how long a mirror takes to bring a tree to an empty standby, beside rsync, rclone and sftp; near by, and at a distance.
//!
//! In turns, from the start of the program until all is there; ours and `rsync --fsync` have it on the disk by then. It prints
//! a table of medians, our speed by the peer's, and the goals; what misses its goal is bold. Only ratios mean anything on a shared
//! machine. Arguments are words of the courses to run (`near`, `far`, `large`); none: all of them.
#![allow(clippy::print_stdout, reason = "the table is all it is for")]
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a bench may stop at the first trouble"
)]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tests::bench::delay::Delay;
use tests::bench::table::Goal;
use tests::measure::{content, folder_on_disk, median, wanted};
use tests::{Machine, Mirror, OpenSsh, Sftp, has_program, make_key, new_secret, run, within};

const ROUNDS: usize = 3;
/// Who takes longer is measured once, in seconds: nobody wonders whether it was chance.
const LONG_S: f64 = 60.0;
const CIPHER: &str = "aes128-gcm@openssh.com";

/// A tree that is copied over a way.
struct Course {
    /// By which it is asked for.
    word: &'static str,
    name: &'static str,
    files: usize,
    /// Of each file.
    bytes: usize,
    /// There and back.
    round_trip: Duration,
    /// Who takes part beside ours, and what our speed is to be, divided by theirs.
    peers: &'static [(&'static str, Goal)],
}

const RSYNC_FSYNC: &str = "rsync --fsync";
const RSYNC: &str = "rsync, not flushed";
const RCLONE: &str = "rclone, 16 transfers, not flushed";
const SFTP: &str = "sftp put -R, not flushed";

const COURSES: [Course; 3] = [
    Course {
        word: "near",
        name: "10,000 files of 4 KiB",
        files: 10_000,
        bytes: 4096,
        round_trip: Duration::ZERO,
        peers: &[
            (RSYNC_FSYNC, Goal::AtLeast(3.0)),
            (RSYNC, Goal::None),
            (RCLONE, Goal::AtLeast(4.0)),
            (SFTP, Goal::None),
        ],
    },
    // sftp waits for each answer: at a distance it takes many minutes.
    Course {
        word: "far",
        name: "… 10 ms there and back",
        files: 10_000,
        bytes: 4096,
        round_trip: Duration::from_millis(10),
        peers: &[(RSYNC_FSYNC, Goal::None), (RSYNC, Goal::AtLeast(1.8)), (RCLONE, Goal::AtLeast(30.0))],
    },
    Course {
        word: "large",
        name: "one file of 1 GiB",
        files: 1,
        bytes: 1 << 30,
        round_trip: Duration::ZERO,
        peers: &[(RSYNC_FSYNC, Goal::None), (RSYNC, Goal::None), (RCLONE, Goal::None), (SFTP, Goal::None)],
    },
];
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

/// The peers that are installed, by the way at an address.
fn peers(openssh: &OpenSsh, key: &Path, address: SocketAddr) -> Vec<Peer> {
    let (port, key) = (address.port(), key.to_owned());
    let ssh = openssh.ssh_by(address, &key, &format!("-c {CIPHER}"));
    let rsync = move |fsync: bool| {
        let ssh = ssh.clone();
        move |from: &Path, to: &Path| {
            let mut command = tests::rsync(&ssh, from, to);
            command.args(fsync.then_some("--fsync"));
            command
        }
    };
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
        (RSYNC_FSYNC, "rsync", Box::new(rsync(true)) as Copy),
        (RSYNC, "rsync", Box::new(rsync(false))),
        (RCLONE, "rclone", Box::new(rclone)),
        (SFTP, "sftp", Box::new(sftp)),
    ];
    let here = peers.into_iter().filter(|(_, program, _)| has_program(program));
    here.map(|(name, _, command)| Peer { name, command }).collect()
}

/// A way to a server that takes its time, and its address; the server's own where there is no distance.
fn way_to(server: SocketAddr, round_trip: Duration) -> (Option<Delay>, SocketAddr) {
    let delay = (!round_trip.is_zero()).then(|| Delay::to(server, round_trip / 2));
    let address = delay.as_ref().map_or(server, Delay::address);
    (delay, address)
}

/// Seconds from the start of filesync until the standby has all files on its disk.
fn ours(folder: &Path, tree: &Path, course: &Course) -> f64 {
    let (data, secret) = (folder.join("master"), new_secret());
    std::fs::create_dir_all(&data).expect("a folder");
    std::fs::rename(tree, data.join("bench")).expect("the tree");
    let master = Machine::master().secret(&secret).data(&data).start();
    let standby = Machine::master().secret(&secret).standby().data(&folder.join("standby")).start();
    let (_way, address) = way_to(standby.address(), course.round_trip);
    let mut mirror = Mirror::of(&master, &secret, &address.to_string());
    rustix::fs::sync();
    let began = Instant::now();
    mirror.start();
    // A pass ends when all small files are there; large ones go beside it, and get their name when they are whole.
    let last = standby.path("bench", &format!("d{}/f{}", (course.files - 1) / FILES_PER_FOLDER, course.files - 1));
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

fn run_course(folder: &Path, openssh: &OpenSsh, key: &Path, course: &Course) {
    let tree: PathBuf = folder.join(format!("tree-{}", course.word));
    make_tree(&tree, course.files, course.bytes);
    let (_way, address) = way_to(openssh.address(), course.round_trip);
    let goal = |peer: &Peer| course.peers.iter().find(|(name, _)| *name == peer.name).map(|(_, goal)| *goal);
    let peers = peers(openssh, key, address).into_iter().filter_map(|peer| goal(&peer).map(|goal| (peer, goal)));
    let peers: Vec<(Peer, Goal)> = peers.collect();
    let mut seconds = vec![Vec::new(); peers.len() + 1];
    for _ in 0..ROUNDS {
        seconds[0].push(ours(folder, &tree, course));
        for ((peer, _), seconds) in peers.iter().zip(&mut seconds[1..]) {
            if seconds.first().is_some_and(|seconds| *seconds > LONG_S) {
                continue;
            }
            seconds.push(theirs(peer, &tree, &openssh.home().join("to")));
        }
    }
    let medians: Vec<f64> = seconds.into_iter().map(median).collect();
    println!("| {} | filesync | {:.2} | |", course.name, medians[0]);
    for ((peer, goal), median) in peers.iter().zip(&medians[1..]) {
        let ratio = goal.shown(1.0 / medians[0], Some(1.0 / median));
        println!("| {} | {} | {median:.2} | {ratio} |", course.name, peer.name);
    }
    std::fs::remove_dir_all(tree).expect("it can go");
}

fn main() {
    let courses = wanted(&COURSES, |course| course.word);
    let folder = folder_on_disk("copying-");
    let key = make_key(folder.path());
    let openssh = OpenSsh::start(folder.path(), &key);
    println!("| tree | program | median s | our speed by theirs |\n|---|---|---|---|");
    for course in courses {
        run_course(folder.path(), &openssh, &key.0, course);
    }
}
