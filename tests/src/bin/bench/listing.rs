//! A folder of 100,000 entries, listed over and over.

use pair::client::Client;
use tests::bench::table::lines;
use tests::bench::{in_turns, sample_of};

use super::{Bench, ROUNDS, at_most};

const ENTRIES: usize = 100_000;
/// Listings in a round: one is soon over.
const TIMES: usize = 3;

pub fn run(bench: &Bench) {
    let servers = bench.three();
    for server in &servers {
        let folder = server.home.join("big");
        bench.runtime.block_on(async {
            server.connect().await.mkdir(b"big", 0o755).await.expect("a folder");
        });
        (0..ENTRIES).for_each(|number| drop(std::fs::write(folder.join(format!("entry-{number}")), "")));
    }
    let samples = in_turns(&servers, ROUNDS, |server| {
        bench.runtime.block_on(async {
            let client = server.connect().await;
            // The first one finds nothing in the kernel's memory.
            list(&client, 1).await;
            sample_of(server, list(&client, TIMES)).await
        })
    });
    lines("3 listings of 100,000 entries", &servers, &samples, at_most(0.60, 0.35), at_most(0.50, 0.15));
    servers.iter().for_each(|server| server.clear());
}

async fn list(client: &Client, times: usize) {
    for _ in 0..times {
        let names = client.list(b"big").await.expect("a listing").len();
        // Some servers name the folder itself and the one above it.
        assert!((ENTRIES..=ENTRIES + 2).contains(&names), "{names} names");
    }
}
