//! The log archive's agent, end to end: whatever is done to it, to the logs and to the pair, each line arrives, and none arrives twice.
//! `ARCHIVE_KILLS` and `ARCHIVE_SEED` ask for more than CI does.
//!
//! What is promised, and tested: every byte of a file that was at rest for `quiet` while the agent could see it. What is removed or emptied
//! before that, without a copy, no shipper can have; so the generator waits for the archive there, and nowhere else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use pair::wire::{Attrs, kind, open_flag as flag, put_bytes};
use tests::load::Chance;
use tests::{ADMIN, Cut, Duo, Machine, Program, Raw, SEED, binary, eventually, run};

/// Kills in CI.
const KILLS: u64 = 8;
/// The agents' password.
const PASSWORD: &str = "a-long-enough-one";

fn users() -> String {
    format!("{SEED}agents:\n  agent01: \"{PASSWORD}\"\n  agent02: \"{PASSWORD}\"\n  agent03: \"{PASSWORD}\"\n")
}

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// An agent with folders of its own.
struct Agent {
    name: &'static str,
    folder: tempfile::TempDir,
    settings: Vec<(String, String)>,
    program: Option<Program>,
    health: Option<SocketAddr>,
}

impl Agent {
    fn new(name: &'static str, servers: &[SocketAddr], host_key: &str) -> Agent {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("logs")).unwrap();
        let servers: Vec<String> = servers.iter().map(ToString::to_string).collect();
        let path = |part: &str| folder.path().join(part).display().to_string();
        let settings = [
            ("AGENT", name.to_owned()),
            ("SERVER", servers.join(",")),
            ("PASSWORD", PASSWORD.to_owned()),
            ("HOST_KEYS", host_key.to_owned()),
            ("FOLDERS", path("logs")),
            ("STATE", path("state")),
            ("INTERVAL", "50ms".to_owned()),
            ("QUIET", "150ms".to_owned()),
            ("HEALTH_LISTEN", "127.0.0.1:0".to_owned()),
        ];
        let settings = settings.map(|(key, value)| (format!("FILESYNC_{key}"), value)).to_vec();
        Agent { name, folder, settings, program: None, health: None }
    }

    fn with(mut self, key: &str, value: &str) -> Agent {
        let key = format!("FILESYNC_{key}");
        self.settings.retain(|(known, _)| *known != key);
        self.settings.push((key, value.to_owned()));
        self
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary("filesync"));
        command.arg("archive").args(arguments).env("LOG_LEVEL", "debug").envs(self.settings.iter().cloned());
        command
    }

    fn begin(&mut self) {
        self.program = Some(Program::start(&mut self.command(&[])));
    }

    fn start(&mut self) {
        self.begin();
        let health = self.program.as_mut().unwrap().wait_for_line("health on ");
        self.health = Some(health.trim().parse().unwrap());
    }

    fn kill(&mut self) {
        self.program.take().expect("it runs").kill();
    }

    fn logs(&self) -> PathBuf {
        self.folder.path().join("logs")
    }

    fn log(&self, name: &str) -> PathBuf {
        self.logs().join(name)
    }

    /// A number that the running agent tells.
    fn metric(&self, name: &str) -> Option<u64> {
        let mut stream = TcpStream::connect(self.health?).ok()?;
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let line = answer.lines().find(|line| line.starts_with(&format!("filesync_archive_{name}{{")))?;
        Some(line.rsplit(' ').next()?.parse::<f64>().ok()? as u64)
    }

    fn status(&self) -> serde_json::Value {
        let (_, text) = run(&mut self.command(&["status", "--json"]));
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Waits until the agent says something that is wrong, and gives it.
    #[track_caller]
    fn wait_for_word(&self, text: &str) {
        eventually(&format!("the agent says {text:?}"), || self.status().to_string().contains(text));
    }
}

