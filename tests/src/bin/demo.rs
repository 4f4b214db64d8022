//! `make demo`: a pair on this machine, in a temporary folder, until Ctrl-C.
//!
//! It starts the real programs as users' machines do, only with ports and folders of its own.
#![allow(clippy::print_stdout, reason = "showing is all it is for")]

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, channel};

use anyhow::Context;
use pair::secret::PairSecret;

#[path = "demo/log_node.rs"]
mod log_node;

use log_node::{LogNode, write_logs};

/// How often the mirror looks for changes here; 100 s is a long time to watch.
const INTERVAL: &str = "2s";

/// Machines whose logs are shipped.
const AGENTS: [&str; 3] = ["agent01", "agent02", "agent03"];
const AGENT_PASSWORD: &str = "for-the-demo-only";

fn main() -> ExitCode {
    match demo() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => pair::exit::report("demo", &error),
    }
}

fn demo() -> anyhow::Result<()> {
    let folder = tempfile::Builder::new().prefix("sftp-ha-demo-").tempdir()?;
    let secret = PairSecret::generate()?.to_hex();
    let (master_port, standby_port) = (port(2222)?, port(2223)?);
    let (master_health, standby_health) = (port(2226)?, port(2228)?);
    let (mirror_health, other_mirror_health) = (port(2227)?, port(2229)?);
    let (stress_port, console_port) = (port(2224)?, port(2225)?);
    let users = folder.path().join("users.yaml");
    let seed = "users:\n  ADMIN:\n    name: \"admin\"\n    password: generate\n    admin: true\n  1:\n    name: \"EPuser\"\n    \
                password: \"1234\"\nagents:\n";
    let agents: String =
        AGENTS.iter().map(|name| format!("  {name}: {{password: \"{AGENT_PASSWORD}\", keep: 400d}}\n")).collect();
    std::fs::write(&users, format!("{seed}{agents}"))?;

    let machine = |name: &str, [port, other]: [u16; 2], health: u16| -> anyhow::Result<Command> {
        let home = folder.path().join(name);
        std::fs::create_dir_all(home.join("data"))?;
        let mut command = ours("sftpd")?;
        command.args(["--role", name, "--listen", &format!("127.0.0.1:{port}")]);
        command.args(["--health-listen", &format!("127.0.0.1:{health}")]);
        command.args(["--master-address", &format!("127.0.0.1:{master_port}")]);
        for part in ["data", "state", "logs"] {
            command.arg(format!("--{part}")).arg(home.join(part));
        }
        command.env("SFTPD_PEERS", format!("127.0.0.1:{other}"));
        command.arg("--users").arg(&users).env("PAIR_SECRET", &secret);
        Ok(command)
    };
    // The standby first: the master asks it whether there is a newer one before it takes anything.
    let standby = Running::start(machine("standby", [standby_port, master_port], standby_health)?)?;
    standby.wait_for("listening on")?;
    let master = Running::start(machine("master", [master_port, standby_port], master_health)?)?;
    let announced = master.wait_for("listening on")?;
    let mirror = Running::start(filesync(&folder.path().join("master"), &secret, standby_port, mirror_health)?)?;
    let other_mirror =
        Running::start(filesync(&folder.path().join("standby"), &secret, master_port, other_mirror_health)?)?;
    let stress = Running::start(stresstest(folder.path(), [master_port, standby_port], stress_port)?)?;
    let page = stress.wait_for("listening on")?;
    let console = Running::start(console(&folder.path().join("master"), &secret, master_port, console_port)?)?;
    let console_page = console.wait_for("listening on")?;

    let host_key = announced.iter().find_map(|line| line.split(' ').find(|word| word.starts_with("SHA256:")));
    let agents = start_agents(folder.path(), [master_port, standby_port], host_key.unwrap_or_default())?;

    let password = find(&announced, "password of admin").and_then(|line| line.rsplit(' ').next().map(str::to_owned));
    println!();
    println!("A pair is running in {}", folder.path().display());
    println!();
    println!("  master    sftp -P {master_port} EPuser@127.0.0.1     password 1234");
    println!("  standby   sftp -P {standby_port} EPuser@127.0.0.1     the same logins, read only");
    println!("  admin     sftp -P {master_port} admin@127.0.0.1      password {}", password.unwrap_or_default());
    for line in console_page.iter().filter_map(|line| line.split_once("listening on ")) {
        println!("  console   {}    log in as admin", line.1);
    }
    for line in page.iter().filter_map(|line| line.split_once("listening on ")) {
        println!("  stress    {}     log in as admin, then load EPuser", line.1);
    }
    println!(
        "  health    http://127.0.0.1:{master_health}/readyz (master)  http://127.0.0.1:{mirror_health}/readyz (mirror)"
    );
    for line in announced.iter().filter(|line| line.contains("host key")) {
        println!("  {}", line.trim_start_matches("sftpd: "));
    }
    println!(
        "  agents    agent01, agent02 and agent03 ship the logs below {}/agent0*/logs: see admin's console, archive",
        folder.path().display()
    );
    show_what_to_try(folder.path(), [master_port, standby_port])?;
    println!();
    println!("Ctrl-C ends all of it.");
    let mut programs = vec![master, standby, mirror, other_mirror, stress, console];
    programs.extend(agents);
    wait_for_the_end(programs)
}

