//! Sessions: what each holds in memory, and what a fixed amount of small work costs that is spread over all of them.

use std::time::Duration;

use futures::stream::{self, StreamExt};
use pair::client::Client;
use tests::bench::cost::memory_kib;
use tests::bench::growth::{Curve, Point, Spent, Unit, Wanted};
use tests::bench::server::Server;
use tests::bench::work::upload;
use tests::bench::{Sample, sample_of};
use tests::measure::content;

use super::page::Section;
use super::{Bench, ROUNDS};

const COUNTS: [usize; 4] = [1, 10, 100, 1000];
const LOGINS_AT_ONCE: usize = 4;
const UPLOADS: usize = 2000;
const BYTES: usize = 4096;
/// Uploads under way at once, whosever they are.
const UNDER_WAY: usize = 64;
/// What is given back is given back by then.
const REST: Duration = Duration::from_secs(3);

pub fn run() {
    let bench = Bench::in_memory();
    let (mut times, mut memory) = (Vec::new(), Vec::new());
    for server in bench.servers() {
        memory.push(bench.runtime.block_on(memory_of(server)));
        let mut spent = Spent::new(server.name);
        for count in COUNTS {
            let rounds: Vec<Sample> = (0..ROUNDS).map(|_| work(&bench, server, count)).collect();
            spent.add(count as f64, 1, &rounds);
        }
        times.extend([spent.wall, spent.cpu]);
    }
    let remark = "Files in memory, `durability: none`; medians of 3 rounds. Memory is PSS of all processes of a server, above what it holds \
                  without connections.";
    let mut section = Section::new("sessions", ("sessions", Unit::Count), remark);
    section.add("work", "2,000 uploads of 4 KiB, spread over all sessions", times);
    section.add("memory", "Memory of a session that has done nothing yet", memory);
    section.write();
}

async fn connect(server: &Server, count: usize) -> Vec<Client> {
    stream::iter(0..count).map(|_| server.connect()).buffer_unordered(LOGINS_AT_ONCE).collect().await
}

/// What each session holds, on a server that was never used: what it once had it may keep.
async fn memory_of(server: &Server) -> Curve {
    drop(connect(server, 1).await);
    tokio::time::sleep(REST).await;
    let at_rest_kib = memory_kib(server.process);
    let mut curve = Curve::new(&format!("{}, each", server.name), Unit::Bytes, Wanted::Flat);
    let mut clients = Vec::new();
    for count in COUNTS {
        clients.extend(connect(server, count - clients.len()).await);
        tokio::time::sleep(REST).await;
        let held_kib = memory_kib(server.process).saturating_sub(at_rest_kib);
        let each = (held_kib * 1024) as f64 / count as f64;
        curve.points.push(Point::of(count as f64, &[each], 4096.0));
    }
    drop(clients);
    server.settled().await;
    curve
}

fn work(bench: &Bench, server: &Server, count: usize) -> Sample {
    let data = content(BYTES);
    let sample = bench.runtime.block_on(async {
        let clients = connect(server, count).await;
        clients[0].mkdir(b"many", 0o755).await.expect("a folder");
        let put = |number: usize| upload(&clients[number % count], "many", number..number + 1, &data);
        let uploads = stream::iter(0..UPLOADS).map(put).buffer_unordered(UNDER_WAY).collect::<()>();
        let sample = sample_of(server, uploads).await;
        drop(clients);
        server.settled().await;
        sample
    });
    server.clear();
    sample
}