/// The files of an archive, by their paths below the agent's folder, unpacked.
fn archived(data: &Path, agent: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    let (root, mut found) = (data.join(agent), BTreeMap::new());
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let content = match path.extension().is_some_and(|ending| ending == "gz") {
                true => Command::new("gzip").arg("-dc").arg(&path).output().expect("gzip runs").stdout,
                false => std::fs::read(&path).unwrap_or_default(),
            };
            found.insert(path.strip_prefix(&root).unwrap().to_owned(), content);
        }
    }
    found
}

/// How often each line is in an archive.
fn lines(data: &Path, agent: &str) -> BTreeMap<String, u32> {
    let mut count = BTreeMap::new();
    for content in archived(data, agent).values() {
        for line in String::from_utf8_lossy(content).lines() {
            *count.entry(line.to_owned()).or_default() += 1;
        }
    }
    count
}

/// Writes lines, each with a number that no other has, and does to its files what log rotation does.
struct Generator {
    name: &'static str,
    folder: PathBuf,
    chance: Chance,
    written: Vec<String>,
    /// Numbers for names of files that were put aside.
    aside: u32,
}

impl Generator {
    fn new(agent: &Agent, seed: u64) -> Generator {
        Generator { name: agent.name, folder: agent.logs(), chance: Chance::new(seed), written: Vec::new(), aside: 0 }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Adds lines to a file.
    fn write(&mut self, name: &str, count: usize) {
        let mut file = std::fs::File::options().append(true).create(true).open(self.path(name)).unwrap();
        let mut text = String::new();
        for _ in 0..count {
            let line = format!("{} {:08} {}", self.name, self.written.len(), "x".repeat(self.chance.below(120)));
            text += &line;
            text.push('\n');
            self.written.push(line);
        }
        file.write_all(text.as_bytes()).unwrap();
    }

    /// `app.log.2` becomes `app.log.3`, and so on, and `app.log` `app.log.1`.
    fn rotate(&mut self, name: &str) {
        for number in (1..200).rev() {
            let (from, to) = (self.path(&format!("{name}.{number}")), self.path(&format!("{name}.{}", number + 1)));
            if from.exists() {
                std::fs::rename(from, to).unwrap();
            }
        }
        if self.path(name).exists() {
            std::fs::rename(self.path(name), self.path(&format!("{name}.1"))).unwrap();
        }
    }

    fn put_aside(&mut self, name: &str) -> PathBuf {
        self.aside += 1;
        self.path(&format!("{name}-{:04}", self.aside))
    }

    /// Copies a file and empties it, as logrotate's `copytruncate` does.
    fn copy_and_truncate(&mut self, name: &str) {
        let copy = self.put_aside(name);
        if self.path(name).exists() {
            std::fs::copy(self.path(name), copy).unwrap();
            std::fs::File::options().write(true).open(self.path(name)).unwrap().set_len(0).unwrap();
        }
    }

    /// Gives another file of the same size its name; the old one lies elsewhere from then on.
    fn reuse(&mut self, name: &str) {
        let Ok(size) = std::fs::metadata(self.path(name)).map(|data| data.len() as usize) else { return };
        let aside = self.put_aside(name);
        std::fs::rename(self.path(name), aside).unwrap();
        let head = format!("{} {:08} ", self.name, self.written.len());
        if size > head.len() + 1 {
            let line = format!("{head}{}", "y".repeat(size - head.len() - 1));
            std::fs::write(self.path(name), format!("{line}\n")).unwrap();
            self.written.push(line);
        }
    }

    /// One thing that happens to logs, by chance. `has_arrived` tells whether a line is in the archive.
    fn step(&mut self, may_wait: bool, has_arrived: &mut dyn FnMut(&str) -> bool) {
        let count = 1 + self.chance.below(40);
        match self.chance.below(12) {
            0..=2 => self.write("app.log", count),
            3 => self.rotate("app.log"),
            4 | 5 => self.write("copied.log", count),
            6 => self.copy_and_truncate("copied.log"),
            7 => self.write("status.txt", 1),
            8 => self.reuse("status.txt"),
            9 => self.write("deep/er/large.log", 20 * count),
            10 => self.write("emptied.log", count),
            _ if may_wait => {
                // Nobody copies this one: what is not in the archive when it is emptied is lost to everybody.
                let text = std::fs::read_to_string(self.path("emptied.log")).unwrap_or_default();
                if let Some(last) = text.lines().last() {
                    eventually("what is emptied has arrived", || has_arrived(last));
                    std::fs::File::options().write(true).open(self.path("emptied.log")).unwrap().set_len(0).unwrap();
                }
            }
            _ => {}
        }
    }
}

/// What is not once in the archive.
fn differences(written: &[String], found: &BTreeMap<String, u32>) -> Vec<String> {
    let mut wrong: Vec<String> = written
        .iter()
        .filter_map(|line| match found.get(line).copied().unwrap_or(0) {
            1 => None,
            count => Some(format!("{count} times: {}", &line[..line.len().min(40)])),
        })
        .collect();
    let known: std::collections::HashSet<&String> = written.iter().collect();
    wrong.extend(found.keys().filter(|line| !known.contains(line)).map(|line| format!("never written: {line:?}")));
    wrong
}

/// Waits until an archive has each line once.
#[track_caller]
fn wait_until_archived(data: &Path, agent: &str, written: &[String]) {
    let mut wrong = Vec::new();
    let waited = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        eventually("each line is in the archive once", || {
            wrong = differences(written, &lines(data, agent));
            wrong.is_empty()
        });
    }));
    if waited.is_err() {
        let files: Vec<String> = archived(data, agent)
            .iter()
            .map(|(path, content)| format!("{} ({})", path.display(), content.len()))
            .collect();
        panic!(
            "{} of {} lines are wrong, first: {:#?}\nin {files:#?}",
            wrong.len(),
            written.len(),
            &wrong[..wrong.len().min(5)]
        );
    }
}