fn stresstest(folder: &Path, [master, standby]: [u16; 2], port: u16) -> anyhow::Result<Command> {
    let mut command = ours("stresstest")?;
    let settings = [
        ("STRESSTEST_LISTEN", format!("127.0.0.1:{port}")),
        ("STRESSTEST_TARGETS", format!("master=127.0.0.1:{master}")),
        ("STRESSTEST_STANDBYS", format!("standby=127.0.0.1:{standby}")),
        ("STRESSTEST_STATE", folder.join("stress").display().to_string()),
    ];
    command.envs(settings);
    Ok(command)
}

/// The console of the machine in a folder.
fn console(folder: &Path, secret: &str, sftpd: u16, port: u16) -> anyhow::Result<Command> {
    let mut command = ours("console")?;
    let settings = [
        ("CONSOLE_LISTEN", format!("127.0.0.1:{port}")),
        ("CONSOLE_NODES", format!("master=127.0.0.1:{sftpd}")),
        ("CONSOLE_STATE", folder.join("state").display().to_string()),
        ("CONSOLE_LOGS", folder.join("logs").display().to_string()),
        ("CONSOLE_DATA", folder.join("data").display().to_string()),
        ("PAIR_SECRET", secret.to_owned()),
    ];
    command.envs(settings);
    Ok(command)
}

fn filesync(folder: &Path, secret: &str, other: u16, health: u16) -> anyhow::Result<Command> {
    let mut command = ours("filesync")?;
    let settings = [
        ("FILESYNC_DATA", folder.join("data").display().to_string()),
        ("FILESYNC_STATE", folder.join("state").display().to_string()),
        ("FILESYNC_LOGS", folder.join("logs").display().to_string()),
        ("FILESYNC_STANDBYS", format!("127.0.0.1:{other}")),
        ("FILESYNC_INTERVAL", INTERVAL.to_owned()),
        ("FILESYNC_HEALTH_LISTEN", format!("127.0.0.1:{health}")),
        ("PAIR_SECRET", secret.to_owned()),
    ];
    command.envs(settings);
    Ok(command)
}

/// Three machines that write logs, and the agents that ship them.
fn start_agents(folder: &Path, servers: [u16; 2], host_key: &str) -> anyhow::Result<Vec<Running>> {
    let (mut agents, mut log_nodes) = (Vec::new(), Vec::new());
    for name in AGENTS {
        let home = folder.join(name);
        log_nodes.push(LogNode::with_a_past(name, &home.join("logs"))?);
        agents.push(Running::start(agent(name, &home, servers, host_key)?)?);
    }
    write_logs(log_nodes);
    Ok(agents)
}

fn show_what_to_try(folder: &Path, [master_port, standby_port]: [u16; 2]) -> anyhow::Result<()> {
    println!();
    println!("Try:");
    println!("  echo hello > hello.txt; echo 'put hello.txt' | sftp -P {master_port} EPuser@127.0.0.1");
    println!("  sleep 3; echo 'ls -l' | sftp -P {standby_port} EPuser@127.0.0.1");
    println!(
        "  echo 'get users.yaml' | sftp -P {master_port} admin@127.0.0.1    (edit it, put it back, read users.yaml.result)"
    );
    let sftpd = ours("sftpd")?.get_program().display().to_string();
    println!("  {sftpd} drill --state {}", folder.join("master/state").display());
    let filesync = ours("filesync")?.get_program().display().to_string();
    println!("  FILESYNC_STATE={} {filesync} archive status", folder.join("agent01/state").display());
    println!("  grep -r ERROR {}", folder.join("master/data/agent01").display());
    Ok(())
}

