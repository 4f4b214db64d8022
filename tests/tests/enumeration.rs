//! Nobody learns from the time of a refusal who has an account, and guessers keep nobody out. `ENUMERATION_ROUNDS=200` makes
//! the long form (docs/measurements.md).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use russh::client::{AuthResult, Handle};
use tests::{Anybody, Machine, SEED, USER};
use tokio::net::{TcpSocket, TcpStream};

async fn greeted(machine: SocketAddr, from: &str) -> Result<Handle<Anybody>, russh::Error> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(from.parse().unwrap(), 0))?;
    let stream: TcpStream = socket.connect(machine).await?;
    russh::client::connect_stream(Arc::new(russh::client::Config::default()), stream, Anybody::default()).await
}

/// How long each refusal of a name took, in seconds. A connection is used for a few of them: only the answer is timed.
async fn refusals(machine: SocketAddr, name: &str, rounds: usize) -> Vec<f64> {
    let mut times = Vec::new();
    while times.len() < rounds {
        let mut session = greeted(machine, "127.0.0.1").await.unwrap();
        // The first answer on a connection has more to do than the later ones.
        for number in 0..5.min(rounds + 1 - times.len()) {
            let began = Instant::now();
            let answer = session.authenticate_password(name, "wrong").await.unwrap();
            assert!(matches!(answer, AuthResult::Failure { .. }), "{name}");
            if number > 0 {
                times.push(began.elapsed().as_secs_f64());
            }
        }
    }
    times
}

/// How often a time of the one is above a time of the other: one half where nothing tells them apart.
fn share_above(one: &[f64], other: &[f64]) -> f64 {
    let above = one.iter().flat_map(|one| other.iter().map(move |other| f64::from(u8::from(one > other))));
    above.sum::<f64>() / (one.len() * other.len()) as f64
}

/// How far from one half that may come by chance: four and a half standard deviations of the rank sum.
fn chance(rounds: usize) -> f64 {
    let rounds = rounds as f64;
    4.5 * ((2.0 * rounds + 1.0) / (12.0 * rounds * rounds)).sqrt()
}

