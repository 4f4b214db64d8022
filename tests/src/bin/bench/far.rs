//! One stream over a long distance: 50 ms there and back.

use std::time::Duration;

use tests::bench::delay::Delay;
use tests::bench::table::{Goal, line};
use tests::bench::work::{read_whole, write_whole};
use tests::bench::{Sample, in_turns, sample, sample_of, server::Server};
use tests::measure::content;

use super::{AES, Bench, ROUNDS};

const ONE_WAY: Duration = Duration::from_millis(25);
const BYTES: usize = 128 << 20;

pub fn run(bench: &Bench) {
    let servers = bench.three();
    let far = bench.file("far");
    let data = content(BYTES);
    std::fs::write(&far, &data).expect("a file");
    let ways: Vec<Delay> = servers.iter().map(|server| Delay::to(server.address, ONE_WAY)).collect();
    let way_to = |server: &Server| {
        let found = servers.iter().zip(&ways).find(|(known, _)| known.name == server.name);
        found.expect("a way to each").1.address()
    };
    let show = |what: &str, samples: Vec<Sample>, goal: Goal| {
        let speed = |(server, sample): (&&Server, &Sample)| (server.name, (BYTES >> 20) as f64 / sample.wall_s);
        line(what, &servers.iter().zip(&samples).map(speed).collect::<Vec<_>>(), goal, Goal::None);
    };
    let sftp = |server: &Server, batch: &str| {
        sample(server, || drop(server.sftp_by(way_to(server), AES).run(batch).expect_ok()))
    };
    let samples = in_turns(&servers, ROUNDS, |server| sftp(server, &format!("put {} far\n", far.display())));
    show("50 ms round trip, sftp put, MiB/s", samples, Goal::AtLeast(1.5));
    let samples =
        in_turns(&servers, ROUNDS, |server| sftp(server, &format!("get far {}/far\n", bench.down().display())));
    show("50 ms round trip, sftp get (its own window bounds it), MiB/s", samples, Goal::None);
    // rclone takes no bytes out of turn.
    let samples = in_turns(&servers[..2], ROUNDS, |server| {
        bench.runtime.block_on(async {
            let client = server.connect_by(way_to(server)).await;
            sample_of(server, write_whole(&client, "far", BYTES as u64, &data)).await
        })
    });
    show("50 ms round trip up, a client with large windows, MiB/s", samples, Goal::AtLeast(1.5));
    let samples = in_turns(&servers, ROUNDS, |server| {
        bench.runtime.block_on(async {
            let client = server.connect_by(way_to(server)).await;
            sample_of(server, read_whole(&client, "far", BYTES as u64)).await
        })
    });
    show("50 ms round trip down, the same client, MiB/s", samples, Goal::AtLeast(1.5));
    servers.iter().for_each(|server| server.clear());
}