/// The agent of a log node with its home in a folder; it looks often, because a demo is short.
fn agent(name: &str, home: &Path, servers: [u16; 2], host_key: &str) -> anyhow::Result<Command> {
    let mut command = ours("filesync")?;
    let servers = servers.map(|port| format!("127.0.0.1:{port}")).join(",");
    let settings = [
        ("FILESYNC_AGENT", name.to_owned()),
        ("FILESYNC_SERVER", servers),
        ("FILESYNC_PASSWORD", AGENT_PASSWORD.to_owned()),
        ("FILESYNC_HOST_KEYS", host_key.to_owned()),
        ("FILESYNC_FOLDERS", home.join("logs").display().to_string()),
        ("FILESYNC_STATE", home.join("state").display().to_string()),
        ("FILESYNC_INTERVAL", INTERVAL.to_owned()),
        ("FILESYNC_QUIET", "5s".to_owned()),
        ("FILESYNC_TAIL", "true".to_owned()),
        ("FILESYNC_HEALTH_LISTEN", "127.0.0.1:0".to_owned()),
    ];
    command.arg("archive").envs(settings);
    Ok(command)
}

/// One of our programs, built beside this one.
fn ours(name: &str) -> anyhow::Result<Command> {
    let here = std::env::current_exe()?;
    let path = here.with_file_name(name);
    anyhow::ensure!(path.is_file(), "{} is not built: run `make demo`", path.display());
    let mut command = Command::new(path);
    command.env("LOG_LEVEL", std::env::var("LOG_LEVEL").unwrap_or_else(|_| "warn".into()));
    Ok(command)
}

/// The port that is asked for, or a free one, which is said.
fn port(wanted: u16) -> anyhow::Result<u16> {
    if TcpListener::bind(("127.0.0.1", wanted)).is_ok() {
        return Ok(wanted);
    }
    let free = TcpListener::bind(("127.0.0.1", 0)).context("no port is free")?.local_addr()?.port();
    println!("port {wanted} is taken: using {free} instead");
    Ok(free)
}

/// A program that runs. Its lines are shown, and can be waited for.
struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    fn start(mut command: Command) -> anyhow::Result<Running> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take().context("its output is not there")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                // Nobody listens any more once the pair is up.
                let _ = sender.send(line);
            }
        });
        Ok(Running { child, lines })
    }

    fn wait_for(&self, text: &str) -> anyhow::Result<Vec<String>> {
        let mut seen = Vec::new();
        while find(&seen, text).is_none() {
            let line = self.lines.recv().context("a program ended at its start: see above")?;
            seen.push(line);
        }
        Ok(seen)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(process) = rustix::process::Pid::from_raw(self.child.id() as i32) {
            // It may have ended by the same Ctrl-C already.
            let _ = rustix::process::kill_process(process, rustix::process::Signal::TERM);
        }
        let _ = self.child.wait();
    }
}

fn find<'a>(lines: &'a [String], text: &str) -> Option<&'a String> {
    lines.iter().find(|line| line.contains(text))
}

/// Waits for Ctrl-C or SIGTERM, or for a program that ends by itself.
fn wait_for_the_end(mut programs: Vec<Running>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let shutdown = tokio_util::sync::CancellationToken::new();
        tokio::spawn(pair::shutdown::on_signal(shutdown.clone()));
        let mut look = tokio::time::interval(std::time::Duration::from_millis(500));
        loop {
            tokio::select! {
                () = shutdown.cancelled() => {
                    println!("\nending");
                    return Ok(());
                }
                _ = look.tick() => {
                    for program in &mut programs {
                        if let Some(status) = program.child.try_wait()? {
                            anyhow::bail!("a program ended by itself ({status}): see above");
                        }
                    }
                }
            }
        }
    })
}