/// How many files below a folder hold something.
fn not_empty(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(data) if data.is_dir() => not_empty(&entry.path()),
            Ok(data) => u64::from(data.len() > 0),
            Err(_) => 0,
        })
        .sum()
}

fn wait_ms(span: u128) {
    let began = Instant::now();
    eventually("the moment has come", || began.elapsed().as_millis() >= span);
}

/// Kills the agent again and again while its logs are written, rotated, copied, emptied and replaced.
fn kill_again_and_again(kills: u64, seed: u64, more: &[(&str, &str)]) {
    let machine = Machine::master().users(&users()).start();
    let mut agent = Agent::new("agent01", &[machine.address()], &machine.host_key());
    for (key, value) in more {
        agent = agent.with(key, value);
    }
    std::fs::create_dir_all(agent.log("deep/er")).unwrap();
    let mut generator = Generator::new(&agent, seed);
    let mut chance = Chance::new(seed).fork(7);
    let data = machine.data().to_owned();
    let mut has_arrived = |line: &str| lines(&data, "agent01").contains_key(line);
    for kill in 0..kills {
        agent.begin();
        for _ in 0..chance.below(8) {
            generator.step(chance.one_in(3), &mut has_arrived);
            wait_ms(chance.below(40) as u128);
        }
        wait_ms(chance.below(900) as u128);
        agent.kill();
        for _ in 0..chance.below(4) {
            generator.step(false, &mut has_arrived);
        }
        println!("kill {kill} of {kills}: {} lines written", generator.written.len());
    }
    agent.start();
    wait_until_archived(&data, "agent01", &generator.written);
    // Once more from the beginning: nothing is sent that is there, and noted.
    let count = not_empty(&agent.logs());
    eventually("all is noted", || agent.metric("files_settled") == Some(count));
    let before: Vec<PathBuf> = archived(&data, "agent01").into_keys().collect();
    agent.kill();
    agent.start();
    eventually("it has looked at all files again", || {
        agent.metric("files_sent") > Some(0) || agent.metric("files_settled") == Some(count)
    });
    assert_eq!(before, archived(&data, "agent01").into_keys().collect::<Vec<_>>());
    assert_eq!(agent.metric("files_sent"), Some(0));
    println!("{} lines, {} files in the archive", generator.written.len(), before.len());
}

