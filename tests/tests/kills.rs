//! `kill -9` in the middle of everything, with real clients: what was acknowledged is there and whole, nothing is half
//! there, and every client gets its file across afterwards. `KILL_ROUNDS` and `KILL_SEED` ask for more.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tests::load::Chance;
use tests::{LFTP, Machine, Sftp, USER, eventually, has_program, rclone_remote, run};

/// Rounds in CI.
const ROUNDS: u64 = 5;
/// Uploads at the same time, each of several files.
const CLIENTS: usize = 8;
/// Files of each.
const FILES: usize = 4;

/// Content that can be judged by itself: a version, bytes that follow from it, and the hash of both.
fn content(version: u64, bytes: usize) -> Vec<u8> {
    let mut content = version.to_le_bytes().to_vec();
    let word = |number: u64| (number ^ version).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes();
    content.extend((0..bytes as u64 / 8).flat_map(word));
    content.extend_from_slice(blake3::hash(&content).as_bytes());
    content
}

/// The version of a content, if it is whole.
fn version(content: &[u8]) -> Option<u64> {
    let (body, hash) = content.split_at_checked(content.len().checked_sub(32)?)?;
    (blake3::hash(body).as_bytes() == hash).then(|| u64::from_le_bytes(body[..8].try_into().unwrap()))
}

/// Who uploads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Sftp,
    Scp,
    Curl,
    Lftp,
    Psftp,
    Rclone,
}

const KINDS: [(Kind, &str); 6] = [
    (Kind::Sftp, "sftp"),
    (Kind::Scp, "scp"),
    (Kind::Curl, "curl"),
    (Kind::Lftp, "lftp"),
    (Kind::Psftp, "psftp"),
    (Kind::Rclone, "rclone"),
];

/// One client's work: its files, and where they go.
struct Work {
    kind: Kind,
    folder: PathBuf,
    name: String,
    login: Sftp,
}

impl Work {
    fn files(&self) -> Vec<PathBuf> {
        (0..FILES).map(|number| self.folder.join(format!("{}-{number}", self.name))).collect()
    }

    /// Whether its exit code tells what the server has answered: curl's does not when the answer to CLOSE never comes.
    fn can_be_believed(&self) -> bool {
        self.kind != Kind::Curl
    }

    /// The command that uploads one of the files, or goes on with it where the client can.
    fn command(&self, machine: &Machine, number: usize, is_again: bool) -> Command {
        let (file, name) = (self.files()[number].clone(), format!("{}-{number}", self.name));
        let port = machine.address().port();
        let shown = file.display();
        let mut command = match self.kind {
            Kind::Sftp => {
                let verb = if is_again { "reput" } else { "put" };
                let batch = self.batch(&format!("{verb} {shown} {name}\n"), number);
                let mut command = self.login.command("sftp");
                command.arg("-b").arg(batch).arg(self.login.target());
                return command;
            }
            Kind::Scp => {
                let mut command = self.login.command("scp");
                command.arg(file).arg(format!("{}:{name}", self.login.target()));
                return command;
            }
            Kind::Curl => Command::new("curl"),
            Kind::Lftp => Command::new("lftp"),
            Kind::Psftp => Command::new("psftp"),
            Kind::Rclone => Command::new("rclone"),
        };
        match self.kind {
            Kind::Curl => {
                let login = format!("{}:{}", USER.0, USER.1);
                command.args(["-sSk", "-u", &login]).args(is_again.then_some(["-C", "-"]).into_iter().flatten());
                command.arg("-T").arg(file);
                command.arg(format!("sftp://127.0.0.1:{port}/{name}"));
            }
            Kind::Lftp => {
                // What is to succeed may wait for a slow disk.
                let (put, timeout_s) = if is_again { ("put -c", 60) } else { ("put", 5) };
                let put = format!(
                    "{LFTP}; set net:max-retries 1; set net:timeout {timeout_s}; {put} {shown} -o {name}; exit"
                );
                let url = format!("sftp://127.0.0.1:{port}");
                command.args(["-u", &format!("{},{}", USER.0, USER.1), "-e", &put, &url]);
            }
            Kind::Psftp => {
                let key = machine.host_key();
                let batch = self.batch(&format!("put {shown} {name}\n"), number);
                command.args(["-batch", "-P", &port.to_string(), "-pw", USER.1, "-hostkey", &key, "-b"]);
                command.arg(batch).arg(format!("{}@127.0.0.1", USER.0));
            }
            _ => {
                let remote = rclone_remote(machine.address(), USER, &name);
                command.args(["copyto", "--retries", "1", "--low-level-retries", "1", "--ignore-times"]);
                command.arg(file).arg(remote);
            }
        }
        command
    }

    fn batch(&self, text: &str, number: usize) -> PathBuf {
        let batch = self.folder.join(format!("{}-{number}.batch", self.name));
        std::fs::write(&batch, text).unwrap();
        batch
    }
}

/// How the uploads of one client went: `true` for each that said so.
fn in_the_background(machine: &Machine, work: &Work) -> std::thread::JoinHandle<Vec<bool>> {
    let commands: Vec<Command> = (0..FILES).map(|number| work.command(machine, number, false)).collect();
    std::thread::spawn(move || {
        let run = |mut command: Command| {
            let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
            quiet.and_then(|mut child: Child| child.wait()).is_ok_and(|status| status.success())
        };
        commands.into_iter().map(run).collect()
    })
}