fn rounds() -> usize {
    std::env::var("ENUMERATION_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(16)
}

#[test]
fn a_hundredth_of_a_second_would_be_seen() {
    let times = |begin: f64| (0..16).map(|number| begin + f64::from(number % 7) / 1000.0).collect::<Vec<_>>();
    assert!((share_above(&times(1.0), &times(1.0)) - 0.5).abs() < chance(16));
    assert!((share_above(&times(1.01), &times(1.0)) - 0.5).abs() > chance(16));
}

/// Of "pleaseletmein", made by mkpasswd.
const OF_CRYPT: &str =
    "$6$uMlCXUwBPUVqB2jO$iWgb9PyDDbwTdhUuHP/dEZy.DLHBWBfyiwTYl8JUTtNc/xv3x3.vvyV2zRZoKkd59zK9XvYwYbeiiE/NyrNA51";

fn machine() -> Machine {
    let users = format!(
        "{SEED}  2: {{name: off, password: x, disabled: true}}\n  3: {{name: past, password: x, expires: 2020-01-01}}\n  \
         4: {{name: far, password: x, allow_from: [192.0.2.1]}}\n  5: {{name: other, password: \"{OF_CRYPT}\"}}\n"
    );
    Machine::master()
        .users(&users)
        .setting("LIMITS__UNAUTHENTICATED", "500")
        .setting("LIMITS__UNAUTHENTICATED_PER_ADDRESS", "500")
        .start()
}

const NAMES: [&str; 6] = ["nobody", USER.0, "off", "past", "far", "other"];

/// All names at the same time, so that whatever else happens on the machine happens to all of them.
async fn compare(machine: &Machine, what: &str) {
    let rounds = rounds();
    let times = join_all(NAMES.map(|name| refusals(machine.address(), name, rounds))).await;
    let nobody = &times[0];
    for (name, times) in NAMES.iter().zip(&times).skip(1) {
        let share = share_above(times, nobody);
        println!("{what}: {name}: above {share:.2} of nobody's, {rounds} rounds");
        assert!(
            (share - 0.5).abs() < chance(rounds),
            "{what}: {name} is told apart: {share:.2}\n{times:?}\n{nobody:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_of_a_refusal_tells_nothing_of_the_account() {
    let machine = machine();
    compare(&machine, "idle").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_does_it_while_passwords_are_being_guessed() {
    let machine = machine();
    let (address, is_over) = (machine.address(), AtomicBool::new(false));
    let noise = join_all((0..40).map(|_| async {
        while !is_over.load(Ordering::Relaxed) {
            refusals(address, "noise", 4).await;
        }
    }));
    let compared = async {
        compare(&machine, "under load").await;
        is_over.store(true, Ordering::Relaxed);
    };
    futures::join!(noise, compared);
}

/// Guesses from an address until it is over, over and over again.
async fn guess(machine: SocketAddr, from: &str, is_over: &AtomicBool, guesses: &AtomicU64) {
    while !is_over.load(Ordering::Relaxed) {
        let Ok(Ok(mut session)) = tokio::time::timeout(Duration::from_secs(20), greeted(machine, from)).await else {
            continue;
        };
        while let Ok(AuthResult::Failure { .. }) = session.authenticate_password(USER.0, "guess").await {
            guesses.fetch_add(1, Ordering::Relaxed);
            if is_over.load(Ordering::Relaxed) {
                return;
            }
        }
    }
}

/// Ended is ended: who is crowded out while his password waits to be looked at holds nothing any more.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_crowded_out_gives_up_his_place_in_the_queue() {
    let machine = Machine::master()
        .setting("GUARD__NEVER", "192.0.2.1")
        .setting("GUARD__ACCOUNT_THRESHOLD", "1000h")
        .setting("LIMITS__UNAUTHENTICATED", "20")
        .start();
    let (address, before) = (machine.address(), machine.open_files_at_rest());
    let is_over = AtomicBool::new(false);
    let flood = join_all((0..300).map(|number| async move {
        let from = format!("127.0.{}.{}", 20 + number / 100, 1 + number % 100);
        if let Ok(mut session) = greeted(address, &from).await {
            let _ = session.authenticate_password(USER.0, "guess").await;
        }
    }));
    let flood = async {
        flood.await;
        is_over.store(true, Ordering::Relaxed);
    };
    let look = async {
        let mut most = 0;
        while !is_over.load(Ordering::Relaxed) {
            most = most.max(machine.open_files());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        most
    };
    let most = futures::join!(flood, look).1;
    // Twenty that may be there, and those that are on their way out.
    assert!(most < before + 150, "{most} files were open, {before} before");
    let mut session = greeted(address, "127.0.0.9").await.unwrap();
    assert!(session.authenticate_password(USER.0, USER.1).await.unwrap().success());
}

/// The guard is told to look away: this is what remains when nobody is banned. With it the attack is over in seconds.
#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_connections_that_guess_leave_a_login_and_the_memory_alone() {
    let machine = Machine::master()
        .setting("GUARD__NEVER", "192.0.2.1")
        .setting("GUARD__THRESHOLD", "1000h")
        .setting("GUARD__ACCOUNT_THRESHOLD", "1000h")
        .setting("GUARD__CONNECTIONS_BURST", "1000000")
        .setting("LIMITS__UNAUTHENTICATED", "250")
        .start();
    let (address, is_over, guesses) = (machine.address(), AtomicBool::new(false), AtomicU64::new(0));
    let sources: Vec<_> = (0..200).map(|number| format!("127.0.3.{}", 1 + number / 10)).collect();
    let attack = join_all(sources.iter().map(|from| guess(address, from, &is_over, &guesses)));
    let logins = async {
        while guesses.load(Ordering::Relaxed) < 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for number in 1..=5 {
            let began = Instant::now();
            let mut session = greeted(address, &format!("127.0.9.{number}")).await.unwrap();
            let before = guesses.load(Ordering::Relaxed);
            assert!(session.authenticate_password(USER.0, USER.1).await.unwrap().success());
            // It stands in a queue of addresses and not of connections.
            let first = guesses.load(Ordering::Relaxed) - before;
            assert!(first < 100, "{first} guesses were answered first");
            println!("a login took {} ms; {first} guesses were answered first", began.elapsed().as_millis());
        }
        is_over.store(true, Ordering::Relaxed);
    };
    futures::join!(attack, logins);
    let peak_kib = machine.program().peak_memory_kib();
    println!("{} guesses; the daemon held {peak_kib} KiB at most", guesses.load(Ordering::Relaxed));
    // Argon2 takes 19 MiB for each core and one more; 250 connections some hundred KiB each.
    let cores = std::thread::available_parallelism().unwrap().get() as u64;
    assert!(peak_kib < (100 + 20 * (cores + 1)) * 1024, "{peak_kib} KiB");
}