#[test]
fn whenever_the_agent_is_killed_each_line_arrives_once() {
    kill_again_and_again(setting("ARCHIVE_KILLS", KILLS), setting("ARCHIVE_SEED", 1), &[]);
}

#[test]
fn packed_files_and_growing_ones_bear_kills_as_well() {
    let (kills, seed) = (setting("ARCHIVE_KILLS", KILLS).div_ceil(2), setting("ARCHIVE_SEED", 1));
    kill_again_and_again(kills, seed + 1, &[("COMPRESS", "gzip")]);
    kill_again_and_again(kills, seed + 2, &[("TAIL", "true")]);
}

/// A pair, and agents that know both machines.
fn pair_with_agents() -> (Duo, Vec<Agent>) {
    let users = users();
    let duo = Duo::start_with(&[("USERS_YAML", users.as_str())], &[]);
    let servers = [duo.machines[0].address(), duo.machines[1].address()];
    let key = duo.machines[0].host_key();
    let agents = ["agent01", "agent02", "agent03"].map(|name| Agent::new(name, &servers, &key));
    (duo, agents.into())
}

#[test]
fn three_agents_fill_the_archive_while_the_master_is_killed_and_the_standby_promoted() {
    let (mut duo, mut agents) = pair_with_agents();
    let mut generators: Vec<Generator> = Vec::new();
    for (number, agent) in agents.iter_mut().enumerate() {
        std::fs::create_dir_all(agent.log("deep/er")).unwrap();
        generators.push(Generator::new(agent, number as u64));
        agent.start();
    }
    let write = |generators: &mut Vec<Generator>, rounds: usize| {
        for _ in 0..rounds {
            generators.iter_mut().for_each(|generator| generator.step(false, &mut |_| false));
            wait_ms(15);
        }
    };
    write(&mut generators, 60);
    eventually("the archive is being filled", || !lines(duo.machines[0].data(), "agent03").is_empty());
    write(&mut generators, 20);
    duo.machines[0].kill();
    duo.mirrors[0].kill();
    write(&mut generators, 10);
    let (done, text) = duo.machines[1].order(&["promote"]);
    if !done {
        let name =
            text.split_once("--force ").map(|(_, rest)| rest.split([' ', ')', ';', '\n']).next().unwrap().to_owned());
        let name = name.unwrap_or_else(|| panic!("{text}"));
        let (done, text) = duo.machines[1].order(&["promote", "--force", &name]);
        assert!(done, "{text}");
    }
    write(&mut generators, 40);
    for (agent, generator) in agents.iter().zip(&generators) {
        wait_until_archived(duo.machines[1].data(), agent.name, &generator.written);
    }
    // The old master comes back, with what only it has.
    duo.machines[0].start();
    duo.mirrors[0].start();
    assert_eq!(duo.wait_until_settled(), 1);
    write(&mut generators, 10);
    for (agent, generator) in agents.iter().zip(&generators) {
        wait_until_archived(duo.machines[1].data(), agent.name, &generator.written);
    }
    duo.wait_until_equal();
}

#[test]
fn a_switchover_is_followed_in_the_middle() {
    let (duo, mut agents) = pair_with_agents();
    let agent = &mut agents[0];
    std::fs::create_dir_all(agent.log("deep/er")).unwrap();
    let mut generator = Generator::new(agent, 5);
    agent.start();
    for round in 0..60 {
        generator.step(false, &mut |_| false);
        wait_ms(10);
        if round == 30 {
            drop(duo.moved(0, &["switchover"]));
        }
    }
    assert_eq!(duo.wait_until_settled(), 1);
    wait_until_archived(duo.machines[1].data(), agent.name, &generator.written);
    let server = duo.machines[1].address().to_string();
    eventually("it knows where it ships to", || agent.status()["report"]["connected_to"] == server.as_str());
    duo.wait_until_equal();
}

