//! `make bench`: our sftpd beside OpenSSH's server, in turns, with OpenSSH's client and the same files.
//!
//! It prints a table of medians and ratios. Only ratios mean anything on a shared machine.
#![allow(clippy::print_stdout, reason = "the table is all it is for")]
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a bench may stop at the first trouble"
)]

use std::path::{Path, PathBuf};
use std::time::Instant;

use tests::measure::{content, median};
use tests::{Machine, OpenSsh, Sftp, make_key};

/// Each workload is run this often on each server.
const ROUNDS: usize = 5;

/// The large file, in bytes.
const LARGE_BYTES: usize = 512 * 1024 * 1024;

/// The small files: how many, and their size in bytes.
const SMALL: (usize, usize) = (1000, 4096);

/// A server under measurement.
struct Server {
    name: &'static str,
    sftp: Sftp,
    home: PathBuf,
}

/// Clients at the same time, where there are many.
const MANY: usize = 32;

/// What is done: by how many clients, as a batch of OpenSSH's client in which `{…}` are paths and the client's number.
const WORKLOADS: [(&str, usize, &str); 6] = [
    ("one file up, 512 MiB", 1, "put {files}/large\n"),
    ("one file down, 512 MiB", 1, "get large {down}/large\n"),
    ("1,000 files of 4 KiB up", 1, "put -R {files}/small\n"),
    ("1,000 files of 4 KiB down", 1, "get -R small {down}\n"),
    ("32 clients, 32 files of 4 KiB up each", MANY, "mkdir c{client}\ncd c{client}\nput -R {files}/few\n"),
    ("32 clients, 16 MiB up each", MANY, "mkdir c{client}\ncd c{client}\nput {files}/medium\n"),
];

fn main() {
    // Beside the build, which is on a disk: a temporary folder may be in memory.
    let here = std::env::current_exe().expect("a path").parent().expect("a folder").to_owned();
    let folder = tempfile::Builder::new().prefix("bench-").tempdir_in(here).expect("a folder");
    make_files(&folder.path().join("files"));
    let key = make_key(folder.path());
    let (durable, fast) = (ours(folder.path(), &key, "fsync"), ours(folder.path(), &key, "none"));
    let openssh = OpenSsh::start(folder.path(), &key);
    let server = |name, machine: &Machine| Server {
        name,
        sftp: Sftp::new(machine.address(), ("bench", "")).with_key(&key.0).option(CIPHER),
        home: machine.path("bench", ""),
    };
    let theirs = Server {
        name: "OpenSSH internal-sftp",
        sftp: Sftp::new(openssh.address(), ("root", "")).with_key(&key.0).option(CIPHER),
        home: openssh.home().to_owned(),
    };
    let servers = [theirs, server("sftpd, durability none", &fast), server("sftpd, durability fsync", &durable)];
    println!("| workload | server | median s | ratio to OpenSSH |\n|---|---|---|---|");
    for (name, clients, batch) in WORKLOADS {
        measure(name, clients, batch, &servers, folder.path());
    }
}

const CIPHER: &str = "Ciphers=aes128-gcm@openssh.com";

fn measure(name: &str, clients: usize, batch: &str, servers: &[Server], folder: &Path) {
    let mut seconds = vec![Vec::new(); servers.len()];
    for _ in 0..ROUNDS {
        for (server, seconds) in servers.iter().zip(&mut seconds) {
            let down = folder.join("down");
            let _ = std::fs::remove_dir_all(&down);
            std::fs::create_dir(&down).expect("a folder");
            if batch.starts_with("put") {
                let _ = std::fs::remove_dir_all(server.home.join("small"));
            }
            (0..MANY).for_each(|client| drop(std::fs::remove_dir_all(server.home.join(format!("c{client}")))));
            rustix::fs::sync();
            let batch = batch
                .replace("{files}", &folder.join("files").display().to_string())
                .replace("{down}", &down.display().to_string());
            let started = Instant::now();
            std::thread::scope(|scope| {
                for client in 0..clients {
                    let batch = batch.replace("{client}", &client.to_string());
                    scope.spawn(move || server.sftp.copy().run(&batch).expect_ok());
                }
            });
            seconds.push(started.elapsed().as_secs_f64());
        }
    }
    let medians: Vec<f64> = seconds.into_iter().map(median).collect();
    for (server, median) in servers.iter().zip(&medians) {
        println!("| {name} | {} | {median:.2} | {:.2} |", server.name, median / medians[0]);
    }
}

fn make_files(folder: &Path) {
    std::fs::create_dir_all(folder.join("small")).expect("a folder");
    std::fs::write(folder.join("large"), content(LARGE_BYTES)).expect("a file");
    std::fs::write(folder.join("medium"), content(16 * 1024 * 1024)).expect("a file");
    std::fs::create_dir(folder.join("few")).expect("a folder");
    for number in 0..32 {
        std::fs::write(folder.join(format!("few/{number}")), content(SMALL.1)).expect("a file");
    }
    for number in 0..SMALL.0 {
        std::fs::write(folder.join(format!("small/{number}")), content(SMALL.1)).expect("a file");
    }
}

fn ours(folder: &Path, key: &(PathBuf, String), durability: &str) -> Machine {
    let users = format!(
        "users:\n  A: {{name: admin, password: secret, admin: true}}\n  1: {{name: bench, public_keys: [\"{}\"]}}\n",
        key.1
    );
    let data = folder.join(format!("data-{durability}"));
    Machine::master()
        .users(&users)
        .data(&data)
        .setting("DURABILITY", durability)
        .setting("LIMITS__UNAUTHENTICATED_PER_ADDRESS", "100")
        .start()
}
