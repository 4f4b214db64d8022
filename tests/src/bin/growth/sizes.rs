//! One file after the other, of one byte to 10 GiB: time, work, and the most memory our server has held by then.

use tests::bench::cost::{forget_peak, peak_bytes};
use tests::bench::growth::{Curve, Point, Spent, Unit, Wanted};
use tests::bench::server::Server;
use tests::bench::work::{read_whole, write_whole};
use tests::bench::{Sample, sample_of};
use tests::measure::content;

use super::page::Section;
use super::{Bench, ROUNDS};

/// Bytes of a file, how many such files there are in a round, and how many rounds.
const SIZES: [(u64, usize, usize); 6] = [
    (1, 1000, ROUNDS),
    (1 << 10, 1000, ROUNDS),
    (1 << 20, 100, ROUNDS),
    (100 << 20, 5, ROUNDS),
    (1 << 30, 1, ROUNDS),
    (10 << 30, 1, 1),
];
/// Room for the largest, and what others on the machine need.
const ROOM_BYTES: u64 = 17 << 30;
/// What a client has at hand to send.
const CONTENT_BYTES: usize = 1 << 20;

/// What one direction costs.
struct Way {
    name: &'static str,
    spent: Vec<Spent>,
    memory: Curve,
}

impl Way {
    fn new(name: &'static str, servers: &[&Server]) -> Way {
        let memory = Curve::new(&format!("sftpd, at the peak of {name}"), Unit::Bytes, Wanted::Flat);
        Way { name, spent: servers.iter().map(|server| Spent::new(server.name)).collect(), memory }
    }
}

pub fn run() {
    let bench = Bench::with_room(ROOM_BYTES);
    let servers = bench.servers();
    let mut ways = ["uploads", "downloads"].map(|name| Way::new(name, &servers));
    for (bytes, files, rounds) in SIZES {
        for (place, server) in servers.iter().enumerate() {
            let measured: Vec<_> = (0..rounds).map(|_| round(&bench, server, bytes, files)).collect();
            for (way, at) in ways.iter_mut().zip(0..) {
                let samples: Vec<Sample> = measured.iter().map(|round| round[at].0).collect();
                way.spent[place].add(bytes as f64, files, &samples);
                if place == 0 {
                    let peaks: Vec<f64> = measured.iter().map(|round| round[at].1 as f64).collect();
                    way.memory.points.push(Point::of(bytes as f64, &peaks, 4096.0));
                }
            }
        }
    }
    let place = if bench.is_in_memory() { "in memory" } else { "on a disk" };
    let remark = format!(
        "Files {place}, `durability: none`; our own client with 64 requests under way; medians of 3 rounds, one of 10 GiB. Memory is the \
         most that sftpd's process held (`VmHWM`)."
    );
    let mut section = Section::new("sizes", ("bytes of the file", Unit::Bytes), &remark);
    let mut memory = Vec::new();
    for way in ways {
        let curves = way.spent.into_iter().flat_map(|spent| [spent.wall, spent.cpu]).collect();
        section.add(way.name, &format!("One file, {}", way.name), curves);
        memory.push(way.memory);
    }
    section.add("memory", "Memory of the server at the peak", memory);
    section.write();
}

/// Some files up, and down again: what it took, and the most memory.
fn round(bench: &Bench, server: &Server, bytes: u64, files: usize) -> [(Sample, u64); 2] {
    let data = content(CONTENT_BYTES);
    let measured = bench.runtime.block_on(async {
        let client = server.connect().await;
        let up = async {
            for number in 0..files {
                write_whole(&client, &format!("f{number}"), bytes, &data).await;
            }
        };
        let down = async {
            for number in 0..files {
                read_whole(&client, &format!("f{number}"), bytes).await;
            }
        };
        let up = with_peak(server, up).await;
        let down = with_peak(server, down).await;
        drop(client);
        server.settled().await;
        [up, down]
    });
    server.clear();
    measured
}

async fn with_peak(server: &Server, work: impl Future<Output = ()>) -> (Sample, u64) {
    forget_peak(server.process);
    let sample = sample_of(server, work).await;
    (sample, peak_bytes(server.process))
}
