//! Ten thousand small files: by one client that keeps 64 of them under way, by 32 such clients, and by OpenSSH's `sftp`, which waits for each.

use std::cell::RefCell;
use std::collections::BTreeMap;

use tests::bench::server::Server;
use tests::bench::table::{Goal, lines};
use tests::bench::work::{download, upload};
use tests::bench::{Sample, in_turns, sample, sample_of};
use tests::measure::content;

use super::{AES, Bench, NO_GOALS, ROUNDS, at_most};

const FILES: usize = 10_000;
const BYTES: usize = 4096;
const CLIENTS: usize = 32;
/// For the client that waits.
const FILES_IN_TURN: usize = 2000;

pub fn run(bench: &Bench) {
    by_one(bench);
    by_many(bench);
    in_turn(bench);
}

fn by_one(bench: &Bench) {
    let (servers, data) = (bench.three(), content(BYTES));
    let folders = RefCell::new(BTreeMap::new());
    let samples = in_turns(&servers, ROUNDS, |server| {
        server.clear();
        bench.runtime.block_on(async {
            let client = server.connect().await;
            let folder = bench.new_folder(&client).await;
            folders.borrow_mut().insert(server.name, folder.clone());
            sample_of(server, upload(&client, &folder, 0..FILES, &data)).await
        })
    });
    lines("10,000 files of 4 KiB up, 64 under way", &servers, &samples, at_most(0.55, 0.30), at_most(0.45, 0.30));
    let samples = in_turns(&servers, ROUNDS, |server| {
        bench.runtime.block_on(async {
            let client = server.connect().await;
            let folder = folders.borrow()[server.name].clone();
            sample_of(server, download(&client, &folder, 0..FILES, BYTES)).await
        })
    });
    lines("10,000 files of 4 KiB down, 64 under way", &servers, &samples, at_most(0.55, 0.30), at_most(0.45, 0.30));
    servers.iter().for_each(|server| server.clear());
}

fn by_many(bench: &Bench) {
    let (servers, data) = (bench.on_disk(), content(BYTES));
    let samples = in_turns(&servers, ROUNDS, |server| {
        server.clear();
        rustix::fs::sync();
        upload_by_many(bench, server, &data)
    });
    let wall = [Goal::AtMost(1.0), Goal::None];
    lines("… by 32 clients to disk, ours flushed, OpenSSH not", &servers, &samples, wall, NO_GOALS);
    servers.iter().for_each(|server| server.clear());
}

fn upload_by_many(bench: &Bench, server: &Server, data: &[u8]) -> Sample {
    let each = FILES.div_ceil(CLIENTS);
    bench.runtime.block_on(async {
        let clients = futures::future::join_all((0..CLIENTS).map(|_| server.connect())).await;
        let folder = bench.new_folder(&clients[0]).await;
        let uploads = clients.iter().enumerate().map(|(number, client)| {
            let numbers = number * each..((number + 1) * each).min(FILES);
            upload(client, &folder, numbers, data)
        });
        sample_of(server, async { drop(futures::future::join_all(uploads).await) }).await
    })
}

fn in_turn(bench: &Bench) {
    let (servers, folder) = (bench.three(), bench.file("small"));
    std::fs::create_dir(&folder).expect("a folder");
    for number in 0..FILES_IN_TURN {
        std::fs::write(folder.join(format!("f{number}")), content(BYTES)).expect("a file");
    }
    let samples = in_turns(&servers, ROUNDS, |server| {
        server.clear();
        sample(server, || drop(server.sftp(AES).run(&format!("put -R {}\n", folder.display())).expect_ok()))
    });
    lines("2,000 files of 4 KiB, sftp put -R", &servers, &samples, at_most(0.95, 0.55), NO_GOALS);
    let samples = in_turns(&servers, ROUNDS, |server| {
        let down = bench.down();
        sample(server, || drop(server.sftp(AES).run(&format!("get -R small {}\n", down.display())).expect_ok()))
    });
    lines("2,000 files of 4 KiB, sftp get -R", &servers, &samples, at_most(0.80, 0.55), NO_GOALS);
    servers.iter().for_each(|server| server.clear());
}