/// Behind one address, such as that of a load balancer, the place may go and come back while the agent is away.
#[test]
fn what_a_takeover_left_behind_is_sent_again_also_to_the_same_address() {
    let (mut duo, mut agents) = pair_with_agents();
    let agent = &mut agents[0];
    let server = duo.machines[0].address().to_string();
    let way =
        |agent: &mut Agent| agent.settings.iter_mut().find(|(key, _)| key == "FILESYNC_SERVER").unwrap().1 = server;
    way(agent);
    std::fs::write(agent.log("a.log"), "line\n").unwrap();
    agent.start();
    let has_it = |duo: &Duo, index: usize| lines(duo.machines[index].data(), "agent01").contains_key("line");
    eventually("it has arrived on both machines", || has_it(&duo, 0) && has_it(&duo, 1));
    eventually("the agent knows", || agent.metric("files_pending") == Some(0) && agent.metric("files_sent") == Some(1));
    agent.kill();
    drop(duo.moved(0, &["switchover"]));
    assert_eq!(duo.wait_until_settled(), 1);
    // As if the other machine had been promoted before it had the file, and the place had come back since.
    let path = |duo: &Duo, index: usize| duo.machines[index].path("agent01", "logs/a.log");
    duo.mirrors.iter_mut().for_each(|mirror| mirror.kill());
    [0, 1].iter().for_each(|index| std::fs::remove_file(path(&duo, *index)).unwrap());
    duo.mirrors.iter_mut().for_each(|mirror| mirror.start());
    assert_eq!(duo.wait_until_settled(), 1);
    drop(duo.moved(1, &["switchover"]));
    assert_eq!(duo.wait_until_settled(), 0);
    agent.start();
    eventually("it is sent again", || has_it(&duo, 0));
}

