//! One large file, up and down, with OpenSSH's `sftp`.

use tests::bench::server::Server;
use tests::bench::table::{Goal, lines};
use tests::bench::{in_turns, sample};
use tests::measure::content;

use super::{AES, Bench, NO_GOALS, ROUNDS, at_most};

const LARGE_BYTES: usize = 1 << 30;
const CHACHA: &str = "chacha20-poly1305@openssh.com";

pub fn run(bench: &Bench) {
    let large = bench.file("large");
    std::fs::write(&large, content(LARGE_BYTES)).expect("a file");
    let servers = bench.all();
    let put = format!("put {} large\n", large.display());
    let up = |cipher: &'static str| {
        let put = put.clone();
        move |server: &Server| {
            server.clear();
            rustix::fs::sync();
            sample(server, || drop(server.sftp(cipher).run(&put).expect_ok()))
        }
    };
    let down = |cipher: &'static str| {
        move |server: &Server| {
            let get = format!("get large {}/large\n", bench.down().display());
            sample(server, || drop(server.sftp(cipher).run(&get).expect_ok()))
        }
    };
    let samples = in_turns(&servers, ROUNDS, up(AES));
    lines("1 GiB up, aes128-gcm", &servers, &samples, at_most(0.65, 0.35), at_most(0.55, 0.22));
    let samples = in_turns(&servers, ROUNDS, down(AES));
    lines("1 GiB down, aes128-gcm", &servers, &samples, at_most(0.85, 0.40), at_most(0.45, 0.20));
    let three = bench.three();
    let samples = in_turns(&three, ROUNDS, up(CHACHA));
    lines("1 GiB up, chacha20-poly1305", &three, &samples, NO_GOALS, at_most(0.62, 0.22));
    let samples = in_turns(&three, ROUNDS, down(CHACHA));
    lines("1 GiB down, chacha20-poly1305", &three, &samples, NO_GOALS, at_most(0.60, 0.22));
    bench.all().iter().for_each(|server| server.clear());
    let disk = bench.on_disk();
    let samples = in_turns(&disk, ROUNDS, up(AES));
    lines("1 GiB up to disk, ours flushed, OpenSSH not", &disk, &samples, [Goal::AtMost(1.0), Goal::None], NO_GOALS);
    disk.iter().for_each(|server| server.clear());
}
