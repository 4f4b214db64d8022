//! The command line: options, subcommands, and what they print.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use pair::client::{Login, PrivateKey};
use pair::exit::usage;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::plan::{Mistake, Wish};
use crate::report::Report;
use crate::runner::Runner;

mod show;

/// Where the state lies when nobody says so and /state cannot be written, in the home folder.
const STATE_AT_HOME: &str = ".local/state/stresstest";

/// Loads a pair as its users would, and proves that every file arrived whole on both machines.
#[derive(Debug, Parser)]
#[command(name = "stresstest", version)]
pub struct Arguments {
    /// The file with the settings
    #[arg(long, global = true)]
    config: Option<PathBuf>,
    /// Reports, host keys, and what is not cleaned up yet
    #[arg(long, global = true)]
    state: Option<String>,
    /// Where the page is served
    #[arg(long)]
    listen: Option<String>,
    /// The servers that the page may load: [name=]host:port,...
    #[arg(long)]
    targets: Option<String>,
    /// Where their files arrive, too: [name=]host:port,...
    #[arg(long)]
    standbys: Option<String>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check the settings; exit 2 with the reason where they are wrong
    Check,
    /// Ask the running page whether it answers; exit 1 with the reason where it does not
    Healthcheck,
    /// Load a server, look whether everything is there, and remove it; exit 1 if anything failed, is lost or wrong
    Run(Box<Run>),
    /// Remove what earlier runs have left at a server
    Clean(Clean),
}

/// Whom to log in as, and where.
#[derive(Debug, Args)]
struct Who {
    /// The server: [name=]host:port, or the name of a configured one
    #[arg(long)]
    target: Option<String>,
    /// The account
    #[arg(long)]
    user: String,
    /// The file with its password, or - for standard input
    #[arg(long, conflicts_with = "key", required_unless_present = "key")]
    password_file: Option<PathBuf>,
    /// The file with its private key (OpenSSH, without a passphrase)
    #[arg(long)]
    key: Option<PathBuf>,
    /// The only host key that is right, as "sftpd keys" prints it: SHA256:...
    #[arg(long)]
    host_key: Option<String>,
}

#[derive(Debug, Args)]
struct Run {
    #[command(flatten)]
    who: Who,
    /// A standby to which the files must come; may be there several times
    #[arg(long = "standby")]
    standbys: Vec<String>,
    /// How many files
    #[arg(long, default_value = "1000")]
    files: String,
    /// How large: 4KiB, 4KiB..1MiB or realistic
    #[arg(long, default_value = "4KiB..1MiB")]
    size: String,
    /// How many connections
    #[arg(long, default_value = "8")]
    clients: String,
    /// How many files at a time on each connection
    #[arg(long, default_value = "1")]
    in_flight: String,
    /// What the clients do, in percent
    #[arg(long, default_value = "upload=100")]
    mix: String,
    /// End the load after this time, although there are files left: 60s, 5m
    #[arg(long, default_value = "", hide_default_value = true)]
    duration: String,
    /// Over which time the clients begin
    #[arg(long, default_value = "", hide_default_value = true)]
    ramp: String,
    /// What is looked at after the load: nothing, target or standby [default: standby where one is named, else target]
    #[arg(long, default_value = "", hide_default_value = true)]
    verify: String,
    /// The same seed makes the same files
    #[arg(long, default_value = "", hide_default_value = true)]
    seed: String,
    /// Write the report here, as JSON
    #[arg(long)]
    json: Option<PathBuf>,
    /// Write the files here, one a line, as CSV
    #[arg(long)]
    csv: Option<PathBuf>,
    /// Leave the files where they are
    #[arg(long)]
    keep: bool,
}

#[derive(Debug, Args)]
struct Clean {
    #[command(flatten)]
    who: Who,
    /// Also what was left there by --keep
    #[arg(long)]
    kept: bool,
}

/// Does what the command line says. Without a subcommand that is the page, until `shutdown`.
pub async fn run(arguments: Arguments, shutdown: CancellationToken) -> anyhow::Result<()> {
    let mut config = arguments.config()?;
    match arguments.command {
        None => {
            pair::logging::init()?;
            crate::run(config, shutdown).await
        }
        Some(Command::Check) => {
            config.check()?;
            config.tls()?;
            say("the settings are right")
        }
        Some(Command::Healthcheck) => ::web::health::check(config.health_address()?, config.is_https()?).await,
        Some(Command::Run(options)) => {
            find_state(&mut config)?;
            options.run(config, shutdown).await
        }
        Some(Command::Clean(options)) => {
            find_state(&mut config)?;
            tokio::select! {
                cleaned = options.clean(config) => cleaned,
                () = shutdown.cancelled() => Err(anyhow::anyhow!("stopped: what is left stays noted")),
            }
        }
    }
}