#[test]
fn a_wrong_password_or_host_key_is_said_and_tried_seldom() {
    let machine = Machine::master().users(&users()).start();
    let key = machine.host_key();
    let mut agent = Agent::new("agent01", &[machine.address()], &key).with("PASSWORD", "another-one");
    std::fs::write(agent.log("a.log"), "line\n").unwrap();
    agent.start();
    agent.wait_for_word("does not let agent01 in");
    let failures = || machine.activity().iter().filter(|record| record.sender == "connection_failed").count();
    eventually("it is on record", || failures() == 1);
    wait_ms(2000);
    assert_eq!(failures(), 1, "who tries again at once is banned");
    agent.kill();
    let (status, text) = run(&mut agent.command(&["check"]));
    assert!(status.code() == Some(2) && text.contains("does not let agent01 in"), "{text}");
    let stranger = Agent::new("agent01", &[machine.address()], "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
    let (status, text) = run(&mut stranger.command(&["check"]));
    assert!(status.code() == Some(2) && text.contains(&key) && text.contains("nothing was sent"), "{text}");
    let right = Agent::new("agent01", &[machine.address()], &key);
    let (status, text) = run(&mut right.command(&["check"]));
    assert!(status.success() && text.contains("lets agent01 in, and takes files"), "{text}");
}

/// Other ways to know the pair than by fingerprints: OpenSSH's file of known hosts, and the key of the first contact.
#[test]
fn known_hosts_and_the_first_contact_tell_the_pair_from_a_stranger() {
    let [ours, strange] = [(); 2].map(|()| Machine::master().users(&users()).start());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("known_hosts");
    let scanned = |machine: &Machine| {
        let port = machine.address().port().to_string();
        Command::new("ssh-keyscan").args(["-p", &port, "127.0.0.1"]).output().unwrap().stdout
    };
    std::fs::write(&file, scanned(&ours)).unwrap();
    let known = |machine: &Machine| {
        Agent::new("agent01", &[machine.address()], "").with("KNOWN_HOSTS", &file.display().to_string())
    };
    let (status, text) = run(&mut known(&ours).command(&["check"]));
    assert!(status.success() && text.contains("lets agent01 in"), "{text}");
    // The same address with another key, and an address of which the file says nothing.
    let port = |machine: &Machine| format!("[127.0.0.1]:{} ", machine.address().port());
    let theirs = String::from_utf8(scanned(&ours)).unwrap().replace(&port(&ours), &port(&strange));
    for content in [theirs.into_bytes(), scanned(&ours)] {
        std::fs::write(&file, content).unwrap();
        let (status, text) = run(&mut known(&strange).command(&["check"]));
        assert!(status.code() == Some(2) && text.contains(&strange.host_key()), "{text}");
    }
    // Whoever came first is remembered, also over a restart; another is not let through afterwards.
    let mut first = Agent::new("agent01", &[ours.address()], "").with("TRUST_FIRST", "true");
    std::fs::write(first.log("a.log"), "line\n").unwrap();
    first.start();
    eventually("it has arrived", || lines(ours.data(), "agent01").contains_key("line"));
    first.kill();
    let mut first = first.with("SERVER", &strange.address().to_string());
    std::fs::write(first.log("b.log"), "secret\n").unwrap();
    first.start();
    first.wait_for_word("which is not known here");
    assert!(lines(strange.data(), "agent01").is_empty());
}

#[test]
fn a_full_volume_is_said_and_waited_for() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: only root can mount a small volume");
        return;
    }
    let disk = tempfile::tempdir().unwrap();
    let (mounted, text) = run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=24m", "none"]).arg(disk.path()));
    if !mounted.success() {
        println!("SKIPPED: {text}");
        return;
    }
    let machine = Machine::master().users(&users()).data(disk.path()).start();
    let ballast = disk.path().join("admin/ballast");
    let mut agent = Agent::new("agent01", &[machine.address()], &machine.host_key());
    let large: String = (0..60_000).map(|number| format!("{number:07} {}\n", "z".repeat(92))).collect();
    std::fs::write(agent.log("large.log"), &large).unwrap();
    let mut filler = std::fs::File::create(&ballast).unwrap();
    while filler.write_all(&[7; 64 * 1024]).is_ok() {}
    agent.start();
    agent.wait_for_word("full");
    assert!(archived(machine.data(), "agent01").is_empty());
    drop(filler);
    std::fs::remove_file(&ballast).unwrap();
    eventually("it arrives once there is room", || {
        archived(machine.data(), "agent01")
            .get(Path::new("logs/large.log"))
            .is_some_and(|found| *found == large.as_bytes())
    });
    agent.kill();
    drop(machine);
    let _unmounted = run(Command::new("umount").arg("-l").arg(disk.path()));
}

#[test]
fn a_growing_log_is_shipped_as_it_grows_and_goes_on_after_its_rotation() {
    let machine = Machine::master().users(&users()).start();
    let mut agent =
        Agent::new("agent01", &[machine.address()], &machine.host_key()).with("TAIL", "true").with("QUIET", "10m");
    agent.start();
    let mut generator = Generator::new(&agent, 1);
    for _ in 0..3 {
        generator.write("app.log", 10);
        wait_until_archived(machine.data(), "agent01", &generator.written);
    }
    assert_eq!(archived(machine.data(), "agent01").len(), 1, "one log is one file");
    generator.write("app.log", 5);
    generator.rotate("app.log");
    generator.write("app.log.1", 5);
    generator.write("app.log", 5);
    wait_until_archived(machine.data(), "agent01", &generator.written);
    let files = archived(machine.data(), "agent01");
    assert_eq!(files.len(), 2);
    assert_eq!(
        String::from_utf8_lossy(&files[Path::new("logs/app.log")]).lines().count(),
        40,
        "the first log, to its end"
    );
}

