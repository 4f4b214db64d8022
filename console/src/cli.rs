//! The command line: options, subcommands, and what they print.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::service;

/// Shows whether a pair is safe, and who moved what.
#[derive(Debug, Parser)]
#[command(name = "console", version)]
pub struct Arguments {
    /// The file with the settings
    #[arg(long, global = true)]
    config: Option<PathBuf>,
    /// Folders with logs: /logs,...
    #[arg(long, global = true)]
    logs: Option<String>,
    /// This machine's own state
    #[arg(long, global = true)]
    state: Option<String>,
    /// The data volume, for the log archive
    #[arg(long, global = true)]
    data: Option<String>,
    /// Where the pages are served
    #[arg(long, global = true)]
    listen: Option<String>,
    /// The pair's sftpd, by which logins are checked: [name=]host:port,...
    #[arg(long, global = true)]
    nodes: Option<String>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check the settings; exit 2 with the reason where they are wrong
    Check,
    /// Follow the logs without showing anything
    Ingest {
        /// Read what there is, say what it was, and end
        #[arg(long)]
        once: bool,
    },
    /// Ask the running console whether it answers; exit 1 with the reason where not
    Healthcheck,
}

/// Does what the command line says. Without a subcommand the pages are served until `shutdown`.
pub async fn run(arguments: Arguments, shutdown: CancellationToken) -> anyhow::Result<()> {
    let config = arguments.config()?;
    config.check()?;
    match arguments.command {
        Some(Command::Check) => {
            config.tls()?;
            say("the settings are right");
            Ok(())
        }
        Some(Command::Ingest { once: true }) => {
            pair::logging::init()?;
            let look = service::once(config, shutdown).await?;
            say(&format!(
                "{} lines, {} records kept, {} here already, {} too old, {} passed over, {} problems",
                look.lines, look.records, look.repeated, look.too_old, look.passed_over, look.problems
            ));
            Ok(())
        }
        Some(Command::Ingest { once: false }) => {
            pair::logging::init()?;
            say(&format!("following {}", config.logs.join(", ")));
            service::follow(config, shutdown).await
        }
        Some(Command::Healthcheck) => ::web::health::check(config.health_address()?, config.is_https()?).await,
        None => {
            pair::logging::init()?;
            service::run(config, shutdown).await
        }
    }
}

impl Arguments {
    fn config(&self) -> anyhow::Result<Config> {
        let given = [
            ("logs", &self.logs),
            ("state", &self.state),
            ("data", &self.data),
            ("listen", &self.listen),
            ("nodes", &self.nodes),
        ];
        let flags: Vec<(&str, String)> =
            given.into_iter().filter_map(|(key, value)| value.clone().map(|value| (key, value))).collect();
        pair::config::load("console", self.config.as_deref(), &flags)
    }
}

#[allow(
    clippy::print_stdout,
    reason = "what a command was asked for goes to standard output, whatever the log's level"
)]
fn say(line: &str) {
    println!("console: {line}");
}
