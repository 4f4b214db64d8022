//! What a connection costs: to make, and to keep.

use futures::stream::{self, StreamExt};
use pair::client::Client;
use tests::bench::cost::memory_kib;
use tests::bench::server::Server;
use tests::bench::table::{line, lines};
use tests::bench::work::{read_whole, shake_hands};
use tests::bench::{in_turns, sample};
use tests::measure::content;

use super::{AES, Bench, NO_GOALS, ROUNDS, at_most};

const HANDSHAKES: usize = 300;
const AT_ONCE: usize = 4;
const IDLE: usize = 1000;
/// That have moved something, and how many bytes each.
const USED: usize = 100;
const MOVED_BYTES: u64 = 100 << 20;

pub fn run(bench: &Bench) {
    let servers = bench.three();
    let samples = in_turns(&servers, ROUNDS, |server| {
        sample(server, || bench.runtime.block_on(shake_hands(server, HANDSHAKES, AT_ONCE)))
    });
    lines("300 logins with a key", &servers, &samples, NO_GOALS, at_most(1.0 / 20.0, 1.0));
    let [most, rclone] = at_most(1.0 / 20.0, 0.8);
    let idle: Vec<_> = servers.iter().map(|server| (server.name, each_kib(bench, server, IDLE, 0))).collect();
    line("memory of an idle connection, 1,000 of them, KiB", &idle, most, rclone);
    let large = bench.file("moved");
    std::fs::write(&large, content(MOVED_BYTES as usize)).expect("a file");
    for server in &servers {
        // rclone takes no bytes out of turn, which a client with many requests under way may send.
        server.sftp(AES).run(&format!("put {} large\n", large.display())).expect_ok();
    }
    let used: Vec<_> = servers.iter().map(|server| (server.name, each_kib(bench, server, USED, MOVED_BYTES))).collect();
    line("… of 100 that have moved 100 MiB each, KiB", &used, most, rclone);
    servers.iter().for_each(|server| server.clear());
}

/// What each of many connections holds, after it has moved so many bytes.
fn each_kib(bench: &Bench, server: &Server, count: usize, bytes: u64) -> f64 {
    bench.runtime.block_on(async {
        let before_kib = memory_kib(server.process);
        let connect = |_| async {
            let client = server.connect().await;
            if bytes > 0 {
                read_whole(&client, "large", bytes).await;
            }
            client
        };
        let clients: Vec<Client> = stream::iter(0..count).map(connect).buffer_unordered(AT_ONCE).collect().await;
        // What is given back is given back within a moment.
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
        let held_kib = memory_kib(server.process).saturating_sub(before_kib);
        drop(clients);
        held_kib as f64 / count as f64
    })
}
