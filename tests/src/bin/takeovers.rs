//! `make takeovers`: how long clients wait at a switchover and a promotion, and how long a master of before takes to follow.
//!
//! Clients upload small files all the time, to whichever machine takes them. A pause is the longest time between two of their answers around the
//! takeover: reconnecting is part of it. With the argument `rejoin` only the last is measured.
#![allow(clippy::print_stdout, reason = "the figures are all it is for")]
#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "a bench may stop at the first trouble")]

use std::time::{Duration, Instant};

use tests::load::{ACCOUNT, Account};
use tests::{Acknowledged, Duo, eventually, within, write};

/// Switchovers, and promotions of a standby whose master was killed.
const SWITCHOVERS: usize = 50;
const PROMOTIONS: usize = 10;

/// Clients.
const WRITERS: usize = 4;

/// What came while the other machine was away, and what was there before.
const CHANGES: usize = 10_000;
const BEFORE: usize = 20_000;

fn main() {
    let account = Account::with_new_key();
    let settings = [("USERS_YAML", account.users()), ("LIMITS__SESSIONS_PER_ACCOUNT", "100".to_owned())];
    let settings: Vec<(&str, &str)> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let mut duo = Duo::start_with(&settings, &[("FILESYNC_INTERVAL", "10s")]);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    if std::env::args().any(|argument| argument == "rejoin") {
        return rejoin(&mut duo, &runtime, &account);
    }
    let addresses = [duo.machines[0].address(), duo.machines[1].address()];
    let (acknowledged, mut writers) = write(&runtime, &account, addresses, WRITERS, 1);
    switchovers(&duo, &acknowledged);
    promotions(&mut duo, &acknowledged);
    acknowledged.stop();
    runtime.block_on(async { while writers.join_next().await.is_some() {} });
    rejoin(&mut duo, &runtime, &account);
}

/// Waits until clients are served for a while again, and gives the longest pause since a moment.
fn pause_since(acknowledged: &Acknowledged, began: Instant) -> f64 {
    let count = acknowledged.count();
    eventually("clients go on", || acknowledged.count() > count + 50);
    acknowledged.longest_gap(began).as_secs_f64() * 1000.0
}

fn show(what: &str, mut values: Vec<f64>) {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values[((values.len() - 1) as f64 * share).round() as usize];
    println!("| {what} | {} | {:.0} | {:.0} | {:.0} |", values.len(), at(0.5), at(0.99), at(1.0));
}

fn switchovers(duo: &Duo, acknowledged: &Acknowledged) {
    let (mut pauses, mut gaps) = (Vec::new(), Vec::new());
    for _ in 0..SWITCHOVERS {
        let master = duo.wait_until_settled();
        let began = Instant::now();
        let moved = duo.moved(master, &["switchover"]);
        gaps.extend(moved.gap_ms.map(|gap_ms| gap_ms as f64));
        pauses.push(pause_since(acknowledged, began));
    }
    println!("| ms | times | p50 | p99 | longest |\n|---|---|---|---|---|");
    show("switchover: nobody took changes, by the report", gaps);
    show("switchover: pause between two answers to any of the clients", pauses);
}

fn promotions(duo: &mut Duo, acknowledged: &Acknowledged) {
    let (mut orders, mut pauses) = (Vec::new(), Vec::new());
    for _ in 0..PROMOTIONS {
        let master = duo.wait_until_settled();
        duo.machines[master].kill();
        duo.mirrors[master].kill();
        let began = Instant::now();
        duo.moved(1 - master, &["promote"]);
        orders.push(began.elapsed().as_secs_f64() * 1000.0);
        let count = acknowledged.count();
        eventually("the new master takes files", || acknowledged.count() > count);
        pauses.push(began.elapsed().as_secs_f64() * 1000.0);
        duo.machines[master].start();
        duo.mirrors[master].start();
    }
    show("promotion: from the order to its answer", orders);
    show("promotion: from the order to the first upload that was acknowledged", pauses);
}

/// A master is away while the other one takes many changes; how long it takes to have them all after its start.
fn rejoin(duo: &mut Duo, runtime: &tokio::runtime::Runtime, account: &Account) {
    let upload = |to, prefix: &str, count| {
        runtime.block_on(async {
            let client = account.connect(to).await;
            for number in 0..count {
                let path = format!("{prefix}-{number}");
                let flags = pair::wire::open_flag::WRITE | pair::wire::open_flag::CREAT | pair::wire::open_flag::TRUNC;
                let handle = client.open(path.as_bytes(), flags, Some(0o644)).await.expect("a handle");
                client.write(&handle, 0, path.as_bytes()).await.expect("it is written");
                client.close(handle).await.expect("it arrived");
            }
        });
    };
    let master = duo.wait_until_settled();
    upload(duo.machines[master].address(), "before", BEFORE);
    within(Duration::from_secs(300), "the standby has what was before", || {
        duo.machines[1 - master].path(ACCOUNT, &format!("before-{}", BEFORE - 1)).exists()
    });
    duo.wait_until_equal();
    duo.machines[master].kill();
    duo.mirrors[master].kill();
    duo.moved(1 - master, &["promote"]);
    upload(duo.machines[1 - master].address(), "during", CHANGES);
    let began = Instant::now();
    duo.machines[master].start();
    duo.mirrors[master].start();
    duo.wait_until_settled();
    duo.wait_until_equal();
    let seconds = began.elapsed().as_secs_f64();
    println!("\nA master of before that lacks {CHANGES} of {} files follows after {seconds:.1} s.", BEFORE + CHANGES);
}