impl Arguments {
    fn config(&self) -> anyhow::Result<Config> {
        let flags = [
            ("state", &self.state),
            ("listen", &self.listen),
            ("targets", &self.targets),
            ("standbys", &self.standbys),
        ];
        let given: Vec<(&str, String)> =
            flags.into_iter().filter_map(|(key, value)| Some((key, value.clone()?))).collect();
        pair::config::load("stresstest", self.config.as_deref(), &given)
    }
}

/// Somebody at a terminal has no /state, and has not thought of one.
fn find_state(config: &mut Config) -> anyhow::Result<()> {
    let is_usual = config.state == Config::default().state;
    if is_usual && pair::folder::claim_state(&config.state).is_err() {
        let home = std::env::home_dir().ok_or_else(|| usage("there is no home folder: say where with --state"))?;
        config.state = home.join(STATE_AT_HOME);
    }
    Ok(())
}

impl Who {
    /// The login that the files hold.
    fn login(&self) -> anyhow::Result<Login> {
        let cannot =
            |path: &Path, reason: &dyn std::fmt::Display| usage(format!("cannot read {}: {reason}", path.display()));
        if let Some(path) = &self.key {
            let text = std::fs::read_to_string(path).map_err(|error| cannot(path, &error))?;
            let key = PrivateKey::from_openssh(&text)
                .map_err(|error| cannot(path, &format!("it is no OpenSSH private key ({error})")))?;
            if key.is_encrypted() {
                return Err(cannot(path, &"it has a passphrase, which cannot be asked for here"));
            }
            return Ok(Login::with_key(&self.user, Arc::new(key)));
        }
        let path = self.password_file.as_deref().unwrap_or(Path::new("-"));
        let mut text = String::new();
        let read = match path.to_str() {
            Some("-") => std::io::stdin().read_to_string(&mut text),
            _ => std::fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text)),
        };
        read.map_err(|error| cannot(path, &error))?;
        let password = text.lines().next().unwrap_or_default();
        if password.is_empty() {
            return Err(usage(format!("{}: the first line is the password, and it is empty", path.display())));
        }
        Ok(Login::with_password(&self.user, password))
    }

    /// Who sits at the command line may aim at any server: it counts as configured.
    fn allow(&self, config: &mut Config) {
        config.targets = allowed(&config.targets, self.target.as_slice());
    }
}

/// What is named on the command line, where that is no configured one's name; else all that is configured.
fn allowed(configured: &[String], named: &[String]) -> Vec<String> {
    let is_configured =
        |name: &&String| configured.iter().any(|target| target.split('=').next() == Some(name.as_str()));
    match named.iter().find(|name| !is_configured(name)) {
        None => configured.to_vec(),
        Some(_) => named.iter().filter(|name| !is_configured(name)).chain(configured).cloned().collect(),
    }
}

/// The name that a server on the command line has.
fn name_of(server: &str) -> String {
    server.split('=').next().unwrap_or_default().trim().to_owned()
}

