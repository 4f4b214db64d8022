//! What a client that has logged in may send: any stream of packets.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use sftpd::fuzzing::{ADMIN, DIRECT, Server, USER};

static SERVER: LazyLock<(Server, tempfile::TempDir)> = LazyLock::new(|| {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a temporary folder");
    (Server::start(folder.path()), folder)
});

fuzz_target!(|stream: &[u8]| {
    for account in [USER, ADMIN, DIRECT] {
        SERVER.0.requests(account, stream);
    }
});
