//! The command line: the service itself, and what helps to run it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use pair::exit::usage;
use pair::keys::{fingerprint, host_keys};
use pair::node::{self, Role};
use pair::secret::PairSecret;
use tokio_util::sync::CancellationToken;

use crate::accounts::{Accounts, password, users_file};
use crate::config::Config;
use crate::{import, operator};

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

/// Where the running daemon is found; its other settings do not matter to who gives it orders.
#[derive(Args)]
pub struct Whereabouts {
    /// The file of settings
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The daemon's state folder [default: /state]
    #[arg(long, value_name = "FOLDER")]
    state: Option<String>,
}

impl Whereabouts {
    /// The daemon's state folder.
    pub fn state(&self) -> anyhow::Result<PathBuf> {
        let flags: Vec<_> = self.state.iter().map(|state| ("state", state.clone())).collect();
        Ok(pair::config::load::<Config>("sftpd", self.config.as_deref(), &flags)?.state)
    }
}

#[derive(Subcommand)]
enum Command {
    /// Check the settings and users.yaml, and say what is wrong (exit code 2)
    Check(Settings),
    /// Ask the running daemon whether it would accept an upload now
    Healthcheck(Settings),
    /// Show the fingerprints of the host keys
    Keys(Settings),
    /// Show how the running daemon is; exit code 1 where a master takes no uploads
    Status(operator::Look),
    /// Make this machine the master; refused while another one answers as master
    Promote(operator::Promote),
    /// Hand over to the standby, or have the master hand over to this machine, without losing anything
    Switchover(operator::Switchover),
    /// Hand over and back, timed; the report is kept
    Drill(operator::Look),
    /// Show who is connected, what they transfer and how fast
    Who(operator::Look),
    /// End all connections of an account, from an address, or one by its id
    Kick(operator::Kick),
    /// Show which addresses are banned, and which accounts' passwords are shut
    Bans(operator::Look),
    /// Lift bans
    Unban(operator::Unban),
    /// What a master of before had and the new one has not: list, restore, release
    Divergent(operator::Divergent),
    /// Show what agents have sent, what retention will remove, and the newest digest of the chain
    Archive(operator::Look),
    /// Have the running daemon take a users.yaml
    ApplyUsers(operator::ApplyUsers),
    /// Draw a new password for an account of the running daemon, and show it
    ResetPassword(operator::ResetPassword),
    /// Read a password from standard input and write its hash, for users.yaml
    HashPassword,
    /// Write a users.yaml made of another server's accounts to standard output
    ImportUsers(ImportUsers),
}

/// Where accounts come from.
#[derive(Args)]
struct ImportUsers {
    /// What the file is from
    #[arg(long, value_enum)]
    from: Origin,
    /// users.conf of atmoz/sftp, passwd of the system, or a dump of SFTPGo
    file: PathBuf,
    /// atmoz: the folder with NAME/*.pub
    #[arg(long, value_name = "FOLDER")]
    keys: Option<PathBuf>,
    /// openssh: the file with the hashes
    #[arg(long, value_name = "FILE")]
    shadow: Option<PathBuf>,
    /// openssh: only members of this group (of the file "group" beside passwd)
    #[arg(long)]
    group: Option<String>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Origin {
    Atmoz,
    Openssh,
    Sftpgo,
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

/// How many threads serve: more than cores, because a request that has to wait for the disk holds up its own.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).saturating_mul(4).max(8)
}

impl Cli {
    /// Does what was asked for.
    pub fn run(self) -> anyhow::Result<()> {
        pair::logging::init()?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads()).enable_all().build()?;
        runtime.block_on(async {
            match self.command {
                None => serve(self.settings.load()?).await,
                Some(Command::Check(settings)) => check(&settings.load()?),
                Some(Command::Healthcheck(settings)) => pair::health::check(settings.load()?.health_listen).await,
                Some(Command::Keys(settings)) => keys(&settings.load()?),
                Some(Command::Status(look)) => operator::status(look).await,
                Some(Command::Promote(promote)) => promote.run().await,
                Some(Command::Switchover(switchover)) => switchover.run().await,
                Some(Command::Drill(look)) => operator::drill(look).await,
                Some(Command::Who(look)) => operator::who(look).await,
                Some(Command::Kick(kick)) => kick.run().await,
                Some(Command::Bans(look)) => operator::bans(look).await,
                Some(Command::Unban(unban)) => unban.run().await,
                Some(Command::Divergent(divergent)) => divergent.run().await,
                Some(Command::Archive(look)) => operator::archive(look).await,
                Some(Command::ApplyUsers(apply)) => apply.run().await,
                Some(Command::ResetPassword(reset)) => reset.run().await,
                Some(Command::HashPassword) => hash_password(),
                Some(Command::ImportUsers(import)) => import.run(),
            }
        })
    }
}

