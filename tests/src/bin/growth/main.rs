//! `make growth`: what sftpd and filesync cost while the work grows, from one to many; OpenSSH's server beside sftpd.
//!
//! Each part measures, prints its tables and writes them, with charts, into `docs/growth.md`. A step that is worse than linear, and memory
//! that grows with the work, are bold. Arguments are the parts to run (`sessions`, `sizes`, `folders`, `trees`); none: all of them.
#![allow(clippy::print_stdout, reason = "the tables are what it is for")]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a bench may stop at the first trouble"
)]

use std::path::Path;

use tests::bench::server::{Key, Server};
use tests::measure::{folder_on_disk, wanted};
use tokio::runtime::Runtime;

mod folders;
mod page;
mod sessions;
mod sizes;
mod trees;

/// Each step is measured this often.
const ROUNDS: usize = 3;

/// A part of the bench and its name.
type Part = (&'static str, fn());

/// Our server and OpenSSH's in one folder, durable where it is asked for.
struct Bench {
    folder: tempfile::TempDir,
    runtime: Runtime,
    ours: Server,
    openssh: Server,
}

impl Bench {
    /// Files in memory.
    fn in_memory() -> Bench {
        Bench::within(tempfile::Builder::new().prefix("growth-").tempdir_in("/dev/shm").expect("a folder in memory"))
    }

    /// Files in memory if there is room for so many bytes, else on the disk.
    fn with_room(bytes: u64) -> Bench {
        if available_bytes() >= bytes { Bench::in_memory() } else { Bench::within(folder_on_disk("growth-")) }
    }

    fn within(folder: tempfile::TempDir) -> Bench {
        let key = Key::new(folder.path());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (ours, openssh) = (Server::ours(folder.path(), &key, "none"), Server::openssh(folder.path(), &key));
        Bench { folder, runtime, ours, openssh }
    }

    fn is_in_memory(&self) -> bool {
        self.folder.path().starts_with(Path::new("/dev/shm"))
    }

    fn servers(&self) -> [&Server; 2] {
        [&self.ours, &self.openssh]
    }
}

/// What the kernel would give to programs without swapping.
fn available_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").expect("the kernel tells");
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:")).expect("of memory");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

fn main() {
    let parts: [Part; 4] =
        [("sessions", sessions::run), ("sizes", sizes::run), ("folders", folders::run), ("trees", trees::run)];
    for (_, run) in wanted(parts, |(name, _)| name) {
        run();
    }
}
