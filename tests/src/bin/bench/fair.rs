//! What one client notices of others: the time of its small uploads while somebody downloads at full speed, and while 200 guess passwords.

use std::sync::Arc;
use std::time::Instant;

use pair::client::{HostKeyCheck, Login};
use tests::bench::server::Server;
use tests::bench::table::{Goal, line};
use tests::bench::work::{read_whole, upload};
use tests::measure::content;

use super::Bench;

const UPLOADS: usize = 500;
const GUESSERS: usize = 200;
const LARGE_BYTES: u64 = 1 << 30;

pub fn run(bench: &Bench) {
    let servers = [&bench.ours, &bench.openssh];
    for server in servers {
        std::fs::write(server.home.join("large"), content(LARGE_BYTES as usize)).expect("a file");
        std::fs::create_dir(server.home.join("many")).expect("a folder");
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let quiet = servers.map(|server| runtime.block_on(p99_ms(server)));
    let beside_puller = servers.map(|server| runtime.block_on(beside(pull(server), p99_ms(server))));
    let guessed = runtime.block_on(beside(guess(&bench.ours), p99_ms(&bench.ours)));
    let named = |figures: [f64; 2]| [(servers[0].name, figures[0]), (servers[1].name, figures[1])];
    line("a small upload, p99, ms", &named(quiet), Goal::None, Goal::None);
    line("… while somebody downloads at full speed", &named(beside_puller), Goal::None, Goal::None);
    let times =
        |figure: f64| format!("{:.2}{}", figure / quiet[0], if figure <= 3.0 * quiet[0] { "" } else { " (missed)" });
    println!(
        "| … to the quiet value (≤ 3) | {} | {:.2} | – | – | – | – |",
        times(beside_puller[0]),
        beside_puller[1] / quiet[1]
    );
    line("… while 200 guess passwords", &[("sftpd", guessed)], Goal::None, Goal::None);
    println!("| … to the quiet value (≤ 3) | {} | – | – | – | – | – |", times(guessed));
    servers.iter().for_each(|server| server.clear());
}

/// The longest but one of a hundred of small uploads, one after the other.
async fn p99_ms(server: &Server) -> f64 {
    let (client, data) = (server.connect().await, content(4096));
    let mut times_ms = Vec::new();
    for number in 0..UPLOADS {
        let began = Instant::now();
        upload(&client, "many", number..number + 1, &data).await;
        times_ms.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    times_ms.sort_by(f64::total_cmp);
    times_ms[UPLOADS * 99 / 100]
}

/// Does something until the other is done.
async fn beside(other: impl Future<Output = ()>, measured: impl Future<Output = f64>) -> f64 {
    tokio::select! {
        _ = other => panic!("it ended too early"),
        figure = measured => figure,
    }
}

async fn pull(server: &Server) {
    let client = server.connect().await;
    loop {
        read_whole(&client, "large", LARGE_BYTES).await;
    }
}

async fn guess(server: &Server) {
    let (address, check): (_, HostKeyCheck) = (server.address.to_string(), Arc::new(|_| Ok(())));
    let guesser = |_| async {
        loop {
            let login = Login::with_password("bench", "wrong");
            let _ = pair::client::connect(&address, login, check.clone()).await;
        }
    };
    futures::future::join_all((0..GUESSERS).map(guesser)).await;
}
