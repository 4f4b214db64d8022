//! The command line: the service itself, and what helps to run it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use pair::exit::usage;
use pair::keys::{fingerprint, host_keys};
use pair::node::{self, Role};
use pair::secret::PairSecret;
use tokio_util::sync::CancellationToken;

use crate::accounts::{Accounts, users_file};
use crate::config::Config;

/// SFTP daemon of a high-availability pair.
#[derive(Parser)]
#[command(name = "sftpd", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(flatten)]
    settings: Settings,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Settings on the command line; they beat those of the environment, which beat those of the file.
#[derive(Args)]
struct Settings {
    /// The file of settings
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where clients connect [default: 0.0.0.0:2222]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// The data volume [default: /data]
    #[arg(long, value_name = "FOLDER")]
    data: Option<String>,
    /// This machine's own state [default: /state]
    #[arg(long, value_name = "FOLDER")]
    state: Option<String>,
    /// Where logs go [default: /logs]
    #[arg(long, value_name = "FOLDER")]
    logs: Option<String>,
    /// Accounts for the first start [default: /config/users.yaml]
    #[arg(long, value_name = "FILE")]
    users: Option<String>,
    /// master or standby, at the first start [default: master]
    #[arg(long)]
    role: Option<String>,
    /// Health checks and metrics [default: 127.0.0.1:2226]
    #[arg(long, value_name = "ADDRESS:PORT")]
    health_listen: Option<String>,
    /// fsync or none [default: fsync]
    #[arg(long)]
    durability: Option<String>,
    /// local [default: local]
    #[arg(long)]
    acknowledge: Option<String>,
    /// The master as clients reach it
    #[arg(long, value_name = "HOST:PORT")]
    master_address: Option<String>,
}

#[derive(Subcommand)]
enum Command {
    /// Check the settings and users.yaml, and say what is wrong (exit code 2)
    Check(Settings),
    /// Ask the running daemon whether it would accept an upload now
    Healthcheck(Settings),
    /// Show the fingerprints of the host keys
    Keys(Settings),
}

impl Settings {
    fn load(&self) -> anyhow::Result<Config> {
        let flags = [
            ("listen", &self.listen),
            ("data", &self.data),
            ("state", &self.state),
            ("logs", &self.logs),
            ("users", &self.users),
            ("role", &self.role),
            ("health_listen", &self.health_listen),
            ("durability", &self.durability),
            ("acknowledge", &self.acknowledge),
            ("master_address", &self.master_address),
        ];
        let flags: Vec<_> = flags.into_iter().filter_map(|(key, value)| Some((key, value.clone()?))).collect();
        pair::config::load("sftpd", self.config.as_deref(), &flags)
    }
}

impl Cli {
    /// Does what was asked for.
    pub fn run(self) -> anyhow::Result<()> {
        pair::logging::init()?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(async {
            match self.command {
                None => serve(self.settings.load()?).await,
                Some(Command::Check(settings)) => check(&settings.load()?),
                Some(Command::Healthcheck(settings)) => pair::health::check(settings.load()?.health_listen).await,
                Some(Command::Keys(settings)) => keys(&settings.load()?),
            }
        })
    }
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let secret = find_secret(&config)?;
    raise_open_files_limit();
    let shutdown = CancellationToken::new();
    tokio::spawn(pair::shutdown::on_signal(shutdown.clone()));
    crate::run(config, secret, shutdown).await
}

/// Takes as many open files as the system allows: the usual 1,024 are for programs with a few.
fn raise_open_files_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Where it cannot be raised, opening fails with a sentence when the time comes.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// The pair's secret. A master that has none at its very first start draws one and says what the standby needs.
fn find_secret(config: &Config) -> anyhow::Result<PairSecret> {
    if let Some(secret) = PairSecret::find(&config.state)? {
        return Ok(secret);
    }
    let role = node::read(&config.state)?.map(|node| node.role);
    if role.is_some() || config.role == Role::Standby {
        let advice = "set PAIR_SECRET (or PAIR_SECRET_FILE) to the same value as on the other machine";
        return Err(usage(format!(
            "this machine has no PAIR_SECRET: {advice}; a new master prints its own at the first start"
        )));
    }
    let secret = PairSecret::generate()?;
    std::fs::create_dir_all(&config.state)?;
    secret.keep(&config.state)?;
    say("a pair secret was drawn for this first start. Put this line into the .env of both machines:");
    say(&format!("PAIR_SECRET={}", secret.to_hex()));
    Ok(secret)
}

fn check(config: &Config) -> anyhow::Result<()> {
    say("the settings are right");
    if let Some(kept) = Accounts::load(&config.state)? {
        say(&format!("{} accounts, generation {}", kept.iter().count(), kept.generation));
    }
    if config.role == Role::Standby {
        return Ok(());
    }
    let path = config.users.display();
    let text = std::fs::read_to_string(&config.users).map_err(|error| usage(format!("cannot read {path}: {error}")))?;
    let users = users_file::parse(&text, &Accounts::default());
    users.and_then(|users| users_file::masked(&text, &users)).map_err(|mistakes| {
        let lines: Vec<_> = mistakes.iter().map(|mistake| mistake.at(&path.to_string())).collect();
        usage(lines.join("\n"))
    })?;
    say(&format!("{path} is right"));
    Ok(())
}

fn keys(config: &Config) -> anyhow::Result<()> {
    let secret = PairSecret::find(&config.state)?
        .ok_or_else(|| usage("this machine has no PAIR_SECRET and was never started: it has no keys yet"))?;
    for key in host_keys(&config.state, &secret)? {
        say(&format!("{} ({})", fingerprint(key.public_key()), key.algorithm()));
    }
    Ok(())
}

#[allow(clippy::print_stdout, reason = "what a command was asked for goes to standard output")]
fn say(line: &str) {
    println!("{line}");
}
