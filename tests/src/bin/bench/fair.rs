//! What one client notices of others: the time of its small uploads while somebody downloads at full speed, and while 200 guess passwords.
//!
//! Whoever disturbs is a process of its own: in ours, its work would be taken for the server's.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pair::client::{HostKeyCheck, Login};
use tests::bench::cost::cpu_s;
use tests::bench::server::Server;
use tests::bench::table::{Goal, line};
use tests::bench::work::upload;
use tests::eventually;
use tests::measure::{content, median};

use super::{AES, Bench, ROUNDS};

const UPLOADS: usize = 1000;
const GUESSERS: usize = 200;
const LARGE_BYTES: usize = 1 << 30;
/// For so long a server must have done next to nothing.
const REST: Duration = Duration::from_millis(500);

/// The first argument of a process that guesses; the second is where.
pub const GUESS: &str = "guess-passwords-at";

pub fn run(bench: &Bench) {
    let servers = [&bench.ours, &bench.openssh];
    for server in servers {
        std::fs::write(server.home.join("large"), content(LARGE_BYTES)).expect("a file");
        std::fs::create_dir(server.home.join("many")).expect("a folder");
    }
    let (mut quiet, mut pulled, mut guessed) = ([vec![], vec![]], [vec![], vec![]], vec![]);
    for _ in 0..ROUNDS {
        for (index, server) in servers.into_iter().enumerate() {
            at_rest(server);
            quiet[index].push(bench.runtime.block_on(p99_ms(server)));
            let puller = Disturber::pull(server);
            pulled[index].push(bench.runtime.block_on(p99_ms(server)));
            drop(puller);
        }
        let guessers = Disturber::guess(&bench.ours);
        guessed.push(bench.runtime.block_on(p99_ms(&bench.ours)));
        drop(guessers);
    }
    let ([quiet, pulled], guessed) = ([quiet, pulled].map(|figures| figures.map(median)), median(guessed));
    let named = |figures: [f64; 2]| [(servers[0].name, figures[0]), (servers[1].name, figures[1])];
    let times =
        |figure: f64| format!("{:.2}{}", figure / quiet[0], if figure <= 3.0 * quiet[0] { "" } else { " (missed)" });
    line("a small upload, p99, ms", &named(quiet), Goal::None, Goal::None);
    line("… while somebody downloads at full speed", &named(pulled), Goal::None, Goal::None);
    println!("| … to the quiet value (≤ 3) | {} | {:.2} | – | – | – | – |", times(pulled[0]), pulled[1] / quiet[1]);
    line("… while 200 guess passwords", &[("sftpd", guessed)], Goal::None, Goal::None);
    println!("| … to the quiet value (≤ 3) | {} | – | – | – | – | – |", times(guessed));
    servers.iter().for_each(|server| server.clear());
}

/// The longest but one of a hundred of small uploads, one after the other.
async fn p99_ms(server: &Server) -> f64 {
    let (client, data) = (server.connect().await, content(4096));
    let mut times_ms = Vec::new();
    for number in 0..UPLOADS {
        let began = Instant::now();
        upload(&client, "many", number..number + 1, &data).await;
        times_ms.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    times_ms.sort_by(f64::total_cmp);
    times_ms[UPLOADS * 99 / 100]
}

/// Waits until a server has done with those who have gone.
#[allow(clippy::disallowed_methods, reason = "that nothing is done for a while is what is waited for")]
fn at_rest(server: &Server) {
    let mut before_s = f64::INFINITY;
    eventually("the server rests", || {
        std::thread::sleep(REST);
        let worked_s = cpu_s(server.process);
        let since_s = worked_s - std::mem::replace(&mut before_s, worked_s);
        (0.0..REST.as_secs_f64() / 20.0).contains(&since_s)
    });
}

/// Somebody else, until it is dropped.
struct Disturber(Child);

impl Disturber {
    /// Downloads a large file again and again, with OpenSSH's `sftp`.
    fn pull(server: &Server) -> Disturber {
        let (user, key) = (server.login().0, server.key_file());
        let mut sftp = Command::new("sftp");
        sftp.args(["-q", "-b", "-", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]);
        sftp.args(["-o", &format!("Ciphers={AES}"), "-P", &server.address.port().to_string(), "-i"]).arg(key);
        sftp.arg(format!("{user}@{}", server.address.ip())).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = sftp.stderr(Stdio::null()).spawn().expect("sftp");
        let orders = "get large /dev/null\n".repeat(1000);
        // It takes as many as it has time for.
        let _ = std::io::Write::write_all(child.stdin.as_mut().expect("its input"), orders.as_bytes());
        Disturber(child)
    }

    fn guess(server: &Server) -> Disturber {
        let program = std::env::current_exe().expect("this program");
        let child = Command::new(program).args([GUESS, &server.address.to_string()]).spawn();
        Disturber(child.expect("a guesser"))
    }
}

impl Drop for Disturber {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Guesses passwords until it is killed.
pub fn guess(address: &str) {
    let check: HostKeyCheck = Arc::new(|_| Ok(()));
    let guesser = |_| async {
        loop {
            let login = Login::with_password("bench", "wrong");
            let _ = pair::client::connect(address, login, check.clone()).await;
        }
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(futures::future::join_all((0..GUESSERS).map(guesser)));
}
