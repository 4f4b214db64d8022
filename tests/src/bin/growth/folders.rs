//! One folder with ever more in it: to list it, to upload one more file into it, and to rename in it.

use pair::client::Client;
use tests::bench::cost::{forget_peak, peak_bytes};
use tests::bench::growth::{Curve, Point, Spent, Unit, Wanted};
use tests::bench::server::Server;
use tests::bench::work::upload;
use tests::bench::{Sample, sample_of};
use tests::measure::content;

use super::page::Section;
use super::{Bench, ROUNDS};

const ENTRIES: [usize; 4] = [10, 1000, 10_000, 100_000];
/// Entries that are listed in a round, and listings at the most.
const LISTED: usize = 300_000;
const LISTINGS_MAX: usize = 1000;
/// Uploads and renames in a round, one after the other.
const CHANGES: usize = 1000;
const BYTES: usize = 4096;

/// The measurements of a server, as curves.
struct Course {
    list: Spent,
    upload: Spent,
    rename: Spent,
    memory: Curve,
}

pub fn run() {
    let bench = Bench::in_memory();
    let courses = bench.servers().map(|server| measure(&bench, server));
    let remark = "Files in memory, `durability: none`; changes one after the other, 1,000 in a round; medians of 3 rounds. Memory is the most \
                  that sftpd's process held (`VmHWM`).";
    let mut section = Section::new("folders", ("entries in the folder", Unit::Count), remark);
    let both = |spent: fn(&Course) -> &Spent| -> Vec<Curve> {
        courses.iter().map(spent).flat_map(|spent| [spent.wall.clone(), spent.cpu.clone()]).collect()
    };
    section.add("list", "To list the folder", both(|course| &course.list));
    section.add("upload", "To upload one more file of 4 KiB into it", both(|course| &course.upload));
    section.add("rename", "To rename a file in it", both(|course| &course.rename));
    section.add("memory", "Memory of the server at the peak of listings", vec![courses[0].memory.clone()]);
    section.write();
}

fn measure(bench: &Bench, server: &Server) -> Course {
    let [list, upload, rename] = [(); 3].map(|()| Spent::new(server.name));
    let memory = Curve::new(&format!("{}, at the peak", server.name), Unit::Bytes, Wanted::Flat);
    let mut course = Course { list, upload, rename, memory };
    bench.runtime.block_on(async { server.connect().await.mkdir(b"big", 0o755).await.expect("a folder") });
    let mut there = 0;
    for entries in ENTRIES {
        (there..entries).for_each(|number| {
            std::fs::write(server.home.join("big").join(format!("entry-{number}")), "").expect("a file");
        });
        there = entries;
        bench.runtime.block_on(step(server, entries, &mut course));
    }
    server.clear();
    course
}

async fn step(server: &Server, entries: usize, course: &mut Course) {
    let client = server.connect().await;
    let listings = (LISTED / entries).min(LISTINGS_MAX);
    let mut rounds: [Vec<Sample>; 3] = Default::default();
    let mut peaks = Vec::new();
    // The first one finds nothing in the kernel's memory.
    list(&client, entries, 1).await;
    for _ in 0..ROUNDS {
        forget_peak(server.process);
        rounds[0].push(sample_of(server, list(&client, entries, listings)).await);
        peaks.push(peak_bytes(server.process) as f64);
        rounds[1].push(sample_of(server, upload_in_turn(&client)).await);
        rounds[2].push(sample_of(server, rename_in_turn(&client)).await);
        (0..CHANGES).for_each(|number| {
            std::fs::remove_file(server.home.join("big").join(format!("f{number}"))).expect("it can go");
        });
    }
    drop(client);
    server.settled().await;
    course.list.add(entries as f64, listings, &rounds[0]);
    course.upload.add(entries as f64, CHANGES, &rounds[1]);
    course.rename.add(entries as f64, CHANGES, &rounds[2]);
    course.memory.points.push(Point::of(entries as f64, &peaks, 4096.0));
}

async fn list(client: &Client, entries: usize, times: usize) {
    for _ in 0..times {
        let names = client.list(b"big").await.expect("a listing").len();
        // Some servers name the folder itself and the one above it.
        assert!((entries..=entries + 2).contains(&names), "{names} names");
    }
}

async fn upload_in_turn(client: &Client) {
    let data = content(BYTES);
    for number in 0..CHANGES {
        upload(client, "big", number..number + 1, &data).await;
    }
}

async fn rename_in_turn(client: &Client) {
    let (one, other) = (b"big/entry-0".as_slice(), b"big/renamed".as_slice());
    for _ in 0..CHANGES / 2 {
        client.rename(one, other).await.expect("it has another name");
        client.rename(other, one).await.expect("it has its name again");
    }
}