#[test]
fn a_large_file_goes_on_where_the_connection_broke() {
    let machine = Machine::master().users(&users()).start();
    let cut = Cut::after(8_000_000, machine.address());
    let mut agent = Agent::new("agent01", &[cut.address()], &machine.host_key());
    let large: String = (0..200_000).map(|number| format!("{number:07} {}\n", "z".repeat(92))).collect();
    std::fs::write(agent.log("large.log"), &large).unwrap();
    agent.start();
    eventually("it has arrived", || {
        archived(machine.data(), "agent01")
            .get(Path::new("logs/large.log"))
            .is_some_and(|found| *found == large.as_bytes())
    });
    assert!(cut.has_cut());
    machine.wait_for_activity("the upload, gone on with", |record| {
        record.sender == "Upload" && format!("{:?}", record.outcome).to_lowercase().contains("resumed")
    });
}

/// All bytes and the time are there, and CLOSE was never answered: on the server that is an upload which it drops some day.
#[test]
fn an_upload_that_was_never_closed_does_not_count_as_arrived() {
    let machine = Machine::master().users(&users()).start();
    let mut agent = Agent::new("agent01", &[machine.address()], &machine.host_key());
    let mut before = Raw::greeted(&machine, ("agent01", PASSWORD));
    before.ask(kind::MKDIR, |out| {
        put_bytes(out, b"logs");
        Attrs::default().put(out);
    });
    let handle = before.open(b"logs/app.log", flag::WRITE | flag::CREAT | flag::EXCL, None).handle();
    before.write(&handle, 0, b"a line\n");
    let (_, written_s) = before.list(b"logs").unwrap().remove(0).attrs.times.unwrap();
    drop(before);
    std::fs::write(agent.log("app.log"), "a line\n").unwrap();
    let written = std::time::UNIX_EPOCH + std::time::Duration::from_secs(written_s.into());
    std::fs::File::options().write(true).open(agent.log("app.log")).unwrap().set_modified(written).unwrap();
    agent.start();
    // Under its own name, or under one beside it.
    eventually("it is whole", || archived(machine.data(), "agent01").values().any(|found| found == b"a line\n"));
    assert_eq!(archived(machine.data(), "agent01").len(), 1);
}

#[test]
fn an_account_that_is_no_agents_gets_the_rest_of_a_log_beside_it() {
    let users = format!("{SEED}  2:\n    name: dropbox\n    password: \"{PASSWORD}\"\n    upload_only: true\n");
    let machine = Machine::master().users(&users).start();
    let mut agent = Agent::new("dropbox", &[machine.address()], &machine.host_key());
    agent.start();
    let mut generator = Generator::new(&agent, 1);
    for _ in 0..3 {
        generator.write("app.log", 10);
        wait_until_archived(machine.data(), "dropbox", &generator.written);
    }
    assert_eq!(archived(machine.data(), "dropbox").len(), 3);
}

#[test]
fn what_has_arrived_is_removed_here_only_where_that_was_asked_for() {
    let machine = Machine::master().users(&users()).start();
    for (removal, stays) in [("never", true), ("1s", false)] {
        let name = if stays { "agent01" } else { "agent02" };
        let mut agent =
            Agent::new(name, &[machine.address()], &machine.host_key()).with("REMOVE_AFTER_UPLOAD", removal);
        std::fs::write(agent.log("a.log"), "line\n").unwrap();
        agent.start();
        eventually("it has arrived", || lines(machine.data(), name).contains_key("line"));
        if stays {
            wait_ms(1500);
        } else {
            eventually("it is removed here", || !agent.log("a.log").exists());
        }
        assert_eq!(agent.log("a.log").exists(), stays);
        assert!(lines(machine.data(), name).contains_key("line"));
        agent.kill();
    }
    assert!(machine.sftp(ADMIN).can_log_in());
}