impl Run {
    async fn run(self, mut config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
        self.who.allow(&mut config);
        config.standbys = allowed(&config.standbys, &self.standbys);
        config.check()?;
        let plan = self.wish().check(&config).map_err(|mistakes| usage(told(&mistakes)))?;
        let login = self.who.login()?;
        let (json, csv) = (create(self.json.as_deref())?, create(self.csv.as_deref())?);
        let runner = Runner::new(&config, self.who.host_key.clone())?;
        let run = runner.start(plan, login)?;
        tokio::spawn(stop_on_signals(runner.clone(), shutdown.clone()));
        show::until_done(&runner, &shutdown).await?;
        let report = runner.reports().read(&run)?.context("the report could not be kept")?;
        if let Some((path, mut file)) = json {
            let text = serde_json::to_vec_pretty(&report)?;
            file.write_all(&text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        if let (Some((path, mut file)), Some(table)) = (csv, runner.reports().csv(&run)?) {
            file.write_all(&table).with_context(|| format!("cannot write {}", path.display()))?;
        }
        say(show::summary(&report).trim_end())?;
        judged(&report)
    }

    fn wish(&self) -> Wish {
        let usual = if self.standbys.is_empty() { "target" } else { "standby" };
        let verify = if self.verify.is_empty() { usual.to_owned() } else { self.verify.clone() };
        Wish {
            target: self.who.target.as_deref().map(name_of).unwrap_or_default(),
            standbys: self.standbys.iter().map(|standby| name_of(standby)).collect(),
            account: self.who.user.clone(),
            files: self.files.clone(),
            sizes: self.size.clone(),
            clients: self.clients.clone(),
            in_flight: self.in_flight.clone(),
            mix: self.mix.clone(),
            duration: self.duration.clone(),
            ramp: self.ramp.clone(),
            verify,
            seed: self.seed.clone(),
            keep: self.keep,
        }
    }
}

impl Clean {
    async fn clean(self, mut config: Config) -> anyhow::Result<()> {
        self.who.allow(&mut config);
        config.check()?;
        let name = self.who.target.as_deref().map(name_of).unwrap_or_default();
        let wish = Wish { target: name, account: self.who.user.clone(), ..Wish::default() };
        let plan = wish.check(&config).map_err(|mistakes| usage(told(&mistakes)))?;
        let runner = Runner::new(&config, self.who.host_key.clone())?;
        let removed = runner.clean(&plan.target, self.who.login()?, self.kept).await?;
        say(&format!("{removed} files were removed"))?;
        let left = runner.leftovers().len();
        if left > 0 {
            say(&format!("{left} folders of other runs are still known: kept ones, other servers or other accounts"))?;
        }
        Ok(())
    }
}

/// Opens a file to be written at the end, so that a wrong path is told before the run and not after it.
fn create(path: Option<&Path>) -> anyhow::Result<Option<(PathBuf, std::fs::File)>> {
    let Some(path) = path else { return Ok(None) };
    let file =
        std::fs::File::create(path).map_err(|error| usage(format!("cannot write to {}: {error}", path.display())))?;
    Ok(Some((path.to_owned(), file)))
}

/// The mistakes, with the options they were made in.
fn told(mistakes: &[Mistake]) -> String {
    let option = |field: &str| match field {
        "account" => "user".to_owned(),
        "sizes" => "size".to_owned(),
        "standbys" => "standby".to_owned(),
        field => field.replace('_', "-"),
    };
    let lines: Vec<String> =
        mistakes.iter().map(|mistake| format!("--{}: {}", option(mistake.field), mistake.sentence)).collect();
    lines.join("\n")
}

/// The first signal ends the load, the second leaves out the verification; what was made is removed in any case.
async fn stop_on_signals(runner: Runner, shutdown: CancellationToken) {
    shutdown.cancelled().await;
    runner.stop();
    let second = CancellationToken::new();
    pair::shutdown::on_signal(second).await;
    runner.stop();
}

fn judged(report: &Report) -> anyhow::Result<()> {
    match report.verdict.ok {
        true => Ok(()),
        false => Err(anyhow::anyhow!("{}", report.verdict.sentence)),
    }
}

fn say(text: &str) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout(), "{text}")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_as_its_help_says() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
        let line = "stresstest run --target a:1 --user u --password-file p --standby b:1 --files 10 --size 4KiB..1MiB \
                    --clients 16 --mix upload=70,download=20,list=5,rename=5 --duration 60s --ramp 5s --seed 3 --keep";
        let arguments = Arguments::try_parse_from(line.split_whitespace()).unwrap();
        let Some(Command::Run(run)) = arguments.command else { panic!("{arguments:?}") };
        let wish = run.wish();
        assert_eq!((wish.target.as_str(), wish.verify.as_str(), wish.keep), ("a:1", "standby", true));
        let no_proof = Arguments::try_parse_from(["stresstest", "run", "--user", "u"]).unwrap_err();
        assert!(no_proof.to_string().contains("--password-file"), "{no_proof}");
    }

    #[test]
    fn what_is_named_on_the_command_line_is_allowed_beside_what_is_configured() {
        let configured = ["master=a:1".to_owned()];
        assert_eq!(allowed(&configured, &["master".into()]), configured);
        assert_eq!(allowed(&configured, &["b:2".into()]), ["b:2", "master=a:1"]);
        assert_eq!(allowed(&configured, &[]), configured);
        assert_eq!(name_of("x=b:2"), "x");
    }
}
