//! `filesync archive`: the agent on a log node, and the questions about the archive. It has settings of its own
//! (`config/archive.yaml`).

use clap::{Args, Subcommand};
use pair::exit::usage;
use tokio_util::sync::CancellationToken;

use super::{Arguments, chain, say};
use crate::archive::{self, Config};

/// Options of `archive`.
#[derive(Debug, Args)]
pub struct Archive {
    /// This machine's name in the archive, which is its login, too
    #[arg(long)]
    agent: Option<String>,
    /// Both machines of the pair: host:port,host:port
    #[arg(long)]
    server: Option<String>,
    /// Which folders, and all below them: /var/log/app,/srv/logs
    #[arg(long)]
    folders: Option<String>,
    /// Which names: *.log,*.log.*
    #[arg(long)]
    patterns: Option<String>,
    #[command(subcommand)]
    task: Option<Task>,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Check the settings, and that the server knows this agent; exit 2 with the reason where they are wrong
    Check {
        /// Do not connect: look at the settings only
        #[arg(long)]
        offline: bool,
    },
    /// What has been shipped, what waits, and what is wrong
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// On a machine of the pair: compare what agents have sent with the chain; exit 1 where anything is not as it was sent
    Verify(chain::Verify),
}

/// Does what the command line says. Without a subcommand that is the agent, until `shutdown`.
pub async fn run(arguments: &Arguments, archive: &Archive, shutdown: CancellationToken) -> anyhow::Result<()> {
    match &archive.task {
        None => {
            pair::logging::init()?;
            archive::run(config(arguments, archive)?, shutdown).await
        }
        Some(Task::Check { offline }) => {
            let config = config(arguments, archive)?;
            config.check()?;
            say("the settings are right")?;
            if !offline {
                say(&archive::try_login(&config).await?)?;
            }
            Ok(())
        }
        Some(Task::Verify(options)) => chain::run(&arguments.config()?, options).await,
        Some(Task::Status { json }) => say(&archive::status_text(&config(arguments, archive)?, *json)?),
    }
}

fn config(arguments: &Arguments, archive: &Archive) -> anyhow::Result<Config> {
    let own = [
        ("agent", &archive.agent),
        ("server", &archive.server),
        ("folders", &archive.folders),
        ("patterns", &archive.patterns),
    ];
    let mut flags = arguments.flags();
    flags.extend(own.into_iter().filter_map(|(key, value)| Some((key, value.clone()?))));
    if let Some(key) = flags.iter().map(|(key, _)| *key).find(|key| !archive::KEYS.contains(key)) {
        return Err(usage(format!("--{}: the agent has no such setting", key.replace('_', "-"))));
    }
    pair::config::load("filesync", arguments.config.as_deref(), &flags)
}
