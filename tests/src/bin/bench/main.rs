//! `make bench`: our sftpd beside OpenSSH's server, `rclone serve sftp` and ProFTPD's mod_sftp, in turns, with the same clients and files.
//!
//! It prints one table: medians, ratios, and the goals; a ratio that misses its goal is bold. Only ratios mean anything on a shared machine.
//! Arguments are the parts to run (`bulk`, `small`, `listing`, `sessions`, `far`, `fair`); none: all of them.
#![allow(clippy::print_stdout, reason = "the table is all it is for")]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a bench may stop at the first trouble"
)]

use std::cell::Cell;
use std::path::{Path, PathBuf};

use pair::client::Client;
use tests::bench::server::{Key, Server};
use tests::bench::table::Goal;
use tests::has_program;
use tests::measure::{folder_on_disk, wanted};
use tokio::runtime::Runtime;

mod bulk;
mod fair;
mod far;
mod listing;
mod sessions;
mod small;

/// Each workload is run this often on each server.
const ROUNDS: usize = 5;

const AES: &str = "aes128-gcm@openssh.com";

/// A part of the bench and its name.
type Part = (&'static str, fn(&Bench));

/// A workload that is only shown.
const NO_GOALS: [Goal; 2] = [Goal::None; 2];

fn at_most(openssh: f64, rclone: f64) -> [Goal; 2] {
    [Goal::AtMost(openssh), Goal::AtMost(rclone)]
}

/// All servers on files in memory, two on a disk, and the clients' files.
struct Bench {
    memory: tempfile::TempDir,
    _disk: tempfile::TempDir,
    runtime: Runtime,
    /// Folders that were made on servers.
    folders: Cell<usize>,
    ours: Server,
    openssh: Server,
    rclone: Option<Server>,
    proftpd: Option<Server>,
    /// On the disk: ours as it is by default, and OpenSSH, which flushes nothing.
    durable: Server,
    openssh_on_disk: Server,
}

impl Bench {
    fn start() -> Bench {
        let memory = tempfile::Builder::new().prefix("bench-").tempdir_in("/dev/shm").expect("a folder in memory");
        let disk = folder_on_disk("bench-");
        let key = Key::new(memory.path());
        std::fs::create_dir(memory.path().join("down")).expect("a folder");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        Bench {
            ours: Server::ours(memory.path(), &key, "none"),
            openssh: Server::openssh(memory.path(), &key),
            rclone: has_program("rclone").then(|| Server::rclone(memory.path(), &key)),
            proftpd: Path::new("/usr/lib/proftpd/mod_sftp.so").exists().then(|| Server::proftpd(memory.path(), &key)),
            durable: Server::ours(disk.path(), &key, "fsync"),
            openssh_on_disk: Server::openssh(disk.path(), &key),
            memory,
            _disk: disk,
            runtime,
            folders: Cell::new(0),
        }
    }

    /// Ours, OpenSSH, and rclone where it is.
    fn three(&self) -> Vec<&Server> {
        [&self.ours, &self.openssh].into_iter().chain(&self.rclone).collect()
    }

    /// These and ProFTPD where it is.
    fn all(&self) -> Vec<&Server> {
        self.three().into_iter().chain(&self.proftpd).collect()
    }

    /// Those on the disk.
    fn on_disk(&self) -> [&Server; 2] {
        [&self.durable, &self.openssh_on_disk]
    }

    /// A file of the clients.
    fn file(&self, name: &str) -> PathBuf {
        self.memory.path().join(name)
    }

    /// A folder on a server that was never there before, made by a client: rclone remembers what it has seen.
    async fn new_folder(&self, client: &Client) -> String {
        self.folders.set(self.folders.get() + 1);
        let folder = format!("many-{}", self.folders.get());
        client.mkdir(folder.as_bytes(), 0o755).await.expect("a folder");
        folder
    }

    /// An empty folder for downloads.
    fn down(&self) -> PathBuf {
        let down = self.file("down");
        std::fs::remove_dir_all(&down).expect("it can go");
        std::fs::create_dir(&down).expect("a folder");
        down
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some(fair::GUESS) {
        return fair::guess(&arguments.next().expect("where"));
    }
    let parts: [Part; 6] = [
        ("bulk", bulk::run),
        ("small", small::run),
        ("listing", listing::run),
        ("sessions", sessions::run),
        ("far", far::run),
        ("fair", fair::run),
    ];
    let parts = wanted(parts, |(name, _)| name);
    let bench = Bench::start();
    tests::bench::table::begin();
    for (_, run) in parts {
        run(&bench);
    }
}
