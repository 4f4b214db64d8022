//! How fast a million records are taken in and asked for. Not part of the usual tests:
//! `cargo test --release -p console@0.1.0 --test figures -- --ignored --nocapture`; with `FIGURES_KEEP=1` logs and state stay, for a look
//! at the pages with them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use console::Config;
use console::follow::Follower;
use console::questions::{Filter, How, Reader, Search};
use jiff::civil::Date;
use pair::activity::{Activity, Outcome};

const RECORDS: u64 = 1_000_000;
const FILES: u64 = 34;
const DAYS: u64 = 90;

fn mixed(number: u64) -> u64 {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 8
}

/// One of 60 accounts, most of them small, sends and fetches; one record in ten is a login, one in twenty a failed one.
fn activity(number: u64) -> Activity {
    let random = mixed(number);
    let micros = 1_787_000_000_000_000 + number * (DAYS * 86_400_000_000 / RECORDS);
    let account = (random % 60).min((random >> 8) % 60);
    let time = jiff::Timestamp::from_microsecond(micros as i64).unwrap();
    let base = Activity {
        id: micros,
        time: format!("{time:.3}"),
        username: format!("partner{account:02}"),
        remote_addr: format!("198.51.{}.{}:{}", account, (random >> 12) % 4, 1024 + random % 60_000),
        connection_id: format!("{:x}-{}", micros / 10_000_000, random % 7),
        protocol: "SFTP".into(),
        elapsed_ms: Some(random % 4000),
        ..Activity::default()
    };
    let path = format!(
        "/{}/{:03}/invoice-{:07}.csv",
        ["in", "out", "archive"][(random >> 20) as usize % 3],
        (random >> 24) % 200,
        random % 400_000
    );
    let failed = (random >> 32).is_multiple_of(20);
    let outcome = Some(if failed { Outcome::Aborted } else { Outcome::Complete });
    let error = failed.then(|| format!("quota exceeded: {} GiB of 10 GiB used", random % 10));
    let size_bytes = Some(random % (1 << (random % 24)));
    match (random >> 40) % 20 {
        0 => Activity {
            sender: "connection_failed".into(),
            username: format!("guess{}", random % 500),
            outcome: Some(Outcome::Refused),
            error: Some("a wrong password".into()),
            ..base
        },
        1 | 2 => {
            Activity { sender: "login".into(), client_version: Some(format!("SSH-2.0-client_{}", account % 9)), ..base }
        }
        3 => Activity { sender: "Remove".into(), file_path: Some(path), outcome, error, ..base },
        transfer => Activity {
            sender: if transfer <= 12 { "Upload" } else { "Download" }.into(),
            file_path: Some(path),
            outcome,
            error,
            size_bytes,
            file_size: size_bytes,
            ..base
        },
    }
}

fn write_logs(folder: &Path) -> u64 {
    std::fs::create_dir_all(folder).unwrap();
    let (mut bytes, per_file) = (0, RECORDS.div_ceil(FILES));
    for file in 0..FILES {
        let path = folder.join(format!("activity-{file:04}.log"));
        let mut out = BufWriter::new(std::fs::File::create(path).unwrap());
        for number in file * per_file..((file + 1) * per_file).min(RECORDS) {
            let line = activity(number).line();
            bytes += line.len() as u64;
            out.write_all(&line).unwrap();
        }
        out.flush().unwrap();
    }
    bytes
}

fn memory_max_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
#[ignore = "takes half a minute in release and says figures only"]
fn a_million_records() {
    let folder = tempfile::tempdir().unwrap();
    let (logs, state) = (folder.path().join("logs"), folder.path().join("state"));
    let bytes = write_logs(&logs);
    let config = Config {
        logs: vec![logs.to_str().unwrap().into()],
        state: state.clone(),
        time_zone: "Europe/Berlin".into(),
        ..Config::default()
    };
    let before_kib = memory_max_kib();
    let mut follower = Follower::new(&config).unwrap();
    let began = Instant::now();
    let look = follower.look(&|| false).unwrap();
    let seconds = began.elapsed().as_secs_f64();
    assert_eq!((look.records, look.problems), (RECORDS, 0));
    let size = std::fs::metadata(state.join("console.db")).unwrap().len();
    println!("{RECORDS} lines, {} MB: {seconds:.1} s, {:.0} lines/s", bytes / 1_000_000, RECORDS as f64 / seconds);
    println!(
        "memory {} MiB (before {} MiB), console.db {} MB",
        memory_max_kib() / 1024,
        before_kib / 1024,
        size / 1_000_000
    );
    let began = Instant::now();
    follower.look(&|| false).unwrap();
    println!("a look that finds nothing new: {:.1} ms", began.elapsed().as_secs_f64() * 1000.0);
    let reader = Reader::open(&state, config.zone().unwrap()).unwrap();
    ask(&reader);
    if std::env::var_os("FIGURES_KEEP").is_some() {
        println!("kept in {}", folder.keep().display());
    }
}

fn timed<T>(name: &str, mut question: impl FnMut() -> anyhow::Result<T>) -> T {
    let mut times = Vec::new();
    let mut last = None;
    for _ in 0..5 {
        let began = Instant::now();
        last = Some(question().unwrap());
        times.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    let first = times[0];
    times.sort_by(f64::total_cmp);
    println!("{:7.1} ms, first {first:7.1} ms  {name}", times[2]);
    last.unwrap()
}

fn ask(reader: &Reader) {
    let all = Filter::default();
    let month =
        Filter { from: Some(Date::constant(2026, 9, 1)), to: Some(Date::constant(2026, 9, 30)), ..Filter::default() };
    let partner = Filter { account: Some("partner07".into()), ..Filter::default() };
    let folder = Filter { folder: Some("/in".into()), ..Filter::default() };
    let small_folder = Filter { folder: Some("/in/007".into()), ..Filter::default() };
    let folder_of_partner = Filter { account: Some("partner07".into()), ..folder.clone() };
    let failed =
        Filter { what: Some("upload".parse().unwrap()), came: Some("failed".parse().unwrap()), ..Filter::default() };
    let rare = Filter { account: Some("partner55".into()), came: Some("failed".parse().unwrap()), ..Filter::default() };
    let filters = [
        ("all", all),
        ("month", month),
        ("partner", partner),
        ("folder", folder),
        ("small folder", small_folder),
        ("folder, partner", folder_of_partner),
        ("failed", failed),
        ("rare", rare),
    ];
    for (name, filter) in &filters {
        timed(&format!("what was moved, {name}"), || reader.moved(filter, 100));
        timed(&format!("failures, {name}"), || reader.failures(filter, 20));
        timed(&format!("clients, {name}"), || reader.clients(filter, 50));
        timed(&format!("failed logins, {name}"), || reader.failed_logins(filter, 50));
        let page = timed(&format!("newest 100, {name}"), || reader.newest(filter, None, 100));
        timed(&format!("the next 100, {name}"), || reader.newest(filter, page.next, 100));
        for (text, how) in [
            ("invoice-0123456.csv", How::Exact),
            ("/in/007/invoice-0", How::Prefix),
            ("invoice-", How::Prefix),
            ("invoice-01234", How::Prefix),
            ("nvoice-0123", How::Contains),
            ("there is none", How::Contains),
        ] {
            let search = Search { text: text.into(), how };
            timed(&format!("find {how:?} {text:?}, {name}"), || reader.find(filter, &search, None, 100));
        }
    }
    let last = reader.last_arrived().unwrap();
    timed("arrived since", || reader.arrived_after(&filters[0].1, last - 100, 100));
    timed("accounts", || reader.accounts(1000));
}