/// Bytes that lie in unfinished uploads or complete files.
fn bytes_in(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|data| data.len()).sum()
}

/// The size that the account sees.
fn seen_size(machine: &Machine, name: &str) -> Option<u64> {
    let listing = machine.sftp(USER).run(&format!("ls -l {name}\n")).text;
    listing.lines().find(|line| line.starts_with('-'))?.split_whitespace().nth(4)?.parse().ok()
}

fn live_and_die(machine: &mut Machine, works: &[Work], chance: &mut Chance, round: u64) -> Vec<Vec<bool>> {
    let mut wanted = 0;
    for work in works {
        for file in work.files() {
            let bytes = [4_096, 70_000, 1_000_000, 6_000_000][chance.below(4)];
            wanted += bytes as u64;
            std::fs::write(file, content(round, bytes)).unwrap();
        }
    }
    let running: Vec<_> = works.iter().map(|work| in_the_background(machine, work)).collect();
    // Not after a time but when so much has come: in the stage, or as complete files of this round.
    let enough = chance.below(wanted as usize * 3 / 4) as u64;
    let stage = machine.data().join(".pair/stage");
    let complete = || {
        let of_this_round = |path: &PathBuf| version(&std::fs::read(path).unwrap_or_default()) == Some(round);
        let names = works.iter().flat_map(|work| (0..FILES).map(|number| format!("{}-{number}", work.name)));
        let paths = names.map(|name| machine.path(USER.0, &name)).filter(of_this_round);
        paths.filter_map(|path| path.metadata().ok()).map(|data| data.len()).sum::<u64>()
    };
    eventually("enough has come", || {
        bytes_in(&stage) + complete() >= enough || running.iter().all(|work| work.is_finished())
    });
    machine.kill();
    let told: Vec<Vec<bool>> = running.into_iter().map(|work| work.join().unwrap()).collect();
    let acknowledged = told.iter().flatten().filter(|ok| **ok).count();
    println!("round {round}: {acknowledged} of {} were acknowledged before the kill", CLIENTS * FILES);
    machine.start();
    told
}

/// After the kill: what was acknowledged is there, everything else as it was before or as it was to be.
fn check(machine: &Machine, works: &[Work], told: &[Vec<bool>], round: u64) {
    for (work, told) in works.iter().zip(told) {
        for (number, says_so) in told.iter().enumerate() {
            let is_acknowledged = *says_so && work.can_be_believed();
            let name = format!("{}-{number}", work.name);
            let Ok(found) = std::fs::read(machine.path(USER.0, &name)) else {
                assert!(!is_acknowledged && round == 1, "round {round}: {name} of {:?} is gone", work.kind);
                continue;
            };
            let found = version(&found);
            let is_new = found == Some(round);
            let is_old = found == Some(round.wrapping_sub(1)) && !is_acknowledged;
            assert!(is_new || is_old, "round {round}: {name} of {:?} is version {found:?}", work.kind);
        }
    }
}

/// Every client gets its files across, going on where it was if it can.
fn finish(machine: &Machine, works: &[Work], round: u64) {
    for work in works {
        for number in 0..FILES {
            let name = format!("{}-{number}", work.name);
            let found = version(&std::fs::read(machine.path(USER.0, &name)).unwrap_or_default());
            if found == Some(round) {
                continue;
            }
            // Only what has arrived in part is gone on with: onto a complete file every server lets clients append.
            let complete = std::fs::metadata(machine.path(USER.0, &name)).ok().map(|data| data.len());
            let has_part = seen_size(machine, &name).is_some_and(|seen| Some(seen) != complete);
            let (status, text) = run(&mut work.command(machine, number, has_part));
            assert!(status.success(), "round {round}: {:?} again: {text}", work.kind);
        }
        for (number, file) in work.files().iter().enumerate() {
            let found = std::fs::read(machine.path(USER.0, &format!("{}-{number}", work.name))).unwrap();
            assert!(found == std::fs::read(file).unwrap(), "round {round}: {}-{number} of {:?}", work.name, work.kind);
        }
    }
}

#[test]
fn every_acknowledged_file_survives_kill_9_and_none_is_half_there() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let (rounds, seed) = (number("KILL_ROUNDS").unwrap_or(ROUNDS), number("KILL_SEED").unwrap_or(1));
    println!("seed {seed}");
    let mut chance = Chance::new(seed);
    let mut machine = Machine::master().start();
    let folder = tempfile::tempdir().unwrap();
    let kinds: Vec<Kind> = KINDS.iter().filter(|(_, program)| has_program(program)).map(|(kind, _)| *kind).collect();
    let work = |number: usize| Work {
        kind: kinds[number % kinds.len()],
        folder: folder.path().to_owned(),
        name: format!("client{number}"),
        login: Sftp::new(machine.address(), USER),
    };
    let works: Vec<Work> = (0..CLIENTS).map(work).collect();
    for number in 1..=rounds {
        let told = live_and_die(&mut machine, &works, &mut chance, number);
        check(&machine, &works, &told, number);
        finish(&machine, &works, number);
    }
}