async fn serve(config: Config) -> anyhow::Result<()> {
    pair::folder::claim_state(&config.state)?;
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
    secret.keep(&config.state)?;
    say("a pair secret was drawn for this first start. Put this line into the .env of both machines:");
    say(&format!("PAIR_SECRET={}", secret.to_hex()));
    Ok(secret)
}

fn check(config: &Config) -> anyhow::Result<()> {
    config.check()?;
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
    users.and_then(|file| users_file::masked(&text, &file.users)).map_err(|mistakes| {
        let lines: Vec<_> = mistakes.iter().map(|mistake| mistake.at(&path.to_string())).collect();
        usage(lines.join("\n"))
    })?;
    say(&format!("{path} is right"));
    Ok(())
}

/// A hash says nothing about its password to who reads users.yaml on its way, or in a backup of the admin's machine.
fn hash_password() -> anyhow::Result<()> {
    if std::io::IsTerminal::is_terminal(&std::io::stdin()) {
        complain("type the password and Enter (it is shown)");
    }
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    let password = line.trim_end_matches(['\r', '\n']);
    match password {
        "" => Err(usage("an empty password never logs in")),
        long if long.len() > password::BYTES_MAX => {
            Err(usage(format!("a password has {} bytes at most", password::BYTES_MAX)))
        }
        odd if odd.chars().any(char::is_control) => Err(usage("the password holds a control character")),
        password => {
            say(&password::hash(password).map_err(|_| anyhow::anyhow!("the password cannot be hashed"))?);
            Ok(())
        }
    }
}

fn keys(config: &Config) -> anyhow::Result<()> {
    let secret = PairSecret::find(&config.state)?
        .ok_or_else(|| usage("this machine has no PAIR_SECRET and was never started: it has no keys yet"))?;
    for key in host_keys(&config.state, &secret)? {
        say(&format!("{} ({})", fingerprint(key.public_key()), key.algorithm()));
    }
    Ok(())
}

impl ImportUsers {
    fn run(&self) -> anyhow::Result<()> {
        let text = read(&self.file)?;
        let found = match self.from {
            Origin::Atmoz => import::from_atmoz(&text, |name| {
                let Some(folder) = &self.keys else { return Vec::new() };
                lines_of_keys(&folder.join(name))
            }),
            Origin::Openssh => {
                let groups = self.file.with_file_name("group");
                let group = self.group.as_ref().map(|group| Ok::<_, anyhow::Error>((read(&groups)?, group.clone())));
                let shadow = self.shadow.as_deref().map(read).transpose()?;
                let options = import::Options { shadow, group: group.transpose()? };
                import::from_openssh(&text, &options, |home| {
                    let file = std::path::Path::new(home).join(".ssh/authorized_keys");
                    lines_of_key(&file)
                })
            }
            Origin::Sftpgo => import::from_sftpgo(&text).map_err(usage)?,
        };
        let (text, remarks) = import::users_yaml(found);
        say(text.trim_end());
        remarks.iter().for_each(|remark| complain(remark));
        Ok(())
    }
}

fn read(path: &std::path::Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).map_err(|error| usage(format!("cannot read {}: {error}", path.display())))
}

/// The lines of a file with keys. One that is not there has none; one that cannot be read is named.
fn lines_of_key(file: &std::path::Path) -> Vec<String> {
    match std::fs::read_to_string(file) {
        Ok(text) => text.lines().map(str::to_owned).collect(),
        Err(error) => {
            if error.kind() != std::io::ErrorKind::NotFound {
                complain(&format!("cannot read {}: {error}", file.display()));
            }
            Vec::new()
        }
    }
}

/// The lines of all public keys in a folder.
fn lines_of_keys(folder: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.sort();
    let keys = files.into_iter().filter(|path| path.extension().is_some_and(|end| end == "pub"));
    keys.flat_map(|path| lines_of_key(&path)).collect()
}

#[allow(clippy::print_stderr, reason = "beside what was asked for, which goes to a file")]
fn complain(line: &str) {
    eprintln!("{line}");
}

/// What a command was asked for goes to standard output.
pub(crate) fn say(line: &str) {
    use std::io::Write;
    // Who has read enough has closed the pipe.
    let _ = writeln!(std::io::stdout(), "{line}");
}
